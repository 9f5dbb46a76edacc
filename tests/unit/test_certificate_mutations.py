"""Every leaf of a result is changed in turn, hashed again, and the certificate must notice."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from clearing import Case, Result, clear
from clearing.canonical import result_hash
from clearing.case import Location
from clearing.certificate import certify
from clearing.files import read_result, result_to_text
from clearing.result import UnmetReason
from flexbus.errors import FlexbusError
from flexbus.events.clearing import LimitKind, NonAwardReason, SlotStatus
from flexbus.events.market import PricingRule
from flexbus.quantities import Direction
from tests.clearing_cases import case, chain, injection, offer, request
from tests.regimes import regime
from tests.tied_market import DOWN, UP, tied_market

Path = tuple[str | int, ...]
# All that may go unnoticed, and why.
UNDETERMINED = {
    "format": "reading refuses any other; not part of what is certified",
    "result_hash": "forged with every change, to fit",
    "slots.repair_steps": "how many linear programs it took",
    "slots.loss_gap_w": "what the relaxation said before the repair: no digit of the outcome depends on it",
    "solver.name": "who computed it",
    "solver.versions": "who computed it",
    "solver.settings": "who computed it",
}
# Any multipliers give a valid bound. One may change as far as the bound stays what it is.
MULTIPLIERS = ("certificate.duals", "certificate.stored", "certificate.called")
# Words of the format: a plausible other value is another of them.
ENUMS = [[word.value for word in kind] for kind in (NonAwardReason, UnmetReason, SlotStatus, LimitKind, Direction)]
# 1/1000 EUR per MWh: prices follow from AC states to 0.02 + 2e-4 of the largest, numbers of reasons from prices.
PRICE_STEP = 100


def limited() -> Case:
    """A cable and a voltage that bind, requests over a branch and at the infeed point, a cure that sets the price."""
    return case(
        chain(4, km=3.0, max_a=60, price=45_000),
        [injection("b3", [-2_600_000, 2_900_000]), injection("b2", [-100_000, 400_000])],
        slots=2,
        offers=(
            offer("cheap", "b3", UP, [[(300_000, 20_000)], []]),
            offer("dear", "b2", UP, [[(2_000_000, 70_000)], []]),
            offer("down", "b3", DOWN, [[], [(1_900_000, 9_000)]]),
            offer("less", "b2", DOWN, [[], [(1_900_000, 30_000)]], max_energy_wh=60_000),
        ),
        requests=(request("relief", UP, [[(900_000, 90_000)], []], location_id="l1", location_kind=Location.BRANCH),),
    )


CASES: dict[str, Callable[[], Case]] = {
    "tied": lambda: tied_market(4),
    "storage": lambda: tied_market(57),
    "limits": limited,
    "zonal": lambda: replace(limited(), pricing_rule=PricingRule.ZONAL),
    "as bid": lambda: replace(limited(), pricing_rule=PricingRule.PAY_AS_BID),
    "repaired": lambda: regime("case33bw", 3.0, 1.05, 40),
}
# Of what a result has a hundred of the same kind, so many are tried.
MOST = {"tied": 10_000, "limits": 10_000, "storage": 3, "zonal": 3, "as bid": 3, "repaired": 3}


@cache
def cleared(name: str) -> tuple[Case, Result, str]:
    given = CASES[name]()
    result = clear(given)
    assert certify(given, result).findings == ()
    return given, result, result_to_text(result)


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list):
        for k, item in enumerate(value):
            yield from leaves(item, (*path, k))
    else:
        yield path, value


def name_of(path: Path) -> str:
    return ".".join(k for k in path if isinstance(k, str))


def another(value: Any, name: str) -> Any:
    """One unit of the last place more, or a plausible other value."""
    if isinstance(value, int) and ("milli" in name or name == "non_awards.amount"):
        return value + PRICE_STEP + abs(value) // 50
    over_states = name == "slots.gap_nano" or any(word in name for word in ("infeed", "violation", "bound"))
    if name.endswith("_nano") and over_states:
        return value + 200_000 + abs(value) // 100_000_000 if value is not None else 0  # noise of floats over AC states
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * 1.01 + 0.01
    for words in ENUMS:
        if value in words:
            return words[(words.index(value) + 1) % len(words)]
    return 0 if value is None else f"{value}x"


def changed(text: str, path: Path, to: Any) -> Result | None:
    """The result with one leaf changed and a fitting hash; None where it cannot even be read."""
    document = json.loads(text)
    at = document
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = to
    try:
        result = read_result(json.dumps(document))
    except FlexbusError:
        return None
    return replace(result, result_hash=result_hash(replace(result, result_hash="")))


@pytest.mark.parametrize("name", CASES)
def test_no_leaf_can_be_changed_unnoticed(name: str) -> None:
    given, result, text = cleared(name)
    tried: dict[str, int] = {}
    unseen = []
    for path, value in leaves(json.loads(text)):
        kind = name_of(path)
        tried[kind] = tried.get(kind, 0) + 1
        if kind in UNDETERMINED or tried[kind] > MOST[name]:
            continue
        bad = changed(text, path, another(value, kind))
        if bad is None:
            continue
        found = certify(given, bad)
        if found.findings:
            continue
        if kind.startswith(MULTIPLIERS) and found.lower_bound_nano is not None:
            assert abs(found.lower_bound_nano - (result.certificate.lower_bound_nano or 0)) <= 1_000_000
            continue
        unseen.append((path, value, another(value, kind)))
    assert unseen == []
    assert {"offers.quantity", "non_awards.amount", "buses.p_price_milli_per_mwh"} <= set(tried)


@pytest.mark.parametrize("name", ["limits", "repaired"])
@pytest.mark.parametrize("word", ["p", "q"])
@pytest.mark.parametrize("part", ["losses", "voltage", "congestion"])
def test_a_price_cannot_be_split_otherwise(name: str, word: str, part: str) -> None:
    """What one part gains energy loses, so that the sum stays."""
    given, result, _ = cleared(name)
    for k, bus in enumerate(result.buses[1:], 1):
        more, less = f"{word}_{part}_milli_per_mwh", f"{word}_energy_milli_per_mwh"
        by = PRICE_STEP + max(abs(v) for v in bus.p_price_milli_per_mwh) // 50
        moved = {more: getattr(bus, more)[0] + by, less: getattr(bus, less)[0] - by}
        changes: dict[str, Any] = {n: (v, *getattr(bus, n)[1:]) for n, v in moved.items()}
        other = replace(bus, **changes)
        bad = replace(result, buses=(*result.buses[:k], other, *result.buses[k + 1 :]))
        paths = {f.path for f in certify(given, bad).findings}
        assert f"$.buses[{k}].{more}[0]" in paths
        if k >= 3:
            break
