"""The order book after a history."""

from dataclasses import replace

from flexbus import events as ev
from flexbus.views import book
from flexbus.views.book import Book
from tests.market import (
    AREA,
    DSO,
    FSP_A,
    SESSION,
    Market,
    baseline,
    gate_closed,
    offer,
    open_market,
    request,
    submitted,
)  # fmt: skip


def folded(market: Market) -> Book:
    state = Book()
    for fact in market.facts:
        book.fold(state, fact)
    return state


def test_the_newest_revision_of_each_live_offer_stands() -> None:
    market = open_market()
    market.send(submitted("o1"), FSP_A)
    market.send(submitted("o2"), FSP_A)
    market.send(ev.FlexOfferReplaced(area_id=AREA, offer=offer("o1", revision=2, slots=8)), FSP_A)
    market.send(ev.FlexOfferWithdrawn(area_id=AREA, offer_id="o2", fsp_id=FSP_A), FSP_A)
    offers = folded(market).session(SESSION).offers
    assert {k: (o.revision, len(o.slots)) for k, o in offers.items()} == {"o1": (2, 8)}


def test_requests_are_amended_and_withdrawn() -> None:
    market = open_market()
    market.send(ev.FlexRequestSubmitted(area_id=AREA, request=request("r1")), DSO)
    market.send(ev.FlexRequestSubmitted(area_id=AREA, request=request("r2")), DSO)
    market.send(ev.FlexRequestAmended(area_id=AREA, request=request("r1", revision=2, power_w=(90_000,))), DSO)
    market.send(ev.FlexRequestWithdrawn(area_id=AREA, request_id="r2", requester_id=DSO), DSO)
    assert {k: r.power_w for k, r in folded(market).session(SESSION).requests.items()} == {"r1": (90_000,)}


def test_the_newest_baseline_of_a_point_counts_whatever_its_id() -> None:
    market = open_market()
    market.send(baseline(), FSP_A)
    market.send(baseline(revision=2, power_w=-100), FSP_A)
    assert folded(market).session(SESSION).baselines["GCP-1"].power_w[0] == -100
    market.send(baseline(baseline_id="other", power_w=-7), FSP_A)
    assert folded(market).session(SESSION).baselines["GCP-1"].power_w[0] == -7


def test_a_closed_book_is_final_whatever_is_folded_after() -> None:
    market = open_market()
    first = market.send(submitted("o1"), FSP_A)
    market.send(gate_closed(), "scheduler")
    state = folded(market)
    late = replace(first, event=submitted("o9"))
    withdrawn = replace(first, event=ev.FlexOfferWithdrawn(area_id=AREA, offer_id="o1", fsp_id=FSP_A))
    for fact in (late, withdrawn):
        book.fold(state, fact)
    assert list(state.session(SESSION).offers) == ["o1"]


def test_a_session_without_entries_has_an_empty_book() -> None:
    assert folded(open_market()).session("none").offers == {}
