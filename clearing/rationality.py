"""What a solved market must not stand on: blocks and minima at a loss, requests below their minimum.

Whoever must take a whole block, or at least a minimum, can be accepted at a price below his bid, for one unit less is
not to be had. Nobody is: such columns are barred and the market is solved again (FLEXGRID D2.1 4.1: individual
rationality).
"""

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from clearing.case import Case, Offer, Phase, UnitKind
from clearing.linearisation import Point
from clearing.market import MEGA, Market, is_plain_block
from clearing.repair import Repair
from flexbus.events.market import PricingRule

__all__ = ["forces", "losing_columns", "short_requests"]

Real = NDArray[np.float64]
LOSS = 1e-4  # EUR: what loses more than this at its prices is thrown out
SHORT = 1e-6  # MW or Mvar


def forces(offer: Offer, parents: frozenset[str]) -> bool:
    """Tell whether what an offer does in one slot can force it, or its unit, to deliver in another."""
    return offer.unit_id is not None or _forces_itself(offer, parents)


def _forces_itself(offer: Offer, parents: frozenset[str]) -> bool:
    return bool(
        offer.min_energy_wh is not None
        or offer.payback is not None
        or offer.polygons
        or offer.max_rise is not None
        or offer.max_fall is not None
        or offer.parent_offer_id is not None
        or offer.offer_id in parents
        or (offer.all_or_nothing and not is_plain_block(offer))
    )


def losing_columns(case: Case, market: Market, x: Real, value: Real) -> frozenset[int]:
    """Return the binary columns of accepted blocks and minima that lose money at their prices.

    Of many blocks that lose it is the half that loses most: without them the others may lose nothing.

    Args:
        case: the case.
        market: its market.
        x: columns (columns), MW or Mvar, or 0 and 1.
        value: what offers are worth where they are (offers x slots), EUR per MWh.
    """
    if not market.taken and not market.at_least:
        return frozenset()
    return _losing_blocks(case, market, x, value) | _losing_minima(case, market, x, value)


def _paid(case: Case, worth: float, asked_milli: int) -> float:
    """Return what a MWh of that worth is paid: within the cap either way, an accepted bid above it in full."""
    cap = case.settings.price_cap_milli_per_mwh
    return worth if cap is None else max(min(worth, max(cap, asked_milli) / 1e3), -cap / 1e3)


def _losing_blocks(case: Case, market: Market, x: Real, value: Real) -> frozenset[int]:
    """Return the binary columns of accepted blocks that lose money at their prices."""
    hours = case.resolution_s / 3600
    table = market.all_members()
    losing: dict[int, float] = {}
    for (k, scenario), y in market.taken.items():
        offer = market.offers[k]
        if x[y] < 0.5 or not (offer.all_or_nothing or offer.start_choice is not None):
            continue
        if offer.start_choice is not None:
            mine = np.unique(table.column[(table.offer == k) & table.whole]).tolist()
            columns = [c for c in mine if market.members(c)[0].slot in market.windows[scenario]]
            asked = offer.start_choice.price_milli_per_mwh
            profit = sum(
                (_paid(case, value[k, m.slot], asked) - asked / 1e3) * m.cap * x[c]
                for c in columns
                for m in market.members(c)
            )
        else:
            profit = sum(
                (_paid(case, value[k, t], e.steps[-1].price_milli_per_mwh) - s.price_milli_per_mwh / 1e3) * s.quantity
                for t, e in ((t, offer.slots[t]) for t in market.windows[scenario])
                for s in e.steps
            )
        if profit / MEGA * hours < -LOSS:
            losing[y] = profit
    return frozenset(sorted(losing, key=lambda y: (losing[y], y))[: (len(losing) + 1) // 2])


def _losing_minima(case: Case, market: Market, x: Real, value: Real) -> frozenset[int]:
    """Return the binary columns of minima, per slot or of energy, that their offers are taken at a loss for.

    Where nothing forces an offer from slot to slot each slot counts alone, else all of them together; offers of one
    unit count together. In a slot it is the one that loses most: without it the others may lose nothing.
    """
    if case.pricing_rule is not PricingRule.NODAL or case.phase not in (Phase.DAY_AHEAD, Phase.REAL_TIME):
        return frozenset()
    energy = {k for (k, _), y in market.taken.items() if market.offers[k].min_energy_wh is not None and x[y] > 0.5}
    minima = {place: on for place, on in market.at_least.items() if x[on] > 0.5}
    mine = energy | {k for k, _ in minima}
    if not mine:
        return frozenset()
    parties: dict[tuple[bool, str], list[int]] = defaultdict(list)
    for k, offer in enumerate(market.offers):
        parties[offer.unit_id is not None, offer.unit_id or offer.offer_id].append(k)
    profit = _profits(case, market, x, value)
    parents = frozenset(o.parent_offer_id for o in market.offers if o.parent_offer_id is not None)
    stores = {(True, u.unit_id) for u in case.units if u.kind is UnitKind.STORAGE}
    worst: dict[int, tuple[float, set[int]]] = {}  # of each slot, -1 = all at once: what is lost, and for which columns
    for party, together in parties.items():
        if mine.isdisjoint(together):
            continue
        slots = profit[together].sum(axis=0)
        at_once = party in stores or any(_forces_itself(market.offers[k], parents) for k in together)
        for t, earned in [(-1, float(slots.sum()))] if at_once else list(enumerate(slots.tolist())):
            if earned < min(-LOSS, worst.get(t, (0.0, ()))[0]):
                lossy = {on for (k, s), on in minima.items() if k in together and t in (-1, s) and profit[k, s] < 0.0}
                worst[t] = earned, lossy | {market.taken[k, 0] for k in energy.intersection(together)}
    return frozenset[int]().union(*(columns for _, columns in worst.values()))


def _profits(case: Case, market: Market, x: Real, value: Real) -> Real:
    """Return what offers earn beyond their bids in columns that are no whole numbers (offers x slots), EUR."""
    table, cost = market.all_members(), np.array(market.cost)
    rows = np.flatnonzero(~table.whole)
    offer, slot, column = table.offer[rows], table.slot[rows], table.column[rows]
    cap = case.settings.price_cap_milli_per_mwh
    paid = value[offer, slot]
    if cap is not None:
        paid = np.clip(paid, -cap / 1e3, np.maximum(cap / 1e3, cost[column]))
    profit = np.zeros_like(value)
    np.add.at(profit, (offer, slot), (paid - cost[column]) * x[column] * case.resolution_s / 3600)
    return profit


def short_requests(market: Market, repair: Repair, point: Point) -> frozenset[int]:
    """Return the binary columns of requests that got less than their minimum.

    The program may let a request have its minimum on paper and buy the rest back at its own bid.
    """
    flows = {c: (m, sum(point.x[j] for j in m.columns)) for m in market.measured for c in m.columns}
    short = set()
    for (r, t), on in market.request_on.items():
        if point.x[on] < 0.5:
            continue
        mine = [c for c, q, _ in market.request_columns if q == r and market.slot[c] == t]
        if mine[0] in flows:
            m, served = flows[mine[0]]
            lacks = served - repair.delivered(m, point.values)
        else:
            lacks = point.x[market.opposed[market.request_row[r, t]]]
        if sum(point.x[c] for c in mine) - max(lacks, 0.0) < market.requests[r].slots[t].min_quantity / MEGA - SHORT:
            short.add(on)
    return frozenset(short)
