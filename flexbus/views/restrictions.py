"""What restricts the flexibility of a connection point: lights, limits, contract and approval; pure.

`flexbus.views.traffic_light` keeps what stands and states the rules; `flexbus.views.clipping` cuts offers by them.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate

from flexbus import events as ev
from flexbus.events import Colour
from flexbus.quantities import Direction
from flexbus.views.clipping import Restriction
from flexbus.views.registry import Registry

__all__ = [
    "Limit",
    "LimitedSlots",
    "PointLimits",
    "Signals",
    "allowed_w",
    "light_of",
    "limits_of",
    "limits_over",
    "power_at",
    "restrictions",
]

_STOP_W = -(2**62)  # a stop leaves nothing, whatever the point stands at


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
class Signals:
    """The lights and limits that stand in one market area.

    Attributes:
        registry: who and what is registered.
        lights: newest revision of each dynamic light by point, in the order of acceptance.
        limits: newest revision of each limit by point.
    """

    registry: Registry = field(default_factory=Registry)
    lights: dict[str, dict[str, ev.TrafficLightSet]] = field(default_factory=dict)
    limits: dict[str, dict[str, Limit]] = field(default_factory=dict)


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
        state: Signals,
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
        stands = power_at(self._baseline, start_ms)
        if stands is not None:
            room = max(0, _room_w(point, self._direction, stands))
            return room if most is None or room < most else most
        return most

    def restrictions(self, start_ms: int, end_ms: int) -> tuple[Restriction, ...]:
        """Return all that restricts a slot, tightest first."""
        return restrictions(
            self._state, self._id, self._direction, start_ms, end_ms, power_at(self._baseline, start_ms)
        )

    def _always(self) -> Iterator[Restriction]:
        if self._point is not None:
            yield from light_of(self._state, self._point, self._direction, -1)
            yield from _validated(self._state, self._id, self._direction)


def restrictions(
    state: Signals,
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
        *light_of(state, point, direction, start_ms),
        *limits_of(state, point, direction, start_ms, end_ms, baseline_w),
        *_validated(state, connection_point_id, direction),
    ]
    if baseline_w is not None:
        room = max(0, _room_w(point, direction, baseline_w))
        found.append(Restriction(room, f"contract of {connection_point_id}"))
    return tuple(sorted(found))


def _room_w(point: ev.ConnectionPointRegistered, direction: Direction, stands_w: int) -> int:
    return point.max_feed_in_w - stands_w if direction is Direction.UP else point.max_draw_w + stands_w


def _validated(state: Signals, point_id: str, direction: Direction) -> Iterator[Restriction]:
    validated = state.registry.validated_w(point_id, direction)
    if validated is not None:
        yield Restriction(validated, f"assets of {point_id}: approved flexibility")


def allowed_w(
    state: Signals,
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


def power_at(baseline: ev.BaselineSubmitted | None, at_ms: int) -> int | None:
    """Return the power of a baseline at an instant, W; None where there is none."""
    if baseline is None:
        return None
    index = (at_ms - baseline.start_ms) // (baseline.resolution_s * 1000)
    return baseline.power_w[index] if 0 <= index < len(baseline.power_w) else None


def light_of(
    state: Signals, point: ev.ConnectionPointRegistered, direction: Direction, at_ms: int
) -> Iterator[Restriction]:
    """Yield what the light of a point says at an instant: the dynamic one over the static default."""
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


@dataclass(frozen=True, slots=True)
class LimitedSlots:
    """What the capacity limits of a point leave in slots that follow each other.

    Attributes:
        allowed_w: by direction, per slot, W; None = no limit touches it.
        causes: what says so, all limits that touch a slot.
    """

    allowed_w: dict[Direction, list[int | None]]
    causes: set[str]


def limits_over(
    state: Signals, point: ev.ConnectionPointRegistered, starts: range, baseline: ev.BaselineSubmitted | None
) -> LimitedSlots:
    """Return what `limits_of` yields in many slots, at the cost of each limit once: there may be thousands.

    Args:
        state: the view.
        point: the point.
        starts: start of each slot, UTC ms; it steps by their length.
        baseline: net power without flexibility; None = not submitted.
    """
    stands = [power_at(baseline, start_ms) for start_ms in starts]
    known = [0, *accumulate(power_w is not None for power_w in stands)]  # slots with a baseline before each
    causes: set[str] = set()
    ranked: dict[Direction, list[tuple[int, int, int]]] = {direction: [] for direction in Direction}
    for limit in state.limits.get(point.connection_point_id, {}).values():
        first = max(0, (limit.start_ms - starts.start) // starts.step)
        last = min(len(starts), -(-(limit.end_ms - starts.start) // starts.step))
        if first >= last:
            continue
        cause = f"limit {limit.limit_id} revision {limit.revision}"
        if limit.stops:
            causes.add(f"{cause}: stop")
            for slots in ranked.values():
                slots.append((_STOP_W, first, last))
            continue
        for direction, most in ((Direction.UP, limit.max_feed_in_w), (Direction.DOWN, limit.max_draw_w)):
            if most is not None:
                ranked[direction].append((most, first, last))
                with_baseline = known[last] - known[first]
                causes.update([cause] if with_baseline else ())
                causes.update([f"{cause}, no baseline"] if with_baseline < last - first else ())
    return LimitedSlots({d: _tightest(point, d, slots, stands) for d, slots in ranked.items()}, causes)


def _tightest(
    point: ev.ConnectionPointRegistered,
    direction: Direction,
    ranked: list[tuple[int, int, int]],
    stands: list[int | None],
) -> list[int | None]:
    allowed_w: list[int | None] = [None] * len(stands)
    open_slots = list(range(len(stands)))  # that no limit has been found for yet
    contract_w = point.max_feed_in_w if direction is Direction.UP else -point.max_draw_w
    for most, first, last in sorted(ranked):
        begin, end = bisect_left(open_slots, first), bisect_left(open_slots, last)
        for slot in open_slots[begin:end]:
            power_w = stands[slot]
            allowed_w[slot] = max(0, most - direction.sign * (contract_w if power_w is None else power_w))
        del open_slots[begin:end]
    return allowed_w


def limits_of(
    state: Signals,
    point: ev.ConnectionPointRegistered,
    direction: Direction,
    start_ms: int,
    end_ms: int,
    baseline_w: int | None,
) -> Iterator[Restriction]:
    """Yield what the capacity limits of a point leave in a slot, counted from its baseline."""
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
