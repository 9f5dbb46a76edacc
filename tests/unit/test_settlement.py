"""Settlement: computed, corrected, approved, disputed; every cent accounted for (BeFlexible SUC06.3)."""

from typing import Any
from uuid import UUID

from flexbus import codec
from flexbus import events as ev
from flexbus.quantities import NANO_PER_CENT
from flexbus.views import settlement
from flexbus.views.settlement import Settlements, SettlementState, line_of
from tests.story import (
    AREA,
    DAY,
    DUE,
    GATE_CLOSED,
    SLOT,
    Story,
    award,
    baseline,
    begins,
    cleared,
    only,
    opened,
    ordered,
    product,
    reading,
    session,
)

ZERO = (0, 0, 0, 0)


def story(*orders: Any, **rates: Any) -> Story:
    told = Story(settlement, Settlements())
    told.tell(*opened(**rates), baseline("p1", *ZERO), baseline("p2", *ZERO), baseline("p3", *ZERO), GATE_CLOSED)
    told.tell(*orders)
    return told


def test_deliveries_come_first_then_one_settlement_per_buyer_and_provider() -> None:
    told = story(
        ordered("a", "p1", 4_000_000, 4_000_000),
        ordered("b", "p3", 4_000_000, orderer_id="tso"),
        ordered("c", "p2", 4_000_000, fsp_id="beta"),
    )
    told.tell(reading("p1", 1_000_000, 950_000), reading("p2", 1_000_000), reading("p3", 0))
    followed = told.tell(DUE)
    assert [type(e).__name__ for e in followed] == ["DeliveryComputed"] * 3 + ["SettlementComputed"] * 3
    assert [(e.buyer_id, e.fsp_id) for e in followed[3:]] == [
        ("grid-dso", "alpha"),
        ("grid-dso", "beta"),
        ("tso", "alpha"),
    ]
    # a: 1 MWh + 0.95 MWh at 60 EUR; the 5 % shortfall is within the tolerance of 10 %
    first = followed[3]
    assert (first.total_cents, first.revision) == (6000 + 5700, 1)
    # b: nothing of 1 MWh; 10 % tolerated, 0.9 MWh x 60 EUR x 50 % penalty
    (line,) = followed[5].invoice
    assert (line.remuneration_cents, line.penalty_cents, line.amount_cents) == (0, 2700, -2700)
    assert followed[5].total_cents == -2700


def test_the_invoice_is_rounded_once_per_order_and_adds_up() -> None:
    #  1 Wh x 60 000 = 60 000 nano per slot: four slots are 0.024 cents, not four times nothing
    told = story(*(ordered(n, "p1", 4, 4, 4, 4) for n in ("a", "b")))
    told.tell(reading("p1", 2, 2, 2, 2))
    computed = only(ev.SettlementComputed, told.tell(DUE))[0]
    assert sum(line.remuneration_nano for line in computed.lines) == 8 * 60_000
    assert [line.amount_cents for line in computed.invoice] == [0, 0]
    assert computed.total_cents == sum(line.amount_cents for line in computed.invoice)


def test_over_delivery_is_not_paid() -> None:
    line = line_of(ordered("a", "p1", 400), 0, 100, 130, product())
    assert (line.delivered_wh, line.paid_wh, line.penalised_wh) == (130, 100, 0)


def test_a_provider_that_pays_for_being_lowered_still_loses_by_missing() -> None:
    order = ordered("a", "p1", 4000, price_milli_per_mwh=(-20_000,))
    line = line_of(order, 0, 1000, 400, product())
    assert line.remuneration_nano == -400 * 20_000
    assert (line.penalised_wh, line.penalty_nano) == (500, 500 * 20_000 // 2)


def test_a_refused_order_is_penalised_and_a_stopped_slot_is_not_even_a_line() -> None:
    told = story(ordered("a", "p1", 4000), ordered("b", "p3", 4000, 4000))
    told.tell(
        ev.ActivationRefused(area_id=AREA, activation_id="a", fsp_id="alpha", reason="broken"),
        ev.ActivationStopped(
            area_id=AREA, activation_id="b", fsp_id="alpha", from_ms=0, until_ms=DUE.at_ms, cause="x", reason=""
        ),
        reading("p1", 1000),
        reading("p3", 0, 0),
    )
    (computed,) = only(ev.SettlementComputed, told.tell(DUE))
    (line,) = computed.lines
    assert (line.activation_id, line.paid_wh, line.penalised_wh) == ("a", 0, 900)


def test_a_late_reading_corrects_what_it_changes_and_nothing_else() -> None:
    told = story(ordered("a", "p1", 4_000_000), ordered("c", "p2", 4_000_000, fsp_id="beta"))
    told.tell(reading("p1", 500_000), reading("p2", 1_000_000))
    first = only(ev.SettlementComputed, told.tell(DUE))[0]
    assert told.tell(reading("p2", 1_000_000, revision=2)) == []  # a new revision, the same numbers
    delivered, corrected = told.tell(reading("p1", 1_000_000, revision=2))
    assert (delivered.activation_id, delivered.revision, delivered.delivered_wh) == ("a", 2, (1_000_000,))
    assert isinstance(corrected, ev.SettlementCorrected)
    assert (corrected.settlement_id, corrected.revision) == (first.settlement_id, 2)
    assert (first.total_cents, corrected.total_cents) == (3000 - 1200, 6000)
    assert corrected.difference_cents == 4200
    assert corrected.causes == ("reading-p1 revision 2",)
    assert told.state.settlements[first.settlement_id].difference_cents == 4200


def test_over_delivery_in_a_late_reading_is_a_new_delivery_and_a_correction_of_nothing() -> None:
    told = story(ordered("a", "p1", 4000))
    told.tell(reading("p1", 1000), DUE)
    delivered, corrected = told.tell(reading("p1", 1200, revision=2))
    assert delivered.delivered_wh == (1200,)
    assert corrected.difference_cents == 0


def test_two_late_readings_before_the_first_correction_is_in_the_journal() -> None:
    told = story(ordered("a", "p1", 4_000_000), ordered("b", "p3", 4_000_000))
    told.tell(DUE)
    first = told.hear(reading("p1", 1_000_000))
    second = told.hear(reading("p3", 1_000_000))
    assert [e.event.revision for e in (first[-1], second[-1])] == [2, 3]
    assert [e.event.difference_cents for e in (first[-1], second[-1])] == [8700, 8700]
    told.tell(*(e.event for e in (*first, *second)))
    (kept,) = told.state.settlements.values()
    assert (kept.newest.revision, kept.newest.total_cents) == (3, 12000)


def test_an_order_after_the_due_date_joins_the_settlement() -> None:
    told = story(ordered("a", "p1", 4000), DUE)
    delivered, corrected = told.tell(ordered("b", "p3", 4000))
    assert (delivered.activation_id, corrected.revision, len(corrected.lines)) == ("b", 2, 2)


def test_approval_and_dispute_hold_for_their_revision_only() -> None:
    told = story(ordered("a", "p1", 4_000_000))
    (computed,) = only(ev.SettlementComputed, told.tell(reading("p1", 500_000), DUE))
    name = computed.settlement_id

    def approved(revision: int) -> ev.SettlementApproved:
        return ev.SettlementApproved(area_id=AREA, settlement_id=name, revision=revision, buyer_id="grid-dso")

    disputed = ev.SettlementDisputed(
        area_id=AREA, settlement_id=name, revision=1, party_id="alpha", reason="the meter was replaced"
    )
    told.tell(disputed)
    kept = told.state.settlements[name]
    assert (kept.state, kept.dispute) == (SettlementState.DISPUTED, disputed)
    told.tell(reading("p1", 1_000_000, revision=2), approved(1))
    assert told.state.settlements[name].state is SettlementState.COMPUTED
    told.tell(approved(2))
    assert told.state.settlements[name].state is SettlementState.APPROVED


def test_from_clearing_to_settlement() -> None:
    told = story()
    told.tell(cleared(award("a", "p1", (4_000_000, 4_000_000, 0, 0), price=60_001)))
    order = told.state.evidence.activations.due[0].event
    told.tell(order, begins(0), begins(1), reading("p1", 1_000_000, 1_000_000))
    (computed,) = only(ev.SettlementComputed, told.tell(DUE))
    assert sum(line.remuneration_nano for line in computed.lines) == 2 * 1_000_000 * 60_001
    assert computed.total_cents == round(2 * 1_000_000 * 60_001 / NANO_PER_CENT)


def test_more_orders_than_one_record_holds_are_settled_in_several() -> None:
    count = 700  # of 96 slots, 7 MB of lines
    day = session(delivery_end_ms=DAY + 96 * SLOT)
    told = Story(settlement, Settlements())
    told.tell(*(day if type(e) is ev.MarketSessionScheduled else e for e in opened()))
    told.tell(baseline("p3", *(0,) * 96), GATE_CLOSED)
    names = [str(UUID(int=number)) for number in range(count)]
    told.tell(*(ordered(name, "p3" if name == names[3] else "p1", *(4_000,) * 96) for name in names))
    papers = only(ev.SettlementComputed, told.tell(DUE))
    assert len(papers) > 1
    assert all(len(codec.encode(paper)) <= codec.MAX_SERVICE_EVENT_BYTES for paper in papers)
    assert sorted(row.activation_id for paper in papers for row in paper.invoice) == names
    assert len({paper.settlement_id for paper in papers}) == len(papers)
    (mine,) = [paper for paper in papers if names[3] in {row.activation_id for row in paper.invoice}]
    (corrected,) = only(ev.SettlementCorrected, told.tell(reading("p3", 1_000)))
    assert (corrected.settlement_id, corrected.revision) == (mine.settlement_id, 2)
    assert [row.activation_id for row in corrected.invoice] == [row.activation_id for row in mine.invoice]
