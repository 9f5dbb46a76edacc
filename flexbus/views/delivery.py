"""Delivered flexibility: what the meters show against the baseline, shared among orders (BeFlexible SUC06.3).

Rules:
- Baseline of a connection point and session: the newest `BaselineSubmitted` before the gate, else the newest
  `ScheduleSubmitted` before the gate. A schedule sent after the gate may contain the award, and a forecast is made
  per bus, so neither may serve. Without baseline nothing can be shown, so nothing counts as delivered.
- Where orders of several sessions meet in a slot, one baseline judges them all: that of the session whose gate
  closed first. So the same energy is never counted twice.
- Deviation = metered less baseline; an order has delivered what deviates in its direction. The meter shows the net,
  so of two opposite orders at one point only one can be seen to deliver.
- Orders of one direction at one point and slot share the deviation in proportion to what they owe (`apportion`,
  ties by activation id). Refused orders owe and get nothing.
- Portfolios come after the orders at their points, in the order of their ids, and share what these leave of the
  sum over their points; every point must be read. Where a portfolio follows, an order takes no more than it owes.
- The payback of an award (`AwardTerms.payback`) is no deviation: what is owed of the award comes back at its point as
  the clearing reckoned, and the published baseline contains it. What an order did not owe does not come back.
- Without a reading (missing, or of a coarser grid than the slot) nothing is delivered until a later one corrects it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from flexbus import events as ev
from flexbus.events import Quality
from flexbus.quantities import Direction, energy_wh
from flexbus.shares import apportion
from flexbus.time import slot_starts
from flexbus.views import activation
from flexbus.views.activation import Activation, Activations, ActivationState, owed_w
from flexbus.views.fact import Fact
from flexbus.views.payback import payback_w

__all__ = ["READS", "Delivered", "Evidence", "Reading", "baseline_wh", "deliveries", "fold", "metered_wh", "pool_of"]


@dataclass(frozen=True, slots=True)
class Reading:
    """The newest metered energy of one slot of the meter's own grid; None = not available."""

    revision: int
    resolution_s: int
    energy_wh: int | None


@dataclass(slots=True)
class Evidence:
    """What deliveries are computed from, in one market area.

    Attributes:
        activations: orders and what became of them.
        readings: per connection point, by start of the slot, UTC ms.
        baselines: newest before the gate, per session and connection point.
        schedules: the same for schedules.
        gates: sessions whose gate has closed, with their rank in time.
    """

    activations: Activations = field(default_factory=Activations)
    readings: dict[str, dict[int, Reading]] = field(default_factory=dict)
    baselines: dict[tuple[str, str], ev.BaselineSubmitted] = field(default_factory=dict)
    schedules: dict[tuple[str, str], ev.ScheduleSubmitted] = field(default_factory=dict)
    gates: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Delivered:
    """The numbers of one activation, one entry per slot, Wh."""

    baseline_wh: list[int | None]
    metered_wh: list[int | None]
    ordered_wh: list[int]
    delivered_wh: list[int]

    @property
    def shortfall_wh(self) -> list[int]:
        """Owed and not delivered per slot, Wh >= 0."""
        return [max(0, o - d) for o, d in zip(self.ordered_wh, self.delivered_wh, strict=True)]


@dataclass(slots=True)
class _Claim:
    """One order in one slot."""

    activation_id: str
    activation: Activation
    slot: int
    owed_wh: int

    @property
    def shares(self) -> bool:
        return self.owed_wh > 0 and self.activation.state is not ActivationState.REFUSED


def fold(state: Evidence, fact: Fact) -> Evidence:
    """Return the evidence after a fact; facts that prove nothing leave it as it was."""
    state.activations = activation.fold(state.activations, fact)
    change = _CHANGES.get(type(fact.event))
    if change is not None:
        change(state, fact.event)
    return state


def pool_of(state: Evidence, connection_point_ids: Iterable[str], from_ms: int, until_ms: int) -> frozenset[str]:
    """Return the activations whose deliveries may change with what is known of points in a period.

    They are those that the points' meters show in the period, and those that share other meters with these.

    Args:
        state: the evidence.
        connection_point_ids: the points.
        from_ms: start of the period, UTC ms.
        until_ms: its end, UTC ms.
    """
    orders = state.activations
    found: set[str] = set()
    seen: set[str] = set()
    todo = list(connection_point_ids)
    while todo:
        point = todo.pop()
        if point not in seen:
            seen.add(point)
            new = [a for a in activation.shown_at(orders, point, from_ms, until_ms) if a not in found]
            found.update(new)
            todo += [p for a in new for p in orders.activations[a].points]
    return frozenset(found)


def deliveries(state: Evidence, activation_ids: Iterable[str]) -> dict[str, Delivered]:
    """Compute what activations delivered.

    Returns:
        Numbers by activation id, in the order of the ids.
    """
    results: dict[str, Delivered] = {}
    back = _Paybacks(state)
    slots: dict[tuple[int, int], list[str]] = {}
    for activation_id in sorted(activation_ids):
        act = state.activations.activations[activation_id]
        owed = [energy_wh(p, act.order.resolution_s) for p in owed_w(act)]
        count = len(owed)
        results[activation_id] = result = Delivered([None] * count, [None] * count, owed, [0] * count)
        if _is_alone(state, act):
            _alone(state, act, result, back)
            continue
        for at_ms in slot_starts(act.order.start_ms, act.order.resolution_s, count):
            slots.setdefault((at_ms, act.order.resolution_s), []).append(activation_id)
    for (at_ms, resolution_s), wanted in slots.items():
        done: set[str] = set()
        for activation_id in wanted:
            if activation_id not in done:
                claims = _claims(state, activation_id, at_ms, resolution_s)
                done.update(c.activation_id for c in claims)
                _share_slot(state, at_ms, resolution_s, claims, results, back)
    return results


def _is_alone(state: Evidence, act: Activation) -> bool:
    if len(act.points) != 1:
        return False
    order = act.order
    return all(
        a == order.activation_id
        for a in activation.shown_at(state.activations, act.points[0], order.start_ms, act.end_ms)
    )


def _claims(state: Evidence, activation_id: str, at_ms: int, resolution_s: int) -> list[_Claim]:
    """Return the claims of one slot that share meters with that of an activation, its own among them, by id."""
    orders = state.activations
    found: dict[str, _Claim] = {}
    seen: set[str] = set()
    todo: list[str] = []

    def claim(name: str) -> None:
        act = orders.activations[name]
        slot, beside_ms = divmod(at_ms - act.order.start_ms, resolution_s * 1000)
        same = not beside_ms and at_ms < act.end_ms and act.order.resolution_s == resolution_s
        if same and name not in found:
            owed_wh = 0 if act.stopped[slot] else energy_wh(act.power_w[slot], resolution_s)
            found[name] = _Claim(name, act, slot, owed_wh)
            todo.extend(act.points)

    claim(activation_id)  # a portfolio that is not known has no points, and no meter shows its order
    while todo:
        point = todo.pop()
        if point not in seen:
            seen.add(point)
            for name in activation.shown_at(orders, point, at_ms, at_ms + 1):
                claim(name)
    return [found[name] for name in sorted(found)]


def metered_wh(state: Evidence, connection_point_id: str, start_ms: int, resolution_s: int) -> int | None:
    """Return the metered net energy of a slot, Wh; the sum of finer readings if they fill it, else None."""
    readings = state.readings.get(connection_point_id, {})
    end_ms = start_ms + resolution_s * 1000
    total = 0
    while start_ms < end_ms:
        reading = readings.get(start_ms)
        if reading is None or reading.energy_wh is None:
            return None
        total += reading.energy_wh
        start_ms += reading.resolution_s * 1000
    return total if start_ms == end_ms else None


def baseline_wh(
    state: Evidence, session_id: str, connection_point_id: str, start_ms: int, resolution_s: int
) -> int | None:
    """Return the baseline net energy of a slot, Wh; None if there is none that covers it."""
    key = (session_id, connection_point_id)
    series = state.baselines.get(key) or state.schedules.get(key)
    if series is None:
        return None
    step_ms = series.resolution_s * 1000
    end_ms = start_ms + resolution_s * 1000
    if start_ms < series.start_ms or end_ms > series.start_ms + len(series.power_w) * step_ms:
        return None
    watt_seconds = 0
    for slot in range((start_ms - series.start_ms) // step_ms, -(-(end_ms - series.start_ms) // step_ms)):
        slot_ms = series.start_ms + slot * step_ms
        watt_seconds += series.power_w[slot] * (min(end_ms, slot_ms + step_ms) - max(start_ms, slot_ms)) // 1000
    return energy_wh(watt_seconds, 1)


class _Paybacks:
    """What comes back at connection points of what was owed of awards with a payback."""

    def __init__(self, state: Evidence) -> None:
        self._state = state.activations
        self._known: dict[str, list[int]] = {}

    def wh(self, point: str, start_ms: int, resolution_s: int) -> int:
        """Return the energy that comes back in a slot, Wh, positive = feed-in."""
        if not self._state.paybacks:
            return 0
        end_ms, watt_ms = start_ms + resolution_s * 1000, 0
        for activation_id in activation.shown_at(self._state, point, start_ms, end_ms):
            act = self._state.activations[activation_id]
            if act.payback is None or act.state is ActivationState.REFUSED:
                continue
            if activation_id not in self._known:
                self._known[activation_id] = payback_w(owed_w(act), act.payback)
            series, first_ms, step_ms = self._known[activation_id], act.order.start_ms, act.order.resolution_s * 1000
            for slot in range(max(0, (start_ms - first_ms) // step_ms), -(-(end_ms - first_ms) // step_ms)):
                if slot < len(series):
                    slot_ms = first_ms + slot * step_ms
                    shared_ms = min(end_ms, slot_ms + step_ms) - max(start_ms, slot_ms)
                    watt_ms -= act.order.direction.sign * series[slot] * shared_ms
        return energy_wh(watt_ms // 1000, 1)


def _alone(state: Evidence, act: Activation, result: Delivered, back: _Paybacks) -> None:
    """Fill in an order that shares its meter with no other: the common case, without the sharing."""
    order, point = act.order, act.points[0]
    refused = act.state is ActivationState.REFUSED
    for slot, at_ms in enumerate(slot_starts(order.start_ms, order.resolution_s, len(result.ordered_wh))):
        base = baseline_wh(state, order.session_id, point, at_ms, order.resolution_s)
        if base is not None:
            base += back.wh(point, at_ms, order.resolution_s)
        read = metered_wh(state, point, at_ms, order.resolution_s)
        result.baseline_wh[slot], result.metered_wh[slot] = base, read
        if base is not None and read is not None and result.ordered_wh[slot] and not refused:
            result.delivered_wh[slot] = max(0, (read - base) * order.direction.sign)


def _share_slot(
    state: Evidence,
    at_ms: int,
    resolution_s: int,
    claims: list[_Claim],
    results: dict[str, Delivered],
    back: _Paybacks,
) -> None:
    session_id = min({c.activation.order.session_id for c in claims}, key=lambda s: (state.gates.get(s, 0), s))
    points = sorted({p for c in claims for p in c.activation.points})
    baseline = {p: baseline_wh(state, session_id, p, at_ms, resolution_s) for p in points}
    for point, base in baseline.items():
        baseline[point] = None if base is None else base + back.wh(point, at_ms, resolution_s)
    metered = {p: metered_wh(state, p, at_ms, resolution_s) for p in points}
    pools: dict[tuple[str, tuple[str, ...]], list[_Claim]] = {}
    singles: dict[str, list[_Claim]] = {}
    for claim in claims:
        result, own = results.get(claim.activation_id), claim.activation.points
        if result is not None:
            result.baseline_wh[claim.slot] = _sum_if_all(baseline[p] for p in own)
            result.metered_wh[claim.slot] = _sum_if_all(metered[p] for p in own)
        if claim.activation.order.connection_point_id is not None:
            singles.setdefault(own[0], []).append(claim)
        elif claim.shares:
            pools.setdefault((claim.activation.order.portfolio_id or "", own), []).append(claim)
    pooled = {p for group in pools.values() for c in group for p in c.activation.points}
    left: dict[str, int] = {}
    for point in points:
        base, read = baseline[point], metered[point]
        if base is not None and read is not None:
            left[point] = read - base
            for direction in Direction:
                group = _sharing(singles.get(point, ()), direction)
                available = left[point] * direction.sign
                if point in pooled:
                    available = min(available, sum(c.owed_wh for c in group))
                left[point] -= direction.sign * _hand_out(available, group, results)
    for (_, own), pool in sorted(pools.items(), key=lambda item: item[0]):
        for direction in Direction:
            group = _sharing(pool, direction)
            if group and all(p in left for p in own):
                available = sum(left[p] for p in own) * direction.sign
                owed = sum(c.owed_wh for c in group)
                _take(left, own, direction, _hand_out(min(available, owed), group, results))


def _sharing(claims: Iterable[_Claim], direction: Direction) -> list[_Claim]:
    return [c for c in claims if c.shares and c.activation.order.direction is direction]


def _hand_out(available_wh: int, group: list[_Claim], results: dict[str, Delivered]) -> int:
    """Share energy among orders in proportion to what they owe; return what was handed out, Wh."""
    if available_wh <= 0 or not group:
        return 0
    for claim, share in zip(group, apportion(available_wh, [c.owed_wh for c in group]), strict=True):
        if claim.activation_id in results:
            results[claim.activation_id].delivered_wh[claim.slot] = share
    return available_wh


def _take(left: dict[str, int], points: tuple[str, ...], direction: Direction, taken_wh: int) -> None:
    """Take what a portfolio used from its points, in the order of their ids."""
    for point in points:
        used = max(0, min(taken_wh, left[point] * direction.sign))
        left[point] -= used * direction.sign
        taken_wh -= used


def _sum_if_all(values: Iterable[int | None]) -> int | None:
    total = 0
    for value in values:
        if value is None:
            return None
        total += value
    return total


def _baseline(state: Evidence, e: ev.BaselineSubmitted) -> None:
    if e.session_id not in state.gates:
        state.baselines[e.session_id, e.connection_point_id] = e


def _schedule(state: Evidence, e: ev.ScheduleSubmitted) -> None:
    if e.session_id not in state.gates:
        state.schedules[e.session_id, e.connection_point_id] = e


def _gate_closed(state: Evidence, e: ev.GateClosed) -> None:
    state.gates.setdefault(e.session_id, len(state.gates) + 1)


def _read(state: Evidence, e: ev.MeterReadingReceived) -> None:
    readings = state.readings.setdefault(e.connection_point_id, {})
    quality = e.quality or (Quality.MEASURED,) * len(e.energy_wh)
    starts = slot_starts(e.start_ms, e.resolution_s, len(e.energy_wh))
    for at_ms, energy, how in zip(starts, e.energy_wh, quality, strict=False):
        before = readings.get(at_ms)
        if before is None or e.revision > before.revision:
            value = None if how is Quality.MISSING else energy
            readings[at_ms] = Reading(e.revision, e.resolution_s, value)


_CHANGES: dict[type[Any], Callable[[Evidence, Any], None]] = {
    ev.BaselineSubmitted: _baseline,
    ev.ScheduleSubmitted: _schedule,
    ev.GateClosed: _gate_closed,
    ev.MeterReadingReceived: _read,
}

READS = activation.READS | {t.__name__ for t in _CHANGES}
