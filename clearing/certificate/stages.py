"""Scenarios one by one, each as a plain market of its own, and what ties them together: the reservations.

Every check of a plain result is made of every scenario; here is what remains: that what is reserved is what is
called at most, at a price that follows from what being able to call it is worth, and that sums are expected values.
"""

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from clearing.case import Case, Offer
from clearing.certificate.bound import bound_eur
from clearing.certificate.evidence import PPM, Evidence, Finding, gather, places
from clearing.certificate.money import bids_nano, payment_nano, value_nano, wh
from clearing.phases import alone, windows
from clearing.power_flow import AcGrid, AcState
from clearing.result import BusResult, Result
from flexbus.events.market import PricingRule

__all__ = ["check_stages", "evidences", "part_of", "stage_frame", "value_and_bound_nano"]

Real = NDArray[np.float64]
T = TypeVar("T")
# 1/1000 EUR per MWh: published prices are whole, and a step up to an own bid.
PRICE_NOISE = 3


def evidences(
    case: Case, result: Result, grid: AcGrid | None = None, known: tuple[Real, Real, AcState] | None = None
) -> list[Evidence]:
    """Return the physics of every scenario of a case as it is cleared; of the whole case without scenarios.

    Args:
        case: the case, unfolded.
        result: its result.
        grid: its network prepared for the power flow; prepared with numpy alone without.
        known: injections (W, var) whose power flow that grid has solved already, and what it found.
    """
    if not case.scenarios:
        return [gather(case, result, grid, known)]
    return [gather(alone(case, k), part_of(case, result, k), grid) for k in range(len(case.scenarios))]


def value_and_bound_nano(
    case: Case, result: Result, parts: Sequence[Evidence]
) -> tuple[int, int | None, list[int | None]]:
    """Return what the market minimises, what no dispatch costs less than, and the gap of every slot, 1e-9 EUR.

    Args:
        case: the case, unfolded.
        result: its result.
        parts: what `evidences` returned.
    """
    value = _expected(case, [value_nano(e) for e in parts]) + sum(r.cost_nano for r in result.reservations)
    known = [bound_eur(e, e.result.certificate) for e in parts]
    bounds = [b for b, _ in known]
    gaps = [round(gap * 1e9) if np.isfinite(gap) else None for _, of_slots in known for gap in of_slots.tolist()]
    if any(b is None for b in bounds):
        return value, None, gaps
    total = sum(p / PPM * (b or 0.0) for p, b in zip(_probabilities(case), bounds, strict=True))
    total -= _reserve_profit(case, result, parts[0])
    return value, int(np.floor(total * 1e9)) if np.isfinite(total) else None, gaps


def stage_frame(case: Case, result: Result) -> Iterator[Finding]:
    """Yield a finding where scenarios, reservations or their multipliers are not those of the case."""
    if [(s.scenario_id, s.probability_ppm) for s in result.scenarios] != [
        (s.scenario_id, s.probability_ppm) for s in case.scenarios
    ]:
        yield Finding("$.scenarios", "are not those of the case")
    length = len(windows(case)[0])
    want = sorted(o.offer_id for o in case.offers) if case.scenarios else []
    if [r.offer_id for r in result.reservations] != want:
        yield Finding("$.reservations", "must have one entry per offer of a case with scenarios, sorted by id")
    for k, r in enumerate(result.reservations):
        if not len(r.quantity) == len(r.price_milli_per_mwh) == length:
            yield Finding(f"$.reservations[{k}]", f"every series needs {length} values")
    for k, offer in enumerate(result.offers if case.scenarios else ()):
        if len(offer.price_milli_per_mwh) != case.slots:
            yield Finding(f"$.offers[{k}].price_milli_per_mwh", f"expected {case.slots} values")
    priced = sorted(o.offer_id for o in case.offers if any(o.reservation_price_milli_per_mwh))
    if [c.offer_id for c in result.certificate.called] != priced:
        yield Finding("$.certificate.called", "must have one entry per offer with a reservation price, sorted by id")
    for k, call in enumerate(result.certificate.called):
        if len(call.worth_eur_per_mwh) != case.slots:
            yield Finding(f"$.certificate.called[{k}]", f"needs {case.slots} values")


def check_stages(case: Case, result: Result) -> Iterator[Finding]:
    """Yield a finding for every reservation, price, payment or sum that does not follow from the calls."""
    offers = {o.offer_id: o for o in case.offers}
    taken = {o.offer_id: o for o in result.offers}
    days = windows(case)
    calls = {c.offer_id: np.array(c.worth_eur_per_mwh).reshape(len(days), -1) for c in result.certificate.called}
    best = _zone_bids(case, result)
    for j, r in enumerate(result.reservations):
        offer, got = offers[r.offer_id], taken[r.offer_id]
        bids = offer.reservation_price_milli_per_mwh or (0,) * len(days[0])
        called = np.array(got.quantity, dtype=int).reshape(len(days), -1)
        for t in np.flatnonzero(called.max(axis=0) != np.array(r.quantity)).tolist():
            most = called[:, t].max()
            yield Finding(f"$.reservations[{j}].quantity[{t}]", f"published {r.quantity[t]}, called at most {most}")
        worth = calls.get(r.offer_id, np.zeros(called.shape))
        if (worth < 0).any():
            yield Finding("$.certificate.called", f"{r.offer_id}: being able to call is never worth less than nothing")
        step = max(case.settings.quantity_step_w, 1) + 1
        for s, t in np.argwhere((worth > 0) & (called < np.array(r.quantity) - step)).tolist():
            message = f"{r.offer_id}, slot {t}: a call of less than is reserved needs no reservation"
            yield Finding(f"$.certificate.called ({case.scenarios[s].scenario_id})", message)
        for t, price in enumerate(r.price_milli_per_mwh):
            zonal = best.get((_zone(case, offer), offer.direction, t), 0)
            fault = _price_fault(case, r.quantity[t], bids[t], price, worth[:, t], zonal)
            if fault:
                yield Finding(f"$.reservations[{j}].price_milli_per_mwh[{t}]", fault)
        revenue = sum(wh(q, case.resolution_s) * m for q, m in zip(r.quantity, r.price_milli_per_mwh, strict=True))
        cost = sum(round(q * m * case.resolution_s / 3600) for q, m in zip(r.quantity, bids, strict=True))
        for name, truth in (("revenue_nano", revenue), ("cost_nano", cost)):
            if getattr(r, name) != truth:
                yield Finding(f"$.reservations[{j}].{name}", f"published {getattr(r, name)}, follows {truth}")
    yield from _sums(case, result)


def _price_fault(case: Case, quantity: int, bid: int, price: int, worth: Real, zonal: int) -> str:
    if not quantity:
        return f"nothing is reserved, yet {price} is published" if price else ""
    if case.pricing_rule is PricingRule.PAY_AS_BID:
        return "" if price == bid else f"pay as bid is {bid}, published {price}"
    if case.pricing_rule is PricingRule.ZONAL:
        return "" if price == zonal else f"the highest reservation bid in its zone is {zonal}, published {price}"
    truth = max(float(np.array(_probabilities(case)) @ worth) / 1e3, bid)
    cap = case.settings.price_cap_milli_per_mwh
    if cap is not None:
        truth = min(truth, max(cap, bid))
    return "" if abs(price - truth) <= PRICE_NOISE else f"being able to call it is worth {truth:.0f}, published {price}"


def _zone_bids(case: Case, result: Result) -> dict[tuple[str, object, int], int]:
    offers, best = {o.offer_id: o for o in case.offers}, dict[tuple[str, object, int], int]()
    for r in result.reservations:
        offer = offers[r.offer_id]
        bids = offer.reservation_price_milli_per_mwh or (0,) * len(r.quantity)
        for t, quantity in enumerate(r.quantity):
            if quantity:
                key = _zone(case, offer), offer.direction, t
                best[key] = max(best.get(key, bids[t]), bids[t])
    return best


def _zone(case: Case, offer: Offer) -> str:
    bus = max(places(offer), key=lambda p: (p[1], p[0]))[0]
    return next(b.zone_id or "" for b in case.network.buses if b.bus_id == bus)


def _sums(case: Case, result: Result) -> Iterator[Finding]:
    parts = [part_of(case, result, k) for k in range(len(case.scenarios))]
    held = {r.offer_id: r for r in result.reservations}
    for j, offer in enumerate(result.offers):
        first = held[offer.offer_id]
        for name in ("revenue_nano", "cost_nano"):
            truth = getattr(first, name) + _expected(case, [getattr(p.offers[j], name) for p in parts])
            if getattr(offer, name) != truth:
                message = f"published {getattr(offer, name)}, reservation and expected calls are {truth}"
                yield Finding(f"$.offers[{j}].{name}", message)
    for j, request in enumerate(result.requests):
        truth = _expected(case, [p.requests[j].payment_nano for p in parts])
        if request.payment_nano != truth:
            yield Finding(
                f"$.requests[{j}].payment_nano", f"published {request.payment_nano}, the expected payment is {truth}"
            )
    sums = {
        name: _expected(case, [getattr(s, name) for s in result.scenarios])
        for name in ("request_value_nano", "infeed_cost_nano", "violation_cost_nano", "baseline_violation_cost_nano")
    }
    sums["cost_nano"] = sum(o.revenue_nano for o in result.offers)
    sums["bid_cost_nano"] = sum(o.cost_nano for o in result.offers)
    sums["welfare_nano"] = (
        sums["request_value_nano"]
        + sums["baseline_violation_cost_nano"]
        - sums["bid_cost_nano"]
        - sums["infeed_cost_nano"]
        - sums["violation_cost_nano"]
    )
    sums["network_residual_nano"] = sums["cost_nano"] - sum(r.payment_nano for r in result.requests)
    for name, truth in sums.items():
        if getattr(result, name) != truth:
            yield Finding(f"$.{name}", f"published {getattr(result, name)}, the expected value is {truth}")


def _probabilities(case: Case) -> list[int]:
    return [s.probability_ppm for s in case.scenarios] or [PPM]


def _expected(case: Case, amounts: list[int]) -> int:
    """Expected value of an amount per scenario, rounded half up."""
    total = sum(p * a for p, a in zip(_probabilities(case), amounts, strict=True))
    return (2 * total + PPM) // (2 * PPM)


def _reserve_profit(case: Case, result: Result, first: Evidence) -> float:
    """Return the most that reserving can earn when being able to call is paid what it is worth, EUR."""
    ppm, days = np.array(_probabilities(case)), windows(case)
    offers = {o.offer_id: o for o in first.case.offers}
    index = {b.bus_id: k for k, b in enumerate(case.network.buses)}
    total = 0.0
    for call in result.certificate.called:
        offer = offers[call.offer_id]
        if not all(first.grid.energised[index[b]] for b, _ in places(offer)):
            continue
        worth = np.maximum(np.array(call.worth_eur_per_mwh).reshape(len(days), -1), 0.0)
        bids = np.array(offer.reservation_price_milli_per_mwh or (0,) * worth.shape[1]) / 1e3
        full = [sum(s.quantity for s in entry.steps) for entry in offer.slots]
        most = [f if e.max_quantity is None else min(f, e.max_quantity) for f, e in zip(full, offer.slots, strict=True)]
        total += float(np.maximum(ppm @ worth / PPM - bids, 0.0) @ np.array(most)) / PPM
    return total * first.hours


def part_of(case: Case, result: Result, k: int) -> Result:
    """Return what a result says of one scenario, as the result of a plain market.

    Args:
        case: the case, unfolded.
        result: its result.
        k: number of the scenario.
    """
    window, sums = windows(case)[k], result.scenarios[k]

    def cut(values: Sequence[T]) -> tuple[T, ...]:
        return tuple(values[window.start : window.stop])

    plain = alone(case, k)
    offers = {o.offer_id: o for o in plain.offers}
    asked = {r.request_id: r for r in plain.requests}
    made = replace(
        result,
        scenarios=(),
        reservations=(),
        slots=cut(result.slots),
        offers=tuple(
            replace(
                o,
                quantity=cut(o.quantity),
                price_milli_per_mwh=cut(o.price_milli_per_mwh),
                revenue_nano=sum(
                    wh(q, case.resolution_s) * m
                    for q, m in zip(cut(o.quantity), cut(o.price_milli_per_mwh), strict=True)
                ),
                cost_nano=bids_nano(offers[o.offer_id], cut(o.quantity), case.resolution_s),
            )
            for o in result.offers
        ),
        requests=tuple(
            replace(
                r,
                requested=cut(r.requested),
                matched=cut(r.matched),
                price_milli_per_mwh=cut(r.price_milli_per_mwh),
                payment_nano=payment_nano(
                    asked[r.request_id], cut(r.matched), cut(r.price_milli_per_mwh), case.resolution_s
                ),
            )
            for r in result.requests
        ),
        buses=tuple(_cut_bus(b, window) for b in result.buses),
        branches=tuple(
            replace(
                b,
                power_w=cut(b.power_w),
                reactive_power_var=cut(b.reactive_power_var),
                loading_ppm=cut(b.loading_ppm),
            )
            for b in result.branches
        ),
        infeed_points=tuple(
            replace(p, power_w=cut(p.power_w), reactive_power_var=cut(p.reactive_power_var))
            for p in result.infeed_points
        ),
        zone_prices=tuple(
            replace(z, up_milli_per_mwh=cut(z.up_milli_per_mwh), down_milli_per_mwh=cut(z.down_milli_per_mwh))
            for z in result.zone_prices
        ),
        cost_nano=sums.cost_nano,
        bid_cost_nano=sums.bid_cost_nano,
        request_value_nano=sums.request_value_nano,
        infeed_cost_nano=sums.infeed_cost_nano,
        violation_cost_nano=sums.violation_cost_nano,
        baseline_violation_cost_nano=sums.baseline_violation_cost_nano,
        welfare_nano=sums.welfare_nano,
        certificate=replace(
            result.certificate,
            duals=tuple(replace(d, slot=d.slot - window.start) for d in result.certificate.duals if d.slot in window),
            stored=tuple(replace(u, worth_eur_per_mwh=cut(u.worth_eur_per_mwh)) for u in result.certificate.stored),
            called=tuple(replace(c, worth_eur_per_mwh=cut(c.worth_eur_per_mwh)) for c in result.certificate.called),
        ),
    )
    return replace(made, network_residual_nano=made.cost_nano - sum(r.payment_nano for r in made.requests))


def _cut_bus(bus: BusResult, window: range) -> BusResult:
    names = (f.name for f in fields(bus) if f.name != "bus_id")
    series: dict[str, Any] = {name: getattr(bus, name)[window.start : window.stop] for name in names}
    return replace(bus, **series)
