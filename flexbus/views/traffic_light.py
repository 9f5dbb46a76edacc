"""Traffic lights and capacity limits: what flexibility each connection point may still give, and why not more.

The rules:
- A dynamic light (`TrafficLightSet`) overrides the static default of its point for its hours; of several that
  cover an hour the last accepted counts (BeFlexible SUC10.2, SUC10.3). A direction on which a YELLOW light is
  silent keeps its static default.
- Capacity limits bind the net power of a point. All that overlap apply, and one that touches a slot binds all of it.
  A stop leaves nothing. A lifted limit ends at the instant from which it is lifted.
- Flexibility counts from the baseline. Without one, the point is taken to stand at its contracted power.

`flexbus.views.clipping` cuts offers by these rules; the clearing uses the same functions.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from flexbus import events as ev
from flexbus.events import Colour
from flexbus.quantities import Direction
from flexbus.views import book, registry
from flexbus.views.book import Book
from flexbus.views.clipping import Clipping, Restriction, clippings
from flexbus.views.fact import Emission, Fact, emit
from flexbus.views.registry import Gate, Session
from flexbus.views.restrictions import Limit, PointLimits, Signals, allowed_w, light_of, limits_over

__all__ = ["TrafficLights", "allowed_w", "clip_session", "decide", "fold"]

_HOUR_MS = 3_600_000
_Hour = tuple[Colour, int | None, int | None]
_GREEN: _Hour = (Colour.GREEN, None, None)


@dataclass(slots=True)
class TrafficLights(Signals):
    """Lights and limits of one market area, with the registry and the order book they act on.

    Attributes:
        book: the order books, for offers and baselines.
        point_of_light: connection point of each light.
        point_of_limit: connection point of each limit.
        shown: what was last said about a point in a session, per hour; a point not in it is green.
        due: lights that the last fact changed.
    """

    book: Book = field(default_factory=Book)
    point_of_light: dict[str, str] = field(default_factory=dict)
    point_of_limit: dict[str, str] = field(default_factory=dict)
    shown: dict[tuple[str, str], tuple[_Hour, ...]] = field(default_factory=dict)
    due: tuple[Emission, ...] = ()


def fold(state: TrafficLights, fact: Fact) -> TrafficLights:
    """Return lights, limits, registry and book after a fact."""
    registry.fold(state.registry, fact)
    book.fold(state.book, fact)
    change = _CHANGES.get(type(fact.event))
    state.due = () if change is None else tuple(_changes(state, fact, change(state, fact.event)))
    return state


def decide(state: TrafficLights, fact: Fact) -> tuple[Emission, ...]:
    """Return the facts that a fact makes due: changed lights while a gate is open, cut offers when it closes."""
    if type(fact.event) is ev.GateClosed:
        return tuple(_clipped(state, fact.event))
    return state.due


def clip_session(state: TrafficLights, session_id: str) -> dict[str, Clipping]:
    """Return how far the live offers of a session are cut, by offer; offers that are not cut are absent."""
    session = state.registry.sessions.get(session_id)
    if session is None:
        return {}
    entries = state.book.session(session_id)

    def limits_at(point_id: str, direction: Direction) -> PointLimits:
        return PointLimits(state, point_id, direction, entries.baselines.get(point_id))

    return clippings(state.registry, entries.offers.values(), session.product.step_w, limits_at)


def _clipped(state: TrafficLights, e: ev.GateClosed) -> Iterator[Emission]:
    offers = state.book.session(e.session_id).offers
    for offer_id, cut in clip_session(state, e.session_id).items():
        offer = offers[offer_id]
        event = ev.FlexOfferClipped(
            area_id=e.area_id,
            offer_id=offer_id,
            revision=offer.revision,
            fsp_id=offer.fsp_id,
            start_ms=offer.start_ms,
            resolution_s=offer.resolution_s,
            offered_w=cut.offered_w,
            allowed_w=cut.allowed_w,
            causes=cut.causes,
            reason=cut.reason,
            offered_var=cut.offered_var,
            allowed_var=cut.allowed_var,
        )
        yield emit(event, e.session_id, offer_id, offer.revision)


def _changes(state: TrafficLights, fact: Fact, points: Sequence[str]) -> Iterator[Emission]:
    """Compare what the lights of some points say now with what was last said, in all sessions with an open gate."""
    e = fact.event
    for session_id, session in state.registry.sessions.items():
        if session.gate is not Gate.OPEN or (type(e) is ev.GateOpened and session_id != e.session_id):
            continue
        for point_id in points:
            now, causes = _hours(state, session, point_id)
            before = state.shown.get((session_id, point_id), (_GREEN,) * len(now))
            if now != before:
                state.shown[session_id, point_id] = now
                changed = ev.TrafficLightChanged(
                    area_id=e.area_id,
                    session_id=session_id,
                    connection_point_id=point_id,
                    start_ms=session.scheduled.delivery_start_ms // _HOUR_MS * _HOUR_MS,
                    colours=tuple(h[0] for h in now),
                    max_up_w=tuple(h[1] for h in now),
                    max_down_w=tuple(h[2] for h in now),
                    causes=causes,
                )
                yield emit(changed, session_id, point_id, fact.event_id)


def _hours(state: TrafficLights, session: Session, point_id: str) -> tuple[tuple[_Hour, ...], tuple[str, ...]]:
    scheduled = session.scheduled
    point = state.registry.connection_points.get(point_id)
    baseline = state.book.session(scheduled.session_id).baselines.get(point_id)
    step_ms = session.product.resolution_s * 1000
    first_ms = scheduled.delivery_start_ms // _HOUR_MS * _HOUR_MS
    starts = range(first_ms, -(-scheduled.delivery_end_ms // _HOUR_MS) * _HOUR_MS, step_ms)
    limited = None if point is None else limits_over(state, point, starts, baseline)
    hours: list[_Hour] = []
    causes = dict.fromkeys(() if limited is None else limited.causes)
    for hour_ms in range(first_ms, scheduled.delivery_end_ms, _HOUR_MS):
        most: list[int | None] = []
        slots = slice((hour_ms - first_ms) // step_ms, (hour_ms - first_ms + _HOUR_MS) // step_ms)
        for direction in Direction:
            if point is None or limited is None:
                found = [Restriction(0, f"point {point_id}: removed")]
            else:
                found = list(light_of(state, point, direction, hour_ms))
            causes.update((r.cause, None) for r in found)
            allowed = [r.allowed_w for r in found]
            if limited is not None:
                allowed += [w for w in limited.allowed_w[direction][slots] if w is not None]
            most.append(min(allowed, default=None))
        up, down = most
        colour = Colour.GREEN if up is None and down is None else Colour.YELLOW
        hours.append((Colour.RED if up == 0 and down == 0 else colour, up, down))
    return tuple(hours), tuple(sorted(causes))


# Each change returns the points whose lights may have changed.


def _gate_opened(state: TrafficLights, e: ev.GateOpened) -> Sequence[str]:
    points = state.registry.connection_points
    return [
        p
        for p, point in points.items()
        if point.static_up_w is not None
        or point.static_down_w is not None
        or state.lights.get(p)
        or state.limits.get(p)
    ]


def _point(state: TrafficLights, e: ev.ConnectionPointRegistered | ev.ConnectionPointRemoved) -> Sequence[str]:
    return [e.connection_point_id]


def _baseline(state: TrafficLights, e: ev.BaselineSubmitted) -> Sequence[str]:
    return [e.connection_point_id] if state.limits.get(e.connection_point_id) else []


def _light_set(state: TrafficLights, e: ev.TrafficLightSet) -> Sequence[str]:
    point_id = state.point_of_light.setdefault(e.light_id, e.connection_point_id)
    lights = state.lights.setdefault(point_id, {})
    before = lights.get(e.light_id)
    if point_id != e.connection_point_id or (before is not None and e.revision <= before.revision):
        return []
    # The last accepted comes last, also when it replaces an older revision of itself.
    lights.pop(e.light_id, None)
    lights[e.light_id] = e
    return [point_id]


def _foreseen(state: TrafficLights, e: ev.CapacityLimitForeseen) -> Sequence[str]:
    limit = Limit(e.limit_id, e.revision, e.start_ms, e.end_ms, e.max_feed_in_w, e.max_draw_w, stops=False)
    return _limit(state, e.connection_point_id, limit)


def _unforeseen(state: TrafficLights, e: ev.CapacityLimitUnforeseen) -> Sequence[str]:
    limit = Limit(e.limit_id, 1, e.start_ms, e.end_ms, e.max_feed_in_w, e.max_draw_w, stops=e.stop_activations)
    return _limit(state, e.connection_point_id, limit)


def _limit(state: TrafficLights, point_id: str, limit: Limit) -> Sequence[str]:
    if state.point_of_limit.setdefault(limit.limit_id, point_id) != point_id:
        return []
    limits = state.limits.setdefault(point_id, {})
    before = limits.get(limit.limit_id)
    if before is not None and limit.revision <= before.revision:
        return []
    limits[limit.limit_id] = limit
    return [point_id]


def _lifted(state: TrafficLights, e: ev.CapacityLimitLifted) -> Sequence[str]:
    point_id = state.point_of_limit.get(e.limit_id)
    if point_id is None:
        return []
    limit = state.limits[point_id].get(e.limit_id)
    if limit is None:
        return []
    limit.end_ms = min(limit.end_ms, e.from_ms)
    if limit.end_ms <= limit.start_ms:  # or it would bind the slot in which it was to start
        del state.limits[point_id][e.limit_id]
    return [point_id]


_CHANGES: dict[type[Any], Callable[[TrafficLights, Any], Sequence[str]]] = {
    ev.GateOpened: _gate_opened,
    ev.ConnectionPointRegistered: _point,
    ev.ConnectionPointRemoved: _point,
    ev.BaselineSubmitted: _baseline,
    ev.TrafficLightSet: _light_set,
    ev.CapacityLimitForeseen: _foreseen,
    ev.CapacityLimitUnforeseen: _unforeseen,
    ev.CapacityLimitLifted: _lifted,
}

READS = registry.READS | book.READS | {t.__name__ for t in _CHANGES}
