"""How good the dispatch is: the relaxation of every slot gives a lower bound, and tells where it is exact.

Where the multipliers of the dispatch prove in closed form that no state of the relaxation is better
(`clearing.proof`), the slot is exact as it stands; the relaxation of the others is solved.
Slots are decomposed: rows that tie slots together (budgets, storages, ramps) are priced with the multipliers of
the repaired dispatch, columns that inject in several slots with its nodal prices. By weak duality the sum of
the slots' optima is a lower bound for the whole market whatever those prices are, and it is tight when they
are right; whole-or-nothing decisions are relaxed.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from clearing.formulation import SlotLimit, SlotMultipliers, SlotProblem
from clearing.linearisation import Multipliers, Point
from clearing.network import Grid
from clearing.pricing import NodalPrices
from clearing.proof import ac_duals
from clearing.relaxation import Relaxed, solve_slots
from clearing.repair import Repair

__all__ = ["Bound", "angle_gaps", "bound_of", "slot_problem"]

Real = NDArray[np.float64]

# Fictitious losses up to this count as none: 1 W, or a millionth of what flows in.
EXACT_MW = 1e-6
# Angles around a loop: an AC state misses by nothing, the solver's digits by less than this.
EXACT_RAD = 1e-6
# EUR per MWh of losses: tie-break where energy is free, for then losses cost nothing and are arbitrary.
TIE = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """Lower bound of the market's cost (EUR per hour, summed over slots) and the exactness per slot."""

    value: float
    solved: NDArray[np.bool_]  # per slot: a proof or the cone solver gave the bound
    exact: NDArray[np.bool_]
    gap_mw: Real
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
        self.slots, n = repair.slots, repair.grid.nodes
        columns = len(repair.cost)
        home = repair.column_slot
        # A column is at home in its slot if it injects nowhere else.
        away = np.zeros(columns, dtype=bool)
        for matrix in (repair.node_p, repair.node_q):
            coo = matrix.tocoo()
            away[coo.col[(coo.row // n) != home[coo.col]]] = True
        self.home = np.where(away, -1, home)
        self.at_home = self.home >= 0
        self.away = np.flatnonzero(~self.at_home)
        # Least and most that columns from elsewhere can inject, (P, Q) x slots x nodes.
        self.away_low, self.away_high = np.zeros((2, 2, self.slots, n))
        for k, matrix in enumerate((repair.node_p, repair.node_q)):
            reach = matrix[:, self.away].multiply(repair.upper[self.away][None, :]).tocsr()
            self.away_low[k] = np.asarray(reach.minimum(0).sum(axis=1)).reshape(self.slots, n)
            self.away_high[k] = np.asarray(reach.maximum(0).sum(axis=1)).reshape(self.slots, n)
        ties = repair.rows.tocoo()
        first = np.full(repair.rows.shape[0], self.slots + 1)
        last = np.full(repair.rows.shape[0], -2)
        np.minimum.at(first, ties.row, self.home[ties.col])
        np.maximum.at(last, ties.row, self.home[ties.col])
        self.row_slot = np.where((first == last) & (first >= 0), first, -1)
        alive = np.flatnonzero(repair.grid.node_of_bus >= 0)
        self.node_price = np.zeros((2, self.slots, n))
        for k, total in enumerate(prices.physical()):
            self.node_price[k][:, repair.grid.node_of_bus[alive]] = total[:, alive]
        self.ac = ac_duals(repair, point, multipliers, *self.node_price)
        self.dual = multipliers.structural if len(multipliers.structural) else np.zeros(repair.rows.shape[0])
        # A slot that is solved keeps its own rows; all others are priced.
        self.solve = repair.live & ~self.ac.closed if prove else repair.live
        priced = np.where((self.row_slot < 0) | ~self.solve[self.row_slot], self.dual, 0.0)
        self.cost = repair.cost - repair.rows.T @ (priced * repair.row_weight) / repair.column_weight
        self.offset = self._row_terms(priced)

    def _row_terms(self, priced: Real) -> float:
        low, high = np.array(self.repair.market.rows.low), np.array(self.repair.market.rows.high)
        side = np.where(priced > 0, low, high)
        use = priced != 0
        # A multiplier on a side that has no bound is noise of the solver and prices nothing.
        noise = use & ~np.isfinite(side)
        weight = self.repair.row_weight
        self.cost = self.cost + self.repair.rows.T @ np.where(noise, priced * weight, 0.0) / self.repair.column_weight
        use &= ~noise
        return float((priced * weight)[use] @ side[use])

    def run(self, active: NDArray[np.bool_], workers: int) -> Bound:
        repair = self.repair
        asked = np.flatnonzero(active & repair.live & self.solve).tolist()
        answers = dict(zip(asked, solve_slots([self.problem(t) for t in asked], workers), strict=True))
        exact = np.ones(self.slots, dtype=bool)
        gap = np.zeros(self.slots)
        total, solved = self.offset, np.ones(self.slots, dtype=bool)
        total += self._away_terms()
        total += self._closed_terms(active & repair.live)
        found: dict[int, SlotMultipliers] = {}
        requests: dict[int, dict[str, float]] = {}
        for t in np.flatnonzero(active & repair.live).tolist():
            relaxed = answers.get(t)
            if relaxed is None:
                found[t] = self.ac.slot(t)
                requests[t] = self._of_requests(t, None)
                if t in answers:  # the solver broke down
                    solved[t] = exact[t] = False
                    total = -np.inf
                continue
            found[t] = relaxed
            requests[t] = self._of_requests(t, relaxed)
            solved[t] = relaxed.solved
            size = max(1.0, float(np.abs(repair.base.s[t]).sum()))
            exact[t] = relaxed.solved and relaxed.losses_mw <= EXACT_MW * size and self._closes(relaxed)
            gap[t] = relaxed.losses_mw
            own = relaxed.bound - self._tie(t) * self._losses_up_to(t)
            total += (own + self._copy_terms(t)) * repair.weight[t]
        return Bound(
            value=total, solved=solved, exact=exact, gap_mw=gap, slots=found, structural=self.dual, requests=requests
        )

    def _closed_terms(self, active: NDArray[np.bool_]) -> float:
        """Return the bound of the slots that need no solver: their grid's, and what their columns can earn at most."""
        repair, ac = self.repair, self.ac
        closed = active & ~self.solve
        worth = repair.by_p @ ac.balance_p.ravel() + repair.by_q @ ac.balance_q.ravel()
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

    def _closes(self, relaxed: Relaxed) -> bool:
        """Tell whether the voltage angles of the relaxation add up to zero around every loop."""
        grid = self.repair.grid
        if grid.radial:
            return True
        return float(np.abs(angle_gaps(grid, relaxed)).max(initial=0.0)) <= EXACT_RAD

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
        rows = np.flatnonzero(self.row_slot == t)
        mine = repair.rows[rows]
        matrix, full = sparse.csr_matrix(mine[:, kept]), np.diff(mine.indptr) > 0
        low, high = np.array(repair.market.rows.low)[rows], np.array(repair.market.rows.high)[rows]
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
        limits = tuple(
            SlotLimit(
                repair.limits.kinds[k],
                repair.limits.measures[k].index,
                float(repair.limits.bound[k]),
                float(repair.limits.price[k]),
            )
            for k in np.flatnonzero(repair.watch[t]).tolist()
            if self.point.excess[t, k] > -0.5 * repair.limits.near[k]
        )
        inject_p, inject_q = (part[:, kept] for part in repair.slot_injections(t))
        cost, upper, s = self.cost[kept], repair.upper[kept], repair.base.s[t]
        likely = cost <= 0
        if len(self.away):
            copies_p, copies_q, copy_cost, copy_upper, fixed = self._copies(t)
            inject_p = sparse.hstack([inject_p, copies_p], format="csr")
            inject_q = sparse.hstack([inject_q, copies_q], format="csr")
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
            inject_p=sparse.csr_matrix(inject_p),
            inject_q=sparse.csr_matrix(inject_q),
            rows=sparse.csr_matrix(matrix)[np.flatnonzero(full)],
            row_low=low[full],
            row_high=high[full],
            limits=limits,
            measured=measured,
            loss_price=self._tie(t),
            likely=likely,
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
        worth = repair.by_p @ self.node_price[0].ravel() + repair.by_q @ self.node_price[1].ravel()
        return _least(((self.cost - worth) * repair.column_weight)[away], repair.upper[away])

    def _tie(self, t: int) -> float:
        return TIE if (self.repair.energy_price[t] <= 0).any() else 0.0

    def _losses_up_to(self, t: int) -> float:
        """Return the losses (MW) up to which the bound stays one in spite of the tie-break.

        Twice the losses found and a tenth of everything injected: a dispatch that loses more is none.
        """
        s = self.point.state.s[t]
        lost = float(self.point.values["root_p"][t].sum() + s.real.sum())
        return 2 * max(lost, 0.0) + 0.1 * float(np.abs(s).sum())


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
    return _Bounder(repair, point, multipliers, prices, prove=False).problem(slot)
