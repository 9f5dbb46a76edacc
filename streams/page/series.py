"""Series over the slots of a session; pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from flexbus.quantities import Direction

__all__ = ["Slots", "UpDown", "add_series", "max_series", "new_up_down"]


@dataclass(frozen=True, slots=True)
class Slots:
    """The slots of a session: start of the first (UTC ms), length (s) and count."""

    start_ms: int
    resolution_s: int
    count: int

    def index(self, at_ms: int) -> int:
        """Return the slot an instant lies in; outside the session it is negative or past the end."""
        return (at_ms - self.start_ms) // (self.resolution_s * 1000)


UpDown = dict[str, list[int]]


def new_up_down(count: int) -> UpDown:
    """Return an empty pair of series by direction."""
    return {Direction.UP.value: [0] * count, Direction.DOWN.value: [0] * count}


def add_series(
    target: list[int], slots: Slots, start_ms: int, resolution_s: int, power_w: Sequence[int], sign: int = 1
) -> None:
    """Add a power series to another, each target slot taking the source slot its start lies in.

    Args:
        target: power per slot of the session, W; changed in place.
        slots: the session's slots.
        start_ms: start of the first source slot, UTC ms.
        resolution_s: length of a source slot, s.
        power_w: power per source slot, W.
        sign: -1 takes the series away again.
    """
    for source in _sources(slots, start_ms, resolution_s, len(power_w)):
        target[source[0]] += sign * power_w[source[1]]


def max_series(target: list[int], slots: Slots, start_ms: int, resolution_s: int, power_w: Sequence[int]) -> None:
    """Raise a power series to another where that is greater; arguments as `add_series`."""
    for slot, source in _sources(slots, start_ms, resolution_s, len(power_w)):
        target[slot] = max(target[slot], power_w[source])


def _sources(slots: Slots, start_ms: int, resolution_s: int, length: int) -> list[tuple[int, int]]:
    step = slots.resolution_s * 1000
    shift = slots.start_ms - start_ms
    if resolution_s == slots.resolution_s and shift % step == 0:
        first = shift // step  # the usual case: the same raster
        return [(i, i + first) for i in range(max(0, -first), min(slots.count, length - first))]
    pairs = ((i, (shift + i * step) // (resolution_s * 1000)) for i in range(slots.count))
    return [(i, k) for i, k in pairs if 0 <= k < length]
