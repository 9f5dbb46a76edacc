"""Integers keep what the optimum kept: budgets, limits, no slot off by a whole quantum."""

from itertools import pairwise

from clearing import clear
from clearing.case import Settings
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
