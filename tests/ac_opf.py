"""An independent oracle: one slot of a market as AC optimal power flow in IPOPT, from the raw network model."""

from dataclasses import dataclass
from typing import Any

import casadi
import numpy as np

from clearing.case import Case, Location, Quantity
from flexbus.quantities import Direction


@dataclass(frozen=True)
class Optimum:
    success: bool
    objective: float  # EUR per hour
    voltage: dict[str, float]
    taken: dict[str, float]  # MW per offer
    price_p: dict[str, float]  # EUR per MWh
    price_q: dict[str, float]


def ac_opf(case: Case, slot: int = 0, *, extra: dict[str, complex] | None = None, tolerance: float = 1e-10) -> Optimum:
    """Return the AC optimum of a slot; `extra` adds MW and Mvar at buses (for finite differences).

    Handles offers at buses with price stacks, requests of the area, priced voltage and current limits.
    """
    net, settings = case.network, case.settings
    buses = {b.bus_id: k for k, b in enumerate(net.buses)}
    n = len(buses)
    base = 10.0
    nominal = np.array([b.nominal_voltage_v for b in net.buses], dtype=float)
    opti = casadi.Opti()
    vm, va = opti.variable(n), opti.variable(n)
    s = np.zeros(n, dtype=complex)
    for entry in case.baseline:
        s[buses[entry.bus_id]] += complex(entry.power_w[slot], entry.reactive_power_var[slot]) / 1e6
    start_s = s.copy()
    for bus_id, more in (extra or {}).items():
        s[buses[bus_id]] += more
    p_in = [casadi.MX(x) for x in s.real]
    q_in = [casadi.MX(x) for x in s.imag]
    cost: casadi.MX = casadi.MX(0)
    columns: dict[str, list[casadi.MX]] = {}
    net_flex: casadi.MX = casadi.MX(0)
    for offer in case.offers:
        columns[offer.offer_id] = []
        for step in offer.slots[slot].steps:
            x = opti.variable()
            opti.subject_to(opti.bounded(0, x, step.quantity / 1e6 / base))
            opti.set_initial(x, step.quantity / 2e6 / base)
            columns[offer.offer_id].append(x * base)
            cost += step.price_milli_per_mwh / 1e3 * x * base
            sign = 1 if offer.direction is Direction.UP else -1
            assert offer.bus_id is not None
            if offer.quantity is Quantity.ACTIVE:
                p_in[buses[offer.bus_id]] += sign * x * base
                net_flex += sign * x * base
            else:
                q_in[buses[offer.bus_id]] += sign * x * base
    for request in case.requests:
        assert request.location_kind is Location.AREA
        for step in request.slots[slot].steps:
            m = opti.variable()
            opti.subject_to(opti.bounded(0, m, step.quantity / 1e6))
            cost -= step.price_milli_per_mwh / 1e3 * m
            opti.subject_to(m <= net_flex * (1 if request.direction is Direction.UP else -1))
    p_out, q_out = [casadi.MX(0)] * n, [casadi.MX(0)] * n
    for k, b in enumerate(net.buses):
        g, bb = b.shunt_g_s * nominal[k] ** 2 / 1e6, b.shunt_b_s * nominal[k] ** 2 / 1e6
        p_out[k] = p_out[k] + g * vm[k] ** 2
        q_out[k] = q_out[k] - bb * vm[k] ** 2
    for branch in net.branches:
        if not branch.closed:
            continue
        i, j = buses[branch.from_bus_id], buses[branch.to_bus_id]
        if branch.r_ohm == 0 and branch.x_ohm == 0:
            p, q = opti.variable(), opti.variable()
            opti.subject_to(vm[i] == vm[j])
            opti.subject_to(va[i] == va[j])
            p_out[i], q_out[i] = p_out[i] + p, q_out[i] + q
            p_out[j], q_out[j] = p_out[j] - p, q_out[j] - q
            continue
        zb = nominal[j] ** 2 / 1e6
        y = zb / complex(branch.r_ohm, branch.x_ohm)
        half = complex(branch.g_s, branch.b_s) * zb / 2
        a, shift = branch.ratio, np.deg2rad(branch.shift_deg)
        vi, ang = vm[i] / a, va[i] - shift - va[j]
        cos, sin = casadi.cos(ang), casadi.sin(ang)
        g, b = y.real, y.imag
        pf = (g + half.real) * vi**2 - vi * vm[j] * (g * cos + b * sin)
        qf = -(b + half.imag) * vi**2 - vi * vm[j] * (g * sin - b * cos)
        pt = (g + half.real) * vm[j] ** 2 - vi * vm[j] * (g * cos - b * sin)
        qt = -(b + half.imag) * vm[j] ** 2 + vi * vm[j] * (g * sin + b * cos)
        p_out[i], q_out[i] = p_out[i] + pf, q_out[i] + qf
        p_out[j], q_out[j] = p_out[j] + pt, q_out[j] + qt
        price = settings.loading_price_milli_per_mwh / 1e3
        for amps, p, q, v, k in (
            (branch.max_from_current_ma, pf, qf, vm[i], i),
            (branch.max_current_ma, pt, qt, vm[j], j),
        ):
            if amps is not None:
                limit = amps / 1e3 * 3**0.5 * nominal[k] / 1e6
                over = opti.variable()
                opti.subject_to(over >= 0)
                opti.subject_to((p**2 + q**2) / base**2 <= (v * (limit / base + over)) ** 2)
                cost += price * over * base
    roots = {buses[point.bus_id]: point for point in net.infeed_points}
    rows: dict[int, tuple[casadi.MX, casadi.MX]] = {}
    prices = {x.infeed_id: x.price_milli_per_mwh[slot] for x in case.infeed_prices}
    for k, bus in enumerate(net.buses):
        if k in roots:
            point = roots[k]
            opti.subject_to(vm[k] == point.voltage_ppm / 1e6)
            opti.subject_to(va[k] == np.deg2rad(point.angle_deg))
            price = prices.get(point.infeed_id, point.import_price_milli_per_mwh) / 1e3
            cost += price * (p_out[k] - p_in[k])
            continue
        rows[k] = ((p_in[k] - p_out[k]) / base == 0, (q_in[k] - q_out[k]) / base == 0)
        opti.subject_to(rows[k][0])
        opti.subject_to(rows[k][1])
        over = opti.variable()
        opti.subject_to(over >= 0)
        opti.subject_to(vm[k] <= bus.max_voltage_ppm / 1e6 + over)
        opti.subject_to(vm[k] >= bus.min_voltage_ppm / 1e6 - over)
        cost += settings.voltage_price_milli_per_puh / 1e3 * over
    opti.set_initial(vm, 1.0)
    opti.minimize(cost / 100)
    options: dict[str, Any] = {
        "print_time": False,
        "ipopt.print_level": 0,
        "ipopt.sb": "yes",
        "ipopt.tol": tolerance,
        "ipopt.bound_relax_factor": 0.0,
        "ipopt.max_iter": 2000,
        "ipopt.constr_viol_tol": 1e-10,
        "ipopt.compl_inf_tol": 1e-11,
        "ipopt.dual_inf_tol": 1e-6,
        "ipopt.s_max": 1e6,
    }
    opti.solver("ipopt", options)
    try:
        opti.solve()
        success = True
    except RuntimeError:
        success = False
    value = opti.debug.value
    base_cost = _infeed_without_market(case, slot, start_s)
    price_p, price_q = {}, {}
    for bus_id, k in buses.items():
        if k in rows:
            price_p[bus_id] = -float(value(opti.dual(rows[k][0]))) * 100 / base
            price_q[bus_id] = -float(value(opti.dual(rows[k][1]))) * 100 / base
    return Optimum(
        success=success,
        objective=float(value(cost)) - base_cost,
        voltage={b: float(value(vm[k])) for b, k in buses.items()},
        taken={o: float(sum(value(x) for x in xs)) if xs else 0.0 for o, xs in columns.items()},
        price_p=price_p,
        price_q=price_q,
    )


def _infeed_without_market(case: Case, slot: int, s: np.ndarray) -> float:
    """Return the cost of infeed energy of the baseline, so that objectives compare."""
    from clearing.power_flow import solve_ac

    state = solve_ac(case.network, (s.real * 1e6)[None, :], (s.imag * 1e6)[None, :])
    prices = {x.infeed_id: x.price_milli_per_mwh[slot] for x in case.infeed_prices}
    total = 0.0
    for k, point in enumerate(case.network.infeed_points):
        price = prices.get(point.infeed_id, point.import_price_milli_per_mwh) / 1e3
        total += price * float(state.root_p_w[0, k]) / 1e6
    return total
