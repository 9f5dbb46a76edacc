"""Price stacks of a whole offer at a glance: what three checks in a row want to know of some hundred numbers.

Looking at each number by itself, three times over, is what the sequencer would spend most of its time on. So the
extremes are taken once, a column at a time; an offer that they do not clear goes the long way, which knows the paths.
"""

from dataclasses import dataclass
from itertools import pairwise
from math import gcd

from flexbus.events import OfferSlot

__all__ = ["Stacks", "stacks_of"]


@dataclass(slots=True)
class Stacks:
    """Extremes over the slots of an offer; 0 where there is nothing.

    Attributes:
        least_w: smallest step.
        most_w: largest step.
        low_milli_per_mwh: lowest price.
        high_milli_per_mwh: highest price.
        least_min_w: smallest minimum of a slot.
        most_min_w: largest minimum of a slot.
        most_steps: steps of the longest stack.
        most_total_w: largest sum of a stack.
        total_w: sum over everything.
        divisor_w: greatest common divisor of steps and minima.
        fit: no slot's minimum is more than its stack offers.
        rise: the prices of every stack rise from step to step.
    """

    least_w: int
    most_w: int
    low_milli_per_mwh: int
    high_milli_per_mwh: int
    least_min_w: int
    most_min_w: int
    most_steps: int
    most_total_w: int
    total_w: int
    divisor_w: int
    fit: bool
    rise: bool


def stacks_of(slots: tuple[OfferSlot, ...]) -> Stacks:
    """Return the extremes of an offer's slots; asked again for the very same slots, without another look."""
    global _last
    known, found = _last
    if known is not slots or found is None:
        found = _looked_at(slots)
        _last = (slots, found)
    return found


_last: tuple[tuple[OfferSlot, ...] | None, Stacks | None] = (None, None)


def _looked_at(slots: tuple[OfferSlot, ...]) -> Stacks:
    stacks = [slot.steps for slot in slots]
    minima = [slot.min_power_w for slot in slots]
    rise, most_steps = True, 1
    try:
        powers = totals = [step.power_w for (step,) in stacks]
        prices = [step.price_milli_per_mwh for (step,) in stacks]
    except ValueError:  # not all have just one step
        most_steps = max(map(len, stacks))
        powers = [step.power_w for stack in stacks for step in stack]
        prices = [step.price_milli_per_mwh for stack in stacks for step in stack]
        totals = [sum([step.power_w for step in stack]) for stack in stacks]
        for stack in stacks:
            own = [step.price_milli_per_mwh for step in stack]
            rise = rise and all(a < b for a, b in pairwise(own))
    least_min_w, most_min_w = (min(minima), max(minima)) if any(minima) else (0, 0)
    return Stacks(
        min(powers, default=0),
        max(powers, default=0),
        min(prices, default=0),
        max(prices, default=0),
        least_min_w,
        most_min_w,
        most_steps,
        max(totals, default=0),
        sum(totals),
        gcd(*powers) if most_min_w == 0 == least_min_w else gcd(*powers, *minima),
        most_min_w <= 0 or all(least <= total for least, total in zip(minima, totals, strict=True)),
        rise,
    )
