"""Reasons in words, from their codes and numbers alone: whoever has these can check those."""

from collections.abc import Sequence

from clearing.case import Offer, Quantity, Request
from clearing.result import UnmetReason
from flexbus.events.clearing import NonAwardReason

__all__ = ["next_bid", "reason_text", "set_aside_text", "short_slot", "unmet_text"]


def set_aside_text(offer: Offer) -> str:
    """Say to a provider that no delivery keeps the rules of his offer."""
    what = f"its unit {offer.unit_id}" if offer.unit_id is not None else "its dependency-based slices"
    return f"set aside: no delivery keeps the rules of {what} together with those it is tied to"


def reason_text(offer: Offer, reason: NonAwardReason, element: str | None, amount: int, distance: int | None) -> str:
    """Say a reason to the provider.

    Args:
        offer: the offer.
        reason: why it was not, or not fully, taken.
        element: what stood in the way.
        amount: the reason's number.
        distance: by how much it was too dear as well, 1/1000 EUR per MWh; None = it was not.
    """
    active = offer.quantity is Quantity.ACTIVE
    unit, word, energy = ("MWh", "W", "Wh") if active else ("Mvarh", "var", "varh")
    away = f"{(distance or 0) / 1e3:.3f} EUR/{unit}"
    too_dear = f", and it was priced up to {away} above its worth" if distance else ""
    match reason:
        case NonAwardReason.NO_DEMAND:
            return f"nobody needed more of it here; without a need it is {away} too dear"
        case NonAwardReason.PRICE:
            where = f"at bus {element}" if element else "at its buses"
            if distance and any(offer.reservation_price_milli_per_mwh):
                return f"to hold it and to call it is priced above what that is worth {where} by up to {away}"
            if distance:
                return f"priced above its worth {where} by up to {away}"
            return f"the marginal price {where}, shared with others: any lower bid goes first"
        case NonAwardReason.BRANCH_LIMIT | NonAwardReason.VOLTAGE_LIMIT:
            what = element if reason is NonAwardReason.BRANCH_LIMIT else f"the voltage at {element}"
            cost = f"{amount / 1e3:.3f} EUR/{unit}"
            return f"{what} is at its limit; one more unit here would cost {cost} there: {away} too dear"
        case NonAwardReason.MINIMUM_QUANTITY:
            least = _kilo(amount, energy if offer.min_energy_wh is not None else word)
            return f"less than its minimum of {least} was needed"
        case NonAwardReason.EXCLUSIVE_SIBLING:
            return f"{element} of the same exclusive group was taken"
        case NonAwardReason.PARENT_NOT_TAKEN:
            return f"its parent {element} was not taken"
        case NonAwardReason.ENERGY_BUDGET:
            return f"its energy budget of {_kilo(amount, energy)} is used up{too_dear}"
        case NonAwardReason.PARADOXICAL_BLOCK:
            return f"worth {amount / 1e9:.2f} EUR more than it asks at the prices, but it does not fit as a whole"
        case NonAwardReason.CLIPPED:
            return f"a limit or traffic light cut it by up to {_kilo(amount, word)} before the clearing{too_dear}"
        case NonAwardReason.OTHER_CONSTRAINT:
            if element is None and (offer.max_rise is not None or offer.max_fall is not None):
                return f"its own ramp limit stood in the way{too_dear}"
            if element is None and (offer.max_run_slots is not None or offer.min_rest_slots):
                return f"its own limit of slots in a row, or its rest, stood in the way{too_dear}"
            if element is None and offer.polygons:
                return f"its own dependency-based slices stood in the way{too_dear}"
            if element is None:
                return "the baseline was kept in these slots: it has no AC solution, or no solver found a dispatch"
            if element == offer.unit_id:
                return f"the state or capability of its unit {element} stood in the way{too_dear}"
            return f"bus {element} has no closed path to an infeed point"


def _kilo(amount: int, unit: str) -> str:
    return f"{amount / 1e3:,.3f} k{unit}"


def short_slot(asked: Sequence[int], got: Sequence[int]) -> int:
    """Return the slot in which most of a request is missing, the first of several."""
    return max(range(len(asked)), key=lambda t: (asked[t] - got[t], -t))


def unmet_text(
    request: Request,
    asked: Sequence[int],
    got: Sequence[int],
    reason: UnmetReason,
    distance: int | None,
    number: int = 0,
) -> str:
    """Say to whoever asked why a request is not met in full.

    Args:
        request: the request.
        asked: asked per slot, W or var.
        got: met per slot, W or var.
        reason: why.
        distance: what its bid lacks, 1/1000 EUR per MWh.
        number: slots without AC solution (NO_AC_SOLUTION), or what arrives the other way, W or var; 0 = not that.
    """
    t, unit = short_slot(asked, got), "W" if request.quantity is Quantity.ACTIVE else "var"
    per = "MWh" if request.quantity is Quantity.ACTIVE else "Mvarh"
    count = sum(b < a for a, b in zip(asked, got, strict=True))
    text = f"up to {_kilo(asked[t] - got[t], unit)} short in {count} slots"
    lacks = f"{(distance or 0) / 1e3:.3f} EUR/{per}"
    match reason:
        case UnmetReason.NO_AC_SOLUTION:
            return f"{text}: in {number} of them the baseline has no AC solution"
        case UnmetReason.NO_OFFER if number:
            return f"{text}: {request.location_id} has no closed path to an infeed point"
        case UnmetReason.NO_OFFER:
            return f"{text}: nobody offers more {request.direction.value} there"
        case UnmetReason.OPPOSITE_NEED if number:
            return f"{text}: {_kilo(number, unit)} of the opposite direction serve other needs there"
        case UnmetReason.OPPOSITE_NEED:
            return f"{text}: a request of the opposite direction, which more would take from, is worth more"
        case UnmetReason.OFFER_CONSTRAINT:
            return f"{text}: what is left there is tied by its own rules (blocks, budgets, groups, units)"
        case UnmetReason.MINIMUM_QUANTITY:
            dear = f", and its bid lacks {lacks}" if distance else ""
            least = _kilo(request.slots[t].min_quantity, unit)
            return f"{text}: less than its minimum of {least} to be had{dear}"
        case UnmetReason.GRID_LIMIT:
            return f"{text}: a limit of the grid lets no more through"
        case UnmetReason.PRICE:
            bid = next_bid(request, t, got[t])
            return f"{text}: the next unit costs {lacks} more than its bid of {bid / 1e3:.3f}"


def next_bid(request: Request, t: int, got: int) -> int:
    """Return what a request bids for one more unit in a slot, 1/1000 EUR per MWh; beyond its last step as there."""
    filled = 0
    for step in request.slots[t].steps:
        filled += step.quantity
        if got < filled:
            return step.price_milli_per_mwh
    return request.slots[t].steps[-1].price_milli_per_mwh
