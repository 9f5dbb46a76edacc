"""Would the tests see a wrong core? Each test spoils one thing in the clearing and expects a check to turn red."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import clearing.book as book
import clearing.market_offers
import clearing.pipeline as pipeline
from clearing import Case, clear
from clearing.canonical import canonical_case
from clearing.certificate import certify
from clearing.market_offers import build_market
from clearing.network import build_grid
from clearing.power_flow import solve_ac
from flexbus.events.grid import Branch, BranchKind, NetworkModelPublished
from tests.ac_opf import ac_opf
from tests.clearing_cases import bus, line, market_day
from tests.regimes import regime
from tests.unit import test_power_flow


def day(seed: int = 4) -> Case:
    """A sunny day behind a transformer, with shunts; a voltage binds, so that every part of the model matters."""
    case = market_day(seed, 15, 6, 60, price=45_000, feed_in=26e6)
    net = case.network
    transformer = replace(
        line("a001", "a000", "b0000"), kind=BranchKind.TRANSFORMER, r_ohm=0.05, x_ohm=1.2, b_s=0.0, ratio=0.985
    )
    buses = tuple(replace(b, shunt_g_s=2e-6, shunt_b_s=1e-4 if b.bus_id == "b0008" else 0.0) for b in net.buses)
    net = replace(
        net,
        buses=(bus("a000"), *buses),
        branches=(transformer, *(replace(b, r_ohm=1 * b.r_ohm) for b in net.branches)),
        infeed_points=tuple(replace(p, bus_id="a000") for p in net.infeed_points),
    )
    return canonical_case(replace(case, network=net))


def with_branches(change: Callable[[int, Branch], Branch]) -> Callable[[NetworkModelPublished], NetworkModelPublished]:
    return lambda net: replace(net, branches=tuple(change(k, b) for k, b in enumerate(net.branches)))


NETWORKS = {
    "the sign of one resistance": with_branches(lambda k, b: replace(b, r_ohm=-b.r_ohm) if k == 4 else b),
    "line charging dropped": with_branches(lambda k, b: replace(b, b_s=0.0)),
    "bus shunts dropped": lambda net: replace(
        net, buses=tuple(replace(b, shunt_g_s=0.0, shunt_b_s=0.0) for b in net.buses)
    ),
    "the tap on the wrong side": with_branches(lambda k, b: replace(b, ratio=1 / b.ratio)),
    "resistance and reactance swapped": with_branches(
        lambda k, b: replace(b, r_ohm=b.x_ohm, x_ohm=b.r_ohm) if k == 3 else b
    ),
    "a line that does not exist": with_branches(lambda k, b: replace(b, closed=False) if k == 13 else b),
}


def findings(case: Case) -> list[str]:
    return [f"{f.path} {f.message}" for f in certify(case, clear(case)).findings]


def test_the_unspoilt_core_passes() -> None:
    assert findings(day()) == []
    assert any(s.binding for s in clear(day()).slots)


@pytest.mark.parametrize("name", NETWORKS)
def test_wrong_network_is_seen_by_the_certificate(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    spoil = NETWORKS[name]

    def wrong(network: NetworkModelPublished, **margins: int) -> Any:
        return build_grid(spoil(network), **margins)

    monkeypatch.setattr(pipeline, "build_grid", wrong)
    assert findings(day())


@pytest.mark.parametrize("name", [n for n in NETWORKS if "exist" not in n])
def test_wrong_network_is_seen_by_the_external_power_flow(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(test_power_flow, "solve_ac", lambda net, p, q: solve_ac(NETWORKS[name](net), p, q))
    with pytest.raises(AssertionError):
        test_power_flow.test_agrees_with_power_grid_model(0)


def test_baseline_of_the_slot_before_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = pipeline.baseline_injections
    monkeypatch.setattr(pipeline, "baseline_injections", lambda *a: np.roll(right(*a), 1, axis=0))
    assert findings(day())


def test_forgotten_length_of_the_time_step_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def hourly(case: Case, *others: Any) -> Any:
        return build_market(replace(case, resolution_s=3600), *others)

    monkeypatch.setattr(book, "build_market", hourly)
    # Budgets are then four times too small: a schedule that keeps them, but is worse than the bound of the true ones.
    made = clear(day(1))
    monkeypatch.undo()
    best = clear(day(1))
    assert made.certificate.value_nano > best.certificate.value_nano + 1_000_000
    assert made.certificate.gap_nano is not None
    assert best.certificate.gap_nano is not None
    assert made.certificate.gap_nano > 10 * best.certificate.gap_nano


def test_turned_direction_of_offers_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    builder = clearing.market_offers._Builder
    one, many = builder.inject, builder.inject_alone

    def turned(self: Any, k: int, columns: list[int], slots: list[int], amount: float) -> None:
        one(self, k, columns, slots, -amount)

    def all_turned(self: Any, cells: Any, columns: Any, reactive: Any, sign: Any, tan: Any) -> None:
        many(self, cells, columns, reactive, -sign, tan)

    monkeypatch.setattr(builder, "inject_alone", all_turned)
    assert findings(day())
    monkeypatch.undo()
    monkeypatch.setattr(builder, "inject", turned)
    # Offers that more than a budget ties are turned one by one.
    tied = [replace(o, max_rise=10**9) for o in day().offers]
    assert findings(replace(day(), offers=tuple(tied)))


def test_wrong_gradient_is_seen_by_ac_opf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses forgotten in the gradients: the dispatch holds in AC, but it is not the best and its prices are wrong."""
    from clearing.state import PowerFlow

    right = PowerFlow.root_gradients

    def lossless(self: PowerFlow, state: Any, near: Any = None) -> Any:
        by_p, by_q, pull = right(self, state, near)
        return np.full_like(by_p, -1.0), np.zeros_like(by_q), pull

    monkeypatch.setattr(PowerFlow, "root_gradients", lossless)
    case = canonical_case(regime("case33bw", 3.0, 1.05, 40))
    cleared, oracle = pipeline.solve(case), ac_opf(case)
    price = dict(zip(cleared.grid.bus_ids, cleared.prices.total_p()[0], strict=True))
    assert max(abs(price[b] - p) for b, p in oracle.price_p.items()) > 0.01
    assert findings(case)
