"""`flexbus up` stops what it started, not what another one runs in the same directory."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from flexbus.cli.up import command
from flexbus.errors import EnvironmentProblem


class FakeBroker:
    """A broker that runs already, or not yet."""

    def __init__(self, running: bool) -> None:
        self.running = running

    def status(self) -> SimpleNamespace:
        return SimpleNamespace(bootstrap="127.0.0.1:1" if self.running else None)

    def start(self) -> str:
        self.running = True
        return "127.0.0.1:1"

    def stop(self) -> None:
        self.running = False


class RefusedSupervisor:
    """A supervisor whose run directory is somebody else's."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def start(self) -> None:
        raise EnvironmentProblem("process 1 already supervises it")

    def stop(self) -> None:
        pass


@pytest.mark.parametrize("running", [True, False])
def test_a_second_up_leaves_the_broker_of_the_first_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, running: bool
) -> None:
    broker = FakeBroker(running)
    monkeypatch.delenv("FLEXBUS_BOOTSTRAP", raising=False)
    monkeypatch.setattr("streams.process.stop_on_signals", lambda _: None)
    monkeypatch.setattr("streams.broker.Broker", lambda *_, **__: broker)
    monkeypatch.setattr("streams.supervisor.Supervisor", RefusedSupervisor)
    monkeypatch.setattr("streams.topics.create_topics", lambda *_: ())
    found = CliRunner().invoke(command, ["--run-dir", str(tmp_path)])
    assert isinstance(found.exception, EnvironmentProblem)
    assert broker.running is running
