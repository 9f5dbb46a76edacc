"""Prices against finite differences of full re-clearing, brute force on tiny markets, and market properties."""

import itertools
import random
from dataclasses import replace

import numpy as np
import pytest

from clearing import clear
from clearing.canonical import canonical_case
from clearing.case import Case, Location, Quantity, Settings
from clearing.pipeline import Cleared, solve
from clearing.power_flow import solve_ac
from flexbus.quantities import Direction
from tests.clearing_cases import bus, case, chain, injection, line, market_day, network, offer, request
from tests.regimes import regime

UP, DOWN = Direction.UP, Direction.DOWN


def objective(given: Case) -> float:
    return float(solve(canonical_case(given)).optimum.merit.sum())


def shifted(given: Case, bus_id: str, slot: int, watts: int, var: int = 0) -> Case:
    entries = {b.bus_id: b for b in given.baseline}
    old = entries.get(bus_id, injection(bus_id, [0] * given.slots))
    p, q = list(old.power_w), list(old.reactive_power_var)
    p[slot] += watts
    q[slot] += var
    entries[bus_id] = injection(bus_id, p, q)
    return replace(given, baseline=tuple(entries.values()))


def infeed_shift(given: Case, bus_id: str, slot: int, watts: int, var: int) -> float:
    """What the same injection costs at the infeed without any market: the objective counts from there."""
    total = 0.0
    for c, sign in ((shifted(given, bus_id, slot, watts, var), 1.0), (given, -1.0)):
        cleared = solve(canonical_case(replace(c, offers=(), requests=())))
        root = cleared.repair.base_values["root_p"]
        total += sign * float((root * cleared.repair.energy_price).sum())
    return total


BUSES = 3


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(lambda: market_day(5, 15, 6, 40, price=45_000, feed_in=18e6), id="sunny-priced"),
        pytest.param(lambda: market_day(7, 15, 6, 40, price=0, feed_in=24e6), id="sunny-free"),
        pytest.param(lambda: regime("case33bw", 3.0, 1.05, 40), id="regime-40"),
        pytest.param(lambda: regime("case33bw", 3.0, 1.05, 0), id="regime-0"),
        pytest.param(lambda: regime("case69", 4.0, 1.05, -30), id="regime-minus-30"),
    ],
)
def test_price_lies_between_the_one_sided_differences_of_re_clearing(given) -> None:  # type: ignore[no-untyped-def]
    made = given()
    cleared: Cleared = solve(canonical_case(made))
    rng = random.Random(1)
    slot = int(np.argmax(cleared.prices.total_p().std(axis=1)))
    here = objective(made)
    step = 2_000
    for bus_id in rng.sample([b for b in cleared.grid.bus_ids if b not in ("b0000", "bus1")], BUSES):
        k = cleared.grid.bus_ids.index(bus_id)
        for watts, var, price in (
            (step, 0, cleared.prices.total_p()[slot, k]),
            (0, step, cleared.prices.total_q()[slot, k]),
        ):
            up = objective(shifted(made, bus_id, slot, watts, var)) + infeed_shift(made, bus_id, slot, watts, var)
            down = objective(shifted(made, bus_id, slot, -watts, -var)) + infeed_shift(made, bus_id, slot, -watts, -var)
            right, left = -(up - here) / (step / 1e6), -(here - down) / (step / 1e6)
            low, high = min(left, right), max(left, right)
            # A step of 2 kW bends the derivative a little; outside kinks both sides agree to this.
            slack = 0.01 + 1e-4 * abs(price)
            assert low - slack <= price <= high + slack, (bus_id, low, price, high)


def test_tiny_market_equals_brute_force_over_gridded_dispatches() -> None:
    """Three buses, voltage and current limits, energy at a price: no dispatch on a 25 kW grid is better."""
    net = network(
        [bus("b0"), bus("b1", band=(960_000, 1_020_000)), bus("b2", band=(960_000, 1_020_000))],
        [line("l1", "b0", "b1", 4.0, 60.0), line("l2", "b1", "b2", 5.0, 60.0)],
        price=40_000,
    )
    given = case(
        net,
        [injection("b1", [500_000], [0]), injection("b2", [2_300_000], [100_000])],
        offers=(
            offer("a", "b1", DOWN, [[(300_000, -20_000)]]),
            offer("b", "b2", DOWN, [[(250_000, -15_000), (350_000, 10_000)]]),
            offer("c", "b2", UP, [[(200_000, 30_000)]]),
        ),
        settings=Settings(voltage_price_milli_per_puh=100_000_000, loading_price_milli_per_mwh=500_000),
    )
    cleared = solve(canonical_case(given))
    mine = float(cleared.point.merit[0])
    grids = [range(0, 300_001, 25_000), range(0, 250_001, 25_000), range(0, 350_001, 25_000), range(0, 200_001, 50_000)]
    points = np.array(list(itertools.product(*grids)), dtype=float)
    a, b1, b2, c = points.T
    p = np.stack([0 * a, 500_000 - a, 2_300_000 - b1 - b2 + c], axis=1)
    q = np.tile([0.0, 0.0, 100_000.0], (len(p), 1))
    state = solve_ac(net, p, q)
    base = solve_ac(net, np.array([[0.0, 5e5, 2.3e6]]), np.array([[0.0, 0.0, 1e5]]))
    v = np.abs(state.voltage_pu[:, 1:])
    over = np.maximum(v - 1.02, 0).sum(axis=1) + np.maximum(0.96 - v, 0).sum(axis=1)
    rating = 60 * 3**0.5 * 20_000 / 1e6
    amps = np.maximum(state.i_to_a * 3**0.5 * 20_000 / 1e6 - rating, 0).sum(axis=1)
    energy = (state.root_p_w[:, 0] - base.root_p_w[0, 0]) / 1e6 * 40
    bids = (-20 * a - 15 * b1 + 10 * b2 + 30 * c) / 1e6
    cost = bids + energy + 100_000 * over + 500 * amps
    assert mine <= cost.min() + 1e-6
    # And the best point of the grid is not far: the optimum is not an artefact of a wrong cost.
    assert mine >= cost.min() - 2.0


def test_no_accepted_block_loses_money_and_a_rejected_one_says_what_it_forgoes() -> None:
    for seed in range(4):
        given = market_day(seed + 20, 12, 8, 60, feed_in=30e6)
        result = clear(given)
        offers = {o.offer_id: o for o in given.offers}
        for o in result.offers:
            if offers[o.offer_id].all_or_nothing and any(o.quantity):
                assert o.revenue_nano >= o.cost_nano - 1_000_000  # a tenth of a cent


def random_cases() -> list[Case]:
    return [
        market_day(seed, 14, 6, 40, price=price, feed_in=feed)
        for seed, price, feed in ((30, 0, 30e6), (31, 50_000, 9e6), (32, 40_000, 30e6), (33, -20_000, 12e6))
    ]


@pytest.mark.parametrize("given", random_cases(), ids=lambda c: "case")
def test_every_accepted_offer_earns_at_least_what_it_bid(given: Case) -> None:
    """Individual rationality over the horizon; a budget's own scarcity is part of what it earns."""
    for o in clear(given).offers:
        assert o.revenue_nano >= o.cost_nano - max(2_000_000, abs(o.cost_nano) // 10_000)


@pytest.mark.parametrize("given", random_cases(), ids=lambda c: "case")
def test_no_cheap_step_is_left_and_no_dear_step_is_taken(given: Case) -> None:
    cleared = solve(canonical_case(given))
    for k, o in enumerate(cleared.market.offers):
        if o.max_energy_wh is not None or o.all_or_nothing:
            continue
        for t, entry in enumerate(o.slots):
            got = int(cleared.awards[k, t])
            filled = 0
            for step in entry.steps:
                part = max(0, min(got - filled, step.quantity))
                filled += step.quantity
                value, bid = cleared.value[k, t], step.price_milli_per_mwh / 1e3
                if part < step.quantity:
                    assert value <= bid + 0.01
                if part > 0:
                    assert value >= bid - 0.01


def test_another_offer_never_raises_the_cost() -> None:
    for given in random_cases():
        divisible = replace(given, offers=tuple(o for o in given.offers if not o.all_or_nothing))
        fewer = replace(divisible, offers=divisible.offers[:-10])
        assert objective(divisible) <= objective(fewer) + 1e-5


def test_one_offer_or_the_same_in_two_halves_is_the_same_market() -> None:
    given = market_day(31, 14, 6, 40, price=50_000, feed_in=25e6)
    plain = tuple(o for o in given.offers if not o.all_or_nothing and o.max_energy_wh is None)
    halves = []
    for o in plain:
        for half in ("a", "b"):
            slots = tuple(
                replace(e, steps=tuple(replace(s, quantity=s.quantity // 2) for s in e.steps)) for e in o.slots
            )
            halves.append(replace(o, offer_id=o.offer_id + half, slots=slots))
    whole = solve(canonical_case(replace(given, offers=plain)))
    split = solve(canonical_case(replace(given, offers=tuple(halves))))
    assert float(whole.optimum.merit.sum()) == pytest.approx(float(split.optimum.merit.sum()), rel=1e-8)
    assert np.abs(whole.prices.total_p() - split.prices.total_p()).max() < 1e-3


@pytest.mark.parametrize("seed", range(32, 38))
def test_renumbered_buses_and_flipped_branches_change_nothing(seed: int) -> None:
    """Welfare, awards and prices: bids are drawn so that no two at a place are alike, and the optimum is unique."""
    given = market_day(seed, 14, 6, 30, price=40_000, feed_in=25e6)
    rename = {b.bus_id: f"x{99 - k:02d}" for k, b in enumerate(given.network.buses)}
    lines = {b.branch_id: f"y{99 - k:02d}" for k, b in enumerate(given.network.branches)}
    rng = random.Random(seed)
    for names in (rename, lines):
        mixed = list(names.values())
        rng.shuffle(mixed)
        names.update(zip(list(names), mixed, strict=True))
    net = given.network
    renamed = replace(
        given,
        network=replace(
            net,
            buses=tuple(replace(b, bus_id=rename[b.bus_id]) for b in net.buses),
            branches=tuple(
                replace(
                    b,
                    branch_id=lines[b.branch_id],
                    from_bus_id=rename[b.to_bus_id],
                    to_bus_id=rename[b.from_bus_id],
                    max_current_ma=None,
                    max_from_current_ma=b.max_current_ma,
                )
                for b in net.branches
            ),
            infeed_points=tuple(replace(p, bus_id=rename[p.bus_id]) for p in net.infeed_points),
        ),
        baseline=tuple(replace(b, bus_id=rename[b.bus_id]) for b in given.baseline),
        offers=tuple(replace(o, bus_id=rename[o.bus_id]) for o in given.offers),  # type: ignore[index]
    )
    a, b = solve(canonical_case(given)), solve(canonical_case(renamed))
    assert float(a.optimum.merit.sum()) == pytest.approx(float(b.optimum.merit.sum()), rel=1e-7)
    assert a.awards.any()
    # A watt: an award between two whole ones is rounded to either.
    assert np.abs(a.awards - b.awards).max() <= 1
    order = [b.grid.bus_ids.index(rename[bus_id]) for bus_id in a.grid.bus_ids]
    for first, second in ((a.prices.total_p(), b.prices.total_p()), (a.prices.total_q(), b.prices.total_q())):
        assert np.abs(first - second[:, order]).max() <= 1e-3


def test_active_and_reactive_payments_cost_the_network_no_more_than_they_save_it() -> None:
    """What requests do not pay is less than the energy and the limits saved: the saving falls with every MW."""
    given = replace(
        chain_request(),
        offers=(
            offer("p", "b3", UP, [[(400_000, 20_000)]]),
            offer("q", "b3", UP, [[(400_000, 100)]], quantity=Quantity.REACTIVE),
        ),
    )
    result = clear(given)
    assert all(o.quantity[0] for o in result.offers)
    saved = result.baseline_violation_cost_nano - result.violation_cost_nano - result.infeed_cost_nano
    # A thousandth of a cent for prices of three decimals.
    assert 0 < result.network_residual_nano <= saved + 10_000
    assert result.network_residual_nano == result.cost_nano - result.requests[0].payment_nano


def chain_request() -> Case:
    return case(
        chain(4, price=50_000),
        [injection(f"b{k}", [-900_000], [-400_000]) for k in (1, 2, 3)],
        requests=(request("need", UP, [[(200_000, 30_000)]], location_kind=Location.AREA),),
    )
