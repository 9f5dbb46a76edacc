"""The supervisor: starts every service as a process of its own, restarts what dies, leaves nothing running.

Its children die with it: the kernel tells them on Linux, and everywhere the end of their standard input does.
All of a run lies in its run directory, so two runs side by side know nothing of each other.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

import psutil

from flexbus.errors import EnvironmentProblem
from streams.kafka import Connection
from streams.monitor import Monitor, notes
from streams.process import noted_process
from streams.services import SERVICES

__all__ = ["Supervisor"]

log = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 15.0
SETTLED_AFTER_S = 20.0  # a child that lived that long had started well
STUBBORN = 5  # so many quick deaths in a row are said aloud
STOP_WITHIN_S = 12.0
READY_WITHIN_S = 60.0
_LOOK_EVERY_S = 0.2
_PROBE_EVERY_S = 10.0
_ASK_EVERY_S = 1.0


@dataclass(slots=True)
class _Child:
    service: str
    slot: int
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    deaths: int = 0
    next_start: float = 0.0
    was_ready: bool = False
    asked: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.service}-{self.slot}"

    def pause_s(self) -> float:
        return float(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** max(0, self.deaths - 1)))


@dataclass(slots=True)
class _Asked:
    stop: threading.Event = field(default_factory=threading.Event)
    started: threading.Event = field(default_factory=threading.Event)


class Supervisor:
    """Runs services as child processes.

    Args:
        connection: the broker.
        run_dir: logs, notes and settings of this run.
        clock: `system` or `played`.
        page_port: port of the page; None takes a free one.
        services: which services; None = all.
        workers: how many processes of a service, where it is not one.
        properties: file of Kafka client properties per service, for a broker with access control.
        page_readers: directory of the tokens of the page's readers; None = plain mode.
        metrics_token: file of the token for what the services' metrics tell of the market; None = plain mode.
    """

    def __init__(
        self,
        connection: Connection,
        run_dir: Path,
        *,
        clock: str = "system",
        page_port: int | None = None,
        services: Sequence[str] | None = None,
        workers: Mapping[str, int] | None = None,
        properties: Mapping[str, Path] | None = None,
        page_readers: Path | None = None,
        metrics_token: Path | None = None,
    ) -> None:
        self._connection = connection
        self.run_dir = run_dir.absolute()
        self._clock, self._page_port, self._page_readers = clock, page_port, page_readers
        self._metrics_token = metrics_token
        self._properties = dict(properties or {})
        counts = workers or {}
        self._children = [_Child(s, n) for s in services or SERVICES for n in range(counts.get(s, 1))]
        self._asked = _Asked()
        self._thread: threading.Thread | None = None
        self._monitor = Monitor("supervisor", self.run_dir, token=metrics_token)
        self._up = self._monitor.gauge("hedge_up", "1 while every service answers and is ready, from outside them.")

    def start(self) -> None:
        """Start all children; returns when they are started, not when they are ready.

        Raises:
            EnvironmentProblem: another supervisor already runs in this run directory.
        """
        self.run_dir.mkdir(parents=True, exist_ok=True)
        (self.run_dir / "logs").mkdir(exist_ok=True, mode=0o700)  # they name areas, sessions and parties
        (self.run_dir / "page.url").unlink(missing_ok=True)
        self._claim()
        self._monitor.serve()
        self._asked = _Asked()
        # One thread starts every child: the kernel ends a child with the thread that started it.
        self._thread = threading.Thread(target=self._work, name="supervisor", daemon=True)
        self._thread.start()
        self._asked.started.wait()

    def stop(self) -> None:
        """End all children in good order, by force what does not end; then nothing of the run is left."""
        if self._thread is None:
            return
        self._asked.stop.set()
        self._thread.join()
        self._thread = None
        self._monitor.close()
        self._note.unlink(missing_ok=True)

    def wait_ready(self, within_s: float = READY_WITHIN_S) -> None:
        """Wait until every child says that it is ready.

        Raises:
            EnvironmentProblem: some are not in time; the message names them and their logs.
        """
        deadline = time.monotonic() + within_s
        while missing := [c.name for c in self._children if not self._is_ready(c)]:
            if time.monotonic() > deadline:
                raise EnvironmentProblem(
                    f"not ready after {within_s:.0f} s: {', '.join(missing)}; see their logs in {self.run_dir / 'logs'}"
                )
            time.sleep(0.1)

    def url(self, service: str, within_s: float = READY_WITHIN_S) -> str:
        """Return the address of a service's pages, or of the local page for `page`.

        Raises:
            EnvironmentProblem: it does not come up in time.
        """
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            if service == "page":
                note = self.run_dir / "page.url"
                if note.exists():
                    return note.read_text()
            elif ports := [n.port for n in notes(self.run_dir) if n.service == service and n.process()]:
                return f"http://127.0.0.1:{ports[0]}"
            time.sleep(0.05)
        raise EnvironmentProblem(f"{service} did not come up in {within_s:.0f} s; see {self.run_dir / 'logs'}")

    def pids(self) -> dict[str, int]:
        """Return the process ids of the running children, by <service>-<slot>."""
        return {c.name: c.process.pid for c in self._children if c.process is not None and c.process.poll() is None}

    @property
    def _note(self) -> Path:
        return self.run_dir / "supervisor.json"

    def _claim(self) -> None:
        if self._note.exists():
            other = None
            with suppress(OSError, ValueError, LookupError, TypeError):  # damaged
                known = json.loads(self._note.read_text())
                other = noted_process(known["pid"], known["started"])
            if other is not None and other.pid != os.getpid():
                raise EnvironmentProblem(
                    f"process {other.pid} already supervises {self.run_dir}: stop it by `flexbus down "
                    f"--run-dir {self.run_dir}`, or take another --run-dir"
                )
        content = {"pid": os.getpid(), "started": psutil.Process().create_time(), "kafka": self._connection.bootstrap}
        self._note.write_text(json.dumps(content))

    def _work(self) -> None:
        for child in self._children:
            self._launch(child)
        self._asked.started.set()
        probed = time.monotonic()
        while not self._asked.stop.wait(_LOOK_EVERY_S):
            now = time.monotonic()
            try:
                for child in self._children:
                    self._look_after(child, now)
                if now - probed > _PROBE_EVERY_S:
                    probed = now
                    self._probe()
            except Exception as error:  # the kernel ends every child with this thread
                log.exception("looking after the services broke; trying again")
                self._monitor.fault(f"looking after the services broke: {error}")
        self._end_all()

    def _probe(self) -> None:
        up = all(self._is_ready(c) for c in self._children)
        self._up.set(int(up))
        if up:
            self._monitor.ready()

    def _look_after(self, child: _Child, now: float) -> None:
        if child.process is None:
            if now >= child.next_start:
                self._launch(child)
        elif (code := child.process.poll()) is not None:
            self._close(child)
            lived = now - child.started
            # Whoever was at work and was killed from outside is not at fault and is needed at once.
            innocent = lived > SETTLED_AFTER_S or (child.was_ready and code == -signal.SIGKILL)
            child.deaths = 1 if innocent else child.deaths + 1
            pause = child.pause_s()
            child.next_start = now + pause
            self._monitor.restarts.labels(child.service).inc()
            text = f"{child.name} ended with {code} after {lived:.0f} s; starting it again in {pause:.1f} s"
            if child.deaths >= STUBBORN:
                text = f"{child.name} has died {child.deaths} times in a row (see {self._log(child)}); {text}"
                self._monitor.fault(text)
                log.error(text)
            else:
                log.warning(text)
        elif not child.was_ready and now - child.asked > _ASK_EVERY_S:
            child.asked = now
            child.was_ready = self._is_ready(child)

    def _launch(self, child: _Child) -> None:
        command = [sys.executable, "-m", "flexbus.cli", "run", child.service]
        command += ["--bootstrap", self._connection.bootstrap, "--run-dir", str(self.run_dir)]
        command += ["--slot", str(child.slot), "--clock", self._clock, "--supervised"]
        if child.service == "monitor" and self._page_port:
            command += ["--page-port", str(self._page_port)]
        if child.service == "monitor" and self._page_readers:
            command += ["--page-readers", str(self._page_readers.absolute())]
        if self._metrics_token:
            command += ["--metrics-token", str(self._metrics_token.absolute())]
        if child.service in self._properties:
            command += ["--kafka-properties", str(self._properties[child.service])]
        with self._log(child).open("ab") as output:
            child.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                # Ctrl-C at the terminal is the supervisor's to pass on, once and in order. A session of its own would
                # also keep it out, but on Linux every session gets the same share, whatever `nice` says.
                process_group=0,
            )
        child.started = time.monotonic()
        child.was_ready = False

    def _log(self, child: _Child) -> Path:
        return self.run_dir / "logs" / f"{child.name}.log"

    def _close(self, child: _Child) -> None:
        process, child.process = child.process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        (self.run_dir / "services" / f"{child.service}-{process.pid}.json").unlink(missing_ok=True)

    def _end_all(self) -> None:
        running = [c for c in self._children if c.process is not None]
        for child in running:
            assert child.process is not None
            if child.process.poll() is None:
                child.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_WITHIN_S
        for child in running:
            assert child.process is not None
            try:
                child.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("%s did not end in %.0f s and was killed", child.name, STOP_WITHIN_S)
                child.process.kill()
                child.process.wait()
            self._close(child)

    def _is_ready(self, child: _Child) -> bool:
        process = child.process
        if process is None or process.poll() is not None:
            return False
        port = next((n.port for n in notes(self.run_dir) if n.pid == process.pid), None)
        if port is None:
            return False
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as answer:
                return bool(json.load(answer)["ready"])
        except (OSError, ValueError, KeyError, HTTPException):  # the last: it died while it answered
            return False
