"""The order in which the sequencer takes what it has read."""

from streams.inputs import Input
from streams.sequencer import BATCH_BYTES, _by_size, _in_order_of_arrival


def given(topic: str, offset: int, at_ms: int, size: int = 1) -> Input:
    value = bytes(size)
    return Input(topic=topic, partition=0, offset=offset, received_at_ms=at_ms, key=b"", value=value, headers=())


def order(*inputs: Input) -> list[tuple[str, int]]:
    return [(i.topic, i.offset) for i in _in_order_of_arrival(list(inputs))]


def test_inboxes_are_merged_by_the_brokers_time() -> None:
    a, b = [given("a", n, 10 * n) for n in range(3)], [given("b", n, 10 * n + 5) for n in range(3)]
    assert order(*a, *b) == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2)]


def test_an_inbox_keeps_its_own_order_when_the_brokers_clock_is_set_back() -> None:
    assert order(given("a", 0, 100), given("a", 1, 50), given("b", 0, 60)) == [("b", 0), ("a", 0), ("a", 1)]


def test_at_the_same_time_the_order_does_not_depend_on_reading() -> None:
    one, other = given("a", 7, 5), given("b", 1, 5)
    assert order(one, other) == order(other, one) == [("a", 7), ("b", 1)]


def test_a_transaction_is_bounded_by_size() -> None:
    inputs = [given("a", n, n, BATCH_BYTES // 3) for n in range(7)]
    assert [[i.offset for i in batch] for batch in _by_size(inputs)] == [[0, 1, 2, 3], [4, 5, 6]]
