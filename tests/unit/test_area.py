"""Blocks come in; what a stage owes follows from them alone, however often they come and wherever it is killed."""

from itertools import count
from typing import Any

import pytest

from flexbus import codec
from flexbus import events as ev
from flexbus.errors import ChainError
from flexbus.ids import derived_id
from flexbus.journal import Block, Entry, next_block
from flexbus.views.fact import Job
from streams.area import Area
from streams.table import MOST_PENDING, Summary
from tests.integration.toy_stage import SERVICE, STAGE, answer

_offsets = count()


def asked(request: str) -> ev.FlexRequestWithdrawn:
    return ev.FlexRequestWithdrawn(area_id="A", request_id=request, requester_id="DSO")


def entry(event: Any, event_id: str, sender: str = "DSO") -> Entry:
    return Entry(
        event_id=event_id,
        event_type=type(event).__name__,
        schema_fingerprint=codec.fingerprint_of(type(event)),
        sender_id=sender,
        on_behalf_of=None,
        received_at_ms=1_000,
        inbox_partition=0,
        inbox_offset=next(_offsets),
        payload=codec.encode(event),
    )


def chain(*contents: tuple[Entry, ...]) -> list[Block]:
    blocks: list[Block] = []
    for entries in contents:
        before = (blocks[-1].number, blocks[-1].hash) if blocks else None
        blocks.append(next_block("A", before, entries))
    return blocks


def ask(request: str) -> Entry:
    return entry(asked(request), derived_id("ask", request))


def area_after(*blocks: Block) -> Area:
    area = Area("A", STAGE, 0)
    for block in blocks:
        area.take(block)
    return area


def test_what_is_decided_is_due_until_the_journal_shows_it() -> None:
    due = answer("A", "r1", 1, "plain ")
    one, two = chain((ask("r1"),), (entry(due.event, due.event_id, SERVICE),))
    area = area_after(one)
    assert [d.what for d in area.unsent()] == [due]
    area.take(two)
    assert area.pending == {}


def test_an_id_used_by_somebody_else_does_not_settle_what_is_due() -> None:
    due = answer("A", "r1", 1, "plain ")
    one, two = chain((ask("r1"),), (entry(due.event, due.event_id, "DSO-X"),))
    assert list(area_after(one, two).pending) == [due.event_id]


def test_a_job_is_due_until_its_last_result_is_there() -> None:
    first, last = answer("A", "r5", 5, "job first "), answer("A", "r5", 5, "job last ")
    asks = tuple(ask(f"r{i}") for i in range(1, 6))
    one, two, three = chain(
        asks, (entry(first.event, first.event_id, SERVICE),), (entry(last.event, last.event_id, SERVICE),)
    )
    area = area_after(one, two)
    jobs = [d.what for d in area.unsent() if isinstance(d.what, Job)]
    assert [j.job_id for j in jobs] == [last.event_id]
    assert jobs[0].run(*jobs[0].arguments) == (first, last)
    area.take(three)
    assert last.event_id not in area.pending


def test_blocks_that_were_seen_change_nothing() -> None:
    one, two = chain((ask("r1"),), (ask("r2"),))
    area = area_after(one, two)
    before = (list(area.state), list(area.pending), dict(area.counts))
    assert area.take(one) is None
    assert area.take(two) is None
    assert (list(area.state), list(area.pending), dict(area.counts)) == before


def test_a_gap_and_a_changed_block_are_loud() -> None:
    one, _, three = chain((ask("r1"),), (ask("r2"),), (ask("r3"),))
    with pytest.raises(ChainError, match="gap"):
        area_after(one, three)
    forged = Block(area_id="A", number=0, previous_hash=one.previous_hash, hash=one.hash, entries=(ask("other"),))
    with pytest.raises(ChainError, match="was changed"):
        area_after(forged)


def test_wherever_a_stage_is_killed_its_successor_owes_the_same() -> None:
    due = [answer("A", f"r{i}", i, "plain ") for i in (1, 2, 3)]
    blocks = chain(
        (ask("r1"), ask("r2")),
        (entry(due[0].event, due[0].event_id, SERVICE), ask("r3")),
        (entry(due[2].event, due[2].event_id, SERVICE),),
    )
    for at in range(len(blocks) + 1):
        successor = area_after(*blocks[:at])
        for block in blocks[at:]:
            successor.take(block)
        assert list(successor.pending) == [due[1].event_id]


def test_a_fact_once_said_is_not_owed_again_though_decided_again() -> None:
    due = answer("A", "r1", 1, "plain ")
    blocks = chain(
        (ask("r1"),),
        (entry(due.event, due.event_id, SERVICE),),
        (entry(asked("r1"), derived_id("ask", "again")),),
    )
    area = area_after(*blocks)
    assert area.pending == {}


def test_the_row_of_an_area_that_owes_very_much_is_still_a_record() -> None:
    (block,) = chain(tuple(ask(f"r{n}") for n in range(30_000)))
    area = area_after(block)
    row = Summary.of(area, {})
    assert len(area.pending) == 30_000
    assert row.pending == list(area.pending)[:MOST_PENDING]
    assert len(row.to_bytes()) < 100_000
