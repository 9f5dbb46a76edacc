"""What becomes of inputs, without Kafka: give a batch, expect blocks, rejections and receipts."""

import json
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from flexbus import codec
from flexbus import events as ev
from flexbus.errors import ChainError, Fault, FaultCode
from flexbus.events import Verdict
from flexbus.journal import Block, verify_block
from flexbus.partition import partition_of
from flexbus.topics import inbox
from streams import intake as intake_module
from streams.inputs import Input
from streams.intake import Intake, Rules
from streams.sequencer import RULES
from tests import market
from tests.integration.core import FMO, FSP_A, FSP_B, founding, offer_of
from tests.integration.test_publisher import cleared

AREA, PARTITIONS = "north", 4
HOME = partition_of(AREA.encode(), PARTITIONS)


class Inbox:
    """Makes inbox records, with offsets that rise per party."""

    def __init__(self) -> None:
        self._next: dict[str, int] = {}

    def record(self, party: str, event: Any, event_id: str | None = None, **changes: Any) -> Input:
        offset = self._next.get(party, 0)
        self._next[party] = offset + 1
        given = Input(
            topic=inbox(party),
            partition=HOME,
            offset=offset,
            received_at_ms=1_000 + offset,
            key=AREA.encode(),
            value=event if isinstance(event, bytes) else codec.encode(event),
            headers=(("ce_id", (event_id or str(uuid4())).encode()),),
        )
        return replace(given, **changes)


def fresh(rules: Rules = RULES) -> Intake:
    return Intake(HOME, PARTITIONS, rules)


def opened(box: Inbox) -> tuple[Intake, list[Block]]:
    """An intake whose area has its gate open, and the blocks so far."""
    intake = fresh()
    outcome = intake.take([box.record(sender, event) for sender, event in founding(AREA)])
    assert outcome.rejections == []
    return intake, outcome.blocks


def codes(faults: tuple[Fault, ...]) -> set[str]:
    return {f.code.value for f in faults}


def test_murmur2_is_kafkas() -> None:
    # Values of Kafka's own UtilsTest, made positive as its partitioner does.
    known = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536, b"abc": 479470107}
    for key, value in known.items():
        assert partition_of(key, 2**31) == value & 0x7FFFFFFF


def test_a_batch_becomes_chained_blocks_and_receipts_with_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake_module, "BLOCK_ENTRIES", 10)
    box = Inbox()
    intake, blocks = opened(box)
    outcome = intake.take([box.record(FSP_A, offer_of(n, AREA)) for n in range(25)])
    blocks += outcome.blocks
    assert [len(b.entries) for b in outcome.blocks] == [10, 10, 5]
    head = None
    for block in blocks:
        head = verify_block(head, block)
    (issued,) = outcome.receipts
    assert (issued.party_id, issued.area_id) == (FSP_A, AREA)
    places = [(r.block, r.index) for r in issued.receipts]
    assert places == [(b.number, i) for b in outcome.blocks for i in range(len(b.entries))]
    assert outcome.accepted == {("FlexOfferSubmitted", AREA): 25}


def test_a_block_holds_no_more_than_its_parties_can_be_told_of_in_one_transaction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(intake_module, "BLOCK_TOLD", 40)
    box = Inbox()
    intake, _ = opened(box)
    outcome = intake.take([box.record(FSP_A, offer_of(n, AREA)) for n in range(25)])
    (parties,) = {len(area.state.registry.participants) for area in intake._areas.values()}
    assert parties > 2
    most = -(-40 // parties)
    assert {len(b.entries) for b in outcome.blocks[:-1]} == {most}
    assert sum(len(b.entries) for b in outcome.blocks) == 25


def test_the_payload_is_kept_byte_for_byte() -> None:
    box = Inbox()
    intake, _ = opened(box)
    record = box.record(FSP_A, offer_of(1, AREA))
    (entry,) = intake.take([record]).blocks[0].entries
    assert (entry.payload, entry.inbox_offset, entry.received_at_ms) == (
        record.value,
        record.offset,
        record.received_at_ms,
    )


def test_events_of_one_batch_see_each_other() -> None:
    box = Inbox()
    intake, _ = opened(box)
    first, again = box.record(FSP_A, offer_of(1, AREA)), box.record(FSP_A, offer_of(1, AREA))
    outcome = intake.take([first, again, box.record("scheduler", replace(market.gate_closed(), area_id=AREA))])
    assert [codes(r.faults) for r in outcome.rejections] == [{"DUPLICATE_ID"}]
    late = intake.take([box.record(FSP_A, offer_of(2, AREA))])
    assert codes(late.rejections[0].faults) == {"GATE_CLOSED"}
    assert late.blocks == []


def test_a_fresh_intake_decides_as_the_one_before() -> None:
    box = Inbox()
    intake, blocks = opened(box)
    known = box.record(FSP_A, offer_of(1, AREA))
    blocks += intake.take([known]).blocks
    successor = fresh()
    for block in [*blocks, *blocks]:  # seen blocks are ignored
        successor.replay(block)
    ahead = [known, box.record(FSP_A, offer_of(2, AREA)), box.record(FSP_A, offer_of(2, AREA))]
    assert successor.take(ahead) == intake.take(ahead)


def test_a_gap_in_the_journal_is_an_error() -> None:
    box = Inbox()
    intake, blocks = opened(box)
    after = intake.take([box.record(FSP_A, offer_of(1, AREA))]).blocks[0]
    later = intake.take([box.record(FSP_A, offer_of(2, AREA))]).blocks[0]
    successor = fresh()
    successor.replay(blocks[0])
    with pytest.raises(ChainError, match="gap"):
        successor.replay(later)
    successor.replay(after)
    with pytest.raises(ChainError, match="changed"):
        successor.replay(replace(later, entries=after.entries))


def test_a_party_cannot_keep_a_services_fact_out_by_using_up_its_id() -> None:
    box = Inbox()
    intake, _ = opened(box)
    foretold = str(uuid4())
    squatter = intake.take([box.record(FSP_A, offer_of(1, AREA), foretold)])
    assert squatter.rejections == []
    fact = replace(market.gate_closed(), area_id=AREA)
    assert intake.take([box.record("scheduler", fact, foretold)]).rejections == []
    # but a party cannot take the id of a service's fact, nor of another party's event
    for party in (FSP_A, FSP_B):
        taken = intake.take([box.record(party, offer_of(9, AREA, party), foretold)])
        assert codes(taken.rejections[0].faults) == {"ID_REUSED", "GATE_CLOSED"}


def test_every_fault_of_the_envelope_is_listed() -> None:
    record = Inbox().record(
        FSP_A,
        offer_of(1, AREA),
        key=b"elsewhere",
        headers=(
            ("ce_id", b"7"),
            ("ce_id", b"8"),
            ("ce_type", b"GateOpened"),
            ("ce_subject", b"x"),
            ("ce_time", b"\xff"),
            ("ce_signature", b"short"),
            ("mine", None),
        ),
    )
    (rejection,) = fresh().take([record]).rejections
    paths = sorted(f.path for f in rejection.faults)
    assert paths == [
        "$.area_id",  # nobody has opened it
        "$headers.ce_id",
        "$headers.ce_id",
        "$headers.ce_signature",
        "$headers.ce_subject",
        "$headers.ce_time",
        "$headers.ce_type",
        "$key",
    ]
    assert rejection.original == record.value


@pytest.mark.parametrize("name", ["ce_id", "ce_onbehalfof", "ce_subject", "ce_time", "ce_type"])
def test_the_rejection_of_a_header_of_megabytes_fits_into_a_record(name: str) -> None:
    """Such a header is a few kilobytes on its way; a rejection that cannot be written would end the sequencer."""
    (rejection,) = fresh().take([Inbox().record(FSP_A, b"x", headers=((name, b"7" * 20_000_000),))]).rejections
    assert f"$headers.{name}" in {f.path for f in rejection.faults}
    assert len(codec.encode(rejection)) < 2_000


def test_faults_of_headers_content_sender_and_signature_are_listed_together() -> None:
    box = Inbox()
    intake, _ = opened(box)
    anothers = offer_of(1, AREA, FSP_B)
    unsound = replace(anothers, offer=replace(anothers.offer, revision=-1, slots=()))
    record = box.record(FSP_A, unsound, headers=(("ce_id", b"7"), ("ce_signature", b"short")))
    (rejection,) = intake.take([record]).rejections
    found = {(f.code.value, f.path) for f in rejection.faults}
    assert {
        ("BAD_HEADER", "$headers.ce_id"),
        ("BAD_HEADER", "$headers.ce_signature"),
        ("NOT_YOURS_OR_UNKNOWN", "$.offer.fsp_id"),
    } <= found
    assert {path for _, path in found} >= {"$.offer.revision", "$.offer.slots"}


def test_an_id_that_is_used_hides_no_other_fault() -> None:
    box = Inbox()
    intake, _ = opened(box)
    event_id = str(uuid4())
    assert intake.take([box.record(FSP_A, offer_of(1, AREA), event_id)]).rejections == []
    other = offer_of(2, AREA)
    (rejection,) = intake.take(
        [box.record(FSP_A, replace(other, offer=replace(other.offer, revision=-1)), event_id)]
    ).rejections
    assert {f.path for f in rejection.faults} == {"$headers.ce_id", "$.offer.revision"}


def test_json_that_was_not_translated_is_told_what_else_is_wrong_with_it() -> None:
    values = codec.to_json(offer_of(1, AREA))
    values["offer"].pop("start_ms")
    values["offer"]["power"] = 7
    (rejection,) = fresh().take([Inbox().record(FSP_A, json.dumps(values).encode())]).rejections
    assert codes(rejection.faults) == {"NOT_DECODABLE", "MISSING_FIELD", "UNKNOWN_FIELD"}


@pytest.mark.parametrize("where", ["name", "value"])
def test_half_a_surrogate_pair_in_json_is_told_in_text_that_can_be_written(where: str) -> None:
    values = codec.to_json(offer_of(1, AREA))
    values["offer"].update({"\ud800": 7} if where == "name" else {"offer_id": "a\ud800"})
    outcome = fresh().take([Inbox().record(FSP_A, json.dumps(values).encode())])
    written = [codec.decode(codec.encode(found)) for found in (*outcome.rejections, *outcome.receipts)]
    assert [found.area_id for found in written] == [AREA, AREA]
    (told,) = (f for f in written[0].faults if f.path.startswith("$.offer"))
    expected = {"name": ("UNKNOWN_FIELD", "unknown field: \\ud800"), "value": ("BAD_VALUE", "has half of a surrogate")}
    assert (told.code.value, told.message[:23]) == expected[where]


def test_a_check_that_needs_sound_content_is_spared_unsound_one() -> None:
    asked: list[Any] = []

    def admission(*given: Any) -> tuple[Fault, ...]:
        asked.append(given)
        return ()

    rules = replace(RULES, admission=admission)
    box = Inbox()
    unsound = replace(offer_of(1, AREA), offer=replace(offer_of(1, AREA).offer, slots=()))
    assert len(fresh(rules).take([box.record(FSP_A, unsound)]).rejections) == 1
    assert asked == []


def test_a_hundred_thousand_faults_stay_within_a_record() -> None:
    many = (Fault(code=FaultCode.BAD_PRICE, path="$" * 900, message="x" * 900),) * 100_000
    rules = Rules(content=lambda _: many, state=RULES.state, fold=RULES.fold, admission=RULES.admission)
    box = Inbox()
    outcome = fresh(rules).take([box.record(FSP_A, offer_of(n, AREA)) for n in range(3)])
    assert all(len(codec.encode(r)) < 4_000_000 for r in [*outcome.rejections, *outcome.receipts])
    assert len(outcome.receipts) == 3
    assert outcome.rejections[0].faults[-1].message == "there are more faults, which are not listed"


def test_a_check_that_breaks_costs_one_input_only() -> None:
    def breaks(event: Any) -> tuple[Fault, ...]:
        raise ZeroDivisionError("no")

    rules = Rules(content=breaks, state=RULES.state, fold=RULES.fold, admission=RULES.admission)
    (rejection,) = fresh(rules).take([Inbox().record(FMO, founding(AREA)[0][1])]).rejections
    assert "ZeroDivisionError" in rejection.faults[0].message


def test_unknown_areas_leave_nothing_behind() -> None:
    intake = fresh()
    box = Inbox()
    outcome = intake.take([box.record(FSP_A, offer_of(1, AREA))])
    assert len(outcome.rejections) == 1
    assert intake._areas == {}


def test_the_rejection_id_follows_from_the_position() -> None:
    record = Inbox().record(FSP_A, b"nonsense")
    first, again = (fresh().take([record]).rejections[0].rejection_id for _ in range(2))
    assert first == again
    assert UUID(first).version == 5


def test_services_get_no_receipts() -> None:
    box = Inbox()
    intake, _ = opened(box)
    outcome = intake.take([box.record("scheduler", ev.GateOpened(area_id=AREA, session_id="none", at_ms=0))])
    assert len(outcome.rejections) == 1
    assert outcome.receipts == []


def test_receipts_name_the_verdict() -> None:
    box = Inbox()
    intake, _ = opened(box)
    record = box.record(FSP_A, offer_of(1, AREA))
    (issued,) = intake.take([record, record, box.record(FSP_A, b"")]).receipts
    assert [r.verdict for r in issued.receipts] == [Verdict.ACCEPTED, Verdict.DUPLICATE, Verdict.REJECTED]


def test_a_service_may_say_more_than_a_party_and_its_word_is_a_block_of_its_own() -> None:
    box = Inbox()
    intake, _ = opened(box)
    long = cleared(AREA)
    long = replace(long, non_awards=tuple(replace(long.non_awards[0], text="x" * 1000) for _ in range(5000)))
    assert 1_000_000 < len(codec.encode(long)) < codec.MAX_SERVICE_EVENT_BYTES
    batch = [
        box.record(FSP_A, offer_of(1, AREA)),
        box.record("clearing", long),
        box.record(FSP_A, offer_of(2, AREA)),
        box.record(FSP_A, long),
    ]
    outcome = intake.take(batch)
    assert [[e.event_type for e in b.entries] for b in outcome.blocks] == [
        ["FlexOfferSubmitted"],
        ["MarketCleared"],
        ["FlexOfferSubmitted"],
    ]
    assert codes(outcome.rejections[0].faults) == {"TOO_LARGE"}
