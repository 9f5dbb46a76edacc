"""The congestion stage's numbers: a forecast of injections becomes one of congestion, by the AC power flow.

The rules (needs, requests, procurement) are those of `flexbus.views.congestion`; here its decisions are joined by
the computation that a published net forecast makes due: one congestion forecast per element near its limit, and
last the grid state that is to be expected without flexibility.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from clearing.congestion import CongestionForecast, forecast_congestion
from clearing.power_flow import AcGrid
from flexbus import events as ev
from flexbus.events import CongestionKind
from flexbus.ids import derived_id
from flexbus.quantities import PPM
from flexbus.views import congestion
from flexbus.views.congestion import Congestion
from flexbus.views.fact import Emission, Fact, Job, emit
from flexbus.views.registry import Gate, Session

__all__ = ["READS", "Forecasting", "decide", "fold", "forecast_session"]

Real = NDArray[np.float64]
SOURCE = "AC power flow on the net forecast"
# Names of the events the fold looks at; the others need not be decoded for it.
READS = congestion.READS
_TRIGGERS = (ev.NetForecastPublished, ev.MarketSessionScheduled, ev.NetworkModelPublished)


@dataclass(slots=True)
class Forecasting:
    """Needs and requests of one area, and the forecasts that are being computed for them.

    Attributes:
        congestion: forecasts, needs and requests.
        computed: session, forecast, revision and network revision of what was computed or is being.
        jobs: what the last fact makes due.
    """

    congestion: Congestion = field(default_factory=Congestion)
    computed: set[tuple[str, str, int, int]] = field(default_factory=set)
    jobs: tuple[Job, ...] = ()


def fold(state: Forecasting, fact: Fact) -> Forecasting:
    """Return the state after a fact."""
    state.congestion = congestion.fold(state.congestion, fact)
    state.jobs = tuple(_jobs(state)) if isinstance(fact.event, _TRIGGERS) else ()
    return state


def decide(state: Forecasting, fact: Fact) -> tuple[Emission | Job, ...]:
    """Return needs, requests and computations that the fact just folded makes due."""
    return (*congestion.decide(state.congestion, fact), *state.jobs)


def forecast_session(
    network: ev.NetworkModelPublished,
    forecast: ev.NetForecastPublished,
    session_id: str,
    margin_ppm: int,
) -> tuple[Emission, ...]:
    """Compute what will be congested in a session.

    Args:
        network: the grid.
        forecast: injections per bus.
        session_id: session the needs are meant for.
        margin_ppm: safety taken off a limit, millionths.
    """
    slots = _slots(forecast)
    known = {bus.bus_id for bus in network.buses}
    injections = [i for i in forecast.injections if i.bus_id in known]
    found = forecast_congestion(network, injections, slots, report_from_ppm=PPM - margin_ppm)
    cause = (session_id, forecast.forecast_id, forecast.revision, network.revision)
    results: list[Emission] = []
    for event in _congested(found, forecast, session_id):
        results.append(emit(event, *cause, event.kind.value, event.element_id))
    index = {bus.bus_id: k for k, bus in enumerate(network.buses)}
    p, q = np.zeros((slots, len(index))), np.zeros((slots, len(index)))
    for injection in injections:
        p[:, index[injection.bus_id]] += injection.power_w
        q[:, index[injection.bus_id]] += injection.reactive_power_var
    state = AcGrid(network).solve(p, q)
    voltage, power, loading = np.abs(state.voltage_pu) * PPM, state.p_from_w, state.loading_ppm
    expected = ev.GridStatePublished(
        area_id=forecast.area_id,
        session_id=session_id,
        cleared=False,
        start_ms=forecast.start_ms,
        resolution_s=forecast.resolution_s,
        buses=tuple(
            ev.BusVoltage(bus_id=bus.bus_id, voltage_ppm=_whole(voltage[:, k])) for k, bus in enumerate(network.buses)
        ),
        branches=tuple(
            ev.BranchFlow(branch_id=b.branch_id, power_w=_whole(power[:, k]), loading_ppm=_whole(loading[:, k]))
            for k, b in enumerate(network.branches)
        ),
    )
    return (*results, emit(expected, *cause))


def _jobs(state: Forecasting) -> Iterator[Job]:
    registry = state.congestion.registry
    network, forecast = registry.network, registry.net_forecast
    if network is None or forecast is None or forecast.network_id != network.network_id or not forecast.injections:
        return
    for session_id, session in registry.sessions.items():
        key = (session_id, forecast.forecast_id, forecast.revision, network.revision)
        if key in state.computed or session.gate is Gate.CLOSED or not _serves(forecast, session):
            continue
        state.computed.add(key)
        yield Job(
            job_id=derived_id(ev.GridStatePublished.__name__, forecast.area_id, *key),
            run=forecast_session,
            arguments=(network, forecast, session_id, session.product.margin_ppm),
        )


def _serves(forecast: ev.NetForecastPublished, session: Session) -> bool:
    end_ms = forecast.start_ms + _slots(forecast) * forecast.resolution_s * 1000
    scheduled = session.scheduled
    return forecast.start_ms < scheduled.delivery_end_ms and scheduled.delivery_start_ms < end_ms


def _slots(forecast: ev.NetForecastPublished) -> int:
    return max((len(i.power_w) for i in forecast.injections), default=0)


def _congested(
    found: CongestionForecast, net: ev.NetForecastPublished, session_id: str
) -> Iterator[ev.CongestionForecastReceived]:
    def event(kind: CongestionKind, element_id: str, **values: object) -> ev.CongestionForecastReceived:
        return ev.CongestionForecastReceived(
            area_id=net.area_id,
            forecast_id=f"{net.forecast_id}/{session_id}/{kind.value}/{element_id}",
            revision=net.revision,
            session_id=session_id,
            element_id=element_id,
            kind=kind,
            issued_at_ms=net.issued_at_ms,
            start_ms=net.start_ms,
            resolution_s=net.resolution_s,
            source=SOURCE,
            **values,  # type: ignore[arg-type]
        )

    for t in found.thermal:
        limits = {"limit_import_w": t.limit_import_w or None, "limit_export_w": t.limit_export_w or None}
        if any(limits.values()):
            yield event(CongestionKind.THERMAL, t.element_id, flow_w=t.flow_w, **limits)
    for v in found.voltage:
        yield event(CongestionKind.VOLTAGE, v.bus_id, need_up_w=v.need_up_w, need_down_w=v.need_down_w)


def _whole(values: Real) -> tuple[int, ...]:
    return tuple(int(x) for x in np.rint(np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)))
