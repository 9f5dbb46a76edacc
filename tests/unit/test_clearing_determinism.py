"""The same case gives the same bytes: in fresh processes, with other hash seeds and thread counts, in any order."""

import hashlib
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from clearing import Case, clear
from clearing.convert.cases import convert_case
from clearing.files import case_to_text, result_to_text
from flexbus.events import SlotStatus
from tests.regimes import regime

PROGRAM = """
import sys, hashlib
from clearing import clear
from clearing.files import read_case, result_to_text
case = read_case(sys.stdin.read())
print(hashlib.sha256(result_to_text(clear(case)).encode()).hexdigest())
"""


def day() -> Case:
    return convert_case("matpower", "case33bw", day="sunny", slots=6, offers=40, seed=2)


def shuffled(case: Case, seed: int) -> Case:
    rng = random.Random(seed)
    net = case.network

    def mixed(items):  # type: ignore[no-untyped-def]
        return tuple(rng.sample(items, len(items)))

    return replace(
        case,
        network=replace(net, buses=mixed(net.buses), branches=mixed(net.branches)),
        baseline=mixed(case.baseline),
        offers=mixed(case.offers),
        requests=mixed(case.requests),
        units=mixed(case.units),
    )


@pytest.mark.parametrize(("seed", "threads"), [("0", "1"), ("12345", "2")])
def test_fresh_process_gives_the_same_bytes(seed: str, threads: str) -> None:
    here = hashlib.sha256(result_to_text(clear(day())).encode()).hexdigest()
    environment = os.environ | {"PYTHONHASHSEED": seed}
    environment |= {f"{name}_NUM_THREADS": threads for name in ("OMP", "OPENBLAS", "MKL", "RAYON")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=case_to_text(shuffled(day(), int(seed))),
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.split() == [here]


def test_every_kind_of_order_is_forgotten() -> None:
    first = result_to_text(clear(day()))
    assert any(any(o.quantity) for o in clear(day()).offers)
    for seed in range(3):
        assert result_to_text(clear(shuffled(day(), seed))) == first


def test_workers_give_the_same_bytes() -> None:
    """Reverse flow at the voltage limit: every slot needs the cone solver."""
    one = regime("case33bw", 3.0, 1.05, 40)
    case = replace(
        one,
        slots=3,
        baseline=tuple(
            replace(b, power_w=b.power_w * 3, reactive_power_var=b.reactive_power_var * 3) for b in one.baseline
        ),
        infeed_prices=tuple(replace(p, price_milli_per_mwh=p.price_milli_per_mwh * 3) for p in one.infeed_prices),
        offers=tuple(replace(o, slots=o.slots * 3) for o in one.offers),
    )
    alone = clear(case)
    assert alone.status is SlotStatus.REPAIRED
    assert result_to_text(clear(case, workers=2)) == result_to_text(alone)
