"""Steps that know how losses, voltages and currents bend, for slots whose best dispatch lies between the corners.

Linear programs creep there: where more columns are partly taken than limits bind, each ends at a corner of its trust
region. A quadratic program with the curvature of the market's Lagrangian is at once where they would be in the end,
around loops as well, which no relaxation knows: sequential quadratic programming in a trust region, with violations
priced and a second-order correction (Nocedal and Wright 2006, chapter 18).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import clarabel
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from clearing.linearisation import Model, Multipliers, Point, among
from clearing.relaxation import SolverFailedError, solve_cone
from clearing.repair import FLAT, FLAT_SHARE, PARTLY, Repair
from clearing.rows import LinearProgram
from clearing.state import Measure

__all__ = ["settle_inside"]

Real = NDArray[np.float64]
Index = NDArray[np.int_]
STEPS = 30
# Shares of all that a slot injects: how far the first step may go, and what shows how gradients change.
FIRST_STEP = 0.05
NUDGE = 1e-5
# A program that keeps so much of its promise is good, one that keeps less than the second is not.
GOOD, POOR = 0.75, 0.25
LEAST_RADIUS = 1e-9  # MW
# Of a slot in which more injections may move, only so many bend: those that are partly taken come first.
MOST_BENT = 100


def settle_inside(repair: Repair, point: Point, multipliers: Multipliers, slots: NDArray[np.bool_]) -> Point:
    """Return a dispatch at least as good, where the best one lies between the corners of the market.

    Args:
        repair: the optimisation.
        point: the dispatch.
        multipliers: its duals.
        slots: slots to look at; what is taken in others stays.
    """
    slots = slots & repair.live
    return _Inside(repair, slots, multipliers).run(point) if slots.any() else point


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bend:
    """How the costs of some slots bend: ``1/2 y' by y`` with ``y = moves (x - x0)``, MW and Mvar at nodes."""

    slots: list[tuple[int, slice]]  # and which of the injections are in them
    moves: sparse.csr_matrix  # injections x columns
    by: sparse.csc_matrix  # EUR per hour and squared MW

    def cost(self, step: Real, slots: int) -> Real:
        """Return what the bends cost over a step, per slot, EUR per hour."""
        y = self.moves @ step
        each, found = 0.5 * y * (self.by @ y), np.zeros(slots)
        for t, mine in self.slots:
            found[t] = each[mine].sum()
        return found


class _Inside:
    def __init__(self, repair: Repair, slots: NDArray[np.bool_], multipliers: Multipliers) -> None:
        self.repair, self.slots = repair, slots
        self.held = (repair.column_slot >= 0) & ~slots[repair.column_slot]
        self.limit, self.measured = dict(multipliers.limit), dict(multipliers.measured)

    def run(self, point: Point) -> Point:
        repair, slots = self.repair, self.slots
        size = np.abs(repair.base.s).sum(axis=1) + np.abs(point.state.s).sum(axis=1)
        repair.open_regions()
        repair.radius[slots] = FIRST_STEP * size[slots]
        groups = frozenset(repair.group[slots].tolist())
        for _ in range(STEPS):
            if not groups:
                break
            running = among(repair.group, groups)
            program, model = self._program(point, groups)
            bend = self._bend(point, np.flatnonzero(slots & running).tolist())
            found = self._solve(program, point, bend)
            if found is None:
                break
            x, duals = found
            candidate = repair.point(x, point.state, running)
            promise = repair.model_merit(point, program, model, x) + bend.cost(x - point.x, repair.slots)
            promised = {g: self._gain(point.merit - promise, g) for g in groups}
            missed = [g for g in sorted(groups) if self._gain(point.merit - candidate.merit, g) < GOOD * promised[g]]
            if missed:
                corrected = self._solve(self._corrected(program, model, point, candidate), point, bend)
                if corrected is not None:
                    other = repair.point(corrected[0], point.state, running)
                    better = [g for g in missed if self._gain(candidate.merit - other.merit, g) > 0]
                    candidate = repair.mix(candidate, other, better)
            new_limit = repair.watch_more(candidate)
            self._remember(model, duals)
            accept, closed = [], set()
            for g in sorted(groups):
                gained, mine = self._gain(point.merit - candidate.merit, g), slots & (repair.group == g)
                if gained > 0:
                    accept.append(g)
                flat = FLAT + FLAT_SHARE * abs(self._gain(point.merit, g))
                if promised[g] <= flat and not new_limit:
                    closed.add(g)
                elif gained >= GOOD * promised[g]:
                    repair.radius[mine] *= 2
                elif gained < POOR * promised[g]:
                    repair.radius[mine] /= 4
                    closed |= {g} if float(repair.radius[mine].max()) < LEAST_RADIUS else set()
            point = repair.mix(point, candidate, accept)
            groups -= closed
        repair.open_regions()
        return point

    def _gain(self, merit: Real, group: int) -> float:
        return float(merit[(self.repair.group == group) & self.repair.live].sum())

    def _program(self, point: Point, groups: frozenset[int]) -> tuple[LinearProgram, Model]:
        """Return the linear program at a point, with what is taken in other slots held."""
        program, model = self.repair.program(point, self.repair.fixed, groups)
        held = np.zeros(len(program.cost), dtype=bool)
        held[: len(point.x)] = self.held
        there = np.zeros(len(program.cost))
        there[: len(point.x)] = point.x
        lower, upper = np.where(held, there, program.lower), np.where(held, there, program.upper)
        return replace(program, lower=lower, upper=upper), model

    def _bend(self, point: Point, slots: list[int]) -> _Bend:
        """Return how the Lagrangian of slots bends; where it bends down, as if it were straight."""
        repair, n = self.repair, self.repair.grid.nodes
        found: list[tuple[int, slice]] = []
        moves, bends, at = [sparse.csr_matrix((0, len(point.x)))], [], 0
        for t in slots:
            cells = self._cells(point, t)
            if not len(cells):
                continue
            columns, inject = repair.columns.local(t)
            part = inject[:, cells].T.tocoo()
            moves.append(
                sparse.csr_matrix((part.data, (part.row, columns[part.col])), shape=(len(cells), len(point.x)))
            )
            bends.append(self._curvature(point, t, cells % n, np.where(cells < n, 1.0, 1j)))
            found.append((t, slice(at, at := at + len(cells))))
        by = sparse.block_diag(bends, format="csc") if bends else sparse.csc_matrix((0, 0))
        return _Bend(slots=found, moves=sparse.csr_matrix(sparse.vstack(moves)), by=sparse.csc_matrix(by))

    def _cells(self, point: Point, t: int) -> Index:
        """Return which injections of a slot (P of all nodes, then Q) may move."""
        repair = self.repair
        columns, inject = repair.columns.local(t)
        free = (repair.upper[columns] > 0) & ~self.held[columns] & ~repair.integer[columns]
        cells = np.unique(inject[np.flatnonzero(free)].indices)
        if len(cells) <= MOST_BENT:
            return np.asarray(cells)
        x, upper = point.x[columns], repair.upper[columns]
        first = np.unique(inject[np.flatnonzero(free & (x > PARTLY) & (x < upper - PARTLY))].indices)
        return np.sort(np.r_[first, np.setdiff1d(cells, first)][:MOST_BENT])

    def _curvature(self, point: Point, t: int, nodes: Index, unit: NDArray[np.complexfloating]) -> Real:
        """Return the second derivative of the Lagrangian of a slot, from differences of its gradient."""
        repair, s, count = self.repair, point.state.s[t], len(nodes)
        weighed = list(self._weighed(t))
        if not weighed:
            return np.zeros((count, count))
        measures, weight = tuple(m for m, _ in weighed), np.array([w for _, w in weighed]) * repair.weight[t]
        step = NUDGE * max(float(np.abs(s).sum()), 1e-2)
        nudged = np.repeat(s[None, :], 2 * count, axis=0)
        nudged[np.arange(count), nodes] += step * unit
        nudged[count + np.arange(count), nodes] -= step * unit
        state = repair.flow.solve(nudged, np.repeat(point.state.v[t][None, :], 2 * count, axis=0))
        if not state.converged.all():  # at the edge of what the grid can carry
            return np.zeros((count, count))
        by_p, by_q = repair.flow.weighted_gradients(state, measures, np.repeat(weight[None, :], 2 * count, axis=0))
        gradient = np.where(unit == 1.0, by_p[:, nodes], by_q[:, nodes])
        bent = (gradient[:count] - gradient[count:]) / (2 * step)
        value, vector = np.linalg.eigh((bent + bent.T) / 2)
        return np.asarray((vector * np.maximum(value, 0.0)) @ vector.T)

    def _weighed(self, t: int) -> Iterator[tuple[Measure, float]]:
        """Yield what the Lagrangian of a slot sums, and what one unit of it costs, EUR per hour."""
        repair, table = self.repair, self.repair.limits
        for k, price in enumerate(repair.energy_price[t].tolist()):
            if price:
                yield Measure("root_p", k), price
        for (slot, k), value in sorted(self.limit.items()):
            if slot == t and value > 0:
                yield table.measures[k], value * float(table.sign[k])
        for k in repair.measured_of[t]:
            m, value = repair.market.measured[k], self.measured.get(k, 0.0)
            if value > 0:
                yield Measure(m.kind, m.index), value * m.sign

    def _remember(self, model: Model, duals: Real) -> None:
        """Keep the multipliers of a program, which weigh the bends of the next one."""
        repair, running = self.repair, {t for t, _ in (*model.limits, *model.over)}
        self.limit = {key: value for key, value in self.limit.items() if key[0] not in running}
        for key, r in zip(model.limits, model.limit_rows, strict=True):
            self.limit[key] = float(duals[r] / repair.weight[key[0]])
        self.limit |= {(t, k): float(repair.limits.price[k]) for t, k in model.over}
        for k, r in zip(model.measured, model.measured_rows, strict=True):
            self.measured[k] = float(duals[r] / repair.weight[repair.market.measured[k].slot])

    def _corrected(self, program: LinearProgram, model: Model, point: Point, candidate: Point) -> LinearProgram:
        """Return a program whose rows make up for what they missed of the way to a candidate."""
        step, row_high = np.zeros(len(program.cost)), program.row_high.copy()
        step[: len(point.x)] = candidate.x - point.x
        moved = program.matrix @ step
        for (t, k), r in zip(model.limits, model.limit_rows, strict=True):
            missed = float(candidate.excess[t, k] - point.excess[t, k] - moved[r])
            row_high[r] -= missed if np.isfinite(missed) else 0.0
        for k, r in zip(model.measured, model.measured_rows, strict=True):
            m = self.repair.market.measured[k]
            flow = m.sign * float(candidate.values[m.kind][m.slot, m.index] - point.values[m.kind][m.slot, m.index])
            missed = flow - float(moved[r] - step[list(m.columns)].sum())
            row_high[r] -= missed if np.isfinite(missed) else 0.0
        return replace(program, row_high=row_high)

    def _solve(self, program: LinearProgram, point: Point, bend: _Bend) -> tuple[Real, Real] | None:
        """Return what the program with bends takes, and what its rows are worth where their upper side presses."""
        n, loose = len(point.x), program.upper > program.lower
        fixed = np.where(loose, 0.0, program.lower)
        free = np.flatnonzero(loose)
        known = program.matrix @ fixed
        low, high, rows = program.row_low - known, program.row_high - known, program.matrix[:, free]
        same = low == high
        above, below = np.isfinite(high) & ~same, np.isfinite(low) & ~same
        capped, floored = np.isfinite(program.upper[free]), np.isfinite(program.lower[free])
        eye, height = sparse.identity(len(free), format="csr"), bend.moves.shape[0]
        start = np.zeros(len(program.cost))
        start[:n] = point.x
        moves = sparse.hstack([bend.moves, sparse.csr_matrix((height, len(program.cost) - n))], format="csr")
        parts = [moves[:, free], rows[same], rows[above], -rows[below], eye[capped], -eye[floored]]
        ends = [moves @ (start - fixed), low[same], high[above], -low[below]]
        ends += [program.upper[free][capped], -program.lower[free][floored]]
        matrix = sparse.hstack(
            [
                sparse.vstack(parts),
                sparse.vstack([-sparse.identity(height), sparse.csr_matrix((sum(map(len, ends[1:])), height))]),
            ],
            format="csc",
        )
        rhs, equal = np.concatenate(ends), height + int(same.sum())
        kinds = clarabel.ZeroConeT(equal), clarabel.NonnegativeConeT(len(rhs) - equal)
        bent = sparse.csc_matrix(sparse.block_diag([sparse.csc_matrix((len(free), len(free))), bend.by]))
        cost = np.r_[program.cost[free], np.zeros(height)]
        try:
            solution, scale = solve_cone(cost, matrix, rhs, kinds, bent)
        except SolverFailedError:
            return None
        if str(solution.status) not in ("Solved", "AlmostSolved"):
            return None
        x = fixed.copy()
        x[free] = np.array(solution.x)[: len(free)]
        duals = np.zeros(len(high))
        duals[above] = np.array(solution.z)[equal : equal + int(above.sum())] / scale
        return np.clip(x, program.lower, program.upper)[:n], np.maximum(duals, 0.0)
