"""The stacks of a book in columns: one that holds for many slots is one object, and looked at once; numpy only."""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearing.case import Offer, OfferSlot

__all__ = ["Stacks", "stacks_of"]

Index = NDArray[np.int_]


class Stacks:
    """What offers have on offer in every slot.

    Attributes:
        distinct: the stacks, one that many slots share once.
        offer: position of the offer, per offer and slot (those with a start choice have no slots).
        slot: the slot, likewise.
        which: position of the stack among the distinct, likewise.
    """

    def __init__(self, offers: Sequence[Offer]) -> None:
        entries = list(chain.from_iterable([o.slots for o in offers]))
        length = np.array([len(o.slots) for o in offers], dtype=int)
        # Neighbours are mostly the same object, so that runs of one are few.
        ids = np.fromiter(map(id, entries), dtype=np.int64, count=len(entries))
        first = np.flatnonzero(np.r_[True, ids[1:] != ids[:-1]][: len(ids)])
        _, place, which = np.unique(ids[first], return_index=True, return_inverse=True)
        self.distinct = [entries[n] for n in first[place].tolist()]
        self.which: Index = np.repeat(which, np.diff(np.r_[first, len(ids)]))
        self.offer: Index = np.repeat(np.arange(len(offers)), length)
        self.slot: Index = np.arange(len(ids)) - np.repeat(np.cumsum(length) - length, length)

    def tell(self, what: Callable[[OfferSlot], Any], dtype: type = bool) -> NDArray[Any]:
        """Return something about the stack of every offer and slot.

        Args:
            what: what it is of a stack.
            dtype: its type.
        """
        return np.array([what(e) for e in self.distinct], dtype=dtype)[self.which]

    def runs(self) -> tuple[list[int], list[int], list[int]]:
        """Return offer, stack and number of slots of every run of slots in which an offer has one stack."""
        if not len(self.which):
            return [], [], []
        first = np.flatnonzero(np.r_[True, (self.which[1:] != self.which[:-1]) | (self.offer[1:] != self.offer[:-1])])
        length = np.diff(np.r_[first, len(self.which)])
        return self.offer[first].tolist(), self.which[first].tolist(), length.tolist()


def stacks_of(offers: tuple[Offer, ...]) -> Stacks:
    """Return the stacks of a book; asked again for the very same book, without another look."""
    global _last
    known, found = _last
    if known is not offers or found is None:
        found = Stacks(offers)
        _last = (offers, found)
    return found


_last: tuple[tuple[Offer, ...] | None, Stacks | None] = (None, None)
