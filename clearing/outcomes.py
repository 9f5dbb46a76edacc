"""What requests got, as facts: bought, or by the limit that they stand for, and why not in full."""

from collections.abc import Iterator

from clearing.asked import asked_slots, held_request_ids, limit_kinds
from clearing.left_out import LeftOut
from clearing.result import LimitKind, Result, Shortfall
from clearing.snapshot import Snapshot, first_slot
from clearing.states import States
from flexbus import events as ev
from flexbus.events import LocationKind

__all__ = ["MAX_REASON_BYTES", "outcome", "outcomes"]

MAX_REASON_BYTES = 500  # a record tells of thousands of requests

_VOLTAGE = frozenset({LimitKind.VOLTAGE_MAX, LimitKind.VOLTAGE_MIN})
_IN_W = frozenset({LimitKind.IMPORT, LimitKind.EXPORT})


def outcomes(snapshot: Snapshot, result: Result, left: LeftOut) -> Iterator[ev.RequestOutcome | ev.ReactiveOutcome]:
    """Yield what each request got: as a purchase, or by the limit that it stands for.

    Args:
        snapshot: what was cleared.
        result: what came out.
        left: requests that were left out, and why.
    """
    states = States(snapshot, result)
    bought = {r.request_id: r for r in result.requests}
    held = held_request_ids(snapshot)
    for request in snapshot.requests:
        if request.request_id in left.untold:
            continue
        first, count = first_slot(snapshot, request.start_ms), asked_slots(request)
        if request.request_id in bought:
            row = bought[request.request_id]
            met = row.matched if states.plain else states.least(row.matched, request.direction)
            yield outcome(request, tuple(_at(met, first + n) for n in range(count)), row.reason)
        elif request.request_id in held:
            matched = tuple(
                max(0, asked - _missing_w(result, states, first + n, request))
                for n, asked in enumerate(request.power_w)
            )
            yield outcome(request, matched, _why_held_unmet(result, states, first, request, matched))
        else:
            text = f"{request.location_kind.value} {request.location_id} is not on the network, or the terms do not fit"
            yield outcome(request, (0,) * count, left.requests.get(request.request_id, text))


def _why_held_unmet(
    result: Result, states: States, first: int, request: ev.FlexRequest, matched: tuple[int, ...]
) -> str:
    """Say why the limit that a request stands for is not held, by how much; empty when it is."""
    short = [first + n for n, (m, a) in enumerate(zip(matched, request.power_w, strict=True)) if m < a]
    if not short:
        return ""
    text = f"the limit of {request.location_id} cannot be held in {len(short)} slots with the flexibility offered"
    slots = [states.missing(result, t) for t in short if 0 <= t < states.slots]
    dead = sum(s.kind is LimitKind.POWER_FLOW for missing in slots for s in missing)
    if dead:
        return f"{text}: in {dead} of them the forecast has no AC solution"
    broken = [s for missing in slots for s in missing if _is_limit_of(s, request)]
    if not broken:
        return text
    worst = max(broken, key=lambda s: s.amount)
    unit = "ppm of the nominal voltage" if worst.kind in _VOLTAGE else "W" if worst.kind in _IN_W else "VA"
    return f"{text}: {worst.kind.value} exceeded by up to {worst.amount} {unit}"


def _missing_w(result: Result, states: States, slot: int, request: ev.FlexRequest) -> int:
    """Return by how much the limit that a request stands for is missed in a slot, W."""
    if not 0 <= slot < states.slots:
        return max(request.power_w)
    missing = 0
    for shortfall in states.missing(result, slot):
        if shortfall.kind is LimitKind.POWER_FLOW or _is_voltage_of(shortfall, request):
            # A voltage cannot be counted against a power: the need is met when the limit holds, else it is not.
            return max(request.power_w)
        if _is_limit_of(shortfall, request):
            missing = max(missing, shortfall.amount)
    return missing


def _is_limit_of(shortfall: Shortfall, request: ev.FlexRequest) -> bool:
    """Tell whether a shortfall is of the limit that a request stands for; other elements may have the same id."""
    if request.location_kind is LocationKind.BUS:
        return _is_voltage_of(shortfall, request)
    return shortfall.element_id == request.location_id and shortfall.kind in limit_kinds(request)


def _is_voltage_of(shortfall: Shortfall, request: ev.FlexRequest) -> bool:
    at_bus = request.location_kind is LocationKind.BUS and shortfall.element_id == request.location_id
    return at_bus and shortfall.kind in _VOLTAGE


def outcome(request: ev.FlexRequest, matched: tuple[int, ...], reason: str) -> ev.RequestOutcome | ev.ReactiveOutcome:
    """Return what a request got.

    Args:
        request: the request.
        matched: met per slot of the request, W or var.
        reason: why not in full, for people; empty = met.
    """
    reason = reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore")
    if request.reactive_slots:
        return ev.ReactiveOutcome(
            request_id=request.request_id,
            requester_id=request.requester_id,
            requested_var=tuple(sum(s.reactive_power_var for s in slot.steps) for slot in request.reactive_slots),
            matched_var=matched,
            reason=reason,
        )
    return ev.RequestOutcome(
        request_id=request.request_id,
        requester_id=request.requester_id,
        requested_w=request.power_w,
        matched_w=matched,
        reason=reason,
    )


def _at(values: tuple[int, ...], index: int) -> int:
    return values[index] if 0 <= index < len(values) else 0
