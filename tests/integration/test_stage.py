"""A stage on the real Kafka behind the real sequencer: killed, doubled, moved and misled, it tells the same facts."""

import json
import random
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flexbus import codec
from flexbus import events as ev
from flexbus.journal import next_block
from flexbus.partition import partition_of
from flexbus.topics import JOURNAL
from streams.monitor import notes
from streams.process import BROKEN
from tests.integration.bus import PARTITIONS, Bus, running_bus, wait_for
from tests.integration.toy_stage import JOB_EVERY

pytestmark = pytest.mark.kafka
ROOT = Path(__file__).parents[2]
PLACE_OF_MOVED = partition_of(b"moved", PARTITIONS)


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bus]:
    with running_bus(tmp_path_factory.mktemp("stage")) as (bus, _):
        yield bus


class Worker:
    """One process of the toy stage."""

    def __init__(self, bus: Bus, folder: Path, slot: int = 0) -> None:
        self._folder = folder
        self.log = folder / f"stage-{slot}.log"
        self._command = [sys.executable, "-m", "tests.integration.toy_stage", bus.connection.bootstrap, str(slot)]
        self._command.append(str(folder))
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as output:
            return subprocess.Popen(self._command, cwd=ROOT, stdout=output, stderr=output)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def restart(self) -> None:
        self.kill()
        self.process = self._start()

    def get(self, page: str) -> Any:
        port = next((n.port for n in notes(self._folder) if n.pid == self.process.pid), None)
        if port is None:
            return {}
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=20) as answer:
                body = answer.read().decode()
        except urllib.error.HTTPError as error:
            return {"status": error.code}
        except OSError:
            return {}
        return body if page == "metrics" else json.loads(body)

    def ready(self) -> bool:
        return bool(self.get("health").get("ready"))

    def ready_at_last(self) -> bool:
        """Whether it is ready; if it has ended it is started again, as the supervisor would."""
        if self.process.poll() is not None:
            self.process = self._start()
        return self.ready()


@contextmanager
def working(bus: Bus, folder: Path, slots: int = 1) -> Iterator[list[Worker]]:
    workers = [Worker(bus, folder, n) for n in range(slots)]
    try:
        yield workers
    finally:
        for worker in workers:
            worker.kill()


def shared(workers: list[Worker]) -> bool:
    """Whether each has some partitions, and together they have all: who joins last may have none at first."""
    parts = [worker.get("health").get("assigned") for worker in workers]
    return all(parts) and sorted(p for part in parts for p in part) == [*range(PARTITIONS)]


def areas_of(partition: int, name: str, how_many: int = 2) -> list[str]:
    found = (f"{name}-{n}" for n in range(1000))
    return [a for a in found if partition_of(a.encode(), PARTITIONS) == partition][:how_many]


def told(bus: Bus, area: str) -> list[str]:
    """What the stage said about an area, in the journal's order, with the count it had folded."""
    return [f.event.reason for f in bus.facts(area) if isinstance(f.event, ev.RequestMissedGate)]


def owed(bus: Bus, area: str) -> set[str]:
    """What an undisturbed stage says, from what was asked in the order of the journal."""
    asked = [f.event.request_id for f in bus.facts(area) if isinstance(f.event, ev.FlexRequestWithdrawn)]
    said: set[str] = set()
    for n, _ in enumerate(asked, start=1):
        said |= {f"plain {n}"} if n % JOB_EVERY else {f"job first {n}", f"job last {n}"}
    return said


def test_facts_come_once_each_wherever_the_stage_is_killed(bus: Bus, tmp_path: Path) -> None:
    chance = random.Random(7)
    areas = [f"killed-{n}" for n in range(3)]
    with working(bus, tmp_path) as (worker,):
        for number in range(120):
            bus.ask(areas[number % 3], f"r{number}")
            if number % 20 == 10:
                bus.flush()
                time.sleep(chance.uniform(0.0, 4.0))  # before, while and after it comes up
                worker.restart()
        bus.flush()
        wait_for(lambda: all(len(told(bus, area)) >= 48 for area in areas))
    for area in areas:
        assert sorted(told(bus, area)) == sorted(owed(bus, area))


def test_two_workers_share_and_one_takes_over(bus: Bus, tmp_path: Path) -> None:
    areas = [a for p in range(PARTITIONS) for a in areas_of(p, "shared")]
    with working(bus, tmp_path, slots=2) as workers:
        wait_for(lambda: shared(workers))
        for number in range(60):
            bus.ask(areas[number % 6], f"r{number}")
        bus.flush()
        workers[0].kill()
        for number in range(60, 90):
            bus.ask(areas[number % 6], f"r{number}")
        bus.flush()
        wait_for(lambda: all(len(told(bus, area)) >= 18 for area in areas))
        wait_for(lambda: workers[1].get("health").get("assigned") == [0, 1, 2])
        assert set(workers[1].get("view")["areas"]) >= set(areas)
    for area in areas:
        assert sorted(told(bus, area)) == sorted(owed(bus, area))


def test_what_a_worker_gave_away_it_forgets(bus: Bus, tmp_path: Path) -> None:
    bus.ask("moved", "r1")
    bus.flush()
    with working(bus, tmp_path) as workers:
        wait_for(lambda: "moved" in workers[0].get("view").get("areas", ()))
        workers.append(Worker(bus, tmp_path, slot=1))
        wait_for(lambda: shared(workers))
        holders = [w for w in workers if "moved" in w.get("view")["areas"]]
        assert len(holders) == 1
        assert PLACE_OF_MOVED in holders[0].get("health")["assigned"]
        others = [w for w in workers if w not in holders]
        assert others[0].get("view/moved") == {"status": 404}


def test_started_twice_and_paused_past_its_time_outs_it_tells_the_same(bus: Bus, tmp_path: Path) -> None:
    area = "zombie"
    (tmp_path / "twin").mkdir()
    with working(bus, tmp_path) as (one,), working(bus, tmp_path / "twin") as (twin,):  # the same slot: one place
        # That they start is not what is asked here: the machine may be full, and one may end the other in mid-air.
        wait_for(one.ready_at_last, within_s=90)
        wait_for(twin.ready_at_last, within_s=90)
        for number in range(10):
            bus.ask(area, f"r{number}")
        bus.flush()
        wait_for(lambda: len(told(bus, area)) >= 12)
        for paused, other in ((one, twin), (twin, one)):
            paused.process.send_signal(signal.SIGSTOP)
            bus.ask(area, f"while-{paused is one}")
            bus.flush()
            time.sleep(8)  # the session time-out is 6 s
            paused.process.send_signal(signal.SIGCONT)
            other.restart()
            bus.ask(area, f"after-{paused is one}")
            bus.flush()
        wait_for(lambda: len(told(bus, area)) >= 16, within_s=60)
    assert sorted(told(bus, area)) == sorted(owed(bus, area))


def test_a_rebalance_in_the_midst_of_a_rebuild_is_survived(bus: Bus, tmp_path: Path) -> None:
    areas = [a for p in range(PARTITIONS) for a in areas_of(p, "midst")]
    for number in range(60):
        bus.ask(areas[number % 6], f"r{number}")
    bus.flush()
    with working(bus, tmp_path) as workers:
        for slot in (1, 2):  # they join while the first rebuilds
            workers.append(Worker(bus, tmp_path, slot))
        wait_for(lambda: all(len(told(bus, area)) >= 12 for area in areas))
        try:
            wait_for(lambda: shared(workers))
        except AssertionError as error:
            raise AssertionError([(w.process.poll(), w.get("health"), w.log.read_text()) for w in workers]) from error
        assert all(w.process.poll() is None for w in workers)
    for area in areas:
        assert sorted(told(bus, area)) == sorted(owed(bus, area))


def last_words(bus: Bus, program: str, log: Path) -> str:
    """What a worker says that ends by itself, as broken."""
    with log.open("wb") as output:
        command = [sys.executable, "-c", program, bus.connection.bootstrap, "0"]
        worker = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
    try:
        assert worker.wait(40) == BROKEN
    finally:
        worker.kill()
        worker.wait()
    return log.read_text()


def test_a_worker_that_is_not_told_of_its_partitions_ends(bus: Bus, tmp_path: Path) -> None:
    deaf = """
import streams.stage, tests.integration.toy_stage
async def told(*_, **__): pass
streams.stage.StageShell._on_assigned, streams.stage._UNTAKEN_S = told, 3.0
tests.integration.toy_stage.main()
"""
    # Those of the workers of another test may still be kept for them.
    said = last_words(bus, deaf, tmp_path / "log")
    assert re.search(r"partitions \[\d.*\] were given to this worker and \[\] taken", said)


def test_a_worker_whose_row_cannot_be_made_ends(bus: Bus, tmp_path: Path) -> None:
    broken = """
from dataclasses import replace
from tests.integration import toy_stage
toy_stage.STAGE = replace(toy_stage.STAGE, row=lambda state: {"asked": state.count})
toy_stage.main()
"""
    for place in range(PARTITIONS):
        bus.ask(areas_of(place, "no-row", 1)[0], "r")
    bus.flush()
    assert "TypeError" in last_words(bus, broken, tmp_path / "log")


def test_a_worker_ends_while_its_question_how_far_it_is_behind_is_not_answered(bus: Bus, tmp_path: Path) -> None:
    """After a restart of Kafka the answer may take half a minute; a worker that is told to end does not wait for it."""
    asking = tmp_path / "asking"
    unanswered = f"""
import time, pathlib, streams.stage, tests.integration.toy_stage
class Ends(streams.stage.Ends):
    def of(self, partitions):
        pathlib.Path({str(asking)!r}).touch()
        time.sleep(60)
streams.stage.Ends = Ends
tests.integration.toy_stage.main()
"""
    command = [sys.executable, "-c", unanswered, bus.connection.bootstrap, "0", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(asking.exists)
            process.terminate()
            assert process.wait(20) == 0
        finally:
            process.kill()


def test_aborted_blocks_are_not_seen(bus: Bus, tmp_path: Path) -> None:
    area = "aborted"
    place = partition_of(area.encode(), PARTITIONS)
    ghost = codec.encode(next_block(area, None, ()))
    writer = bus.connection.transactional_producer("ghost-writer")
    writer.init_transactions(20)
    with working(bus, tmp_path) as (worker,):
        wait_for(worker.ready)
        writer.begin_transaction()
        writer.produce(JOURNAL, ghost, area.encode(), partition=place)
        writer.flush(10)
        writer.abort_transaction()
        bus.ask(area, "r1")
        bus.flush()
        # Had the stage seen the aborted block 0, the real block 0 would pass for one seen before: nothing told.
        wait_for(lambda: told(bus, area) == ["plain 1"])
        worker.restart()
        bus.ask(area, "r2")
        bus.flush()
        wait_for(lambda: told(bus, area) == ["plain 1", "plain 2"])


def test_a_broken_chain_ends_the_process_loudly(tmp_path: Path) -> None:
    with running_bus(tmp_path, sequenced=False) as (bus, _), working(bus, tmp_path) as (worker,):
        wait_for(worker.ready)
        producer = bus.connection.producer()
        stray = next_block("stray", (6, bytes(32)), ())
        producer.produce(JOURNAL, codec.encode(stray), b"stray", partition=0)
        assert producer.flush(10) == 0
        assert worker.process.wait(30) != 0
        assert "area stray, block 7" in worker.log.read_text()
        worker.restart()  # and it stays broken: no stage goes on from a journal that is not whole
        assert worker.process.wait(30) != 0


def test_a_worker_that_lost_its_group_ends_and_a_fresh_one_goes_on(bus: Bus, tmp_path: Path) -> None:
    """The broker is gone for a blink between two questions of aiokafka; the client's task ends, and says it to none."""
    forget = "import aiokafka.client as c; c.AIOKafkaClient.get_random_node = lambda self: None; "
    forget += "from tests.integration.toy_stage import main; main()"
    command = [sys.executable, "-c", forget, bus.connection.bootstrap, "0", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1, ended.stderr
    assert "the consumer group is lost" in ended.stderr
    with working(bus, tmp_path) as [worker]:
        wait_for(worker.ready)


def test_a_worker_that_is_not_told_of_the_journal_ends_instead_of_owning_nothing(tmp_path: Path) -> None:
    """A broker just started answers without the topics that it has not read yet."""
    forget = "from aiokafka.cluster import ClusterMetadata; from streams.faust_app import _WholeAssignor as a; "
    forget += "assign = a.assign; a.assign = lambda self, cluster, members: assign(self, ClusterMetadata(), members); "
    forget += "from tests.integration.toy_stage import main; main()"
    with running_bus(tmp_path, sequenced=False) as (bus, _):
        command = [sys.executable, "-c", forget, bus.connection.bootstrap, "0", str(tmp_path)]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1, ended.stderr
    assert "flexbus.journal.v1, or not yet" in ended.stderr


def test_a_slow_job_does_not_hold_the_stage_up(bus: Bus, tmp_path: Path) -> None:
    area = "slow"
    with working(bus, tmp_path) as (worker,):
        wait_for(worker.ready)
        bus.ask(area, "slow")
        bus.ask(area, "r2")
        bus.flush()
        wait_for(lambda: len(told(bus, area)) == 3)
        assert told(bus, area) == ["plain 2", "job first 1", "job last 1"]


def test_a_job_that_fails_leaves_the_stage_at_work(bus: Bus, tmp_path: Path) -> None:
    area = "failing"
    with working(bus, tmp_path) as (worker,):
        wait_for(worker.ready)
        bus.ask(area, "broken")
        bus.ask(area, f"crash-once:{tmp_path / 'mark'}")
        bus.ask(area, "r3")
        bus.flush()
        wait_for(lambda: worker.get("health")["faults"] == 1)
        wait_for(lambda: len(told(bus, area)) == 3)
        assert sorted(told(bus, area)) == ["job first 2", "job last 2", "plain 3"]
        assert "cannot compute this" in worker.get("health")["note"]
        assert 'flexbus_job_failures_total{job="compute",service="congestion"} 1.0' in worker.get("metrics")


def test_it_shows_what_it_knows(bus: Bus, tmp_path: Path) -> None:
    area = "shown"
    with working(bus, tmp_path) as (worker,):
        wait_for(worker.ready)
        bus.ask(area, "r1")
        bus.flush()
        wait_for(
            lambda: worker.get(f"view/{area}").get("events") == {"FlexRequestWithdrawn": 1, "RequestMissedGate": 1}
        )
        assert worker.get(f"view/{area}")["pending"] == []
        assert worker.get(f"view/{area}")["market"] == {"asked": 1}
        for number in range(2, 5):  # the next ones come within a second of a row: what is asked for is never older
            bus.ask(area, f"r{number}")
        bus.flush()
        wait_for(lambda: worker.get(f"view/{area}")["events"]["FlexRequestWithdrawn"] == 4, every_s=0.01)
        assert worker.get(f"view/{area}")["market"] == {"asked": 4}
        assert worker.get("view/nowhere") == {"status": 404}
        metrics = worker.get("metrics")
        for line in (
            f'flexbus_events_total{{area="{area}",kind="FlexRequestWithdrawn",service="congestion"}} 4.0',
            'flexbus_emissions_total{kind="RequestMissedGate",service="congestion"}',
            'flexbus_stage_latency_seconds_count{service="congestion"}',
        ):
            assert line in metrics
        wait_for(lambda: 'flexbus_consumer_lag{partition="0",service="congestion"}' in worker.get("metrics"))
        worker.process.terminate()
        assert worker.process.wait(15) == 0
        assert notes(tmp_path) == ()
