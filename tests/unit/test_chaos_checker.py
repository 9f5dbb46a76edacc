"""The checker of `make chaos` must catch what it is there for: each fault is injected once."""

from dataclasses import replace

import pytest

from flexbus import codec
from flexbus.journal import Block, Entry, next_block
from flexbus.topics import JOURNAL, REJECTIONS
from streams.intake import Input
from tests.chaos.checker import Record, Report, check
from tests.integration.core import FSP_A, founding, offer_of
from tests.unit.test_intake import AREA, Inbox, fresh

PUBLIC = "flexbus.out.gate_opened.v1"


def honest() -> tuple[list[Record], list[Block]]:
    """Topics after a small honest run: a market, five offers, one repeated, one of nonsense; and its blocks."""
    box = Inbox()
    offers = [box.record(FSP_A, offer_of(n, AREA)) for n in range(5)]
    inputs = [box.record(sender, event) for sender, event in founding(AREA)]
    inputs += [*offers, replace(offers[0], offset=5), replace(box.record(FSP_A, b"nonsense"), offset=6)]
    intake = fresh()
    outcomes = [intake.take(inputs[:-3]), intake.take(inputs[-3:])]
    blocks = [b for o in outcomes for b in o.blocks]
    records = [_inbox(i) for i in inputs] + _journal(blocks)
    records += [Record(REJECTIONS, 0, n, codec.encode(r), {}) for o in outcomes for n, r in enumerate(o.rejections)]
    for block in blocks:
        for index, entry in enumerate(block.entries):
            if entry.event_type == "GateOpened":
                records.append(_published(block, index, entry))
    return records, blocks


def _inbox(given: Input) -> Record:
    headers = {name: (value or b"").decode() for name, value in given.headers}
    return Record(given.topic, given.partition, given.offset, given.value or b"", headers)


def _journal(blocks: list[Block]) -> list[Record]:
    return [Record(JOURNAL, 0, n, codec.encode(block), {}) for n, block in enumerate(blocks)]


def _published(block: Block, index: int, entry: Entry) -> Record:
    place = {"ce_block": str(block.number), "ce_index": str(index)}
    return Record(PUBLIC, 0, 0, entry.payload, {"ce_id": entry.event_id, "ce_subject": AREA, **place})


def rechained(blocks: list[Block], entries: list[list[Entry]]) -> list[Block]:
    made: list[Block] = []
    for mine in entries:
        made.append(next_block(AREA, (made[-1].number, made[-1].hash) if made else None, tuple(mine)))
    return made


def with_journal(records: list[Record], blocks: list[Block]) -> Report:
    return check([r for r in records if r.topic != JOURNAL] + _journal(blocks))


def test_an_honest_run_is_clean() -> None:
    records, _ = honest()
    report = check(records)
    assert report.ok, report
    assert (report.inputs, report.accepted) == (len(founding(AREA)) + 7, len(founding(AREA)) + 5)


def test_a_lost_input_is_counted() -> None:
    records, blocks = honest()
    kept = [[e for e in b.entries if e.inbox_offset != 2 or e.sender_id != FSP_A] for b in blocks]
    assert with_journal(records, rechained(blocks, kept)).lost == 1


def test_a_lost_rejection_is_counted() -> None:
    records, _ = honest()
    assert check([r for r in records if r.topic != REJECTIONS]).lost == 1


def test_a_doubled_entry_is_counted() -> None:
    records, blocks = honest()
    twice = [[*b.entries, b.entries[-1]] for b in blocks]
    report = with_journal(records, rechained(blocks, twice))
    assert report.doubled >= len(blocks)
    assert report.lost == 0


def test_a_repeat_with_other_content_is_no_repeat() -> None:
    records, _ = honest()
    changed = [replace_value(r) if r.topic.endswith("fsp-a.v1") and r.offset == 5 else r for r in records]
    assert check(changed).lost == 1


def replace_value(record: Record) -> Record:
    return Record(record.topic, record.partition, record.offset, record.value + b"x", record.headers)


def test_a_reordered_journal_is_counted() -> None:
    records, blocks = honest()
    entries = [list(b.entries) for b in blocks]
    entries[0][-1], entries[0][-2] = entries[0][-2], entries[0][-1]
    report = with_journal(records, rechained(blocks, entries))
    assert report.reordered >= 1
    assert (report.lost, report.doubled) == (0, 0)


@pytest.mark.parametrize("which", ["changed", "missing", "swapped"])
def test_a_broken_chain_is_named(which: str) -> None:
    records, blocks = honest()
    assert len(blocks) == 2
    forged = {
        "changed": [replace(blocks[0], entries=blocks[0].entries[:-1]), blocks[1]],
        "missing": blocks[1:],
        "swapped": blocks[::-1],
    }
    assert with_journal(records, forged[which]).broken


def test_a_missing_and_a_doubled_publication_are_counted() -> None:
    records, _ = honest()
    (published,) = [r for r in records if r.topic == PUBLIC]
    other = Record(PUBLIC, 0, 0, b"", {"ce_id": "x", "ce_subject": AREA, "ce_block": "9", "ce_index": "0"})
    assert check([*(r for r in records if r.topic != PUBLIC), other]).unpublished == 1
    twice = check([*records, published])
    assert (twice.doubled, twice.reordered) == (1, 1)
