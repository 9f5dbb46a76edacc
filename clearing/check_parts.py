"""Checks that many parts of a case have in common."""

import math
from collections.abc import Iterable, Iterator

from clearing.case import Case
from flexbus.errors import Fault, FaultCode
from flexbus.quantities import MAX_POWER_W, MAX_PRICE_MILLI_PER_MWH, PPM

__all__ = ["MAX_STEPS", "duplicates", "fault", "length", "number", "place", "powers", "price"]

MAX_STEPS = 20  # of a stack or a demand curve


def fault(code: FaultCode, path: str, message: str) -> Fault:
    """Return a fault."""
    return Fault(code=code, path=path, message=message)


def duplicates(ids: Iterable[str], path: str, word: str) -> Iterator[Fault]:
    """Yield a fault for every id that is empty or was there before."""
    names = list(ids)
    if all(names) and len(set(names)) == len(names):
        return
    first: dict[str, int] = {}
    for k, name in enumerate(names):
        if not name:
            yield fault(FaultCode.BAD_VALUE, f"{path}[{k}].{word}", "is empty")
        elif name in first:
            yield fault(FaultCode.DUPLICATE_ID, f"{path}[{k}].{word}", f"{name} is also that of {path}[{first[name]}]")
        first.setdefault(name, k)


def number(value: float, path: str, most: float) -> Iterator[Fault]:
    """Yield a fault for a number that is not finite, or beyond what any grid has."""
    if not math.isfinite(value):
        yield fault(FaultCode.BAD_VALUE, path, f"{value} is not a finite number")
    elif abs(value) > most:
        yield fault(FaultCode.BAD_VALUE, path, f"{value:g} is beyond {most:g}")


def length(values: tuple[object, ...], case: Case, path: str) -> Iterator[Fault]:
    """Yield a fault for a series that has not one entry per slot."""
    if len(values) != case.slots:
        yield fault(FaultCode.BAD_SERIES, path, f"has {len(values)} entries, the case has {case.slots} slots")


def powers(values: tuple[int, ...], path: str) -> Iterator[Fault]:
    """Yield a fault for the first power of a series that is beyond 100 GW."""
    for t, value in enumerate(values):
        if abs(value) > MAX_POWER_W:
            yield fault(FaultCode.BAD_QUANTITY, f"{path}[{t}]", f"{value} W is beyond 100 GW")
            return


def price(value: int, path: str) -> Iterator[Fault]:
    """Yield a fault for a price beyond 1 million EUR per MWh."""
    if abs(value) > MAX_PRICE_MILLI_PER_MWH:
        yield fault(FaultCode.BAD_PRICE, path, f"{value} is beyond 1 million EUR per MWh")


def place(bus_id: str | None, shares: list[tuple[str, int]], buses: set[str], here: str) -> Iterator[Fault]:
    """Yield the faults of what is at one bus, or has shares at several."""
    if (bus_id is None) == (not shares):
        yield fault(FaultCode.MISSING_FIELD, f"{here}.bus_id", "give either a bus or shares over buses")
    if bus_id is not None and bus_id not in buses:
        yield fault(FaultCode.UNKNOWN_ELEMENT, f"{here}.bus_id", f"no bus has the id {bus_id!r}")
    for n, (bus, share) in enumerate(shares):
        if bus not in buses:
            yield fault(FaultCode.UNKNOWN_ELEMENT, f"{here}.shares[{n}].bus_id", f"no bus has the id {bus!r}")
        if not 0 < share <= PPM:
            yield fault(FaultCode.BAD_VALUE, f"{here}.shares[{n}].share_ppm", f"{share} is not within 1..1000000")
    if shares and sum(s for _, s in shares) != PPM:
        total = sum(s for _, s in shares)
        yield fault(FaultCode.BAD_VALUE, f"{here}.shares", f"sum to {total} ppm, not to 1000000")
