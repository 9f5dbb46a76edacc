"""The fallback ladder: a solver that breaks down costs a rung, never the result."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from clearing import Case, Result, clear, linearisation, repair, rows
from clearing.certificate import certify
from flexbus.events.clearing import SlotStatus
from tests.clearing_cases import market_day
from tests.regimes import regime

INEXACT = ("case33bw", 3.0, 1.05, 40)


class Panic(BaseException):
    """What a panic of a Rust program looks like in Python."""


def no_cones(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise Panic("called `Option::unwrap()` on a `None` value")

    monkeypatch.setattr("clarabel.DefaultSolver", broken)


def no_linear_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "_GOOD", ())


def holds(case: Case, result: Result) -> bool:
    return [str(f) for f in certify(case, result).findings] == []


def test_without_the_cone_solver_linear_programs_find_the_same_dispatch(monkeypatch: pytest.MonkeyPatch) -> None:
    case = regime(*INEXACT)
    usual = clear(case)
    no_cones(monkeypatch)
    result = clear(case)
    assert (usual.slots[0].status, result.slots[0].status) == (SlotStatus.REPAIRED, SlotStatus.LINEARISED)
    assert [o.quantity for o in result.offers] == [o.quantity for o in usual.offers]
    assert [b.p_price_milli_per_mwh for b in result.buses] == [b.p_price_milli_per_mwh for b in usual.buses]
    assert result.slots[0].ac_violation_ppm == 0
    assert holds(case, result)


def test_what_is_proven_in_closed_form_needs_no_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    case = market_day(1, 20, 12, 30, price=50_000)
    usual = clear(case)
    no_cones(monkeypatch)
    assert clear(case).result_hash == usual.result_hash
    assert usual.status is SlotStatus.EXACT


@pytest.mark.parametrize("broken", [(no_linear_programs,), (no_linear_programs, no_cones)], ids=["lp", "both"])
def test_without_linear_programs_the_baseline_stands(broken: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    case = regime(*INEXACT)
    assert any(any(o.quantity) for o in clear(case).offers)
    for solver in broken:
        solver(monkeypatch)
    result = clear(case)
    assert result.status is SlotStatus.BASELINE_KEPT
    assert not any(any(o.quantity) for o in result.offers)
    assert result.non_awards
    assert holds(case, result)


def test_a_simplex_method_that_does_not_end_is_followed_by_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    case = regime(*INEXACT)
    usual = clear(case)
    monkeypatch.setattr(rows, "_idle", [])
    monkeypatch.setattr(rows, "_OPTIONS", (*rows._OPTIONS, ("simplex_iteration_limit", 0)))
    result = clear(case)
    assert result.status is SlotStatus.REPAIRED
    assert result.certificate.value_nano == pytest.approx(usual.certificate.value_nano, rel=1e-6)
    assert holds(case, result)


def test_what_no_limit_is_in_the_way_of_needs_no_linear_program(monkeypatch: pytest.MonkeyPatch) -> None:
    case = market_day(1, 20, 12, 30, price=50_000)
    usual = clear(case)
    no_linear_programs(monkeypatch)
    assert clear(case).result_hash == usual.result_hash
    assert any(any(o.quantity) for o in usual.offers)


def test_a_program_that_fails_costs_its_own_slots_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """HiGHS finds no optimum wherever the program of the slot with a certain limit takes part."""
    case = market_day(1, 20, 12, 30, price=50_000, feed_in=16e6)
    case = replace(case, offers=tuple(o for o in case.offers if o.max_energy_wh is None and not o.all_or_nothing))
    usual = clear(case)
    bad = max(t for t, s in enumerate(usual.slots) if s.status is not SlotStatus.IDLE and s.up_w + s.down_w)
    made, real = linearisation.Linearisation.program, rows.solve_linear
    mine = np.zeros(0, dtype=int)

    def watched(self: Any, *of: Any) -> Any:
        nonlocal mine
        mine = np.flatnonzero(self.column_slot == bad)
        return made(self, *of)

    def failing(program: Any, **more: Any) -> Any:
        return None if (program.upper > program.lower)[mine].any() else real(program, **more)

    monkeypatch.setattr(linearisation.Linearisation, "program", watched)
    for module in (linearisation, repair):
        monkeypatch.setattr(module, "solve_linear", failing)
    result = clear(case)
    assert result.slots[bad].status is SlotStatus.BASELINE_KEPT
    assert not any(o.quantity[bad] for o in result.offers)
    others = [t for t in range(12) if t != bad]
    assert [result.slots[t].status for t in others] == [usual.slots[t].status for t in others]
    for o, before in zip(result.offers, usual.offers, strict=True):
        assert [o.quantity[t] for t in others] == pytest.approx([before.quantity[t] for t in others], abs=1)
    assert holds(case, result)
