"""Successive linear programs to an AC point: the dispatch, and multipliers that are right in AC.

Every limit and request that depends on the flow is linearised at the current AC state (adjoint gradients),
the program is solved by HiGHS, the candidate is put through the power flow again. Violations are priced, so
that the merit is the market's own objective; a candidate that does not lower it is refused and the trust
region of the slots that went wrong shrinks. Whole-or-nothing decisions are taken by MILP on the linearised
grid, then fixed, and prices come from the remaining continuous program (clearing note, section 4).
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

from clearing.limits import LimitTable
from clearing.market import Market, MeasuredRequest
from clearing.network import Grid
from clearing.result import LimitKind
from clearing.rows import Basis, LinearProgram, Solution, solve_linear
from clearing.state import Measure, PowerFlow, State, measure_values

__all__ = ["Gradients", "Multipliers", "Point", "Repair"]

Real = NDArray[np.float64]
# By slot: measures, the state that they were taken at, and what they are.
Gradients = dict[int, tuple[list[Measure], NDArray[np.complexfloating[Any, Any]], tuple[Real, Real]]]

# EUR per hour: less than a thousandth of a cent on a quarter-hour is noise.
FLAT = 1e-7
# Nor is a hundred-millionth of what the market costs.
FLAT_SHARE = 1e-8
BIG = 1e30


HAIR = 1e-6
# MW: what makes up for rounding moves no further.
SMALL_STEP = 1e-2
# Share of the distance in which a limit may matter from which on a program watches it.
NEAR = 0.2
# A limit gets a row in the program if the steps of its slot have lately come a quarter of the way to its bound; of the
# others those that are exceeded stay so, and their price goes to the columns.
REACH = 4.0
FIRST_REACH, LEAST_REACH = 2.0, 0.002
# MW, MWh: what a row of the market may be off by the noise of a solver.
ROW_NOISE = 1e-7
MAX_TRIALS = 12
# In a large book the corners lie close together and each trial is dear: fewer are made, in the largest none.
POLISHED_COLUMNS = 30_000
LEAST_TRIALS = 3


@dataclass(slots=True)
class Point:
    """A dispatch with its AC states and merit per slot (EUR per hour)."""

    x: Real
    state: State
    values: dict[str, Real]
    excess: Real
    merit: Real


@dataclass(slots=True)
class _Model:
    """Which flow-dependent rows a program has; duals by the same order."""

    limits: list[tuple[int, int]] = field(default_factory=list)  # slot, limit
    limit_rows: list[int] = field(default_factory=list)
    measured: list[int] = field(default_factory=list)
    measured_rows: list[int] = field(default_factory=list)
    keys: list[tuple[int, ...]] = field(default_factory=list)  # what names each row: request, or slot and limit
    over: list[tuple[int, int]] = field(default_factory=list)  # slot, limit: exceeded by far, priced in the columns
    structural: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Multipliers:
    """Duals at the final point, EUR per MWh and unit of the row, >= 0 where a limit presses."""

    limit: dict[tuple[int, int], float]
    measured: dict[int, float]
    structural: Real
    column: Real


class Repair:
    """Optimises the dispatch of a market on a grid, slot groups together, by successive LPs."""

    def __init__(
        self,
        grid: Grid,
        flow: PowerFlow,
        limits: LimitTable,
        market: Market,
        base: State,
        energy_price: Real,
        live: NDArray[np.bool_],
        max_steps: int,
        zones: tuple[str | None, ...] = (),
        gradients: Gradients | None = None,
    ) -> None:
        """Prepare.

        Args:
            grid: the reduced grid.
            flow: its power flow.
            limits: its limits.
            market: columns and rows.
            base: baseline states (slots x nodes).
            energy_price: price of infeed energy (slots x infeed points), EUR per MWh.
            live: slots that take part; the others stay as they are.
            max_steps: most linear programs.
            zones: zone of every bus, in canonical order.
            gradients: what is known of gradients on this grid already; grows.
        """
        self.gradients: Gradients = {} if gradients is None else gradients
        self.zones = np.array(zones, dtype=object)
        self.grid, self.flow, self.limits, self.market = grid, flow, limits, market
        self.base, self.energy_price, self.max_steps = base, energy_price, max_steps
        self.slots = len(base.v)
        self.live = live & base.converged
        buses = len(grid.bus_ids)
        inject_p, inject_q = market.injections(self.slots, buses)
        alive = np.flatnonzero(grid.node_of_bus >= 0)
        gather = sparse.csr_matrix((np.ones(len(alive)), (grid.node_of_bus[alive], alive)), shape=(grid.nodes, buses))
        lift = sparse.kron(sparse.identity(self.slots), gather, format="csr")
        self.node_p = sparse.csr_matrix(lift @ inject_p)
        self.node_q = sparse.csr_matrix(lift @ inject_q)
        self.locals: dict[int, tuple[NDArray[np.int_], sparse.csr_matrix, sparse.csr_matrix]] = {}
        self.measured_of: list[list[int]] = [[] for _ in range(self.slots)]
        for k, m in enumerate(market.measured):
            self.measured_of[m.slot].append(k)
        self.known: dict[int, tuple[NDArray[np.bool_], NDArray[np.complexfloating[Any, Any]], Real]] = {}
        self.cost = np.array(market.cost)
        self.upper = np.array(market.upper)
        self.integer = np.array(market.integer, dtype=bool)
        self.column_slot = np.array(market.slot, dtype=int)
        # What a slot costs counts as often as its scenario occurs; prices and multipliers stay those of the slot.
        self.weight = np.array(market.weight)
        self.column_weight = _of_slot(self.weight, self.column_slot)
        self.row_weight = _of_slot(self.weight, np.array([t for _, _, t in market.row_tag], dtype=int))
        self.rows = market.rows.matrix(len(self.cost))
        measured_columns = [c for m in market.measured for c in m.columns]
        self.merit_cost = self.cost.copy()
        self.merit_cost[measured_columns] = 0.0  # valued by what the flow shows, not by what the program says
        self.base_values = measure_values(grid, base)
        with np.errstate(invalid="ignore"):
            near = self.limits.excess(self.base_values) > -NEAR * self.limits.near
        self.watch = near & self.live[:, None]  # slots x limits
        self.reach = np.full(self.slots, FIRST_REACH)  # in units of the limits' distances
        self.root_v = np.full_like(base.v, np.nan)  # states at which the gradients of the infeed are known
        self.root_p, self.root_q = np.zeros((2, self.slots, len(grid.infeed_ids), grid.nodes))
        self.root_w = np.zeros((self.slots, len(grid.infeed_ids), len(grid.free)), dtype=complex)
        self.radius = np.full(self.slots, np.inf)
        self.group, self.column_group = self._groups()
        self.steps = np.zeros(self.slots, dtype=int)
        self.fixed: Real | None = None
        self.basis: Basis | None = None
        self.basis_keys: list[tuple[int, ...]] = []
        self.pins: dict[int, float] = {}
        carries = np.diff(market.member_first) > 0
        self.own = carries & ~self.integer
        # What is reserved costs the same anywhere and moves nothing in the grid: no trust region holds it.
        self.near = np.ones(len(self.cost), dtype=bool)
        self.near[list(market.reserved.values())] = False
        self.whole = sorted(set(market.taken.values()) | set(np.flatnonzero(carries & self.integer).tolist()))

    def slot_injections(self, t: int) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
        """Return what one unit of each column injects in a slot: nodes x columns, MW and Mvar."""
        rows = slice(t * self.grid.nodes, (t + 1) * self.grid.nodes)
        return self.node_p[rows], self.node_q[rows]

    def _local(self, t: int) -> tuple[NDArray[np.int_], sparse.csr_matrix, sparse.csr_matrix]:
        """Return the columns that inject in a slot, and what they inject (columns x nodes)."""
        if t not in self.locals:
            p, q = self.slot_injections(t)
            columns = np.union1d(p.indices, q.indices).astype(int)
            self.locals[t] = columns, p[:, columns].T.tocsr(), q[:, columns].T.tocsr()
        return self.locals[t]

    def _groups(self) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
        """Number the slots so that coupled ones (rows or injections that span slots) share a number."""
        slots, columns, rows = self.slots, len(self.cost), self.rows.shape[0]
        own = np.flatnonzero(self.column_slot >= 0)
        cells = [m.tocoo() for m in (self.node_p, self.node_q)]
        ties = self.rows.tocoo()
        # Vertices: slots, columns, structural rows.
        a = np.concatenate([self.column_slot[own], *(c.row // self.grid.nodes for c in cells), slots + ties.col])
        b = np.concatenate([slots + own, *(slots + c.col for c in cells), slots + columns + ties.row])
        size = slots + columns + rows
        graph = sparse.csr_matrix((np.ones(len(a)), (a, b)), shape=(size, size))
        label = csgraph.connected_components(graph, directed=False)[1]
        return np.asarray(label[:slots], dtype=int), np.asarray(label[slots : slots + columns], dtype=int)

    def element(self, limit: int) -> str:
        """Return the id of the bus, branch or infeed point of a limit."""
        kind, m, grid = self.limits.kinds[limit], self.limits.measures[limit], self.grid
        if kind is LimitKind.VOLTAGE_MAX:
            return grid.bus_ids[int(grid.bus_of_v_max[m.index])]
        if kind is LimitKind.VOLTAGE_MIN:
            return grid.bus_ids[int(grid.bus_of_v_min[m.index])]
        return grid.infeed_ids[m.index] if m.kind == "root_p" else grid.branch_ids[m.index]

    # --- points ---

    def point(self, x: Real, near: State | None = None, only: NDArray[np.bool_] | None = None) -> Point:
        """Return the AC point of a dispatch.

        Args:
            x: columns, MW.
            near: states to start the power flow from.
            only: slots that may differ from `near`; all others are copied.
        """
        n = self.grid.nodes
        s = self.base.s + ((self.node_p @ x) + 1j * (self.node_q @ x)).reshape(self.slots, n)
        changed = self.live.copy()
        if only is not None:
            changed &= only
        if near is not None:
            changed &= (s != near.s).any(axis=1) | ~near.converged
        v = np.full_like(self.base.v, np.nan) if near is None else near.v.copy()
        converged = np.zeros(self.slots, dtype=bool) if near is None else near.converged.copy()
        where = np.flatnonzero(changed)
        if len(where):
            part = self.flow.solve(s[where], None if near is None else near.v[where])
            v[where], converged[where] = part.v, part.converged
        state = State(v=v, s=s, converged=converged)
        values = measure_values(self.grid, state)
        excess = self.limits.excess(values)
        merit = self._merit(x, values, excess)
        merit[self.live & ~converged] = BIG
        merit[~self.live] = 0.0
        return Point(x=x, state=state, values=values, excess=excess, merit=merit)

    def _merit(self, x: Real, values: dict[str, Real], excess: Real) -> Real:
        with np.errstate(invalid="ignore"):
            merit = np.clip(excess, 0, None) @ self.limits.price
            merit = merit + ((values["root_p"] - self.base_values["root_p"]) * self.energy_price).sum(axis=1)
        mine = self.column_slot >= 0
        merit = merit + np.bincount(self.column_slot[mine], weights=(self.merit_cost * x)[mine], minlength=self.slots)
        for m in self.market.measured:
            merit[m.slot] -= self.worth(m, self.delivered(m, values))
        return np.asarray(merit * self.weight)

    def delivered(self, m: MeasuredRequest, values: dict[str, Real]) -> float:
        """Return what a measured request got, MW."""
        return float(m.sign * (self.base_values[m.kind][m.slot, m.index] - values[m.kind][m.slot, m.index]))

    def worth(self, m: MeasuredRequest, delivered: float) -> float:
        """Return the worth of a delivery to the requests that share a place; going the wrong way costs."""
        steps = sorted(((-self.cost[c], self.upper[c]) for c in m.columns), reverse=True)
        if delivered < 0:
            return float(delivered * max(steps[0][0], 0.0))
        total = 0.0
        for price, quantity in steps:
            part = min(delivered, quantity)
            total += max(price, 0.0) * part
            delivered -= part
        return total

    # --- the linear program at a point ---

    def root_gradients(self, point: Point, slots: NDArray[np.bool_]) -> tuple[Real, Real]:
        """Return d infeed / d (P, Q injection), slots x infeed points x nodes, up to date in some slots."""
        stale = np.flatnonzero(slots & (self.root_v != point.state.v).any(axis=1))
        if len(stale):
            v, s = point.state.v[stale], point.state.s[stale]
            state = State(v=v, s=s, converged=np.ones(len(stale), dtype=bool))
            made = self.flow.root_gradients(state, self.root_w[stale])
            self.root_p[stale], self.root_q[stale], self.root_w[stale] = made
            self.root_v[stale] = v
        return self.root_p, self.root_q

    def _flow_rows(self, point: Point, slots: list[int], limits: NDArray[np.bool_]) -> list[Real]:
        """Return what the columns (`_local`) of slots do to their measured requests and some limits.

        Repeated calls at the same state cost nothing.
        """
        stale: list[int] = []
        for t in slots:
            known = self.known.get(t)
            if known is None or (known[0] != limits[t]).any() or (known[1] != point.state.v[t]).any():
                stale.append(t)
        wanted = []
        for t in stale:
            asked = [self.market.measured[k] for k in self.measured_of[t]]
            near = np.flatnonzero(limits[t]).tolist()
            wanted.append([Measure(m.kind, m.index) for m in asked] + [self.limits.measures[k] for k in near])
        for t, (by_p, by_q) in zip(stale, self._gradients(point, stale, wanted), strict=True):
            _, p, q = self._local(t)
            self.known[t] = limits[t], point.state.v[t], np.asarray(p @ by_p.T + q @ by_q.T).T
        return [self.known[t][2] for t in slots]

    def _gradients(self, point: Point, slots: list[int], wanted: list[list[Measure]]) -> list[tuple[Real, Real]]:
        """Return the gradients of measures in slots (measures x nodes, P and Q); at the same state they are known."""
        new = []
        for n, t in enumerate(slots):
            known = self.gradients.get(t)
            if known is None or known[0] != wanted[n] or (known[1] != point.state.v[t]).any():
                new.append(n)
        mine = [slots[n] for n in new]
        v = point.state.v[mine]
        state = State(v=v, s=point.state.s[mine], converged=np.ones(len(mine), dtype=bool))
        for n, at, made in zip(new, v, self.flow.gradients_of(state, [wanted[n] for n in new]), strict=True):
            self.gradients[slots[n]] = wanted[n], at, made
        return [self.gradients[t][2] for t in slots]

    def _program(
        self, point: Point, fixed: Real | None, open_groups: frozenset[int] | None = None
    ) -> tuple[LinearProgram, _Model]:
        """Return the program at a point; of closed groups only the columns stay, held where they are."""
        n = len(self.cost)
        model = _Model(structural=self.rows.shape[0])
        low, high = np.zeros(n), self.upper.copy()
        bounded = np.flatnonzero((self.column_slot >= 0) & ~self.integer & self.near)
        reach = self.radius[self.column_slot[bounded]]
        low[bounded] = np.maximum(0.0, point.x[bounded] - reach)
        high[bounded] = np.minimum(self.upper[bounded], point.x[bounded] + reach)
        for c, value in self.pins.items():
            low[c] = high[c] = value
        if fixed is not None:
            low[self.integer] = high[self.integer] = fixed[self.integer]
        running = self.live.copy()
        if open_groups is not None:
            running &= np.isin(self.group, sorted(open_groups))
            held = ~np.isin(self.column_group, sorted(open_groups))
            low[held] = high[held] = point.x[held]
        cost = self.cost + self._infeed_cost(point, running & self.energy_price.any(axis=1))
        data, indices, counts = [self.rows.data], [self.rows.indices], [np.diff(self.rows.indptr)]
        row_high = [np.array(self.market.rows.high)]
        slack_price: list[float] = []
        with np.errstate(invalid="ignore"):
            distance = np.where(self.watch & running[:, None], point.excess / self.limits.near, -np.inf)
        over = distance > self.reach[:, None]
        near = (distance >= -self.reach[:, None]) & ~over
        cost += self._penalty_cost(point, over)
        model.over = [(t, k) for t, k in np.argwhere(over).tolist()]
        bound = [t for t in np.flatnonzero(running).tolist() if self.measured_of[t] or near[t].any()]
        for t, rows in zip(bound, self._flow_rows(point, bound, near), strict=True):
            mine, limits, local = self.measured_of[t], np.flatnonzero(near[t]), self._local(t)[0]
            here = rows @ point.x[local]
            for i, k in enumerate(mine):
                m = self.market.measured[k]
                moved = float(self.base_values[m.kind][t, m.index] - point.values[m.kind][t, m.index])
                row_high.append(np.array([m.sign * (moved + here[i])]))
                data.append(np.r_[m.sign * rows[i], np.ones(len(m.columns)), -1.0])
                indices.append(np.r_[local, m.columns, n + len(slack_price)])
                counts.append(np.array([len(local) + len(m.columns) + 1]))
                model.measured.append(k)
                model.keys.append((k,))
                model.measured_rows.append(model.structural + len(slack_price))
                slack_price.append((max(*(-self.cost[c] for c in m.columns), 0.0) + 1e-6) * self.weight[t])
            if not len(limits):
                continue
            sign = self.limits.sign[limits]
            row_high.append(sign * here[len(mine) :] - point.excess[t, limits])
            block = np.empty((len(limits), len(local) + 1))
            block[:, :-1] = sign[:, None] * rows[len(mine) :]
            block[:, -1] = -1.0
            where = np.empty(block.shape, dtype=int)
            where[:, :-1] = local
            where[:, -1] = n + len(slack_price) + np.arange(len(limits))
            data.append(block.ravel())
            indices.append(where.ravel())
            counts.append(np.full(len(limits), len(local) + 1))
            model.limits += (keys := [(t, k) for k in limits.tolist()])
            model.keys += keys
            model.limit_rows += range(
                model.structural + len(slack_price), model.structural + len(slack_price) + len(keys)
            )
            slack_price += (self.limits.price[limits] * self.weight[t]).tolist()
        slacks = len(slack_price)
        starts = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
        matrix: sparse.csr_matrix = sparse.csr_matrix(
            (np.concatenate(data), np.concatenate(indices), starts), shape=(model.structural + slacks, n + slacks)
        )
        program = LinearProgram(
            cost=np.r_[cost * self.column_weight, slack_price],
            lower=np.r_[low, np.zeros(slacks)],
            upper=np.r_[high, np.full(slacks, np.inf)],
            matrix=matrix,
            row_low=np.r_[self.market.rows.low, np.full(slacks, -np.inf)],
            row_high=np.concatenate(row_high),
            integer=np.r_[self.integer & (fixed is None), np.zeros(slacks, dtype=bool)],
        )
        return program, model

    def _infeed_cost(self, point: Point, slots: NDArray[np.bool_]) -> Real:
        """Return what one more unit of every column does to the cost of infeed energy of some slots."""
        by_p, by_q = self.root_gradients(point, slots)
        price = np.where(slots[:, None], self.energy_price, 0.0)[:, :, None]
        worth_p, worth_q = (price * by_p).sum(axis=1), (price * by_q).sum(axis=1)
        return np.asarray(self.node_p.T @ worth_p.ravel() + self.node_q.T @ worth_q.ravel())

    def _penalty_cost(self, point: Point, over: NDArray[np.bool_]) -> Real:
        """Return what one more unit of every column does to the price of limits that stay exceeded."""
        slots = np.flatnonzero(over.any(axis=1))
        if not len(slots):
            return np.zeros(len(self.cost))
        worth = np.zeros((2, self.slots, self.grid.nodes))
        state = State(v=point.state.v[slots], s=point.state.s[slots], converged=np.ones(len(slots), dtype=bool))
        weight = over[slots] * (self.limits.price * self.limits.sign)
        worth[:, slots] = self.flow.weighted_gradients(state, self.limits.measures, weight)
        return np.asarray(self.node_p.T @ worth[0].ravel() + self.node_q.T @ worth[1].ravel())

    def _solve(self, program: LinearProgram, model: _Model) -> Solution | None:
        """Solve, from where the program before ended."""
        basis = self.basis
        if basis is not None and self.basis_keys != model.keys:
            basis = basis.carried(len(self.cost), model.structural, self.basis_keys, model.keys)
        found = solve_linear(program, basis=basis)
        if found is not None and found.basis is not None:
            self.basis, self.basis_keys = found.basis, model.keys
        return found

    # --- the search ---

    def run(self, start: Point | None = None, banned: frozenset[int] = frozenset()) -> tuple[Point, Multipliers]:
        """Return the best point found and its multipliers.

        Args:
            start: where an earlier run ended, to go on from there; nothing taken without.
            banned: binary columns that must stay 0 (blocks that would lose money).
        """
        self.upper = np.array(self.market.upper)
        self.upper[sorted(banned)] = 0.0
        best = start
        if best is None:
            self._open()
            best = self.point(np.zeros(len(self.cost)), self.base)
        fixed: Real | None = None
        if self.integer.any():
            best, fixed = self._decide(best)
        self.fixed = fixed
        best = self._descend(best)
        return best, self.multipliers(best)

    def polish(self, best: Point, multipliers: "Multipliers", inexact: NDArray[np.bool_]) -> Point:
        """Look for a better local optimum in slots where the problem is not convex.

        Two voltage limits that compete make several dispatches locally optimal, each at a corner of the
        linearised market. Neighbouring corners are reached by pushing one partly taken column to an end,
        descending with it held there, then without; what is better stays.

        Args:
            best: the dispatch.
            multipliers: its duals; only slots where two limits press can have such corners.
            inexact: slots in which the relaxation is not exact.
        """
        held = [t for (t, k), value in multipliers.limit.items() if value < self.limits.price[k]]
        pressing = np.bincount(held, minlength=self.slots)
        slots = inexact & (pressing >= 2) & self.live
        groups = frozenset(self.group[slots].tolist())
        tried: set[tuple[int, float]] = set()
        trials = POLISHED_COLUMNS // max(len(self.cost), 1)
        for _ in range(min(MAX_TRIALS, trials) if trials >= LEAST_TRIALS else 0):
            trial = self._push(best, slots, tried)
            if not trial:
                break
            self.pins = trial
            self._open()
            x = best.x.copy()
            x[list(trial)] = list(trial.values())
            mine = frozenset(int(self.group[self.column_slot[c]]) for c in trial) & groups
            running = np.isin(self.group, sorted(mine))
            there = self._descend(self.point(x, best.state, running), mine)
            self.pins = {}
            self._open()
            there = self._descend(there, mine)
            gain = best.merit - there.merit
            broken = self._broken_groups(there.x)
            better = [g for g in sorted(mine - broken) if float(gain[(self.group == g) & self.live].sum()) > FLAT]
            best = self._mix(best, there, better)
        return best

    def restore(self, made: Point, tied: list[int], slots: NDArray[np.bool_]) -> Point:
        """Return the best point near a rounded one in which some columns stay as they were rounded.

        Args:
            made: the rounded dispatch.
            tied: columns that stay.
            slots: slots that may change (with those coupled to them).
        """
        self.pins = {c: float(made.x[c]) for c in tied}
        self.radius[:], self.reach[:] = SMALL_STEP, NEAR
        fixed, self.fixed = self.fixed, made.x
        self._watch_more(made)
        there = self._descend(made, frozenset(self.group[slots].tolist()))
        self.pins, self.fixed = {}, fixed
        return there

    def _broken_groups(self, x: Real) -> frozenset[int]:
        """Return the groups in which a dispatch breaks a row of the market: a push may leave no way back into them."""
        value = np.asarray(self.rows @ x)
        low, high = np.array(self.market.rows.low), np.array(self.market.rows.high)
        bad = (value < low - ROW_NOISE) | (value > high + ROW_NOISE)
        columns = self.rows[np.flatnonzero(bad)].indices
        return frozenset(self.column_group[columns].tolist())

    def _push(self, best: Point, slots: NDArray[np.bool_], tried: set[tuple[int, float]]) -> dict[int, float]:
        """Return one untried push per slot that has at least two partly taken columns."""
        partly = (best.x > 1e-6) & (best.x < self.upper - 1e-6) & self.own
        chosen: dict[int, float] = {}
        for t in np.flatnonzero(slots & self.live).tolist():
            columns = np.flatnonzero(partly & (self.column_slot == t)).tolist()
            if len(columns) < 2:
                continue
            pushes = [(c, end) for c in columns for end in (float(self.upper[c]), 0.0)]
            new = next((p for p in pushes if p not in tried), None)
            if new is not None:
                tried.add(new)
                chosen[new[0]] = new[1]
        return chosen

    def _decide(self, best: Point) -> tuple[Point, Real]:
        """Choose the binaries by MILP, linearising again at each choice until it repeats."""
        seen: set[bytes] = set()
        here = best
        for _ in range(6):
            program, model = self._program(here, None)
            found = self._solve(program, model)
            if found is None:
                break
            x = np.clip(found.x[: len(self.cost)], 0, self.upper)
            x[self.integer] = np.round(x[self.integer])
            candidate = self.point(x, here.state)
            self._watch_more(candidate)
            if self._total(candidate) < self._total(best) - FLAT:
                best = candidate
            key = x[self.integer].tobytes()
            if key in seen or not candidate.state.converged[self.live].all():
                break
            seen.add(key)
            here = candidate
        return best, best.x

    def _total(self, point: Point) -> float:
        return float(point.merit.sum())

    def _watch_more(self, point: Point) -> bool:
        """Watch every limit that a point comes near to or exceeds; tell whether any exceeded one is new."""
        seen = (self.live & point.state.converged)[:, None]
        with np.errstate(invalid="ignore"):
            near, over = seen & (point.excess > -NEAR * self.limits.near), seen & (point.excess > 0)
        new = bool((near & over & ~self.watch).any())
        self.watch |= near
        return new

    def _reach_for(self, best: Point, candidate: Point, slots: NDArray[np.bool_]) -> bool:
        """Note how far limits moved in a step; tell whether one without a row came across its bound."""
        on = self.watch & (slots & self.live & candidate.state.converged & best.state.converged)[:, None]
        with np.errstate(invalid="ignore"):
            before = np.where(on, best.excess / self.limits.near, 0.0)
            after = np.where(on, candidate.excess / self.limits.near, 0.0)
        crossed = (np.abs(before) > self.reach[:, None]) & (before * after < 0)
        moved = REACH * np.abs(after - before).max(axis=1, initial=0.0)
        self.reach = np.where(on.any(axis=1), np.clip(moved, LEAST_REACH, FIRST_REACH), self.reach)
        return bool(crossed.any())

    def _open(self) -> None:
        """Let every slot go as far as it likes."""
        self.radius[:] = np.inf
        self.reach[:] = FIRST_REACH

    def _descend(self, best: Point, groups: frozenset[int] | None = None) -> Point:
        """Go downhill by linear programs until no group of slots promises anything."""
        n = len(self.cost)
        fixed = self.fixed
        open_groups = frozenset(self.group[self.live].tolist()) if groups is None else groups
        for _ in range(self.max_steps):
            if not open_groups:
                break
            program, model = self._program(best, fixed, open_groups)
            found = self._solve(program, model)
            if found is None:
                break
            running = np.isin(self.group, sorted(open_groups))
            x = np.where(np.isin(self.column_group, sorted(open_groups)), found.x[:n], best.x)
            x = np.clip(x, 0, self.upper)
            candidate = self.point(x, best.state, running)
            promise = self._model_merit(best, program, model, x)
            new_limit = self._watch_more(candidate)
            new_limit |= self._reach_for(best, candidate, running)
            self.steps[self.live & running] += 1
            accept: list[int] = []
            closed: set[int] = set()
            for g in sorted(open_groups):
                mine = np.flatnonzero((self.group == g) & self.live)
                promised = float((best.merit - promise)[mine].sum())
                gained = float((best.merit - candidate.merit)[mine].sum())
                if gained > 0:
                    accept.append(g)
                if promised <= FLAT + FLAT_SHARE * abs(float(best.merit[mine].sum())):
                    closed |= {g} if not new_limit else set()
                    continue
                self._resize(mine, (candidate.merit - promise)[mine], promised, gained, x - best.x)
                if float(self.radius[mine].max(initial=0.0)) < 1e-9:
                    closed.add(g)
            best = self._mix(best, candidate, accept)
            open_groups -= closed
        return best

    def _resize(self, slots: NDArray[np.int_], error: Real, promised: float, gained: float, step: Real) -> None:
        """Shrink the region of the slots whose model erred most; widen all when the model was good."""
        if gained >= 0.75 * promised:
            self.radius[slots] *= 2
        if gained >= 0.5 * promised:
            return
        bad = slots[error > 0.1 * float(error.max(initial=0.0))]
        size, mine = np.zeros(self.slots), self.column_slot >= 0
        np.maximum.at(size, self.column_slot[mine], np.abs(step[mine]))
        self.radius[bad] = np.minimum(self.radius[bad], size[bad]) / 3

    def _model_merit(self, best: Point, program: LinearProgram, model: _Model, x: Real) -> Real:
        """Return the merit per slot that the program promises at a dispatch."""
        mine = self.column_slot >= 0
        slots = self.column_slot[mine]
        merit = np.bincount(slots, weights=(self.merit_cost * x)[mine], minlength=self.slots)
        root = (best.values["root_p"] - self.base_values["root_p"]) * self.energy_price
        merit = merit + np.nan_to_num(root.sum(axis=1))
        moved = (program.cost[: len(x)] / self.column_weight - self.cost) * (x - best.x)
        merit = merit + np.bincount(slots, weights=moved[mine], minlength=self.slots)
        bare = np.zeros(len(program.cost))
        bare[: len(x)] = np.where(self.merit_cost == self.cost, x, 0.0)
        left = program.matrix @ bare - program.row_high
        if model.limits:
            slot, limit = np.array(model.limits).T
            np.add.at(merit, slot, np.maximum(left[model.limit_rows], 0.0) * self.limits.price[limit])
        if model.over:
            slot, limit = np.array(model.over).T
            np.add.at(merit, slot, best.excess[slot, limit] * self.limits.price[limit])
        for k, r in zip(model.measured, model.measured_rows, strict=True):
            m = self.market.measured[k]
            merit[m.slot] -= self.worth(m, -float(left[r]))
        return np.asarray(merit * self.weight)

    def _mix(self, best: Point, candidate: Point, accept: list[int]) -> Point:
        """Return the point that is the candidate in the accepted groups and the best elsewhere."""
        slots = np.isin(self.group, accept)
        columns = np.isin(self.column_group, accept)
        state = State(
            v=np.where(slots[:, None], candidate.state.v, best.state.v),
            s=np.where(slots[:, None], candidate.state.s, best.state.s),
            converged=np.where(slots, candidate.state.converged, best.state.converged),
        )
        return Point(
            x=np.where(columns, candidate.x, best.x),
            state=state,
            values={k: np.where(slots[:, None], candidate.values[k], best.values[k]) for k in best.values},
            excess=np.where(slots[:, None], candidate.excess, best.excess),
            merit=np.where(slots, candidate.merit, best.merit),
        )

    def multipliers(self, point: Point) -> Multipliers:
        """Return the duals of the program at a final point; the regions are kept open a little."""
        self.radius = np.maximum(self.radius, 1e-6)
        held = point.x.copy() if self.fixed is None else self.fixed.copy()
        # Where a block ends exactly where demand ends, every price between the two would do: a block a hair
        # smaller picks the side that the last accepted unit is worth, so that no block seems to lose money.
        held[self.whole] *= 1 - HAIR
        return self._duals(*self._program(point, held))

    def scout(self) -> tuple[Point, Multipliers]:
        """Return the baseline and the multipliers of the first program with all decisions relaxed.

        They tell roughly what every step will be worth, and so which ones need not be looked at.
        """
        self._open()
        base = self.point(np.zeros(len(self.cost)), self.base)
        program, model = self._program(base, None)
        return base, self._duals(replace(program, integer=np.zeros(len(program.cost), dtype=bool)), model)

    def _duals(self, program: LinearProgram, model: _Model) -> Multipliers:
        found = self._solve(program, model)
        n = len(self.cost)
        if found is None:
            return Multipliers(limit={}, measured={}, structural=np.zeros(model.structural), column=np.zeros(n))
        dual = found.row_dual
        return Multipliers(
            limit={
                key: max(-float(dual[r] / self.weight[key[0]]), 0.0)
                for key, r in zip(model.limits, model.limit_rows, strict=True)
                if -dual[r] > 1e-9
            }
            | {(t, k): float(self.limits.price[k]) for t, k in model.over},
            measured={
                k: max(-float(dual[r] / self.weight[self.market.measured[k].slot]), 0.0)
                for k, r in zip(model.measured, model.measured_rows, strict=True)
            },
            structural=dual[: model.structural] / self.row_weight,
            column=found.column_dual[:n] / self.column_weight,
        )


def _of_slot(weight: Real, slot: NDArray[np.int_]) -> Real:
    """Return the weight of what belongs to a slot, 1 for what belongs to none."""
    return np.where(slot >= 0, weight[slot], 1.0)
