"""One small market per reason: who is not taken hears that reason, and is taken when it does not hold any more."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from clearing import Case, Result, clear
from clearing.case import Location, Offer, OfferSlot, StartChoice, Unit, UnitKind
from clearing.result import UnmetReason
from flexbus.events.clearing import NonAwardReason
from flexbus.quantities import Direction
from tests.clearing_cases import case, chain, injection, offer, request

UP, DOWN = Direction.UP, Direction.DOWN
Change = Callable[[Case], Case]


def market(*offers: Offer, worth: tuple[int, ...] = (50_000,), watts: int = 100_000) -> Case:
    """Three buses without a limit in sight; the area wants some upward power in every slot."""
    slots = len(worth)
    return case(
        chain(3, km=0.1),
        [injection("b2", [-100_000] * slots)],
        slots=slots,
        offers=offers,
        requests=(request("need", UP, [[(watts, w)] if w else [] for w in worth], location_kind=Location.AREA),),
    )


def up(name: str, price: int, watts: int = 100_000, slots: int = 1, minimum: int = 0, **more: object) -> Offer:
    return offer(name, "b2", UP, [[(watts, price)]] * slots, minimum, **more)


def me(**changes: object) -> Change:
    """Change the offer `me`."""

    def apply(given: Case) -> Case:
        offers = tuple(replace(o, **changes) if o.offer_id == "me" else o for o in given.offers)  # type: ignore[arg-type]
        return replace(given, offers=offers)

    return apply


def cheaper(by: int) -> Change:
    def slot(entry: OfferSlot) -> OfferSlot:
        steps = (replace(s, price_milli_per_mwh=s.price_milli_per_mwh - by) for s in entry.steps)
        return replace(entry, steps=tuple(steps))

    def apply(given: Case) -> Case:
        mine = next(o for o in given.offers if o.offer_id == "me")
        return me(slots=tuple(slot(e) for e in mine.slots))(given)

    return apply


def every_slot(**changes: object) -> Change:
    def apply(given: Case) -> Case:
        mine = next(o for o in given.offers if o.offer_id == "me")
        return me(slots=tuple(replace(e, **changes) for e in mine.slots))(given)  # type: ignore[arg-type]

    return apply


def sunny(*offers: Offer) -> Case:
    """The sun lifts b5 to its voltage limit; whoever feeds in more there makes it worse."""
    sun = [injection(f"b{k}", [2_000_000]) for k in range(1, 6)]
    cure = offer("cure", "b5", DOWN, [[(3_000_000, 30_000)]])
    buyer = request("brp", UP, [[(100_000, 40_000)]], location_kind=Location.AREA)
    return case(chain(6, km=4.0), sun, offers=(cure, *offers), requests=(buyer,))


def loaded(*offers: Offer) -> Case:
    """5 MW of sun behind a line of 100 A: whoever feeds in more there makes it worse."""
    cure = offer("cure", "b2", DOWN, [[(3_000_000, 30_000)]])
    buyer = request("brp", UP, [[(100_000, 40_000)]], location_kind=Location.AREA)
    return case(chain(3, max_a=100, km=0.5), [injection("b2", [5_000_000])], offers=(cure, *offers), requests=(buyer,))


def wider(given: Case) -> Case:
    buses = tuple(replace(b, max_voltage_ppm=1_500_000) for b in given.network.buses)
    return replace(given, network=replace(given.network, buses=buses))


def thicker(given: Case) -> Case:
    lines = tuple(replace(b, max_current_ma=None) for b in given.network.branches)
    return replace(given, network=replace(given.network, branches=lines))


def closed(given: Case) -> Case:
    lines = tuple(replace(b, closed=True) for b in given.network.branches)
    return replace(given, network=replace(given.network, branches=lines))


def opened(given: Case) -> Case:
    lines = tuple(replace(b, closed=b.branch_id != "l2") for b in given.network.branches)
    return replace(given, network=replace(given.network, branches=lines))


FULL = Unit(unit_id="tank", kind=UnitKind.STORAGE, max_energy_wh=100_000)
REASONS = NonAwardReason
CASES: list[tuple[str, NonAwardReason, str | None, int | None, Case, Change]] = [
    ("not needed", REASONS.NO_DEMAND, None, 20_000, market(up("me", 20_000), worth=(0,)), cheaper(20_001)),
    ("too dear", REASONS.PRICE, "b2", 10_000, market(up("me", 60_000)), cheaper(10_001)),
    ("outbid", REASONS.PRICE, "b2", 15_000, market(up("me", 35_000), up("other", 20_000, 200_000)), cheaper(15_001)),
    ("voltage", REASONS.VOLTAGE_LIMIT, "b5", None, sunny(offer("me", "b5", UP, [[(90_000, 20_000)]])), wider),
    ("voltage, cheaper", REASONS.VOLTAGE_LIMIT, "b5", None, sunny(offer("me", "b5", UP, [[(90_000, 20_000)]])),
     cheaper(52_000)),
    ("current", REASONS.BRANCH_LIMIT, "l1", None, loaded(offer("me", "b2", UP, [[(90_000, 20_000)]])), thicker),
    ("minimum", REASONS.MINIMUM_QUANTITY, None, 90_000,
     market(up("me", 30_000, minimum=90_000), up("other", 40_000), watts=50_000), every_slot(min_quantity=0)),
    ("least energy", REASONS.MINIMUM_QUANTITY, None, 60_000,
     market(up("me", 45_000, slots=2, min_energy_wh=60_000), worth=(50_000, 50_000)), me(min_energy_wh=None)),
    ("sibling", REASONS.EXCLUSIVE_SIBLING, "better", None,
     market(up("me", 30_000, exclusive_group_id="g"), up("better", 20_000, exclusive_group_id="g"), watts=200_000),
     me(exclusive_group_id=None)),
    ("parent", REASONS.PARENT_NOT_TAKEN, "above", None,
     market(up("me", 30_000, parent_offer_id="above"), up("above", 90_000, all_or_nothing=True), watts=200_000),
     me(parent_offer_id=None)),
    ("budget", REASONS.ENERGY_BUDGET, None, 10_000,
     market(up("me", 30_000, slots=2, max_energy_wh=10_000), worth=(50_000, 60_000)), me(max_energy_wh=50_000)),
    ("block", REASONS.PARADOXICAL_BLOCK, None, None,
     market(up("me", 30_000, 200_000, all_or_nothing=True), up("other", 40_000)), me(all_or_nothing=False)),
    ("cut", REASONS.CLIPPED, None, 80_000, every_slot(max_quantity=20_000)(market(up("me", 30_000))),
     every_slot(max_quantity=None)),
    ("cut block", REASONS.CLIPPED, None, 80_000,
     every_slot(max_quantity=20_000)(market(up("me", 30_000, all_or_nothing=True))), every_slot(max_quantity=None)),
    ("dead bus", REASONS.OTHER_CONSTRAINT, "b2", 0, opened(market(up("me", 30_000))), closed),
    ("empty storage", REASONS.OTHER_CONSTRAINT, "tank", None,
     replace(market(up("me", 30_000, unit_id="tank")), units=(FULL,)), me(unit_id=None)),
    ("ramp", REASONS.OTHER_CONSTRAINT, None, 0, market(up("me", 30_000, max_rise=10_000)), me(max_rise=None)),
    ("run", REASONS.OTHER_CONSTRAINT, None, None,
     market(up("me", 30_000, slots=2, max_run_slots=1), worth=(50_000, 60_000)), me(max_run_slots=None)),
]  # fmt: skip


def energy(result: Result) -> int:
    return sum(next(o.quantity for o in result.offers if o.offer_id == "me"))


@pytest.mark.parametrize(
    ("reason", "element", "amount", "given", "change"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_the_reason_is_given_and_without_it_the_offer_is_taken(
    reason: NonAwardReason, element: str | None, amount: int | None, given: Case, change: Change
) -> None:
    result = clear(given)
    row = next(n for n in result.non_awards if n.offer_id == "me")
    assert (row.reason, row.element_id) == (reason, element), row
    assert amount is None or row.amount == amount
    assert row.text
    assert energy(clear(change(given))) > energy(result)


def test_every_reason_has_its_case() -> None:
    assert {c[1] for c in CASES} == set(NonAwardReason)


def test_a_start_choice_that_is_too_dear_hears_by_how_much() -> None:
    choice = StartChoice(profile=(100_000, 50_000), earliest_slot=0, latest_slot=1, price_milli_per_mwh=80_000)
    mine = Offer(offer_id="me", bus_id="b2", direction=UP, start_choice=choice)
    given = market(mine, worth=(50_000, 60_000, 60_000))
    (row,) = clear(given).non_awards
    assert (row.reason, row.price_distance_milli_per_mwh) == (NonAwardReason.PRICE, 20_000)
    less = me(start_choice=replace(choice, price_milli_per_mwh=80_000 - 20_001))
    assert energy(clear(less(given))) == 150_000


UNMET: list[tuple[UnmetReason, Case]] = [
    (UnmetReason.NO_OFFER, market()),
    (UnmetReason.NO_OFFER, opened(market(up("me", 30_000)))),
    (UnmetReason.PRICE, market(up("me", 60_000))),
    (UnmetReason.OFFER_CONSTRAINT, market(up("me", 30_000, 200_000, all_or_nothing=True))),
]


@pytest.mark.parametrize(("reason", "given"), UNMET)
def test_an_unmet_request_has_a_code_and_words(reason: UnmetReason, given: Case) -> None:
    (got,) = clear(given).requests
    assert got.unmet_reason is reason
    assert got.reason.startswith("up to 100.000 kW short in 1 slots: ")


def test_a_request_with_a_minimum_hears_that_less_is_to_be_had() -> None:
    given = market(up("me", 30_000, 40_000))
    entry = replace(given.requests[0].slots[0], min_quantity=80_000)
    given = replace(given, requests=(replace(given.requests[0], slots=(entry,)),))
    (got,) = clear(given).requests
    assert (got.matched, got.unmet_reason) == ((0,), UnmetReason.MINIMUM_QUANTITY)


@pytest.mark.parametrize(("where", "place"), [(Location.BRANCH, "l1"), (Location.INFEED_POINT, "root")])
def test_a_minimum_over_a_flow_is_had_in_full_or_not_at_all(where: Location, place: str) -> None:
    def cleared(watts: int) -> Result:
        given = market(up("me", 30_000, watts))
        entry = replace(given.requests[0].slots[0], min_quantity=80_000)
        need = replace(given.requests[0], location_kind=where, location_id=place, slots=(entry,))
        return clear(replace(given, requests=(need,)))

    assert cleared(40_000).requests[0].matched == (0,)
    assert cleared(40_000).offers[0].quantity == (0,)
    assert cleared(90_000).requests[0].matched[0] >= 80_000


def test_a_request_in_a_slot_without_ac_solution_says_so() -> None:
    given = replace(market(up("me", 30_000)), baseline=(injection("b2", [-9_000_000_000]),))
    (got,) = clear(given).requests
    assert got.unmet_reason is UnmetReason.NO_AC_SOLUTION
