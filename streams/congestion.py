"""The congestion stage: from forecasts to needs, requests and their procurement (HEDGE-IoT SUC-FI-02.06)."""

from collections import Counter

from clearing import forecast
from flexbus.catalogue import Service
from flexbus.events import NeedState
from streams.area import Stage

__all__ = ["STAGE"]


def _row(state: forecast.Forecasting) -> dict[str, int]:
    """Return the needs by state, and the greatest that is still open at one element in one slot."""
    needs = [need for session in state.congestion.needs.values() for need in session.values()]
    states = Counter(found for _, found in needs)
    row = {f"needs_{found.value.lower()}": states[found] for found in NeedState}
    most = max((max(power_w, default=0) for power_w, found in needs if found is NeedState.OPEN), default=0)
    return {**row, "open_need_peak_w": most}


STAGE = Stage(
    service=Service.CONGESTION.value,
    new_state=forecast.Forecasting,
    fold=forecast.fold,
    decide=forecast.decide,
    outputs=frozenset(
        {
            "CongestionForecastReceived",
            "NeedComputed",
            "NeedNotTradable",
            "FlexRequestSubmitted",
            "FlexRequestAmended",
            "FlexRequestWithdrawn",
            "FlexRequestExpired",
            "RequestMissedGate",
            "ProcurementStatusChanged",
            "GridStatePublished",
        }
    ),
    reads=forecast.READS,
    row=_row,
    imports=("clearing.forecast",),
)
