"""A market on a grid as a linear program at an AC point: what the search of `clearing.repair` solves at each step.

Every limit and request that depends on the flow is linearised at the current AC state (adjoint gradients); the merit
of a point is the market's own objective, with violations priced (clearing note, section 4).
"""

from dataclasses import dataclass, field
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

__all__ = ["FIRST_REACH", "NEAR", "Gradients", "Linearisation", "Model", "Multipliers", "Point"]

Real = NDArray[np.float64]
# By slot: measures, the state that they were taken at, and what they are.
Gradients = dict[int, tuple[list[Measure], NDArray[np.complexfloating[Any, Any]], tuple[Real, Real]]]

BIG = 1e30
# Share of the distance in which a limit may matter from which on a program watches it.
NEAR = 0.2
# How far from its bound a limit gets a row, in units of its distance, before any step has shown how far limits move.
FIRST_REACH = 2.0


@dataclass(slots=True)
class Point:
    """A dispatch with its AC states and merit per slot (EUR per hour)."""

    x: Real
    state: State
    values: dict[str, Real]
    excess: Real
    merit: Real


@dataclass(slots=True)
class Model:
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
    known: bool = True  # False: no solver gave any


class Linearisation:
    """The columns and rows of a market, what they do to the grid, and the program that follows at a point.

    The search moves what a program may do: `radius`, `reach` and `watch` per slot, and `pins`.
    """

    def __init__(
        self,
        grid: Grid,
        flow: PowerFlow,
        limits: LimitTable,
        market: Market,
        base: State,
        energy_price: Real,
        live: NDArray[np.bool_],
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
            zones: zone of every bus, in canonical order.
            gradients: what is known of gradients on this grid already; grows.
        """
        self.gradients: Gradients = {} if gradients is None else gradients
        self.zones = np.array(zones, dtype=object)
        self.grid, self.flow, self.limits, self.market = grid, flow, limits, market
        self.base, self.energy_price = base, energy_price
        self.slots = len(base.v)
        self.live = live & base.converged
        buses = len(grid.bus_ids)
        inject_p, inject_q = market.injections(self.slots, buses)
        alive = np.flatnonzero(grid.node_of_bus >= 0)
        gather = sparse.csr_matrix((np.ones(len(alive)), (grid.node_of_bus[alive], alive)), shape=(grid.nodes, buses))
        lift = sparse.kron(sparse.identity(self.slots), gather, format="csr")
        self.node_p = sparse.csr_matrix(lift @ inject_p)
        self.node_q = sparse.csr_matrix(lift @ inject_q)
        self.by_p, self.by_q = self.node_p.T, self.node_q.T  # columns x (slots x nodes)
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
        self.basis: Basis | None = None
        self.basis_keys: list[tuple[int, ...]] = []
        self.solved: tuple[LinearProgram, Solution] | None = None  # the last one
        self.pins: dict[int, float] = {}
        # What is reserved costs the same anywhere and moves nothing in the grid: no trust region holds it.
        self.near = np.ones(len(self.cost), dtype=bool)
        self.near[list(market.reserved.values())] = False

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
    ) -> tuple[LinearProgram, Model]:
        """Return the program at a point; of closed groups only the columns stay, held where they are."""
        n = len(self.cost)
        model = Model(structural=self.rows.shape[0])
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
        return np.asarray(self.by_p @ worth_p.ravel() + self.by_q @ worth_q.ravel())

    def _penalty_cost(self, point: Point, over: NDArray[np.bool_]) -> Real:
        """Return what one more unit of every column does to the price of limits that stay exceeded."""
        slots = np.flatnonzero(over.any(axis=1))
        if not len(slots):
            return np.zeros(len(self.cost))
        worth = np.zeros((2, self.slots, self.grid.nodes))
        state = State(v=point.state.v[slots], s=point.state.s[slots], converged=np.ones(len(slots), dtype=bool))
        weight = over[slots] * (self.limits.price * self.limits.sign)
        worth[:, slots] = self.flow.weighted_gradients(state, self.limits.measures, weight)
        return np.asarray(self.by_p @ worth[0].ravel() + self.by_q @ worth[1].ravel())

    def _solve(self, program: LinearProgram, model: Model) -> Solution | None:
        """Solve, from where the program before ended; the same program again is not solved again."""
        if self.solved is not None and self.solved[0].is_same(program):
            return self.solved[1]
        basis = self.basis
        if basis is not None and self.basis_keys != model.keys:
            basis = basis.carried(len(self.cost), model.structural, self.basis_keys, model.keys)
        found = solve_linear(program, basis=basis)
        if found is not None and found.basis is not None:
            self.basis, self.basis_keys = found.basis, model.keys
            self.solved = program, found
        return found

    def _duals(self, program: LinearProgram, model: Model) -> Multipliers:
        found = self._solve(program, model)
        n = len(self.cost)
        if found is None:
            return Multipliers(
                limit={}, measured={}, structural=np.zeros(model.structural), column=np.zeros(n), known=False
            )
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
