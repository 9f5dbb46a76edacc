"""Congestion: from forecasts to needs to requests, in the name of the DSO (HEDGE-IoT SUC-FI-02.06, HEDGE-04 to 19).

The service carries out the DSO's standing configuration, which is the product of the session. What it has decided
is state, since a request takes a moment to reach the journal; the gate tells which ones did not make it. Requests
that a person has made or touched are counted and left alone (HEDGE-15).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from flexbus import events as ev
from flexbus.catalogue import Service
from flexbus.events import CongestionKind, NeedState, ProcurementState, Role
from flexbus.quantities import PPM
from flexbus.time import QUARTER_HOUR_MS, slot_starts
from flexbus.views import needs, registry
from flexbus.views.fact import Emission, Fact, emit
from flexbus.views.harmonise import Cell, canonical
from flexbus.views.needs import Key
from flexbus.views.procurement import Procurement, Tracked, elsewhere_w, outcome, power_at, status, untold
from flexbus.views.registry import Gate, Registry, Session
from flexbus.views.requests import Desk, ask, causes_of, leave, missed, place_of, untradable

__all__ = ["Congestion", "decide", "fold", "over_procured_w"]

_Series = dict[tuple[str, CongestionKind], dict[int, Cell]]


@dataclass(slots=True)
class Congestion:
    """Forecasts, needs and requests of one market area.

    Attributes:
        desk: registry, requests and what is needed to ask for more.
        cells: newest forecast by session it is meant for (None = any), element and quarter-hour.
        computed: issue and revision of the power flow whose results are coming in, by session.
        needs: need last told by session, element, kind and direction, with its state.
        unsettled: sessions whose settlement is not due; of others nothing is forecast or asked for any more.
        over_ms: end of what is forgotten of the forecasts, UTC ms.
        due: what the last fact made due.
    """

    desk: Desk = field(default_factory=Desk)
    cells: dict[str | None, _Series] = field(default_factory=dict)
    computed: dict[str, tuple[int, int]] = field(default_factory=dict)
    needs: dict[str, dict[Key, tuple[tuple[int, ...], NeedState]]] = field(default_factory=dict)
    unsettled: dict[str, None] = field(default_factory=dict)
    over_ms: int = 0
    due: tuple[Emission, ...] = ()

    @property
    def registry(self) -> Registry:
        """Who and what is registered."""
        return self.desk.registry

    @property
    def procurement(self) -> Procurement:
        """The requests."""
        return self.desk.procurement


def fold(state: Congestion, fact: Fact) -> Congestion:
    """Return forecasts, needs and requests after a fact."""
    cleared = type(fact.event) is ev.MarketCleared and _is_cleared(state, fact.event.session_id)
    registry.fold(state.registry, fact)
    change = _CHANGES.get(type(fact.event))
    state.due = () if change is None or cleared else tuple(change(state, fact.event, fact))
    return state


def decide(state: Congestion, fact: Fact) -> tuple[Emission, ...]:
    """Return the facts that a fact makes due: needs, requests and how far their procurement has come."""
    return state.due


def over_procured_w(state: Congestion, request_id: str) -> tuple[int, ...]:
    """Return what was procured above the need of today per slot of a request, W (HEDGE-12)."""
    tracked = state.procurement.requests.get(request_id)
    if tracked is None or tracked.matched_w is None or tracked.request.reactive_slots:
        return ()
    request = tracked.request
    session = state.registry.sessions.get(request.session_id)
    needed = [0] * len(request.power_w)
    for key, (values, _) in state.needs.get(request.session_id, {}).items():
        if session is not None and place_of(state.desk, key) == tracked.place:
            first = session.scheduled.delivery_start_ms
            for i, begin_ms in enumerate(slot_starts(request.start_ms, request.resolution_s, len(needed))):
                end_ms = begin_ms + request.resolution_s * 1000
                now_w = power_at(first, session.product.resolution_s, values, begin_ms, end_ms)
                needed[i] += needs.quantity_w(now_w, session.product)
    return tuple(max(0, m - n) for m, n in zip(tracked.matched_w, needed, strict=True))


def _is_cleared(state: Congestion, session_id: str) -> bool:
    session = state.registry.sessions.get(session_id)
    return session is not None and session.cleared


def _forecast(state: Congestion, e: ev.CongestionForecastReceived, fact: Fact) -> Iterator[Emission]:
    computed = fact.sender_id == Service.CONGESTION.value
    cells = {q: cell for q, cell in canonical(e, computed=computed).items() if q >= state.over_ms}
    if computed and e.session_id is not None:
        before = state.computed.get(e.session_id, (0, 0))
        state.computed[e.session_id] = max(before, (e.issued_at_ms, e.revision))
    meant = state.registry.sessions.get(e.session_id) if e.session_id is not None else None
    # What is meant for a session that is over is offered to the next one (HEDGE-11).
    late = meant is not None and meant.gate is Gate.CLOSED
    _merge(state.cells.setdefault(None if late else e.session_id, {}).setdefault((e.element_id, e.kind), {}), cells)
    now_ms = max(state.registry.market_time_ms, e.issued_at_ms)
    covering = [s for s in _in_order(state) if _covers(s, cells)]
    gone = all(s.gate is Gate.CLOSED for s in covering)
    for session in covering:
        mine = e.session_id is None or late or session is meant
        if session.gate is Gate.OPEN and mine:
            yield from _recompute(state, session, fact, now_ms)
        elif session.gate is Gate.CLOSED:
            too_late = session is meant or (e.session_id is None and gone and session is covering[-1])
            if too_late or session.scheduled.session_id in state.needs:
                yield from _recompute(state, session, fact, now_ms, asking=too_late)


def _grid_state(state: Congestion, e: ev.GridStatePublished, fact: Fact) -> Iterator[Emission]:
    """Drop what an older power flow had found: the state of the grid comes last, so what is not there is no more."""
    session, net = state.registry.sessions.get(e.session_id), state.registry.net_forecast
    newest = state.computed.pop(e.session_id, None if net is None else (net.issued_at_ms, net.revision))
    if e.cleared or session is None or newest is None:
        return
    delivery = range(session.scheduled.delivery_start_ms, session.scheduled.delivery_end_ms)
    dropped = False
    for scope in (None, e.session_id):
        for cells in state.cells.get(scope, {}).values():
            old = [q for q, cell in cells.items() if cell.computed and cell.age < newest and q in delivery]
            dropped = dropped or bool(old)
            for quarter_ms in old:
                del cells[quarter_ms]
    if dropped and session.gate is Gate.OPEN:
        yield from _recompute(state, session, fact, max(state.registry.market_time_ms, newest[0]))


def _merge(into: dict[int, Cell], cells: Mapping[int, Cell]) -> None:
    for quarter_ms, cell in cells.items():
        before = into.get(quarter_ms)
        if before is None or cell.age > before.age:
            into[quarter_ms] = cell


def _in_order(state: Congestion) -> list[Session]:
    """Return the unsettled sessions in the order in which their gates close."""
    return sorted(_unsettled(state), key=lambda s: (s.scheduled.gate_closes_ms, s.scheduled.session_id))


def _unsettled(state: Congestion) -> Iterator[Session]:
    return (state.registry.sessions[session_id] for session_id in state.unsettled)


def _covers(session: Session, cells: Mapping[int, Cell]) -> bool:
    return any(session.scheduled.delivery_start_ms <= q < session.scheduled.delivery_end_ms for q in cells)


def _recompute(
    state: Congestion, session: Session, fact: Fact, now_ms: int, *, asking: bool = True
) -> Iterator[Emission]:
    """Compute the needs of a session anew and yield what has changed: needs, then, if asked to, requests."""
    session_id, product = session.scheduled.session_id, session.product
    if state.registry.network is None or not 0 < session.slots <= 400:
        return
    series = _newest(state, session)
    if not series:
        return
    if state.desk.tree is None:
        state.desk.tree = needs.feeder_tree(state.registry.network)
    starts = slot_starts(session.scheduled.delivery_start_ms, product.resolution_s, session.slots)
    before = state.needs.setdefault(session_id, {})
    kept = {key: values for key, (values, _) in before.items()}
    stale_before_ms = now_ms - product.max_forecast_age_s * 1000
    tradable: dict[Key, bool] = {}

    def requested_w(key: Key, start_ms: int, need_w: int) -> int:
        """What is, or will be, requested for a need: nothing if none can be, what people ask for if they decide."""
        place = place_of(state.desk, key)
        if (session_id, place) in state.desk.hands_off:
            end_ms = start_ms + product.resolution_s * 1000
            return elsewhere_w(state.procurement, place, state.desk.dso_id or "", session_id, start_ms, end_ms)
        if key not in tradable:
            tradable[key] = untradable(state.desk, key, product) is None
        return needs.quantity_w(need_w, product) if tradable[key] else 0

    found = needs.needs_of(series, state.desk.tree, product, starts, stale_before_ms, kept, requested_w)
    for key in sorted(found, key=lambda k: (k[0], k[1].value, k[2].value)):
        yield from _tell(state, session, key, tuple(found[key]), series, fact)
    if asking:
        yield from ask(state.desk, session, found, series, starts, fact.event.area_id, now_ms)


def _newest(state: Congestion, session: Session) -> _Series:
    """Return what is forecast for the delivery of a session."""
    found: _Series = {}
    last_ms = session.scheduled.delivery_end_ms
    quarters = range(session.scheduled.delivery_start_ms // QUARTER_HOUR_MS * QUARTER_HOUR_MS, last_ms, QUARTER_HOUR_MS)
    for scope in (None, session.scheduled.session_id):
        for key, cells in state.cells.get(scope, {}).items():
            _merge(found.setdefault(key, {}), {q: cells[q] for q in quarters if q in cells})
    return found


def _tell(
    state: Congestion, session: Session, key: Key, values: tuple[int, ...], series: _Series, fact: Fact
) -> Iterator[Emission]:
    """Yield the need of an element if it, or its state, is another than the one last told (HEDGE-08)."""
    session_id = session.scheduled.session_id
    before = state.needs.setdefault(session_id, {})
    now = _state_of(state, session, key, values)
    if before.get(key) == (values, now) or (key not in before and now is NeedState.GONE):
        return
    before[key] = (values, now)
    element_id, kind, direction = key
    yield emit(
        ev.NeedComputed(
            area_id=fact.event.area_id,
            session_id=session_id,
            element_id=element_id,
            kind=kind,
            direction=direction,
            start_ms=session.scheduled.delivery_start_ms,
            resolution_s=session.product.resolution_s,
            need_w=values,
            state=now,
            causes=causes_of(session, series.get((element_id, kind), {})),
        ),
        session_id, element_id, kind.value, direction.value, fact.event_id,
    )  # fmt: skip


def _state_of(state: Congestion, session: Session, key: Key, values: tuple[int, ...]) -> NeedState:
    if not any(values):
        return NeedState.GONE
    step_ms = session.product.resolution_s * 1000
    open_slots = False
    for i, need_w in enumerate(values):
        begin_ms = session.scheduled.delivery_start_ms + i * step_ms
        if need_w and not _met(state, session, key, need_w, begin_ms):
            if begin_ms <= state.registry.market_time_ms or not _coming(state, session, begin_ms):
                return NeedState.UNCOVERED
            open_slots = True
    return NeedState.OPEN if open_slots else NeedState.COVERED


def _met(state: Congestion, session: Session, key: Key, need_w: int, begin_ms: int) -> bool:
    place, end_ms = place_of(state.desk, key), begin_ms + session.product.resolution_s * 1000
    procured = 0
    for tracked in state.procurement.at(place, begin_ms):
        if tracked.matched_w is not None and not tracked.request.reactive_slots:
            request = tracked.request
            procured += power_at(request.start_ms, request.resolution_s, tracked.matched_w, begin_ms, end_ms)
    return procured * session.product.sensitivity_ppm // PPM >= need_w


def _coming(state: Congestion, session: Session, begin_ms: int) -> bool:
    """Tell whether a session that still precedes the slot can buy for it."""
    if not session.cleared:
        return True
    return any(
        s.gate is not Gate.CLOSED and s.scheduled.delivery_start_ms <= begin_ms < s.scheduled.delivery_end_ms
        for s in _unsettled(state)
    )


def _gate_opened(state: Congestion, e: ev.GateOpened, fact: Fact) -> Iterator[Emission]:
    session = state.registry.sessions.get(e.session_id)
    if session is not None:
        yield from _recompute(state, session, fact, state.registry.market_time_ms)


def _gate_closed(state: Congestion, e: ev.GateClosed, fact: Fact) -> Iterator[Emission]:
    for tracked in state.procurement.in_session(e.session_id):
        if tracked.accepted is not None and not tracked.withdrawn:
            # What was decided and did not reach the journal in time does not count.
            state.procurement.move(tracked, tracked.accepted)
            tracked.live = True
        elif tracked.live:
            tracked.live = False
            yield from missed(state.desk, e.area_id, tracked.request)
    for key, cells in state.cells.pop(e.session_id, {}).items():
        _merge(state.cells.setdefault(None, {}).setdefault(key, {}), cells)
    yield from _recompute_open(state, fact)


def _recompute_open(state: Congestion, fact: Fact) -> Iterator[Emission]:
    for session in _in_order(state):
        if session.gate is Gate.OPEN:
            yield from _recompute(state, session, fact, state.registry.market_time_ms)


def _submitted(state: Congestion, e: ev.FlexRequestSubmitted | ev.FlexRequestAmended, fact: Fact) -> Iterator[Emission]:
    ours = fact.sender_id == Service.CONGESTION.value
    tracked = state.procurement.requests.get(e.request.request_id)
    if tracked is None:
        tracked = Tracked(e.request, ours=ours)
        state.procurement.add(tracked)
    elif tracked.matched_w is not None or (
        tracked.accepted is not None and e.request.revision <= tracked.accepted.revision
    ):
        return
    elif not ours or e.request.revision > tracked.request.revision:
        state.procurement.move(tracked, e.request)
        tracked.live = True
    tracked.accepted = e.request
    if tracked.ours and not ours:
        leave(state.desk, tracked)
    shown = replace(tracked, request=e.request)
    tracked.state = ProcurementState.ACKNOWLEDGED
    yield status(e.area_id, shown, ProcurementState.ACKNOWLEDGED, e.request.revision)
    if not ours and state.registry.has_role(e.request.requester_id, Role.DSO):
        yield from _recompute_open(state, fact)


def _withdrawn(state: Congestion, e: ev.FlexRequestWithdrawn, fact: Fact) -> Iterator[Emission]:
    tracked = state.procurement.requests.get(e.request_id)
    if tracked is not None and not tracked.withdrawn and tracked.matched_w is None:
        tracked.live, tracked.withdrawn = False, True
        if tracked.ours and fact.sender_id != Service.CONGESTION.value:
            leave(state.desk, tracked)
        yield status(e.area_id, tracked, ProcurementState.WITHDRAWN)


def _network(state: Congestion, e: ev.NetworkModelPublished, fact: Fact) -> Iterator[Emission]:
    state.desk.tree = None
    state.desk.dso_id = fact.actor_id
    return iter(())


def _cleared(state: Congestion, e: ev.MarketCleared, fact: Fact) -> Iterator[Emission]:
    results: tuple[ev.RequestOutcome | ev.ReactiveOutcome, ...] = (*e.requests, *e.reactive_requests)
    for result in results:
        tracked = state.procurement.requests.get(result.request_id)
        if tracked is not None and tracked.request.session_id == e.session_id:
            yield from outcome(state.procurement, e.area_id, result)
    # Requests that the record had no room for did not take part.
    told = {result.request_id for result in results}
    for tracked in state.procurement.in_session(e.session_id):
        if tracked.request.request_id not in told:
            yield from outcome(state.procurement, e.area_id, untold(tracked.request))
    # What the market gave changes what is still open in every session that serves the same slots.
    for session in _unsettled(state):
        known = state.needs.get(session.scheduled.session_id)
        if known:
            series = _newest(state, session)
            for key, (values, _) in sorted(known.items(), key=lambda i: (i[0][0], i[0][1].value, i[0][2].value)):
                yield from _tell(state, session, key, values, series, fact)
    yield from _recompute_open(state, fact)


def _scheduled(state: Congestion, e: ev.MarketSessionScheduled, fact: Fact) -> Iterator[Emission]:
    if e.session_id in state.registry.sessions:
        state.unsettled[e.session_id] = None
    return iter(())


def _settled(state: Congestion, e: ev.SettlementDue, fact: Fact) -> Iterator[Emission]:
    """Forget what was forecast for times that no session that is not settled delivers in."""
    if e.session_id in state.unsettled:
        del state.unsettled[e.session_id]
        ended_ms = state.registry.sessions[e.session_id].scheduled.delivery_end_ms
        state.over_ms = max(state.over_ms, min([ended_ms, *(s.scheduled.delivery_start_ms for s in _unsettled(state))]))
        for scope, series in list(state.cells.items()):
            for cells in series.values():
                for quarter_ms in [q for q in cells if q < state.over_ms]:
                    del cells[quarter_ms]
            if scope not in (None, *state.unsettled) and not any(series.values()):
                del state.cells[scope]
    return iter(())


_CHANGES: dict[type[Any], Callable[[Congestion, Any, Fact], Iterator[Emission]]] = {
    ev.MarketSessionScheduled: _scheduled,
    ev.NetworkModelPublished: _network,
    ev.CongestionForecastReceived: _forecast,
    ev.GridStatePublished: _grid_state,
    ev.GateOpened: _gate_opened,
    ev.GateClosed: _gate_closed,
    ev.FlexRequestSubmitted: _submitted,
    ev.FlexRequestAmended: _submitted,
    ev.FlexRequestWithdrawn: _withdrawn,
    ev.MarketCleared: _cleared,
    ev.SettlementDue: _settled,
}

# Names of the events the fold looks at; the others need not be decoded for it.
READS = registry.READS | {t.__name__ for t in _CHANGES}
