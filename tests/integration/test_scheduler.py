"""The scheduler on the real Kafka: gates and slots in the journal, by the clock that is played, once each."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flexbus import events as ev
from flexbus.topics import inbox, topics
from streams.clock import PlayedClock, Ticker, last_tick
from streams.monitor import notes
from streams.topics import create_topics
from tests.integration.bus import PARTY, Bus, running_bus, wait_for

pytestmark = pytest.mark.kafka
HOUR, SLOT = 3_600_000, 900_000
START = 500 * HOUR
ORDER = ["GateOpened", "GateClosed", *["DeliveryStarted"] * 8, "DeliveryEnded", "SettlementDue"]


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bus]:
    with running_bus(tmp_path_factory.mktemp("scheduler")) as (bus, _):
        yield bus


@contextmanager
def scheduler(bus: Bus, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "flexbus.cli", "run", "scheduler", "--clock", "played"]
    command += ["--bootstrap", bus.connection.bootstrap, "--run-dir", str(folder)]
    with (folder / "scheduler.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def schedule(bus: Bus, area: str, start_ms: int) -> None:
    bus.say(ev.MarketProductDefined(area_id=area, product_id="p", name="Quarter-hours"))
    bus.say(
        ev.MarketSessionScheduled(
            area_id=area,
            session_id="s",
            product_id="p",
            delivery_start_ms=start_ms,
            delivery_end_ms=start_ms + 8 * SLOT,
            gate_opens_ms=start_ms - 10 * HOUR,
            gate_closes_ms=start_ms - HOUR,
            settlement_due_ms=start_ms + 5 * HOUR,
        )
    )
    bus.flush()


def said(bus: Bus, area: str) -> list[str]:
    return [type(f.event).__name__ for f in bus.facts(area) if f.sender_id == "scheduler"]


def test_the_market_day_is_told_as_the_clock_goes_on_though_killed_and_doubled(bus: Bus, tmp_path: Path) -> None:
    areas = ("north", "south")
    ticker = Ticker(bus.connection)
    with scheduler(bus, tmp_path) as first:
        for area in areas:
            schedule(bus, area, START)
        ticker.tick(START - 10 * HOUR)
        wait_for(lambda: [said(bus, a) for a in areas] == [ORDER[:1]] * 2)
        first.send_signal(signal.SIGKILL)
        first.wait()
        ticker.tick(START - HOUR)
        ticker.tick(START + SLOT)
    with scheduler(bus, tmp_path), scheduler(bus, tmp_path):
        # Two at once, and what became due meanwhile is made up for, in order.
        wait_for(lambda: [said(bus, a) for a in areas] == [ORDER[:4]] * 2)
        ticker.tick(START + 100 * HOUR)
        ticker.tick(START)  # time that would run backwards changes nothing
        wait_for(lambda: [said(bus, a) for a in areas] == [ORDER] * 2)
    starts = [f.event.start_ms for f in bus.facts("north") if isinstance(f.event, ev.DeliveryStarted)]
    assert starts == [START + n * SLOT for n in range(8)]


def test_a_session_scheduled_after_its_gate_is_told_at_once(bus: Bus, tmp_path: Path) -> None:
    ticker = Ticker(bus.connection)
    with scheduler(bus, tmp_path) as process:
        ticker.tick(START + 200 * HOUR)
        schedule(bus, "late", START + 195 * HOUR)
        wait_for(lambda: said(bus, "late") == ORDER)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert notes(tmp_path) == ()


def test_a_played_clock_has_the_latest_tick(bus: Bus) -> None:
    ticker, clock = Ticker(bus.connection), PlayedClock(bus.connection)
    ticker.tick(START + 300 * HOUR)
    wait_for(lambda: clock.now_ms() == START + 300 * HOUR)
    ticker.tick(START)
    ticker.tick(START + 301 * HOUR)
    wait_for(lambda: clock.now_ms() == START + 301 * HOUR)
    ticker.tick(START)
    assert last_tick(bus.connection) == START + 301 * HOUR
    clock.close()
    ticker.close()


def test_it_has_an_inbox_to_write(bus: Bus) -> None:
    assert inbox("scheduler") in {t.name for t in topics((PARTY,), 3)}
    assert create_topics(bus.connection, (PARTY,)) == ()
