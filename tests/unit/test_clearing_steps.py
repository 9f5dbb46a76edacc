"""A clearing that starts from the cheapest steps ends where one with the whole book does."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import clearing.pipeline
import clearing.relaxation
import clearing.steps
from clearing import clear
from clearing.canonical import canonical_case
from clearing.case import Case
from clearing.certificate import certify
from clearing.exactness import slot_problem
from clearing.pipeline import solve
from clearing.relaxation import solve_slot
from tests.clearing_cases import market_day


def book() -> Case:
    """A sunny day with ten offers at each bus, every third with an energy budget that binds."""
    case = market_day(5, 12, 8, 100, price=45_000, feed_in=20e6)
    plain = [o for o in case.offers if o.max_energy_wh is None and o.min_energy_wh is None and o.unit_id is None]
    assert len(plain) > 50
    offers = tuple(
        replace(o, max_energy_wh=sum(s.quantity for e in o.slots for s in e.steps) // 8) if k % 3 == 0 else o
        for k, o in enumerate(plain)
        if not o.all_or_nothing and o.start_choice is None and o.parent_offer_id is None and not o.polygons
    )
    return replace(case, offers=offers, units=())


@pytest.mark.parametrize("large", [0, 60_000])
def test_scouting_finds_the_optimum_of_the_whole_book(monkeypatch: pytest.MonkeyPatch, large: int) -> None:
    case = book()
    whole = clear(case)
    monkeypatch.setattr(clearing.steps, "SMALL", 0)
    monkeypatch.setattr(clearing.steps, "DEPTH", 1)
    monkeypatch.setattr(clearing.steps, "LARGE", large)
    scouted = clear(case)
    assert any(any(o.quantity) for o in whole.offers)
    truth = whole.certificate.value_nano
    assert abs(scouted.certificate.value_nano - truth) <= 1e-6 * abs(truth)
    assert certify(case, scouted).findings == ()


def test_a_first_look_at_a_large_book_leaves_nothing_out_that_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    case = book()
    whole = clear(case)
    looked: list[tuple[int, int]] = []
    promising = clearing.pipeline._Problem._promising

    def look(problem: Any, repair: Any) -> Any:
        chosen = promising(problem, repair)
        looked.append((int(chosen.sum()), len(chosen)))
        return chosen

    monkeypatch.setattr(clearing.pipeline._Problem, "_promising", look)
    monkeypatch.setattr(clearing.pipeline, "MANY_STEPS", 0)
    for share in (0.2, 0.0):  # even where steps are left out that turn out to be wanted
        monkeypatch.setattr(clearing.pipeline, "PROMISING", share)
        short = clear(case)
        truth = whole.certificate.value_nano
        assert abs(short.certificate.value_nano - truth) <= 1e-6 * abs(truth)
        assert certify(case, short).findings == ()
    assert all(0 < chosen < steps for chosen, steps in looked)
    assert len(looked) == 2


def test_a_book_of_blocks_alone_has_no_steps_to_look_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clearing.pipeline, "MANY_STEPS", 0)
    whole = book()
    case = replace(whole, offers=tuple(replace(o, all_or_nothing=True, max_energy_wh=None) for o in whole.offers[:20]))
    assert certify(case, clear(case)).findings == ()


def test_a_relaxation_that_lets_columns_in_by_price_is_that_of_all_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    case = book()
    cleared = solve(canonical_case(case))
    slots = [
        slot_problem(cleared.repair, cleared.optimum, cleared.multipliers, cleared.prices, t) for t in range(case.slots)
    ]
    monkeypatch.setattr(clearing.relaxation, "FEW_COLUMNS", 10_000)
    whole = [solve_slot(s) for s in slots]
    monkeypatch.setattr(clearing.relaxation, "FEW_COLUMNS", 0)
    grown = [solve_slot(s) for s in slots]
    assert any((w.x > 1e-3).any() for w in whole)
    for one, other in zip(whole, grown, strict=True):
        # In the two slots that break limits the solver says "AlmostSolved" of all columns: six digits is what it has.
        assert other.bound == pytest.approx(one.bound, rel=5e-6, abs=1e-4)
        assert np.allclose(other.balance_p, one.balance_p, rtol=1e-4, atol=1e-3)
        assert other.losses_mw == pytest.approx(one.losses_mw, rel=1e-3, abs=1e-6)
