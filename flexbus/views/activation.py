"""Activations: what is ordered when, who answered, and what is still owed (BeFlexible SUC06.2).

Rules, all deadlines from the session's product:
- An award becomes one order per run of consecutive slots with quantity. The buyer is the DSO of the area: the one that
  published its network, else the first DSO by id. A run is ordered at the last slot boundary that keeps
  `activation_lead_s`; what would have had to be ordered before the first boundary of the session is ordered when the
  market is cleared. Slots that have begun are not ordered.
- A share of a TSO activation is ordered at once; the TSO pays.
- An order neither acknowledged nor refused when the market clock passes `acknowledge_by_ms` has timed out; it is
  still owed, as is a refused one, which counts as not delivered.
- An unforeseen limit with `stop_activations` stops every order at its connection point, running or coming. A slot
  that a stop touches is not owed, and lifting the limit does not bring it back. A portfolio delivers from its
  other points, so a limit at one of them does not stop it.
- Reactive power is delivered as awarded and power is held ready as awarded: there is no order, and nobody acknowledges.
  A slot that a stop touches is not owed of them either.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from flexbus import events as ev
from flexbus.events import Role
from flexbus.ids import derived_id
from flexbus.time import slot_starts
from flexbus.views import registry as registration
from flexbus.views.days import DAY_MS, days_of
from flexbus.views.fact import Emission, Fact, emit
from flexbus.views.payback import longest_slots

__all__ = [
    "READS",
    "Activation",
    "ActivationState",
    "Activations",
    "Standing",
    "decide",
    "fold",
    "owed_w",
    "shown_at",
]


class ActivationState(Enum):
    """How the provider answered an order."""

    ORDERED = "ORDERED"
    ACKNOWLEDGED = "ACKNOWLEDGED"
    REFUSED = "REFUSED"
    TIMED_OUT = "TIMED_OUT"


@dataclass(slots=True)
class Activation:
    """An order and what became of it.

    Attributes:
        order: the order as it was given.
        power_w: quantity per slot after changes, W.
        stopped: per slot, true if a stop touches it.
        state: the provider's answer.
        revision: revision of the last change, 1 before the first.
        points: connection points whose meters show it.
        payback: how it comes back at its point; None if it does not.
    """

    order: ev.ActivationOrdered
    power_w: list[int]
    stopped: list[bool]
    state: ActivationState = ActivationState.ORDERED
    revision: int = 1
    points: tuple[str, ...] = ()
    payback: ev.Payback | None = None

    @property
    def end_ms(self) -> int:
        """End of the last slot, UTC ms."""
        return self.order.start_ms + len(self.power_w) * self.order.resolution_s * 1000

    @property
    def over_ms(self) -> int:
        """End of the last slot in which its meters may show it or its payback, UTC ms."""
        after = 0 if self.payback is None else longest_slots(self.payback)
        return self.end_ms + after * self.order.resolution_s * 1000


@dataclass(slots=True)
class Standing:
    """An award that is delivered without an order: of reactive power, or of power held ready.

    Attributes:
        area_id: market area.
        session_id: session it was awarded in.
        buyer_id: party that pays.
        award: the award.
        stopped: per slot, true if a stop touches it.
    """

    area_id: str
    session_id: str
    buyer_id: str
    award: ev.ReactiveAward | ev.Reservation
    stopped: list[bool]


@dataclass(slots=True)
class Activations:
    """The activations of one market area at a position of its journal.

    Attributes:
        registry: who and what is registered.
        network_dso_id: DSO that published the network; None before.
        activations: by id.
        at_point: ids of the activations that a connection point's meter shows, by day since 1970 (`shown_at`).
        of_session: ids of the activations of a session.
        unanswered: acknowledgement deadline by activation, UTC ms.
        waiting: per session, orders to come, latest first.
        stops: limits that stop activations, by connection point, then limit.
        standing: awards that need no order, by session, then award.
        paybacks: what comes back after awards, by award.
        due: what the last fact makes due.
    """

    registry: registration.Registry = field(default_factory=registration.Registry)
    network_dso_id: str | None = None
    activations: dict[str, Activation] = field(default_factory=dict)
    at_point: dict[str, dict[int, list[str]]] = field(default_factory=dict)
    of_session: dict[str, list[str]] = field(default_factory=dict)
    unanswered: dict[str, int] = field(default_factory=dict)
    waiting: dict[str, list[ev.ActivationOrdered]] = field(default_factory=dict)
    stops: dict[str, dict[str, ev.CapacityLimitUnforeseen]] = field(default_factory=dict)
    standing: dict[str, dict[str, Standing]] = field(default_factory=dict)
    paybacks: dict[str, ev.Payback] = field(default_factory=dict)
    due: tuple[Emission, ...] = ()


def owed_w(activation: Activation) -> tuple[int, ...]:
    """Return what is owed per slot after changes and stops, W; a refused order is still owed."""
    return tuple(0 if s else p for p, s in zip(activation.power_w, activation.stopped, strict=True))


def shown_at(state: Activations, connection_point_id: str, from_ms: int, until_ms: int) -> Iterator[str]:
    """Yield the ids of the activations that a connection point's meter shows in a period, paybacks included.

    They are kept by day: whoever asks must not go through all that was ever ordered at the point.

    Args:
        state: the activations.
        connection_point_id: connection point.
        from_ms: start of the period, UTC ms.
        until_ms: its end, UTC ms.
    """
    days = state.at_point.get(connection_point_id, {})
    for day in days_of(from_ms, until_ms):
        for activation_id in days.get(day, ()):
            activation = state.activations[activation_id]
            # What reaches over several days is named on the first of them that is asked for.
            first = max(activation.order.start_ms, from_ms)
            if first < min(activation.over_ms, until_ms) and first // DAY_MS == day:
                yield activation_id


def fold(state: Activations, fact: Fact) -> Activations:
    """Return the activations after a fact; facts that concern none leave them as they were."""
    state.registry = registration.fold(state.registry, fact)
    if type(fact.event) is ev.NetworkModelPublished and state.registry.has_role(fact.actor_id, Role.DSO):
        state.network_dso_id = fact.actor_id
    change = _CHANGES.get(type(fact.event))
    state.due = tuple(change(state, fact.event)) if change is not None else ()
    return state


def decide(state: Activations, fact: Fact) -> tuple[Emission, ...]:
    """Return the orders, stops and time-outs that the fact just folded makes due."""
    return state.due


def _market_cleared(state: Activations, e: ev.MarketCleared) -> Iterator[Emission]:
    session = state.registry.sessions.get(e.session_id)
    buyer_id = state.network_dso_id or next(iter(state.registry.with_role(Role.DSO)), None)
    if session is None or buyer_id is None or e.session_id in state.waiting:
        return
    state.paybacks.update({t.award_id: t.payback for t in e.award_terms if t.payback is not None})
    held: tuple[ev.ReactiveAward | ev.Reservation, ...] = (*e.reactive_awards, *e.reservations)
    for taken in held:
        standing = Standing(e.area_id, e.session_id, buyer_id, taken, [False] * len(_quantity(taken)))
        state.standing.setdefault(e.session_id, {}).setdefault(taken.award_id, standing)
        for limit in state.stops.get(taken.connection_point_id or "", {}).values():
            _stop_standing(standing, limit)
    orders = [
        ev.ActivationOrdered(
            area_id=e.area_id,
            session_id=e.session_id,
            activation_id=derived_id("Activation", e.area_id, award.award_id, start_ms),
            award_id=award.award_id,
            tso_activation_id=None,
            offer_id=award.offer_id,
            orderer_id=buyer_id,
            fsp_id=award.fsp_id,
            connection_point_id=award.connection_point_id,
            portfolio_id=award.portfolio_id,
            direction=award.direction,
            start_ms=start_ms,
            resolution_s=award.resolution_s,
            power_w=award.power_w[first:last],
            price_milli_per_mwh=award.price_milli_per_mwh[first:last],
            acknowledge_by_ms=0,
        )
        for award in e.awards
        for start_ms, first, last in _runs(
            award.start_ms, award.resolution_s, award.power_w, state.registry.market_time_ms
        )
    ]
    orders.sort(key=lambda o: (o.start_ms, o.activation_id), reverse=True)
    state.waiting[e.session_id] = orders
    first_boundary_ms = session.scheduled.delivery_start_ms
    if state.registry.market_time_ms >= first_boundary_ms:
        step_ms = session.product.resolution_s * 1000
        passed = (state.registry.market_time_ms - first_boundary_ms) // step_ms
        first_boundary_ms += (passed + 1) * step_ms
    yield from _due_orders(state, e.session_id, first_boundary_ms)


def _delivery_started(state: Activations, e: ev.DeliveryStarted) -> Iterator[Emission]:
    yield from _overdue(state, e.area_id)
    yield from _due_orders(state, e.session_id, e.end_ms)


def _clock(state: Activations, e: ev.DeliveryEnded | ev.SettlementDue) -> Iterator[Emission]:
    return _overdue(state, e.area_id)


def _due_orders(state: Activations, session_id: str, next_boundary_ms: int) -> Iterator[Emission]:
    """Yield the waiting orders that the next slot boundary would be too late for."""
    orders = state.waiting.get(session_id)
    if not orders:
        return
    product = state.registry.sessions[session_id].product
    while orders and orders[-1].start_ms - product.activation_lead_s * 1000 < next_boundary_ms:
        order = orders.pop()
        by_ms = state.registry.market_time_ms + product.acknowledge_within_s * 1000
        yield emit(replace(order, acknowledge_by_ms=by_ms), order.activation_id)


def _overdue(state: Activations, area_id: str) -> Iterator[Emission]:
    now_ms = state.registry.market_time_ms
    for activation_id in [a for a, by_ms in state.unanswered.items() if by_ms <= now_ms]:
        del state.unanswered[activation_id]
        fsp_id = state.activations[activation_id].order.fsp_id
        yield emit(
            ev.ActivationTimedOut(area_id=area_id, activation_id=activation_id, fsp_id=fsp_id, at_ms=now_ms),
            activation_id,
        )


def _disaggregated(state: Activations, e: ev.AggregateDisaggregated) -> Iterator[Emission]:
    session = state.registry.sessions.get(e.session_id)
    if session is None:
        return
    now_ms = state.registry.market_time_ms
    for share in e.shares:
        for start_ms, first, last in _runs(e.start_ms, e.resolution_s, share.power_w, now_ms):
            order = ev.ActivationOrdered(
                area_id=e.area_id,
                session_id=e.session_id,
                activation_id=derived_id("Activation", e.area_id, e.tso_activation_id, share.offer_id, start_ms),
                award_id=None,
                tso_activation_id=e.tso_activation_id,
                offer_id=share.offer_id,
                orderer_id=e.tso_id,
                fsp_id=share.fsp_id,
                connection_point_id=share.connection_point_id,
                portfolio_id=share.portfolio_id,
                direction=e.direction,
                start_ms=start_ms,
                resolution_s=e.resolution_s,
                power_w=share.power_w[first:last],
                price_milli_per_mwh=(e.price_milli_per_mwh,) * (last - first),
                acknowledge_by_ms=now_ms + session.product.acknowledge_within_s * 1000,
            )
            yield emit(order, order.activation_id)


def _ordered(state: Activations, e: ev.ActivationOrdered) -> Iterator[Emission]:
    if e.activation_id in state.activations or len(e.price_milli_per_mwh) != len(e.power_w):
        return
    point = e.connection_point_id
    points = (point,) if point is not None else state.registry.points_of_portfolio(e.portfolio_id or "")
    slots = len(e.power_w)
    # What comes back of a portfolio's order is not known to come back at one point.
    payback = None if point is None else state.paybacks.get(e.award_id or "")
    activation = Activation(e, [max(0, p) for p in e.power_w], [False] * slots, points=points, payback=payback)
    state.activations[e.activation_id] = activation
    state.of_session.setdefault(e.session_id, []).append(e.activation_id)
    state.unanswered[e.activation_id] = e.acknowledge_by_ms
    for name in points:
        for day in days_of(e.start_ms, activation.over_ms):
            state.at_point.setdefault(name, {}).setdefault(day, []).append(e.activation_id)
    for limit in state.stops.get(point or "", {}).values():
        yield from _stops(activation, limit)


def _acknowledged(state: Activations, e: ev.ActivationAcknowledged) -> Iterator[Emission]:
    activation = state.activations.get(e.activation_id)
    if activation is not None and activation.state is not ActivationState.REFUSED:
        activation.state = ActivationState.ACKNOWLEDGED
        state.unanswered.pop(e.activation_id, None)
    return iter(())


def _refused(state: Activations, e: ev.ActivationRefused) -> Iterator[Emission]:
    activation = state.activations.get(e.activation_id)
    if activation is not None:
        activation.state = ActivationState.REFUSED
        state.unanswered.pop(e.activation_id, None)
    return iter(())


def _timed_out(state: Activations, e: ev.ActivationTimedOut) -> Iterator[Emission]:
    activation = state.activations.get(e.activation_id)
    # An answer that slipped in between the deciding fact and this one is late, but it is an answer.
    if activation is not None and activation.state is ActivationState.ORDERED:
        activation.state = ActivationState.TIMED_OUT
    state.unanswered.pop(e.activation_id, None)
    return iter(())


def _changed(state: Activations, e: ev.ActivationChanged) -> Iterator[Emission]:
    activation = state.activations.get(e.activation_id)
    if activation is None or e.revision <= activation.revision:
        return iter(())
    activation.revision = e.revision
    order = activation.order
    first = -(-(e.from_ms - order.start_ms) // (order.resolution_s * 1000))
    for slot, power_w in enumerate(e.power_w, start=first):
        if 0 <= slot < len(activation.power_w):
            # A change lowers; more would be another order at another price.
            activation.power_w[slot] = max(0, min(activation.power_w[slot], power_w))
    return iter(())


def _stopped(state: Activations, e: ev.ActivationStopped) -> Iterator[Emission]:
    activation = state.activations.get(e.activation_id)
    if activation is not None:
        for slot in _touched(activation.order, e.from_ms, e.until_ms):
            activation.stopped[slot] = True
    return iter(())


def _limited(state: Activations, e: ev.CapacityLimitUnforeseen) -> Iterator[Emission]:
    if not e.stop_activations:
        return
    state.stops.setdefault(e.connection_point_id, {})[e.limit_id] = e
    for activation_id in shown_at(state, e.connection_point_id, e.start_ms, e.end_ms):
        activation = state.activations[activation_id]
        if activation.order.connection_point_id is not None:
            yield from _stops(activation, e)
    for session_id, of_session in state.standing.items():
        delivery = state.registry.sessions[session_id].scheduled
        if e.start_ms < delivery.delivery_end_ms and delivery.delivery_start_ms < e.end_ms:
            for standing in of_session.values():
                if standing.award.connection_point_id == e.connection_point_id:
                    _stop_standing(standing, e)


def _lifted(state: Activations, e: ev.CapacityLimitLifted) -> Iterator[Emission]:
    for limits in state.stops.values():
        limit = limits.get(e.limit_id)
        if limit is not None:
            # Orders that come later are stopped only for what is left of the period.
            limits[e.limit_id] = replace(limit, end_ms=max(limit.start_ms, min(limit.end_ms, e.from_ms)))
    return iter(())


def _stops(activation: Activation, limit: ev.CapacityLimitUnforeseen) -> Iterator[Emission]:
    order = activation.order
    if not any(activation.power_w[s] for s in _touched(order, limit.start_ms, limit.end_ms)):
        return
    yield emit(
        ev.ActivationStopped(
            area_id=order.area_id,
            activation_id=order.activation_id,
            fsp_id=order.fsp_id,
            from_ms=max(limit.start_ms, order.start_ms),
            until_ms=min(limit.end_ms, activation.end_ms),
            cause=limit.limit_id,
            reason=limit.reason,
        ),
        order.activation_id,
        limit.limit_id,
    )


def _quantity(award: ev.ReactiveAward | ev.Reservation) -> tuple[int, ...]:
    return award.reactive_power_var or (award.power_w if isinstance(award, ev.Reservation) else ())


def _stop_standing(standing: Standing, limit: ev.CapacityLimitUnforeseen) -> None:
    award = standing.award
    for slot in _within(award.start_ms, award.resolution_s, len(standing.stopped), limit.start_ms, limit.end_ms):
        standing.stopped[slot] = True


def _touched(order: ev.ActivationOrdered, from_ms: int, until_ms: int) -> range:
    """Return the slots that share an instant with a period."""
    return _within(order.start_ms, order.resolution_s, len(order.power_w), from_ms, until_ms)


def _within(start_ms: int, resolution_s: int, slots: int, from_ms: int, until_ms: int) -> range:
    step_ms = resolution_s * 1000
    first = max(0, (from_ms - start_ms) // step_ms)
    last = min(slots, -(-(until_ms - start_ms) // step_ms))
    return range(first, last) if until_ms > from_ms else range(0)


def _runs(
    start_ms: int, resolution_s: int, power_w: tuple[int, ...], not_before_ms: int
) -> Iterator[tuple[int, int, int]]:
    """Yield start (UTC ms), first and last slot (exclusive) of each run of slots with quantity that can be ordered."""
    first: int | None = None
    starts = slot_starts(start_ms, resolution_s, len(power_w))
    for slot, at_ms in enumerate(starts):
        wanted = power_w[slot] > 0 and at_ms >= not_before_ms
        if wanted and first is None:
            first = slot
        elif not wanted and first is not None:
            yield starts[first], first, slot
            first = None
    if first is not None:
        yield starts[first], first, len(power_w)


_CHANGES: dict[type[Any], Callable[[Activations, Any], Iterator[Emission]]] = {
    ev.MarketCleared: _market_cleared,
    ev.DeliveryStarted: _delivery_started,
    ev.DeliveryEnded: _clock,
    ev.SettlementDue: _clock,
    ev.AggregateDisaggregated: _disaggregated,
    ev.ActivationOrdered: _ordered,
    ev.ActivationAcknowledged: _acknowledged,
    ev.ActivationRefused: _refused,
    ev.ActivationTimedOut: _timed_out,
    ev.ActivationChanged: _changed,
    ev.ActivationStopped: _stopped,
    ev.CapacityLimitUnforeseen: _limited,
    ev.CapacityLimitLifted: _lifted,
}

# Names of the events that the fold looks at; the others, offers above all, need not be decoded for it.
READS = registration.READS | {t.__name__ for t in _CHANGES}
