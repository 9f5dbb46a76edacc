"""What is wrong with one event alone, before anything is known about the market it belongs to."""

from collections.abc import Callable, Iterator
from typing import Any

from flexbus.errors import Fault
from flexbus.validation import content_register, content_trade
from flexbus.validation.units import unit_faults

__all__ = ["CHECKS", "content_faults"]

# Event class -> what is particular to it; events that are not here have nothing beyond what their names say.
CHECKS: dict[type[Any], Callable[[Any], Iterator[Fault]]] = {**content_register.CHECKS, **content_trade.CHECKS}


def content_faults(event: Any) -> tuple[Fault, ...]:
    """Return every fault of an event that can be told from the event alone; empty = none.

    Args:
        event: an event of the catalogue, as decoded.
    """
    faults = unit_faults(event)
    check = CHECKS.get(type(event))
    if check is not None:
        faults += check(event)
    return tuple(faults)
