"""What is sent on the demo day and follows from the scenario alone: registrations, forecast, baselines, limits."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from flexbus import events as ev
from flexbus.events import Role
from flexbus.quantities import Direction
from streams.demo.scenario import DSO, FMO, FSPS, HOUR_MS, METER, SLOT_S, TSO, Scenario, Site

__all__ = [
    "PARTIES",
    "ROLES",
    "approvals",
    "area",
    "assets",
    "baselines",
    "cheaper",
    "forecast",
    "participants",
    "points",
    "product",
    "request_by_hand",
    "restrictions",
    "session",
]

PARTIES = (FMO, DSO, TSO, METER, *FSPS)
ROLES = {
    FMO: Role.FMO,
    DSO: Role.DSO,
    TSO: Role.TSO,
    METER: Role.METER_OPERATOR,
    **dict.fromkeys(FSPS, Role.FSP),
}
_NAMES = {
    FMO: "Local Flexibility Market Operator",
    DSO: "Distribution System Operator",
    TSO: "Transmission System Operator",
    METER: "Meter Operator",
    **{fsp: name for fsp, (name, _) in FSPS.items()},
}


def area(s: Scenario) -> ev.AreaOpened:
    """Return the opening of the market area."""
    return ev.AreaOpened(area_id=s.area_id, name=s.title, fmo_id=FMO, time_zone=s.time_zone)


def participants(s: Scenario) -> Iterator[ev.ParticipantRegistered]:
    """Yield the admission of everyone."""
    for party, role in ROLES.items():
        yield ev.ParticipantRegistered(area_id=s.area_id, participant_id=party, name=_NAMES[party], roles=(role,))


def product(s: Scenario) -> ev.MarketProductDefined:
    """Return what is traded, in steps as fine as the grid is small."""
    small = s.step_w < 1000
    return ev.MarketProductDefined(
        area_id=s.area_id,
        product_id="energy-15",
        name="Local flexibility, quarter-hours",
        step_w=s.step_w,
        min_offer_w=s.step_w,
        request_step_w=s.step_w if small else 10_000,
        min_need_w=s.step_w if small else 20_000,
        amend_step_w=s.step_w if small else 10_000,
        request_max_price_milli_per_mwh=400_000,
        violation_price_milli_per_mwh=400_000,
        voltage_price_milli_per_puh=1_000_000_000,
    )


def session(s: Scenario) -> ev.MarketSessionScheduled:
    """Return the day-ahead session."""
    return ev.MarketSessionScheduled(
        area_id=s.area_id,
        session_id=s.session_id,
        product_id="energy-15",
        delivery_start_ms=s.start_ms,
        delivery_end_ms=s.end_ms,
        gate_opens_ms=s.gate_opens_ms,
        gate_closes_ms=s.gate_closes_ms,
        settlement_due_ms=s.settlement_due_ms,
    )


def points(s: Scenario) -> Iterator[ev.ConnectionPointRegistered]:
    """Yield every connection point."""
    for site in s.sites:
        yield ev.ConnectionPointRegistered(
            area_id=s.area_id,
            connection_point_id=site.connection_point_id,
            kind=site.point_kind,
            bus_id=site.bus_id,
            fsp_id=site.fsp_id,
            meter_operator_id=METER,
            max_feed_in_w=site.max_feed_in_w,
            max_draw_w=site.max_draw_w,
        )


def assets(s: Scenario) -> Iterator[ev.AssetRegistered]:
    """Yield the asset of every connection point."""
    for site in s.sites:
        yield ev.AssetRegistered(
            area_id=s.area_id,
            asset_id=f"asset-{site.connection_point_id}",
            fsp_id=site.fsp_id,
            connection_point_id=site.connection_point_id,
            kind=site.kind,
            max_feed_in_w=site.max_feed_in_w,
            max_draw_w=site.max_draw_w,
            storage_capacity_wh=site.storage_wh,
        )


def approvals(s: Scenario) -> Iterator[ev.AssetApproved]:
    """Yield the DSO's approval of every asset, with what it was seen to be able to do."""
    for site in s.sites:
        yield ev.AssetApproved(
            area_id=s.area_id,
            asset_id=f"asset-{site.connection_point_id}",
            validated_up_w=max(site.up_w),
            validated_down_w=max(site.down_w),
        )


def forecast(s: Scenario) -> ev.NetForecastPublished:
    """Return the DSO's forecast of what is fed in and drawn."""
    return ev.NetForecastPublished(
        area_id=s.area_id,
        forecast_id="forecast-1",
        revision=1,
        network_id=s.network.network_id,
        issued_at_ms=s.gate_opens_ms,
        start_ms=s.start_ms,
        resolution_s=SLOT_S,
        injections=s.injections,
    )


def baselines(s: Scenario) -> Iterator[ev.BaselineSubmitted]:
    """Yield the baseline of every connection point."""
    for site in s.sites:
        yield ev.BaselineSubmitted(
            area_id=s.area_id,
            baseline_id=f"baseline-{site.connection_point_id}",
            revision=1,
            connection_point_id=site.connection_point_id,
            fsp_id=site.fsp_id,
            session_id=s.session_id,
            start_ms=s.start_ms,
            resolution_s=SLOT_S,
            power_w=site.baseline_w,
        )


def restrictions(s: Scenario) -> Iterable[ev.CapacityLimitForeseen | ev.TrafficLightSet]:
    """Return the DSO's restrictions: a foreseen limit, a yellow light and a red one."""
    noon = s.start_ms + 12 * HOUR_MS
    # First what offers something at noon: cars that charge in the evening alone have nothing to be cut then.
    hour = slice(52, 56)

    def order(x: Site) -> tuple[bool, int, str]:
        idle = max(*x.up_w[hour], *x.down_w[hour]) < s.step_w
        return (idle, -max(map(abs, x.baseline_w)), x.connection_point_id)

    by_size = sorted(s.sites, key=order)
    limited, yellow, red = by_size[:3]
    return (
        ev.CapacityLimitForeseen(
            area_id=s.area_id,
            limit_id="limit-maintenance",
            revision=1,
            connection_point_id=limited.connection_point_id,
            start_ms=noon - 2 * HOUR_MS,
            end_ms=noon,
            max_feed_in_w=limited.max_feed_in_w or None,
            max_draw_w=max(map(abs, limited.baseline_w)) * 105 // 100,
            reason="maintenance in the substation",
        ),
        ev.TrafficLightSet(
            area_id=s.area_id,
            light_id="light-yellow",
            revision=1,
            connection_point_id=yellow.connection_point_id,
            start_ms=noon,
            end_ms=noon + 4 * HOUR_MS,
            colour=ev.Colour.YELLOW,
            max_up_w=max(yellow.up_w) // 2,
            max_down_w=max(yellow.down_w) // 2,
            reason="protection setting not yet confirmed",
        ),
        ev.TrafficLightSet(
            area_id=s.area_id,
            light_id="light-red",
            revision=1,
            connection_point_id=red.connection_point_id,
            start_ms=noon + HOUR_MS,
            end_ms=noon + 2 * HOUR_MS,
            colour=ev.Colour.RED,
            reason="switching in the feeder",
        ),
    )


def cheaper(offer: ev.FlexOffer) -> ev.FlexOffer:
    """Return the next revision of an offer, three EUR/MWh below it."""
    slots = tuple(
        replace(slot, steps=tuple(replace(p, price_milli_per_mwh=p.price_milli_per_mwh - 3000) for p in slot.steps))
        for slot in offer.slots
    )
    return replace(offer, revision=offer.revision + 1, slots=slots)


def request_by_hand(s: Scenario) -> ev.FlexRequestSubmitted:
    """Return what the DSO asks for beside what the forecast shows."""
    store = next((x for x in s.sites if x.storage_wh), s.sites[0])
    wanted = max(store.down_w) // 4 // s.step_w * s.step_w or s.step_w
    return ev.FlexRequestSubmitted(
        area_id=s.area_id,
        request=ev.FlexRequest(
            request_id="request-by-hand",
            revision=1,
            session_id=s.session_id,
            requester_id=DSO,
            direction=Direction.DOWN,
            location_kind=ev.LocationKind.BUS,
            location_id=store.bus_id,
            start_ms=s.start_ms + 4 * HOUR_MS,
            resolution_s=SLOT_S,
            power_w=(wanted,) * 4,
            max_price_milli_per_mwh=200_000,
            causes=("MANUAL",),
            reason="acceptance test of a new protection relay",
        ),
    )
