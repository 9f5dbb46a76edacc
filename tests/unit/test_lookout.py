"""When a reader is told that it stands still."""

import time
from collections.abc import Iterable, Iterator, Mapping

import pytest

from flexbus.errors import EnvironmentProblem
from streams import lookout
from streams.inputs import Input
from streams.kafka import Connection
from streams.lookout import LOOK_EVERY_S, PATIENCE, Lookout
from streams.stored import Part, Spot

HERE, THERE = ("flexbus.journal.v1", 0), ("flexbus.journal.v1", 1)


class Kafka:
    """What stands where; offset 7 is the end of a transaction."""

    def __init__(self) -> None:
        self.bounds = {HERE: (2, 8), THERE: (0, 5)}
        self.asked: list[tuple[Spot, int, int]] = []
        self.nothing = {7}
        self.away = False
        self.now_s = 1000.0
        self.answers_in_s = 0.0

    def bounds_of(self, _: Connection, spots: Iterable[Spot]) -> dict[Spot, tuple[int, int]]:
        if self.away:
            raise EnvironmentProblem("away")
        return {spot: self.bounds[spot] for spot in spots}

    def parts(self, spot: Spot, start: int, end: int) -> Iterator[Part]:
        assert start >= self.bounds[spot][0], "Kafka refuses that"
        if start < end:
            self.asked.append((spot, start, end))
        for offset in range(start, end):
            there = [] if offset in self.nothing else [Input(*spot, offset, 7, None, b"", ())]
            self.now_s += self.answers_in_s
            yield Part(iter(there), offset + 1, 100)


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> Kafka:
    found = Kafka()
    monkeypatch.setattr(time, "monotonic", lambda: found.now_s)
    monkeypatch.setattr(lookout, "bounds_of", found.bounds_of)
    return found


@pytest.fixture
def watch(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lookout]:
    found = Lookout(Connection("localhost:1"))
    monkeypatch.setattr(found._stored, "parts", kafka.parts)
    yield found
    found.close()


def told(watch: Lookout, kafka: Kafka, nexts: Mapping[Spot, int], *, drained: bool = True) -> list[Spot]:
    """Ask every second until it is time again, and once more when the look that this began is over."""
    found: list[Spot] = []
    for _ in range(int(LOOK_EVERY_S)):
        assert not found, "too early"
        kafka.now_s += 1.0
        found = watch.stalled(lambda: nexts, drained=drained)
    if watch._look is not None:
        watch._look.join(10)
        assert watch.stalled(lambda: nexts, drained=drained) == []
    return found


def test_what_waits_and_goes_on_waiting_is_told(watch: Lookout, kafka: Kafka) -> None:
    where = {HERE: 3, THERE: 5}
    assert [told(watch, kafka, where) for _ in range(3)] == [[], [], [HERE]]
    assert watch.stalled(lambda: where, drained=True) == [], "once"


def test_it_ends_a_reader_by_an_error_that_names_the_place(watch: Lookout, kafka: Kafka) -> None:
    for _ in range(2):
        told(watch, kafka, {HERE: 3})
    watch._passed_s = LOOK_EVERY_S
    with pytest.raises(EnvironmentProblem, match=r"records in flexbus\.journal\.v1 partition 0 of which"):
        watch.check(lambda: {HERE: 3}, drained=True)


def test_a_reader_that_moves_on_is_left_alone(watch: Lookout, kafka: Kafka) -> None:
    assert not any(told(watch, kafka, {HERE: offset}) for offset in (2, 2, 3, 3, 4, 4, 5, 5, 6))


def test_a_reader_that_has_work_left_is_told_much_later(watch: Lookout, kafka: Kafka) -> None:
    """Somebody may keep it busy for ever."""
    found = [told(watch, kafka, {HERE: 3}, drained=False) for _ in range(PATIENCE + 2)]
    assert found == [[]] * (PATIENCE + 1) + [[HERE]]
    assert len(kafka.asked) == 1


def test_time_in_which_the_reader_was_held_up_does_not_count(watch: Lookout, kafka: Kafka) -> None:
    for _ in range(2):
        told(watch, kafka, {HERE: 3})
    kafka.now_s += 1000 * LOOK_EVERY_S
    assert watch.stalled(lambda: {HERE: 3}, drained=True) == []
    assert told(watch, kafka, {HERE: 4}) == []


def test_a_reader_that_begins_anew_is_given_time(watch: Lookout, kafka: Kafka) -> None:
    for _ in range(2):
        told(watch, kafka, {HERE: 3})
    watch.anew()
    assert [told(watch, kafka, {HERE: 3}) for _ in range(3)] == [[], [], [HERE]]


def test_a_look_at_much_of_nothing_is_short_and_the_next_goes_on(watch: Lookout, kafka: Kafka) -> None:
    kafka.nothing, kafka.answers_in_s = {3, 4, 5, 6}, 4.0
    kafka.bounds[HERE] = (2, 9)
    found = [told(watch, kafka, {HERE: 3, THERE: 2}) for _ in range(3)]
    assert found == [[], [], [THERE]], "does not wait for the other"
    assert kafka.asked == [(HERE, 3, 9), (THERE, 2, 5), (HERE, 5, 9)]
    assert [told(watch, kafka, {HERE: 3}) for _ in range(2)] == [[], [HERE]]
    assert kafka.asked[3:] == [(HERE, 7, 9)]


def test_a_reader_at_the_end_is_left_alone_and_the_end_of_a_transaction_is_read_once(
    watch: Lookout, kafka: Kafka
) -> None:
    assert not any(told(watch, kafka, {HERE: 7, THERE: 5}) for _ in range(9))
    assert kafka.asked == [(HERE, 7, 8)]


def test_what_is_not_kept_any_more_is_not_asked_for(watch: Lookout, kafka: Kafka) -> None:
    assert [told(watch, kafka, {HERE: 0}) for _ in range(3)] == [[], [], [HERE]]
    assert kafka.asked[0] == (HERE, 2, 8)


def test_while_the_broker_is_away_nobody_stands_still(watch: Lookout, kafka: Kafka) -> None:
    kafka.away = True
    assert not any(told(watch, kafka, {HERE: 3}) for _ in range(9))
    kafka.away = False
    assert [told(watch, kafka, {HERE: 3}) for _ in range(2)] == [[], [HERE]]


def test_partitions_that_are_not_read_any_more_are_forgotten(watch: Lookout, kafka: Kafka) -> None:
    for _ in range(2):
        told(watch, kafka, {HERE: 3, THERE: 4})
    assert told(watch, kafka, {THERE: 4}) == [THERE]
