"""The checker of `make chaos` must catch what it is there for: each fault is injected once."""

from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from flexbus import codec
from flexbus import events as ev
from flexbus.catalogue import CATALOGUE, Service
from flexbus.errors import Fault, FaultCode
from flexbus.events import ReceiptsIssued
from flexbus.journal import Block, Entry, next_block
from flexbus.quantities import Direction
from flexbus.topics import JOURNAL, REJECTIONS, party_topic
from streams.inputs import Input
from streams.intake import Intake, Outcome
from streams.sequencer import RULES
from tests import market
from tests.chaos.checker import (
    BROKEN,
    MARK,
    PUBLIC,
    SERVICES,
    VALID,
    Acknowledged,
    Record,
    Report,
    _decode,
    _word,
    check,
)
from tests.chaos.rules import CHANGES, CLOCK_FACTS, KEYS, READS, told
from tests.integration.core import FMO, FSP_A, FSP_B, founding, offer_of
from tests.integration.test_publisher import cleared
from tests.unit.test_intake import AREA, HOME, Inbox, fresh

GATE_OPENED = "flexbus.out.gate_opened.v1"


def honest() -> tuple[list[Record], list[Block]]:
    """Topics after a small honest run: a market, five offers, one repeated, one of nonsense; and its blocks."""
    box = Inbox()
    offers = [box.record(FSP_A, offer_of(n, AREA)) for n in range(5)]
    inputs = [box.record(sender, event) for sender, event in founding(AREA)]
    inputs += [*map(_valid, offers), _valid(replace(offers[0], offset=5))]
    inputs.append(replace(box.record(FSP_A, b"nonsense"), offset=6))
    intake = fresh()
    return _told(intake, inputs[:-3], inputs[-3:])


def _told(intake: Intake, *batches: list[Input]) -> tuple[list[Record], list[Block]]:
    """All topics after batches of inputs, and the blocks."""
    outcomes = [intake.take(batch) for batch in batches]
    blocks = [b for o in outcomes for b in o.blocks]
    records = [_inbox(i) for batch in batches for i in batch] + _journal(blocks)
    records += [Record(REJECTIONS, 0, n, codec.encode(r), {}) for o in outcomes for n, r in enumerate(o.rejections)]
    return [*records, *_receipts(outcomes), *_published(blocks)], blocks


def _valid(given: Input) -> Input:
    about = (("ce_subject", AREA.encode()), (MARK, VALID.encode()))
    return replace(given, headers=(*given.headers, *about))


def _receipts(outcomes: list[Outcome]) -> list[Record]:
    return [
        Record(party_topic(r.party_id), 0, 0, codec.encode(r), {"ce_type": "ReceiptsIssued", "ce_subject": AREA})
        for o in outcomes
        for r in o.receipts
    ]


def _published(blocks: list[Block]) -> list[Record]:
    """What the publisher makes of blocks, as far as it is the same for every kind."""
    found = []
    for block in blocks:
        for index, entry in enumerate(block.entries):
            topics = [party_topic(p) for p in sorted({FMO, entry.sender_id} - SERVICES)]
            if CATALOGUE[entry.event_type].out_topic:
                topics.append(CATALOGUE[entry.event_type].out_topic or "")
            place = {"ce_block": str(block.number), "ce_index": str(index)}
            headers = {"ce_id": entry.event_id, "ce_subject": AREA, "ce_type": entry.event_type, **place}
            found += [Record(topic, 0, 0, entry.payload, headers) for topic in topics]
    return found


def _inbox(given: Input) -> Record:
    headers = {name: (value or b"").decode() for name, value in given.headers}
    return Record(given.topic, given.partition, given.offset, given.value or b"", headers)


def _journal(blocks: list[Block]) -> list[Record]:
    return [Record(JOURNAL, 0, n, codec.encode(block), {}) for n, block in enumerate(blocks)]


def rechained(blocks: list[Block], entries: list[list[Entry]]) -> list[Block]:
    made: list[Block] = []
    for mine in entries:
        made.append(next_block(AREA, (made[-1].number, made[-1].hash) if made else None, tuple(mine)))
    return made


def with_journal(records: list[Record], blocks: list[Block]) -> Report:
    """Check another journal, with what would be published of it; receipts stay as they were."""
    kept = [r for r in records if r.topic != JOURNAL and "ce_block" not in r.headers]
    return check(kept + _journal(blocks) + _published(blocks))


def test_an_honest_run_is_clean() -> None:
    records, _ = honest()
    report = check(records)
    assert report.ok, report
    assert (report.inputs, report.accepted) == (len(founding(AREA)) + 7, len(founding(AREA)) + 5)
    assert (report.marked, report.receipts) == (5, len(founding(AREA)) - 1 + 7)
    # All for who runs the market, others' for who sent them too; public are area, product, session and gate.
    others = 5 + sum(sender not in (FMO, "scheduler") for sender, _ in founding(AREA))
    assert report.published == report.accepted + others + 4


def test_a_lost_input_is_counted() -> None:
    records, blocks = honest()
    kept = [[e for e in b.entries if e.inbox_offset != 2 or e.sender_id != FSP_A] for b in blocks]
    silent = [r for r in records if r.headers.get("ce_type") != "ReceiptsIssued"]
    assert with_journal(silent, rechained(blocks, kept)).lost == 1
    # With its receipt, that is a lie as well.
    assert with_journal(records, rechained(blocks, kept)).lost == 2


def test_an_acknowledged_send_that_is_in_no_inbox_is_lost() -> None:
    records, _ = honest()
    inputs = [r for r in records if r.topic.startswith("flexbus.in.")]
    sends = [Acknowledged(r.topic, r.partition, r.offset, r.headers["ce_id"]) for r in inputs]
    report = check(records, None, sends)
    assert report.ok
    assert report.acknowledged == len(sends) > 0
    last = sends[-1]
    for wrong in (last._replace(offset=99), last._replace(event_id=str(uuid4())), last._replace(topic="flexbus.in.x")):
        assert check(records, None, [*sends, wrong]).lost == 1
    # As it would be after a Kafka that forgot: nobody else knows of the input, and nothing else is missed.
    gone = next(n for n, r in enumerate(inputs) if r.offset == 6)
    without = [r for r in records if r is not inputs[gone]]
    assert check(without).lost == 0
    assert check(without, None, sends).lost == 1


def test_a_lost_rejection_is_counted() -> None:
    records, _ = honest()
    silent = [r for r in records if r.topic != REJECTIONS and r.headers.get("ce_type") != "ReceiptsIssued"]
    assert check(silent).lost == 1


def strict_with(offer_id: str) -> Intake:
    """An intake that refuses an offer for no good reason."""

    def content(event: Any) -> tuple[Fault, ...]:
        if isinstance(event, ev.FlexOfferSubmitted) and event.offer.offer_id == offer_id:
            return (Fault(code=FaultCode.BAD_VALUE, path="$", message="I do not like it"),)
        return RULES.content(event)

    return fresh(replace(RULES, content=content))


@pytest.mark.parametrize("offer", [0, 2])
def test_a_valid_input_that_is_refused_is_lost(offer: int) -> None:
    box = Inbox()
    offers = [_valid(box.record(FSP_A, offer_of(n, AREA))) for n in range(3)]
    inputs = [box.record(sender, event) for sender, event in founding(AREA)]
    repeated = [*offers, replace(offers[0], offset=3)]
    records, _ = _told(strict_with(f"{FSP_A}-{offer}"), inputs, repeated)
    report = check(records)
    assert (report.lost, report.doubled, report.unpublished) == (1, 0, 0), report


def test_of_two_events_with_one_id_one_must_be_taken() -> None:
    box = Inbox()
    inputs = [box.record(sender, event) for sender, event in founding(AREA)]
    one = str(uuid4())
    pair = [_valid(box.record(party, offer_of(1, AREA, party), one)) for party in (FSP_A, FSP_B)]
    assert check(_told(fresh(), inputs, pair)[0]).ok
    neither = check(_told(strict_with(f"{FSP_A}-1"), inputs, pair[:1])[0])
    assert neither.lost == 1


def test_a_repeat_that_is_refused_is_lost() -> None:
    records, _ = honest()
    (rejection,) = [codec.decode_as(r.value, ev.EventRejected) for r in records if r.topic == REJECTIONS]
    wrong = replace(rejection, inbox_offset=5)
    report = check([*records, Record(REJECTIONS, 0, 1, codec.encode(wrong), {})])
    assert report.lost == 1


def test_a_doubled_entry_is_counted() -> None:
    records, blocks = honest()
    twice = [[*b.entries, b.entries[-1]] for b in blocks]
    report = with_journal(records, rechained(blocks, twice))
    assert report.doubled >= len(blocks)
    assert report.lost == 0


def test_a_repeat_with_other_content_is_no_repeat() -> None:
    records, _ = honest()
    changed = [replace_value(r) if r.topic.endswith("fsp-a.v1") and r.offset == 5 else r for r in records]
    # Neither in the journal nor refused, though the receipt calls it a repeat.
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


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"payload": codec.encode(offer_of(3, AREA))}, "is not what was sent"),
        ({"event_id": str(uuid4())}, "is not what was sent"),
        ({"on_behalf_of": FSP_B}, "is not what was sent"),
        ({"inbox_offset": 99}, "which nobody sent"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_an_entry_that_is_not_what_was_sent_is_named(change: dict[str, Any], fault: str) -> None:
    """Its block has the hash that it should: who wrote it took one thing for another."""
    records, blocks = honest()
    entries = [list(b.entries) for b in blocks]
    assert entries[-1][-1].sender_id == FSP_A
    entries[-1][-1] = replace(entries[-1][-1], **change)
    (found,) = with_journal(records, rechained(blocks, entries)).broken
    assert found.endswith(fault)


def test_what_had_to_be_refused_and_is_in_the_journal_is_named() -> None:
    records, _ = honest()

    def marked(offset: int) -> list[Record]:
        place = ("flexbus.in.fsp-a.v1", offset)
        return [replace(r, headers={**r.headers, MARK: BROKEN}) if (r.topic, r.offset) == place else r for r in records]

    assert check(marked(6)).ok, "the nonsense, which was refused"
    (found,) = check(marked(3)).broken
    assert found.endswith("which had to be refused")


def test_a_rejection_that_does_not_hold_what_was_sent_is_named() -> None:
    records, _ = honest()
    (rejection,) = [codec.decode_as(r.value, ev.EventRejected) for r in records if r.topic == REJECTIONS]
    other = Record(REJECTIONS, 0, 0, codec.encode(replace(rejection, original=b"nonsens")), {})
    (found,) = check([other if r.topic == REJECTIONS else r for r in records]).broken
    assert found.startswith("the rejection of input")


def test_what_a_party_gets_with_other_bytes_is_counted() -> None:
    records, _ = honest()
    changed = next(r for r in records if r.topic == party_topic(FSP_A) and "ce_block" in r.headers)
    report = check([replace_value(r) if r is changed else r for r in records])
    assert (report.unpublished, report.doubled) == (1, 0)


def test_a_missing_and_a_doubled_publication_are_counted() -> None:
    records, _ = honest()
    (published,) = [r for r in records if r.topic == GATE_OPENED]
    other = Record(GATE_OPENED, 0, 0, b"", {"ce_id": "x", "ce_subject": AREA, "ce_block": "9", "ce_index": "0"})
    report = check([*(r for r in records if r.topic != GATE_OPENED), other])
    assert (report.unpublished, report.doubled) == (1, 1)
    twice = check([*records, published])
    assert (twice.doubled, twice.reordered) == (1, 1)


def test_a_public_topic_that_is_empty_is_missed() -> None:
    records, _ = honest()
    report = check([r for r in records if r.topic != GATE_OPENED])
    assert (report.unpublished, report.lost, report.doubled) == (1, 0, 0)
    assert report.faults[0].startswith(f"unpublished: {GATE_OPENED}")


def test_the_public_kinds_and_services_are_those_of_the_catalogue() -> None:
    assert {name for name, kind in CATALOGUE.items() if kind.public} == PUBLIC
    assert {s.value for s in Service} == SERVICES
    assert set(CATALOGUE) >= READS
    for name, parts in [*KEYS.items(), *CHANGES.items()]:
        assert set(parts) <= set(CATALOGUE[name].event.__dataclass_fields__), name


def test_what_a_party_gets_twice_is_counted() -> None:
    records, _ = honest()
    mine = [r for r in records if r.topic == party_topic(FSP_A) and "ce_block" in r.headers]
    assert len(mine) == 5
    assert check([*records, mine[-1]]).doubled == 1


def test_what_a_party_does_not_get_is_counted() -> None:
    records, _ = honest()
    topic = party_topic(FSP_A)
    assert check([r for r in records if r.topic != topic or "ce_block" not in r.headers]).unpublished == 5
    entries = sum("ce_block" in r.headers for r in records if r.topic == party_topic(FMO))
    without = [r for r in records if r.topic != party_topic(FMO) or "ce_block" not in r.headers]
    assert check(without).unpublished == entries == len(founding(AREA)) + 5


def test_others_may_see_more_but_in_order() -> None:
    records, _ = honest()
    seen = [replace_topic(r, party_topic(FSP_B)) for r in records if r.topic == party_topic(FSP_A)]
    seen = [r for r in seen if "ce_block" in r.headers]
    assert check([*records, *seen]).ok
    assert check([*records, *seen[::-1]]).reordered == 4


def replace_topic(record: Record, topic: str) -> Record:
    return Record(topic, record.partition, record.offset, record.value, record.headers)


def test_a_receipt_that_is_missing_or_there_twice_is_counted() -> None:
    records, _ = honest()
    receipts = [r for r in records if r.topic == party_topic(FSP_A) and r.headers["ce_type"] == "ReceiptsIssued"]
    told = [len(codec.decode_as(r.value, ReceiptsIssued).receipts) for r in receipts]
    assert sum(told) == 7
    assert check([*records, receipts[-1]]).doubled == told[-1]
    assert check([r for r in records if r is not receipts[-1]]).unpublished == told[-1]


# --- facts that must follow from others


SCHEDULED = (market.product(), market.session())
CLOSED = (*SCHEDULED, market.gate_opened(), market.gate_closed())
QUARTER, START = market.QUARTER, market.START


def facts(*events: Any) -> list[tuple[str, Any]]:
    names = [type(e).__name__ for e in events]
    return [(name, _decode(_word(name), codec.encode(e))) for name, e in zip(names, events, strict=True)]


def missing(*events: Any, now_ms: int | None = None) -> list[tuple[str, ...]]:
    return told(facts(*events), now_ms).missing


def slots(first: int, last: int) -> list[ev.DeliveryStarted]:
    return [market.delivery_started(START + n * QUARTER) for n in range(first, last)]


def result() -> ev.MarketCleared:
    """One award: two slots with a quantity, one without, one with."""
    given = cleared(AREA)
    award = replace(given.awards[0], power_w=(5, 5, 0, 5), price_milli_per_mwh=(1, 1, 1, 1), start_ms=START)
    return replace(given, awards=(award,), non_awards=())


def order(start: int, count: int, **changes: Any) -> ev.ActivationOrdered:
    made = ev.ActivationOrdered(
        area_id=AREA,
        session_id=market.SESSION,
        activation_id=f"a{start}",
        award_id=result().awards[0].award_id,
        tso_activation_id=None,
        offer_id="o1",
        orderer_id=market.DSO,
        fsp_id=FSP_A,
        connection_point_id="GCP-1",
        portfolio_id=None,
        direction=Direction.UP,
        start_ms=START + start * QUARTER,
        resolution_s=900,
        power_w=(5,) * count,
        price_milli_per_mwh=(1,) * count,
        acknowledge_by_ms=START,
    )
    return replace(made, **changes)


def test_what_the_clock_makes_due_must_be_said() -> None:
    session = market.SESSION
    assert missing(*SCHEDULED) == []
    assert missing(*SCHEDULED, now_ms=START - 13 * market.HOUR) == [("GateOpened", session)]
    assert missing(*CLOSED[:3], result(), now_ms=START - 12 * market.HOUR) == [("GateClosed", session)]
    due = missing(*CLOSED, result(), *slots(0, 2), now_ms=START + 2 * QUARTER)
    assert ("DeliveryStarted", session, str(START + 2 * QUARTER)) in due
    assert not [key for key in due if key[0] == "DeliveryStarted" and key[2] != str(START + 2 * QUARTER)]
    kinds = [key[0] for key in missing(*CLOSED, result(), now_ms=START + 9 * market.DAY)]
    assert kinds.count("DeliveryStarted") == 96
    assert {"DeliveryEnded", "SettlementDue"} <= set(kinds)


def test_a_closed_gate_needs_one_result() -> None:
    assert missing(*CLOSED) == [("MarketCleared", market.SESSION)]
    assert missing(*CLOSED, result()) == []
    assert told(facts(*CLOSED, result(), replace(result(), cost_nano=7)), None).doubled == [
        ("MarketCleared", market.SESSION)
    ]


def test_a_gate_opens_once() -> None:
    later = replace(market.gate_opened(), at_ms=START)
    assert told(facts(*CLOSED[:3], later), None).doubled == [("GateOpened", market.SESSION)]


def test_each_run_of_awarded_slots_is_ordered_before_it_begins() -> None:
    acknowledged = [ev.ActivationAcknowledged(area_id=AREA, activation_id=a, fsp_id=FSP_A) for a in ("a0", "a3")]
    award = result().awards[0].award_id
    assert missing(*CLOSED, result(), *slots(0, 1)) == [("ActivationOrdered", award, "None", "o1", str(START))]
    story = (*CLOSED, result(), order(0, 2), acknowledged[0])
    assert missing(*story, *slots(0, 3)) == []
    assert missing(*story, *slots(0, 4)) == [("ActivationOrdered", award, "None", "o1", str(START + 3 * QUARTER))]
    assert missing(*story, order(3, 1), acknowledged[1], *slots(0, 4)) == []


def test_slots_that_have_begun_when_the_market_is_cleared_are_not_ordered() -> None:
    award = result().awards[0].award_id
    late = [START + n * QUARTER for n in (1, 3)]
    assert missing(*CLOSED, *slots(0, 2), result(), *slots(2, 4)) == [
        ("ActivationOrdered", award, "None", "o1", str(at_ms)) for at_ms in late
    ]
    assert missing(*CLOSED, *slots(0, 3), result()) == []


def test_an_order_is_doubled_under_whatever_id() -> None:
    twice = told(facts(*CLOSED, result(), order(0, 2), order(0, 2, activation_id="other")), None)
    assert [key[0] for key in twice.doubled] == ["ActivationOrdered"]


def test_a_change_that_is_told_again_is_doubled_and_one_that_is_taken_back_is_not() -> None:
    light = ev.TrafficLightChanged(
        area_id=AREA,
        session_id=market.SESSION,
        connection_point_id="GCP-1",
        start_ms=START,
        colours=(ev.Colour.RED,),
        max_up_w=(0,),
        max_down_w=(0,),
        causes=(),
    )
    green, elsewhere = replace(light, colours=(ev.Colour.GREEN,)), replace(light, connection_point_id="GCP-2")
    assert told(facts(light, elsewhere, green, light), None).doubled == []
    twice = told(facts(light, elsewhere, light), None).doubled
    assert twice == [("TrafficLightChanged", market.SESSION, "GCP-1")]


def test_an_order_that_nobody_answers_times_out() -> None:
    story = (*CLOSED, result(), order(0, 2))
    assert missing(*story) == []
    assert missing(*story, *slots(0, 1)) == [("ActivationTimedOut", "a0")]
    late = ev.ActivationRefused(area_id=AREA, activation_id="a0", fsp_id=FSP_A, reason="late")
    assert missing(*story, *slots(0, 1), late) == [("ActivationTimedOut", "a0")]
    assert missing(*story, late, *slots(0, 1)) == []
    out = ev.ActivationTimedOut(area_id=AREA, activation_id="a0", fsp_id=FSP_A, at_ms=START)
    assert missing(*story, *slots(0, 1), out) == []


def test_what_is_ordered_is_settled() -> None:
    refused = ev.ActivationRefused(area_id=AREA, activation_id="a0", fsp_id=FSP_A, reason="broken")
    due = ev.SettlementDue(area_id=AREA, session_id=market.SESSION, at_ms=START + QUARTER)
    wanted = [("DeliveryComputed", "a0", "1"), ("SettlementComputed", market.SESSION, market.DSO, FSP_A)]
    assert missing(*CLOSED, result(), order(0, 2), refused, due) == wanted
    # An order that comes after is settled too.
    assert missing(*CLOSED, result(), due, order(0, 2), refused) == wanted


def test_a_fact_that_never_comes_is_counted_in_the_report() -> None:
    records, blocks = honest()
    closed = Entry(
        event_id=str(uuid4()),
        event_type="GateClosed",
        schema_fingerprint=bytes(8),
        sender_id="scheduler",
        on_behalf_of=None,
        received_at_ms=0,
        inbox_partition=HOME,
        inbox_offset=99,
        payload=codec.encode(market.gate_closed()),
    )
    entries = [list(b.entries) for b in blocks]
    entries[-1].append(closed)
    report = with_journal(records, rechained(blocks, entries))
    assert report.lost == 1
    assert f"lost: area {AREA}: MarketCleared {market.SESSION} never came" in report.faults
    assert set(CLOCK_FACTS) <= set(KEYS)


def test_what_the_tso_activates_is_split_and_ordered() -> None:
    about: dict[str, Any] = {"area_id": AREA, "aggregate_id": "g1", "start_ms": START, "resolution_s": 900}
    of_session: dict[str, Any] = {"session_id": market.SESSION, "direction": Direction.UP}
    offered = ev.AggregateOffered(
        **about, **of_session, infeed_id="GRID", power_w=(9, 9), price_milli_per_mwh=(1, 1), members=()
    )
    by_tso: dict[str, Any] = {"tso_activation_id": "t1", "tso_id": market.TSO, "price_milli_per_mwh": 1}
    activated = ev.AggregateActivated(**about, **by_tso, power_w=(0, 4))
    share = ev.AggregateShare(
        offer_id="o1", fsp_id=FSP_A, connection_point_id="GCP-1", portfolio_id=None, power_w=(0, 4)
    )
    split = ev.AggregateDisaggregated(**about, **of_session, **by_tso, shares=(share,), unserved_w=(0, 0))
    story = (*CLOSED, result(), offered, activated)
    assert missing(*story) == [("AggregateDisaggregated", "t1")]
    assert missing(*story, split) == []
    due = missing(*story, split, order(0, 1, acknowledge_by_ms=2 * START), *slots(0, 2))
    assert due == [("ActivationOrdered", "None", "t1", "o1", str(START + QUARTER))]
    assert told(facts(*story, split, offered, split), None).doubled == [
        ("AggregateOffered", market.SESSION, "GRID", "UP"),
        ("AggregateDisaggregated", "t1"),
    ]
