"""The relaxation of one slot once more, in CVXPY: short, readable, slow; tests compare the fast path with it."""

from dataclasses import dataclass

import cvxpy as cp
import numpy as np
from numpy.typing import NDArray

from clearing.certificate.boxes import I_TOP, V_LOW, V_TOP
from clearing.formulation import CUT_ROOM, ROOM, SlotProblem, current_range, power_base
from clearing.result import LimitKind

__all__ = ["ReferenceSolution", "solve_reference"]

Real = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceSolution:
    """Optimum and multipliers; prices are the worth of one more MW (Mvar) injected, EUR per MWh."""

    value: float
    x: Real
    balance_p: Real
    balance_q: Real


def solve_reference(problem: SlotProblem, solver: str = "CLARABEL") -> ReferenceSolution:
    """Solve the relaxation as it is written in the textbook (Farivar and Low 2013).

    Args:
        problem: the slot.
        solver: any conic solver that CVXPY knows.
    """
    g = problem.grid
    m, n, h = len(g.branch_ids), g.nodes, len(g.infeed_ids)
    p, q, l = cp.Variable(m), cp.Variable(m), cp.Variable(m)  # noqa: E741 - the model's own letter
    v, p0, q0 = cp.Variable(n), cp.Variable(h), cp.Variable(h)
    x = cp.Variable(len(problem.cost))
    z = 1 / g.y
    a2 = np.abs(g.ratio) ** 2
    at_from = np.zeros((n, m))
    at_to = np.zeros((n, m))
    at_from[g.from_node, np.arange(m)] = 1
    at_to[g.to_node, np.arange(m)] = 1
    root = np.zeros((n, h))
    root[g.infeed_node, np.arange(h)] = 1
    v_from = cp.multiply(1 / a2, v[g.from_node])
    v_to = v[g.to_node]
    p_from, q_from = p + cp.multiply(g.half.real, v_from), q - cp.multiply(g.half.imag, v_from)
    p_to = -p + cp.multiply(z.real, l) + cp.multiply(g.half.real, v_to)
    q_to = -q + cp.multiply(z.imag, l) - cp.multiply(g.half.imag, v_to)
    inject_p = problem.s.real + problem.inject_p @ x + root @ p0
    inject_q = problem.s.imag + problem.inject_q @ x + root @ q0
    balance_p = inject_p - at_from @ p_from - at_to @ p_to - cp.multiply(g.shunt.real, v) == 0
    balance_q = inject_q - at_from @ q_from - at_to @ q_to + cp.multiply(g.shunt.imag, v) == 0
    constraints = [
        balance_p,
        balance_q,
        v_to == v_from - 2 * (cp.multiply(z.real, p) + cp.multiply(z.imag, q)) + cp.multiply(np.abs(z) ** 2, l),
        cp.SOC(l + v_from, cp.vstack([2 * p, 2 * q, l - v_from]), axis=0),
        v[g.held] == np.abs(g.held_v) ** 2,
        x >= 0,
        x <= problem.upper,
    ]
    box, free = problem.box, np.setdiff1d(np.arange(n), g.held)
    low, high = np.full(n, V_LOW**2), np.full(n, V_TOP**2)
    if box is not None:
        low, high = box.w_low - ROOM, box.w_high + ROOM
        # What leaves a branch at its far end, and the chord of its square.
        p_far = cp.multiply(box.inward, -p) + cp.multiply(~box.inward, p - cp.multiply(z.real, l))
        q_far = cp.multiply(box.inward, -q) + cp.multiply(~box.inward, q - cp.multiply(z.imag, l))
        chord = cp.multiply(box.by_p, p_far) + cp.multiply(box.by_q, q_far) - box.constant
        constraints.append(cp.multiply(box.w_far, l) <= chord + CUT_ROOM * power_base(problem) ** 2)
    constraints += [v[free] >= low[free], v[free] <= high[free]]
    top = np.sqrt(np.where(np.isin(np.arange(n), g.held), 0.0, high))
    top[g.held] = np.abs(g.held_v)
    if problem.rows.shape[0]:
        from_below, from_above = np.isfinite(problem.row_low), np.isfinite(problem.row_high)
        for side, rows in ((1.0, from_above), (-1.0, from_below)):
            bound = problem.row_high if side > 0 else problem.row_low
            constraints += [side * (problem.rows[rows] @ x) <= side * bound[rows]] if rows.any() else []
    cost = problem.cost @ x + problem.energy_price @ (p0 - problem.base_root)
    for limit in problem.limits:
        j, over = limit.index, cp.Variable(nonneg=True)
        cost += limit.price * over
        match limit.kind:
            case LimitKind.VOLTAGE_MAX:
                least = max(limit.bound, float(np.sqrt(low[j])))
                chord = (v[j] + least * top[j]) / (least + top[j])
                constraints.append(chord - limit.bound <= over)
            case LimitKind.VOLTAGE_MIN:
                constraints.append(-limit.bound - cp.sqrt(v[j]) <= over)
            case LimitKind.CURRENT_FROM | LimitKind.CURRENT_TO:
                to = limit.kind is LimitKind.CURRENT_TO
                square, at = cp.Variable(), g.to_node[j] if to else g.from_node[j]
                flow = cp.hstack([2 * (p_to if to else p_from)[j], 2 * (q_to if to else q_from)[j], square - v[at]])
                constraints.append(cp.SOC(square + v[at], flow))
                usual = limit.bound, I_TOP * limit.bound
                least, most = usual if box is None else current_range(problem, limit, box)
                constraints.append((square + least * most) / (least + most) - limit.bound <= over)
                constraints.append(cp.norm(flow[:2]) / 2 <= float(top[at]) * (limit.bound + over))
            case LimitKind.APPARENT_POWER_FROM:
                constraints.append(cp.norm(cp.hstack([p_from[j], q_from[j]])) <= limit.bound + over)
            case LimitKind.APPARENT_POWER_TO:
                constraints.append(cp.norm(cp.hstack([p_to[j], q_to[j]])) <= limit.bound + over)
            case LimitKind.IMPORT:
                constraints.append(p0[j] <= limit.bound + over)
            case LimitKind.EXPORT:
                constraints.append(-p0[j] <= limit.bound + over)
    for index, kind, sign, value, columns in problem.measured:
        flows = {"root_p": p0, "root_q": q0, "pf": p_from, "qf": q_from, "pt": p_to, "qt": q_to}
        over = cp.Variable(nonneg=True)
        cost += max([-float(problem.cost[c]) for c in columns] + [0.0]) * over
        constraints.append(cp.sum(x[list(columns)]) <= sign * (value - flows[kind][index]) + over)
    task = cp.Problem(cp.Minimize(cost / 100), constraints)
    fine = {"tol_gap_abs": 1e-9, "tol_gap_rel": 1e-9, "tol_feas": 1e-9} if solver == "CLARABEL" else {}
    task.solve(solver=solver, **fine)
    return ReferenceSolution(
        value=float(task.value) * 100,
        x=np.asarray(x.value),
        balance_p=-np.asarray(balance_p.dual_value) * 100,
        balance_q=-np.asarray(balance_q.dual_value) * 100,
    )
