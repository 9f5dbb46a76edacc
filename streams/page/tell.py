"""One line for people per event, for the tail of the journal; pure."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from flexbus import events as ev
from flexbus.views.offered import starts

__all__ = ["euro", "power", "tell"]


def power(power_w: int) -> str:
    """Return a power with the unit that suits its size."""
    size = abs(power_w)
    if size >= 1_000_000:
        return f"{power_w / 1e6:.2f} MW"
    return f"{power_w / 1e3:.1f} kW" if size >= 1_000 else f"{power_w} W"


def euro(cents: int) -> str:
    """Return cents as EUR."""
    sign = "−" if cents < 0 else ""
    return f"{sign}{abs(cents) // 100}.{abs(cents) % 100:02d} EUR"


def _clock(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%H:%M")


def _series(power_w: Sequence[int]) -> str:
    filled = sum(1 for p in power_w if p)
    return f"up to {power(max(power_w, key=abs, default=0))} in {filled} of {len(power_w)} slots"


def _offer(event: Any) -> str:
    o = event.offer
    where = o.connection_point_id or o.portfolio_id or "?"
    if o.terms is not None and o.terms.reactive is not None:
        what = _reactive(o.terms.reactive.slots)
    elif o.terms is not None and o.terms.start_choice is not None:
        what = f"{_series(o.terms.start_choice.profile_w)} from a start of {starts(o)}"
    else:
        what = _series([sum(s.power_w for s in slot.steps) for slot in o.slots])
    return f"{o.offer_id} r{o.revision} by {o.fsp_id} at {where}: {o.direction.value} {what}"


def _reactive(slots: Sequence[ev.ReactiveSlot]) -> str:
    return _series([sum(s.reactive_power_var for s in slot.steps) for slot in slots]).replace("W", "var")


def _request(event: Any) -> str:
    r = event.request
    what = _reactive(r.reactive_slots) if r.reactive_slots else _series(r.power_w)
    return f"{r.request_id} r{r.revision} by {r.requester_id} for {r.location_id}: {r.direction.value} {what}"


def _limit(event: Any) -> str:
    feed = "" if event.max_feed_in_w is None else f" feed-in ≤ {power(event.max_feed_in_w)}"
    draw = "" if event.max_draw_w is None else f" draw ≤ {power(event.max_draw_w)}"
    when = f"{_clock(event.start_ms)}–{_clock(event.end_ms)}"
    return f"{event.connection_point_id}{feed}{draw}, {when}: {event.reason}"


_LINES: dict[type[Any], Callable[[Any], str]] = {
    ev.AreaOpened: lambda e: f"{e.name}, operated by {e.fmo_id}",
    ev.ParticipantRegistered: lambda e: f"{e.participant_id} as {', '.join(r.value for r in e.roles)}",
    ev.ConnectionPointRegistered: lambda e: f"{e.connection_point_id} at {e.bus_id}, marketed by {e.fsp_id}",
    ev.AssetRegistered: lambda e: f"{e.asset_id}: {e.kind.value} at {e.connection_point_id}",
    ev.AssetApproved: lambda e: f"{e.asset_id}: up {power(e.validated_up_w)}, down {power(e.validated_down_w)}",
    ev.AssetRefused: lambda e: f"{e.asset_id}: {e.reason}",
    ev.PortfolioRegistered: lambda e: f"{e.portfolio_id}: {len(e.asset_ids)} assets",
    ev.NetworkModelPublished: lambda e: (
        f"{e.network_id} r{e.revision}: {len(e.buses)} buses, {len(e.branches)} branches"
    ),
    ev.NetForecastPublished: lambda e: f"{e.forecast_id} r{e.revision}: {len(e.injections)} buses",
    ev.MarketProductDefined: lambda e: f"{e.product_id}: {e.name}, {e.pricing_rule.value}, {e.resolution_s // 60} min",
    ev.MarketSessionScheduled: lambda e: f"{e.session_id}: gate closes {_clock(e.gate_closes_ms)}",
    ev.GateOpened: lambda e: e.session_id,
    ev.GateClosed: lambda e: f"{e.session_id}: what stands before this counts",
    ev.DeliveryStarted: lambda e: f"{e.session_id}: {_clock(e.start_ms)}–{_clock(e.end_ms)}",
    ev.DeliveryEnded: lambda e: e.session_id,
    ev.SettlementDue: lambda e: e.session_id,
    ev.CongestionForecastReceived: lambda e: f"{e.element_id} ({e.kind.value}) r{e.revision}",
    ev.NeedComputed: lambda e: f"{e.element_id}: {e.direction.value} {_series(e.need_w)}, {e.state.value}",
    ev.NeedNotTradable: lambda e: f"{e.element_id}: {e.reason}",
    ev.FlexRequestSubmitted: _request,
    ev.FlexRequestAmended: _request,
    ev.FlexRequestWithdrawn: lambda e: f"{e.request_id} {e.reason}",
    ev.FlexRequestExpired: lambda e: f"{e.request_id}: {e.reason}",
    ev.ProcurementStatusChanged: lambda e: f"{e.request_id}: {e.state.value}",
    ev.FlexOfferSubmitted: _offer,
    ev.FlexOfferReplaced: _offer,
    ev.FlexOfferWithdrawn: lambda e: f"{e.offer_id} by {e.fsp_id}",
    ev.FlexOfferClipped: lambda e: f"{e.offer_id}: {e.reason}",
    ev.BaselineSubmitted: lambda e: f"{e.connection_point_id} r{e.revision}",
    ev.ScheduleSubmitted: lambda e: f"{e.connection_point_id} r{e.revision}",
    ev.CapacityLimitForeseen: _limit,
    ev.CapacityLimitUnforeseen: _limit,
    ev.CapacityLimitLifted: lambda e: f"{e.limit_id} from {_clock(e.from_ms)}",
    ev.TrafficLightSet: lambda e: f"{e.connection_point_id}: {e.colour.value} {_clock(e.start_ms)}–{_clock(e.end_ms)}",
    ev.TrafficLightChanged: lambda e: f"{e.connection_point_id}: {_colours(e)}",
    ev.GridStatePublished: lambda e: "with the cleared flexibility" if e.cleared else "forecast without flexibility",
    ev.NodalPricesPublished: lambda e: f"{len(e.buses)} buses",
    ev.MarketCleared: lambda e: (
        f"{len(e.awards)} awards, {len(e.non_awards)} reasons, payment {e.cost_nano / 1e9:.2f} EUR"
    ),
    ev.OffersAggregated: lambda e: f"{e.infeed_id}: {e.direction.value} {e.offers} offers, {_series(e.power_w)}",
    ev.AggregateOffered: lambda e: f"{e.infeed_id}: {e.direction.value} {_series(e.power_w)}",
    ev.AggregateActivated: lambda e: f"{e.tso_id}: {_series(e.power_w)}",
    ev.AggregateDisaggregated: lambda e: f"{len(e.shares)} shares",
    ev.ActivationOrdered: lambda e: (
        f"{e.fsp_id} at {e.connection_point_id or e.portfolio_id}: {e.direction.value} {_series(e.power_w)} "
        f"from {_clock(e.start_ms)}"
    ),
    ev.ActivationAcknowledged: lambda e: f"by {e.fsp_id}",
    ev.ActivationRefused: lambda e: f"by {e.fsp_id}: {e.reason}",
    ev.ActivationChanged: lambda e: f"by {e.orderer_id} from {_clock(e.from_ms)}: {e.reason}",
    ev.ActivationStopped: lambda e: f"{e.fsp_id}, {_clock(e.from_ms)}–{_clock(e.until_ms)}: {e.reason}",
    ev.ActivationTimedOut: lambda e: f"{e.fsp_id} did not answer",
    ev.MeterReadingReceived: lambda e: f"{e.connection_point_id} r{e.revision}: {len(e.energy_wh)} slots",
    ev.DeliveryComputed: lambda e: f"{e.fsp_id}: {sum(e.delivered_wh) / 1e3:.1f} of {sum(e.ordered_wh) / 1e3:.1f} kWh",
    ev.SettlementComputed: lambda e: f"{e.buyer_id} → {e.fsp_id}: {euro(e.total_cents)}",
    ev.SettlementCorrected: lambda e: f"{e.buyer_id} → {e.fsp_id}: {euro(e.total_cents)} ({euro(e.difference_cents)})",
    ev.SettlementApproved: lambda e: f"r{e.revision} by {e.buyer_id}",
    ev.SettlementDisputed: lambda e: f"r{e.revision} by {e.party_id}: {e.reason}",
}


def _colours(event: ev.TrafficLightChanged) -> str:
    counts = {c.value.lower(): event.colours.count(c) for c in ev.Colour if c in event.colours}
    return ", ".join(f"{n} h {name}" for name, n in counts.items())


def tell(event: Any) -> str:
    """Return one line about an event; empty where its type says it all."""
    line = _LINES.get(type(event))
    return "" if line is None else line(event)
