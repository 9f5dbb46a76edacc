"""Whoever is not taken hears why, and changing the offer by what the reason says gets it taken."""

import random
from dataclasses import replace

import pytest

from clearing import Case, clear
from clearing.case import Location, Offer, Payback, Quantity, Request
from clearing.convert.cases import convert_case
from clearing.result import UnmetReason
from flexbus.events.clearing import NonAwardReason
from flexbus.quantities import Direction
from tests.clearing_cases import case, offer, request
from tests.cures import changed, rows_of, taken
from tests.tied_market import strained_feeder

UP, DOWN = Direction.UP, Direction.DOWN
SLOTS = 3
# Reasons after which what is left may still not fit as a whole: the next reason then says so.
CHAIN = 3


def random_market(seed: int) -> Case:
    """A strained feeder, requests of every kind of place, offers of every kind."""
    rng = random.Random(seed)
    net, baseline = strained_feeder(rng, seed, SLOTS)
    n = len(net.buses)
    offers = [_offer(rng, i, n) for i in range(rng.randint(6, 12))]
    requests = []
    for i in range(rng.randint(0, 3)):
        where = rng.choice([Location.AREA, Location.ZONE, Location.BUS])
        place = {"AREA": "", "ZONE": "z1", "BUS": f"b{rng.randrange(1, n):04d}"}[where.value]
        worth = rng.randrange(20, 120) * 1000 + rng.randrange(1000)
        curve = [[(rng.randrange(50_000, 400_000), worth)] if rng.random() < 0.8 else [] for _ in range(SLOTS)]
        requests.append(request(f"r{i}", rng.choice([UP, DOWN]), curve, location_kind=where, location_id=place))
    return case(net, baseline, slots=SLOTS, offers=tuple(offers), requests=tuple(requests))


def _offer(rng: random.Random, i: int, n: int) -> Offer:
    steps = sorted(rng.randrange(1, 90) * 1000 + rng.randrange(1000) for _ in range(rng.randint(1, 3)))
    stack = [(rng.randrange(30_000, 300_000), p) for p in steps]
    more: dict[str, object] = {}
    kind = rng.choice(["plain", "plain", "block", "budget", "minimum", "group", "ramp", "clip", "reactive", "payback"])
    minimum = 0
    match kind:
        case "block":
            more["all_or_nothing"] = True
        case "budget":
            more["max_energy_wh"] = sum(q for q, _ in stack) * SLOTS // 4 // rng.randint(2, 4)
        case "minimum":
            minimum = rng.randrange(1, sum(q for q, _ in stack))
        case "group":
            more["exclusive_group_id"] = f"g{rng.randint(0, 1)}"
        case "ramp":
            more["max_rise"] = rng.randrange(10_000, 80_000)
        case "reactive":
            more["quantity"] = Quantity.REACTIVE
        case "payback":
            more["payback"] = Payback(factor_ppm=900_000, delay_slots=0, window_slots=1)
    made = offer(
        f"o{i:02d}-{kind}", f"b{rng.randrange(1, n):04d}", rng.choice([UP, DOWN]), [stack] * SLOTS, minimum, **more
    )
    if kind == "clip":
        made = replace(made, slots=tuple(replace(s, max_quantity=rng.randrange(20_000, 90_000)) for s in made.slots))
    return made


@pytest.mark.parametrize("seed", range(24))
def test_changing_an_offer_by_what_its_reason_says_gets_it_taken(seed: int) -> None:
    given = random_market(seed)
    result = clear(given)
    for row in result.non_awards:
        if row.reason is NonAwardReason.OTHER_CONSTRAINT and row.element_id in {b.bus_id for b in given.network.buses}:
            continue
        before, now, chain = taken(given, result, row), given, [row]
        while len(chain) <= CHAIN:
            now = changed(now, chain[-1])
            after = clear(now)
            if taken(given, after, row) > before:
                break
            more = [r for r in rows_of(after, row.offer_id) if set(r.slots) & set(row.slots)]
            assert more, (row, "no reason is given any more")
            chain.append(more[0])
        assert taken(given, after, row) > before, chain
        mine = next(o for o in given.offers if o.offer_id == row.offer_id)
        if not (mine.all_or_nothing or mine.exclusive_group_id or mine.slots[0].min_quantity or mine.max_rise):
            assert len(chain) == 1, chain


@pytest.mark.parametrize("seed", range(24))
def test_every_watt_offered_is_taken_or_has_one_reason(seed: int) -> None:
    given = random_market(seed)
    result = clear(given)
    for mine in given.offers:
        offered = [sum(s.quantity for s in e.steps) for e in mine.slots]
        got = next(o.quantity for o in result.offers if o.offer_id == mine.offer_id)
        missing = {t for t, (a, b) in enumerate(zip(offered, got, strict=True)) if b < a}
        rows = rows_of(result, mine.offer_id)
        assert {t for r in rows for t in r.slots} == missing
        rejected = sum(r.rejected_energy_wh for r in rows)
        assert abs(rejected - sum(a - b for a, b in zip(offered, got, strict=True)) / 4) <= len(offered)
        assert all(r.text for r in rows)


def bidding_more(given: Request, by: int, slot: int) -> Request:
    slots = list(given.slots)
    steps = (replace(s, price_milli_per_mwh=s.price_milli_per_mwh + by) for s in slots[slot].steps)
    slots[slot] = replace(slots[slot], steps=tuple(steps))
    return replace(given, slots=tuple(slots))


@pytest.mark.parametrize("seed", range(24))
def test_an_unmet_request_gets_more_for_what_its_reason_says(seed: int) -> None:
    given = random_market(seed)
    result = clear(given)
    asked = {r.request_id: r for r in given.requests}
    for got in result.requests:
        if got.matched == got.requested:
            assert (got.unmet_reason, got.price_distance_milli_per_mwh, got.reason) == (None, None, "")
            continue
        assert "short in" in got.reason
        mine, more, net, slots = asked[got.request_id], given.offers, given.network, slice(None)
        match got.unmet_reason:
            case UnmetReason.PRICE:
                assert got.price_distance_milli_per_mwh is not None
                short = [a - b for a, b in zip(got.requested, got.matched, strict=True)]
                worst = short.index(max(short))
                mine = bidding_more(mine, got.price_distance_milli_per_mwh + 2, worst)
                slots = slice(worst, worst + 1)  # an offer with payback may then leave another slot for this one
            case UnmetReason.GRID_LIMIT:
                net = replace(
                    net,
                    buses=tuple(replace(b, min_voltage_ppm=500_000, max_voltage_ppm=1_500_000) for b in net.buses),
                    branches=tuple(replace(b, max_current_ma=None) for b in net.branches),
                )
            case UnmetReason.NO_OFFER | UnmetReason.OFFER_CONSTRAINT:
                # Somebody comes who is tied by nothing and asks for nothing.
                place = mine.location_id if mine.location_kind is Location.BUS else "b0001"
                more = (*more, offer("new", place, mine.direction, [[(1_000_000, -900_000)]] * SLOTS))
            case UnmetReason.OPPOSITE_NEED:
                # Whoever serves the opposite there was taken: without them all it would not be the opposite.
                against = [o for o in given.offers if o.direction is not mine.direction or o.payback is not None]
                assert any(any(o.quantity) for o in result.offers if o.offer_id in {a.offer_id for a in against})
                continue
            case _:
                raise AssertionError(got)
        requests = tuple(mine if r.request_id == mine.request_id else r for r in given.requests)
        after = clear(replace(given, network=net, offers=more, requests=requests))
        now = next(r for r in after.requests if r.request_id == mine.request_id)
        assert sum(now.matched[slots]) > sum(got.matched[slots]), (got, now)


@pytest.mark.parametrize("seed", [1, 2])
def test_reasons_are_true_on_a_public_grid_with_its_made_up_market(seed: int) -> None:
    """33 buses, storages, budgets, payback, reactive offers and a price cap: one change is enough for the divisible."""
    given = convert_case("matpower", "case33bw", day="sunny", slots=2, offers=16, seed=seed)
    result = clear(given)
    rows = [
        r for r in result.non_awards if not next(o for o in given.offers if o.offer_id == r.offer_id).all_or_nothing
    ]
    assert len(rows) >= 4
    for row in rows:
        after = clear(changed(given, row))
        assert taken(given, after, row) > taken(given, result, row), row
