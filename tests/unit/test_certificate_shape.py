"""A published series of another length than the slots, or a number that no machine holds, is a finding."""

from dataclasses import fields, replace
from functools import cache
from typing import Any

import pytest

from clearing import Case, Result, clear
from clearing.canonical import result_hash
from clearing.case import Settings
from clearing.certificate import certify
from clearing.certificate.stages import evidences, value_and_bound_nano
from flexbus.quantities import Direction
from tests.clearing_cases import case, chain, injection, market_day, offer


@cache
def market() -> tuple[Case, Result]:
    case = market_day(2, 3, 2, 3)
    return case, clear(case)


def forged(**changes: Any) -> Result:
    """The result with something else in it, and a hash that fits."""
    result = replace(market()[1], **changes)
    return replace(result, result_hash=result_hash(replace(result, result_hash="")))


def paths(result: Result) -> list[str]:
    return [f.path for f in certify(market()[0], result).findings]


def test_the_market_itself_holds() -> None:
    assert paths(forged()) == []


@pytest.mark.parametrize("name", ["offers", "buses", "branches", "infeed_points"])
@pytest.mark.parametrize("length", [0, 1, 3])
def test_every_series_has_an_entry_per_slot(name: str, length: int) -> None:
    first, *others = getattr(market()[1], name)
    for field in fields(first):
        if isinstance(series := getattr(first, field.name), tuple):
            changed = replace(first, **{field.name: (series * 2)[:length]})
            assert f"$.{name}[0].{field.name}" in paths(forged(**{name: (changed, *others)}))


@pytest.mark.parametrize("number", [2**63, -(2**70), 10**400])
def test_no_number_is_out_of_range(number: int) -> None:
    assert "$.welfare_nano" in paths(forged(welfare_nano=number))


@pytest.mark.parametrize("slot", [-1, 2])
def test_no_slot_is_named_that_there_is_not(slot: int) -> None:
    first, *others = market()[1].non_awards
    assert "$.non_awards[0].slots" in paths(forged(non_awards=(replace(first, slots=(slot,)), *others)))


def test_no_limit_has_two_multipliers_in_a_slot() -> None:
    """Each may be as large as the limit's price: two halves of one that is too large would "prove" too much."""
    offers = (offer("up", "b2", Direction.UP, [[(100_000, 10_000)]]),)
    settings = Settings()
    twice = replace(settings, loading_price_milli_per_mwh=2 * settings.loading_price_milli_per_mwh)
    short, dearer = (
        case(chain(3, max_a=40.0), [injection("b2", [-2_000_000])], offers=offers, settings=s)
        for s in (settings, twice)
    )
    result, duals = clear(short), clear(dearer).certificate.duals[0]
    assert result.slots[0].shortfalls
    halves = tuple(
        replace(d, value=_half(d.value), flow_p=_half(d.flow_p), flow_q=_half(d.flow_q)) for d in duals.limits
    )
    changed = replace(result, certificate=replace(result.certificate, duals=(replace(duals, limits=halves * 2),)))
    value, bound, _ = value_and_bound_nano(short, changed, evidences(short, changed))
    assert bound is not None
    assert bound > 1.5 * value  # of a dispatch that costs no more than its own bound
    findings = certify(short, replace(changed, result_hash=result_hash(replace(changed, result_hash="")))).findings
    assert {f.path for f in findings} == {"$.certificate.duals[0].limits"}


def _half(value: float) -> float:
    """Half of a multiplier, on the quantum that multipliers are published with."""
    return float(f"{round(value / 2, 6):.6g}")
