"""From a result to the facts of a cleared session: grid state, nodal prices, and the market, in this order.

The market comes last, so that whoever sees it finds the other two; its event id is the id of the whole job.
"""

from collections.abc import Iterator

from clearing.result import LimitKind, Result, Shortfall, SlotResult
from clearing.snapshot import Snapshot, case_of, first_slot, held_request_ids
from flexbus import events as ev
from flexbus.errors import FaultyInputError
from flexbus.events import LocationKind, NonAwardReason, SlotStatus
from flexbus.ids import derived_id
from flexbus.quantities import MAX_PRICE_MILLI_PER_MWH, energy_wh
from flexbus.time import slot_starts
from flexbus.views.fact import Emission, emit

__all__ = ["clear_session", "facts_of_result", "facts_uncleared", "market_cleared_id"]

_VOLTAGE = frozenset({LimitKind.VOLTAGE_MAX, LimitKind.VOLTAGE_MIN})
_NOT_POWER = _VOLTAGE | {LimitKind.POWER_FLOW}
_IN_W = frozenset({LimitKind.IMPORT, LimitKind.EXPORT})
# Per slot: a feeder whose voltage collapses breaks every limit on it, and one event tells of a whole day.
MAX_UNMET_NAMED = 20


def market_cleared_id(area_id: str, session_id: str) -> str:
    """Return the event id of a session's `MarketCleared`: a session is cleared once."""
    return derived_id(ev.MarketCleared.__name__, area_id, session_id)


def clear_session(snapshot: Snapshot) -> tuple[Emission, ...]:
    """Clear a session; the computation that its gate makes due.

    Args:
        snapshot: what stood before the gate.
    """
    # The solver's imports take seconds, and the process that only decides needs none of them.
    from clearing.pipeline import clear

    try:
        result = clear(case_of(snapshot))
    except FaultyInputError as error:
        # A journal that admits what the numbers cannot take must not stop the market; everybody is told why.
        return facts_uncleared(snapshot, f"the session cannot be cleared: {error}"[:1000])
    return facts_of_result(snapshot, result)


def facts_of_result(snapshot: Snapshot, result: Result) -> tuple[Emission, ...]:
    """Return the facts of a cleared session, the market last.

    Args:
        snapshot: what was cleared.
        result: what came out.
    """
    area_id, session_id = snapshot.area_id, snapshot.session.session_id
    clearing_id = derived_id("Clearing", area_id, session_id)
    start_ms, resolution_s = result.start_ms, result.resolution_s
    grid = ev.GridStatePublished(
        area_id=area_id,
        session_id=session_id,
        cleared=True,
        start_ms=start_ms,
        resolution_s=resolution_s,
        buses=tuple(ev.BusVoltage(bus_id=b.bus_id, voltage_ppm=b.voltage_ppm) for b in result.buses),
        branches=tuple(
            ev.BranchFlow(branch_id=b.branch_id, power_w=b.power_w, loading_ppm=b.loading_ppm) for b in result.branches
        ),
    )
    prices = ev.NodalPricesPublished(
        area_id=area_id,
        session_id=session_id,
        clearing_id=clearing_id,
        start_ms=start_ms,
        resolution_s=resolution_s,
        buses=tuple(
            ev.NodalPrice(bus_id=b.bus_id, price_milli_per_mwh=_paid_at_most(b.p_price_milli_per_mwh, snapshot))
            for b in result.buses
        ),
    )
    assert snapshot.network is not None
    market = ev.MarketCleared(
        area_id=area_id,
        session_id=session_id,
        clearing_id=clearing_id,
        gate_block=snapshot.gate_block,
        network_id=snapshot.network.network_id,
        network_revision=snapshot.network.revision,
        start_ms=start_ms,
        resolution_s=resolution_s,
        slots=tuple(
            _slot(at_ms, slot)
            for at_ms, slot in zip(slot_starts(start_ms, resolution_s, len(result.slots)), result.slots, strict=True)
        ),
        awards=tuple(_awards(snapshot, result)),
        non_awards=(*_non_awards(snapshot, result), *_unplaced(snapshot, result)),
        requests=_outcomes(snapshot, result),
        cost_nano=result.cost_nano,
        welfare_nano=result.welfare_nano,
        solver=f"{result.solver.name} ({result.solver.versions}; {result.solver.settings})",
        case_hash=result.case_hash,
        result_hash=result.result_hash,
    )
    return emit(grid, session_id, "cleared"), emit(prices, session_id), emit(market, session_id)


def facts_uncleared(snapshot: Snapshot, problem: str) -> tuple[Emission, ...]:
    """Return the facts of a session that cannot be cleared on its grid: nobody is awarded, everybody is told why.

    Args:
        snapshot: what stood before the gate.
        problem: why, for people.
    """
    resolution_s = snapshot.product.resolution_s
    market = ev.MarketCleared(
        area_id=snapshot.area_id,
        session_id=snapshot.session.session_id,
        clearing_id=derived_id("Clearing", snapshot.area_id, snapshot.session.session_id),
        gate_block=snapshot.gate_block,
        network_id=snapshot.network.network_id if snapshot.network else None,
        network_revision=snapshot.network.revision if snapshot.network else None,
        start_ms=snapshot.period.start_ms,
        resolution_s=resolution_s,
        slots=tuple(
            ev.ClearedSlot(
                start_ms=at_ms,
                status=SlotStatus.BASELINE_KEPT,
                up_w=0,
                down_w=0,
                requested_w=0,
                shortfall_w=0,
                loss_gap_w=0,
                ac_violation_ppm=0,
                cost_nano=0,
                binding=(),
            )
            for at_ms in slot_starts(snapshot.period.start_ms, resolution_s, snapshot.slots)
        ),
        awards=(),
        non_awards=tuple(
            _left_out(snapshot, o, NonAwardReason.OTHER_CONSTRAINT, None, problem) for o in snapshot.offers
        ),
        requests=tuple(_outcome(r, (0,) * len(r.power_w), problem) for r in snapshot.requests),
        cost_nano=0,
        welfare_nano=0,
        solver="none",
        case_hash="",
        result_hash="",
    )
    return (emit(market, snapshot.session.session_id),)


def _paid_at_most(prices: tuple[int, ...], snapshot: Snapshot) -> tuple[int, ...]:
    """Return worths as prices: where limits stay broken a MWh is worth what all of them cost, but paid is the cap."""
    most = min(snapshot.product.violation_price_milli_per_mwh, MAX_PRICE_MILLI_PER_MWH)
    return tuple(max(-most, min(most, price)) for price in prices)


def _slot(at_ms: int, slot: SlotResult) -> ev.ClearedSlot:
    voltages = [s.amount for s in slot.shortfalls if s.kind in _VOLTAGE]
    # What cannot be counted in W comes first, so that no list of overloads hides it.
    ranked = sorted(slot.shortfalls, key=lambda s: (s.kind not in _NOT_POWER, -s.amount, s.kind.value, s.element_id))
    return ev.ClearedSlot(
        start_ms=at_ms,
        status=slot.status,
        up_w=slot.up_w,
        down_w=slot.down_w,
        requested_w=slot.requested_w,
        shortfall_w=sum(s.amount for s in slot.shortfalls if s.kind not in _NOT_POWER),
        loss_gap_w=slot.loss_gap_w,
        ac_violation_ppm=slot.ac_violation_ppm,
        cost_nano=slot.cost_nano,
        binding=tuple(dict.fromkeys(b.element_id for b in slot.binding)),
        voltage_shortfall_ppm=max(voltages, default=0),
        unmet_count=len(ranked),
        unmet=tuple(
            ev.UnmetNeed(kind=s.kind, element_id=s.element_id, amount=s.amount) for s in ranked[:MAX_UNMET_NAMED]
        ),
    )


def _awards(snapshot: Snapshot, result: Result) -> Iterator[ev.Award]:
    """Yield one award per offer of which something was taken, from its first to its last slot with quantity."""
    offers = {o.offer_id: o for o in snapshot.offers}
    for taken in result.offers:
        used = [t for t, quantity in enumerate(taken.quantity) if quantity]
        if not used:
            continue
        offer, first, last = offers[taken.offer_id], used[0], used[-1] + 1
        yield ev.Award(
            award_id=derived_id("Award", snapshot.area_id, snapshot.session.session_id, offer.offer_id),
            offer_id=offer.offer_id,
            offer_revision=offer.revision,
            fsp_id=offer.fsp_id,
            connection_point_id=offer.connection_point_id,
            portfolio_id=offer.portfolio_id,
            bus_id=snapshot.places[offer.offer_id][0],
            direction=offer.direction,
            start_ms=result.start_ms + first * result.resolution_s * 1000,
            resolution_s=result.resolution_s,
            power_w=taken.quantity[first:last],
            price_milli_per_mwh=taken.price_milli_per_mwh[first:last],
        )


def _non_awards(snapshot: Snapshot, result: Result) -> Iterator[ev.NonAward]:
    providers = {o.offer_id: o.fsp_id for o in snapshot.offers}
    for row in result.non_awards:
        yield ev.NonAward(
            offer_id=row.offer_id,
            fsp_id=providers[row.offer_id],
            reason=row.reason,
            element_id=row.element_id,
            amount=row.amount,
            rejected_energy_wh=row.rejected_energy_wh,
            text=row.text,
            price_distance_milli_per_mwh=row.price_distance_milli_per_mwh,
        )


def _unplaced(snapshot: Snapshot, result: Result) -> Iterator[ev.NonAward]:
    """Yield the reasons of the offers that were not part of the case."""
    cleared = {o.offer_id for o in result.offers}
    for offer in snapshot.offers:
        if offer.offer_id in cleared:
            continue
        if offer.offer_id not in snapshot.places:
            place = offer.connection_point_id or offer.portfolio_id
            text = f"{place} has no place on the network any more; register it again for the next session"
            yield _left_out(snapshot, offer, NonAwardReason.OTHER_CONSTRAINT, place, text)
        elif offer.resolution_s != result.resolution_s:
            text = f"its slots of {offer.resolution_s} s do not fit those of the session, {result.resolution_s} s"
            yield _left_out(snapshot, offer, NonAwardReason.OTHER_CONSTRAINT, None, text)
        else:
            parent = offer.parent_offer_id
            text = f"its parent {parent} is not in the market"
            yield _left_out(snapshot, offer, NonAwardReason.PARENT_NOT_TAKEN, parent, text)


def _left_out(
    snapshot: Snapshot, offer: ev.FlexOffer, reason: NonAwardReason, element_id: str | None, text: str
) -> ev.NonAward:
    stacks = snapshot.stacks[offer.offer_id]
    energy = sum(energy_wh(sum(stack[1::2]), offer.resolution_s) for stack in stacks)
    return ev.NonAward(
        offer_id=offer.offer_id,
        fsp_id=offer.fsp_id,
        reason=reason,
        element_id=element_id,
        amount=None,
        rejected_energy_wh=energy,
        text=text,
    )


def _outcomes(snapshot: Snapshot, result: Result) -> tuple[ev.RequestOutcome, ...]:
    """Return what each request got: as a purchase, or by the limit that it stands for."""
    bought = {r.request_id: r for r in result.requests}
    held = held_request_ids(snapshot)
    found = []
    for request in snapshot.requests:
        first = first_slot(snapshot, request.start_ms)
        if request.request_id in bought:
            row = bought[request.request_id]
            matched = tuple(_at(row.matched, first + n) for n in range(len(request.power_w)))
            found.append(_outcome(request, matched, row.reason))
        elif request.request_id in held:
            matched = tuple(
                max(0, asked - _missing_w(result, first + n, request)) for n, asked in enumerate(request.power_w)
            )
            found.append(_outcome(request, matched, _why_held_unmet(result, first, request, matched)))
        else:
            text = f"{request.location_kind.value} {request.location_id} is not on the network, or the terms do not fit"
            found.append(_outcome(request, (0,) * len(request.power_w), text))
    return tuple(found)


def _why_held_unmet(result: Result, first: int, request: ev.FlexRequest, matched: tuple[int, ...]) -> str:
    """Say why the limit that a request stands for is not held, by how much; empty when it is."""
    short = [first + n for n, (m, a) in enumerate(zip(matched, request.power_w, strict=True)) if m < a]
    if not short:
        return ""
    text = f"the limit of {request.location_id} cannot be held in {len(short)} slots with the flexibility offered"
    slots = [result.slots[t] for t in short if 0 <= t < len(result.slots)]
    dead = sum(s.kind is LimitKind.POWER_FLOW for slot in slots for s in slot.shortfalls)
    if dead:
        return f"{text}: in {dead} of them the forecast has no AC solution"
    broken = [s for slot in slots for s in slot.shortfalls if _is_limit_of(s, request)]
    if not broken:
        return text
    worst = max(broken, key=lambda s: s.amount)
    unit = "ppm of the nominal voltage" if worst.kind in _VOLTAGE else "W" if worst.kind in _IN_W else "VA"
    return f"{text}: {worst.kind.value} exceeded by up to {worst.amount} {unit}"


def _missing_w(result: Result, slot: int, request: ev.FlexRequest) -> int:
    """Return by how much the limit that a request stands for is missed in a slot, W."""
    if not 0 <= slot < len(result.slots):
        return max(request.power_w)
    missing = 0
    for shortfall in result.slots[slot].shortfalls:
        if shortfall.kind is LimitKind.POWER_FLOW or _is_voltage_of(shortfall, request):
            # A voltage cannot be counted against a power: the need is met when the limit holds, else it is not.
            return max(request.power_w)
        if _is_limit_of(shortfall, request):
            missing = max(missing, shortfall.amount)
    return missing


def _is_limit_of(shortfall: Shortfall, request: ev.FlexRequest) -> bool:
    return shortfall.element_id == request.location_id and shortfall.kind is not LimitKind.REQUEST


def _is_voltage_of(shortfall: Shortfall, request: ev.FlexRequest) -> bool:
    at_bus = request.location_kind is LocationKind.BUS and shortfall.element_id == request.location_id
    return at_bus and shortfall.kind in _NOT_POWER


def _outcome(request: ev.FlexRequest, matched_w: tuple[int, ...], reason: str) -> ev.RequestOutcome:
    return ev.RequestOutcome(
        request_id=request.request_id,
        requester_id=request.requester_id,
        requested_w=request.power_w,
        matched_w=matched_w,
        reason=reason,
    )


def _at(values: tuple[int, ...], index: int) -> int:
    return values[index] if 0 <= index < len(values) else 0
