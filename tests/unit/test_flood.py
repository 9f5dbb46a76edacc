"""The flood's own judgement: it tells a process that keeps what waits from one that does not."""

from dataclasses import replace
from typing import Any

import pytest

from streams.services import SERVICES
from tests.bench.flood import MOST_MB, Flooded, Wave
from tests.chaos.checker import Report

NAMES = [f"{service}-0" for service in SERVICES]
PIDS = dict.fromkeys(NAMES, 7)
FIRST = Wave(offers=1_000, mb=50.0, sent_s=0.2, took_s=5.0, peak_mb=dict.fromkeys(NAMES, 150.0), pids=PIDS)
SECOND = Wave(offers=4_000, mb=200.0, sent_s=1.0, took_s=20.0, peak_mb=dict.fromkeys(NAMES, 160.0), pids=PIDS)


def flood(report: Report | None = None, **changes: Any) -> Flooded:
    return Flooded(FIRST, replace(SECOND, **changes), report or Report(marked=5_000), 5_000)


def test_what_takes_no_more_for_more_holds() -> None:
    assert flood().faults == []
    assert flood().verdict().startswith("holds: 4000 offers, 20 times as fast")


@pytest.mark.parametrize("name", NAMES)
def test_a_process_that_keeps_what_waits_is_named(name: str) -> None:
    kept = {**SECOND.peak_mb, name: 150.0 + (SECOND.mb - FIRST.mb)}  # even if it keeps bare bytes
    (fault,) = flood(peak_mb=kept).faults
    assert fault == f"{name} takes 150 MB more for 150 MB more that wait"


def test_only_the_sequencer_has_a_queue_that_a_small_wave_does_not_fill() -> None:
    small, large = replace(FIRST, mb=10.0), replace(SECOND, mb=70.0)
    for name, faults in (("sequencer-0", 0), ("clearing-0", 1)):
        peak_mb = {**SECOND.peak_mb, name: 150.0 + 60.0}
        assert len(Flooded(small, replace(large, peak_mb=peak_mb), Report(marked=5_000), 5_000).faults) == faults


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (flood(took_s=9.0), "only 9.0 times as fast"),
        (flood(mb=50.0 + 1.5 * MOST_MB), "too few to tell a queue from chance"),
        (flood(pids={**PIDS, "clearing-0": 8}), "clearing-0 died"),
        (flood(peak_mb=dict.fromkeys(NAMES[1:], 160.0)), "nothing is known of sequencer-0"),
        (flood(Report(marked=5_000, lost=1)), "not exactly once"),
        (flood(Report(marked=4_999)), "5000 offers were sent, 4999 arrived"),
    ],
    ids=["slow", "small", "died", "missing", "lost", "never sent"],
)
def test_a_run_that_proves_nothing_does_not_hold(found: Flooded, why: str) -> None:
    (fault,) = found.faults
    assert why in fault
    assert found.verdict().startswith("FAILED: ")
