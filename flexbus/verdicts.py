"""The verdicts that a client has read and nobody has asked for yet: only so many of them, the newest."""

from collections.abc import Iterable

from flexbus.events import Receipt

__all__ = ["MOST_KEPT", "Place", "Verdicts", "place_of"]

Place = tuple[int, int]  # partition and offset of an input in its sender's inbox

# Receipts, and faults in them. Other processes of the party send too, and a program may never ask for a verdict.
MOST_KEPT = 50_000


def place_of(receipt: Receipt) -> Place:
    """Return where the input stands that a receipt is about."""
    return receipt.inbox_partition, receipt.inbox_offset


class Verdicts:
    """Receipts by place; the oldest are let go of, and that they came is all that is known of them then.

    Args:
        most: how many receipts and faults in them are kept.
    """

    def __init__(self, most: int = MOST_KEPT) -> None:
        self._most = most
        self._kept: dict[Place, Receipt] = {}
        self._weight = 0
        self._gone: dict[int, int] = {}  # by partition the last offset whose receipt was let go of

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, receipt: Receipt) -> None:
        """Keep a receipt, and let go of the oldest while there are too many."""
        place = place_of(receipt)
        if (before := self._kept.pop(place, None)) is not None:
            self._weight -= _weight(before)
        self._kept[place] = receipt
        self._weight += _weight(receipt)
        while self._weight > self._most and len(self._kept) > 1:
            (partition, offset) = oldest = next(iter(self._kept))
            self._weight -= _weight(self._kept.pop(oldest))
            self._gone[partition] = max(offset, self._gone.get(partition, -1))

    def of(self, places: Iterable[Place]) -> dict[Place, Receipt]:
        """Return the receipts of some places, as far as they are kept."""
        return {place: self._kept[place] for place in places if place in self._kept}

    def may_be_gone(self, places: Iterable[Place]) -> bool:
        """Tell whether a receipt of some places was let go of, as far as that can be told."""
        return any(offset <= self._gone.get(partition, -1) for partition, offset in places)

    def forget(self) -> None:
        """Begin anew: what was let go of is about to be read again."""
        self._kept, self._weight, self._gone = {}, 0, {}


def _weight(receipt: Receipt) -> int:
    return 1 + len(receipt.faults)
