"""A storage as rows: what is stored at the end of every slot, from its offers, its baseline and its losses."""

from typing import TYPE_CHECKING

from clearing.case import Quantity, Unit
from flexbus.quantities import Direction

if TYPE_CHECKING:
    from clearing.market import Market

__all__ = ["add_storage"]

MEGA = 1e6


def add_storage(
    slots: range, market: "Market", unit: Unit, delivered: dict[tuple[int, int], list[int]], hours: float
) -> None:
    """Add the columns and rows of a storage to a market.

    Args:
        slots: slots to add rows for.
        market: the market, with the columns of its offers.
        unit: the storage.
        delivered: columns per offer and slot.
        hours: length of a slot, h.
    """
    mine = [k for k, o in enumerate(market.offers) if o.unit_id == unit.unit_id and o.quantity is Quantity.ACTIVE]
    # What nobody can change is no part of the market.
    if not any((k, t) in delivered for k in mine for t in slots):
        return
    charge, discharge = unit.charge_efficiency_ppm / MEGA, unit.discharge_efficiency_ppm / MEGA
    keep = unit.kept(hours)
    last: int | None = None
    last_least = unit.initial_energy_wh
    for t in slots:
        least = unit.min_energy_wh
        if t == slots[-1] and unit.min_final_energy_wh is not None:
            least = max(least, unit.min_final_energy_wh)
        stored = market.column(0.0, (unit.max_energy_wh - least) / MEGA, -1)
        known = last_least * keep / MEGA
        base = unit.baseline_power_w[t] / MEGA * hours if unit.baseline_power_w else 0.0
        known += -base * charge if base < 0 else -base / discharge
        terms = [(stored, 1.0)] + ([(last, -keep)] if last is not None else [])
        for k in mine:
            sign = market.offers[k].direction is Direction.UP
            factor = hours / discharge if sign else -hours * charge
            terms += [(c, factor) for c in delivered.get((k, t), ())]
        right = known - least / MEGA
        market.row(("STORAGE", unit.unit_id, t), terms, right, right)
        last, last_least = stored, least
