"""What a case must satisfy before it is cleared; every fault is named with its JSON path, never silently mended."""

import math
from collections.abc import Iterator
from dataclasses import replace

from clearing.case import Case, Location, Request, Unit, UnitKind
from clearing.check_network import check_network
from clearing.check_offers import offer_faults
from clearing.check_parts import MAX_STEPS, duplicates, fault, length, place, powers, price
from clearing.check_scenarios import scenario_faults
from clearing.check_values import unfit_values
from clearing.phases import capacity_faults
from clearing.reach import reach_faults
from flexbus.errors import Fault, FaultCode
from flexbus.events.clearing import LimitKind
from flexbus.quantities import MAX_POWER_W, MAX_PRICE_MILLI_PER_MWH, PPM
from flexbus.validation.units import MAX_SESSION_SLOTS

__all__ = ["check_case"]

RESOLUTIONS_S = (300, 900, 1800, 3600)
# The years that a calendar knows.
FIRST_MS, LAST_MS = 0, 253_402_300_799_000


def check_case(case: Case, *, network_is_checked: bool = False, book_is_checked: bool = False) -> tuple[Fault, ...]:
    """Return every fault of a case; empty = it can be cleared.

    Args:
        case: the case.
        network_is_checked: whether `check_network` found no fault in its network already.
        book_is_checked: whether its offers, requests and units were found good in another case of that network.
    """
    bare = case
    if book_is_checked:
        # The ids of buses that the network has are fit, and series have checks of their own.
        buses = {b.bus_id for b in case.network.buses}
        strange = tuple(case.baseline) if any(b.bus_id not in buses for b in case.baseline) else ()
        bare = replace(case, offers=(), requests=(), units=(), scenarios=(), baseline=strange)
    unfit = tuple(unfit_values("$", bare))
    if unfit:  # the checks that follow reckon with the numbers
        return unfit
    faults = (
        *_frame(case),
        *(() if network_is_checked else check_network(case.network)),
        *_series(case),
        *_limit_prices(case),
        *(() if book_is_checked else _book(case)),
    )
    # Out of reach is only what is good in form.
    return faults or (() if book_is_checked else tuple(reach_faults(case)))


def _book(case: Case) -> Iterator[Fault]:
    yield from offer_faults(case)
    yield from _requests(case)
    yield from _units(case)
    yield from capacity_faults(case)
    yield from scenario_faults(case)


def _frame(case: Case) -> Iterator[Fault]:
    if case.resolution_s not in RESOLUTIONS_S:
        yield fault(FaultCode.BAD_PERIOD, "$.resolution_s", f"{case.resolution_s} s is none of 300, 900, 1800, 3600")
    if not 1 <= case.slots <= MAX_SESSION_SLOTS:
        yield fault(FaultCode.BAD_PERIOD, "$.slots", f"{case.slots} slots; a horizon has 1 to {MAX_SESSION_SLOTS}")
    if not FIRST_MS <= case.start_ms <= LAST_MS - case.slots * case.resolution_s * 1000:
        yield fault(FaultCode.BAD_PERIOD, "$.start_ms", f"{case.start_ms} ms is no day of the years 1970 to 9999")
    settings = case.settings
    for name in (
        "voltage_price_milli_per_puh",
        "loading_price_milli_per_mwh",
        "voltage_margin_ppm",
        "loading_margin_ppm",
    ):
        if not 0 <= getattr(settings, name) <= MAX_PRICE_MILLI_PER_MWH * 1000:
            yield fault(FaultCode.BAD_VALUE, f"$.settings.{name}", "must not be negative or absurd")
    if not 1 <= settings.quantity_step_w <= 10_000_000:
        yield fault(FaultCode.BAD_QUANTITY, "$.settings.quantity_step_w", "must be between 1 W and 10 MW")
    if settings.loading_margin_ppm >= PPM:
        yield fault(FaultCode.BAD_VALUE, "$.settings.loading_margin_ppm", "leaves no capacity at all")
    cap = settings.price_cap_milli_per_mwh
    if cap is not None and not 0 <= cap <= MAX_PRICE_MILLI_PER_MWH:
        yield fault(FaultCode.BAD_PRICE, "$.settings.price_cap_milli_per_mwh", "is not within 0..1 million EUR per MWh")
    if not 1 <= settings.max_repair_steps <= 1000:
        yield fault(FaultCode.BAD_VALUE, "$.settings.max_repair_steps", "must be between 1 and 1000")


def _limit_prices(case: Case) -> Iterator[Fault]:
    if not case.limit_prices:
        return
    net = case.network
    elements = {
        LimitKind.VOLTAGE_MAX: {b.bus_id for b in net.buses},
        LimitKind.CURRENT_FROM: {b.branch_id for b in net.branches},
        LimitKind.IMPORT: {p.infeed_id for p in net.infeed_points},
    }
    elements[LimitKind.VOLTAGE_MIN] = elements[LimitKind.VOLTAGE_MAX]
    for kind in (LimitKind.CURRENT_TO, LimitKind.APPARENT_POWER_FROM, LimitKind.APPARENT_POWER_TO):
        elements[kind] = elements[LimitKind.CURRENT_FROM]
    elements[LimitKind.EXPORT] = elements[LimitKind.IMPORT]
    seen = set()
    for k, limit in enumerate(case.limit_prices):
        here = f"$.limit_prices[{k}]"
        known = elements.get(limit.kind)
        if known is None:
            yield fault(FaultCode.BAD_VALUE, f"{here}.kind", f"{limit.kind.value} is no limit of the grid")
        elif limit.element_id is not None and limit.element_id not in known:
            yield fault(FaultCode.UNKNOWN_ELEMENT, f"{here}.element_id", f"the grid has no {limit.element_id!r}")
        if (limit.kind, limit.element_id) in seen:
            yield fault(FaultCode.DUPLICATE_ID, here, "this limit has a price already")
        seen.add((limit.kind, limit.element_id))
        if not 0 <= limit.price_milli <= MAX_PRICE_MILLI_PER_MWH * 1000:
            yield fault(FaultCode.BAD_PRICE, f"{here}.price_milli", "must not be negative or absurd")


def _series(case: Case) -> Iterator[Fault]:
    buses = {b.bus_id for b in case.network.buses}
    yield from duplicates((b.bus_id for b in case.baseline), "$.baseline", "bus_id")
    for k, entry in enumerate(case.baseline):
        here = f"$.baseline[{k}]"
        if entry.bus_id not in buses:
            yield fault(FaultCode.UNKNOWN_ELEMENT, f"{here}.bus_id", f"no bus has the id {entry.bus_id!r}")
        for name in ("power_w", "reactive_power_var"):
            values = getattr(entry, name)
            if len(values) != case.slots:
                yield from length(values, case, f"{here}.{name}")
            if values and not -MAX_POWER_W <= min(values) <= max(values) <= MAX_POWER_W:
                yield from powers(values, f"{here}.{name}")
    points = {p.infeed_id for p in case.network.infeed_points}
    yield from duplicates((p.infeed_id for p in case.infeed_prices), "$.infeed_prices", "infeed_id")
    for k, infeed in enumerate(case.infeed_prices):
        here = f"$.infeed_prices[{k}]"
        if infeed.infeed_id not in points:
            yield fault(FaultCode.UNKNOWN_ELEMENT, f"{here}.infeed_id", f"no infeed point {infeed.infeed_id!r}")
        yield from length(infeed.price_milli_per_mwh, case, f"{here}.price_milli_per_mwh")
        for t, value in enumerate(infeed.price_milli_per_mwh):
            yield from price(value, f"{here}.price_milli_per_mwh[{t}]")
    yield from duplicates((a.award_id for a in case.fixed_awards), "$.fixed_awards", "award_id")
    for k, award in enumerate(case.fixed_awards):
        here = f"$.fixed_awards[{k}]"
        yield from place(award.bus_id, [(s.bus_id, s.share_ppm) for s in award.shares], buses, here)
        yield from length(award.power, case, f"{here}.power")
        yield from powers(award.power, f"{here}.power")
        for t, power in enumerate(award.power):
            if power < 0:
                yield fault(
                    FaultCode.BAD_QUANTITY, f"{here}.power[{t}]", "must not be negative: the direction has the sign"
                )


def _requests(case: Case) -> Iterator[Fault]:
    net = case.network
    places = {
        Location.BUS: {b.bus_id for b in net.buses},
        Location.ZONE: {b.zone_id for b in net.buses if b.zone_id},
        Location.BRANCH: {b.branch_id for b in net.branches if b.closed and (b.r_ohm or b.x_ohm)},
        Location.INFEED_POINT: {p.infeed_id for p in net.infeed_points},
    }
    yield from duplicates((r.request_id for r in case.requests), "$.requests", "request_id")
    for k, request in enumerate(case.requests):
        here = f"$.requests[{k}]"
        known = places.get(request.location_kind)
        if request.location_kind is Location.AREA and request.location_id:
            message = f"{request.location_id!r} names a part of the area; leave it empty to mean all of it"
            yield fault(FaultCode.BAD_VALUE, f"{here}.location_id", message)
        if known is not None and request.location_id not in known:
            hint = ", closed and with an impedance" if request.location_kind is Location.BRANCH else ""
            word = request.location_kind.value.lower().replace("_", " ")
            yield fault(
                FaultCode.UNKNOWN_ELEMENT, f"{here}.location_id", f"no {word} has the id {request.location_id!r}{hint}"
            )
        yield from length(request.slots, case, f"{here}.slots")
        yield from _curves(request, here)


def _curves(request: Request, here: str) -> Iterator[Fault]:
    for t, entry in enumerate(request.slots):
        at = f"{here}.slots[{t}]"
        last = None
        if len(entry.steps) > MAX_STEPS:
            yield fault(FaultCode.BAD_SERIES, f"{at}.steps", f"{len(entry.steps)} steps; at most {MAX_STEPS}")
        for n, step in enumerate(entry.steps):
            if not 0 < step.quantity <= MAX_POWER_W:
                yield fault(
                    FaultCode.BAD_QUANTITY, f"{at}.steps[{n}].quantity", f"{step.quantity} is not within 1 W..100 GW"
                )
            if not 0 <= step.price_milli_per_mwh <= MAX_PRICE_MILLI_PER_MWH:
                yield fault(
                    FaultCode.BAD_PRICE,
                    f"{at}.steps[{n}].price_milli_per_mwh",
                    f"{step.price_milli_per_mwh} is not within 0..1 million EUR per MWh",
                )
            if last is not None and step.price_milli_per_mwh > last:
                yield fault(
                    FaultCode.BAD_PRICE, f"{at}.steps[{n}].price_milli_per_mwh", "is above the step before; prices fall"
                )
            last = step.price_milli_per_mwh
        total = sum(s.quantity for s in entry.steps)
        if not 0 <= entry.min_quantity <= total:
            yield fault(
                FaultCode.BAD_QUANTITY, f"{at}.min_quantity", f"{entry.min_quantity} is not within 0..{total} asked for"
            )


def _units(case: Case) -> Iterator[Fault]:
    yield from duplicates((u.unit_id for u in case.units), "$.units", "unit_id")
    for k, unit in enumerate(case.units):
        here = f"$.units[{k}]"
        for name in ("baseline_power_w", "baseline_reactive_power_var"):
            if getattr(unit, name):
                yield from length(getattr(unit, name), case, f"{here}.{name}")
                yield from powers(getattr(unit, name), f"{here}.{name}")
        if unit.kind is UnitKind.INVERTER:
            yield from _inverter(unit, case, here)
            continue
        if not 0 <= unit.min_energy_wh <= unit.max_energy_wh:
            yield fault(FaultCode.BAD_QUANTITY, f"{here}.max_energy_wh", "is below the minimum, or it is negative")
        for name in ("charge_efficiency_ppm", "discharge_efficiency_ppm"):
            if not 0 < getattr(unit, name) <= PPM:
                yield fault(FaultCode.BAD_VALUE, f"{here}.{name}", "is not within 1..1000000")
        if not 0 <= unit.self_discharge_ppm_per_h < PPM:
            yield fault(FaultCode.BAD_VALUE, f"{here}.self_discharge_ppm_per_h", "is not within 0..999999")


def _inverter(unit: Unit, case: Case, here: str) -> Iterator[Fault]:
    circle, tan = unit.max_apparent_power_va, unit.max_tan_phi_ppm
    if circle is None and tan is None:
        yield fault(FaultCode.MISSING_FIELD, f"{here}.max_apparent_power_va", "give a circle, a cone, or both")
    for name, value in (("max_apparent_power_va", circle), ("max_tan_phi_ppm", tan)):
        if value is not None and not 0 <= value <= MAX_POWER_W:
            yield fault(FaultCode.BAD_VALUE, f"{here}.{name}", "must not be negative or absurd")
            return
    series = (unit.baseline_power_w, unit.baseline_reactive_power_var)
    if any(values and len(values) != case.slots for values in series):
        return
    for t in range(case.slots):
        p, q = (values[t] if values else 0 for values in series)
        if circle is not None and math.hypot(p, q) > circle + 1:
            yield fault(
                FaultCode.BAD_QUANTITY, f"{here}.baseline_power_w[{t}]", f"is outside its circle of {circle} VA"
            )
        if tan is not None and abs(q) > abs(p) * tan / PPM + 1:
            path = f"{here}.baseline_reactive_power_var[{t}]"
            yield fault(FaultCode.BAD_QUANTITY, path, f"{q} var at {p} W are outside its tan phi cone")
