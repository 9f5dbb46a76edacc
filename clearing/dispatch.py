"""The injections that awards lead to, bus by bus."""

import numpy as np
from numpy.typing import NDArray

from clearing.case import Case, Offer, Quantity
from clearing.phases import windows
from flexbus.quantities import PPM

__all__ = ["baseline", "dispatch"]

Real = NDArray[np.float64]


def dispatch(case: Case, offers: list[Offer], taken: NDArray[np.int_]) -> tuple[Real, Real]:
    """Return the injections that awards lead to (slots x buses), W and var, payback included.

    Args:
        case: the case, canonical.
        offers: its offers, sorted.
        taken: awards (offers x slots), W or var.
    """
    p, q = baseline(case)
    index = {b.bus_id: k for k, b in enumerate(case.network.buses)}
    horizon = len(windows(case)[0])
    some = np.flatnonzero(taken.any(axis=1)).tolist()
    plain = [k for k in some if offers[k].bus_id is not None and offers[k].payback is None]
    if plain:
        at = np.array([index[offers[k].bus_id or ""] for k in plain], dtype=int)
        change = taken[plain] * np.array([[float(offers[k].direction.sign)] for k in plain])
        active = np.array([offers[k].quantity is Quantity.ACTIVE for k in plain], dtype=bool)
        tan = np.array([[offers[k].tan_phi_ppm / PPM] for k in plain])
        np.add.at(p.T, at[active], change[active])
        np.add.at(q.T, at, change * np.where(active[:, None], tan, 1.0))
    for k in sorted(set(some) - set(plain)):
        offer = offers[k]
        change = taken[k].astype(float) * offer.direction.sign
        if offer.payback is not None:
            back = offer.payback
            share = back.factor_ppm / PPM / back.window_slots
            for t in np.flatnonzero(taken[k]).tolist():
                first = t + 1 + back.delay_slots
                end = min(first + back.window_slots, t - t % horizon + horizon)
                change[first:end] -= taken[k][t] * offer.direction.sign * share
        shares = [(offer.bus_id, PPM)] if offer.bus_id is not None else [(s.bus_id, s.share_ppm) for s in offer.shares]
        for bus_id, share_ppm in shares:
            part = change * (share_ppm / PPM)
            if offer.quantity is Quantity.ACTIVE:
                p[:, index[bus_id]] += part
                q[:, index[bus_id]] += part * (offer.tan_phi_ppm / PPM)
            else:
                q[:, index[bus_id]] += part
    return p, q


def baseline(case: Case) -> tuple[Real, Real]:
    """Return baseline and standing awards (slots x buses), W and var."""
    p = np.zeros((case.slots, len(case.network.buses)))
    q = np.zeros_like(p)
    index = {b.bus_id: k for k, b in enumerate(case.network.buses)}
    if case.baseline:
        at = np.array([index[b.bus_id] for b in case.baseline], dtype=int)
        np.add.at(p.T, at, np.array([b.power_w for b in case.baseline], dtype=float))
        np.add.at(q.T, at, np.array([b.reactive_power_var for b in case.baseline], dtype=float))
    for award in case.fixed_awards:
        shares = [(award.bus_id, PPM)] if award.bus_id is not None else [(s.bus_id, s.share_ppm) for s in award.shares]
        for bus_id, share in shares:
            part = np.array(award.power) * award.direction.sign * (share / PPM)
            (p if award.quantity is Quantity.ACTIVE else q)[:, index[bus_id]] += part
    return p, q
