"""Batches as Kafka stores them: which must not be unpacked, and what is around them."""

import random
from typing import Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from flexbus.errors import FaultCode
from streams import stored
from streams.intake import Input
from streams.kafka import Connection

SPOT = ("flexbus.in.fsp-a.v1", 2)
PLAIN, GZIP, SNAPPY, LZ4, ZSTD = range(5)
MILLION = 1_000_000


def batch(first: int, *values: bytes, codec: int = PLAIN, producer: int | None = None, at_ms: int = 7) -> bytes:
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=codec,
        is_transactional=producer is not None,
        producer_id=-1 if producer is None else producer,
        producer_epoch=0,
        base_sequence=0,
        batch_size=1 << 30,
    )
    for number, value in enumerate(values):
        builder.append(number, at_ms, b"area", value, [("ce_id", b"x")])
    return _at(first, bytes(builder.build()))


def marker(first: int, producer: int) -> bytes:
    """The end of a producer's transaction."""
    data = bytearray(batch(first, b"", producer=producer))
    data[22] |= 0x20
    return bytes(data)


def _at(first: int, data: bytes) -> bytes:
    return first.to_bytes(8, "big") + data[8:]


class Shelf(stored.Stored):
    """A partition in memory: answers hold two batches each, and tell aborted transactions (producer, first, marker)."""

    def __init__(self, *batches: bytes, aborted: tuple[tuple[int, int, int], ...] = ()) -> None:
        super().__init__(Connection("localhost:1"))
        self._all = list(stored._batches(b"".join(batches)))
        self._aborted = aborted

    def _fetch(self, spot: stored.Spot, start: int) -> tuple[list[Any], list[tuple[int, int]]]:
        assert spot == SPOT
        overlapping = [(producer, first) for producer, first, marker in self._aborted if marker >= start]
        return [b for b in self._all if b.next > start][:2], overlapping


def read(shelf: Shelf, start: int = 0, unread: tuple[int, ...] = ()) -> list[Input]:
    harmful = shelf.harmful(SPOT, start, 10**9, unread)
    found = list(shelf.inputs(SPOT, start, harmful)) if harmful else []
    shelf.close()
    return found


@pytest.mark.parametrize("codec", [GZIP, LZ4, ZSTD])
def test_what_becomes_too_large_is_one_input_and_its_neighbours_are_read(codec: int) -> None:
    bomb = batch(2, bytes(stored.MOST_UNPACKED + 1), codec=codec, at_ms=9)
    before, after = batch(0, b"a", b"b", codec=codec), batch(3, b"c", codec=ZSTD)
    last = batch(4, bytes(stored.MOST_UNPACKED), b"d", codec=codec)
    found = read(Shelf(before, bomb, after, last, batch(6, b"not wanted yet")))
    assert [(i.offset, i.next_offset, i.batch) for i in found] == [
        (0, 1, 0),
        (1, 2, 0),
        (2, 3, 1),
        (3, 4, 0),
        (4, 6, 2),
    ]
    assert [i.value for i in found] == [b"a", b"b", bomb, b"c", last]
    assert found[2].received_at_ms == 9
    assert (found[0].key, found[0].headers, found[0].received_at_ms) == (b"area", (("ce_id", b"x"),), 7)


@pytest.mark.parametrize("codec", [PLAIN, GZIP, SNAPPY, LZ4, ZSTD])
def test_what_any_client_can_unpack_is_left_to_it(codec: int) -> None:
    noise = random.Random(1).randbytes(500_000)
    assert read(Shelf(batch(0, bytes(20 * MILLION), noise, codec=codec))) == []


def test_more_records_than_a_moment_can_bear_are_one_input() -> None:
    many = [b""] * (stored.MOST_RECORDS + 1)
    (one,) = read(Shelf(batch(5, *many, codec=LZ4)), start=5)
    assert (one.offset, one.batch) == (5, len(many))
    assert read(Shelf(batch(5, *many)), start=5) == []  # not compressed they are no more than the broker lets in


def test_what_is_left_of_a_batch_begins_where_the_group_stands() -> None:
    (one,) = read(Shelf(batch(5, b"", bytes(33 * MILLION), b"", codec=ZSTD)), start=6)
    assert (one.offset, one.next_offset, one.batch) == (6, 8, 2)


def test_a_batch_that_a_client_could_not_read_is_refused_as_it_is() -> None:
    found = read(Shelf(batch(0, b"a"), batch(1, b"b", b"c"), batch(3, b"d")), unread=(2,))
    assert [(i.offset, i.batch) for i in found] == [(0, 0), (1, 2)]


def test_a_batch_that_nobody_can_read_harms_no_other() -> None:
    odd = DefaultRecordBatchBuilder(
        magic=2, compression_type=0, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=-1,
        batch_size=9_999,
    )  # fmt: skip
    odd.append(0, 7, b"k", b"v", [("name", b"value")])
    broken = _at(0, bytes(odd.build()).replace(b"name", b"\xff\xfe\xfd\xfc"))
    found = read(Shelf(broken, batch(1, b"a"), batch(2, bytes(33 * MILLION), codec=GZIP)))
    assert [(i.offset, i.batch) for i in found] == [(0, 1), (1, 0), (2, 1)]


def test_what_was_aborted_is_not_read_and_what_its_producer_committed_later_is() -> None:
    bomb = batch(7, bytes(33 * MILLION), codec=GZIP)
    shelf = Shelf(
        batch(0, b"aborted", producer=1),
        batch(1, b"of another", producer=2),
        batch(2, b"of nobody"),
        marker(3, 1),
        batch(4, b"committed", producer=1),
        marker(5, 1),
        marker(6, 2),
        bomb,
        aborted=((1, 0, 3),),
    )
    found = read(shelf)
    assert [i.value for i in found] == [b"of another", b"of nobody", b"committed", bomb]


def test_a_harmful_batch_of_an_aborted_transaction_is_got_past() -> None:
    bomb = batch(0, bytes(33 * MILLION), codec=GZIP, producer=1)
    (one,) = read(Shelf(bomb, marker(1, 1), aborted=((1, 0, 1),)))
    assert (one.offset, one.next_offset, one.batch) == (0, 1, 1)


def test_the_sequencer_rejects_it_with_all_its_bytes() -> None:
    from streams.intake import Intake
    from streams.sequencer import RULES

    given = Input(*SPOT, 5, 7, None, b"as stored", (), batch=12)
    outcome = Intake(2, 4, RULES).take([given])
    (rejection,) = outcome.rejections
    assert (rejection.original, rejection.inbox_offset, outcome.blocks) == (b"as stored", 5, [])
    assert (FaultCode.TOO_LARGE, "$") in [(f.code, f.path) for f in rejection.faults]
