"""Best dispatches between the corners of the market: found with the curvature of what is cleared, loops included."""

from dataclasses import replace

import pytest

from clearing import clear, pipeline
from clearing.canonical import canonical_case
from clearing.certificate import certify
from clearing.pipeline import solve
from flexbus.events.clearing import SlotStatus
from tests.ac_opf import ac_opf
from tests.clearing_cases import market_day
from tests.regimes import random_market

# Loops with a rating that binds or stays broken; feeders whose rating binds and whose reactive power helps.
LOOPS, FEEDERS = (140, 156), (412, 571, 589)


@pytest.mark.parametrize("seed", LOOPS + FEEDERS)
def test_where_linear_programs_creep_the_dispatch_equals_ac_opf(seed: int) -> None:
    given = random_market(seed)
    cleared, oracle = solve(canonical_case(given)), ac_opf(given)
    assert oracle.success
    error = float(cleared.optimum.merit[0]) - oracle.objective
    assert abs(error) <= 1e-6 * max(1.0, abs(oracle.objective))
    taken = dict(zip((o.offer_id for o in cleared.case.offers), cleared.awards[:, 0] / 1e6, strict=True))
    assert max(abs(taken[o] - mw) for o, mw in oracle.taken.items()) < 1e-3


@pytest.mark.parametrize("seed", FEEDERS)
def test_a_dispatch_short_of_its_own_bound_is_not_called_exact(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The relaxation may end at an AC state, and the dispatch elsewhere."""
    given = random_market(seed)
    right = clear(given)
    assert right.slots[0].status is SlotStatus.EXACT
    assert right.certificate.gap_nano is not None
    assert right.certificate.gap_nano < 1e-4 * abs(right.certificate.value_nano)
    for way in ("_follow", "_settle_inside", "_polish"):
        monkeypatch.setattr(pipeline._Problem, way, lambda self, repair, point, *rest: point)
    crept = clear(given)
    assert certify(given, crept).findings == ()
    assert crept.certificate.value_nano > right.certificate.value_nano
    assert crept.slots[0].status is SlotStatus.REPAIRED


def test_a_day_that_meets_its_bound_pays_nothing_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    given = market_day(1, 20, 12, 30, price=50_000, feed_in=9e6)
    usual = clear(given)

    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(pipeline, "settle_inside", never)
    assert clear(given).result_hash == usual.result_hash


def test_other_slots_keep_what_they_take() -> None:
    """Two slots that share a budget: the one looked at may use what the other leaves, and no more."""
    one = random_market(156)
    twice = replace(
        one,
        slots=2,
        baseline=tuple(
            replace(b, power_w=b.power_w * 2, reactive_power_var=b.reactive_power_var * 2) for b in one.baseline
        ),
        offers=tuple(
            replace(o, slots=o.slots * 2, max_energy_wh=300_000 if o.offer_id == "o0" else None) for o in one.offers
        ),
    )
    result = clear(twice)
    assert certify(twice, result).findings == ()
    budgeted = next(o for o in result.offers if o.offer_id == "o0")
    assert 299_000 < sum(budgeted.quantity) / 4 <= 300_000
