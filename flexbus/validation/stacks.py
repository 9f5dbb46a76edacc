"""Price stacks of a whole offer at a glance: what three checks in a row want to know of some hundred numbers.

Looking at each number by itself, three times over, is what the sequencer would spend most of its time on. So the
extremes are taken once, a column at a time; an offer that they do not clear goes the long way, which knows the paths.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import gcd
from operator import mul
from typing import Any, overload

from flexbus.events import OfferSlot
from flexbus.reader import columns, items

__all__ = ["UNMADE", "Stacks", "WrittenSlots", "stacks_of"]


@dataclass(slots=True)
class Stacks:
    """Extremes over the slots of an offer; 0 where there is nothing.

    Attributes:
        least_w: smallest step.
        most_w: largest step.
        low_milli_per_mwh: lowest price.
        high_milli_per_mwh: highest price.
        least_min_w: smallest minimum of a slot.
        most_min_w: largest minimum of a slot.
        most_steps: steps of the longest stack.
        most_total_w: largest sum of a stack.
        total_w: sum over everything.
        divisor_w: greatest common divisor of steps and minima.
        fit: no slot's minimum is more than its stack offers.
        rise: the prices of every stack rise from step to step.
    """

    least_w: int
    most_w: int
    low_milli_per_mwh: int
    high_milli_per_mwh: int
    least_min_w: int
    most_min_w: int
    most_steps: int
    most_total_w: int
    total_w: int
    divisor_w: int
    fit: bool
    rise: bool


def stacks_of(slots: Sequence[OfferSlot]) -> Stacks:
    """Return the extremes of an offer's slots; asked again for the very same slots, without another look."""
    global _last
    if isinstance(slots, WrittenSlots):
        return slots.stacks
    known, found = _last
    if known is not slots or found is None:
        found = _looked_at(slots)
        _last = (slots, found)
    return found


_last: tuple[Sequence[OfferSlot] | None, Stacks | None] = (None, None)


class WrittenSlots(Sequence[OfferSlot]):
    """An offer's slots as they are written: looked at by the column, and made only for who asks for one of them.

    The sequencer needs none of them unless there is something wrong, and to make them is most of what reading takes.
    """

    __slots__ = ("_count", "_data", "_made", "_start", "stacks")

    def __init__(self, data: bytes, start: int, count: int, stacks: Stacks) -> None:
        self._data, self._start, self._count, self.stacks = data, start, count, stacks
        self._made: tuple[OfferSlot, ...] | None = None

    @classmethod
    def read(cls, data: bytes, start: int, count: int) -> "tuple[WrittenSlots, int]":
        """Read an array's items; see `flexbus.reader.Unmade`."""
        found, following = columns(OfferSlot)(data, start, count)
        return cls(data, start, count, _of_columns(*found)), following

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> OfferSlot: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[OfferSlot]: ...
    def __getitem__(self, index: Any) -> Any:
        return self._slots()[index]

    def __iter__(self) -> Iterator[OfferSlot]:
        return iter(self._slots())

    def _slots(self) -> tuple[OfferSlot, ...]:
        if self._made is None:
            self._made, _ = items(OfferSlot)(self._data, self._start, self._count)
        return self._made


UNMADE = (OfferSlot, WrittenSlots.read)


def _looked_at(slots: Sequence[OfferSlot]) -> Stacks:
    stacks = [slot.steps for slot in slots]
    steps = [step for stack in stacks for step in stack]
    return _of_columns(
        [1] * len(stacks),
        [len(stack) for stack in stacks],
        [step.power_w for step in steps],
        [step.price_milli_per_mwh for step in steps],
        [slot.min_power_w for slot in slots],
    )


def _of_columns(times: list[int], counts: list[int], powers: list[int], prices: list[int], minima: list[int]) -> Stacks:
    """Return the extremes of slots in columns: how often each, its steps, their powers and prices, its minimum."""
    rise, most_steps, totals = True, 1, powers
    if counts.count(1) != len(counts):
        most_steps, totals, end = max(counts), [], 0
        for count in counts:
            begin, end = end, end + count
            totals.append(sum(powers[begin:end]))
            rise = rise and all(a < b for a, b in pairwise(prices[begin:end]))
    least_min_w, most_min_w = (min(minima), max(minima)) if any(minima) else (0, 0)
    return Stacks(
        min(powers, default=0),
        max(powers, default=0),
        min(prices, default=0),
        max(prices, default=0),
        least_min_w,
        most_min_w,
        most_steps,
        max(totals, default=0),
        sum(totals) if times.count(1) == len(times) else sum(map(mul, times, totals)),
        gcd(*powers) if most_min_w == 0 == least_min_w else gcd(*powers, *minima),
        most_min_w <= 0 or all(least <= total for least, total in zip(minima, totals, strict=True)),
        rise,
    )
