"""From the journal to a case: everything that stood before the gate, nothing that came after it.

`snapshot_of` takes the facts out of the views when the gate closes; `case_of` translates them. Both are pure, so
whoever folds the same journal comes to the same case, and its hash proves it.

Rules:
- Network and forecast are the newest before the gate; the forecast is a power level that holds over its slots.
- Lights and limits clip offers by the very function that the traffic light tells providers of (`clip_session`).
- A portfolio delivers at its buses in proportion to the approved flexibility of its assets there.
- Awards of earlier sessions stand: the forecast is the grid without any flexibility.
- A request that follows from a forecast and names an element whose limit the clearing holds anyway is no extra
  purchase, for that would pay twice for one relief: it says what holding that limit is worth (the highest of their
  prices; the product's `violation_price` where there is none). Every other request is a purchase.
- What cannot be placed on the network any more (its bus, point, parent or location is gone) is left out, named.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from clearing.case import (
    BusShare,
    Case,
    FixedAward,
    LimitPrice,
    Location,
    Offer,
    OfferSlot,
    Request,
    RequestKind,
    RequestSlot,
    Step,
)
from clearing.case import Settings as CaseSettings
from flexbus import events as ev
from flexbus.events import LimitKind, LocationKind, Role
from flexbus.events.grid import BusInjection
from flexbus.quantities import PPM, Direction
from flexbus.shares import apportion
from flexbus.time import Period, iso
from flexbus.views import traffic_light
from flexbus.views.clearing import Results
from flexbus.views.registry import Registry, Session
from flexbus.views.traffic_light import TrafficLights

__all__ = ["Snapshot", "case_of", "first_slot", "held_request_ids", "obstacle", "snapshot_of"]

MANUAL = "MANUAL"
_NOTHING = OfferSlot()
_OF_BRANCHES = (
    LimitKind.CURRENT_FROM,
    LimitKind.CURRENT_TO,
    LimitKind.APPARENT_POWER_FROM,
    LimitKind.APPARENT_POWER_TO,
)
_Place = tuple[str | None, tuple[BusShare, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What one clearing depends on, as it stood when the gate closed.

    Attributes:
        area_id: market area.
        session: the session.
        product: its product, as of when it was scheduled.
        gate_block: number of the block that holds `GateClosed`.
        network: newest network model, None if there is none.
        forecast: newest forecast of net injections, None if there is none.
        offers: live offers, sorted by id, without their slots.
        stacks: slots of each offer as whole numbers: least quantity, then quantity and price of each step. Plain
            numbers, since a snapshot goes to another process, and a million small objects take it seconds.
        allowed_w: per offer that lights or limits cut, what is allowed per slot of the offer, W.
        places: per offer that has a place, its bus or its shares over buses.
        requests: live requests, sorted by id.
        kinds: what kind of need each requester has.
        fixed: awards of earlier sessions in the delivery period.
    """

    area_id: str
    session: ev.MarketSessionScheduled
    product: ev.MarketProductDefined
    gate_block: int
    network: ev.NetworkModelPublished | None
    forecast: ev.NetForecastPublished | None
    offers: tuple[ev.FlexOffer, ...]
    stacks: dict[str, tuple[tuple[int, ...], ...]]
    allowed_w: dict[str, tuple[int, ...]]
    places: dict[str, _Place]
    requests: tuple[ev.FlexRequest, ...]
    kinds: dict[str, RequestKind]
    fixed: tuple[FixedAward, ...]

    @property
    def slots(self) -> int:
        """Number of slots of the delivery period."""
        return self.period.slots(self.product.resolution_s)

    @property
    def period(self) -> Period:
        """The delivery period."""
        return Period(self.session.delivery_start_ms, self.session.delivery_end_ms)


def snapshot_of(lights: TrafficLights, results: Results, session_id: str) -> Snapshot:
    """Take the snapshot of a session whose gate has just closed.

    Args:
        lights: the traffic-light view, with its registry and order book, right after `GateClosed`.
        results: results of earlier sessions.
        session_id: a scheduled session.

    Raises:
        KeyError: the session is not scheduled.
    """
    registry = lights.registry
    session = registry.sessions[session_id]
    entries = lights.book.session(session_id)
    offers = tuple(replace(o, slots=()) for _, o in sorted(entries.offers.items()))
    buses = registry.buses.keys()
    places = {o.offer_id: place for o in offers if (place := _place(registry, o)) and _known(place, buses)}
    cuts = traffic_light.clip_session(lights, session_id)
    requests = tuple(r for _, r in sorted(entries.requests.items()))
    return Snapshot(
        area_id=session.scheduled.area_id,
        session=session.scheduled,
        product=session.product,
        gate_block=session.gate_block if session.gate_block is not None else -1,
        network=registry.network,
        forecast=registry.net_forecast,
        offers=offers,
        stacks={name: tuple(_stack(s) for s in o.slots) for name, o in sorted(entries.offers.items())},
        allowed_w={name: cut.allowed_w for name, cut in sorted(cuts.items())},
        places=places,
        requests=requests,
        kinds={r.requester_id: _kind(registry, r.requester_id) for r in requests},
        fixed=tuple(_fixed(registry, results, session)),
    )


def obstacle(snapshot: Snapshot) -> str | None:
    """Return why a session cannot be cleared on its grid, for people; None if it can."""
    network, forecast = snapshot.network, snapshot.forecast
    if network is None:
        return "no network model was published before the gate"
    if forecast is None:
        return "no forecast of net injections was published before the gate"
    if forecast.network_id != network.network_id:
        return f"the forecast is for network {forecast.network_id}, the newest network is {network.network_id}"
    count = min((len(i.power_w) for i in forecast.injections), default=0)
    end_ms = forecast.start_ms + count * forecast.resolution_s * 1000
    if forecast.injections and not (forecast.start_ms <= snapshot.period.start_ms and snapshot.period.end_ms <= end_ms):
        covered = f"{iso(forecast.start_ms)} to {iso(end_ms)}"
        return f"forecast {forecast.forecast_id} covers {covered} and not the whole delivery period"
    return None


def case_of(snapshot: Snapshot) -> Case:
    """Translate a snapshot into the case to be cleared; same snapshot, same case.

    Raises:
        ValueError: there is an `obstacle`.
    """
    problem = obstacle(snapshot)
    if problem is not None or snapshot.network is None:
        raise ValueError(f"session {snapshot.session.session_id} of {snapshot.area_id}: {problem}")
    held = held_request_ids(snapshot)
    product = snapshot.product
    seen: dict[tuple[int, ...], OfferSlot] = {}
    return Case(
        case_id=snapshot.session.session_id,
        network=snapshot.network,
        start_ms=snapshot.period.start_ms,
        resolution_s=product.resolution_s,
        slots=snapshot.slots,
        baseline=_baseline(snapshot),
        offers=tuple(_offer(snapshot, o, seen) for o in _placed(snapshot)),
        requests=tuple(_request(snapshot, r) for r in snapshot.requests if _is_purchase(snapshot, r, held)),
        limit_prices=_limit_prices([r for r in snapshot.requests if r.request_id in held]),
        fixed_awards=snapshot.fixed,
        pricing_rule=product.pricing_rule,
        settings=CaseSettings(
            voltage_price_milli_per_puh=product.voltage_price_milli_per_puh,
            loading_price_milli_per_mwh=product.violation_price_milli_per_mwh,
            price_cap_milli_per_mwh=product.violation_price_milli_per_mwh,
            loading_margin_ppm=product.margin_ppm,
            quantity_step_w=product.step_w,
        ),
    )


def _limit_prices(held: list[ev.FlexRequest]) -> tuple[LimitPrice, ...]:
    """Return what holding the limits of branches and infeed points is worth to those who asked for it."""
    found: dict[tuple[LimitKind, str], int] = {}
    for request in held:
        for kind in _kinds(request):
            key = (kind, request.location_id)
            found[key] = max(found.get(key, 0), request.max_price_milli_per_mwh)
    return tuple(
        LimitPrice(kind=kind, element_id=element_id, price_milli=price) for (kind, element_id), price in found.items()
    )


def _kinds(request: ev.FlexRequest) -> tuple[LimitKind, ...]:
    match request.location_kind:
        case LocationKind.INFEED_POINT:
            return (LimitKind.IMPORT if request.direction is Direction.UP else LimitKind.EXPORT,)
        case LocationKind.BRANCH:
            return _OF_BRANCHES
        case _:
            # What a voltage is worth is told per unit, not per MWh: by the product.
            return ()


def held_request_ids(snapshot: Snapshot) -> frozenset[str]:
    """Return the requests from forecasts that name an element whose limit the clearing holds anyway."""
    limited = _limited_elements(snapshot.network)
    return frozenset(
        r.request_id
        for r in snapshot.requests
        if r.causes and MANUAL not in r.causes and (r.location_kind, r.location_id, r.direction) in limited
    )


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
            return True
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


def _kind(registry: Registry, party_id: str) -> RequestKind:
    if registry.has_role(party_id, Role.DSO):
        return RequestKind.GRID
    return RequestKind.TSO if registry.has_role(party_id, Role.TSO) else RequestKind.ENERGY


def _place(registry: Registry, offer: ev.FlexOffer | ev.Award) -> _Place | None:
    """Return where an offer delivers: its bus, or its shares over buses; None if that is not known any more."""
    if offer.portfolio_id is None:
        point = registry.connection_points.get(offer.connection_point_id or "")
        return (point.bus_id, ()) if point is not None else None
    weights: dict[str, int] = {}
    sizes: dict[str, int] = {}
    portfolio = registry.portfolios.get(offer.portfolio_id)
    for asset_id in portfolio.asset_ids if portfolio is not None else ():
        asset = registry.assets.get(asset_id)
        point = registry.connection_points.get(asset.connection_point_id) if asset is not None else None
        if asset is None or point is None:
            continue
        approved = registry.asset_approvals.get(asset_id)
        if approved is not None:
            validated = approved.validated_up_w if offer.direction is Direction.UP else approved.validated_down_w
            weights[point.bus_id] = weights.get(point.bus_id, 0) + validated
        sizes[point.bus_id] = sizes.get(point.bus_id, 0) + asset.max_feed_in_w + asset.max_draw_w
    if not any(weights.values()):
        weights = sizes
    if not any(weights.values()):
        return None
    buses = sorted(weights)
    shares = apportion(PPM, [weights[b] for b in buses])
    given = tuple(BusShare(bus_id=b, share_ppm=s) for b, s in zip(buses, shares, strict=True) if s)
    return (given[0].bus_id, ()) if len(given) == 1 else (None, given)


def _known(place: _Place, buses: Iterable[str]) -> bool:
    bus_id, shares = place
    return bus_id in buses if bus_id is not None else all(s.bus_id in buses for s in shares)


def _fixed(registry: Registry, results: Results, session: Session) -> Iterable[FixedAward]:
    scheduled, step_ms = session.scheduled, session.product.resolution_s * 1000
    for session_id, cleared in sorted(results.sessions.items()):
        if session_id == scheduled.session_id or cleared.market is None:
            continue
        for award in cleared.market.awards:
            end_ms = award.start_ms + len(award.power_w) * award.resolution_s * 1000
            if end_ms <= scheduled.delivery_start_ms or award.start_ms >= scheduled.delivery_end_ms:
                continue
            place = _place(registry, award)
            if place is None or not _known(place, registry.buses.keys()):
                continue
            power = tuple(
                _level(award.power_w, award.start_ms, award.resolution_s, at_ms, step_ms)
                for at_ms in range(scheduled.delivery_start_ms, scheduled.delivery_end_ms, step_ms)
            )
            yield FixedAward(
                award_id=award.award_id, bus_id=place[0], shares=place[1], direction=award.direction, power=power
            )


def _baseline(snapshot: Snapshot) -> tuple[BusInjection, ...]:
    forecast, network = snapshot.forecast, snapshot.network
    assert forecast is not None
    assert network is not None
    known = {b.bus_id for b in network.buses}
    step_ms = snapshot.product.resolution_s * 1000
    starts = range(snapshot.period.start_ms, snapshot.period.end_ms, step_ms)

    def levels(values: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(_level(values, forecast.start_ms, forecast.resolution_s, at_ms, step_ms) for at_ms in starts)

    return tuple(
        BusInjection(bus_id=i.bus_id, power_w=levels(i.power_w), reactive_power_var=levels(i.reactive_power_var))
        for i in sorted(forecast.injections, key=lambda i: i.bus_id)
        if i.bus_id in known
    )


def _level(values: tuple[int, ...], start_ms: int, resolution_s: int, at_ms: int, step_ms: int) -> int:
    """Return the mean of a series over a slot, rounded towards minus infinity; outside of it is zero."""
    own_ms = resolution_s * 1000
    total = 0
    for index in range((at_ms - start_ms) // own_ms, -(-(at_ms + step_ms - start_ms) // own_ms)):
        if 0 <= index < len(values):
            slot_ms = start_ms + index * own_ms
            total += values[index] * (min(at_ms + step_ms, slot_ms + own_ms) - max(at_ms, slot_ms))
    return total // step_ms


def _placed(snapshot: Snapshot) -> list[ev.FlexOffer]:
    """Return the offers that have a place on the network, and their parents too."""
    resolution_s = snapshot.product.resolution_s
    offers = {
        o.offer_id: o for o in snapshot.offers if o.offer_id in snapshot.places and o.resolution_s == resolution_s
    }
    while True:
        orphans = [n for n, o in offers.items() if o.parent_offer_id is not None and o.parent_offer_id not in offers]
        if not orphans:
            return list(offers.values())
        for name in orphans:
            del offers[name]


def _offer(snapshot: Snapshot, offer: ev.FlexOffer, seen: dict[tuple[int, ...], OfferSlot]) -> Offer:
    slots = [_NOTHING] * snapshot.slots
    allowed_w = snapshot.allowed_w.get(offer.offer_id)
    first = first_slot(snapshot, offer.start_ms)
    for number, stack in enumerate(snapshot.stacks[offer.offer_id]):
        if len(stack) > 1 and 0 <= first + number < len(slots):
            if allowed_w is None or allowed_w[number] >= sum(stack[1::2]):
                slot = seen.get(stack)
                if slot is None:
                    slot = seen[stack] = _slot(stack, None)
            else:
                slot = _slot(stack, allowed_w[number])
            slots[first + number] = slot
    bus_id, shares = snapshot.places[offer.offer_id]
    return Offer(
        offer_id=offer.offer_id,
        provider_id=offer.fsp_id,
        bus_id=bus_id,
        shares=shares,
        direction=offer.direction,
        slots=tuple(slots),
        min_energy_wh=offer.min_energy_wh,
        max_energy_wh=offer.max_energy_wh,
        all_or_nothing=offer.all_or_nothing,
        exclusive_group_id=offer.exclusive_group_id,
        parent_offer_id=offer.parent_offer_id,
    )


def first_slot(snapshot: Snapshot, start_ms: int) -> int:
    """Return the slot of the session in which something starts; negative or past the end if outside."""
    return (start_ms - snapshot.period.start_ms) // (snapshot.product.resolution_s * 1000)


def _stack(slot: ev.OfferSlot) -> tuple[int, ...]:
    numbers = [slot.min_power_w]
    for step in slot.steps:
        numbers += (step.power_w, step.price_milli_per_mwh)
    return tuple(numbers)


def _slot(stack: tuple[int, ...], most: int | None) -> OfferSlot:
    steps = tuple(Step(quantity=q, price_milli_per_mwh=p) for q, p in zip(stack[1::2], stack[2::2], strict=True))
    return OfferSlot(steps=steps, min_quantity=stack[0], max_quantity=most)


def _request(snapshot: Snapshot, request: ev.FlexRequest) -> Request:
    slots = [RequestSlot()] * snapshot.slots
    first = first_slot(snapshot, request.start_ms)
    for number, power_w in enumerate(request.power_w):
        if power_w > 0 and 0 <= first + number < len(slots):
            step = Step(quantity=power_w, price_milli_per_mwh=request.max_price_milli_per_mwh)
            slots[first + number] = RequestSlot(steps=(step,), min_quantity=min(power_w, request.min_power_w))
    return Request(
        request_id=request.request_id,
        requester_id=request.requester_id,
        kind=snapshot.kinds[request.requester_id],
        direction=request.direction,
        location_kind=Location(request.location_kind.value),
        location_id="" if request.location_kind is LocationKind.AREA else request.location_id,
        slots=tuple(slots),
    )
