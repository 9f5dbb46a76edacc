"""Why an offer was not, or not fully, taken: a code, the element that stood in the way, and the number."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from clearing.case import Case, Location, Offer, OfferSlot, Quantity, Unit
from clearing.edges import Edges
from clearing.market import offer_cap
from clearing.priced_out import SAME, PricedOut, is_plain, priced_out, table_of, used_up
from clearing.pricing import VOLTAGE, NodalPrices, Places
from clearing.repair import Repair
from clearing.result import NonAward
from clearing.rounding import Awards
from clearing.steps import StepTable, next_price
from clearing.wording import reason_text, set_aside_text
from flexbus.events.clearing import NonAwardReason
from flexbus.quantities import Direction, energy_wh
from flexbus.reader import quickly

__all__ = ["Explainer", "with_set_aside"]

_non_award = quickly(NonAward)  # a large book has thousands

Real = NDArray[np.float64]
# EUR per MWh: a partly taken offer worth up to this much more than its bid sets the price, on the curve of the losses.
SETS_PRICE = 0.01


@dataclass(slots=True)
class _Found:
    slots: list[int] = field(default_factory=list)
    amount: int = 0
    distance: int | None = None
    rejected_wh: int = 0


@dataclass(frozen=True, slots=True)
class _Why:
    """A reason with its number, and how far the price is in the way as well (None = it is not)."""

    reason: NonAwardReason
    element: str | None = None
    amount: int = 0
    distance: int | None = None


_Reasons = dict[tuple[NonAwardReason, str | None], _Found]


class Explainer:
    """Finds the reasons of a cleared market."""

    def __init__(
        self,
        repair: Repair,
        prices: NodalPrices,
        awards: Awards,
        value: Real,
        call: Real,
        resolution_s: int,
        steps: StepTable,
        step_w: int = 1,
        units: tuple[Unit, ...] = (),
    ) -> None:
        """Prepare.

        Args:
            repair: the optimisation.
            prices: nodal prices.
            awards: integer awards per offer and slot.
            value: worth of one more MW of each offer in each slot (offers x slots), EUR per MWh.
            call: worth of being able to call one more MW there, EUR per MWh; not part of `value`.
            resolution_s: length of a slot, s.
            steps: the steps of all offers.
            step_w: quantum of awards, W or var.
            units: storages and inverters of the offers.
        """
        self.steps = steps
        self.repair, self.prices, self.awards, self.value, self.call = repair, prices, awards, value, call
        self.resolution_s, self.step_w = resolution_s, step_w
        self.market, self.grid = repair.market, repair.grid
        self.bus = {b: k for k, b in enumerate(self.grid.bus_ids)}
        # Rules and reasons hold within each scenario; without scenarios all slots are one.
        self.window = self.market.windows[0]
        self.taken: set[int] = set()
        self.group: dict[str, list[int]] = {}
        for k, offer in enumerate(self.market.offers):
            if offer.exclusive_group_id is not None:
                self.group.setdefault(offer.exclusive_group_id, []).append(k)
        self.chooses = np.array([o.start_choice is not None for o in self.market.offers], dtype=bool)
        self.twins: dict[tuple[object, ...], list[int]] = {}
        for k, offer in enumerate(self.market.offers):
            self.twins.setdefault((offer.bus_id, offer.direction, offer.quantity, offer.tan_phi_ppm), []).append(k)
        self.zone = dict(zip(self.grid.bus_ids, repair.zones, strict=False))
        self.spent: set[int] = set()  # offers whose energy budget is used up
        self.bare: Real | None = None
        self.pressers: dict[tuple[str, int, int], tuple[str | None, float, object, float]] = {}
        self.offered: dict[int, int] = {}
        self.by_id = {o.offer_id: k for k, o in enumerate(self.market.offers)}
        self.edges = Edges(units, self.market.offers, awards, self.market.windows, resolution_s, step_w)

    def all(self) -> tuple[NonAward, ...]:
        """Return the non-awards of all offers, by offer id, reason and element."""
        reasons: list[_Reasons] = [{} for _ in self.market.offers]
        for window in self.market.windows:
            self.window = window
            self.taken = set(np.flatnonzero(self.awards[:, window.start : window.stop].any(axis=1)).tolist())
            self.spent = {k for k, o in enumerate(self.market.offers) if self._budget_used(k, o)}
            left = self._at_once(reasons)
            for k in np.flatnonzero(left.any(axis=1) | self.chooses).tolist():
                self._offer(k, reasons[k], (self.window.start + np.flatnonzero(left[k])).tolist())
        return tuple(
            _non_award(
                offer_id=offer.offer_id,
                reason=reason,
                slots=tuple(sorted(entry.slots)),
                element_id=element,
                amount=entry.amount,
                price_distance_milli_per_mwh=entry.distance,
                rejected_energy_wh=entry.rejected_wh,
                text=reason_text(offer, reason, element, entry.amount, entry.distance),
            )
            for offer, mine in zip(self.market.offers, reasons, strict=True)
            for (reason, element), entry in sorted(mine.items(), key=lambda r: (r[0][0].value, r[0][1] or ""))
        )

    def _at_once(self, reasons: list[_Reasons]) -> NDArray[np.bool_]:
        """Note what is told to many offers alike; return where offers are left (offers x slots)."""
        offers, node = self.market.offers, self.grid.node_of_bus
        table = table_of(self.steps, self.awards, self.window)
        left = self.steps.offered[:, self.window.start : self.window.stop].copy()

        def done(rows: NDArray[np.int_]) -> None:
            left[table.offer[rows], table.slot[rows] - self.window.start] = False

        missing = table.missing > 0
        done(np.flatnonzero(~missing))
        spent = np.zeros(len(offers), dtype=bool)
        spent[list(self.spent)] = True
        plain = np.array([is_plain(o) and bool(node[self.bus[o.bus_id or ""]] >= 0) for o in offers], dtype=bool)
        rows = np.flatnonzero(missing & (plain & ~spent)[table.offer])
        out, told = priced_out(self.repair, self.prices, self.value, table.only(rows), self.resolution_s)
        self._note_all(told, reasons)
        done(rows[out])
        # Of what was not taken at all another rule may be the reason.
        spent &= self.awards[:, self.window.start : self.window.stop].any(axis=1)
        rows = np.flatnonzero(missing & spent[table.offer])
        out, told = used_up(self.repair, self.value, table.only(rows), self.resolution_s)
        self._note_all(told, reasons)
        done(rows[out])
        return left

    def _note_all(self, told: Iterable[PricedOut], reasons: list[_Reasons]) -> None:
        for entry in told:
            found = reasons[entry.offer].setdefault((entry.reason, entry.element), _Found())
            found.slots += entry.slots
            found.amount = max(found.amount, entry.amount)
            if entry.distance is not None:
                found.distance = max(found.distance or 0, entry.distance)
            found.rejected_wh += entry.rejected_wh

    def _offer(self, k: int, reasons: _Reasons, slots: list[int]) -> None:
        offer = self.market.offers[k]

        def note(why: _Why, t: int, watts: int) -> None:
            entry = reasons.setdefault((why.reason, why.element), _Found())
            entry.slots.append(t)
            entry.amount = max(entry.amount, why.amount)
            if why.distance is not None:
                entry.distance = max(entry.distance or 0, why.distance)
            entry.rejected_wh += energy_wh(watts, self.resolution_s)

        whole = self._whole(k) if k not in self.taken else None
        if offer.start_choice is not None:
            if whole is not None:
                note(whole, self.window[offer.start_choice.earliest_slot], sum(offer.start_choice.profile))
        else:
            for t in slots:
                missing = self._offered(offer.slots[t]) - int(self.awards[k, t])
                if missing > 0:
                    note(whole or self._slot(k, t, int(self.awards[k, t])), t, missing)

    def _offered(self, entry: OfferSlot) -> int:
        """Return the power of a whole stack; one that holds for many slots is added up once."""
        total = self.offered.get(id(entry))
        if total is None:
            total = self.offered[id(entry)] = sum(s.quantity for s in entry.steps)
        return total

    def _whole(self, k: int) -> _Why | None:
        """Return why nothing at all was taken of an offer, if that has one reason for all its slots."""
        offer = self.market.offers[k]
        dead = self._dead(offer)
        if dead:
            return _Why(NonAwardReason.OTHER_CONSTRAINT, dead)
        indivisible = offer.all_or_nothing or offer.start_choice is not None
        linked = offer.exclusive_group_id is not None or offer.parent_offer_id is not None
        if not indivisible and not linked and offer.min_energy_wh is None:
            return None
        surplus = self._surplus(k)
        if surplus > 0:
            for other in self.group.get(offer.exclusive_group_id or "", ()):
                if other != k and other in self.taken:
                    return _Why(NonAwardReason.EXCLUSIVE_SIBLING, self.market.offers[other].offer_id, surplus)
            parent = offer.parent_offer_id
            if parent is not None and self.by_id[parent] not in self.taken:
                return _Why(NonAwardReason.PARENT_NOT_TAKEN, parent, surplus)
        if not indivisible:
            if surplus > 0 and offer.min_energy_wh is not None:
                return _Why(NonAwardReason.MINIMUM_QUANTITY, None, offer.min_energy_wh)
            return None
        profile = self._profile(offer)
        horizon = len(self.window)
        if any(offer_cap(offer, t, horizon) < w for t, w in profile):
            cut = max(w - offer_cap(offer, t, horizon) for t, w in profile)
            return _Why(NonAwardReason.CLIPPED, None, cut, self._block_distance(k))
        if surplus > 0:
            return _Why(NonAwardReason.PARADOXICAL_BLOCK, None, surplus)
        distance = self._block_distance(k) or 0
        if max((self.value[k, t] for t in self.window), default=0.0) <= SAME:
            return _Why(NonAwardReason.NO_DEMAND, None, distance, distance)
        return _Why(NonAwardReason.PRICE, self._place(offer), distance, distance)

    def _block_distance(self, k: int) -> int | None:
        """Return by how much a block is dearer than it is worth on average, 1/1000 EUR per MWh; None if it is not."""
        surplus = self._surplus(k)
        energy = sum(w for _, w in self._profile(self.market.offers[k])) / 1e6 * self.resolution_s / 3600
        return math.ceil(-surplus / 1e6 / energy) if surplus <= 0 and energy else None

    def _profile(self, offer: Offer) -> list[tuple[int, int]]:
        if offer.start_choice is not None:
            first = self.window[offer.start_choice.earliest_slot]
            return [(first + i, q) for i, q in enumerate(offer.start_choice.profile)]
        return [(t, sum(s.quantity for s in offer.slots[t].steps)) for t in self.window if offer.slots[t].steps]

    def _surplus(self, k: int) -> int:
        """Return the profit an offer would make if taken whole at today's prices, 1e-9 EUR."""
        offer = self.market.offers[k]
        hours = self.resolution_s / 3600
        if offer.start_choice is not None:
            choice = offer.start_choice
            best = max(
                sum((self.value[k, s + i] - choice.price_milli_per_mwh / 1e3) * q for i, q in enumerate(choice.profile))
                for s in self.window[choice.earliest_slot : choice.latest_slot + 1]
            )
            return round(float(best) * hours * 1e3)
        total = 0.0
        for t in self.window:
            steps = offer.slots[t].steps
            gain = [(self.value[k, t] - s.price_milli_per_mwh / 1e3) * s.quantity for s in steps]
            total += sum(gain) if offer.all_or_nothing else sum(max(g, 0.0) for g in gain)
        return round(total * hours * 1e3)

    def _dead(self, offer: Offer) -> str | None:
        ids = [offer.bus_id] if offer.bus_id is not None else [s.bus_id for s in offer.shares]
        return next((b for b in ids if self.grid.node_of_bus[self.bus[b]] < 0), None)

    def _place(self, offer: Offer) -> str | None:
        return offer.bus_id

    def _slot(self, k: int, t: int, got: int) -> _Why:
        """Return why the next unit of an offer was not taken in one slot."""
        offer = self.market.offers[k]
        if not self.repair.base.converged[t] or self.repair.gave_up(t):
            return _Why(NonAwardReason.OTHER_CONSTRAINT)
        bid = next_price(offer, t, got)
        value = float(self.value[k, t])
        # What the offer itself forbids goes first: as long as it does, no price helps.
        distance = max(math.ceil((bid - value) * 1e3), 0) if value <= bid + SAME else None
        offered, most = self._offered(offer.slots[t]), offer.slots[t].max_quantity
        # A cap below the minimum leaves nothing that could be taken.
        if most is not None and (got >= min(offered, most) or most < offer.slots[t].min_quantity):
            return _Why(NonAwardReason.CLIPPED, None, offered - min(offered, most), distance)
        if k in self.spent:
            return _Why(NonAwardReason.ENERGY_BUDGET, None, offer.max_energy_wh or 0, distance)
        if self._ramp_binds(k, t, got):
            return _Why(NonAwardReason.OTHER_CONSTRAINT, None, 0, distance)
        if self.edges.binds(k, t):
            return _Why(NonAwardReason.OTHER_CONSTRAINT, offer.unit_id, 0, distance)
        held = self._held_back(k, t, got, bid)
        if held is not None:
            return _Why(NonAwardReason.PRICE, self._place(offer), held, held)
        if value < bid - SAME:
            element, worth, kind, _ = self._presser(offer, t)
            if element is not None and value + worth > bid + SAME:
                reason = NonAwardReason.VOLTAGE_LIMIT if kind in VOLTAGE else NonAwardReason.BRANCH_LIMIT
                return _Why(reason, element, round(worth * 1e3), distance)
            if value <= SAME:
                return _Why(NonAwardReason.NO_DEMAND, None, distance or 0, distance)
            return _Why(NonAwardReason.PRICE, self._place(offer), distance or 0, distance)
        if got < offer.slots[t].min_quantity:
            return _Why(NonAwardReason.MINIMUM_QUANTITY, None, offer.slots[t].min_quantity)
        for other in self.group.get(offer.exclusive_group_id or "", ()):
            if other != k and other in self.taken:
                return _Why(NonAwardReason.EXCLUSIVE_SIBLING, self.market.offers[other].offer_id)
        if distance is None and _has_rules(offer):
            return _Why(NonAwardReason.OTHER_CONSTRAINT, offer.unit_id)
        if value <= bid + SETS_PRICE and self._shared(k, t, bid):
            return _Why(NonAwardReason.PRICE, self._place(offer), 0, 0)
        # It sets the price itself, at a limit or at the end of the need: only a much lower bid would change that.
        element, worth, kind, full = self._presser(offer, t)
        if element is not None and worth > SAME:
            reason = NonAwardReason.VOLTAGE_LIMIT if kind in VOLTAGE else NonAwardReason.BRANCH_LIMIT
            far = max(math.ceil((bid - min(self._bare(k, t), value) + full) * 1e3), 0)
            return _Why(reason, element, round(worth * 1e3), far)
        # What is left is needed only by who would be served without any need.
        far = max(math.ceil((bid - min(self._bare(k, t), bid)) * 1e3), 0)
        return _Why(NonAwardReason.NO_DEMAND, None, far, far)

    def _budget_used(self, k: int, offer: Offer) -> bool:
        if offer.max_energy_wh is None:
            return False
        used = int(self.awards[k, self.window.start : self.window.stop].sum()) * self.resolution_s
        least = max(3600 * max(2, self.resolution_s // 100), self.step_w * self.resolution_s)
        return used >= offer.max_energy_wh * 3600 - least

    def _held_back(self, k: int, t: int, got: int, bid: float) -> int | None:
        """Return by how much its reservation price is too high if that keeps an offer from being called, else None.

        Being able to call one more unit is worth, in every scenario that calls all that is reserved, what it saves.
        """
        if (k, t) not in self.market.called or float(self.value[k, t] + self.call[k, t]) <= bid + SAME:
            return None
        day = [w.start + t - self.window.start for w in self.market.windows]
        held = int(self.awards[k, day].max())
        if got < held - self.step_w - 1:
            return None
        worth = 0.0
        for s in day:
            next_bid = next_price(self.market.offers[k], s, held)
            saved = float(self.value[k, s] + self.call[k, s]) - next_bid
            if int(self.awards[k, s]) >= held - self.step_w - 1:
                worth += self.market.weight[s] * max(saved, 0.0)
        price = self.market.offers[k].reservation_price_milli_per_mwh[t - self.window.start] / 1e3
        return max(math.ceil((price - worth) * 1e3), 0)

    def _ramp_binds(self, k: int, t: int, got: int) -> bool:
        offer = self.market.offers[k]
        if offer.max_rise is None and offer.max_fall is None:
            return False
        before = int(self.awards[k, t - 1]) if t > self.window.start else 0
        after = int(self.awards[k, t + 1]) if t + 1 < self.window.stop else 0
        rises = offer.max_rise is not None and got - before >= offer.max_rise - 1
        falls = offer.max_fall is not None and t + 1 < self.window.stop and got - after >= offer.max_fall - 1
        return rises or falls

    def _shared(self, k: int, t: int, bid: float) -> bool:
        """Tell whether another offer at the same place and price was taken in part as well, or instead."""
        offer = self.market.offers[k]
        same = self.twins.get((offer.bus_id, offer.direction, offer.quantity, offer.tan_phi_ppm), ())
        return any(
            j != k
            and int(self.awards[j, t]) > 0
            and any(abs(s.price_milli_per_mwh / 1e3 - bid) <= SAME for s in self.market.offers[j].slots[t].steps)
            for j in same
            if self.market.offers[j].start_choice is None
        )

    def _bare(self, k: int, t: int) -> float:
        """Return what one more unit is worth at least if nobody needs it and those who asked for the opposite pay."""
        if self.bare is None:
            horizon = len(self.window)
            self.bare = Places(self.market.offers, self.bus, horizon).worth(*self.prices.energy_only())
        offer = self.market.offers[k]
        acts = self._acts(offer, t)
        against = sum(share * self._opposed(offer, s, way, what) for share, s, way, what in acts)
        return float(self.bare[k, t]) - against

    def _acts(self, offer: Offer, t: int) -> list[tuple[float, int, Direction, Quantity]]:
        """Return how much, when and which way a unit taken in a slot acts: there, and where it comes back."""
        other = Direction.DOWN if offer.direction is Direction.UP else Direction.UP
        when = [(1.0, t, offer.direction, other)]
        if offer.payback is not None:
            first = t + 1 + offer.payback.delay_slots
            share = offer.payback.factor_ppm / 1e6 / offer.payback.window_slots
            last = min(first + offer.payback.window_slots, self.window.stop)
            when += [(share, s, other, offer.direction) for s in range(first, last)]
        tan = offer.tan_phi_ppm / 1e6
        acts = [(share, s, way, offer.quantity) for share, s, way, _ in when]
        acts += [(share * abs(tan), s, way if tan > 0 else back, Quantity.REACTIVE) for share, s, way, back in when]
        return [act for act in acts if act[0] > 0]

    def _opposed(self, offer: Offer, t: int, direction: Direction, quantity: Quantity) -> float:
        """Return what those pay at most who asked for the opposite of a direction at an offer's places, EUR per MWh."""
        places = {offer.bus_id} if offer.bus_id is not None else {s.bus_id for s in offer.shares}
        against: dict[tuple[object, ...], int] = {}
        for request in self.market.requests:
            steps = request.slots[t].steps
            if steps and request.quantity is quantity and request.direction is not direction:
                where = request.location_kind
                elsewhere = (where is Location.BUS and request.location_id not in places) or (
                    where is Location.ZONE and request.location_id not in {self.zone[b] for b in places}
                )
                if not elsewhere:
                    pool = (request.kind, where, request.location_id)
                    against[pool] = max(against.get(pool, 0), steps[0].price_milli_per_mwh)
        return sum(against.values()) / 1e3

    def _presser(self, offer: Offer, t: int) -> tuple[str | None, float, object, float]:
        """Return the limit that lowers the worth of an offer most: element, by how much, kind, how much if broken."""
        if t not in self.prices.pressure:
            return None, 0.0, None, 0.0
        key = (
            offer.bus_id or offer.offer_id,
            t,
            offer.direction.sign * (1 if offer.quantity is Quantity.ACTIVE else 2),
        )
        if key not in self.pressers:
            self.pressers[key] = self._find_presser(offer, t)
        return self.pressers[key]

    def _find_presser(self, offer: Offer, t: int) -> tuple[str | None, float, object, float]:
        places = (
            [(offer.bus_id, 1.0)] if offer.bus_id is not None else [(s.bus_id, s.share_ppm / 1e6) for s in offer.shares]
        )
        worst: tuple[str | None, float, object, float] = (None, 0.0, None, 0.0)
        for k, dual, pull_p, pull_q in self.prices.pressure.get(t, ()):
            pull = pull_p if offer.quantity is Quantity.ACTIVE else pull_q
            against = -offer.direction.sign * sum(float(pull[self.bus[b]]) * w for b, w in places)
            if against > worst[1] + SAME:
                broken = against * float(self.repair.limits.price[k]) / dual
                worst = (self.repair.element(k), against, self.repair.limits.kinds[k], broken)
        return worst


def with_set_aside(case: Case, aside: frozenset[str], found: tuple[NonAward, ...]) -> tuple[NonAward, ...]:
    """Add the offers that took no part, because no dispatch keeps their own rules.

    Args:
        case: the case as it is cleared, with all offers.
        aside: their ids.
        found: the non-awards of the others.
    """
    if not aside:
        return found
    told = []
    for offer in case.offers:
        slots = tuple(t for t, e in enumerate(offer.slots) if e.steps)
        if offer.offer_id not in aside or not slots:
            continue
        told.append(
            NonAward(
                offer_id=offer.offer_id,
                reason=NonAwardReason.OTHER_CONSTRAINT,
                slots=slots,
                element_id=offer.unit_id,
                amount=0,
                price_distance_milli_per_mwh=None,
                rejected_energy_wh=sum(
                    energy_wh(sum(s.quantity for s in offer.slots[t].steps), case.resolution_s) for t in slots
                ),
                text=set_aside_text(offer),
            )
        )
    return tuple(sorted((*found, *told), key=lambda n: n.offer_id))


def _has_rules(offer: Offer) -> bool:
    """Tell whether an offer has rules of its own beside its price that can keep it from being taken."""
    return (
        offer.unit_id is not None
        or offer.max_rise is not None
        or offer.max_fall is not None
        or offer.max_run_slots is not None
        or offer.min_rest_slots > 0
        or bool(offer.polygons)
    )
