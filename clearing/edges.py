"""Units at the edge of what they can do: a storage that is full or empty, an inverter at its circle or cone."""

import math

import numpy as np
from numpy.typing import NDArray

from clearing.case import Offer, Quantity, Unit, UnitKind
from clearing.inverter import SIDES, baseline_of
from flexbus.quantities import PPM, Direction

__all__ = ["Edges"]

Awards = NDArray[np.int_]


class Edges:
    """Tells where a unit keeps its offers from delivering more, whatever they ask."""

    def __init__(
        self,
        units: tuple[Unit, ...],
        offers: list[Offer],
        awards: Awards,
        windows: tuple[range, ...],
        resolution_s: int,
        step_w: int = 1,
    ) -> None:
        """Prepare.

        Args:
            units: storages and inverters.
            offers: all offers.
            awards: what is taken of them (offers x slots), W or var.
            windows: slots of each scenario, all as one without.
            resolution_s: length of a slot, s.
            step_w: quantum of awards, W or var.
        """
        self.units = {u.unit_id: u for u in units}
        self.offers, self.awards, self.windows = offers, awards, windows
        self.hours, self.step_w = resolution_s / 3600, max(step_w, 1)
        self.members: dict[str, list[int]] = {}
        for k, offer in enumerate(offers):
            if offer.unit_id is not None:
                self.members.setdefault(offer.unit_id, []).append(k)
        self.stored: dict[tuple[str, int], NDArray[np.float64]] = {}

    def binds(self, k: int, t: int) -> bool:
        """Tell whether the unit of an offer is at the edge that more of the offer in a slot leads to.

        Args:
            k: position of the offer.
            t: slot.
        """
        offer = self.offers[k]
        unit = self.units.get(offer.unit_id or "")
        if unit is None:
            return False
        if unit.kind is UnitKind.INVERTER:
            return self._beyond(unit, offer, t)
        return offer.quantity is Quantity.ACTIVE and self._full(unit, offer, t)

    def _full(self, unit: Unit, offer: Offer, t: int) -> bool:
        """Tell whether a storage has no energy, or no room, to spare.

        That is so where it is at the edge that more leads to, in any slot from one on. And where it trades at all and
        is at either edge at any time: its offers then wait for each other, and each sets the price of the others.
        """
        window = next(w for w in self.windows if t in w)
        stored = self._stored(unit, window)
        low = np.full(len(stored), float(unit.min_energy_wh))
        if unit.min_final_energy_wh is not None:
            low[-1] = max(low[-1], unit.min_final_energy_wh)
        energy, room = stored - low, unit.max_energy_wh - stored
        # Every slot may be off by the whole watts of its awards.
        least = 2 * self.step_w * self.hours * len(window)
        mine = (energy if offer.direction is Direction.UP else room)[t - window.start :]
        if float(mine.min()) <= least:
            return True
        trades = self.awards[self.members[unit.unit_id], window.start : window.stop].any()
        return bool(trades) and float(np.minimum(energy, room).min()) <= least

    def _stored(self, unit: Unit, window: range) -> NDArray[np.float64]:
        key = unit.unit_id, window.start
        if key not in self.stored:
            charge, discharge = unit.charge_efficiency_ppm / PPM, unit.discharge_efficiency_ppm / PPM
            now, made = float(unit.initial_energy_wh), []
            for t in window:
                now *= unit.kept(self.hours)
                base = baseline_of(unit, t)[0]
                now -= base * self.hours * (1 / discharge if base > 0 else charge)
                for k in self.members.get(unit.unit_id, ()):
                    offer = self.offers[k]
                    if offer.quantity is Quantity.ACTIVE:
                        energy = int(self.awards[k, t]) * self.hours
                        now += -energy / discharge if offer.direction is Direction.UP else energy * charge
                made.append(now)
            self.stored[key] = np.array(made)
        return self.stored[key]

    def _beyond(self, unit: Unit, offer: Offer, t: int) -> bool:
        """Tell whether more of an offer leads an inverter out of its circle or its cone."""
        p, q = map(float, baseline_of(unit, t))
        for k in self.members.get(unit.unit_id, ()):
            by_p, by_q = _way(self.offers[k])
            p, q = p + by_p * int(self.awards[k, t]), q + by_q * int(self.awards[k, t])
        by_p, by_q = _way(offer)
        off = 2.0 * self.step_w
        if unit.max_apparent_power_va is not None:
            # The market keeps to a polygon inside the circle.
            edge = unit.max_apparent_power_va * math.cos(math.pi / SIDES)
            if math.hypot(p, q) >= edge - off and p * by_p + q * by_q > 0:
                return True
        if unit.max_tan_phi_ppm is None:
            return False
        tan = unit.max_tan_phi_ppm / PPM
        outward = math.copysign(by_q, q * by_q) if abs(q) > off else abs(by_q)
        inward = tan * (math.copysign(by_p, p * by_p) if abs(p) > off else abs(by_p))
        return abs(q) >= tan * abs(p) - off and outward - inward > 0


def _way(offer: Offer) -> tuple[float, float]:
    """Return how one unit of an offer moves active and reactive power."""
    sign = float(offer.direction.sign)
    if offer.quantity is Quantity.REACTIVE:
        return 0.0, sign
    return sign, sign * offer.tan_phi_ppm / PPM
