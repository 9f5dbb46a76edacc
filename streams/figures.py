"""The market's figures as Prometheus metrics: the shell that reads the journal for `flexbus.views.figures`."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client import Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from flexbus.errors import EnvironmentProblem
from flexbus.events import EventRejected, ProcurementState
from flexbus.journal import Block
from flexbus.quantities import Direction
from flexbus.topics import CLOCK, JOURNAL
from flexbus.views.fact import Emission, Fact, Job, facts_of
from flexbus.views.figures import READS, Figures, fold, fold_rejection, need_w, procured_ratio
from streams.area import Stage
from streams.clock import read_tick
from streams.context import Context
from streams.journal_reader import Ends
from streams.page.feed import Feed
from streams.topics import journal_partitions

__all__ = ["VIEW", "MarketFigures", "run"]

STATES = (*(state.value for state in ProcurementState), "EXPIRED")
_AT_ONCE = 20  # blocks: a backlog of large ones must not all be in memory
_WAIT_S = 0.2
_LAG_EVERY_S = 5.0
_LATENCY_BUCKETS_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


def _decides_nothing(_: Figures, __: Fact) -> tuple[Emission | Job, ...]:
    return ()  # figures are shown, nothing follows from them


VIEW = Stage(
    service="figures",
    new_state=Figures,
    fold=fold,
    decide=_decides_nothing,
    outputs=frozenset(),
    reads=READS,
)


class MarketFigures(Collector):
    """The figures of all areas, as Prometheus reads them: what does not exist has no sample.

    Args:
        latency: histogram of the time from forecast to request.
    """

    def __init__(self, latency: Histogram) -> None:
        self._latency = latency
        self._areas: dict[str, Figures] = {}
        self._rejections: Counter[str] = Counter()
        self._played_ms: int | None = None
        self._lock = threading.Lock()  # the server thread collects while the reader folds

    def block(self, block: Block) -> None:
        """Take in a journal block."""
        with self._lock:
            for fact in facts_of(block, READS):
                area = fold(self._areas.setdefault(block.area_id, Figures()), fact)
                while area.latencies_s:
                    self._latency.labels(block.area_id).observe(area.latencies_s.pop())

    def rejection(self, rejected: EventRejected) -> None:
        """Take in a rejection."""
        with self._lock:
            fold_rejection(self._rejections, rejected)

    def tick(self, market_ms: int) -> None:
        """Take in the time of a played day; without one, the computer's counts."""
        self._played_ms = market_ms

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of HEDGE-29."""
        with self._lock:
            yield from self._collect(self._played_ms or time.time_ns() // 1_000_000)

    def _collect(self, now_ms: int) -> Iterator[Metric]:
        age = GaugeMetricFamily("hedge_forecast_age_seconds", "Age of the youngest forecast.", labels=["area"])
        need = GaugeMetricFamily(
            "hedge_need_watts", "Greatest need of a slot of the session.", labels=["area", "direction"]
        )
        ratio = GaugeMetricFamily(
            "hedge_procured_ratio", "Procured over needed energy of the session.", labels=["area"]
        )
        price = GaugeMetricFamily(
            "hedge_market_price_milli_per_mwh", "Mean awarded price, last clearing.", labels=["area", "direction"]
        )
        states = CounterMetricFamily("hedge_requests", "Requests that reached a state.", labels=["area", "state"])
        cleared = CounterMetricFamily("hedge_cleared_wh", "Energy awarded.", labels=["area", "direction"])
        for area, figures in sorted(self._areas.items()):
            if figures.forecast_issued_at_ms is not None:
                age.add_metric([area], (now_ms - figures.forecast_issued_at_ms) / 1000)
            if (share := procured_ratio(figures)) is not None:
                ratio.add_metric([area], share)
            for direction in Direction:
                if (most := need_w(figures, direction)) is not None:
                    need.add_metric([area, direction.value], most)
                if direction in figures.prices:
                    price.add_metric([area, direction.value], figures.prices[direction])
                if direction in figures.cleared_wh:
                    cleared.add_metric([area, direction.value], figures.cleared_wh[direction])
            for state in STATES:  # a counter that first appears with its first event has not increased
                states.add_metric([area, state], figures.requests[state])
        refused = CounterMetricFamily("hedge_rejections", "Faults of refused forecasts and requests.", labels=["code"])
        for code, count in sorted(self._rejections.items()):
            refused.add_metric([code], count)
        yield from (age, need, ratio, price, states, cleared, refused)


def run(context: Context, feed_of: Callable[[Context], Feed] = lambda context: Feed(context.connection)) -> None:
    """Read journal, rejections and clock from the beginning and show the figures until told to stop."""
    registry = context.monitor.market
    figures = MarketFigures(
        Histogram(
            "hedge_request_latency_seconds",
            "Forecast taken in until the request that follows.",
            ("area",),
            buckets=_LATENCY_BUCKETS_S,
            registry=registry,
        )
    )
    registry.register(figures)
    feed = feed_of(context)
    feed.open()
    lag = _Lag(context)
    try:
        while not context.stop.is_set():
            for topic, partition, offset, value in feed.read(_AT_ONCE, _WAIT_S):
                if topic == JOURNAL:
                    lag.read[partition] = offset + 1
                if isinstance(value, Block):
                    figures.block(value)
                    context.monitor.blocks.labels(context.service).inc()
                elif isinstance(value, EventRejected):
                    figures.rejection(value)
                elif topic == CLOCK and (at_ms := read_tick(value)) is not None:
                    figures.tick(at_ms)
            if feed.caught_up:
                context.monitor.ready()
            context.monitor.progress()
            lag.measure()
    finally:
        feed.close()


class _Lag:
    """How far this reader of the journal is behind its ends, asked for every few seconds."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._ends = Ends(context.connection)
        self._asked = 0.0
        self.read = dict.fromkeys(range(journal_partitions(context.connection)), 0)

    def measure(self) -> None:
        if time.monotonic() - self._asked < _LAG_EVERY_S:
            return
        self._asked = time.monotonic()
        try:
            ends = self._ends.of(self.read)
        except EnvironmentProblem:
            return  # the broker is away; the clients come back by themselves
        for partition, end in ends.items():
            # The marker that ends the last transaction is at the end and is never delivered.
            behind = max(0, end - self.read[partition] - 1)
            self._context.monitor.lag.labels(self._context.service, partition).set(behind)
