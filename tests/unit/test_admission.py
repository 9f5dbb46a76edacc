"""Who may put what into the journal, and which faults the others get."""

from dataclasses import replace
from typing import Any

import pytest

from flexbus import events as ev
from flexbus.events import Role
from flexbus.quantities import Direction
from flexbus.time import parse_ms
from flexbus.validation.rules_trade import MOST_LIMITS, MOST_LIMITS_FORESEEN
from flexbus.validation.units import MAX_SESSION_SLOTS
from tests.market import (
    AREA,
    DSO,
    FSP_A,
    FSP_B,
    HOUR,
    METER,
    QUARTER,
    SESSION,
    START,
    TSO,
    Market,
    asset,
    baseline,
    codes,
    delivery_started,
    founded,
    gate_closed,
    gate_opened,
    network,
    offer,
    open_market,
    participant,
    point,
    product,
    request,
    session,
    submitted,
)


@pytest.fixture
def market() -> Market:
    return open_market()


def replaced(**changes: Any) -> ev.FlexOfferReplaced:
    return ev.FlexOfferReplaced(area_id=AREA, offer=offer(**{"revision": 2, **changes}))


def closed_market() -> Market:
    market = open_market()
    market.send(gate_closed(), "scheduler")
    return market


# --- areas and parties ------------------------------------------------------------------------------------------


def opened(**changes: Any) -> ev.AreaOpened:
    e = ev.AreaOpened(area_id=AREA, name="North", fmo_id="fmo", time_zone="Europe/Helsinki")
    return replace(e, **changes)


def test_only_a_founder_opens_an_area_and_for_itself() -> None:
    assert Market().refuse(opened(), "fmo") == ()
    assert codes(Market().refuse(opened(fmo_id="eve"), "eve")) == {"$": "WRONG_ROLE"}
    assert codes(Market().refuse(opened(), "eve")) == {"$": "WRONG_ROLE", "$.fmo_id": "NOT_YOURS_OR_UNKNOWN"}
    assert codes(founded().refuse(opened(), "fmo")) == {"$.area_id": "DUPLICATE_ID"}


def test_nothing_else_enters_an_area_that_is_not_open() -> None:
    for event, sender in ((submitted(), FSP_A), (gate_opened(), "scheduler"), (participant("x", Role.FSP), "fmo")):
        assert codes(Market().refuse(event, sender)) == {"$.area_id": "UNKNOWN_ELEMENT"}


def test_a_stranger_learns_only_that_it_is_one(market: Market) -> None:
    market.send(submitted(), FSP_A)
    stolen = submitted(fsp="eve")
    assert codes(market.refuse(stolen, "eve")) == {"$": "UNKNOWN_PARTY"}


def test_a_removed_party_may_not_send(market: Market) -> None:
    market.send(ev.ParticipantRemoved(area_id=AREA, participant_id=FSP_A, reason="left"), "fmo")
    assert codes(market.refuse(submitted(), FSP_A)) == {"$": "UNKNOWN_PARTY"}


def test_the_operator_of_the_area_stays(market: Market) -> None:
    market.send(participant("fmo", Role.FMO), "fmo")
    gone = ev.ParticipantRemoved(area_id=AREA, participant_id="fmo", reason="oops")
    assert codes(market.refuse(gone, "fmo")) == {"$.participant_id": "WRONG_STATE"}


def test_the_role_decides_what_a_party_may_send(market: Market) -> None:
    assert codes(market.refuse(network(2), FSP_A)) == {"$": "WRONG_ROLE"}
    assert "$" in codes(market.refuse(submitted(fsp=DSO), DSO))
    assert codes(market.refuse(gate_closed(), DSO)) == {"$": "WRONG_ROLE"}
    assert codes(market.refuse(participant("x", Role.DSO), DSO)) == {"$": "WRONG_ROLE"}


def test_a_service_sends_its_own_kinds_and_for_nobody(market: Market) -> None:
    assert codes(market.refuse(gate_closed(), "clearing")) == {"$": "WRONG_ROLE"}
    assert codes(market.refuse(gate_closed(), "scheduler", DSO)) == {"$": "NO_MANDATE"}
    assert market.refuse(gate_closed(), "scheduler") == ()


def test_nobody_takes_the_name_of_a_service(market: Market) -> None:
    assert codes(market.refuse(participant("clearing", Role.FSP), "fmo")) == {"$.participant_id": "BAD_VALUE"}


def test_another_partys_name_is_refused(market: Market) -> None:
    faults = codes(market.refuse(submitted(point_id="GCP-3", fsp=FSP_B), FSP_A))
    assert faults["$.offer.fsp_id"] == "NOT_YOURS_OR_UNKNOWN"


def granted(**changes: Any) -> ev.MandateGranted:
    e = ev.MandateGranted(
        area_id=AREA, mandate_id="m1", grantor_id=FSP_A, agent_id="gw", event_types=(), valid_from_ms=0
    )
    return replace(e, **changes)


def test_a_mandate_lets_another_act() -> None:
    market = open_market()
    market.send(participant("gw", Role.OBSERVER), "fmo")
    assert codes(market.refuse(submitted(), "gw", FSP_A)) == {"$": "NO_MANDATE"}
    market.send(granted(), FSP_A)
    assert market.refuse(submitted(), "gw", FSP_A) == ()
    market.send(granted(event_types=("BaselineSubmitted",)), FSP_A)
    assert codes(market.refuse(submitted(), "gw", FSP_A)) == {"$": "NO_MANDATE"}
    assert market.refuse(baseline(), "gw", FSP_A) == ()
    market.send(granted(valid_from_ms=START - 30 * HOUR, valid_until_ms=market.now_ms), FSP_A)
    assert codes(market.refuse(baseline(), "gw", FSP_A)) == {"$": "NO_MANDATE"}
    market.send(granted(), FSP_A)
    market.send(ev.MandateRevoked(area_id=AREA, mandate_id="m1", grantor_id=FSP_A), FSP_A)
    assert codes(market.refuse(baseline(), "gw", FSP_A)) == {"$": "NO_MANDATE"}


def test_without_a_mandate_nobody_hears_what_a_party_is_or_has() -> None:
    market = open_market()
    market.send(participant("gw", Role.OBSERVER), "fmo")
    market.send(submitted("o1"), FSP_A)

    def told(grantor: str) -> set[tuple[str, str, str]]:
        event = ev.FlexOfferWithdrawn(area_id=AREA, offer_id="o1", fsp_id=grantor)
        faults = market.refuse(event, "gw", grantor)
        return {(f.code.value, f.path, f.message.replace(repr(grantor), "X")) for f in faults}

    assert told(FSP_A) == told(FSP_B) == told(DSO) == told("nobody")
    assert {code for code, *_ in told(FSP_A)} == {"NO_MANDATE"}


def test_a_mandate_gives_no_role_that_the_grantor_lacks() -> None:
    market = open_market()
    market.send(participant("gw", Role.DSO), "fmo")
    market.send(granted(), FSP_A)
    assert "WRONG_ROLE" in codes(market.refuse(network(2), "gw", FSP_A)).values()


# --- registration -----------------------------------------------------------------------------------------------


def test_a_connection_point_hangs_on_a_known_bus_and_known_parties(market: Market) -> None:
    faults = market.refuse(point("GCP-9", "B9", "eve", meter_operator_id=FSP_A), DSO)
    assert codes(faults) == {
        "$.bus_id": "UNKNOWN_ELEMENT",
        "$.fsp_id": "UNKNOWN_PARTY",
        "$.meter_operator_id": "WRONG_ROLE",
    }


def test_assets_belong_to_the_provider_of_the_point(market: Market) -> None:
    assert codes(market.refuse(asset("pv", "GCP-3", FSP_A), FSP_A)) == {"$.connection_point_id": "NOT_YOURS_OR_UNKNOWN"}
    market.send(asset("pv", "GCP-1", FSP_A), FSP_A)
    assert codes(market.refuse(asset("pv", "GCP-3", FSP_B), FSP_B)) == {"$.asset_id": "DUPLICATE_ID"}
    too_much = ev.AssetApproved(area_id=AREA, asset_id="pv", validated_up_w=900_000, validated_down_w=0)
    assert codes(market.refuse(too_much, DSO)) == {"$.validated_up_w": "BAD_QUANTITY"}


def test_an_offer_waits_for_the_approval_of_an_asset_behind_its_point(market: Market) -> None:
    market.send(asset("pv", "GCP-1", FSP_A), FSP_A)
    assert codes(market.refuse(submitted(), FSP_A)) == {"$.offer.connection_point_id": "NOT_APPROVED"}
    market.send(ev.AssetApproved(area_id=AREA, asset_id="pv", validated_up_w=1, validated_down_w=1), DSO)
    assert market.refuse(submitted(), FSP_A) == ()
    market.send(replace(asset("pv", "GCP-1", FSP_A), max_feed_in_w=400_000), FSP_A)
    assert codes(market.refuse(submitted(), FSP_A)) == {"$.offer.connection_point_id": "NOT_APPROVED"}


def test_a_portfolio_is_offered_once_it_and_all_its_assets_are_approved(market: Market) -> None:
    pooled = submitted(point_id=None, portfolio_id="pool")
    assert codes(market.refuse(pooled, FSP_A)) == {"$.offer.portfolio_id": "NOT_YOURS_OR_UNKNOWN"}
    market.send(asset("pv1", "GCP-1", FSP_A), FSP_A)
    market.send(asset("pv2", "GCP-2", FSP_A), FSP_A)
    market.send(
        ev.PortfolioRegistered(area_id=AREA, portfolio_id="pool", fsp_id=FSP_A, asset_ids=("pv1", "pv2")), FSP_A
    )
    market.send(ev.PortfolioApproved(area_id=AREA, portfolio_id="pool"), DSO)
    market.send(ev.AssetApproved(area_id=AREA, asset_id="pv1", validated_up_w=1, validated_down_w=1), DSO)
    (fault,) = market.refuse(pooled, FSP_A)
    assert fault.code.value == "NOT_APPROVED"
    assert "pv2" in fault.message
    assert "pv1" not in fault.message
    market.send(ev.AssetApproved(area_id=AREA, asset_id="pv2", validated_up_w=1, validated_down_w=1), DSO)
    assert market.refuse(pooled, FSP_A) == ()
    theirs = replace(pooled, offer=replace(pooled.offer, fsp_id=FSP_B))
    assert codes(market.refuse(theirs, FSP_B)) == {"$.offer.portfolio_id": "NOT_YOURS_OR_UNKNOWN"}


def test_a_network_model_keeps_the_buses_with_connection_points(market: Market) -> None:
    assert codes(market.refuse(network(1), DSO)) == {"$.revision": "STALE_REVISION"}
    smaller = network(2, buses=network().buses[:3], branches=network().branches[:2])
    assert codes(market.refuse(smaller, DSO)) == {"$.buses": "UNKNOWN_ELEMENT"}
    assert market.refuse(network(2), DSO) == ()


def test_a_session_keeps_the_product_it_was_scheduled_with(market: Market) -> None:
    market.send(product(step_w=50_000, min_offer_w=50_000, request_step_w=50_000), "fmo")
    assert market.refuse(submitted(steps=((10_000, 1),)), FSP_A) == ()
    market.send(session("ID"), "fmo")
    market.send(gate_opened("ID"), "scheduler")
    assert set(codes(market.refuse(submitted(steps=((10_000, 1),), session_id="ID"), FSP_A)).values()) == {
        "BAD_QUANTITY"
    }


def test_a_session_is_scheduled_once_and_in_whole_slots(market: Market) -> None:
    assert codes(market.refuse(session(), "fmo")) == {"$.session_id": "DUPLICATE_ID"}
    faults = market.refuse(session("X", product_id="none"), "fmo")
    assert codes(faults) == {"$.product_id": "UNKNOWN_ELEMENT"}
    shifted = session("X", delivery_start_ms=START + 1000, delivery_end_ms=START + HOUR)
    assert codes(market.refuse(shifted, "fmo")) == {"$.delivery_start_ms": "BAD_PERIOD"}


def test_a_session_has_no_more_slots_than_are_cleared_together(market: Market) -> None:
    most = product().resolution_s * 1000 * MAX_SESSION_SLOTS
    late = START + 2 * most
    assert market.refuse(session("X", delivery_end_ms=START + most, settlement_due_ms=late), "fmo") == ()
    longer = session("X", delivery_end_ms=START + most + HOUR, settlement_due_ms=late)
    assert codes(market.refuse(longer, "fmo")) == {"$.delivery_end_ms": "BAD_PERIOD"}


def test_gates_move_forward_only() -> None:
    market = founded()
    assert codes(market.refuse(gate_closed(), "scheduler")) == {"$.session_id": "WRONG_STATE"}
    assert codes(market.refuse(gate_opened("none"), "scheduler")) == {"$.session_id": "UNKNOWN_ELEMENT"}
    market.send(gate_opened(), "scheduler")
    assert codes(market.refuse(delivery_started(), "scheduler")) == {"$.session_id": "WRONG_STATE"}
    market.send(gate_closed(), "scheduler")
    assert codes(market.refuse(gate_opened(), "scheduler")) == {"$.session_id": "WRONG_STATE"}
    assert market.refuse(delivery_started(), "scheduler") == ()


# --- offers -----------------------------------------------------------------------------------------------------


def test_offers_count_between_the_gate_events_only() -> None:
    assert codes(founded().refuse(submitted(), FSP_A)) == {"$.offer.session_id": "GATE_NOT_OPEN"}
    assert open_market().refuse(submitted(), FSP_A) == ()
    assert codes(closed_market().refuse(submitted(), FSP_A)) == {"$.offer.session_id": "GATE_CLOSED"}


def test_after_the_gate_nothing_of_the_book_changes(market: Market) -> None:
    market.send(submitted(), FSP_A)
    market.send(ev.FlexRequestSubmitted(area_id=AREA, request=request()), DSO)
    market.send(gate_closed(), "scheduler")
    withdrawn = ev.FlexOfferWithdrawn(area_id=AREA, offer_id="o1", fsp_id=FSP_A)
    stopped = ev.FlexRequestWithdrawn(area_id=AREA, request_id="r1", requester_id=DSO)
    amended = ev.FlexRequestAmended(area_id=AREA, request=request(revision=2))
    for event, sender in ((replaced(), FSP_A), (withdrawn, FSP_A), (stopped, DSO), (amended, DSO), (baseline(), FSP_A)):
        assert set(codes(market.refuse(event, sender)).values()) == {"GATE_CLOSED"}
    assert set(codes(market.refuse(stopped, "congestion")).values()) == {"GATE_CLOSED"}


def test_every_fault_of_an_offer_is_listed_at_once(market: Market) -> None:
    wrong = submitted(
        point_id="GCP-3",
        steps=((1_500, 40_000), (2_000_000, 4_000_000)),
        slots=1,
        start_ms=START - QUARTER,
        parent_offer_id="none",
    )
    assert codes(market.refuse(wrong, FSP_A)) == {
        "$.offer.connection_point_id": "NOT_YOURS_OR_UNKNOWN",
        "$.offer.start_ms": "BAD_PERIOD",
        "$.offer.slots[0].steps[0].power_w": "BAD_QUANTITY",
        "$.offer.slots[0].steps[1].price_milli_per_mwh": "BAD_PRICE",
        "$.offer.slots[0].steps": "IMPLAUSIBLE",
        "$.offer.parent_offer_id": "NOT_YOURS_OR_UNKNOWN",
    }


def test_the_product_bounds_steps_and_resolution(market: Market) -> None:
    many = submitted(steps=tuple((1_000, i) for i in range(21)), slots=1)
    assert codes(market.refuse(many, FSP_A)) == {"$.offer.slots[0].steps": "BAD_SERIES"}
    hourly = submitted(resolution_s=3600)
    assert codes(market.refuse(hourly, FSP_A)) == {"$.offer.resolution_s": "BAD_PERIOD"}
    late = submitted(start_ms=START + 24 * HOUR - QUARTER)
    assert codes(market.refuse(late, FSP_A)) == {"$.offer.start_ms": "BAD_PERIOD"}


def test_an_offer_is_replaced_by_its_owner_with_a_higher_revision(market: Market) -> None:
    market.send(submitted(), FSP_A)
    assert codes(market.refuse(submitted(), FSP_A)) == {"$.offer.offer_id": "DUPLICATE_ID"}
    assert market.refuse(replaced(revision=7), FSP_A) == ()
    market.send(replaced(revision=3), FSP_A)
    assert codes(market.refuse(replaced(revision=3), FSP_A)) == {"$.offer.revision": "STALE_REVISION"}
    theirs = replaced(revision=4, fsp_id=FSP_B, connection_point_id="GCP-3")
    assert codes(market.refuse(theirs, FSP_B)) == {"$.offer.offer_id": "NOT_YOURS_OR_UNKNOWN"}


def test_a_withdrawn_offer_stays_withdrawn(market: Market) -> None:
    market.send(submitted(), FSP_A)
    withdrawn = ev.FlexOfferWithdrawn(area_id=AREA, offer_id="o1", fsp_id=FSP_A)
    market.send(withdrawn, FSP_A)
    assert codes(market.refuse(withdrawn, FSP_A)) == {"$.offer_id": "WRONG_STATE"}
    assert codes(market.refuse(replaced(), FSP_A)) == {"$.offer.offer_id": "WRONG_STATE"}
    assert codes(market.refuse(submitted(), FSP_A)) == {"$.offer.offer_id": "DUPLICATE_ID"}


def test_exclusive_groups_are_not_shared_between_providers(market: Market) -> None:
    market.send(submitted(exclusive_group_id="g"), FSP_A)
    assert market.refuse(submitted("o2", exclusive_group_id="g"), FSP_A) == ()
    intruder = submitted("o3", FSP_B, "GCP-3", exclusive_group_id="g")
    assert codes(market.refuse(intruder, FSP_B)) == {"$.offer.exclusive_group_id": "NOT_YOURS_OR_UNKNOWN"}


def test_a_parent_is_a_live_offer_of_the_same_provider(market: Market) -> None:
    market.send(submitted(), FSP_A)
    assert market.refuse(submitted("o2", parent_offer_id="o1"), FSP_A) == ()
    intruder = submitted("o3", FSP_B, "GCP-3", parent_offer_id="o1")
    assert codes(market.refuse(intruder, FSP_B)) == {"$.offer.parent_offer_id": "NOT_YOURS_OR_UNKNOWN"}


def test_a_baseline_may_come_before_the_gate_opens() -> None:
    market = founded()
    market.send(baseline(), FSP_A)
    assert codes(market.refuse(baseline(), FSP_A)) == {"$.revision": "STALE_REVISION"}
    other = baseline("GCP-2", baseline_id="base-GCP-1", revision=2)
    assert codes(market.refuse(other, FSP_A)) == {"$.baseline_id": "DUPLICATE_ID"}
    kilo = baseline(power_w=-200_000_000, revision=2)
    assert set(codes(market.refuse(kilo, FSP_A)).values()) == {"IMPLAUSIBLE"}


def test_a_schedule_follows_the_gate() -> None:
    b = baseline()
    schedule = ev.ScheduleSubmitted(
        area_id=AREA,
        schedule_id="s1",
        revision=1,
        connection_point_id="GCP-1",
        fsp_id=FSP_A,
        session_id=SESSION,
        start_ms=b.start_ms,
        resolution_s=900,
        power_w=b.power_w,
    )
    assert codes(open_market().refuse(schedule, FSP_A)) == {"$.session_id": "WRONG_STATE"}
    assert closed_market().refuse(schedule, FSP_A) == ()


# --- requests and forecasts -------------------------------------------------------------------------------------


def requested(**changes: Any) -> ev.FlexRequestSubmitted:
    return ev.FlexRequestSubmitted(area_id=AREA, request=request(**changes))


@pytest.mark.parametrize(
    ("kind", "place"), [("BUS", "B2"), ("ZONE", "east"), ("BRANCH", "L2"), ("INFEED_POINT", "GRID"), ("AREA", AREA)]
)
def test_a_request_names_a_place_of_the_grid(market: Market, kind: str, place: str) -> None:
    kind_ = ev.LocationKind(kind)
    assert market.refuse(requested(location_kind=kind_, location_id=place), DSO) == ()
    faults = market.refuse(requested(location_kind=kind_, location_id="nowhere"), DSO)
    assert codes(faults) == {"$.request.location_id": "UNKNOWN_ELEMENT"}


def test_requests_keep_the_products_step_and_prices(market: Market) -> None:
    assert codes(market.refuse(requested(power_w=(50_500,), max_price_milli_per_mwh=9_000_000), DSO)) == {
        "$.request.power_w[0]": "BAD_QUANTITY",
        "$.request.max_price_milli_per_mwh": "BAD_PRICE",
    }


def test_the_congestion_service_asks_in_the_name_of_a_dso_only(market: Market) -> None:
    assert market.refuse(requested(), "congestion") == ()
    assert codes(market.refuse(requested(requester_id=FSP_A), "congestion")) == {"$": "WRONG_ROLE"}
    market.send(requested(), "congestion")
    assert codes(market.refuse(requested(), "congestion")) == {"$.request.request_id": "DUPLICATE_ID"}


def test_t_rq_11_an_observer_may_not_ask(market: Market) -> None:
    market.send(participant("monitor-team", Role.OBSERVER), "fmo")
    assert codes(market.refuse(requested(requester_id="monitor-team"), "monitor-team")) == {"$": "WRONG_ROLE"}


def test_the_tso_may_withdraw_its_own_request_only(market: Market) -> None:
    market.send(requested(), DSO)
    gone = ev.FlexRequestWithdrawn(area_id=AREA, request_id="r1", requester_id=TSO)
    assert codes(market.refuse(gone, TSO)) == {"$.request_id": "NOT_YOURS_OR_UNKNOWN"}


def forecast(**changes: Any) -> ev.CongestionForecastReceived:
    e = ev.CongestionForecastReceived(
        area_id=AREA,
        forecast_id="f1",
        revision=1,
        session_id=SESSION,
        element_id="T1",
        kind=ev.CongestionKind.THERMAL,
        issued_at_ms=START - 15 * HOUR,
        start_ms=START,
        resolution_s=900,
        flow_w=(-5_400_000,) * 96,
        limit_import_w=5_000_000,
        limit_export_w=5_000_000,
    )
    return replace(e, **changes)


def test_t_in_14_a_forecast_for_an_unknown_element_is_refused(market: Market) -> None:
    assert codes(market.refuse(forecast(element_id="T9"), DSO)) == {"$.element_id": "UNKNOWN_ELEMENT"}


def test_t_in_10_a_late_older_revision_is_stale(market: Market) -> None:
    market.send(forecast(revision=4), DSO)
    assert codes(market.refuse(forecast(revision=3), DSO)) == {"$.revision": "STALE_REVISION"}


def test_t_in_12_three_missing_slots_are_borne_five_are_not(market: Market) -> None:
    def with_gaps(n: int) -> ev.CongestionForecastReceived:
        return forecast(flow_w=(None,) * n + (-5_400_000,) * (96 - n))

    assert market.refuse(with_gaps(3), DSO) == ()
    assert codes(market.refuse(with_gaps(5), DSO)) == {"$.flow_w": "BAD_SERIES"}


def test_t_in_13_a_flow_of_three_times_the_limit_is_a_slip_of_unit_in_what_people_send(market: Market) -> None:
    assert market.refuse(forecast(flow_w=(-15_000_000,)), DSO) == ()
    (fault,) = market.refuse(forecast(flow_w=(-16_000_000,)), DSO)
    assert (fault.path, fault.code.value) == ("$.flow_w[0]", "IMPLAUSIBLE")
    assert "5000000 W" in fault.message
    assert market.refuse(forecast(flow_w=(-16_000_000,)), "congestion") == ()


def test_t_in_7_the_short_local_day_has_92_quarter_hours(market: Market) -> None:
    spring = parse_ms("2027-03-28T00:00:00+02:00")
    assert market.refuse(forecast(start_ms=spring, flow_w=(0,) * 92, session_id=None), DSO) == ()
    (fault,) = market.refuse(forecast(start_ms=spring, flow_w=(0,) * 96, session_id=None), DSO)
    assert (fault.path, fault.code.value) == ("$.flow_w", "BAD_SERIES")
    assert "expected 92" in fault.message


# --- limits, activations, meters, settlement ---------------------------------------------------------------------


def test_limits_and_lights_name_a_known_point_and_rise(market: Market) -> None:
    limit = ev.CapacityLimitForeseen(
        area_id=AREA,
        limit_id="l1",
        revision=1,
        connection_point_id="GCP-1",
        start_ms=START,
        end_ms=START + HOUR,
        max_draw_w=0,
        reason="works",
    )
    assert codes(market.refuse(replace(limit, connection_point_id="GCP-9"), DSO)) == {
        "$.connection_point_id": "UNKNOWN_ELEMENT"
    }
    market.send(limit, DSO)
    assert codes(market.refuse(limit, DSO)) == {"$.revision": "STALE_REVISION"}
    moved = replace(limit, revision=2, connection_point_id="GCP-2")
    assert codes(market.refuse(moved, DSO)) == {"$.limit_id": "DUPLICATE_ID"}
    lifted = ev.CapacityLimitLifted(area_id=AREA, limit_id="l9", from_ms=START)
    assert codes(market.refuse(lifted, DSO)) == {"$.limit_id": "NOT_YOURS_OR_UNKNOWN"}


def capacity(number: int, **changes: Any) -> ev.CapacityLimitForeseen:
    limit = ev.CapacityLimitForeseen(
        area_id=AREA, limit_id=f"l{number}", revision=1, connection_point_id="GCP-1", start_ms=START,
        end_ms=START + HOUR, max_draw_w=number, reason="works",
    )  # fmt: skip
    return replace(limit, **changes)


def lifted(number: int, from_ms: int) -> ev.CapacityLimitLifted:
    return ev.CapacityLimitLifted(area_id=AREA, limit_id=f"l{number}", from_ms=from_ms)


FULL = {"$.connection_point_id": "WRONG_STATE"}


@pytest.fixture
def limited(market: Market) -> Market:
    """A point with as many foreseen limits as it may have, of which the first is over after half an hour."""
    market.send(capacity(0, end_ms=START + 2 * QUARTER), DSO)
    for number in range(1, MOST_LIMITS_FORESEEN):
        market.send(capacity(number), DSO)
    return market


def test_the_limits_of_a_point_that_are_not_over_have_an_end(limited: Market) -> None:
    """Each change names all that overlap: a thousand, 59 kB, that grew ever tighter were told in 20 MB."""
    (fault,) = limited.refuse(capacity(999), DSO)
    assert codes((fault,)) == FULL
    assert "has 200 limits that are not over, of 200 that may be; lift some" in fault.message
    assert limited.refuse(capacity(999, connection_point_id="GCP-2"), DSO) == ()
    assert limited.refuse(capacity(7, revision=2), DSO) == ()


def test_a_limit_that_is_lifted_makes_room_when_it_binds_no_more(limited: Market) -> None:
    limited.send(lifted(7, START + QUARTER), DSO)
    assert codes(limited.refuse(capacity(999), DSO)) == FULL, "it binds a quarter-hour still"
    limited.send(lifted(7, START), DSO)
    limited.send(capacity(999), DSO)
    assert codes(limited.refuse(capacity(7, revision=2), DSO)) == FULL, "and does not come back beside the others"


def test_a_limit_that_is_over_makes_room_and_is_forgotten(limited: Market) -> None:
    limited.send(gate_closed(), "scheduler")
    limited.send(lifted(1, START + QUARTER), DSO)
    limited.send(delivery_started(START + QUARTER), "scheduler")
    limited.send(capacity(998), DSO)
    assert codes(limited.refuse(capacity(999), DSO)) == FULL
    limited.send(delivery_started(START + 2 * QUARTER), "scheduler")
    limited.send(capacity(999), DSO)
    assert codes(limited.refuse(capacity(1000), DSO)) == FULL
    assert limited.refuse(capacity(1000, end_ms=START + QUARTER), DSO) == (), "over already, it binds nothing"
    limited.send(delivery_started(START + HOUR), "scheduler")
    limited.send(capacity(1001, end_ms=START + 2 * HOUR), DSO)
    assert limited.admission.limit_periods == {"GCP-1": {"l1001": (START, START + 2 * HOUR)}}


def test_foreseen_limits_leave_room_for_those_that_cannot_wait(limited: Market) -> None:
    at_once = ev.CapacityLimitUnforeseen(
        area_id=AREA, limit_id="u", connection_point_id="GCP-1", start_ms=START, end_ms=START + HOUR, reason="fault"
    )
    for number in range(MOST_LIMITS - MOST_LIMITS_FORESEEN):
        limited.send(replace(at_once, limit_id=f"u{number}"), DSO)
    assert codes(limited.refuse(at_once, DSO)) == FULL


def ordered(**changes: Any) -> ev.ActivationOrdered:
    e = ev.ActivationOrdered(
        area_id=AREA,
        session_id=SESSION,
        activation_id="act1",
        award_id="aw1",
        tso_activation_id=None,
        offer_id="o1",
        orderer_id=DSO,
        fsp_id=FSP_A,
        connection_point_id="GCP-1",
        portfolio_id=None,
        direction=Direction.UP,
        start_ms=START,
        resolution_s=900,
        power_w=(100_000,) * 4,
        price_milli_per_mwh=(40_000,) * 4,
        acknowledge_by_ms=START - HOUR,
    )
    return replace(e, **changes)


def test_an_order_is_answered_once_by_its_provider() -> None:
    market = closed_market()
    market.send(ordered(), "activation")
    yes = ev.ActivationAcknowledged(area_id=AREA, activation_id="act1", fsp_id=FSP_A)
    theirs = ev.ActivationAcknowledged(area_id=AREA, activation_id="act1", fsp_id=FSP_B)
    assert codes(market.refuse(theirs, FSP_B)) == {"$.activation_id": "NOT_YOURS_OR_UNKNOWN"}
    market.send(yes, FSP_A)
    no = ev.ActivationRefused(area_id=AREA, activation_id="act1", fsp_id=FSP_A, reason="changed my mind")
    assert codes(market.refuse(no, FSP_A)) == {"$.activation_id": "WRONG_STATE"}


def test_an_answer_after_the_time_out_is_still_recorded_once() -> None:
    market = closed_market()
    market.send(ordered(), "activation")
    timed_out = ev.ActivationTimedOut(area_id=AREA, activation_id="act1", fsp_id=FSP_A, at_ms=START - HOUR)
    market.send(timed_out, "activation")
    yes = ev.ActivationAcknowledged(area_id=AREA, activation_id="act1", fsp_id=FSP_A)
    market.send(yes, FSP_A)
    assert codes(market.refuse(yes, FSP_A)) == {"$.activation_id": "WRONG_STATE"}


def test_an_order_is_only_lowered_and_only_in_slots_to_come() -> None:
    market = closed_market()
    market.send(ordered(), "activation")
    change = ev.ActivationChanged(
        area_id=AREA,
        activation_id="act1",
        orderer_id=DSO,
        revision=2,
        from_ms=START + 2 * QUARTER,
        power_w=(50_000, 0),
        reason="less is enough",
    )
    assert market.refuse(change, DSO) == ()
    assert codes(market.refuse(replace(change, power_w=(150_000, 0)), DSO)) == {"$.power_w[0]": "BAD_QUANTITY"}
    assert codes(market.refuse(replace(change, power_w=(0,)), DSO)) == {"$.power_w": "BAD_SERIES"}
    assert codes(market.refuse(replace(change, orderer_id=TSO), TSO)) == {"$.activation_id": "NOT_YOURS_OR_UNKNOWN"}
    market.send(delivery_started(START + 2 * QUARTER), "scheduler")
    assert codes(market.refuse(change, DSO)) == {"$.from_ms": "TOO_LATE"}


def test_an_aggregate_is_activated_within_what_was_offered() -> None:
    market = closed_market()
    member = ev.AggregateMember(
        offer_id="o",
        fsp_id=FSP_A,
        connection_point_id="cp",
        portfolio_id=None,
        first_slot=0,
        power_w=(100_000,) * 4,
        price_milli_per_mwh=(40_000,) * 4,
    )
    aggregate = ev.AggregateOffered(
        area_id=AREA,
        session_id=SESSION,
        aggregate_id="agg",
        infeed_id="GRID",
        direction=Direction.UP,
        start_ms=START,
        resolution_s=900,
        power_w=(100_000,) * 4,
        price_milli_per_mwh=(40_000,) * 4,
        members=(member,),
    )
    market.send(aggregate, "aggregation")
    assert market.admission.aggregates == {"agg": replace(aggregate, members=())}, "thousands would stay for ever"
    activated = ev.AggregateActivated(
        area_id=AREA,
        tso_activation_id="t1",
        aggregate_id="agg",
        tso_id=TSO,
        start_ms=START + QUARTER,
        resolution_s=900,
        power_w=(90_000, 100_000),
        price_milli_per_mwh=50_000,
    )
    assert market.refuse(activated, TSO) == ()
    assert codes(market.refuse(replace(activated, power_w=(101_000,)), TSO)) == {"$.power_w[0]": "BAD_QUANTITY"}
    assert codes(market.refuse(replace(activated, power_w=(1,) * 4), TSO)) == {"$.start_ms": "BAD_PERIOD"}
    unknown = replace(activated, aggregate_id="none")
    assert codes(market.refuse(unknown, TSO)) == {"$.aggregate_id": "NOT_YOURS_OR_UNKNOWN"}
    market.send(activated, TSO)
    assert codes(market.refuse(activated, TSO)) == {"$.tso_activation_id": "DUPLICATE_ID"}


def test_readings_come_from_the_meter_operator_of_the_point(market: Market) -> None:
    reading = ev.MeterReadingReceived(
        area_id=AREA,
        reading_id="m1",
        revision=1,
        connection_point_id="GCP-1",
        meter_operator_id=METER,
        start_ms=START,
        resolution_s=900,
        energy_wh=(25_000, -375_000),
    )
    assert market.refuse(reading, METER) == ()
    assert codes(market.refuse(replace(reading, energy_wh=(375_001,)), METER)) == {"$.energy_wh[0]": "IMPLAUSIBLE"}
    market.send(participant("meter2", Role.METER_OPERATOR), "fmo")
    other = replace(reading, meter_operator_id="meter2")
    assert codes(market.refuse(other, "meter2")) == {"$.connection_point_id": "NOT_YOURS_OR_UNKNOWN"}


def settlement(revision: int = 1) -> ev.SettlementComputed:
    return ev.SettlementComputed(
        area_id=AREA,
        session_id=SESSION,
        settlement_id="s1",
        revision=revision,
        fsp_id=FSP_A,
        buyer_id=DSO,
        lines=(),
        invoice=(),
        total_cents=0,
    )


def test_the_parties_answer_the_newest_revision_of_a_settlement() -> None:
    market = closed_market()
    market.send(settlement(), "settlement")
    yes = ev.SettlementApproved(area_id=AREA, settlement_id="s1", revision=1, buyer_id=DSO)
    no = ev.SettlementDisputed(area_id=AREA, settlement_id="s1", revision=1, party_id=FSP_A, reason="meter")
    assert codes(market.refuse(replace(yes, buyer_id=TSO), TSO)) == {"$.settlement_id": "NOT_YOURS_OR_UNKNOWN"}
    assert codes(market.refuse(replace(yes, revision=2), DSO)) == {"$.revision": "STALE_REVISION"}
    market.send(yes, DSO)
    assert codes(market.refuse(yes, DSO)) == {"$.settlement_id": "WRONG_STATE"}
    market.send(no, FSP_A)
    assert codes(market.refuse(no, FSP_A)) == {"$.settlement_id": "WRONG_STATE"}
    corrected = ev.SettlementCorrected(
        area_id=AREA,
        session_id=SESSION,
        settlement_id="s1",
        revision=2,
        fsp_id=FSP_A,
        buyer_id=DSO,
        lines=(),
        invoice=(),
        total_cents=0,
        difference_cents=0,
        causes=(),
    )
    market.send(corrected, "settlement")
    assert codes(market.refuse(yes, DSO)) == {"$.revision": "STALE_REVISION"}
    assert market.refuse(replace(yes, revision=2), DSO) == ()
