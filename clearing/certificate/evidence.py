"""What follows from a case and its awards alone: injections, AC states, what is a node."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clearing.case import BusShare, Case, Offer, Quantity
from clearing.power_flow import AcGrid, AcState, ac_grid
from clearing.result import Result

__all__ = ["Evidence", "Finding", "gather", "places"]

Real = NDArray[np.float64]
PPM = 1_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """Something published that does not follow from the case.

    Args:
        path: JSON path in the result.
        message: what was published, what follows from the case.
    """

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The case, the result, and the physics of both.

    Args:
        case: the case.
        result: the published result.
        grid: the network prepared for the power flow.
        taken: awards (offers of the case x slots), W or var.
        base_p: injections without market (slots x buses), W.
        base_q: reactive injections without market (slots x buses), var.
        p: injections with the awards (slots x buses), W.
        q: reactive injections with the awards (slots x buses), var.
        before: AC states without market.
        after: AC states with the awards.
        node: first bus of the group joined by zero-impedance branches, per bus.
    """

    case: Case
    result: Result
    grid: AcGrid
    taken: NDArray[np.int_]
    base_p: Real
    base_q: Real
    p: Real
    q: Real
    before: AcState
    after: AcState
    node: NDArray[np.int_]

    @property
    def hours(self) -> float:
        """Length of a slot, h."""
        return self.case.resolution_s / 3600


def gather(
    case: Case, result: Result, grid: AcGrid | None = None, known: tuple[Real, Real, AcState] | None = None
) -> Evidence:
    """Compute the physics of a case with the awards of a result (offers and slots must match).

    Args:
        case: the case.
        result: what was published for it.
        grid: its network prepared for the power flow; prepared with numpy alone without.
        known: injections (W, var) whose power flow that grid has solved already, and what it found.
    """
    index = {bus.bus_id: k for k, bus in enumerate(case.network.buses)}
    base_p, base_q = np.zeros((case.slots, len(index))), np.zeros((case.slots, len(index)))
    if case.baseline:
        at = [index[entry.bus_id] for entry in case.baseline]
        np.add.at(base_p.T, at, np.array([entry.power_w for entry in case.baseline], dtype=float))
        np.add.at(base_q.T, at, np.array([entry.reactive_power_var for entry in case.baseline], dtype=float))
    for award in case.fixed_awards:
        target = base_p if award.quantity is Quantity.ACTIVE else base_q
        for bus, share in _spread(award.bus_id, award.shares):
            target[:, index[bus]] += award.direction.sign * np.array(award.power) * share
    by_id = {award.offer_id: award for award in result.offers}
    taken = np.array([by_id[offer.offer_id].quantity for offer in case.offers], dtype=int)
    taken = taken.reshape(len(case.offers), case.slots)
    p, q = base_p.copy(), base_q.copy()
    for k in np.flatnonzero(taken.any(axis=1)).tolist():
        offer, amounts = case.offers[k], taken[k]
        change = offer.direction.sign * _with_rebound(offer, amounts.astype(float))
        for bus, share in places(offer):
            if offer.quantity is Quantity.ACTIVE:
                p[:, index[bus]] += change * share
                q[:, index[bus]] += change * share * (offer.tan_phi_ppm / PPM)
            else:
                q[:, index[bus]] += change * share
    grid = grid or ac_grid(case.network)
    is_known = known is not None and np.array_equal(known[0], p) and np.array_equal(known[1], q)
    return Evidence(
        case=case,
        result=result,
        grid=grid,
        taken=taken,
        base_p=base_p,
        base_q=base_q,
        p=p,
        q=q,
        before=grid.solve(base_p, base_q),
        after=known[2] if known is not None and is_known else grid.solve(p, q),
        node=_nodes(case),
    )


def places(offer: Offer) -> list[tuple[str, float]]:
    """Return the buses of an offer and the share of its delivery at each."""
    return _spread(offer.bus_id, offer.shares)


def _spread(bus_id: str | None, shares: tuple[BusShare, ...]) -> list[tuple[str, float]]:
    return [(bus_id, 1.0)] if bus_id is not None else [(s.bus_id, s.share_ppm / PPM) for s in shares]


def _with_rebound(offer: Offer, amounts: Real) -> Real:
    back = offer.payback
    if back is None:
        return amounts
    made = amounts.copy()
    part = back.factor_ppm / PPM / back.window_slots
    for t in np.flatnonzero(amounts):
        first = t + 1 + back.delay_slots
        made[first : first + back.window_slots] -= amounts[t] * part
    return made


def _nodes(case: Case) -> NDArray[np.int_]:
    index = {bus.bus_id: k for k, bus in enumerate(case.network.buses)}
    node = list(range(len(index)))

    def top(k: int) -> int:
        while node[k] != k:
            k = node[k]
        return k

    for branch in case.network.branches:
        if branch.closed and branch.r_ohm == 0 and branch.x_ohm == 0:
            a, b = top(index[branch.from_bus_id]), top(index[branch.to_bus_id])
            node[max(a, b)] = min(a, b)
    return np.array([top(k) for k in range(len(node))], dtype=int)
