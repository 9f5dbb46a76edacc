"""From the journal to a case: everything that stood before the gate, nothing that came after it.

`snapshot_of` takes the facts out of the views when the gate closes; `case_of` translates them. Both are pure, so
whoever folds the same journal comes to the same case, and its hash proves it.

Rules:
- Network and forecast are the newest before the gate; the forecast is a power level that holds over its slots.
- Lights and limits clip offers by the very function that the traffic light tells providers of (`clip_session`).
- A portfolio delivers at its buses in proportion to the approved flexibility of its assets there.
- Awards of earlier sessions stand, with their payback and reactive power: the forecast is the grid without any
  flexibility. What is only held ready for a call (phases CAPACITY, STOCHASTIC) is no delivery and does not.
- A storage or inverter is what its provider described it as last before the gate.
- Of a product of phase STOCHASTIC the forecast's scenarios are the ways the day may go; without them the forecast is
  certain.
- A request that follows from a forecast and names an element whose limit the clearing holds anyway is no extra
  purchase, for that would pay twice for one relief: it says what holding that limit is worth (the highest of their
  prices; the product's `violation_price` where there is none). Every other request is a purchase.
- What cannot be placed on the network any more (its bus, point, parent or location is gone) is left out, named.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from clearing.case import BusShare, FixedAward, Quantity, RequestKind
from flexbus import events as ev
from flexbus.events import Role
from flexbus.quantities import PPM, Direction
from flexbus.shares import apportion
from flexbus.time import Period, iso
from flexbus.views import traffic_light
from flexbus.views.clearing import Results
from flexbus.views.payback import payback_w
from flexbus.views.registry import Registry, Session
from flexbus.views.traffic_light import TrafficLights

__all__ = ["Snapshot", "first_slot", "level", "obstacle", "snapshot_of"]

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
        allowed_w: per offer that lights or limits cut, what is allowed per slot of the offer, W or var.
        starts: per offer with a start choice that is cut, the starts left to it, as slots from its first.
        places: per offer that has a place, its bus or its shares over buses.
        requests: live requests, sorted by id.
        kinds: what kind of need each requester has.
        fixed: awards of earlier sessions in the delivery period.
        units: storages and inverters, by provider and unit.
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
    starts: dict[str, tuple[int, ...]]
    places: dict[str, _Place]
    requests: tuple[ev.FlexRequest, ...]
    kinds: dict[str, RequestKind]
    fixed: tuple[FixedAward, ...]
    units: dict[tuple[str, str], ev.Storage | ev.Inverter]

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
        allowed_w={name: cut.allowed_w or cut.allowed_var for name, cut in sorted(cuts.items())},
        starts={name: cut.starts for name, cut in sorted(cuts.items()) if cut.starts is not None},
        places=places,
        requests=requests,
        kinds={r.requester_id: _kind(registry, r.requester_id) for r in requests},
        fixed=tuple(_fixed(registry, results, session)),
        units=dict(sorted(entries.units.items())),
    )


def obstacle(snapshot: Snapshot) -> str | None:
    """Return why a session cannot be cleared on its grid, for people; None if it can."""
    network, forecast, session = snapshot.network, snapshot.forecast, snapshot.session
    delivery_ms, slot_ms = session.delivery_end_ms - session.delivery_start_ms, snapshot.product.resolution_s * 1000
    if delivery_ms <= 0 or delivery_ms % slot_ms:
        return f"its delivery period of {delivery_ms // 1000} s is not a number of slots of {slot_ms // 1000} s"
    if network is None:
        return "no network model was published before the gate"
    if forecast is None:
        return "no forecast of net injections was published before the gate"
    if forecast.network_id != network.network_id:
        return f"the forecast is for network {forecast.network_id}, the newest network is {network.network_id}"
    injections = [*forecast.injections, *(i for s in forecast.scenarios for i in s.injections)]
    count = min((len(i.power_w) for i in injections), default=0)
    end_ms = forecast.start_ms + count * forecast.resolution_s * 1000
    if forecast.injections and not (forecast.start_ms <= snapshot.period.start_ms and snapshot.period.end_ms <= end_ms):
        covered = f"{iso(forecast.start_ms)} to {iso(end_ms)}"
        return f"forecast {forecast.forecast_id} covers {covered} and not the whole delivery period"
    return None


def _kind(registry: Registry, party_id: str) -> RequestKind:
    if registry.has_role(party_id, Role.DSO):
        return RequestKind.GRID
    return RequestKind.TSO if registry.has_role(party_id, Role.TSO) else RequestKind.ENERGY


def _place(registry: Registry, offer: ev.FlexOffer | ev.Award | ev.ReactiveAward) -> _Place | None:
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
    for session_id, cleared in sorted(results.sessions.items()):
        if session_id == session.scheduled.session_id or cleared.market is None:
            continue
        terms = {t.award_id: t for t in cleared.market.award_terms}
        for award in cleared.market.awards:
            place = _place(registry, award)
            if place is not None and _known(place, registry.buses.keys()):
                yield from _standing(session, award, place, terms.get(award.award_id))
        for held in cleared.market.reactive_awards:
            place = _place(registry, held)
            if place is not None and _known(place, registry.buses.keys()):
                series = (held.start_ms, held.resolution_s, held.reactive_power_var)
                yield from _delivered(session, held.award_id, place, held.direction, Quantity.REACTIVE, *series)


def _standing(session: Session, award: ev.Award, place: _Place, terms: ev.AwardTerms | None) -> Iterable[FixedAward]:
    """Yield an award of active power, its payback, and the reactive power of both."""
    against = Direction.DOWN if award.direction is Direction.UP else Direction.UP
    parts = [("", award.direction, award.power_w)]
    if terms is not None and terms.payback is not None:
        parts.append(("/payback", against, tuple(payback_w(award.power_w, terms.payback))))
    for name, direction, power_w in parts:
        series = (award.start_ms, award.resolution_s)
        yield from _delivered(session, f"{award.award_id}{name}", place, direction, Quantity.ACTIVE, *series, power_w)
        if terms is not None and terms.tan_phi_ppm:
            way = direction if terms.tan_phi_ppm > 0 else Direction.DOWN if direction is Direction.UP else Direction.UP
            reactive = tuple(w * abs(terms.tan_phi_ppm) // PPM for w in power_w)
            yield from _delivered(
                session, f"{award.award_id}{name}/var", place, way, Quantity.REACTIVE, *series, reactive
            )


def _delivered(
    session: Session,
    award_id: str,
    place: _Place,
    direction: Direction,
    quantity: Quantity,
    start_ms: int,
    resolution_s: int,
    power: tuple[int, ...],
) -> Iterable[FixedAward]:
    """Yield what is delivered of an award within a session's delivery period, if anything can be."""
    scheduled, step_ms = session.scheduled, session.product.resolution_s * 1000
    end_ms = start_ms + len(power) * resolution_s * 1000
    if end_ms <= scheduled.delivery_start_ms or start_ms >= scheduled.delivery_end_ms:
        return
    yield FixedAward(
        award_id=award_id,
        bus_id=place[0],
        shares=place[1],
        direction=direction,
        quantity=quantity,
        power=tuple(
            level(power, start_ms, resolution_s, at_ms, step_ms)
            for at_ms in range(scheduled.delivery_start_ms, scheduled.delivery_end_ms, step_ms)
        ),
    )


def level(values: tuple[int, ...], start_ms: int, resolution_s: int, at_ms: int, step_ms: int) -> int:
    """Return the mean of a series over a slot, rounded towards minus infinity; outside of it is zero."""
    own_ms = resolution_s * 1000
    total = 0
    for index in range((at_ms - start_ms) // own_ms, -(-(at_ms + step_ms - start_ms) // own_ms)):
        if 0 <= index < len(values):
            slot_ms = start_ms + index * own_ms
            total += values[index] * (min(at_ms + step_ms, slot_ms + own_ms) - max(at_ms, slot_ms))
    return total // step_ms


def first_slot(snapshot: Snapshot, start_ms: int) -> int:
    """Return the slot of the session in which something starts; negative or past the end if outside."""
    return (start_ms - snapshot.period.start_ms) // (snapshot.product.resolution_s * 1000)


def _stack(slot: ev.OfferSlot) -> tuple[int, ...]:
    numbers = [slot.min_power_w]
    for step in slot.steps:
        numbers += (step.power_w, step.price_milli_per_mwh)
    return tuple(numbers)
