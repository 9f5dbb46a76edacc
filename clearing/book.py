"""The offers and requests of a case, made ready for its clearing: all that neither grid state nor prices change.

In real time the same offers are cleared again and again at new states, so `clearing.model.Model` keeps the last book.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearing.case import Case, Offer
from clearing.columns import Columns
from clearing.market import is_plain_block
from clearing.market_offers import build_market
from clearing.network import Grid
from clearing.phases import windows
from clearing.pricing import Places
from clearing.rationality import forces
from clearing.stacks import stacks_of
from clearing.steps import step_table

__all__ = ["MOST_KEPT", "Book", "is_same", "is_same_book"]

Mask = NDArray[np.bool_]
# Markets of this many sets of steps are kept; a clearing asks for one or two.
KEPT = 2
# Steps: the market of a larger book takes more memory than its making takes time.
MOST_KEPT = 20_000


class Book:
    """The offers and requests of one case on a grid."""

    def __init__(self, case: Case, grid: Grid) -> None:
        """Make ready.

        Args:
            case: the case as it is cleared, canonical, without offers that are set aside.
            grid: its grid.
        """
        self.case, self.grid = case, grid
        offers = list(case.offers)
        self.windows = windows(case)
        self.table = step_table(case.offers, [o.start_choice is not None or is_plain_block(o) for o in offers])
        parents = frozenset(o.parent_offer_id for o in offers if o.parent_offer_id)
        forced = [forces(o, parents) for o in offers]
        self.forcing = np.array(forced, dtype=bool)
        zone = {b.bus_id: b.zone_id for b in case.network.buses}
        self.zones = tuple(zone[b] for b in grid.bus_ids)
        self.places = Places(offers, {b: k for k, b in enumerate(grid.bus_ids)}, len(self.windows[0]))
        # What the first step of every offer costs in every slot (offers x slots), EUR per MWh; inf = there is none.
        self.cheapest = np.full((len(offers), case.slots), np.inf)
        stacks = stacks_of(case.offers)
        first = stacks.tell(lambda e: e.steps[0].price_milli_per_mwh / 1e3 if e.steps else np.inf, float)
        self.cheapest[stacks.offer, stacks.slot] = first
        self.starts = [k for k, offer in enumerate(offers) if offer.start_choice is not None]
        self._spans = self._make_spans(forced)
        self._made: dict[bytes, Columns] = {}

    def is_of(self, case: Case, grid: Grid) -> bool:
        """Tell whether this is the book of another case on a grid too: the very same offers, requests and rules."""
        return grid is self.grid and is_same_book(self.case, case)

    def columns(self, live: Mask, chosen: Mask) -> Columns:
        """Return the market of some steps.

        Args:
            live: slots that take part (slots).
            chosen: steps that take part.
        """
        key = np.packbits(live).tobytes() + np.packbits(chosen).tobytes()
        found = self._made.get(key)
        if found is None:
            while len(self._made) >= KEPT:
                del self._made[next(iter(self._made))]
            market = build_market(self.case, self.grid, live, self.table, chosen)
            found = Columns(self.grid, market, self.case.slots)
            if len(self.table.slot) <= MOST_KEPT:
                self._made[key] = found
        return found

    def spread(self, active: Mask) -> Mask:
        """Add the slots that offers would be forced into by what they do in an active slot."""
        while True:
            before = int(active.sum())
            for span in self._spans:
                if (active & span).any():
                    active = active | span
            if int(active.sum()) == before:
                return active

    def reach(self, offer: Offer) -> Mask:
        """Return the slots in which an offer may deliver, or take back."""
        span = np.zeros(self.case.slots, dtype=bool)
        if offer.start_choice is not None:
            choice = offer.start_choice
            for window in self.windows:
                span[list(window[choice.earliest_slot : choice.latest_slot + len(choice.profile)])] = True
        else:
            span[:] = [bool(e.steps) for e in offer.slots]
        if offer.payback is not None:
            last = int(np.flatnonzero(span).max(initial=0))
            span[: last + 1 + offer.payback.delay_slots + offer.payback.window_slots] |= span.any()
        return span

    def _make_spans(self, forced: list[bool]) -> list[Mask]:
        units: dict[str, list[Offer]] = {}
        spans: list[Mask] = []
        for offer, by_itself in zip(self.case.offers, forced, strict=True):
            if offer.unit_id is not None:
                units.setdefault(offer.unit_id, []).append(offer)
            if offer.all_or_nothing or offer.start_choice is not None or by_itself:
                spans.append(self.reach(offer))
        for members in units.values():
            spans.append(np.any([self.reach(o) for o in members], axis=0))
        slots = np.arange(self.case.slots)
        return [span & (slots >= w.start) & (slots < w.stop) for span in spans for w in self.windows]


def is_same_book(a: Case, b: Case) -> bool:
    """Tell whether two cases have the very same offers, requests and units, and the same rules.

    The same and not equal ones: equal numbers may differ in type, and so in what is written down.
    """
    return (
        all(is_same(getattr(a, name), getattr(b, name)) for name in ("offers", "requests", "units", "scenarios"))
        and (a.slots, a.resolution_s) == (b.slots, b.resolution_s)
        and (a.phase, a.pricing_rule) == (b.phase, b.pricing_rule)
        and a.settings == b.settings
    )


def is_same(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    """Tell whether two lists hold the very same objects."""
    return a is b or (len(a) == len(b) and all(x is y for x, y in zip(a, b, strict=True)))
