"""The second-order-cone relaxation of one slot (branch flow model), assembled for Clarabel.

Accepts a `SlotProblem`: the grid, the injections without market, columns that inject, rows among them, and the
limits that matter. Every AC state of the slot is feasible at no more than its own cost, so the optimum is a
lower bound for the market in AC; where the cone is tight the relaxation is exact and the bound is the optimum.

Model, per unit of `base`: branch k from i to j behind an ideal transformer of ratio a, v_i' = v_i / |a|^2,
series flow P, Q at the sending end, l its squared current, half the shunt (g + jb) / 2 at each end:

    v_j = v_i' - 2 (r P + x Q) + (r^2 + x^2) l,        l v_i' >= P^2 + Q^2,
    out of i: P + g/2 v_i', Q - b/2 v_i',              into j: P - r l - g/2 v_j, Q - x l + b/2 v_j.

Costs of violations are never above the true cost: exact where they are convex in the squared magnitude (a voltage
too low), else the chord of the square root, so that the bound also holds in slots with a shortfall. What bounds every
state of the slot (`SlotBox`) keeps the relaxation from losses that no state has: without it a price below zero, or
energy that finds no taker, is burnt in currents that nothing carries. Source: Farivar and Low 2013 (branch flow model);
clearing note, section 6.
"""

from dataclasses import dataclass, field
from typing import Any

import clarabel
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from clearing.certificate.boxes import I_TOP, V_LOW, V_TOP
from clearing.network import Grid
from clearing.result import LimitKind

__all__ = [
    "CUT_ROOM",
    "ROOM",
    "Assembled",
    "Pressed",
    "SlotBox",
    "SlotLimit",
    "SlotMultipliers",
    "SlotProblem",
    "assemble",
    "current_range",
    "power_base",
]

Real = NDArray[np.float64]
# Squared pu: a box is this much wider here than what is known, for the cone solver needs some room in it.
ROOM = 1e-4
CUT_ROOM = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotBox:
    """What every state of a slot keeps, whatever the market takes (`clearing.certificate.boxes`), pu of 1 MVA.

    ``w_far l <= by_p p + by_q q - constant`` for what leaves a branch at its far end: the chord of the squared flow.
    """

    w_low: Real  # squared voltages (nodes)
    w_high: Real
    l_low: Real  # squared currents (branches)
    l_high: Real
    w_far: Real
    by_p: Real
    by_q: Real
    constant: Real
    inward: NDArray[np.bool_]  # whether the from side is the far end


@dataclass(frozen=True, slots=True)
class SlotLimit:
    """A priced limit of a slot: what, of which element, bound and price in pu of 1 MVA."""

    kind: LimitKind
    index: int
    bound: float
    price: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotProblem:
    """One slot; powers in MW and Mvar, prices in EUR per MWh, costs in EUR per hour."""

    grid: Grid
    s: NDArray[np.complexfloating[Any, Any]]  # net injection without market (nodes)
    energy_price: Real  # per infeed point
    base_root: Real  # power entering without market, per infeed point
    cost: Real  # per column
    upper: Real
    inject_p: sparse.csc_matrix  # nodes x columns
    inject_q: sparse.csc_matrix
    rows: sparse.csr_matrix  # rows x columns, low <= . <= high
    row_low: Real
    row_high: Real
    limits: tuple[SlotLimit, ...] = ()
    # Flow rows: (branch or infeed index, Measure kind, sign, base value, columns): sum columns <= sign (base - flow).
    measured: tuple[tuple[int, str, float, float, tuple[int, ...]], ...] = ()
    box: SlotBox | None = None
    likely: NDArray[np.bool_] | None = None  # columns to begin with; the others are looked at when prices are known


@dataclass(frozen=True, slots=True)
class Pressed:
    """A limit and its multipliers, in the units of `LimitDual`."""

    limit: SlotLimit
    value: float
    value_q: float = 0.0
    flow_p: float = 0.0
    flow_q: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotMultipliers:
    """Multipliers of the relaxation of a slot: worth of one more MW (Mvar) injected at the nodes, and of the rest."""

    balance_p: Real
    balance_q: Real
    drop: Real
    limits: tuple[Pressed, ...]
    cuts: Real = field(default_factory=lambda: np.zeros(0))  # of the box's chords, per branch; none: not used


@dataclass(slots=True)
class _Block:
    """Triplets of rows A z + s = b of one cone."""

    row: list[Any] = field(default_factory=list)
    col: list[Any] = field(default_factory=list)
    val: list[Any] = field(default_factory=list)
    rhs: list[Any] = field(default_factory=list)
    height: int = 0

    def put(self, rows: Any, cols: Any, vals: Any) -> None:
        rows = np.atleast_1d(rows)
        self.row.append(rows)
        self.col.append(np.atleast_1d(cols))
        self.val.append(vals if isinstance(vals, np.ndarray) else np.full(len(rows), vals, dtype=float))

    def grow(self, rhs: Any) -> NDArray[np.int_]:
        """Append rows with these right sides; return their numbers."""
        rhs = np.atleast_1d(np.asarray(rhs, dtype=float))
        self.rhs.append(rhs)
        start = self.height
        self.height += len(rhs)
        return np.arange(start, self.height)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """The program of a slot as Clarabel takes it, per unit of `base`, and where its parts are."""

    base: float
    cost: Real
    matrix: sparse.csc_matrix
    rhs: Real
    kinds: tuple[Any, ...]
    at_p: int  # first columns of P, Q, l, v, what enters at infeed points, and the market
    at_q: int
    at_l: int
    at_v: int
    at_x: int
    p_row: NDArray[np.int_]
    q_row: NDArray[np.int_]
    drop_row: NDArray[np.int_]
    row_of: NDArray[np.int_]  # rows of the problem
    limit_rows: tuple[tuple[SlotLimit, int], ...]
    flow_rows: tuple[int, ...]  # first rows of the flows of limited currents, in the order of their limits
    measured_rows: NDArray[np.int_]
    cut_rows: NDArray[np.int_]  # of the box's chords, per branch; empty without a box
    cut_unit: Real  # what these rows are scaled with


def assemble(problem: SlotProblem) -> Assembled:
    """Return the relaxation of one slot as a conic program."""
    grid = problem.grid
    base = power_base(problem)
    m, n, h = len(grid.branch_ids), grid.nodes, len(grid.infeed_ids)
    k = len(problem.cost)
    at_p, at_q, at_l, at_v = 0, m, 2 * m, 3 * m
    at_p0, at_q0, at_x = 3 * m + n, 3 * m + n + h, 3 * m + n + 2 * h
    size = at_x + k
    extra_cost: list[float] = []

    def slack(price: float) -> int:
        extra_cost.append(price)
        return size + len(extra_cost) - 1

    z = base / grid.y  # series impedance, pu of base: y is in pu of 1 MVA
    r, x = np.asarray(z.real, dtype=np.float64), np.asarray(z.imag, dtype=np.float64)
    a2: Real = np.asarray(np.abs(grid.ratio) ** 2, dtype=np.float64)
    half = grid.half / base
    shunt = grid.shunt / base
    f, t = grid.from_node, grid.to_node
    lines = np.arange(m)

    eq, pos, cones = _Block(), _Block(), []
    # Balances: injection + p0 + market - outflow + inflow - shunt = 0, written as -(...) = s.
    p_row = eq.grow(-problem.s.real / base)
    q_row = eq.grow(-problem.s.imag / base)
    eq.put(p_row[f], at_p + lines, -1.0)
    eq.put(p_row[t], at_p + lines, 1.0)
    eq.put(p_row[t], at_l + lines, -r)
    eq.put(q_row[f], at_q + lines, -1.0)
    eq.put(q_row[t], at_q + lines, 1.0)
    eq.put(q_row[t], at_l + lines, -x)
    eq.put(p_row[f], at_v + f, -half.real / a2)
    eq.put(p_row[t], at_v + t, -half.real)
    eq.put(q_row[f], at_v + f, half.imag / a2)
    eq.put(q_row[t], at_v + t, half.imag)
    eq.put(p_row, at_v + np.arange(n), -shunt.real)
    eq.put(q_row, at_v + np.arange(n), shunt.imag)
    eq.put(p_row[grid.infeed_node], at_p0 + np.arange(h), 1.0)
    eq.put(q_row[grid.infeed_node], at_q0 + np.arange(h), 1.0)
    for row, matrix in ((p_row, problem.inject_p), (q_row, problem.inject_q)):
        coo = matrix.tocoo()
        eq.put(row[coo.row], at_x + coo.col, coo.data)
    drop_row = eq.grow(np.zeros(m))
    eq.put(drop_row, at_v + t, -1.0)
    eq.put(drop_row, at_v + f, 1 / a2)
    eq.put(drop_row, at_p + lines, -2 * r)
    eq.put(drop_row, at_q + lines, -2 * x)
    eq.put(drop_row, at_l + lines, r**2 + x**2)
    held_row = eq.grow(np.abs(grid.held_v) ** 2)
    eq.put(held_row, at_v + grid.held, 1.0)
    coo = problem.rows.tocoo()
    same = problem.row_low == problem.row_high
    number = np.zeros(len(same), dtype=int)
    number[same] = eq.grow(problem.row_low[same] / base)
    pick = same[coo.row]
    eq.put(number[coo.row[pick]], at_x + coo.col[pick], coo.data[pick])

    # Inequalities: rows, bounds.
    for side, sign in ((problem.row_high, 1.0), (problem.row_low, -1.0)):
        use = np.isfinite(side) & ~same
        number[use] = pos.grow(sign * side[use] / base)
        pick = use[coo.row]
        pos.put(number[coo.row[pick]], at_x + coo.col[pick], sign * coo.data[pick])
    low = pos.grow(np.zeros(k))
    pos.put(low, at_x + np.arange(k), -1.0)
    bounded = np.flatnonzero(np.isfinite(problem.upper))
    high = pos.grow(problem.upper[bounded] / base)
    pos.put(high, at_x + bounded, 1.0)
    # Voltages stay physical, so that a price on their limits keeps its chord.
    box = problem.box
    free = grid.free
    w_low, w_high = np.full(n, V_LOW**2), np.full(n, V_TOP**2)
    if box is not None:
        w_low, w_high = box.w_low - ROOM, box.w_high + ROOM
    top = pos.grow(w_high[free])
    pos.put(top, at_v + free, 1.0)
    bottom = pos.grow(-w_low[free])
    pos.put(bottom, at_v + free, -1.0)
    cut_row, unit = np.zeros(0, dtype=int), np.zeros(0)
    if box is not None:
        # In units of the largest of each row's coefficients.
        by_p, by_q, far = box.by_p / base, box.by_q / base, box.w_far
        outgoing = np.where(box.inward, 1.0, -1.0)
        by_l = far - np.where(box.inward, 0.0, outgoing * (by_p * r + by_q * x))
        unit = 1 / np.maximum(np.abs([by_p, by_q, by_l]).max(axis=0), 1e-9)
        cut_row = pos.grow(unit * (CUT_ROOM - box.constant / base**2))
        pos.put(cut_row, at_p + lines, unit * outgoing * by_p)
        pos.put(cut_row, at_q + lines, unit * outgoing * by_q)
        pos.put(cut_row, at_l + lines, unit * by_l)

    def branch_cone(
        rows_p: list[tuple[int, Any]], rows_q: list[tuple[int, Any]], l_col: int, v_col: int, v_scale: float
    ) -> None:
        # l v >= P^2 + Q^2  <=>  (l + v, 2 P, 2 Q, l - v) in the second-order cone.
        block = _Block()
        block.grow(np.zeros(4))
        block.put([0, 0, 3, 3], [l_col, v_col, l_col, v_col], [-1.0, -v_scale, -1.0, v_scale])
        for column, value in rows_p:
            block.put(1, column, -2.0 * value)
        for column, value in rows_q:
            block.put(2, column, -2.0 * value)
        cones.append(block)

    main = _main_cones(m, at_p, at_q, at_l, at_v, f, a2)
    flow_rows: list[int] = []  # of the limits of currents: number of the cone of the flow
    held_v = np.zeros(n)
    held_v[grid.held] = np.abs(grid.held_v)
    limit_rows: list[tuple[SlotLimit, int]] = []  # row among the inequalities, or (apparent power) number of a cone
    for limit in problem.limits:
        j, scale = limit.index, 1.0 / base
        match limit.kind:
            case LimitKind.VOLTAGE_MAX:
                # The chord of the voltage from the bound, or the least that the box leaves, to the most.
                lowest, highest = max(limit.bound, float(np.sqrt(w_low[j]))), float(np.sqrt(w_high[j]))
                c = slack(limit.price)
                row = pos.grow(limit.bound * (lowest + highest) - lowest * highest)
                pos.put(row, at_v + j, 1.0)
                pos.put(row, c, -(lowest + highest))
            case LimitKind.VOLTAGE_MIN:
                # The voltage itself, u^2 <= w  <=>  (w + 1, 2 u, w - 1) in the second-order cone.
                u, c = slack(0.0), slack(limit.price)
                block = _Block()
                block.grow([1.0, 0.0, -1.0])
                block.put([0, 1, 2], [at_v + j, u, at_v + j], [-1.0, -2.0, -1.0])
                cones.append(block)
                row = pos.grow(limit.bound)
                pos.put(row, u, -1.0)
                pos.put(row, c, -1.0)
            case LimitKind.CURRENT_FROM | LimitKind.CURRENT_TO:
                limit_pu = limit.bound * scale
                ends_p, ends_q, v_at, v_scale = _end(
                    limit.kind is LimitKind.CURRENT_TO, j, f, t, a2, r, x, half, at_p, at_q, at_l, at_v
                )
                square = slack(0.0)
                branch_cone(ends_p, ends_q, square, v_at, v_scale)
                least, most = (limit.bound, I_TOP * limit.bound) if box is None else current_range(problem, limit, box)
                least, most = least * scale, most * scale
                c = slack(limit.price * base)
                row = pos.grow(limit_pu * (least + most) - least * most)
                limit_rows.append((limit, int(row[0])))
                pos.put(row, square, 1.0)
                pos.put(row, c, -(least + most))
                # Nor is a current less than its flow at the highest voltage.
                end = int((t if limit.kind is LimitKind.CURRENT_TO else f)[j])
                volt = float(np.sqrt(w_high[end])) if end not in grid.held else float(np.abs(held_v[end]))
                block = _Block()
                block.grow([volt * limit_pu, 0.0, 0.0])
                block.put(0, c, -volt)
                for column, value in ends_p:
                    block.put(1, column, -value)
                for column, value in ends_q:
                    block.put(2, column, -value)
                flow_rows.append(len(cones))
                cones.append(block)
            case LimitKind.APPARENT_POWER_FROM | LimitKind.APPARENT_POWER_TO:
                ends_p, ends_q, _, _ = _end(
                    limit.kind is LimitKind.APPARENT_POWER_TO, j, f, t, a2, r, x, half, at_p, at_q, at_l, at_v
                )
                c = slack(limit.price * base)
                block = _Block()
                block.grow([limit.bound * scale, 0.0, 0.0])
                block.put(0, c, -1.0)
                for column, value in ends_p:
                    block.put(1, column, -value)
                for column, value in ends_q:
                    block.put(2, column, -value)
                limit_rows.append((limit, len(cones)))
                cones.append(block)
            case LimitKind.IMPORT | LimitKind.EXPORT:
                sign = 1.0 if limit.kind is LimitKind.IMPORT else -1.0
                c = slack(limit.price * base)
                row = pos.grow(limit.bound * scale)
                limit_rows.append((limit, int(row[0])))
                pos.put(row, at_p0 + j, sign)
                pos.put(row, c, -1.0)
            case _:
                raise AssertionError(limit.kind)
    measured_rows: list[int] = []
    for index, kind, sign, value, columns in problem.measured:
        worst = max([-float(problem.cost[c]) for c in columns] + [0.0])
        c = slack(worst * base)
        row = pos.grow(sign * value / base)
        measured_rows.append(int(row[0]))
        if kind in ("root_p", "root_q"):
            pos.put(row, (at_p0 if kind == "root_p" else at_q0) + index, sign)
        else:
            ends_p, ends_q, _, _ = _end(kind.endswith("t"), index, f, t, a2, r, x, half, at_p, at_q, at_l, at_v)
            for column, factor in ends_p if kind.startswith("p") else ends_q:
                pos.put(row, column, sign * factor)
        for column in columns:
            pos.put(row, at_x + column, 1.0)
        pos.put(row, c, -1.0)
    if extra_cost:
        low = pos.grow(np.zeros(len(extra_cost)))
        pos.put(low, size + np.arange(len(extra_cost)), -1.0)

    cost = np.zeros(size + len(extra_cost))
    cost[at_p0 : at_p0 + h] = problem.energy_price * base
    cost[at_x : at_x + k] = problem.cost * base
    cost[size:] = extra_cost
    blocks = [eq, pos, main, *cones]
    kinds = [clarabel.ZeroConeT(eq.height), clarabel.NonnegativeConeT(pos.height)]
    kinds += [clarabel.SecondOrderConeT(4)] * m + [clarabel.SecondOrderConeT(b.height) for b in cones]
    stacked, rhs = _stacked(blocks, len(cost))
    # Violations cost a thousand times what energy costs. Counted in smaller units they cost as much, and prices keep
    # the digits that the solver would otherwise spend on them.
    usual = max(float(np.abs(cost[:size]).max(initial=0.0)), 1.0 * base)
    units = np.ones(len(cost))
    units[size:] = np.minimum(1.0, usual / np.maximum(cost[size:], usual))
    stacked.data *= np.repeat(units, np.diff(stacked.indptr))
    stacked.eliminate_zeros()
    cost = cost * units
    firsts = eq.height + pos.height + 4 * m + np.cumsum([0, *(b.height for b in cones)])
    apparent = (LimitKind.APPARENT_POWER_FROM, LimitKind.APPARENT_POWER_TO)
    return Assembled(
        base=base,
        cost=cost,
        matrix=stacked,
        rhs=rhs,
        kinds=tuple(kinds),
        at_p=at_p,
        at_q=at_q,
        at_l=at_l,
        at_v=at_v,
        at_x=at_x,
        p_row=p_row,
        q_row=q_row,
        drop_row=drop_row,
        row_of=np.where(same, number, eq.height + number),
        limit_rows=tuple(
            (limit, int(firsts[place]) if limit.kind in apparent else eq.height + place) for limit, place in limit_rows
        ),
        flow_rows=tuple(int(firsts[place]) for place in flow_rows),
        measured_rows=eq.height + np.array(measured_rows, dtype=int),
        cut_rows=eq.height + cut_row,
        cut_unit=unit,
    )


def current_range(problem: SlotProblem, limit: SlotLimit, box: SlotBox) -> tuple[float, float]:
    """Return between what a current at an end of a branch lies that exceeds its bound, pu of 1 MVA."""
    grid, j = problem.grid, limit.index
    at_from = limit.kind is LimitKind.CURRENT_FROM
    ratio = float(np.abs(grid.ratio[j])) if at_from else 1.0
    end = (grid.from_node if at_from else grid.to_node)[j]
    charging = float(np.abs(grid.half[j]) * np.sqrt(box.w_high[end])) / ratio
    least, most = (
        (float(np.sqrt(square[j])) + side) / ratio for square, side in ((box.l_low, -charging), (box.l_high, charging))
    )
    return max(least - ROOM, limit.bound), max(most + ROOM, limit.bound)


def power_base(problem: SlotProblem) -> float:
    """Return the power of ten (MVA) next to the size of the feeder: conditioning depends on it."""
    size = max(float(np.abs(problem.s).sum()), 1e-3)
    return float(10.0 ** np.round(np.log10(size)))


def _main_cones(m: int, at_p: int, at_q: int, at_l: int, at_v: int, f: NDArray[np.int_], a2: Real) -> _Block:
    block = _Block()
    block.grow(np.zeros(4 * m))
    rows, lines = 4 * np.arange(m), np.arange(m)
    block.put(rows, at_l + lines, -1.0)
    block.put(rows, at_v + f, -1 / a2)
    block.put(rows + 1, at_p + lines, -2.0)
    block.put(rows + 2, at_q + lines, -2.0)
    block.put(rows + 3, at_l + lines, -1.0)
    block.put(rows + 3, at_v + f, 1 / a2)
    return block


def _end(
    to_side: bool,
    j: int,
    f: NDArray[np.int_],
    t: NDArray[np.int_],
    a2: Real,
    r: Real,
    x: Real,
    half: NDArray[np.complexfloating[Any, Any]],
    at_p: int,
    at_q: int,
    at_l: int,
    at_v: int,
) -> tuple[list[tuple[int, float]], list[tuple[int, float]], int, float]:
    """Return P and Q entering a branch at an end as linear forms, and the voltage column there with its factor."""
    if not to_side:
        v, scale = at_v + int(f[j]), float(1 / a2[j])
        p = [(at_p + j, 1.0), (v, float(half[j].real) * scale)]
        q = [(at_q + j, 1.0), (v, -float(half[j].imag) * scale)]
        return p, q, at_v + int(f[j]), 1.0
    v = at_v + int(t[j])
    p = [(at_p + j, -1.0), (at_l + j, float(r[j])), (v, float(half[j].real))]
    q = [(at_q + j, -1.0), (at_l + j, float(x[j])), (v, -float(half[j].imag))]
    return p, q, v, 1.0


def _stacked(blocks: list[_Block], size: int) -> tuple[sparse.csc_matrix, Real]:
    rows, cols, vals, rhs, at = [], [], [], [], 0
    for block in blocks:
        for r, c, v in zip(block.row, block.col, block.val, strict=True):
            rows.append(r + at)
            cols.append(c)
            vals.append(v)
        rhs += block.rhs
        at += block.height
    matrix = sparse.csc_matrix((np.concatenate(vals), (np.concatenate(rows), np.concatenate(cols))), shape=(at, size))
    return matrix, np.concatenate(rhs)
