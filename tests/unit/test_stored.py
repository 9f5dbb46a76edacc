"""Batches as Kafka stores them: which must not be unpacked, and what is around them."""

import asyncio
import gzip
import random
from collections.abc import Coroutine
from contextlib import closing
from typing import Any

import pytest
from aiokafka.errors import LeaderNotAvailableError
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from cramjam import snappy

from flexbus.errors import EnvironmentProblem, FaultCode
from streams import stored
from streams.inputs import Input
from streams.kafka import Connection
from tests.crafted import STRANGE, A, B, crafted, record

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


def read(shelf: Shelf, start: int = 0, end: int | None = None) -> list[Input]:
    found = list(shelf.inputs(SPOT, start, end))
    assert (None in shelf.surpluses(SPOT, start, 10**9)) == any(given.batch for given in found)
    shelf.close()
    return found


def sound(shelf: Shelf, start: int = 0) -> bool:
    return not any(given.batch for given in read(shelf, start))


@pytest.mark.parametrize("codec", [GZIP, LZ4, ZSTD])
def test_what_becomes_too_large_is_one_input_and_its_neighbours_are_read(codec: int) -> None:
    bomb = batch(2, bytes(stored.MOST_UNPACKED + 1), codec=codec, at_ms=9)
    before, after = batch(0, b"a", b"b", codec=codec), batch(3, b"c", codec=ZSTD)
    last = batch(4, bytes(stored.MOST_UNPACKED), b"d", codec=codec)
    found = read(Shelf(before, bomb, after, last, batch(6, b"not wanted")), end=6)
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
    assert [i.value for i in read(Shelf(batch(0, bytes(20 * MILLION), noise, codec=codec)))] == [
        bytes(20 * MILLION),
        noise,
    ]


def test_more_records_than_a_moment_can_bear_are_one_input() -> None:
    many = [random.Random(n).randbytes(40) for n in range(stored.MOST_RECORDS + 1)]
    for codec in (PLAIN, LZ4):
        (one,) = read(Shelf(batch(5, *many, codec=codec)), start=5)
        assert (one.offset, one.batch) == (5, len(many))
        assert sound(Shelf(batch(5, *many[:-1], codec=codec)), start=5)


@pytest.mark.parametrize("codec", [PLAIN, LZ4, ZSTD])
def test_a_batch_of_nothing_is_one_input(codec: int) -> None:
    """It costs the queue as much as one of events, and its sender next to nothing."""
    nothing = batch(0, *[b""] * 50_000, codec=codec)
    (one,) = read(Shelf(nothing if codec else crafted(*[record(n, b"") for n in range(50_000)])))
    assert one.batch == 50_000
    assert sound(Shelf(batch(0, *[b""] * stored.FEW_RECORDS, codec=codec)))


@pytest.mark.parametrize("codec", [GZIP, LZ4, ZSTD])
def test_a_batch_tells_what_it_becomes_beyond_what_is_usual(codec: int) -> None:
    most = {GZIP: 1_100, LZ4: 256, ZSTD: 32_000}[codec]  # times that it can become larger at all
    shelf = Shelf(batch(0, *[random.Random(n).randbytes(500) for n in range(9)], codec=codec))
    assert list(shelf.surpluses(SPOT, 0, 9)) == [0]
    shelf.close()
    shelf = Shelf(bomb := batch(0, bytes(30 * MILLION), codec=codec))
    (surplus,) = shelf.surpluses(SPOT, 0, 1)
    assert surplus is not None
    assert 0 <= surplus - (30 * MILLION - stored.USUAL_GROWTH * len(bomb)) < 100
    assert surplus > 30 * MILLION * (1 - 2 * stored.USUAL_GROWTH / most)
    shelf.close()


def test_what_is_left_of_a_batch_begins_where_the_group_stands() -> None:
    (one,) = read(Shelf(batch(5, b"", bytes(33 * MILLION), b"", codec=ZSTD)), start=6)
    assert (one.offset, one.next_offset, one.batch) == (6, 8, 2)


def test_a_header_that_is_no_text_harms_no_other_record() -> None:
    odd = crafted(record(0, b"a", headers=((b"\xff\xfe", b"value"),)), record(1, b"b", headers=((b"ce_id", None),)))
    found = read(Shelf(odd))
    assert [(i.offset, i.batch, i.value, i.headers) for i in found] == [
        (0, 0, b"a", ()),
        (1, 0, b"b", (("ce_id", None),)),
    ]


@pytest.mark.parametrize("what", STRANGE)
def test_what_no_honest_client_sends_is_one_input_and_its_neighbours_are_read(what: str) -> None:
    strange = _at(1, STRANGE[what])
    (end,) = (b.next for b in stored._batches(strange))
    found = read(Shelf(batch(0, b"before"), strange, batch(end, b"after")))
    assert [(i.offset, i.next_offset) for i in found] == [(0, 1), (1, end), (end, end + 1)]
    assert [i.value for i in found] == [b"before", strange, b"after"]
    assert [i.batch for i in found] == [0, end - 1, 0]


def test_the_same_made_as_honest_clients_do_is_read() -> None:
    for codec, packed in ((PLAIN, A + B), (GZIP, gzip.compress(A + B)), (SNAPPY, bytes(snappy.compress_raw(A + B)))):
        assert [i.value for i in read(Shelf(crafted(A, B, codec=codec, packed=packed)))] == [b"a", b"b"]


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
    shelf = Shelf(bomb, marker(1, 1), batch(2, b"after"), aborted=((1, 0, 1),))
    assert list(shelf.surpluses(SPOT, 0, 3)) == [None, 0, 0], "the client must not come near it"
    assert [(i.offset, i.value) for i in shelf.inputs(SPOT, 0)] == [(2, b"after")]
    shelf.close()


def test_the_sequencer_rejects_it_with_all_its_bytes() -> None:
    from streams.intake import Intake
    from streams.sequencer import RULES

    given = Input(*SPOT, 5, 7, None, b"as stored", (), batch=12)
    outcome = Intake(2, 4, RULES).take([given])
    (rejection,) = outcome.rejections
    assert (rejection.original, rejection.inbox_offset, outcome.blocks) == (b"as stored", 5, [])
    assert (FaultCode.TOO_LARGE, "$") in [(f.code, f.path) for f in rejection.faults]


def test_tries_share_one_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The watchdog would end a step that is as patient with the last of them as with the first."""
    given_s: list[float] = []

    async def wait_for(answer: Coroutine[Any, Any, Any], within_s: float) -> Any:
        answer.close()
        given_s.append(within_s)
        raise LeaderNotAvailableError if len(given_s) < 4 else TimeoutError

    monkeypatch.setattr(asyncio, "wait_for", wait_for)
    with closing(stored.Stored(Connection("127.0.0.1:9"))) as reader, pytest.raises(EnvironmentProblem):
        list(reader.inputs(("t", 0), 0, 1))
    assert len(given_s) == 4
    assert given_s == sorted(set(given_s), reverse=True), "less from try to try"
