"""What a control room watches of a market area: forecasts, needs, requests, procurement and prices (HEDGE-28, 29)."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from flexbus.events import (
    CongestionForecastReceived,
    EventRejected,
    FlexRequestExpired,
    FlexRequestSubmitted,
    FlexRequestWithdrawn,
    MarketCleared,
    NeedComputed,
    NeedState,
    NetForecastPublished,
    ProcurementStatusChanged,
    RequestMissedGate,
)
from flexbus.quantities import Direction
from flexbus.views.fact import Fact

__all__ = ["READS", "Figures", "fold", "fold_rejection", "need_w", "procured_ratio"]

MANUAL = "MANUAL"
_FORECAST_EVENTS = frozenset({"CongestionForecastReceived", "NetForecastPublished"})
_REQUEST_EVENTS = frozenset({"FlexRequestSubmitted", "FlexRequestAmended", "FlexRequestWithdrawn", *_FORECAST_EVENTS})


@dataclass(slots=True)
class Figures:
    """Figures of one area.

    Attributes:
        forecast_issued_at_ms: when the youngest forecast was made, UTC ms; None before the first.
        forecast_received_at_ms: when the last forecast was taken in, UTC ms.
        session_id: session that the needs and the procurement are of: the last one something was needed for.
        needs: latest need per element and direction of the session.
        procurement: latest status per request of the session.
        requests: how many requests reached a state.
        latencies_s: time from the last forecast to each request that follows from one, s; emptied by the reader.
        prices: price per direction of the last clearing, 1/1000 EUR per MWh, weighted by awarded power.
        cleared_wh: energy awarded so far per direction, Wh.
    """

    forecast_issued_at_ms: int | None = None
    forecast_received_at_ms: int | None = None
    session_id: str | None = None
    needs: dict[tuple[str, Direction], NeedComputed] = field(default_factory=dict)
    procurement: dict[str, ProcurementStatusChanged] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)
    prices: dict[Direction, float] = field(default_factory=dict)
    cleared_wh: Counter[Direction] = field(default_factory=Counter)
    _states: set[tuple[str, str]] = field(default_factory=set)


def fold(figures: Figures, fact: Fact) -> Figures:
    """Take in one journal fact of the area; facts that no figure shows change nothing."""
    change = _CHANGES.get(type(fact.event))
    if change is not None:
        change(figures, fact.event, fact.received_at_ms)
    return figures


def _forecast(figures: Figures, forecast: CongestionForecastReceived | NetForecastPublished, at_ms: int) -> None:
    figures.forecast_issued_at_ms = max(forecast.issued_at_ms, figures.forecast_issued_at_ms or forecast.issued_at_ms)
    figures.forecast_received_at_ms = at_ms


def _need(figures: Figures, need: NeedComputed, _: int) -> None:
    _turn_to(figures, need.session_id)
    figures.needs[need.element_id, need.direction] = need


def _requested(figures: Figures, e: FlexRequestSubmitted, at_ms: int) -> None:
    request = e.request
    _reached(figures, request.request_id, "SUBMITTED")
    if request.causes and MANUAL not in request.causes and figures.forecast_received_at_ms is not None:
        figures.latencies_s.append((at_ms - figures.forecast_received_at_ms) / 1000)


def _procured(figures: Figures, status: ProcurementStatusChanged, _: int) -> None:
    _turn_to(figures, status.session_id)
    figures.procurement[status.request_id] = status
    _reached(figures, status.request_id, status.state.value)


def fold_rejection(rejections: Counter[str], rejected: EventRejected) -> Counter[str]:
    """Count the faults of refused forecasts and requests by code."""
    if rejected.event_type in _REQUEST_EVENTS:
        rejections.update(fault.code.value for fault in rejected.faults)
    return rejections


def _reached(figures: Figures, request_id: str, state: str) -> None:
    if (request_id, state) not in figures._states:
        figures._states.add((request_id, state))
        figures.requests[state] += 1


def _turn_to(figures: Figures, session_id: str) -> None:
    if figures.session_id != session_id:
        figures.session_id = session_id
        figures.needs = {}
        figures.procurement = {}


def _cleared(figures: Figures, e: MarketCleared, _: int) -> None:
    value: Counter[Direction] = Counter()
    power: Counter[Direction] = Counter()
    for award in e.awards:
        value[award.direction] += sum(
            w * price for w, price in zip(award.power_w, award.price_milli_per_mwh, strict=True)
        )
        power[award.direction] += sum(award.power_w)
        figures.cleared_wh[award.direction] += sum(award.power_w) * award.resolution_s // 3600
    figures.prices = {d: value[d] / power[d] for d in Direction if power[d]}


def need_w(figures: Figures, direction: Direction) -> int | None:
    """Return the greatest need of any slot of the session, W, summed over elements; None without a need."""
    per_slot: Counter[int] = Counter()
    for (_, d), need in figures.needs.items():
        if d is direction and need.state is not NeedState.GONE:
            for i, power_w in enumerate(need.need_w):
                per_slot[need.start_ms + i * need.resolution_s * 1000] += power_w
    return max(per_slot.values(), default=None)


def procured_ratio(figures: Figures) -> float | None:
    """Return procured over needed power of the session, summed over slots and requests; None without a need.

    Slots of one session are equally long, so this is the ratio of energies (HEDGE-29, T-GF-1). What was procured
    beyond the need of a slot does not make up for another slot.
    """
    needed = sum(sum(s.needed_w) for s in figures.procurement.values())
    if needed == 0:
        return None
    procured = sum(
        min(got, wanted)
        for s in figures.procurement.values()
        for got, wanted in zip(s.procured_w, s.needed_w, strict=True)
    )
    return procured / needed


_CHANGES: dict[type[Any], Callable[[Figures, Any, int], None]] = {
    CongestionForecastReceived: _forecast,
    NetForecastPublished: _forecast,
    NeedComputed: _need,
    FlexRequestSubmitted: _requested,
    FlexRequestWithdrawn: lambda figures, e, _: _reached(figures, e.request_id, "WITHDRAWN"),
    FlexRequestExpired: lambda figures, e, _: _reached(figures, e.request_id, "EXPIRED"),
    RequestMissedGate: lambda figures, e, _: _reached(figures, e.request_id, "MISSED"),
    ProcurementStatusChanged: _procured,
    MarketCleared: _cleared,
}
READS = frozenset(t.__name__ for t in _CHANGES)
