"""What a certificate checks mechanically within a result, and reasons that caps on an offer have."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from clearing import Case, Result, clear
from clearing.case import OfferSlot, PolygonSlice, PolygonVertex, Step
from clearing.certificate import certify
from flexbus.events.clearing import NonAwardReason, SlotStatus
from flexbus.quantities import Direction
from tests.clearing_cases import case, chain, injection, offer

UP = Direction.UP


def market() -> Case:
    corners = ((0, 0), (1_000_000, 0), (0, 1_000_000))
    slices = tuple(PolygonVertex(energy_before_wh=a, energy_wh=b) for a, b in corners)
    return case(
        chain(3, max_a=100),
        [injection("b2", [-5_000_000, -3_000_000])],
        slots=2,
        offers=(
            offer("cure", "b2", UP, [[(1_000_000, 9_000)]] * 2, polygons=(PolygonSlice(slot=1, vertices=slices),)),
            offer("dear", "b2", UP, [[(3_000_000, 9_000_000)]] * 2),
        ),
    )


@pytest.fixture(scope="module")
def cleared() -> tuple[Case, Result]:
    given = market()
    result = clear(given)
    assert certify(given, result).findings == ()
    assert result.certificate.duals
    assert result.non_awards
    return given, result


FORGED: dict[str, Callable[[Result], Result]] = {
    "$.status": lambda r: replace(r, status=SlotStatus.BASELINE_KEPT),
    "$.non_awards[0].offer_id": lambda r: replace(
        r, non_awards=(replace(r.non_awards[0], offer_id="ghost"), *r.non_awards[1:])
    ),
    "$.certificate.duals": lambda r: replace(
        r, certificate=replace(r.certificate, duals=(*r.certificate.duals, r.certificate.duals[0]))
    ),
    "$.slots[1].gap_nano": lambda r: replace(
        r, slots=(r.slots[0], replace(r.slots[1], gap_nano=(r.slots[1].gap_nano or 0) + 100_000))
    ),
    "$.slots[0].gap_nano": lambda r: replace(r, slots=(replace(r.slots[0], gap_nano=None), *r.slots[1:])),
    "$.slots[0].ac_violation_ppm": lambda r: replace(
        r, slots=(replace(r.slots[0], ac_violation_ppm=r.slots[0].ac_violation_ppm + 1), *r.slots[1:])
    ),
}


@pytest.mark.parametrize("path", FORGED)
def test_what_disagrees_within_a_result_is_found(path: str, cleared: tuple[Case, Result]) -> None:
    given, result = cleared
    assert path in [f.path for f in certify(given, FORGED[path](result)).findings]


def test_what_a_margin_leaves_beyond_a_named_shortfall_is_recomputed() -> None:
    """Where a limit is broken the element is named; a hidden one shows as an excess that is not published."""
    given = replace(market(), offers=())
    result = clear(given)
    assert certify(given, result).findings == ()
    hidden = replace(result, slots=tuple(replace(s, shortfalls=()) for s in result.slots))
    paths = [f.path for f in certify(given, hidden).findings]
    assert {"$.slots[0].shortfalls", "$.slots[0].ac_violation_ppm"} <= set(paths)


def test_a_point_outside_its_slices_is_told_in_plain_numbers(cleared: tuple[Case, Result]) -> None:
    given, result = cleared
    small = (PolygonVertex(energy_before_wh=0, energy_wh=0), PolygonVertex(energy_before_wh=10, energy_wh=0))
    slices = (PolygonSlice(slot=1, vertices=small),)
    other = replace(given, offers=(replace(given.offers[0], polygons=slices), given.offers[1]))
    told = [f.message for f in certify(other, result).findings if "polygon" in f.message]
    assert told
    assert "np." not in "".join(told)


def test_a_cap_below_the_minimum_is_what_stands_in_the_way() -> None:
    """A light may cut an offer below its own minimum; then not the need was too small."""
    cut = OfferSlot(steps=(Step(quantity=3_000_000, price_milli_per_mwh=9_000),), min_quantity=50_000)
    given = replace(market(), offers=(replace(market().offers[1], slots=(replace(cut, max_quantity=10_000),) * 2),))
    result = clear(given)
    assert certify(given, result).findings == ()
    assert {n.reason for n in result.non_awards} == {NonAwardReason.CLIPPED}
    freed = replace(given, offers=(replace(given.offers[0], slots=(cut,) * 2),))
    assert any(clear(freed).offers[0].quantity)
