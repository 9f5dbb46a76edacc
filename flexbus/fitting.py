"""How much of a long list one record holds: of what providers send for nothing there may be far too much."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, TypeVar

from flexbus.writer import writer

__all__ = ["fitting", "size_of"]

T = TypeVar("T")


def size_of(parts: Sequence[Any]) -> int:
    """Return how many bytes the parts of a record take, B."""
    found: list[bytes] = []
    for part in parts:
        writer(type(part))(part, found.append, {})
    return sum(map(len, found))


def fitting(
    parts: Sequence[T],
    room: int,
    party: Callable[[T], str] = attrgetter("fsp_id"),
    size: Callable[[T], int] = lambda part: size_of((part,)),
) -> tuple[T, ...]:
    """Return as many parts as there is room for, in their order.

    Each party has an equal part of the room, and what one leaves the others may take: who sends in excess is told
    of less, and nobody else is.

    Args:
        parts: what may be told, the dearest of each party first.
        room: what they may take together, B.
        party: whose a part is; without it the provider's.
        size: what a part takes, B; without it a dataclass of the language as it is written.
    """
    sizes = [size(part) for part in parts]
    if sum(sizes) <= room:
        return tuple(parts)
    of_party: defaultdict[str, list[int]] = defaultdict(list)
    for number, part in enumerate(parts):
        of_party[party(part)].append(number)
    needs = {party_id: sum(sizes[n] for n in numbers) for party_id, numbers in of_party.items()}
    kept: list[int] = []
    for count, party_id in enumerate(sorted(needs, key=lambda name: (needs[name], name))):
        share = room // (len(needs) - count)
        for number in of_party[party_id]:
            if sizes[number] > share:
                break
            share, room = share - sizes[number], room - sizes[number]
            kept.append(number)
    return tuple(parts[n] for n in sorted(kept))
