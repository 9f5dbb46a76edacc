"""Congestion: from forecasts to needs to requests, in the name of the DSO (HEDGE-IoT SUC-FI-02.06, HEDGE-04 to 19).

The service carries out the DSO's standing configuration, which is the product of the session. What it has decided
is state, since a request takes a moment to reach the journal; the gate tells which ones did not make it. Requests
that a person has made or touched are counted and left alone (HEDGE-15).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from flexbus import events as ev
from flexbus.catalogue import Service
from flexbus.events import CongestionKind, NeedState, ProcurementState, Role
from flexbus.ids import derived_id
from flexbus.quantities import PPM
from flexbus.time import slot_starts
from flexbus.views import needs, registry
from flexbus.views.fact import Emission, Fact, emit
from flexbus.views.harmonise import Cell, canonical
from flexbus.views.needs import FeederTree, Key
from flexbus.views.procurement import Place, Procurement, Tracked, elsewhere_w, outcome, power_at, status
from flexbus.views.registry import Gate, Registry, Session

__all__ = ["Congestion", "decide", "fold", "over_procured_w"]

_Series = dict[tuple[str, CongestionKind], dict[int, Cell]]


@dataclass(slots=True)
class Congestion:
    """Forecasts, needs and requests of one market area.

    Attributes:
        registry: who and what is registered.
        procurement: the requests.
        dso_id: system operator in whose name the service asks: the one that published the network.
        tree: feeder tree of the network; None = not made since the network changed.
        cells: newest forecast by session it is meant for (None = any), element and quarter-hour.
        computed: issue and revision of the power flow whose results are coming in, by session.
        needs: need last told by session, element, kind and direction, with its state.
        told: needs that cannot be traded, and missed requests, of which the DSO has been told.
        hands_off: places per session where a person has changed or withdrawn a request of the service.
        due: what the last fact made due.
    """

    registry: Registry = field(default_factory=Registry)
    procurement: Procurement = field(default_factory=Procurement)
    dso_id: str | None = None
    tree: FeederTree | None = None
    cells: dict[str | None, _Series] = field(default_factory=dict)
    computed: dict[str, tuple[int, int]] = field(default_factory=dict)
    needs: dict[str, dict[Key, tuple[tuple[int, ...], NeedState]]] = field(default_factory=dict)
    told: set[tuple[str, ...]] = field(default_factory=set)
    hands_off: set[tuple[str, Place]] = field(default_factory=set)
    due: tuple[Emission, ...] = ()


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
    if tracked is None or tracked.matched_w is None:
        return ()
    request = tracked.request
    session = state.registry.sessions.get(request.session_id)
    needed = [0] * len(request.power_w)
    for key, (values, _) in state.needs.get(request.session_id, {}).items():
        if session is not None and _place(state, key) == tracked.place:
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
    cells = canonical(e, computed=computed)
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
            missed = session is meant or (e.session_id is None and gone and session is covering[-1])
            if missed or session.scheduled.session_id in state.needs:
                yield from _recompute(state, session, fact, now_ms, ask=missed)


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
    """Return the sessions in the order in which their gates close."""
    return sorted(state.registry.sessions.values(), key=lambda s: (s.scheduled.gate_closes_ms, s.scheduled.session_id))


def _covers(session: Session, cells: Mapping[int, Cell]) -> bool:
    return any(session.scheduled.delivery_start_ms <= q < session.scheduled.delivery_end_ms for q in cells)


def _recompute(state: Congestion, session: Session, fact: Fact, now_ms: int, *, ask: bool = True) -> Iterator[Emission]:
    """Compute the needs of a session anew and yield what has changed: needs, then, if asked to, requests."""
    session_id, product = session.scheduled.session_id, session.product
    series = _newest(state, session_id)
    if not series or state.registry.network is None or not 0 < session.slots <= 400:
        return
    if state.tree is None:
        state.tree = needs.feeder_tree(state.registry.network)
    starts = slot_starts(session.scheduled.delivery_start_ms, product.resolution_s, session.slots)
    before = state.needs.setdefault(session_id, {})
    kept = {key: values for key, (values, _) in before.items()}
    stale_before_ms = now_ms - product.max_forecast_age_s * 1000
    tradable: dict[Key, bool] = {}

    def requested_w(key: Key, start_ms: int, need_w: int) -> int:
        """What is, or will be, requested for a need: nothing if none can be, what people ask for if they decide."""
        place = _place(state, key)
        if (session_id, place) in state.hands_off:
            end_ms = start_ms + product.resolution_s * 1000
            return elsewhere_w(state.procurement, place, state.dso_id or "", session_id, start_ms, end_ms)
        if key not in tradable:
            tradable[key] = _untradable(state, key, product) is None
        return needs.quantity_w(need_w, product) if tradable[key] else 0

    found = needs.needs_of(series, state.tree, product, starts, stale_before_ms, kept, requested_w)
    for key in sorted(found, key=lambda k: (k[0], k[1].value, k[2].value)):
        yield from _tell(state, session, key, tuple(found[key]), series, fact)
    if ask:
        yield from _request(state, session, found, series, starts, fact, now_ms)


def _newest(state: Congestion, session_id: str) -> _Series:
    found: _Series = {}
    for scope in (None, session_id):
        for key, cells in state.cells.get(scope, {}).items():
            _merge(found.setdefault(key, {}), cells)
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
            causes=_causes(series.get((element_id, kind), {}).values()),
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
    place, end_ms = _place(state, key), begin_ms + session.product.resolution_s * 1000
    procured = 0
    for name in state.procurement.at_place.get(place, ()):
        tracked = state.procurement.requests[name]
        if tracked.matched_w is not None:
            request = tracked.request
            procured += power_at(request.start_ms, request.resolution_s, tracked.matched_w, begin_ms, end_ms)
    return procured * session.product.sensitivity_ppm // PPM >= need_w


def _coming(state: Congestion, session: Session, begin_ms: int) -> bool:
    """Tell whether a session that still precedes the slot can buy for it."""
    if not session.cleared:
        return True
    return any(
        s.gate is not Gate.CLOSED and s.scheduled.delivery_start_ms <= begin_ms < s.scheduled.delivery_end_ms
        for s in state.registry.sessions.values()
    )


def _place(state: Congestion, key: Key) -> Place:
    element_id, kind, direction = key
    return Place(needs.place_kind(element_id, kind, state.registry.infeed_points), element_id, direction)


def _causes(cells: Any) -> tuple[str, ...]:
    return tuple(sorted({f"{c.forecast_id} revision {c.revision}" for c in cells}))


def _request(
    state: Congestion,
    session: Session,
    found: dict[Key, list[int]],
    series: _Series,
    starts: Sequence[int],
    fact: Fact,
    now_ms: int,
) -> Iterator[Emission]:
    """Yield what must be submitted, amended or withdrawn so that the session asks for its needs (HEDGE-10 to 12)."""
    session_id, product = session.scheduled.session_id, session.product
    dso_id = state.dso_id
    wanted: dict[str, ev.FlexRequest] = {}
    own = session_id if session.gate is Gate.OPEN else None
    for key, values in sorted(found.items(), key=lambda item: (item[0][0], item[0][1].value, item[0][2].value)):
        place = _place(state, key)
        rest = [0 if s <= state.registry.market_time_ms else v for s, v in zip(starts, values, strict=True)]
        if not any(rest) or dso_id is None or (session_id, place) in state.hands_off:
            continue
        problem = _untradable(state, key, product)
        if problem is not None:
            yield from _not_tradable(state, session_id, key, problem, fact)
            continue
        missing = [
            _missing_w(state, place, dso_id, own, need_w, s, product) for need_w, s in zip(rest, starts, strict=True)
        ]
        for first, powers in needs.runs(missing):
            request = ev.FlexRequest(
                request_id=_request_id(state, fact.event.area_id, place, starts[first], session),
                revision=1,
                session_id=session_id,
                requester_id=dso_id,
                direction=place.direction,
                location_kind=place.kind,
                location_id=place.location_id,
                start_ms=starts[first],
                resolution_s=product.resolution_s,
                power_w=powers,
                max_price_milli_per_mwh=product.request_max_price_milli_per_mwh or 0,
                causes=_causes(series[key[0], key[1]].values()),
            )
            wanted[request.request_id] = request
    if session.gate is Gate.OPEN:
        yield from _withdraw(state, session_id, wanted, fact)
    late = session.gate is not Gate.OPEN or now_ms > session.scheduled.gate_closes_ms - product.submit_lead_s * 1000
    for request in wanted.values():
        tracked = state.procurement.requests.get(request.request_id)
        if tracked is not None:
            yield from _amend(state, tracked, request, product, fact)
        elif late:
            yield from _missed(state, fact.event.area_id, request)
        else:
            state.procurement.add(Tracked(request, ours=True))
            yield emit(ev.FlexRequestSubmitted(area_id=fact.event.area_id, request=request), request.request_id)


def _missing_w(
    state: Congestion,
    place: Place,
    dso_id: str,
    session_id: str | None,
    need_w: int,
    begin_ms: int,
    product: ev.MarketProductDefined,
) -> int:
    if need_w <= 0:
        return 0
    end_ms = begin_ms + product.resolution_s * 1000
    there = elsewhere_w(state.procurement, place, dso_id, session_id, begin_ms, end_ms)
    return needs.quantity_w(max(0, need_w - there * product.sensitivity_ppm // PPM), product)


def _untradable(state: Congestion, key: Key, product: ev.MarketProductDefined) -> str | None:
    """Say why no request can be made for a need, or None (HEDGE-09; NO_PRICE of HEDGE-10)."""
    element_id, kind, _ = key
    if kind is CongestionKind.VOLTAGE:
        behind: frozenset[str] | None = frozenset({element_id})
    else:
        behind = None if state.tree is None else state.tree.buses_behind(element_id)
    points = state.registry.points_at_bus
    if not any(points.get(b) for b in (points if behind is None else behind)):
        return f"no connection point is registered at or behind {element_id}; another measure is needed"
    if product.request_max_price_milli_per_mwh is None:
        return f"NO_PRICE: product {product.product_id} has no request_max_price_milli_per_mwh; set a price cap"
    return None


def _not_tradable(state: Congestion, session_id: str, key: Key, problem: str, fact: Fact) -> Iterator[Emission]:
    element_id, kind, direction = key
    told = ("not tradable", session_id, element_id, kind.value, direction.value, problem)
    if told not in state.told:
        state.told.add(told)
        event = ev.NeedNotTradable(
            area_id=fact.event.area_id,
            session_id=session_id,
            element_id=element_id,
            direction=direction,
            reason=problem,
        )
        yield emit(event, *told[1:])


def _request_id(state: Congestion, area_id: str, place: Place, start_ms: int, session: Session) -> str:
    """Return the id of a request: the same situation gives the same id, until it has been used up."""
    session_id = session.scheduled.session_id
    cause = (area_id, place.kind.value, place.location_id, place.direction.value, start_ms, session_id)
    again = 0
    while True:
        name = derived_id("FlexRequest", *cause, *((again,) if again else ()))
        tracked = state.procurement.requests.get(name)
        if tracked is None or (tracked.live and session.gate is Gate.OPEN):
            return name
        again += 1


def _withdraw(state: Congestion, session_id: str, wanted: Mapping[str, Any], fact: Fact) -> Iterator[Emission]:
    for tracked in state.procurement.in_session(session_id):
        request = tracked.request
        if tracked.ours and tracked.live and request.request_id not in wanted:
            tracked.live = False
            event = ev.FlexRequestWithdrawn(
                area_id=fact.event.area_id,
                request_id=request.request_id,
                requester_id=request.requester_id,
                reason="the need has gone",
            )
            yield emit(event, request.request_id)


def _amend(
    state: Congestion, tracked: Tracked, request: ev.FlexRequest, product: ev.MarketProductDefined, fact: Fact
) -> Iterator[Emission]:
    if not tracked.ours or not tracked.live or tracked.matched_w is not None:
        return
    old, new = tracked.request.power_w, request.power_w
    longest = max(len(old), len(new))
    padded = zip(old + (0,) * (longest - len(old)), new + (0,) * (longest - len(new)), strict=True)
    if any(abs(a - b) >= product.amend_step_w for a, b in padded):
        newer = replace(request, revision=tracked.request.revision + 1)
        state.procurement.move(tracked, newer)
        yield emit(ev.FlexRequestAmended(area_id=fact.event.area_id, request=newer), newer.request_id, newer.revision)


def _missed(state: Congestion, area_id: str, request: ev.FlexRequest) -> Iterator[Emission]:
    told = ("missed", request.request_id)
    if told not in state.told:
        state.told.add(told)
        event = ev.RequestMissedGate(
            area_id=area_id, session_id=request.session_id, request_id=request.request_id, reason="LATE"
        )
        yield emit(event, request.request_id)
        yield status(area_id, Tracked(request, ours=True, live=False), ProcurementState.MISSED)


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
            yield from _missed(state, e.area_id, tracked.request)
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
        _leave(state, tracked)
    shown = replace(tracked, request=e.request)
    tracked.state = ProcurementState.ACKNOWLEDGED
    yield status(e.area_id, shown, ProcurementState.ACKNOWLEDGED, e.request.revision)
    if not ours and state.registry.has_role(e.request.requester_id, Role.DSO):
        yield from _recompute_open(state, fact)


def _leave(state: Congestion, tracked: Tracked) -> None:
    """Leave a place of a session to people, once one of them has changed what the service asked for (HEDGE-15)."""
    tracked.ours = False
    state.hands_off.add((tracked.request.session_id, tracked.place))


def _withdrawn(state: Congestion, e: ev.FlexRequestWithdrawn, fact: Fact) -> Iterator[Emission]:
    tracked = state.procurement.requests.get(e.request_id)
    if tracked is not None and not tracked.withdrawn and tracked.matched_w is None:
        tracked.live, tracked.withdrawn = False, True
        if tracked.ours and fact.sender_id != Service.CONGESTION.value:
            _leave(state, tracked)
        yield status(e.area_id, tracked, ProcurementState.WITHDRAWN)


def _network(state: Congestion, e: ev.NetworkModelPublished, fact: Fact) -> Iterator[Emission]:
    state.tree = None
    state.dso_id = fact.actor_id
    return iter(())


def _cleared(state: Congestion, e: ev.MarketCleared, fact: Fact) -> Iterator[Emission]:
    for result in e.requests:
        tracked = state.procurement.requests.get(result.request_id)
        if tracked is not None and tracked.request.session_id == e.session_id:
            yield from outcome(state.procurement, e.area_id, result)
    # What the market gave changes what is still open in every session that serves the same slots.
    for session_id, known in state.needs.items():
        session = state.registry.sessions.get(session_id)
        if session is not None:
            series = _newest(state, session_id)
            for key, (values, _) in sorted(known.items(), key=lambda i: (i[0][0], i[0][1].value, i[0][2].value)):
                yield from _tell(state, session, key, values, series, fact)
    yield from _recompute_open(state, fact)


_CHANGES: dict[type[Any], Callable[[Congestion, Any, Fact], Iterator[Emission]]] = {
    ev.NetworkModelPublished: _network,
    ev.CongestionForecastReceived: _forecast,
    ev.GridStatePublished: _grid_state,
    ev.GateOpened: _gate_opened,
    ev.GateClosed: _gate_closed,
    ev.FlexRequestSubmitted: _submitted,
    ev.FlexRequestAmended: _submitted,
    ev.FlexRequestWithdrawn: _withdrawn,
    ev.MarketCleared: _cleared,
}
