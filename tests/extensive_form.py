"""The whole two-stage problem at once in CVXPY, written from the case alone: what the fast path must agree with.

Radial grids of lines without taps, limits of voltages and of currents at the to end, upward active offers at a bus
that nothing but their reservation ties, active requests in the area; other cases are not understood.
"""

from typing import Any

import cvxpy as cp
import numpy as np
from numpy.typing import NDArray

from clearing.case import Case
from clearing.phases import alone, unfold
from clearing.power_flow import solve_ac

__all__ = ["extensive_form"]

MEGA = 1e6


def extensive_form(case: Case) -> float:
    """Return the least expected cost of reservations, calls, energy and violations less requests, EUR per hour.

    Args:
        case: a case of phase STOCHASTIC.
    """
    reserved = {o.offer_id: cp.Variable(case.slots, nonneg=True) for o in case.offers}
    rules: list[Any] = []
    cost: Any = 0.0
    for o in case.offers:
        cost += np.array(o.reservation_price_milli_per_mwh) / 1e3 @ reserved[o.offer_id]
    for k, scenario in enumerate(case.scenarios):
        plain = alone(unfold(case), k)
        for slot in range(case.slots):
            own = _state(plain, slot, {i: r[slot] for i, r in reserved.items()}, rules)
            cost += scenario.probability_ppm / 1e6 * own
    task = cp.Problem(cp.Minimize(cost / 100), rules)
    task.solve(solver="CLARABEL", tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    return float(task.value) * 100


def _state(case: Case, slot: int, reserved: dict[str, Any], rules: list[Any]) -> Any:
    """Add the rules of one slot of one scenario; return its cost."""
    buses, lines, root = [b.bus_id for b in case.network.buses], case.network.branches, case.network.infeed_points[0]
    n, m, at_root = len(buses), len(lines), buses.index(root.bus_id)
    base = case.network.buses[0].nominal_voltage_v ** 2 / MEGA
    f, t = ([buses.index(getattr(b, end)) for b in lines] for end in ("from_bus_id", "to_bus_id"))
    r, x = (np.array([getattr(b, name) for b in lines]) / base for name in ("r_ohm", "x_ohm"))
    half = np.array([b.b_s for b in lines]) * base / 2
    most = np.array([b.max_current_ma or 0 for b in lines]) / 1e3 * 3**0.5 * base**0.5 / 1e3
    leaves, enters = np.zeros((n, m)), np.zeros((n, m))
    leaves[f, range(m)] = enters[t, range(m)] = 1
    p, q, square, v, p0, q0 = (cp.Variable(k) for k in (m, m, m, n, 1, 1))
    low, high, over, current = (cp.Variable(k, nonneg=True) for k in (n, n, m, m))
    inject = np.zeros((2, n))
    for entry in case.baseline:
        inject[:, buses.index(entry.bus_id)] += np.array([entry.power_w[slot], entry.reactive_power_var[slot]]) / MEGA
    flex: Any = 0.0
    taken: Any = 0.0
    cost: Any = 0.0
    for o in case.offers:
        y = cp.Variable(len(o.slots[slot].steps), nonneg=True)
        rules += [y <= np.array([s.quantity for s in o.slots[slot].steps]) / MEGA, cp.sum(y) <= reserved[o.offer_id]]
        cost += np.array([s.price_milli_per_mwh for s in o.slots[slot].steps]) / 1e3 @ y
        flex = flex + cp.sum(y) * _unit(n, buses.index(o.bus_id or ""))
        taken += cp.sum(y)
    for request in case.requests:
        step, met = request.slots[slot].steps[0], cp.Variable(nonneg=True)
        rules += [met <= step.quantity / MEGA, met <= taken]
        cost -= step.price_milli_per_mwh / 1e3 * met
    p_end, q_end = p - cp.multiply(r, square), q - cp.multiply(x, square) + cp.multiply(half, v[t])
    rules += [
        inject[0] + flex + p0 * _unit(n, at_root) == leaves @ p - enters @ p_end,
        inject[1] + q0 * _unit(n, at_root) == leaves @ (q - cp.multiply(half, v[f])) - enters @ q_end,
        v[t] == v[f] - 2 * (cp.multiply(r, p) + cp.multiply(x, q)) + cp.multiply(r**2 + x**2, square),
        cp.SOC(square + v[f], cp.vstack([2 * p, 2 * q, square - v[f]]), axis=0),
        cp.SOC(current + v[t], cp.vstack([2 * p_end, 2 * q_end, current - v[t]]), axis=0),
        current - most**2 <= cp.multiply(3 * most, over),
        v[at_root] == 1,
    ]
    for k, bus in enumerate(case.network.buses):
        if k != at_root:
            bottom, top = bus.min_voltage_ppm / MEGA, bus.max_voltage_ppm / MEGA
            rules += [v[k] <= top**2 + (1.3 + top) * high[k], v[k] >= bottom**2 - 2 * bottom * low[k]]
    settings, energy = case.settings, root.import_price_milli_per_mwh / 1e3
    cost += settings.voltage_price_milli_per_puh / 1e3 * cp.sum(low + high)
    cost += settings.loading_price_milli_per_mwh / 1e3 * cp.sum(over)
    idle = solve_ac(case.network, MEGA * inject[:1], MEGA * inject[1:])
    return cost + energy * (cp.sum(p0) - float(idle.root_p_w.sum()) / MEGA)


def _unit(n: int, k: int) -> NDArray[np.float64]:
    return np.asarray(np.eye(n)[k])
