"""Why a request was not met in full: a code, and by how much its bid is too low."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clearing.case import Location, Offer, Quantity, Request
from clearing.linearisation import Multipliers, Point
from clearing.market import is_coupled, offer_cap
from clearing.repair import Repair
from clearing.result import UnmetReason
from clearing.rounding import Awards
from clearing.state import Measure
from clearing.steps import next_price
from clearing.wording import next_bid, short_slot, unmet_text

__all__ = ["Buyers", "Unmet"]

Real = NDArray[np.float64]
MEGA = 1e6
# Less of a unit than this arrives from an offer that far away: it is no help to a request over a flow.
REACH = 0.05
# 1/1000 EUR per MWh: prices closer than this are the same.
SAME_MILLI = 1


@dataclass(frozen=True, slots=True)
class Unmet:
    """Why a request is short; `distance` is what its bid lacks (1/1000 EUR per MWh), None = no bid would help."""

    reason: UnmetReason
    distance: int | None
    text: str


class Buyers:
    """Finds what stands between the requests of a cleared market and the flexibility that was left over."""

    def __init__(self, repair: Repair, point: Point, multipliers: Multipliers, awards: Awards, value: Real) -> None:
        """Prepare.

        Args:
            repair: the optimisation.
            point: the AC point of the awards.
            multipliers: its duals.
            awards: integer awards per offer and slot.
            value: worth of one more MW of each offer in each slot (offers x slots), EUR per MWh.
        """
        self.repair, self.point, self.multipliers, self.awards, self.value = repair, point, multipliers, awards, value
        self.market, self.grid = repair.market, repair.grid
        self.bus = {b: k for k, b in enumerate(self.grid.bus_ids)}
        self.zone = dict(zip(self.grid.bus_ids, repair.zones, strict=False))
        self.parents = frozenset(o.parent_offer_id for o in self.market.offers if o.parent_offer_id)

    def why(self, r: int, asked: tuple[int, ...], got: tuple[int, ...], delivered: Real) -> Unmet | None:
        """Return why a request is not met in full, from the slot in which most is missing; None if it is met.

        Args:
            r: number of the request in canonical order.
            asked: asked per slot, W or var.
            got: met per slot, W or var.
            delivered: what arrives there per slot, W or var; negative = the opposite.
        """
        if all(g >= a for a, g in zip(asked, got, strict=True)):
            return None
        request, t = self.market.requests[r], short_slot(asked, got)

        def unmet(reason: UnmetReason, distance: int | None = None, number: int = 0) -> Unmet:
            return Unmet(reason, distance, unmet_text(request, asked, got, reason, distance, number))

        if not self.repair.base.converged[t]:
            short = (s for s, (a, g) in enumerate(zip(asked, got, strict=True)) if g < a)
            return unmet(UnmetReason.NO_AC_SOLUTION, number=sum(not self.repair.base.converged[s] for s in short))
        if self._dead(request):
            return unmet(UnmetReason.NO_OFFER, number=1)
        if not self._any_left(request, t):
            return unmet(UnmetReason.NO_OFFER)
        if delivered[t] < -1:
            return unmet(UnmetReason.OPPOSITE_NEED, number=round(-float(delivered[t])))
        cost = self._cheapest(r, request, t)
        if cost is None:
            return unmet(UnmetReason.OFFER_CONSTRAINT)
        distance = max(math.ceil(cost * 1e3) - next_bid(request, t, got[t]), 0)
        if got[t] == 0 and request.slots[t].min_quantity > 0:
            return unmet(UnmetReason.MINIMUM_QUANTITY, distance)
        if distance > SAME_MILLI:
            return unmet(UnmetReason.PRICE, distance)
        # Offer and request agree on the price, and yet no more is taken: something else sets the quantity.
        if any(slot == t and worth > 0 for (slot, _), worth in self.multipliers.limit.items()):
            return unmet(UnmetReason.GRID_LIMIT)
        return unmet(UnmetReason.OPPOSITE_NEED)

    def _dead(self, request: Request) -> bool:
        return request.location_kind is Location.BUS and self.grid.node_of_bus[self.bus[request.location_id]] < 0

    def _reach(self, request: Request, t: int) -> dict[str, float]:
        """Return what one unit injected at each bus counts for the request."""
        where, place, sign = request.location_kind, request.location_id, request.direction.sign
        if where in (Location.BRANCH, Location.INFEED_POINT):
            index = next(m for m in self.market.measured if m.slot == t and self._is_of(m.columns, request))
            v = self.point.state.v[t]
            by_p, by_q = self.repair.flow.gradients(self.repair.flow.factor(v), v, [Measure(index.kind, index.index)])
            row = (by_p if request.quantity is Quantity.ACTIVE else by_q)[0]
            node = self.grid.node_of_bus
            return {b: -index.sign * float(row[node[k]]) if node[k] >= 0 else 0.0 for b, k in self.bus.items()}
        return {
            b: float(sign)
            if where is Location.AREA
            or (where is Location.BUS and b == place)
            or (where is Location.ZONE and self.zone[b] == place)
            else 0.0
            for b in self.bus
        }

    def _is_of(self, columns: list[int], request: Request) -> bool:
        mine = {c for c, r, _ in self.market.request_columns if self.market.requests[r] is request}
        return bool(mine & set(columns))

    def _left(self, k: int, t: int) -> int:
        offer = self.market.offers[k]
        return offer_cap(offer, t, len(self.market.windows[0])) - int(self.awards[k, t])

    def _any_left(self, request: Request, t: int) -> bool:
        reach = self._reach(request, t)
        return any(
            self._left(k, t) > 0 and self._helps(o, request, reach) > REACH for k, o in enumerate(self.market.offers)
        )

    def _free(self, offer: Offer, t: int) -> bool:
        return not is_coupled(offer, self.parents) and offer.slots[t].min_quantity == 0

    def _helps(self, offer: Offer, request: Request, reach: dict[str, float]) -> float:
        """Return what one unit of an offer counts for a request."""
        places = (
            [(offer.bus_id, 1.0)]
            if offer.bus_id is not None
            else [(s.bus_id, s.share_ppm / MEGA) for s in offer.shares]
        )
        if any(self.grid.node_of_bus[self.bus[b]] < 0 for b, _ in places):
            return 0.0
        if offer.quantity is not request.quantity:
            return 0.0
        return offer.direction.sign * sum(reach[b] * w for b, w in places)

    def _cheapest(self, r: int, request: Request, t: int) -> float | None:
        """Return what one more unit costs the request from the cheapest offer that nothing else ties, EUR per MWh."""
        reach, worth = self._reach(request, t), self._worth(r, t)
        best: float | None = None
        for k, offer in enumerate(self.market.offers):
            helps = self._helps(offer, request, reach)
            if helps <= REACH or self._left(k, t) <= 0 or offer.start_choice is not None or not self._free(offer, t):
                continue
            # What the offer earns elsewhere (limits, energy, other requests) the request need not pay.
            elsewhere = float(self.value[k, t]) - helps * worth
            cost = (next_price(offer, t, int(self.awards[k, t])) - elsewhere) / helps
            best = cost if best is None else min(best, cost)
        return best

    def _worth(self, r: int, t: int) -> float:
        """Return the dual of the request's pool in a slot, EUR per MWh."""
        row = self.market.request_row.get((r, t))
        if row is not None:
            dual = self.multipliers.structural
            return max(-float(dual[row]), 0.0) if len(dual) else 0.0
        mine = {c for c, q, _ in self.market.request_columns if q == r and self.market.slot[c] == t}
        for n, m in enumerate(self.market.measured):
            if mine & set(m.columns):
                return self.multipliers.measured.get(n, 0.0)
        return 0.0
