"""The soak's own judgement: it catches what leaks, in made-up figures and in a process that really does."""

import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest

from flexbus import events as ev
from flexbus.client import Client
from tests.bench import soak
from tests.bench.history import varied
from tests.bench.memory import Meter, Sample, growth, leaking
from tests.integration import core
from tests.integration.core import FSP_A

RATE = 12_000  # events between two samples


def samples(mb_of: Callable[[int], float], count: int = 60) -> list[Sample]:
    """A soak of ten minutes: a quiet service, and one with that memory after so many events."""
    noise = random.Random(1)
    return [
        Sample(n * RATE, {"quiet": 90 + noise.uniform(-3, 3), "x": mb_of(n * RATE) + noise.uniform(-3, 3)}, {"x": 7})
        for n in range(count)
    ]


def test_what_stays_as_it_is_holds() -> None:
    assert leaking(samples(lambda _: 120.0)) == {}


@pytest.mark.parametrize("bytes_per_event", [120, 300, 5_000])
def test_a_leak_of_a_few_bytes_an_event_is_caught(bytes_per_event: int) -> None:
    found = samples(lambda events: 100 + bytes_per_event * events / 1e6)
    assert set(leaking(found)) == {"x"}
    assert growth(found)["x"] == pytest.approx(bytes_per_event, rel=0.2)


def test_warming_up_is_no_leak() -> None:
    assert leaking(samples(lambda events: 100 + min(events, 300_000) / 1_000)) == {}


def test_one_step_is_no_leak_and_a_staircase_is() -> None:
    assert leaking(samples(lambda events: 100 + 30 * (events > 600_000))) == {}
    assert set(leaking(samples(lambda events: 100 + 30 * (events // 120_000)))) == {"x"}


def test_what_died_meanwhile_does_not_hold() -> None:
    found = samples(lambda _: 100.0)
    found[40] = Sample(found[40].events, found[40].mb, {"x": 8})
    assert leaking(found) == {"x": float("inf")}


PROGRAM = """
import sys
kept = []
for line in sys.stdin:
    for _ in range(int(line)):
        made = bytearray(2_000)
        if sys.argv[1] == "leaks":
            kept.append(made)
    print(flush=True)
"""


@pytest.mark.parametrize("does", ["leaks", "forgets"])
def test_a_process_that_really_leaks_is_caught(does: str) -> None:
    command = [sys.executable, "-c", PROGRAM, does]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        meter = Meter(lambda: {"x": process.pid})
        for n in range(20):
            meter.sample(n * 1_000)
            process.stdin.write("1000\n")
            process.stdin.flush()
            process.stdout.readline()
        process.stdin.close()
    assert set(leaking(meter.samples)) == ({"x"} if does == "leaks" else set())


def soaked(**changes: object) -> soak.Soaked:
    values = {"offers": 700_000, "seconds": 600.0, "took": [0.1] * 1000, "lost": 0, "samples": samples(lambda _: 100.0)}
    values["cores"] = {}
    return soak.Soaked(**values | changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (soaked(), []),
        (soaked(samples=samples(lambda events: events / 5_000)), ["memory of x grows by"]),
        (soaked(lost=3), ["3 offers never became visible"]),
        (soaked(took=[0.1] * 900 + [1.5] * 100), ["p99 is 1.50 s, not below 1 s"]),
        (soaked(offers=300_000), ["only 500 offers/s were sent, not 1200"]),
    ],
    ids=["all is well", "leak", "loss", "late", "too slow to tell"],
)
def test_the_verdict_says_what_is_wrong_and_ends_with_one(found: soak.Soaked, why: list[str]) -> None:
    faults = found.faults(1200)
    assert len(faults) == len(why)
    assert all(words in fault for words, fault in zip(why, faults, strict=True))
    assert soak.verdict(found, 1200).startswith("FAILED" if why else "holds")
    assert soak.exit_code(found, 1200) == (1 if why else 0)


@pytest.mark.parametrize("revision", [1, 2, 63, 64, 300, 10_000])
def test_a_replacement_encoded_beforehand_is_the_record_that_the_client_makes(revision: int) -> None:
    client = Client("127.0.0.1:1", FSP_A)
    try:
        offer = replace(varied(core.offer_of(0, "area-0", FSP_A), 0).offer, revision=revision)
        event = ev.FlexOfferReplaced(area_id="area-0", offer=offer)
        wanted, found = client.record(event, event_id="x"), soak.Revised(client, event).record(revision, "x")
    finally:
        client.close()
    assert (found.value, found.key) == (wanted.value, wanted.key)
    assert found.headers.keys() == wanted.headers.keys()
    assert {**found.headers, "ce_time": ""} == {**wanted.headers, "ce_time": ""}
