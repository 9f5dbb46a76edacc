"""Cutting offers to what their connection points may give; pure.

Offers at one point share what it may give, the cheapest steps first; offers of one exclusive group do not add up,
since at most one of them is taken. A portfolio may give what its points together may give, each at most the power
of the portfolio's assets there. A block is taken in full or not at all, so a cut voids it.

A profile with a choice of start counts in every slot with the most that any of its starts takes there; what is left
to it decides which starts are left, and of these the longest unbroken run of them stays its window. Lights and limits
are of active power: reactive power is cut only where a point may give nothing in either direction (red light, stop,
removal).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from flexbus import events as ev
from flexbus.quantities import Direction
from flexbus.time import slot_starts
from flexbus.views.offered import active_slots, is_reactive, starts
from flexbus.views.registry import Registry

__all__ = ["Clipping", "Limits", "Restriction", "clip", "clippings"]


class Restriction(NamedTuple):
    """One thing that restricts flexibility in a slot: up to how much, W, and what it is."""

    allowed_w: int
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Clipping:
    """How far one offer is cut.

    Attributes:
        offered_w: offered per slot, W; empty for reactive power.
        allowed_w: allowed per slot, W, on the product's step.
        causes: what cuts it, sorted.
        reason: the same for people.
        starts: the starts left of a profile with a choice of start, as slots from the offer's first; None = all.
        offered_var: reactive power offered per slot, var.
        allowed_var: reactive power allowed per slot, var.
    """

    offered_w: tuple[int, ...]
    allowed_w: tuple[int, ...]
    causes: tuple[str, ...]
    reason: str
    starts: tuple[int, ...] | None = None
    offered_var: tuple[int, ...] = ()
    allowed_var: tuple[int, ...] = ()


class Limits(Protocol):
    """What restricts the flexibility of one place in one direction."""

    def least_w(self) -> int | None:
        """Return what is allowed in any slot, W, or less; None = nothing is restricted in any slot."""

    def most_w(self, start_ms: int, end_ms: int) -> int | None:
        """Return what is allowed in a slot, W; None = not restricted."""

    def restrictions(self, start_ms: int, end_ms: int) -> tuple[Restriction, ...]:
        """Return all that restricts a slot, tightest first. Asked where something is cut."""


def clip(offer: ev.FlexOffer, clipping: Clipping | None) -> ev.FlexOffer:
    """Return an offer's stacks of active power with what is allowed of them: the dearest steps go first.

    Args:
        offer: the offer.
        clipping: how far it is cut; None = not at all.
    """
    offer = active_slots(offer)
    if clipping is None:
        return offer
    slots = tuple(_cut_slot(slot, most) for slot, most in zip(offer.slots, clipping.allowed_w, strict=True))
    return replace(offer, slots=slots)


def _cut_slot(slot: ev.OfferSlot, most: int) -> ev.OfferSlot:
    if most < slot.min_power_w or most == 0:
        return ev.OfferSlot(steps=())
    steps: list[ev.PriceStep] = []
    for step in slot.steps:
        part = min(step.power_w, most)
        if part > 0:
            steps.append(step if part == step.power_w else replace(step, power_w=part))
        most -= part
    return replace(slot, steps=tuple(steps))


def clippings(
    registry: Registry, offers: Iterable[ev.FlexOffer], step_w: int, limits_at: Callable[[str, Direction], Limits]
) -> dict[str, Clipping]:
    """Return how far each offer is cut; offers that are not cut are absent.

    Args:
        registry: for the points of portfolios.
        offers: live offers of a session.
        step_w: the product's step, W; what is allowed is rounded down to it.
        limits_at: what restricts a connection point in a direction.
    """
    shared: dict[tuple[str, Direction], list[ev.FlexOffer]] = {}
    found: dict[str, Clipping] = {}
    for offer in sorted(offers, key=lambda o: o.offer_id):
        if is_reactive(offer):
            _cut_reactive(found, registry, offer, limits_at)
            continue
        if offer.terms is not None:
            offer = active_slots(offer)
        if offer.connection_point_id is not None:
            shared.setdefault((offer.connection_point_id, offer.direction), []).append(offer)
        elif offer.portfolio_id is not None:
            _collect(found, [offer], _Cut([offer], _Pool(registry, offer, limits_at), step_w))
    for (point_id, direction), members in shared.items():
        _collect(found, members, _Cut(members, limits_at(point_id, direction), step_w))
    return found


class _Cut:
    """Shares what is allowed among offers that compete for it, slot by slot."""

    def __init__(self, offers: list[ev.FlexOffer], limits: Limits, step_w: int) -> None:
        self.offered = {o.offer_id: [_total(s) for s in o.slots] for o in offers}
        self.allowed: dict[str, list[int]] = {}
        self.causes: dict[str, set[str]] = {}
        self._step_w = step_w
        # Nearly always nothing is cut, and telling so must be cheap: thousands of offers wait at a gate.
        least = limits.least_w()
        if least is None or sum(max(totals, default=0) for totals in self.offered.values()) <= least // step_w * step_w:
            return
        for start_ms, end_ms, wanted_w, entries in self._slots(offers):
            most = limits.most_w(start_ms, end_ms)
            if most is not None and wanted_w > most // step_w * step_w:
                self._share(entries, limits.restrictions(start_ms, end_ms))

    def _slots(self, offers: list[ev.FlexOffer]) -> Iterator[tuple[int, int, int, list[tuple[ev.FlexOffer, int]]]]:
        """Yield the slots in which something is offered: period, sum (W), and the offers with their slot numbers."""
        found: dict[tuple[int, int], list[tuple[ev.FlexOffer, int]]] = {}
        for offer in offers:
            step_ms = offer.resolution_s * 1000
            start_ms = offer.start_ms
            for i, total in enumerate(self.offered[offer.offer_id]):
                if total and len(offers) == 1:
                    yield start_ms, start_ms + step_ms, total, [(offer, i)]
                elif total:
                    found.setdefault((start_ms, start_ms + step_ms), []).append((offer, i))
                start_ms += step_ms
        for (start_ms, end_ms), entries in found.items():
            # An exclusive group uses less than the sum of its members, which is looked at only when it matters.
            yield start_ms, end_ms, sum(self.offered[o.offer_id][i] for o, i in entries), entries

    def _share(self, entries: list[tuple[ev.FlexOffer, int]], found: tuple[Restriction, ...]) -> None:
        most = min(r.allowed_w for r in found) // self._step_w * self._step_w
        wanted = _Use()
        for offer, i in entries:
            wanted.add(offer, self.offered[offer.offer_id][i], 0)
        if wanted.total_w <= most:
            return
        causes = [r.cause for r in found if r.allowed_w < wanted.total_w] or [found[0].cause]
        given = self._given(entries, most)
        for offer, i in entries:
            part = given[offer.offer_id] if given[offer.offer_id] >= offer.slots[i].min_power_w else 0
            if part < self.offered[offer.offer_id][i]:
                self.allowed.setdefault(offer.offer_id, list(self.offered[offer.offer_id]))[i] = part
                self.causes.setdefault(offer.offer_id, set()).update(causes)

    def _given(self, entries: list[tuple[ev.FlexOffer, int]], most: int) -> dict[str, int]:
        """Return what each offer keeps of a slot, W: the cheapest steps first."""
        if len(entries) == 1:
            return {entries[0][0].offer_id: most}
        steps = sorted(
            (step.price_milli_per_mwh, o.offer_id, j, step.power_w, n)
            for n, (o, i) in enumerate(entries)
            for j, step in enumerate(o.slots[i].steps)
        )
        given = {o.offer_id: 0 for o, _ in entries}
        use = _Use()
        for _, offer_id, _, power_w, n in steps:
            offer = entries[n][0]
            part = max(0, min(power_w, most - use.total_w + use.hidden_w(offer, given[offer_id])))
            use.add(offer, part, given[offer_id])
            given[offer_id] += part
        return given


def _collect(found: dict[str, Clipping], offers: list[ev.FlexOffer], cut: _Cut) -> None:
    for offer in offers:
        if offer.offer_id not in cut.allowed:
            continue
        offered, allowed = tuple(cut.offered[offer.offer_id]), tuple(cut.allowed[offer.offer_id])
        causes = tuple(sorted(cut.causes[offer.offer_id]))
        slots = sum(a < b for a, b in zip(allowed, offered, strict=True))
        reason = f"cut in {slots} of {len(offered)} slots by {'; '.join(causes)}"
        left: tuple[int, ...] | None = None
        if offer.all_or_nothing:
            allowed = (0,) * len(offered)
            reason += "; a block is taken in full or not at all"
        elif offer.terms is not None and offer.terms.start_choice is not None:
            profile = offer.terms.start_choice.profile_w
            left = _starts_left(profile, starts(offer), allowed)
            allowed = _most_of(profile, left, len(offered))
            reason += f"; {len(left)} of {starts(offer)} starts are left to its profile"
        found[offer.offer_id] = Clipping(
            offered_w=offered, allowed_w=allowed, causes=causes, reason=reason[:1000], starts=left
        )


def _starts_left(profile_w: tuple[int, ...], count: int, allowed_w: tuple[int, ...]) -> tuple[int, ...]:
    """Return the longest unbroken run of starts for which a profile fits into what is allowed; the first of equals."""
    best: list[int] = []
    run: list[int] = []
    for start in range(count):
        fits = all(w <= most for w, most in zip(profile_w, allowed_w[start:], strict=False))
        run = [*run, start] if fits else []
        if len(run) > len(best):
            best = run
    return tuple(best)


def _most_of(profile_w: tuple[int, ...], left: tuple[int, ...], slots: int) -> tuple[int, ...]:
    """Return the most that any of the starts left takes in each slot, W."""
    most = [0] * slots
    for start in left:
        for slot, power_w in enumerate(profile_w, start=start):
            most[slot] = max(most[slot], power_w)
    return tuple(most)


def _cut_reactive(
    found: dict[str, Clipping],
    registry: Registry,
    offer: ev.FlexOffer,
    limits_at: Callable[[str, Direction], Limits],
) -> None:
    """Cut an offer of reactive power where its place may give no active power in either direction."""
    assert offer.terms is not None
    assert offer.terms.reactive is not None
    limits: list[Limits] = [
        limits_at(offer.connection_point_id, d)
        if offer.connection_point_id is not None
        else _Pool(registry, replace(offer, direction=d), limits_at)
        for d in Direction
    ]
    if any(least is None or least > 0 for least in (place.least_w() for place in limits)):
        return
    offered = tuple(sum(step.reactive_power_var for step in slot.steps) for slot in offer.terms.reactive.slots)
    allowed = list(offered)
    causes: set[str] = set()
    step_ms = offer.resolution_s * 1000
    for slot, start_ms in enumerate(slot_starts(offer.start_ms, offer.resolution_s, len(offered))):
        if offered[slot] and all(place.most_w(start_ms, start_ms + step_ms) == 0 for place in limits):
            allowed[slot] = 0
            causes.update(r.cause for p in limits for r in p.restrictions(start_ms, start_ms + step_ms)[:1])
    slots = sum(a < b for a, b in zip(allowed, offered, strict=True))
    if not slots:
        return
    reason = f"cut in {slots} of {len(offered)} slots by {'; '.join(sorted(causes))}"
    if offer.all_or_nothing:
        allowed = [0] * len(offered)
        reason += "; a block is taken in full or not at all"
    found[offer.offer_id] = Clipping(
        offered_w=(),
        allowed_w=(),
        causes=tuple(sorted(causes)),
        reason=reason[:1000],
        offered_var=offered,
        allowed_var=tuple(allowed),
    )


def _total(slot: ev.OfferSlot) -> int:
    total = 0
    for step in slot.steps:
        total += step.power_w
    return total


class _Use:
    """What a point gives at most: every offer alone, and one of each exclusive group."""

    def __init__(self) -> None:
        self.total_w = 0
        self._groups: dict[str, int] = {}

    def add(self, offer: ev.FlexOffer, power_w: int, before_w: int) -> None:
        """Count more power of an offer of which some is counted already, W."""
        group = offer.exclusive_group_id
        if group is None:
            self.total_w += power_w
        else:
            greatest = self._groups.get(group, 0)
            self._groups[group] = max(greatest, before_w + power_w)
            self.total_w += self._groups[group] - greatest

    def hidden_w(self, offer: ev.FlexOffer, before_w: int) -> int:
        """Return how much more an offer may give without any more use, behind the greatest of its group, W."""
        return 0 if offer.exclusive_group_id is None else self._groups.get(offer.exclusive_group_id, 0) - before_w


class _Pool:
    """What restricts a portfolio: the sum over its points, each at most what its assets there can do."""

    def __init__(self, registry: Registry, offer: ev.FlexOffer, limits_at: Callable[[str, Direction], Limits]) -> None:
        power: dict[str, int] = {}
        portfolio = registry.portfolios.get(offer.portfolio_id or "")
        for asset_id in () if portfolio is None else portfolio.asset_ids:
            asset = registry.assets.get(asset_id)
            if asset is not None:
                swing = asset.max_feed_in_w + asset.max_draw_w
                power[asset.connection_point_id] = power.get(asset.connection_point_id, 0) + swing
        self._points = [(limits_at(p, offer.direction), swing) for p, swing in sorted(power.items())]

    def least_w(self) -> int | None:
        """Return the sum of the least that the points allow in any slot, W."""
        least = ((limits.least_w(), swing) for limits, swing in self._points)
        return sum(swing if most is None else min(most, swing) for most, swing in least)

    def most_w(self, start_ms: int, end_ms: int) -> int | None:
        """Return the sum of what the points allow, W."""
        total = 0
        for limits, swing in self._points:
            most = limits.most_w(start_ms, end_ms)
            total += swing if most is None else min(most, swing)
        return total

    def restrictions(self, start_ms: int, end_ms: int) -> tuple[Restriction, ...]:
        """Return what restricts the points, each with the sum that is left."""
        total = self.most_w(start_ms, end_ms) or 0
        found = [Restriction(total, "power of the portfolio's assets")]
        for limits, swing in self._points:
            at_point = limits.restrictions(start_ms, end_ms)
            if at_point and at_point[0].allowed_w < swing:
                found.append(Restriction(total, at_point[0].cause))
        return tuple(found[1:] or found)
