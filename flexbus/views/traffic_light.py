"""Traffic lights and capacity limits: what flexibility each connection point may still give, and why not more.

The rules, tightest first to last:
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
from flexbus.views.registry import Gate, Registry, Session

__all__ = [
    "READS",
    "Limit",
    "PointLimits",
    "TrafficLights",
    "allowed_w",
    "clip_session",
    "decide",
    "fold",
    "restrictions",
]

_HOUR_MS = 3_600_000
_Hour = tuple[Colour, int | None, int | None]
_GREEN: _Hour = (Colour.GREEN, None, None)


@dataclass(slots=True)
class Limit:
    """A capacity limit as it stands: a period, and what may flow in it."""

    limit_id: str
    revision: int
    start_ms: int
    end_ms: int
    max_feed_in_w: int | None
    max_draw_w: int | None
    stops: bool


@dataclass(slots=True)
class TrafficLights:
    """Lights and limits of one market area, with the registry and the order book they act on.

    Attributes:
        registry: who and what is registered.
        book: the order books, for offers and baselines.
        lights: newest revision of each dynamic light by point, in the order of acceptance.
        limits: newest revision of each limit by point.
        point_of_limit: connection point of each limit.
        shown: what was last said about a point in a session, per hour; a point not in it is green.
        due: lights that the last fact changed.
    """

    registry: Registry = field(default_factory=Registry)
    book: Book = field(default_factory=Book)
    lights: dict[str, dict[str, ev.TrafficLightSet]] = field(default_factory=dict)
    point_of_light: dict[str, str] = field(default_factory=dict)
    limits: dict[str, dict[str, Limit]] = field(default_factory=dict)
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


class PointLimits:
    """What restricts the flexibility of one connection point in one direction, as it stands now.

    Args:
        state: the view.
        connection_point_id: the point.
        direction: direction of the flexibility.
        baseline: net power without flexibility; None = not submitted.
    """

    def __init__(
        self,
        state: TrafficLights,
        connection_point_id: str,
        direction: Direction,
        baseline: ev.BaselineSubmitted | None,
    ) -> None:
        self._state = state
        self._id = connection_point_id
        self._direction = direction
        self._point = state.registry.connection_points.get(connection_point_id)
        self._baseline = baseline
        # Without lights and limits of its own, a point is restricted alike in every slot but for its baseline.
        self._plain = not state.lights.get(connection_point_id) and not state.limits.get(connection_point_id)
        self._constant = min((r.allowed_w for r in self._always()), default=None)

    def least_w(self) -> int | None:
        """Return what is allowed in any slot, W, or less; None = nothing is restricted in any slot."""
        if self._point is None or not self._plain:
            return 0
        if self._baseline is None or not self._baseline.power_w:
            return self._constant
        values = self._baseline.power_w
        stands = max(values) if self._direction is Direction.UP else min(values)
        room = max(0, _room_w(self._point, self._direction, stands))
        return room if self._constant is None else min(room, self._constant)

    def most_w(self, start_ms: int, end_ms: int) -> int | None:
        """Return the most flexibility in a slot, W; None = not restricted."""
        most = self._constant
        point = self._point
        if point is None:
            return 0
        if not self._plain:
            return min((r.allowed_w for r in self.restrictions(start_ms, end_ms)), default=None)
        stands = _power_at(self._baseline, start_ms)
        if stands is not None:
            room = max(0, _room_w(point, self._direction, stands))
            return room if most is None or room < most else most
        return most

    def restrictions(self, start_ms: int, end_ms: int) -> tuple[Restriction, ...]:
        """Return all that restricts a slot, tightest first."""
        return restrictions(
            self._state, self._id, self._direction, start_ms, end_ms, _power_at(self._baseline, start_ms)
        )

    def _always(self) -> Iterator[Restriction]:
        if self._point is not None:
            yield from _light(self._state, self._point, self._direction, -1)
            yield from _validated(self._state, self._id, self._direction)


def restrictions(
    state: TrafficLights,
    connection_point_id: str,
    direction: Direction,
    start_ms: int,
    end_ms: int,
    baseline_w: int | None,
) -> tuple[Restriction, ...]:
    """Return all that restricts the flexibility of a point in a slot, tightest first; empty = nothing does.

    Args:
        state: the view.
        connection_point_id: the point.
        direction: direction of the flexibility.
        start_ms: start of the slot, UTC ms.
        end_ms: end of the slot, UTC ms.
        baseline_w: net power without flexibility, W, positive = feed-in; None = not submitted.
    """
    point = state.registry.connection_points.get(connection_point_id)
    if point is None:
        return (Restriction(0, f"point {connection_point_id}: removed"),)
    found = [
        *_light(state, point, direction, start_ms),
        *_limits(state, point, direction, start_ms, end_ms, baseline_w),
        *_validated(state, connection_point_id, direction),
    ]
    if baseline_w is not None:
        room = max(0, _room_w(point, direction, baseline_w))
        found.append(Restriction(room, f"contract of {connection_point_id}"))
    return tuple(sorted(found))


def _room_w(point: ev.ConnectionPointRegistered, direction: Direction, stands_w: int) -> int:
    return point.max_feed_in_w - stands_w if direction is Direction.UP else point.max_draw_w + stands_w


def _validated(state: TrafficLights, point_id: str, direction: Direction) -> Iterator[Restriction]:
    validated = state.registry.validated_w(point_id, direction)
    if validated is not None:
        yield Restriction(validated, f"assets of {point_id}: approved flexibility")


def allowed_w(
    state: TrafficLights,
    connection_point_id: str,
    direction: Direction,
    start_ms: int,
    end_ms: int,
    baseline_w: int | None,
) -> tuple[int | None, tuple[str, ...]]:
    """Return the most flexibility a point may give in a slot, W (None = not restricted), and what says so.

    Args:
        state: the view.
        connection_point_id: the point.
        direction: direction of the flexibility.
        start_ms: start of the slot, UTC ms.
        end_ms: end of the slot, UTC ms.
        baseline_w: net power without flexibility, W, positive = feed-in; None = not submitted.
    """
    found = restrictions(state, connection_point_id, direction, start_ms, end_ms, baseline_w)
    if not found:
        return None, ()
    return found[0].allowed_w, tuple(r.cause for r in found if r.allowed_w == found[0].allowed_w)


def clip_session(state: TrafficLights, session_id: str) -> dict[str, Clipping]:
    """Return how far the live offers of a session are cut, by offer; offers that are not cut are absent."""
    session = state.registry.sessions.get(session_id)
    if session is None:
        return {}
    entries = state.book.session(session_id)

    def limits_at(point_id: str, direction: Direction) -> PointLimits:
        return PointLimits(state, point_id, direction, entries.baselines.get(point_id))

    return clippings(state.registry, entries.offers.values(), session.product.step_w, limits_at)


def _power_at(baseline: ev.BaselineSubmitted | None, at_ms: int) -> int | None:
    if baseline is None:
        return None
    index = (at_ms - baseline.start_ms) // (baseline.resolution_s * 1000)
    return baseline.power_w[index] if 0 <= index < len(baseline.power_w) else None


def _light(
    state: TrafficLights, point: ev.ConnectionPointRegistered, direction: Direction, at_ms: int
) -> Iterator[Restriction]:
    up = direction is Direction.UP
    most, cause = point.static_up_w if up else point.static_down_w, f"static light of {point.connection_point_id}"
    for light in reversed(state.lights.get(point.connection_point_id, {}).values()):
        if light.start_ms <= at_ms < light.end_ms:
            said = light.max_up_w if up else light.max_down_w
            if light.colour is Colour.RED:
                said = 0
            if said is not None or light.colour is Colour.GREEN:
                most, cause = said, f"light {light.light_id} revision {light.revision}: {light.colour.value}"
            break
    if most is not None:
        yield Restriction(most, cause)


def _limits(
    state: TrafficLights,
    point: ev.ConnectionPointRegistered,
    direction: Direction,
    start_ms: int,
    end_ms: int,
    baseline_w: int | None,
) -> Iterator[Restriction]:
    up = direction is Direction.UP
    stands = (point.max_feed_in_w if up else -point.max_draw_w) if baseline_w is None else baseline_w
    for limit in state.limits.get(point.connection_point_id, {}).values():
        if limit.start_ms < end_ms and start_ms < limit.end_ms:
            most = limit.max_feed_in_w if up else limit.max_draw_w
            cause = f"limit {limit.limit_id} revision {limit.revision}"
            if limit.stops:
                yield Restriction(0, f"{cause}: stop")
            elif most is not None:
                without = ", no baseline" if baseline_w is None else ""
                yield Restriction(max(0, most - stands if up else most + stands), f"{cause}{without}")


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
    hours: list[_Hour] = []
    causes: dict[str, None] = {}
    for hour_ms in range(scheduled.delivery_start_ms // _HOUR_MS * _HOUR_MS, scheduled.delivery_end_ms, _HOUR_MS):
        most: list[int | None] = []
        for direction in Direction:
            found = [Restriction(0, f"point {point_id}: removed")] if point is None else []
            if point is not None:
                found += _light(state, point, direction, hour_ms)
                for start_ms in range(hour_ms, hour_ms + _HOUR_MS, step_ms):
                    power_w = _power_at(baseline, start_ms)
                    found += _limits(state, point, direction, start_ms, start_ms + step_ms, power_w)
            causes.update((r.cause, None) for r in found)
            most.append(min((r.allowed_w for r in found), default=None))
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
    limit = state.limits[point_id][e.limit_id]
    limit.end_ms = min(limit.end_ms, e.from_ms)
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
