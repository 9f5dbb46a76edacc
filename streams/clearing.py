"""The clearing stage: when a gate closes, clears the session in a process of its own and tells awards and prices."""

from clearing import session
from flexbus.catalogue import Service
from flexbus.views.registry import Gate
from streams.area import Stage

__all__ = ["STAGE"]


def _row(state: session.Sessions) -> dict[str, int]:
    """Return the sessions by what has become of them, and what stands in the open books."""
    sessions = state.lights.registry.sessions.values()
    closed = sum(s.gate is Gate.CLOSED for s in sessions)
    cleared = sum(s.cleared for s in sessions)
    books = [book for book in state.lights.book.sessions.values() if not book.closed]
    return {
        "sessions_open": sum(s.gate is Gate.OPEN for s in sessions),
        "sessions_closed_not_cleared": closed - cleared,
        "sessions_cleared": cleared,
        "open_offers": sum(len(book.offers) for book in books),
        "open_requests": sum(len(book.requests) for book in books),
    }


STAGE = Stage(
    service=Service.CLEARING.value,
    new_state=session.Sessions,
    fold=session.fold,
    decide=session.decide,
    outputs=frozenset({"GridStatePublished", "NodalPricesPublished", "MarketCleared"}),
    reads=session.READS,
    row=_row,
    imports=("clearing.facts", "clearing.pipeline"),
)
