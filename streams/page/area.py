"""What the page knows of one market area: each event changes rows of what is shown; pure.

`HANDLERS` is the table of what each event changes. An event without a handler is seen in the journal only.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from flexbus import events as ev
from flexbus.events.flex_offer import FlexOffer
from flexbus.views.fact import Fact
from streams.page.layout import map_positions, tree_positions
from streams.page.rows import Rows
from streams.page.series import Slots, UpDown, add_series, max_series, new_up_down

__all__ = ["HANDLERS", "MAX_LISTED", "Area", "Session"]

# Awards, non-awards and settlement lines kept for show; the counts and sums are of all.
MAX_LISTED = 2000


@dataclass(slots=True)
class Held:
    """What is kept of an offer to take its sums away again."""

    session_id: str
    fsp_id: str
    direction: str
    start_ms: int
    resolution_s: int
    power_w: tuple[int, ...]


@dataclass(slots=True)
class Session:
    """A session's slots and the sums over them."""

    session_id: str
    slots: Slots
    row: dict[str, Any]
    requests: UpDown
    offers: UpDown
    needs: UpDown
    own: dict[str, UpDown] = field(default_factory=dict)
    offers_counted: int = 0
    gate_closed: bool = False


class Area:
    """The working state of one area behind its rows."""

    def __init__(self, area_id: str, rows: Rows) -> None:
        self.area_id = area_id
        self.rows = rows
        self.info: dict[str, Any] = {"area_id": area_id, "name": area_id, "fmo_id": None, "time_zone": "UTC"}
        self.products: dict[str, ev.MarketProductDefined] = {}
        self.sessions: dict[str, Session] = {}
        self.network: ev.NetworkModelPublished | None = None
        self.forecast: ev.NetForecastPublished | None = None
        self.bus_of_point: dict[str, str] = {}
        self.offers: dict[str, Held] = {}
        self.requests: dict[str, ev.FlexRequestSubmitted | ev.FlexRequestAmended] = {}
        self.needs: dict[tuple[str, str, str], ev.NeedComputed] = {}
        self.deliveries: dict[str, ev.DeliveryComputed] = {}
        self.counts: Counter[str] = Counter()
        self.clipped: set[str] = set()
        self.metered_due: set[str] = set()

    def apply(self, fact: Fact) -> None:
        """Fold one journal entry."""
        self.counts[type(fact.event).__name__] += 1
        handler = HANDLERS.get(type(fact.event))
        if handler is not None:
            handler(self, fact.event)

    def put(self, section: str, name: str, value: dict[str, Any], source: type[Any] | None, **who: Any) -> None:
        """Write a row of this area."""
        self.rows.put(self.area_id, section, name, value, source="" if source is None else source.__name__, **who)

    def touch(self, section: str, name: str, source: type[Any] | None, change: dict[str, Any], **who: Any) -> None:
        """Change a row that should be there; an event about something never seen leaves no trace here."""
        value = self.rows.get(self.area_id, section, name)
        if value is not None:
            self.put(section, name, {**value, **change}, source, **who)

    def session(self, session_id: str) -> Session | None:
        """Return a session, None if it was never scheduled."""
        return self.sessions.get(session_id)

    def show_offers(self, session: Session) -> None:
        """Write the sums of the offers; before the gate closes they are nobody's but the operator's."""
        shown = ev.OffersAggregated if session.gate_closed else ev.FlexOfferSubmitted
        value = {"session_id": session.session_id, "count": session.offers_counted, **session.offers}
        self.put("offers", session.session_id, value, shown)


def _parties(*names: str | None) -> frozenset[str]:
    return frozenset(n for n in names if n)


def _area_opened(area: Area, event: ev.AreaOpened) -> None:
    area.info |= {"name": event.name, "fmo_id": event.fmo_id, "time_zone": event.time_zone}
    area.rows.put("", "areas", area.area_id, area.info)


def _participant(area: Area, event: ev.ParticipantRegistered) -> None:
    value = {
        "participant_id": event.participant_id,
        "name": event.name,
        "roles": [r.value for r in event.roles],
        "brp_id": event.brp_id,
        "gone": None,
    }
    # The choice of party is a tool of the page, so it is listed under every lens.
    area.put("participants", event.participant_id, value, None)


def _participant_removed(area: Area, event: ev.ParticipantRemoved) -> None:
    area.touch("participants", event.participant_id, None, {"gone": event.reason})


def _point(area: Area, event: ev.ConnectionPointRegistered) -> None:
    area.bus_of_point[event.connection_point_id] = event.bus_id
    value = {
        "connection_point_id": event.connection_point_id,
        "kind": event.kind.value,
        "bus_id": event.bus_id,
        "fsp_id": event.fsp_id,
        "max_feed_in_w": event.max_feed_in_w,
        "max_draw_w": event.max_draw_w,
        "gone": None,
    }
    area.put("points", event.connection_point_id, value, type(event), parties=_parties(event.fsp_id))


def _point_removed(area: Area, event: ev.ConnectionPointRemoved) -> None:
    area.touch("points", event.connection_point_id, ev.ConnectionPointRegistered, {"gone": event.reason})


def _asset(area: Area, event: ev.AssetRegistered) -> None:
    value = {
        "asset_id": event.asset_id,
        "kind": event.kind.value,
        "connection_point_id": event.connection_point_id,
        "fsp_id": event.fsp_id,
        "max_feed_in_w": event.max_feed_in_w,
        "max_draw_w": event.max_draw_w,
    }
    area.put("assets", event.asset_id, value, type(event), parties=_parties(event.fsp_id), hidden=("fsp_id",))


def _network(area: Area, event: ev.NetworkModelPublished) -> None:
    area.network = event
    tree = tree_positions(event)
    geographic = map_positions(event)
    value = {
        "network_id": event.network_id,
        "revision": event.revision,
        "name": event.name,
        "buses": [
            {
                "bus_id": b.bus_id,
                "name": b.name,
                "nominal_voltage_v": b.nominal_voltage_v,
                "min_voltage_ppm": b.min_voltage_ppm,
                "max_voltage_ppm": b.max_voltage_ppm,
                "tree": tree[b.bus_id],
                "map": None if geographic is None else geographic[b.bus_id],
            }
            for b in event.buses
        ],
        "branches": [
            {
                "branch_id": b.branch_id,
                "name": b.name,
                "kind": b.kind.value,
                "from_bus_id": b.from_bus_id,
                "to_bus_id": b.to_bus_id,
                "closed": b.closed,
                "limited": not (
                    b.max_current_ma is None and b.max_from_current_ma is None and b.max_apparent_power_va is None
                ),
            }
            for b in event.branches
        ],
        "infeed_points": [{"infeed_id": p.infeed_id, "bus_id": p.bus_id} for p in event.infeed_points],
    }
    area.put("network", "network", value, type(event))


def _forecast(area: Area, event: ev.NetForecastPublished) -> None:
    area.forecast = event


def _product(area: Area, event: ev.MarketProductDefined) -> None:
    area.products[event.product_id] = event


def _session(area: Area, event: ev.MarketSessionScheduled) -> None:
    product = area.products.get(event.product_id)
    resolution_s = 900 if product is None else product.resolution_s
    count = max(0, (event.delivery_end_ms - event.delivery_start_ms) // (resolution_s * 1000))
    row = {
        "session_id": event.session_id,
        "product_id": event.product_id,
        "product": event.product_id if product is None else product.name,
        "pricing": None if product is None else product.pricing_rule.value,
        "start_ms": event.delivery_start_ms,
        "end_ms": event.delivery_end_ms,
        "resolution_s": resolution_s,
        "slots": count,
        "gate_opens_ms": event.gate_opens_ms,
        "gate_closes_ms": event.gate_closes_ms,
        "settlement_due_ms": event.settlement_due_ms,
        "state": "SCHEDULED",
        "delivered_slots": 0,
    }
    area.sessions[event.session_id] = Session(
        session_id=event.session_id,
        slots=Slots(event.delivery_start_ms, resolution_s, count),
        row=row,
        requests=new_up_down(count),
        offers=new_up_down(count),
        needs=new_up_down(count),
    )
    area.put("sessions", event.session_id, row, type(event))


def _move(area: Area, session_id: str, change: dict[str, Any]) -> Session | None:
    session = area.session(session_id)
    if session is not None:
        session.row |= change
        area.put("sessions", session_id, session.row, ev.MarketSessionScheduled)
    return session


def _gate_opened(area: Area, event: ev.GateOpened) -> None:
    _move(area, event.session_id, {"state": "OPEN"})


def _gate_closed(area: Area, event: ev.GateClosed) -> None:
    session = _move(area, event.session_id, {"state": "CLOSED"})
    if session is not None:
        session.gate_closed = True
        area.show_offers(session)


def _delivery_started(area: Area, event: ev.DeliveryStarted) -> None:
    session = area.session(event.session_id)
    if session is not None:
        done = max(session.row["delivered_slots"], session.slots.index(event.start_ms) + 1)
        _move(area, event.session_id, {"state": "DELIVERY", "delivered_slots": done})


def _delivery_ended(area: Area, event: ev.DeliveryEnded) -> None:
    _move(area, event.session_id, {"state": "DELIVERED"})


def _settlement_due(area: Area, event: ev.SettlementDue) -> None:
    _move(area, event.session_id, {"state": "SETTLEMENT"})


def _need(area: Area, event: ev.NeedComputed) -> None:
    session = area.session(event.session_id)
    if session is None:
        return
    key = (event.session_id, event.element_id, event.direction.value)
    area.needs[key] = event
    value = {
        "session_id": event.session_id,
        "element_id": event.element_id,
        "kind": event.kind.value,
        "direction": event.direction.value,
        "start_ms": event.start_ms,
        "resolution_s": event.resolution_s,
        "need_w": list(event.need_w),
        "state": event.state.value,
    }
    area.put("need", "/".join(key), value, type(event))
    # Elements in series share one cause, so their needs do not add up: the greatest counts.
    direction = event.direction.value
    series = [0] * session.slots.count
    for (sid, _, way), need in area.needs.items():
        if sid == event.session_id and way == direction and need.state is not ev.NeedState.GONE:
            max_series(series, session.slots, need.start_ms, need.resolution_s, need.need_w)
    session.needs[direction] = series
    area.put("needs", session.session_id, {"session_id": session.session_id, **session.needs}, type(event))


def _request(area: Area, event: ev.FlexRequestSubmitted | ev.FlexRequestAmended) -> None:
    request = event.request
    _take_request_away(area, request.request_id)
    area.requests[request.request_id] = event
    session = area.session(request.session_id)
    if session is not None:
        series = session.requests[request.direction.value]
        add_series(series, session.slots, request.start_ms, request.resolution_s, request.power_w)
    value = {
        "request_id": request.request_id,
        "revision": request.revision,
        "session_id": request.session_id,
        "requester_id": request.requester_id,
        "direction": request.direction.value,
        "location_kind": request.location_kind.value,
        "location_id": request.location_id,
        "start_ms": request.start_ms,
        "resolution_s": request.resolution_s,
        "power_w": list(request.power_w),
        "max_price_milli_per_mwh": request.max_price_milli_per_mwh,
        "reason": request.reason,
        "state": "SUBMITTED",
        "procured_w": [],
        "note": "",
    }
    who = _parties(request.requester_id)
    area.put("requests", request.request_id, value, type(event), parties=who, hidden=("reason",))
    _show_requests(area, request.session_id)


def _take_request_away(area: Area, request_id: str) -> None:
    before = area.requests.pop(request_id, None)
    session = None if before is None else area.session(before.request.session_id)
    if before is None or session is None:
        return
    request = before.request
    series = session.requests[request.direction.value]
    add_series(series, session.slots, request.start_ms, request.resolution_s, request.power_w, -1)


def _show_requests(area: Area, session_id: str) -> None:
    session = area.session(session_id)
    if session is not None:
        value = {"session_id": session_id, **session.requests}
        area.put("requested", session_id, value, ev.FlexRequestSubmitted)


def _request_withdrawn(area: Area, event: ev.FlexRequestWithdrawn) -> None:
    before = area.requests.get(event.request_id)
    _take_request_away(area, event.request_id)
    change = {"state": "WITHDRAWN", "note": event.reason}
    area.touch("requests", event.request_id, type(event), change, parties=_parties(event.requester_id))
    if before is not None:
        _show_requests(area, before.request.session_id)


def _request_expired(area: Area, event: ev.FlexRequestExpired) -> None:
    who = {"parties": _parties(event.requester_id), "hidden": ("reason", "note")}
    change = {"note": event.reason}
    area.touch("requests", event.request_id, ev.FlexRequestSubmitted, change, **who)


def _procurement(area: Area, event: ev.ProcurementStatusChanged) -> None:
    who = {"parties": _parties(event.requester_id), "hidden": ("reason", "note", "state", "procured_w")}
    change = {"state": event.state.value, "procured_w": list(event.procured_w)}
    area.touch("requests", event.request_id, ev.FlexRequestSubmitted, change, **who)


def _offer(area: Area, event: ev.FlexOfferSubmitted | ev.FlexOfferReplaced) -> None:
    offer: FlexOffer = event.offer
    _take_offer_away(area, offer.offer_id)
    session = area.session(offer.session_id)
    if session is None:
        return
    power_w = tuple(sum(step.power_w for step in slot.steps) for slot in offer.slots)
    held = Held(offer.session_id, offer.fsp_id, offer.direction.value, offer.start_ms, offer.resolution_s, power_w)
    area.offers[offer.offer_id] = held
    _count_offer(area, session, held, 1)


def _take_offer_away(area: Area, offer_id: str) -> None:
    held = area.offers.pop(offer_id, None)
    session = None if held is None else area.session(held.session_id)
    if held is not None and session is not None:
        _count_offer(area, session, held, -1)


def _count_offer(area: Area, session: Session, held: Held, sign: int) -> None:
    own = session.own.setdefault(held.fsp_id, new_up_down(session.slots.count))
    for sums in (session.offers, own):
        add_series(sums[held.direction], session.slots, held.start_ms, held.resolution_s, held.power_w, sign)
    session.offers_counted += sign
    area.show_offers(session)
    value = {"session_id": session.session_id, "fsp_id": held.fsp_id, **own}
    name = f"{session.session_id}/{held.fsp_id}"
    area.put("own_offers", name, value, ev.FlexOfferSubmitted, parties=_parties(held.fsp_id))


def _offer_withdrawn(area: Area, event: ev.FlexOfferWithdrawn) -> None:
    _take_offer_away(area, event.offer_id)


def _offer_clipped(area: Area, event: ev.FlexOfferClipped) -> None:
    area.clipped.add(event.offer_id)
    value = {
        "offer_id": event.offer_id,
        "fsp_id": event.fsp_id,
        "start_ms": event.start_ms,
        "resolution_s": event.resolution_s,
        "offered_w": list(event.offered_w),
        "allowed_w": list(event.allowed_w),
        "reason": event.reason,
    }
    area.put("clipped", event.offer_id, value, type(event), parties=_parties(event.fsp_id))


def _limit(area: Area, event: ev.CapacityLimitForeseen | ev.CapacityLimitUnforeseen) -> None:
    value = {
        "limit_id": event.limit_id,
        "connection_point_id": event.connection_point_id,
        "start_ms": event.start_ms,
        "end_ms": event.end_ms,
        "max_feed_in_w": event.max_feed_in_w,
        "max_draw_w": event.max_draw_w,
        "reason": event.reason,
        "foreseen": isinstance(event, ev.CapacityLimitForeseen),
        "lifted_ms": None,
    }
    area.put("limits", event.limit_id, value, type(event))


def _limit_lifted(area: Area, event: ev.CapacityLimitLifted) -> None:
    area.touch("limits", event.limit_id, ev.CapacityLimitForeseen, {"lifted_ms": event.from_ms})


def _light(area: Area, event: ev.TrafficLightChanged) -> None:
    value = {
        "session_id": event.session_id,
        "connection_point_id": event.connection_point_id,
        "start_ms": event.start_ms,
        "colours": [c.value for c in event.colours],
        "max_up_w": list(event.max_up_w),
        "max_down_w": list(event.max_down_w),
        "causes": list(event.causes),
    }
    area.put("lights", f"{event.session_id}/{event.connection_point_id}", value, type(event))


def _grid_state(area: Area, event: ev.GridStatePublished) -> None:
    name = f"{event.session_id}/{'cleared' if event.cleared else 'forecast'}"
    value = {
        "session_id": event.session_id,
        "mode": "cleared" if event.cleared else "forecast",
        "start_ms": event.start_ms,
        "resolution_s": event.resolution_s,
        "voltage_ppm": {b.bus_id: list(b.voltage_ppm) for b in event.buses},
        "power_w": {b.branch_id: list(b.power_w) for b in event.branches},
        "loading_ppm": {b.branch_id: list(b.loading_ppm) for b in event.branches},
    }
    area.put("grid", name, value, type(event))


def _prices(area: Area, event: ev.NodalPricesPublished) -> None:
    value = {
        "session_id": event.session_id,
        "start_ms": event.start_ms,
        "resolution_s": event.resolution_s,
        "buses": {b.bus_id: list(b.price_milli_per_mwh) for b in event.buses},
    }
    area.put("prices", event.session_id, value, type(event))


def _cleared(area: Area, event: ev.MarketCleared) -> None:
    slots = [
        {
            "status": s.status.value,
            "up_w": s.up_w,
            "down_w": s.down_w,
            "requested_w": s.requested_w,
            "shortfall_w": s.shortfall_w,
            "loss_gap_w": s.loss_gap_w,
            "ac_violation_ppm": s.ac_violation_ppm,
            "cost_nano": s.cost_nano,
            "binding": list(s.binding),
        }
        for s in event.slots
    ]
    value = {
        "session_id": event.session_id,
        "clearing_id": event.clearing_id,
        "start_ms": event.start_ms,
        "resolution_s": event.resolution_s,
        "slots": slots,
        "cost_nano": event.cost_nano,
        "welfare_nano": event.welfare_nano,
        "solver": event.solver,
        "case_hash": event.case_hash,
        "result_hash": event.result_hash,
        "awards": len(event.awards),
        "awarded_offers": len({a.offer_id for a in event.awards}),
        "non_awards": len(event.non_awards),
        "reasons": dict(sorted(Counter(n.reason.value for n in event.non_awards).items())),
    }
    area.put("cleared", event.session_id, value, type(event))
    by_energy = sorted(event.awards, key=lambda a: (-sum(a.power_w), a.award_id))
    for award in by_energy[:MAX_LISTED]:
        _award(area, event, award)
    by_rejected = sorted(event.non_awards, key=lambda n: (-n.rejected_energy_wh, n.offer_id, n.reason.value))
    for number, left in enumerate(by_rejected[:MAX_LISTED]):
        _non_award(area, event, left, number)
    for outcome in event.requests:
        who = {"parties": _parties(outcome.requester_id), "hidden": ("reason", "note", "state", "procured_w")}
        change = {"procured_w": list(outcome.matched_w), "note": outcome.reason}
        area.touch("requests", outcome.request_id, ev.FlexRequestSubmitted, change, **who)
    _move(area, event.session_id, {"state": "CLEARED"})


def _award(area: Area, event: ev.MarketCleared, award: ev.Award) -> None:
    value = {
        "session_id": event.session_id,
        "award_id": award.award_id,
        "offer_id": award.offer_id,
        "fsp_id": award.fsp_id,
        "connection_point_id": award.connection_point_id,
        "portfolio_id": award.portfolio_id,
        "bus_id": award.bus_id,
        "direction": award.direction.value,
        "start_ms": award.start_ms,
        "resolution_s": award.resolution_s,
        "power_w": list(award.power_w),
        "price_milli_per_mwh": list(award.price_milli_per_mwh),
    }
    hidden = ("offer_id", "fsp_id", "connection_point_id", "portfolio_id")
    area.put("awards", award.award_id, value, type(event), parties=_parties(award.fsp_id), hidden=hidden)


def _non_award(area: Area, event: ev.MarketCleared, left: ev.NonAward, number: int) -> None:
    value = {
        "session_id": event.session_id,
        "offer_id": left.offer_id,
        "fsp_id": left.fsp_id,
        "reason": left.reason.value,
        "element_id": left.element_id,
        "amount": left.amount,
        "rejected_energy_wh": left.rejected_energy_wh,
        "text": left.text,
    }
    name = f"{event.session_id}/{number:05d}"
    hidden = ("offer_id", "fsp_id", "text")
    area.put("non_awards", name, value, type(event), parties=_parties(left.fsp_id), hidden=hidden)


def _aggregate(area: Area, event: ev.AggregateOffered) -> None:
    value = {
        "session_id": event.session_id,
        "aggregate_id": event.aggregate_id,
        "infeed_id": event.infeed_id,
        "direction": event.direction.value,
        "start_ms": event.start_ms,
        "resolution_s": event.resolution_s,
        "power_w": list(event.power_w),
        "price_milli_per_mwh": list(event.price_milli_per_mwh),
        "members": len(event.members),
        "tso_id": None,
        "activated_w": [],
        "unserved_w": [],
        "shares": None,
    }
    area.put("aggregates", event.aggregate_id, value, type(event), hidden=("members",))


def _aggregate_activated(area: Area, event: ev.AggregateActivated) -> None:
    change = {"tso_id": event.tso_id, "activated_w": list(event.power_w), "activated_start_ms": event.start_ms}
    who = _parties(event.tso_id)
    area.touch("aggregates", event.aggregate_id, ev.AggregateOffered, change, parties=who, hidden=("members",))


def _disaggregated(area: Area, event: ev.AggregateDisaggregated) -> None:
    change = {
        "unserved_w": list(event.unserved_w),
        "shares": [{"offer_id": s.offer_id, "fsp_id": s.fsp_id, "power_w": list(s.power_w)} for s in event.shares],
    }
    hidden = ("members", "shares")
    area.touch("aggregates", event.aggregate_id, ev.AggregateOffered, change, hidden=hidden)


def _ordered(area: Area, event: ev.ActivationOrdered) -> None:
    value = {
        "session_id": event.session_id,
        "activation_id": event.activation_id,
        "award_id": event.award_id,
        "tso_activation_id": event.tso_activation_id,
        "offer_id": event.offer_id,
        "orderer_id": event.orderer_id,
        "fsp_id": event.fsp_id,
        "connection_point_id": event.connection_point_id,
        "portfolio_id": event.portfolio_id,
        "bus_id": area.bus_of_point.get(event.connection_point_id or ""),
        "direction": event.direction.value,
        "start_ms": event.start_ms,
        "resolution_s": event.resolution_s,
        "power_w": list(event.power_w),
        "price_milli_per_mwh": list(event.price_milli_per_mwh),
        "answer": "OPEN",
        "changed": 0,
        "stopped": None,
        "note": "",
    }
    who = _parties(event.fsp_id, event.orderer_id)
    area.put("activations", event.activation_id, value, type(event), parties=who)


def _on_activation(area: Area, activation_id: str, change: dict[str, Any]) -> None:
    value = area.rows.get(area.area_id, "activations", activation_id)
    if value is not None:
        who = _parties(value["fsp_id"], value["orderer_id"])
        area.touch("activations", activation_id, ev.ActivationOrdered, change, parties=who)


def _acknowledged(area: Area, event: ev.ActivationAcknowledged) -> None:
    _on_activation(area, event.activation_id, {"answer": "ACKNOWLEDGED"})


def _refused(area: Area, event: ev.ActivationRefused) -> None:
    _on_activation(area, event.activation_id, {"answer": "REFUSED", "note": event.reason})


def _timed_out(area: Area, event: ev.ActivationTimedOut) -> None:
    _on_activation(area, event.activation_id, {"answer": "TIMED_OUT"})


def _changed(area: Area, event: ev.ActivationChanged) -> None:
    value = area.rows.get(area.area_id, "activations", event.activation_id)
    if value is None:
        return
    power_w = list(value["power_w"])
    first = (event.from_ms - value["start_ms"]) // (value["resolution_s"] * 1000)
    power_w[first:] = event.power_w
    _on_activation(
        area, event.activation_id, {"power_w": power_w, "changed": value["changed"] + 1, "note": event.reason}
    )


def _stopped(area: Area, event: ev.ActivationStopped) -> None:
    stopped = {"from_ms": event.from_ms, "until_ms": event.until_ms, "cause": event.cause}
    _on_activation(area, event.activation_id, {"stopped": stopped, "note": event.reason})


def _delivery(area: Area, event: ev.DeliveryComputed) -> None:
    area.deliveries[event.activation_id] = event
    if event.session_id in area.sessions:
        area.metered_due.add(event.session_id)
    value = {
        "session_id": event.session_id,
        "activation_id": event.activation_id,
        "revision": event.revision,
        "fsp_id": event.fsp_id,
        "connection_point_id": event.connection_point_id,
        "start_ms": event.start_ms,
        "resolution_s": event.resolution_s,
        "baseline_wh": list(event.baseline_wh),
        "metered_wh": list(event.metered_wh),
        "ordered_wh": list(event.ordered_wh),
        "delivered_wh": list(event.delivered_wh),
        "shortfall_wh": list(event.shortfall_wh),
    }
    area.put("deliveries", event.activation_id, value, type(event), parties=_parties(event.fsp_id))


def _settlement(area: Area, event: ev.SettlementComputed | ev.SettlementCorrected) -> None:
    before = area.rows.get(area.area_id, "settlements", event.settlement_id) or {"history": []}
    step: dict[str, Any] = {"revision": event.revision, "total_cents": event.total_cents, "what": "computed", "why": ""}
    if isinstance(event, ev.SettlementCorrected):
        step |= {"what": "corrected", "why": ", ".join(event.causes)}
    value = {
        "session_id": event.session_id,
        "settlement_id": event.settlement_id,
        "revision": event.revision,
        "fsp_id": event.fsp_id,
        "buyer_id": event.buyer_id,
        "total_cents": event.total_cents,
        "remuneration_cents": sum(i.remuneration_cents for i in event.invoice),
        "penalty_cents": sum(i.penalty_cents for i in event.invoice),
        "ordered_wh": sum(i.ordered_wh for i in event.lines),
        "delivered_wh": sum(i.delivered_wh for i in event.lines),
        "invoice": [
            {
                "activation_id": i.activation_id,
                "text": i.text,
                "remuneration_cents": i.remuneration_cents,
                "penalty_cents": i.penalty_cents,
                "amount_cents": i.amount_cents,
            }
            for i in event.invoice
        ],
        "lines": [
            [
                i.activation_id,
                i.start_ms,
                i.ordered_wh,
                i.delivered_wh,
                i.paid_wh,
                i.penalised_wh,
                i.price_milli_per_mwh,
                i.remuneration_nano,
                i.penalty_nano,
            ]
            for i in event.lines[:MAX_LISTED]
        ],
        "lines_in_all": len(event.lines),
        "state": step["what"].upper(),
        "history": [*before["history"], step],
    }
    who = _parties(event.fsp_id, event.buyer_id)
    area.put("settlements", event.settlement_id, value, type(event), parties=who)


def _on_settlement(area: Area, settlement_id: str, state: str, revision: int, why: str) -> None:
    value = area.rows.get(area.area_id, "settlements", settlement_id)
    if value is None:
        return
    step = {"revision": revision, "total_cents": value["total_cents"], "what": state.lower(), "why": why}
    change = {"state": state, "history": [*value["history"], step]}
    who = _parties(value["fsp_id"], value["buyer_id"])
    area.touch("settlements", settlement_id, ev.SettlementComputed, change, parties=who)


def _approved(area: Area, event: ev.SettlementApproved) -> None:
    _on_settlement(area, event.settlement_id, "APPROVED", event.revision, "")


def _disputed(area: Area, event: ev.SettlementDisputed) -> None:
    _on_settlement(area, event.settlement_id, "DISPUTED", event.revision, event.reason)


HANDLERS: dict[type[Any], Callable[[Area, Any], None]] = {
    ev.AreaOpened: _area_opened,
    ev.ParticipantRegistered: _participant,
    ev.ParticipantRemoved: _participant_removed,
    ev.ConnectionPointRegistered: _point,
    ev.ConnectionPointRemoved: _point_removed,
    ev.AssetRegistered: _asset,
    ev.NetworkModelPublished: _network,
    ev.NetForecastPublished: _forecast,
    ev.MarketProductDefined: _product,
    ev.MarketSessionScheduled: _session,
    ev.GateOpened: _gate_opened,
    ev.GateClosed: _gate_closed,
    ev.DeliveryStarted: _delivery_started,
    ev.DeliveryEnded: _delivery_ended,
    ev.SettlementDue: _settlement_due,
    ev.NeedComputed: _need,
    ev.FlexRequestSubmitted: _request,
    ev.FlexRequestAmended: _request,
    ev.FlexRequestWithdrawn: _request_withdrawn,
    ev.FlexRequestExpired: _request_expired,
    ev.ProcurementStatusChanged: _procurement,
    ev.FlexOfferSubmitted: _offer,
    ev.FlexOfferReplaced: _offer,
    ev.FlexOfferWithdrawn: _offer_withdrawn,
    ev.FlexOfferClipped: _offer_clipped,
    ev.CapacityLimitForeseen: _limit,
    ev.CapacityLimitUnforeseen: _limit,
    ev.CapacityLimitLifted: _limit_lifted,
    ev.TrafficLightChanged: _light,
    ev.GridStatePublished: _grid_state,
    ev.NodalPricesPublished: _prices,
    ev.MarketCleared: _cleared,
    ev.AggregateOffered: _aggregate,
    ev.AggregateActivated: _aggregate_activated,
    ev.AggregateDisaggregated: _disaggregated,
    ev.ActivationOrdered: _ordered,
    ev.ActivationAcknowledged: _acknowledged,
    ev.ActivationRefused: _refused,
    ev.ActivationTimedOut: _timed_out,
    ev.ActivationChanged: _changed,
    ev.ActivationStopped: _stopped,
    ev.DeliveryComputed: _delivery,
    ev.SettlementComputed: _settlement,
    ev.SettlementCorrected: _settlement,
    ev.SettlementApproved: _approved,
    ev.SettlementDisputed: _disputed,
}
