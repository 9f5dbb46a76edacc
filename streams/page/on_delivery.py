"""What events of activation, delivery, settlement and the way up to the TSO change on the page; pure."""

from typing import Any

from flexbus import events as ev
from streams.page.area import MAX_LISTED, Area, Handlers, parties_named
from streams.page.on_metering import mark_activation

__all__ = ["HANDLERS"]


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
    who = parties_named(event.tso_id)
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
    who = parties_named(event.fsp_id, event.orderer_id)
    area.put("activations", event.activation_id, value, type(event), parties=who)
    mark_activation(area, event.activation_id)


def _on_activation(area: Area, activation_id: str, change: dict[str, Any]) -> None:
    value = area.rows.get(area.area_id, "activations", activation_id)
    if value is not None:
        who = parties_named(value["fsp_id"], value["orderer_id"])
        area.touch("activations", activation_id, ev.ActivationOrdered, change, parties=who)
        mark_activation(area, activation_id)


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
    area.put("deliveries", event.activation_id, value, type(event), parties=parties_named(event.fsp_id))


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
    who = parties_named(event.fsp_id, event.buyer_id)
    area.put("settlements", event.settlement_id, value, type(event), parties=who)


def _on_settlement(area: Area, settlement_id: str, state: str, revision: int, why: str) -> None:
    value = area.rows.get(area.area_id, "settlements", settlement_id)
    if value is None:
        return
    step = {"revision": revision, "total_cents": value["total_cents"], "what": state.lower(), "why": why}
    change = {"state": state, "history": [*value["history"], step]}
    who = parties_named(value["fsp_id"], value["buyer_id"])
    area.touch("settlements", settlement_id, ev.SettlementComputed, change, parties=who)


def _approved(area: Area, event: ev.SettlementApproved) -> None:
    _on_settlement(area, event.settlement_id, "APPROVED", event.revision, "")


def _disputed(area: Area, event: ev.SettlementDisputed) -> None:
    _on_settlement(area, event.settlement_id, "DISPUTED", event.revision, event.reason)


HANDLERS: Handlers = {
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
