"""The local broker: a real Apache Kafka, one node, on loopback, which any process can start, find and stop.

A `Broker` is a directory. Whoever names the same directory controls the same Kafka: what runs is noted there
by process id and start time, so that nothing but our own process is ever ended.
"""

import json
import os
import secrets
import socket
import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from flexbus.errors import EnvironmentProblem
from streams import broker_security as security
from streams.broker_runtime import exclusive, find_java, kafka_jars
from streams.broker_settings import LOG4J, as_java_properties, server_properties
from streams.process import noted_process

__all__ = ["Broker", "BrokerStatus", "free_port"]

READY_WITHIN_S = 180.0  # an idle machine needs 3 s; recovery after a kill and a busy machine need more
STOP_WITHIN_S = 30.0
HEAP = (
    "-Xms128m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    # Compiling its code as well as Java can takes Kafka much of a core for half a minute, which a local bus needs
    # itself: offers took three times as long to be visible then. Later it would spare a seventh of a core.
    "-XX:TieredStopAtLevel=1",
)


def free_port(besides: int | None = None) -> int:
    """Return a loopback port that was free a moment ago; whoever binds it must be ready to ask again.

    `besides` is a port that is to be bound, too: nobody holds it yet, so the system may name it once more.
    """
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port != besides:
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Java does: TIME_WAIT is free
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _environment() -> dict[str, str]:
    # In another locale Java cannot open a file whose path has letters beyond ASCII.
    return {**os.environ, "LC_ALL": "C.UTF-8"}


def _cluster_id(random: bytes) -> str:
    """Return 16 random bytes as Kafka writes ids; one that began with a hyphen would be read as an option."""
    return urlsafe_b64encode(bytes([random[0] & 0x7F, *random[1:]])).rstrip(b"=").decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerStatus:
    """What is known of a broker directory."""

    running: bool
    bootstrap: str | None
    pid: int | None
    secure: bool
    data_dir: str
    log: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Note:
    """What a start leaves behind for other processes."""

    pid: int
    created: float  # start time of the process, seconds since the epoch: a reused pid has another
    port: int
    controller_port: int
    secure: bool


class Broker:
    """One local Kafka node.

    Args:
        data_dir: everything of the broker: log segments, settings, logs, keys.
        port: where clients connect; None takes the port of the last start if it is free, else any.
        secure: SASL/SCRAM over TLS and access control, see `streams.broker_security`. A directory keeps the
            mode it was made with.
        reauthenticate_s: on a secure broker, how often a client must prove its password again on a connection that
            stays open, s; a password that was rotated or removed is of no use after that. Counts from the next start.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int | None = None,
        secure: bool = False,
        reauthenticate_s: float = security.REAUTHENTICATE_S,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.port = port
        self.secure = secure
        self.reauthenticate_s = reauthenticate_s
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """Kafka's own log file."""
        return self.data_dir / "log" / "server.log"

    @property
    def bootstrap(self) -> str:
        """Address of the running broker.

        Raises:
            EnvironmentProblem: it does not run.
        """
        if (status := self.status()).bootstrap is None:
            raise EnvironmentProblem(
                f"No broker runs in {self.data_dir}: start it by `flexbus broker start --data-dir {self.data_dir}`."
            )
        return status.bootstrap

    def start(self) -> str:
        """Start Kafka unless it runs already, wait until it serves, and return its address.

        Raises:
            EnvironmentProblem: Java, Maven or the wanted port is missing, or Kafka did not come up.
        """
        if "," in str(self.data_dir):
            raise EnvironmentProblem(f"Kafka would part {self.data_dir} at its comma: choose a directory without one.")
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        with exclusive(self.data_dir / "lock"):
            note = self._note()
            if note is None or self._process(note) is None:
                return self._launch(note)
        if note.secure != self.secure:
            raise self._other_mode(note.secure)
        if self.port not in (None, note.port):
            raise EnvironmentProblem(
                f"The broker in {self.data_dir} already runs at 127.0.0.1:{note.port}: stop it before it can start "
                f"at port {self.port}."
            )
        self._await_ready(note)
        return f"127.0.0.1:{note.port}"

    def stop(self) -> bool:
        """End Kafka in good order, by force after half a minute; return whether it ran."""
        return self._end(force=False)

    def kill(self) -> bool:
        """End Kafka as a power failure of the process would (kill -9); return whether it ran."""
        return self._end(force=True)

    def status(self) -> BrokerStatus:
        """Say whether it runs and where; reads the directory and the process table only."""
        note = self._note()
        running = note is not None and self._process(note) is not None
        return BrokerStatus(
            running=running,
            bootstrap=f"127.0.0.1:{note.port}" if note and running else None,
            pid=note.pid if note and running else None,
            secure=note.secure if note else self.secure,
            data_dir=str(self.data_dir),
            log=str(self.log),
        )

    def _note(self) -> _Note | None:
        path = self.data_dir / "broker.json"
        try:
            return _Note(**json.loads(path.read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, RecursionError) as error:
            raise EnvironmentProblem(
                f"{path} is no note of a broker ({error}): if no Kafka runs in {self.data_dir}, remove it."
            ) from error

    def _write_note(self, note: _Note) -> None:
        fresh = self.data_dir / f"broker.json.{secrets.token_hex(4)}"
        fresh.write_text(json.dumps(asdict(note)))
        fresh.replace(self.data_dir / "broker.json")

    def _process(self, note: _Note) -> psutil.Process | None:
        process = noted_process(note.pid, note.created)
        try:
            # A copied directory notes the original's.
            ours = process is not None and Path(process.cwd()) == self.data_dir.resolve()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return None
        return process if ours else None

    def _end(self, *, force: bool) -> bool:
        if not self.data_dir.is_dir():
            return False
        with exclusive(self.data_dir / "lock"):
            note = self._note()
            process = self._process(note) if note else None
            if process is None:
                return False
            if not force:
                process.terminate()
                self._wait_gone(process, STOP_WITHIN_S)
            if process.is_running():
                process.kill()
                self._wait_gone(process, STOP_WITHIN_S)
        return True

    def _wait_gone(self, process: psutil.Process, timeout_s: float) -> None:
        if self._child is not None and self._child.pid == process.pid:
            waiter: subprocess.Popen[bytes] | psutil.Process = self._child  # a parent must reap its child
        else:
            waiter = process
        try:
            waiter.wait(timeout_s)
        except (subprocess.TimeoutExpired, psutil.TimeoutExpired):
            return

    def _other_mode(self, secure: bool) -> EnvironmentProblem:
        made, asked = ("secure", "plain") if secure else ("plain", "secure")
        return EnvironmentProblem(
            f"The broker in {self.data_dir} was made {made} and cannot be started {asked}: "
            f"start it {made}, or name another directory by --data-dir."
        )

    def _launch(self, last: _Note | None) -> str:
        java = find_java()
        command = [str(java), *HEAP, f"-Dflexbus.log={self.log}"]
        command.append(f"-Dlog4j2.configurationFile={self.data_dir / 'log4j2.properties'}")
        command += ["-cp", f"{kafka_jars()}/*"]
        self.log.parent.mkdir(exist_ok=True)
        (self.data_dir / "log4j2.properties").write_text(LOG4J)
        for _ in range(5):
            note = self._attempt(command, last)
            if note is not None:
                return f"127.0.0.1:{note.port}"
            if self.port is not None:
                break
            last = None  # take other ports
        raise EnvironmentProblem(
            f"Kafka could not bind its port ({self.port or 'any of five tries'} on 127.0.0.1): "
            "end what holds it or choose another by --port."
        )

    def _attempt(self, command: list[str], last: _Note | None) -> _Note | None:
        """Start Kafka on one choice of ports; None if somebody else was quicker to bind one of them."""
        port = self.port or (last.port if last and _is_free(last.port) else free_port())
        controller_port = free_port(besides=port)
        self._write_properties(port, controller_port)
        self._format(command)
        said_before = self.log.stat().st_size if self.log.exists() else 0
        with (self.data_dir / "log" / "console.log").open("wb") as console:
            # A session of its own: the terminal's Ctrl-C and hang-up are not for the broker.
            self._child = subprocess.Popen(
                [*command, "kafka.Kafka", str(self.data_dir / "server.properties")],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                cwd=self.data_dir,
                env=_environment(),
                start_new_session=True,
                umask=0o077,
            )
        try:
            created = psutil.Process(self._child.pid).create_time()
            note = _Note(
                pid=self._child.pid,
                created=created,
                port=port,
                controller_port=controller_port,
                secure=self.secure,
            )
            self._write_note(note)
            self._await_ready(note)
        except EnvironmentProblem:
            self._child.kill()
            self._child.wait()
            if "Address already in use" in self._tail(said_before):
                return None
            raise
        except BaseException:  # Ctrl-C while starting: leave nothing half-started behind
            self._child.kill()
            self._child.wait()
            raise
        return note

    def _write_properties(self, port: int, controller_port: int) -> None:
        made_secure = security.is_secure(self.data_dir)
        if self._formatted and made_secure != self.secure:
            raise self._other_mode(made_secure)
        extra = security.prepare(self.data_dir, self.reauthenticate_s) if self.secure else None
        lines = server_properties(self.data_dir / "data", port=port, controller_port=controller_port, security=extra)
        path = self.data_dir / "server.properties"
        security.write_private(path, as_java_properties(lines))

    def client_config(self, principal: str = security.ADMIN) -> dict[str, str]:
        """Return the properties with which a confluent-kafka client reaches this broker as that principal."""
        known = security.client_config(self.data_dir, principal) if self.secure else {}
        return {"bootstrap.servers": self.bootstrap, **known}

    def add_users(self, *names: str, rotate: bool = False) -> None:
        """Make a secure broker know principals; nothing to do on a plain one."""
        if self.secure:
            security.add_users(self.data_dir, self.bootstrap, names, rotate=rotate)

    @property
    def _formatted(self) -> bool:
        return (self.data_dir / "data" / "meta.properties").exists()

    def _format(self, command: list[str]) -> None:
        if self._formatted:
            return
        cluster_id = _cluster_id(uuid.uuid4().bytes)
        users = security.format_arguments(self.data_dir) if self.secure else []
        properties = str(self.data_dir / "server.properties")
        done = subprocess.run(
            [
                *command,
                "kafka.tools.StorageTool",
                "format",
                "-t",
                cluster_id,
                "-c",
                properties,
                *users,
            ],
            capture_output=True,
            text=True,
            check=False,
            env=_environment(),
        )
        security.forget_format_arguments(self.data_dir)
        if done.returncode:
            raise EnvironmentProblem(f"Kafka could not format {self.data_dir / 'data'}: {done.stderr.strip()[-500:]}")

    def _await_ready(self, note: _Note) -> None:
        """Wait until the broker answers a client and says it is ours."""
        deadline = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < deadline:
            # Our own child is asked itself, as start times that the system tells may be off for a moment.
            child = self._child if self._child is not None and self._child.pid == note.pid else None
            code = None if child is None else child.poll()
            if code is not None or (child is None and self._process(note) is None):
                last_words = " ".join(self._tail(0).strip().splitlines()[-3:])
                ended = "Kafka ended while starting" + ("" if code is None else f" ({code})")
                raise EnvironmentProblem(f"{ended}; see {self.log}. Its last words: {last_words}")
            if self._serves(note):
                return
            time.sleep(0.1)
        raise EnvironmentProblem(f"Kafka did not answer within {READY_WITHIN_S:.0f} s; see {self.log}.")

    def _serves(self, note: _Note) -> bool:
        try:
            socket.create_connection(("127.0.0.1", note.port), timeout=1).close()
        except OSError:
            return False
        settings = security.client_config(self.data_dir, security.ADMIN) if note.secure else {}
        admin = AdminClient(
            {"bootstrap.servers": f"127.0.0.1:{note.port}", "log_level": 0, "error_cb": lambda _: None, **settings}
        )
        try:
            seen = admin.list_topics(timeout=2)
        except KafkaException:
            return False
        cluster_id = next(
            line.partition("=")[2].strip()
            for line in (self.data_dir / "data" / "meta.properties").read_text().splitlines()
            if line.startswith("cluster.id=")
        )
        return bool(seen.brokers) and seen.cluster_id == cluster_id

    def _tail(self, offset: int) -> str:
        if not self.log.exists():
            return (self.data_dir / "log" / "console.log").read_text(errors="replace")[-4000:]
        with self.log.open("rb") as file:
            file.seek(offset if offset <= os.fstat(file.fileno()).st_size else 0)
            return file.read().decode(errors="replace")[-20000:]
