"""What the offers of a case can inject at most and at least, each on its own; numpy only."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearing.case import Case, OfferSlot, Quantity
from clearing.certificate.evidence import PPM, places
from clearing.stacks import stacks_of

__all__ = ["injected_range"]

Real = NDArray[np.float64]
Complex = NDArray[np.complexfloating[Any, Any]]
MEGA = 1e6


def injected_range(case: Case) -> tuple[Complex, Complex]:
    """Return least and most of what the offers of a plain case inject (slots x buses of the network), MW and Mvar."""
    index = {bus.bus_id: k for k, bus in enumerate(case.network.buses)}
    shape = case.slots, len(index)
    least, most = _ranges(case)
    # A row per offer and bus of it, and per slot with anything in it.
    shares = [(k, index[bus], share / MEGA) for k, o in enumerate(case.offers) for bus, share in places(o)]
    of = np.array([k for k, _, _ in shares], dtype=int)
    row, slot = np.nonzero(((most != 0) | (least != 0))[of])
    offer = of[row]
    cell = slot * len(index) + np.array([bus for _, bus, _ in shares], dtype=int)[row]
    part = np.array([share for _, _, share in shares], dtype=float)[row]
    least, most = least[offer, slot], most[offer, slot]
    down = np.array([o.direction.sign < 0 for o in case.offers], dtype=bool)[offer]
    least, most = np.where(down, -most, least), np.where(down, -least, most)
    reactive = np.array([o.quantity is Quantity.REACTIVE for o in case.offers], dtype=bool)[offer]
    tan = np.array([o.tan_phi_ppm / PPM for o in case.offers], dtype=float)[offer]

    def summed(values: Real) -> Real:
        found = np.bincount(cell, weights=part * values, minlength=case.slots * len(index))
        return np.asarray(found, dtype=np.float64).reshape(shape)

    made = []
    for own, other in ((least, most), (most, least)):
        by_tan = tan * np.where(tan > 0, own, other)
        made.append(summed(np.where(reactive, 0.0, own)) + 1j * summed(np.where(reactive, own, by_tan)))
    return made[0], made[1]


def _ranges(case: Case) -> tuple[Real, Real]:
    """Return least (payback) and most of what every offer delivers (offers x slots), W or var, in its direction."""
    stacks = stacks_of(case.offers)
    least, most = np.zeros((2, len(case.offers), case.slots))
    most[stacks.offer, stacks.slot] = stacks.tell(_size, float)
    for k, offer in enumerate(case.offers):
        choice, back = offer.start_choice, offer.payback
        if choice is not None:
            for start in range(choice.earliest_slot, choice.latest_slot + 1):
                window = slice(start, start + len(choice.profile))
                most[k, window] = np.maximum(most[k, window], choice.profile)
        if back is not None:
            part = back.factor_ppm / PPM / back.window_slots
            for t in np.flatnonzero(most[k]).tolist():
                first = t + 1 + back.delay_slots
                least[k, first : first + back.window_slots] -= part * most[k, t]
    return least, most


def _size(entry: OfferSlot) -> int:
    """Return what an entry of a stack holds."""
    total = sum([s.quantity for s in entry.steps])
    return total if entry.max_quantity is None else min(total, entry.max_quantity)
