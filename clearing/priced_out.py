"""The commonest reasons in one go: slots worth less than what is asked there, and energy budgets that are used up.

In a large book that is nine of ten offers, slot by slot. What they are told is what `clearing.reasons` tells one by
one; whatever has any other rule of its own, or is worth its price, is left to it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clearing.case import Offer, Quantity
from clearing.pricing import VOLTAGE, NodalPrices
from clearing.repair import Repair
from clearing.rounding import Awards
from clearing.steps import StepTable
from flexbus.events.clearing import NonAwardReason
from flexbus.reader import quickly

__all__ = ["SAME", "PricedOut", "Table", "is_plain", "priced_out", "table_of", "used_up"]

Real = NDArray[np.float64]
Index = NDArray[np.int_]
Mask = NDArray[np.bool_]
# EUR per MWh: prices closer than this are the same.
SAME = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Slots in which offers offer anything: position of the offer, slot, W or var that were not taken, next price."""

    offer: Index
    slot: Index
    missing: Index
    price: Index

    def only(self, rows: Mask | Index) -> "Table":
        """Return some of the rows."""
        return Table(offer=self.offer[rows], slot=self.slot[rows], missing=self.missing[rows], price=self.price[rows])


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedOut:
    """An offer, why the market did without it in some slots, and the numbers, as in a `NonAward`."""

    offer: int
    reason: NonAwardReason
    element: str | None
    slots: list[int]
    amount: int
    distance: int | None
    rejected_wh: int


_priced_out = quickly(PricedOut)


def is_plain(offer: Offer) -> bool:
    """Tell whether nothing but its price decides over every slot of an offer as long as its budget lasts."""
    return (
        offer.bus_id is not None
        and offer.start_choice is None
        and not offer.all_or_nothing
        and offer.exclusive_group_id is None
        and offer.parent_offer_id is None
        and offer.min_energy_wh is None
        and offer.max_rise is None
        and offer.max_fall is None
        and not any(offer.reservation_price_milli_per_mwh)
    )


def table_of(steps: StepTable, awards: Awards, window: range) -> Table:
    """Return where offers offer anything, and what comes next there; slots that are cut by a limit are left out.

    Args:
        steps: the steps of all offers.
        awards: awards (offers x slots), W or var.
        window: slots to look at.
    """
    rows = np.flatnonzero((steps.slot >= window.start) & (steps.slot < window.stop) & ~steps.capped)
    offer, slot, cap = steps.offer[rows], steps.slot[rows], steps.cap[rows]
    first = np.flatnonzero(np.r_[True, (offer[1:] != offer[:-1]) | (slot[1:] != slot[:-1])][: len(rows)])
    if not len(first):
        return Table(offer=offer, slot=slot, missing=cap, price=cap)
    size = np.diff(np.r_[first, len(rows)])
    filled = np.cumsum(cap)
    filled -= np.repeat(filled[first] - cap[first], size)
    got = awards[offer[first], slot[first]]
    used = np.add.reduceat((filled <= np.repeat(got, size)).astype(int), first)
    return Table(
        offer=offer[first],
        slot=slot[first],
        missing=np.add.reduceat(cap, first) - got,
        price=steps.price[rows][first + np.minimum(used, size - 1)],
    )


def used_up(repair: Repair, value: Real, table: Table, resolution_s: int) -> tuple[Mask, Iterator[PricedOut]]:
    """Return which rows of a table went without because their offer's budget is used up, and what is told.

    Args:
        repair: the optimisation.
        value: worth of one more MW of each offer in each slot (offers x slots), EUR per MWh.
        table: the rows, of offers of which all energy was taken.
        resolution_s: length of a slot, s.
    """
    out = repair.base.converged[table.slot]
    return out, _budgets(repair, value, table.only(out), resolution_s)


def _budgets(repair: Repair, value: Real, table: Table, resolution_s: int) -> Iterator[PricedOut]:
    if not len(table.offer):
        return
    bid, worth = table.price / 1e3, value[table.offer, table.slot]
    # -1: its price is not in the way.
    distance = np.where(worth <= bid + SAME, np.maximum(np.ceil((bid - worth) * 1e3), 0), -1).astype(int)
    first = np.flatnonzero(np.r_[True, table.offer[1:] != table.offer[:-1]])
    farthest = np.maximum.reduceat(distance, first).tolist()
    missed = np.add.reduceat(_energy_wh(table.missing, resolution_s), first).tolist()
    ends = np.r_[first, len(table.offer)].tolist()
    for n, k in enumerate(table.offer[first].tolist()):
        yield _priced_out(
            offer=k,
            reason=NonAwardReason.ENERGY_BUDGET,
            element=None,
            slots=table.slot[ends[n] : ends[n + 1]].tolist(),
            amount=repair.market.offers[k].max_energy_wh or 0,
            distance=None if farthest[n] < 0 else farthest[n],
            rejected_wh=missed[n],
        )


def _energy_wh(power: Index, resolution_s: int) -> Index:
    return (2 * power * resolution_s + 3600) // 7200


def priced_out(
    repair: Repair, prices: NodalPrices, value: Real, table: Table, resolution_s: int
) -> tuple[Mask, Iterator[PricedOut]]:
    """Return which rows of a table are worth less than their price, and what their offers are told.

    Args:
        repair: the optimisation.
        prices: nodal prices.
        value: worth of one more MW of each offer in each slot (offers x slots), EUR per MWh.
        table: the rows, of plain offers with energy left.
        resolution_s: length of a slot, s.
    """
    bid, worth = table.price / 1e3, value[table.offer, table.slot]
    out = (worth < bid - SAME) & repair.base.converged[table.slot]
    return out, _told(repair, prices, table, np.flatnonzero(out), worth, resolution_s)


def _told(
    repair: Repair, prices: NodalPrices, table: Table, rows: Index, worth: Real, resolution_s: int
) -> Iterator[PricedOut]:
    if not len(rows):
        return
    offer, slot, worth = table.offer[rows], table.slot[rows], worth[rows]
    bid = table.price[rows] / 1e3
    limit, cost = _pressers(repair, prices, offer, slot)
    distance = np.maximum(np.ceil((bid - worth) * 1e3), 0).astype(int)
    pressed = (limit >= 0) & (worth + cost > bid + SAME)
    unneeded = ~pressed & (worth <= SAME)
    # What is told: the limit that presses, or -1 nobody needs it, -2 its price.
    told = np.where(pressed, limit, np.where(unneeded, -1, -2))
    amount = np.where(pressed, np.round(cost * 1e3).astype(int), distance)
    missed_wh = _energy_wh(table.missing[rows], resolution_s)
    order = np.lexsort((slot, told, offer))
    offer, told, slot = offer[order], told[order], slot[order]
    first = np.flatnonzero(np.r_[True, (offer[1:] != offer[:-1]) | (told[1:] != told[:-1])])
    slots = np.split(slot, first[1:])
    most, farthest = np.maximum.reduceat(amount[order], first), np.maximum.reduceat(distance[order], first)
    missed = np.add.reduceat(missed_wh[order], first)
    offers, kinds = repair.market.offers, repair.limits.kinds
    for n, (k, what) in enumerate(zip(offer[first].tolist(), told[first].tolist(), strict=True)):
        if what >= 0:
            reason = NonAwardReason.VOLTAGE_LIMIT if kinds[what] in VOLTAGE else NonAwardReason.BRANCH_LIMIT
            element: str | None = repair.element(what)
        else:
            reason = NonAwardReason.NO_DEMAND if what == -1 else NonAwardReason.PRICE
            element = None if what == -1 else offers[k].bus_id
        yield _priced_out(
            offer=k,
            reason=reason,
            element=element,
            slots=slots[n].tolist(),
            amount=int(most[n]),
            distance=int(farthest[n]),
            rejected_wh=int(missed[n]),
        )


def _pressers(repair: Repair, prices: NodalPrices, offer: Index, slot: Index) -> tuple[Index, Real]:
    """Return the limit that lowers the worth of each row most (-1: none does) and by how much, EUR per MWh."""
    index = {b: k for k, b in enumerate(repair.grid.bus_ids)}
    mine = np.unique(offer)
    bus, sign, reactive = np.zeros((3, len(repair.market.offers)), dtype=int)
    for k in mine.tolist():
        o = repair.market.offers[k]
        bus[k], sign[k], reactive[k] = index[o.bus_id or ""], o.direction.sign, o.quantity is Quantity.REACTIVE
    limit, cost = np.full(len(offer), -1), np.zeros(len(offer))
    by_slot = np.argsort(slot, kind="stable")
    slots, first = np.unique(slot[by_slot], return_index=True)
    for t, here in zip(slots.tolist(), np.split(by_slot, first[1:]), strict=True):
        pressure = prices.pressure.get(t)
        if not pressure:
            continue
        k = offer[here]
        pulls = np.array([(p, q) for _, _, p, q in pressure])  # limits x (P, Q) x buses
        against = -sign[k] * pulls[:, reactive[k], bus[k]]
        worst = against.argmax(axis=0)
        most = against[worst, np.arange(len(here))]
        limit[here] = np.where(most > SAME, np.array([n for n, *_ in pressure])[worst], -1)
        cost[here] = np.maximum(most, 0.0)
    return limit, cost
