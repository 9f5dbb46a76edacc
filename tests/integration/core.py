"""What the tests of the core share: a market to send offers to, and workers that can be killed and come back."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from flexbus import codec
from flexbus import events as ev
from flexbus.client import Client
from flexbus.events import EventRejected, Receipt, ReceiptsIssued, Role, Verdict
from flexbus.journal import Block, verify_block
from flexbus.topics import JOURNAL, REJECTIONS, party_topic
from flexbus.views.fact import emit
from streams.broker import Broker
from streams.journal_reader import read_records
from streams.kafka import Connection
from streams.topics import create_topics, existing_topics
from tests import market

FMO, DSO, FSP_A, FSP_B = "fmo", market.DSO, market.FSP_A, market.FSP_B
PARTIES = (FMO, DSO, FSP_A, FSP_B, market.TSO, market.METER)
# How long a process is stopped that is to wake up as a zombie: its group has gone on without it, and Kafka has aborted
# its transaction (`streams.kafka`: sessions of 6 s, transactions of 10 s).
PAUSE_S = 14.0


@contextmanager
def own_kafka(folder: Path, partitions: int = 4) -> Iterator[Connection]:
    """A broker of its own: these tests look at whole topics, and kill what others may be using."""
    broker = Broker(folder)
    try:
        connection = Connection(broker.start())
        create_topics(connection, PARTIES, partitions)
        yield connection
    finally:
        broker.stop()


def in_area(event: Any, area: str) -> Any:
    return replace(event, area_id=area)


def founding(area: str) -> list[tuple[str, Any]]:
    """Who sends what until the gate of the area's session is open."""
    opened = ev.AreaOpened(area_id=area, name=area, fmo_id=FMO, time_zone="Europe/Helsinki")
    roles = ((DSO, Role.DSO), (FSP_A, Role.FSP), (FSP_B, Role.FSP), (market.METER, Role.METER_OPERATOR))
    history: list[tuple[str, Any]] = [(FMO, opened)]
    history += [(FMO, market.participant(name, role)) for name, role in roles]
    history += [
        (DSO, market.network()),
        (DSO, market.point("GCP-1", "B1", FSP_A)),
        (DSO, market.point("GCP-3", "B3", FSP_B)),
        (FMO, market.product()),
        (FMO, market.session()),
        ("scheduler", market.gate_opened()),
    ]
    return [(sender, in_area(event, area)) for sender, event in history]


def open_gates(connection: Connection, areas: Iterable[str], changed: Callable[[Any], Any] = lambda e: e) -> None:
    """Bring areas to an open gate, every event changed in this way; the sequencer must be running."""
    stories = [[(sender, changed(event)) for sender, event in founding(area)] for area in areas]
    for steps in zip(*stories, strict=True):
        (sender,) = {sender for sender, _ in steps}
        events = [event for _, event in steps]
        with Client(connection.bootstrap, sender, timeout_s=120) as client:  # the sequencer may only be starting
            # Services get no receipts; ids as the scheduler's own, or a replay finds forgeries.
            if sender == "scheduler":
                client.post_records(client.record(e, event_id=emit(e, e.session_id).event_id) for e in events)
                wanted = {event.area_id for event in events}
                eventually(lambda wanted=wanted: wanted <= with_open_gates(connection))
            else:
                verdicts = client.send_all(events)
                assert {r.verdict for r in verdicts} == {Verdict.ACCEPTED}, verdicts


def with_open_gates(connection: Connection) -> set[str]:
    found = chains(connection).items()
    return {area for area, blocks in found if any(e.event_type == "GateOpened" for b in blocks for e in b.entries)}


def offer_of(number: int, area: str, fsp: str = FSP_A) -> ev.FlexOfferSubmitted:
    point = {FSP_A: "GCP-1", FSP_B: "GCP-3"}[fsp]
    return replace(market.submitted(f"{fsp}-{number}", fsp, point, slots=24), area_id=area)


def values(connection: Connection, topic: str) -> list[tuple[int, int, bytes]]:
    """Partition, offset and value of every committed record of a topic."""
    return [
        (partition, offset, value)
        for partition in range(existing_topics(connection)[topic])
        for offset, value in read_records(connection, topic, partition)
    ]


def chains(connection: Connection) -> dict[str, list[Block]]:
    """Blocks by area, each chain verified from its beginning, no area in two partitions."""
    found: dict[str, list[Block]] = {}
    heads: dict[str, tuple[int, bytes]] = {}
    homes: dict[str, int] = {}
    for partition, _, value in values(connection, JOURNAL):
        block = codec.decode_as(value, Block)
        assert homes.setdefault(block.area_id, partition) == partition
        heads[block.area_id] = verify_block(heads.get(block.area_id), block)
        found.setdefault(block.area_id, []).append(block)
    return found


def entries(connection: Connection) -> list[Any]:
    return [entry for blocks in chains(connection).values() for block in blocks for entry in block.entries]


def rejections(connection: Connection) -> list[EventRejected]:
    return [codec.decode_as(value, EventRejected) for _, _, value in values(connection, REJECTIONS)]


def receipts(connection: Connection, party: str) -> list[Receipt]:
    found = (codec.decode(value) for _, _, value in values(connection, party_topic(party)))
    return [r for issued in found if isinstance(issued, ReceiptsIssued) for r in issued.receipts]


def eventually(true: Any, within_s: float = 60.0, what: str = "") -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, what or "it did not happen in time"
        time.sleep(0.2)


SUCCESSOR_WITHIN_S = 60.0


class Worker:
    """A service as a process of its own under a little supervisor: whatever ends it, it is started again."""

    def __init__(
        self,
        module: str,
        connection: Connection,
        slot: int = 0,
        command: list[str] | None = None,
        log: Path | None = None,
    ) -> None:
        program = "import sys; from streams.kafka import Connection; "
        program += f"from {module} import run; run(Connection(sys.argv[1]), int(sys.argv[2]))"
        self._command = command or [sys.executable, "-c", program, connection.bootstrap, str(slot)]
        self._log = log
        self._stopped = threading.Event()
        self.starts = 0
        self._process = self._start()
        self._thread = threading.Thread(target=self._supervise, daemon=True)
        self._thread.start()

    def _start(self) -> subprocess.Popen[bytes]:
        self.starts += 1
        if self._log is None:
            return subprocess.Popen(self._command)
        with self._log.open("ab") as log:
            return subprocess.Popen(self._command, stderr=log)

    def _supervise(self) -> None:
        while not self._stopped.is_set():
            self._process.wait()
            if not self._stopped.is_set():
                self._process = self._start()

    def kill(self) -> None:
        """Kill the process, and wait until it is dead and its successor has been started: no kill meets a dying one."""
        process = self._process
        process.kill()
        deadline = time.monotonic() + SUCCESSOR_WITHIN_S
        while self._process is process:
            assert time.monotonic() < deadline, f"no successor of process {process.pid} within {SUCCESSOR_WITHIN_S} s"
            time.sleep(0.01)

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    @property
    def pid(self) -> int:
        return self._process.pid

    def memory(self) -> int:
        return int(psutil.Process(self.pid).memory_info().rss)

    def ports(self) -> list[int]:
        """Return the ports on which the process listens, none if it has just died."""
        try:
            found = psutil.Process(self.pid).net_connections("tcp")
        except psutil.Error:
            return []
        return [c.laddr.port for c in found if c.status == psutil.CONN_LISTEN]

    def leave(self, within_s: float) -> int | None:
        """End the process in good order, for good; return its exit code, or None if it had to be killed."""
        self._stopped.set()
        self._process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(within_s)
        self.stop()
        return None

    def stop(self) -> None:
        self._stopped.set()
        self._process.kill()
        self._process.wait()
        self._thread.join()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
