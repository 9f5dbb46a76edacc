"""A session of which one record cannot tell all is cleared all the same, without what it could not tell."""

from typing import Any

import pytest

from clearing import room
from flexbus import codec
from flexbus import events as ev
from flexbus.fitting import size_of
from flexbus.views.fact import Emission, Job
from tests.story import DAY, offer
from tests.unit.test_snapshot import due, facts, forecast, request

SMALL = ((2_000, 1_000),)


def offers(count: int, fsp: str = "alpha", point: str = "p1") -> list[ev.FlexOfferSubmitted]:
    return [offer(f"{fsp}-{n:03}", point, SMALL, fsp=fsp, slots=4) for n in range(count)]


def market(*told: Any) -> ev.MarketCleared:
    found = facts(*told)[-1]
    assert isinstance(found, ev.MarketCleared)
    return found


def bounded(monkeypatch: pytest.MonkeyPatch, parts: int, whole: int) -> None:
    monkeypatch.setattr(room, "ROOM_BYTES", parts)
    monkeypatch.setattr(codec, "MAX_SERVICE_EVENT_BYTES", whole)


def test_more_awards_than_a_record_holds_leave_each_provider_its_equal_part(monkeypatch: pytest.MonkeyPatch) -> None:
    many, few = offers(120), offers(5, "beta", "p2")
    asked = request("all", power_w=(300_000,) * 4)
    whole = market(*many, *few, asked)
    assert len(whole.awards) == 125
    bounded(monkeypatch, 10_000, 12_000)
    told = market(*many, *few, asked)
    assert len(codec.encode(told)) <= 12_000
    awarded = {a.offer_id for a in told.awards}
    assert {o.offer.offer_id for o in few} <= awarded
    assert 20 < len(awarded) < 120
    assert size_of(told.awards) + size_of(told.requests) <= 10_000
    alone = market(*(o for o in (*many, *few) if o.offer.offer_id in awarded), asked)
    assert (told.awards, told.requests, told.case_hash) == (alone.awards, alone.requests, alone.case_hash)
    left = [n for n in told.non_awards if n.offer_id not in awarded]
    assert left
    assert {n.text for n in left} == {room._NO_ROOM}


def test_what_was_taken_when_all_took_part_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cheapest have the last names: they are kept, and not the first of the list."""
    many = [offer(f"o-{n:03}", "p1", ((2_000, 9_000 - 50 * n),), slots=4) for n in range(120)]
    asked = request("some", power_w=(100_000,) * 4, max_price_milli_per_mwh=300_000)
    whole = {a.offer_id for a in market(*many, asked).awards}
    assert len(whole) == 50
    bounded(monkeypatch, 2_500, 4_000)
    told = {a.offer_id for a in market(*many, asked).awards}
    assert 10 < len(told) < 50
    assert told <= whole


def test_more_requests_than_a_record_holds_are_left_out_and_the_others_are_met(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [request(f"r-{n:03}", requester_id="tso", power_w=(1_000,) * 4) for n in range(200)]
    mine = request("mine", power_w=(1_000,) * 4)
    book = [*offers(5), *asked, mine]
    assert len(market(*book).requests) == 201
    bounded(monkeypatch, 10_000, 13_000)
    told = market(*book)
    assert len(codec.encode(told)) <= 13_000
    (got,) = (r for r in told.requests if r.request_id == "mine")
    assert got.matched_w == (1_000,) * 4
    assert 5 < len(told.requests) < 200


def test_a_session_that_cannot_be_cleared_tells_as_many_requests_as_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = [request(f"r-{n:03}", requester_id="tso") for n in range(200)]
    bounded(monkeypatch, 10_000, 13_000)
    (found,) = due(*offers(5), *asked)  # and no forecast
    assert isinstance(found, Emission)
    told = found.event
    assert len(codec.encode(told)) <= 13_000
    assert not told.awards
    assert 5 < len(told.requests) < 200


@pytest.mark.parametrize("slots", [1, 4])
def test_no_award_is_larger_than_it_was_reckoned(slots: int) -> None:
    submitted = offer("o", "p1", ((100_000, 299_000),), slots=slots)
    told = market(submitted, request("all", start_ms=DAY, power_w=(100_000,) * 4))
    (award,) = told.awards
    (job,) = due(forecast(), submitted)
    assert isinstance(job, Job)
    (snapshot,) = job.arguments
    reckoned = room._offer_bytes(snapshot, snapshot.offers[0])
    assert size_of((award,)) <= reckoned <= 1.5 * size_of((award,)) + 10
