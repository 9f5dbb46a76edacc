"""How far the procurement of each request has come (HEDGE E5, HEDGE-16 to 19).

The journal is the market's receipt, so a request is ACKNOWLEDGED when it stands there. A session is cleared once,
so its outcome is counted once; an outcome above what was requested is not believed and changes nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from flexbus import events as ev
from flexbus.events import LocationKind, ProcurementState
from flexbus.quantities import Direction
from flexbus.views.days import DAY_MS, days_of
from flexbus.views.fact import Emission, emit

__all__ = ["Place", "Procurement", "Tracked", "elsewhere_w", "outcome", "power_at", "status", "untold", "wanted"]


class Place(NamedTuple):
    """Where and in which direction something is requested."""

    kind: LocationKind
    location_id: str
    direction: Direction


@dataclass(slots=True)
class Tracked:
    """A request on its way.

    Attributes:
        request: newest revision, decided or accepted.
        ours: true while the congestion service alone made it; what a person has touched is left to people.
        accepted: newest revision in the journal; None = still on its way.
        live: not withdrawn, missed or expired.
        withdrawn: the withdrawal stands in the journal.
        matched_w: what the market gave per slot, W (var of a request for reactive power); None before the clearing.
        state: last state told.
    """

    request: ev.FlexRequest
    ours: bool
    accepted: ev.FlexRequest | None = None
    live: bool = True
    withdrawn: bool = False
    matched_w: tuple[int, ...] | None = None
    state: ProcurementState = ProcurementState.PLANNED

    @property
    def place(self) -> Place:
        """Where and in which direction it is."""
        return Place(self.request.location_kind, self.request.location_id, self.request.direction)

    @property
    def wanted(self) -> tuple[int, ...]:
        """What is wanted per slot, W, or var of a request for reactive power."""
        return wanted(self.request)


@dataclass(slots=True)
class Procurement:
    """The requests of one market area.

    Attributes:
        requests: by id.
        at_place: their ids by place and day since 1970.
        of_session: their ids by session, in the order in which they arose.
    """

    requests: dict[str, Tracked] = field(default_factory=dict)
    at_place: dict[Place, dict[int, dict[str, None]]] = field(default_factory=dict)
    of_session: dict[str, dict[str, None]] = field(default_factory=dict)

    def add(self, tracked: Tracked) -> None:
        """Take a new request in."""
        name = tracked.request.request_id
        self.requests[name] = tracked
        self._put(tracked)
        self.of_session.setdefault(tracked.request.session_id, {})[name] = None

    def move(self, tracked: Tracked, request: ev.FlexRequest) -> None:
        """Set the newest revision of a request; its location may have changed with it."""
        days = self.at_place.get(tracked.place, {})
        for day in _days(tracked.request):
            days.get(day, {}).pop(request.request_id, None)
        tracked.request = request
        self._put(tracked)

    def _put(self, tracked: Tracked) -> None:
        days = self.at_place.setdefault(tracked.place, {})
        for day in _days(tracked.request):
            days.setdefault(day, {})[tracked.request.request_id] = None

    def at(self, place: Place, at_ms: int) -> Iterator[Tracked]:
        """Yield the requests for a place on the day of an instant, UTC ms."""
        for name in self.at_place.get(place, {}).get(at_ms // DAY_MS, ()):
            yield self.requests[name]

    def in_session(self, session_id: str) -> list[Tracked]:
        """Return the requests of a session in the order in which they arose."""
        return [self.requests[name] for name in self.of_session.get(session_id, ())]


def _days(request: ev.FlexRequest) -> range:
    slots = max(len(request.power_w), len(request.reactive_slots))
    return days_of(request.start_ms, request.start_ms + slots * request.resolution_s * 1000)


def power_at(start_ms: int, resolution_s: int, power_w: tuple[int, ...], begin_ms: int, end_ms: int) -> int:
    """Return what a series gives through all of [begin, end), W; 0 where it does not reach.

    Args:
        start_ms: start of its first slot, UTC ms.
        resolution_s: length of its slots, s.
        power_w: its values, W.
        begin_ms: begin of the period, UTC ms.
        end_ms: end of the period, UTC ms.
    """
    step_ms = resolution_s * 1000
    first, last = (begin_ms - start_ms) // step_ms, -(-(end_ms - start_ms) // step_ms)
    if first < 0 or last > len(power_w):
        return 0
    return min(power_w[first:last], default=0)


def elsewhere_w(
    state: Procurement, place: Place, requester_id: str, session_id: str | None, begin_ms: int, end_ms: int
) -> int:
    """Return what is procured, or still requested by others or in other sessions, for the same need, W (HEDGE-10).

    Args:
        state: the requests.
        place: location and direction of the need.
        requester_id: party whose need it is.
        session_id: session whose requests by the service are about to be decided; None = count all.
        begin_ms: begin of the slot, UTC ms.
        end_ms: end of the slot, UTC ms.
    """
    total = 0
    for tracked in state.at(place, begin_ms):
        request = tracked.request
        if request.requester_id != requester_id or request.reactive_slots:
            continue
        if tracked.matched_w is not None:
            power_w = tracked.matched_w
        elif tracked.live and not (tracked.ours and request.session_id == session_id):
            power_w = request.power_w
        else:
            continue
        total += power_at(request.start_ms, request.resolution_s, power_w, begin_ms, end_ms)
    return total


def status(area_id: str, tracked: Tracked, state: ProcurementState, *cause: str | int) -> Emission:
    """Return the fact that the state of a request has changed, and remember it."""
    tracked.state = state
    needed = tracked.wanted
    procured = tracked.matched_w or (0,) * len(needed)
    remaining = tuple(max(0, n - p) for n, p in zip(needed, procured, strict=True))
    reactive = bool(tracked.request.reactive_slots)
    event = ev.ProcurementStatusChanged(
        area_id=area_id,
        request_id=tracked.request.request_id,
        requester_id=tracked.request.requester_id,
        session_id=tracked.request.session_id,
        state=state,
        needed_w=() if reactive else needed,
        procured_w=() if reactive else procured,
        remaining_w=() if reactive else remaining,
        needed_var=needed if reactive else (),
        procured_var=procured if reactive else (),
        remaining_var=remaining if reactive else (),
    )
    return emit(event, tracked.request.request_id, state.value, *cause)


def wanted(request: ev.FlexRequest) -> tuple[int, ...]:
    """Return what a request wants per slot, W, or var of a request for reactive power."""
    if request.reactive_slots:
        return tuple(sum(s.reactive_power_var for s in slot.steps) for slot in request.reactive_slots)
    return request.power_w


def untold(request: ev.FlexRequest) -> ev.RequestOutcome | ev.ReactiveOutcome:
    """Return what a request got of which its cleared session says nothing, as the record had no room: nothing."""
    asked, reason = wanted(request), "the market had more requests than one record can tell of"
    common = {"request_id": request.request_id, "requester_id": request.requester_id, "reason": reason}
    if request.reactive_slots:
        return ev.ReactiveOutcome(**common, requested_var=asked, matched_var=(0,) * len(asked))
    return ev.RequestOutcome(**common, requested_w=asked, matched_w=(0,) * len(asked))


def outcome(state: Procurement, area_id: str, result: ev.RequestOutcome | ev.ReactiveOutcome) -> Iterator[Emission]:
    """Count what a request got in the clearing of its session, once, and yield what follows."""
    tracked = state.requests.get(result.request_id)
    if tracked is None or not tracked.live or tracked.accepted is None or tracked.matched_w is not None:
        return
    asked, reactive = wanted(tracked.accepted), isinstance(result, ev.ReactiveOutcome)
    matched = result.matched_var if isinstance(result, ev.ReactiveOutcome) else result.matched_w
    if reactive != bool(tracked.accepted.reactive_slots) or len(matched) != len(asked):
        return
    if any(m > w for m, w in zip(matched, asked, strict=True)):
        return
    tracked.matched_w = matched
    remaining = tuple(w - m for w, m in zip(asked, matched, strict=True))
    if not any(remaining):
        yield status(area_id, tracked, ProcurementState.PROCURED)
        return
    part = any(matched)
    yield status(area_id, tracked, ProcurementState.PART_PROCURED if part else ProcurementState.UNPROCURED)
    expired = ev.FlexRequestExpired(
        area_id=area_id,
        request_id=result.request_id,
        requester_id=tracked.request.requester_id,
        remaining_w=() if reactive else remaining,
        remaining_var=remaining if reactive else (),
        reason=result.reason or "the session was cleared without meeting it in full",
    )
    yield emit(expired, result.request_id)
