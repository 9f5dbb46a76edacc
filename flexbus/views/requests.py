"""Requests in the name of the DSO: submitted, amended and withdrawn while the gate is open (HEDGE-09 to 12, 15)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from flexbus import events as ev
from flexbus.events import CongestionKind, ProcurementState
from flexbus.ids import derived_id
from flexbus.quantities import PPM
from flexbus.views import needs
from flexbus.views.fact import Emission, emit
from flexbus.views.harmonise import Cell
from flexbus.views.needs import FeederTree, Key
from flexbus.views.procurement import Place, Procurement, Tracked, elsewhere_w, status
from flexbus.views.registry import Gate, Registry, Session

__all__ = ["Desk", "ask", "causes_of", "leave", "missed", "place_of", "untradable"]


@dataclass(slots=True)
class Desk:
    """What the service needs to know to ask for flexibility.

    Attributes:
        registry: who and what is registered.
        procurement: the requests.
        dso_id: system operator in whose name the service asks: the one that published the network.
        tree: feeder tree of the network; None = not made since the network changed.
        told: needs that cannot be traded, and missed requests, of which the DSO has been told.
        hands_off: places per session where a person has changed or withdrawn a request of the service.
    """

    registry: Registry = field(default_factory=Registry)
    procurement: Procurement = field(default_factory=Procurement)
    dso_id: str | None = None
    tree: FeederTree | None = None
    told: set[tuple[str, ...]] = field(default_factory=set)
    hands_off: set[tuple[str, Place]] = field(default_factory=set)


def place_of(desk: Desk, key: Key) -> Place:
    """Return where flexibility for a need is asked for: the branch, infeed point or bus itself."""
    element_id, kind, direction = key
    return Place(needs.place_kind(element_id, kind, desk.registry.infeed_points), element_id, direction)


def causes_of(session: Session, cells: Mapping[int, Cell]) -> tuple[str, ...]:
    """Return the forecasts that a session's needs follow from, with their revisions.

    Args:
        session: the session; what is told of other times is left out.
        cells: what is told of an element, by the start of the quarter-hour, UTC ms.
    """
    begin_ms, end_ms = session.scheduled.delivery_start_ms, session.scheduled.delivery_end_ms
    found = {f"{c.forecast_id} revision {c.revision}" for at_ms, c in cells.items() if begin_ms <= at_ms < end_ms}
    return tuple(sorted(found))


def ask(
    desk: Desk,
    session: Session,
    found: dict[Key, list[int]],
    series: Mapping[tuple[str, CongestionKind], Mapping[int, Cell]],
    starts: Sequence[int],
    area_id: str,
    now_ms: int,
) -> Iterator[Emission]:
    """Yield what must be submitted, amended or withdrawn so that the session asks for its needs (HEDGE-10 to 12)."""
    session_id, product = session.scheduled.session_id, session.product
    dso_id = desk.dso_id
    wanted: dict[str, ev.FlexRequest] = {}
    own = session_id if session.gate is Gate.OPEN else None
    for key, values in sorted(found.items(), key=lambda item: (item[0][0], item[0][1].value, item[0][2].value)):
        place = place_of(desk, key)
        rest = [0 if s <= desk.registry.market_time_ms else v for s, v in zip(starts, values, strict=True)]
        if not any(rest) or dso_id is None or (session_id, place) in desk.hands_off:
            continue
        problem = untradable(desk, key, product)
        if problem is not None:
            yield from _not_tradable(desk, session_id, key, problem, area_id)
            continue
        missing = [
            _missing_w(desk, place, dso_id, own, need_w, s, product) for need_w, s in zip(rest, starts, strict=True)
        ]
        for first, powers in needs.runs(missing):
            request = ev.FlexRequest(
                request_id=_request_id(desk, area_id, place, starts[first], session),
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
                causes=causes_of(session, series[key[0], key[1]]),
            )
            wanted[request.request_id] = request
    if session.gate is Gate.OPEN:
        yield from _withdraw(desk, session_id, wanted, area_id)
    late = session.gate is not Gate.OPEN or now_ms > session.scheduled.gate_closes_ms - product.submit_lead_s * 1000
    for request in wanted.values():
        tracked = desk.procurement.requests.get(request.request_id)
        if tracked is not None:
            yield from _amend(desk, tracked, request, product, area_id)
        elif late:
            yield from missed(desk, area_id, request)
        else:
            desk.procurement.add(Tracked(request, ours=True))
            yield emit(ev.FlexRequestSubmitted(area_id=area_id, request=request), request.request_id)


def _missing_w(
    desk: Desk,
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
    there = elsewhere_w(desk.procurement, place, dso_id, session_id, begin_ms, end_ms)
    return needs.quantity_w(max(0, need_w - there * product.sensitivity_ppm // PPM), product)


def untradable(desk: Desk, key: Key, product: ev.MarketProductDefined) -> str | None:
    """Say why no request can be made for a need, or None (HEDGE-09; NO_PRICE of HEDGE-10)."""
    element_id, kind, _ = key
    if kind is CongestionKind.VOLTAGE:
        behind: frozenset[str] | None = frozenset({element_id})
    else:
        behind = None if desk.tree is None else desk.tree.buses_behind(element_id)
    points = desk.registry.points_at_bus
    if not any(points.get(b) for b in (points if behind is None else behind)):
        return f"no connection point is registered at or behind {element_id}; another measure is needed"
    if product.request_max_price_milli_per_mwh is None:
        return f"NO_PRICE: product {product.product_id} has no request_max_price_milli_per_mwh; set a price cap"
    return None


def _not_tradable(desk: Desk, session_id: str, key: Key, problem: str, area_id: str) -> Iterator[Emission]:
    element_id, kind, direction = key
    told = ("not tradable", session_id, element_id, kind.value, direction.value, problem)
    if told not in desk.told:
        desk.told.add(told)
        event = ev.NeedNotTradable(
            area_id=area_id,
            session_id=session_id,
            element_id=element_id,
            direction=direction,
            reason=problem,
        )
        yield emit(event, *told[1:])


def _request_id(desk: Desk, area_id: str, place: Place, start_ms: int, session: Session) -> str:
    """Return the id of a request: the same situation gives the same id, until it has been used up."""
    session_id = session.scheduled.session_id
    cause = (area_id, place.kind.value, place.location_id, place.direction.value, start_ms, session_id)
    again = 0
    while True:
        name = derived_id("FlexRequest", *cause, *((again,) if again else ()))
        tracked = desk.procurement.requests.get(name)
        if tracked is None or (tracked.live and session.gate is Gate.OPEN):
            return name
        again += 1


def _withdraw(desk: Desk, session_id: str, wanted: Mapping[str, ev.FlexRequest], area_id: str) -> Iterator[Emission]:
    for tracked in desk.procurement.in_session(session_id):
        request = tracked.request
        if tracked.ours and tracked.live and request.request_id not in wanted:
            tracked.live = False
            event = ev.FlexRequestWithdrawn(
                area_id=area_id,
                request_id=request.request_id,
                requester_id=request.requester_id,
                reason="the need has gone",
            )
            yield emit(event, request.request_id)


def _amend(
    desk: Desk, tracked: Tracked, request: ev.FlexRequest, product: ev.MarketProductDefined, area_id: str
) -> Iterator[Emission]:
    if not tracked.ours or not tracked.live or tracked.matched_w is not None:
        return
    old, new = tracked.request.power_w, request.power_w
    longest = max(len(old), len(new))
    padded = zip(old + (0,) * (longest - len(old)), new + (0,) * (longest - len(new)), strict=True)
    if any(abs(a - b) >= product.amend_step_w for a, b in padded):
        newer = replace(request, revision=tracked.request.revision + 1)
        desk.procurement.move(tracked, newer)
        yield emit(ev.FlexRequestAmended(area_id=area_id, request=newer), newer.request_id, newer.revision)


def missed(desk: Desk, area_id: str, request: ev.FlexRequest) -> Iterator[Emission]:
    """Yield once that a request has come too late for its session (HEDGE-11)."""
    told = ("missed", request.request_id)
    if told not in desk.told:
        desk.told.add(told)
        event = ev.RequestMissedGate(
            area_id=area_id, session_id=request.session_id, request_id=request.request_id, reason="LATE"
        )
        yield emit(event, request.request_id)
        yield status(area_id, Tracked(request, ours=True, live=False), ProcurementState.MISSED)


def leave(desk: Desk, tracked: Tracked) -> None:
    """Leave a place of a session to people, once one of them has changed what the service asked for (HEDGE-15)."""
    tracked.ours = False
    desk.hands_off.add((tracked.request.session_id, tracked.place))
