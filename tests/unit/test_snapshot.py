"""From the journal to a case, and from its result back to facts."""

import pickle
from dataclasses import replace
from typing import Any

import pytest

from clearing import session as sessions
from clearing.case import BusShare, Case, LimitPrice, Location, RequestKind
from clearing.facts import facts_of_result
from clearing.left_out import LeftOut
from clearing.outcomes import outcomes
from clearing.pipeline import clear
from clearing.result import Shortfall
from clearing.session import Sessions
from clearing.translation import case_of
from flexbus import codec
from flexbus import events as ev
from flexbus.events import AssetKind, LimitKind, LocationKind, NonAwardReason, SlotStatus
from flexbus.quantities import Direction
from flexbus.validation import content_faults
from flexbus.views.fact import Emission, Job
from tests.story import (
    AREA,
    DAY,
    GATE_CLOSED,
    HOUR,
    NETWORK,
    SLOT,
    Story,
    award,
    cleared,
    offer,
    opened,
    session,
)

UP, DOWN = Direction.UP, Direction.DOWN


def forecast(*power_w: int, at: str = "n1", **changes: Any) -> ev.NetForecastPublished:
    values: dict[str, Any] = {"start_ms": DAY, "resolution_s": 900, "network_id": "grid"}
    power_w = power_w or (-1_000_000,) * 4
    return ev.NetForecastPublished(
        area_id=AREA,
        forecast_id="forecast",
        revision=1,
        issued_at_ms=0,
        injections=(ev.BusInjection(bus_id=at, power_w=power_w, reactive_power_var=(0,) * len(power_w)),),
        **(values | changes),
    )


def request(name: str, **changes: Any) -> ev.FlexRequestSubmitted:
    values: dict[str, Any] = {
        "requester_id": "grid-dso",
        "direction": UP,
        "location_kind": LocationKind.INFEED_POINT,
        "location_id": "up-a",
        "start_ms": DAY,
        "power_w": (100_000,) * 4,
        "max_price_milli_per_mwh": 300_000,
        "causes": ("MANUAL",),
        "resolution_s": 900,
    }
    filled = ev.FlexRequest(request_id=name, revision=1, session_id="s1", **(values | changes))
    return ev.FlexRequestSubmitted(area_id=AREA, request=filled)


def limited(import_w: int | None) -> ev.NetworkModelPublished:
    point = replace(NETWORK.infeed_points[0], max_import_w=import_w)
    return replace(NETWORK, revision=2, infeed_points=(point, NETWORK.infeed_points[1]))


def due(*told: Any, **product: Any) -> tuple[Emission | Job, ...]:
    story = Story(sessions, Sessions())
    for event in (*opened(**product), *told):
        story.hear(event)
    return story.hear(GATE_CLOSED)


def case(*told: Any, **product: Any) -> Case:
    (job,) = due(forecast(), *told, **product)
    assert isinstance(job, Job)
    return case_of(job.arguments[0])


def facts(*told: Any, **product: Any) -> list[Any]:
    (job,) = due(forecast(), *told, **product)
    assert isinstance(job, Job)
    made = job.run(*pickle.loads(pickle.dumps(job)).arguments)
    assert made[-1].event_id == job.job_id
    return [e.event for e in made]


def test_the_case_is_what_stood_before_the_gate() -> None:
    made = case(offer("b", "p2", ((10_000, 1_000), (5_000, 2_000)), fsp="beta", slots=2), offer("a", "p3"))
    assert [(o.offer_id, o.bus_id, o.provider_id) for o in made.offers] == [("a", "n3", "alpha"), ("b", "n2", "beta")]
    assert [tuple((s.quantity, s.price_milli_per_mwh) for s in x.steps) for x in made.offers[1].slots] == [
        ((10_000, 1_000), (5_000, 2_000)),
        ((10_000, 1_000), (5_000, 2_000)),
        (),
        (),
    ]
    assert (made.start_ms, made.slots, made.resolution_s) == (DAY, 4, 900)
    assert made.baseline == (ev.BusInjection(bus_id="n1", power_w=(-1_000_000,) * 4, reactive_power_var=(0,) * 4),)


def test_the_order_in_which_events_came_does_not_matter() -> None:
    a, b, c = offer("a", "p1"), offer("b", "p3"), request("r")
    assert case(a, b, c) == case(c, b, a)


def test_lights_and_limits_cap_offers_as_the_traffic_light_tells_providers() -> None:
    limit = ev.CapacityLimitForeseen(
        area_id=AREA,
        limit_id="limit",
        revision=1,
        connection_point_id="p1",
        start_ms=DAY + SLOT,
        end_ms=DAY + 2 * SLOT,
        max_feed_in_w=0,
        reason="works",
    )
    made = case(offer("a", "p1"), limit)
    assert [s.max_quantity for s in made.offers[0].slots] == [None, 0, None, None]


def test_a_request_from_a_forecast_prices_the_limit_that_it_stands_for_and_is_not_bought_as_well() -> None:
    held = request("held", causes=("forecast 1",), max_price_milli_per_mwh=250_000)
    made = case(limited(500_000), held, request("manual"), request("tso", requester_id="tso"))
    assert [(r.request_id, r.kind, r.location_kind) for r in made.requests] == [
        ("manual", RequestKind.GRID, Location.INFEED_POINT),
        ("tso", RequestKind.TSO, Location.INFEED_POINT),
    ]
    assert made.limit_prices == (LimitPrice(kind=ev.LimitKind.IMPORT, element_id="up-a", price_milli=250_000),)
    assert made.settings.loading_price_milli_per_mwh == 1_000_000  # of the limits that nobody named


def test_a_request_from_a_forecast_for_an_element_without_limit_is_bought() -> None:
    made = case(limited(None), request("forecast", causes=("forecast 1",)))
    assert [r.request_id for r in made.requests] == ["forecast"]
    assert made.settings.loading_price_milli_per_mwh == 1_000_000
    # an import limit is no limit for export
    down = request("down", causes=("forecast 1",), direction=DOWN)
    assert [r.request_id for r in case(limited(500_000), down).requests] == ["down"]


def test_the_product_sets_margin_and_step() -> None:
    settings = case(step_w=5_000, margin_ppm=30_000, violation_price_milli_per_mwh=7).settings
    assert (settings.quantity_step_w, settings.loading_margin_ppm) == (5_000, 30_000)
    assert settings.loading_price_milli_per_mwh == 7


def test_a_portfolio_delivers_where_its_assets_are_approved() -> None:
    def asset(name: str, at: str, approved_w: int) -> tuple[Any, ...]:
        return (
            ev.AssetRegistered(
                area_id=AREA,
                asset_id=name,
                fsp_id="alpha",
                connection_point_id=at,
                kind=AssetKind.BATTERY,
                max_feed_in_w=500_000,
                max_draw_w=500_000,
            ),
            ev.AssetApproved(area_id=AREA, asset_id=name, validated_up_w=approved_w, validated_down_w=0),
        )

    pool = ev.PortfolioRegistered(area_id=AREA, portfolio_id="pool", fsp_id="alpha", asset_ids=("x", "y"))
    told = (*asset("x", "p1", 200_000), *asset("y", "p3", 100_000), pool)
    (made,) = case(*told, offer("a", None, portfolio_id="pool")).offers
    assert made.bus_id is None
    assert made.shares == (BusShare(bus_id="n1", share_ppm=666_667), BusShare(bus_id="n3", share_ppm=333_333))


def test_a_forecast_on_another_grid_is_averaged_over_the_slots() -> None:
    made = case_of(_snapshot(forecast(-100, -300, -500, start_ms=DAY - 1800_000, resolution_s=1800 * 2)))
    assert made.baseline[0].power_w == (-100, -100, -300, -300)


def _snapshot(*told: Any) -> Any:
    (job,) = due(*told)
    assert isinstance(job, Job)
    return job.arguments[0]


def test_awards_of_earlier_sessions_stand() -> None:
    earlier = session("s0", gate_opens_ms=0, gate_closes_ms=1)
    stands = cleared(award("x", "p1", (1_000, 2_000, 3_000, 4_000)), session_id="s0")
    (fixed,) = case(earlier, stands).fixed_awards
    assert (fixed.award_id, fixed.bus_id, fixed.direction) == ("award-x", "n1", UP)
    assert fixed.power == (1_000, 2_000, 3_000, 4_000)


def test_what_has_no_place_any_more_is_left_out_and_told_why() -> None:
    gone = ev.ConnectionPointRemoved(area_id=AREA, connection_point_id="p3", reason="sold")
    told = offer("a", "p3"), offer("child", "p1", parent_offer_id="a"), request("r", location_id="nowhere"), gone
    assert case(*told).offers == ()
    market = facts(*told)[-1]
    assert [(n.offer_id, n.reason) for n in market.non_awards] == [
        ("a", NonAwardReason.OTHER_CONSTRAINT),
        ("child", NonAwardReason.PARENT_NOT_TAKEN),
    ]
    (outcome,) = market.requests
    assert outcome.matched_w == (0,) * 4
    assert "nowhere" in outcome.reason


def test_without_a_grid_nobody_is_awarded_and_everybody_is_told_why() -> None:
    for told, why in (
        ((), "no forecast"),
        ((forecast(start_ms=DAY + HOUR),), "not the whole delivery period"),
        ((forecast(network_id="other"),), "network other"),
    ):
        (emission,) = due(*told, offer("a", "p1"), request("r"))
        assert isinstance(emission, Emission)
        market = emission.event
        assert {s.status for s in market.slots} == {SlotStatus.BASELINE_KEPT}
        assert (market.awards, len(market.slots)) == ((), 4)
        assert why in market.non_awards[0].text
        assert market.non_awards[0].rejected_energy_wh == 100_000
        assert why in market.requests[0].reason
        assert content_faults(market) == ()


def test_a_session_in_an_area_without_a_network_ends_with_a_result_too() -> None:
    story = Story(sessions, Sessions())
    for event in opened():
        if not isinstance(event, ev.NetworkModelPublished):
            story.hear(event)
    (emission,) = story.hear(GATE_CLOSED)
    assert (emission.event.network_id, emission.event.network_revision) == (None, None)
    assert content_faults(emission.event) == ()


def test_a_gate_closes_once() -> None:
    story = Story(sessions, Sessions())
    for event in (*opened(), forecast(), GATE_CLOSED):
        story.hear(event)
    assert story.hear(GATE_CLOSED) == ()


def test_facts_of_a_cleared_session_come_in_order_and_relieve_the_limit() -> None:
    #  100 --- n1 draws 1 MW, of which 0.6 MW may come from upstream: 0.4 MW and a little for losses and margin
    told = (
        limited(600_000),
        offer("cheap", "p1", ((300_000, 50_000),)),
        offer("dear", "p2", ((300_000, 90_000),), fsp="beta"),
        request("held", causes=("forecast 1",), power_w=(400_000,) * 4),
    )
    grid, prices, market = facts(*told, margin_ppm=0, step_w=1)
    assert [type(e) for e in (grid, prices, market)] == [
        ev.GridStatePublished,
        ev.NodalPricesPublished,
        ev.MarketCleared,
    ]
    assert grid.cleared
    taken = {a.offer_id: a for a in market.awards}
    assert taken["cheap"].power_w == (300_000,) * 4
    for cheap, dear in zip(taken["cheap"].power_w, taken["dear"].power_w, strict=True):
        assert 400_000 <= cheap + dear < 410_000
    assert taken["dear"].price_milli_per_mwh[0] >= 90_000
    assert (taken["dear"].bus_id, taken["dear"].connection_point_id) == ("n2", "p2")
    assert market.requests[0].matched_w == (400_000,) * 4
    assert market.requests[0].reason == ""
    assert all(s.shortfall_w == 0 and s.ac_violation_ppm == 0 for s in market.slots)
    assert "up-a" in market.slots[0].binding
    assert market.cost_nano == sum(s.cost_nano for s in market.slots)
    into_grid = next(b.power_w for b in grid.branches if b.branch_id == "l1")
    assert all(abs(w) <= 600_001 for w in into_grid)
    assert prices.buses[0].bus_id == "100"
    again = facts(*told, margin_ppm=0, step_w=1)
    assert [codec.encode(e) for e in again] == [codec.encode(e) for e in (grid, prices, market)]


def test_a_need_that_cannot_be_met_is_a_shortfall_of_its_request() -> None:
    market = facts(
        limited(600_000),
        offer("a", "p1", ((300_000, 50_000),)),
        request("held", causes=("forecast 1",), power_w=(400_000,) * 4),
        margin_ppm=0,
    )[-1]
    (outcome,) = market.requests
    assert all(290_000 <= w <= 300_000 for w in outcome.matched_w)
    assert "cannot be held in 4 slots" in outcome.reason
    assert all(100_000 <= s.shortfall_w < 110_000 for s in market.slots)


@pytest.mark.parametrize(
    ("kind", "element_id", "met"),
    [
        (LimitKind.IMPORT, "up-a", False),
        (LimitKind.EXPORT, "up-a", True),
        (LimitKind.VOLTAGE_MIN, "up-a", True),  # a bus may have the id of an infeed point
        (LimitKind.IMPORT, "up-b", True),
        (LimitKind.POWER_FLOW, "", False),
    ],
)
def test_a_held_request_is_missed_by_its_own_limit_alone(kind: LimitKind, element_id: str, met: bool) -> None:
    """UP at an infeed point stands for its import: in another state of the same slot its export may be exceeded."""
    (job,) = due(forecast(), limited(5_000_000), request("held", causes=("forecast 1",)))
    assert isinstance(job, Job)
    snapshot = job.arguments[0]
    result = clear(case_of(snapshot))
    missing = Shortfall(kind=kind, element_id=element_id, amount=60_000)
    first, *others = result.slots
    result = replace(result, slots=(replace(first, shortfalls=(missing,)), *others))
    (outcome,) = outcomes(snapshot, result, LeftOut())
    assert isinstance(outcome, ev.RequestOutcome)
    assert (outcome.matched_w[0] == 100_000) == met
    assert outcome.matched_w[1:] == (100_000,) * 3
    assert (outcome.reason == "") == met


def test_a_voltage_that_cannot_be_held_is_unmet_with_its_cause_and_how_far() -> None:
    #  100 --- n1 draws 1 MW; its band ends 2 000 ppm above what the voltage comes to, and nobody offers anything
    band = replace(
        NETWORK,
        revision=2,
        buses=tuple(replace(b, min_voltage_ppm=1_001_000) if b.bus_id == "n1" else b for b in NETWORK.buses),
    )
    asked = request("held", causes=("forecast 1",), location_kind=LocationKind.BUS, location_id="n1")
    grid, _, market = facts(band, asked, margin_ppm=0)
    volts = next(b.voltage_ppm for b in grid.buses if b.bus_id == "n1")
    for slot, volt in zip(market.slots, volts, strict=True):
        (unmet,) = slot.unmet
        assert (unmet.kind, unmet.element_id) == (ev.LimitKind.VOLTAGE_MIN, "n1")
        assert unmet.amount == slot.voltage_shortfall_ppm == 1_001_000 - volt > 1_000
        assert slot.unmet_count == 1
        assert slot.shortfall_w == 0  # ppm are no watts
    (outcome,) = market.requests
    assert outcome.matched_w == (0,) * 4
    assert f"VOLTAGE_MIN exceeded by up to {1_001_000 - min(volts)} ppm" in outcome.reason


def test_only_the_first_unmet_needs_of_a_slot_are_named_but_all_are_counted() -> None:
    snapshot = _snapshot(forecast())
    result = clear(case_of(snapshot))
    broken = tuple(Shortfall(kind=ev.LimitKind.CURRENT_TO, element_id=f"l{n}", amount=n) for n in range(30))
    volts = Shortfall(kind=ev.LimitKind.VOLTAGE_MAX, element_id="n1", amount=1)
    slots = (replace(result.slots[0], shortfalls=(*broken, volts)), *result.slots[1:])
    market = facts_of_result(snapshot, replace(result, slots=slots))[-1].event
    first = market.slots[0]
    assert (len(first.unmet), first.unmet_count) == (20, 31)
    assert [u.element_id for u in first.unmet[:3]] == ["n1", "l29", "l28"]


def test_a_manual_request_is_bought_beside_the_limits() -> None:
    market = facts(
        offer("a", "p1", ((300_000, 50_000),)),
        request("manual", location_kind=LocationKind.BUS, location_id="n1", power_w=(0, 120_000, 0, 0)),
    )[-1]
    assert [(a.start_ms, a.power_w) for a in market.awards] == [(DAY + SLOT, (120_000,))]
    assert market.requests[0].matched_w == (0, 120_000, 0, 0)


def test_a_worth_without_bounds_is_published_as_the_most_that_is_paid() -> None:
    snapshot = _snapshot(forecast())
    most = snapshot.product.violation_price_milli_per_mwh
    result = clear(case_of(snapshot))
    bus = replace(result.buses[0], p_price_milli_per_mwh=(10**12, -(10**12), 7, 0))
    _, prices, _ = facts_of_result(snapshot, replace(result, buses=(bus,)))
    assert prices.event.buses[0].price_milli_per_mwh == (most, -most, 7, 0)
    assert content_faults(prices.event) == ()
