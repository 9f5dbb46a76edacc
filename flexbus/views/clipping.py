"""Cutting offers to what their connection points may give; pure.

Offers at one point share what it may give, the cheapest steps first; offers of one exclusive group do not add up,
since at most one of them is taken. A portfolio may give what its points together may give, each at most the power
of the portfolio's assets there. A block is taken in full or not at all, so a cut voids it.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from flexbus import events as ev
from flexbus.quantities import Direction
from flexbus.views.registry import Registry

__all__ = ["Clipping", "Restrict", "Restriction", "clip", "clippings"]


class Restriction(NamedTuple):
    """One thing that restricts flexibility in a slot: up to how much, W, and what it is."""

    allowed_w: int
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Clipping:
    """How far one offer is cut.

    Attributes:
        offered_w: offered per slot, W.
        allowed_w: allowed per slot, W, on the product's step.
        causes: what cuts it, sorted.
        reason: the same for people.
    """

    offered_w: tuple[int, ...]
    allowed_w: tuple[int, ...]
    causes: tuple[str, ...]
    reason: str


# What restricts a point in a direction and a slot [start, end), tightest first.
Restrict = Callable[[str, Direction, int, int], tuple[Restriction, ...]]


def clip(offer: ev.FlexOffer, clipping: Clipping | None) -> ev.FlexOffer:
    """Return an offer with what is allowed of it: the dearest steps go first.

    Args:
        offer: the offer.
        clipping: how far it is cut; None = not at all.
    """
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
    registry: Registry, offers: Iterable[ev.FlexOffer], step_w: int, restrict: Restrict
) -> dict[str, Clipping]:
    """Return how far each offer is cut; offers that are not cut are absent.

    Args:
        registry: for the points of portfolios.
        offers: live offers of a session.
        step_w: the product's step, W; what is allowed is rounded down to it.
        restrict: what restricts a point.
    """
    shared: dict[tuple[str, Direction], list[ev.FlexOffer]] = {}
    found: dict[str, Clipping] = {}
    for offer in sorted(offers, key=lambda o: o.offer_id):
        if offer.connection_point_id is not None:
            shared.setdefault((offer.connection_point_id, offer.direction), []).append(offer)
        elif offer.portfolio_id is not None:
            _collect(found, [offer], _Cut([offer], _pooled(registry, offer, restrict), step_w))
    for (point_id, direction), members in shared.items():

        def at_point(
            start_ms: int, end_ms: int, point_id: str = point_id, direction: Direction = direction
        ) -> tuple[Restriction, ...]:
            return restrict(point_id, direction, start_ms, end_ms)

        _collect(found, members, _Cut(members, at_point, step_w))
    return found


class _Cut:
    """Shares what is allowed among offers that compete for it, slot by slot."""

    def __init__(
        self, offers: list[ev.FlexOffer], restrict: Callable[[int, int], tuple[Restriction, ...]], step_w: int
    ) -> None:
        self.allowed: dict[str, list[int]] = {o.offer_id: [_total(s) for s in o.slots] for o in offers}
        self.causes: dict[str, set[str]] = {o.offer_id: set() for o in offers}
        for start_ms, end_ms, entries in _by_slot(offers):
            found = restrict(start_ms, end_ms)
            if found:
                self._share(entries, found, step_w)

    def _share(self, entries: list[tuple[ev.FlexOffer, int]], found: tuple[Restriction, ...], step_w: int) -> None:
        most = min(r.allowed_w for r in found) // step_w * step_w
        wanted = _Use()
        for offer, i in entries:
            wanted.add(offer, self.allowed[offer.offer_id][i], 0)
        if wanted.total_w <= most:
            return
        causes = [r.cause for r in found if r.allowed_w < wanted.total_w] or [found[0].cause]
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
        for offer, i in entries:
            part = given[offer.offer_id]
            if part < offer.slots[i].min_power_w:
                part = 0
            if part < self.allowed[offer.offer_id][i]:
                self.allowed[offer.offer_id][i] = part
                self.causes[offer.offer_id].update(causes)


def _collect(found: dict[str, Clipping], offers: list[ev.FlexOffer], cut: _Cut) -> None:
    for offer in offers:
        causes = tuple(sorted(cut.causes[offer.offer_id]))
        if not causes:
            continue
        offered = tuple(_total(s) for s in offer.slots)
        allowed = tuple(cut.allowed[offer.offer_id])
        slots = sum(a < b for a, b in zip(allowed, offered, strict=True))
        reason = f"cut in {slots} of {len(offered)} slots by {'; '.join(causes)}"
        if offer.all_or_nothing:
            allowed = (0,) * len(offered)
            reason += "; a block is taken in full or not at all"
        found[offer.offer_id] = Clipping(offered_w=offered, allowed_w=allowed, causes=causes, reason=reason[:1000])


def _total(slot: ev.OfferSlot) -> int:
    return sum(step.power_w for step in slot.steps)


def _by_slot(offers: list[ev.FlexOffer]) -> Iterator[tuple[int, int, list[tuple[ev.FlexOffer, int]]]]:
    """Yield the slots in which something is offered, with the offers and their slot numbers."""
    found: dict[tuple[int, int], list[tuple[ev.FlexOffer, int]]] = {}
    for offer in offers:
        step_ms = offer.resolution_s * 1000
        for i, slot in enumerate(offer.slots):
            if slot.steps:
                start_ms = offer.start_ms + i * step_ms
                found.setdefault((start_ms, start_ms + step_ms), []).append((offer, i))
    for (start_ms, end_ms), entries in found.items():
        yield start_ms, end_ms, entries


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


def _pooled(
    registry: Registry, offer: ev.FlexOffer, restrict: Restrict
) -> Callable[[int, int], tuple[Restriction, ...]]:
    """Return what restricts a portfolio: the sum over its points, each at most what its assets there can do."""
    power: dict[str, int] = {}
    portfolio = registry.portfolios.get(offer.portfolio_id or "")
    for asset_id in () if portfolio is None else portfolio.asset_ids:
        asset = registry.assets.get(asset_id)
        if asset is not None:
            swing = asset.max_feed_in_w + asset.max_draw_w
            power[asset.connection_point_id] = power.get(asset.connection_point_id, 0) + swing

    def restricted(start_ms: int, end_ms: int) -> tuple[Restriction, ...]:
        total, causes = 0, []
        for point_id, swing in sorted(power.items()):
            found = restrict(point_id, offer.direction, start_ms, end_ms)
            most = found[0].allowed_w if found else swing
            if most < swing:
                causes.append(found[0].cause)
            total += min(most, swing)
        # Each cause takes its part of the sum, so each is named with the sum that is left.
        return tuple(Restriction(total, cause) for cause in causes)

    return restricted
