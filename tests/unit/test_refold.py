"""Going through a journal again must catch what does not follow from it; each forgery is told as blocks."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

import pytest

from flexbus import codec
from flexbus import events as ev
from flexbus.journal import Block, Entry, next_block
from flexbus.views import agenda
from flexbus.views.fact import Emission, Fact, Job, emit
from streams import figures
from streams.area import Stage
from streams.digest import state_digest
from streams.refold import AreaProof, refold
from streams.scheduler import VIEW as SCHEDULER
from tests import market
from tests.integration.core import FMO, FSP_A, founding, in_area, offer_of
from tests.unit.test_intake import AREA, Inbox, fresh, opened


@dataclass
class Clipped:
    offers: list[str] = field(default_factory=list)


def fold(state: Clipped, fact: Fact) -> Clipped:
    if isinstance(fact.event, ev.FlexOfferSubmitted):
        state.offers.append(fact.event.offer.offer_id)
    return state


def clip(area: str, offer_id: str) -> ev.FlexOfferClipped:
    return ev.FlexOfferClipped(
        area_id=area,
        offer_id=offer_id,
        revision=1,
        fsp_id=FSP_A,
        start_ms=market.START,
        resolution_s=900,
        offered_w=(2,),
        allowed_w=(1,),
        causes=(),
        reason="test",
    )


def run(area: str, offer_id: str) -> tuple[Emission, ...]:
    return (emit(clip(area, offer_id), "job", offer_id),)


def decide(state: Clipped, fact: Fact) -> tuple[Emission | Job, ...]:
    match fact.event:
        case ev.FlexOfferSubmitted(offer=offer):
            return (emit(clip(AREA, offer.offer_id), offer.offer_id),)
        case ev.GateClosed():
            (result,) = run(AREA, "last")
            return (Job(job_id=result.event_id, run=run, arguments=(AREA, "last")),)
        case _:
            return ()


STAGE = Stage(
    service="traffic_light",
    new_state=Clipped,
    fold=fold,
    decide=decide,
    outputs=frozenset({"FlexOfferClipped"}),
)


def told() -> tuple[list[Block], list[Emission]]:
    """A journal with two offers, the gate closed, and the three facts that follow; and those facts."""
    box = Inbox()
    intake, blocks = opened(box)
    blocks += intake.take([box.record(FSP_A, offer_of(n, AREA)) for n in (1, 2)]).blocks
    blocks += intake.take([box.record("scheduler", replace(market.gate_closed(), area_id=AREA))]).blocks
    due = [emit(clip(AREA, f"fsp-a-{n}"), f"fsp-a-{n}") for n in (1, 2)] + list(run(AREA, "last"))
    blocks += intake.take([box.record("traffic_light", d.event, d.event_id) for d in due]).blocks
    return blocks, due


def again(blocks: list[Block]) -> AreaProof:
    return refold(AREA, blocks, {"traffic_light": STAGE})


def rechained(blocks: list[Block], change: Any) -> list[Block]:
    """The journal with its entries changed and every hash made right again: a forger with the key to the topic."""
    made: list[Block] = []
    for block in blocks:
        head = (made[-1].number, made[-1].hash) if made else None
        made.append(next_block(AREA, head, tuple(change(block.entries))))
    return made


def test_an_honest_journal_is_proven() -> None:
    blocks, _ = told()
    proof = again(blocks)
    assert proof.findings == ()
    (view,) = proof.views
    assert (view.facts, view.computed, view.owed) == (3, 1, ())
    assert (proof.blocks, proof.entries, proof.head) == (len(blocks), len(founding(AREA)) + 6, blocks[-1].hash.hex())
    assert again(blocks) == proof


def test_a_changed_payload_breaks_the_chain() -> None:
    blocks, _ = told()
    entry = blocks[1].entries[0]
    blocks[1] = replace(
        blocks[1], entries=(replace(entry, received_at_ms=entry.received_at_ms + 1), *blocks[1].entries[1:])
    )
    (finding,) = again(blocks).findings
    assert (finding.check, finding.place) == ("chain", "block 1")


def test_a_block_taken_out_breaks_the_chain() -> None:
    blocks, _ = told()
    assert "gap" in again([*blocks[:1], *blocks[2:]]).findings[0].message


@pytest.mark.parametrize("which", [0, 2], ids=["derived", "computed"])
def test_a_fact_that_comes_out_differently_is_found(which: int) -> None:
    blocks, due = told()

    def change(entries: tuple[Entry, ...]) -> Iterator[Entry]:
        for entry in entries:
            if entry.event_id == due[which].event_id:
                entry = replace(entry, payload=codec.encode(replace(due[which].event, allowed_w=(0,))))
            yield entry

    (finding,) = again(rechained(blocks, change)).findings
    assert finding.check == "view traffic_light"
    assert "comes out differently: field allowed_w" in finding.message


def test_a_fact_that_follows_from_nothing_is_found() -> None:
    blocks, due = told()

    def change(entries: tuple[Entry, ...]) -> Iterator[Entry]:
        for entry in entries:
            yield entry
            if entry.event_id == due[0].event_id:
                yield replace(
                    entry, event_id=emit(clip(AREA, "x"), "x").event_id, payload=codec.encode(clip(AREA, "x"))
                )

    (finding,) = again(rechained(blocks, change)).findings
    assert "does not follow" in finding.message


def test_a_missing_fact_is_owed() -> None:
    blocks, due = told()
    proof = again(rechained(blocks, lambda entries: [e for e in entries if e.event_id != due[1].event_id]))
    assert proof.views[0].owed == (due[1].event_id,)


def test_a_doubled_entry_and_an_inadmissible_one_are_found() -> None:
    blocks, _ = told()

    def change(entries: tuple[Entry, ...]) -> Iterator[Entry]:
        for entry in entries:
            yield entry
            if entry.event_type == "FlexOfferSubmitted":
                yield entry

    checks = [f.check for f in again(rechained(blocks, change)).findings]
    assert sorted(set(checks)) == ["admission", "once"]
    assert checks.count("once") == 2


def test_a_computation_that_fails_is_a_finding() -> None:
    blocks, _ = told()
    failing = replace(STAGE, decide=lambda state, fact: tuple(_failing(w) for w in decide(state, fact)))
    messages = [f.message for f in refold(AREA, blocks, {"traffic_light": failing}).findings]
    assert any("ZeroDivisionError" in m for m in messages)


def _failing(what: Emission | Job) -> Emission | Job:
    return replace(what, run=_divide) if isinstance(what, Job) else what


def _divide(*_: Any) -> tuple[Emission, ...]:
    raise ZeroDivisionError("no solution")


LATE = "late"  # a session that is scheduled after the first slot of the other has begun, its gate to open long before


def clock_told() -> tuple[list[Block], list[Emission]]:
    """A journal with two sessions and what the scheduler says up to the third slot of the first; and those facts."""
    box = Inbox()
    intake = fresh()
    *history, (_, opened_gate) = founding(AREA)
    blocks = intake.take([box.record(sender, event) for sender, event in history]).blocks
    day = planned(market.session())
    late = planned(market.session(LATE))
    assert day[0].event == opened_gate
    steps = [("scheduler", d) for d in day[:3]]
    steps.append((FMO, Emission(event_id=str(uuid4()), event=in_area(market.session(LATE), AREA))))
    steps += [("scheduler", d) for d in (day[3], *late[:4], day[4])]
    for sender, step in steps:
        outcome = intake.take([box.record(sender, step.event, step.event_id)])
        assert outcome.rejections == []
        blocks += outcome.blocks
    return blocks, [d for sender, d in steps if sender == "scheduler"]


def planned(session: ev.MarketSessionScheduled) -> list[Emission]:
    state = agenda.Agenda({session.product_id: market.product().resolution_s})
    fact = Fact(
        event=in_area(session, AREA),
        event_id="s",
        sender_id=FMO,
        on_behalf_of=None,
        received_at_ms=0,
        block=0,
        index=0,
    )
    return [e.emission for e in agenda.fold(state, fact).open.values()]


def clock_again(blocks: list[Block]) -> AreaProof:
    return refold(AREA, blocks, {"scheduler": SCHEDULER})


def clock_findings(blocks: list[Block]) -> list[str]:
    return [f.message for f in clock_again(blocks).findings if f.check == "view scheduler"]


def test_what_the_scheduler_said_follows_from_the_sessions() -> None:
    """Also where a session is scheduled late, and what it missed is made up for after later things."""
    blocks, said = clock_told()
    proof = clock_again(blocks)
    assert proof.findings == ()
    third_slot = planned(market.session(LATE))[4]  # at the instant of the last word, and not told yet
    assert (proof.views[0].facts, proof.views[0].owed) == (len(said), (third_slot.event_id,))


@pytest.mark.parametrize("change", ["id", "content", "before its session"])
def test_a_forged_fact_of_the_scheduler_is_found(change: str) -> None:
    blocks, said = clock_told()
    third = said[2]  # DeliveryStarted of the first slot

    def forged(entries: tuple[Entry, ...]) -> Iterator[Entry]:
        for entry in entries:
            if entry.event_id == third.event_id and change == "id":
                entry = replace(entry, event_id=str(uuid4()))
            elif entry.event_id == third.event_id and change == "content":
                entry = replace(entry, payload=codec.encode(replace(third.event, end_ms=third.event.end_ms + 1)))
            yield entry

    if change == "before its session":
        index = next(i for i, b in enumerate(blocks) if b.entries[0].event_id == said[4].event_id)
        order = [*blocks[: index - 2], blocks[index], *blocks[index - 2 : index], *blocks[index + 1 :]]
        messages = clock_findings(rechained(order, lambda entries: entries))
        assert any(said[4].event_id in m and "does not follow from what precedes it" in m for m in messages)
        return
    first, *more = clock_findings(rechained(blocks, forged))
    if change == "id":
        assert "does not follow from what precedes it" in first
        assert len(more) == 1  # and the true one is missing
        assert f"{third.event_id} of session DA was due before DeliveryStarted, and is missing" in more[0]
    else:
        assert "comes out differently: field end_ms" in first
        assert more == []


def test_what_the_scheduler_left_out_is_found_by_what_it_said_later() -> None:
    blocks, said = clock_told()
    for gone in said[:-1]:
        left = rechained(blocks, lambda entries, gone=gone: [e for e in entries if e.event_id != gone.event_id])
        assert any(gone.event_id in m and m.endswith("and is missing") for m in clock_findings(left)), gone
    assert clock_findings(rechained(blocks, lambda e: [x for x in e if x.event_id != said[-1].event_id])) == []


def test_slots_of_a_session_in_the_wrong_order_are_found() -> None:
    blocks, _ = clock_told()
    one, other = len(blocks) - 6, len(blocks) - 1  # the second and the third slot
    blocks[one], blocks[other] = blocks[other], blocks[one]
    (message,) = clock_findings(rechained(blocks, lambda entries: entries))
    assert "was due before DeliveryStarted in block" in message


def test_a_view_without_facts_of_its_own_is_folded_for_its_digest() -> None:
    blocks, _ = told()
    proof = refold(AREA, blocks, {"figures": figures.VIEW})
    (view,) = proof.views
    assert (view.facts, view.owed, proof.findings) == (0, (), ())
    submitted = replace(market.request("r1"), session_id=market.SESSION)
    box = Inbox()
    intake, more = opened(box)
    more += intake.take([box.record(market.DSO, ev.FlexRequestSubmitted(area_id=AREA, request=submitted))]).blocks
    assert refold(AREA, more, {"figures": figures.VIEW}).views[0].digest != view.digest


def test_the_digest_sees_content_and_not_identity() -> None:
    assert state_digest({"a": {3, 1, 2}}) == state_digest({"a": {2, 3, 1}})
    assert state_digest(Clipped(["a"])) != state_digest(Clipped(["b"]))
    assert state_digest([1, [2]]) != state_digest([[1], 2])
    with pytest.raises(TypeError, match="no digest of object"):
        state_digest(object())
