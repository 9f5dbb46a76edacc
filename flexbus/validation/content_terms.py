"""Content checks of what is particular to an offer (`OfferTerms`), and of demand curves."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, fields
from typing import Any, NamedTuple

from flexbus import events as ev
from flexbus.errors import Fault, FaultCode
from flexbus.quantities import PPM
from flexbus.validation.series import series
from flexbus.validation.units import MAX_SESSION_SLOTS, MAX_SLOTS, fault

__all__ = ["curve_faults", "payback_faults", "reactive_request_faults", "terms_faults"]

MAX_VERTICES = 64
MAX_STEPS = 20
MAX_PAYBACK_PPM = 10 * PPM
_AT = "$.offer.terms"


class _Pile(NamedTuple):
    """A stack or curve of one slot, whatever it is of."""

    path: str
    quantities: tuple[int, ...]
    prices: tuple[int, ...]
    least: int
    quantity: str
    price: str
    minimum: str


def terms_faults(o: ev.FlexOffer) -> Iterator[Fault]:
    """Yield what is wrong with the terms of an offer that has some."""
    t = o.terms
    assert t is not None
    if t.reactive is not None:
        yield from _reactive(o, t, t.reactive)
    if t.start_choice is not None:
        yield from _start_choice(o, t, t.start_choice)
    if t.max_run_slots is not None and not 1 <= t.max_run_slots <= MAX_SLOTS:
        text = f"{t.max_run_slots} slots; a run has 1 to {MAX_SLOTS}, leave it out if any length is fine"
        yield fault(FaultCode.BAD_VALUE, f"{_AT}.max_run_slots", text)
    if not 0 <= t.min_rest_slots <= MAX_SLOTS:
        text = f"{t.min_rest_slots} slots; a rest has 0 to {MAX_SLOTS}"
        yield fault(FaultCode.BAD_VALUE, f"{_AT}.min_rest_slots", text)
    if t.payback is not None:
        yield from _payback(o, t.payback)
    yield from _polygons(o, t)
    yield from _unit(t)
    yield from _reservation(o, t)


def _left_out(path: str, said: ev.FlexOffer | ev.OfferTerms | ev.FlexRequest, names: str, text: str) -> Iterator[Fault]:
    """Yield a fault for each of the named fields that is not left out: not its default, nor empty or 0 without one."""
    defaults = {f.name: f.default for f in fields(said)}
    for name in names.split():
        value = getattr(said, name)
        if bool(value) if defaults[name] is MISSING else value != defaults[name]:
            yield fault(FaultCode.BAD_VALUE, f"{path}.{name}", text)


def _reactive(o: ev.FlexOffer, t: ev.OfferTerms, r: ev.ReactiveOffer) -> Iterator[Fault]:
    at = f"{_AT}.reactive"
    yield from _left_out(
        "$.offer",
        o,
        "slots min_energy_wh max_energy_wh",
        "is of active power; an offer of reactive power says it in terms.reactive and leaves this out",
    )
    yield from _left_out(
        _AT,
        t,
        "start_choice tan_phi_ppm max_rise_w max_fall_w polygons storage",
        "is of active power and does not go with reactive power; leave it out",
    )
    yield from series(f"{at}.slots", len(r.slots))
    for pile in _reactive_piles(f"{at}.slots", r.slots):
        yield from _pile(pile, rising=True)
    total = sum(max(0, step.reactive_power_var) for slot in r.slots for step in slot.steps)
    if r.slots and total == 0:
        text = "nothing is offered in any slot; withdraw the offer instead"
        yield fault(FaultCode.BAD_QUANTITY, f"{at}.slots", text)
    if r.min_energy_varh is not None:
        if r.max_energy_varh is not None and r.min_energy_varh > r.max_energy_varh:
            text = f"{r.min_energy_varh} varh is more than max_energy_varh, {r.max_energy_varh} varh"
            yield fault(FaultCode.BAD_QUANTITY, f"{at}.min_energy_varh", text)
        most = total * o.resolution_s // 3600
        if r.min_energy_varh > most:
            text = f"{r.min_energy_varh} varh is more than all slots together offer, {most} varh"
            yield fault(FaultCode.BAD_QUANTITY, f"{at}.min_energy_varh", text)


def _start_choice(o: ev.FlexOffer, t: ev.OfferTerms, c: ev.StartChoice) -> Iterator[Fault]:
    at = f"{_AT}.start_choice"
    yield from _left_out(
        "$.offer",
        o,
        "slots min_energy_wh max_energy_wh all_or_nothing",
        "does not go with a start choice: its profile is taken in full or not at all; leave it out",
    )
    yield from _left_out(
        _AT,
        t,
        "max_run_slots min_rest_slots max_rise_w max_fall_w polygons unit_id reservation_price_milli_per_mwh",
        "does not go with a start choice: the profile is rigid; leave it out",
    )
    if not 1 <= len(c.profile_w) <= MAX_SESSION_SLOTS:
        text = f"has {len(c.profile_w)} slots; 1 to {MAX_SESSION_SLOTS} are allowed"
        yield fault(FaultCode.BAD_SERIES, f"{at}.profile_w", text)
    elif c.profile_w[0] <= 0 or c.profile_w[-1] <= 0:
        text = "begins or ends with 0 W; leave these slots out and move the window by them"
        yield fault(FaultCode.BAD_QUANTITY, f"{at}.profile_w", text)
    if c.latest_start_ms < o.start_ms:
        text = "is before start_ms, the earliest start; the window is empty"
        yield fault(FaultCode.BAD_PERIOD, f"{at}.latest_start_ms", text)
    elif o.resolution_s > 0 and (c.latest_start_ms - o.start_ms) % (o.resolution_s * 1000):
        text = f"is not at the start of a slot of {o.resolution_s} s counted from start_ms; round it down to one"
        yield fault(FaultCode.BAD_PERIOD, f"{at}.latest_start_ms", text)


def _payback(o: ev.FlexOffer, p: ev.Payback) -> Iterator[Fault]:
    at = f"{_AT}.payback"
    if o.portfolio_id is not None:
        text = "a payback is settled at one meter; offer it at the connection point where it happens"
        yield fault(FaultCode.BAD_VALUE, at, text)
    yield from payback_faults(at, p)


def payback_faults(at: str, p: ev.Payback) -> Iterator[Fault]:
    """Yield what is wrong with a payback at a JSON path: whoever reckons with it lays out as many slots as it says."""
    if p.factor_ppm > MAX_PAYBACK_PPM:
        text = f"{p.factor_ppm} is more than ten times what was taken, {MAX_PAYBACK_PPM} millionths"
        yield fault(FaultCode.BAD_QUANTITY, f"{at}.factor_ppm", text)
    for name, least in (("delay_slots", 0), ("window_slots", 1)):
        value = getattr(p, name)
        if not least <= value <= MAX_SLOTS:
            text = f"{value} slots; {least} to {MAX_SLOTS} are allowed"
            yield fault(FaultCode.BAD_VALUE, f"{at}.{name}", text)


def _polygons(o: ev.FlexOffer, t: ev.OfferTerms) -> Iterator[Fault]:
    at = f"{_AT}.polygons"
    if len(t.polygons) > MAX_SLOTS:
        yield fault(FaultCode.BAD_SERIES, at, f"has {len(t.polygons)} slices; at most {MAX_SLOTS}, one per slot")
    seen: set[int] = set()
    for n, piece in enumerate(t.polygons[:MAX_SLOTS]):
        if o.slots and not 0 <= piece.slot < len(o.slots):
            text = f"{piece.slot} is no slot of the offer, 0 to {len(o.slots) - 1}"
            yield fault(FaultCode.BAD_VALUE, f"{at}[{n}].slot", text)
        if piece.slot in seen:
            text = f"slot {piece.slot} has a slice already; give the corners of what both have in common"
            yield fault(FaultCode.DUPLICATE_ID, f"{at}[{n}].slot", text)
        seen.add(piece.slot)
        if not 1 <= len(piece.vertices) <= MAX_VERTICES:
            text = f"has {len(piece.vertices)} corners; 1 to {MAX_VERTICES} are allowed"
            yield fault(FaultCode.BAD_SERIES, f"{at}[{n}].vertices", text)


def _unit(t: ev.OfferTerms) -> Iterator[Fault]:
    if t.unit_id is None:
        yield from _left_out(_AT, t, "storage inverter", "describes a unit without a name; give unit_id")
    if t.storage is not None and t.inverter is not None:
        text = "a unit is a storage or an inverter; give one of the two"
        yield fault(FaultCode.BAD_VALUE, f"{_AT}.inverter", text)
    if t.storage is not None:
        yield from _storage(t.storage)
    if t.inverter is not None:
        yield from _inverter(t.inverter)


def _storage(s: ev.Storage) -> Iterator[Fault]:
    at = f"{_AT}.storage"
    if s.min_energy_wh > s.max_energy_wh:
        text = f"{s.max_energy_wh} Wh is below min_energy_wh, {s.min_energy_wh} Wh"
        yield fault(FaultCode.BAD_QUANTITY, f"{at}.max_energy_wh", text)
    elif not s.min_energy_wh <= s.initial_energy_wh <= s.max_energy_wh:
        text = f"{s.initial_energy_wh} Wh is not within {s.min_energy_wh} to {s.max_energy_wh} Wh"
        yield fault(FaultCode.BAD_QUANTITY, f"{at}.initial_energy_wh", text)
    if s.min_final_energy_wh is not None and s.min_final_energy_wh > s.max_energy_wh:
        text = f"{s.min_final_energy_wh} Wh is more than the storage holds, {s.max_energy_wh} Wh"
        yield fault(FaultCode.BAD_QUANTITY, f"{at}.min_final_energy_wh", text)
    for name in ("charge_efficiency_ppm", "discharge_efficiency_ppm"):
        value = getattr(s, name)
        if not 1 <= value <= PPM:
            text = f"{value} is not an efficiency within 1 to 1000000 millionths"
            yield fault(FaultCode.BAD_VALUE, f"{at}.{name}", text)
    if s.self_discharge_ppm_per_h >= PPM:
        text = f"{s.self_discharge_ppm_per_h} loses everything within an hour; it is less than 1000000 millionths"
        yield fault(FaultCode.BAD_VALUE, f"{at}.self_discharge_ppm_per_h", text)
    if len(s.baseline_power_w) > MAX_SESSION_SLOTS:
        yield from _too_long(f"{at}.baseline_power_w", s.baseline_power_w)


def _inverter(i: ev.Inverter) -> Iterator[Fault]:
    at = f"{_AT}.inverter"
    circle, tan = i.max_apparent_power_va, i.max_tan_phi_ppm
    if circle is None and tan is None:
        text = "limits nothing; give a circle (max_apparent_power_va), a cone (max_tan_phi_ppm) or both"
        yield fault(FaultCode.MISSING_FIELD, f"{at}.max_apparent_power_va", text)
    active, reactive = i.baseline_power_w, i.baseline_reactive_power_var
    for name, values in (("baseline_power_w", active), ("baseline_reactive_power_var", reactive)):
        if len(values) > MAX_SESSION_SLOTS:
            yield from _too_long(f"{at}.{name}", values)
            return
    if active and reactive and len(active) != len(reactive):
        text = f"has {len(reactive)} slots, baseline_power_w has {len(active)}"
        yield fault(FaultCode.BAD_SERIES, f"{at}.baseline_reactive_power_var", text)
        return
    for slot in range(max(len(active), len(reactive))):
        p, q = active[slot] if active else 0, reactive[slot] if reactive else 0
        if circle is not None and math.hypot(p, q) > circle + 1:
            text = f"{p} W and {q} var are outside the circle of {circle} VA"
            yield fault(FaultCode.BAD_QUANTITY, f"{at}.baseline_power_w[{slot}]", text)
        elif tan is not None and abs(q) > abs(p) * tan / PPM + 1:
            text = f"{q} var at {p} W are outside the tan phi cone"
            yield fault(FaultCode.BAD_QUANTITY, f"{at}.baseline_reactive_power_var[{slot}]", text)


def _too_long(path: str, values: Sequence[int]) -> Iterator[Fault]:
    text = f"has {len(values)} slots; a session has at most {MAX_SESSION_SLOTS}"
    yield fault(FaultCode.BAD_SERIES, path, text)


def _reservation(o: ev.FlexOffer, t: ev.OfferTerms) -> Iterator[Fault]:
    prices, at = t.reservation_price_milli_per_mwh, f"{_AT}.reservation_price_milli_per_mwh"
    if not prices:
        return
    slots = o.slots if t.reactive is None else t.reactive.slots
    if t.start_choice is None:
        yield from series(at, len(prices), len(slots))
    if o.all_or_nothing:
        text = "a block is called whole or not at all: ask for what holding it costs in its price"
        yield fault(FaultCode.BAD_VALUE, at, text)
    for slot, price in enumerate(prices[:MAX_SLOTS]):
        if price < 0:
            text = f"{price} is below 0; who pays for being held ready need not offer it"
            yield fault(FaultCode.BAD_PRICE, f"{at}[{slot}]", text)


def curve_faults(r: ev.FlexRequest) -> Iterator[Fault]:
    """Yield what is wrong with the demand curve of a request that has one."""
    yield from series("$.request.curve", len(r.curve), len(r.power_w))
    if r.min_power_w:
        text = "stands beside a curve, which has a minimum per slot; say it there"
        yield fault(FaultCode.BAD_VALUE, "$.request.min_power_w", text)
    for n, slot in enumerate(r.curve[:MAX_SLOTS]):
        at = f"$.request.curve[{n}]"
        quantities = tuple(s.power_w for s in slot.steps)
        prices = tuple(s.price_milli_per_mwh for s in slot.steps)
        pile = _Pile(at, quantities, prices, slot.min_power_w, "power_w", "price_milli_per_mwh", "min_power_w")
        yield from _pile(pile, rising=False)
        if n < len(r.power_w) and sum(quantities) != r.power_w[n]:
            text = f"adds up to {sum(quantities)} W, power_w says {r.power_w[n]} W"
            yield fault(FaultCode.BAD_QUANTITY, f"{at}.steps", text)
        if max(prices, default=r.max_price_milli_per_mwh) > r.max_price_milli_per_mwh:
            text = f"{max(prices)} is more than max_price_milli_per_mwh, {r.max_price_milli_per_mwh}"
            yield fault(FaultCode.BAD_PRICE, f"{at}.steps", text)


def reactive_request_faults(r: ev.FlexRequest) -> Iterator[Fault]:
    """Yield what is wrong with a request for reactive power."""
    yield from _left_out(
        "$.request",
        r,
        "power_w min_power_w max_price_milli_per_mwh curve",
        "is of active power; a request for reactive power says it in reactive_slots; leave this empty or 0",
    )
    yield from series("$.request.reactive_slots", len(r.reactive_slots))
    for pile in _reactive_piles("$.request.reactive_slots", r.reactive_slots):
        yield from _pile(pile, rising=False)
    if not any(slot.steps for slot in r.reactive_slots):
        text = "asks for 0 var in every slot; withdraw the request instead"
        yield fault(FaultCode.BAD_QUANTITY, "$.request.reactive_slots", text)


def _reactive_piles(path: str, slots: tuple[ev.ReactiveSlot, ...]) -> Iterator[_Pile]:
    for n, slot in enumerate(slots[:MAX_SLOTS]):
        quantities = tuple(s.reactive_power_var for s in slot.steps)
        prices = tuple(s.price_milli_per_mvarh for s in slot.steps)
        names: Any = ("reactive_power_var", "price_milli_per_mvarh", "min_reactive_power_var")
        yield _Pile(f"{path}[{n}]", quantities, prices, slot.min_reactive_power_var, *names)


def _pile(pile: _Pile, *, rising: bool) -> Iterator[Fault]:
    if len(pile.quantities) > MAX_STEPS:
        text = f"{len(pile.quantities)} steps; at most {MAX_STEPS}"
        yield fault(FaultCode.BAD_SERIES, f"{pile.path}.steps", text)
        return
    last = None
    for n, (quantity, price) in enumerate(zip(pile.quantities, pile.prices, strict=True)):
        at = f"{pile.path}.steps[{n}]"
        if quantity == 0:
            text = "a step is of more than 0; leave the step out instead"
            yield fault(FaultCode.BAD_QUANTITY, f"{at}.{pile.quantity}", text)
        if last is not None and (price <= last if rising else price >= last):
            way = "rise" if rising else "fall"
            text = f"prices {way} from step to step; sort the steps and join equal prices"
            yield fault(FaultCode.BAD_PRICE, f"{at}.{pile.price}", text)
        if not rising and price < 0:
            text = f"{price} is below 0; who wants to be paid for it offers it"
            yield fault(FaultCode.BAD_PRICE, f"{at}.{pile.price}", text)
        last = price
    total = sum(q for q in pile.quantities if q > 0)
    if pile.least > total:
        text = f"{pile.least} is more than the {total} of the slot"
        yield fault(FaultCode.BAD_QUANTITY, f"{pile.path}.{pile.minimum}", text)
