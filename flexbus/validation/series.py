"""Lengths of series: 1 to 400 slots, and all of one event alike."""

from collections.abc import Iterator

from flexbus.errors import Fault, FaultCode
from flexbus.validation.units import MAX_SLOTS, fault

__all__ = ["series"]


def series(path: str, length: int, expected: int | None = None) -> Iterator[Fault]:
    """Yield what is wrong with the number of slots of a series.

    Args:
        path: JSON path of the series.
        length: number of slots it has.
        expected: number that the series it belongs to has, if there is one.
    """
    if not 1 <= length <= MAX_SLOTS:
        yield fault(FaultCode.BAD_SERIES, path, f"has {length} slots; 1 to {MAX_SLOTS} are allowed")
    elif expected is not None and length != expected:
        yield fault(FaultCode.BAD_SERIES, path, f"has {length} slots, expected {expected} as in the other series")
