"""From the solver's floats to integers: whole quanta, rounded to the side that relieves the grid."""

import numpy as np
from numpy.typing import NDArray

from clearing.case import Offer, Unit, UnitKind
from clearing.market import Market

__all__ = ["Awards", "columns_of", "firsts", "keep_stored", "lengths", "round_awards"]

Real = NDArray[np.float64]
Index = NDArray[np.int_]
Awards = NDArray[np.int_]  # offers x slots, W or var

# Closer than this to a whole quantum the solver means the whole quantum.
NOISE_W = 0.02
# W over all slots: more than any offer has.
PLENTY = 1 << 62


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
    table = market.all_members()
    awards = np.zeros((len(market.offers), market.windows[-1].stop), dtype=int)
    steps = np.ones(len(market.offers), dtype=int)
    if step_w > 1:
        steps[:] = [1 if _tied(o) else step_w for o in market.offers]
    # Most steps of a book are not taken.
    first = np.array(market.member_first)
    count = np.diff(first)
    taken = (x * 1e6 > NOISE_W) & (count > 0)
    decided = table.whole & (taken & (x > 0.5))[table.column]
    np.add.at(awards, (table.offer[decided], table.slot[decided]), table.cap[decided])
    columns = np.flatnonzero(taken & ~np.array(market.integer, dtype=bool))
    size = count[columns]
    shared = columns[size > 1].tolist()
    alone = columns[size == 1]
    row = first[alone]
    watts = _whole(x[alone] * 1e6, table.cap[row], steps[table.offer[row]], relief[alone])
    np.add.at(awards, (table.offer[row], table.slot[row]), watts)
    for column in shared:
        mine = slice(first[column], first[column + 1])
        caps, step = table.cap[mine], int(steps[table.offer[mine.start]])
        total = int(caps.sum())
        whole = _whole(x[[column]] * 1e6, np.array([total]), np.array([step]), relief[[column]])
        parts = _pro_rata(caps.tolist(), int(whole[0]), total, step)
        np.add.at(awards, (table.offer[mine], table.slot[mine]), parts)
    least = _least(market, awards)
    awards = np.where(awards > 0, np.maximum(awards, least), awards)
    for window in market.windows:
        _share_budgets(market, awards, least, x, steps, resolution_s, window)
    return awards


def _tied(offer: Offer) -> bool:
    """Tell whether a quantum would break what an offer is bound by: its unit's state, ramps, slices, least energy."""
    ramps = offer.max_rise is not None or offer.max_fall is not None
    return offer.unit_id is not None or ramps or bool(offer.polygons) or offer.min_energy_wh is not None


def _whole(watts: Real, cap: Index, step: Index, relief: Real) -> Index:
    """Return the whole quanta of some columns."""
    near = np.rint(watts / step) * step
    up, down = np.ceil(watts / step) * step, np.floor(watts / step) * step
    made = np.where((np.abs(watts - near) <= NOISE_W) | (relief == 0), near, np.where(relief > 0, up, down))
    made = np.minimum(made, cap)
    return np.where(watts >= cap - NOISE_W, cap, np.where(watts <= NOISE_W, 0, made)).astype(int)


def _pro_rata(caps: list[int], watts: int, total: int, step: int) -> list[int]:
    """Split by size in whole quanta, the largest remainders first, ties to the earlier offer."""
    if watts == total:
        return caps
    exact = [watts * cap / total for cap in caps]
    parts = [min(int(e // step) * step, cap) for e, cap in zip(exact, caps, strict=True)]
    left = watts - sum(parts)
    by_remainder = sorted(range(len(caps)), key=lambda k: (-(exact[k] - parts[k]), k))
    while left > 0:
        before = left
        for k in by_remainder:
            more = min(step, left, caps[k] - parts[k])
            parts[k] += more
            left -= more
            if left == 0:
                break
        if left == before:
            break
    return parts


def _least(market: Market, awards: Awards) -> Awards:
    """Return what each offer delivers at least in a slot if it delivers anything (offers x slots), W or var."""
    least = np.zeros_like(awards)
    for k in np.flatnonzero(awards.any(axis=1)).tolist():
        offer = market.offers[k]
        if offer.start_choice is None:
            least[k] = [e.min_quantity for e in offer.slots]
    return least


def _budget(offer: Offer, resolution_s: int) -> int:
    """Return the sum of W over slots that an offer has at most, -1 = as much as it likes."""
    return -1 if offer.max_energy_wh is None else min(offer.max_energy_wh * 3600 // resolution_s, PLENTY)


def _share_budgets(
    market: Market, awards: Awards, least: Awards, x: Real, steps: Index, resolution_s: int, window: range
) -> None:
    """Round each offer that has an energy budget so that no slot is off by a whole quantum.

    Rounded one by one, the quanta of a day add up to more than the budget. So every slot is rounded down, and what
    the budget still holds goes to the slots that lost most, ties to the earlier slot. `steps` is the quantum per offer.
    """
    table, count = market.all_members(), len(market.offers)
    if all(o.max_energy_wh is None for o in market.offers):
        return
    budget = np.array([_budget(o, resolution_s) for o in market.offers], dtype=int)
    rows = (budget[table.offer] >= 0) & (table.slot >= window.start) & (table.slot < window.stop) & ~table.whole
    cell = table.offer[rows] * len(window) + table.slot[rows] - window.start
    shape = count, len(window)
    exact = np.bincount(cell, weights=x[table.column[rows]] * 1e6, minlength=count * len(window)).reshape(shape)
    offered = (np.bincount(cell, minlength=count * len(window)) > 0).reshape(shape)
    most = np.where(offered, awards[:, window.start : window.stop], 0)
    over = np.flatnonzero((budget >= 0) & (most.sum(axis=1) > budget))
    if not len(over):
        return
    offered, exact, most, least = offered[over], exact[over], most[over], least[over, window.start : window.stop]
    step = steps[over, None]
    down = np.minimum((np.floor((exact + NOISE_W) / step) * step).astype(int), most)
    down = np.maximum(down, np.where(most > 0, least, 0))
    left = budget[over] - np.where(offered, down, 0).sum(axis=1)
    order = np.argsort(np.where(offered, down - exact, np.inf), axis=1, kind="stable")
    each = np.arange(len(over))
    for t in order.T:  # of every offer the slot that comes next
        more = (most - down)[each, t]
        more = np.where(offered[each, t] & (more > 0) & (more <= left), more, 0)
        down[each, t] += more
        left -= more
    awards[over, window.start : window.stop] = np.where(offered, down, awards[over, window.start : window.stop])


def keep_stored(market: Market, awards: Awards, x: Real, units: tuple[Unit, ...], resolution_s: int) -> Awards:
    """Return awards in which whole watts never leave a storage with less than what was optimised.

    Rounded one by one, the slots of a day can take some Wh more out of a store than were put in: a dispatch that costs
    less than any that keeps its rules. So whoever is short gives a watt less, or takes one more, where that is open.

    Args:
        market: the columns and their members.
        awards: rounded awards.
        x: quantities, MW.
        units: units of the case.
        resolution_s: length of a slot, s.
    """
    stores = {u.unit_id: u for u in units if u.kind is UnitKind.STORAGE}
    if not stores:
        return awards
    table, made = market.all_members(), awards.copy()
    exact, cap = np.zeros(awards.shape), np.zeros_like(awards)
    part = ~table.whole & np.isin(table.offer, [k for k, o in enumerate(market.offers) if o.unit_id in stores])
    np.add.at(cap, (table.offer[part], table.slot[part]), table.cap[part])
    size = np.bincount(table.column[part], weights=table.cap[part], minlength=len(x))
    column = table.column[part]
    np.add.at(exact, (table.offer[part], table.slot[part]), x[column] * 1e6 * table.cap[part] / size[column])
    for unit in stores.values():
        members = [k for k, o in enumerate(market.offers) if o.unit_id == unit.unit_id and cap[k].any()]
        gain = {k: _stored_by(market.offers[k], unit) for k in members}
        keep = unit.kept(resolution_s / 3600)
        for window in market.windows:
            off = 0.0  # what is stored beyond what was optimised, W times slots
            for t in window:
                off *= keep
                off += sum(gain[k] * (made[k, t] - exact[k, t]) for k in members if cap[k, t])
                for k in sorted(members, key=lambda k: (gain[k] > 0, k)):
                    step, offer = (1 if gain[k] > 0 else -1), market.offers[k]
                    least = max(1, offer.slots[t].min_quantity) if offer.slots else 1
                    most = 0 if step > 0 and offer.max_energy_wh is not None else int(cap[k, t])
                    while off < -NOISE_W and made[k, t] > 0 and least <= made[k, t] + step <= most:
                        made[k, t] += step
                        off += abs(gain[k])
    return made


def _stored_by(offer: Offer, unit: Unit) -> float:
    """Return what a unit of an offer adds to what is stored."""
    if offer.direction.sign > 0:
        return -1e6 / unit.discharge_efficiency_ppm
    return unit.charge_efficiency_ppm / 1e6


def columns_of(market: Market, awards: Awards, x: Real) -> Real:
    """Return the columns that stand for integer awards; columns without members keep their value."""
    made = x.copy()
    table = market.all_members()
    made[table.column[~table.whole]] = 0.0
    rows = np.flatnonzero(~table.whole & (awards[table.offer, table.slot] > 0))
    # Own columns of an offer come in the order of its steps, so filling in order is exact.
    rows = rows[np.argsort(table.offer[rows] * awards.shape[1] + table.slot[rows], kind="stable")]
    offer, slot, cap = table.offer[rows], table.slot[rows], table.cap[rows]
    first = firsts(offer, slot)
    filled = np.cumsum(cap) - cap
    filled -= np.repeat(filled[first], lengths(first, len(rows)))
    part = np.clip(awards[offer, slot] - filled, 0, cap)
    total = np.zeros(len(made), dtype=int)
    np.add.at(total, table.column[rows], part)
    columns = np.unique(table.column[rows])
    made[columns] = total[columns] / 1e6
    for (k, day_slot), column in market.reserved.items():
        made[column] = int(awards[k, [w.start + day_slot for w in market.windows]].max()) / 1e6
    return made


def firsts(offer: Index, slot: Index) -> Index:
    """Return where a run of rows of one offer and slot begins."""
    starts = np.ones(len(offer), dtype=bool)
    np.logical_or(offer[1:] != offer[:-1], slot[1:] != slot[:-1], out=starts[1:])
    return np.flatnonzero(starts)


def lengths(first: Index, end: int) -> Index:
    """Return the lengths of runs that follow each other up to an end."""
    count = np.empty_like(first)
    count[:-1] = first[1:] - first[:-1]
    count[-1:] = end - first[-1:]
    return count
