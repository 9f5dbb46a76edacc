"""Changes an offer by what its reason says, for the tests that expect it to be taken then."""

from dataclasses import replace

from clearing import Case, Result
from clearing.case import Offer, OfferSlot, Step
from clearing.market import offer_cap
from clearing.result import NonAward
from flexbus.events.clearing import NonAwardReason

__all__ = ["changed", "cheaper", "rows_of", "taken"]


def rows_of(result: Result, offer_id: str) -> list[NonAward]:
    """Return why an offer was not taken."""
    return [n for n in result.non_awards if n.offer_id == offer_id]


def taken(given: Case, result: Result, row: NonAward) -> int:
    """What is taken of the offer in the slots that the reason is about; of a rigid profile, wherever it starts."""
    rigid = next(o.start_choice is not None for o in given.offers if o.offer_id == row.offer_id)
    mine = next(o.quantity for o in result.offers if o.offer_id == row.offer_id)
    return sum(mine if rigid else (mine[t] for t in row.slots))


def cheaper(given: Offer, by: int, slots: tuple[int, ...]) -> Offer:
    """Return an offer whose bids are lower by so much in some slots."""

    def steps(entry: OfferSlot) -> tuple[Step, ...]:
        return tuple(replace(s, price_milli_per_mwh=s.price_milli_per_mwh - by) for s in entry.steps)

    choice = given.start_choice
    if choice is not None:
        return replace(given, start_choice=replace(choice, price_milli_per_mwh=choice.price_milli_per_mwh - by))
    return replace(
        given, slots=tuple(replace(s, steps=steps(s)) if t in slots else s for t, s in enumerate(given.slots))
    )


def _divisible(given: Offer, slots: int) -> Offer:
    """Return a block, or a rigid profile, of which any part may be taken."""
    choice = given.start_choice
    if choice is None:
        return replace(given, all_or_nothing=False)
    price = choice.price_milli_per_mwh
    caps = (offer_cap(given, t) for t in range(slots))
    stacks = tuple(OfferSlot(steps=(Step(quantity=q, price_milli_per_mwh=price),) if q else ()) for q in caps)
    return replace(given, start_choice=None, slots=stacks)


def changed(given: Case, row: NonAward, margin: int = 2) -> Case:
    """Change the offer by what the reason says, and its price by so much more, 1/1000 EUR per MWh."""
    mine = next(o for o in given.offers if o.offer_id == row.offer_id)
    if row.price_distance_milli_per_mwh is not None:
        mine = cheaper(mine, row.price_distance_milli_per_mwh + margin, row.slots)
    match row.reason:
        case NonAwardReason.MINIMUM_QUANTITY:
            mine = replace(mine, min_energy_wh=None, slots=tuple(replace(s, min_quantity=0) for s in mine.slots))
        case NonAwardReason.EXCLUSIVE_SIBLING:
            mine = replace(mine, exclusive_group_id=None)
        case NonAwardReason.PARENT_NOT_TAKEN:
            mine = replace(mine, parent_offer_id=None)
        case NonAwardReason.ENERGY_BUDGET:
            assert mine.max_energy_wh is not None
            mine = replace(mine, max_energy_wh=mine.max_energy_wh + row.rejected_energy_wh)
        case NonAwardReason.PARADOXICAL_BLOCK:
            mine = _divisible(mine, given.slots)
        case NonAwardReason.CLIPPED:
            mine = replace(mine, slots=tuple(replace(s, max_quantity=None) for s in mine.slots))
        case NonAwardReason.OTHER_CONSTRAINT:
            if row.element_id is not None and row.element_id == mine.unit_id:
                mine = replace(mine, unit_id=None)
            else:
                mine = replace(mine, max_rise=None, max_fall=None, max_run_slots=None, min_rest_slots=0, polygons=())
    return replace(given, offers=tuple(mine if o.offer_id == mine.offer_id else o for o in given.offers))
