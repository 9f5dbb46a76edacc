"""Valid offers far faster than the bus takes them: what piles up must be in Kafka, not in memory.

`python -m tests.bench.flood [--offers 20000] [--steps 10]`

All ten services run as in production. A wave of offers is sent as fast as the broker takes them, and worked off; then
one of four times as many. The offers replace each other, so that what is live, the order book, is the same throughout:
that is state, no queue. A process that keeps what waits needs more memory for the second wave; the most that it may
need is `MOST_MB`, half or less of what the second wave has more, and what its queue holds that the first wave did not
fill. Then the topics are counted by the checker of `make chaos`. The last line is the verdict; 1 is the exit code of a
bad one. With 20,000 offers the first wave fills every queue.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from prometheus_client.parser import text_string_to_metric_families

from flexbus import events as ev
from flexbus.client import Client, Record
from streams import sequencer
from streams.kafka import Connection
from streams.monitor import notes
from streams.services import SERVICES
from streams.supervisor import Supervisor
from tests.bench.memory import Meter
from tests.chaos.checker import MARK, VALID, Report, check, read_all
from tests.integration import core
from tests.integration.core import FSP_A, FSP_B, own_kafka

__all__ = ["Flooded", "Wave", "flooded"]

AREAS = tuple(f"area-{n}" for n in range(8))
LIVE = 4  # offers per area and provider
SLOTS = 96
TIMES = 4  # as many offers in the second wave
FASTER = 10.0  # than they are worked off
TRIES = 3  # to send so fast
# Ids that are known for ever, an allocator that is no clockwork, and buffers that the first wave has not filled.
MOST_MB = 24.0
LEAST_RATIO = 2.0  # of what the second wave has more, to what memory may have more
# The one queue that a short first wave does not fill, and what a byte in it takes with all that is kept beside it.
QUEUE_MB = {"sequencer-0": sequencer.PREFETCH_KBYTES / 1000}
QUEUED = 1.25
SAMPLE_S = 0.1
WITHIN_S = 900.0


@dataclass(frozen=True, slots=True)
class Wave:
    """What came of one wave.

    Attributes:
        offers: how many.
        mb: their size, MB.
        sent_s: until the broker had them, s.
        took_s: until every service was through with them, s.
        peak_mb: most memory of each service meanwhile, MB.
        pids: the processes.
    """

    offers: int
    mb: float
    sent_s: float
    took_s: float
    peak_mb: Mapping[str, float]
    pids: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Flooded:
    """A run: two waves, and what the checker has counted afterwards."""

    first: Wave
    second: Wave
    report: Report
    sent: int

    @property
    def faster(self) -> float:
        """How many times as fast as they were worked off the offers of the second wave came."""
        return self.second.took_s / self.second.sent_s

    @property
    def growth_mb(self) -> dict[str, float]:
        """How much more memory each process took for the second wave, MB."""
        return {name: mb - self.first.peak_mb.get(name, 0.0) for name, mb in self.second.peak_mb.items()}

    @property
    def faults(self) -> list[str]:
        """What is not as it must be, in words."""
        found = []
        if missing := {f"{s}-0" for s in SERVICES} - self.second.peak_mb.keys():
            found.append(f"nothing is known of {', '.join(sorted(missing))}")
        if self.faster < FASTER:
            found.append(f"the offers came only {self.faster:.1f} times as fast as they were worked off")
        more_mb = self.second.mb - self.first.mb
        if more_mb < LEAST_RATIO * MOST_MB:
            found.append(f"{more_mb:.0f} MB more are too few to tell a queue from chance")
        found += [f"{name} died" for name, pid in self.first.pids.items() if self.second.pids.get(name) != pid]
        for name, mb in self.growth_mb.items():
            queue_mb = QUEUE_MB.get(name, 0.0)
            to_fill_mb = min(queue_mb, self.second.mb) - min(queue_mb, self.first.mb)
            if mb > MOST_MB + QUEUED * to_fill_mb:
                found.append(f"{name} takes {mb:.0f} MB more for {more_mb:.0f} MB more that wait")
        if not self.report.ok:
            found.append(f"not exactly once: {self.report}")
        if self.report.marked != self.sent:
            found.append(f"{self.sent} offers were sent, {self.report.marked} arrived")
        return found

    def as_json(self) -> dict[str, Any]:
        """Return the figures."""
        waves = (self.first, self.second)
        return {
            "offers": [w.offers for w in waves],
            "mb": [round(w.mb) for w in waves],
            "sent_per_s": [round(w.offers / w.sent_s) for w in waves],
            "worked_off_per_s": [round(w.offers / w.took_s) for w in waves],
            "peak_mb": {name: [round(w.peak_mb.get(name, 0)) for w in waves] for name in sorted(waves[1].peak_mb)},
            "lost": self.report.lost,
            "doubled": self.report.doubled,
            "unpublished": self.report.unpublished,
        }

    def verdict(self) -> str:
        """Return the last line."""
        if self.faults:
            return "FAILED: " + "; ".join(self.faults)
        name, most = max(self.growth_mb.items(), key=lambda item: item[1])
        return (
            f"holds: {self.second.offers} offers, {self.faster:.0f} times as fast as they are worked off, take at most "
            f"{most:.0f} MB more than {self.first.offers} ({name}), and all came out once"
        )


class Flood:
    """Offers of two providers, each the successor of the one in its place before it."""

    def __init__(self, connection: Connection, steps: int) -> None:
        self._clients = [Client(connection.bootstrap, party, timeout_s=300) for party in (FSP_A, FSP_B)]
        self._steps = steps
        self.count = 0

    def records(self, offers: int) -> list[tuple[Client, Record]]:
        """Return the next offers, ready to be sent."""
        return [self._next() for _ in range(offers)]

    def send(self, records: list[tuple[Client, Record]]) -> float:
        """Send them as fast as the broker takes them; return how long it took, s. Nobody asks for verdicts."""
        began = time.monotonic()
        going = [(client, client._produce(record)) for client, record in records]
        for client, delivery in going:
            client._delivered(delivery)
        return time.monotonic() - began

    def close(self) -> None:
        for client in self._clients:
            client.close()

    def _next(self) -> tuple[Client, Record]:
        turn, place = divmod(self.count, LIVE * len(AREAS) * len(self._clients))
        self.count += 1
        which, rest = place % len(self._clients), place // len(self._clients)
        client, party, area = self._clients[which], (FSP_A, FSP_B)[which], AREAS[rest % len(AREAS)]
        submitted = core.offer_of(place, area, party)
        stack = tuple(ev.PriceStep(power_w=1_000 * (1 + n), price_milli_per_mwh=30_000 + 700 * n + self.count % 600)
                      for n in range(self._steps))  # fmt: skip
        slots = (ev.OfferSlot(steps=stack),) * SLOTS
        offer = replace(submitted.offer, revision=turn + 1, slots=slots)
        event: Any = replace(submitted, offer=offer)
        if turn:
            event = ev.FlexOfferReplaced(area_id=area, offer=offer)
        record = client.record(event, event_id=str(uuid4()))
        return client, Record(record.value, record.key, {**record.headers, MARK: VALID})


class _Peaks:
    """Looks at the processes' memory all the time."""

    def __init__(self, pids: Callable[[], Mapping[str, int]]) -> None:
        self._meter = Meter(pids)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.mb: dict[str, float] = {}

    def __enter__(self) -> "_Peaks":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            self._meter.sample(0)
            for name, mb in self._meter.samples.pop().mb.items():
                self.mb[name] = max(mb, self.mb.get(name, 0.0))


def flooded(offers: int, steps: int) -> Flooded:
    """Run the bus under two waves.

    Args:
        offers: of the first wave.
        steps: price steps in each of the 96 slots of an offer, which has some 6 bytes for each.
    """
    with tempfile.TemporaryDirectory(prefix="flexbus-flood-") as folder, own_kafka(Path(folder) / "b") as connection:
        supervisor = Supervisor(connection, Path(folder) / "run")
        supervisor.start()
        try:
            supervisor.wait_ready(120)
            core.open_gates(connection, AREAS)
            flood = Flood(connection, steps)
            before = _entries(connection)
            _wave(flood, supervisor, before, 2 * LIVE * len(AREAS))  # so that the books are full
            first = _wave(flood, supervisor, before, offers)
            for _ in range(TRIES):
                second = _wave(flood, supervisor, before, TIMES * offers)
                if second.took_s >= FASTER * second.sent_s:  # else the broker's disk had a bad second: no flood
                    break
            flood.close()
            report = check(read_all({"bootstrap.servers": connection.bootstrap}))
        finally:
            supervisor.stop()
    return Flooded(first, second, report, flood.count)


def _entries(connection: Connection) -> int:
    return len(core.entries(connection))


def _wave(flood: Flood, supervisor: Supervisor, before: int, offers: int) -> Wave:
    records = flood.records(offers)
    mb = sum(len(record.value) for _, record in records) / 1e6
    with _Peaks(supervisor.pids) as peaks:
        began = time.monotonic()
        sent_s = flood.send(records)
        _worked_off(supervisor.run_dir, before + flood.count)
        took_s = time.monotonic() - began
    return Wave(offers, mb, sent_s, took_s, dict(peaks.mb), supervisor.pids())


def _worked_off(run_dir: Path, entries: int) -> None:
    """Wait until the sequencer has taken in so many events, and every service all of its blocks."""
    deadline = time.monotonic() + WITHIN_S
    while True:
        counts = {note.service: _counted(note.port) for note in notes(run_dir) if note.service in SERVICES}
        taken, blocks = counts.get("sequencer", (0.0, 0.0))
        if taken >= entries and len(counts) == len(SERVICES) and all(b >= blocks for _, b in counts.values()):
            return
        assert time.monotonic() < deadline, f"{entries} events are not worked off: {counts}"
        time.sleep(0.2)


def _counted(port: int) -> tuple[float, float]:
    """Return how many events and blocks a process says that it has gone through."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    found = {"flexbus_events_total": 0.0, "flexbus_blocks_total": 0.0}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in found:
                found[sample.name] += sample.value
    return found["flexbus_events_total"], found["flexbus_blocks_total"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--offers", type=int, default=20_000, help="of the first wave; the second has four times as many"
    )
    parser.add_argument("--steps", type=int, default=10, help="price steps per slot")
    options = parser.parse_args()
    found = flooded(options.offers, options.steps)
    print(json.dumps(found.as_json(), indent=1))
    print(found.verdict(), flush=True)
    return 1 if found.faults else 0


if __name__ == "__main__":
    sys.exit(main())
