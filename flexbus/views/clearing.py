"""Cleared sessions: awards, reasons, prices and the state of the grid, as they were published.

The view folds results and never solves: who wants to know whether they are right audits them.
"""

from dataclasses import dataclass, field

from flexbus import events as ev
from flexbus.views.fact import Fact

__all__ = ["READS", "Cleared", "Results", "fold"]

READS = frozenset({"GridStatePublished", "NodalPricesPublished", "MarketCleared"})


@dataclass(slots=True)
class Cleared:
    """What is published about one session.

    Attributes:
        forecast: state of the grid without flexibility.
        grid: state of the grid with the awards.
        prices: nodal prices.
        market: awards, non-awards with reasons, requests; published last, so the others are there when it is.
        awards: awards by offer.
        non_awards: reasons by offer.
    """

    forecast: ev.GridStatePublished | None = None
    grid: ev.GridStatePublished | None = None
    prices: ev.NodalPricesPublished | None = None
    market: ev.MarketCleared | None = None
    awards: dict[str, list[ev.Award]] = field(default_factory=dict)
    non_awards: dict[str, list[ev.NonAward]] = field(default_factory=dict)


@dataclass(slots=True)
class Results:
    """The cleared sessions of one market area at a position of its journal."""

    sessions: dict[str, Cleared] = field(default_factory=dict)

    def session(self, session_id: str) -> Cleared:
        """Return what is published about a session; empty if nothing is."""
        return self.sessions.get(session_id) or Cleared()


def fold(state: Results, fact: Fact) -> Results:
    """Return the results after a fact; facts that publish none leave them as they were."""
    match fact.event:
        case ev.GridStatePublished(cleared=True) as e:
            _session(state, e.session_id).grid = e
        case ev.GridStatePublished() as e:
            _session(state, e.session_id).forecast = e
        case ev.NodalPricesPublished() as e:
            _session(state, e.session_id).prices = e
        case ev.MarketCleared() as e:
            cleared = _session(state, e.session_id)
            # A session is cleared once; a second result could only come from another version of the code.
            if cleared.market is None:
                cleared.market = e
                for award in e.awards:
                    cleared.awards.setdefault(award.offer_id, []).append(award)
                for non_award in e.non_awards:
                    cleared.non_awards.setdefault(non_award.offer_id, []).append(non_award)
        case _:
            pass
    return state


def _session(state: Results, session_id: str) -> Cleared:
    return state.sessions.setdefault(session_id, Cleared())
