"""The short form of `make chaos`: every kind of process and the broker killed under load, and nothing is lost.

What is struck in the long form too is tested by tests/unit/test_chaos_schedule.py.
"""

import json
import re
import subprocess
import sys

import pytest

from streams.services import SERVICES

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(900)]


def test_whatever_is_killed_nothing_is_lost_or_doubled() -> None:
    command = [sys.executable, "-m", "tests.chaos", "SEED=1", "KILLS=23"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    said = found.stdout + found.stderr[-5000:]
    assert found.stdout.endswith("lost: 0\ndoubled: 0\nchain: ok\nviews: equal\n"), said
    assert "days: same\nreordered: 0\nunpublished: 0\n" in found.stdout, said
    assert found.returncode == 0, said
    match = re.search("^strikes: (.*)$", found.stdout, re.MULTILINE)
    assert match is not None, said
    strikes = json.loads(match[1])
    kills, pauses, twins, guests = (struck(strikes, what) for what in ("kill", "pause", "twin", "guest"))
    assert kills.pop("broker") == 2
    assert set(kills) == set(SERVICES)
    assert sum(kills.values()) >= 15
    assert strikes["stall broker"] == 2
    assert sum(strikes.values()) == 23
    assert len(pauses) == len(twins) == 1
    assert len(guests) == 2
    # They were of their group before they left it, and left when told to.
    left = re.findall("^guest ([a-z_]+) 2: had partitions, ended with 0$", found.stdout, re.MULTILINE)
    assert sorted(left) == sorted(guests), said
    assert not set(pauses) & set(twins), "a pause and a twin of one kind"
    match = re.search("^slow disk: ([0-9]+) writes and ([0-9]+) syncs", found.stdout, re.MULTILINE)
    assert match is not None, said
    assert int(match[1]) > 100
    assert int(match[2]) > 10
    match = re.search("^sends acknowledged: ([0-9]+), failed: ([0-9]+)$", found.stdout, re.MULTILINE)
    assert match is not None, said
    assert int(match[1]) > 1_000
    # The counts below are of something: offers that had to be taken, and what had to follow from gates, awards, orders.
    match = re.search("^had to be taken: ([0-9]+), to be derived: ([0-9]+)$", found.stdout, re.MULTILINE)
    assert match is not None
    assert int(match[1]) > 1_000
    assert int(match[2]) > 100
    match = re.search("from checkpoints: ([0-9]+)", found.stdout)
    assert match is not None
    assert int(match[1]) > 0, "no process went on from a checkpoint"


def struck(strikes: dict[str, int], what: str) -> dict[str, int]:
    """Return how often each kind was struck in one way."""
    return {name.removeprefix(f"{what} "): n for name, n in strikes.items() if name.startswith(f"{what} ")}
