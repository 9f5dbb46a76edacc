"""Do the published voltages, flows, shortfalls and violation costs follow from the awards in AC?"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from clearing.certificate.evidence import PPM, Evidence, Finding
from clearing.power_flow import AcState
from clearing.result import LimitKind

__all__ = ["check_physics", "excesses", "violation_cost_eur"]

Real = NDArray[np.float64]
# Published integers are rounded; this is half a unit and the noise of another processor.
HALF = 0.51
# What the core calls a shortfall: more than a millionth of pu, or a watt.
NAMED = 1e-6


def excesses(e: Evidence, state: AcState) -> Iterator[tuple[LimitKind, str, Real, float]]:
    """Yield every limit of the case: kind, element, excess per slot (pu or MVA), price per unit and hour (EUR)."""
    settings, network = e.case.settings, e.case.network
    index = {bus.bus_id: k for k, bus in enumerate(network.buses)}
    given = {(p.kind, p.element_id): p.price_milli / 1e3 for p in e.case.limit_prices}

    def price(kind: LimitKind, element_id: str) -> float:
        voltage = kind in (LimitKind.VOLTAGE_MAX, LimitKind.VOLTAGE_MIN)
        usual = settings.voltage_price_milli_per_puh if voltage else settings.loading_price_milli_per_mwh
        return given.get((kind, element_id), given.get((kind, None), usual / 1e3))

    margin, share = settings.voltage_margin_ppm / PPM, 1 - settings.loading_margin_ppm / PPM
    held = {int(e.node[index[point.bus_id]]) for point in network.infeed_points}
    size = np.abs(state.voltage_pu)
    members: dict[int, list[int]] = {}
    for k in range(len(network.buses)):
        if state.energised[k] and int(e.node[k]) not in held:
            members.setdefault(int(e.node[k]), []).append(k)
    for node, buses in members.items():
        # Joined buses have one voltage and count once, with the tightest band.
        by_id = sorted(buses, key=lambda k: network.buses[k].bus_id)
        top = min(by_id, key=lambda k: network.buses[k].max_voltage_ppm)
        low = max(by_id, key=lambda k: network.buses[k].min_voltage_ppm)
        v = size[:, node]
        upper = network.buses[top].max_voltage_ppm / PPM - margin
        lower = network.buses[low].min_voltage_ppm / PPM + margin
        for kind, k, excess in ((LimitKind.VOLTAGE_MAX, top, v - upper), (LimitKind.VOLTAGE_MIN, low, lower - v)):
            bus_id = network.buses[k].bus_id
            yield kind, bus_id, excess, price(kind, bus_id)
    for k, branch in enumerate(network.branches):
        f, t = index[branch.from_bus_id], index[branch.to_bus_id]
        if not branch.closed or (branch.r_ohm == 0 and branch.x_ohm == 0) or not state.energised[f]:
            continue
        for kind, limit, amps, bus in (
            (LimitKind.CURRENT_FROM, branch.max_from_current_ma, state.i_from_a[:, k], f),
            (LimitKind.CURRENT_TO, branch.max_current_ma, state.i_to_a[:, k], t),
        ):
            if limit is not None:
                mva = 3**0.5 * network.buses[bus].nominal_voltage_v / 1e6
                yield kind, branch.branch_id, (amps - limit / 1e3 * share) * mva, price(kind, branch.branch_id)
        if branch.max_apparent_power_va is not None:
            most = branch.max_apparent_power_va / 1e6 * share
            s_from = np.hypot(state.p_from_w[:, k], state.q_from_var[:, k]) / 1e6
            s_to = np.hypot(state.p_to_w[:, k], state.q_to_var[:, k]) / 1e6
            for kind, size_mva in ((LimitKind.APPARENT_POWER_FROM, s_from), (LimitKind.APPARENT_POWER_TO, s_to)):
                yield kind, branch.branch_id, size_mva - most, price(kind, branch.branch_id)
    roots = [int(e.node[index[point.bus_id]]) for point in network.infeed_points]
    for k, point in enumerate(network.infeed_points):
        together = [j for j, node in enumerate(roots) if node == roots[k]]
        power = state.root_p_w[:, together].sum(axis=1) / 1e6
        if point.max_import_w is not None:
            worth = price(LimitKind.IMPORT, point.infeed_id)
            yield LimitKind.IMPORT, point.infeed_id, power - point.max_import_w / 1e6, worth
        if point.max_export_w is not None:
            worth = price(LimitKind.EXPORT, point.infeed_id)
            yield LimitKind.EXPORT, point.infeed_id, -power - point.max_export_w / 1e6, worth


def violation_cost_eur(e: Evidence, state: AcState) -> float:
    """Return the priced violations of all slots, EUR."""
    return sum(
        float(np.nan_to_num(np.clip(excess, 0, None)).sum()) * price * e.hours
        for _, _, excess, price in excesses(e, state)
    )


def check_physics(e: Evidence) -> Iterator[Finding]:
    """Yield a finding for every published state that is not that of the awards, and every unnamed violation."""
    yield from _states(e)
    yield from _unnamed(e)
    alive = e.before.converged
    over: list[dict[tuple[LimitKind, str], float]] = [{} for _ in range(e.case.slots)]
    for kind, element, excess, _ in excesses(e, e.after):
        for t in np.flatnonzero(np.nan_to_num(excess) > NAMED / 2).tolist():
            over[t][kind, element] = float(excess[t]) * PPM
    for t, slot in enumerate(e.result.slots):
        path = f"$.slots[{t}].shortfalls"
        named: dict[tuple[LimitKind, str], int] = {
            (s.kind, s.element_id): s.amount for s in slot.shortfalls if s.kind is not LimitKind.REQUEST
        }
        if not alive[t]:
            if (LimitKind.POWER_FLOW, e.case.network.network_id) not in named:
                yield Finding(path, "the baseline has no AC power flow, which is not said")
            continue
        for key, amount in over[t].items():
            said = named.pop(key, 0)
            if abs(said - amount) > HALF + NAMED * PPM / 2:
                yield Finding(path, f"{key[0].value} {key[1]}: exceeded by {amount:.1f} millionths, named are {said}")
        for key, said in named.items():
            if abs(said) > HALF + NAMED * PPM / 2:
                yield Finding(path, f"{key[0].value} {key[1]}: named are {said} millionths, it is not exceeded")


def _unnamed(e: Evidence) -> Iterator[Finding]:
    """Yield every slot whose worst excess beyond the named shortfalls, of bands and ratings as they are, is another."""
    a, network = e.after, e.case.network
    held = {point.bus_id for point in network.infeed_points}
    v, loading = np.abs(a.voltage_pu) * PPM, np.nan_to_num(a.loading_ppm)
    for t, slot in enumerate(e.result.slots):
        worst = 0.0
        if a.converged[t]:
            named = {s.element_id for s in slot.shortfalls}
            for k, bus in enumerate(network.buses):
                if a.energised[k] and bus.bus_id not in named | held:
                    size = float(v[t, k])
                    worst = max(worst, size - bus.max_voltage_ppm, bus.min_voltage_ppm - size)
            worst = max(
                [worst, *(loading[t, k] - PPM for k, b in enumerate(network.branches) if b.branch_id not in named)]
            )
        if abs(slot.ac_violation_ppm - worst) > HALF + 1e-9 * worst:
            message = f"published {slot.ac_violation_ppm}, the AC power flow gives {worst:.1f}"
            yield Finding(f"$.slots[{t}].ac_violation_ppm", message)


def _states(e: Evidence) -> Iterator[Finding]:
    a, index = e.after, {bus.bus_id: k for k, bus in enumerate(e.case.network.buses)}
    lines = {branch.branch_id: k for k, branch in enumerate(e.case.network.branches)}
    points = {point.infeed_id: k for k, point in enumerate(e.case.network.infeed_points)}
    size = np.abs(a.voltage_pu) * PPM
    columns = [
        (f"$.buses[{j}].voltage_ppm", bus.voltage_ppm, size[:, index[bus.bus_id]])
        for j, bus in enumerate(e.result.buses)
    ]
    for j, branch in enumerate(e.result.branches):
        k = lines[branch.branch_id]
        columns += [
            (f"$.branches[{j}].power_w", branch.power_w, a.p_from_w[:, k]),
            (f"$.branches[{j}].reactive_power_var", branch.reactive_power_var, a.q_from_var[:, k]),
            (f"$.branches[{j}].loading_ppm", branch.loading_ppm, a.loading_ppm[:, k]),
        ]
    for j, point in enumerate(e.result.infeed_points):
        k = points[point.infeed_id]
        columns += [
            (f"$.infeed_points[{j}].power_w", point.power_w, a.root_p_w[:, k]),
            (f"$.infeed_points[{j}].reactive_power_var", point.reactive_power_var, a.root_q_var[:, k]),
        ]
    columns.append(("$.slots[*].losses_w", tuple(s.losses_w for s in e.result.slots), a.losses_w()))
    for path, published, computed in columns:
        said = np.array(published, dtype=float)
        if len(said) != e.case.slots:
            yield Finding(path, f"{len(said)} values for {e.case.slots} slots")
            continue
        truth = np.nan_to_num(computed)
        # Relative part: the last digits of a large flow on another processor.
        for t in np.flatnonzero(np.abs(said - truth) > HALF + 1e-9 * np.abs(truth)).tolist():
            yield Finding(f"{path}[{t}]", f"published {published[t]}, the AC power flow gives {truth[t]:.2f}")
