"""The seven regimes in which the plain relaxation burns the feeder: detected, repaired, equal to AC-OPF."""

import numpy as np
import pytest

from clearing import clear
from clearing.canonical import canonical_case
from clearing.pipeline import solve
from flexbus.events.clearing import SlotStatus
from flexbus.quantities import Direction
from tests.ac_opf import ac_opf
from tests.clearing_cases import case as case_of
from tests.clearing_cases import chain, injection, offer
from tests.regimes import REGIMES, regime, tally

# Price zero and below make losses free or wanted: there the relaxation invents them.
BAD = [r for r in REGIMES if r != ("case33bw", 1.5, 1.05, 80)]


@pytest.mark.parametrize("given", REGIMES, ids=lambda r: "-".join(map(str, r)))
def test_dispatch_equals_ac_opf_and_prices_are_its_multipliers(given: tuple[str, float, float, int]) -> None:
    case = canonical_case(regime(*given))
    cleared, oracle = solve(case), ac_opf(case)
    assert oracle.success
    error = (float(cleared.point.merit[0]) - oracle.objective) / max(1.0, abs(oracle.objective))
    assert abs(error) <= 1e-6
    price = dict(zip(cleared.grid.bus_ids, cleared.prices.total_p()[0], strict=True))
    assert max(abs(price[b] - p) for b, p in oracle.price_p.items()) < 0.01
    price = dict(zip(cleared.grid.bus_ids, cleared.prices.total_q()[0], strict=True))
    assert max(abs(price[b] - p) for b, p in oracle.price_q.items()) < 0.01


@pytest.mark.parametrize("given", BAD, ids=lambda r: "-".join(map(str, r)))
def test_fictitious_losses_are_detected_and_nothing_is_published_on_them(given: tuple[str, float, float, int]) -> None:
    result = clear(regime(*given))
    slot = result.slots[0]
    assert slot.status is SlotStatus.REPAIRED
    assert slot.loss_gap_w > 10_000
    assert slot.ac_violation_ppm == 0
    top = max(b.voltage_ppm[0] for b in result.buses)
    assert top <= round(given[2] * 1e6) + 1
    assert result.certificate.lower_bound_nano is not None
    assert result.certificate.gap_nano is not None
    assert 0 <= result.certificate.gap_nano < 0.12 * abs(result.certificate.value_nano)


def test_random_markets_in_all_regimes_equal_ac_opf_or_better() -> None:
    found = tally(range(200, 216))
    assert found["as AC-OPF within 1e-6"] + found["better than AC-OPF"] == 16
    assert found["findings"] == found["LINEARISED"] == found["no bound, or one above the value"] == 0
    assert found["EXACT without proof"] == 0


def test_bound_knows_that_losses_which_pay_are_those_of_a_current() -> None:
    """Energy is taken for money: without what bounds the flows the relaxation burns hundreds of MW."""
    net = chain(4, price=-20_000)
    offers = (
        offer("a", "b3", Direction.UP, [[(200_000, 12_000)]]),
        offer("b", "b2", Direction.DOWN, [[(300_000, 9_000)]]),
    )
    result = clear(case_of(net, [injection("b3", [-900_000])], offers=offers))
    assert result.slots[0].down_w == 300_000
    assert result.certificate.gap_nano is not None
    assert 0 <= result.certificate.gap_nano < 5_000_000


def test_nothing_is_called_exact_that_misses_its_own_bound() -> None:
    """A rating that no offer can keep: the price of the overload is no convex function of the flow."""
    net = chain(4, max_a=20, price=-5_000)
    given = case_of(
        net, [injection("b3", [2_500_000], [-200_000])], offers=(offer("a", "b2", Direction.DOWN, [[(90_000, 9)]]),)
    )
    result = clear(given)
    gap = result.certificate.gap_nano
    assert gap is not None
    assert result.slots[0].shortfalls
    assert (result.slots[0].status is SlotStatus.EXACT) == (gap < 1e-6 * abs(result.certificate.value_nano))


def test_exact_slot_meets_its_own_lower_bound() -> None:
    from tests.clearing_cases import market_day

    cleared = solve(canonical_case(market_day(1, 20, 12, 30, price=50_000, feed_in=9e6)))
    assert cleared.bound.exact.all()
    value = float(cleared.point.merit.sum())
    # The bound has the digits of the cone solver.
    assert 0 <= value - cleared.bound.value < 1e-5 * abs(value)
    assert np.max(cleared.bound.gap_mw) < 1e-6
