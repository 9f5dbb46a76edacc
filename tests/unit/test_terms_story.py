"""What becomes of offers with terms of their own after the gate: lights, sums, orders, delivery, money."""

from dataclasses import replace
from typing import Any

from clearing import session as sessions
from clearing.session import Sessions
from flexbus import codec
from flexbus import events as ev
from flexbus.events import Colour, MarketPhase, ProcurementState
from flexbus.quantities import Direction, cents
from flexbus.validation import content_faults
from flexbus.views import activation, aggregation, congestion, settlement, traffic_light
from flexbus.views.fact import Job
from flexbus.views.payback import payback_w
from tests.story import (
    AREA,
    DAY,
    DUE,
    GATE_CLOSED,
    HOUR,
    SLOT,
    Story,
    award,
    baseline,
    begins,
    cleared,
    offer,
    only,
    opened,
    reading,
)
from tests.unit.test_snapshot import forecast, limited
from tests.unit.test_snapshot_terms import FEATURES, asked, offered

UP, DOWN = Direction.UP, Direction.DOWN
RIGID: dict[str, Any] = {"slots": [], "terms": FEATURES["start choice"][0]["terms"]}  # 200, 300 kW from slot 0, 1 or 2


def reactive(*quantities: int, price: int = 2_000) -> dict[str, Any]:
    steps = [[{"reactive_power_var": q, "price_milli_per_mvarh": price}] if q else [] for q in quantities]
    return {"slots": [], "terms": {"reactive": {"slots": [{"steps": s} for s in steps]}}}


def limit(slot: int, most: int | None, *, stops: bool = False, at: str = "p1") -> Any:
    return ev.CapacityLimitUnforeseen(
        area_id=AREA,
        limit_id=f"limit-{slot}",
        connection_point_id=at,
        start_ms=DAY + slot * SLOT,
        end_ms=DAY + (slot + 1) * SLOT,
        max_feed_in_w=most,
        stop_activations=stops,
        reason="works",
    )


# ---- lights and limits


def clipped(*told: Any) -> list[ev.FlexOfferClipped]:
    story = Story(traffic_light, traffic_light.TrafficLights())
    for event in (*opened(), *told):
        story.hear(event)
    return [e.event for e in story.hear(GATE_CLOSED) if isinstance(e.event, ev.FlexOfferClipped)]


def test_a_profile_keeps_the_starts_at_which_it_fits() -> None:
    # slot      0    1    2    3
    # allowed  500  250  500  500     starts 0 (300 in slot 1) and none other are lost
    stands = baseline("p1", 0, 0, 0, 0)
    (cut,) = clipped(stands, offered(**RIGID), limit(1, 250_000))
    assert cut.offered_w == (200_000, 300_000, 300_000, 300_000)
    assert cut.allowed_w == (0, 200_000, 300_000, 300_000)
    assert "2 of 3 starts are left" in cut.reason
    (cut,) = clipped(stands, offered(**RIGID), limit(1, 100_000))
    assert cut.allowed_w == (0, 0, 200_000, 300_000)
    (none,) = clipped(stands, offered(**RIGID), limit(1, 100_000), limit(3, 100_000))
    assert (none.allowed_w, none.offered_var) == ((0,) * 4, ())
    assert "0 of 3 starts" in none.reason


def facts(*told: Any, **product: Any) -> tuple[Any, ev.MarketCleared]:
    story = Story(sessions, Sessions())
    for event in (*opened(**product), limited(500_000), *told):
        story.hear(event)
    (job,) = story.hear(GATE_CLOSED)
    assert isinstance(job, Job)
    made = job.run(*job.arguments)
    for emission in made:
        assert content_faults(emission.event) == ()
        assert codec.decode(codec.encode(emission.event)) == emission.event
    return job.arguments[0], made[-1].event


def test_the_clearing_takes_a_profile_at_a_start_that_is_left_or_says_what_cut_it() -> None:
    need = forecast(-700_000, -800_000, -100_000, -100_000)
    stands = baseline("p1", 0, 0, 0, 0)
    _, free = facts(need, stands, offered(**RIGID))
    assert free.awards[0].start_ms == DAY
    _, cut = facts(need, stands, offered(**RIGID), limit(0, 100_000))
    assert all(a.start_ms > DAY for a in cut.awards)
    _, none = facts(need, stands, offered(**RIGID), limit(1, 100_000), limit(3, 100_000))
    assert none.awards == ()
    assert {n.reason.value for n in none.non_awards if n.offer_id == "o"} == {"CLIPPED"}


def test_reactive_power_is_cut_only_where_nothing_may_move() -> None:
    stands = baseline("p1", 0, 0, 0, 0)
    assert clipped(stands, offered(**reactive(5_000, 5_000, 0, 5_000)), limit(0, 0)) == []
    (cut,) = clipped(stands, offered(**reactive(5_000, 5_000, 0, 5_000)), limit(0, None, stops=True))
    assert (cut.offered_var, cut.allowed_var) == ((5_000, 5_000, 0, 5_000), (0, 5_000, 0, 5_000))
    assert (cut.offered_w, cut.allowed_w) == ((), ())
    red = ev.TrafficLightSet(
        area_id=AREA,
        light_id="light",
        revision=1,
        connection_point_id="p1",
        start_ms=DAY,
        end_ms=DAY + HOUR,
        colour=Colour.RED,
        reason="works",
    )
    (dark,) = clipped(offered(**reactive(5_000)), red)
    assert dark.allowed_var == (0,)
    assert "light" in dark.reason


# ---- sums and what goes up


def test_no_sum_contains_an_offer_that_stands_alone_and_none_goes_up() -> None:
    story = Story(aggregation, aggregation.Aggregates())
    plain = offer("plain", "p1")
    odd = [offered(n, **FEATURES[n][0]) for n in FEATURES if n != "plain"]
    (total,) = only(
        ev.OffersAggregated, story.tell(*opened(), plain, *odd, offered("q", **reactive(9_000)), GATE_CLOSED)
    )
    assert (total.power_w, total.offers, total.individual_offers) == ((100_000,) * 4, 1, len(odd) + 1)
    (upward,) = only(ev.AggregateOffered, story.tell(cleared()))
    assert [m.offer_id for m in upward.members] == ["plain"]


def test_where_all_stand_alone_the_sum_says_how_many() -> None:
    story = Story(aggregation, aggregation.Aggregates())
    (total,) = only(ev.OffersAggregated, story.tell(*opened(), offered(**RIGID), GATE_CLOSED))
    assert (total.power_w, total.offers, total.individual_offers) == ((0,) * 4, 0, 1)


def test_nothing_goes_up_from_an_auction_that_holds_power_ready() -> None:
    story = Story(aggregation, aggregation.Aggregates())
    told = (*opened(phase=MarketPhase.CAPACITY), offer("plain", "p1"), GATE_CLOSED, cleared())
    assert only(ev.AggregateOffered, story.tell(*told)) == []


# ---- reactive power and power held ready: paid as awarded


def q_award(name: str, *var: int, price: int = 3_333, at: str | None = "p1", fsp: str = "alpha") -> ev.ReactiveAward:
    return ev.ReactiveAward(
        award_id=f"award-{name}",
        offer_id=name,
        offer_revision=1,
        fsp_id=fsp,
        connection_point_id=at,
        portfolio_id=None,
        bus_id="n1",
        direction=UP,
        start_ms=DAY,
        resolution_s=900,
        reactive_power_var=var,
        price_milli_per_mvarh=(price,) * len(var),
    )


def held(name: str, *power_w: int, price: int = 7_777, fsp: str = "alpha") -> ev.Reservation:
    return ev.Reservation(
        award_id=f"award-{name}",
        offer_id=name,
        offer_revision=1,
        fsp_id=fsp,
        connection_point_id="p2",
        portfolio_id=None,
        bus_id="n2",
        direction=DOWN,
        start_ms=DAY,
        resolution_s=900,
        power_w=power_w,
        price_milli_per_mwh=(price,) * len(power_w),
    )


def settled(*told: Any) -> list[Any]:
    story = Story(settlement, settlement.Settlements())
    found = story.tell(*opened(), GATE_CLOSED, *told)
    return [e for e in found if isinstance(e, ev.SettlementComputed | ev.SettlementCorrected)]


def test_reactive_power_is_paid_as_awarded_and_adds_up_to_the_cent() -> None:
    market = replace(cleared(), reactive_awards=(q_award("q1", 1_234_567, 0, 1), q_award("q2", 999_999, price=-1)))
    (paper,) = settled(market, DUE)
    assert (paper.buyer_id, paper.fsp_id, paper.lines) == ("grid-dso", "alpha", ())
    assert [(h.award_id, h.start_ms, h.reactive_power_var, h.power_w) for h in paper.holdings] == [
        ("award-q1", DAY, 1_234_567, 0),
        ("award-q1", DAY + 2 * SLOT, 1, 0),
        ("award-q2", DAY, 999_999, 0),
    ]
    first, tiny, owed = paper.holdings
    assert first.remuneration_nano == 308_642 * 3_333  # 1,234,567 var over a quarter of an hour, varh rounded
    assert (tiny.remuneration_nano, owed.remuneration_nano) == (0, -250_000)
    assert [i.activation_id for i in paper.invoice] == ["award-q1", "award-q2"]
    assert paper.invoice[0].amount_cents == cents(308_642 * 3_333)
    assert paper.total_cents == sum(i.amount_cents for i in paper.invoice)
    assert content_faults(paper) == ()


def test_what_is_cleared_after_its_settlement_was_due_is_settled_then() -> None:
    market = replace(cleared(), reactive_awards=(q_award("q1", 1_234_567, 0, 1), q_award("q2", 999_999, price=-1)))
    (late,) = settled(DUE, market)
    assert [late] == settled(market, DUE)


def test_power_held_ready_is_paid_and_not_ordered() -> None:
    story = Story(activation, activation.Activations())
    market = replace(cleared(), reservations=(held("r", 2_000_000, 1_000_000), held("b", 5, fsp="beta")))
    assert only(ev.ActivationOrdered, story.tell(*opened(), GATE_CLOSED, market, begins(0), begins(1))) == []
    papers = settled(market, DUE)
    assert {p.fsp_id: p.total_cents for p in papers} == {"alpha": cents(750_000 * 7_777), "beta": 0}


def test_a_stop_ends_what_is_held_and_a_later_one_corrects_the_settlement() -> None:
    market = replace(cleared(), reactive_awards=(q_award("q", *(4_000_000,) * 4),))
    (paper,) = settled(market, limit(1, None, stops=True), DUE)
    assert [h.start_ms for h in paper.holdings] == [DAY, DAY + 2 * SLOT, DAY + 3 * SLOT]
    computed, corrected = settled(market, DUE, limit(1, None, stops=True))
    assert len(computed.holdings) == 4
    assert corrected.holdings == paper.holdings
    assert corrected.difference_cents == paper.total_cents - computed.total_cents < 0
    assert corrected.causes == ("limit limit-1",)
    # a limit elsewhere, or one that stops nothing, changes nothing
    assert len(settled(market, DUE, limit(1, None, stops=True, at="p2"), limit(2, 5))) == 1


def test_orders_and_reactive_power_of_one_provider_stand_on_one_paper() -> None:
    market = replace(cleared(award("p", "p1", (100_000,) * 4)), reactive_awards=(q_award("q", 8_000_000),))
    told = (baseline("p1", 0, 0, 0, 0), market, reading("p1", *(25_000,) * 4), DUE)
    story = Story(settlement, settlement.Settlements())
    orders = Story(activation, activation.Activations())
    ordered = only(ev.ActivationOrdered, orders.tell(*opened(), GATE_CLOSED, market, *map(begins, range(4))))
    found = story.tell(*opened(), told[0], GATE_CLOSED, market, *ordered, *told[2:])
    (paper,) = only(ev.SettlementComputed, found)
    assert len(paper.lines) == 4
    assert [i.amount_cents for i in paper.invoice] == [600, cents(2_000_000 * 3_333)]
    assert paper.total_cents == sum(i.amount_cents for i in paper.invoice)


# ---- payback


def test_the_payback_of_an_award_is_no_missing_delivery() -> None:
    terms = ev.AwardTerms(
        award_id="award-heat", payback=ev.Payback(factor_ppm=1_000_000, delay_slots=0, window_slots=2)
    )
    heat = award("heat", "p1", (200_000, 0, 100_000))
    market = replace(cleared(heat), award_terms=(terms,))
    orders = Story(activation, activation.Activations())
    ordered = only(ev.ActivationOrdered, orders.tell(*opened(), GATE_CLOSED, market, *map(begins, range(4))))
    # owed kW          200     0   100     0
    # comes back         0   100   100    50     and the meter shows the difference
    shown = reading("p1", 50_000, -25_000, 0, -12_500)

    def delivered(*events: Any) -> dict[int, tuple[tuple[int | None, ...], tuple[int, ...], tuple[int, ...]]]:
        story = Story(settlement, settlement.Settlements())
        found = story.tell(*opened(), baseline("p1", 0, 0, 0, 0), GATE_CLOSED, *events)
        rows = only(ev.DeliveryComputed, found)
        return {(r.start_ms - DAY) // SLOT: (r.baseline_wh, r.delivered_wh, r.shortfall_wh) for r in rows}

    assert delivered(market, *ordered, shown, DUE) == {
        0: ((0,), (50_000,), (0,)),
        2: ((-25_000,), (25_000,), (0,)),
    }
    plain = cleared(heat)
    assert delivered(plain, *ordered, shown, DUE)[2] == ((0,), (0,), (25_000,))
    # what was refused does not come back
    refused = ev.ActivationRefused(
        area_id=AREA, activation_id=ordered[0].activation_id, fsp_id="alpha", reason="defect"
    )
    assert delivered(market, *ordered, refused, shown, DUE)[2][0] == (0,)


def test_a_payback_is_spread_and_rounded_once_per_slot() -> None:
    even = ev.Payback(factor_ppm=500_000, delay_slots=1, window_slots=2)
    assert payback_w((100, 0, 50), even) == [0, 0, 25, 25, 13, 13]
    assert payback_w((1,), ev.Payback(factor_ppm=1_000_000, window_slots=3)) == [0, 0, 0, 0]
    assert payback_w((), even) == [0, 0, 0]


# ---- procurement


def test_the_procurement_of_reactive_power_is_told_in_var() -> None:
    steps = [{"reactive_power_var": 40_000, "price_milli_per_mvarh": 9_000}]
    wish = asked(
        requester_id="grid-dso", reactive_slots=[{"steps": steps}, {"steps": steps}], causes=["MANUAL"], reason="x"
    )
    outcome = ev.ReactiveOutcome(
        request_id="r", requester_id="grid-dso", requested_var=(40_000,) * 2, matched_var=(40_000, 0), reason="dear"
    )
    story = Story(congestion, congestion.Congestion())
    found = story.tell(*opened(), wish, GATE_CLOSED, replace(cleared(), reactive_requests=(outcome,)))
    known, part = only(ev.ProcurementStatusChanged, found)
    assert (known.needed_var, known.needed_w, known.procured_var) == ((40_000,) * 2, (), (0, 0))
    assert (part.state, part.procured_var) == (ProcurementState.PART_PROCURED, (40_000, 0))
    assert (part.remaining_var, part.remaining_w) == ((0, 40_000), ())
    (expired,) = only(ev.FlexRequestExpired, found)
    assert (expired.remaining_var, expired.remaining_w, expired.reason) == ((0, 40_000), (), "dear")


# ---- power held ready


def test_a_capacity_auction_holds_ready_and_awards_nothing() -> None:
    up, down = offer("up", "p1"), offer("down", "p2", ((80_000, 30_000),), fsp="beta", direction=DOWN)
    wishes = [
        asked(
            request_id=way,
            direction=way,
            location_kind="AREA",
            location_id=AREA,
            start_ms=DAY,
            power_w=[50_000, 0, 50_000, 50_000],
            max_price_milli_per_mwh=200_000,
        )
        for way in ("UP", "DOWN")
    ]
    calm = forecast(*(-1_000,) * 4)
    _, market = facts(calm, up, down, *wishes, phase=MarketPhase.CAPACITY)
    assert (market.awards, market.reactive_awards) == ((), ())
    assert {(r.offer_id, r.direction, r.power_w) for r in market.reservations} == {
        ("up", UP, (50_000, 0, 50_000, 50_000)),
        ("down", DOWN, (50_000, 0, 50_000, 50_000)),
    }
    assert len(market.slots) == 4
    assert [(s.up_w, s.down_w) for s in market.slots] == [(50_000, 50_000), (0, 0), (50_000, 50_000), (50_000, 50_000)]
    assert {r.request_id: r.matched_w for r in market.requests} == {
        "UP": (50_000, 0, 50_000, 50_000),
        "DOWN": (50_000, 0, 50_000, 50_000),
    }
    assert market.cost_nano == sum(s.cost_nano for s in market.slots) > 0
    # what is held is paid by the same number
    papers = settled(market, DUE)
    lines = [h.remuneration_nano for p in papers for h in p.holdings]
    assert sum(lines) == market.cost_nano


def test_a_stochastic_auction_reserves_for_the_scenarios_of_the_forecast() -> None:
    peak = ev.BusInjection(bus_id="n1", power_w=(-700_000,) * 4, reactive_power_var=(0,) * 4)
    ways = (
        ev.ForecastScenario(scenario_id="calm", probability_ppm=750_000),
        ev.ForecastScenario(scenario_id="peak", probability_ppm=250_000, injections=(peak,)),
    )
    seen = forecast(*(-100_000,) * 4, scenarios=ways)
    priced = offered("o", terms={"reservation_price_milli_per_mwh": [1_000, 2_000, 3_000, 4_000]})
    _, market = facts(seen, priced, phase=MarketPhase.STOCHASTIC)
    assert market.awards == ()
    (reserved,) = market.reservations
    assert len(reserved.power_w) == 4
    assert all(200_000 <= w <= 230_000 for w in reserved.power_w)
    assert all(
        paid >= bid for paid, bid in zip(reserved.price_milli_per_mwh, (1_000, 2_000, 3_000, 4_000), strict=True)
    )
    assert len(market.slots) == 4  # one entry per slot of the day, of all scenarios
    # a product of another phase does not see the scenarios: the forecast is what is cleared
    _, plain = facts(seen, offered("o"))
    assert (plain.awards, plain.reservations) == ((), ())


def test_a_forecast_without_scenarios_is_certain() -> None:
    _, market = facts(forecast(), offered("o"), phase=MarketPhase.STOCHASTIC)
    (reserved,) = market.reservations
    assert max(reserved.power_w) > 400_000
