"""A market on a grid as a linear program at an AC point: what the search of `clearing.repair` solves at each step.

Every limit and request that depends on the flow is linearised at the current AC state (adjoint gradients); the merit
of a point is the market's own objective, with violations priced (clearing note, section 4).
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from clearing.columns import Columns
from clearing.gradients import Gradients
from clearing.limits import LimitTable
from clearing.market import Market, MeasuredRequest
from clearing.network import Grid
from clearing.result import LimitKind
from clearing.rows import Basis, LinearProgram, Solution, solve_linear
from clearing.state import Measure, Measured, PowerFlow, State

__all__ = ["FIRST_REACH", "NEAR", "Linearisation", "Model", "Multipliers", "Point", "among"]

Real = NDArray[np.float64]
Complex = NDArray[np.complexfloating[Any, Any]]

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
    values: Measured
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
    lost: frozenset[int] = frozenset()  # groups of slots that no solver gave any for


class Linearisation:
    """The columns and rows of a market, what they do to the grid, and the program that follows at a point.

    The search moves what a program may do: `radius` per slot, `reach`, `watch` and `stuck` per slot and limit, `pins`.
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
        columns: Columns | None = None,
        base_values: Measured | None = None,
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
            gradients: what is known of gradients at states of this grid already; grows.
            columns: the market ready for programs on this grid, if it is.
            base_values: what is measured at the baseline, if something was.
        """
        self.gradients = Gradients(flow, len(base.v)) if gradients is None else gradients
        self.columns = columns = Columns(grid, market, len(base.v)) if columns is None else columns
        self.zones = np.array(zones, dtype=object)
        # Least and most that the offers inject (slots x nodes), pu; None = not known.
        self.injected_range: Callable[[], tuple[Complex, Complex]] | None = None
        self.grid, self.flow, self.limits, self.market = grid, flow, limits, market
        self.base, self.energy_price = base, energy_price
        self.slots = len(base.v)
        self.live = live & base.converged
        self.measured_of, self.integer, self.column_slot = columns.measured_of, columns.integer, columns.slot
        self.cost, self.merit_cost, self.upper = columns.cost, columns.merit_cost, columns.upper
        self.weight, self.column_weight, self.row_weight = columns.weight, columns.column_weight, columns.row_weight
        self.rows, self.group, self.column_group = columns.rows, columns.group, columns.column_group
        self.slot_injections = columns.slot_injections
        self.known: dict[int, tuple[NDArray[np.bool_], NDArray[np.complexfloating[Any, Any]], Real]] = {}
        self.base_values = Measured(grid, base) if base_values is None else base_values
        with np.errstate(invalid="ignore"):
            near = self.limits.excess(self.base_values) > -NEAR * self.limits.near
        self.watch = near & self.live[:, None]  # slots x limits
        self.reach = np.full(self.watch.shape, FIRST_REACH)  # in units of the limits' distances
        # Limits that nothing seems to keep: exceeded, and so even where everybody does most against them.
        self.stuck = np.zeros_like(self.watch)
        self.radius = np.full(self.slots, np.inf)
        self.basis: Basis | None = None
        self.basis_keys: list[tuple[int, ...]] = []
        self.solved: tuple[LinearProgram, Solution] | None = None  # the last one
        self.pins: dict[int, float] = {}

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
        s = self.base.s + self.columns.injected(x)
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
        values = self.base_values if near is self.base and not len(where) else Measured(self.grid, state)
        excess = self.limits.excess(values)
        merit = self._merit(x, values, excess)
        merit[self.live & ~converged] = BIG
        merit[~self.live] = 0.0
        return Point(x=x, state=state, values=values, excess=excess, merit=merit)

    def _merit(self, x: Real, values: Measured, excess: Real) -> Real:
        with np.errstate(invalid="ignore"):
            merit = np.maximum(excess, 0.0) @ self.limits.price
            merit = merit + ((values["root_p"] - self.base_values["root_p"]) * self.energy_price).sum(axis=1)
        merit = merit + self.columns.per_slot(self.merit_cost * x)
        for m in self.market.measured:
            merit[m.slot] -= self.worth(m, self.delivered(m, values))
        return np.asarray(merit * self.weight)

    def delivered(self, m: MeasuredRequest, values: Measured) -> float:
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
        return self.gradients.of_roots(point.state, slots)

    def _flow_rows(self, point: Point, slots: list[int], limits: NDArray[np.bool_]) -> list[Real]:
        """Return what the columns (`Columns.local`) of slots do to their measured requests and some limits.

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
        for t, (by_p, by_q) in zip(stale, self.gradients.of(point.state, stale, wanted), strict=True):
            _, inject = self.columns.local(t)
            by = np.concatenate([by_p, by_q], axis=1)
            self.known[t] = limits[t], point.state.v[t], np.asarray(inject @ by.T).T
        return [self.known[t][2] for t in slots]

    def program(
        self, point: Point, fixed: Real | None, open_groups: frozenset[int] | None = None
    ) -> tuple[LinearProgram, Model]:
        """Return the program at a point; of closed groups only the columns stay, held where they are."""
        n = len(self.cost)
        model = Model(structural=self.rows.shape[0])
        low, high = np.zeros(n), self.upper.copy()
        if float(self.radius.min(initial=np.inf)) < np.inf:
            bounded = self.columns.bounded
            reach = self.radius[self.column_slot[bounded]]
            low[bounded] = np.maximum(0.0, point.x[bounded] - reach)
            high[bounded] = np.minimum(self.upper[bounded], point.x[bounded] + reach)
        for c, value in self.pins.items():
            low[c] = high[c] = value
        if fixed is not None:
            low[self.integer] = high[self.integer] = fixed[self.integer]
        running = self.live.copy()
        if open_groups is not None:
            running &= among(self.group, open_groups)
            if not open_groups >= self.columns.groups:
                held = ~among(self.column_group, open_groups)
                low[held] = high[held] = point.x[held]
        cost = self.cost + self._infeed_cost(point, running & self.energy_price.any(axis=1))
        data, indices, counts = [self.rows.data], [self.rows.indices], [np.diff(self.rows.indptr)]
        row_high = [self.columns.row_high]
        slack_price: list[float] = []
        with np.errstate(invalid="ignore"):
            distance = np.where(self.watch & running[:, None], point.excess / self.limits.near, -np.inf)
        over = (distance > self.reach) | (self.stuck & (distance > 0))
        near = (distance >= -self.reach) & ~over
        if over.any():
            cost += self._penalty_cost(point, over)
            model.over = [(t, k) for t, k in np.argwhere(over).tolist()]
        bound = [t for t in np.flatnonzero(running).tolist() if self.measured_of[t] or near[t].any()]
        for t, rows in zip(bound, self._flow_rows(point, bound, near), strict=True):
            mine, limits, local = self.measured_of[t], np.flatnonzero(near[t]), self.columns.local(t)[0]
            here = rows @ point.x[local]
            for i, k in enumerate(mine):
                m = self.market.measured[k]
                moved = float(self.base_values[m.kind][t, m.index] - point.values[m.kind][t, m.index])
                row_high.append(np.array([m.sign * (moved + here[i])]))
                data.append(np.r_[m.sign * rows[i], np.ones(len(m.columns)), -1.0])
                indices.append(np.r_[local, m.columns, n + len(slack_price)].astype(np.int32))
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
            where = np.empty(block.shape, dtype=np.int32)
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
        matrix = self.rows
        if slacks:
            starts = np.zeros(model.structural + slacks + 1, dtype=np.int32)
            np.cumsum(np.concatenate(counts), out=starts[1:])
            shape = (model.structural + slacks, n + slacks)
            matrix = sparse.csr_matrix((np.concatenate(data), np.concatenate(indices), starts), shape=shape)
        program = LinearProgram(
            cost=np.concatenate([cost * self.column_weight, slack_price]),
            lower=np.concatenate([low, np.zeros(slacks)]),
            upper=np.concatenate([high, np.full(slacks, np.inf)]),
            matrix=matrix,
            row_low=np.concatenate([self.columns.row_low, np.full(slacks, -np.inf)]),
            row_high=np.concatenate(row_high),
            integer=np.concatenate([self.integer & (fixed is None), np.zeros(slacks, dtype=bool)]),
        )
        return program, model

    def _infeed_cost(self, point: Point, slots: NDArray[np.bool_]) -> Real:
        """Return what one more unit of every column does to the cost of infeed energy of some slots."""
        by_p, by_q = self.root_gradients(point, slots)
        price = np.where(slots[:, None], self.energy_price, 0.0)[:, :, None]
        worth_p, worth_q = (price * by_p).sum(axis=1), (price * by_q).sum(axis=1)
        return self.columns.worth(worth_p, worth_q)

    def _penalty_cost(self, point: Point, over: NDArray[np.bool_]) -> Real:
        """Return what one more unit of every column does to the price of limits that stay exceeded."""
        slots = np.flatnonzero(over.any(axis=1))
        if not len(slots):
            return np.zeros(len(self.cost))
        worth = np.zeros((2, self.slots, self.grid.nodes))
        state = State(v=point.state.v[slots], s=point.state.s[slots], converged=np.ones(len(slots), dtype=bool))
        weight = over[slots] * (self.limits.price * self.limits.sign)
        worth[:, slots] = self.flow.weighted_gradients(state, self.limits.measures, weight)
        return self.columns.worth(worth[0], worth[1])

    def _solve(self, program: LinearProgram, model: Model) -> Solution | None:
        """Solve, from where the program before ended; the same program again is not solved again."""
        if self.solved is not None and self.solved[0].is_same(program):
            return self.solved[1]
        basis = self.basis
        if basis is not None and self.basis_keys != model.keys:
            basis = basis.carried(len(self.cost), model.structural, self.basis_keys, model.keys)
        found = solve_linear(program, basis=basis)
        if found is not None:
            self.solved = program, found
            if found.basis is not None:
                self.basis, self.basis_keys = found.basis, model.keys
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


def among(label: NDArray[np.int_], groups: Collection[int]) -> NDArray[np.bool_]:
    """Tell of every label whether it is one of some groups."""
    chosen = np.zeros(int(label.max(initial=-1)) + 1, dtype=bool)
    chosen[[g for g in groups if g < len(chosen)]] = True
    return np.asarray(chosen[label])
