"""Active and reactive offers of one inverter share its circle and its cone."""

import math
from dataclasses import replace

import pytest

from clearing import Case, Result, clear
from clearing.case import Location, Quantity, Unit, UnitKind
from clearing.certificate import certify
from flexbus.errors import FaultyInputError
from flexbus.events.clearing import NonAwardReason
from flexbus.quantities import Direction
from tests.clearing_cases import case, chain, injection, offer, request

UP, DOWN = Direction.UP, Direction.DOWN
CIRCLE = 100_000


def market(unit: Unit, p_worth: int, q_worth: int, *, p_way: Direction = UP, q_way: Direction = UP) -> Case:
    """Somebody at b2 buys active and reactive power; the inverter there offers 90 kW and 90 kvar for nothing."""
    offers = (
        offer("p-up", "b2", UP, [[(90_000, 100)]], unit_id="pv"),
        offer("p-down", "b2", DOWN, [[(90_000, 100)]], unit_id="pv"),
        offer("q-up", "b2", UP, [[(90_000, 100)]], unit_id="pv", quantity=Quantity.REACTIVE),
        offer("q-down", "b2", DOWN, [[(90_000, 100)]], unit_id="pv", quantity=Quantity.REACTIVE),
    )
    place = {"location_kind": Location.BUS, "location_id": "b2"}
    return case(
        chain(3, km=0.1),
        [injection("b2", [0])],
        offers=offers,
        requests=(
            request("p", p_way, [[(200_000, p_worth)]], **place),
            request("q", q_way, [[(200_000, q_worth)]], quantity=Quantity.REACTIVE, **place),
        ),
        units=(unit,),
    )


def inverter(p: int = 0, q: int = 0, **more: object) -> Unit:
    return Unit(
        unit_id="pv",
        kind=UnitKind.INVERTER,
        baseline_power_w=(p,),
        baseline_reactive_power_var=(q,),
        **more,  # type: ignore[arg-type]
    )


def point(result: Result, p: int = 0, q: int = 0) -> tuple[int, int]:
    got = {o.offer_id: o.quantity[0] for o in result.offers}
    return p + got["p-up"] - got["p-down"], q + got["q-up"] - got["q-down"]


@pytest.mark.parametrize("degrees", range(5, 90, 12))
@pytest.mark.parametrize(("p_way", "q_way"), [(UP, UP), (DOWN, UP), (UP, DOWN), (DOWN, DOWN)])
def test_the_best_point_of_the_circle_is_found(degrees: int, p_way: Direction, q_way: Direction) -> None:
    """With worths (a, b) the best point of a circle lies in the direction (a, b), cut where the offers end."""
    a, b = (round(100_000 * f(math.radians(degrees))) for f in (math.cos, math.sin))
    given = market(inverter(max_apparent_power_va=CIRCLE), a, b, p_way=p_way, q_way=q_way)
    result = clear(given)
    p, q = point(result)
    assert math.hypot(p, q) <= CIRCLE + 2
    got = (a - 100) * abs(p) + (b - 100) * abs(q)
    best = max(
        (a - 100) * min(CIRCLE * math.cos(x), 90_000) + (b - 100) * min(CIRCLE * math.sin(x), 90_000)
        for x in (k / 1000 for k in range(1571))
    )
    assert got >= best * (1 - 0.0025)
    assert certify(given, result).findings == ()


def test_reactive_power_needs_room_beside_the_sun() -> None:
    # 80 kW of sun in 100 kVA leave 60 kvar; curtailing (DOWN) makes room for more when that is worth it.
    full = market(inverter(p=80_000, max_apparent_power_va=CIRCLE), 0, 50_000)
    p, q = point(clear(full), 80_000)
    assert q == pytest.approx(90_000, rel=2e-3)
    assert math.hypot(p, q) <= CIRCLE + 2
    alone = replace(full, offers=tuple(o for o in full.offers if o.quantity is Quantity.REACTIVE))
    q = next(o.quantity[0] for o in clear(alone).offers if o.offer_id == "q-up")
    # The polygon lies at most 0.12 % of the radius inside the circle, here at a slope of 0.6.
    assert 60_000 - 0.0013 * CIRCLE / 0.6 <= q <= 60_001


@pytest.mark.parametrize("p_way", [UP, DOWN])
def test_the_cone_lets_reactive_power_grow_with_active_on_either_side(p_way: Direction) -> None:
    given = market(inverter(max_tan_phi_ppm=500_000), 50_000, 50_000, p_way=p_way)
    result = clear(given)
    assert point(result) == (p_way.sign * 90_000, 45_000)
    assert certify(given, result).findings == ()


def test_the_cone_makes_active_power_worth_its_reactive() -> None:
    """Nobody wants active power, but 1 kW of it for 0.1 EUR lets 0.5 kvar flow that is worth 50."""
    given = replace(market(inverter(max_tan_phi_ppm=500_000), 0, 50_000), requests=())
    asked = market(inverter(max_tan_phi_ppm=500_000), 0, 50_000).requests[1]
    result = clear(replace(given, requests=(asked,)))
    p, q = point(result)
    assert (abs(p), q) == (90_000, 45_000)


def test_circle_and_cone_hold_together() -> None:
    given = market(inverter(p=50_000, q=10_000, max_apparent_power_va=CIRCLE, max_tan_phi_ppm=484_000), 40_000, 40_000)
    result = clear(given)
    p, q = point(result, 50_000, 10_000)
    assert q <= 0.484 * p + 2
    assert math.hypot(p, q) == pytest.approx(CIRCLE, rel=2e-3)
    assert certify(given, result).findings == ()


def test_the_unit_is_named_where_it_stands_in_the_way() -> None:
    result = clear(market(inverter(max_apparent_power_va=CIRCLE), 50_000, 50_000))
    row = next(n for n in result.non_awards if n.offer_id == "q-up")
    assert (row.reason.value, row.element_id) == ("OTHER_CONSTRAINT", "pv")


@pytest.mark.parametrize(
    ("unit", "path"),
    [
        (inverter(), "$.units[0].max_apparent_power_va"),
        (inverter(max_apparent_power_va=-1), "$.units[0].max_apparent_power_va"),
        (inverter(p=90_000, q=90_000, max_apparent_power_va=CIRCLE), "$.units[0].baseline_power_w[0]"),
        (inverter(q=5, max_tan_phi_ppm=500_000), "$.units[0].baseline_reactive_power_var[0]"),
        (replace(inverter(max_tan_phi_ppm=1), baseline_power_w=(1, 2)), "$.units[0].baseline_power_w"),
    ],
)
def test_an_inverter_that_cannot_be_is_a_fault(unit: Unit, path: str) -> None:
    with pytest.raises(FaultyInputError) as caught:
        clear(market(unit, 1, 1))
    assert path in {f.path for f in caught.value.faults}


def test_an_inverter_too_dear_to_be_used_keeps_nobody_else_from_being_cleared() -> None:
    """It feeds in and could be turned to draw: to leave it as it is must be among the choices."""
    unit = Unit(unit_id="pv", kind=UnitKind.INVERTER, baseline_power_w=(50_000,), max_tan_phi_ppm=400_000)
    dear = offer("dear", "b2", DOWN, [[(90_000, 90_000)]], unit_id="pv")
    cheap = offer("cheap", "b1", DOWN, [[(90_000, 10_000)]])
    need = request("need", DOWN, [[(20_000, 50_000)]], location_kind=Location.AREA)
    given = case(chain(3, km=0.1), [injection("b2", [50_000])], offers=(dear, cheap), requests=(need,), units=(unit,))
    result = clear(given)
    assert [(o.offer_id, o.quantity) for o in result.offers] == [("cheap", (20_000,)), ("dear", (0,))]
    alone = clear(replace(given, offers=(dear,)))
    assert [(n.reason, n.price_distance_milli_per_mwh) for n in alone.non_awards] == [(NonAwardReason.PRICE, 40_000)]
