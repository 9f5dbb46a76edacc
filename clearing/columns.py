"""The columns of a market as arrays, what they inject and what ties them: all that no state of the grid changes."""

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

from clearing.market import Market
from clearing.network import Grid

__all__ = ["Columns"]

Real = NDArray[np.float64]
Index = NDArray[np.int_]
Mask = NDArray[np.bool_]


class Columns:
    """A market on a grid, ready for programs at any state."""

    def __init__(self, grid: Grid, market: Market, slots: int) -> None:
        """Prepare.

        Args:
            grid: the reduced grid.
            market: columns and rows.
            slots: slots of the horizon.
        """
        self.grid, self.market, self.slots = grid, market, slots
        # What one unit of each column injects, MW above Mvar: twice (slots x nodes) x columns; and turned around.
        self._both = _injections(grid, market, slots)
        self._back = self._both.T.tocsr()
        self.measured_of: list[list[int]] = [[] for _ in range(slots)]
        for k, m in enumerate(market.measured):
            self.measured_of[m.slot].append(k)
        self.cost = np.array(market.cost)
        self.upper = np.array(market.upper)
        self.integer = np.array(market.integer, dtype=bool)
        self.slot = np.array(market.slot, dtype=int)
        # What a slot costs counts as often as its scenario occurs; prices and multipliers stay those of the slot.
        self.weight = np.array(market.weight)
        self.column_weight = _of_slot(self.weight, self.slot)
        self.row_weight = _of_slot(self.weight, np.array([t for _, _, t in market.row_tag], dtype=int))
        self.rows = market.rows.matrix(len(self.cost))
        self.row_low, self.row_high = np.array(market.rows.low), np.array(market.rows.high)
        self.merit_cost = self.cost.copy()
        # Valued by what the flow shows, not by what the program says.
        self.merit_cost[[c for m in market.measured for c in m.columns]] = 0.0
        # What is reserved costs the same anywhere and moves nothing in the grid: no trust region holds it.
        self.near = np.ones(len(self.cost), dtype=bool)
        self.near[list(market.reserved.values())] = False
        self.group, self.column_group = self._groups()
        self._locals: dict[int, tuple[Index, sparse.csr_matrix]] = {}

    def injected(self, x: Real) -> NDArray[np.complexfloating[Any, Any]]:
        """Return what a dispatch injects (slots x nodes), per unit."""
        cells = self.slots * self.grid.nodes
        both = self._both @ x
        return np.asarray((both[:cells] + 1j * both[cells:]).reshape(self.slots, self.grid.nodes))

    def worth(self, p: Real, q: Real) -> Real:
        """Return what one unit of every column is worth, from the worth of power (slots x nodes)."""
        return np.asarray(self._back @ np.concatenate([p.ravel(), q.ravel()]))

    @cached_property
    def node_p(self) -> sparse.csr_matrix:
        """What one unit of each column injects: (slots x nodes) x columns, MW."""
        return self._both[: self.slots * self.grid.nodes]

    @cached_property
    def node_q(self) -> sparse.csr_matrix:
        """What one unit of each column injects: (slots x nodes) x columns, Mvar."""
        return self._both[self.slots * self.grid.nodes :]

    @cached_property
    def _by_slot(self) -> tuple[Index, Index, Index, Real]:
        """Everything that is injected, by slot and column: firsts of the slots, columns, places (P, Q x nodes), MW."""
        nodes, cells = self.grid.nodes, self._back.indices
        slot = (cells // nodes) % self.slots
        order = np.argsort(slot, kind="stable")
        column = np.repeat(np.arange(len(self.cost)), np.diff(self._back.indptr))[order]
        place = (cells // (self.slots * nodes) * nodes + cells % nodes)[order]
        return np.searchsorted(slot[order], np.arange(self.slots + 1)), column, place, self._back.data[order]

    def _in_slot(self, t: int) -> tuple[Index, Index, Real]:
        first, column, place, by = self._by_slot
        mine = slice(int(first[t]), int(first[t + 1]))
        return column[mine], place[mine], by[mine]

    def slot_injections(self, t: int, columns: Index) -> tuple[sparse.csc_matrix, sparse.csc_matrix]:
        """Return what one unit of some columns injects in a slot: nodes x columns, MW and Mvar.

        Args:
            t: slot.
            columns: the columns, rising.
        """
        column, place, by = self._in_slot(t)
        chosen = np.zeros(len(self.cost), dtype=bool)
        chosen[columns] = True
        mine, active = chosen[column], place < self.grid.nodes
        made = []
        for part, first in ((mine & active, 0), (mine & ~active, self.grid.nodes)):
            starts = np.r_[np.searchsorted(column[part], columns), np.count_nonzero(part)]
            entries = by[part], place[part] - first, starts
            made.append(sparse.csc_matrix(entries, shape=(self.grid.nodes, len(columns))))
        return made[0], made[1]

    def local(self, t: int) -> tuple[Index, sparse.csr_matrix]:
        """Return the columns that inject in a slot, and what they inject: columns x (nodes MW, nodes Mvar)."""
        if t not in self._locals:
            if self.slots == 1:
                columns, made = np.flatnonzero(np.diff(self._back.indptr)), self._back
                self._locals[t] = columns, made if len(columns) == made.shape[0] else made[columns]
            else:
                column, place, by = self._in_slot(t)
                first = np.flatnonzero(np.r_[True, column[1:] != column[:-1]][: len(column)])
                starts = np.r_[first, len(column)]
                made = sparse.csr_matrix((by, place, starts), shape=(len(first), 2 * self.grid.nodes))
                self._locals[t] = column[first], made
        return self._locals[t]

    @cached_property
    def carries(self) -> Mask:
        """Whether a column carries steps of offers."""
        return np.asarray(np.diff(self.market.member_first) > 0)

    @cached_property
    def own(self) -> Mask:
        """Whether a column carries steps that may be taken in part."""
        return np.asarray(self.carries & ~self.integer)

    @cached_property
    def whole(self) -> list[int]:
        """The columns that say whether something is taken at all."""
        return sorted(set(self.market.taken.values()) | set(np.flatnonzero(self.carries & self.integer).tolist()))

    @cached_property
    def bounded(self) -> Index:
        """The columns that a trust region holds."""
        return np.flatnonzero((self.slot >= 0) & ~self.integer & self.near)

    @cached_property
    def slotted(self) -> Index:
        """The columns that count in a slot."""
        return np.flatnonzero(self.slot >= 0)

    def per_slot(self, values: Real) -> Real:
        """Return the sums of values of columns per slot."""
        mine = self.slotted
        return np.asarray(np.bincount(self.slot[mine], weights=values[mine], minlength=self.slots), dtype=np.float64)

    @cached_property
    def groups(self) -> frozenset[int]:
        """The numbers of the groups of columns."""
        return frozenset(self.column_group.tolist())

    @cached_property
    def rows_back(self) -> sparse.csr_matrix:
        """The rows turned around: columns x rows."""
        return self.rows.T.tocsr()

    @cached_property
    def home(self) -> Index:
        """Slot in which a column injects and nowhere else; -1 = in others as well, or in none."""
        away = np.zeros(len(self.cost), dtype=bool)
        coo = self._both.tocoo()
        away[coo.col[(coo.row // self.grid.nodes) % self.slots != self.slot[coo.col]]] = True
        return np.where(away, -1, self.slot)

    @cached_property
    def row_slot(self) -> Index:
        """Slot in which all columns of a row are at home, -1 = there is none."""
        ties = self.rows.tocoo()
        first, last = np.full(self.rows.shape[0], self.slots + 1), np.full(self.rows.shape[0], -2)
        np.minimum.at(first, ties.row, self.home[ties.col])
        np.maximum.at(last, ties.row, self.home[ties.col])
        return np.where((first == last) & (first >= 0), first, -1)

    def _groups(self) -> tuple[Index, Index]:
        """Number the slots so that coupled ones (rows or injections that span slots) share a number."""
        slots, columns, rows = self.slots, len(self.cost), self.rows.shape[0]
        if slots == 1 and bool((self.slot >= 0).all()):
            return np.zeros(1, dtype=int), np.zeros(columns, dtype=int)
        own = np.flatnonzero(self.slot >= 0)
        cells, ties = self._both.tocoo(), self.rows.tocoo()
        # Vertices: slots, columns, structural rows.
        a = np.concatenate([self.slot[own], (cells.row // self.grid.nodes) % slots, slots + ties.col])
        b = np.concatenate([slots + own, slots + cells.col, slots + columns + ties.row])
        size = slots + columns + rows
        graph = sparse.csr_matrix((np.ones(len(a)), (a, b)), shape=(size, size))
        label = csgraph.connected_components(graph, directed=False)[1]
        return np.asarray(label[:slots], dtype=int), np.asarray(label[slots : slots + columns], dtype=int)


def _injections(grid: Grid, market: Market, slots: int) -> sparse.csr_matrix:
    """Return what one unit of each column injects at the nodes: twice (slots x nodes) x columns, MW above Mvar."""
    buses, nodes, columns = len(grid.bus_ids), grid.nodes, len(market.cost)
    rows, column, factor = [], [], []
    for k, given in enumerate((market.inject_p, market.inject_q)):
        cell, which, by = given.entries()
        node = grid.node_of_bus[cell % buses]
        fed = node >= 0
        rows.append((k * slots + cell[fed] // buses) * nodes + node[fed])
        column.append(which[fed])
        factor.append(by[fed])
    places = np.concatenate(rows), np.concatenate(column)
    return sparse.csr_matrix((np.concatenate(factor), places), shape=(2 * slots * nodes, columns))


def _of_slot(weight: Real, slot: Index) -> Real:
    """Return the weight of what belongs to a slot, 1 for what belongs to none."""
    return np.where(slot >= 0, weight[slot], 1.0)
