"""What is reserved in the first stage of a two-stage auction, and what being able to call it is worth.

A unit more of a reservation is worth, in a scenario that calls all of it, what it saves there beyond its own bid; it
costs its reservation price. So a reservation is an option: its price is the expected worth of being able to call it,
and where it is called it is paid what it is worth at its place less what was worth being able to call it. On average
over the scenarios that is the nodal price, and no scenario leaves a provider below what was bid for either part.

Source: FLEXGRID D2.1 3.1 (SDAFM: co-optimised energy and reserve over scenarios).
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from clearing.case import Case, Offer
from clearing.linearisation import Multipliers
from clearing.market import Market, is_coupled, offer_cap
from clearing.phases import probabilities_ppm, windows
from clearing.result import CallDuals, ReservationResult
from flexbus.events.market import PricingRule
from flexbus.quantities import Direction, amount_nano, energy_wh

__all__ = ["call_worth", "reservations"]

Real = NDArray[np.float64]
MEGA = 1e6
# MW: a reservation closer to all that is offered is all of it; a call further below a reservation leaves some of it.
ALL = 1e-9
SOME = 1e-6


def call_worth(market: Market, x: Real, multipliers: Multipliers, value: Real) -> Real:
    """Return the worth of being able to call one more unit (offers x slots), EUR per MWh; zero where none is reserved.

    Args:
        market: columns and rows.
        x: the dispatch, MW.
        multipliers: its duals.
        value: worth of one more MW of each offer in each slot (offers x slots), EUR per MWh.
    """
    call = np.zeros_like(value)
    if not market.called or not len(multipliers.structural):
        return call
    steps: dict[tuple[int, int], list[int]] = {}
    table, alone = market.all_members(), np.diff(market.member_first) == 1
    for column, k, t in zip(table.column.tolist(), table.offer.tolist(), table.slot.tolist(), strict=True):
        if alone[column] and (k, t) in market.called:
            steps.setdefault((k, t), []).append(column)
    length = len(market.windows[0])
    for (k, t), row in market.called.items():
        # A call of less than is reserved needs no more of it, whatever a last program promises.
        if float(x[steps[k, t]].sum()) >= float(x[market.reserved[k, t % length]]) - SOME:
            call[k, t] = max(-float(multipliers.structural[row]), 0.0)
    parents = frozenset(o.parent_offer_id for o in market.offers if o.parent_offer_id)
    tied = {k: _tied(market.offers[k], parents) for k, _ in market.reserved}
    for (k, day_slot), reserved in market.reserved.items():
        # Of an offer that is reserved in full nothing tells whether its profit is that of the reservation or of the
        # call; like units of smaller offers it is that of the reservation.
        cap = offer_cap(market.offers[k], day_slot) / MEGA
        if x[reserved] < cap - ALL or tied[k]:
            continue
        for window in market.windows:
            t = window.start + day_slot
            columns = steps.get((k, t), [])
            if columns and float(x[columns].sum()) >= cap - ALL:
                call[k, t] = max(call[k, t], value[k, t] - max(market.cost[c] for c in columns))
    return call


def reservations(
    case: Case, offers: list[Offer], taken: NDArray[np.int_], calls: tuple[CallDuals, ...]
) -> tuple[ReservationResult, ...]:
    """Return what is reserved and what it is paid; nothing for a case without scenarios.

    Args:
        case: the case, unfolded.
        offers: its offers, sorted.
        taken: calls (offers x slots), W or var.
        calls: what being able to call is worth, as published.
    """
    if not case.scenarios:
        return ()
    days = windows(case)
    length = len(days[0])
    held = taken.reshape(len(offers), len(days), length).max(axis=1)
    price = _prices(case, offers, held, {c.offer_id: np.array(c.worth_eur_per_mwh) for c in calls})
    made = []
    for k, offer in enumerate(offers):
        quantity, paid = held[k].tolist(), price[k].tolist()
        bids = offer.reservation_price_milli_per_mwh or (0,) * length
        made.append(
            ReservationResult(
                offer_id=offer.offer_id,
                quantity=tuple(quantity),
                price_milli_per_mwh=tuple(paid),
                revenue_nano=sum(
                    amount_nano(energy_wh(q, case.resolution_s), m) for q, m in zip(quantity, paid, strict=True)
                ),
                cost_nano=sum(round(q * m * case.resolution_s / 3600) for q, m in zip(quantity, bids, strict=True)),
            )
        )
    return tuple(made)


def _prices(case: Case, offers: list[Offer], held: NDArray[np.int_], calls: dict[str, Real]) -> NDArray[np.int_]:
    """Return the price of what is reserved (offers x slots of the day) by the case's pricing rule; 0 of nothing."""
    price = np.zeros_like(held)
    best: dict[tuple[str, Direction, int], int] = {}
    zone = {b.bus_id: b.zone_id or "" for b in case.network.buses}
    ppm = np.array(probabilities_ppm(case))
    cap = case.settings.price_cap_milli_per_mwh
    for k, t in np.argwhere(held).tolist():
        offer = offers[k]
        bid = offer.reservation_price_milli_per_mwh[t] if offer.reservation_price_milli_per_mwh else 0
        price[k, t] = bid
        if case.pricing_rule is PricingRule.ZONAL:
            key = zone[_place(offer)], offer.direction, t
            best[key] = max(best.get(key, bid), bid)
        elif case.pricing_rule is PricingRule.NODAL and offer.offer_id in calls:
            worth = calls[offer.offer_id].reshape(len(ppm), -1)[:, t]
            paid = int(np.floor(float(ppm @ worth) / 1e3 + 0.5))
            if cap is not None:
                paid = min(paid, max(cap, bid))
            # Neither rounding nor a dispatch that is optimal but for a hair puts a reservation below its own bid.
            price[k, t] = max(bid, paid)
    if case.pricing_rule is PricingRule.ZONAL:
        for k, t in np.argwhere(held).tolist():
            price[k, t] = best[zone[_place(offers[k])], offers[k].direction, t]
    return price


def _place(offer: Offer) -> str:
    return offer.bus_id or max(offer.shares, key=lambda s: (s.share_ppm, s.bus_id)).bus_id


def _tied(offer: Offer, parents: frozenset[str]) -> bool:
    """Tell whether anything but the reservation ties what is called of an offer."""
    bare = replace(offer, reservation_price_milli_per_mwh=())
    return is_coupled(bare, parents) or any(s.min_quantity for s in offer.slots)
