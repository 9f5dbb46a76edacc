"""What offers must satisfy before they are cleared."""

from collections.abc import Iterator

from clearing.case import Case, Offer, OfferSlot, Quantity
from clearing.check_parts import MAX_STEPS, duplicates, fault, length, place, price
from clearing.stacks import stacks_of
from flexbus.errors import Fault, FaultCode
from flexbus.quantities import MAX_POWER_W, PPM

__all__ = ["offer_faults"]

MAX_PAYBACK_SLOTS = 100_000


def offer_faults(case: Case) -> Iterator[Fault]:
    """Yield every fault of the offers of a case."""
    buses = {b.bus_id for b in case.network.buses}
    ids = {o.offer_id: o for o in case.offers}
    units = {u.unit_id for u in case.units}
    yield from duplicates((o.offer_id for o in case.offers), "$.offers", "offer_id")
    # One that holds for many slots is one object, and looked at once.
    bad = {id(e) for e in stacks_of(case.offers).distinct if any(_stack(e, ""))}
    for k, offer in enumerate(case.offers):
        here = f"$.offers[{k}]"
        yield from place(offer.bus_id, [(s.bus_id, s.share_ppm) for s in offer.shares], buses, here)
        if offer.start_choice is None:
            yield from length(offer.slots, case, f"{here}.slots")
            if bad and not bad.isdisjoint(map(id, offer.slots)):
                for t, entry in enumerate(offer.slots):
                    yield from _stack(entry, f"{here}.slots[{t}]")
        else:
            yield from _start_choice(case, offer, here)
        yield from _energy(offer, here)
        yield from _parents(offer, ids, here)
        if offer.unit_id is not None and offer.unit_id not in units:
            yield fault(FaultCode.UNKNOWN_ELEMENT, f"{here}.unit_id", f"no unit has the id {offer.unit_id!r}")
        if offer.tan_phi_ppm and offer.quantity is Quantity.REACTIVE:
            yield fault(FaultCode.BAD_VALUE, f"{here}.tan_phi_ppm", "belongs to active offers only")
        if abs(offer.tan_phi_ppm) > 10 * PPM:
            yield fault(FaultCode.BAD_VALUE, f"{here}.tan_phi_ppm", "is beyond 10")
        for name in ("max_rise", "max_fall", "max_run_slots"):
            value = getattr(offer, name)
            if value is not None and value < (1 if name == "max_run_slots" else 0):
                yield fault(FaultCode.BAD_VALUE, f"{here}.{name}", f"{value} allows nothing")
        if offer.min_rest_slots < 0:
            yield fault(FaultCode.BAD_VALUE, f"{here}.min_rest_slots", "must not be negative")
        if offer.payback is not None:
            back = offer.payback
            slots = 0 <= back.delay_slots <= MAX_PAYBACK_SLOTS and 1 <= back.window_slots <= MAX_PAYBACK_SLOTS
            if not 0 <= back.factor_ppm <= 10 * PPM or not slots:
                yield fault(
                    FaultCode.BAD_VALUE,
                    f"{here}.payback",
                    "needs a factor within 0..10, a delay of 0..100000 and a window of 1..100000 slots",
                )
        for n, piece in enumerate(offer.polygons):
            if not 0 <= piece.slot < case.slots or not piece.vertices:
                yield fault(FaultCode.BAD_VALUE, f"{here}.polygons[{n}]", "names no slot of the case or no corner")


def _stack(entry: OfferSlot, at: str) -> Iterator[Fault]:
    if len(entry.steps) > MAX_STEPS:
        yield fault(FaultCode.BAD_SERIES, f"{at}.steps", f"{len(entry.steps)} steps; at most {MAX_STEPS}")
    last = None
    for n, step in enumerate(entry.steps):
        if not 0 < step.quantity <= MAX_POWER_W:
            yield fault(
                FaultCode.BAD_QUANTITY, f"{at}.steps[{n}].quantity", f"{step.quantity} is not within 1 W..100 GW"
            )
        yield from price(step.price_milli_per_mwh, f"{at}.steps[{n}].price_milli_per_mwh")
        if last is not None and step.price_milli_per_mwh < last:
            yield fault(
                FaultCode.BAD_PRICE, f"{at}.steps[{n}].price_milli_per_mwh", "is below the step before; prices rise"
            )
        last = step.price_milli_per_mwh
    total = sum(s.quantity for s in entry.steps)
    if entry.min_quantity < 0 or entry.min_quantity > total:
        yield fault(
            FaultCode.BAD_QUANTITY, f"{at}.min_quantity", f"{entry.min_quantity} is not within 0..{total} on offer"
        )
    if entry.max_quantity is not None and not 0 <= entry.max_quantity < 2**63:
        yield fault(FaultCode.BAD_QUANTITY, f"{at}.max_quantity", "must not be negative, nor beyond 64 bits")


def _start_choice(case: Case, offer: Offer, here: str) -> Iterator[Fault]:
    choice = offer.start_choice
    assert choice is not None
    at = f"{here}.start_choice"
    if offer.slots:
        yield fault(FaultCode.BAD_VALUE, f"{here}.slots", "must be empty beside a start choice")
    if not choice.profile or any(not 0 <= q <= MAX_POWER_W for q in choice.profile) or not any(choice.profile):
        yield fault(FaultCode.BAD_QUANTITY, f"{at}.profile", "needs quantities of at least 0, one of them above")
    if not 0 <= choice.earliest_slot <= choice.latest_slot <= case.slots - max(len(choice.profile), 1):
        yield fault(
            FaultCode.BAD_PERIOD, f"{at}.latest_slot", "the window is empty or the profile ends past the horizon"
        )
    yield from price(choice.price_milli_per_mwh, f"{at}.price_milli_per_mwh")
    other = (
        offer.all_or_nothing
        or offer.min_energy_wh is not None
        or offer.max_energy_wh is not None
        or offer.max_run_slots is not None
        or offer.min_rest_slots
        or offer.max_rise is not None
        or offer.max_fall is not None
        or offer.polygons
        or offer.unit_id is not None
    )
    if other:
        yield fault(FaultCode.BAD_VALUE, at, "a rigid profile takes no budget, block, run, ramp, polygon or unit")


def _energy(offer: Offer, here: str) -> Iterator[Fault]:
    low, high = offer.min_energy_wh, offer.max_energy_wh
    for name, value in (("min_energy_wh", low), ("max_energy_wh", high)):
        if value is not None and value < 0:
            yield fault(FaultCode.BAD_QUANTITY, f"{here}.{name}", "must not be negative")
    if low is not None and high is not None and low > high:
        yield fault(FaultCode.BAD_QUANTITY, f"{here}.min_energy_wh", f"{low} Wh is above the maximum of {high} Wh")


def _parents(offer: Offer, ids: dict[str, Offer], here: str) -> Iterator[Fault]:
    if offer.parent_offer_id is None:
        return
    if offer.parent_offer_id not in ids:
        yield fault(
            FaultCode.UNKNOWN_ELEMENT, f"{here}.parent_offer_id", f"no offer has the id {offer.parent_offer_id!r}"
        )
        return
    seen, above = {offer.offer_id}, offer.parent_offer_id
    while above is not None and above in ids:
        if above in seen:
            yield fault(FaultCode.BAD_VALUE, f"{here}.parent_offer_id", "the parents form a circle")
            return
        seen.add(above)
        above = ids[above].parent_offer_id  # type: ignore[assignment]
