"""What numbers may be: so many as there are slots, and none that no machine number holds.

Arrays of other lengths would be stretched in the comparisons that follow, and a shorter series would hold. And what
must agree within a result: its status with those of its slots, the offers it explains with those it has.
"""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from clearing.case import Case, UnitKind
from clearing.certificate.evidence import Evidence, Finding
from clearing.certificate.physics import excesses
from clearing.result import Result
from flexbus.events.clearing import LimitKind, SlotStatus

__all__ = ["QUANTUM_DIGITS", "misshapen", "no_such_limit", "unknown"]

_LISTS = ("offers", "requests", "buses", "branches", "infeed_points", "zone_prices")
_GREATEST = 2**63 - 1
# Multipliers are multiples of 1e-6 (EUR per MWh, or per hour and pu squared), with nine digits at most.
QUANTUM_DIGITS = 6
_OF_BUSES = (LimitKind.VOLTAGE_MIN, LimitKind.VOLTAGE_MAX)


def misshapen(result: Result, slots: int) -> Iterator[Finding]:
    """Yield every series of another length than the slots, every slot that there is not, every number out of range.

    Args:
        result: the result.
        slots: how many entries a series of it must have.
    """
    for name in _LISTS:
        for k, item in enumerate(getattr(result, name)):
            for field in fields(item):
                value = getattr(item, field.name)
                if isinstance(value, tuple) and len(value) != slots:
                    yield Finding(f"$.{name}[{k}].{field.name}", f"{len(value)} values for {slots} slots")
    for k, award in enumerate(result.non_awards):
        if any(not 0 <= slot < slots for slot in award.slots):
            yield Finding(f"$.non_awards[{k}].slots", f"names a slot that is none of the {slots}")
    for k, duals in enumerate(result.certificate.duals):
        if not 0 <= duals.slot < slots:
            yield Finding(f"$.certificate.duals[{k}].slot", f"is none of the {slots} slots")
    for slot, count in sorted(Counter(d.slot for d in result.certificate.duals).items()):
        if count > 1:
            yield Finding("$.certificate.duals", f"slot {slot} has {count} entries")
    known = {o.offer_id for o in result.offers}
    for k, award in enumerate(result.non_awards):
        if award.offer_id not in known:
            yield Finding(f"$.non_awards[{k}].offer_id", f"no offer has the id {award.offer_id!r}")
    # The rungs of the ladder in its own order; MERIT_ORDER is one that no clearing gives.
    worst = max((s.status for s in result.slots), key=list(SlotStatus).index, default=result.status)
    if result.status is not worst:
        yield Finding("$.status", f"published {result.status.value}, the worst slot is {worst.value}")
    yield from _out_of_range("$", result)


def unknown(case: Case, result: Result) -> Iterator[Finding]:
    """Yield every multiplier of a request or storage that the case lacks, two of one limit, or with too many digits.

    Args:
        case: the case, unfolded.
        result: its result.
    """
    requests = {r.request_id for r in case.requests}
    for k, duals in enumerate(result.certificate.duals):
        # Each is held to the price of its limit, so that two of one limit would come to twice the price.
        for (kind, element), count in Counter((d.kind, d.element_id) for d in duals.limits).items():
            if count > 1:
                path = f"$.certificate.duals[{k}].limits"
                yield Finding(path, f"{kind.value} of {element!r} has {count} multipliers")
        for n, request in enumerate(duals.requests):
            if request.request_id not in requests:
                yield Finding(f"$.certificate.duals[{k}].requests[{n}]", f"there is no request {request.request_id!r}")
    yield from _off_the_quantum("$.certificate", result.certificate)
    storages = sorted(u.unit_id for u in case.units if u.kind is UnitKind.STORAGE)
    if [u.unit_id for u in result.certificate.stored] != storages:
        yield Finding("$.certificate.stored", "must have one entry per storage, sorted by id")
    for k, unit in enumerate(result.certificate.stored):
        if len(unit.worth_eur_per_mwh) != case.slots:
            yield Finding(f"$.certificate.stored[{k}].worth_eur_per_mwh", f"needs {case.slots} values")


def no_such_limit(e: Evidence) -> Iterator[Finding]:
    """Yield every multiplier and every binding of a limit that the case does not have."""
    known = {(kind, element) for kind, element, _, _ in excesses(e, e.before)}
    named = [
        (f"$.certificate.duals[{k}].limits[{n}]", limit.kind, limit.element_id)
        for k, duals in enumerate(e.result.certificate.duals)
        for n, limit in enumerate(duals.limits)
    ]
    for path, kind, element in list(named):
        if kind in _OF_BUSES:
            yield Finding(
                path, f"{kind.value} of {element!r} needs no multiplier: it follows from those of the balances"
            )
    named += [
        (f"$.slots[{t}].binding[{n}]", binding.kind, binding.element_id)
        for t, slot in enumerate(e.result.slots)
        for n, binding in enumerate(slot.binding)
    ]
    for path, kind, element in named:
        if (kind, element) not in known:
            yield Finding(path, f"there is no limit {kind.value} of {element!r}")


def _off_the_quantum(path: str, value: Any) -> Iterator[Finding]:
    if isinstance(value, float):
        if value != float(f"{round(value, QUANTUM_DIGITS):.9g}"):
            yield Finding(path, f"{value!r} has more digits than multipliers are published with")
    elif isinstance(value, tuple):
        for k, item in enumerate(value):
            yield from _off_the_quantum(f"{path}[{k}]", item)
    elif is_dataclass(value):
        for field in fields(value):
            yield from _off_the_quantum(f"{path}.{field.name}", getattr(value, field.name))


def _out_of_range(path: str, value: Any) -> Iterator[Finding]:
    if isinstance(value, float):
        if not math.isfinite(value):
            yield Finding(path, f"{value} is no number")
    elif isinstance(value, int):
        if not -_GREATEST <= value <= _GREATEST:
            yield Finding(path, "is out of the range of 64 bits")
    elif isinstance(value, tuple):
        for k, item in enumerate(value):
            yield from _out_of_range(f"{path}[{k}]", item)
    elif is_dataclass(value):
        for field in fields(value):
            yield from _out_of_range(f"{path}.{field.name}", getattr(value, field.name))
