"""What a process says about itself: Prometheus metrics and its health, over HTTP on a port of its own.

The address is noted in RUN_DIR/services/<service>-<pid>.json, so that the page, Prometheus and `flexbus down`
find every process of a run. The server is a thread: it answers while the process works, and says so when it hangs.
"""

import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

from flexbus.errors import EnvironmentProblem
from streams.process import started_at

__all__ = ["Monitor", "ServiceNote", "notes"]

_LATENCY_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_CLEARING_BUCKETS_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30, 60, 120)
Page = Callable[[str], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceNote:
    """Where a process of a run is.

    Attributes:
        service: its service.
        slot: its number among its siblings.
        pid: its process id.
        port: port of its metrics and health.
        started: start time of the process, seconds since the epoch: a reused pid has another.
    """

    service: str
    slot: int
    pid: int
    port: int
    started: float

    def process(self) -> psutil.Process | None:
        """Return the process, if it still runs."""
        try:
            found = psutil.Process(self.pid)
            same = started_at(found, self.started)
            return found if same and found.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None


def notes(run_dir: Path) -> tuple[ServiceNote, ...]:
    """Return what the processes of a run left about themselves, the dead ones included."""
    found = []
    for path in sorted((run_dir / "services").glob("*-*.json")):
        try:
            found.append(ServiceNote(**json.loads(path.read_text())))
        except (OSError, ValueError, TypeError):
            continue  # just being removed
    return tuple(found)


class Monitor:
    """Metrics and health of one process.

    Args:
        service: service it belongs to.
        run_dir: where its address is noted; None notes nothing.
        slot: its number among its siblings.
    """

    def __init__(self, service: str, run_dir: Path | None = None, slot: int = 0) -> None:
        self.service = service
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # memory and CPU of the process
        self._run_dir, self._slot = run_dir, slot
        self._note: Path | None = None
        self._server: ThreadingHTTPServer | None = None
        self._pages: dict[str, Page] = {"health": lambda _: self.health()}
        self._facts: dict[str, Any] = {"assigned": [], "faults": 0, "note": ""}
        self._began = self._progress = time.monotonic()
        self._ready = False
        self.events = self.counter("flexbus_events", "Journal events taken in.", "service", "kind", "area")
        self.blocks = self.counter("flexbus_blocks", "Journal blocks taken in.", "service")
        self.emissions = self.counter("flexbus_emissions", "Derived facts sent to the sequencer.", "service", "kind")
        self.job_failures = self.counter("flexbus_job_failures", "Computations that failed.", "service", "job")
        self.restarts = self.counter("flexbus_restarts", "Processes restarted by the supervisor.", "service")
        self.lag = self.gauge(
            "flexbus_consumer_lag", "Journal records not yet taken in, per partition.", "service", "partition"
        )
        self.pending = self.gauge("flexbus_pending", "Facts due and not yet in the journal.", "service", "area")
        self.latency = self.histogram(
            "flexbus_stage_latency_seconds",
            "Event received by the broker until what follows was sent.",
            _LATENCY_BUCKETS_S,
            "service",
        )
        self.clearing = self.histogram("flexbus_clearing_seconds", "Run time of a clearing.", _CLEARING_BUCKETS_S)

    def counter(self, name: str, text: str, *labels: str) -> Counter:
        """Return a further counter of this process."""
        return Counter(name, text, labels, registry=self.registry)

    def gauge(self, name: str, text: str, *labels: str) -> Gauge:
        """Return a further gauge of this process."""
        return Gauge(name, text, labels, registry=self.registry)

    def histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        """Return a further histogram of this process."""
        return Histogram(name, text, labels, buckets=buckets, registry=self.registry)

    def page(self, name: str, page: Page) -> None:
        """Serve JSON under /<name> and /<name>/<rest>; the page is given the rest and None means not found."""
        self._pages[name] = page

    def ready(self, assigned: list[int] | None = None) -> None:
        """Say that the process works.

        Args:
            assigned: journal partitions that are its to read.
        """
        self._ready = True
        self._facts["assigned"] = assigned or []
        self.progress()

    def progress(self) -> None:
        """Say that work goes on."""
        self._progress = time.monotonic()

    def idle_s(self) -> float:
        """Return how long ago the last progress was, s."""
        return time.monotonic() - self._progress

    def fault(self, note: str) -> None:
        """Say that something failed which did not end the process."""
        self._facts["faults"] += 1
        self._facts["note"] = note

    def health(self) -> dict[str, Any]:
        """Return what /health says."""
        now = time.monotonic()
        return {
            "service": self.service,
            "pid": os.getpid(),
            "alive": True,
            "ready": self._ready,
            "up_s": round(now - self._began, 1),
            "last_progress_s": round(now - self._progress, 1),
            **self._facts,
        }

    def metrics(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def serve(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Start the server, note its port, and return it.

        Args:
            host: address to listen on.
            port: port; 0 = a free one.

        Raises:
            EnvironmentProblem: the port is taken.
        """
        try:
            self._server = ThreadingHTTPServer((host, port), _handler(self))
        except OSError as error:
            raise EnvironmentProblem(f"cannot listen on {host}:{port}: {error.strerror}; take another port") from error
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 5.0}, daemon=True).start()
        port = int(self._server.server_address[1])
        if self._run_dir is not None:
            self._write_note(self._run_dir, port)
        return port

    def close(self) -> None:
        """Remove the note; the server ends with the process."""
        if self._note is not None:
            self._note.unlink(missing_ok=True)
        if self._server is not None:
            self._server.socket.close()

    def _write_note(self, run_dir: Path, port: int) -> None:
        folder = run_dir / "services"
        folder.mkdir(parents=True, exist_ok=True)
        pid = os.getpid()
        self._note = folder / f"{self.service}-{pid}.json"
        started = psutil.Process().create_time()
        content = {"service": self.service, "slot": self._slot, "pid": pid, "port": port, "started": started}
        fresh = self._note.with_suffix(".new")
        fresh.write_text(json.dumps(content))
        fresh.replace(self._note)

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Return status, content type and body of a GET."""
        name, _, rest = path.split("?")[0].strip("/").partition("/")
        if name == "metrics":
            return 200, CONTENT_TYPE_LATEST, self.metrics()
        if name == "ready":  # for those who look at the status alone, as Kubernetes does
            return 200 if self._ready else 503, "application/json", json.dumps({"ready": self._ready}).encode()
        page = self._pages.get(name)
        value = None if page is None else page(rest)
        if value is None:
            known = ["metrics", "ready", *self._pages]
            return 404, "application/json", json.dumps({"error": "not found", "pages": known}).encode()
        return 200, "application/json", json.dumps(value).encode()


def _handler(monitor: Monitor) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, kind, body = monitor.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            with suppress(ConnectionError):  # who asked may have gone
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass  # a scrape every few seconds is no news

    return Handler
