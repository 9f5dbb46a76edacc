"""Do payments, deliveries to requests and sums follow from the awards, to the last digit?"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from clearing.case import Location, Offer, Phase, Quantity, Request, RequestSlot
from clearing.certificate.evidence import PPM, Evidence, Finding, places
from clearing.certificate.physics import violation_cost_eur
from clearing.certificate.prices import infeed_price, is_from_nearer
from clearing.result import LimitKind
from flexbus.events.market import PricingRule
from flexbus.quantities import Direction

__all__ = [
    "bids_nano",
    "check_money",
    "delivered",
    "nodal_worth",
    "payment_nano",
    "request_value_nano",
    "state_costs",
    "value_nano",
    "wh",
    "worth_of",
]

NANO = 1e9
# 1e-9 EUR: what the noise of floats may move in sums over AC states (a hundredth of a cent).
NOISE = 100_000
# 1/1000 EUR per MWh: rounded nodal prices, and the step up to an own bid.
PRICE_NOISE = 3
# 1e-9 EUR: what a block, or what is bound to a minimum, may lose by rounding.
MOST_LOST = 10_000_000


def check_money(e: Evidence) -> Iterator[Finding]:
    """Yield a finding for every amount, price or sum that does not follow from awards and prices."""
    yield from _zones(e)
    yield from _offers(e)
    yield from _slots(e)
    yield from _requests(e)
    r = e.result
    sums = {
        "cost_nano": sum(o.revenue_nano for o in r.offers),
        "bid_cost_nano": sum(o.cost_nano for o in r.offers),
        "request_value_nano": request_value_nano(e),
        "welfare_nano": r.request_value_nano
        + r.baseline_violation_cost_nano
        - r.bid_cost_nano
        - r.infeed_cost_nano
        - r.violation_cost_nano,
        "network_residual_nano": r.cost_nano - sum(got.payment_nano for got in r.requests),
    }
    for name, truth in sums.items():
        if getattr(r, name) != truth:
            yield Finding(f"$.{name}", f"published {getattr(r, name)}, follows {truth}")
    change = np.nan_to_num((e.after.root_p_w - e.before.root_p_w) / 1e6 * infeed_price(e))
    physical = {
        "infeed_cost_nano": float(change.sum()) * e.hours * NANO,
        "violation_cost_nano": violation_cost_eur(e, e.after) * NANO,
        "baseline_violation_cost_nano": violation_cost_eur(e, e.before) * NANO,
    }
    for name, amount in physical.items():
        if abs(getattr(r, name) - amount) > NOISE + 1e-9 * abs(amount):
            yield Finding(f"$.{name}", f"published {getattr(r, name)}, the AC states give {amount:.0f}")


def _fill(offer: Offer, t: int, quantity: int) -> list[tuple[int, int]]:
    if offer.start_choice is not None:
        return [(quantity, offer.start_choice.price_milli_per_mwh)] if quantity else []
    filled, left = [], quantity
    for step in offer.slots[t].steps:
        part = min(left, step.quantity)
        if part > 0:
            filled.append((part, step.price_milli_per_mwh))
        left -= part
    return filled


def wh(power_w: int, resolution_s: int) -> int:
    """Energy of a slot, rounded half away from zero."""
    whole, rest = divmod(abs(power_w) * resolution_s, 3600)
    return (whole + (2 * rest >= 3600)) * (1 if power_w >= 0 else -1)


def bids_nano(offer: Offer, quantity: Sequence[int], resolution_s: int) -> int:
    """Return what was bid for what is taken of an offer, 1e-9 EUR."""
    return sum(
        round(sum(q * m for q, m in _fill(offer, t, taken)) * resolution_s / 3600) for t, taken in enumerate(quantity)
    )


def _offers(e: Evidence) -> Iterator[Finding]:
    nodal = nodal_worth(e)
    for j, award in enumerate(e.result.offers):
        k = next(i for i, o in enumerate(e.case.offers) if o.offer_id == award.offer_id)
        offer, path = e.case.offers[k], f"$.offers[{j}]"
        if len(award.price_milli_per_mwh) != e.case.slots:
            yield Finding(f"{path}.price_milli_per_mwh", f"expected {e.case.slots} values")
            continue
        bids, revenue = bids_nano(offer, award.quantity, e.case.resolution_s), 0
        for t, (quantity, price) in enumerate(zip(award.quantity, award.price_milli_per_mwh, strict=True)):
            filled = _fill(offer, t, quantity)
            revenue += wh(quantity, e.case.resolution_s) * price
            message = _price_fault(e, offer, k, t, filled, price, nodal)
            if message:
                yield Finding(f"{path}.price_milli_per_mwh[{t}]", message)
        if award.revenue_nano != revenue:
            yield Finding(f"{path}.revenue_nano", f"published {award.revenue_nano}, energy times price is {revenue}")
        if award.cost_nano != bids:
            yield Finding(f"{path}.cost_nano", f"published {award.cost_nano}, the bids are {bids}")
        block = offer.all_or_nothing or offer.start_choice is not None
        if block and e.case.pricing_rule is PricingRule.NODAL and revenue < bids - MOST_LOST:
            yield Finding(f"{path}.revenue_nano", f"the block {offer.offer_id} loses {bids - revenue} nano-EUR")
    if e.case.pricing_rule is PricingRule.NODAL and e.case.phase in (Phase.DAY_AHEAD, Phase.REAL_TIME):
        yield from _bound_to_minima(e)


def _zones(e: Evidence) -> Iterator[Finding]:
    """Yield a finding where a zone's price is not the highest bid accepted there; other rules have none."""
    best: dict[tuple[str, Direction, int], int] = {}
    for k, t in np.argwhere(e.taken).tolist() if e.case.pricing_rule is PricingRule.ZONAL else ():
        offer = e.case.offers[k]
        key = _zone_of(e, offer), offer.direction, t
        for _, bid in _fill(offer, t, int(e.taken[k, t])):
            best[key] = max(best.get(key, bid), bid)
    zones = sorted({b.zone_id or "" for b in e.case.network.buses})
    if [z.zone_id for z in e.result.zone_prices] != (zones if e.case.pricing_rule is PricingRule.ZONAL else []):
        yield Finding("$.zone_prices", "must have one entry per zone, sorted, with the zonal rule, and none else")
    for j, zone in enumerate(e.result.zone_prices):
        for word, way in (("up", Direction.UP), ("down", Direction.DOWN)):
            for t, price in enumerate(getattr(zone, f"{word}_milli_per_mwh")):
                truth = best.get((zone.zone_id, way, t), 0)
                if price != truth:
                    message = f"published {price}, the highest bid accepted in the zone is {truth}"
                    yield Finding(f"$.zone_prices[{j}].{word}_milli_per_mwh[{t}]", message)


def _zone_of(e: Evidence, offer: Offer) -> str:
    bus = offer.bus_id or max(offer.shares, key=lambda s: (s.share_ppm, s.bus_id)).bus_id
    return next(b.zone_id or "" for b in e.case.network.buses if b.bus_id == bus)


def _bound_to_minima(e: Evidence) -> Iterator[Finding]:
    """Yield a finding for every offer with a minimum that is taken at a loss; the offers of a unit count together."""
    earned: dict[str, int] = {a.offer_id: a.revenue_nano - a.cost_nano for a in e.result.offers}
    parties: dict[tuple[bool, str], list[Offer]] = {}
    for offer in e.case.offers:
        parties.setdefault((offer.unit_id is not None, offer.unit_id or offer.offer_id), []).append(offer)
    for (is_unit, name), offers in parties.items():
        if not any(o.min_energy_wh is not None or any(s.min_quantity for s in o.slots) for o in offers):
            continue
        lost = -sum(earned.get(o.offer_id, 0) for o in offers)
        if lost > MOST_LOST:
            who = "unit" if is_unit else "offer"
            yield Finding("$.offers", f"the {who} {name} with a minimum loses {lost} nano-EUR")


def _price_fault(
    e: Evidence, offer: Offer, k: int, t: int, filled: list[tuple[int, int]], price: int, nodal: NDArray[np.float64]
) -> str:
    if not filled and e.case.pricing_rule is not PricingRule.NODAL:
        return "" if price == 0 else f"nothing is taken, yet {price} is published"
    if e.case.pricing_rule is PricingRule.PAY_AS_BID:
        want = -(-sum(q * m for q, m in filled) // sum(q for q, _ in filled))
        return "" if price == want else f"pay as bid is {want}, published {price}"
    if e.case.pricing_rule is PricingRule.ZONAL:
        zone = _zone_of(e, offer)
        found = next((z for z in e.result.zone_prices if z.zone_id == zone), None)
        if found is None:
            return f"no price of zone {zone!r} is published"
        want = (found.up_milli_per_mwh if offer.direction is Direction.UP else found.down_milli_per_mwh)[t]
        return "" if price == want else f"the price of zone {zone!r} is {want}, published {price}"
    truth = float(nodal[k, t])
    cap = e.case.settings.price_cap_milli_per_mwh
    if cap is not None:
        # What a MWh is worth may exceed what anyone agreed to pay; an accepted bid is paid all the same.
        truth = max(min(truth, max(cap, *(m for _, m in filled)) if filled else cap), -cap)
    reach = PRICE_NOISE * (1 + abs(offer.tan_phi_ppm) / PPM + (2 if offer.payback is not None else 0))
    return "" if abs(price - truth) <= reach else f"its bus is worth {truth:.0f}, published {price}"


def nodal_worth(e: Evidence) -> NDArray[np.float64]:
    """Return the worth of one more MWh of each offer per slot at the published nodal prices, 1/1000 EUR."""
    p, q = (
        np.array([getattr(b, name) for b in sorted(e.result.buses, key=lambda b: order[b.bus_id])], dtype=float).T
        for order in [{b.bus_id: k for k, b in enumerate(e.case.network.buses)}]
        for name in ("p_price_milli_per_mwh", "q_price_milli_per_mwh")
    )
    made = worth_of(e, p, q)
    # What being able to call it is worth was paid with the reservation.
    called = {c.offer_id: np.array(c.worth_eur_per_mwh) * 1e3 for c in e.result.certificate.called}
    for k, offer in enumerate(e.case.offers):
        made[k] -= called.get(offer.offer_id, 0.0)
    return made


def worth_of(e: Evidence, p: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the worth of one more unit of each offer (offers x slots) at prices (slots x buses of the case)."""
    index = {b.bus_id: k for k, b in enumerate(e.case.network.buses)}
    made = np.zeros((len(e.case.offers), e.case.slots))
    for k, offer in enumerate(e.case.offers):
        for bus, share in places(offer):
            b = index[bus]
            active = offer.quantity is Quantity.ACTIVE
            made[k] += share * ((p[:, b] + offer.tan_phi_ppm / PPM * q[:, b]) if active else q[:, b])
        made[k] *= offer.direction.sign
        if offer.payback is not None:
            back, own = offer.payback, made[k].copy()
            part = back.factor_ppm / PPM / back.window_slots
            for t in range(e.case.slots):
                first = t + 1 + back.delay_slots
                made[k, t] -= own[first : first + back.window_slots].sum() * part
    return made


def _slots(e: Evidence) -> Iterator[Finding]:
    active = np.array([o.quantity is Quantity.ACTIVE for o in e.case.offers], dtype=bool)
    up = np.array([o.direction is Direction.UP for o in e.case.offers], dtype=bool)
    prices = {o.offer_id: o.price_milli_per_mwh for o in e.result.offers}
    for t, slot in enumerate(e.result.slots):
        paid = sum(
            wh(int(e.taken[k, t]), e.case.resolution_s) * prices[o.offer_id][t] for k, o in enumerate(e.case.offers)
        )
        truth = {
            "up_w": int(e.taken[active & up, t].sum()),
            "down_w": int(e.taken[active & ~up, t].sum()),
            "requested_w": sum(r.requested[t] for r in e.result.requests),
            "matched_w": sum(r.matched[t] for r in e.result.requests),
            "cost_nano": paid,
        }
        for name, value in truth.items():
            if getattr(slot, name) != value:
                yield Finding(f"$.slots[{t}].{name}", f"published {getattr(slot, name)}, follows {value}")
        short = {s.element_id: s.amount for s in slot.shortfalls if s.kind is LimitKind.REQUEST}
        missing = {r.request_id: r.requested[t] - r.matched[t] for r in e.result.requests}
        if e.before.converged[t] and short != {k: v for k, v in missing.items() if v > 0}:
            yield Finding(f"$.slots[{t}].shortfalls", "the unmet requests are not those named")


def _requests(e: Evidence) -> Iterator[Finding]:
    by_id = {request.request_id: request for request in e.case.requests}
    pools: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for j, got in enumerate(e.result.requests):
        request = by_id[got.request_id]
        asked = tuple(sum(s.quantity for s in slot.steps) for slot in request.slots)
        if got.requested != asked:
            yield Finding(f"$.requests[{j}].requested", "is not what the case asks for")
        payment = payment_nano(request, got.matched, got.price_milli_per_mwh, e.case.resolution_s)
        if got.payment_nano != payment:
            path = f"$.requests[{j}].payment_nano"
            yield Finding(path, f"published {got.payment_nano}, energy times price is {payment}")
        for t, (want, met) in enumerate(zip(asked, got.matched, strict=True)):
            if not 0 <= met <= want:
                yield Finding(f"$.requests[{j}].matched[{t}]", f"{met} met of {want} asked")
        key = (request.kind, request.location_kind, request.location_id, request.quantity, request.direction)
        pools[key].append(j)
    for members in pools.values():
        request = by_id[e.result.requests[members[0]].request_id]
        arrives = delivered(e, request)
        for t in range(e.case.slots):
            met = sum(e.result.requests[j].matched[t] for j in members)
            most = max(float(np.nan_to_num(arrives[t])), 0.0)
            if met > most + 1.0:
                path = f"$.requests[{members[0]}].matched[{t}]"
                yield Finding(path, f"{met} met, the awards deliver {most:.1f} there")


def payment_nano(request: Request, matched: Sequence[int], price: Sequence[int], resolution_s: int) -> int:
    """Return what a request pays for what it got, at most what it bid, 1e-9 EUR."""
    return sum(
        min(wh(met, resolution_s) * m, _worth(slot, met, resolution_s))
        for slot, met, m in zip(request.slots, matched, price, strict=True)
    )


def delivered(e: Evidence, request: Request) -> NDArray[np.float64]:
    """Return the flexibility that arrives at a request's place per slot, W or var in its direction."""
    active, sign = request.quantity is Quantity.ACTIVE, request.direction.sign
    if request.location_kind is Location.INFEED_POINT:
        k = next(i for i, x in enumerate(e.case.network.infeed_points) if x.infeed_id == request.location_id)
        before, after = ((s.root_p_w if active else s.root_q_var)[:, k] for s in (e.before, e.after))
        return np.asarray(sign * (before - after))
    if request.location_kind is Location.BRANCH:
        k = next(i for i, x in enumerate(e.case.network.branches) if x.branch_id == request.location_id)
        name = f"{'p' if active else 'q'}_{'from' if is_from_nearer(e)[k] else 'to'}_{'w' if active else 'var'}"
        return np.asarray(sign * (getattr(e.before, name)[:, k] - getattr(e.after, name)[:, k]))
    change = (e.p - e.base_p) if active else (e.q - e.base_q)
    inside = np.array(
        [
            request.location_kind is Location.AREA
            or (request.location_kind is Location.BUS and bus.bus_id == request.location_id)
            or (request.location_kind is Location.ZONE and bus.zone_id == request.location_id)
            for bus in e.case.network.buses
        ],
        dtype=bool,
    )
    inside &= e.grid.energised
    return np.asarray(sign * change[:, inside].sum(axis=1))


def value_nano(e: Evidence) -> int:
    """What the market minimises, of the published dispatch, 1e-9 EUR.

    Bids, infeed and violations, less the worth of met requests, plus what delivery against a request costs it.
    """
    r = e.result
    return (
        r.bid_cost_nano
        + r.infeed_cost_nano
        + r.violation_cost_nano
        - r.request_value_nano
        + round(float(opposed(e).sum()))
    )


def state_costs(e: Evidence) -> NDArray[np.float64]:
    """Return the same per slot, without bids and violations and not rounded, EUR."""
    change = np.nan_to_num((e.after.root_p_w - e.before.root_p_w) / 1e6 * infeed_price(e)).sum(axis=1)
    change = change * e.hours + opposed(e) / NANO
    by_id = {request.request_id: request for request in e.case.requests}
    for got in e.result.requests:
        worth = zip(by_id[got.request_id].slots, got.matched, strict=True)
        change -= np.array([_worth(slot, met, e.case.resolution_s) for slot, met in worth]) / NANO
    return np.asarray(change)


def opposed(e: Evidence) -> NDArray[np.float64]:
    """Return what delivery in the other direction costs those who asked, per slot, 1e-9 EUR.

    It is what the first unit would have been worth to them.
    """
    most: dict[tuple[object, ...], NDArray[np.int_]] = {}
    first: dict[tuple[object, ...], Request] = {}
    for request in e.case.requests:
        place = "" if request.location_kind is Location.AREA else request.location_id
        key = (request.kind, request.location_kind, place, request.quantity, request.direction)
        prices = [max((s.price_milli_per_mwh for s in slot.steps), default=0) for slot in request.slots]
        most[key] = np.maximum(most.get(key, 0), prices)
        first.setdefault(key, request)
    total = np.zeros(e.case.slots)
    for place_key, price in most.items():
        against = np.clip(-np.nan_to_num(delivered(e, first[place_key])), 0, None)
        # Less than a watt is the rounding of awards.
        against[(against < 1.0) | ~e.before.converged] = 0.0
        total += against * price * e.hours
    return total


def request_value_nano(e: Evidence) -> int:
    """What the published deliveries are worth to those who asked, 1e-9 EUR."""
    by_id = {request.request_id: request for request in e.case.requests}
    return sum(
        _worth(slot, met, e.case.resolution_s)
        for got in e.result.requests
        for slot, met in zip(by_id[got.request_id].slots, got.matched, strict=True)
    )


def _worth(slot: RequestSlot, met: int, resolution_s: int) -> int:
    total, left = 0, met
    for step in slot.steps:
        part = min(left, step.quantity)
        total += round(part * resolution_s * step.price_milli_per_mwh / 3600)
        left -= part
    return total
