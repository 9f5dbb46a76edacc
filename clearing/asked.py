"""From the requests that stood at the gate to the demand of a case: purchases, and what held limits are worth."""

from collections.abc import Iterable

from clearing.case import LimitPrice, Location, Quantity, Request, RequestSlot, Step
from clearing.snapshot import Snapshot, first_slot
from flexbus import events as ev
from flexbus.events import LimitKind, LocationKind
from flexbus.quantities import Direction

__all__ = ["asked_slots", "held_request_ids", "limit_kinds", "limit_prices", "purchases"]

MANUAL = "MANUAL"
_OF_BRANCHES = (
    LimitKind.CURRENT_FROM,
    LimitKind.CURRENT_TO,
    LimitKind.APPARENT_POWER_FROM,
    LimitKind.APPARENT_POWER_TO,
)


def asked_slots(request: ev.FlexRequest) -> int:
    """Return over how many slots a request asks for something."""
    return len(request.reactive_slots) or len(request.power_w)


def purchases(snapshot: Snapshot, held: frozenset[str]) -> tuple[Request, ...]:
    """Return the requests that are bought for.

    Args:
        snapshot: what stood before the gate.
        held: requests that stand for a limit which is held anyway, by id.
    """
    return tuple(_request(snapshot, r) for r in snapshot.requests if _is_purchase(snapshot, r, held))


def held_request_ids(snapshot: Snapshot) -> frozenset[str]:
    """Return the requests from forecasts that name an element whose limit the clearing holds anyway."""
    limited = _limited_elements(snapshot.network)
    return frozenset(
        r.request_id
        for r in snapshot.requests
        if r.causes
        and MANUAL not in r.causes
        and not r.reactive_slots
        and (r.location_kind, r.location_id, r.direction) in limited
    )


def limit_prices(held: Iterable[ev.FlexRequest]) -> tuple[LimitPrice, ...]:
    """Return what holding the limits of branches and infeed points is worth to those who asked for it."""
    found: dict[tuple[LimitKind, str], int] = {}
    for request in held:
        for kind in limit_kinds(request):
            key = (kind, request.location_id)
            found[key] = max(found.get(key, 0), request.max_price_milli_per_mwh)
    return tuple(
        LimitPrice(kind=kind, element_id=element_id, price_milli=price) for (kind, element_id), price in found.items()
    )


def limit_kinds(request: ev.FlexRequest) -> tuple[LimitKind, ...]:
    """Return the priced limits of branch or infeed point that a request which names it stands for; none of a bus."""
    match request.location_kind:
        case LocationKind.INFEED_POINT:
            return (LimitKind.IMPORT if request.direction is Direction.UP else LimitKind.EXPORT,)
        case LocationKind.BRANCH:
            return _OF_BRANCHES
        case _:
            # What a voltage is worth is told per unit, not per MWh: by the product.
            return ()


def _limited_elements(network: ev.NetworkModelPublished | None) -> set[tuple[LocationKind, str, Direction]]:
    """Return what the clearing holds: element and the direction of flexibility that relieves it."""
    if network is None:
        return set()
    both = tuple(Direction)
    found = {(LocationKind.BUS, b.bus_id, d) for b in network.buses for d in both}
    found |= {
        (LocationKind.BRANCH, b.branch_id, d)
        for b in network.branches
        if b.max_current_ma or b.max_from_current_ma or b.max_apparent_power_va
        for d in both
    }
    for point in network.infeed_points:
        if point.max_import_w is not None:
            found.add((LocationKind.INFEED_POINT, point.infeed_id, Direction.UP))
        if point.max_export_w is not None:
            found.add((LocationKind.INFEED_POINT, point.infeed_id, Direction.DOWN))
    return found


def _is_purchase(snapshot: Snapshot, request: ev.FlexRequest, held: frozenset[str]) -> bool:
    network = snapshot.network
    if network is None or request.request_id in held or request.max_price_milli_per_mwh < 0:
        return False
    if request.resolution_s != snapshot.product.resolution_s:
        return False
    match request.location_kind:
        case LocationKind.AREA:
            return request.location_id == snapshot.area_id
        case LocationKind.BUS:
            return any(b.bus_id == request.location_id for b in network.buses)
        case LocationKind.ZONE:
            return any(b.zone_id == request.location_id for b in network.buses)
        case LocationKind.INFEED_POINT:
            return any(p.infeed_id == request.location_id for p in network.infeed_points)
        case LocationKind.BRANCH:
            # The flow over an open branch is no quantity, and over a joint of two buses it has no one value.
            return any(
                b.branch_id == request.location_id and b.closed and bool(b.r_ohm or b.x_ohm) for b in network.branches
            )


def _request(snapshot: Snapshot, request: ev.FlexRequest) -> Request:
    slots = [RequestSlot()] * snapshot.slots
    first = first_slot(snapshot, request.start_ms)
    for slot, asked in enumerate(_demand(request), start=first):
        if asked.steps and 0 <= slot < len(slots):
            slots[slot] = asked
    return Request(
        request_id=request.request_id,
        requester_id=request.requester_id,
        kind=snapshot.kinds[request.requester_id],
        quantity=Quantity.REACTIVE if request.reactive_slots else Quantity.ACTIVE,
        direction=request.direction,
        location_kind=Location(request.location_kind.value),
        # In a case the area needs no name; `_is_purchase` has seen that the request names this one.
        location_id="" if request.location_kind is LocationKind.AREA else request.location_id,
        slots=tuple(slots),
    )


def _demand(request: ev.FlexRequest) -> Iterable[RequestSlot]:
    """Yield what a request asks for per slot of its own."""
    for reactive in request.reactive_slots:
        yield RequestSlot(
            steps=tuple(
                Step(quantity=s.reactive_power_var, price_milli_per_mwh=s.price_milli_per_mvarh) for s in reactive.steps
            ),
            min_quantity=reactive.min_reactive_power_var,
        )
    if request.reactive_slots:
        return
    for slot in request.curve:
        yield RequestSlot(
            steps=tuple(Step(quantity=s.power_w, price_milli_per_mwh=s.price_milli_per_mwh) for s in slot.steps),
            min_quantity=slot.min_power_w,
        )
    if request.curve:
        return
    for power_w in request.power_w:
        if power_w <= 0:
            yield RequestSlot()
            continue
        step = Step(quantity=power_w, price_milli_per_mwh=request.max_price_milli_per_mwh)
        yield RequestSlot(steps=(step,), min_quantity=min(power_w, request.min_power_w))
