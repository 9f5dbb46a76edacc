"""How good the dispatch is: the relaxation of every slot gives a lower bound, and tells where it is exact.

Where the multipliers of the dispatch prove in closed form that no state of the relaxation is better
(`clearing.proof`), the slot is exact as it stands; the relaxation of the others is solved.
Slots are decomposed: rows that tie slots together (budgets, storages, ramps) are priced with the multipliers of
the repaired dispatch, columns that inject in several slots with its nodal prices. By weak duality the sum of
the slots' optima is a lower bound for the whole market whatever those prices are, and it is tight when they
are right; whole-or-nothing decisions are relaxed.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from clearing.certificate.boxes import I_TOP, V_TOP, Boxes, Tree, boxes_of, tree_of
from clearing.formulation import SlotBox, SlotLimit, SlotMultipliers, SlotProblem
from clearing.linearisation import Multipliers, Point
from clearing.network import Grid
from clearing.pricing import NodalPrices
from clearing.proof import CURRENTS, ac_duals
from clearing.relaxation import Relaxed, solve_slots
from clearing.repair import Repair
from clearing.result import LimitKind

__all__ = ["Bound", "angle_gaps", "bound_of", "slot_problem"]

Real = NDArray[np.float64]

# Of what a slot costs (at least a EUR per hour): a bound that misses it by no more meets it. The second is what the
# digits of the cone solver are off by, of all that the slot pays and earns.
MET, DIGITS = 1e-6, 1e-8
# Fictitious losses up to this count as none: 1 W, or a millionth of what flows in; so do angles and excesses.
EXACT_MW = EXACT_RAD = EXACT_PU = 1e-6
# EUR per hour and pu: where the relaxation is exact, multipliers of cuts below this are the solver's noise. Not where
# losses cost nothing, as the box is all that keeps currents small, nor where a current has a price, which is the box's.
NO_CUT = 1e-2


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """Lower bound of the market's cost (EUR per hour, summed over slots) and the exactness per slot."""

    value: float
    solved: NDArray[np.bool_]  # per slot: a proof or the cone solver gave the bound
    exact: NDArray[np.bool_]
    met: NDArray[np.bool_]  # the bound of the slot meets what it costs
    gap: Real  # per slot: what it costs less its own bound, at the prices of what ties slots together, EUR per hour
    gap_mw: Real  # fictitious losses of the relaxation
    taken: dict[int, tuple[NDArray[np.int_], Real]]  # per slot: its columns, and what the relaxation takes of them
    slots: dict[int, SlotMultipliers]
    structural: Real  # multipliers of the market's rows that the slots were priced apart with
    requests: dict[int, dict[str, float]]  # per slot and first request of a pool: multiplier, EUR per MWh


def bound_of(
    repair: Repair,
    point: Point,
    multipliers: Multipliers,
    prices: NodalPrices,
    active: NDArray[np.bool_],
    workers: int = 1,
) -> Bound:
    """Return the lower bound of a market and which slots the relaxation is exact in.

    Args:
        repair: the optimisation, for its columns, rows and limits.
        point: the dispatch; its limits near their bounds enter the relaxation.
        multipliers: its duals, which price what ties the slots together.
        prices: its nodal prices, which price what injects in several slots.
        active: slots to look at; the others are optimal as they stand.
        workers: processes to spread the relaxations over.
    """
    return _Bounder(repair, point, multipliers, prices).run(active, workers)


class _Bounder:
    def __init__(
        self, repair: Repair, point: Point, multipliers: Multipliers, prices: NodalPrices, *, prove: bool = True
    ) -> None:
        self.repair, self.point, self.multipliers = repair, point, multipliers
        self.boxes: Boxes | None = None
        self.slots, n = repair.slots, repair.grid.nodes
        self.home = repair.columns.home
        self.at_home = self.home >= 0
        self.away = np.flatnonzero(~self.at_home)
        # Least and most that columns from elsewhere can inject, (P, Q) x slots x nodes.
        self.away_low, self.away_high = np.zeros((2, 2, self.slots, n))
        for k, matrix in enumerate((repair.columns.node_p, repair.columns.node_q) if len(self.away) else ()):
            reach = matrix[:, self.away].multiply(repair.upper[self.away][None, :]).tocsr()
            self.away_low[k] = np.asarray(reach.minimum(0).sum(axis=1)).reshape(self.slots, n)
            self.away_high[k] = np.asarray(reach.maximum(0).sum(axis=1)).reshape(self.slots, n)
        self.row_slot = repair.columns.row_slot
        alive = np.flatnonzero(repair.grid.node_of_bus >= 0)
        self.node_price = np.zeros((2, self.slots, n))
        for k, total in enumerate(prices.physical()):
            self.node_price[k][:, repair.grid.node_of_bus[alive]] = total[:, alive]
        self.ac = ac_duals(repair, point, multipliers, *self.node_price)
        self.dual = multipliers.structural if len(multipliers.structural) else np.zeros(repair.rows.shape[0])
        # A slot that is solved keeps its own rows; all others are priced.
        self.solve = repair.live & ~self.ac.closed if prove else repair.live
        priced = np.where((self.row_slot < 0) | ~self.solve[self.row_slot], self.dual, 0.0)
        self.cost = repair.cost - repair.columns.rows_back @ (priced * repair.row_weight) / repair.column_weight
        self.offset = self._row_terms(priced)

    def _row_terms(self, priced: Real) -> float:
        low, high = self.repair.columns.row_low, self.repair.columns.row_high
        side = np.where(priced > 0, low, high)
        use = priced != 0
        # A multiplier on a side that has no bound is noise of the solver and prices nothing.
        noise = use & ~np.isfinite(side)
        weight = self.repair.row_weight
        self.cost = (
            self.cost
            + self.repair.columns.rows_back @ np.where(noise, priced * weight, 0.0) / self.repair.column_weight
        )
        use &= ~noise
        return float((priced * weight)[use] @ side[use])

    @cached_property
    def tree(self) -> Tree:
        return grid_tree(self.repair.grid)

    def enclose(self, slots: list[int]) -> None:
        """Find what bounds every state of some slots."""
        if not slots or self.repair.injected_range is None:
            return
        grid = self.repair.grid
        low, high = (part[slots] for part in self.repair.injected_range())
        s = self.repair.base.s[slots]
        rated = self._rated(slots)
        self.boxes = boxes_of(self.tree, s + low, s + high, np.abs(grid.held_v) ** 2, rated)
        self.boxed = {t: k for k, t in enumerate(slots)}

    def _rated(self, slots: list[int]) -> Real:
        """Return the squared series currents up to which the bound holds where branches close loops, pu."""
        grid, found = self.repair.grid, []
        inner = np.abs(grid.ratio)
        charging = np.abs(grid.half) * V_TOP
        for name, most, ratio in (("if", grid.max_i_from, inner), ("it", grid.max_i_to, np.ones_like(inner))):
            seen = np.fmax(self.point.values[name][slots], self.repair.base_values[name][slots])
            top = np.where(np.isfinite(most), np.fmax(I_TOP * most, seen), np.inf)
            found.append(top * ratio + charging / np.minimum(ratio, 1.0))
        return np.asarray(np.minimum(*found) ** 2)

    def run(self, active: NDArray[np.bool_], workers: int) -> Bound:
        repair = self.repair
        asked = np.flatnonzero(active & repair.live & self.solve).tolist()
        self.enclose(asked)
        answers = dict(zip(asked, solve_slots([self.problem(t) for t in asked], workers), strict=True))
        exact, met = np.ones((2, self.slots), dtype=bool)
        gap, gap_mw = np.zeros((2, self.slots))
        total, solved = self.offset, np.ones(self.slots, dtype=bool)
        total += self._away_terms()
        total += self._closed_terms(active & repair.live)
        found: dict[int, SlotMultipliers] = {}
        taken: dict[int, tuple[NDArray[np.int_], Real]] = {}
        requests: dict[int, dict[str, float]] = {}
        whole = np.isin(repair.group, repair.column_group[repair.integer])
        for t in np.flatnonzero(active & repair.live).tolist():
            relaxed = answers.get(t)
            if relaxed is None:
                found[t] = self.ac.slot(t)
                requests[t] = self._of_requests(t, None)
                if t in answers:  # the solver broke down
                    solved[t] = exact[t] = met[t] = False
                    gap[t] = np.inf
                    total = -np.inf
                continue
            found[t] = relaxed
            requests[t] = self._of_requests(t, relaxed)
            solved[t] = relaxed.solved
            kept = np.flatnonzero(self.home == t)
            taken[t] = kept, relaxed.x[: len(kept)]
            value, gross = self.value(t, kept)
            gap[t], gap_mw[t] = value - relaxed.bound, relaxed.losses_mw
            met[t] = relaxed.solved and gap[t] <= MET * max(1.0, abs(value)) + DIGITS * gross
            exact[t] = met[t] or (relaxed.solved and bool(whole[t]) and self._is_state(t, relaxed))
            needed = bool((repair.energy_price[t] <= 0).any()) or any(p.limit.kind in CURRENTS for p in relaxed.limits)
            if exact[t] and not needed and float(relaxed.cuts.max(initial=0.0)) < NO_CUT:
                found[t] = replace(relaxed, cuts=np.zeros(0))
            total += (relaxed.bound + self._copy_terms(t)) * repair.weight[t]
        return Bound(
            value=total,
            solved=solved,
            exact=exact,
            met=met,
            gap=gap,
            gap_mw=gap_mw,
            taken=taken,
            slots=found,
            structural=self.dual,
            requests=requests,
        )

    def _is_state(self, t: int, relaxed: Relaxed) -> bool:
        """Tell whether the optimum of a relaxation is an AC state that costs what the relaxation says.

        Then the grid is exact in spite of a gap: whole-or-nothing decisions are relaxed as well. No losses are
        fictitious, angles close around loops, and nothing exceeds a limit whose price the relaxation understates.
        """
        grid = self.repair.grid
        if relaxed.losses_mw > EXACT_MW * max(1.0, float(np.abs(self.repair.base.s[t]).sum())):
            return False
        if not grid.radial and float(np.abs(angle_gaps(grid, relaxed)).max(initial=0.0)) > EXACT_RAD:
            return False
        v, z = relaxed.v, 1 / grid.y
        priced = {k.index for k in self.limits_of(t) if k.kind is LimitKind.VOLTAGE_MIN}
        for n in grid.free.tolist():
            if v[n] > grid.v_max[n] + EXACT_PU or (n not in priced and v[n] < grid.v_min[n] - EXACT_PU):
                return False
        w_from, w_to = (v[grid.from_node] / np.abs(grid.ratio)) ** 2, v[grid.to_node] ** 2
        flow = relaxed.p + 1j * relaxed.q
        s_from = flow + np.conj(grid.half) * w_from
        s_to = flow - z * relaxed.current_mva - np.conj(grid.half) * w_to
        over_from = np.abs(s_from) / v[grid.from_node] > grid.max_i_from + EXACT_PU
        return not bool((over_from | (np.abs(s_to) / v[grid.to_node] > grid.max_i_to + EXACT_PU)).any())

    def value(self, t: int, kept: NDArray[np.int_]) -> tuple[float, float]:
        """Return what a slot of the dispatch costs, as its relaxation counts, and the sum of all its parts' sizes."""
        repair, point = self.repair, self.point
        apart = float((self.cost - repair.cost)[kept] @ point.x[kept])
        bought = 0.0
        if len(self.away):
            x = np.zeros(len(repair.cost))
            x[self.away] = point.x[self.away]
            rows = slice(t * repair.grid.nodes, (t + 1) * repair.grid.nodes)
            for k, matrix in enumerate((repair.columns.node_p, repair.columns.node_q)):
                bought += float(self.node_price[k, t] @ (matrix[rows] @ x))
            bought -= self._copy_terms(t)
        merit = float(point.merit[t] / repair.weight[t])
        energy = float(np.abs(repair.energy_price[t] * point.values["root_p"][t]).sum())
        gross = abs(merit) + abs(apart) + abs(bought) + energy + float(np.abs(self.cost[kept]) @ point.x[kept])
        return merit + apart + bought, gross

    def _closed_terms(self, active: NDArray[np.bool_]) -> float:
        """Return the bound of the slots that need no solver: their grid's, and what their columns can earn at most."""
        repair, ac = self.repair, self.ac
        closed = active & ~self.solve
        worth = repair.columns.worth(ac.balance_p, ac.balance_q)
        reduced = np.where(closed[self.home], self.cost - worth, self.cost)
        grid = ac.bound - (repair.energy_price * repair.base_values["root_p"]).sum(axis=1)
        total = float((grid * repair.weight)[closed].sum())
        for k, value in self.multipliers.measured.items():
            m = repair.market.measured[k]
            if closed[m.slot]:
                reduced[m.columns] += value
                total -= value * m.sign * float(repair.base_values[m.kind][m.slot, m.index]) * repair.weight[m.slot]
        reduced *= repair.column_weight
        mine = self.at_home & ~(active & self.solve)[self.home]
        return total + _least(reduced[mine], repair.upper[mine])

    def _of_requests(self, t: int, relaxed: Relaxed | None) -> dict[str, float]:
        """Return the multipliers of what is delivered to requests in a slot, by the first request of each pool.

        Args:
            t: slot.
            relaxed: its solved relaxation; the multipliers of the dispatch without.
        """
        market = self.repair.market
        place = {row: k for k, row in enumerate(self._kept_rows(t).tolist())} if relaxed is not None else {}
        found: dict[str, float] = {}
        seen: set[int] = set()
        for (r, slot), row in sorted(market.request_row.items()):
            if slot == t and row not in seen and (relaxed is None or row in place):
                seen.add(row)
                value = -self.dual[row] if relaxed is None else relaxed.rows[place[row]]
                found[market.requests[r].request_id] = float(value)
        column_request = {c: r for c, r, _ in market.request_columns}
        mine = self.repair.measured_of[t]
        values = [self.multipliers.measured.get(k, 0.0) for k in mine] if relaxed is None else relaxed.measured.tolist()
        for k, value in zip(mine, values, strict=True):
            name = min(market.requests[column_request[c]].request_id for c in market.measured[k].columns)
            found[name] = float(value)
        return found

    def _kept_rows(self, t: int) -> NDArray[np.int_]:
        rows = np.flatnonzero(self.row_slot == t)
        return rows[np.diff(self.repair.rows.indptr)[rows] > 0]

    def problem(self, t: int) -> SlotProblem:
        repair, grid = self.repair, self.repair.grid
        kept = np.flatnonzero(self.home == t)
        rows = self._kept_rows(t)
        matrix = repair.rows[rows][:, kept] if len(rows) else sparse.csr_matrix((0, len(kept)))
        position = {int(c): k for k, c in enumerate(kept.tolist())}
        measured = tuple(
            (
                m.index,
                m.kind,
                m.sign,
                float(repair.base_values[m.kind][t, m.index]),
                tuple(position[c] for c in m.columns),
            )
            for m in repair.market.measured
            if m.slot == t
        )
        limits = self.limits_of(t)
        inject_p, inject_q = repair.slot_injections(t, kept)
        cost, upper, s = self.cost[kept], repair.upper[kept], repair.base.s[t]
        likely = cost <= 0
        if len(self.away):
            copies_p, copies_q, copy_cost, copy_upper, fixed = self._copies(t)
            inject_p = sparse.hstack([inject_p, copies_p], format="csc")
            inject_q = sparse.hstack([inject_q, copies_q], format="csc")
            matrix = sparse.hstack([matrix, sparse.csr_matrix((matrix.shape[0], len(copy_cost)))], format="csr")
            cost, upper, s = np.r_[cost, copy_cost], np.r_[upper, copy_upper], s + fixed
            likely = np.r_[likely, np.ones(len(copy_cost), dtype=bool)]
        return SlotProblem(
            grid=grid,
            s=s,
            energy_price=repair.energy_price[t],
            base_root=repair.base_values["root_p"][t],
            cost=cost,
            upper=upper,
            inject_p=inject_p,
            inject_q=inject_q,
            rows=matrix,
            row_low=repair.columns.row_low[rows],
            row_high=repair.columns.row_high[rows],
            limits=limits,
            measured=measured,
            box=self._box(t),
            likely=likely,
        )

    def _box(self, t: int) -> SlotBox | None:
        boxes = self.boxes
        if boxes is None:
            return None
        k = self.boxed[t]
        w_far, by_p, by_q, constant = boxes.cut()
        return SlotBox(
            w_low=boxes.w_low[k],
            w_high=boxes.w_high[k],
            l_low=boxes.l_low[k],
            l_high=boxes.l_high[k],
            w_far=w_far[k],
            by_p=by_p[k],
            by_q=by_q[k],
            constant=constant[k],
            inward=self.tree.inward,
        )

    def limits_of(self, t: int) -> tuple[SlotLimit, ...]:
        """Return the limits that take part in the relaxation of a slot."""
        return tuple(
            SlotLimit(
                self.repair.limits.kinds[k],
                self.repair.limits.measures[k].index,
                float(self.repair.limits.bound[k]),
                float(self.repair.limits.price[k]),
            )
            for k in np.flatnonzero(self.repair.watch[t]).tolist()
            if self.point.excess[t, k] > -0.5 * self.repair.limits.near[k]
        )

    def _away(self, t: int) -> list[tuple[int, int, float, float]]:
        """Return where columns from elsewhere can inject in a slot: (0 P or 1 Q, node, least, most)."""
        low, high = self.away_low[:, t], self.away_high[:, t]
        return [
            (k, node, float(low[k, node]), float(high[k, node]))
            for k, node in np.argwhere((low < 0) | (high > 0)).tolist()
        ]

    def _copies(
        self, t: int
    ) -> tuple[sparse.csr_matrix, sparse.csr_matrix, Real, Real, NDArray[np.complexfloating[Any, Any]]]:
        """Return columns that stand for what the away columns inject here, bought at the nodal prices."""
        entries = self._away(t)
        n = self.repair.grid.nodes
        fixed = np.zeros(n, dtype=complex)
        cells: list[list[tuple[int, int]]] = [[], []]
        for j, (k, node, low, _) in enumerate(entries):
            cells[k].append((node, j))
            fixed[node] += low * (1j if k else 1.0)
        made = [
            sparse.csr_matrix((np.ones(len(c)), ([a for a, _ in c], [b for _, b in c])), shape=(n, len(entries)))
            for c in cells
        ]
        cost = np.array([self.node_price[k, t, node] for k, node, _, _ in entries])
        upper = np.array([high - low for _, _, low, high in entries])
        return made[0], made[1], cost, upper, fixed

    def _copy_terms(self, t: int) -> float:
        """Return the price of the constant part of the copies."""
        return sum(float(self.node_price[k, t, node]) * low for k, node, low, _ in self._away(t))

    def _away_terms(self) -> float:
        """Return the least that the away columns cost when they sell their injections at the nodal prices."""
        repair, away = self.repair, self.away
        if not len(away):
            return 0.0
        worth = repair.columns.worth(self.node_price[0], self.node_price[1])
        return _least(((self.cost - worth) * repair.column_weight)[away], repair.upper[away])


def grid_tree(grid: Grid) -> Tree:
    """Return the tree of a reduced grid."""
    return tree_of(
        grid.nodes,
        grid.held,
        grid.held_v,
        grid.from_node,
        grid.to_node,
        1 / grid.y,
        grid.ratio,
        grid.shunt,
        grid.half,
    )


def _least(reduced: Real, upper: Real) -> float:
    """Return the least that columns between zero and their upper bounds cost."""
    if np.any((reduced < -1e-9) & ~np.isfinite(upper)):
        return -np.inf
    return float(np.minimum(reduced, 0.0) @ np.where(np.isfinite(upper), upper, 0.0))


def angle_gaps(grid: Grid, relaxed: Relaxed) -> Real:
    """Return by how much the angle over each branch misses that between its ends, walked along a tree, rad."""
    z = 1 / grid.y
    inner = np.maximum(relaxed.v[grid.from_node] / np.abs(grid.ratio), 1e-6) ** 2
    over = np.angle(1 - z * np.conj(relaxed.p + 1j * relaxed.q) / inner) - np.angle(grid.ratio)
    angle = np.zeros(grid.nodes)
    angle[grid.held] = np.angle(grid.held_v)
    for node in grid.order.tolist():
        k = int(grid.parent[node])
        if k < 0:
            continue
        f, t = int(grid.from_node[k]), int(grid.to_node[k])
        angle[node] = angle[f] + over[k] if node == t else angle[t] - over[k]
    missed = angle[grid.from_node] + over - angle[grid.to_node]
    return np.asarray((missed + np.pi) % (2 * np.pi) - np.pi)


def slot_problem(repair: Repair, point: Point, multipliers: Multipliers, prices: NodalPrices, slot: int) -> SlotProblem:
    """Return the relaxation of one slot as `bound_of` solves it where nothing proves the slot exact beforehand.

    Args:
        repair: the optimisation.
        point: the dispatch.
        multipliers: its duals.
        prices: its nodal prices.
        slot: slot index.
    """
    bounder = _Bounder(repair, point, multipliers, prices, prove=False)
    bounder.enclose([slot])
    return bounder.problem(slot)
