"""What every slot could still gain at most: recomputed, in parts that add up, and next to nothing where it is EXACT."""

from dataclasses import replace

import pytest

from clearing import Case, Result, clear
from clearing.certificate import certify
from flexbus.events.clearing import LimitKind, SlotStatus
from tests.clearing_cases import market_day
from tests.regimes import random_market

# 1e-9 EUR: what adding up the slots may be off by.
NOISE = 1_000
# Seeds in which a current at the to side of a branch binds, and the slot is EXACT.
TO_SIDE = (3, 45, 54)
# Seeds with energy below zero and nothing to gain.
FREE_LOSSES = (513, 581)


def gaps(result: Result) -> list[int]:
    found = [s.gap_nano for s in result.slots]
    assert None not in found
    return [g for g in found if g is not None]


def untied() -> Case:
    """Energy below zero, so that the relaxation is loose everywhere; nothing ties the slots."""
    given = market_day(2, 20, 24, 60, price=-20_000, feed_in=16e6)
    return replace(given, offers=tuple(o for o in given.offers if o.max_energy_wh is None and not o.all_or_nothing))


def test_gaps_of_slots_that_nothing_ties_add_up_to_the_gap_of_the_whole() -> None:
    result = clear(untied())
    assert result.certificate.gap_nano is not None
    assert min(gaps(result)) >= 0
    assert sum(g > 100_000 for g in gaps(result)) > 12
    assert abs(sum(gaps(result)) - result.certificate.gap_nano) <= NOISE


def test_what_ties_slots_is_left_to_the_whole() -> None:
    """Blocks and budgets are sold at their worth in each slot; what they could gain elsewhere is no slot's."""
    result = clear(market_day(2, 20, 24, 60, price=-20_000, feed_in=16e6))
    assert result.certificate.gap_nano is not None
    assert min(gaps(result)) >= -NOISE
    assert sum(gaps(result)) <= result.certificate.gap_nano + NOISE


def test_other_multipliers_of_a_slot_change_its_gap_alone() -> None:
    given = untied()
    result = clear(given)
    at = result.certificate.duals[3]
    worse = replace(at, balance_p=tuple(x + 1.0 for x in at.balance_p))
    duals = tuple(worse if d is at else d for d in result.certificate.duals)
    findings = certify(given, replace(result, certificate=replace(result.certificate, duals=duals))).findings
    assert [f.path for f in findings if "gap" in f.path] == [f"$.slots[{at.slot}].gap_nano"]


@pytest.mark.parametrize("seed", FREE_LOSSES)
def test_an_exact_slot_has_next_to_no_gap_where_losses_pay(seed: int) -> None:
    """Nothing is taken; what bounds the currents is part of the proof, however little it is worth."""
    result = clear(random_market(seed))
    assert result.status is SlotStatus.EXACT
    assert not any(any(o.quantity) for o in result.offers)
    assert abs(gaps(result)[0]) <= 10_000


@pytest.mark.parametrize("seed", TO_SIDE)
def test_an_exact_slot_has_next_to_no_gap_where_a_current_binds(seed: int) -> None:
    given = random_market(seed)
    result = clear(given)
    (slot,) = result.slots
    assert slot.status is SlotStatus.EXACT
    assert LimitKind.CURRENT_TO in {b.kind for b in slot.binding}
    assert slot.gap_nano is not None
    # Awards are whole watts.
    assert 0 <= slot.gap_nano <= 1e-5 * abs(result.certificate.value_nano)
