"""Kafka and every service on a slow disk: the same day comes out, nothing is lost and nothing doubled."""

import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from streams.broker import Broker
from streams.clock import Ticker
from streams.demo.grid_day import scenario_of
from streams.demo.preparation import PARTIES
from streams.demo.world import KafkaPorts, World
from streams.kafka import Connection
from streams.page.model import summary
from streams.topics import create_topics
from tests.chaos.__main__ import settled
from tests.chaos.bus import ChaoticBus
from tests.chaos.load import AREAS, CLOSES_MS, GRID, Offers, later, undisturbed
from tests.disk import SlowDisk
from tests.integration import core

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.alone]

OFFERS_S = 10.0
WRITES = """
import os, sys, time
began = time.monotonic()
with open(sys.argv[1], "wb", buffering=0) as file:
    for _ in range(5):
        file.write(b"x")
    os.fsync(file.fileno())
print(time.monotonic() - began)
"""


def seconds(disk: SlowDisk, path: Path) -> float:
    with disk.mounted():
        done = subprocess.run([sys.executable, "-c", WRITES, str(path)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def test_the_disk_is_slow_below_its_directory_and_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    disk = SlowDisk(tmp_path / "disk", tmp_path)
    disk.slow(0.05, 0.2)
    assert seconds(disk, tmp_path / "disk" / "file") >= 0.45
    assert disk.waits.writes == 5
    assert disk.waits.syncs == 1
    assert seconds(disk, tmp_path / "file") < 0.2
    disk.quick()
    assert seconds(disk, tmp_path / "disk" / "file") < 0.2
    disk.slow(0.001, 0.0, bytes_per_s=10)
    assert seconds(disk, tmp_path / "disk" / "file") >= 0.5
    assert disk.waits.writes == 10


@pytest.mark.long
def test_a_day_on_a_slow_disk_comes_out_as_ever(tmp_path: Path) -> None:
    """2 ms a write, 20 ms a sync, 10 MB/s: under Kafka's log and the checkpoints, one disk for all processes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    disk = SlowDisk(folder, tmp_path)
    with ExitStack() as stack:
        stack.enter_context(disk.mounted())
        broker = Broker(folder / "broker")
        stack.callback(broker.stop)
        connection = Connection(broker.start())
        create_topics(connection, {*core.PARTIES, *PARTIES}, 2)
        bus = ChaoticBus(connection, folder)
        stack.callback(bus.close)
        core.open_gates(connection, AREAS, later)
        stack.callback(disk.quick)
        disk.slow(0.002, 0.02, bytes_per_s=10_000_000)
        offers = Offers(connection, 1)
        offers.start()
        threading.Timer(OFFERS_S, offers.stop).start()
        world = World(KafkaPorts(connection), scenario_of(GRID, "sunny"), lambda _: None, 0.0)
        stack.callback(world.close)
        began = time.monotonic()
        world.play()
        played_s = time.monotonic() - began
        offers.stop()  # long ago, unless the day was short
        settled(connection, offers.sends.acknowledged)
        ticker = Ticker(connection)
        ticker.tick(CLOSES_MS)
        ticker.close()
        report = settled(connection, offers.sends.acknowledged, CLOSES_MS)
        views = bus.differing_views()
        waits = disk.waits
        print(f"played in {played_s:.0f} s; {waits}; starts {[w.starts for w in bus.workers.values()]}")
    assert report.ok, report
    assert views == []
    assert report.marked > 500
    (area,) = [a for a in summary(world.mirror.page)["areas"].values() if a["sessions"]]
    (session,) = area["sessions"].values()
    assert dict(session) == undisturbed()
    # It was slow all the while: for Kafka's appends and for the checkpoints' syncs.
    assert waits.waited_s > played_s / 2, waits
    assert waits.writes > 500
    assert waits.syncs > 5
