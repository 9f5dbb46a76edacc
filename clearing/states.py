"""Several states of one slot told as one: the ends of a capacity auction, the scenarios of a stochastic one."""

from collections.abc import Sequence

from clearing.result import Result, Shortfall
from clearing.snapshot import Snapshot
from flexbus.events import MarketPhase
from flexbus.quantities import PPM, Direction

__all__ = ["States"]


class States:
    """Which entries of a result's series belong to each slot of the session, and one number for several.

    A plain auction has one state per slot, and every number is its own.

    Args:
        snapshot: what was cleared.
        result: what came out.
    """

    def __init__(self, snapshot: Snapshot, result: Result) -> None:
        self.slots = snapshot.slots
        phase = snapshot.product.phase
        self._ends = phase is MarketPhase.CAPACITY and bool(result.ends)
        self._weights = tuple(s.probability_ppm for s in result.scenarios) or (PPM,)
        self.plain = not self._ends and len(self._weights) == 1

    def of(self, slot: int) -> tuple[int, ...]:
        """Return the entries of a slot."""
        if self._ends:
            return (2 * slot, 2 * slot + 1)
        return tuple(k * self.slots + slot for k in range(len(self._weights)))

    def end(self, values: Sequence[int], direction: Direction) -> tuple[int, ...]:
        """Return a series of a capacity auction on the slots of the session, of one direction."""
        return tuple(values[2 * t + (direction is Direction.DOWN)] for t in range(self.slots))

    def least(self, values: Sequence[int], direction: Direction) -> tuple[int, ...]:
        """Return per slot what holds in every state; of a capacity auction in that of the direction."""
        if self._ends:
            return self.end(values, direction)
        return tuple(min(values[k] for k in self.of(t)) for t in range(self.slots))

    def farthest(self, values: Sequence[int], usual: int) -> tuple[int, ...]:
        """Return per slot the value of the state in which it is farthest from the usual one."""
        if self.plain:
            return tuple(values)
        return tuple(max((values[k] for k in self.of(t)), key=lambda v: abs(v - usual)) for t in range(self.slots))

    def expected(self, values: Sequence[int]) -> tuple[int, ...]:
        """Return per slot the expected value over scenarios; of a capacity auction that of the upward end."""
        if self.plain:
            return tuple(values)
        if self._ends:
            return self.end(values, Direction.UP)
        return tuple(
            (2 * sum(w * values[k] for w, k in zip(self._weights, self.of(t), strict=True)) + PPM) // (2 * PPM)
            for t in range(self.slots)
        )

    def missing(self, result: Result, slot: int) -> tuple[Shortfall, ...]:
        """Return what stays unmet in any state of a slot, each cause with its greatest amount."""
        worst: dict[tuple[str, str], Shortfall] = {}
        for k in self.of(slot):
            for row in result.slots[k].shortfalls:
                key = (row.kind.value, row.element_id)
                if key not in worst or row.amount > worst[key].amount:
                    worst[key] = row
        return tuple(worst.values())
