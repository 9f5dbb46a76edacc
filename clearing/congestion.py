"""Congestion forecast: where and when the forecast injections break a limit, in AC, and what would cure it.

The numbers of HEDGE-IoT SUC-FI-02.06 (E1, HEDGE-06): flow per element, positive = out of the area towards the
upstream grid; limits in W for either direction; for voltages the power need itself. Margins, nesting and the
translation to requests are rules of the view, not of the grid.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearing.power_flow import AcGrid, AcState
from clearing.superlu import SuperFactors
from flexbus.events.grid import BusInjection, NetworkModelPublished

__all__ = [
    "BusSensitivity",
    "CongestionForecast",
    "ThermalCongestion",
    "VoltageCongestion",
    "forecast_congestion",
]

Real = NDArray[np.float64]
Complex = NDArray[np.complexfloating[Any, Any]]
PROBE_W = 1_000.0
# A bus that moves an element's flow by less than this does not count as lying behind it.
BEHIND = 0.05
SECANT_STEPS = 8
RESOLVED_PU = 1e-7
# A voltage that a kilowatt moves by less is held.
STIFF_PU = 1e-12
# Bands that contradict each other, at buses with next to nothing between them, would be cured in turn for ever.
MOST_CURES = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class BusSensitivity:
    """Change of an element's flow per W injected at a bus, at the element's worst slot.

    Args:
        bus_id: bus that lies behind the element.
        sensitivity_ppm: W of flow (positive = export) per W of injection, millionths.
    """

    bus_id: str
    sensitivity_ppm: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ThermalCongestion:
    """A branch or infeed point near or above its limit.

    Args:
        element_id: branch or infeed point.
        flow_w: active power per slot, W, positive = towards the upstream grid; None = not computable.
        loading_ppm: loading per slot, millionths of the limit; None = not computable.
        limit_import_w: active power towards the area at which the limit is met at the forecast's voltage and
            reactive power, W; None = unlimited.
        limit_export_w: active power out of the area at which the limit is met, W; None = unlimited.
        depth: branches between the infeed points and the element; nested elements have a greater depth.
        behind: buses behind the element and how they move its flow, sorted by id.
    """

    element_id: str
    flow_w: tuple[int | None, ...]
    loading_ppm: tuple[int | None, ...]
    limit_import_w: int | None
    limit_export_w: int | None
    depth: int
    behind: tuple[BusSensitivity, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VoltageCongestion:
    """A bus whose voltage leaves its band, with the power that brings it and its neighbours back.

    The needs of all reported buses together cure every violation; a neighbour cured by another bus's need is
    not reported again.

    Args:
        bus_id: bus.
        voltage_ppm: magnitude without any measure per slot, millionths of nominal; None = not computable.
        min_voltage_ppm: lower limit, millionths of nominal.
        max_voltage_ppm: upper limit, millionths of nominal.
        need_up_w: upward need per slot, W >= 0.
        need_down_w: downward need per slot, W >= 0.
        depth: branches between the infeed points and the bus.
    """

    bus_id: str
    voltage_ppm: tuple[int | None, ...]
    min_voltage_ppm: int
    max_voltage_ppm: int
    need_up_w: tuple[int, ...]
    need_down_w: tuple[int, ...]
    depth: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CongestionForecast:
    """All congested elements of an area over the slots of a forecast.

    Args:
        thermal: branches and infeed points, deepest first, then by id (the order of HEDGE-07).
        voltage: buses, sorted by id.
        unsolved_slots: slots in which the forecast has no AC power flow (collapse).
        incurable_bus_ids: buses out of their band that no active power at the bus brings back (held voltage).
    """

    thermal: tuple[ThermalCongestion, ...]
    voltage: tuple[VoltageCongestion, ...]
    unsolved_slots: tuple[int, ...]
    incurable_bus_ids: tuple[str, ...]


def forecast_congestion(
    network: NetworkModelPublished,
    injections: Iterable[BusInjection],
    slots: int,
    *,
    report_from_ppm: int = 980_000,
) -> CongestionForecast:
    """Run the AC power flow on forecast injections and report what is congested.

    Args:
        network: the grid.
        injections: forecast per bus; buses that are absent inject nothing.
        slots: number of slots.
        report_from_ppm: loading from which an element is reported, millionths; the default is the limit less
            the default margin of HEDGE-06.

    Raises:
        PowerFlowInputError: the network or the injections cannot be solved for, with the element.
    """
    grid = AcGrid(network, SuperFactors)
    index = {bus.bus_id: k for k, bus in enumerate(network.buses)}
    p, q = np.zeros((slots, len(index))), np.zeros((slots, len(index)))
    for injection in injections:
        p[:, index[injection.bus_id]] += injection.power_w
        q[:, index[injection.bus_id]] += injection.reactive_power_var
    state = grid.solve(p, q)
    depth = _depths(network)
    voltage, incurable = _voltages(grid, state, p, q, depth)
    return CongestionForecast(
        thermal=_thermal(grid, state, p, q, depth, report_from_ppm / 1e6),
        voltage=voltage,
        unsolved_slots=tuple(np.flatnonzero(~state.converged).tolist()),
        incurable_bus_ids=incurable,
    )


def _depths(network: NetworkModelPublished) -> dict[str, int]:
    """Number of closed branches between each bus and the nearest infeed point."""
    near: dict[str, list[str]] = {bus.bus_id: [] for bus in network.buses}
    for branch in network.branches:
        if branch.closed:
            near[branch.from_bus_id].append(branch.to_bus_id)
            near[branch.to_bus_id].append(branch.from_bus_id)
    depth = {point.bus_id: 0 for point in network.infeed_points}
    queue = list(depth)
    for bus in queue:
        for other in near[bus]:
            if other not in depth:
                depth[other] = depth[bus] + 1
                queue.append(other)
    return depth


def _ints(values: Real) -> tuple[int | None, ...]:
    return tuple(None if np.isnan(v) else round(v) for v in values.tolist())


def _thermal(
    grid: AcGrid, state: AcState, p: Real, q: Real, depth: dict[str, int], report_from: float
) -> tuple[ThermalCongestion, ...]:
    network = grid.network
    solved = state.converged
    found: list[ThermalCongestion] = []
    probes: dict[int, tuple[Real, Real]] = {}

    def behind(worst: int, branch: int | None, point: int | None) -> tuple[BusSensitivity, ...]:
        if worst not in probes:
            probes[worst] = _probe(grid, p[worst], q[worst])
        flows, roots = probes[worst]
        change = -roots[:, point] if point is not None else flows[:, branch] * _outward(network, depth, branch)
        return tuple(
            BusSensitivity(bus_id=bus.bus_id, sensitivity_ppm=round(s * 1e6))
            for bus, s in sorted(zip(network.buses, change.tolist(), strict=True), key=lambda pair: pair[0].bus_id)
            if abs(s) >= BEHIND
        )

    for k, branch in enumerate(network.branches):
        loading = state.loading_ppm[:, k] / 1e6
        if not branch.closed or not (loading[solved] >= report_from).any():
            continue
        flow = state.p_from_w[:, k] * _outward(network, depth, k)
        limit = _limit_w(state, k)
        found.append(
            ThermalCongestion(
                element_id=branch.branch_id,
                flow_w=_ints(flow),
                loading_ppm=_ints(state.loading_ppm[:, k]),
                limit_import_w=_tightest(limit, flow < 0, loading, report_from),
                limit_export_w=_tightest(limit, flow > 0, loading, report_from),
                depth=1 + min(depth[branch.from_bus_id], depth[branch.to_bus_id]),
                behind=behind(int(np.nanargmax(np.where(solved, loading, np.nan))), k, None),
            )
        )
    for k, point in enumerate(network.infeed_points):
        power = state.root_p_w[:, k]
        most = np.where(power > 0, _or_inf(point.max_import_w), _or_inf(point.max_export_w))
        with np.errstate(divide="ignore"):
            loading = np.abs(power) / most
        if not (loading[solved] >= report_from).any():
            continue
        found.append(
            ThermalCongestion(
                element_id=point.infeed_id,
                flow_w=_ints(-power),
                loading_ppm=_ints(np.minimum(loading, 1e9) * 1e6),
                limit_import_w=point.max_import_w,
                limit_export_w=point.max_export_w,
                depth=0,
                behind=behind(int(np.nanargmax(np.where(solved, loading, np.nan))), None, k),
            )
        )
    return tuple(sorted(found, key=lambda e: (-e.depth, e.element_id)))


def _or_inf(limit: int | None) -> float:
    return np.inf if limit is None else float(limit)


def _outward(network: NetworkModelPublished, depth: dict[str, int], k: int | None) -> int:
    """+1 if from-to points towards the upstream grid; between equally deep buses from-to counts."""
    assert k is not None
    branch = network.branches[k]
    return -1 if depth[branch.from_bus_id] < depth[branch.to_bus_id] else 1


def _limit_w(state: AcState, k: int) -> Real:
    """Active power per slot at which the branch would meet its limit, with the slot's voltage and Q."""
    # Loading is current (or power) over limit: at the same voltage and power factor of the loaded end the
    # apparent power at the limit is |S| / loading; what Q leaves of it is the active limit.
    p, q = state.p_from_w[:, k], state.q_from_var[:, k]
    with np.errstate(all="ignore"):
        apparent = np.hypot(p, q) / (state.loading_ppm[:, k] / 1e6)
        return np.asarray(np.sqrt(np.maximum(apparent**2 - q**2, 0)))


def _tightest(limit: Real, direction: NDArray[np.bool_], loading: Real, report_from: float) -> int | None:
    """One limit for all slots: the tightest among the congested slots of the direction, else among all."""
    usable = np.isfinite(limit)
    for choice in (usable & direction & (loading >= report_from), usable & direction, usable):
        if choice.any():
            return max(1, int(limit[choice].min()))
    return None


def _probe(grid: AcGrid, p: Real, q: Real) -> tuple[Real, Real]:
    """Change of p_from and of the infeed per W injected at each bus (buses x elements), one power flow each."""
    n = len(p)
    base = np.repeat(p[None, :], n + 1, axis=0)
    base[np.arange(n), np.arange(n)] += PROBE_W
    start = np.repeat(grid.solve(p[None, :], q[None, :]).voltage_pu, n + 1, axis=0)
    state = grid.solve(base, np.repeat(q[None, :], n + 1, axis=0), start)
    return (
        (state.p_from_w[:n] - state.p_from_w[n]) / PROBE_W,
        (state.root_p_w[:n] - state.root_p_w[n]) / PROBE_W,
    )


def _voltages(
    grid: AcGrid, state: AcState, p: Real, q: Real, depth: dict[str, int]
) -> tuple[tuple[VoltageCongestion, ...], tuple[str, ...]]:
    """Cure the worst bus in all slots with power at that bus, look again, until all buses are in their band."""
    buses = grid.network.buses
    low = np.array([b.min_voltage_ppm for b in buses]) / 1e6
    high = np.array([b.max_voltage_ppm for b in buses]) / 1e6
    live = np.flatnonzero(state.converged)
    magnitude = np.abs(state.voltage_pu)
    now, there = p[live].copy(), state.voltage_pu[live].copy()
    needs: dict[int, Real] = {}
    cures: Counter[int] = Counter()
    incurable: set[int] = set()
    # The order of buses decides between equals.
    order = np.array(sorted(range(len(buses)), key=lambda k: buses[k].bus_id), dtype=int)
    while len(live):
        moved = np.abs(there)
        excess = np.maximum(moved - high, low - moved)
        excess[:, ~state.energised] = 0
        excess[:, list(incurable)] = 0
        worst = int(order[excess[:, order].max(axis=0).argmax()])
        if excess[:, worst].max() <= RESOLVED_PU:
            break
        target = np.clip(moved[:, worst], low[worst], high[worst])
        todo = np.flatnonzero(np.abs(target - moved[:, worst]) > RESOLVED_PU)
        cure = _cure(grid, there[todo], now[todo], q[live[todo]], worst, target[todo])
        cures[worst] += 1
        if cure is None or cures[worst] > MOST_CURES or (worst in needs and np.abs(cure[0]).max() < 1.0):
            incurable.add(worst)
            continue
        step, there[todo] = cure
        now[todo, worst] += step
        needs.setdefault(worst, np.zeros(len(p)))[live[todo]] += step
    found = []
    for k, need in needs.items():
        found.append(
            VoltageCongestion(
                bus_id=buses[k].bus_id,
                voltage_ppm=_ints(magnitude[:, k] * 1e6),
                min_voltage_ppm=buses[k].min_voltage_ppm,
                max_voltage_ppm=buses[k].max_voltage_ppm,
                need_up_w=tuple(np.ceil(np.maximum(need, 0)).astype(int).tolist()),
                need_down_w=tuple(np.ceil(np.maximum(-need, 0)).astype(int).tolist()),
                depth=depth[buses[k].bus_id],
            )
        )
    by_id = tuple(sorted(found, key=lambda v: v.bus_id))
    return by_id, tuple(sorted(buses[k].bus_id for k in incurable))


def _cure(grid: AcGrid, near: Complex, p: Real, q: Real, bus: int, target: Real) -> tuple[Real, Complex] | None:
    """Power at one bus that brings its voltage to the target, by secant steps on the AC power flow.

    Args:
        grid: the grid.
        near: voltages without it (slots x buses), per unit.
        p: injections without it (slots x buses), W.
        q: reactive injections (slots x buses), var.
        bus: number of the bus.
        target: magnitude to reach (slots), per unit.

    Returns:
        W per slot and the voltages that it leads to; None when power at the bus does not move its voltage.
    """
    v, step, probe = np.abs(near[:, bus]), np.zeros(len(p)), p.copy()
    probe[:, bus] += PROBE_W
    # Measured: near the most that a line carries it may have another sign than the resistance seen from the bus.
    slope = (np.abs(grid.solve(probe, q, near).voltage_pu[:, bus]) - v) / PROBE_W
    if not (np.abs(slope * PROBE_W) > STIFF_PU).all():
        return None
    for _ in range(SECANT_STEPS):
        away = np.abs(v - target) > RESOLVED_PU / 10
        if not away.any():
            break
        change = np.where(away, (target - v) / slope, 0.0)
        moved = p.copy()
        moved[:, bus] += step + change
        near = grid.solve(moved, q, near).voltage_pu
        there = np.abs(near[:, bus])
        # A step that is lost in the tolerance of the power flow tells nothing of the slope.
        telling = away & (np.abs(there - v) > RESOLVED_PU / 10)
        slope = np.where(telling, (there - v) / np.where(telling, change, 1.0), slope)
        v, step = there, step + change
        if not (np.isfinite(v) & np.isfinite(step) & (slope != 0)).all():
            return None
    return step, near
