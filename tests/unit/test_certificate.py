"""The certificate accepts what the core publishes and refuses any change of a digit that matters."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from clearing import Case, Result, clear
from clearing.canonical import canonical_case, result_hash
from clearing.case import Location
from clearing.certificate import certify
from clearing.certificate.bound import lower_bound_nano
from clearing.certificate.evidence import gather
from clearing.certificate.shape import QUANTUM_DIGITS
from clearing.convert.cases import convert_case
from clearing.files import read_result, result_to_text
from clearing.pipeline import solve
from clearing.result import Certificate
from flexbus.quantities import Direction
from tests.clearing_cases import case as one_slot_case
from tests.clearing_cases import chain, injection, offer, request
from tests.regimes import regime


@cache
def market() -> tuple[Case, Result]:
    """The 33-bus feeder in its six hardest quarter-hours, with every kind of offer the market maker knows."""
    case = convert_case("matpower", "case33bw", slots=6, offers=30, seed=5)
    return case, clear(case)


@cache
def inexact() -> tuple[Case, Result]:
    """A regime in which the relaxation burns energy for nothing."""
    case = canonical_case(regime("case33bw", 3.0, 1.05, 40))
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


# What no other published number or the case determines: how the solver went.
FREE = {"repair_steps", "loss_gap_w", "ac_violation_ppm"}


def changed(result: Result, path: tuple[Any, ...], by: int) -> Result:
    value = json.loads(result_to_text(result))
    at = value
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] += by
    return forged(read_result(json.dumps(value)))


@cache
def short() -> tuple[Case, Result]:
    """An overload and a request that no offer can cure in full."""
    case = one_slot_case(
        chain(3, max_a=100, price=50_000),
        [injection("b2", [-5_000_000])],
        offers=(offer("cure", "b2", Direction.UP, [[(500_000, 9_000)]]),),
        requests=(request("buyer", Direction.UP, [[(900_000, 20_000)]], location_kind=Location.AREA),),
    )
    return case, clear(case)


@pytest.mark.parametrize("made", [market, short])
def test_every_published_number_is_bound_to_the_others(made: Callable[[], tuple[Case, Result]]) -> None:
    case, result = made()
    kinds: dict[str, list[tuple[Any, ...]]] = {}
    for path in numbers(json.loads(result_to_text(result))):
        if path[0] != "non_awards" and path[-1] not in FREE and path[-1] != "format":
            kinds.setdefault(".".join(k for k in path if isinstance(k, str)), []).append(path)
    assert {"certificate.lower_bound_nano", "offers.quantity"} <= set(kinds)
    assert ("slots.shortfalls.amount" in kinds) == (made is short)
    rng = random.Random(3)
    unseen = []
    for name, paths in sorted(kinds.items()):
        for path in rng.sample(paths, min(2, len(paths))):
            # A price may be off by its rounding, the bound by noise of floats; everything else by nothing.
            by = 5_000 if "price" in name or "milli" in name or "lower" in name or "slots.gap" in name else 2
            if not certify(case, changed(result, path, by)).findings:
                unseen.append(path)
    assert unseen == []


def bound_of(case: Case, result: Result, certificate: Certificate) -> int | None:
    return lower_bound_nano(gather(case, result), certificate)


def test_the_bound_is_that_of_the_solver_and_close_to_the_value() -> None:
    case, result = market()
    cleared = solve(canonical_case(case))
    hours = case.resolution_s / 3600
    lower = result.certificate.lower_bound_nano
    assert lower is not None
    assert lower / 1e9 == pytest.approx(cleared.bound.value * hours, rel=1e-5)
    assert 0 <= result.certificate.value_nano - lower <= 1e-4 * abs(result.certificate.value_nano)
    assert certify(case, result).lower_bound_nano == lower


def bent(result: Result, rng: random.Random, size: float) -> Certificate:
    """The certificate with every multiplier off by a random share."""

    def off(values: tuple[float, ...]) -> tuple[float, ...]:
        made = (v * (1 + rng.uniform(-size, size)) + rng.uniform(-size, size) for v in values)
        return tuple(float(f"{round(v, QUANTUM_DIGITS):.9g}") for v in made)

    return replace(
        result.certificate,
        duals=tuple(
            replace(
                d,
                balance_p=off(d.balance_p),
                balance_q=off(d.balance_q),
                drop=off(d.drop),
                limits=tuple(replace(x, value=off((x.value,))[0], value_q=off((x.value_q,))[0]) for x in d.limits),
                requests=tuple(replace(x, value=off((x.value,))[0]) for x in d.requests),
            )
            for d in result.certificate.duals
        ),
        stored=tuple(replace(u, worth_eur_per_mwh=off(u.worth_eur_per_mwh)) for u in result.certificate.stored),
    )


@pytest.mark.parametrize("size", [1e-6, 1e-4, 1e-2, 1.0])
def test_no_multipliers_give_a_bound_above_the_value(size: float) -> None:
    """Weak duality: whatever is forged, the bound that follows holds; the true multipliers give the best one."""
    rng = random.Random(1)
    for case, result in (market(), inexact()):
        best = result.certificate.lower_bound_nano
        assert best is not None
        for _ in range(5):
            lower = bound_of(case, result, bent(result, rng, size))
            assert lower is not None
            # The value is that of whole watts, the best bound that of the solver's digits.
            assert lower <= result.certificate.value_nano
            assert lower <= best + 1e-5 * abs(best) + 100_000


def test_a_forged_multiplier_is_seen() -> None:
    case, result = market()
    certificate = bent(result, random.Random(2), 1e-3)
    findings = certify(case, forged(replace(result, certificate=certificate))).findings
    assert "$.certificate.lower_bound_nano" in {f.path for f in findings}


def test_delivery_against_a_request_counts_in_the_value() -> None:
    """A branch wants relief, the market-wide buyer wants the opposite: who loses is not forgotten."""
    case = one_slot_case(
        chain(3, max_a=100, price=50_000),
        [injection("b2", [-5_000_000])],
        offers=(offer("cure", "b2", Direction.UP, [[(3_000_000, 9_000)]]),),
        requests=(request("buyer", Direction.DOWN, [[(400_000, 20_000)]], location_kind=Location.AREA),),
    )
    result = clear(case)
    taken = result.offers[0].quantity[0]
    assert taken > 1_000_000
    plain = result.bid_cost_nano + result.infeed_cost_nano + result.violation_cost_nano - result.request_value_nano
    assert result.certificate.value_nano - plain == pytest.approx(taken * 20_000 / 4, rel=1e-12)
    assert result.certificate.gap_nano is not None
    assert 0 <= result.certificate.gap_nano <= 1e-5 * abs(result.certificate.value_nano)
    assert certify(case, result).findings == ()


def test_a_multiplier_has_no_more_digits_than_its_quantum() -> None:
    case, result = market()
    duals = result.certificate.duals
    worth = (duals[0].balance_p[0] + 1e-7, *duals[0].balance_p[1:])
    bad = replace(result.certificate, duals=(replace(duals[0], balance_p=worth), *duals[1:]))
    paths = [f.path for f in certify(case, forged(replace(result, certificate=bad))).findings]
    assert "$.certificate.duals[0].balance_p[0]" in paths


@pytest.mark.parametrize("amount", [-1, 1])
def test_one_watt_more_or_less_in_an_award_is_seen(amount: int) -> None:
    case, result = market()
    k, t = next((k, t) for k, o in enumerate(result.offers) for t, q in enumerate(o.quantity) if q > 1000)
    assert certify(case, changed(result, ("offers", k, "quantity", t), amount)).findings


def test_the_formulation_is_not_used() -> None:
    import ast
    from pathlib import Path

    import clearing.certificate as package

    own = {"case", "stacks", "result", "power_flow", "canonical", "check", "certificate", "phases", "wording"}
    for path in Path(package.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in filter(None, names):
                assert not name.startswith("clearing.") or name.split(".")[1] in own, (path.name, name)
                assert name.split(".")[0] not in {"cvxpy", "clarabel", "highspy"}, (path.name, name)
