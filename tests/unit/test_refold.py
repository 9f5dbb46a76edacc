"""Going through a journal again must catch what does not follow from it; each forgery is told as blocks."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from flexbus import codec
from flexbus import events as ev
from flexbus.journal import Block, Entry, next_block
from flexbus.views.fact import Emission, Fact, Job, emit
from streams.area import Stage
from streams.digest import state_digest
from streams.refold import AreaProof, refold
from tests import market
from tests.integration.core import FSP_A, founding, offer_of
from tests.unit.test_intake import AREA, Inbox, opened


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


def test_the_digest_sees_content_and_not_identity() -> None:
    assert state_digest({"a": {3, 1, 2}}) == state_digest({"a": {2, 3, 1}})
    assert state_digest(Clipped(["a"])) != state_digest(Clipped(["b"]))
    assert state_digest([1, [2]]) != state_digest([[1], 2])
    with pytest.raises(TypeError, match="no digest of object"):
        state_digest(object())
