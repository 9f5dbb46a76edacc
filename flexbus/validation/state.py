"""What the sequencer must remember of a market area to judge its next event: owners, revisions, states."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from sys import intern
from typing import Any

from flexbus import events as ev
from flexbus.views import keys, registry
from flexbus.views.fact import Fact
from flexbus.views.keys import Keyring
from flexbus.views.registry import Registry

__all__ = ["Admission", "Order", "Paper", "Record", "UnitRecord", "fold", "unit_key"]


@dataclass(slots=True)
class Record:
    """A thing that its owner may change: an offer, request, baseline, schedule, reading, limit or light.

    Attributes:
        owner_id: party it belongs to.
        revision: newest accepted revision.
        scope_id: what it hangs on and keeps: a session, or a connection point.
        live: false once it is withdrawn or lifted.
    """

    owner_id: str
    revision: int
    scope_id: str
    live: bool = True


@dataclass(frozen=True, slots=True)
class UnitRecord:
    """A storage or inverter as the offers of a session describe it.

    Attributes:
        place_id: connection point or portfolio where it is.
        kind: what it is, `storage` or `inverter`.
    """

    place_id: str
    kind: str

    @classmethod
    def of(cls, offer: ev.FlexOffer) -> "UnitRecord":
        """Return what an offer with a unit says of it."""
        kind = "storage" if offer.terms is not None and offer.terms.storage is not None else "inverter"
        return cls(offer.connection_point_id or offer.portfolio_id or "", kind)


def unit_key(session_id: str, fsp_id: str, unit_id: str) -> str:
    """Return the name of a provider's unit within its area: units are the provider's own, and of one session."""
    return f"{session_id}\x1f{fsp_id}\x1f{unit_id}"


@dataclass(slots=True)
class Order:
    """An activation as ordered, with its answer."""

    ordered: ev.ActivationOrdered
    revision: int = 1
    state: str = "ORDERED"


@dataclass(slots=True)
class Paper:
    """A settlement: its parties, newest revision, and who has approved or disputed that revision."""

    fsp_id: str
    buyer_id: str
    revision: int
    approved: bool = False
    disputed_by: str | None = None


@dataclass(slots=True)
class Admission:
    """State of one market area as the sequencer sees it; empty before the area's first event.

    `limit_periods` has start and end, UTC ms, of the limits that may still bind, by connection point, then limit.
    """

    registry: Registry = field(default_factory=Registry)
    keyring: Keyring = field(default_factory=Keyring)
    offers: dict[str, Record] = field(default_factory=dict)
    exclusive_groups: dict[str, str] = field(default_factory=dict)
    units: dict[str, UnitRecord] = field(default_factory=dict)
    requests: dict[str, Record] = field(default_factory=dict)
    baselines: dict[str, Record] = field(default_factory=dict)
    schedules: dict[str, Record] = field(default_factory=dict)
    congestion_forecasts: dict[str, Record] = field(default_factory=dict)
    net_forecasts: dict[str, Record] = field(default_factory=dict)
    limits: dict[str, Record] = field(default_factory=dict)
    limit_periods: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)
    lights: dict[str, Record] = field(default_factory=dict)
    readings: dict[str, Record] = field(default_factory=dict)
    aggregates: dict[str, ev.AggregateOffered] = field(default_factory=dict)
    tso_activations: set[str] = field(default_factory=set)
    orders: dict[str, Order] = field(default_factory=dict)
    settlements: dict[str, Paper] = field(default_factory=dict)


def fold(state: Admission, fact: Fact) -> Admission:
    """Return the state after an accepted event."""
    registry.fold(state.registry, fact)
    keys.fold(state.keyring, fact)
    change = _CHANGES.get(type(fact.event))
    if change is not None:
        change(state, fact.event, fact)
    return state


def _offer(state: Admission, e: ev.FlexOfferSubmitted | ev.FlexOfferReplaced, _: Fact) -> None:
    o = e.offer
    # One name for all offers of a provider or session: that is two fifths less memory each.
    state.offers[o.offer_id] = Record(intern(o.fsp_id), o.revision, intern(o.session_id))
    if o.exclusive_group_id is not None:
        state.exclusive_groups.setdefault(o.exclusive_group_id, o.fsp_id)
    if o.terms is not None and o.terms.unit_id is not None and (o.terms.storage or o.terms.inverter):
        state.units.setdefault(unit_key(o.session_id, o.fsp_id, o.terms.unit_id), UnitRecord.of(o))


def _offer_withdrawn(state: Admission, e: ev.FlexOfferWithdrawn, _: Fact) -> None:
    _end(state.offers, e.offer_id)


def _request(state: Admission, e: ev.FlexRequestSubmitted | ev.FlexRequestAmended, _: Fact) -> None:
    r = e.request
    state.requests[r.request_id] = Record(r.requester_id, r.revision, r.session_id)


def _request_withdrawn(state: Admission, e: ev.FlexRequestWithdrawn, _: Fact) -> None:
    _end(state.requests, e.request_id)


def _baseline(state: Admission, e: ev.BaselineSubmitted, _: Fact) -> None:
    state.baselines[e.baseline_id] = Record(e.fsp_id, e.revision, f"{e.session_id}\x1f{e.connection_point_id}")


def _schedule(state: Admission, e: ev.ScheduleSubmitted, _: Fact) -> None:
    state.schedules[e.schedule_id] = Record(e.fsp_id, e.revision, f"{e.session_id}\x1f{e.connection_point_id}")


def _congestion_forecast(state: Admission, e: ev.CongestionForecastReceived, fact: Fact) -> None:
    state.congestion_forecasts[e.forecast_id] = Record(fact.actor_id, e.revision, e.element_id)


def _net_forecast(state: Admission, e: ev.NetForecastPublished, fact: Fact) -> None:
    state.net_forecasts[e.forecast_id] = Record(fact.actor_id, e.revision, e.network_id)


def _foreseen(state: Admission, e: ev.CapacityLimitForeseen, fact: Fact) -> None:
    state.limits[e.limit_id] = Record(fact.actor_id, e.revision, e.connection_point_id)
    _binds(state, e)


def _unforeseen(state: Admission, e: ev.CapacityLimitUnforeseen, fact: Fact) -> None:
    state.limits[e.limit_id] = Record(fact.actor_id, 1, e.connection_point_id)
    _binds(state, e)


def _binds(state: Admission, e: ev.CapacityLimitForeseen | ev.CapacityLimitUnforeseen) -> None:
    before, now_ms = state.limit_periods.get(e.connection_point_id, {}), state.registry.market_time_ms
    periods = {limit_id: period for limit_id, period in before.items() if period[1] > now_ms}
    periods[e.limit_id] = (e.start_ms, e.end_ms)
    state.limit_periods[e.connection_point_id] = periods


def _lifted(state: Admission, e: ev.CapacityLimitLifted, _: Fact) -> None:
    _end(state.limits, e.limit_id)
    record = state.limits.get(e.limit_id)
    periods = {} if record is None else state.limit_periods.get(record.scope_id, {})
    if e.limit_id in periods:
        start_ms, end_ms = periods[e.limit_id]
        periods[e.limit_id] = (start_ms, min(end_ms, e.from_ms))  # lifted from later on, it binds until then
        if e.from_ms <= start_ms:
            del periods[e.limit_id]


def _light(state: Admission, e: ev.TrafficLightSet, fact: Fact) -> None:
    state.lights[e.light_id] = Record(fact.actor_id, e.revision, e.connection_point_id)


def _reading(state: Admission, e: ev.MeterReadingReceived, _: Fact) -> None:
    state.readings[e.reading_id] = Record(e.meter_operator_id, e.revision, e.connection_point_id)


def _aggregate_offered(state: Admission, e: ev.AggregateOffered, _: Fact) -> None:
    # Of thousands of members nothing is asked here, and they would stay for ever.
    state.aggregates[e.aggregate_id] = replace(e, members=())


def _aggregate_activated(state: Admission, e: ev.AggregateActivated, _: Fact) -> None:
    state.tso_activations.add(e.tso_activation_id)


def _ordered(state: Admission, e: ev.ActivationOrdered, _: Fact) -> None:
    state.orders.setdefault(e.activation_id, Order(e))


def _answered(word: str) -> Callable[[Admission, Any, Fact], None]:
    def change(state: Admission, e: Any, _: Fact) -> None:
        order = state.orders.get(e.activation_id)
        if order is not None and order.state in ("ORDERED", "TIMED_OUT"):
            order.state = word

    return change


def _activation_changed(state: Admission, e: ev.ActivationChanged, _: Fact) -> None:
    order = state.orders.get(e.activation_id)
    if order is not None:
        order.revision = max(order.revision, e.revision)


def _settled(state: Admission, e: ev.SettlementComputed | ev.SettlementCorrected, _: Fact) -> None:
    state.settlements[e.settlement_id] = Paper(e.fsp_id, e.buyer_id, e.revision)


def _approved(state: Admission, e: ev.SettlementApproved, _: Fact) -> None:
    paper = state.settlements.get(e.settlement_id)
    if paper is not None:
        paper.approved = True


def _disputed(state: Admission, e: ev.SettlementDisputed, _: Fact) -> None:
    paper = state.settlements.get(e.settlement_id)
    if paper is not None:
        paper.disputed_by = e.party_id


def _end(records: dict[str, Record], name: str) -> None:
    if name in records:
        records[name].live = False


_CHANGES: dict[type[Any], Callable[[Admission, Any, Fact], None]] = {
    ev.FlexOfferSubmitted: _offer,
    ev.FlexOfferReplaced: _offer,
    ev.FlexOfferWithdrawn: _offer_withdrawn,
    ev.FlexRequestSubmitted: _request,
    ev.FlexRequestAmended: _request,
    ev.FlexRequestWithdrawn: _request_withdrawn,
    ev.BaselineSubmitted: _baseline,
    ev.ScheduleSubmitted: _schedule,
    ev.CongestionForecastReceived: _congestion_forecast,
    ev.NetForecastPublished: _net_forecast,
    ev.CapacityLimitForeseen: _foreseen,
    ev.CapacityLimitUnforeseen: _unforeseen,
    ev.CapacityLimitLifted: _lifted,
    ev.TrafficLightSet: _light,
    ev.MeterReadingReceived: _reading,
    ev.AggregateOffered: _aggregate_offered,
    ev.AggregateActivated: _aggregate_activated,
    ev.ActivationOrdered: _ordered,
    ev.ActivationAcknowledged: _answered("ACKNOWLEDGED"),
    ev.ActivationRefused: _answered("REFUSED"),
    ev.ActivationTimedOut: _answered("TIMED_OUT"),
    ev.ActivationChanged: _activation_changed,
    ev.SettlementComputed: _settled,
    ev.SettlementCorrected: _settled,
    ev.SettlementApproved: _approved,
    ev.SettlementDisputed: _disputed,
}
