"""The most that offers can earn at the worths of a certificate, each on its own; numpy only."""

from collections import defaultdict
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from clearing.case import Case, Offer, Quantity, Unit
from clearing.certificate.evidence import PPM, places
from clearing.stacks import stacks_of
from flexbus.quantities import Direction

__all__ = ["Earnings"]

Real = NDArray[np.float64]
Mask = NDArray[np.bool_]
MEGA = 1e6


class Earnings:
    """What every offer would take if it could choose at given worths, and what that brings.

    Rules that tie slots of an offer are kept (energy budget, block, start choice, exclusive group, storage) or
    dropped (minimum, ramp, run, polygon, parent): dropping one can only let it earn more.
    """

    def __init__(
        self,
        case: Case,
        worth: dict[Quantity, Real],
        energised: Mask,
        alive: Mask,
        stored: dict[str, Real],
        called: dict[str, Real],
        taken: NDArray[np.int_],
    ) -> None:
        """Prepare.

        Args:
            case: the case.
            worth: worth of a unit at each bus (slots x buses), EUR per MWh or Mvarh.
            energised: buses with a connection to an infeed point.
            alive: slots whose baseline has an AC state.
            stored: worth of stored energy by unit and slot, EUR per MWh.
            called: worth of being able to call an offer, by offer and slot, EUR per MWh.
            taken: what is taken (offers of the case x slots), W or var.
        """
        self.case, self.worth, self.energised, self.alive = case, worth, energised, alive
        self.stored, self.called, self.taken = stored, called, taken
        # Per slot: what offers that no rule ties to other slots could earn there beyond what they do, EUR per hour.
        self.missed = np.zeros(case.slots)
        self.bus = {b.bus_id: k for k, b in enumerate(case.network.buses)}
        self.hours = case.resolution_s / 3600

    def total(self) -> float:
        """Return the most that all offers can earn at these worths, EUR per hour."""
        stored = {u.unit_id: self._storage(u) for u in self.case.units if u.unit_id in self.stored}
        total = sum(value for _, value in stored.values())
        groups: dict[str, float] = defaultdict(float)
        simple = np.array([self._is_simple(offer) for offer in self.case.offers], dtype=bool)
        total += self._of_simple(simple)
        for offer in compress(self.case.offers, ~simple):
            if not all(self.energised[self.bus[b]] for b, _ in places(offer)):
                continue
            worth = self._worth_of(offer) - self.called.get(offer.offer_id, 0.0)
            if offer.unit_id in stored:
                cost = stored[offer.unit_id][0]
                worth = worth - (cost[0] if offer.direction is Direction.UP else -cost[1])
            profit = self._profit(offer, worth)
            if offer.exclusive_group_id is not None:
                groups[offer.exclusive_group_id] = max(groups[offer.exclusive_group_id], profit)
            else:
                total += profit
        return total + sum(groups.values())

    def _is_simple(self, offer: Offer) -> bool:
        """Tell whether each step of an offer earns on its own, within the energy that the offer has."""
        return (
            offer.bus_id is not None
            and offer.start_choice is None
            and not offer.all_or_nothing
            and offer.exclusive_group_id is None
            and offer.payback is None
            and offer.unit_id is None
            and offer.offer_id not in self.called
        )

    def _of_simple(self, simple: Mask) -> float:
        """Return what simple offers earn together, EUR per hour; a stack that holds for many slots is read once."""
        offers, stacks = list(compress(self.case.offers, simple)), stacks_of(self.case.offers)
        which = stacks.which[simple[stacks.offer]].reshape(len(offers), self.case.slots)
        pieces: list[tuple[int, float, float]] = []  # stack, price, MW
        for n, entry in enumerate(stacks.distinct):
            left = entry.max_quantity
            for step in entry.steps:
                cap = step.quantity if left is None else min(step.quantity, left)
                left = None if left is None else left - cap
                pieces.append((n, step.price_milli_per_mwh / 1e3, cap / MEGA))
        if not pieces or not offers:
            return 0.0
        piece_of, price, cap_mw = (np.array(column) for column in zip(*pieces, strict=True))
        first = np.searchsorted(piece_of, np.arange(len(stacks.distinct) + 1))
        bus, sign, reactive, tan = np.array(
            [
                (self.bus[o.bus_id or ""], o.direction.sign, o.quantity is Quantity.REACTIVE, o.tan_phi_ppm)
                for o in offers
            ],
            dtype=int,
        ).T
        counts = np.diff(first)[which] * (self.energised[bus][:, None] & self.alive)
        active, other = self.worth[Quantity.ACTIVE][:, bus], self.worth[Quantity.REACTIVE][:, bus]
        worth = (sign * np.where(reactive, other, active + tan / PPM * other)).T
        limited = np.array([o.max_energy_wh is not None for o in offers], dtype=bool)
        left_mw = self.taken[simple] / MEGA
        total = 0.0
        tied: list[tuple[NDArray[np.int_], Real, Real]] = []  # offer, margin, MW
        for number in range(int(counts.max())):
            offer, slot = np.nonzero(counts > number)
            row = first[which[offer, slot]] + number
            margin = worth[offer, slot] - price[row]
            free = ~limited[offer]
            part_mw = np.minimum(left_mw[offer, slot], cap_mw[row])
            left_mw[offer, slot] -= part_mw
            gain = (np.maximum(margin, 0.0) * cap_mw[row])[free]
            total += float(gain.sum())
            self.missed += np.bincount(slot[free], gain - (margin * part_mw)[free], minlength=len(self.missed))
            gains = ~free & (margin > 0)
            tied.append((offer[gains], margin[gains], cap_mw[row[gains]]))
        return total + self._within_budgets(offers, tied)

    def _within_budgets(self, offers: list[Offer], parts: list[tuple[NDArray[np.int_], Real, Real]]) -> float:
        """Return what offers earn with steps (offer, margin, MW) that share its energy, EUR per hour; best first."""
        if not any(len(offer) for offer, _, _ in parts):
            return 0.0
        offer, margin, cap_mw = (np.concatenate([p[k] for p in parts]) for k in range(3))
        order = np.lexsort((-margin, offer))
        offer, margin, cap_mw = offer[order], margin[order], cap_mw[order]
        first = np.flatnonzero(np.r_[True, offer[1:] != offer[:-1]])
        size = np.diff(np.r_[first, len(offer)])
        before = np.cumsum(cap_mw) - cap_mw
        before -= np.repeat(before[first], size)
        energy = np.array([offers[k].max_energy_wh for k in offer[first].tolist()], dtype=float)
        left = np.repeat(energy / MEGA / self.hours, size) - before
        return float(margin @ np.clip(left, 0.0, cap_mw))

    def _worth_of(self, offer: Offer) -> Real:
        total = np.zeros(self.case.slots)
        for bus_id, share in places(offer):
            k = self.bus[bus_id]
            if offer.quantity is Quantity.ACTIVE:
                tan = offer.tan_phi_ppm / PPM
                total += share * (self.worth[Quantity.ACTIVE][:, k] + tan * self.worth[Quantity.REACTIVE][:, k])
            else:
                total += share * self.worth[Quantity.REACTIVE][:, k]
        total *= offer.direction.sign
        back = offer.payback
        if back is not None:
            share = back.factor_ppm / PPM / back.window_slots
            later = np.zeros(len(total))
            for t in range(len(total)):
                first = t + 1 + back.delay_slots
                later[t] = total[first : first + back.window_slots].sum() * share
            total = total - later
        return total

    def _profit(self, offer: Offer, worth: Real) -> float:
        choice = offer.start_choice
        if choice is not None:
            gains = []
            for s in range(choice.earliest_slot, choice.latest_slot + 1):
                window = slice(s, s + len(choice.profile))
                if self.alive[window].all():
                    margin = worth[window] - choice.price_milli_per_mwh / 1e3
                    gains.append(float(margin @ np.array(choice.profile)) / MEGA)
            return max(0.0, *gains) if gains else 0.0
        margins, caps = [], []
        cut = False
        for t, entry in enumerate(offer.slots):
            left = entry.max_quantity
            for step in entry.steps:
                cap = step.quantity if left is None else min(step.quantity, left)
                left = None if left is None else left - cap
                cut |= cap < step.quantity or not self.alive[t]
                if self.alive[t]:
                    margins.append(worth[t] - step.price_milli_per_mwh / 1e3)
                    caps.append(cap / MEGA)
        margin, cap_mw = np.array(margins), np.array(caps)
        if not (margin > 0).any():
            return 0.0
        if offer.all_or_nothing:
            return 0.0 if cut else max(0.0, float(margin @ cap_mw))
        order = np.argsort(-margin, kind="stable")
        margin, cap_mw = np.maximum(margin[order], 0.0), cap_mw[order]
        if offer.max_energy_wh is not None:
            budget = offer.max_energy_wh / MEGA / self.hours
            before = np.cumsum(cap_mw) - cap_mw
            cap_mw = np.clip(budget - before, 0.0, cap_mw)
        return float(margin @ cap_mw)

    def _storage(self, unit: Unit) -> tuple[tuple[Real, Real], float]:
        """Return what stored energy costs its UP and gives its DOWN offers, and what the store itself earns."""
        slots, hours = self.case.slots, self.hours
        worth = self.stored[unit.unit_id]
        if len(worth) != slots:
            return (np.zeros(slots), np.zeros(slots)), np.inf
        charge, discharge = unit.charge_efficiency_ppm / PPM, unit.discharge_efficiency_ppm / PPM
        keep = (1 - unit.self_discharge_ppm_per_h / PPM) ** hours
        value = keep * worth[0] * unit.initial_energy_wh / MEGA
        for t in range(slots):
            base = unit.baseline_power_w[t] / MEGA * hours if unit.baseline_power_w else 0.0
            value += worth[t] * (-base * charge if base < 0 else -base / discharge)
            least = unit.min_energy_wh
            if t == slots - 1 and unit.min_final_energy_wh is not None:
                least = max(least, unit.min_final_energy_wh)
            slope = (keep * worth[t + 1] if t + 1 < slots else 0.0) - worth[t]
            value += max(slope * least, slope * unit.max_energy_wh) / MEGA
        return (worth / discharge, worth * charge), value / hours
