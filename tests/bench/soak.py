"""`make soak`: a steady stream of offers through the whole bus: how soon they are visible; is memory flat?

`python -m tests.bench.soak [--minutes 10] [--rate 1200]`

Every service runs as in production. Offers of 24 slots replace those before them, so that what is live stays the same
and memory should too, but for what the sequencer never forgets: which ids it has seen. An offer is visible when its
sender reads it from the bus: sequenced, published, committed. The last line is the verdict; 1 is the exit code of a
bad one.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
from confluent_kafka import TopicPartition

from flexbus import events as ev
from flexbus.client import Client, Record
from flexbus.time import iso
from flexbus.topics import party_topic
from streams.kafka import Connection
from streams.supervisor import Supervisor
from streams.topics import PARTY_PARTITION
from tests.bench.core import Figure
from tests.bench.history import varied
from tests.bench.memory import Meter, Sample, growth, leaking
from tests.crafted import zigzag
from tests.integration import core
from tests.integration.core import FSP_A, FSP_B, own_kafka

AREAS = tuple(f"area-{n}" for n in range(8))
LIVE = 250  # offers per area and provider
TICK_S = 0.05
SAMPLE_S = 10.0
RATE = 1200
SLOWEST_P99_S = 1.0
VISIBLE_S, WARM_S = 45.0, 10.0


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
    """Offers at a steady rate; each replaces the one of its place before it.

    They are encoded beforehand, all but their revision: providers have machines of their own.
    """

    def __init__(self, connection: Connection, watch: Watch) -> None:
        self._clients = [(p, Client(connection.bootstrap, p, timeout_s=60)) for p in (FSP_A, FSP_B)]
        self._watch = watch
        self._places = [self._place(place) for place in range(LIVE * len(AREAS) * len(self._clients))]
        self.count = 0

    def _place(self, place: int) -> tuple[Client, Record, "Revised"]:
        """Return who sends the offers of a place, the first of them, and what replaces it."""
        party, client = self._clients[place % len(self._clients)]
        number = place // len(self._clients) % len(AREAS)
        submitted = varied(core.offer_of(0, AREAS[number], party), number)
        offer = replace(submitted.offer, offer_id=f"{party}-{place}", revision=1)
        first = client.record(replace(submitted, offer=offer))
        return client, first, Revised(client, ev.FlexOfferReplaced(area_id=submitted.area_id, offer=offer))

    def send(self, events: int) -> None:
        for _ in range(events):
            turn, place = divmod(self.count, len(self._places))
            client, first, revised = self._places[place]
            event_id = str(uuid4())
            record = revised.record(turn + 1, event_id) if turn else replace_id(first, event_id)
            self._watch.sent[event_id] = time.monotonic()
            client._produce(record)
            self.count += 1

    def close(self) -> None:
        for _, client in self._clients:
            client.close()


class Revised:
    """The records that replace an offer, revision by revision.

    Args:
        client: the sender.
        event: one of them.
    """

    def __init__(self, client: Client, event: ev.FlexOfferReplaced) -> None:
        one, two = (client.record(replace(event, offer=replace(event.offer, revision=n))) for n in (1, 2))
        (at,) = (n for n, (a, b) in enumerate(zip(one.value, two.value, strict=True)) if a != b)
        self._record, self._before, self._after = one, one.value[:at], one.value[at + 1 :]

    def record(self, revision: int, event_id: str) -> Record:
        """Return the record of a revision."""
        value = self._before + zigzag(revision) + self._after
        return replace_id(replace(self._record, value=value), event_id)


def replace_id(record: Record, event_id: str) -> Record:
    return replace(record, headers={**record.headers, "ce_id": event_id, "ce_time": iso(time.time_ns() // 1_000_000)})


@dataclass(frozen=True, slots=True)
class Soaked:
    """What a run came to.

    Attributes:
        offers: offers sent.
        seconds: how long they were sent.
        took: how long each took to be visible, in the order in which they were, s.
        lost: offers that never were.
        samples: memory of the services meanwhile.
        cores: processor time that the services, the broker and the load took, s per second.
    """

    offers: int
    seconds: float
    took: list[float]
    lost: int
    samples: list[Sample]
    cores: dict[str, float]

    def after_s(self, share: float) -> float:
        """Return how long the quickest offers took that make up a share of all, s."""
        return _within(self.took, share)

    def faults(self, rate: int) -> list[str]:
        """Return in words what is not as it must be, at a wanted rate, offers per second."""
        found = []
        if self.offers < 0.95 * rate * self.seconds:
            found.append(f"only {self.offers / self.seconds:.0f} offers/s were sent, not {rate}, so nothing is proven")
        if self.lost:
            found.append(f"{self.lost} offers never became visible")
        if self.after_s(0.99) >= SLOWEST_P99_S:
            found.append(f"p99 is {self.after_s(0.99):.2f} s, not below {SLOWEST_P99_S:.0f} s")
        for name, mb in leaking(self.samples).items():
            died = f"{name} died and came back"
            found.append(f"memory of {name} grows by {mb:.0f} MB per million events" if mb < float("inf") else died)
        return found

    def as_json(self) -> dict[str, Any]:
        """Return the figures."""
        return {
            "offers": self.offers,
            "offers_per_s": round(self.offers / self.seconds, 1),
            "never_visible": self.lost,
            "visible_after_s": {
                "p50": round(self.after_s(0.5), 3),
                "p99": round(self.after_s(0.99), 3),
                "most": round(self.after_s(1.0), 3),
                "p99_by_tenths_of_the_run": [round(_within(part, 0.99), 2) for part in self._tenths],
            },
            "cores": {name: round(share, 3) for name, share in self.cores.items()},
            "memory_mb": {n: [round(s.mb.get(n, 0)) for s in self.samples[:: self._step]] for n in self._names},
            "growth_mb_per_million_events": {s: round(g, 1) for s, g in growth(self.samples).items()},
        }

    @property
    def _names(self) -> list[str]:
        return sorted(self.samples[-1].mb)

    @property
    def _tenths(self) -> list[list[float]]:
        size = max(1, len(self.took) // 10)
        return [self.took[at : at + size] for at in range(0, len(self.took) - size + 1, size)]

    @property
    def _step(self) -> int:
        return max(1, len(self.samples) // 6)


def _within(took: list[float], share: float) -> float:
    ordered = sorted(took)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def verdict(found: Soaked, rate: int) -> str:
    """Return the last line."""
    faults = found.faults(rate)
    if faults:
        return "FAILED: " + "; ".join(faults)
    most = max(growth(found.samples).values())
    return f"holds: memory is flat (at most {most:.0f} MB per million events), p99 {found.after_s(0.99):.2f} s, 0 lost"


def exit_code(found: Soaked, rate: int) -> int:
    return 1 if found.faults(rate) else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=int, default=RATE, help="offers per second")
    options = parser.parse_args()
    found = soaked(options.minutes * 60, options.rate)
    print(json.dumps(found.as_json(), indent=1))
    print(verdict(found, options.rate), flush=True)
    return exit_code(found, options.rate)


def visible_figures(_: int) -> Iterator[Figure]:
    """Producer to visible at 1,200 offers/s, all services running; the first seconds warm up and do not count."""
    found = soaked(VISIBLE_S, RATE, warm_s=WARM_S)
    yield Figure("offers per second sent, all services running", found.offers / found.seconds, "/s", 0.95 * RATE)
    yield Figure("producer to visible, p50", found.after_s(0.5), "s", SLOWEST_P99_S, at_most=True)
    yield Figure("producer to visible, p99", found.after_s(0.99), "s", SLOWEST_P99_S, at_most=True)
    yield Figure("offers that never became visible", found.lost, "", 0, at_most=True)


def soaked(seconds: float, rate: int, warm_s: float = 0.0) -> Soaked:
    """Run the bus under load.

    Args:
        seconds: how long.
        rate: offers per second.
        warm_s: so long before that, without counting, s.
    """
    with (
        tempfile.TemporaryDirectory(prefix="flexbus-soak-") as folder,
        own_kafka(Path(folder) / "b") as connection,
    ):
        supervisor = Supervisor(connection, Path(folder) / "run")
        supervisor.start()
        try:
            supervisor.wait_ready(120)
            core.open_gates(connection, AREAS)
            watch = Watch(connection)
            load = Load(connection, watch)
            meter = Meter(supervisor.pids)
            if warm_s:
                _send(load, Meter(supervisor.pids), warm_s, rate)
                watch.took.clear()
            before, spent = load.count, _processor_s(supervisor)
            lasted = _send(load, meter, seconds, rate)
            cores = {name: (s - spent.get(name, 0.0)) / lasted for name, s in _processor_s(supervisor).items()}
            offers = load.count - before
            load.close()
            deadline = time.monotonic() + 30
            while watch.sent and time.monotonic() < deadline:
                time.sleep(0.1)
            watch.close()
        finally:
            supervisor.stop()
    return Soaked(offers, lasted, watch.took, len(watch.sent), meter.samples, cores)


def _processor_s(supervisor: Supervisor) -> dict[str, float]:
    """Return the processor time that each service, the broker and the load have taken so far, s."""
    here, pids = psutil.Process(), dict(supervisor.pids())
    found = {"load": _cpu_s(here)}
    for child in here.children():
        name = next((name for name, pid in pids.items() if pid == child.pid), "broker")
        found[name] = found.get(name, 0.0) + sum(_cpu_s(p) for p in (child, *child.children(recursive=True)))
    return found


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _send(load: Load, meter: Meter, seconds: float, rate: int) -> float:
    """Send at a steady rate; return how long it took, s."""
    began, before = time.monotonic(), load.count
    sampled = 0.0
    while (now := time.monotonic()) - began < seconds:
        load.send(int((now - began) * rate) - (load.count - before))
        if now - sampled >= SAMPLE_S:
            sampled = now
            meter.sample(load.count)
        time.sleep(TICK_S)
    meter.sample(load.count)
    return time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main())
