"""What a control room watches follows from the facts of the journal, and from nothing else."""

import threading
from collections import Counter
from typing import Any

import pytest

from flexbus.errors import Fault, FaultCode
from flexbus.events import (
    CongestionForecastReceived,
    CongestionKind,
    EventRejected,
    FlexRequest,
    FlexRequestSubmitted,
    LocationKind,
    NeedComputed,
    NeedState,
    ProcurementState,
    ProcurementStatusChanged,
    RequestMissedGate,
)
from flexbus.quantities import Direction
from flexbus.views.fact import Fact
from flexbus.views.figures import Figures, fold, fold_rejection, need_w, procured_ratio
from streams import figures as shell
from streams.context import Context
from streams.kafka import Connection
from streams.monitor import Monitor

QUARTER_S = 900


def fact(event: Any, received_at_ms: int = 0) -> Fact:
    return Fact(
        event=event,
        event_id="e",
        sender_id="s",
        on_behalf_of=None,
        received_at_ms=received_at_ms,
        block=0,
        index=0,
    )


def figures_of(*facts: Any) -> Figures:
    figures = Figures()
    for one in facts:
        figures = fold(figures, one if isinstance(one, Fact) else fact(one))
    return figures


def forecast(issued_at_ms: int) -> CongestionForecastReceived:
    return CongestionForecastReceived(
        area_id="A",
        forecast_id="f",
        revision=1,
        element_id="T1",
        kind=CongestionKind.THERMAL,
        issued_at_ms=issued_at_ms,
        start_ms=0,
        resolution_s=QUARTER_S,
    )


def need(element: str, start_ms: int, *power_w: int, state: NeedState = NeedState.OPEN) -> NeedComputed:
    return NeedComputed(
        area_id="A",
        session_id="da",
        element_id=element,
        kind=CongestionKind.THERMAL,
        direction=Direction.UP,
        start_ms=start_ms,
        resolution_s=QUARTER_S,
        need_w=power_w,
        state=state,
        causes=("f",),
    )


def status(request: str, needed: tuple[int, ...], procured: tuple[int, ...], session: str = "da") -> Any:
    return ProcurementStatusChanged(
        area_id="A",
        request_id=request,
        requester_id="dso",
        session_id=session,
        state=ProcurementState.PART_PROCURED,
        needed_w=needed,
        procured_w=procured,
        remaining_w=tuple(max(0, n - p) for n, p in zip(needed, procured, strict=True)),
    )


def request(*causes: str) -> FlexRequestSubmitted:
    return FlexRequestSubmitted(
        area_id="A",
        request=FlexRequest(
            request_id="r",
            revision=1,
            session_id="da",
            requester_id="dso",
            direction=Direction.UP,
            location_kind=LocationKind.AREA,
            location_id="A",
            start_ms=0,
            resolution_s=QUARTER_S,
            power_w=(1,),
            max_price_milli_per_mwh=1,
            causes=causes,
        ),
    )


def test_the_ratio_of_the_rule_book() -> None:
    """HEDGE T-GF-1: (300 + 500) / (500 + 500) = 0.8."""
    assert procured_ratio(figures_of(status("r", (500_000, 500_000), (300_000, 500_000)))) == pytest.approx(0.8)


def test_no_need_is_no_ratio_rather_than_one_or_zero() -> None:
    """HEDGE T-GF-2."""
    assert procured_ratio(figures_of()) is None
    assert procured_ratio(figures_of(status("r", (0,), (0,)))) is None


def test_surplus_in_one_slot_does_not_cover_another() -> None:
    assert procured_ratio(figures_of(status("r", (100, 100), (300, 0)))) == pytest.approx(0.5)


def test_a_later_status_of_a_request_replaces_the_earlier_one() -> None:
    assert procured_ratio(figures_of(status("r", (100,), (20,)), status("r", (100,), (70,)))) == pytest.approx(0.7)


def test_the_next_session_begins_anew() -> None:
    figures = figures_of(status("r", (100,), (20,)), status("s", (100,), (100,), session="intraday"))
    assert procured_ratio(figures) == pytest.approx(1.0)


def test_needs_of_elements_add_up_in_the_same_slot_only() -> None:
    quarter_ms = QUARTER_S * 1000
    #          slot 0   1    2
    # T1            100  50
    # T2                 80  30      -> greatest slot: 50 + 80
    figures = figures_of(need("T1", 0, 100, 50), need("T2", quarter_ms, 80, 30))
    assert need_w(figures, Direction.UP) == 130
    assert need_w(figures, Direction.DOWN) is None


def test_a_need_that_is_gone_is_no_need() -> None:
    assert need_w(figures_of(need("T1", 0, 100), need("T1", 0, 100, state=NeedState.GONE)), Direction.UP) is None


def test_the_age_of_the_forecast_is_that_of_the_youngest_however_they_arrive() -> None:
    assert figures_of(forecast(2000), forecast(1000)).forecast_issued_at_ms == 2000


def test_the_time_from_forecast_to_request_leaves_manual_requests_out() -> None:
    figures = figures_of(fact(forecast(0), 1000), fact(request("f/1"), 3500), fact(request("MANUAL"), 9000))
    assert figures.latencies_s == [2.5]


def test_a_request_counts_once_per_state_however_often_the_state_is_told() -> None:
    missed = RequestMissedGate(area_id="A", session_id="da", request_id="q", reason="LATE")
    figures = figures_of(request("f"), status("r", (1,), (0,)), status("r", (1,), (0,)), missed)
    assert figures.requests == {"SUBMITTED": 1, "PART_PROCURED": 1, "MISSED": 1}


def test_only_refused_forecasts_and_requests_count_as_such() -> None:
    def rejected(event_type: str | None) -> EventRejected:
        return EventRejected(
            area_id="A",
            rejection_id="x",
            event_id=None,
            event_type=event_type,
            sender_id="dso",
            on_behalf_of=None,
            inbox_topic="t",
            inbox_partition=0,
            inbox_offset=0,
            received_at_ms=0,
            faults=(Fault(code=FaultCode.BAD_PERIOD, path="$", message="m"),),
            original=b"",
            headers={},
        )

    seen: Counter[str] = Counter()
    for kind in ("FlexRequestSubmitted", "FlexOfferSubmitted", None):
        fold_rejection(seen, rejected(kind))
    assert seen == {"BAD_PERIOD": 1}


class _Ends:
    """Says that two partitions end at 10 and at 1."""

    def __init__(self, _: Connection) -> None:
        self.asked = 0

    def of(self, _: object) -> dict[int, int]:
        self.asked += 1
        return {0: 10, 1: 1}


def test_the_lag_counts_what_is_not_read_and_is_asked_for_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "Ends", _Ends)
    monkeypatch.setattr(shell, "journal_partitions", lambda _: 2)
    monitor = Monitor("monitor")
    context = Context(service="monitor", connection=Connection("none:1"), monitor=monitor, stop=threading.Event())
    lag = shell._Lag(context)
    lag.read[0] = 4  # the next to read; the last is the mark of the transaction
    for _ in range(3):
        lag.measure()
    metrics = monitor.metrics().decode()
    assert 'flexbus_consumer_lag{partition="0",service="monitor"} 5.0' in metrics
    assert 'flexbus_consumer_lag{partition="1",service="monitor"} 0.0' in metrics
    ends: Any = lag._ends
    assert ends.asked == 1
