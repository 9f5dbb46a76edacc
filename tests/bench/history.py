"""A long journal, straight to Kafka: a session of 24-slice offers a day, closed and cleared, the last one open.

The last one is as full as it can be, so that a checkpoint holds whole order books.

The blocks are chained and their events are what a validated market would have; they only never passed a sequencer.
"""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any
from uuid import UUID

from clearing.facts import market_cleared_id
from flexbus import codec
from flexbus import events as ev
from flexbus.ids import derived_id
from flexbus.journal import Block, Entry, next_block
from flexbus.partition import partition_of
from flexbus.topics import JOURNAL
from flexbus.views import aggregation
from flexbus.views.fact import Fact
from streams.kafka import Connection
from streams.topics import journal_partitions
from tests import market
from tests.crafted import zigzag
from tests.integration.core import FSP_A, founding
from tests.integration.test_publisher import cleared

__all__ = ["AREAS", "blocks_of", "varied", "write_history"]

AREAS = tuple(f"area-{n}" for n in range(8))
SESSION_OFFERS = 5_000
BLOCK = 100
_OFFER, _SESSION = "o-00000000", "s-000000"
_TEMPLATES = 199


def varied(submitted: ev.FlexOfferSubmitted, number: int) -> ev.FlexOfferSubmitted:
    """Return an offer with another quantity and price in each slot: a flat one is read several times as fast."""
    chance = random.Random(number)
    slots = tuple(
        ev.OfferSlot(
            steps=(
                ev.PriceStep(
                    power_w=1_000 * chance.randrange(1, 100), price_milli_per_mwh=100 * chance.randrange(200, 900)
                ),
            )
        )
        for _ in submitted.offer.slots
    )
    return replace(submitted, offer=replace(submitted.offer, slots=slots))


def write_history(connection: Connection, events: int) -> Counter[int]:
    """Write a journal of about that many events over all areas; return how many each partition has."""
    producer = connection.producer(None, **{"linger.ms": 50, "queue.buffering.max.messages": 20_000})
    partitions = journal_partitions(connection)
    counts: Counter[int] = Counter()
    for area_id in AREAS:
        key = area_id.encode()
        place = partition_of(key, partitions)
        for block in blocks_of(area_id, events // len(AREAS)):
            counts[place] += len(block.entries)
            value = codec.encode(block)
            while True:
                try:
                    producer.produce(JOURNAL, value, key, partition=place)
                    break
                except BufferError:
                    producer.poll(0.1)
            producer.poll(0)
    assert producer.flush(60) == 0
    return counts


def blocks_of(area_id: str, events: int) -> Iterator[Block]:
    """Yield the chain of one area with about that many events."""
    head: tuple[int, bytes] | None = None
    for entries in _in_blocks(_entries(area_id, events)):
        block = next_block(area_id, head, tuple(entries))
        head = (block.number, block.hash)
        yield block


def _in_blocks(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    found: list[Entry] = []
    for entry in entries:
        found.append(entry)
        if len(found) == BLOCK:
            yield found
            found = []
    if found:
        yield found


def _entries(area_id: str, events: int) -> Iterator[Entry]:
    ids = random.Random(area_id)
    offset = 0

    def entry(event: object, sender: str, event_id: str | None = None, payload: bytes | None = None) -> Entry:
        nonlocal offset
        offset += 1
        return Entry(
            event_id=event_id or str(UUID(int=ids.getrandbits(128), version=4)),
            event_type=type(event).__name__,
            schema_fingerprint=codec.fingerprint_of(type(event)),
            sender_id=sender,
            on_behalf_of=None,
            received_at_ms=1_700_000_000_000 + offset,
            inbox_partition=0,
            inbox_offset=offset,
            payload=payload or codec.encode(event),
        )

    aggregates = aggregation.Aggregates()  # what that service would have made of it
    for sender, event in founding(area_id)[:-2]:  # all but the session and its gate
        aggregation.fold(aggregates, _fact(event, sender))
        yield entry(event, sender)
    submitted = replace(market.submitted(_OFFER, slots=24, session_id=_SESSION), area_id=area_id)
    templates = [varied(submitted, n) for n in range(_TEMPLATES)]
    payloads = [codec.encode(t) for t in templates]
    start = zigzag(market.START)
    assert all(p.count(start) == 1 for p in payloads)
    number = 0
    for session in range(-(-events // SESSION_OFFERS)):
        session_id, later_ms = f"s-{session:06d}", session * market.DAY
        at_ms = market.START + later_ms
        opening = (
            (_later(replace(market.session(session_id), area_id=area_id), later_ms), "fmo"),
            (_later(replace(market.gate_opened(session_id), area_id=area_id), later_ms), "scheduler"),
        )
        for event, sender in opening:
            aggregation.fold(aggregates, _fact(event, sender))
            yield entry(event, sender)
        for _ in range(min(SESSION_OFFERS, events - number)):
            number += 1
            template, offer_id = number % _TEMPLATES, f"o-{number:08d}"
            payload = payloads[template].replace(_OFFER.encode(), offer_id.encode()).replace(start, zigzag(at_ms))
            yield entry(submitted, FSP_A, payload=payload.replace(_SESSION.encode(), session_id.encode()))
            offer = replace(templates[template].offer, offer_id=offer_id, session_id=session_id, start_ms=at_ms)
            aggregation.fold(aggregates, _fact(replace(submitted, offer=offer), FSP_A))
        if number < events:
            closed = _later(replace(market.gate_closed(session_id), area_id=area_id), later_ms)
            result = replace(cleared(area_id), session_id=session_id, start_ms=at_ms)
            result = replace(
                result,
                slots=tuple(replace(s, start_ms=s.start_ms + at_ms - market.START) for s in result.slots),
                awards=tuple(replace(a, start_ms=at_ms) for a in result.awards),
            )
            for event, sender, event_id in (
                (closed, "scheduler", derived_id("GateClosed", area_id, session_id)),
                (result, "clearing", market_cleared_id(area_id, session_id)),
            ):
                fact = _fact(event, sender)
                aggregation.fold(aggregates, fact)
                yield entry(event, sender, event_id)
                for due in aggregation.decide(aggregates, fact):
                    yield entry(due.event, "aggregation", due.event_id)
                    aggregation.fold(aggregates, _fact(due.event, "aggregation"))


def _fact(event: Any, sender: str) -> Fact:
    return Fact(event=event, event_id="", sender_id=sender, on_behalf_of=None, received_at_ms=0, block=0, index=0)


def _later(event: Any, by_ms: int) -> Any:
    """Return an event with all its instants moved."""
    moved = {f.name: getattr(event, f.name) + by_ms for f in fields(event) if f.name.endswith("_ms")}
    return replace(event, **moved)
