"""The grid as it was by the meters: an estimate from the forecast and what meters deviated from baselines; pure.

Only points with an activation are metered against a baseline here, so every other injection stays as forecast.
"""

from typing import Any

import numpy as np

from clearing.power_flow import AcGrid, PowerFlowInputError
from flexbus import events as ev
from flexbus.quantities import PPM
from streams.page.area import Area, Session
from streams.page.series import Slots, add_series

__all__ = ["metered_state", "refresh_metered"]


def refresh_metered(area: Area) -> None:
    """Write the metered grid states of the sessions whose deliveries changed since the last call."""
    for session_id in sorted(area.metered_due):
        value = metered_state(area, area.sessions[session_id])
        if value is not None:
            # It shows meter values, so it is seen by those who may see deliveries.
            area.put("grid", f"{session_id}/metered", value, ev.DeliveryComputed)
    area.metered_due.clear()


def metered_state(area: Area, session: Session) -> dict[str, Any] | None:
    """Return the grid state by the meters as a `grid` row, None without network, forecast or reading.

    Args:
        area: the area with its network, forecast and deliveries.
        session: the session.
    """
    network, forecast = area.network, area.forecast
    found = [d for d in area.deliveries.values() if d.session_id == session.session_id]
    if network is None or forecast is None or not found:
        return None
    slots = session.slots
    index = {b.bus_id: k for k, b in enumerate(network.buses)}
    active = {bus: [0] * slots.count for bus in index}
    reactive = {bus: [0] * slots.count for bus in index}
    for i in forecast.injections:
        if i.bus_id in index:
            add_series(active[i.bus_id], slots, forecast.start_ms, forecast.resolution_s, i.power_w)
            add_series(reactive[i.bus_id], slots, forecast.start_ms, forecast.resolution_s, i.reactive_power_var)
    for delivery in _one_per_point(found):
        bus = area.bus_of_point.get(delivery.connection_point_id or "")
        if bus in active:
            _add_deviation(active[bus], slots, delivery)
    p = np.array([active[b.bus_id] for b in network.buses], dtype=float).T
    q = np.array([reactive[b.bus_id] for b in network.buses], dtype=float).T
    try:
        state = AcGrid(network).solve(p, q)
    except PowerFlowInputError:
        return None
    voltage = np.rint(np.nan_to_num(np.abs(state.voltage_pu)) * PPM).astype(int)
    loading = np.rint(np.nan_to_num(state.loading_ppm)).astype(int)
    flow = np.rint(np.nan_to_num(state.p_from_w)).astype(int)
    return {
        "session_id": session.session_id,
        "mode": "metered",
        "start_ms": slots.start_ms,
        "resolution_s": slots.resolution_s,
        "voltage_ppm": {b.bus_id: voltage[:, k].tolist() for k, b in enumerate(network.buses)},
        "power_w": {b.branch_id: flow[:, k].tolist() for k, b in enumerate(network.branches)},
        "loading_ppm": {b.branch_id: loading[:, k].tolist() for k, b in enumerate(network.branches)},
    }


def _one_per_point(found: list[ev.DeliveryComputed]) -> list[ev.DeliveryComputed]:
    """Leave out deliveries over the same slots of one point: they repeat the same meter and baseline."""
    kept: dict[tuple[str | None, int], ev.DeliveryComputed] = {}
    for d in sorted(found, key=lambda d: (d.start_ms, d.activation_id)):
        kept.setdefault((d.connection_point_id, d.start_ms), d)
    return list(kept.values())


def _add_deviation(target: list[int], slots: Slots, d: ev.DeliveryComputed) -> None:
    per_hour = 3600 / d.resolution_s
    deviation = [
        0 if metered is None or baseline is None else round((metered - baseline) * per_hour)
        for metered, baseline in zip(d.metered_wh, d.baseline_wh, strict=True)
    ]
    add_series(target, slots, d.start_ms, d.resolution_s, deviation)
