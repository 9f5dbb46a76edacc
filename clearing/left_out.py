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
    """Offers and requests that do not take part, each with the reason for people.

    Attributes:
        offers: reasons by offer.
        requests: reasons by request.
        untold: of these requests, those that `MarketCleared` has no room for either.
    """

    offers: dict[str, str] = field(default_factory=dict)
    requests: dict[str, str] = field(default_factory=dict)
    untold: frozenset[str] = frozenset()


def clear_what_can_be(snapshot: Snapshot, without: LeftOut | None = None) -> tuple[Result, LeftOut]:
    """Clear a session without the offers and requests that the clearing finds faulty.

    Args:
        snapshot: what stood before the gate.
        without: who does not take part anyway; None = all do.

    Raises:
        FaultyInputError: a fault is nobody's own.
    """
    # The solver's imports take seconds, and the process that only decides needs none of them.
    from clearing.pipeline import clear

    left = without or LeftOut()
    case = _rest(case_of(snapshot), left)
    while True:
        try:
            return clear(case), left
        except FaultyInputError as error:
            _blame(case, error.faults, left)
            smaller = _rest(case, left)
            if smaller == case:
                raise
            case = smaller


def _blame(case: Case, faults: Iterable[Fault], left: LeftOut) -> None:
    """Leave out the offers and requests that faults name; a unit falls with all its offers."""
    for fault in faults:
        blamed = _BLAMED.match(fault.path)
        if blamed is None:
            continue
        number = int(blamed[2])
        why = f"cannot take part: {fault.path[blamed.end() + 1 :] or 'it'}: {fault.message}"[:1000]
        if blamed[1] == "offers":
            left.offers.setdefault(case.offers[number].offer_id, why)
        elif blamed[1] == "requests":
            left.requests.setdefault(case.requests[number].request_id, why)
        else:
            unit_id = case.units[number].unit_id
            for offer in case.offers:
                if offer.unit_id == unit_id:
                    left.offers.setdefault(offer.offer_id, f"its unit {why}"[:1000])


def _rest(case: Case, left: LeftOut) -> Case:
    """Return the case without those who are left out."""
    kept = tuple(o for o in case.offers if o.offer_id not in left.offers)
    named = {o.unit_id for o in kept}
    return replace(
        case,
        offers=kept,
        units=tuple(u for u in case.units if u.unit_id in named),
        requests=tuple(r for r in case.requests if r.request_id not in left.requests),
    )
