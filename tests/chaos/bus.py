"""What `make chaos` shakes: one process per service, started again whatever ends it, twins of them, and guests."""

import json
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

from flexbus import codec
from flexbus.events import EventRejected
from flexbus.topics import REJECTIONS
from streams.area import Area
from streams.digest import state_digest
from streams.journal_reader import read_blocks, read_records
from streams.kafka import Connection
from streams.monitor import notes
from streams.page.model import PageState, fold, fold_rejection, summary
from streams.services import SERVICES
from streams.stages import VIEWS
from streams.topics import existing_topics, journal_partitions
from tests.integration.core import PAUSE_S, Worker

__all__ = ["ChaoticBus"]

CHECKPOINT_EVERY = 500  # so often that kills come between, in and after them
# So that rebalances happen under load, each of these has two workers.
SECOND = ("sequencer", "clearing", "traffic_light", "publisher")
TWIN_S = 5.0
GUEST_S = 5.0  # as long as it stays at work; starting and joining takes it some seconds before
GUEST_JOINS_WITHIN_S, GUEST_LEAVES_WITHIN_S = 60.0, 30.0


class ChaoticBus:
    """Every service of the bus, some of them twice.

    Args:
        connection: the broker.
        folder: for logs, notes and checkpoints.
    """

    def __init__(self, connection: Connection, folder: Path) -> None:
        self._connection, self._folder = connection, folder
        self.run_dir = folder / "run"
        self.run_dir.mkdir()
        self.workers: dict[str, Worker] = {}
        self._later: list[threading.Thread] = []
        self._paused: dict[str, threading.Timer] = {}
        self._twins: list[subprocess.Popen[bytes]] = []
        self.guests: list[tuple[str, bool, int | None]] = []
        for service, slot in [*((s, 0) for s in SERVICES), *((s, 1) for s in SECOND)]:
            self.workers[f"{service} {slot}"] = self._worker(service, slot)

    def kill(self, name: str) -> None:
        """Kill -9; who is paused wakes up first, or no pause would be sure to outlast every time-out."""
        if name in self._paused:
            self._paused[name].join()
        self.workers[name].kill()

    def pause(self, name: str) -> None:
        """Stop a process for longer than all its time-outs; it wakes up when others have taken its place."""
        worker = self.workers[name]
        worker.signal(signal.SIGSTOP)
        self._paused[name] = self._after(PAUSE_S, lambda: worker.signal(signal.SIGCONT))

    def twin(self, name: str) -> None:
        """Start the same worker, of the same number, a second time; the two fence each other."""
        service, _, slot = name.partition(" ")
        with (self._folder / f"{service}-{slot}.log").open("ab") as log:
            twin = subprocess.Popen([sys.executable, *self._command(service, int(slot))], stderr=log)
        self._twins.append(twin)
        self._after(TWIN_S, twin.kill)

    def guest(self, name: str) -> None:
        """Start one more worker, which joins the others at their work, and ends in good order some seconds later."""
        visit = threading.Thread(target=self._visit, args=(name,))
        visit.start()
        self._later.append(visit)

    def _visit(self, name: str) -> None:
        service, _, slot = name.partition(" ")
        guest = self._worker(service, int(slot))
        deadline = time.monotonic() + GUEST_JOINS_WITHIN_S
        while not (joined := self._has_partitions(guest.pid)) and time.monotonic() < deadline:
            time.sleep(0.2)
        time.sleep(GUEST_S)
        self.guests.append((name, joined, guest.leave(GUEST_LEAVES_WITHIN_S)))

    def _has_partitions(self, pid: int) -> bool:
        ports = [note.port for note in notes(self.run_dir) if note.pid == pid]
        return any((_get(f"http://127.0.0.1:{port}/health") or {}).get("assigned") for port in ports)

    def settle(self) -> None:
        """Let pauses, twins and guests end."""
        for timer in self._later:
            timer.join()
        for twin in self._twins:
            twin.wait()

    def close(self) -> None:
        """End everything."""
        self.settle()
        for worker in self.workers.values():
            worker.stop()

    def logs(self) -> str:
        """Return the end of every log."""
        return "".join(f"--- {f.name}\n{f.read_text()[-3000:]}\n" for f in sorted(self._folder.glob("*.log")))

    def restored(self) -> int:
        """Return how often a service went on from a checkpoint."""
        return sum(f.read_text().count("confirmed by the journal") for f in self._folder.glob("*.log"))

    def differing_views(self, within_s: float = 120.0) -> list[str]:
        """Compare what every running stage, and the page, have made of the journal with a fold from its beginning."""
        deadline = time.monotonic() + within_s
        while True:
            expected, page = self._folded()
            differing = [
                f"{service}, area {area}: {found}, from the beginning {wanted}"
                for (service, area), wanted in expected.items()
                if (found := self._shown(service, area)) != wanted
            ]
            if (shown := self._shown_page()) != page:
                differing.append(f"page: {shown}, from the beginning {page}")
            if not differing or time.monotonic() > deadline:
                return differing
            time.sleep(2.0)

    def _folded(self) -> tuple[dict[tuple[str, str], tuple[int, str]], Any]:
        """Return block and digest by stage and area, and the page's summary as it is in JSON."""
        areas: dict[tuple[str, str], Area] = {}
        page = PageState()
        for partition in range(journal_partitions(self._connection)):
            for _, block in read_blocks(self._connection, partition):
                for service, view in VIEWS.items():
                    place = (service, block.area_id)
                    area = areas.setdefault(place, Area(block.area_id, view, partition))
                    area.take(block)
                fold(page, block)
        for partition in range(existing_topics(self._connection)[REJECTIONS]):
            for _, value in read_records(self._connection, REJECTIONS, partition):
                fold_rejection(page, codec.decode_as(value, EventRejected))
        digests = {place: (a.last[0], state_digest(a.state)) for place, a in areas.items() if a.last is not None}
        return digests, json.loads(json.dumps(summary(page)))

    def _shown(self, service: str, area_id: str) -> tuple[int, str] | None:
        for note in notes(self.run_dir):
            if note.service == service and note.process() is not None:
                found = _get(f"http://127.0.0.1:{note.port}/digest/{area_id}")
                if found is not None:
                    return found["block"], found["digest"]
        return None

    def _shown_page(self) -> Any:
        """Return the summary that the running monitor's page serves.

        It is asked at its own ports: the note of the page's address is that of a twin, if there was one.
        """
        shown = (_get(f"http://127.0.0.1:{port}/summary") for port in self.workers["monitor 0"].ports())
        return next((found for found in shown if found is not None), None)

    def _worker(self, service: str, slot: int) -> Worker:
        command = [sys.executable, *self._command(service, slot)]
        return Worker(service, self._connection, slot, command, self._folder / f"{service}-{slot}.log")

    def _command(self, service: str, slot: int) -> list[str]:
        command = ["-m", "flexbus.cli", "run", service, "--bootstrap", self._connection.bootstrap, "--slot", str(slot)]
        command += ["--run-dir", str(self.run_dir), "--clock", "played"]
        return [*command, "--checkpoint-every", str(CHECKPOINT_EVERY)]

    def _after(self, seconds: float, what: Any) -> threading.Timer:
        timer = threading.Timer(seconds, what)
        timer.start()
        self._later.append(timer)
        return timer


def _get(url: str) -> Any:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)
    except OSError:
        return None
