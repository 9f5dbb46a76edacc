"""The grid and the delivered power by the meters as they are read: measured where read, elsewhere by plan; pure.

In a quarter-hour in which a connection point with a baseline is read, the grid is the forecast, plus what those
meters deviate from their baselines, plus the orders at points that are not read; through the same power flow as
forecast and clearing. In every other quarter-hour it is the published plan: the cleared state, else the forecast.
"""

from typing import Any

import numpy as np

from clearing.power_flow import AcGrid, PowerFlowInputError
from flexbus import events as ev
from flexbus.quantities import PPM
from flexbus.views.activation import ActivationState, owed_w, shown_at
from flexbus.views.days import DAY_MS
from flexbus.views.delivery import baseline_wh, deliveries, metered_wh, pool_of
from streams.page.area import Area, Measured, Session
from streams.page.series import Slots, add_series

__all__ = ["refresh_metered"]


def refresh_metered(area: Area, most: int | None = None) -> bool:
    """Compute what was read since the last call: quarter-hours of the grid, and what orders have delivered so far.

    Args:
        area: the area.
        most: values, points by quarter-hours, to compute in one call, the newest quarter-hours first; the others stay
            due for the next. At least one quarter-hour is computed. None = all.

    Returns:
        Whether there was anything to compute.
    """
    worked = bool(area.points_due)
    for session_id in sorted(area.metered):
        session = area.metered[session_id]
        if not session.metered_due:
            continue
        worked = True
        points = _points(area)
        due = sorted(session.metered_due, reverse=True)
        due = sorted(due if most is None else due[: max(1, most // max(1, len(points)))])
        _measure(area, session, points, due)
        session.metered_due.difference_update(due)
        value = _shown(area, session)
        if value is not None:
            # It shows meter values, so it is seen by those who may see every reading.
            area.put("grid", f"{session_id}/metered", value, ev.MeterReadingReceived)
    _deliver(area, most)
    return worked


def _points(area: Area) -> list[str]:
    """Return the connection points that are read or have an order."""
    known = area.evidence.readings.keys() | area.evidence.activations.at_point.keys()
    return sorted(p for p in known if p in area.bus_of_point)


def _deliver(area: Area, most: int | None) -> None:
    """Write what orders have delivered as far as they are read, until `DeliveryComputed` says it for good."""
    evidence = area.evidence
    due = sorted(area.points_due, key=lambda d: (-d[1], d[0]))[: None if most is None else max(1, most // 96)]
    area.points_due.difference_update(due)
    pool = {a for point, day in due for a in pool_of(evidence, (point,), day * DAY_MS, (day + 1) * DAY_MS)}
    for activation_id, found in deliveries(evidence, pool).items():
        order = evidence.activations.activations[activation_id].order
        if activation_id in area.deliveries or all(m is None for m in found.metered_wh):
            continue
        # Owed energy and provider stand in the order, which fewer may see than the readings.
        value = {
            "session_id": order.session_id,
            "activation_id": activation_id,
            "start_ms": order.start_ms,
            "resolution_s": order.resolution_s,
            "baseline_wh": found.baseline_wh,
            "metered_wh": found.metered_wh,
            "delivered_wh": [
                None if m is None or b is None else d
                for m, b, d in zip(found.metered_wh, found.baseline_wh, found.delivered_wh, strict=True)
            ],
        }
        area.put("readings", activation_id, value, ev.MeterReadingReceived)


def _measure(area: Area, session: Session, points: list[str], due: list[int]) -> None:
    """Compute the marked quarter-hours in which something is read, and let go of those in which nothing is."""
    network, forecast = area.network, area.forecast
    if network is None or forecast is None:
        return
    slots = session.slots
    index = {b.bus_id: k for k, b in enumerate(network.buses)}
    deviation = {slot: [0] * len(index) for slot in due}
    read, planned = dict.fromkeys(due, 0), dict.fromkeys(due, 0)
    for point in points:
        bus_id = area.bus_of_point[point]
        if bus_id not in index:
            continue
        for slot in due:
            by_meter = _deviation_w(area, session, point, slot)
            power_w = _ordered_w(area, point, _start_ms(slots, slot)) if by_meter is None else by_meter
            read[slot] += by_meter is not None
            planned[slot] += by_meter is None and power_w != 0
            deviation[slot][index[bus_id]] += power_w
    for slot in due:
        session.measured.pop(slot, None)
    solved = [slot for slot in due if read[slot]]
    if not solved:
        return
    active = {bus: [0] * slots.count for bus in index}
    reactive = {bus: [0] * slots.count for bus in index}
    for i in forecast.injections:
        if i.bus_id in index:
            add_series(active[i.bus_id], slots, forecast.start_ms, forecast.resolution_s, i.power_w)
            add_series(reactive[i.bus_id], slots, forecast.start_ms, forecast.resolution_s, i.reactive_power_var)
    p = np.array([[active[b.bus_id][slot] for b in network.buses] for slot in solved], dtype=float)
    q = np.array([[reactive[b.bus_id][slot] for b in network.buses] for slot in solved], dtype=float)
    try:
        if area.solver is None or area.solver[0] is not network:
            area.solver = (network, AcGrid(network))
        state = area.solver[1].solve(p + np.array([deviation[slot] for slot in solved], dtype=float), q)
    except PowerFlowInputError:
        return
    voltage = np.rint(np.nan_to_num(np.abs(state.voltage_pu)) * PPM).astype(int)
    loading = np.rint(np.nan_to_num(state.loading_ppm)).astype(int)
    flow = np.rint(np.nan_to_num(state.p_from_w)).astype(int)
    for row, slot in enumerate(solved):
        session.measured[slot] = Measured(
            read=read[slot],
            planned=planned[slot],
            voltage_ppm=tuple(voltage[row].tolist()),
            power_w=tuple(flow[row].tolist()),
            loading_ppm=tuple(loading[row].tolist()),
        )


def _start_ms(slots: Slots, slot: int) -> int:
    return slots.start_ms + slot * slots.resolution_s * 1000


def _deviation_w(area: Area, session: Session, point: str, slot: int) -> int | None:
    """Return what the meter of a point deviates from its baseline, W; None without reading or baseline."""
    start_ms, resolution_s = _start_ms(session.slots, slot), session.slots.resolution_s
    metered = metered_wh(area.evidence, point, start_ms, resolution_s)
    if metered is None:
        return None
    baseline = baseline_wh(area.evidence, session.session_id, point, start_ms, resolution_s)
    return None if baseline is None else round((metered - baseline) * 3600 / resolution_s)


def _ordered_w(area: Area, point: str, at_ms: int) -> int:
    """Return what is ordered at a point itself in a quarter-hour, W, positive = feed-in; refused orders are not."""
    total = 0
    activations = area.evidence.activations
    for activation_id in shown_at(activations, point, at_ms, at_ms + 1):
        activation = activations.activations[activation_id]
        order = activation.order
        slot = (at_ms - order.start_ms) // (order.resolution_s * 1000)
        if order.connection_point_id is None or activation.state is ActivationState.REFUSED:
            continue  # how a portfolio shares its order among its points is not known before they are read
        if 0 <= slot < len(order.power_w):
            total += order.direction.sign * owed_w(activation)[slot]
    return total


def _shown(area: Area, session: Session) -> dict[str, Any] | None:
    """Return the `grid` row: the plan, and over it what is measured; None without a plan, or if nothing ever was."""
    network, slots, measured = area.network, session.slots, session.measured
    name = f"{session.session_id}/metered"
    if network is None or not (measured or area.rows.get(area.area_id, "grid", name)):
        return None
    states = (area.rows.get(area.area_id, "grid", f"{session.session_id}/{mode}") for mode in ("cleared", "forecast"))
    plan = next((s for s in states if s is not None), None)
    if plan is None:
        return None
    value: dict[str, Any] = {
        "session_id": session.session_id,
        "mode": "metered",
        "start_ms": slots.start_ms,
        "resolution_s": slots.resolution_s,
        "plan": plan["mode"],
        "read": [measured[k].read if k in measured else 0 for k in range(slots.count)],
        "planned": [measured[k].planned if k in measured else 0 for k in range(slots.count)],
    }
    for table, ids in (
        ("voltage_ppm", [b.bus_id for b in network.buses]),
        ("power_w", [b.branch_id for b in network.branches]),
        ("loading_ppm", [b.branch_id for b in network.branches]),
    ):
        value[table] = {
            element_id: _series(slots, plan, table, element_id, {k: getattr(m, table)[n] for k, m in measured.items()})
            for n, element_id in enumerate(ids)
        }
    return value


def _series(slots: Slots, plan: dict[str, Any], table: str, element_id: str, measured: dict[int, int]) -> list[int]:
    """Return a series of the plan with the measured slots written over it; zero where there is neither."""
    series = [0] * slots.count
    add_series(series, slots, plan["start_ms"], plan["resolution_s"], plan[table].get(element_id, ()))
    for k, number in measured.items():
        series[k] = number
    return series
