"""What a process says about itself: Prometheus metrics and its health, over HTTP on a port of its own.

The address is noted in RUN_DIR/services/<service>-<pid>.json, so that the page, Prometheus and `flexbus down`
find every process of a run. The server is a thread: it answers while the process works, and says so when it hangs.

What is of the process is told to whoever asks. What is of the market (metrics by area or kind of event, the figures,
the pages of a stage) is more than the table of who may do what lets anybody see who has proven nothing, so with a token
it is told for the token only. Who is told is noted first; what cannot be noted is not told for a token. The server
answers to addresses and bare names only, so that no foreign site can rebind a name of its own to it.
"""

import ipaddress
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hmac import compare_digest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

from flexbus.errors import EnvironmentProblem
from streams.process import noted_process
from streams.service_reads import ServiceReads

__all__ = ["Monitor", "ServiceNote", "notes"]

_MOST_AT_ONCE = 32  # connections; who holds more of them open gets no answer, and the process goes on
_WITHIN_S = 15.0  # a connection that was not over by then is cut

_NEEDS_TOKEN = "what is of the market needs the token"
_NOT_NOTED = "what is of the market is noted before it is told, and this read could not be"

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
        return noted_process(self.pid, self.started)


def notes(run_dir: Path) -> tuple[ServiceNote, ...]:
    """Return what the processes of a run left about themselves, the dead ones included."""
    found = []
    for path in sorted((run_dir / "services").glob("*-*.json")):
        try:
            found.append(ServiceNote(**json.loads(path.read_text())))
        except (OSError, ValueError, TypeError, RecursionError):
            continue  # just being removed, or not ours
    return tuple(found)


class Monitor:
    """Metrics and health of one process.

    Args:
        service: service it belongs to.
        run_dir: where its address is noted; None notes nothing.
        slot: its number among its siblings.
        token: file of the token that whoever wants to know of the market must give; None = plain mode, everything is
            told to whoever reaches it.
        reads: where is noted who was told of the market; None = nowhere, of a process that knows nothing of it.
    """

    def __init__(
        self,
        service: str,
        run_dir: Path | None = None,
        slot: int = 0,
        token: Path | None = None,
        reads: ServiceReads | None = None,
    ) -> None:
        self.service = service
        self.registry = CollectorRegistry()
        self.market = CollectorRegistry()
        self._token, self._reads = token, reads
        ProcessCollector(registry=self.registry)  # memory and CPU of the process
        self._run_dir, self._slot = run_dir, slot
        self._note: Path | None = None
        self._server: ThreadingHTTPServer | None = None
        self._pages: dict[str, Page] = {}
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
        """Return a further counter of this process; by area or kind of event it is the market's."""
        return Counter(name, text, labels, registry=self._home(labels))

    def gauge(self, name: str, text: str, *labels: str) -> Gauge:
        """Return a further gauge of this process; by area or kind of event it is the market's."""
        return Gauge(name, text, labels, registry=self._home(labels))

    def histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        """Return a further histogram of this process; by area or kind of event it is the market's."""
        return Histogram(name, text, labels, buckets=buckets, registry=self._home(labels))

    def _home(self, labels: tuple[str, ...]) -> CollectorRegistry:
        return self.market if {"area", "kind"} & set(labels) else self.registry

    def page(self, name: str, page: Page) -> None:
        """Serve what is of the market as JSON under /<name> and /<name>/<rest>; None means not found.

        Args:
            name: first part of the path.
            page: is given the rest of it.
        """
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

    def health(self, *, whole: bool = True) -> dict[str, Any]:
        """Return what /health says; the last fault in words, which may name areas and sessions, only as a whole."""
        now = time.monotonic()
        facts = {name: value for name, value in self._facts.items() if whole or name != "note"}
        return {
            "service": self.service,
            "pid": os.getpid(),
            "alive": True,
            "ready": self._ready,
            "up_s": round(now - self._began, 1),
            "last_progress_s": round(now - self._progress, 1),
            **facts,
        }

    def metrics(self, instead: str = "") -> bytes:
        """Return the metrics in Prometheus' text format.

        Args:
            instead: comment in place of those of the market; empty gives these.
        """
        market = f"# {instead}\n".encode() if instead else generate_latest(self.market)
        return generate_latest(self.registry) + market

    def serve(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Start the server, note its port, and return it.

        Args:
            host: address to listen on.
            port: port; 0 = a free one.

        Raises:
            EnvironmentProblem: the port is taken.
        """
        try:
            self._server = _Server((host, port), _handler(self))
        except OSError as error:
            raise EnvironmentProblem(f"cannot listen on {host}:{port}: {error.strerror}; take another port") from error
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

    def answer(self, path: str, authorization: str | None = None) -> tuple[int, str, bytes]:
        """Return status, content type and body of a GET.

        Args:
            path: what is asked for.
            authorization: the header of that name: `Bearer` and the token.
        """
        name, _, rest = path.split("?")[0].strip("/").partition("/")
        given = None
        if self._token is not None and authorization is not None:
            if not _holds(self._token, authorization):
                self._refused(name)
                return _told(401, {"error": "this is not the token"})
            given = authorization.partition(" ")[2].strip()
        whole = self._token is None or given is not None
        if name == "metrics":
            instead = "" if whole else _NEEDS_TOKEN
            if whole and not self._may_tell("/metrics", given):
                instead = _NOT_NOTED
            return 200, CONTENT_TYPE_LATEST, self.metrics(instead)
        if name == "ready":  # for those who look at the status alone, as Kubernetes does
            return _told(200 if self._ready else 503, {"ready": self._ready})
        if name == "health":
            return _told(
                200, self.health(whole=whole and (not self._facts["note"] or self._may_tell("/health", given)))
            )
        page = self._pages.get(name)
        if page is not None and not whole:
            self._refused(name)
            return _told(401, {"error": f"{_NEEDS_TOKEN}: Authorization: Bearer TOKEN"})
        value = None if page is None else page(rest)
        if value is None:
            return _told(404, {"error": "not found", "pages": ["metrics", "ready", "health", *self._pages]})
        if not self._may_tell(f"/{name}/{rest}".rstrip("/"), given, rest):
            return _told(503, {"error": f"{_NOT_NOTED}; the log of this process says why"})
        return _told(200, value)

    def _may_tell(self, what: str, token: str | None, area_id: str | None = None) -> bool:
        """Note a read of what is of the market; each of a page, of the rest one an hour."""
        return self._reads is None or self._reads.told(what, area_id or "", token, every=area_id is not None)

    def _refused(self, name: str) -> None:
        if self._reads is not None:
            self._reads.refused(f"/{name}" if name in ("metrics", "health", *self._pages) else "/")


def _told(status: int, value: Any) -> tuple[int, str, bytes]:
    return status, "application/json", json.dumps(value).encode()


def _holds(token: Path, authorization: str) -> bool:
    """Tell whether a header holds the token; its file is read each time, so a new one counts from now on."""
    scheme, _, given = authorization.partition(" ")
    try:
        known = token.read_bytes().strip()
    except OSError:
        return False
    return scheme.lower() == "bearer" and known != b"" and compare_digest(known, given.strip().encode())


def _is_own_name(host: str | None) -> bool:
    """Tell whether a Host header is one that nobody can have pointed here from elsewhere: an address, a bare name."""
    if host is None:  # no browser
        return True
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return "." not in name
    return True


class _Server(ThreadingHTTPServer):
    """A thread for each connection, not too many of them, and none for ever."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._free = threading.BoundedSemaphore(_MOST_AT_ONCE)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        cut = threading.Timer(_WITHIN_S, _cut, (request,))
        cut.daemon = True
        cut.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            cut.cancel()
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # who asked has gone, or was cut


def _cut(request: socket.socket) -> None:
    with suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


def _handler(monitor: Monitor) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version = "flexbus", ""

        def do_GET(self) -> None:
            if _is_own_name(self.headers.get("Host")):
                status, kind, body = monitor.answer(self.path, self.headers.get("Authorization"))
            else:
                status, kind, body = _told(421, {"error": "this server answers to addresses and bare names only"})
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            if status == 401:
                self.send_header("WWW-Authenticate", "Bearer")
            with suppress(ConnectionError):  # who asked may have gone
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass  # a scrape every few seconds is no news

    return Handler
