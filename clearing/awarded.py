"""What a market delivers, at what price, verified in AC: all of a result that somebody waits for in real time."""

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clearing.dispatch import dispatch
from clearing.payments import Bids, offer_prices
from clearing.power_flow import AcGrid, AcState
from clearing.result import LimitKind, Result, Shortfall
from flexbus.events.clearing import SlotStatus
from flexbus.quantities import PPM

if TYPE_CHECKING:
    from clearing.pipeline import Cleared

__all__ = ["Awarded"]

Real = NDArray[np.float64]
MEGA = 1e6


class Awarded:
    """The awards of a cleared market as they are published, and the AC power flow that they lead to.

    `offer_ids` are the offers; `quantity` and `price_milli_per_mwh` (offers x slots) what is taken of them, W or var,
    and what it is paid; `status` tells of every slot whether it is proven to be optimal; `ac` is the independent power
    flow of the whole quantities, `shortfalls` (per slot) the limits of the grid that stay broken, and
    `ac_violation_ppm` the worst excess in `ac` beyond those.
    """

    def __init__(self, cleared: "Cleared", rest: Callable[["Awarded"], Result]) -> None:
        """Price and verify.

        Args:
            cleared: the optimised market.
            rest: what makes the whole result of it.
        """
        self.cleared, self._rest = cleared, rest
        offers = cleared.market.offers
        self.offer_ids = tuple(o.offer_id for o in offers)
        self.quantity = cleared.awards
        self.bids = Bids(offers, cleared.steps, self.quantity)
        self.price_milli_per_mwh = offer_prices(cleared, self.bids)
        # Injections with the awards, slots x buses, W and var.
        self.p, self.q = dispatch(cleared.case, offers, self.quantity)
        self.ac: AcState = cleared.ac.solve(self.p, self.q)
        slots = range(cleared.case.slots)
        self.status = tuple(self._status(t) for t in slots)
        self.shortfalls = tuple(self._shortfalls(t) for t in slots)
        self.ac_violation_ppm = tuple(
            worst_excess_ppm(cleared.ac, self.ac, t, {s.element_id for s in self.shortfalls[t]}) for t in slots
        )

    def result(self) -> Result:
        """Return the whole result: states, reasons, sums, certificate and hashes; the same as of `clear`."""
        return self._rest(self)

    def _status(self, t: int) -> SlotStatus:
        c = self.cleared
        if not c.base.converged[t] or not self.ac.converged[t]:
            return SlotStatus.BASELINE_KEPT
        if not c.active[t]:
            return SlotStatus.IDLE
        if c.repair.gave_up(t):
            return SlotStatus.BASELINE_KEPT
        if not c.bound.solved[t]:
            return SlotStatus.LINEARISED
        return SlotStatus.EXACT if c.bound.exact[t] else SlotStatus.REPAIRED

    def _shortfalls(self, t: int) -> tuple[Shortfall, ...]:
        c = self.cleared
        if not c.base.converged[t]:
            return (Shortfall(kind=LimitKind.POWER_FLOW, element_id=c.case.network.network_id, amount=0),)
        excess, kinds = c.point.excess[t], c.repair.limits.kinds
        return tuple(
            Shortfall(kind=kinds[k], element_id=c.repair.element(k), amount=round(float(excess[k]) * MEGA))
            for k in np.flatnonzero(excess > 1e-6).tolist()
        )


def worst_excess_ppm(grid: AcGrid, state: AcState, t: int, named: set[str]) -> int:
    """Return the worst excess that the independent power flow sees beyond some elements, ppm.

    Args:
        grid: the network.
        state: its power flow.
        t: slot.
        named: ids of buses and branches whose excess is told elsewhere.
    """
    if not state.converged[t]:
        return 0
    low, high, held = _bands(grid)
    size = np.abs(state.voltage_pu[t]) * MEGA
    over, loading = np.maximum(size - high, low - size), state.loading_ppm[t] - PPM
    skip = held | ~state.energised
    if named:
        network = grid.network
        skip = skip | np.array([b.bus_id in named for b in network.buses], dtype=bool)
        loading = np.where([b.branch_id in named for b in network.branches], 0.0, loading)
    over = np.where(skip, 0.0, over)
    worst = max(float(over.max(initial=0.0)), float(np.where(np.isfinite(loading), loading, 0.0).max(initial=0.0)))
    # A millionth is the promised accuracy; the integer shows what is beyond it.
    return int(np.floor(worst + 0.5)) if worst > 0.5 else 0


@lru_cache(maxsize=4)
def _bands(grid: AcGrid) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_]]:
    """Return the voltage bands of all buses, ppm, and which of them are infeed points."""
    buses, held = grid.network.buses, {p.bus_id for p in grid.network.infeed_points}
    return (
        np.array([b.min_voltage_ppm for b in buses]),
        np.array([b.max_voltage_ppm for b in buses]),
        np.array([b.bus_id in held for b in buses], dtype=bool),
    )
