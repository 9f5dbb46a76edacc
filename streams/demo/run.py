"""One demo day from nothing to report: broker, topics, services, page, the outside world, summary, proof."""

import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from clearing.convert.simbench import profile_date
from flexbus.access import PLAYER
from flexbus.errors import EnvironmentProblem
from flexbus.events import Role
from flexbus.topics import JOURNAL
from flexbus.views.fact import Fact
from streams.access import Provisioned, provision
from streams.broker import Broker
from streams.clock import last_tick
from streams.demo.grid_day import DEFAULT_GRID, scenario_of
from streams.demo.preparation import PARTIES, ROLES
from streams.demo.scenario import another_day, days_until_after
from streams.demo.signing import Keys
from streams.demo.world import KafkaPorts, World
from streams.kafka import Connection
from streams.page.model import summary
from streams.page.readers import token_file
from streams.read_log import ReadLog, resource
from streams.replay import Verification, verify
from streams.report import write_report
from streams.supervisor import Supervisor
from streams.topics import create_topics

__all__ = ["Day", "Options"]

# Real seconds that a quarter-hour lasts at SPEED=1: with set-up, auction and settlement about two minutes in all.
_PACE_S = 0.7
_PARTITIONS = 2
_AUDITOR = "auditor"  # follows the journal for the day, and verifies it in the end


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How the day is played.

    Attributes:
        run_dir: where the broker's data, logs and service notes go.
        grid: SimBench code.
        day: winter, sunny, or a date of the profile year.
        speed: 1 = about two minutes; larger is faster, 0 = as fast as the bus goes.
        bootstrap: an existing broker, or None to start one.
        page_port: port of the page, or None for a free one.
        report: where a copy of the report goes; the report itself lies in `run_dir`.
        secure: TLS, passwords and access control; every service and party as a principal of its own,
            and every party signs what it sends.
    """

    run_dir: Path
    grid: str = DEFAULT_GRID
    day: str = "sunny"
    speed: float = 1.0
    bootstrap: str | None = None
    page_port: int | None = None
    report: Path = field(default_factory=lambda: Path("report.html"))
    secure: bool = False


class Day:
    """Everything that a demo day needs, started and stopped together.

    Args:
        options: how it is played.
        say: called with progress for people.
        on_fact: called for every fact as the outside world sees it (tests hang on to it).
    """

    def __init__(
        self,
        options: Options,
        say: Callable[[str], None],
        on_fact: Callable[[Fact], None] | None = None,
    ) -> None:
        self.options = options
        self._say = say
        self._on_fact = on_fact
        self._broker: Broker | None = None
        self.supervisor: Supervisor | None = None
        self.world: World | None = None
        self.connection: Connection | None = None

    def start(self) -> None:
        """Start broker and services, and load the grid meanwhile.

        Raises:
            EnvironmentProblem: Kafka cannot be started or reached.
            ConversionError: unknown grid or day.
        """
        options = self.options
        profile_date(options.grid, options.day)  # a wrong day is told before anything starts
        options.run_dir.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(max_workers=1) as pool:
            loading = pool.submit(scenario_of, options.grid, options.day)
            ports, made = self._secure_bus() if options.secure else self._plain_bus()
            self.connection = ports.connection
            played_ms = last_tick(self.connection) if options.bootstrap is not None else None
            if loading.done():
                loading.result()  # a grid that is known to be wrong by now needs no services
            self._say(f"starting the services (Kafka at {self.connection.bootstrap})")
            self.supervisor = Supervisor(
                self.connection,
                options.run_dir,
                clock="played",
                page_port=options.page_port,
                properties=made.properties if made else None,
                page_readers=made.readers if made else None,
                metrics_token=made.metrics_token if made else None,
            )
            self.supervisor.start()
            scenario = loading.result()
        if options.bootstrap is not None:
            # A broker that lives on has the areas of earlier days, and a chain begins once; and it has their time.
            days = days_until_after(scenario, played_ms) if played_ms is not None else 0
            scenario = another_day(scenario, f"{scenario.area_id}-{int(time.time())}", days)
        self._say(f"grid: {scenario.title}, {len(scenario.network.buses)} buses, {len(scenario.sites)} sites")
        if scenario.note:
            self._say(scenario.note)
        # The day follows the journal to its end, and its summary and report are of what it has read there.
        ReadLog(self.connection, "cli").note(resource(JOURNAL, area=scenario.area_id), scenario.area_id)
        pace = _PACE_S / options.speed if options.speed else 0.0
        # Beside the passwords, and as they are for their owner alone.
        keys = Keys(options.run_dir / "broker" / "security" / "signing", PARTIES) if options.secure else None
        self.world = World(ports, scenario, self._say, pace, self._on_fact, keys)

    def _plain_bus(self) -> tuple[KafkaPorts, None]:
        bootstrap = self.options.bootstrap
        if bootstrap is None:
            self._say("starting Kafka; PLAIN MODE: no passwords, no encryption; loopback only")
            self._broker = Broker(self.options.run_dir / "broker")
            bootstrap = self._broker.start()
        connection = Connection.of(bootstrap, security={})
        create_topics(connection, PARTIES, _PARTITIONS)
        return KafkaPorts(connection), None

    def _secure_bus(self) -> tuple[KafkaPorts, Provisioned]:
        """Start a broker where every service and party is somebody, and an auditor looks on."""
        if self.options.bootstrap is not None:
            raise EnvironmentProblem(
                "A secure demo starts a Kafka of its own, as it makes principals and rights there: leave --bootstrap "
                "and FLEXBUS_BOOTSTRAP away, or play it plain."
            )
        self._say("starting Kafka; SECURE MODE: TLS, a password for each principal, everything else forbidden")
        self._broker = Broker(self.options.run_dir / "broker", secure=True)
        self._broker.start()
        made = provision(self._broker, {_AUDITOR: (Role.AUDITOR,)} | {p: (r,) for p, r in ROLES.items()}, _PARTITIONS)
        self._say(
            f"who reads the page must say who it is: {_AUDITOR} and the token in {token_file(made.readers, _AUDITOR)}"
        )
        principals = {name: made.connection(name) for name in (*PARTIES, PLAYER)}
        return KafkaPorts(made.connection(_AUDITOR), principals), made

    def page_url(self) -> str:
        """Return the address of the page."""
        assert self.supervisor is not None
        return self.supervisor.url("page")

    def play(self) -> dict[str, Any]:
        """Play the day and return its summary.

        Raises:
            DayStuckError: the bus does not go on.
        """
        assert self.world is not None
        self.world.play()
        return self.summary()

    def summary(self) -> dict[str, Any]:
        """Return the final numbers of the day."""
        assert self.world is not None
        return summary(self.world.mirror.page)

    def report(self) -> Path:
        """Write report and summary into the run's directory, copy the report to where it is wanted, return its path.

        Of days that end side by side each has its own report; the copy is that of the day that ended last.

        Raises:
            EnvironmentProblem: the copy cannot be written; the report is in the run's directory all the same.
        """
        assert self.world is not None
        run_dir, copy = self.options.run_dir, self.options.report
        path = write_report(self.world.mirror.page, run_dir / "report.html")
        (run_dir / "summary.json").write_text(json.dumps(self.summary(), indent=2, sort_keys=True) + "\n")
        try:
            with NamedTemporaryFile(dir=copy.parent, prefix=f".{copy.name}.", delete=False) as fresh:
                fresh.write(path.read_bytes())
            Path(fresh.name).chmod(path.stat().st_mode)
            Path(fresh.name).replace(copy)
        except OSError as error:
            raise EnvironmentProblem(f"cannot copy {path} to {copy}: {error.strerror}") from error
        return path

    def verify(self) -> Verification:
        """Replay the journal: chain, views, derived facts, clearings.

        Raises:
            EnvironmentProblem: the broker does not answer, or does not take the note of the read.
        """
        assert self.connection is not None
        ReadLog(self.connection, "cli").note(resource(JOURNAL, verify="yes"))
        return verify(self.connection)

    def close(self) -> None:
        """Stop everything that was started, in the reverse order."""
        for part in (self.world, self.supervisor, self._broker):
            if part is None:
                continue
            if isinstance(part, World):
                part.close()
            else:
                part.stop()


def default_run_dir() -> Path:
    """Return a fresh folder for a run; two runs side by side do not collide."""
    return Path(".flexbus") / "demo" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
