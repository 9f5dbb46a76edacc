"""From a result to the facts of a cleared session: grid state, nodal prices, and the market, in this order.

The market comes last, so that whoever sees it finds the other two; its event id is the id of the whole job.
"""

from collections.abc import Iterator
from dataclasses import replace

from clearing.asked import asked_slots
from clearing.left_out import LeftOut, clear_what_can_be
from clearing.outcomes import outcome, outcomes
from clearing.result import LimitKind, Result
from clearing.room import without_room
from clearing.snapshot import Snapshot
from clearing.states import States
from clearing.taken import award_terms, awards, holding_nano, reactive_awards, reservations
from clearing.translation import has_unit, unit_name
from flexbus import codec
from flexbus import events as ev
from flexbus.errors import FaultyInputError
from flexbus.events import NonAwardReason, SlotStatus
from flexbus.fitting import fitting, size_of
from flexbus.ids import derived_id
from flexbus.quantities import MAX_PRICE_MILLI_PER_MWH, PPM, energy_wh
from flexbus.views.fact import Emission, emit
from flexbus.views.registry import HELD_READY

__all__ = ["clear_session", "facts_of_result", "facts_uncleared", "market_cleared_id"]

_VOLTAGE = frozenset({LimitKind.VOLTAGE_MAX, LimitKind.VOLTAGE_MIN})
_NOT_POWER = _VOLTAGE | {LimitKind.POWER_FLOW}
_LADDER = tuple(SlotStatus)
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
    try:
        result, left = clear_what_can_be(snapshot)
        facts = facts_of_result(snapshot, result, left)
        if not _can_be_told(facts[-1]):
            taken = {o.offer_id for o in result.offers if any(o.quantity)}
            taken |= {r.request_id for r in result.requests if any(r.matched)}
            result, left = clear_what_can_be(snapshot, without_room(snapshot, taken))
            facts = facts_of_result(snapshot, result, left)
    except FaultyInputError as error:
        # A journal that admits what the numbers cannot take must not stop the market; everybody is told why.
        return facts_uncleared(snapshot, f"the session cannot be cleared: {error}"[:1000])
    return facts


def facts_of_result(snapshot: Snapshot, result: Result, left: LeftOut | None = None) -> tuple[Emission, ...]:
    """Return the facts of a cleared session, the market last.

    Where a slot has several states (ends of a capacity auction, scenarios) the grid's is told by the state in which
    it is farthest from nominal or loaded most, prices by their expected value (of a capacity auction the upward end).

    Args:
        snapshot: what was cleared.
        result: what came out.
        left: who was left out, and why; None = nobody.
    """
    left = left or LeftOut()
    states = States(snapshot, result)
    held_ready = snapshot.product.phase in HELD_READY
    standby = tuple(reservations(snapshot, result))
    met = tuple(outcomes(snapshot, result, left))
    area_id, session_id = snapshot.area_id, snapshot.session.session_id
    clearing_id = derived_id("Clearing", area_id, session_id)
    start_ms, resolution_s = result.start_ms, result.resolution_s
    grid = ev.GridStatePublished(
        area_id=area_id,
        session_id=session_id,
        cleared=True,
        start_ms=start_ms,
        resolution_s=resolution_s,
        buses=tuple(
            ev.BusVoltage(bus_id=b.bus_id, voltage_ppm=states.farthest(b.voltage_ppm, PPM)) for b in result.buses
        ),
        branches=tuple(
            ev.BranchFlow(
                branch_id=b.branch_id,
                power_w=states.farthest(b.power_w, 0),
                loading_ppm=states.farthest(b.loading_ppm, 0),
            )
            for b in result.branches
        ),
    )
    prices = ev.NodalPricesPublished(
        area_id=area_id,
        session_id=session_id,
        clearing_id=clearing_id,
        start_ms=start_ms,
        resolution_s=resolution_s,
        buses=tuple(
            ev.NodalPrice(
                bus_id=b.bus_id,
                price_milli_per_mwh=_paid_at_most(states.expected(b.p_price_milli_per_mwh), snapshot),
            )
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
        slots=tuple(_slot(snapshot, result, states, t, standby) for t in range(snapshot.slots)),
        awards=tuple(awards(snapshot, result)),
        non_awards=(*_non_awards(snapshot, result), *_unplaced(snapshot, result, left)),
        requests=tuple(o for o in met if isinstance(o, ev.RequestOutcome)),
        cost_nano=sum(holding_nano(r) for r in standby) if held_ready else result.cost_nano,
        welfare_nano=result.welfare_nano,
        solver=f"{result.solver.name} ({result.solver.versions}; {result.solver.settings})",
        case_hash=result.case_hash,
        result_hash=result.result_hash,
        reactive_awards=tuple(reactive_awards(snapshot, result)),
        reservations=standby,
        award_terms=tuple(award_terms(snapshot, result)),
        reactive_requests=tuple(o for o in met if isinstance(o, ev.ReactiveOutcome)),
    )
    return emit(grid, session_id, "cleared"), emit(prices, session_id), emit(_fitting(market), session_id)


def facts_uncleared(snapshot: Snapshot, problem: str) -> tuple[Emission, ...]:
    """Return the facts of a session that cannot be cleared on its grid: nobody is awarded, everybody is told why.

    Args:
        snapshot: what stood before the gate.
        problem: why, for people.
    """
    session, resolution_s = snapshot.session, snapshot.product.resolution_s
    untold = without_room(snapshot, None).untold
    unmet = tuple(outcome(r, (0,) * asked_slots(r), problem) for r in snapshot.requests if r.request_id not in untold)
    market = ev.MarketCleared(
        area_id=snapshot.area_id,
        session_id=session.session_id,
        clearing_id=derived_id("Clearing", snapshot.area_id, session.session_id),
        gate_block=snapshot.gate_block,
        network_id=snapshot.network.network_id if snapshot.network else None,
        network_revision=snapshot.network.revision if snapshot.network else None,
        start_ms=session.delivery_start_ms,
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
            for at_ms in range(session.delivery_start_ms, session.delivery_end_ms, resolution_s * 1000)
        ),
        awards=(),
        non_awards=tuple(
            _left_out(snapshot, o, NonAwardReason.OTHER_CONSTRAINT, None, problem) for o in snapshot.offers
        ),
        requests=tuple(o for o in unmet if isinstance(o, ev.RequestOutcome)),
        cost_nano=0,
        welfare_nano=0,
        solver="none",
        case_hash="",
        result_hash="",
        reactive_requests=tuple(o for o in unmet if isinstance(o, ev.ReactiveOutcome)),
    )
    return (emit(_fitting(market), session.session_id),)


def _paid_at_most(prices: tuple[int, ...], snapshot: Snapshot) -> tuple[int, ...]:
    """Return worths as prices: where limits stay broken a MWh is worth what all of them cost, but paid is the cap."""
    most = min(snapshot.product.violation_price_milli_per_mwh, MAX_PRICE_MILLI_PER_MWH)
    return tuple(max(-most, min(most, price)) for price in prices)


def _slot(
    snapshot: Snapshot, result: Result, states: States, slot: int, standby: tuple[ev.Reservation, ...]
) -> ev.ClearedSlot:
    reactive = {r.request_id for r in snapshot.requests if r.reactive_slots}
    rows = [result.slots[k] for k in states.of(slot)]
    missing = rows[0].shortfalls if states.plain else states.missing(result, slot)
    voltages = [s.amount for s in missing if s.kind in _VOLTAGE]
    # What cannot be counted in W comes first, so that no list of overloads hides it.
    ranked = sorted(missing, key=lambda s: (s.kind not in _NOT_POWER, -s.amount, s.kind.value, s.element_id))
    start_ms = snapshot.period.start_ms + slot * snapshot.product.resolution_s * 1000
    cost_nano = rows[0].cost_nano
    if snapshot.product.phase in HELD_READY:
        cost_nano = sum(holding_nano(r, start_ms) for r in standby)
    asked = [r.requested for r in result.requests if r.request_id not in reactive]
    return ev.ClearedSlot(
        start_ms=start_ms,
        status=max((row.status for row in rows), key=_LADDER.index),
        up_w=max(row.up_w for row in rows),
        down_w=max(row.down_w for row in rows),
        requested_w=max(sum(series[k] for series in asked) for k in states.of(slot)),
        shortfall_w=sum(
            s.amount
            for s in missing
            if s.kind not in _NOT_POWER and not (s.kind is LimitKind.REQUEST and s.element_id in reactive)
        ),
        loss_gap_w=max(row.loss_gap_w for row in rows),
        ac_violation_ppm=max(row.ac_violation_ppm for row in rows),
        cost_nano=cost_nano,
        binding=tuple(dict.fromkeys(b.element_id for row in rows for b in row.binding)),
        voltage_shortfall_ppm=max(voltages, default=0),
        unmet_count=len(ranked),
        unmet=tuple(
            ev.UnmetNeed(kind=s.kind, element_id=s.element_id, amount=s.amount) for s in ranked[:MAX_UNMET_NAMED]
        ),
    )


def _can_be_told(fact: Emission) -> bool:
    return len(codec.encode_trusted(fact.event)) <= codec.MAX_SERVICE_EVENT_BYTES


def _fitting(market: ev.MarketCleared) -> ev.MarketCleared:
    """Return the market with as many of its non-awards as the record has room for.

    An offer costs its provider nothing, and there may be a hundred thousand of one: the market must be told all the
    same. Awards and requests are never dropped here: `without_room` keeps out what cannot be told.
    """
    whole = len(codec.encode_trusted(market))
    if whole <= codec.MAX_SERVICE_EVENT_BYTES:
        return market
    room = codec.MAX_SERVICE_EVENT_BYTES - whole + size_of(market.non_awards)
    return replace(market, non_awards=fitting(market.non_awards, room))


def _non_awards(snapshot: Snapshot, result: Result) -> Iterator[ev.NonAward]:
    offers = {o.offer_id: o for o in snapshot.offers}
    for row in result.non_awards:
        offer, element_id = offers[row.offer_id], row.element_id
        unit_id = None if offer.terms is None else offer.terms.unit_id
        if unit_id is not None and element_id == unit_name(offer.fsp_id, unit_id):
            element_id = unit_id  # the provider's before it is the case's, and may make it longer than a name can be
        yield ev.NonAward(
            offer_id=row.offer_id,
            fsp_id=offer.fsp_id,
            reason=row.reason,
            element_id=element_id,
            amount=row.amount,
            rejected_energy_wh=row.rejected_energy_wh,
            text=row.text,
            price_distance_milli_per_mwh=row.price_distance_milli_per_mwh,
        )


def _unplaced(snapshot: Snapshot, result: Result, left: LeftOut) -> Iterator[ev.NonAward]:
    """Yield the reasons of the offers that were not part of the case."""
    cleared = {o.offer_id for o in result.offers}
    for offer in snapshot.offers:
        if offer.offer_id in cleared:
            continue
        if offer.offer_id in left.offers:
            yield _left_out(snapshot, offer, NonAwardReason.OTHER_CONSTRAINT, None, left.offers[offer.offer_id])
        elif offer.offer_id not in snapshot.places:
            place = offer.connection_point_id or offer.portfolio_id
            text = f"{place} has no place on the network any more; register it again for the next session"
            yield _left_out(snapshot, offer, NonAwardReason.OTHER_CONSTRAINT, place, text)
        elif offer.resolution_s != result.resolution_s:
            text = f"its slots of {offer.resolution_s} s do not fit those of the session, {result.resolution_s} s"
            yield _left_out(snapshot, offer, NonAwardReason.OTHER_CONSTRAINT, None, text)
        elif not has_unit(snapshot, offer):
            unit_id = offer.terms.unit_id if offer.terms is not None else None
            text = f"its unit {unit_id} is described by no offer of the session; send it with the next one"
            yield _left_out(snapshot, offer, NonAwardReason.OTHER_CONSTRAINT, unit_id, text)
        else:
            parent = offer.parent_offer_id
            text = f"its parent {parent} is not in the market"
            yield _left_out(snapshot, offer, NonAwardReason.PARENT_NOT_TAKEN, parent, text)


def _left_out(
    snapshot: Snapshot, offer: ev.FlexOffer, reason: NonAwardReason, element_id: str | None, text: str
) -> ev.NonAward:
    energy = sum(energy_wh(sum(stack[1::2]), offer.resolution_s) for stack in snapshot.stacks[offer.offer_id])
    terms = offer.terms
    if terms is not None and terms.start_choice is not None:
        energy = sum(energy_wh(power_w, offer.resolution_s) for power_w in terms.start_choice.profile_w)
    elif terms is not None and terms.reactive is not None:
        totals = (sum(step.reactive_power_var for step in slot.steps) for slot in terms.reactive.slots)
        energy = sum(energy_wh(total, offer.resolution_s) for total in totals)
    return ev.NonAward(
        offer_id=offer.offer_id,
        fsp_id=offer.fsp_id,
        reason=reason,
        element_id=element_id,
        amount=None,
        rejected_energy_wh=energy,
        text=text,
    )
