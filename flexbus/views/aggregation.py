"""Aggregates: all that is offered at the gate, what goes up to the TSO, and how its activation comes back down.

Rules (FLEXGRID D2.1 HLUC_01_UCS_04; simple start alignment: the slots of the session):
- An offer belongs to the infeed point nearest to its bus; a portfolio only if all its buses have the same one.
- At the gate the offers, as far as lights and limits allow them, are summed per infeed point and direction. The book
  and the lights of that position count from then on, as in the clearing.
- When the market is cleared, what it left is offered upward: allowed less awarded, at the highest price asked in what
  is left; the aggregate asks the highest price of its members. Only what can be taken in any part goes up: no
  blocks; of an exclusive group only the awarded offer; children only under an awarded parent; below a least quantity
  or energy nothing; an energy limit is filled from the first slot on.
- An offer with terms of its own (ramps, runs, payback, profile, slices, storage, inverter, reactive power) stands
  alone: no sum contains it and none of it goes up, as no split could keep its terms. How many there are is told. Of
  auctions that hold power ready (CAPACITY, STOCHASTIC) nothing goes up.
- An aggregate is one record, and so is the split of an activation of all of it (`MEMBERS_BYTES`): what they have no
  room for does not go up, with an equal part of the room for each provider (`flexbus.fitting`).
- An activation is split per slot in proportion to what the members have left (`apportion`, members sorted by offer),
  among those whose price the TSO pays. What they cannot give, and what would begin in the past, is unserved.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from flexbus import events as ev
from flexbus.fitting import fitting
from flexbus.ids import derived_id
from flexbus.quantities import Direction, energy_wh
from flexbus.shares import apportion
from flexbus.time import slot_starts
from flexbus.views import traffic_light
from flexbus.views.fact import Emission, Fact, emit
from flexbus.views.infeed import infeed_of_bus
from flexbus.views.offered import stands_alone
from flexbus.views.registry import HELD_READY, Registry, Session

__all__ = ["MEMBERS_BYTES", "READS", "Aggregates", "GateOffer", "Offered", "decide", "fold"]

MEMBERS_BYTES = 5_000_000  # of the 6 MB that a fact of the bus may have


@dataclass(frozen=True, slots=True)
class GateOffer:
    """An offer as it stood at the gate.

    Attributes:
        offer: the offer.
        infeed_id: infeed point it belongs to.
        allowed_w: what lights and limits allow per slot of the session, W.
        prices: highest price within that, per slot, 1/1000 EUR per MWh.
        values: sum of quantity x price within that, per slot, W x 1/1000 EUR per MWh.
        minimum_w: least quantity that can be taken per slot, W.
    """

    offer: ev.FlexOffer
    infeed_id: str
    allowed_w: tuple[int, ...]
    prices: tuple[int, ...]
    values: tuple[int, ...]
    minimum_w: tuple[int, ...]


@dataclass(slots=True)
class Offered:
    """An aggregate offered to the TSO, and what its members have left after activations.

    Attributes:
        event: the aggregate.
        left_w: per member, W per slot.
        activations: TSO activations so far.
    """

    event: ev.AggregateOffered
    left_w: list[list[int]]
    activations: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Aggregates:
    """The aggregates of one market area at a position of its journal.

    Attributes:
        lights: lights and limits, with the registry and the order book.
        at_gate: offers of the sessions that are closed and not cleared.
        offered: what was offered upward, by aggregate id; without its members when its last slot has begun.
        due: what the last fact makes due.
    """

    lights: traffic_light.TrafficLights = field(default_factory=traffic_light.TrafficLights)
    at_gate: dict[str, tuple[GateOffer, ...]] = field(default_factory=dict)
    offered: dict[str, Offered] = field(default_factory=dict)
    due: tuple[Emission, ...] = ()

    @property
    def registry(self) -> Registry:
        """Who and what is registered."""
        return self.lights.registry


def fold(state: Aggregates, fact: Fact) -> Aggregates:
    """Return the aggregates after a fact; facts that aggregate nothing leave them as they were."""
    state.lights = traffic_light.fold(state.lights, fact)
    change = _CHANGES.get(type(fact.event))
    state.due = tuple(change(state, fact.event)) if change is not None else ()
    return state


def decide(state: Aggregates, fact: Fact) -> tuple[Emission, ...]:
    """Return the sums, upward offers and splits that the fact just folded makes due."""
    return state.due


def _gate_closed(state: Aggregates, e: ev.GateClosed) -> Iterator[Emission]:
    _forget_members(state)
    session = state.registry.sessions.get(e.session_id)
    if session is None or state.registry.network is None or e.session_id in state.at_gate or session.cleared:
        return
    state.at_gate[e.session_id] = offers = tuple(_at_gate(state, session))
    alone = _standing_alone(state, session)
    places = {(o.infeed_id, o.offer.direction) for o in offers} | set(alone)
    for infeed_id, direction in sorted(places, key=_by_place):
        members = [o for o in offers if o.infeed_id == infeed_id and o.offer.direction is direction]
        nothing = (0,) * session.slots
        power_w = tuple(map(sum, zip(nothing, *(o.allowed_w for o in members), strict=True)))
        values = map(sum, zip(nothing, *(o.values for o in members), strict=True))
        total = ev.OffersAggregated(
            area_id=e.area_id,
            session_id=e.session_id,
            aggregate_id=derived_id("Aggregate", e.area_id, e.session_id, infeed_id, direction.value),
            infeed_id=infeed_id,
            direction=direction,
            start_ms=session.scheduled.delivery_start_ms,
            resolution_s=session.product.resolution_s,
            power_w=power_w,
            mean_price_milli_per_mwh=tuple(v // p if p else 0 for v, p in zip(values, power_w, strict=True)),
            offers=len(members),
            individual_offers=alone[infeed_id, direction],
        )
        yield emit(total, total.aggregate_id)


def _forget_members(state: Aggregates) -> None:
    """Drop what no activation can change any more: of an aggregate that is over everything is unserved."""
    for offered in state.offered.values():
        over = offered.event.start_ms + len(offered.event.power_w) * offered.event.resolution_s * 1000
        if offered.left_w and over <= state.registry.market_time_ms:
            offered.event, offered.left_w = replace(offered.event, members=()), []


def _at_gate(state: Aggregates, session: Session) -> Iterator[GateOffer]:
    """Yield the offers of a session that belong to an infeed point, sorted by id, on the slots of the session."""
    assert state.registry.network is not None
    infeeds = infeed_of_bus(state.registry.network)
    slots, step_ms = session.slots, session.product.resolution_s * 1000
    cuts = traffic_light.clip_session(state.lights, session.scheduled.session_id)
    known: dict[int, tuple[int, int, int]] = {}  # a stack that holds for many slots is one object
    for _, offer in sorted(state.lights.book.session(session.scheduled.session_id).offers.items()):
        if stands_alone(offer) or offer.resolution_s != session.product.resolution_s:
            continue
        infeed_id = _infeed_of(state.registry, infeeds, offer)
        if infeed_id is None:
            continue
        allowed, prices, values, minimum = ([0] * slots for _ in range(4))
        first = (offer.start_ms - session.scheduled.delivery_start_ms) // step_ms
        cut = cuts.get(offer.offer_id)
        for number, offered in enumerate(offer.slots):
            if 0 <= first + number < slots:
                slot = first + number
                if cut is not None:
                    stack = _stack(offered, cut.allowed_w[number])
                else:
                    stack = known.get(id(offered)) or known.setdefault(id(offered), _stack(offered, None))
                allowed[slot], prices[slot], values[slot] = stack
                minimum[slot] = offered.min_power_w
        if any(allowed):
            yield GateOffer(offer, infeed_id, tuple(allowed), tuple(prices), tuple(values), tuple(minimum))


def _standing_alone(state: Aggregates, session: Session) -> Counter[tuple[str, Direction]]:
    """Count the offers of a session that no sum can stand for, per infeed point and direction."""
    assert state.registry.network is not None
    found: Counter[tuple[str, Direction]] = Counter()
    offers = state.lights.book.session(session.scheduled.session_id).offers.values()
    alone = [o for o in offers if stands_alone(o)]
    infeeds = infeed_of_bus(state.registry.network) if alone else {}
    for offer in alone:
        infeed_id = _infeed_of(state.registry, infeeds, offer)
        if infeed_id is not None:
            found[infeed_id, offer.direction] += 1
    return found


def _infeed_of(registry: Registry, infeeds: dict[str, str], offer: ev.FlexOffer) -> str | None:
    """Return the one infeed point that all buses of an offer belong to, None if there is none."""
    reached = {infeeds.get(b) for b in _buses(registry, offer)}
    return reached.pop() if len(reached) == 1 else None


def _buses(registry: Registry, offer: ev.FlexOffer) -> set[str]:
    points = (
        registry.points_of_portfolio(offer.portfolio_id)
        if offer.portfolio_id is not None
        else (offer.connection_point_id or "",)
    )
    known = registry.connection_points
    return {known[p].bus_id if p in known else "" for p in points}


def _stack(offered: ev.OfferSlot, cap_w: int | None) -> tuple[int, int, int]:
    """Return quantity, highest price and sum of quantity x price of the cheapest steps within a cap."""
    taken_w = price = value = 0
    for step in offered.steps:
        part_w = step.power_w if cap_w is None else min(step.power_w, cap_w - taken_w)
        if part_w <= 0:
            break
        taken_w += part_w
        price = step.price_milli_per_mwh
        value += part_w * price
    return taken_w, price, value


def _market_cleared(state: Aggregates, e: ev.MarketCleared) -> Iterator[Emission]:
    session = state.registry.sessions.get(e.session_id)
    offers = state.at_gate.pop(e.session_id, ())
    if session is None or session.product.phase in HELD_READY:
        return
    awarded = _awarded(session, e)
    members: dict[tuple[str, Direction], list[ev.AggregateMember]] = {}
    for offer in offers:
        left_w = _left_w(offer, awarded)
        used = [slot for slot, power_w in enumerate(left_w) if power_w]
        if used:
            part = slice(used[0], used[-1] + 1)
            members.setdefault((offer.infeed_id, offer.offer.direction), []).append(
                ev.AggregateMember(
                    offer_id=offer.offer.offer_id,
                    fsp_id=offer.offer.fsp_id,
                    connection_point_id=offer.offer.connection_point_id,
                    portfolio_id=offer.offer.portfolio_id,
                    first_slot=part.start,
                    power_w=left_w[part],
                    price_milli_per_mwh=tuple(
                        p if w else 0 for p, w in zip(offer.prices[part], left_w[part], strict=True)
                    ),
                )
            )
    for (infeed_id, direction), every in sorted(members.items(), key=lambda item: _by_place(item[0])):
        group = _fitting(every, session.slots)
        power_w = [0] * session.slots
        asked: list[list[int]] = [[] for _ in power_w]
        for m in group:
            for slot, (watts, price) in enumerate(zip(m.power_w, m.price_milli_per_mwh, strict=True), m.first_slot):
                if watts:
                    power_w[slot] += watts
                    asked[slot].append(price)
        aggregate = ev.AggregateOffered(
            area_id=e.area_id,
            session_id=e.session_id,
            aggregate_id=derived_id("Upward", e.area_id, e.session_id, infeed_id, direction.value),
            infeed_id=infeed_id,
            direction=direction,
            start_ms=session.scheduled.delivery_start_ms,
            resolution_s=session.product.resolution_s,
            power_w=tuple(power_w),
            price_milli_per_mwh=tuple(max(prices, default=0) for prices in asked),
            members=group,
            brp_ids=_brp_ids(state.registry, group),
            bidding_zone_eic=state.registry.area.bidding_zone_eic if state.registry.area is not None else None,
        )
        yield emit(aggregate, aggregate.aggregate_id)


def _fitting(members: Sequence[ev.AggregateMember], slots: int) -> tuple[ev.AggregateMember, ...]:
    """Return the members that there is room for, in the aggregate and in the split of an activation of all of it."""
    kept = fitting(members, MEMBERS_BYTES)
    shares = [_share(m, (0,) * m.first_slot + m.power_w + (0,) * (slots - m.first_slot - len(m.power_w))) for m in kept]
    down = {share.offer_id for share in fitting(shares, MEMBERS_BYTES)}
    return tuple(m for m in kept if m.offer_id in down)


def _share(member: ev.AggregateMember, power_w: Sequence[int]) -> ev.AggregateShare:
    return ev.AggregateShare(
        offer_id=member.offer_id,
        fsp_id=member.fsp_id,
        connection_point_id=member.connection_point_id,
        portfolio_id=member.portfolio_id,
        power_w=tuple(power_w),
    )


def _brp_ids(registry: Registry, members: Sequence[ev.AggregateMember]) -> tuple[str, ...]:
    """Return who is responsible for the balance of an aggregate's members; the TSO asks for it (HLUC_01_UCS_04)."""
    known = (registry.participants.get(m.fsp_id) for m in members)
    return tuple(sorted({p.brp_id for p in known if p is not None and p.brp_id is not None}))


def _awarded(session: Session, e: ev.MarketCleared) -> dict[str, list[int]]:
    """Return what was awarded per offer on the slots of the session, W."""
    step_ms = session.product.resolution_s * 1000
    found: dict[str, list[int]] = {}
    for award in e.awards:
        power_w = found.setdefault(award.offer_id, [0] * session.slots)
        first = (award.start_ms - session.scheduled.delivery_start_ms) // step_ms
        for slot, taken_w in enumerate(award.power_w, start=first):
            if 0 <= slot < session.slots:
                power_w[slot] += taken_w
    return found


def _left_w(offer: GateOffer, awarded: dict[str, list[int]]) -> tuple[int, ...]:
    """Return what of an offer can still be taken in any part per slot, W."""
    terms = offer.offer
    nothing = (0,) * len(offer.allowed_w)
    taken: Sequence[int] = awarded.get(terms.offer_id, nothing)
    if terms.all_or_nothing or (terms.exclusive_group_id is not None and not any(taken)):
        return nothing
    if terms.parent_offer_id is not None and not any(awarded.get(terms.parent_offer_id, ())):
        return nothing
    least = terms.min_energy_wh
    if least is not None and sum(energy_wh(w, terms.resolution_s) for w in taken) < least:
        return nothing
    if terms.offer_id not in awarded and not any(offer.minimum_w):
        left = list(offer.allowed_w)
    else:
        left = [max(0, a - t) if t >= m else 0 for a, t, m in zip(offer.allowed_w, taken, offer.minimum_w, strict=True)]
    if terms.max_energy_wh is not None:
        budget_ws = max(0, terms.max_energy_wh * 3600 - sum(taken) * terms.resolution_s)
        for slot, power_w in enumerate(left):
            left[slot] = min(power_w, budget_ws // terms.resolution_s)
            budget_ws -= left[slot] * terms.resolution_s
    return tuple(left)


def _offered(state: Aggregates, e: ev.AggregateOffered) -> Iterator[Emission]:
    state.offered.setdefault(e.aggregate_id, Offered(e, [list(m.power_w) for m in e.members]))
    return iter(())


def _activated(state: Aggregates, e: ev.AggregateActivated) -> Iterator[Emission]:
    offered = state.offered.get(e.aggregate_id)
    if offered is None or e.tso_activation_id in offered.activations:
        return
    offered.activations.append(e.tso_activation_id)
    members = offered.event.members
    shares = [[0] * len(e.power_w) for _ in members]
    unserved = []
    for number, at_ms in enumerate(slot_starts(e.start_ms, e.resolution_s, len(e.power_w))):
        slot = _slot_of(offered.event, at_ms, e.resolution_s)
        wanted_w = max(0, e.power_w[number])
        if slot is None or at_ms < state.registry.market_time_ms:
            unserved.append(wanted_w)
            continue
        places = [slot - member.first_slot for member in members]
        weights = [
            left[k] if 0 <= k < len(left) and member.price_milli_per_mwh[k] <= e.price_milli_per_mwh else 0
            for k, member, left in zip(places, members, offered.left_w, strict=True)
        ]
        served_w = min(wanted_w, sum(weights))
        for index, share_w in enumerate(apportion(served_w, weights)):
            shares[index][number] = share_w
            if share_w:
                offered.left_w[index][places[index]] -= share_w
        unserved.append(wanted_w - served_w)
    split = ev.AggregateDisaggregated(
        area_id=e.area_id,
        session_id=offered.event.session_id,
        tso_activation_id=e.tso_activation_id,
        aggregate_id=e.aggregate_id,
        tso_id=e.tso_id,
        direction=offered.event.direction,
        start_ms=e.start_ms,
        resolution_s=e.resolution_s,
        price_milli_per_mwh=e.price_milli_per_mwh,
        shares=tuple(_share(member, power_w) for member, power_w in zip(members, shares, strict=True) if any(power_w)),
        unserved_w=tuple(unserved),
    )
    yield emit(split, e.tso_activation_id)


def _slot_of(aggregate: ev.AggregateOffered, at_ms: int, resolution_s: int) -> int | None:
    slot, rest = divmod(at_ms - aggregate.start_ms, aggregate.resolution_s * 1000)
    fits = rest == 0 and resolution_s == aggregate.resolution_s and 0 <= slot < len(aggregate.power_w)
    return slot if fits else None


def _by_place(place: tuple[str, Direction]) -> tuple[str, str]:
    return place[0], place[1].value


_CHANGES: dict[type[Any], Callable[[Aggregates, Any], Iterator[Emission]]] = {
    ev.GateClosed: _gate_closed,
    ev.MarketCleared: _market_cleared,
    ev.AggregateOffered: _offered,
    ev.AggregateActivated: _activated,
}

READS = traffic_light.READS | {t.__name__ for t in _CHANGES}
