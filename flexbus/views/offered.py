"""What an offer may take of each slot, whatever its terms: the same answer for lights, aggregates and clearing."""

from dataclasses import replace

from flexbus import events as ev
from flexbus.events import OfferSlot, PriceStep

__all__ = ["active_slots", "footprint", "is_reactive", "stands_alone", "starts"]


def is_reactive(offer: ev.FlexOffer) -> bool:
    """Tell whether an offer is of reactive power."""
    return offer.terms is not None and offer.terms.reactive is not None


def stands_alone(offer: ev.FlexOffer) -> bool:
    """Tell whether no sum over offers can stand for an offer: its slots hang together, or are no active power.

    Ramps, runs, paybacks, storages, inverters, dependent slices and profiles make what can be taken of one slot
    depend on what is taken in another one, or of another offer; a sum would promise what nobody can split again.
    """
    return offer.terms is not None


def starts(offer: ev.FlexOffer) -> int:
    """Return in how many slots a profile with a start choice may begin; 0 for other offers and empty windows."""
    choice = None if offer.terms is None else offer.terms.start_choice
    if choice is None:
        return 0
    return max(0, (choice.latest_start_ms - offer.start_ms) // (offer.resolution_s * 1000) + 1)


def footprint(offer: ev.FlexOffer) -> int:
    """Return over how many slots from its start on an offer may deliver."""
    terms = offer.terms
    if terms is not None and terms.reactive is not None:
        return len(terms.reactive.slots)
    if terms is not None and terms.start_choice is not None:
        return max(0, starts(offer) - 1) + len(terms.start_choice.profile_w)
    return len(offer.slots)


def active_slots(offer: ev.FlexOffer) -> ev.FlexOffer:
    """Return an offer with what it may take of active power in each slot as plain stacks.

    A profile with a start choice may be anywhere in its window: in each slot it takes at most the greatest of its
    values that can fall there. Reactive power takes none.
    """
    terms = offer.terms
    if terms is None:
        return offer
    if terms.reactive is not None:
        return replace(offer, slots=())
    choice = terms.start_choice
    if choice is None:
        return offer
    most = [0] * footprint(offer)
    count = starts(offer)
    for index, power_w in enumerate(choice.profile_w):
        for slot in range(index, index + count):
            most[slot] = max(most[slot], power_w)
    return replace(offer, slots=tuple(_stack(w, choice.price_milli_per_mwh) for w in most))


def _stack(power_w: int, price_milli_per_mwh: int) -> OfferSlot:
    if power_w <= 0:
        return OfferSlot(steps=())
    return OfferSlot(steps=(PriceStep(power_w=power_w, price_milli_per_mwh=price_milli_per_mwh),))
