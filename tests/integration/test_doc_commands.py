"""The shell blocks of docs/operations.md about the local broker run, word for word, on a real Kafka."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from streams.broker import Broker

pytestmark = pytest.mark.kafka

MANUAL = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")


def block(first: str) -> str:
    """Return the shell block that begins with these words."""
    (found,) = [t for t in re.findall(r"^```\n(.*?)^```$", MANUAL, re.MULTILINE | re.DOTALL) if t.startswith(first)]
    return str(found)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    Broker(tmp_path / ".flexbus" / "broker").kill()


def typed(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run lines as a shell does that has the environment's commands at hand and stops at the first failure."""
    environment = {k: v for k, v in os.environ.items() if k not in ("FLEXBUS_BOOTSTRAP", "FLEXBUS_KAFKA_PROPERTIES")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    return subprocess.run(
        ["bash", "-euc", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=150, check=False
    )


def test_the_local_broker_is_started_looked_at_and_stopped(folder: Path) -> None:
    done = typed(block("flexbus broker start"), folder)
    assert done.returncode == 0, done.stderr
    address, running, *log = done.stdout.splitlines()
    assert re.fullmatch(r"127\.0\.0\.1:\d+", address)
    assert running.startswith(f"running at {address} (plain")
    assert len(log) == 20
    assert "PLAIN MODE" in done.stderr
    assert done.stderr.rstrip().endswith("stopped")
    assert typed("flexbus broker status", folder).returncode == 3


def test_a_secure_broker_is_started_and_a_party_gets_its_principal_and_topics(folder: Path) -> None:
    *lines, last = block("export FLEXBUS_BOOTSTRAP").splitlines()
    assert " flexbus send --as fsp-storage " in last  # needs the services: tests/integration/access
    done = typed("\n".join(lines), folder)
    assert done.returncode == 0, done.stderr
    properties = re.findall(r"FLEXBUS_KAFKA_PROPERTIES=(\S+)", "".join([*lines, last]))
    assert len(properties) == 2
    assert all((folder / named).is_file() for named in properties)
    known = Broker(folder / ".flexbus" / "broker", secure=True)
    assert "flexbus.in.fsp-storage.v1" in AdminClient(known.client_config()).list_topics(timeout=20).topics
