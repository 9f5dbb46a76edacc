"""Properties of the whole market: revenue adequacy of P and Q together, and that size does not matter."""

from dataclasses import replace

import numpy as np
import pytest

from clearing.canonical import canonical_case
from clearing.case import Case
from clearing.pipeline import solve
from tests.clearing_cases import injection, market_day
from tests.property.test_clearing_prices import random_cases


@pytest.mark.parametrize("given", random_cases()[:3], ids=lambda c: "case")
def test_what_draw_pays_for_p_and_q_covers_feed_in_and_infeed(given: Case) -> None:
    """Revenue adequacy: at nodal prices of P and Q, draw pays at least what feed-in and the infeed point are paid.

    Of active power alone that need not hold: reactive losses are paid for by draw of reactive power.
    """
    cleared = solve(canonical_case(given))
    p, q = cleared.prices.physical()
    s = cleared.point.state.s
    worth_p, worth_q = np.zeros(s.shape), np.zeros(s.shape)
    worth_p[:, cleared.grid.node_of_bus], worth_q[:, cleared.grid.node_of_bus] = p, q
    paid = -(worth_p * s.real + worth_q * s.imag).sum(axis=1)
    infeed = (cleared.point.values["root_p"] * cleared.repair.energy_price).sum(axis=1)
    assert np.abs(paid).max() > 1.0
    assert ((paid - infeed) >= -1e-6 * np.abs(paid).max()).all(), paid - infeed


@pytest.mark.parametrize("by", [10, 1000])
def test_size_of_the_feeder_does_not_matter(by: int) -> None:
    """Powers times a factor, impedances divided by it: the same prices, and costs times the factor."""
    given = market_day(32, 14, 6, 30, price=40_000, feed_in=25e6)
    net = given.network
    branches = (
        replace(
            b,
            r_ohm=b.r_ohm / by,
            x_ohm=b.x_ohm / by,
            b_s=b.b_s * by,
            max_current_ma=None if b.max_current_ma is None else b.max_current_ma * by,
        )
        for b in net.branches
    )
    offers = (
        replace(
            o,
            max_energy_wh=None if o.max_energy_wh is None else o.max_energy_wh * by,
            slots=tuple(
                replace(e, steps=tuple(replace(s, quantity=s.quantity * by) for s in e.steps)) for e in o.slots
            ),
        )
        for o in given.offers
    )
    worth = given.settings.voltage_price_milli_per_puh * by  # a pu of violation costs as much per MW as before
    large = replace(
        given,
        network=replace(net, branches=tuple(branches)),
        baseline=tuple(
            injection(b.bus_id, [w * by for w in b.power_w], [v * by for v in b.reactive_power_var])
            for b in given.baseline
        ),
        offers=tuple(offers),
        settings=replace(given.settings, voltage_price_milli_per_puh=worth),
    )
    a, b = solve(canonical_case(given)), solve(canonical_case(large))
    assert float(a.optimum.merit.sum()) != 0
    assert float(b.optimum.merit.sum()) == pytest.approx(by * float(a.optimum.merit.sum()), rel=1e-7)
    assert np.abs(a.prices.total_p() - b.prices.total_p()).max() < 0.01
