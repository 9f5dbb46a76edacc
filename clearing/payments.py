"""What sellers are paid by the pricing rule, and what a quantity is worth at the steps of a bid."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clearing.case import Case, Offer, RequestSlot
from clearing.result import ZonePrice
from clearing.rounding import firsts, lengths
from clearing.steps import StepTable
from flexbus.events.market import PricingRule
from flexbus.quantities import Direction

if TYPE_CHECKING:
    from clearing.pipeline import Cleared

__all__ = ["Bids", "offer_prices", "revenue_nano", "worth_to_buyer", "zone_prices"]

# Whole numbers below this are exact as floats, and 64 bits hold sums below that.
EXACT, LARGE = 1 << 53, 1 << 62
HOUR_S = 3600


class Bids:
    """What was taken at the steps of every offer, as tables (offers x slots).

    `asked` is the sum of quantity x price, W x 1/1000 EUR per MWh; `last` the price of the last step that was used.
    Where numbers could be too large for 64 bits, tables hold integers of Python.
    """

    def __init__(self, offers: list[Offer], steps: StepTable, taken: NDArray[np.int_]) -> None:
        """Fill the steps.

        Args:
            offers: offers in canonical order.
            steps: their steps.
            taken: awards (offers x slots), W or var.
        """
        prices = (
            int(np.abs(steps.price).max(initial=0)),
            *(abs(o.start_choice.price_milli_per_mwh) for o in offers if o.start_choice is not None),
        )
        kind = _kind(int(taken.max(initial=0)) * max(prices), taken.size)
        self.asked: NDArray[Any] = np.zeros(taken.shape, dtype=kind)
        self.last = np.zeros(taken.shape, dtype=int)
        at_once = np.zeros(taken.shape, dtype=bool)
        rows = np.flatnonzero((taken[steps.offer, steps.slot] > 0) & ~steps.capped)
        if len(rows):
            offer, slot, cap = steps.offer[rows], steps.slot[rows], steps.cap[rows]
            first = firsts(offer, slot)
            before = np.cumsum(cap) - cap
            before -= np.repeat(before[first], lengths(first, len(rows)))
            part = np.clip(taken[offer, slot] - before, 0, cap)
            where = offer[first], slot[first]
            self.asked[where] = np.add.reduceat(part.astype(kind) * steps.price[rows], first)
            used = np.add.reduceat((part > 0).astype(int), first)
            self.last[where] = steps.price[rows][first + used - 1]
            at_once[where] = True
        for k, t in np.argwhere((taken > 0) & ~at_once).tolist():
            filled = _steps(offers[k], t, int(taken[k, t]))
            self.asked[k, t] = sum(q * m for q, m in filled)
            self.last[k, t] = filled[-1][1]

    def cost_nano(self, resolution_s: int) -> NDArray[Any]:
        """Return what offers ask for what was taken (offers x slots), 1e-9 EUR."""
        if self.asked.dtype != object and HOUR_S % resolution_s == 0:
            return np.rint(self.asked / (HOUR_S // resolution_s)).astype(int)
        cells = [round(v * resolution_s / HOUR_S) for v in self.asked.ravel().tolist()]
        return np.array(cells, dtype=object).reshape(self.asked.shape)


def revenue_nano(taken: NDArray[np.int_], price: NDArray[np.int_], resolution_s: int) -> NDArray[Any]:
    """Return what is paid for what was taken (offers x slots), 1e-9 EUR.

    Args:
        taken: awards (offers x slots), W or var.
        price: what each is paid, 1/1000 EUR per MWh.
        resolution_s: length of a slot, s.
    """
    energy = (2 * taken * resolution_s + HOUR_S) // (2 * HOUR_S)
    kind = _kind(int(energy.max(initial=0)) * int(np.abs(price).max(initial=0)), taken.size)
    return np.asarray(energy.astype(kind) * price)


def _kind(largest: int, cells: int) -> type:
    """Return the type of a table of products that are added up: integers of Python where they could be too large."""
    return int if largest < EXACT and largest * cells < LARGE else object


def offer_prices(cleared: "Cleared", bids: Bids) -> NDArray[np.int_]:
    """Return the price per offer and slot by the case's pricing rule, 1/1000 EUR per MWh."""
    case, market, taken = cleared.case, cleared.market, cleared.awards
    nodal = np.round(cleared.value * 1e3).astype(int)
    some = np.nonzero(taken)
    if case.pricing_rule is PricingRule.PAY_AS_BID:
        paid = np.zeros_like(nodal)
        paid[some] = -(-bids.asked[some] // taken[some])
        return paid
    if case.pricing_rule is PricingRule.ZONAL:
        zones = {z.zone_id: z for z in zone_prices(cleared, bids)}
        zone_of = _zones_of(case)
        paid = np.zeros_like(nodal)
        for k, t in np.argwhere(taken).tolist():
            offer = market.offers[k]
            zone = zones[zone_of[_home(offer)]]
            prices = zone.up_milli_per_mwh if offer.direction is Direction.UP else zone.down_milli_per_mwh
            paid[k, t] = prices[t]
        return paid
    cap = case.settings.price_cap_milli_per_mwh
    worth, bid = nodal[some], bids.last[some]
    if cap is not None:
        nodal = np.clip(nodal, -cap, cap)
    # Above the cap nobody is paid below what was asked and accepted.
    paid = np.maximum(nodal[some], np.minimum(worth, bid))
    # Integer prices must not put an accepted marginal step a rounding error below its own bid.
    nodal[some] = np.where((bid > paid) & (bid - paid <= 2), bid, paid)
    return nodal


def zone_prices(cleared: "Cleared", bids: Bids) -> tuple[ZonePrice, ...]:
    """Return uniform prices: the highest bid accepted in a zone and direction."""
    case, zone_of = cleared.case, _zones_of(cleared.case)
    best: dict[tuple[str, Direction], dict[int, int]] = {}
    for k, t in np.argwhere(cleared.awards).tolist():
        offer = cleared.market.offers[k]
        bid = int(bids.last[k, t])
        slot = best.setdefault((zone_of[_home(offer)], offer.direction), {})
        slot[t] = max(slot.get(t, bid), bid)
    zones = sorted({b.zone_id or "" for b in case.network.buses})
    return tuple(
        ZonePrice(
            zone_id=z,
            up_milli_per_mwh=tuple(best.get((z, Direction.UP), {}).get(t, 0) for t in range(case.slots)),
            down_milli_per_mwh=tuple(best.get((z, Direction.DOWN), {}).get(t, 0) for t in range(case.slots)),
        )
        for z in zones
    )


def worth_to_buyer(entry: RequestSlot, matched: int, resolution_s: int) -> int:
    """Return what a met quantity is worth at the bids of its demand curve, 1e-9 EUR."""
    total, left = 0, matched
    for step in entry.steps:
        part = min(left, step.quantity)
        total += round(part * resolution_s * step.price_milli_per_mwh / 3600)
        left -= part
    return total


def _steps(offer: Offer, t: int, quantity: int) -> list[tuple[int, int]]:
    """Return how a quantity fills an offer's steps: (quantity, price)."""
    if offer.start_choice is not None:
        return [(quantity, offer.start_choice.price_milli_per_mwh)]
    filled = []
    for step in offer.slots[t].steps:
        part = min(quantity, step.quantity)
        quantity -= part
        if part:
            filled.append((part, step.price_milli_per_mwh))
    return filled


def _zones_of(case: Case) -> dict[str, str]:
    return {b.bus_id: b.zone_id or "" for b in case.network.buses}


def _home(offer: Offer) -> str:
    """Return the bus that tells the zone of an offer; that of a portfolio is the bus of its largest share."""
    return offer.bus_id or max(offer.shares, key=lambda s: (s.share_ppm, s.bus_id)).bus_id
