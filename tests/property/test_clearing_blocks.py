"""Every choice of blocks is tried: the best in which nobody loses is made, and the others hear what they forgo."""

from functools import cache

import pytest

from clearing import Case, Result, clear
from clearing.canonical import canonical_case
from clearing.certificate import certify
from clearing.pipeline import solve
from clearing.result import NonAward
from flexbus.events.clearing import NonAwardReason
from tests.block_market import HOURS, Choice, block_market, choices

# (seed, number of blocks): 2 ** blocks choices each.
MARKETS = [(seed, 5) for seed in range(40)] + [(seed, 8) for seed in (0, 1, 2, 10, 14, 19)]
# EUR: a block that earns less than this beyond its bid is at a loss (as in the rule).
LOSS = 1e-4
# EUR per MWh: what prices are right to.
PRICE = 0.01


@cache
def cleared(seed: int, blocks: int) -> tuple[Case, Result, list[Choice]]:
    given = block_market(seed, blocks)
    return given, clear(given), choices(given)


def best_of(tried: list[Choice]) -> Choice:
    """The cheapest choice in which no accepted block loses."""
    return min((c for c in tried if all(c.profit[b] >= -LOSS for b in c.accepted)), key=lambda c: c.cost)


def accepted_blocks(given: Case, result: Result) -> frozenset[str]:
    blocks = {o.offer_id for o in given.offers if o.all_or_nothing}
    return frozenset(o.offer_id for o in result.offers if o.offer_id in blocks and any(o.quantity))


@pytest.mark.parametrize(("seed", "blocks"), MARKETS)
def test_the_best_choice_in_which_nobody_loses_is_made(seed: int, blocks: int) -> None:
    given, result, tried = cleared(seed, blocks)
    best = best_of(tried)
    assert accepted_blocks(given, result) == best.accepted
    made = solve(canonical_case(given))
    infeed = float((made.repair.base_values["root_p"] * made.repair.energy_price).sum())
    cost = float(made.optimum.merit.sum()) + infeed
    assert abs(cost - best.cost) <= 1e-6 * max(1.0, abs(best.cost))
    assert certify(given, result).findings == ()


TIED = {NonAwardReason.EXCLUSIVE_SIBLING, NonAwardReason.PARENT_NOT_TAKEN}


@pytest.mark.parametrize(("seed", "blocks"), MARKETS)
def test_a_rejected_block_hears_what_it_forgoes_at_the_prices(seed: int, blocks: int) -> None:
    given, result, tried = cleared(seed, blocks)
    best = best_of(tried)
    rows: dict[str, list[NonAward]] = {}
    for row in result.non_awards:
        rows.setdefault(row.offer_id, []).append(row)
    for offer in given.offers:
        if not offer.all_or_nothing:
            continue
        if offer.offer_id in best.accepted:
            assert offer.offer_id not in rows
            continue
        (row,) = rows[offer.offer_id]
        energy = sum(s.quantity for e in offer.slots for s in e.steps) / 1e6 * HOURS
        forgone = best.profit[offer.offer_id]
        if abs(forgone) <= PRICE * energy:
            continue  # at the price itself, to the last digit
        if forgone > 0:
            assert row.reason in TIED | {NonAwardReason.PARADOXICAL_BLOCK}
            assert row.amount / 1e9 == pytest.approx(forgone, abs=PRICE * energy)
            if row.reason is NonAwardReason.PARADOXICAL_BLOCK:
                group = {o.offer_id for o in given.offers if o.exclusive_group_id == offer.exclusive_group_id}
                assert offer.exclusive_group_id is None or not group & best.accepted
                assert offer.parent_offer_id is None or offer.parent_offer_id in best.accepted
        else:
            assert row.reason in (NonAwardReason.PRICE, NonAwardReason.NO_DEMAND)
            assert row.price_distance_milli_per_mwh is not None
            assert row.price_distance_milli_per_mwh / 1e3 == pytest.approx(-forgone / energy, abs=PRICE)


def test_the_markets_have_what_makes_blocks_hard() -> None:
    """Choices that are cheaper but make somebody lose, paradoxical rejections, groups and parents that decide."""
    costly, reasons = 0, list[NonAwardReason]()
    for seed, blocks in MARKETS:
        _, result, tried = cleared(seed, blocks)
        costly += min(tried, key=lambda c: c.cost).cost < best_of(tried).cost - 1e-3
        reasons += [row.reason for row in result.non_awards if row.offer_id.startswith("block")]
    assert costly >= 5
    assert min(map(reasons.count, TIED | {NonAwardReason.PARADOXICAL_BLOCK})) >= 1
