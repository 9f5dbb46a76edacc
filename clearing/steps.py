"""The steps of all offers as arrays, and the choice of those that take part in the optimisation.

A book of 4000 offers over a day has a million steps, of which some thousand matter. The cheapest of every
stack (slot, bus, direction) take part; after the clearing every other step is compared with what it would be
worth, and stacks that turn out too shallow are deepened. So the result is that of the whole book.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clearing.case import Offer
from clearing.stacks import stacks_of

__all__ = ["StepTable", "choose_cheapest", "deepen", "next_price", "step_table"]

Index = NDArray[np.int_]
Mask = NDArray[np.bool_]

# Up to this many steps all take part.
SMALL = 100_000
# Up to this many, all that are wanted come in at once.
LARGE = 60_000
# Price levels of a stack that take part at first, and by how much a stack too shallow is deepened.
DEPTH = 4
DEEPER = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTable:
    """One row per step with a quantity left after its slot's cap, by offer, slot and step.

    `level` is the rank of the price within the stack, `stack` numbers the stacks, `first` has the first row of
    every offer (and the end), `indivisible` tells that the offer has a least quantity in the slot and `capped` that a
    limit may cut it there. `offered` (offers x slots) tells where any offer, whole ones too, has steps.
    """

    offer: Index
    slot: Index
    cap: Index
    price: Index
    stack: Index
    level: Index
    first: Index
    indivisible: Mask
    capped: Mask
    stacks: int
    offered: Mask


def step_table(offers: tuple[Offer, ...], whole: list[bool]) -> StepTable:
    """Return the steps of all offers.

    Args:
        offers: offers in canonical order.
        whole: offers taken as a whole or by start choice; they have no steps here.
    """
    stacks = stacks_of(offers)
    cap_of: list[int] = []
    price_of: list[int] = []
    first_of = [0]
    for entry in stacks.distinct:
        left = entry.max_quantity
        for step in entry.steps:
            cap = step.quantity
            if left is not None:
                cap = min(cap, left)
                left -= cap
            if cap:
                cap_of.append(cap)
                price_of.append(step.price_milli_per_mwh)
        first_of.append(len(cap_of))
    places: dict[tuple[str, int, str], int] = {}
    place = np.array(
        [places.setdefault((o.bus_id or o.offer_id, o.direction.sign, o.quantity.value), len(places)) for o in offers],
        dtype=int,
    )
    start = np.array(first_of, dtype=int)
    count = np.where(np.array(whole, dtype=bool)[stacks.offer], 0, np.diff(start)[stacks.which])
    # A row per step: the first step of its stack and how many of its steps are before it.
    before = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
    row = np.repeat(start[:-1][stacks.which], count) + before
    offer, slots = np.repeat(stacks.offer, count), np.repeat(stacks.slot, count)
    price = np.array(price_of, dtype=int)[row]
    numbers, stack = np.unique(slots * max(len(places), 1) + place[offer], return_inverse=True)
    offered = np.zeros((len(offers), int(stacks.slot.max(initial=-1)) + 1), dtype=bool)
    offered[stacks.offer, stacks.slot] = stacks.tell(lambda e: bool(e.steps))
    return StepTable(
        offer=offer,
        slot=slots,
        cap=np.array(cap_of, dtype=int)[row],
        price=price,
        stack=stack,
        level=_levels(stack, price),
        first=np.searchsorted(offer, np.arange(len(offers) + 1)),
        indivisible=np.repeat(stacks.tell(lambda e: e.min_quantity > 0), count),
        capped=np.repeat(stacks.tell(lambda e: e.max_quantity is not None), count),
        stacks=len(numbers),
        offered=offered,
    )


def _levels(stack: Index, price: Index) -> Index:
    """Return the rank of each price among the distinct prices of its stack."""
    if not len(stack):
        return np.zeros(0, dtype=int)
    order = np.lexsort((price, stack))
    s, p = stack[order], price[order]
    new_stack = np.r_[True, s[1:] != s[:-1]]
    new_price = np.r_[True, p[1:] != p[:-1]] | new_stack
    count = np.cumsum(new_price)
    start = np.maximum.accumulate(np.where(new_stack, count, 0))
    level = np.empty(len(order), dtype=int)
    level[order] = count - start
    return level


def choose_cheapest(table: StepTable, slots: Mask, always: Mask) -> tuple[Mask, Index]:
    """Return the steps to start with and the depth of every stack.

    Args:
        table: the steps.
        slots: slots in which anything may be worth its price.
        always: offers whose steps take part in every slot, because their slots force each other.
    """
    depth = np.full(table.stacks, DEPTH)
    everywhere = always[table.offer]
    chosen = slots[table.slot] & ((table.level < DEPTH) | everywhere)
    chosen |= everywhere
    if int((slots[table.slot] | everywhere).sum()) <= SMALL:
        return np.asarray(slots[table.slot] | everywhere), np.full(table.stacks, 1 << 30)
    return np.asarray(chosen), depth


def deepen(table: StepTable, chosen: Mask, depth: Index, wanted: Mask) -> Mask:
    """Return more steps: every stack in which a step is wanted gets more levels (`depth` grows in place)."""
    if int((chosen | wanted).sum()) <= LARGE:
        return np.asarray(chosen | wanted)
    stacks = np.unique(table.stack[wanted & ~chosen])
    depth[stacks] *= DEEPER
    grown = np.zeros(table.stacks, dtype=bool)
    grown[stacks] = True
    return np.asarray(
        chosen | wanted & (table.level < depth[table.stack]) | (grown[table.stack] & (table.level < DEPTH))
    )


def next_price(offer: Offer, t: int, got: int) -> float:
    """Return what an offer asks for one more unit in a slot, EUR per MWh; beyond its last step as there.

    Args:
        offer: an offer with steps in the slot.
        t: the slot.
        got: what is taken already, W or var.
    """
    filled = 0
    for step in offer.slots[t].steps:
        filled += step.quantity
        if got < filled:
            return step.price_milli_per_mwh / 1e3
    return offer.slots[t].steps[-1].price_milli_per_mwh / 1e3
