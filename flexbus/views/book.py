"""The order book: the live offers, requests and baselines of each session of one market area.

The last valid revision before the gate counts (BeFlexible SUC10.3). Nothing changes a session's book after its
gate has closed, so the book folded up to `GateClosed` is the book that the clearing sees. Once the session is cleared
its book is emptied: what became of every offer stands in the result, and memory follows the open sessions only.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from flexbus import events as ev
from flexbus.views.fact import Fact

__all__ = ["READS", "Book", "SessionBook", "fold"]


@dataclass(slots=True)
class SessionBook:
    """What stands in the book of one session; withdrawn entries are gone.

    Attributes:
        offers: live offers by id, newest revision.
        requests: live requests by id, newest revision.
        baselines: newest accepted baseline by connection point.
        units: newest accepted description of a storage or inverter, by provider and unit.
        closed: the gate has closed, the book is final; empty once the session is cleared.
    """

    offers: dict[str, ev.FlexOffer] = field(default_factory=dict)
    requests: dict[str, ev.FlexRequest] = field(default_factory=dict)
    baselines: dict[str, ev.BaselineSubmitted] = field(default_factory=dict)
    units: dict[tuple[str, str], ev.Storage | ev.Inverter] = field(default_factory=dict)
    closed: bool = False


@dataclass(slots=True)
class Book:
    """The order books of one market area by session, and which session an offer or request is in."""

    sessions: dict[str, SessionBook] = field(default_factory=dict)
    session_of_offer: dict[str, str] = field(default_factory=dict)
    session_of_request: dict[str, str] = field(default_factory=dict)

    def session(self, session_id: str) -> SessionBook:
        """Return the book of a session; an empty one if nothing is in it."""
        return self.sessions.get(session_id) or SessionBook()


def fold(state: Book, fact: Fact) -> Book:
    """Return the book after a fact; facts that do not trade leave it as it was."""
    change = _CHANGES.get(type(fact.event))
    if change is not None:
        change(state, fact.event)
    return state


def _open(state: Book, session_id: str) -> SessionBook | None:
    book = state.sessions.get(session_id)
    if book is None:
        book = state.sessions[session_id] = SessionBook()
    return None if book.closed else book


def _offer(state: Book, e: ev.FlexOfferSubmitted | ev.FlexOfferReplaced) -> None:
    offer = e.offer
    book = _open(state, offer.session_id)
    if book is not None:
        before = book.offers.get(offer.offer_id)
        if before is None or offer.revision > before.revision:
            book.offers[offer.offer_id] = offer
            state.session_of_offer[offer.offer_id] = offer.session_id
            terms = offer.terms
            unit = None if terms is None else terms.storage or terms.inverter
            if terms is not None and terms.unit_id is not None and unit is not None:
                book.units[offer.fsp_id, terms.unit_id] = unit


def _offer_withdrawn(state: Book, e: ev.FlexOfferWithdrawn) -> None:
    book = state.sessions.get(state.session_of_offer.get(e.offer_id, ""))
    if book is not None and not book.closed:
        book.offers.pop(e.offer_id, None)


def _request(state: Book, e: ev.FlexRequestSubmitted | ev.FlexRequestAmended) -> None:
    request = e.request
    book = _open(state, request.session_id)
    if book is not None:
        before = book.requests.get(request.request_id)
        if before is None or request.revision > before.revision:
            book.requests[request.request_id] = request
            state.session_of_request[request.request_id] = request.session_id


def _request_withdrawn(state: Book, e: ev.FlexRequestWithdrawn) -> None:
    book = state.sessions.get(state.session_of_request.get(e.request_id, ""))
    if book is not None and not book.closed:
        book.requests.pop(e.request_id, None)


def _baseline(state: Book, e: ev.BaselineSubmitted) -> None:
    book = _open(state, e.session_id)
    if book is not None:
        before = book.baselines.get(e.connection_point_id)
        if before is None or before.baseline_id != e.baseline_id or e.revision > before.revision:
            book.baselines[e.connection_point_id] = e


def _gate_closed(state: Book, e: ev.GateClosed) -> None:
    state.sessions.setdefault(e.session_id, SessionBook()).closed = True


def _cleared(state: Book, e: ev.MarketCleared) -> None:
    book = state.sessions.get(e.session_id)
    if book is None or not book.closed:
        return
    for offer_id in book.offers:
        state.session_of_offer.pop(offer_id, None)
    for request_id in book.requests:
        state.session_of_request.pop(request_id, None)
    state.sessions[e.session_id] = SessionBook(closed=True)


_CHANGES: dict[type[Any], Callable[[Book, Any], None]] = {
    ev.FlexOfferSubmitted: _offer,
    ev.FlexOfferReplaced: _offer,
    ev.FlexOfferWithdrawn: _offer_withdrawn,
    ev.FlexRequestSubmitted: _request,
    ev.FlexRequestAmended: _request,
    ev.FlexRequestWithdrawn: _request_withdrawn,
    ev.BaselineSubmitted: _baseline,
    ev.GateClosed: _gate_closed,
    ev.MarketCleared: _cleared,
}

READS = frozenset(t.__name__ for t in _CHANGES)
