"""Builds the Grafana dashboard; `python docker/grafana/dashboard.py > docker/grafana/dashboards/flexbus.json`.

The first half is what a control room asks (HEDGE-28: flex requests, procurement status, forecasts), the second
what an operator asks of the bus itself. Slot times show in the reader's own time zone.
"""

import sys

from grafana_foundation_sdk.builders.bargauge import Panel as BarGauge
from grafana_foundation_sdk.builders.common import ReduceDataOptions, VizLegendOptions
from grafana_foundation_sdk.builders.dashboard import Dashboard, QueryVariable, Row, ThresholdsConfig
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.timeseries import Panel as TimeSeries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import BigValueColorMode, LegendDisplayMode, LegendPlacement
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
)

SOURCE = DataSourceRef(type_val="prometheus", uid="prometheus")
GOOD, WARN, BAD = "blue", "yellow", "orange"  # told apart by the colour-blind too
AREA = 'area=~"$area"'

Panel = Stat | TimeSeries | BarGauge


def _query(expression: str, legend: str, ref_id: str = "A") -> Dataquery:
    return Dataquery().datasource(SOURCE).expr(expression).legend_format(legend).ref_id(ref_id)


def _limits(*steps: tuple[float, str], base: str = GOOD) -> ThresholdsConfig:
    levels = [Threshold(value=None, color=base), *(Threshold(value=value, color=color) for value, color in steps)]
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(levels)


def _line(title: str, why: str, unit: str, *queries: tuple[str, str], span: int = 12) -> TimeSeries:
    panel = TimeSeries().title(title).description(why).datasource(SOURCE).unit(unit).height(8).span(span)
    panel = panel.legend(
        VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM).show_legend(True)
    )
    for (expression, legend), ref_id in zip(queries, "AB", strict=False):
        panel = panel.with_target(_query(expression, legend, ref_id))
    return panel


def _stat(title: str, why: str, unit: str, expression: str, legend: str, limits: ThresholdsConfig) -> Stat:
    return (
        Stat()
        .title(title)
        .description(why)
        .datasource(SOURCE)
        .unit(unit)
        .height(5)
        .span(6)
        .color_mode(BigValueColorMode.BACKGROUND)
        .reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(limits)
        .with_target(_query(expression, legend))
    )


def _market() -> list[Panel]:
    return [
        _stat(
            "Procured of needed",
            "Energy procured over energy needed, of the session something was last needed for.",
            "percentunit",
            f"hedge_procured_ratio{{{AREA}}}",
            "{{area}}",
            _limits((0.8, WARN), (0.999, GOOD), base=BAD),
        ).no_value("no need"),
        _stat(
            "Age of the forecast",
            "Time since the youngest forecast was made; after three hours planning data count as missing.",
            "s",
            f"hedge_forecast_age_seconds{{{AREA}}}",
            "{{area}}",
            _limits((2 * 3600, WARN), (3 * 3600, BAD)),
        ).no_value("no forecast yet"),
        _stat(
            "Requests that missed a gate or stayed uncovered",
            "The network operator must take another measure for each of them.",
            "short",
            f'sum by (area) (hedge_requests_total{{{AREA}, state=~"MISSED|UNPROCURED|EXPIRED"}})',
            "{{area}}",
            _limits((1, BAD)),
        ),
        _stat(
            "The whole chain answers",
            "1 if every service of the bus answers, seen from outside.",
            "short",
            "hedge_up",
            "up",
            _limits((1, GOOD), base=BAD),
        ),
        _line(
            "Need",
            "Greatest need of any quarter-hour of the session, added up over grid elements.",
            "watt",
            (f"hedge_need_watts{{{AREA}}}", "{{area}} {{direction}}"),
        ),
        _line(
            "Flex requests by state",
            "How many requests reached each state; the distance between SUBMITTED and PROCURED is what is open.",
            "short",
            (f"sum by (state) (hedge_requests_total{{{AREA}}})", "{{state}}"),
        ),
        _line(
            "Price of flexibility",
            "Mean price of the last clearing, weighted by awarded power, in thousandths of EUR per MWh.",
            "short",
            (f"hedge_market_price_milli_per_mwh{{{AREA}}}", "{{area}} {{direction}}"),
        ),
        _line(
            "Energy awarded",
            "Added up over all clearings.",
            "watth",
            (f"hedge_cleared_wh_total{{{AREA}}}", "{{area}} {{direction}}"),
        ),
        _line(
            "From forecast to request",
            "Time from a forecast's entry into the journal until the request that follows from it.",
            "s",
            (
                f"histogram_quantile(0.5, sum by (le) (hedge_request_latency_seconds_bucket{{{AREA}}}))",
                "half of them",
            ),
            (
                f"histogram_quantile(0.99, sum by (le) (hedge_request_latency_seconds_bucket{{{AREA}}}))",
                "99 of 100",
            ),
        ),
        _line(
            "Refused forecasts and requests",
            "Faults by reason code; `flexbus rejections list` shows the inputs.",
            "short",
            ("sum by (code) (hedge_rejections_total)", "{{code}}"),
        ),
    ]


def _system() -> list[Panel]:
    return [
        _line(
            "Inputs sequenced",
            "Events that entered the journal, by kind.",
            "cps",
            (
                f'sum by (kind) (rate(flexbus_events_total{{service="sequencer", {AREA}}}[1m]))',
                "{{kind}}",
            ),
        ),
        _line(
            "Rejections",
            "Faults of refused inputs by reason code.",
            "cps",
            ("sum by (code) (rate(flexbus_rejections_total[5m]))", "{{code}}"),
        ),
        _line(
            "Behind the journal",
            "Journal records a service has not taken in yet.",
            "short",
            ("sum by (service) (flexbus_consumer_lag)", "{{service}}"),
        ),
        _line(
            "Blocks taken in",
            "Journal blocks a second.",
            "cps",
            ("sum by (service) (rate(flexbus_blocks_total[1m]))", "{{service}}"),
        ),
        _line(
            "Latency of the stages, 99 of 100",
            "From an event's receipt by the broker until what follows from it was sent; promised is 1 s.",
            "s",
            (
                "histogram_quantile(0.99, sum by (le, service) (rate(flexbus_stage_latency_seconds_bucket[5m])))",
                "{{service}}",
            ),
        ),
        _line(
            "Clearing time",
            "Run time of clearings since their start; promised is 15 s from gate to published.",
            "s",
            ("histogram_quantile(0.5, sum by (le) (flexbus_clearing_seconds_bucket))", "half of them"),
            ("histogram_quantile(0.95, sum by (le) (flexbus_clearing_seconds_bucket))", "95 of 100"),
        ),
        _line(
            "Facts due and not yet in the journal",
            "What a stage has concluded and waits to see in the journal.",
            "short",
            (f"sum by (service) (flexbus_pending{{{AREA}}})", "{{service}}"),
        ),
        BarGauge()
        .title("Processes that answer")
        .description("Scrape targets that are up, by service.")
        .datasource(SOURCE)
        .unit("short")
        .height(8)
        .span(12)
        .reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(_limits((1, GOOD), base=BAD))
        .with_target(_query('sum by (service) (up{job="flexbus"})', "{{service}}")),
    ]


def dashboard() -> str:
    """Return the dashboard as JSON."""
    board = (
        Dashboard("flexbus")
        .uid("flexbus")
        .description("Flexibility requests, their procurement and the forecasts behind them; health of the bus.")
        .tags(["flexbus"])
        .refresh("10s")
        .time("now-6h", "now")
        .timezone("browser")
        .readonly()
        .with_variable(
            QueryVariable("area")
            .label("Market area")
            .datasource(SOURCE)
            .query("label_values(hedge_requests_total, area)")
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .multi(True)
            .include_all(True)
            .all_value(".*")
        )
    )
    for title, panels in (("The market", _market()), ("The bus", _system())):
        board = board.with_row(Row(title))
        for panel in panels:
            board = board.with_panel(panel)
    return JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n"


if __name__ == "__main__":
    sys.stdout.write(dashboard())
