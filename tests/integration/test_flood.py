"""Back-pressure everywhere: what comes faster than it is worked off waits in Kafka, in no process's memory."""

import subprocess
import sys
from pathlib import Path

import pytest

from flexbus import client as sdk
from flexbus.client import Client
from flexbus.events import Verdict
from flexbus.verdicts import Verdicts
from tests.bench.flood import flooded
from tests.integration import core
from tests.integration.core import FSP_A, Worker, own_kafka

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.alone]

OFFERS = 3_500
AREA = "north"


@pytest.mark.long  # `make test` has a flood of large records in test_sequencer.py
def test_four_times_the_offers_take_no_more_memory_and_come_out_once() -> None:
    """Of each of the ten services; the long form is `python -m tests.bench.flood`."""
    found = flooded(OFFERS, steps=10)
    print(found.as_json())
    assert found.faults == []


def test_verdicts_that_nobody_asks_for_are_let_go_of_and_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sdk, "Verdicts", lambda: Verdicts(50))
    with own_kafka(tmp_path / "broker") as connection, Worker("streams.sequencer", connection):
        core.open_gates(connection, [AREA])
        with Client(connection.bootstrap, FSP_A) as client:
            sent = client.post_all(core.offer_of(n, AREA) for n in range(500))
            assert client.verdicts(sent[-1:])[0].verdict is Verdict.ACCEPTED
            assert len(client._verdicts) == 50
            for first in range(0, len(sent), 100):
                asked = sent[first : first + 100]
                found = client.verdicts(asked)
                places = [(r.inbox_partition, r.inbox_offset) for r in found]
                assert places == [(s.partition, s.offset) for s in asked]
                assert {r.verdict for r in found} == {Verdict.ACCEPTED}


POSTS = """
import re, sys
from dataclasses import replace
from flexbus import events as ev
from flexbus.client import Client
from tests.integration import core

stack = tuple(ev.PriceStep(power_w=1_000 * n, price_milli_per_mwh=30_000 + n) for n in range(1, 11))
slots = (ev.OfferSlot(steps=stack),) * 96

def offers(count):
    for n in range(count):
        submitted = core.offer_of(n, "north")
        yield replace(submitted, offer=replace(submitted.offer, slots=slots))

def peak_mb():  # of this program alone: what getrusage tells is also of who started it
    with open("/proc/self/status") as status:
        return int(re.search("VmHWM:[ \\t]*([0-9]+) kB", status.read())[1]) / 1000

with Client(sys.argv[1], "fsp-a", timeout_s=120) as client:
    for count in map(int, sys.argv[2:]):
        sent = client.post_all(offers(count))
        print(peak_mb(), flush=True)
    assert client.verdicts(sent[-1:])
    print(peak_mb(), flush=True)
"""
MOST_MB = 20.0


@pytest.mark.long
def test_the_sdk_keeps_nothing_of_what_it_has_sent_but_its_place(tmp_path: Path) -> None:
    """2,500 and 10,000 offers of 5 kB, 40 MB more, by a program that asks for one verdict in the end."""
    with own_kafka(tmp_path / "broker") as connection, Worker("streams.sequencer", connection):
        core.open_gates(connection, [AREA])
        command = [sys.executable, "-c", POSTS, connection.bootstrap, "2500", "10000"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first_mb, second_mb, asked_mb = map(float, done.stdout.split())
    print(first_mb, second_mb, asked_mb)
    assert second_mb - first_mb < MOST_MB
    assert asked_mb - second_mb < MOST_MB
