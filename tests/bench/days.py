"""Is a market day as fast for every view when many days are behind it? Whole days in memory, with all that they derive.

The journal of `growth` has offers alone; here are forecasts, requests, orders, readings, limits and settlements, too.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, is_dataclass, replace
from types import SimpleNamespace
from typing import Any

from flexbus import codec
from flexbus import events as ev
from flexbus.journal import Block
from streams.area import Area
from streams.demo.grid_day import scenario_of
from streams.demo.scenario import another_day
from streams.demo.world import World
from streams.intake import Intake
from streams.page import model
from streams.page.metered import refresh_metered
from streams.scheduler import VIEW as SCHEDULER
from streams.sequencer import RULES
from streams.stages import VIEWS
from tests.bench.core import Ratio
from tests.memory_bus import MemoryBus, MemoryPorts

__all__ = ["day_growth"]

_REFRESHED_EVERY = 100  # blocks, as on a page that catches up
GRID = "1-LV-rural1--2-sw"
# What the parties of a day name themselves, and must name anew on the next.
_NAMED = {"offer_id", "reading_id", "light_id", "baseline_id", "forecast_id", "limit_id", "schedule_id"}
_NAMED |= {"request_id", "tso_activation_id", "parent_offer_id", "exclusive_group_id"}
_ONCE = (ev.AreaOpened, ev.NetworkModelPublished)


class _Ports(MemoryPorts):
    """One bus for all days, and clients whose events bear the day in their names."""

    day = 0

    def mirror(self, area_id: str, on_fact: Callable[[Any], None]) -> MemoryBus:
        if self.bus is None:
            return super().mirror(area_id, on_fact)
        self.bus.on_fact = on_fact
        return self.bus

    def client(self, party: str) -> Any:
        client = super().client(party)
        if not self.day:
            return client

        def post_all(events: Iterable[Any]) -> list[SimpleNamespace]:
            return client.post_all([self._named(e) for e in events if not isinstance(e, _ONCE)])

        return SimpleNamespace(post_all=post_all, post_records=client.post_records, close=client.close)

    def _named(self, record: Any) -> Any:
        changed = {}
        for name in (f.name for f in fields(record)):
            value = getattr(record, name)
            if name in _NAMED and value:
                changed[name] = f"{value}-{self.day}"
            elif is_dataclass(value):
                changed[name] = self._named(value)
        return replace(record, **changed)


def days() -> Iterator[list[Block]]:
    """Yield the blocks of one market day after the other, each a week after the one before, in one area."""
    ports, first = _Ports(), scenario_of(GRID, "sunny")
    while True:
        world = World(ports, another_day(first, first.area_id, 7 * ports.day), lambda _: None, 0.0)
        world.play()
        assert ports.bus is not None
        blocks, ports.bus.blocks = ports.bus.blocks, []
        yield blocks
        ports.day += 1


def day_growth(events: int) -> Iterator[Ratio]:
    """Compare the rate of every view in the first tenth of the days with that in the others."""
    first, readers = max(events // 10, 5_000), _readers()
    rates: list[dict[str, float]] = []
    spent, count, done = defaultdict[str, float](float), 0, 0
    for blocks in days():
        for data in map(codec.encode, blocks):
            for name, take in readers.items():
                block = codec.decode_as(data, Block)
                began = time.process_time()  # hours of it are run beside other work
                take(block)
                spent[name] += time.process_time() - began
        count += len(blocks)
        if done + count >= (10 * first if rates else first):
            rates.append({name: count / seconds for name, seconds in spent.items()})
            spent, count, done = defaultdict(float), 0, done + count
            if len(rates) == 2:
                break
    for name, rate in rates[1].items():
        yield Ratio(f"{name}, whole days to {done:,} events, not the first tenth", rate, rates[0][name], 0.7)


def _readers() -> dict[str, Callable[[Block], object]]:
    """Return what takes the blocks: sequencer, stages, scheduler, page."""
    intake = Intake(0, 1, RULES)
    page = model.PageState()
    area_id = scenario_of(GRID, "sunny").area_id

    def shown(block: Block) -> None:
        model.fold(page, block)
        if block.number % _REFRESHED_EVERY == 0:
            refresh_metered(page.areas[block.area_id])

    found: dict[str, Callable[[Block], object]] = {"sequencer": intake.replay}
    for name, view in {**VIEWS, "scheduler": SCHEDULER}.items():
        found[name] = Area(area_id, view, 0).take
    return {**found, "page": shown}
