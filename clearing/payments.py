"""What sellers are paid by the pricing rule, and what a quantity is worth at the steps of a bid."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clearing.case import Case, Offer, RequestSlot
from clearing.result import ZonePrice
from flexbus.events.market import PricingRule
from flexbus.quantities import Direction

if TYPE_CHECKING:
    from clearing.pipeline import Cleared

__all__ = ["bid_cost", "offer_prices", "worth_to_buyer", "zone_prices"]


def offer_prices(cleared: "Cleared", taken: NDArray[np.int_]) -> NDArray[np.int_]:
    """Return the price per offer and slot by the case's pricing rule, 1/1000 EUR per MWh."""
    case, market = cleared.case, cleared.market
    nodal = np.round(cleared.value * 1e3).astype(int)
    if case.pricing_rule is PricingRule.PAY_AS_BID:
        paid = np.zeros_like(nodal)
        for k, t in np.argwhere(taken).tolist():
            filled = _steps(market.offers[k], t, int(taken[k, t]))
            total = sum(q for q, _ in filled)
            paid[k, t] = -(-sum(q * m for q, m in filled) // total)
        return paid
    if case.pricing_rule is PricingRule.ZONAL:
        zones = {z.zone_id: z for z in zone_prices(cleared, taken)}
        paid = np.zeros_like(nodal)
        for k, t in np.argwhere(taken).tolist():
            offer = market.offers[k]
            zone = zones[_zone_of(case, offer)]
            prices = zone.up_milli_per_mwh if offer.direction is Direction.UP else zone.down_milli_per_mwh
            paid[k, t] = prices[t]
        return paid
    cap = case.settings.price_cap_milli_per_mwh
    worth = nodal
    if cap is not None:
        nodal = np.clip(nodal, -cap, cap)
    for k, t in np.argwhere(taken).tolist():
        bid = _steps(market.offers[k], t, int(taken[k, t]))[-1][1]
        # Above the cap nobody is paid below what was asked and accepted.
        nodal[k, t] = max(nodal[k, t], min(worth[k, t], bid))
        # Integer prices must not put an accepted marginal step a rounding error below its own bid.
        if 0 < bid - nodal[k, t] <= 2:
            nodal[k, t] = bid
    return nodal


def zone_prices(cleared: "Cleared", taken: NDArray[np.int_]) -> tuple[ZonePrice, ...]:
    """Return uniform prices: the highest bid accepted in a zone and direction."""
    case = cleared.case
    best: dict[tuple[str, Direction], dict[int, int]] = {}
    for k, t in np.argwhere(taken).tolist():
        offer = cleared.market.offers[k]
        bid = _steps(offer, t, int(taken[k, t]))[-1][1]
        slot = best.setdefault((_zone_of(case, offer), offer.direction), {})
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


def bid_cost(offer: Offer, t: int, quantity: int, resolution_s: int) -> int:
    """Return what an offer asks for a quantity in a slot, 1e-9 EUR."""
    return round(sum(q * m for q, m in _steps(offer, t, quantity)) * resolution_s / 3600)


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


def _zone_of(case: Case, offer: Offer) -> str:
    """Return the zone of an offer; a portfolio is in the zone of its largest share."""
    bus_id = offer.bus_id or max(offer.shares, key=lambda s: (s.share_ppm, s.bus_id)).bus_id
    return next(b.zone_id or "" for b in case.network.buses if b.bus_id == bus_id)
