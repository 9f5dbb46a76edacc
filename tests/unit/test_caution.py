"""How an inbox comes under suspicion."""

import time
from collections.abc import Callable, Iterator

import pytest

from streams import caution
from streams.caution import Caution
from streams.inputs import Input
from streams.kafka import Connection
from streams.stored import Part, Spot
from streams.transaction import HANG_S

HERE, THERE = ("flexbus.in.here.v1", 0), ("flexbus.in.there.v1", 0)


ANSWER_BYTES = 4_000_000


class Kafka:
    """What stands in partitions, and how the broker tells it: a few offsets with each answer."""

    def __init__(self) -> None:
        self.there: dict[Spot, set[int]] = {HERE: {3, 4, 7}, THERE: {3, 4, 7}}
        self.ends = {HERE: 9, THERE: 9}
        self.harmful_at: dict[Spot, int] = {}
        self.surplus_of_each: dict[Spot, int] = {}
        self.offsets_an_answer = 10
        self.an_answer_s, self.an_input_s = 1.0, 0.0
        self.answers: list[Spot] = []
        self.now_s = 1000.0
        self.beat_at = self.now_s

    def beat(self) -> None:
        assert self.now_s - self.beat_at < HANG_S, "the watchdog ends it"
        self.beat_at = self.now_s

    def surpluses(self, spot: Spot, start: int, end: int) -> Iterator[int | None]:
        for offset in range(start, end):
            self.now_s += 1.0
            yield None if self.harmful_at.get(spot) == offset else self.surplus_of_each.get(spot, 0)

    def parts(self, spot: Spot, start: int, end: int | None = None) -> Iterator[Part]:
        end = self.ends[spot] if end is None else end
        while start < end:
            self.answers.append(spot)
            self.now_s += self.an_answer_s
            following = start + self.offsets_an_answer
            yield Part(self._inputs(spot, range(start, min(following, end))), following, ANSWER_BYTES)
            start = following

    def _inputs(self, spot: Spot, told: range) -> Iterator[Input]:
        for offset in told:
            if offset in self.there[spot]:
                self.now_s += self.an_input_s
                yield given(spot, offset)


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> Kafka:
    found = Kafka()
    monkeypatch.setattr(time, "monotonic", lambda: found.now_s)
    return found


@pytest.fixture
def watch(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> Iterator[Caution]:
    found = Caution(Connection("localhost:1"), kafka.beat)
    monkeypatch.setattr(found._stored, "surpluses", kafka.surpluses)
    monkeypatch.setattr(found._stored, "parts", kafka.parts)
    found.begin({HERE: 3, THERE: 5}, {HERE: 3, THERE: 5})
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


def test_what_was_taken_back_is_looked_through_without_hanging(watch: Caution, kafka: Kafka) -> None:
    """A sender may write for an hour, take it all back, and send one offer."""
    end = 3 + 10 * caution.MANY_PARTS
    kafka.there[HERE] = {3, end - 1}
    assert watch.in_turn([given(HERE, 3), given(HERE, end - 1)])
    kafka.there[HERE] |= {4, end + 10 * caution.MANY_PARTS}
    assert not watch.in_turn([given(HERE, end + 10 * caution.MANY_PARTS)])
    assert (watch.suspects(HERE[0]), watch.suspects(THERE[0])) == (True, False)
    assert kafka.answers.count(HERE) == 2 * caution.MANY_PARTS + 1, "and no further"


def test_inboxes_that_there_is_no_time_to_look_through_are_read_with_care(watch: Caution, kafka: Kafka) -> None:
    watch.begin({HERE: 3, THERE: 5}, {HERE: 10**9, THERE: 10})
    assert (watch.suspects(HERE[0]), watch.suspects(THERE[0])) == (True, False), "least first"
    assert kafka.now_s < 1000 + 2 * caution.LOOK_S


def test_a_batch_that_harms_is_found_before_it_is_read(watch: Caution, kafka: Kafka) -> None:
    kafka.harmful_at[THERE] = 6
    watch.begin({HERE: 3, THERE: 5}, {HERE: 9, THERE: 9})
    assert (watch.suspects(HERE[0]), watch.suspects(THERE[0])) == (False, True)


@pytest.mark.parametrize(("ours", "suspected"), [(0.2, (False, False)), (0.3, (False, True)), (1.1, (True, False))])
def test_what_becomes_too_large_beside_the_others_is_found_before_it_is_read(
    watch: Caution, kafka: Kafka, ours: float, suspected: tuple[bool, bool]
) -> None:
    kafka.surplus_of_each = {HERE: int(ours * caution.MOST_SURPLUS), THERE: int(0.4 * caution.MOST_SURPLUS)}
    watch.begin({HERE: 3, THERE: 5}, {HERE: 4, THERE: 7})
    assert (watch.suspects(HERE[0]), watch.suspects(THERE[0])) == suspected


def shares(watch: Caution, count: int) -> list[list[tuple[Spot, int]]]:
    return [[((i.topic, i.partition), i.offset) for i in watch.share()] for _ in range(count)]


def begun_with_care(watch: Caution, kafka: Kafka, **ends: int) -> None:
    kafka.ends = {HERE: ends["here"], THERE: ends["there"]}
    watch.suspect([HERE[0], THERE[0]])
    watch.begin({HERE: 3, THERE: 5}, kafka.ends)
    kafka.answers.clear()


def test_a_suspect_that_took_back_much_does_not_keep_the_others_waiting(watch: Caution, kafka: Kafka) -> None:
    kafka.there[HERE] = {4, 10**9}
    begun_with_care(watch, kafka, here=10**9 + 1, there=9)
    assert shares(watch, 2) == [[(HERE, 4)], [(THERE, 7)]]
    assert [len(found) for found in shares(watch, 100)] == [0] * 100
    assert kafka.answers.count(HERE) > 50, "it goes on all the same"


def test_what_was_passed_over_need_not_be_read_again(watch: Caution, kafka: Kafka) -> None:
    kafka.there[HERE] = {4}
    begun_with_care(watch, kafka, here=53, there=5)
    assert watch.positions() == {HERE: 3, THERE: 5}
    shares(watch, 1)
    assert watch.positions()[HERE] in (5, 13), "what was given stands before it"
    shares(watch, 20)
    assert watch.positions() == {HERE: 53, THERE: 5}
    watch.begin({}, {})
    assert watch.positions() == {}


def test_a_share_ends_in_the_middle_of_an_answer_and_the_next_goes_on(watch: Caution, kafka: Kafka) -> None:
    kafka.offsets_an_answer, kafka.an_answer_s = 10_000, 0.0
    kafka.there[HERE], kafka.there[THERE] = set(range(3, 1_200)), {5}
    begun_with_care(watch, kafka, here=1_200, there=6)
    found = shares(watch, 4)
    assert [len(told) for told in found] == [caution.SHARE, 1, caution.SHARE, 197]
    assert [o for told in found for spot, o in told if spot == HERE] == list(range(3, 1_200))
    assert kafka.answers == [HERE, THERE], "asked once each"


def test_what_takes_long_to_refuse_keeps_nobody_waiting(watch: Caution, kafka: Kafka) -> None:
    """Three kilobytes may become 32 MB with ten thousand headers, and be refused at their end."""
    kafka.offsets_an_answer, kafka.an_answer_s, kafka.an_input_s = 10_000, 0.0, 0.05
    kafka.there[HERE], kafka.there[THERE] = set(range(3, 1_200)), {5}
    begun_with_care(watch, kafka, here=1_200, there=6)
    for _ in range(20):
        assert watch.is_due
        began = kafka.now_s
        watch.share()
        watch._beat()
        took_s = kafka.now_s - began
        assert 0 < took_s < 0.5
        assert not watch.is_due, "now it is the others' turn"
        kafka.now_s += 10 * took_s


def test_a_leap_over_what_takes_long_to_refuse_is_followed_without_hanging(watch: Caution, kafka: Kafka) -> None:
    kafka.offsets_an_answer, kafka.an_input_s = 10_000, 0.05
    kafka.there[HERE] = {3, *range(5, 2_000)}
    assert watch.in_turn([given(HERE, 3), *(given(HERE, offset) for offset in range(5, 2_000))])
    watch._beat()


def test_many_suspects_are_asked_less_often(watch: Caution, kafka: Kafka) -> None:
    many = [(f"flexbus.in.odd-{n}.v1", 0) for n in range(10 * caution.AT_ONCE)]
    kafka.ends = dict.fromkeys(many, 5)
    watch.suspect(topic for topic, _ in many)
    watch.begin(dict.fromkeys(many, 5), kafka.ends)
    assert watch.is_due
    assert watch.share() == []
    kafka.now_s += 9 * caution.ASK_EVERY_S
    assert not watch.is_due
    kafka.now_s += 2 * caution.ASK_EVERY_S
    assert watch.is_due
