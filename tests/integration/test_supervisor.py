"""The supervisor: what dies is started again, and in the end nothing is left, however it ends."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from flexbus.cli.down import command as down
from flexbus.errors import EnvironmentProblem
from streams.kafka import Connection
from streams.monitor import notes
from streams.supervisor import Supervisor
from tests.integration import core
from tests.integration.bus import Bus, running_bus, wait_for

pytestmark = pytest.mark.kafka
SOME = ("scheduler", "settlement")


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bus]:
    with running_bus(tmp_path_factory.mktemp("supervised")) as (bus, _):
        yield bus


def alive(pids: list[int]) -> list[int]:
    found = []
    for pid in pids:
        try:
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
        except psutil.Error:
            pass
    return found


def test_a_killed_child_is_back_and_ready(bus: Bus, tmp_path: Path) -> None:
    supervisor = Supervisor(bus.connection, tmp_path, services=SOME)
    supervisor.start()
    try:
        supervisor.wait_ready()
        before = supervisor.pids()
        assert sorted(before) == ["scheduler-0", "settlement-0"]
        os.kill(before["settlement-0"], signal.SIGKILL)
        wait_for(lambda: supervisor.pids().get("settlement-0", before["settlement-0"]) != before["settlement-0"])
        supervisor.wait_ready()
        assert supervisor.pids()["scheduler-0"] == before["scheduler-0"]
        left = list(supervisor.pids().values())
    finally:
        supervisor.stop()
    assert alive(left) == []
    assert notes(tmp_path) == ()
    assert not (tmp_path / "supervisor.json").exists()


class Broken(BaseHTTPRequestHandler):
    """Dies in the middle of its answer."""

    asked = 0

    def do_GET(self) -> None:
        Broken.asked += 1
        self.send_response(200)
        self.send_header("Content-Length", "153")
        self.end_headers()


def test_a_child_that_dies_while_it_answers_costs_nobody_else(bus: Bus, tmp_path: Path) -> None:
    server = HTTPServer(("127.0.0.1", 0), Broken)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    supervisor = Supervisor(bus.connection, tmp_path, services=("scheduler",))
    supervisor.start()
    try:
        supervisor.wait_ready()
        (note,) = [n for n in notes(tmp_path) if n.service == "scheduler"]
        path = tmp_path / "services" / f"scheduler-{note.pid}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"port": server.server_port}))
        wait_for(lambda: Broken.asked > 1)  # and asked again
        os.kill(note.pid, signal.SIGKILL)
        wait_for(lambda: supervisor.pids().get("scheduler-0", note.pid) != note.pid)
        supervisor.wait_ready()
    finally:
        supervisor.stop()
        server.shutdown()
        server.server_close()


def test_who_waits_for_nobody_steps_back_and_can_be_seen_to(bus: Bus, tmp_path: Path) -> None:
    supervisor = Supervisor(bus.connection, tmp_path, services=SOME)
    supervisor.start()
    try:
        supervisor.wait_ready()
        pids = supervisor.pids()
        own = os.nice(0)
        assert psutil.Process(pids["scheduler-0"]).nice() == own
        assert psutil.Process(pids["settlement-0"]).nice() == min(19, own + 15)
        for pid in pids.values():  # priorities count within a session, and signals of a terminal reach a group
            assert os.getsid(pid) == os.getsid(0)
            assert os.getpgid(pid) == pid
    finally:
        supervisor.stop()


def lag_lines(run_dir: Path, service: str) -> dict[str, float]:
    """What a scrape of a service says of its lag, by partition."""
    (port,) = (n.port for n in notes(run_dir) if n.service == service)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        lines = [line for line in answer.read().decode().splitlines() if line.startswith("flexbus_consumer_lag{")]
    assert all(f'service="{service}"' in line for line in lines)
    return {line.partition('partition="')[2].partition('"')[0]: float(line.rpartition(" ")[2]) for line in lines}


def market_row(run_dir: Path) -> dict[str, int]:
    """What the traffic light tells of an area; nothing of one that it has not heard of."""
    (port,) = (n.port for n in notes(run_dir) if n.service == "traffic_light")
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/view/north", timeout=5) as answer:
            row: dict[str, int] = json.loads(answer.read())["market"]
            return row
    except urllib.error.HTTPError:
        return {}


def test_every_kind_of_service_tells_its_lag_and_a_stage_its_row(tmp_path: Path) -> None:
    services = ("sequencer", "traffic_light", "scheduler", "publisher", "monitor")
    with core.own_kafka(tmp_path / "broker", partitions=2) as connection:
        supervisor = Supervisor(connection, tmp_path, services=services)
        supervisor.start()
        try:
            supervisor.wait_ready()
            core.open_gates(connection, ["north"])
            wait_for(lambda: all(lag_lines(tmp_path, name).keys() == {"0", "1"} for name in services))
            at_the_end = ("traffic_light", "scheduler", "monitor")  # they are behind nothing
            wait_for(lambda: all(set(lag_lines(tmp_path, name).values()) == {0.0} for name in at_the_end))
            # A lag may have been measured before the last events came.
            wait_for(lambda: market_row(tmp_path) == {"points_green": 2, "points_yellow": 0, "points_red": 0})
        finally:
            supervisor.stop()


def test_two_runs_side_by_side_do_not_know_each_other(bus: Bus, tmp_path: Path) -> None:
    one, two = (Supervisor(bus.connection, tmp_path / name, services=("scheduler",)) for name in ("one", "two"))
    one.start()
    two.start()
    try:
        one.wait_ready()
        two.wait_ready()
        one.stop()
        assert len(alive(list(two.pids().values()))) == 1
        assert [n.pid for n in notes(tmp_path / "two") if n.service == "scheduler"] == list(two.pids().values())
    finally:
        one.stop()
        two.stop()


def test_what_keeps_dying_is_started_with_growing_pauses_and_said_aloud(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    supervisor = Supervisor(Connection("127.0.0.1:1"), tmp_path, services=("nonsense",))
    supervisor.start()
    try:
        wait_for(lambda: any("died 5 times in a row" in r.message for r in caplog.records), within_s=60)
    finally:
        supervisor.stop()
    pauses = [r.message.partition("starting it again in ")[2] for r in caplog.records]
    assert [p for p in pauses if p][:5] == ["0.1 s", "0.2 s", "0.4 s", "0.8 s", "1.6 s"]


def test_a_service_that_never_comes_up_is_named_with_its_log(tmp_path: Path) -> None:
    supervisor = Supervisor(Connection("127.0.0.1:1"), tmp_path, services=("nonsense",))
    supervisor.start()
    try:
        with pytest.raises(EnvironmentProblem, match=r"nonsense-0; see their logs in .*logs"):
            supervisor.wait_ready(within_s=1.0)
    finally:
        supervisor.stop()


def up(bus: Bus, folder: Path, script: str = "") -> subprocess.Popen[bytes]:
    """A supervisor in a process of its own, which says when it is ready."""
    code = f"""
import logging, signal, sys, threading
from pathlib import Path
from streams.kafka import Connection
from streams.process import stop_on_signals
from streams.supervisor import Supervisor
stop = threading.Event()
stop_on_signals(stop)
supervisor = Supervisor(Connection({bus.connection.bootstrap!r}), Path({str(folder)!r}), services={SOME!r})
supervisor.start()
supervisor.wait_ready()
print("ready", flush=True)
stop.wait()
supervisor.stop()
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_however_it_ends(bus: Bus, tmp_path: Path, number: signal.Signals) -> None:
    process = up(bus, tmp_path)
    children = [p.pid for p in psutil.Process(process.pid).children(recursive=True)]
    assert len(children) >= len(SOME)
    process.send_signal(number)
    assert process.wait(20) == (-number if number == signal.SIGKILL else 0)
    wait_for(lambda: alive(children) == [], within_s=15)


def test_down_ends_what_is_noted_and_nothing_else(bus: Bus, tmp_path: Path) -> None:
    process = up(bus, tmp_path)
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    # A note of a process that ended long ago, whose number now belongs to somebody else.
    stale = {"service": "clearing", "slot": 0, "pid": bystander.pid, "port": 1, "started": time.time() - 9_999}
    (tmp_path / "services" / f"clearing-{bystander.pid}.json").write_text(json.dumps(stale))
    children = [p.pid for p in psutil.Process(process.pid).children(recursive=True)]
    try:
        result = CliRunner().invoke(down, ["--run-dir", str(tmp_path)])
        assert result.exit_code == 0
        process.wait(10)
        assert alive(children) == []
        assert bystander.poll() is None
        assert "nothing was running" in CliRunner().invoke(down, ["--run-dir", str(tmp_path)]).output
    finally:
        bystander.kill()
        bystander.wait()
        process.kill()
        process.wait()


def test_workers_of_one_service_share_it(bus: Bus, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flexbus.cli", "run", "settlement", "--workers", "2"]
    command += ["--bootstrap", bus.connection.bootstrap, "--run-dir", str(tmp_path)]
    process = subprocess.Popen(command)
    try:
        wait_for(lambda: len({n.slot for n in notes(tmp_path) if n.service == "settlement"}) == 2)
        children = [n.pid for n in notes(tmp_path) if n.service == "settlement"]
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert alive(children) == []
    finally:
        process.kill()
        process.wait()


def test_a_second_supervisor_of_one_run_is_refused(bus: Bus, tmp_path: Path) -> None:
    process = up(bus, tmp_path)
    try:
        with pytest.raises(EnvironmentProblem, match="already supervises"):
            Supervisor(bus.connection, tmp_path, services=SOME).start()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


@pytest.mark.parametrize("note", ["", "[]", '{"pid": "1", "started": 0}'])
def test_a_note_that_makes_no_sense_keeps_nobody_from_starting(tmp_path: Path, note: str) -> None:
    (tmp_path / "supervisor.json").write_text(note)
    Supervisor(Connection("127.0.0.1:1"), tmp_path, services=SOME)._claim()
    assert json.loads((tmp_path / "supervisor.json").read_text())["pid"] == os.getpid()
