"""Admission of forecasts, limits, lights, TSO activations, answers to orders, readings and settlement answers."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from flexbus import events as ev
from flexbus.errors import Fault, FaultCode
from flexbus.events import CongestionKind, Role
from flexbus.quantities import energy_wh
from flexbus.time import iso, local_day
from flexbus.validation.rules_common import begun, known, revised, stale, unused
from flexbus.validation.state import Admission, Order
from flexbus.validation.units import fault
from flexbus.views.registry import Gate

__all__ = ["MOST_LIMITS", "MOST_LIMITS_FORESEEN", "RULES"]

# Of a connection point that are not over: each change of them, and each offer cut there, names all that overlap. The
# last are kept for those that cannot wait.
MOST_LIMITS_FORESEEN, MOST_LIMITS = 200, 250


def _congestion_forecast(s: Admission, e: ev.CongestionForecastReceived, acting: str) -> Iterator[Fault]:
    thermal = e.kind is CongestionKind.THERMAL
    if not (thermal and e.element_id in s.registry.infeed_points):
        where = s.registry.branches if thermal else s.registry.buses
        what = "branch or infeed point" if thermal else "bus"
        yield from known("$.element_id", e.element_id, where, f"{what} of the network model")
    known_forecasts = s.congestion_forecasts
    yield from revised("$.forecast_id", e.forecast_id, e.revision, known_forecasts, acting, e.element_id, "forecast")
    if e.session_id is not None:
        yield from known("$.session_id", e.session_id, s.registry.sessions, "session")
    most = min((p.max_missing_slots for p in _products(s, e)), default=None)
    missing = sum(f is None for f in e.flow_w) * max(1, e.resolution_s // 900)
    if most is not None and missing > most:
        text = f"{missing} slots are missing; at most {most} may be (HEDGE-05)"
        yield fault(FaultCode.BAD_SERIES, "$.flow_w", text)
    largest = max(e.limit_import_w or 0, e.limit_export_w or 0)
    for index, flow in enumerate(e.flow_w):
        if flow is not None and abs(flow) > 3 * largest:
            text = f"{flow} W is more than three times the larger limit ({largest} W); check the unit"
            yield fault(FaultCode.IMPLAUSIBLE, f"$.flow_w[{index}]", text)
    yield from _local_day(s, e, "$.flow_w" if thermal else "$.need_up_w")


def _products(s: Admission, e: ev.CongestionForecastReceived) -> Iterator[ev.MarketProductDefined]:
    """Yield the products of the sessions that the forecast can serve."""
    end_ms = e.start_ms + max(len(e.flow_w), len(e.need_up_w)) * e.resolution_s * 1000
    for session_id, session in s.registry.sessions.items():
        overlaps = session.scheduled.delivery_start_ms < end_ms and e.start_ms < session.scheduled.delivery_end_ms
        if e.session_id == session_id or (e.session_id is None and overlaps and session.gate is not Gate.CLOSED):
            yield session.product


def _local_day(s: Admission, e: ev.CongestionForecastReceived, path: str) -> Iterator[Fault]:
    """A series of about a day that begins at local midnight is a local day: 92, 96 or 100 quarter-hours (T-IN-7)."""
    if s.registry.area is None:
        return
    zone = s.registry.area.time_zone
    slots = len(e.flow_w) or len(e.need_up_w)
    hours = slots * e.resolution_s / 3600
    local = datetime.fromtimestamp(e.start_ms / 1000, UTC).astimezone(ZoneInfo(zone))
    day = local_day(local.date(), zone)
    if day.start_ms == e.start_ms and 23 <= hours <= 25:
        expected = day.slots(e.resolution_s)
        if slots != expected:
            text = f"has {slots} slots, expected {expected}: the local day {local.date()} in {zone} has so many"
            yield fault(FaultCode.BAD_SERIES, path, text)


def _foreseen(s: Admission, e: ev.CapacityLimitForeseen, acting: str) -> Iterator[Fault]:
    yield from _point(s, e)
    yield from revised("$.limit_id", e.limit_id, e.revision, s.limits, acting, e.connection_point_id, "limit")
    yield from _room(s, e, MOST_LIMITS_FORESEEN)


def _unforeseen(s: Admission, e: ev.CapacityLimitUnforeseen, _: str) -> Iterator[Fault]:
    yield from _point(s, e)
    yield from unused("$.limit_id", e.limit_id, s.limits, "limit")
    yield from _room(s, e, MOST_LIMITS)


def _room(s: Admission, e: ev.CapacityLimitForeseen | ev.CapacityLimitUnforeseen, most: int) -> Iterator[Fault]:
    now_ms = s.registry.market_time_ms
    periods = s.limit_periods.get(e.connection_point_id, {})
    count = sum(end_ms > now_ms for limit_id, (_, end_ms) in periods.items() if limit_id != e.limit_id)
    if count >= most and e.end_ms > now_ms:
        text = f"{e.connection_point_id!r} has {count} limits that are not over, of {most} that may be"
        text += "; lift some with CapacityLimitLifted, or say the same with fewer"
        yield fault(FaultCode.WRONG_STATE, "$.connection_point_id", text)


def _lifted(s: Admission, e: ev.CapacityLimitLifted, acting: str) -> Iterator[Fault]:
    record = s.limits.get(e.limit_id)
    if record is None or record.owner_id != acting:
        text = f"limit {e.limit_id!r} is unknown or not of {acting!r}"
        yield fault(FaultCode.NOT_YOURS_OR_UNKNOWN, "$.limit_id", text)


def _light(s: Admission, e: ev.TrafficLightSet, acting: str) -> Iterator[Fault]:
    yield from _point(s, e)
    yield from revised("$.light_id", e.light_id, e.revision, s.lights, acting, e.connection_point_id, "traffic light")


def _point(s: Admission, e: Any) -> Iterator[Fault]:
    yield from known("$.connection_point_id", e.connection_point_id, s.registry.connection_points, "connection point")


def _aggregate_activated(s: Admission, e: ev.AggregateActivated, _: str) -> Iterator[Fault]:
    yield from unused("$.tso_activation_id", e.tso_activation_id, s.tso_activations, "TSO activation")
    offered = s.aggregates.get(e.aggregate_id)
    if offered is None:
        text = f"aggregate {e.aggregate_id!r} has not been offered"
        yield fault(FaultCode.NOT_YOURS_OR_UNKNOWN, "$.aggregate_id", text)
        return
    yield from begun(s, "$.start_ms", e.start_ms)
    if e.resolution_s != offered.resolution_s:
        text = f"{e.resolution_s} s, but the aggregate was offered in slots of {offered.resolution_s} s"
        yield fault(FaultCode.BAD_PERIOD, "$.resolution_s", text)
        return
    first = (e.start_ms - offered.start_ms) // (e.resolution_s * 1000)
    if first < 0 or first + len(e.power_w) > len(offered.power_w):
        text = f"is not inside the offered slots, which begin at {iso(offered.start_ms)}"
        yield fault(FaultCode.BAD_PERIOD, "$.start_ms", text)
        return
    for index, power_w in enumerate(e.power_w):
        most = offered.power_w[first + index]
        if power_w > most:
            text = f"{power_w} W is more than was offered, {most} W"
            yield fault(FaultCode.BAD_QUANTITY, f"$.power_w[{index}]", text)


def _answer(s: Admission, e: ev.ActivationAcknowledged | ev.ActivationRefused, acting: str) -> Iterator[Fault]:
    order = s.orders.get(e.activation_id)
    if order is None or order.ordered.fsp_id != acting:
        yield _no_order(e.activation_id, acting)
    elif order.state not in ("ORDERED", "TIMED_OUT"):  # a late answer is still recorded
        text = f"activation {e.activation_id!r} was answered already: {order.state}"
        yield fault(FaultCode.WRONG_STATE, "$.activation_id", text)


def _no_order(activation_id: str, acting: str) -> Fault:
    text = f"activation {activation_id!r} is unknown or does not concern {acting!r}"
    return fault(FaultCode.NOT_YOURS_OR_UNKNOWN, "$.activation_id", text)


def _changed(s: Admission, e: ev.ActivationChanged, acting: str) -> Iterator[Fault]:
    order = s.orders.get(e.activation_id)
    if order is None or order.ordered.orderer_id != acting:
        yield _no_order(e.activation_id, acting)
        return
    if e.revision <= order.revision:
        yield stale("$.revision", e.revision, order.revision)
    if order.state == "REFUSED":
        text = f"activation {e.activation_id!r} was refused; there is nothing to change"
        yield fault(FaultCode.WRONG_STATE, "$.activation_id", text)
    yield from begun(s, "$.from_ms", e.from_ms)
    yield from _lowered(order, e)


def _lowered(order: Order, e: ev.ActivationChanged) -> Iterator[Fault]:
    first = _slot(order, e.from_ms)
    if first is None:
        text = f"{iso(e.from_ms)} is not the start of a slot of the activation"
        yield fault(FaultCode.BAD_PERIOD, "$.from_ms", text)
        return
    rest = order.ordered.power_w[first:]
    if len(e.power_w) != len(rest):
        text = f"has {len(e.power_w)} slots, expected {len(rest)} from there to the end of the activation"
        yield fault(FaultCode.BAD_SERIES, "$.power_w", text)
        return
    for index, (power_w, most) in enumerate(zip(e.power_w, rest, strict=True)):
        if power_w > most:
            text = f"{power_w} W is more than was ordered, {most} W; an order can only be lowered"
            yield fault(FaultCode.BAD_QUANTITY, f"$.power_w[{index}]", text)


def _slot(order: Order, at_ms: int) -> int | None:
    index, rest = divmod(at_ms - order.ordered.start_ms, order.ordered.resolution_s * 1000)
    return index if rest == 0 and 0 <= index < len(order.ordered.power_w) else None


def _stopped(s: Admission, e: ev.ActivationStopped, acting: str) -> Iterator[Fault]:
    order = s.orders.get(e.activation_id)
    # The DSO protects its grid, so it may stop what the TSO has ordered, too.
    if order is None or not (order.ordered.orderer_id == acting or s.registry.has_role(acting, Role.DSO)):
        yield _no_order(e.activation_id, acting)
        return
    if order.ordered.fsp_id != e.fsp_id:
        text = f"activation {e.activation_id!r} is not of provider {e.fsp_id!r}"
        yield fault(FaultCode.BAD_VALUE, "$.fsp_id", text)
    if _slot(order, e.from_ms) is None:
        text = f"{iso(e.from_ms)} is not the start of a slot of the activation"
        yield fault(FaultCode.BAD_PERIOD, "$.from_ms", text)
    yield from begun(s, "$.from_ms", e.from_ms)


def _reading(s: Admission, e: ev.MeterReadingReceived, acting: str) -> Iterator[Fault]:
    point = s.registry.connection_points.get(e.connection_point_id)
    if point is None or point.meter_operator_id != acting:
        text = f"connection point {e.connection_point_id!r} is unknown or its meter is not read by {acting!r}"
        yield fault(FaultCode.NOT_YOURS_OR_UNKNOWN, "$.connection_point_id", text)
    else:
        most = energy_wh(3 * max(point.max_feed_in_w, point.max_draw_w), e.resolution_s)
        for index, energy in enumerate(e.energy_wh):
            if abs(energy) > most:
                text = f"{energy} Wh is more than three times what the point may carry in a slot; check the unit"
                yield fault(FaultCode.IMPLAUSIBLE, f"$.energy_wh[{index}]", text)
    what, scope = "meter reading", e.connection_point_id
    yield from revised("$.reading_id", e.reading_id, e.revision, s.readings, acting, scope, what)


def _settlement(s: Admission, e: ev.SettlementApproved | ev.SettlementDisputed, acting: str) -> Iterator[Fault]:
    paper = s.settlements.get(e.settlement_id)
    approves = isinstance(e, ev.SettlementApproved)
    mine = paper is not None and (acting == paper.buyer_id or (not approves and acting == paper.fsp_id))
    if paper is None or not mine:
        text = (
            f"settlement {e.settlement_id!r} is unknown or not {acting!r}'s to {'approve' if approves else 'dispute'}"
        )
        yield fault(FaultCode.NOT_YOURS_OR_UNKNOWN, "$.settlement_id", text)
        return
    if e.revision != paper.revision:
        text = f"revision {e.revision} is not the newest, {paper.revision}; look at that one"
        yield fault(FaultCode.STALE_REVISION, "$.revision", text)
        return
    if paper.disputed_by is not None:
        text = f"revision {e.revision} is disputed; wait for its correction"
        yield fault(FaultCode.WRONG_STATE, "$.settlement_id", text)
    elif paper.approved and acting == paper.buyer_id:
        text = f"{acting!r} has approved revision {e.revision} already"
        yield fault(FaultCode.WRONG_STATE, "$.settlement_id", text)


RULES: dict[type[Any], Callable[[Admission, Any, str], Iterator[Fault]]] = {
    ev.CongestionForecastReceived: _congestion_forecast,
    ev.CapacityLimitForeseen: _foreseen,
    ev.CapacityLimitUnforeseen: _unforeseen,
    ev.CapacityLimitLifted: _lifted,
    ev.TrafficLightSet: _light,
    ev.AggregateActivated: _aggregate_activated,
    ev.ActivationAcknowledged: _answer,
    ev.ActivationRefused: _answer,
    ev.ActivationChanged: _changed,
    ev.ActivationStopped: _stopped,
    ev.MeterReadingReceived: _reading,
    ev.SettlementApproved: _settlement,
    ev.SettlementDisputed: _settlement,
}
