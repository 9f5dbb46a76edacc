"""From the solver's floats to integers: whole quanta, rounded to the side that relieves the grid."""

import math

import numpy as np
from numpy.typing import NDArray

from clearing.market import Market, Member

__all__ = ["Awards", "columns_of", "round_awards"]

Real = NDArray[np.float64]
Awards = dict[tuple[int, int], int]

# Closer than this to a whole quantum the solver means the whole quantum.
NOISE_W = 0.02


def round_awards(market: Market, x: Real, relief: Real, step_w: int, resolution_s: int) -> Awards:
    """Return the awarded W (var) per offer and slot.

    Args:
        market: the columns and their members.
        x: quantities, MW.
        relief: per column, > 0 when more of it relieves what binds: rounded up; < 0: rounded down.
        step_w: the quantum; full steps, and offers bound by a unit, ramps, slices or a least energy, need not be a
            multiple.
        resolution_s: length of a slot, for energy budgets.
    """
    awards: Awards = {}
    integer = market.integer
    # Most steps of a book are not taken.
    for column in np.flatnonzero((x * 1e6 > NOISE_W) & (np.diff(market.member_first) > 0)).tolist():
        members = market.members(column)
        if integer[column]:
            if x[column] > 0.5:
                for m in members:
                    awards[m.offer, m.slot] = awards.get((m.offer, m.slot), 0) + m.cap
            continue
        total = sum(m.cap for m in members)
        step = 1 if _tied(market, members) else step_w
        watts = _whole(float(x[column]) * 1e6, total, step, float(relief[column]))
        if watts:
            for m, part in zip(members, _pro_rata(members, watts, total, step), strict=True):
                if part:
                    awards[m.offer, m.slot] = awards.get((m.offer, m.slot), 0) + part
    _respect_minimum(market, awards)
    for window in market.windows:
        _share_budgets(market, awards, x, step_w, resolution_s, window)
    return awards


def _tied(market: Market, members: list[Member]) -> bool:
    """Tell whether a quantum would break what an offer is bound by: its unit's state, ramps, slices, least energy."""
    offer = market.offers[members[0].offer]
    ramps = offer.max_rise is not None or offer.max_fall is not None
    return offer.unit_id is not None or ramps or bool(offer.polygons) or offer.min_energy_wh is not None


def _whole(watts: float, cap: int, step: int, relief: float) -> int:
    if watts >= cap - NOISE_W:
        return cap
    if watts <= NOISE_W:
        return 0
    near = round(watts / step)
    if abs(watts - near * step) <= NOISE_W or relief == 0:
        made = near * step
    else:
        made = (math.ceil(watts / step) if relief > 0 else math.floor(watts / step)) * step
    return min(made, cap)


def _pro_rata(members: list[Member], watts: int, total: int, step: int) -> list[int]:
    """Split by size in whole quanta, the largest remainders first, ties to the earlier offer."""
    if watts == total or len(members) == 1:
        return [m.cap for m in members] if watts == total else [watts]
    exact = [watts * m.cap / total for m in members]
    parts = [min(int(e // step) * step, m.cap) for e, m in zip(exact, members, strict=True)]
    left = watts - sum(parts)
    by_remainder = sorted(range(len(members)), key=lambda k: (-(exact[k] - parts[k]), k))
    while left > 0:
        before = left
        for k in by_remainder:
            more = min(step, left, members[k].cap - parts[k])
            parts[k] += more
            left -= more
            if left == 0:
                break
        if left == before:
            break
    return parts


def _respect_minimum(market: Market, awards: Awards) -> None:
    for (k, t), watts in awards.items():
        offer = market.offers[k]
        if offer.start_choice is None and 0 < watts < offer.slots[t].min_quantity:
            awards[k, t] = offer.slots[t].min_quantity


def _share_budgets(market: Market, awards: Awards, x: Real, step_w: int, resolution_s: int, window: range) -> None:
    """Round each offer that has an energy budget so that no slot is off by a whole quantum.

    Rounded one by one, the quanta of a day add up to more than the budget. So every slot is rounded down, and what
    the budget still holds goes to the slots that lost most, ties to the earlier slot.
    """
    mine: dict[int, dict[int, float]] = {}
    table = market.all_members()
    limited = np.array([o.max_energy_wh is not None for o in market.offers], dtype=bool)
    inside = (table.slot >= window.start) & (table.slot < window.stop)
    for m in np.flatnonzero(
        limited[table.offer] & inside & ~np.array(market.integer, dtype=bool)[table.column]
    ).tolist():
        slots, t = mine.setdefault(int(table.offer[m]), {}), int(table.slot[m])
        slots[t] = slots.get(t, 0.0) + float(x[table.column[m]]) * 1e6
    for k, watts in sorted(mine.items()):
        offer = market.offers[k]
        assert offer.max_energy_wh is not None
        budget = offer.max_energy_wh * 3600 // resolution_s
        if sum(awards.get((k, t), 0) for t in watts) <= budget:
            continue
        lost = {}
        for t, exact in sorted(watts.items()):
            most = awards.get((k, t), 0)
            least = min(math.floor((exact + NOISE_W) / step_w) * step_w, most)
            awards[k, t] = max(least, offer.slots[t].min_quantity if most else 0)
            lost[t] = (exact - awards[k, t], most - awards[k, t])
        left = budget - sum(awards[k, t] for t in watts)
        for t in sorted(lost, key=lambda t: (-lost[t][0], t)):
            more = lost[t][1]
            if 0 < more <= left:
                awards[k, t] += more
                left -= more


def columns_of(market: Market, awards: Awards, x: Real) -> Real:
    """Return the columns that stand for integer awards; columns without members keep their value."""
    made = x.copy()
    left = dict(awards)
    table = market.all_members()
    own = np.unique(table.column[~table.whole])
    made[own] = 0.0
    given = np.zeros((len(market.offers), market.windows[-1].stop), dtype=bool)
    for k, t in awards:
        given[k, t] = True
    for column in np.intersect1d(own, table.column[given[table.offer, table.slot]]).tolist():
        # Own columns of an offer come in the order of its steps, so filling in order is exact.
        total = 0
        for m in market.members(column):
            part = min(m.cap, left.get((m.offer, m.slot), 0))
            left[m.offer, m.slot] = left.get((m.offer, m.slot), 0) - part
            total += part
        made[column] = total / 1e6
    for (k, day_slot), column in market.reserved.items():
        made[column] = max(awards.get((k, w.start + day_slot), 0) for w in market.windows) / 1e6
    return made
