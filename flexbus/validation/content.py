"""What is wrong with one event alone, before anything is known about the market it belongs to."""

from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Any

from flexbus.errors import Fault
from flexbus.validation import content_facts, content_register, content_trade
from flexbus.validation.units import unit_faults

__all__ = ["CHECKS", "MOST_FAULTS", "content_faults"]

# Nobody mends more of them one by one, and a megabyte of nothing but faults would take seconds to look through.
MOST_FAULTS = 1_001

# Event class -> what is particular to it; events that are not here have nothing beyond what their names say.
CHECKS: dict[type[Any], Callable[[Any], Iterator[Fault]]] = {
    **content_register.CHECKS,
    **content_trade.CHECKS,
    **content_facts.CHECKS,
}


def content_faults(event: Any) -> tuple[Fault, ...]:
    """Return every fault of an event that can be told from the event alone, `MOST_FAULTS` at most; empty = none.

    Args:
        event: an event of the catalogue, as decoded.
    """
    check = CHECKS.get(type(event))
    return tuple(islice(chain(unit_faults(event), () if check is None else check(event)), MOST_FAULTS))
