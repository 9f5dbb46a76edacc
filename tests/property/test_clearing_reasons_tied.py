"""Reasons stay true where several rules bind an offer at once, and where all offers of a request are bound so.

What stands in the way may then be several things: each reason names one, and whoever does what it says hears the
next. So a chain of reasons must end with the offer taken, say nothing twice to no avail, and be no longer than the
rules that the offer has.
"""

from dataclasses import replace

import pytest

from clearing import Case, Result, clear
from clearing.case import Location, Request, RequestSlot
from clearing.certificate import certify
from clearing.result import NonAward, RequestResult, UnmetReason
from tests.clearing_cases import offer
from tests.cures import changed, rows_of, taken
from tests.tied_market import RULES, SLOTS, tied_market

SEEDS = range(18)
# 1/1000 EUR per MWh: prices are right to a hundredth of a EUR.
MARGIN = 10
# Rules that leave an offer as divisible as it was, in every slot by itself.
LOOSE = {"clip", "portfolio", "tan_phi", "reactive"}
# Beside the rules: its price, and the price again once it has moved the others' (blocks: at most twice).
BESIDE = 3


def rules_of(offer_id: str) -> list[str]:
    return offer_id.split("-")[1:]


def chain_of(given: Case, result: Result, row: NonAward) -> list[NonAward]:
    """Do what the reason says, and what the next one says, until more is taken; return the reasons."""
    before, now, chain = taken(given, result, row), given, [row]
    while True:
        cured = changed(now, chain[-1], MARGIN)
        assert cured != now, (chain, "says nothing that could be changed")
        now, after = cured, clear(cured)
        if taken(given, after, row) > before:
            return chain
        more = [r for r in rows_of(after, row.offer_id) if set(r.slots) & set(row.slots)]
        assert more, (chain, "no reason is given any more")
        chain.append(more[0])
        assert len(chain) <= len(rules_of(row.offer_id)) + BESIDE, chain


@pytest.mark.parametrize("seed", SEEDS)
def test_doing_what_the_reasons_say_gets_an_offer_with_many_rules_taken(seed: int) -> None:
    given = tied_market(seed)
    result = clear(given)
    assert certify(given, result).findings == ()
    for row in result.non_awards:
        chain = chain_of(given, result, row)
        if set(rules_of(row.offer_id)) <= LOOSE:
            assert len(chain) == 1, chain


def test_every_rule_is_drawn() -> None:
    drawn = {rule for seed in SEEDS for o in tied_market(seed).offers for rule in rules_of(o.offer_id)}
    assert drawn - {"other"} == set(RULES)


def cured_request(given: Case, mine: Request, got: RequestResult, worst: int) -> Case | None:
    """Change the request, or what it meets, by what its reason says; None: nothing of its own would help."""
    net, more, entry = given.network, given.offers, mine.slots[worst]
    by = got.price_distance_milli_per_mwh
    if by is not None:
        steps = (replace(s, price_milli_per_mwh=s.price_milli_per_mwh + by + MARGIN) for s in entry.steps)
        entry = replace(entry, steps=tuple(steps))
    match got.unmet_reason:
        case UnmetReason.PRICE:
            pass
        case UnmetReason.MINIMUM_QUANTITY:
            entry = replace(entry, min_quantity=0)
        case UnmetReason.GRID_LIMIT:
            buses = tuple(replace(b, min_voltage_ppm=500_000, max_voltage_ppm=1_500_000) for b in net.buses)
            net = replace(net, buses=buses, branches=tuple(replace(b, max_current_ma=None) for b in net.branches))
        case UnmetReason.NO_OFFER | UnmetReason.OFFER_CONSTRAINT:
            # Somebody comes who is tied by nothing and asks for nothing.
            place = {
                Location.BUS: mine.location_id,
                Location.ZONE: next((b.bus_id for b in net.buses if b.zone_id == mine.location_id), ""),
                Location.BRANCH: next((b.to_bus_id for b in net.branches if b.branch_id == mine.location_id), ""),
            }.get(mine.location_kind, "b0001")
            lack = got.requested[worst] - got.matched[worst]
            stacks = [[(lack, -900_000)] if t == worst else [] for t in range(SLOTS)]
            more = (*more, offer(f"new-{len(more)}", place, mine.direction, stacks, quantity=mine.quantity))
        case _:
            return None
    slots = list[RequestSlot](mine.slots)
    slots[worst] = entry
    asked = tuple(replace(r, slots=tuple(slots)) if r.request_id == mine.request_id else r for r in given.requests)
    return replace(given, network=net, offers=more, requests=asked)


@pytest.mark.parametrize("fewest", [0, 2])
def test_an_unmet_request_among_tied_offers_gets_more_for_what_its_reasons_say(fewest: int) -> None:
    said = set[UnmetReason | None]()
    for seed in range(30):
        given = tied_market(seed, fewest)
        result = clear(given)
        for got in result.requests:
            said.add(got.unmet_reason)
            if got.matched == got.requested:
                continue
            short = [a - b for a, b in zip(got.requested, got.matched, strict=True)]
            worst = short.index(max(short))
            now, then, told = given, got, list[RequestResult]()
            while then.matched[worst] <= got.matched[worst]:
                told.append(then)
                assert len(told) <= 3, told
                mine = next(r for r in now.requests if r.request_id == got.request_id)
                cured = cured_request(now, mine, then, worst)
                if cured is None:
                    break
                now = cured
                then = next(r for r in clear(now).requests if r.request_id == got.request_id)
    assert said >= {UnmetReason.NO_OFFER, UnmetReason.OFFER_CONSTRAINT, UnmetReason.OPPOSITE_NEED}
    assert fewest or said >= {UnmetReason.PRICE, UnmetReason.MINIMUM_QUANTITY}
