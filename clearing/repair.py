"""Successive linear programs to an AC point: the dispatch, and multipliers that are right in AC.

The program at the current AC state (`clearing.linearisation`) is solved by HiGHS, the candidate is put through the
power flow again. A candidate that does not lower the merit is refused and the trust region of the slots that went
wrong shrinks. Whole-or-nothing decisions are taken by MILP on the linearised grid, then fixed, and prices come from
the remaining continuous program (clearing note, section 4).
"""

from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from clearing.linearisation import FIRST_REACH, NEAR, Linearisation, Model, Multipliers, Point
from clearing.rows import LinearProgram
from clearing.state import State

__all__ = ["Repair"]

Real = NDArray[np.float64]

# EUR per hour: less than a thousandth of a cent on a quarter-hour is noise.
FLAT = 1e-7
# Nor is a hundred-millionth of what the market costs; in a large book, where each program is dear,
# less than a third of the millionth that objectives are held to.
FLAT_SHARE, LARGE_FLAT_SHARE = 1e-8, 3e-7
LARGE_COLUMNS = 50_000
HAIR = 1e-6
# MW: what makes up for rounding moves no further.
SMALL_STEP = 1e-2
# A limit gets a row in the program if the steps of its slot have lately come a quarter of the way to its bound; of the
# others those that are exceeded stay so, and their price goes to the columns.
REACH = 4.0
LEAST_REACH = 0.002
# MW, MWh: what a row of the market may be off by the noise of a solver.
ROW_NOISE = 1e-7
MAX_TRIALS = 12
# In a large book the corners lie close together and each trial is dear: fewer are made, in the largest none.
POLISHED_COLUMNS = 30_000
LEAST_TRIALS = 3


class Repair(Linearisation):
    """Optimises the dispatch of a market on a grid, slot groups together, by successive LPs."""

    max_steps = 1  # most linear programs of a descent
    fixed: Real | None = None  # the whole-or-nothing decisions, once they are taken
    opening: Real | None = None  # a dispatch that keeps the market's rules, where nothing taken does not
    given_up: bool = False  # no solver found multipliers: nothing is taken, as a dispatch without prices is none

    @cached_property
    def steps(self) -> NDArray[np.int_]:
        """Linear programs so far, per slot."""
        return np.zeros(self.slots, dtype=int)

    @cached_property
    def carries(self) -> NDArray[np.bool_]:
        """Whether a column carries steps of offers."""
        return np.asarray(np.diff(self.market.member_first) > 0)

    @cached_property
    def own(self) -> NDArray[np.bool_]:
        """Whether a column carries steps that may be taken in part."""
        return np.asarray(self.carries & ~self.integer)

    @cached_property
    def whole(self) -> list[int]:
        """The columns that say whether something is taken at all."""
        return sorted(set(self.market.taken.values()) | set(np.flatnonzero(self.carries & self.integer).tolist()))

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
            best = self.point(np.zeros(len(self.cost)) if self.opening is None else self.opening, self.base)
        fixed: Real | None = None
        if self.integer.any():
            best, fixed = self._decide(best)
        self.fixed = fixed
        best = self._descend(best)
        multipliers = self.multipliers(best)
        self.given_up = not multipliers.known
        if self.given_up:
            best = self.point(np.zeros(len(self.cost)), self.base)
        return best, multipliers

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

    def scout(self) -> tuple[Point, Multipliers]:
        """Return the baseline and the multipliers of the first program with all decisions relaxed.

        They tell roughly what every step will be worth, and so which ones need not be looked at.
        """
        self._open()
        base = self.point(np.zeros(len(self.cost)), self.base)
        program, model = self._program(base, None)
        return base, self._duals(replace(program, integer=np.zeros(len(program.cost), dtype=bool)), model)

    def multipliers(self, point: Point) -> Multipliers:
        """Return the duals of the program at a final point; the regions are kept open a little."""
        self.radius = np.maximum(self.radius, 1e-6)
        held = point.x.copy() if self.fixed is None else self.fixed.copy()
        # Where a block ends exactly where demand ends, every price between the two would do: a block a hair
        # smaller picks the side that the last accepted unit is worth, so that no block seems to lose money.
        held[self.whole] *= 1 - HAIR
        return self._duals(*self._program(point, held))

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
        flat = FLAT_SHARE if n <= LARGE_COLUMNS else LARGE_FLAT_SHARE
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
                if promised <= FLAT + flat * abs(float(best.merit[mine].sum())):
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

    def _model_merit(self, best: Point, program: LinearProgram, model: Model, x: Real) -> Real:
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
