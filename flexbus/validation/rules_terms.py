"""Admission of what is particular to an offer, and of reactive power: against the product, the session and the unit."""

from collections.abc import Iterator

from flexbus import events as ev
from flexbus.errors import Fault, FaultCode
from flexbus.events import MarketPhase
from flexbus.validation.rules_common import powers
from flexbus.validation.state import Admission, UnitRecord, unit_key
from flexbus.validation.units import fault
from flexbus.views.registry import Session

__all__ = ["curve_rules", "reactive_rules", "terms_rules"]

_AT = "$.offer.terms"


def terms_rules(s: Admission, o: ev.FlexOffer, session: Session) -> Iterator[Fault]:
    """Yield what keeps the terms of an offer out of its session.

    Args:
        s: state of the area.
        o: an offer with terms, without content faults.
        session: its session.
    """
    t, product = o.terms, session.product
    assert t is not None
    point = s.registry.connection_points.get(o.connection_point_id or "")
    swing = None if point is None else point.max_feed_in_w + point.max_draw_w
    if t.reactive is not None:
        yield from reactive_rules(f"{_AT}.reactive.slots", t.reactive.slots, product, product.min_offer_w)
        for n, slot in enumerate(t.reactive.slots):
            total = sum(step.reactive_power_var for step in slot.steps)
            if swing is not None and total > swing:
                text = f"{total} var is more than the point's contract, {swing} W from full draw to full feed-in"
                yield fault(FaultCode.IMPLAUSIBLE, f"{_AT}.reactive.slots[{n}].steps", text)
    if t.start_choice is not None:
        yield from _profile(t.start_choice, product, swing)
    yield from _phase(t, product)
    if t.unit_id is not None:
        yield from _unit(s, o, t, session)


def _profile(c: ev.StartChoice, product: ev.MarketProductDefined, swing_w: int | None) -> Iterator[Fault]:
    at = f"{_AT}.start_choice"
    yield from powers(f"{at}.profile_w", c.profile_w, product.step_w)
    for slot, power_w in enumerate(c.profile_w):
        if 0 < power_w < product.min_offer_w:
            text = f"{power_w} W is less than the product's least quantity, {product.min_offer_w} W"
            yield fault(FaultCode.BAD_QUANTITY, f"{at}.profile_w[{slot}]", text)
        if swing_w is not None and power_w > swing_w:
            text = f"{power_w} W is more than the point can swing from full draw to full feed-in, {swing_w} W"
            yield fault(FaultCode.IMPLAUSIBLE, f"{at}.profile_w[{slot}]", text)
    yield from _price(f"{at}.price_milli_per_mwh", c.price_milli_per_mwh, product)


def _price(path: str, price: int, product: ev.MarketProductDefined) -> Iterator[Fault]:
    low, high = product.min_price_milli_per_mwh, product.max_price_milli_per_mwh
    if not low <= price <= high:
        yield fault(FaultCode.BAD_PRICE, path, f"{price} is outside the product's bounds, {low} to {high}")


def reactive_rules(
    path: str, slots: tuple[ev.ReactiveSlot, ...], product: ev.MarketProductDefined, least_var: int
) -> Iterator[Fault]:
    """Yield what of a stack or curve of reactive power is not as the product trades it; its steps count as var.

    Args:
        path: JSON path of the slots.
        slots: the slots.
        product: the product.
        least_var: least quantity of a step, var.
    """
    for n, slot in enumerate(slots):
        if len(slot.steps) > product.max_steps:
            text = f"{len(slot.steps)} price steps; the product allows {product.max_steps}"
            yield fault(FaultCode.BAD_SERIES, f"{path}[{n}].steps", text)
        for k, step in enumerate(slot.steps):
            at, var = f"{path}[{n}].steps[{k}]", step.reactive_power_var
            if var % product.step_w:
                text = f"{var} var is not a multiple of the product's step, {product.step_w} var"
                yield fault(FaultCode.BAD_QUANTITY, f"{at}.reactive_power_var", text)
            elif var < least_var:
                text = f"{var} var is less than the product's least quantity, {least_var} var"
                yield fault(FaultCode.BAD_QUANTITY, f"{at}.reactive_power_var", text)
            yield from _price(f"{at}.price_milli_per_mvarh", step.price_milli_per_mvarh, product)
        if slot.min_reactive_power_var % product.step_w:
            text = f"{slot.min_reactive_power_var} var is not a multiple of the product's step, {product.step_w} var"
            yield fault(FaultCode.BAD_QUANTITY, f"{path}[{n}].min_reactive_power_var", text)


def curve_rules(r: ev.FlexRequest, product: ev.MarketProductDefined) -> Iterator[Fault]:
    """Yield what of a demand curve is not as the product trades it."""
    for n, slot in enumerate(r.curve):
        at = f"$.request.curve[{n}]"
        if len(slot.steps) > product.max_steps:
            text = f"{len(slot.steps)} price steps; the product allows {product.max_steps}"
            yield fault(FaultCode.BAD_SERIES, f"{at}.steps", text)
        for k, step in enumerate(slot.steps):
            if step.power_w % product.step_w:
                text = f"{step.power_w} W is not a multiple of the product's step, {product.step_w} W"
                yield fault(FaultCode.BAD_QUANTITY, f"{at}.steps[{k}].power_w", text)
            yield from _price(f"{at}.steps[{k}].price_milli_per_mwh", step.price_milli_per_mwh, product)
        yield from powers(f"{at}.min_power_w", (slot.min_power_w,), product.step_w)


def _phase(t: ev.OfferTerms, product: ev.MarketProductDefined) -> Iterator[Fault]:
    if product.phase is not MarketPhase.STOCHASTIC and t.reservation_price_milli_per_mwh:
        text = f"belongs to products of phase STOCHASTIC; {product.product_id!r} is {product.phase.value}"
        yield fault(FaultCode.BAD_VALUE, f"{_AT}.reservation_price_milli_per_mwh", text)
    if product.phase is MarketPhase.CAPACITY:
        tied = {
            "max_run_slots": t.max_run_slots is not None,
            "min_rest_slots": t.min_rest_slots > 0,
            "payback": t.payback is not None,
            "start_choice": t.start_choice is not None,
            "polygons": bool(t.polygons),
            "storage": t.storage is not None,
        }
        for name in (name for name, given in tied.items() if given):
            text = "binds a slot to what is called in another one, which a product of phase CAPACITY cannot keep"
            yield fault(FaultCode.BAD_VALUE, f"{_AT}.{name}", text)


def _unit(s: Admission, o: ev.FlexOffer, t: ev.OfferTerms, session: Session) -> Iterator[Fault]:
    assert t.unit_id is not None
    at = f"{_AT}.unit_id"
    known = s.units.get(unit_key(o.session_id, o.fsp_id, t.unit_id))
    described = t.storage or t.inverter
    if known is None and described is None:
        text = f"unit {t.unit_id!r} is not described in this session; the first offer of a unit carries it"
        yield fault(FaultCode.UNKNOWN_ELEMENT, at, text)
        return
    here = UnitRecord.of(o)
    if known is not None and known.place_id != here.place_id:
        text = f"unit {t.unit_id!r} is at {known.place_id!r}; a unit is at one place, so choose another unit_id"
        yield fault(FaultCode.BAD_VALUE, at, text)
    if known is not None and described is not None and known.kind != here.kind:
        text = f"unit {t.unit_id!r} is described as a {known.kind} already; choose another unit_id"
        yield fault(FaultCode.BAD_VALUE, at, text)
    kind = here.kind if described is not None or known is None else known.kind
    if kind == "storage" and t.reactive is not None:
        text = f"unit {t.unit_id!r} is a storage, which holds active energy; leave unit_id out"
        yield fault(FaultCode.BAD_VALUE, at, text)
    for name, series in (
        (f"{_AT}.storage.baseline_power_w", t.storage.baseline_power_w if t.storage else ()),
        (f"{_AT}.inverter.baseline_power_w", t.inverter.baseline_power_w if t.inverter else ()),
        (
            f"{_AT}.inverter.baseline_reactive_power_var",
            t.inverter.baseline_reactive_power_var if t.inverter else (),
        ),
    ):
        if series and len(series) != session.slots:
            text = f"has {len(series)} slots, the session has {session.slots}"
            yield fault(FaultCode.BAD_SERIES, name, text)
