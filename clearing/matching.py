"""What requests got of what was taken, what they pay, and why they did not get the rest."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clearing.case import Location, Quantity, Request
from clearing.dispatch import baseline
from clearing.payments import worth_to_buyer
from clearing.phases import expected
from clearing.result import RequestResult
from clearing.unmet import Buyers
from flexbus.quantities import amount_nano, energy_wh

if TYPE_CHECKING:
    from clearing.pipeline import Cleared

__all__ = ["Matching"]

Real = NDArray[np.float64]
MEGA = 1e6


class Matching:
    """The requests of a cleared market.

    Args:
        cleared: the market.
        p: injections with the awards (slots x buses), W.
        q: the same, var.
    """

    def __init__(self, cleared: "Cleared", p: Real, q: Real) -> None:
        self.c, self.case, self.grid = cleared, cleared.case, cleared.grid
        before_p, before_q = baseline(self.case)
        self.change_p, self.change_q = p - before_p, q - before_q

    def results(self) -> tuple[RequestResult, ...]:
        """Return what each request got, by request."""
        c, case = self.c, self.case
        matched = {r: np.zeros(case.slots, dtype=int) for r in range(len(c.market.requests))}
        price = {r: np.zeros(case.slots, dtype=int) for r in range(len(c.market.requests))}
        net = {r: np.zeros(case.slots) for r in range(len(c.market.requests))}
        measured_of = {column: (n, m) for n, m in enumerate(c.market.measured) for column in m.columns}
        pools: dict[tuple[int, int], tuple[float, list[tuple[int, int, int]]]] = {}
        for column, r, step in c.market.request_columns:
            t = c.market.slot[column]
            if column in measured_of:
                n, m = measured_of[column]
                delivered = c.repair.delivered(m, c.point.values) * MEGA
                key = (-1, n)
                worth = c.multipliers.measured.get(n, 0.0)
            else:
                row = c.market.request_row[r, t]
                delivered = self._net(c.market.requests[r], t)
                key = (0, row)
                worth = -float(c.multipliers.structural[row]) if len(c.multipliers.structural) else 0.0
            net[r][t] = delivered
            pools.setdefault(key, (delivered, []))[1].append((column, r, step))
            price[r][t] = round(max(worth, 0.0) * 1e3)
        for delivered, entries in pools.values():
            left = max(int(np.floor(delivered + 0.5)), 0)
            entries.sort(key=lambda e: (c.repair.cost[e[0]], e[1], e[2]))
            for column, r, step in entries:
                t = c.market.slot[column]
                entry = c.market.requests[r].slots[t]
                # A request that the program left alone (its minimum was out of reach) stays unmet.
                if entry.min_quantity > 0 and not self._minimum_met(r, t):
                    continue
                part = min(left, entry.steps[step].quantity)
                matched[r][t] += part
                left -= part
        made = []
        buyers = Buyers(c.repair, c.point, c.multipliers, c.awards, c.value)
        for r, request in enumerate(c.market.requests):
            asked = tuple(sum(s.quantity for s in e.steps) for e in request.slots)
            got = tuple(matched[r].tolist())
            why = buyers.why(r, asked, got, net[r])
            made.append(
                RequestResult(
                    request_id=request.request_id,
                    requested=asked,
                    matched=got,
                    price_milli_per_mwh=tuple(price[r].tolist()),
                    payment_nano=expected(
                        case, [self._payment(request, got, price[r].tolist(), w) for w in c.market.windows]
                    ),
                    unmet_reason=None if why is None else why.reason,
                    price_distance_milli_per_mwh=None if why is None else why.distance,
                    reason="" if why is None else why.text,
                )
            )
        return tuple(made)

    def _payment(self, request: Request, got: tuple[int, ...], price: list[int], window: range) -> int:
        length = self.case.resolution_s
        return sum(
            min(
                amount_nano(energy_wh(got[t], length), price[t]),
                worth_to_buyer(request.slots[t], got[t], length),
            )
            for t in window
            if got[t]
        )

    def _minimum_met(self, r: int, t: int) -> bool:
        c = self.c
        total = sum(
            float(c.point.x[column])
            for column, q, _ in c.market.request_columns
            if q == r and c.market.slot[column] == t
        )
        return total * MEGA >= c.market.requests[r].slots[t].min_quantity - 1

    def _net(self, request: Request, t: int) -> float:
        """Return the flexibility taken inside a request's place, W or var in its direction."""
        zone = {b.bus_id: b.zone_id for b in self.case.network.buses}
        total = 0.0
        change = self.change_p if request.quantity is Quantity.ACTIVE else self.change_q
        for b, bus_id in enumerate(self.grid.bus_ids):
            if self.grid.node_of_bus[b] < 0:
                continue
            inside = (
                request.location_kind is Location.AREA
                or (request.location_kind is Location.BUS and bus_id == request.location_id)
                or (request.location_kind is Location.ZONE and zone[bus_id] == request.location_id)
            )
            if inside:
                total += change[t, b]
        return request.direction.sign * total
