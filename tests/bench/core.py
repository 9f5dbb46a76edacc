"""The core against bare loops: codec, journal -> view, chain and replay, and the sequencer on a real Kafka.

The offers have 24 slots, each with a quantity and a price of its own. Flat ones, as many providers send them, are read
several times as fast; what is measured is the harder half.
"""

import io
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastavro
from confluent_kafka import TopicPartition

from flexbus import avro, codec
from flexbus import events as ev
from flexbus.client import Client
from flexbus.journal import Block, verify_block
from flexbus.topics import inbox
from flexbus.views.fact import facts_of
from streams.area import Area
from streams.intake import Intake
from streams.journal_reader import end_offset
from streams.kafka import Connection
from streams.process import collect_seldom
from streams.refold import refold
from streams.sequencer import BATCH, COLLECT_AFTER, RULES, Sequencer
from streams.stages import VIEWS
from streams.topics import existing_topics
from tests.bench.history import blocks_of, varied
from tests.integration.core import FSP_A, Worker, founding, offer_of, open_gates, own_kafka
from tests.unit.test_intake import HOME, PARTITIONS, Inbox

AREAS = tuple(f"area-{n}" for n in range(8))
AIMED_AT = 20_000
PAIRS = 3
BATCHES = 6  # at least, of which the first and the last two are not timed


@dataclass(frozen=True, slots=True)
class Ratio:
    """Two rates of the same run, per second, and the least ratio that is promised."""

    what: str
    rate: float
    bare: float
    least: float | None = None

    @property
    def ratio(self) -> float:
        return self.rate / self.bare

    @property
    def holds(self) -> bool:
        return self.least is None or self.ratio >= self.least


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of its own, with what is aimed at; of rates per core no more is asked than to be told plainly."""

    what: str
    value: float
    unit: str
    target: float
    at_most: bool = False
    binding: bool = True

    @property
    def reached(self) -> bool:
        return self.value <= self.target if self.at_most else self.value >= self.target

    @property
    def holds(self) -> bool:
        return self.reached or not self.binding


def _offer(number: int, area: str = "north", fsp: str = FSP_A) -> ev.FlexOfferSubmitted:
    return varied(offer_of(number, area, fsp), number)


def _rate(count: int, work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return count / (time.perf_counter() - began)


def _each(call: Callable[[Any], object], items: list[Any]) -> Callable[[], None]:
    def work() -> None:
        for item in items:
            call(item)

    return work


def codec_rates(events: int) -> Iterator[Ratio]:
    """Encode and decode 24-slice offers; the bare loop is fastavro between plain dicts and bytes."""
    count = min(events, 5_000)
    offers = [_offer(n) for n in range(count)]
    encoded = [codec.encode(o) for o in offers]
    schema = fastavro.parse_schema(avro.schema_of(ev.FlexOfferSubmitted))
    bodies = [e[10:] for e in encoded]
    plain = [fastavro.schemaless_reader(io.BytesIO(b), schema) for b in bodies]
    bare = _rate(count, _each(lambda p: fastavro.schemaless_writer(io.BytesIO(), schema, p), plain))
    yield Ratio("encode a 24-slice offer", _rate(count, _each(codec.encode, offers)), bare)
    bare = _rate(count, _each(lambda b: fastavro.schemaless_reader(io.BytesIO(b), schema), bodies))
    yield Ratio("decode a 24-slice offer", _rate(count, _each(codec.decode, encoded)), bare)


def _journal(events: int) -> list[bytes]:
    """Encoded blocks of one area with that many offers."""
    intake, box = Intake(HOME, PARTITIONS, RULES), Inbox()
    blocks = intake.take([box.record(sender, event) for sender, event in founding("north")]).blocks
    for first in range(0, events, 500):
        blocks += intake.take([box.record(FSP_A, _offer(n)) for n in range(first, first + 500)]).blocks
    return [codec.encode(b) for b in blocks]


def _verified(encoded: list[bytes]) -> None:
    head = None
    for data in encoded:
        head = verify_block(head, codec.decode_as(data, Block))


def view_rates(events: int) -> Iterator[Ratio]:
    """Journal blocks to a stage's view, against decoding blocks and their events and nothing else."""
    count = min(events, 5_000)
    encoded = _journal(count)

    def bare() -> None:
        for data in encoded:
            for _ in facts_of(codec.decode_as(data, Block)):
                pass

    bare_rate = _rate(count, bare)
    for name in ("traffic_light", "aggregation", "clearing"):
        rate = _rate(count, _each(_view_taker(name), encoded))
        yield Ratio(f"journal -> view {name}", rate, bare_rate, 0.5)


def replay_rates(events: int) -> Iterator[Figure]:
    """Events per second on one core: the chain alone, a view, the sequencer's state, and `flexbus replay --verify`."""
    count = min(events, 10_000)
    encoded = _journal(count)
    chain = _rate(count, lambda: _verified(encoded))
    yield Figure("chain verified, no event decoded", chain, "events/s", AIMED_AT, binding=False)
    for name in ("settlement", "traffic_light", "aggregation", "clearing"):
        rate = _rate(count, _each(_view_taker(name), encoded))
        yield Figure(f"chain verified, view {name} folded", rate, "events/s", AIMED_AT, binding=False)
    rate = _rate(count, _each(_intake_taker(), encoded))
    yield Figure("chain verified, sequencer's state folded", rate, "events/s", AIMED_AT, binding=False)
    blocks = [codec.decode_as(data, Block) for data in encoded]
    rate = _rate(count, lambda: refold("north", blocks, VIEWS))
    yield Figure("replay --verify: admission, all views, all facts", rate, "events/s", AIMED_AT, binding=False)


def growth_rates(events: int) -> Iterator[Ratio]:
    """Is each event as fast in a long journal as at its beginning? Chain and a view, and what the sequencer knows."""
    first = max(events // 100, 10_000)
    marks = sorted({first, 10 * first, max(events, 10 * first)})
    for what, consumer in (("chain and view traffic_light", _view_taker), ("sequencer's state", _intake_taker)):
        rates = _taking_to(consumer(), marks)
        for start, end, rate in zip(marks, marks[1:], rates[1:], strict=False):
            yield Ratio(f"{what}, events {start:,} to {end:,}, not the first {first:,}", rate, rates[0], 0.7)


def _view_taker(name: str = "traffic_light") -> Callable[[bytes], object]:
    area = Area("north", VIEWS[name], 0)
    return lambda data: area.take(codec.decode_as(data, Block))


def _intake_taker() -> Callable[[bytes], object]:
    intake = Intake(HOME, PARTITIONS, RULES)
    return lambda data: intake.replay(codec.decode_as(data, Block))


def _taking_to(take: Callable[[bytes], object], marks: list[int]) -> list[float]:
    """Return the rate to the first mark, from there to the second, and so on: events per second of processor time."""
    rates: list[float] = []
    spent, count, done = 0.0, 0, 0
    for block in blocks_of("north", marks[-1]):
        data = codec.encode(block)
        began = time.process_time()  # hours of it are run beside other work
        take(data)
        spent += time.process_time() - began
        count += len(block.entries)
        if done + count >= marks[len(rates)]:
            rates.append(count / spent)
            spent, count, done = 0.0, 0, done + count
            if len(rates) == len(marks):
                break
    return rates


def sequencer_rates(events: int) -> Iterator[Ratio]:
    """Validated intake per worker against consuming the same inbox and decoding every event."""
    collect_seldom(COLLECT_AFTER)  # as in its own process
    with tempfile.TemporaryDirectory() as folder, own_kafka(Path(folder) / "broker") as connection:
        with Worker("streams.sequencer", connection):
            open_gates(connection, AREAS)
        events = max(events, BATCHES * BATCH)
        pairs = [_bare_and_sequenced(connection, events * turn, events) for turn in range(PAIRS)]
        print("  pairs: " + ", ".join(f"{ours / bare:.2f}" for bare, ours in pairs), flush=True)
        bare, ours = sorted(pairs, key=lambda pair: pair[1] / pair[0])[PAIRS // 2]
        yield Ratio("sequencer, 24-slice offers, one worker, the middle pair", ours, bare, 0.5)


def _bare_and_sequenced(connection: Connection, first: int, events: int) -> tuple[float, float]:
    """Return the rates of a bare loop, before and after on average, and of the sequencer with the same new offers."""
    topic = inbox(FSP_A)
    starts = [end_offset(connection, p, topic) for p in range(existing_topics(connection)[topic])]
    with Client(connection.bootstrap, FSP_A) as client:
        client.post_all(_offer(n, AREAS[n % len(AREAS)]) for n in range(first, first + events))
    before = _bare(connection, starts, events)
    ours = _sequenced(connection, events)
    return (before + _bare(connection, starts, events)) / 2, ours


def _bare(connection: Connection, starts: list[int], events: int) -> float:
    consumer = connection.reader(None, **{"enable.partition.eof": False})
    consumer.assign([TopicPartition(inbox(FSP_A), p, offset) for p, offset in enumerate(starts)])

    def work() -> None:
        left = events
        while left > 0:
            for message in consumer.consume(1000, 0.05):
                codec.decode(message.value())
                left -= 1

    first = consumer.consume(1, 10.0)  # connected and warm before the clock starts
    codec.decode(first[0].value())
    events -= 1
    rate = _rate(events, work)
    consumer.close()
    return rate


def _sequenced(connection: Connection, events: int) -> float:
    """Return the rate between two full batches: at the end as much is read ahead and not decided as at the begin."""
    worker = Sequencer(connection)
    worker.open()
    left = events
    while left > events - BATCH:
        left -= worker.step()
    first, began = left, time.perf_counter()
    while left >= 2 * BATCH:
        left -= worker.step()
    rate = (first - left) / (time.perf_counter() - began)
    while left > 0:
        left -= worker.step()
    worker.close()
    return rate
