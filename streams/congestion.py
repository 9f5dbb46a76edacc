"""The congestion stage: from forecasts to needs, requests and their procurement (HEDGE-IoT SUC-FI-02.06)."""

from clearing import forecast
from flexbus.catalogue import Service
from streams.area import Stage

__all__ = ["STAGE"]

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
    imports=("clearing.forecast",),
)
