"""Clearing what can be cleared: who brings a fault into the case is left out by name, and the others are cleared.

The journal admits what the rules of the bus allow, and the case has more of them: a storage that its offers cannot keep
within its bounds, slices that no delivery satisfies once lights have cut the offer. In a case file these are faults of
the whole case. On the bus one provider must not empty the market of all others.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from clearing.case import Case
from clearing.result import Result
from clearing.snapshot import Snapshot
from clearing.translation import case_of
from flexbus.errors import Fault, FaultyInputError

__all__ = ["LeftOut", "clear_what_can_be"]

_BLAMED = re.compile(r"\$\.(offers|units|requests)\[(\d+)\]")


@dataclass(slots=True)
class LeftOut:
    """Offers and requests that do not take part, each with the reason for people."""

    offers: dict[str, str] = field(default_factory=dict)
    requests: dict[str, str] = field(default_factory=dict)


def clear_what_can_be(snapshot: Snapshot) -> tuple[Result, LeftOut]:
    """Clear a session without the offers and requests that the clearing finds faulty.

    Args:
        snapshot: what stood before the gate.

    Raises:
        FaultyInputError: a fault is nobody's own.
    """
    # The solver's imports take seconds, and the process that only decides needs none of them.
    from clearing.pipeline import clear

    case, left = case_of(snapshot), LeftOut()
    while True:
        try:
            return clear(case), left
        except FaultyInputError as error:
            smaller = _without(case, error.faults, left)
            if smaller == case:
                raise
            case = smaller


def _without(case: Case, faults: Iterable[Fault], left: LeftOut) -> Case:
    """Return the case without the offers and requests that faults name; a unit falls with all its offers."""
    offers: dict[str, str] = {}
    requests: dict[str, str] = {}
    for fault in faults:
        blamed = _BLAMED.match(fault.path)
        if blamed is None:
            continue
        number, why = int(blamed[2]), f"cannot take part: {fault.path[blamed.end() + 1 :] or 'it'}: {fault.message}"
        if blamed[1] == "offers":
            offers.setdefault(case.offers[number].offer_id, why)
        elif blamed[1] == "requests":
            requests.setdefault(case.requests[number].request_id, why)
        else:
            unit_id = case.units[number].unit_id
            for offer in case.offers:
                if offer.unit_id == unit_id:
                    offers.setdefault(offer.offer_id, f"its unit {why}")
    for name, why in offers.items():
        left.offers.setdefault(name, why[:1000])
    for name, why in requests.items():
        left.requests.setdefault(name, why[:1000])
    kept = tuple(o for o in case.offers if o.offer_id not in offers)
    named = {o.unit_id for o in kept}
    return replace(
        case,
        offers=kept,
        units=tuple(u for u in case.units if u.unit_id in named),
        requests=tuple(r for r in case.requests if r.request_id not in requests),
    )
