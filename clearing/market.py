"""The market as columns and rows: steps, blocks, budgets, ramps, storages, requests, and what they inject.

Columns are quantities in MW (Mvar), costs are EUR per hour. `clearing.market_offers` makes a market of a checked case.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from clearing.case import Offer, Request
from clearing.rows import Rows

__all__ = [
    "Market",
    "MeasuredRequest",
    "Member",
    "MemberTable",
    "has_only_a_budget",
    "is_coupled",
    "is_plain_block",
    "offer_cap",
]

Real = NDArray[np.float64]
Index = NDArray[np.int_]
MEGA = 1e6


@dataclass(frozen=True, slots=True)
class Member:
    """A step of an offer in a slot that a column carries; caps in W or var."""

    offer: int
    slot: int
    cap: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberTable:
    """The members of all columns, by column; `whole` = its column is a whole number."""

    column: Index
    offer: Index
    slot: Index
    cap: Index
    whole: NDArray[np.bool_]


@dataclass(slots=True)
class MeasuredRequest:
    """Requests over one branch or infeed point in one slot and direction: they count a change of AC flow."""

    slot: int
    kind: str  # Measure kind
    index: int
    sign: float  # sign * measure has to fall
    columns: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Injections:
    """What one unit of a column injects: entries of a matrix (slots x buses) x columns."""

    cell: list[Index] = field(default_factory=list)
    column: list[Index] = field(default_factory=list)
    factor: list[Real] = field(default_factory=list)

    def add(self, cells: list[int], columns: list[int], factor: float) -> None:
        """Note that a unit of each column injects that much in its cell."""
        self.add_all(np.array(cells, dtype=int), np.array(columns, dtype=int), np.full(len(cells), factor))

    def add_all(self, cells: Index, columns: Index, factors: Real) -> None:
        """Note what a unit of each column injects in its cell."""
        self.cell.append(cells)
        self.column.append(columns)
        self.factor.append(factors)

    def matrix(self, cells: int, columns: int) -> sparse.csr_matrix:
        """Return the matrix; entries at one place add up."""
        cell, column, factor = self.entries()
        return sparse.csr_matrix((factor, (cell, column)), shape=(cells, columns))

    def entries(self) -> tuple[Index, Index, Real]:
        """Return cell, column and factor of every entry."""
        if not self.cell:
            return np.zeros(0, dtype=int), np.zeros(0, dtype=int), np.zeros(0)
        return np.concatenate(self.cell), np.concatenate(self.column), np.concatenate(self.factor)


@dataclass(slots=True)
class Market:
    """Columns, structural rows and injections of a case; see the module's text."""

    offers: list[Offer]
    requests: list[Request]
    cost: list[float] = field(default_factory=list)
    upper: list[float] = field(default_factory=list)
    integer: list[bool] = field(default_factory=list)
    slot: list[int] = field(default_factory=list)  # slot of a column, -1 = none
    member: tuple[list[int], list[int], list[int]] = field(default_factory=lambda: ([], [], []))  # offer, slot, cap
    member_first: list[int] = field(default_factory=lambda: [0])  # first member of every column, and the end
    rows: Rows = field(default_factory=Rows)
    row_tag: list[tuple[str, str, int]] = field(default_factory=list)  # what a row is: (kind, id, slot)
    inject_p: Injections = field(default_factory=Injections)
    inject_q: Injections = field(default_factory=Injections)
    request_columns: list[tuple[int, int, int]] = field(default_factory=list)  # column, request, step
    measured: list[MeasuredRequest] = field(default_factory=list)
    taken: dict[tuple[int, int], int] = field(default_factory=dict)  # offer, scenario -> binary column
    at_least: dict[tuple[int, int], int] = field(default_factory=dict)  # offer with minimum, slot -> binary column
    request_row: dict[tuple[int, int], int] = field(default_factory=dict)  # request, slot -> row
    request_on: dict[tuple[int, int], int] = field(default_factory=dict)  # request with minimum, slot -> binary column
    opposed: dict[int, int] = field(default_factory=dict)  # row of a pool -> column of what goes the other way
    windows: tuple[range, ...] = ()  # slots of each scenario, all as one without
    weight: list[float] = field(default_factory=list)  # probability of each slot
    reserved: dict[tuple[int, int], int] = field(default_factory=dict)  # offer, slot of the day -> column of the award
    called: dict[tuple[int, int], int] = field(default_factory=dict)  # offer, slot -> row "no more than reserved"
    table: MemberTable | None = None  # the members of all columns, once it was asked for

    def column(
        self, cost: float, upper: float, slot: int, *, integer: bool = False, members: list[Member] | None = None
    ) -> int:
        """Add a column with lower bound 0 and return its number."""
        self.cost.append(cost)
        self.upper.append(upper)
        self.integer.append(integer)
        self.slot.append(slot)
        for m in members or ():
            for part, value in zip(self.member, (m.offer, m.slot, m.cap), strict=True):
                part.append(value)
        self.member_first.append(len(self.member[0]))
        return len(self.cost) - 1

    def columns(self, prices: Index, offers: Index, slots: Index, caps: Index, first: Index | None = None) -> list[int]:
        """Add many columns that carry steps of offers and return their numbers.

        Args:
            prices: of each column, 1/1000 EUR per MWh.
            offers: of each step.
            slots: of each step.
            caps: of each step, W or var.
            first: first step of each column; each carries one without.
        """
        if not len(caps):
            return []
        first = np.arange(len(caps)) if first is None else first
        start, have = len(self.cost), len(self.member[0])
        self.cost += (prices / 1e3).tolist()
        self.upper += (np.add.reduceat(caps, first) / MEGA).tolist()
        self.integer += [False] * len(first)
        self.slot += slots[first].tolist()
        for part, values in zip(self.member, (offers, slots, caps), strict=True):
            part += values.tolist()
        self.member_first += (np.r_[first[1:], len(caps)] + have).tolist()
        return list(range(start, len(self.cost)))

    def members(self, column: int) -> list[Member]:
        """Return the steps that a column carries."""
        mine = slice(self.member_first[column], self.member_first[column + 1])
        return [Member(*m) for m in zip(*(part[mine] for part in self.member), strict=True)]

    def all_members(self) -> MemberTable:
        """Return the steps that all columns carry."""
        if self.table is None or len(self.table.column) < len(self.member[0]):
            offer, slot, cap = (np.array(part, dtype=int) for part in self.member)
            column = np.repeat(np.arange(len(self.cost)), np.diff(self.member_first))
            whole = np.array(self.integer, dtype=bool)[column]
            self.table = MemberTable(column=column, offer=offer, slot=slot, cap=cap, whole=whole)
        return self.table

    def row(self, tag: tuple[str, str, int], terms: list[tuple[int, float]], low: float, high: float) -> int:
        """Add a structural row and return its number."""
        self.row_tag.append(tag)
        return self.rows.add(terms, low, high)

    def injections(self, slots: int, buses: int) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
        """Return what one unit of each column injects: (slots x buses) x columns, MW and Mvar."""
        cells, columns = slots * buses, len(self.cost)
        return self.inject_p.matrix(cells, columns), self.inject_q.matrix(cells, columns)


def offer_cap(offer: Offer, slot: int, horizon: int | None = None) -> int:
    """Return the most an offer can deliver in a slot, W or var.

    Args:
        offer: the offer.
        slot: slot index.
        horizon: slots of a scenario, if there are several.
    """
    if offer.start_choice is not None:
        choice = offer.start_choice
        slot = slot % horizon if horizon else slot
        reach = [slot - s for s in range(choice.earliest_slot, choice.latest_slot + 1)]
        return max((choice.profile[k] for k in reach if 0 <= k < len(choice.profile)), default=0)
    entry = offer.slots[slot]
    total = sum(s.quantity for s in entry.steps)
    return total if entry.max_quantity is None else min(total, entry.max_quantity)


def is_coupled(offer: Offer, parents: frozenset[str]) -> bool:
    """Tell whether an offer's slots, or the offer and others, depend on each other."""
    return offer.max_energy_wh is not None or _is_tied(offer, parents)


def has_only_a_budget(offer: Offer, parents: frozenset[str]) -> bool:
    """Tell whether the energy that an offer has at most is all that couples its slots."""
    return offer.max_energy_wh is not None and not _is_tied(offer, parents)


def _is_tied(offer: Offer, parents: frozenset[str]) -> bool:
    return (
        offer.min_energy_wh is not None
        or offer.all_or_nothing
        or offer.exclusive_group_id is not None
        or offer.parent_offer_id is not None
        or offer.offer_id in parents
        or offer.max_run_slots is not None
        or offer.min_rest_slots > 0
        or offer.max_rise is not None
        or offer.max_fall is not None
        or offer.payback is not None
        or offer.start_choice is not None
        or bool(offer.polygons)
        or offer.unit_id is not None
        or any(offer.reservation_price_milli_per_mwh)
    )


def is_plain_block(offer: Offer) -> bool:
    """Tell whether a block needs nothing but its own yes or no."""
    return offer.all_or_nothing and not (
        offer.min_energy_wh is not None
        or offer.max_energy_wh is not None
        or offer.max_run_slots is not None
        or offer.min_rest_slots > 0
        or offer.max_rise is not None
        or offer.max_fall is not None
        or offer.polygons
        or offer.unit_id is not None
    )
