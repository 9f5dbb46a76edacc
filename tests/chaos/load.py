"""What is sent while everything is being killed: a stream of offers, good and bad, and whole market days.

Who sends notes what Kafka acknowledged, and where it says that it is, for the checker.
"""

import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

from flexbus import events as ev
from flexbus.client import Client, Record, Sent
from flexbus.errors import FlexbusError
from flexbus.events import FlexOfferSubmitted, MarketSessionScheduled
from flexbus.topics import inbox
from streams.demo.grid_day import scenario_of
from streams.demo.scenario import another_day
from streams.demo.world import KafkaPorts, World
from streams.kafka import Connection
from streams.page.model import summary
from tests import market
from tests.chaos.checker import BROKEN, MARK, VALID, Acknowledged
from tests.integration import core
from tests.integration.core import FSP_A, FSP_B
from tests.memory_bus import MemoryPorts

__all__ = ["AREAS", "CLOSES_MS", "Days", "Offers", "Sends", "later", "undisturbed"]

AREAS = ("north", "east", "south", "west", "isle")
PER_SECOND = 150
ROUNDS_PER_SECOND = 5
PATIENCE_S = 120.0  # of a sender; on a full machine Kafka may need a minute to come back
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


@dataclass
class Sends:
    """What became of sends.

    Attributes:
        acknowledged: those that Kafka confirmed.
        failed: how many it did not, by the reason told to the sender.
    """

    acknowledged: list[Acknowledged] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)


class NotingClient(Client):
    """The SDK, which notes what became of each record: of a batch that fails in part, too."""

    def __init__(self, bootstrap: str, party: str, sends: Sends, timeout_s: float) -> None:
        super().__init__(bootstrap, party, security={}, timeout_s=timeout_s)
        self._inbox, self._sends = inbox(party), sends

    def post_records(self, records: Iterable[Record]) -> list[Sent]:
        on_their_way, sent, errors = [], [], []
        for record in records:
            try:
                on_their_way.append(self._produce(record))
            except FlexbusError as error:
                errors.append(error)
        for delivery in on_their_way:
            try:
                sent.append(self._delivered(delivery))
            except FlexbusError as error:
                errors.append(error)
        self._sends.acknowledged += [Acknowledged(self._inbox, s.partition, s.offset, s.event_id) for s in sent]
        self._sends.failed.update(str(error) for error in errors)
        if errors:
            raise errors[0]
        return sent


@dataclass(frozen=True, slots=True)
class NotingPorts(KafkaPorts):
    """The world on a real bus, its parties with the client that notes."""

    sends: Sends = field(default_factory=Sends)

    def client(self, party: str) -> Client:
        return NotingClient(self.connection.bootstrap, party, self.sends, PATIENCE_S)


class Offers:
    """Offers in every area, until told to stop: some are sent twice, some are broken, some use another's id.

    They bear the checker's marks: a broken one must be refused, of all others with one id exactly one be taken.

    Args:
        connection: the broker.
        seed: of what is sent.
        per_second: offers of both providers together.
    """

    def __init__(self, connection: Connection, seed: int, per_second: int = PER_SECOND) -> None:
        self._random = random.Random(seed)
        self._each = per_second // (2 * ROUNDS_PER_SECOND)
        self.sends = Sends()
        self._clients = {p: NotingClient(connection.bootstrap, p, self.sends, PATIENCE_S) for p in (FSP_A, FSP_B)}
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
                records = [r for _ in range(self._each) for r in self._offer(party, client)]
                self._random.shuffle(records)  # repeats come late, and areas in any order
                try:
                    client.post_records(records)
                except FlexbusError as error:  # the broker was away for long; each one that failed is counted
                    print(f"  load: {error}", file=sys.stderr)
            self._stop.wait(max(0.0, 1 / ROUNDS_PER_SECOND - (time.monotonic() - began)))

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
            return [Record(record.value[:-3], record.key, {**record.headers, MARK: BROKEN})]
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
        self.sends = Sends()
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
            world = World(NotingPorts(self._connection, sends=self.sends), scenario, lambda _: None, 0.0)
            try:
                world.play()
                (session,) = summary(world.mirror.page)["areas"][scenario.area_id]["sessions"].values()
                self.played.append(dict(session))
            except Exception as error:
                self._error = f"day {number}: {type(error).__name__}: {error}"
            finally:
                world.close()
