"""What a case must satisfy before it is cleared; every fault is named with its JSON path, never silently mended."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator

from clearing.case import Case, Location, Offer, OfferSlot, Quantity, Request, Unit, UnitKind
from clearing.check_scenarios import scenario_faults
from clearing.check_values import unfit_values
from clearing.phases import capacity_faults
from clearing.reach import reach_faults
from flexbus.errors import Fault, FaultCode
from flexbus.events.clearing import LimitKind
from flexbus.events.grid import NetworkModelPublished
from flexbus.quantities import MAX_POWER_W, MAX_PRICE_MILLI_PER_MWH, PPM
from flexbus.validation.units import MAX_SESSION_SLOTS

__all__ = ["check_case"]

RESOLUTIONS_S = (300, 900, 1800, 3600)
MAX_STEPS = 20
# Anything past these is a slip of unit or hostile: no distribution grid has such elements.
MAX_IMPEDANCE_OHM = 1e6
MAX_ADMITTANCE_S = 1e6
MAX_CURRENT_MA = 1_000_000_000
MAX_PAYBACK_SLOTS = 100_000
# The years that a calendar knows.
FIRST_MS, LAST_MS = 0, 253_402_300_799_000


def check_case(case: Case, *, network_is_checked: bool = False) -> tuple[Fault, ...]:
    """Return every fault of a case; empty = it can be cleared.

    Args:
        case: the case.
        network_is_checked: whether `check_network` found no fault in its network already.
    """
    unfit = tuple(unfit_values("$", case))
    if unfit:  # the checks that follow reckon with the numbers
        return unfit
    faults = (
        *_frame(case),
        *(() if network_is_checked else check_network(case.network)),
        *_series(case),
        *_limit_prices(case),
        *_offers(case),
        *_requests(case),
        *_units(case),
        *capacity_faults(case),
        *scenario_faults(case),
    )
    # Out of reach is only what is good in form.
    return faults or tuple(reach_faults(case))


def _fault(code: FaultCode, path: str, message: str) -> Fault:
    return Fault(code=code, path=path, message=message)


def _frame(case: Case) -> Iterator[Fault]:
    if case.resolution_s not in RESOLUTIONS_S:
        yield _fault(FaultCode.BAD_PERIOD, "$.resolution_s", f"{case.resolution_s} s is none of 300, 900, 1800, 3600")
    if not 1 <= case.slots <= MAX_SESSION_SLOTS:
        yield _fault(FaultCode.BAD_PERIOD, "$.slots", f"{case.slots} slots; a horizon has 1 to {MAX_SESSION_SLOTS}")
    if not FIRST_MS <= case.start_ms <= LAST_MS - case.slots * case.resolution_s * 1000:
        yield _fault(FaultCode.BAD_PERIOD, "$.start_ms", f"{case.start_ms} ms is no day of the years 1970 to 9999")
    settings = case.settings
    for name in (
        "voltage_price_milli_per_puh",
        "loading_price_milli_per_mwh",
        "voltage_margin_ppm",
        "loading_margin_ppm",
    ):
        if not 0 <= getattr(settings, name) <= MAX_PRICE_MILLI_PER_MWH * 1000:
            yield _fault(FaultCode.BAD_VALUE, f"$.settings.{name}", "must not be negative or absurd")
    if not 1 <= settings.quantity_step_w <= 10_000_000:
        yield _fault(FaultCode.BAD_QUANTITY, "$.settings.quantity_step_w", "must be between 1 W and 10 MW")
    if settings.loading_margin_ppm >= PPM:
        yield _fault(FaultCode.BAD_VALUE, "$.settings.loading_margin_ppm", "leaves no capacity at all")
    cap = settings.price_cap_milli_per_mwh
    if cap is not None and not 0 <= cap <= MAX_PRICE_MILLI_PER_MWH:
        yield _fault(
            FaultCode.BAD_PRICE, "$.settings.price_cap_milli_per_mwh", "is not within 0..1 million EUR per MWh"
        )
    if not 1 <= settings.max_repair_steps <= 1000:
        yield _fault(FaultCode.BAD_VALUE, "$.settings.max_repair_steps", "must be between 1 and 1000")


def _limit_prices(case: Case) -> Iterator[Fault]:
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
    for k, price in enumerate(case.limit_prices):
        here = f"$.limit_prices[{k}]"
        known = elements.get(price.kind)
        if known is None:
            yield _fault(FaultCode.BAD_VALUE, f"{here}.kind", f"{price.kind.value} is no limit of the grid")
        elif price.element_id is not None and price.element_id not in known:
            yield _fault(FaultCode.UNKNOWN_ELEMENT, f"{here}.element_id", f"the grid has no {price.element_id!r}")
        if (price.kind, price.element_id) in seen:
            yield _fault(FaultCode.DUPLICATE_ID, here, "this limit has a price already")
        seen.add((price.kind, price.element_id))
        if not 0 <= price.price_milli <= MAX_PRICE_MILLI_PER_MWH * 1000:
            yield _fault(FaultCode.BAD_PRICE, f"{here}.price_milli", "must not be negative or absurd")


def _duplicates(ids: Iterable[str], path: str, word: str) -> Iterator[Fault]:
    first: dict[str, int] = {}
    for k, name in enumerate(ids):
        if not name:
            yield _fault(FaultCode.BAD_VALUE, f"{path}[{k}].{word}", "is empty")
        elif name in first:
            yield _fault(FaultCode.DUPLICATE_ID, f"{path}[{k}].{word}", f"{name} is also that of {path}[{first[name]}]")
        first.setdefault(name, k)


def check_network(net: NetworkModelPublished) -> Iterator[Fault]:
    """Yield every fault of a network; paths are those in a case."""
    at = "$.network"
    unfit = tuple(unfit_values(at, net))
    if unfit:
        yield from unfit
        return
    yield from _duplicates((b.bus_id for b in net.buses), f"{at}.buses", "bus_id")
    yield from _duplicates((b.branch_id for b in net.branches), f"{at}.branches", "branch_id")
    yield from _duplicates((p.infeed_id for p in net.infeed_points), f"{at}.infeed_points", "infeed_id")
    nominal = {b.bus_id: b.nominal_voltage_v for b in net.buses}
    for k, bus in enumerate(net.buses):
        here = f"{at}.buses[{k}]"
        if not 0 < bus.nominal_voltage_v <= 1_000_000:
            yield _fault(FaultCode.BAD_VALUE, f"{here}.nominal_voltage_v", f"{bus.nominal_voltage_v} V is no grid")
        if not 0 <= bus.min_voltage_ppm < bus.max_voltage_ppm <= 2 * PPM:
            yield _fault(
                FaultCode.BAD_VALUE,
                f"{here}.max_voltage_ppm",
                f"the band {bus.min_voltage_ppm}..{bus.max_voltage_ppm} ppm is empty or not within 0..2 pu",
            )
        for name in ("shunt_g_s", "shunt_b_s"):
            yield from _number(getattr(bus, name), f"{here}.{name}", MAX_ADMITTANCE_S)
    for k, branch in enumerate(net.branches):
        here = f"{at}.branches[{k}]"
        ends = {}
        for name in ("from_bus_id", "to_bus_id"):
            ends[name] = nominal.get(getattr(branch, name))
            if ends[name] is None:
                yield _fault(
                    FaultCode.UNKNOWN_ELEMENT, f"{here}.{name}", f"no bus has the id {getattr(branch, name)!r}"
                )
        if branch.from_bus_id == branch.to_bus_id:
            yield _fault(FaultCode.BAD_VALUE, f"{here}.to_bus_id", "the branch ends where it starts")
        finite = True
        for name, most in (
            ("r_ohm", MAX_IMPEDANCE_OHM),
            ("x_ohm", MAX_IMPEDANCE_OHM),
            ("g_s", MAX_ADMITTANCE_S),
            ("b_s", MAX_ADMITTANCE_S),
        ):
            found = list(_number(getattr(branch, name), f"{here}.{name}", most))
            finite &= not found
            yield from found
        if finite and branch.r_ohm < 0:
            yield _fault(FaultCode.BAD_VALUE, f"{here}.r_ohm", f"{branch.r_ohm} ohm: resistance cannot be negative")
        if finite and 0 < math.hypot(branch.r_ohm, branch.x_ohm) < 1e-9:
            yield _fault(FaultCode.BAD_VALUE, f"{here}.x_ohm", "is below 1e-9 ohm; write 0 to join the buses")
        if not (math.isfinite(branch.ratio) and 0.2 <= branch.ratio <= 5):
            yield _fault(FaultCode.BAD_VALUE, f"{here}.ratio", f"{branch.ratio} is not within 0.2..5")
        if not (math.isfinite(branch.shift_deg) and abs(branch.shift_deg) <= 360):
            yield _fault(FaultCode.BAD_VALUE, f"{here}.shift_deg", f"{branch.shift_deg} is not within -360..360")
        if finite and branch.r_ohm == 0 and branch.x_ohm == 0 and branch.closed:
            unequal = ends["from_bus_id"] != ends["to_bus_id"]
            if branch.ratio != 1 or branch.shift_deg != 0 or unequal:
                yield _fault(
                    FaultCode.BAD_VALUE,
                    f"{here}.x_ohm",
                    "a zero-impedance branch needs ratio 1, shift 0 and one nominal voltage at both ends",
                )
        for name in ("max_current_ma", "max_from_current_ma", "max_apparent_power_va"):
            value = getattr(branch, name)
            most = MAX_POWER_W if name == "max_apparent_power_va" else MAX_CURRENT_MA
            if value is not None and not 0 < value <= most:
                message = f"{value} is not within 1..{most}; null is no limit"
                yield _fault(FaultCode.BAD_VALUE, f"{here}.{name}", message)
    if not net.infeed_points:
        yield _fault(FaultCode.MISSING_FIELD, f"{at}.infeed_points", "at least one infeed point is needed")
    for k, point in enumerate(net.infeed_points):
        here = f"{at}.infeed_points[{k}]"
        if point.bus_id not in nominal:
            yield _fault(FaultCode.UNKNOWN_ELEMENT, f"{here}.bus_id", f"no bus has the id {point.bus_id!r}")
        if not 500_000 <= point.voltage_ppm <= 1_500_000:
            yield _fault(FaultCode.BAD_VALUE, f"{here}.voltage_ppm", f"{point.voltage_ppm} is not within 0.5..1.5 pu")
        if not (math.isfinite(point.angle_deg) and abs(point.angle_deg) <= 360):
            yield _fault(FaultCode.BAD_VALUE, f"{here}.angle_deg", "is not within -360..360")
        for name in ("max_import_w", "max_export_w"):
            value = getattr(point, name)
            if value is not None and not 0 <= value <= MAX_POWER_W:
                message = f"{value} W is not within 0..100 GW; null is no limit"
                yield _fault(FaultCode.BAD_VALUE, f"{here}.{name}", message)
        if abs(point.import_price_milli_per_mwh) > MAX_PRICE_MILLI_PER_MWH:
            yield _fault(FaultCode.BAD_PRICE, f"{here}.import_price_milli_per_mwh", "is beyond 1 million EUR per MWh")
    at_bus = Counter(p.bus_id for p in net.infeed_points)
    for k, point in enumerate(net.infeed_points):
        if at_bus[point.bus_id] > 1:
            yield _fault(
                FaultCode.DUPLICATE_ID,
                f"{at}.infeed_points[{k}].bus_id",
                f"bus {point.bus_id} has several infeed points; join them into one",
            )


def _number(value: float, path: str, most: float) -> Iterator[Fault]:
    if not math.isfinite(value):
        yield _fault(FaultCode.BAD_VALUE, path, f"{value} is not a finite number")
    elif abs(value) > most:
        yield _fault(FaultCode.BAD_VALUE, path, f"{value:g} is beyond {most:g}")


def _length(values: tuple[object, ...], case: Case, path: str) -> Iterator[Fault]:
    if len(values) != case.slots:
        yield _fault(FaultCode.BAD_SERIES, path, f"has {len(values)} entries, the case has {case.slots} slots")


def _powers(values: tuple[int, ...], path: str) -> Iterator[Fault]:
    for t, value in enumerate(values):
        if abs(value) > MAX_POWER_W:
            yield _fault(FaultCode.BAD_QUANTITY, f"{path}[{t}]", f"{value} W is beyond 100 GW")
            return


def _series(case: Case) -> Iterator[Fault]:
    buses = {b.bus_id for b in case.network.buses}
    yield from _duplicates((b.bus_id for b in case.baseline), "$.baseline", "bus_id")
    for k, entry in enumerate(case.baseline):
        here = f"$.baseline[{k}]"
        if entry.bus_id not in buses:
            yield _fault(FaultCode.UNKNOWN_ELEMENT, f"{here}.bus_id", f"no bus has the id {entry.bus_id!r}")
        for name in ("power_w", "reactive_power_var"):
            yield from _length(getattr(entry, name), case, f"{here}.{name}")
            yield from _powers(getattr(entry, name), f"{here}.{name}")
    points = {p.infeed_id for p in case.network.infeed_points}
    yield from _duplicates((p.infeed_id for p in case.infeed_prices), "$.infeed_prices", "infeed_id")
    for k, price in enumerate(case.infeed_prices):
        here = f"$.infeed_prices[{k}]"
        if price.infeed_id not in points:
            yield _fault(FaultCode.UNKNOWN_ELEMENT, f"{here}.infeed_id", f"no infeed point {price.infeed_id!r}")
        yield from _length(price.price_milli_per_mwh, case, f"{here}.price_milli_per_mwh")
        for t, value in enumerate(price.price_milli_per_mwh):
            yield from _price(value, f"{here}.price_milli_per_mwh[{t}]")
    yield from _duplicates((a.award_id for a in case.fixed_awards), "$.fixed_awards", "award_id")
    for k, award in enumerate(case.fixed_awards):
        here = f"$.fixed_awards[{k}]"
        yield from _place(award.bus_id, [(s.bus_id, s.share_ppm) for s in award.shares], buses, here)
        yield from _length(award.power, case, f"{here}.power")
        yield from _powers(award.power, f"{here}.power")
        for t, power in enumerate(award.power):
            if power < 0:
                yield _fault(
                    FaultCode.BAD_QUANTITY, f"{here}.power[{t}]", "must not be negative: the direction has the sign"
                )


def _price(value: int, path: str) -> Iterator[Fault]:
    if abs(value) > MAX_PRICE_MILLI_PER_MWH:
        yield _fault(FaultCode.BAD_PRICE, path, f"{value} is beyond 1 million EUR per MWh")


def _place(bus_id: str | None, shares: list[tuple[str, int]], buses: set[str], here: str) -> Iterator[Fault]:
    if (bus_id is None) == (not shares):
        yield _fault(FaultCode.MISSING_FIELD, f"{here}.bus_id", "give either a bus or shares over buses")
    if bus_id is not None and bus_id not in buses:
        yield _fault(FaultCode.UNKNOWN_ELEMENT, f"{here}.bus_id", f"no bus has the id {bus_id!r}")
    for n, (bus, share) in enumerate(shares):
        if bus not in buses:
            yield _fault(FaultCode.UNKNOWN_ELEMENT, f"{here}.shares[{n}].bus_id", f"no bus has the id {bus!r}")
        if not 0 < share <= PPM:
            yield _fault(FaultCode.BAD_VALUE, f"{here}.shares[{n}].share_ppm", f"{share} is not within 1..1000000")
    if shares and sum(s for _, s in shares) != PPM:
        total = sum(s for _, s in shares)
        yield _fault(FaultCode.BAD_VALUE, f"{here}.shares", f"sum to {total} ppm, not to 1000000")


def _offers(case: Case) -> Iterator[Fault]:
    buses = {b.bus_id for b in case.network.buses}
    ids = {o.offer_id: o for o in case.offers}
    units = {u.unit_id for u in case.units}
    yield from _duplicates((o.offer_id for o in case.offers), "$.offers", "offer_id")
    good: set[int] = set()
    for k, offer in enumerate(case.offers):
        here = f"$.offers[{k}]"
        yield from _place(offer.bus_id, [(s.bus_id, s.share_ppm) for s in offer.shares], buses, here)
        if offer.start_choice is None:
            yield from _length(offer.slots, case, f"{here}.slots")
            yield from _stacks(offer, here, good)
        else:
            yield from _start_choice(case, offer, here)
        yield from _energy(offer, here)
        yield from _parents(offer, ids, here)
        if offer.unit_id is not None and offer.unit_id not in units:
            yield _fault(FaultCode.UNKNOWN_ELEMENT, f"{here}.unit_id", f"no unit has the id {offer.unit_id!r}")
        if offer.tan_phi_ppm and offer.quantity is Quantity.REACTIVE:
            yield _fault(FaultCode.BAD_VALUE, f"{here}.tan_phi_ppm", "belongs to active offers only")
        if abs(offer.tan_phi_ppm) > 10 * PPM:
            yield _fault(FaultCode.BAD_VALUE, f"{here}.tan_phi_ppm", "is beyond 10")
        for name in ("max_rise", "max_fall", "max_run_slots"):
            value = getattr(offer, name)
            if value is not None and value < (1 if name == "max_run_slots" else 0):
                yield _fault(FaultCode.BAD_VALUE, f"{here}.{name}", f"{value} allows nothing")
        if offer.min_rest_slots < 0:
            yield _fault(FaultCode.BAD_VALUE, f"{here}.min_rest_slots", "must not be negative")
        if offer.payback is not None:
            back = offer.payback
            slots = 0 <= back.delay_slots <= MAX_PAYBACK_SLOTS and 1 <= back.window_slots <= MAX_PAYBACK_SLOTS
            if not 0 <= back.factor_ppm <= 10 * PPM or not slots:
                yield _fault(
                    FaultCode.BAD_VALUE,
                    f"{here}.payback",
                    "needs a factor within 0..10, a delay of 0..100000 and a window of 1..100000 slots",
                )
        for n, piece in enumerate(offer.polygons):
            if not 0 <= piece.slot < case.slots or not piece.vertices:
                yield _fault(FaultCode.BAD_VALUE, f"{here}.polygons[{n}]", "names no slot of the case or no corner")


def _stacks(offer: Offer, here: str, good: set[int]) -> Iterator[Fault]:
    """Yield the faults of the stacks of an offer; one that holds for many slots is one object, and looked at once."""
    if good.issuperset(map(id, offer.slots)):
        return
    for t, entry in enumerate(offer.slots):
        if id(entry) not in good:
            faults = list(_stack(entry, f"{here}.slots[{t}]"))
            yield from faults
            if not faults:
                good.add(id(entry))


def _stack(entry: OfferSlot, at: str) -> Iterator[Fault]:
    if len(entry.steps) > MAX_STEPS:
        yield _fault(FaultCode.BAD_SERIES, f"{at}.steps", f"{len(entry.steps)} steps; at most {MAX_STEPS}")
    last = None
    for n, step in enumerate(entry.steps):
        if not 0 < step.quantity <= MAX_POWER_W:
            yield _fault(
                FaultCode.BAD_QUANTITY, f"{at}.steps[{n}].quantity", f"{step.quantity} is not within 1 W..100 GW"
            )
        yield from _price(step.price_milli_per_mwh, f"{at}.steps[{n}].price_milli_per_mwh")
        if last is not None and step.price_milli_per_mwh < last:
            yield _fault(
                FaultCode.BAD_PRICE, f"{at}.steps[{n}].price_milli_per_mwh", "is below the step before; prices rise"
            )
        last = step.price_milli_per_mwh
    total = sum(s.quantity for s in entry.steps)
    if entry.min_quantity < 0 or entry.min_quantity > total:
        yield _fault(
            FaultCode.BAD_QUANTITY, f"{at}.min_quantity", f"{entry.min_quantity} is not within 0..{total} on offer"
        )
    if entry.max_quantity is not None and not 0 <= entry.max_quantity < 2**63:
        yield _fault(FaultCode.BAD_QUANTITY, f"{at}.max_quantity", "must not be negative, nor beyond 64 bits")


def _start_choice(case: Case, offer: Offer, here: str) -> Iterator[Fault]:
    choice = offer.start_choice
    assert choice is not None
    at = f"{here}.start_choice"
    if offer.slots:
        yield _fault(FaultCode.BAD_VALUE, f"{here}.slots", "must be empty beside a start choice")
    if not choice.profile or any(not 0 <= q <= MAX_POWER_W for q in choice.profile) or not any(choice.profile):
        yield _fault(FaultCode.BAD_QUANTITY, f"{at}.profile", "needs quantities of at least 0, one of them above")
    if not 0 <= choice.earliest_slot <= choice.latest_slot <= case.slots - max(len(choice.profile), 1):
        yield _fault(
            FaultCode.BAD_PERIOD, f"{at}.latest_slot", "the window is empty or the profile ends past the horizon"
        )
    yield from _price(choice.price_milli_per_mwh, f"{at}.price_milli_per_mwh")
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
        yield _fault(FaultCode.BAD_VALUE, at, "a rigid profile takes no budget, block, run, ramp, polygon or unit")


def _energy(offer: Offer, here: str) -> Iterator[Fault]:
    low, high = offer.min_energy_wh, offer.max_energy_wh
    for name, value in (("min_energy_wh", low), ("max_energy_wh", high)):
        if value is not None and value < 0:
            yield _fault(FaultCode.BAD_QUANTITY, f"{here}.{name}", "must not be negative")
    if low is not None and high is not None and low > high:
        yield _fault(FaultCode.BAD_QUANTITY, f"{here}.min_energy_wh", f"{low} Wh is above the maximum of {high} Wh")


def _parents(offer: Offer, ids: dict[str, Offer], here: str) -> Iterator[Fault]:
    if offer.parent_offer_id is None:
        return
    if offer.parent_offer_id not in ids:
        yield _fault(
            FaultCode.UNKNOWN_ELEMENT, f"{here}.parent_offer_id", f"no offer has the id {offer.parent_offer_id!r}"
        )
        return
    seen, above = {offer.offer_id}, offer.parent_offer_id
    while above is not None and above in ids:
        if above in seen:
            yield _fault(FaultCode.BAD_VALUE, f"{here}.parent_offer_id", "the parents form a circle")
            return
        seen.add(above)
        above = ids[above].parent_offer_id  # type: ignore[assignment]


def _requests(case: Case) -> Iterator[Fault]:
    net = case.network
    places = {
        Location.BUS: {b.bus_id for b in net.buses},
        Location.ZONE: {b.zone_id for b in net.buses if b.zone_id},
        Location.BRANCH: {b.branch_id for b in net.branches if b.closed and (b.r_ohm or b.x_ohm)},
        Location.INFEED_POINT: {p.infeed_id for p in net.infeed_points},
    }
    yield from _duplicates((r.request_id for r in case.requests), "$.requests", "request_id")
    for k, request in enumerate(case.requests):
        here = f"$.requests[{k}]"
        known = places.get(request.location_kind)
        if known is not None and request.location_id not in known:
            hint = ", closed and with an impedance" if request.location_kind is Location.BRANCH else ""
            word = request.location_kind.value.lower().replace("_", " ")
            yield _fault(
                FaultCode.UNKNOWN_ELEMENT, f"{here}.location_id", f"no {word} has the id {request.location_id!r}{hint}"
            )
        yield from _length(request.slots, case, f"{here}.slots")
        yield from _curves(request, here)


def _curves(request: Request, here: str) -> Iterator[Fault]:
    for t, entry in enumerate(request.slots):
        at = f"{here}.slots[{t}]"
        last = None
        if len(entry.steps) > MAX_STEPS:
            yield _fault(FaultCode.BAD_SERIES, f"{at}.steps", f"{len(entry.steps)} steps; at most {MAX_STEPS}")
        for n, step in enumerate(entry.steps):
            if not 0 < step.quantity <= MAX_POWER_W:
                yield _fault(
                    FaultCode.BAD_QUANTITY, f"{at}.steps[{n}].quantity", f"{step.quantity} is not within 1 W..100 GW"
                )
            if not 0 <= step.price_milli_per_mwh <= MAX_PRICE_MILLI_PER_MWH:
                yield _fault(
                    FaultCode.BAD_PRICE,
                    f"{at}.steps[{n}].price_milli_per_mwh",
                    f"{step.price_milli_per_mwh} is not within 0..1 million EUR per MWh",
                )
            if last is not None and step.price_milli_per_mwh > last:
                yield _fault(
                    FaultCode.BAD_PRICE, f"{at}.steps[{n}].price_milli_per_mwh", "is above the step before; prices fall"
                )
            last = step.price_milli_per_mwh
        total = sum(s.quantity for s in entry.steps)
        if not 0 <= entry.min_quantity <= total:
            yield _fault(
                FaultCode.BAD_QUANTITY, f"{at}.min_quantity", f"{entry.min_quantity} is not within 0..{total} asked for"
            )


def _units(case: Case) -> Iterator[Fault]:
    yield from _duplicates((u.unit_id for u in case.units), "$.units", "unit_id")
    for k, unit in enumerate(case.units):
        here = f"$.units[{k}]"
        for name in ("baseline_power_w", "baseline_reactive_power_var"):
            if getattr(unit, name):
                yield from _length(getattr(unit, name), case, f"{here}.{name}")
                yield from _powers(getattr(unit, name), f"{here}.{name}")
        if unit.kind is UnitKind.INVERTER:
            yield from _inverter(unit, case, here)
            continue
        if not 0 <= unit.min_energy_wh <= unit.max_energy_wh:
            yield _fault(FaultCode.BAD_QUANTITY, f"{here}.max_energy_wh", "is below the minimum, or it is negative")
        for name in ("charge_efficiency_ppm", "discharge_efficiency_ppm"):
            if not 0 < getattr(unit, name) <= PPM:
                yield _fault(FaultCode.BAD_VALUE, f"{here}.{name}", "is not within 1..1000000")
        if not 0 <= unit.self_discharge_ppm < PPM:
            yield _fault(FaultCode.BAD_VALUE, f"{here}.self_discharge_ppm", "is not within 0..999999")


def _inverter(unit: Unit, case: Case, here: str) -> Iterator[Fault]:
    circle, tan = unit.max_apparent_power_va, unit.max_tan_phi_ppm
    if circle is None and tan is None:
        yield _fault(FaultCode.MISSING_FIELD, f"{here}.max_apparent_power_va", "give a circle, a cone, or both")
    for name, value in (("max_apparent_power_va", circle), ("max_tan_phi_ppm", tan)):
        if value is not None and not 0 <= value <= MAX_POWER_W:
            yield _fault(FaultCode.BAD_VALUE, f"{here}.{name}", "must not be negative or absurd")
            return
    series = (unit.baseline_power_w, unit.baseline_reactive_power_var)
    if any(values and len(values) != case.slots for values in series):
        return
    for t in range(case.slots):
        p, q = (values[t] if values else 0 for values in series)
        if circle is not None and math.hypot(p, q) > circle + 1:
            yield _fault(
                FaultCode.BAD_QUANTITY, f"{here}.baseline_power_w[{t}]", f"is outside its circle of {circle} VA"
            )
        if tan is not None and abs(q) > abs(p) * tan / PPM + 1:
            path = f"{here}.baseline_reactive_power_var[{t}]"
            yield _fault(FaultCode.BAD_QUANTITY, path, f"{q} var at {p} W are outside its tan phi cone")
