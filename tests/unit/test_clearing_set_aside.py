"""Storages and slices that nobody can satisfy: a fault where the case alone shows it, set aside else; others clear."""

from dataclasses import replace
from typing import Any

import pytest

from clearing import Case, Result, clear
from clearing.case import Location, Offer, PolygonSlice, PolygonVertex, Unit, UnitKind
from clearing.certificate import certify
from clearing.reach import reach_faults
from flexbus.errors import FaultyInputError
from flexbus.events.clearing import NonAwardReason
from flexbus.quantities import Direction
from tests.clearing_cases import case, chain, injection, offer, request

UP, DOWN = Direction.UP, Direction.DOWN
SLOTS = 4


def one(offer_id: str, direction: Direction = UP, **more: Any) -> Offer:
    """100 kW in every slot: 25 kWh each."""
    return offer(offer_id, "b3", direction, [[(100_000, 20_000)]] * SLOTS, **more)


def store(**more: Any) -> Unit:
    given: dict[str, Any] = {"max_energy_wh": 100_000, "initial_energy_wh": 50_000, **more}
    return Unit(unit_id="u", kind=UnitKind.STORAGE, **given)


def piece(slot: int, *corners: tuple[int, int]) -> PolygonSlice:
    vertices = tuple(PolygonVertex(energy_before_wh=a, energy_wh=b) for a, b in corners)
    return PolygonSlice(slot=slot, vertices=vertices)


GOOD = tuple(one(f"good{k}") for k in range(3))


def market(*offers: Offer, units: tuple[Unit, ...] = (), alone: bool = False) -> Case:
    need = request("need", UP, [[(150_000, 90_000)]] * SLOTS, location_kind=Location.AREA)
    return case(
        chain(4, max_a=100),
        [injection("b3", [-3_600_000] * SLOTS)],
        slots=SLOTS,
        offers=offers if alone else (*GOOD, *offers),
        requests=(need,),
        units=units,
    )


def taken(result: Result) -> dict[str, int]:
    return {o.offer_id: sum(o.quantity) for o in result.offers}


def held(given: Case) -> Result:
    result = clear(given)
    assert certify(given, result).findings == ()
    return result


@pytest.mark.parametrize("dear", [False, True], ids=["nobody names it", "nobody can want it"])
def test_a_storage_that_stays_as_it_is_changes_nothing(dear: bool) -> None:
    """What is stored at first once made the market's rows infeasible, and nobody was taken."""
    offers = (offer("dear", "b3", UP, [[(100_000, 900_000_000)]] * SLOTS, unit_id="u"),) if dear else ()
    with_unit, without = held(market(*offers, units=(store(),))), held(market())
    assert all(taken(with_unit)[o.offer_id] == taken(without)[o.offer_id] > 0 for o in GOOD)
    assert with_unit.certificate.value_nano == without.certificate.value_nano


FAULTS: dict[str, tuple[str, Case]] = {
    "final out of reach": (
        "$.units[0].min_final_energy_wh",
        market(one("a", unit_id="u"), units=(store(min_final_energy_wh=90_000),)),
    ),
    "final above the most": (
        "$.units[0].min_final_energy_wh",
        market(one("a", DOWN, unit_id="u"), units=(store(min_final_energy_wh=500_000),)),
    ),
    "more at first than it can get rid of": (
        "$.units[0].initial_energy_wh",
        market(one("a", unit_id="u"), units=(store(initial_energy_wh=200_000),)),
    ),
    "less than nothing at first": (
        "$.units[0].initial_energy_wh",
        market(one("a", unit_id="u"), units=(store(initial_energy_wh=-200_000),)),
    ),
    "losses faster than it can charge": (
        "$.units[0].min_energy_wh",
        market(one("a", unit_id="u"), units=(store(min_energy_wh=49_000, self_discharge_ppm_per_h=999_900),)),
    ),
    "baseline overfills": (
        "$.units[0].max_energy_wh",
        market(units=(store(baseline_power_w=(-100_000,) * SLOTS),)),
    ),
    "slice too far": ("$.offers[3].polygons[0]", market(one("a", polygons=(piece(1, (10_000_000, 10_000)),)))),
    "slice below nothing": ("$.offers[3].polygons[0]", market(one("a", polygons=(piece(1, (0, -5)),)))),
    "two slices apart": (
        "$.offers[3].polygons[1]",
        market(one("a", polygons=(piece(1, (0, 0), (9_000, 0)), piece(1, (0, 1_000), (9_000, 1_000))))),
    ),
    "a slice that the one before rules out": (
        "$.offers[3].polygons[1]",
        market(one("a", polygons=(piece(1, (0, 0)), piece(2, (10_000, 0), (20_000, 0), (20_000, 20_000))))),
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_the_case_shows_to_be_out_of_reach_is_a_fault_with_its_path(name: str) -> None:
    path, given = FAULTS[name]
    with pytest.raises(FaultyInputError) as caught:
        clear(given)
    assert [f.path for f in caught.value.faults] == [path]


def test_reach_is_as_wide_as_the_caps_to_the_watt_hour() -> None:
    """Four slots of 25 kWh at 80 % stored of what is drawn: 20 kWh each."""
    for final, faults in ((130_000, 0), (130_001, 1)):
        unit = store(min_final_energy_wh=final, max_energy_wh=200_000, charge_efficiency_ppm=800_000)
        assert len(list(reach_faults(market(one("a", DOWN, unit_id="u"), units=(unit,))))) == faults
    assert not list(reach_faults(market(one("a", polygons=(piece(1, (25_000, 25_000)), piece(2, (50_000, 25_000)))))))


def test_what_must_run_runs_even_at_a_loss() -> None:
    """A store that must be fuller in the end buys, though nobody needs it; so does an offer that slices force."""
    filled = held(market(one("c", DOWN, unit_id="u"), units=(store(min_final_energy_wh=90_000),)))
    assert taken(filled)["c"] >= 160_000
    lonely = market(one("c", DOWN, unit_id="u"), units=(store(min_final_energy_wh=60_000),), alone=True)
    assert taken(held(replace(lonely, requests=(), baseline=())))["c"] == 40_000
    sliced = next(o for o in held(market(one("a", polygons=(piece(1, (10_000, 10_000)),)))).offers if o.offer_id == "a")
    assert sliced.quantity[:2] == (40_000, 40_000)


ASIDE: dict[str, tuple[str | None, Case]] = {
    "its budget is too small to fill it": (
        "u",
        market(one("a", DOWN, unit_id="u", max_energy_wh=1_000), units=(store(min_final_energy_wh=90_000),)),
    ),
    "its budget ends before its slice begins": (
        None,
        market(one("a", max_energy_wh=1_000, polygons=(piece(1, (10_000, 10_000)),))),
    ),
}


@pytest.mark.parametrize("name", ASIDE)
def test_what_cannot_run_is_set_aside_by_name_and_the_others_are_cleared_as_without_it(name: str) -> None:
    element, given = ASIDE[name]
    result, without = held(given), held(market())
    assert taken(result) == {**taken(without), "a": 0}
    (told,) = (n for n in result.non_awards if n.offer_id == "a")
    assert (told.reason, told.element_id, told.slots) == (
        NonAwardReason.OTHER_CONSTRAINT,
        element,
        tuple(range(SLOTS)),
    )
    assert told.text.startswith("set aside")
    # True by construction: without the rule that stood in the way it runs.
    freed = replace(given, offers=tuple(replace(o, max_energy_wh=None) for o in given.offers))
    assert taken(held(freed))["a"] > 0


def test_of_two_that_exclude_each_other_and_both_must_run_one_is_set_aside() -> None:
    both = [one(name, polygons=(piece(1, (10_000, 10_000)),), exclusive_group_id="g") for name in "ab"]
    result = held(market(*both))
    assert sorted(taken(result)[name] > 0 for name in "ab") == [False, True]
    assert all(taken(result)[o.offer_id] > 0 for o in GOOD)


def test_a_unit_that_is_silently_left_out_does_not_certify() -> None:
    """Only who is named as set aside may break its rules by standing still."""
    given = ASIDE["its budget is too small to fill it"][1]
    result = clear(given)
    silent = replace(result, non_awards=tuple(n for n in result.non_awards if n.offer_id != "a"))
    assert any("unit u" in f.message for f in certify(given, silent).findings)


@pytest.mark.parametrize("tie", ["minimum", "parent", "group"])
def test_who_must_run_and_could_only_at_a_loss_is_set_aside_and_keeps_nobody_from_being_cleared(tie: str) -> None:
    """The storage has to charge, which pays for nobody; its parent or sibling is left out as it would lose."""
    down, up = Direction.DOWN, Direction.UP
    store = Unit(
        unit_id="s",
        kind=UnitKind.STORAGE,
        initial_energy_wh=20_000,
        max_energy_wh=90_000,
        min_final_energy_wh=45_000,
    )
    must = offer("must", "b2", down, [[(200_000, 90_000)]] * 2, 50_000 * (tie == "minimum"), unit_id="s")
    block = offer("block", "b1", down, [[(100_000, 80_000)]] * 2, all_or_nothing=True)
    if tie == "parent":
        must = replace(must, parent_offer_id="block")
    if tie == "group":
        must = replace(must, exclusive_group_id="g", min_energy_wh=10_000)
        block = replace(block, exclusive_group_id="g")
    given = case(
        chain(3, km=0.2),
        [injection("b2", [-100_000] * 2)],
        slots=2,
        offers=(block, must, offer("other", "b1", up, [[(100_000, 10_000)]] * 2)),
        units=(store,),
        requests=(request("need", up, [[(100_000, 50_000)]] * 2, location_kind=Location.AREA),),
    )
    result = clear(given)
    taken = {o.offer_id: o.quantity for o in result.offers}
    assert taken == {"block": (0, 0), "must": (0, 0), "other": (100_000, 100_000)}
    assert [str(f) for f in certify(given, result).findings] == []
