"""From a snapshot to the case to be cleared: offers with all their terms, units, scenarios, demand and rules."""

from collections.abc import Iterable
from dataclasses import replace

from clearing.asked import held_request_ids, limit_prices, purchases
from clearing.case import (
    Case,
    Offer,
    OfferSlot,
    Phase,
    PolygonSlice,
    PolygonVertex,
    Quantity,
    Scenario,
    StartChoice,
    Step,
    Unit,
    UnitKind,
)
from clearing.case import Payback as CasePayback
from clearing.case import Settings as CaseSettings
from clearing.snapshot import Snapshot, first_slot, level, obstacle
from flexbus import events as ev
from flexbus.events.grid import BusInjection
from flexbus.quantities import PPM
from flexbus.views.offered import starts

__all__ = ["case_of", "has_unit", "unit_name"]

_NOTHING = OfferSlot()


def case_of(snapshot: Snapshot) -> Case:
    """Translate a snapshot into the case to be cleared; same snapshot, same case.

    Raises:
        ValueError: there is an `obstacle`.
    """
    problem = obstacle(snapshot)
    if problem is not None or snapshot.network is None:
        raise ValueError(f"session {snapshot.session.session_id} of {snapshot.area_id}: {problem}")
    held = held_request_ids(snapshot)
    product = snapshot.product
    seen: dict[tuple[int, ...], OfferSlot] = {}
    placed = _placed(snapshot)
    return Case(
        case_id=snapshot.session.session_id,
        network=snapshot.network,
        start_ms=snapshot.period.start_ms,
        resolution_s=product.resolution_s,
        slots=snapshot.slots,
        baseline=_baseline(snapshot),
        offers=tuple(_offer(snapshot, o, seen) for o in placed),
        requests=purchases(snapshot, held),
        limit_prices=limit_prices(r for r in snapshot.requests if r.request_id in held),
        units=tuple(_units(snapshot, placed)),
        fixed_awards=snapshot.fixed,
        scenarios=_scenarios(snapshot),
        phase=Phase(product.phase.value),
        pricing_rule=product.pricing_rule,
        settings=CaseSettings(
            voltage_price_milli_per_puh=product.voltage_price_milli_per_puh,
            loading_price_milli_per_mwh=product.violation_price_milli_per_mwh,
            price_cap_milli_per_mwh=product.violation_price_milli_per_mwh,
            loading_margin_ppm=product.margin_ppm,
            quantity_step_w=product.step_w,
        ),
    )


def has_unit(snapshot: Snapshot, offer: ev.FlexOffer) -> bool:
    """Tell whether the unit that an offer names, if it names one, is described."""
    unit_id = None if offer.terms is None else offer.terms.unit_id
    return unit_id is None or (offer.fsp_id, unit_id) in snapshot.units


def _placed(snapshot: Snapshot) -> list[ev.FlexOffer]:
    """Return the offers that have a place on the network, and their parents too."""
    resolution_s = snapshot.product.resolution_s
    offers = {
        o.offer_id: o
        for o in snapshot.offers
        if o.offer_id in snapshot.places and o.resolution_s == resolution_s and has_unit(snapshot, o)
    }
    while True:
        orphans = [n for n, o in offers.items() if o.parent_offer_id is not None and o.parent_offer_id not in offers]
        if not orphans:
            return list(offers.values())
        for name in orphans:
            del offers[name]


def _offer(snapshot: Snapshot, offer: ev.FlexOffer, seen: dict[tuple[int, ...], OfferSlot]) -> Offer:
    bus_id, shares = snapshot.places[offer.offer_id]
    made = Offer(
        offer_id=offer.offer_id,
        provider_id=offer.fsp_id,
        bus_id=bus_id,
        shares=shares,
        direction=offer.direction,
        slots=_slots(snapshot, offer, snapshot.stacks[offer.offer_id], seen),
        min_energy_wh=offer.min_energy_wh,
        max_energy_wh=offer.max_energy_wh,
        all_or_nothing=offer.all_or_nothing,
        exclusive_group_id=offer.exclusive_group_id,
        parent_offer_id=offer.parent_offer_id,
    )
    return made if offer.terms is None else _with_terms(snapshot, offer, offer.terms, made, seen)


def _slots(
    snapshot: Snapshot, offer: ev.FlexOffer, stacks: Iterable[tuple[int, ...]], seen: dict[tuple[int, ...], OfferSlot]
) -> tuple[OfferSlot, ...]:
    """Return stacks on the slots of the session, cut to what lights and limits allow."""
    slots = [_NOTHING] * snapshot.slots
    allowed_w = snapshot.allowed_w.get(offer.offer_id)
    first = first_slot(snapshot, offer.start_ms)
    for number, stack in enumerate(stacks):
        if len(stack) > 1 and 0 <= first + number < len(slots):
            if allowed_w is None or allowed_w[number] >= sum(stack[1::2]):
                slot = seen.get(stack)
                if slot is None:
                    slot = seen[stack] = _slot(stack, None)
            else:
                slot = _slot(stack, allowed_w[number])
            slots[first + number] = slot
    return tuple(slots)


def _with_terms(
    snapshot: Snapshot, offer: ev.FlexOffer, terms: ev.OfferTerms, made: Offer, seen: dict[tuple[int, ...], OfferSlot]
) -> Offer:
    """Return an offer of the case with what is particular to it."""
    first = first_slot(snapshot, offer.start_ms)
    if terms.start_choice is not None:
        made = _with_start_choice(snapshot, offer, terms.start_choice, made)
    reactive = terms.reactive
    if reactive is not None:
        made = replace(
            made,
            quantity=Quantity.REACTIVE,
            slots=_slots(snapshot, offer, map(_reactive_stack, reactive.slots), seen),
            min_energy_wh=reactive.min_energy_varh,
            max_energy_wh=reactive.max_energy_varh,
        )
    prices = [0] * snapshot.slots
    for slot, price in enumerate(terms.reservation_price_milli_per_mwh, start=first):
        if 0 <= slot < snapshot.slots:
            prices[slot] = price
    return replace(
        made,
        tan_phi_ppm=terms.tan_phi_ppm,
        max_run_slots=terms.max_run_slots,
        min_rest_slots=terms.min_rest_slots,
        max_rise=terms.max_rise_w if reactive is None else reactive.max_rise_var,
        max_fall=terms.max_fall_w if reactive is None else reactive.max_fall_var,
        payback=None
        if terms.payback is None
        else CasePayback(
            factor_ppm=terms.payback.factor_ppm,
            delay_slots=terms.payback.delay_slots,
            window_slots=terms.payback.window_slots,
        ),
        polygons=tuple(
            PolygonSlice(
                slot=first + p.slot,
                vertices=tuple(
                    PolygonVertex(energy_before_wh=v.energy_before_wh, energy_wh=v.energy_wh) for v in p.vertices
                ),
            )
            for p in terms.polygons
        ),
        unit_id=None if terms.unit_id is None else unit_name(offer.fsp_id, terms.unit_id),
        reservation_price_milli_per_mwh=tuple(prices) if any(prices) else (),
    )


def _with_start_choice(snapshot: Snapshot, offer: ev.FlexOffer, choice: ev.StartChoice, made: Offer) -> Offer:
    """Return an offer with the starts that lights and limits leave to its profile; without any it offers nothing."""
    first = first_slot(snapshot, offer.start_ms)
    left = snapshot.starts.get(offer.offer_id, range(starts(offer)))
    if not left:
        # It stays in the case with what it offered, cut to nothing: so its provider is told that it was cut.
        stacks = [(0, w, choice.price_milli_per_mwh) if w else (0,) for w in choice.profile_w]
        return replace(made, slots=_slots(snapshot, offer, stacks, {}), all_or_nothing=True)
    return replace(
        made,
        slots=(),
        start_choice=StartChoice(
            profile=choice.profile_w,
            earliest_slot=first + left[0],
            latest_slot=first + left[-1],
            price_milli_per_mwh=choice.price_milli_per_mwh,
        ),
    )


def unit_name(fsp_id: str, unit_id: str) -> str:
    """Return the name of a provider's unit in the case: units are the provider's own."""
    return f"{fsp_id}/{unit_id}"


def _units(snapshot: Snapshot, placed: Iterable[ev.FlexOffer]) -> Iterable[Unit]:
    named = {(o.fsp_id, o.terms.unit_id) for o in placed if o.terms is not None and o.terms.unit_id is not None}
    for (fsp_id, unit_id), unit in snapshot.units.items():
        if (fsp_id, unit_id) not in named:
            continue
        name = unit_name(fsp_id, unit_id)
        if isinstance(unit, ev.Storage):
            yield Unit(
                unit_id=name,
                kind=UnitKind.STORAGE,
                initial_energy_wh=unit.initial_energy_wh,
                min_energy_wh=unit.min_energy_wh,
                max_energy_wh=unit.max_energy_wh,
                min_final_energy_wh=unit.min_final_energy_wh,
                charge_efficiency_ppm=unit.charge_efficiency_ppm,
                discharge_efficiency_ppm=unit.discharge_efficiency_ppm,
                self_discharge_ppm_per_h=unit.self_discharge_ppm_per_h,
                baseline_power_w=unit.baseline_power_w,
            )
        else:
            yield Unit(
                unit_id=name,
                kind=UnitKind.INVERTER,
                max_apparent_power_va=unit.max_apparent_power_va,
                max_tan_phi_ppm=unit.max_tan_phi_ppm,
                baseline_power_w=unit.baseline_power_w,
                baseline_reactive_power_var=unit.baseline_reactive_power_var,
            )


def _reactive_stack(slot: ev.ReactiveSlot) -> tuple[int, ...]:
    numbers = [slot.min_reactive_power_var]
    for step in slot.steps:
        numbers += (step.reactive_power_var, step.price_milli_per_mvarh)
    return tuple(numbers)


def _slot(stack: tuple[int, ...], most: int | None) -> OfferSlot:
    steps = tuple(Step(quantity=q, price_milli_per_mwh=p) for q, p in zip(stack[1::2], stack[2::2], strict=True))
    return OfferSlot(steps=steps, min_quantity=stack[0], max_quantity=most)


def _baseline(snapshot: Snapshot) -> tuple[BusInjection, ...]:
    assert snapshot.forecast is not None
    return _injections(snapshot, snapshot.forecast.injections)


def _injections(snapshot: Snapshot, injections: tuple[BusInjection, ...]) -> tuple[BusInjection, ...]:
    """Return forecast injections on the slots of the session, without those of buses that are gone."""
    forecast, network = snapshot.forecast, snapshot.network
    assert forecast is not None
    assert network is not None
    known = {b.bus_id for b in network.buses}
    step_ms = snapshot.product.resolution_s * 1000
    starts_ms = range(snapshot.period.start_ms, snapshot.period.end_ms, step_ms)

    def levels(values: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(level(values, forecast.start_ms, forecast.resolution_s, at_ms, step_ms) for at_ms in starts_ms)

    return tuple(
        BusInjection(bus_id=i.bus_id, power_w=levels(i.power_w), reactive_power_var=levels(i.reactive_power_var))
        for i in sorted(injections, key=lambda i: i.bus_id)
        if i.bus_id in known
    )


def _scenarios(snapshot: Snapshot) -> tuple[Scenario, ...]:
    """Return the ways the day may go; a forecast without scenarios is certain."""
    forecast = snapshot.forecast
    if snapshot.product.phase is not ev.MarketPhase.STOCHASTIC or forecast is None:
        return ()
    if not forecast.scenarios:
        return (Scenario(scenario_id="forecast", probability_ppm=PPM),)
    return tuple(
        Scenario(
            scenario_id=s.scenario_id,
            probability_ppm=s.probability_ppm,
            injections=_injections(snapshot, s.injections),
        )
        for s in sorted(forecast.scenarios, key=lambda s: s.scenario_id)
    )
