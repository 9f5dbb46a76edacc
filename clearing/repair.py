"""Successive linear programs to an AC point: the dispatch, and multipliers that are right in AC.

The program at the current AC state (`clearing.linearisation`) is solved by HiGHS, the candidate is put through the
power flow again. A candidate that does not lower the merit is refused and the trust region of the slots that went
wrong shrinks. Whole-or-nothing decisions are taken by MILP on the linearised grid, then fixed, and prices come from
the remaining continuous program (clearing note, section 4).
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from clearing.linearisation import FIRST_REACH, NEAR, Linearisation, Model, Multipliers, Point, among
from clearing.rows import LinearProgram, solve_linear
from clearing.state import Measured, State

__all__ = ["Cut", "Repair"]

Real = NDArray[np.float64]
# Binary columns, and whether each is taken.
Cut = tuple[NDArray[np.int_], NDArray[np.bool_]]

# EUR per hour: less than a thousandth of a cent on a quarter-hour is noise.
FLAT = 1e-7
# Nor is a hundred-millionth of what the market costs; in a large book, where each program is dear,
# less than a third of the millionth that objectives are held to.
FLAT_SHARE, LARGE_FLAT_SHARE = 1e-8, 3e-7
LARGE_COLUMNS = 50_000
HAIR = 1e-6
# MW: a row with less left than this leaves its columns no room.
NO_ROOM = 1e-12
# MW: a column is taken in part; EUR per MWh: a row of the market holds it.
PARTLY = 1e-6
HOLDS = 1e-7
WHOLE = 1e-6  # how far a decision of a relaxation may be off a whole number
# MW: what makes up for rounding moves no further.
SMALL_STEP = 1e-2
# A limit gets a row in the program if the steps of its slot have lately come a quarter of the way to its bound; of the
# others those that are exceeded stay so, and their price goes to the columns.
REACH = 4.0
LEAST_REACH = 0.002
# MW, MWh: what a row of the market may be off by the noise of a solver.
ROW_NOISE = 1e-7
# So many limits exceeded at once are looked at as a whole before each gets a row.
MANY_EXCEEDED = 200
MAX_TRIALS = 12
# In a large book the corners lie close together and each trial is dear: fewer are made, in the largest none.
POLISHED_COLUMNS = 30_000
LEAST_TRIALS = 3


class Repair(Linearisation):
    """Optimises the dispatch of a market on a grid, slot groups together, by successive LPs."""

    max_steps = 1  # most linear programs of a descent
    fixed: Real | None = None  # the whole-or-nothing decisions, once they are taken
    opening: Real | None = None  # a dispatch that keeps the market's rules, where nothing taken does not
    cuts: Sequence[Cut] = ()  # choices that must not be made again
    lost: NDArray[np.bool_] | None = None  # slots of groups that no solver found multipliers for
    given_up: bool = False  # no solver found multipliers: nothing is taken, as a dispatch without prices is none

    @cached_property
    def steps(self) -> NDArray[np.int_]:
        """Linear programs so far, per slot."""
        return np.zeros(self.slots, dtype=int)

    def run(
        self, start: Point | None = None, banned: frozenset[int] = frozenset(), cuts: Sequence[Cut] = ()
    ) -> tuple[Point, Multipliers]:
        """Return the best point found and its multipliers.

        Args:
            start: where an earlier run ended, to go on from there; nothing taken without.
            banned: binary columns that must stay 0 (blocks that would lose money).
            cuts: choices that must not be made again.
        """
        self.cuts = cuts
        self.upper = self.columns.upper.copy()
        self.upper[sorted(banned)] = 0.0
        best = start
        if best is None:
            self.open_regions()
            best = self.point(np.zeros(len(self.cost)) if self.opening is None else self.opening, self.base)
            best = self._relieve(best)
        fixed: Real | None = None
        if self.integer.any():
            best, fixed = self._decide(best)
        self.fixed = fixed
        best = self._descend(best)
        multipliers = self.multipliers(best)
        self.given_up = not multipliers.known
        self.lost = self.live & among(self.group, multipliers.lost)
        if self.given_up or multipliers.lost:
            stands = self.point(np.zeros(len(self.cost)) if self.opening is None else self.opening, self.base)
            best = stands if self.given_up else self.mix(best, stands, sorted(multipliers.lost))
        return best, multipliers

    def follow(
        self, best: Point, taken: dict[int, tuple[NDArray[np.int_], Real]], slots: NDArray[np.bool_], promised: Real
    ) -> Point:
        """Return the better of a dispatch and the one that the relaxations lead to.

        Where the best dispatch lies at no corner of the market (reactive power, losses) linear programs creep
        towards it; a relaxation that is exact is there at once. One that takes nothing else leads nowhere, nor, in a
        large book, where programs are dear, does one whose AC state is worse by more than it promised to be better.

        Args:
            best: the dispatch.
            taken: per slot its columns and what the relaxation takes of them.
            slots: slots to try.
            promised: per slot by how much the relaxation is better, EUR per hour.
        """
        x, groups = best.x.copy(), set[int]()
        for t, (columns, there) in sorted(taken.items()):
            whole = self.integer[columns]
            if not slots[t] or np.abs(there - best.x[columns])[whole].max(initial=0.0) > WHOLE:
                continue
            x[columns] = np.where(whole, best.x[columns], np.clip(there, 0.0, self.upper[columns]))
            groups.add(int(self.group[t]))
        groups &= set(self.column_group[np.abs(x - best.x) > PARTLY].tolist())
        groups -= self.broken_groups(x)
        if not groups:
            return best
        mine = np.isin(self.column_group, sorted(groups))
        running = np.isin(self.group, sorted(groups))
        candidate = self.point(np.where(mine, x, best.x), best.state, running)
        if LEAST_TRIALS * len(self.cost) > POLISHED_COLUMNS:
            over = np.where(self.live, candidate.merit - best.merit - promised * self.weight, 0.0)
            groups = {g for g in groups if float(over[self.group == g].sum()) <= 0}
        self.watch_more(candidate)
        self.open_regions()
        found = self._descend(self.mix(best, candidate, sorted(groups)), frozenset(groups))
        gain = best.merit - found.merit
        return self.mix(best, found, [g for g in sorted(groups) if float(gain[self.group == g].sum()) > FLAT])

    def gave_up(self, slot: int) -> bool:
        """Tell whether nothing is taken in a slot because no solver found multipliers there."""
        return self.given_up or (self.lost is not None and bool(self.lost[slot]))

    def restless(self, best: Point, multipliers: Multipliers) -> NDArray[np.bool_]:
        """Tell in which slots more columns are partly taken than bounds hold: there the best point is no corner."""
        partly = (best.x > PARTLY) & (best.x < self.upper - PARTLY) & self.columns.own
        mine = partly & (self.column_slot >= 0)
        count = np.bincount(self.column_slot[mine], minlength=self.slots)
        for (t, k), value in multipliers.limit.items():
            count[t] -= value < self.limits.price[k]
        for k, value in multipliers.measured.items():
            count[self.market.measured[k].slot] -= value > 0
        for r in np.flatnonzero(np.abs(multipliers.structural) > HOLDS).tolist():
            touched = self.column_slot[self.rows.indices[self.rows.indptr[r] : self.rows.indptr[r + 1]]]
            count[np.unique(touched[touched >= 0])] -= 1
        return np.asarray((count > 0) & self.live)

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
        if not inexact.any():
            return best
        held = [t for (t, k), value in multipliers.limit.items() if value < self.limits.price[k]]
        pressing = np.bincount(held, minlength=self.slots)
        # Where losses pay, the best may lie at either end of a column as well.
        paid: NDArray[np.bool_] = np.asarray((self.energy_price < 0).any(axis=1))
        slots = inexact & ((pressing >= 2) | paid) & self.live
        groups = frozenset(self.group[slots].tolist())
        tried: set[tuple[int, float]] = set()
        trials = POLISHED_COLUMNS // max(len(self.cost), 1)
        for _ in range(min(MAX_TRIALS, trials) if trials >= LEAST_TRIALS else 0):
            trial = self._push(best, slots, paid, tried)
            if not trial:
                break
            self.pins = trial
            self.open_regions()
            x = best.x.copy()
            x[list(trial)] = list(trial.values())
            mine = frozenset(int(self.group[self.column_slot[c]]) for c in trial) & groups
            running = among(self.group, mine)
            there = self._descend(self.point(x, best.state, running), mine)
            self.pins = {}
            self.open_regions()
            there = self._descend(there, mine)
            gain = best.merit - there.merit
            broken = self.broken_groups(there.x)
            better = [g for g in sorted(mine - broken) if float(gain[(self.group == g) & self.live].sum()) > FLAT]
            best = self.mix(best, there, better)
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
        self.watch_more(made)
        there = self._descend(made, frozenset(self.group[slots].tolist()))
        self.pins, self.fixed = {}, fixed
        return there

    def scout(self) -> tuple[Point, Multipliers]:
        """Return the baseline and the multipliers of the first program with all decisions relaxed.

        They tell roughly what every step will be worth, and so which ones need not be looked at.
        """
        self.open_regions()
        base = self.point(np.zeros(len(self.cost)), self.base)
        program, model = self.program(base, None)
        return base, self._duals(replace(program, integer=np.zeros(len(program.cost), dtype=bool)), model)

    def multipliers(self, point: Point) -> Multipliers:
        """Return the duals of the program at a final point; the regions are kept open a little."""
        self.radius = np.maximum(self.radius, 1e-6)
        held = point.x if self.fixed is None else self.fixed
        # Where a block ends exactly where demand ends, every price between the two would do: a block a hair
        # smaller picks the side that the last accepted unit is worth, so that no block seems to lose money.
        shrunk = held.copy()
        shrunk[self.columns.whole] *= 1 - HAIR
        for decided in (shrunk, held):
            program, model = self.program(point, decided)
            found = self._duals(self._without(program, self._rejected(decided)), model)
            if found.known:
                break
        # Else a block that must deliver all it has, by another rule of its own, cannot be a hair smaller.
        return found if found.known else self._duals_apart(point, (shrunk, held))

    def _one_by_one(self, best: Point, groups: frozenset[int]) -> tuple[Real, frozenset[int]]:
        """Return what programs of single groups of slots take, and the groups whose program has an optimum.

        Where HiGHS finds none for all of them together, what it stumbles over costs its own slots, and no others.
        """
        x, good = best.x.copy(), set[int]()
        for g in sorted(groups):
            found = solve_linear(self.program(best, self.fixed, frozenset({g}))[0])
            if found is not None:
                good.add(g)
                mine = self.column_group == g
                x[mine] = found.x[: len(x)][mine]
        return x, frozenset(good)

    def _duals_apart(self, point: Point, ways: tuple[Real, ...]) -> Multipliers:
        """Return the multipliers of programs of single groups of slots, and which groups have none."""
        made = Multipliers(
            limit={}, measured={}, structural=np.zeros(self.rows.shape[0]), column=np.zeros(len(self.cost))
        )
        groups, lost = frozenset(self.group[self.live].tolist()), set[int]()
        first = np.minimum(self.rows.indptr[:-1], max(self.rows.nnz - 1, 0))
        of_row = self.column_group[self.rows.indices[first]] if self.rows.nnz else np.zeros(0, dtype=int)
        for g in sorted(groups):
            for decided in ways:
                program, model = self.program(point, decided, frozenset({g}))
                found = self._duals(self._without(program, self._rejected(decided)), model)
                if found.known:
                    break
            else:
                lost.add(g)
                continue
            made.limit.update(found.limit)
            made.measured.update(found.measured)
            made.structural[of_row == g] = found.structural[of_row == g]
            mine = self.column_group == g
            made.column[mine] = found.column[mine]
        return replace(made, known=lost != groups, lost=frozenset(lost))

    def _rejected(self, decided: Real) -> NDArray[np.bool_]:
        """Tell which columns are zero because of what was decided: no row leaves them any room."""
        gone = self.integer & (decided < 0.5)
        if not gone.any():
            return gone
        free = np.where(self.integer, 0.0, 1.0)
        known = self.rows @ np.where(self.integer, decided, 0.0)
        row = np.repeat(np.arange(self.rows.shape[0]), np.diff(self.rows.indptr))
        column, part = self.rows.indices, self.rows.data * free[self.rows.indices]
        for sign, bound in ((1.0, self.columns.row_high), (-1.0, -self.columns.row_low)):
            against = np.bincount(row, weights=sign * part < 0, minlength=len(bound))
            full = (bound - sign * known <= NO_ROOM) & (against == 0)
            gone[column[full[row] & (sign * part > 0)]] = True
        return gone

    def _without(self, program: LinearProgram, gone: NDArray[np.bool_]) -> LinearProgram:
        """Return a program without some columns that are zero, so that none of them sets a price."""
        if not gone.any():
            return program
        keep = np.ones(len(program.cost))
        keep[: len(gone)] = ~gone
        matrix = program.matrix.copy()
        matrix.data = matrix.data * keep[matrix.indices]
        upper = np.where(keep > 0, program.upper, program.lower)
        return replace(program, matrix=matrix, upper=upper)

    def choice(self, x: Real, group: int) -> Cut:
        """Return which offers and minima of a group of slots that depend on each other a dispatch takes.

        Args:
            x: columns.
            group: the group.
        """
        mine = sorted({*self.columns.whole, *self.market.at_least.values()})
        columns = np.array([c for c in mine if self.column_group[c] == group], dtype=int)
        return columns, x[columns] > 0.5

    def broken_groups(self, x: Real) -> frozenset[int]:
        """Return the groups in which a dispatch breaks a row of the market: a push may leave no way back into them."""
        value = np.asarray(self.rows @ x)
        low, high = self.columns.row_low, self.columns.row_high
        bad = (value < low - ROW_NOISE) | (value > high + ROW_NOISE)
        columns = self.rows[np.flatnonzero(bad)].indices
        return frozenset(self.column_group[columns].tolist())

    def _push(
        self, best: Point, slots: NDArray[np.bool_], paid: NDArray[np.bool_], tried: set[tuple[int, float]]
    ) -> dict[int, float]:
        """Return one untried push per slot that has at least two partly taken columns, or one where losses pay."""
        partly = (best.x > 1e-6) & (best.x < self.upper - 1e-6) & self.columns.own
        chosen: dict[int, float] = {}
        for t in np.flatnonzero(slots & self.live).tolist():
            columns = np.flatnonzero(partly & (self.column_slot == t)).tolist()
            if len(columns) < 2 - paid[t]:
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
            program, model = self.program(here, None)
            found = solve_linear(_without_choices(program, self.cuts)) if self.cuts else self._solve(program, model)
            if found is None:
                break
            x = np.clip(found.x[: len(self.cost)], 0, self.upper)
            x[self.integer] = np.round(x[self.integer])
            candidate = self.point(x, here.state)
            self.watch_more(candidate)
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

    def watch_more(self, point: Point) -> bool:
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
        free = self.stuck & on & (after <= 0)
        self.stuck &= ~free
        crossed = free | ((np.abs(before) > self.reach) & (before * after < 0))
        moved = REACH * np.abs(after - before)
        self.reach = np.where(on, np.clip(moved, LEAST_REACH, FIRST_REACH), self.reach)
        return bool(crossed.any())

    def _relieve(self, best: Point) -> Point:
        """Find out which of many exceeded limits nothing keeps, by a program that only knows what each is worth.

        Its dispatch does the most against them all. What is exceeded there needs no row, and is as good as priced; a
        limit that a later step keeps after all gets its row then.
        """
        exceeded = self.watch & self.live[:, None] & (np.nan_to_num(best.excess, nan=-1.0) > 0)
        if int(exceeded.sum()) < MANY_EXCEEDED:
            return best
        self.stuck, self.reach[:] = exceeded, 0.0
        program, model = self.program(best, None)
        found = self._solve(replace(program, integer=np.zeros(len(program.cost), dtype=bool)), model)
        self.stuck, self.reach[:] = np.zeros_like(exceeded), FIRST_REACH
        if found is None:
            return best
        candidate = self.point(np.clip(found.x[: len(self.cost)], 0.0, self.upper), best.state)
        self.watch_more(candidate)
        known = candidate.state.converged[:, None]
        self.stuck = exceeded & known & (candidate.excess > 0)
        # Nothing moves a limit further than that.
        with np.errstate(invalid="ignore"):
            moved = np.abs(candidate.excess - best.excess) / self.limits.near
            self.reach = np.where(known, np.clip(moved, LEAST_REACH, FIRST_REACH), self.reach)
        gain, whole = best.merit - candidate.merit, frozenset(self.column_group[self.integer].tolist())
        groups = sorted(frozenset(self.group[self.live].tolist()) - whole)
        return self.mix(best, candidate, [g for g in groups if float(gain[(self.group == g) & self.live].sum()) > 0])

    def open_regions(self) -> None:
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
            program, model = self.program(best, fixed, open_groups)
            found = self._solve(program, model)
            if found is None:
                x, open_groups = self._one_by_one(best, open_groups)
                if not open_groups:
                    break
                program, model = self.program(best, fixed, open_groups)
            else:
                x = found.x[:n]
            running = among(self.group, open_groups)
            if not open_groups >= self.columns.groups:
                x = np.where(among(self.column_group, open_groups), x, best.x)
            x = np.minimum(np.maximum(x, 0.0), self.upper)
            candidate = best if np.array_equal(x, best.x) else self.point(x, best.state, running)
            new_limit = self.watch_more(candidate)
            new_limit |= self._reach_for(best, candidate, running)
            self.steps[self.live & running] += 1
            if candidate is best and not new_limit:
                break  # nothing moves
            promise = self.model_merit(best, program, model, x)
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
            # Elsewhere than in the open groups the candidate is the best.
            best = candidate if len(accept) == len(open_groups) else self.mix(best, candidate, accept)
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

    def model_merit(self, best: Point, program: LinearProgram, model: Model, x: Real) -> Real:
        """Return the merit per slot that the program promises at a dispatch."""
        root = ((best.values["root_p"] - self.base_values["root_p"]) * self.energy_price).sum(axis=1)
        moved = (program.cost[: len(x)] / self.column_weight - self.cost) * (x - best.x)
        merit = self.columns.per_slot(self.merit_cost * x) + np.where(np.isnan(root), 0.0, root)
        merit = merit + self.columns.per_slot(moved)
        if not model.keys and not model.over:
            return np.asarray(merit * self.weight)
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

    def mix(self, best: Point, candidate: Point, accept: list[int]) -> Point:
        """Return the point that is the candidate in the accepted groups and the best elsewhere."""
        if candidate is best or not accept:
            return best
        slots = among(self.group, accept)
        columns = among(self.column_group, accept)
        state = State(
            v=np.where(slots[:, None], candidate.state.v, best.state.v),
            s=np.where(slots[:, None], candidate.state.s, best.state.s),
            converged=np.where(slots, candidate.state.converged, best.state.converged),
        )
        return Point(
            x=np.where(columns, candidate.x, best.x),
            state=state,
            values=Measured(self.grid, state),
            excess=np.where(slots[:, None], candidate.excess, best.excess),
            merit=np.where(slots, candidate.merit, best.merit),
        )


def _without_choices(program: LinearProgram, cuts: Sequence[Cut]) -> LinearProgram:
    """Return a program in which at least one binary differs from each of some choices."""
    columns = np.concatenate([c for c, _ in cuts])
    row = np.repeat(np.arange(len(cuts)), [len(c) for c, _ in cuts])
    sign = np.where(np.concatenate([taken for _, taken in cuts]), -1.0, 1.0)
    more = sparse.csr_matrix((sign, (row, columns)), shape=(len(cuts), len(program.cost)))
    return replace(
        program,
        matrix=sparse.csr_matrix(sparse.vstack([program.matrix, more], format="csr")),
        row_low=np.r_[program.row_low, [1.0 - int(taken.sum()) for _, taken in cuts]],
        row_high=np.r_[program.row_high, np.full(len(cuts), np.inf)],
    )
