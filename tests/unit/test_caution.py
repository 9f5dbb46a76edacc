"""How an inbox comes under suspicion."""

from collections.abc import Callable, Iterator

import pytest

from streams import caution
from streams.caution import Caution
from streams.inputs import Input
from streams.kafka import Connection
from streams.stored import Spot

HERE, THERE = ("flexbus.in.here.v1", 0), ("flexbus.in.there.v1", 0)


# What stands in partitions, as Kafka stores it.
THERE_ARE = (3, 4, 7)


def stored(spot: Spot, start: int, end: int) -> Iterator[Input]:
    return (given(spot, offset) for offset in THERE_ARE if start <= offset < end)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Caution]:
    found = Caution(Connection("localhost:1"))
    monkeypatch.setattr(found._stored, "harmful", lambda *_: False)
    monkeypatch.setattr(found._stored, "inputs", stored)
    found.begin({HERE: 3, THERE: 5}, {HERE: 5, THERE: 5}, lambda: None)
    yield found
    found.close()


def given(spot: Spot, offset: int) -> Input:
    return Input(*spot, offset, 7, None, b"", ())


def test_records_in_turn_raise_no_doubt(watch: Caution) -> None:
    assert watch.in_turn([given(HERE, 3), given(THERE, 5), given(HERE, 4)])
    assert not watch.doubts(drained=True)


@pytest.mark.parametrize(("before", "offsets"), [((3, 4), (7,)), ((3,), (4, 7))])
def test_what_is_missing_rightly_raises_none(watch: Caution, before: tuple[int, ...], offsets: tuple[int, ...]) -> None:
    assert watch.in_turn([given(HERE, offset) for offset in before])
    assert watch.in_turn([given(HERE, offset) for offset in offsets])
    assert not watch.in_turn([given(HERE, 7)]), "that was read"


@pytest.mark.parametrize("offset", [3, 5, 7, 2**31])
def test_an_offset_that_is_repeated_or_missing_does(watch: Caution, offset: int) -> None:
    assert not watch.in_turn([given(HERE, 3), given(HERE, offset)])
    assert (watch.suspects(HERE[0]), watch.suspects(THERE[0])) == (True, False)


@pytest.mark.parametrize(("inputs", "size"), [(caution.MANY_REFUSED, 1), (3, 500_000)])
def test_much_that_is_refused_does_and_a_little_less_does_not(watch: Caution, inputs: int, size: int) -> None:
    for _ in range(inputs - 1):
        watch.refused(HERE[0], size if size == 1 else size // 2)
    assert not watch.doubts(drained=True)
    watch.refused(HERE[0], size)
    assert watch.doubts(drained=True)
    assert watch.suspects(HERE[0])
    assert not watch.doubts(drained=True), "once"


def test_an_inbox_that_the_client_gives_nothing_of_does(watch: Caution, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[dict[Spot, int], bool]] = []

    def stalled(nexts: Callable[[], dict[Spot, int]], *, drained: bool) -> list[Spot]:
        asked.append((nexts(), drained))
        return [HERE] if len(asked) == 1 else []

    monkeypatch.setattr(watch._lookout, "stalled", stalled)
    assert watch.doubts(drained=True)
    assert (watch.suspects(HERE[0]), watch.suspects(THERE[0])) == (True, False)
    assert not watch.doubts(drained=False), "once"
    assert asked == [({HERE: 3, THERE: 5}, True), ({THERE: 5}, False)], "suspects are not the client's any more"


def test_what_waits_of_a_suspect_is_told_as_lag(watch: Caution) -> None:
    watch._stored.ends = {HERE: 9, THERE: 9}
    assert watch.lags() == {}, "the client tells it of the others"
    watch.suspect([HERE[0]])
    assert watch.lags() == {0: 6}
