"""`make soak`: a steady stream of offers through the whole bus: how soon they are visible; is memory flat?

`python -m tests.bench.soak [--minutes 10] [--rate 1200]`

Every service runs as in production. Offers of 24 slots replace those before them, so that what is live stays the same
and memory should too, but for what the sequencer never forgets: which ids it has seen. An offer is visible when its
sender reads it from the bus: sequenced, published, committed.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
from confluent_kafka import TopicPartition

from flexbus import events as ev
from flexbus.client import Client
from flexbus.topics import party_topic
from streams.kafka import Connection
from streams.supervisor import Supervisor
from streams.topics import PARTY_PARTITION
from tests.integration import core
from tests.integration.core import FSP_A, FSP_B, own_kafka

AREAS = tuple(f"area-{n}" for n in range(8))
LIVE = 250  # offers per area and provider
TICK_S = 0.05
SAMPLE_S = 10.0
SLOWEST_P99_S = 1.0
GROWTH_MB_PER_MILLION = 250.0


class Watch:
    """Reads what becomes visible, and remembers how long each event took."""

    def __init__(self, connection: Connection) -> None:
        self.sent: dict[str, float] = {}
        self.took: list[float] = []
        self._reader = connection.reader(None, **{"enable.partition.eof": False, "auto.offset.reset": "latest"})
        self._reader.assign([TopicPartition(party_topic(p), PARTY_PARTITION) for p in (FSP_A, FSP_B)])
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._reader.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            for message in self._reader.consume(500, 0.02):
                if message.error() is None:
                    name = dict(message.headers() or ()).get("ce_id")
                    began = self.sent.pop(name.decode(), None) if name else None
                    if began is not None:
                        self.took.append(time.monotonic() - began)


class Load:
    """Offers at a steady rate; each replaces the one of its place before it."""

    def __init__(self, connection: Connection, watch: Watch) -> None:
        self._clients = [(p, Client(connection.bootstrap, p, timeout_s=60)) for p in (FSP_A, FSP_B)]
        self._watch = watch
        self._templates: dict[tuple[str, str], ev.FlexOfferSubmitted] = {
            (party, area): core.offer_of(0, area, party) for party, _ in self._clients for area in AREAS
        }
        self.count = 0

    def send(self, events: int) -> None:
        for _ in range(events):
            turn, place = divmod(self.count, LIVE * len(AREAS) * len(self._clients))
            party, client = self._clients[place % len(self._clients)]
            submitted = self._templates[party, AREAS[place // len(self._clients) % len(AREAS)]]
            offer = replace(submitted.offer, offer_id=f"{party}-{place}", revision=turn + 1)
            event: Any = replace(submitted, offer=offer)
            if turn:
                event = ev.FlexOfferReplaced(area_id=submitted.area_id, offer=offer)
            event_id = str(uuid4())
            record = client.record(event, event_id=event_id)
            self._watch.sent[event_id] = time.monotonic()
            client._produce(record)
            self.count += 1

    def close(self) -> None:
        for _, client in self._clients:
            client.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=int, default=1200, help="offers per second")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flexbus-soak-") as folder, own_kafka(Path(folder) / "b") as connection:
        supervisor = Supervisor(connection, Path(folder) / "run")
        supervisor.start()
        try:
            supervisor.wait_ready(120)
            core.open_gates(connection, AREAS)
            found = soaked(connection, supervisor, options.minutes * 60, options.rate)
        finally:
            supervisor.stop()
    print(json.dumps(found, indent=1))
    return 0 if found["holds"] else 1


def soaked(connection: Connection, supervisor: Supervisor, seconds: float, rate: int) -> dict[str, Any]:
    """Return latencies and memory of a run."""
    watch = Watch(connection)
    load = Load(connection, watch)
    memory: list[tuple[int, dict[str, int]]] = []
    began = sampled = time.monotonic()
    while (now := time.monotonic()) - began < seconds:
        load.send(int((now - began) * rate) - load.count)
        if now - sampled >= SAMPLE_S:
            sampled = now
            memory.append((load.count, _memory(supervisor)))
        time.sleep(TICK_S)
    lasted = time.monotonic() - began
    load.close()
    deadline = time.monotonic() + 30
    while watch.sent and time.monotonic() < deadline:
        time.sleep(0.1)
    watch.close()
    took = sorted(watch.took)
    half = len(memory) // 2  # the first half warms caches, queues and the clearing's worker up
    events = max(1, memory[-1][0] - memory[half][0])
    growth = {s: (memory[-1][1].get(s, 0) - mb) * 1e6 / events for s, mb in memory[half][1].items()}
    p99 = took[int(len(took) * 0.99)]
    return {
        "offers": load.count,
        "offers_per_s": round(load.count / lasted, 1),
        "never_visible": len(watch.sent),
        "visible_after_s": {
            "p50": round(took[len(took) // 2], 3),
            "p99": round(p99, 3),
            "most": round(took[-1], 3),
        },
        "memory_mb": memory[-1][1],
        "growth_mb_per_million_events": {s: round(g, 1) for s, g in growth.items()},
        "holds": p99 < SLOWEST_P99_S and not watch.sent and max(growth.values()) < GROWTH_MB_PER_MILLION,
    }


def _memory(supervisor: Supervisor) -> dict[str, int]:
    return {name: psutil.Process(pid).memory_info().rss // 1_000_000 for name, pid in supervisor.pids().items()}


if __name__ == "__main__":
    sys.exit(main())
