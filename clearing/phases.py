"""Phases other than a plain auction, told as one: a case with several states per slot.

Capacity auction. A reserve that is awarded may be called or not. It is deliverable if the grid holds with everything
that was awarded upward called, and with everything downward called. So slot t becomes state 2t, in which every upward
offer and request takes part, and state 2t + 1 with the downward ones; each state has its own AC power flow, limits
and prices. As an offer delivers nothing in the states of the other direction, its ramps bound what is awarded: all of
it may be called in one slot and nothing in the next. A call of the reserve is not what is bought, so energy from
upstream costs nothing in these states.

Two-stage stochastic auction. The first stage reserves power of offers, once for all scenarios; the second calls of
it what each scenario needs. So the slots of the first scenario are followed by those of the second, and so on: every
rule of an offer holds within each scenario, and the reservation alone ties the scenarios together. A case as it is
cleared is told by its `scenarios` (which then have no injections left) beside `Phase.DAY_AHEAD`.

Source: FLEXGRID D2.1 3.1 (phases FRM and SDAFM).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from clearing.case import Case, InfeedPrice, Offer, OfferSlot, Phase, Request, RequestSlot, Unit, UnitKind
from clearing.result import End
from flexbus.errors import Fault, FaultCode
from flexbus.events.grid import BusInjection
from flexbus.quantities import PPM, Direction
from flexbus.time import iso

__all__ = ["alone", "capacity_faults", "ends", "expected", "probabilities_ppm", "state_labels", "unfold", "windows"]

_NOTHING = OfferSlot()
_NOT_ASKED = RequestSlot()
ENDS = 2
T = TypeVar("T")


def unfold(case: Case) -> Case:
    """Return the case as it is cleared: with every state of CAPACITY and STOCHASTIC, itself otherwise."""
    if case.phase is Phase.STOCHASTIC:
        return _one_after_another(case)
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


def windows(case: Case) -> tuple[range, ...]:
    """Return the slots of each scenario of a case as it is cleared; without scenarios all slots as one."""
    count = max(len(case.scenarios), 1)
    length = case.slots // count
    return tuple(range(k * length, (k + 1) * length) for k in range(count))


def probabilities_ppm(case: Case) -> tuple[int, ...]:
    """Return the probability of each scenario, millionths; certainty without scenarios."""
    return tuple(s.probability_ppm for s in case.scenarios) or (PPM,)


def expected(case: Case, amounts: Sequence[int]) -> int:
    """Return the expected value of an amount per scenario, rounded half up."""
    total = sum(p * a for p, a in zip(probabilities_ppm(case), amounts, strict=True))
    return (2 * total + PPM) // (2 * PPM)


def alone(case: Case, scenario: int) -> Case:
    """Return one scenario of a case as it is cleared as a plain case; a case without scenarios is one.

    Args:
        case: the case, unfolded.
        scenario: number of the scenario.
    """
    if not case.scenarios:
        return case
    window = windows(case)[scenario]

    def cut(values: Sequence[T]) -> tuple[T, ...]:
        return tuple(values[window.start : window.stop])

    return replace(
        case,
        slots=len(window),
        baseline=tuple(
            replace(b, power_w=cut(b.power_w), reactive_power_var=cut(b.reactive_power_var)) for b in case.baseline
        ),
        infeed_prices=tuple(replace(p, price_milli_per_mwh=cut(p.price_milli_per_mwh)) for p in case.infeed_prices),
        offers=tuple(replace(o, slots=cut(o.slots)) for o in case.offers),
        requests=tuple(replace(r, slots=cut(r.slots)) for r in case.requests),
        units=tuple(
            replace(
                u,
                baseline_power_w=cut(u.baseline_power_w),
                baseline_reactive_power_var=cut(u.baseline_reactive_power_var),
            )
            for u in case.units
        ),
        fixed_awards=tuple(replace(a, power=cut(a.power)) for a in case.fixed_awards),
        scenarios=(),
    )


def ends(case: Case) -> tuple[End, ...]:
    """Return what the entries of a result's series stand for: slot and end; empty = one entry per slot."""
    if case.phase is not Phase.CAPACITY:
        return ()
    return tuple(End(slot=t, direction=d) for t in range(case.slots) for d in (Direction.UP, Direction.DOWN))


def state_labels(case: Case) -> list[str]:
    """Return a short name for every entry of a result's series."""
    starts = [iso(case.start_ms + t * case.resolution_s * 1000)[11:16] for t in range(case.slots)]
    if case.phase is Phase.STOCHASTIC:
        return [f"{s.scenario_id} {start}" for s in case.scenarios for start in starts]
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
    entries = offer.slots
    if entries and not up and offer.max_fall is not None:
        # After the last state of a day nothing is called: the fall from it counts as well.
        last = entries[-1]
        most = offer.max_fall if last.max_quantity is None else min(last.max_quantity, offer.max_fall)
        entries = (*entries[:-1], replace(last, max_quantity=most))
    slots = tuple(s for entry in entries for s in ((entry, _NOTHING) if up else (_NOTHING, entry)))
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


def _one_after_another(case: Case) -> Case:
    times = len(case.scenarios)
    return replace(
        case,
        slots=times * case.slots,
        baseline=_injections(case),
        infeed_prices=tuple(replace(p, price_milli_per_mwh=p.price_milli_per_mwh * times) for p in case.infeed_prices),
        offers=tuple(replace(o, slots=o.slots * times) for o in case.offers),
        requests=tuple(replace(r, slots=r.slots * times) for r in case.requests),
        units=tuple(
            replace(
                u,
                baseline_power_w=u.baseline_power_w * times,
                baseline_reactive_power_var=u.baseline_reactive_power_var * times,
            )
            for u in case.units
        ),
        fixed_awards=tuple(replace(a, power=a.power * times) for a in case.fixed_awards),
        scenarios=tuple(replace(s, injections=()) for s in case.scenarios),
        phase=Phase.DAY_AHEAD,
    )


def _injections(case: Case) -> tuple[BusInjection, ...]:
    """Return the injections of all scenarios one after another; where a scenario is silent the baseline holds."""
    base = {b.bus_id: b for b in case.baseline}
    own = [{b.bus_id: b for b in s.injections} for s in case.scenarios]
    zero = (0,) * case.slots
    made = []
    for bus_id in sorted(base.keys() | {name for entries in own for name in entries}):
        usual = base.get(bus_id, BusInjection(bus_id=bus_id, power_w=zero, reactive_power_var=zero))
        each = [entries.get(bus_id, usual) for entries in own]
        made.append(
            BusInjection(
                bus_id=bus_id,
                power_w=tuple(v for b in each for v in b.power_w),
                reactive_power_var=tuple(v for b in each for v in b.reactive_power_var),
            )
        )
    return tuple(made)
