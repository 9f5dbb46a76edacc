"""Phases other than a plain auction, told as one: a capacity auction is a case with two states per slot.

A reserve that is awarded may be called or not. It is deliverable if the grid holds with everything that was awarded
upward called, and with everything downward called. So slot t becomes state 2t, in which every upward offer and
request takes part, and state 2t + 1 with the downward ones; each state has its own AC power flow, limits and prices.
A call of the reserve is not what is bought, so energy from upstream costs nothing in these states.
"""

from collections.abc import Iterator
from dataclasses import replace

from clearing.case import Case, InfeedPrice, Offer, OfferSlot, Phase, Request, RequestSlot, Unit, UnitKind
from clearing.result import End
from flexbus.errors import Fault, FaultCode
from flexbus.events.grid import BusInjection
from flexbus.quantities import Direction
from flexbus.time import iso

__all__ = ["capacity_faults", "ends", "state_labels", "unfold"]

_NOTHING = OfferSlot()
_NOT_ASKED = RequestSlot()
ENDS = 2


def unfold(case: Case) -> Case:
    """Return the case as it is cleared: with both ends of every slot for CAPACITY, itself otherwise."""
    if case.phase is not Phase.CAPACITY:
        return case
    return replace(
        case,
        slots=ENDS * case.slots,
        baseline=tuple(_both(b) for b in case.baseline),
        infeed_prices=tuple(
            InfeedPrice(infeed_id=p.infeed_id, price_milli_per_mwh=(0,) * (ENDS * case.slots))
            for p in case.network.infeed_points
        ),
        offers=tuple(_offer(o) for o in case.offers),
        requests=tuple(_request(r) for r in case.requests),
        units=tuple(_unit(u) for u in case.units),
        fixed_awards=tuple(replace(a, power=_twice(a.power)) for a in case.fixed_awards),
        phase=Phase.DAY_AHEAD,
    )


def ends(case: Case) -> tuple[End, ...]:
    """Return what the entries of a result's series stand for: slot and end; empty = one entry per slot."""
    if case.phase is not Phase.CAPACITY:
        return ()
    return tuple(End(slot=t, direction=d) for t in range(case.slots) for d in (Direction.UP, Direction.DOWN))


def state_labels(case: Case) -> list[str]:
    """Return a short name for every entry of a result's series."""
    starts = [iso(case.start_ms + t * case.resolution_s * 1000)[11:16] for t in range(case.slots)]
    if case.phase is not Phase.CAPACITY:
        return starts
    return [f"{start} {d.value.lower()}" for start in starts for d in (Direction.UP, Direction.DOWN)]


def capacity_faults(case: Case) -> Iterator[Fault]:
    """Yield what a capacity auction cannot hold: how a call in one slot binds another one is not known before it."""
    if case.phase is not Phase.CAPACITY:
        return
    for k, offer in enumerate(case.offers):
        tied = {
            "max_run_slots": offer.max_run_slots is not None,
            "min_rest_slots": offer.min_rest_slots > 0,
            "max_rise": offer.max_rise is not None,
            "max_fall": offer.max_fall is not None,
            "payback": offer.payback is not None,
            "start_choice": offer.start_choice is not None,
            "polygons": bool(offer.polygons),
        }
        for name in (name for name, is_set in tied.items() if is_set):
            message = "binds a slot to what is called in another one; a capacity auction cannot keep it"
            yield Fault(code=FaultCode.BAD_VALUE, path=f"$.offers[{k}].{name}", message=message)
    for k, unit in enumerate(case.units):
        if unit.kind is UnitKind.STORAGE:
            message = "what is stored depends on what is called; offer a storage with max_energy_wh instead"
            yield Fault(code=FaultCode.BAD_VALUE, path=f"$.units[{k}].kind", message=message)


def _twice(values: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(v for v in values for _ in range(ENDS))


def _both(entry: BusInjection) -> BusInjection:
    return replace(entry, power_w=_twice(entry.power_w), reactive_power_var=_twice(entry.reactive_power_var))


def _offer(offer: Offer) -> Offer:
    up = offer.direction is Direction.UP
    slots = tuple(s for entry in offer.slots for s in ((entry, _NOTHING) if up else (_NOTHING, entry)))
    return replace(offer, slots=slots)


def _request(request: Request) -> Request:
    up = request.direction is Direction.UP
    slots = tuple(s for entry in request.slots for s in ((entry, _NOT_ASKED) if up else (_NOT_ASKED, entry)))
    return replace(request, slots=slots)


def _unit(unit: Unit) -> Unit:
    return replace(
        unit,
        baseline_power_w=_twice(unit.baseline_power_w),
        baseline_reactive_power_var=_twice(unit.baseline_reactive_power_var),
    )
