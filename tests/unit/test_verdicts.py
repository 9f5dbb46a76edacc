"""What a client keeps of verdicts that nobody asks for is bounded."""

from flexbus.errors import Fault, FaultCode
from flexbus.events import Receipt, Verdict
from flexbus.verdicts import Verdicts

FAULT = Fault(code=FaultCode.BAD_VALUE, path="$", message="no")


def receipt(offset: int, partition: int = 0, faults: int = 0) -> Receipt:
    verdict = Verdict.REJECTED if faults else Verdict.ACCEPTED
    return Receipt(
        event_id=None,
        verdict=verdict,
        inbox_partition=partition,
        inbox_offset=offset,
        block=None,
        index=None,
        faults=(FAULT,) * faults,
    )


def test_what_is_kept_is_found() -> None:
    known = Verdicts(10)
    known.keep(receipt(3))
    assert known.of([(0, 3), (0, 4)]) == {(0, 3): receipt(3)}
    assert not known.may_be_gone([(0, 4), (0, 3)])


def test_the_oldest_are_let_go_of_and_known_to_be_gone() -> None:
    known = Verdicts(10)
    for offset in range(1000):
        known.keep(receipt(offset))
    assert len(known) == 10
    assert known.of([(0, 990), (0, 989)]) == {(0, 990): receipt(990)}
    assert known.may_be_gone([(0, 989)])
    assert not known.may_be_gone([(0, 1000), (1, 5)])


def test_faults_count_too_and_the_newest_is_kept_however_many_it_has() -> None:
    known = Verdicts(10)
    for offset in range(5):
        known.keep(receipt(offset, faults=4))
    assert len(known) == 2
    known.keep(receipt(5, faults=1000))
    assert len(known) == 1


def test_the_same_again_counts_once() -> None:
    known = Verdicts(10)
    for _ in range(100):
        known.keep(receipt(1, faults=8))
    known.keep(receipt(2))
    assert len(known) == 2


def test_after_beginning_anew_nothing_is_gone() -> None:
    known = Verdicts(1)
    known.keep(receipt(1))
    known.keep(receipt(2))
    assert known.may_be_gone([(0, 1)])
    known.forget()
    assert not known.may_be_gone([(0, 1)])
