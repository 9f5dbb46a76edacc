"""How much of a long list one record holds: of what providers send for nothing there may be far too much."""

from collections import defaultdict
from collections.abc import Sequence
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


def fitting(parts: Sequence[T], room: int) -> tuple[T, ...]:
    """Return as many parts as there is room for, in their order.

    Each provider has an equal part of the room, and what one leaves the others may take: who sends in excess is told
    of less, and nobody else is.

    Args:
        parts: dataclasses of the language with an `fsp_id`.
        room: what they may take together, B.
    """
    sizes = [size_of((part,)) for part in parts]
    if sum(sizes) <= room:
        return tuple(parts)
    of_provider: defaultdict[str, list[int]] = defaultdict(list)
    for number, part in enumerate(parts):
        of_provider[part.fsp_id].append(number)  # type: ignore[attr-defined]
    needs = {fsp_id: sum(sizes[n] for n in numbers) for fsp_id, numbers in of_provider.items()}
    kept: list[int] = []
    for count, fsp_id in enumerate(sorted(needs, key=lambda name: (needs[name], name))):
        share = room // (len(needs) - count)
        for number in of_provider[fsp_id]:
            if sizes[number] > share:
                break
            share, room = share - sizes[number], room - sizes[number]
            kept.append(number)
    return tuple(parts[n] for n in sorted(kept))
