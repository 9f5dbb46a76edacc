"""What events of sessions, requests, offers and the clearing change on the page; pure."""

from collections import Counter
from typing import Any

from flexbus import events as ev
from flexbus.events.flex_offer import FlexOffer
from streams.page.area import MAX_LISTED, Area, Handlers, Held, Session, parties_named
from streams.page.on_metering import forget_settled
from streams.page.series import Slots, add_series, max_series, new_up_down

__all__ = ["HANDLERS"]


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
    area.sessions[event.session_id] = area.metered[event.session_id] = Session(
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
    session = _move(area, event.session_id, {"state": "SETTLEMENT"})
    if session is not None:
        forget_settled(area, session)


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
    who = parties_named(request.requester_id)
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
    area.touch("requests", event.request_id, type(event), change, parties=parties_named(event.requester_id))
    if before is not None:
        _show_requests(area, before.request.session_id)


def _request_expired(area: Area, event: ev.FlexRequestExpired) -> None:
    who = {"parties": parties_named(event.requester_id), "hidden": ("reason", "note")}
    change = {"note": event.reason}
    area.touch("requests", event.request_id, ev.FlexRequestSubmitted, change, **who)


def _procurement(area: Area, event: ev.ProcurementStatusChanged) -> None:
    who = {"parties": parties_named(event.requester_id), "hidden": ("reason", "note", "state", "procured_w")}
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
    area.put("own_offers", name, value, ev.FlexOfferSubmitted, parties=parties_named(held.fsp_id))


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
    area.put("clipped", event.offer_id, value, type(event), parties=parties_named(event.fsp_id))


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
            "voltage_shortfall_ppm": s.voltage_shortfall_ppm,
            "unmet_count": s.unmet_count,
            "unmet": [[u.kind.value, u.element_id, u.amount] for u in s.unmet],
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
    _volumes(area, event)
    by_energy = sorted(event.awards, key=lambda a: (-sum(a.power_w), a.award_id))
    for award in by_energy[:MAX_LISTED]:
        _award(area, event, award)
    by_rejected = sorted(event.non_awards, key=lambda n: (-n.rejected_energy_wh, n.offer_id, n.reason.value))
    for number, left in enumerate(by_rejected[:MAX_LISTED]):
        _non_award(area, event, left, number)
    for outcome in event.requests:
        who = {"parties": parties_named(outcome.requester_id), "hidden": ("reason", "note", "state", "procured_w")}
        change = {"procured_w": list(outcome.matched_w), "note": outcome.reason}
        area.touch("requests", outcome.request_id, ev.FlexRequestSubmitted, change, **who)
    for reactive in event.reactive_requests:
        who = {"parties": parties_named(reactive.requester_id), "hidden": ("reason", "note", "state", "procured_w")}
        area.touch("requests", reactive.request_id, ev.FlexRequestSubmitted, {"note": reactive.reason}, **who)
    _move(area, event.session_id, {"state": "CLEARED"})


def _volumes(area: Area, event: ev.MarketCleared) -> None:
    """Write what was cleared per bus and quarter-hour, of all awards; what a portfolio spreads has no bus (empty)."""
    slots = Slots(event.start_ms, event.resolution_s, len(event.slots))
    buses: dict[str, dict[str, list[int]]] = {}
    for award in event.awards:
        at_bus = buses.setdefault(award.bus_id or "", new_up_down(slots.count))
        add_series(at_bus[award.direction.value], slots, award.start_ms, award.resolution_s, award.power_w)
    value = {
        "session_id": event.session_id,
        "start_ms": event.start_ms,
        "resolution_s": event.resolution_s,
        "buses": dict(sorted(buses.items())),
    }
    area.put("volumes", event.session_id, value, type(event))


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
    area.put("awards", award.award_id, value, type(event), parties=parties_named(award.fsp_id), hidden=hidden)


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
    area.put("non_awards", name, value, type(event), parties=parties_named(left.fsp_id), hidden=hidden)


HANDLERS: Handlers = {
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
    ev.NodalPricesPublished: _prices,
    ev.MarketCleared: _cleared,
}
