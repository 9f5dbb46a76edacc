"""Requests as columns and rows: what is asked for in a place, and what the columns of offers deliver there."""

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from clearing.case import Case, Location, Quantity
from clearing.market import Market, MeasuredRequest
from clearing.network import Grid
from clearing.rows import INF

__all__ = ["RequestBuilder"]

Real = NDArray[np.float64]
MEGA = 1e6


class RequestBuilder:
    """Adds the requests of some slots to a market that has the columns of its offers."""

    def __init__(self, case: Case, grid: Grid, live: NDArray[np.bool_], market: Market, window: range) -> None:
        """Prepare.

        Args:
            case: the case, checked and canonical.
            grid: its grid.
            live: slots that take part (slots).
            market: the market.
            window: slots of one scenario, or all.
        """
        self.grid, self.live, self.market, self.window = grid, live, market, window
        self.bus = {b: k for k, b in enumerate(grid.bus_ids)}
        self.zone = {b.bus_id: b.zone_id for b in case.network.buses}

    def build(self, matrices: tuple[sparse.csr_matrix, sparse.csr_matrix], upper: Real) -> None:
        """Columns and rows of the requests, given what the columns of offers inject and their upper bounds."""
        pools: dict[tuple[str, str, str, str, int, int], list[int]] = defaultdict(list)
        for r, request in enumerate(self.market.requests):
            for t in self.window:
                entry = request.slots[t]
                if not self.live[t] or not entry.steps:
                    continue
                columns = []
                for n, step in enumerate(entry.steps):
                    column = self.market.column(-step.price_milli_per_mwh / 1e3, step.quantity / MEGA, t)
                    self.market.request_columns.append((column, r, n))
                    columns.append(column)
                if entry.min_quantity > 0:
                    on = self.market.column(0.0, 1.0, t, integer=True)
                    self.market.request_on[r, t] = on
                    total = [(c, 1.0) for c in columns]
                    cap = sum(s.quantity for s in entry.steps) / MEGA
                    tag = ("REQUEST_MINIMUM", request.request_id, t)
                    self.market.row(tag, [*total, (on, -entry.min_quantity / MEGA)], 0.0, INF)
                    self.market.row(tag, [*total, (on, -cap)], -INF, 0.0)
                # GRID and TSO needs are served by physics, wherever it flows; energy is sold once.
                place = "AREA" if request.location_kind is Location.AREA else request.location_id
                pools[
                    request.kind.value,
                    request.location_kind.value,
                    place,
                    request.quantity.value,
                    request.direction.sign,
                    t,
                ] += [len(self.market.request_columns) - len(columns) + i for i in range(len(columns))]
        for key in sorted(pools):
            _, where, place, quantity, sign, t = key
            entries = [self.market.request_columns[i] for i in pools[key]]
            if where in ("BRANCH", "INFEED_POINT"):
                self._measured(where, place, quantity, sign, t, [c for c, _, _ in entries])
                continue
            matrix = matrices[0 if quantity == Quantity.ACTIVE.value else 1]
            cells = [t * len(self.bus) + b for name, b in sorted(self.bus.items()) if self._inside(name, where, place)]
            inside = np.asarray(matrix[cells].sum(axis=0)).ravel()
            served = [(c, 1.0) for c, _, _ in entries]
            served += [(k, -sign * float(inside[k])) for k in np.flatnonzero(inside).tolist()]
            # Going the other way costs what the request would have paid, but a request forbids nothing.
            price = max(*(-self.market.cost[c] for c, _, _ in entries), 0.0)
            against = float(np.abs(inside) @ upper)
            other_way = self.market.column(price, against, t)
            served.append((other_way, -1.0))
            row = self.market.row(("REQUEST", place, t), served, -INF, 0.0)
            self.market.opposed[row] = other_way
            for _, r, _ in entries:
                self.market.request_row[r, t] = row

    def _inside(self, bus_id: str, where: str, place: str) -> bool:
        if self.grid.node_of_bus[self.bus[bus_id]] < 0:
            return False
        if where == "BUS":
            return bus_id == place
        return where == "AREA" or self.zone[bus_id] == place

    def _measured(self, where: str, place: str, quantity: str, sign: int, t: int, columns: list[int]) -> None:
        active = quantity == Quantity.ACTIVE.value
        if where == "INFEED_POINT":
            kind, index = ("root_p" if active else "root_q"), self.grid.infeed_ids.index(place)
        else:
            index = self.grid.branch_ids.index(place)
            # Measured at the end nearer to the infeed, so that losses count.
            kind = ("p" if active else "q") + ("f" if self.grid.outward[index] > 0 else "t")
        self.market.measured.append(MeasuredRequest(slot=t, kind=kind, index=index, sign=float(sign), columns=columns))
