"""Answers that can be worked out on paper: two buses, and prices on a feeder with hardly any losses."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from clearing.canonical import canonical_case
from clearing.case import Case
from clearing.pipeline import solve
from flexbus.quantities import Direction
from tests.clearing_cases import bus, case, chain, injection, network, offer
from tests.clearing_cases import line as a_line

VOLT = 20_000.0
R, X = 0.25 * 20, 0.12 * 20  # 20 km


def two_buses(watts: int, var: int, **more: Any) -> Case:
    line = replace(a_line("l1", "b0", "b1", 20.0), b_s=0.0)
    net = network([bus("b0"), bus("b1")], [line], price=50_000)
    return canonical_case(case(net, [injection("b1", [watts], [var])], **more))


@pytest.mark.parametrize(("p", "q"), [(-1_000_000, -300_000), (600_000, 0), (-200_000, 400_000)])
def test_prices_of_two_buses_are_the_derivative_of_the_quadratic(p: int, q: int) -> None:
    # w^2 - (1 + 2 (r p + x q)) w + |z|^2 |s|^2 = 0, losses r |s|^2 / w; all per unit of nominal voltage.
    cleared = solve(two_buses(p, q))
    r, x = R / VOLT**2, X / VOLT**2
    a, c = 1 + 2 * (r * p + x * q), (r * r + x * x) * (p * p + q * q)
    w = (a + np.sqrt(a * a - 4 * c)) / 2
    by_p = (2 * r * w - 2 * (r * r + x * x) * p) / (2 * w - a)
    by_q = (2 * x * w - 2 * (r * r + x * x) * q) / (2 * w - a)
    loss_p = r * (2 * p / w - (p * p + q * q) / w**2 * by_p)
    loss_q = r * (2 * q / w - (p * p + q * q) / w**2 * by_q)
    assert cleared.prices.total_p()[0, 1] == pytest.approx(50 * (1 - loss_p), abs=1e-8)
    assert cleared.prices.total_q()[0, 1] == pytest.approx(50 * -loss_q, abs=1e-8)


def test_curtailment_at_the_voltage_limit_solves_the_quadratic() -> None:
    given = two_buses(6_000_000, 0, offers=(offer("sun", "b1", Direction.DOWN, [[(6_000_000, 10_000)]]),))
    cleared = solve(given)
    r, x = R / VOLT**2, X / VOLT**2
    w = 1.05**2
    # |z|^2 p^2 - 2 r w p + w^2 - w = 0, the smaller root
    z2 = r * r + x * x
    p = (2 * r * w - np.sqrt((2 * r * w) ** 2 - 4 * z2 * (w * w - w))) / (2 * z2)
    assert cleared.awards[0, 0] == pytest.approx(6_000_000 - p, abs=1.0)
    # One more W there must be curtailed again at 10, and saves nothing: the bus is worth minus the bid.
    assert cleared.prices.total_p()[0, 1] == pytest.approx(-10.0, abs=1e-6)


def test_prices_of_a_binding_voltage_follow_the_shared_resistance() -> None:
    """Without losses the price of bus i is the limit's multiplier times the path it shares with the bound bus.

    Closed form of LinDistFlow prices (Bose, Chen, Zhang, arXiv 2305.00400): p_i = -2 mu R_in, q_i = -2 mu X_in.
    """
    net = chain(6, km=0.5)
    buses = tuple(replace(b, max_voltage_ppm=1_000_600) for b in net.buses)
    branches = tuple(replace(b, b_s=0.0) for b in net.branches)
    side = replace(a_line("side", "b2", "b9", 0.5), b_s=0.0)
    net = replace(net, buses=(*buses, replace(bus("b9"), max_voltage_ppm=1_000_600)), branches=(*branches, side))
    given = case(
        net,
        [injection(f"b{k}", [100_000]) for k in range(1, 5)] + [injection("b5", [900_000])],
        offers=(offer("end", "b5", Direction.DOWN, [[(1_000_000, 20_000)]]),),
    )
    cleared = solve(canonical_case(given))
    price = dict(zip(cleared.grid.bus_ids, cleared.prices.total_p()[0], strict=True))
    reactive = dict(zip(cleared.grid.bus_ids, cleared.prices.total_q()[0], strict=True))
    shared = {"b0": 0, "b1": 1, "b2": 2, "b3": 3, "b4": 4, "b5": 5, "b9": 2}
    assert price["b5"] == pytest.approx(-20.0, abs=1e-6)
    for bus_id, lines in shared.items():
        assert price[bus_id] == pytest.approx(-20.0 * lines / 5, abs=0.05)
        assert reactive[bus_id] == pytest.approx(-20.0 * lines / 5 * 0.12 / 0.25, abs=0.05)
