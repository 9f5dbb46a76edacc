"""A published series of another length than the slots, or a number that no machine holds, is a finding."""

from dataclasses import fields, replace
from functools import cache
from typing import Any

import pytest

from clearing import Case, Result, clear
from clearing.canonical import result_hash
from clearing.certificate import certify
from tests.clearing_cases import market_day


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
