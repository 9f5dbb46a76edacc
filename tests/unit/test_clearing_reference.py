"""The fast path and its readable twin, and a second solver, agree on objective and prices."""

from dataclasses import replace

import numpy as np
import pytest

from clearing.canonical import canonical_case
from clearing.case import Case, Location
from clearing.exactness import slot_problem
from clearing.formulation import SlotProblem
from clearing.pipeline import solve
from clearing.reference import solve_reference
from clearing.relaxation import solve_slot
from flexbus.quantities import Direction
from tests.clearing_cases import case, chain, injection, market_day, offer, request
from tests.regimes import regime


def problem_of(given: Case, slot: int) -> SlotProblem:
    cleared = solve(canonical_case(given))
    return slot_problem(cleared.repair, cleared.point, cleared.multipliers, cleared.prices, slot)


def overloaded() -> Case:
    """Thermal limits, a request over a branch and one at the infeed point, reactive offers, energy at 60."""
    net = chain(5, max_a=120, price=60_000)
    net = replace(
        net,
        branches=tuple(replace(b, max_from_current_ma=110_000, max_apparent_power_va=4_000_000) for b in net.branches),
        infeed_points=tuple(replace(p, max_import_w=4_200_000) for p in net.infeed_points),
    )
    from clearing.case import Quantity

    return case(
        net,
        [injection(f"b{k}", [-1_100_000], [-300_000]) for k in range(1, 5)],
        offers=(
            offer("p", "b4", Direction.UP, [[(300_000, 70_000), (400_000, 90_000)]]),
            offer("q", "b4", Direction.UP, [[(900_000, 2_000)]], quantity=Quantity.REACTIVE),
            offer("r", "b2", Direction.UP, [[(500_000, 80_000)]]),
        ),
        requests=(
            request("line", Direction.UP, [[(200_000, 50_000)]], location_kind=Location.BRANCH, location_id="l3"),
            request("zone", Direction.UP, [[(100_000, 30_000)]], location_kind=Location.ZONE, location_id="near"),
            request(
                "root", Direction.UP, [[(250_000, 20_000)]], location_kind=Location.INFEED_POINT, location_id="root"
            ),
        ),
    )


CASES = {
    "overloaded": (overloaded, 0),
    "day": (lambda: market_day(1, 15, 6, 30, price=50_000, feed_in=20e6), 3),
    "regime": (lambda: regime("case33bw", 3.0, 1.05, 40), 0),
}


@pytest.mark.parametrize("name", CASES)
def test_fast_path_equals_its_twin(name: str) -> None:
    made, slot = CASES[name]
    problem = problem_of(made(), slot)
    fast, twin = solve_slot(problem), solve_reference(problem)
    assert fast.solved
    assert fast.bound == pytest.approx(twin.value, rel=1e-6, abs=1e-5)
    assert np.abs(fast.balance_p - twin.balance_p).max() < 1e-3
    assert np.abs(fast.balance_q - twin.balance_q).max() < 1e-3


@pytest.mark.parametrize("solver", ["ECOS", "QOCO"])
def test_second_solver_agrees(solver: str) -> None:
    problem = problem_of(overloaded(), 0)
    assert solve_reference(problem, solver).value == pytest.approx(solve_slot(problem).bound, rel=1e-6, abs=1e-4)


def test_prices_of_the_dispatch_are_the_multipliers_of_an_exact_relaxation() -> None:
    given = canonical_case(overloaded())
    cleared = solve(given)
    assert cleared.bound.exact.all()
    relaxed = solve_slot(slot_problem(cleared.repair, cleared.point, cleared.multipliers, cleared.prices, 0))
    p, q = cleared.prices.physical()
    node = cleared.grid.node_of_bus
    assert np.abs(relaxed.balance_p[node] - p[0]).max() < 0.01
    assert np.abs(relaxed.balance_q[node] - q[0]).max() < 0.01
    value = float(cleared.point.merit.sum())
    assert value == pytest.approx(cleared.bound.value, abs=2e-3)
