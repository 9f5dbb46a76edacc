"""The short form of `make chaos`: every kind of process and the broker killed under load, and nothing is lost."""

import json
import re
import subprocess
import sys

import pytest

from streams.services import SERVICES

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(900)]


def test_whatever_is_killed_nothing_is_lost_or_doubled() -> None:
    command = [sys.executable, "-m", "tests.chaos", "SEED=1", "KILLS=21"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    said = found.stdout + found.stderr[-5000:]
    assert found.stdout.endswith("lost: 0\ndoubled: 0\nchain: ok\nviews: equal\n"), said
    assert "days: same\nreordered: 0\nunpublished: 0\n" in found.stdout, said
    assert found.returncode == 0, said
    match = re.search("^strikes: (.*)$", found.stdout, re.MULTILINE)
    assert match is not None, said
    strikes = json.loads(match[1])
    kills = {name.removeprefix("kill "): n for name, n in strikes.items() if name.startswith("kill ")}
    assert kills.pop("broker") == 2
    assert set(kills) == set(SERVICES)
    assert sum(kills.values()) >= 15
    assert strikes["stall broker"] == 2
    match = re.search("from checkpoints: ([0-9]+)", found.stdout)
    assert match is not None
    assert int(match[1]) > 0, "no process went on from a checkpoint"
