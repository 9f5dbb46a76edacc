"""Why an offer was not, or not fully, taken: a code, the element that stood in the way, and the number."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from clearing.case import Offer, Quantity
from clearing.market import offer_cap
from clearing.pricing import VOLTAGE, NodalPrices
from clearing.repair import Repair
from clearing.result import NonAward
from clearing.rounding import Awards
from flexbus.events.clearing import NonAwardReason
from flexbus.quantities import energy_wh

__all__ = ["Explainer"]

Real = NDArray[np.float64]
# EUR per MWh: prices closer than this are the same.
SAME = 1e-4


@dataclass(slots=True)
class _Found:
    slots: list[int] = field(default_factory=list)
    amount: int = 0
    rejected_wh: int = 0


class Explainer:
    """Finds the reasons of a cleared market."""

    def __init__(self, repair: Repair, prices: NodalPrices, awards: Awards, value: Real, resolution_s: int) -> None:
        """Prepare.

        Args:
            repair: the optimisation.
            prices: nodal prices.
            awards: integer awards per offer and slot.
            value: worth of one more MW of each offer in each slot (offers x slots), EUR per MWh.
            resolution_s: length of a slot, s.
        """
        self.repair, self.prices, self.awards, self.value = repair, prices, awards, value
        self.resolution_s = resolution_s
        self.market, self.grid = repair.market, repair.grid
        self.bus = {b: k for k, b in enumerate(self.grid.bus_ids)}
        self.taken = {k for (k, _), w in awards.items() if w > 0}
        self.group: dict[str, list[int]] = {}
        for k, offer in enumerate(self.market.offers):
            if offer.exclusive_group_id is not None:
                self.group.setdefault(offer.exclusive_group_id, []).append(k)
        self.pressers: dict[tuple[str, int, int], tuple[str | None, float, object]] = {}
        self.by_id = {o.offer_id: k for k, o in enumerate(self.market.offers)}

    def all(self) -> tuple[NonAward, ...]:
        """Return the non-awards of all offers, by offer id, reason and element."""
        found: list[NonAward] = []
        for k in range(len(self.market.offers)):
            found += self._offer(k)
        return tuple(found)

    def _offer(self, k: int) -> list[NonAward]:
        offer = self.market.offers[k]
        reasons: dict[tuple[NonAwardReason, str | None], _Found] = {}

        def note(reason: NonAwardReason, element: str | None, amount: int, t: int, watts: int) -> None:
            entry = reasons.setdefault((reason, element), _Found())
            entry.slots.append(t)
            entry.amount = max(entry.amount, amount)
            entry.rejected_wh += energy_wh(watts, self.resolution_s)

        if offer.start_choice is not None:
            if k not in self.taken:
                choice = offer.start_choice
                reason, element, amount = self._whole(k)
                note(reason, element, amount, choice.earliest_slot, sum(choice.profile))
        else:
            dead = self._dead(offer)
            whole = self._whole(k) if self._indivisible(offer) and k not in self.taken else None
            for t, entry in enumerate(offer.slots):
                if not entry.steps:
                    continue
                total = sum([s.quantity for s in entry.steps])
                cap = total if entry.max_quantity is None else min(total, entry.max_quantity)
                got = self.awards.get((k, t), 0)
                if cap < total:
                    note(NonAwardReason.CLIPPED, None, total - cap, t, total - cap)
                if got >= cap:
                    continue
                reason, element, amount = whole or self._slot(k, t, got, dead)
                note(reason, element, amount, t, cap - got)
        return [
            NonAward(
                offer_id=offer.offer_id,
                reason=reason,
                slots=tuple(entry.slots),
                element_id=element,
                amount=entry.amount,
                rejected_energy_wh=entry.rejected_wh,
                text=_text(offer, reason, element, entry.amount),
            )
            for (reason, element), entry in sorted(reasons.items(), key=lambda r: (r[0][0].value, r[0][1] or ""))
        ]

    def _indivisible(self, offer: Offer) -> bool:
        return offer.all_or_nothing or offer.exclusive_group_id is not None or offer.parent_offer_id is not None

    def _whole(self, k: int) -> tuple[NonAwardReason, str | None, int]:
        """Return why nothing at all of an offer was taken that is taken as a whole."""
        offer = self.market.offers[k]
        if self._dead(offer):
            return NonAwardReason.OTHER_CONSTRAINT, self._dead(offer), 0
        for other in self.group.get(offer.exclusive_group_id or "", ()):
            if other != k and other in self.taken and self._surplus(k) > 0:
                return NonAwardReason.EXCLUSIVE_SIBLING, self.market.offers[other].offer_id, self._surplus(k)
        parent = offer.parent_offer_id
        if parent is not None and self.by_id[parent] not in self.taken and self._surplus(k) > 0:
            return NonAwardReason.PARENT_NOT_TAKEN, parent, self._surplus(k)
        surplus = self._surplus(k)
        if surplus > 0:
            return NonAwardReason.PARADOXICAL_BLOCK, None, surplus
        if not offer.all_or_nothing and offer.start_choice is None:
            t = next(t for t in range(len(offer.slots)) if offer_cap(offer, t))
            return self._slot(k, t, 0, None)
        best = max((self.value[k, t] for t in range(self.repair.slots)), default=0.0)
        if best <= SAME:
            return NonAwardReason.NO_DEMAND, None, 0
        hours = self.resolution_s / 3600
        energy = sum(w for _, w in self._profile(offer)) / 1e6 * hours
        return NonAwardReason.PRICE, self._place(offer), round(-surplus / 1e6 / energy) if energy else 0

    def _profile(self, offer: Offer) -> list[tuple[int, int]]:
        if offer.start_choice is not None:
            return [(offer.start_choice.earliest_slot + i, q) for i, q in enumerate(offer.start_choice.profile)]
        return [(t, sum(s.quantity for s in e.steps)) for t, e in enumerate(offer.slots) if e.steps]

    def _surplus(self, k: int) -> int:
        """Return the profit an offer would make if taken whole at today's prices, 1e-9 EUR."""
        offer = self.market.offers[k]
        hours = self.resolution_s / 3600
        if offer.start_choice is not None:
            choice = offer.start_choice
            best = max(
                sum((self.value[k, s + i] - choice.price_milli_per_mwh / 1e3) * q for i, q in enumerate(choice.profile))
                for s in range(choice.earliest_slot, choice.latest_slot + 1)
            )
            return round(float(best) * hours * 1e3)
        total = 0.0
        for t, entry in enumerate(offer.slots):
            gain = [(self.value[k, t] - s.price_milli_per_mwh / 1e3) * s.quantity for s in entry.steps]
            total += sum(gain) if offer.all_or_nothing else sum(max(g, 0.0) for g in gain)
        return round(total * hours * 1e3)

    def _dead(self, offer: Offer) -> str | None:
        ids = [offer.bus_id] if offer.bus_id is not None else [s.bus_id for s in offer.shares]
        return next((b for b in ids if self.grid.node_of_bus[self.bus[b]] < 0), None)

    def _place(self, offer: Offer) -> str | None:
        return offer.bus_id

    def _slot(self, k: int, t: int, got: int, dead: str | None) -> tuple[NonAwardReason, str | None, int]:
        """Return why the next unit of an offer was not taken in one slot."""
        offer = self.market.offers[k]
        if dead is not None:
            return NonAwardReason.OTHER_CONSTRAINT, dead, 0
        if not self.repair.base.converged[t]:
            return NonAwardReason.OTHER_CONSTRAINT, None, 0
        bid = self._next_price(offer, t, got)
        value = float(self.value[k, t])
        if value < bid - SAME:
            element, worth, kind = self._presser(offer, t)
            if element is not None and value + worth > bid + SAME:
                reason = NonAwardReason.VOLTAGE_LIMIT if kind in VOLTAGE else NonAwardReason.BRANCH_LIMIT
                return reason, element, round(worth * 1e3)
            if value <= SAME:
                return NonAwardReason.NO_DEMAND, None, round((bid - value) * 1e3)
            return NonAwardReason.PRICE, self._place(offer), round((bid - value) * 1e3)
        if offer.max_energy_wh is not None:
            used = sum(self.awards.get((k, s), 0) for s in range(self.repair.slots)) * self.resolution_s
            if used >= offer.max_energy_wh * 3600 - 3600 * max(2, self.resolution_s // 100):
                return NonAwardReason.ENERGY_BUDGET, None, offer.max_energy_wh
        if got < offer.slots[t].min_quantity:
            return NonAwardReason.MINIMUM_QUANTITY, None, offer.slots[t].min_quantity
        for other in self.group.get(offer.exclusive_group_id or "", ()):
            if other != k and other in self.taken:
                return NonAwardReason.EXCLUSIVE_SIBLING, self.market.offers[other].offer_id, 0
        if abs(value - bid) <= SAME:
            # The marginal step: demand ended within it.
            return NonAwardReason.PRICE, self._place(offer), 0
        return NonAwardReason.OTHER_CONSTRAINT, offer.unit_id, round((value - bid) * 1e3)

    def _next_price(self, offer: Offer, t: int, got: int) -> float:
        filled = 0
        for step in offer.slots[t].steps:
            filled += step.quantity
            if got < filled:
                return step.price_milli_per_mwh / 1e3
        return offer.slots[t].steps[-1].price_milli_per_mwh / 1e3

    def _presser(self, offer: Offer, t: int) -> tuple[str | None, float, object]:
        """Return the limit that lowers the worth of an offer most: element, by how much, kind."""
        if t not in self.prices.pressure:
            return None, 0.0, None
        key = (
            offer.bus_id or offer.offer_id,
            t,
            offer.direction.sign * (1 if offer.quantity is Quantity.ACTIVE else 2),
        )
        if key not in self.pressers:
            self.pressers[key] = self._find_presser(offer, t)
        return self.pressers[key]

    def _find_presser(self, offer: Offer, t: int) -> tuple[str | None, float, object]:
        places = (
            [(offer.bus_id, 1.0)] if offer.bus_id is not None else [(s.bus_id, s.share_ppm / 1e6) for s in offer.shares]
        )
        worst: tuple[str | None, float, object] = (None, 0.0, None)
        for k, _, pull_p, pull_q in self.prices.pressure.get(t, ()):
            pull = pull_p if offer.quantity is Quantity.ACTIVE else pull_q
            against = -offer.direction.sign * sum(float(pull[self.bus[b]]) * w for b, w in places)
            if against > worst[1] + SAME:
                worst = (self.repair.element(k), against, self.repair.limits.kinds[k])
        return worst


def _text(offer: Offer, reason: NonAwardReason, element: str | None, amount: int) -> str:
    """Say a reason to the provider."""
    unit = "MWh" if offer.quantity is Quantity.ACTIVE else "Mvarh"
    word = "W" if offer.quantity is Quantity.ACTIVE else "var"
    euro = f"{amount / 1e3:.3f} EUR/{unit}"
    match reason:
        case NonAwardReason.NO_DEMAND:
            return "nobody needed this direction here"
        case NonAwardReason.PRICE:
            where = f"at bus {element}" if element else "at its buses"
            return (
                f"priced above its worth {where} by up to {euro}" if amount else f"the marginal offer {where}: need met"
            )
        case NonAwardReason.BRANCH_LIMIT:
            return f"{element} is at its limit; one more unit here would cost {euro} there"
        case NonAwardReason.VOLTAGE_LIMIT:
            return f"the voltage at {element} is at its limit; one more unit here would cost {euro} there"
        case NonAwardReason.MINIMUM_QUANTITY:
            return f"less than its minimum of {amount} {word} was needed"
        case NonAwardReason.EXCLUSIVE_SIBLING:
            return f"{element} of the same exclusive group was taken"
        case NonAwardReason.PARENT_NOT_TAKEN:
            return f"its parent {element} was not taken"
        case NonAwardReason.ENERGY_BUDGET:
            return f"its energy budget of {amount} Wh is used up"
        case NonAwardReason.PARADOXICAL_BLOCK:
            return f"rejected as a whole although worth {amount / 1e9:.2f} EUR at the prices; it did not fit"
        case NonAwardReason.CLIPPED:
            return f"a limit or traffic light cut it by up to {amount} {word} before the clearing"
        case NonAwardReason.OTHER_CONSTRAINT:
            return f"a constraint of {element or 'the offer or the slot'} stood in the way"
