"""Integers keep what the optimum kept: budgets, limits, no slot off by a whole quantum."""

from itertools import pairwise

import pytest

from clearing import clear
from clearing.case import InfeedPrice, Settings, Unit, UnitKind
from clearing.certificate import certify
from flexbus.quantities import Direction
from tests.clearing_cases import case, chain, injection, offer

SLOTS = 40


def test_an_energy_budget_is_rounded_without_breaking_a_limit() -> None:
    """Rounded up everywhere, a budget would be overdrawn by many quanta; no single slot may pay for them."""
    rising = [4_000_000 + 7_300 * t for t in range(SLOTS)]
    cheap = [[(600_000, 10_000)]] * SLOTS
    dear = [[(2_000_000, 50_000)]] * SLOTS
    given = case(
        chain(6, km=6.0),
        [injection("b5", rising)],
        slots=SLOTS,
        offers=(
            offer("cheap", "b5", Direction.DOWN, cheap, max_energy_wh=3_333_333),
            offer("dear", "b5", Direction.DOWN, dear),
        ),
        settings=Settings(quantity_step_w=1000),
    )
    result = clear(given)
    awarded = {o.offer_id: o.quantity for o in result.offers}
    assert 3_300_000 < sum(awarded["cheap"]) / 4 <= 3_333_333
    assert all(w % 1000 == 0 for w in (*awarded["cheap"], *awarded["dear"]))
    assert [s.shortfalls for s in result.slots] == [()] * SLOTS
    whole = [a + b for a, b in zip(awarded["cheap"], awarded["dear"], strict=True)]
    steps = [later - earlier for earlier, later in pairwise(whole)]
    assert max(steps) - min(steps) <= 2000  # relief grows as evenly as the feed-in does


def test_whole_watts_leave_no_storage_with_less_than_it_must_hold() -> None:
    """A day of buying cheap and selling dear: the value is never below what no dispatch costs less than."""
    prices = tuple(20_000 + 7_919 * (t * t % 13) for t in range(24))
    store = Unit(
        unit_id="s",
        kind=UnitKind.STORAGE,
        initial_energy_wh=112_600,
        max_energy_wh=225_200,
        min_final_energy_wh=112_600,
        charge_efficiency_ppm=951_000,
        discharge_efficiency_ppm=947_000,
        self_discharge_ppm_per_h=1_200,
    )
    given = case(
        chain(4),
        [injection("b3", [-300_000] * 24, [-60_000] * 24)],
        slots=24,
        offers=(
            offer("in", "b3", Direction.DOWN, [[(61_001, 1_000)]] * 24, unit_id="s"),
            offer("out", "b3", Direction.UP, [[(59_003, 1_000)]] * 24, unit_id="s"),
        ),
        units=(store,),
        infeed_prices=(InfeedPrice(infeed_id="root", price_milli_per_mwh=prices),),
    )
    result = clear(given)
    taken = {o.offer_id: o.quantity for o in result.offers}
    stored = 112_600.0
    for t in range(24):
        stored *= (1 - 1_200e-6) ** 0.25
        stored += (taken["in"][t] * 0.951 - taken["out"][t] / 0.947) / 4
    assert any(taken["out"])
    assert 112_600 - 0.01 <= stored < 112_602
    assert result.certificate.gap_nano is not None
    assert result.certificate.gap_nano >= 0


@pytest.mark.parametrize(
    "more",
    [
        {"max_rise": 59_731, "max_fall": 51_168, "max_energy_wh": 350_123},
        {"min_energy_wh": 350_123, "max_energy_wh": 350_123},
    ],
)
def test_a_budget_is_shared_in_whole_watts_where_quanta_would_break_another_rule(more: dict[str, int]) -> None:
    """A ramp, or energy that must be had, leaves no room for a slot that is short of half a quantum."""
    uneven = [4_000_000 + (864_199 * t) % 700_000 for t in range(8)]
    given = case(
        chain(6, km=6.0),
        [injection("b5", uneven)],
        slots=8,
        offers=(
            offer("cheap", "b5", Direction.DOWN, [[(600_000, 10_000)]] * 8, **more),
            offer("dear", "b5", Direction.DOWN, [[(2_000_000, 50_000)]] * 8),
        ),
        settings=Settings(quantity_step_w=50_000),
    )
    result = clear(given)
    assert sum(result.offers[0].quantity) // 4 in range(350_120, 350_124)
    assert certify(given, result).findings == ()
