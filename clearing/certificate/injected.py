"""What the offers of a case can inject at most and at least, each on its own; numpy only."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearing.case import Case, Offer, OfferSlot, Quantity
from clearing.certificate.evidence import PPM, places

__all__ = ["injected_range"]

Real = NDArray[np.float64]
Complex = NDArray[np.complexfloating[Any, Any]]
MEGA = 1e6


def injected_range(case: Case) -> tuple[Complex, Complex]:
    """Return least and most of what the offers of a plain case inject (slots x buses of the network), MW and Mvar."""
    index = {bus.bus_id: k for k, bus in enumerate(case.network.buses)}
    low, high = np.zeros((2, case.slots, len(index)), dtype=complex)
    for offer in case.offers:
        least, most = _range(offer, case.slots)
        if offer.direction.sign < 0:
            least, most = -most, -least
        tan = offer.tan_phi_ppm / PPM
        for bus_id, share in places(offer):
            k, part = index[bus_id], share / MEGA
            if offer.quantity is Quantity.REACTIVE:
                low[:, k] += 1j * part * least
                high[:, k] += 1j * part * most
                continue
            low[:, k] += part * (least + 1j * (tan * (least if tan > 0 else most)))
            high[:, k] += part * (most + 1j * (tan * (most if tan > 0 else least)))
    return low, high


def _range(offer: Offer, slots: int) -> tuple[Real, Real]:
    """Return least (rebound) and most of a delivery per slot, W or var, in the offer's direction."""
    choice = offer.start_choice
    most = np.zeros(slots)
    if choice is None:
        most[:] = [
            e.steps[0].quantity if len(e.steps) == 1 and e.max_quantity is None else _size(e) for e in offer.slots
        ]
    else:
        for start in range(choice.earliest_slot, choice.latest_slot + 1):
            window = slice(start, start + len(choice.profile))
            most[window] = np.maximum(most[window], choice.profile)
    least, back = np.zeros(slots), offer.payback
    if back is not None:
        part = back.factor_ppm / PPM / back.window_slots
        for t in np.flatnonzero(most).tolist():
            first = t + 1 + back.delay_slots
            least[first : first + back.window_slots] -= part * most[t]
    return least, most


def _size(entry: OfferSlot) -> int:
    """Return what an entry of a stack holds."""
    total = sum([s.quantity for s in entry.steps])
    return total if entry.max_quantity is None else min(total, entry.max_quantity)
