"""What is sent while everything is being killed: a stream of offers, good and bad, and whole market days."""

import random
import sys
import threading
import time
from dataclasses import replace
from typing import Any
from uuid import uuid4

from flexbus import events as ev
from flexbus.client import Client, Record
from flexbus.errors import FlexbusError
from flexbus.events import FlexOfferSubmitted, MarketSessionScheduled
from streams.demo.grid_day import scenario_of
from streams.demo.scenario import another_day
from streams.demo.world import KafkaPorts, World
from streams.kafka import Connection
from streams.page.model import summary
from tests import market
from tests.chaos.checker import MARK, VALID
from tests.integration import core
from tests.integration.core import FSP_A, FSP_B
from tests.memory_bus import MemoryPorts

__all__ = ["AREAS", "CLOSES_MS", "Days", "Offers", "later", "undisturbed"]

AREAS = ("north", "east", "south", "west", "isle")
PER_SECOND = 150
GRID = "1-LV-rural1--2-sw"
_WEEKS_MS = 364 * market.DAY  # after all days that are played meanwhile
CLOSES_MS = market.START + _WEEKS_MS - 12 * market.HOUR


def later(event: Any) -> Any:
    """Return an event of the small market, its session a year later."""
    if isinstance(event, MarketSessionScheduled):
        times = ("delivery_start_ms", "delivery_end_ms", "gate_opens_ms", "gate_closes_ms", "settlement_due_ms")
        return replace(event, **{name: getattr(event, name) + _WEEKS_MS for name in times})
    if isinstance(event, FlexOfferSubmitted):
        return replace(event, offer=replace(event.offer, start_ms=event.offer.start_ms + _WEEKS_MS))
    if isinstance(event, ev.GateOpened):
        return replace(event, at_ms=event.at_ms + _WEEKS_MS)
    return event


class Offers:
    """Offers in every area, until told to stop: some are sent twice, some are broken, some use another's id.

    All but the broken ones bear the checker's mark: of those with one id the bus must take exactly one.
    """

    def __init__(self, connection: Connection, seed: int) -> None:
        self._random = random.Random(seed)
        self._clients = {p: Client(connection.bootstrap, p, timeout_s=60) for p in (FSP_A, FSP_B)}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._number = 0
        self._used: dict[str, str] = {}

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            for party, client in self._clients.items():
                records = [r for _ in range(PER_SECOND // 10) for r in self._offer(party, client)]
                self._random.shuffle(records)  # repeats come late, and areas in any order
                try:
                    client.post_records(records)
                except FlexbusError as error:  # the broker was away for long; what arrived of them is counted there
                    print(f"  load: {error}", file=sys.stderr)
            self._stop.wait(max(0.0, 0.2 - (time.monotonic() - began)))

    def _offer(self, party: str, client: Client) -> list[Record]:
        self._number += 1
        chance = self._random.random()
        area = self._random.choice(AREAS)
        fresh = str(uuid4())
        event_id = self._used.get(area, fresh) if chance < 0.03 else fresh
        self._used[area] = event_id
        offer = later(core.offer_of(self._number, area, party))
        record = client.record(offer, event_id=event_id)
        if 0.03 <= chance < 0.08:
            return [Record(record.value[:-3], record.key, record.headers)]
        record = Record(record.value, record.key, {**record.headers, MARK: VALID})
        return [record] * (2 if chance > 0.85 else 1)


def undisturbed() -> dict[str, Any]:
    """Return the numbers of the day's session on a bus in memory, where nothing can be killed."""
    world = World(MemoryPorts(), scenario_of(GRID, "sunny"), lambda _: None, 0.0)
    world.play()
    (area,) = summary(world.mirror.page)["areas"].values()
    (session,) = area["sessions"].values()
    return dict(session)


class Days:
    """Whole market days on a real grid, one after the other, each in an area of its own and a week later."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._scenario = scenario_of(GRID, "sunny")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._number = 0
        self._error: str | None = None
        self.played: list[dict[str, Any]] = []

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Let the day that is being played come to its end."""
        self._stop.set()
        self._thread.join()

    def differing(self, wanted: dict[str, Any]) -> list[str]:
        """Return in what the days came out otherwise, and what kept one from being played."""
        found = [] if self._error is None else [self._error]
        for number, day in enumerate(self.played):
            wrong = [k for k in wanted if day.get(k) != wanted[k]]
            found += [f"day {number}: {k} is {day.get(k)}, undisturbed {wanted[k]}" for k in wrong]
        return found or ([] if self.played else ["no day was played to its end"])

    def _run(self) -> None:
        while not self._stop.is_set() and self._error is None:
            number = len(self.played)
            scenario = another_day(self._scenario, f"day-{number}", 7 * number)
            world = World(KafkaPorts(self._connection), scenario, lambda _: None, 0.0)
            try:
                world.play()
                (session,) = summary(world.mirror.page)["areas"][scenario.area_id]["sessions"].values()
                self.played.append(dict(session))
            except Exception as error:
                self._error = f"day {number}: {type(error).__name__}: {error}"
            finally:
                world.close()
