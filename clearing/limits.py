"""The limits of a grid as one table: which measure, which bound, what a violation costs."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from clearing.case import LimitPrice, Settings
from clearing.network import Grid
from clearing.result import LimitKind
from clearing.state import Measure, Measured

__all__ = ["LimitTable", "build_limits"]

Real = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LimitTable:
    """One row per limit: `sign * measure <= bound`, else `price` per unit and hour."""

    kinds: tuple[LimitKind, ...]
    measures: tuple[Measure, ...]
    sign: Real
    bound: Real
    price: Real  # EUR per pu (MVA, MW or pu of voltage) and hour
    near: Real  # distance to the bound from which on the limit is watched
    places: tuple[tuple[str, NDArray[np.int_], NDArray[np.int_]], ...]  # per kind of measure: rows, and indices

    def excess(self, values: Measured) -> Real:
        """Return how far each limit is exceeded (slots x limits), negative = inside."""
        if values.excess is not None and values.excess[0] is self:
            return values.excess[1]
        measured = np.empty((len(values["v"]), len(self.measures)))
        for kind, place, index in self.places:
            measured[:, place] = values[kind][:, index]
        found = np.asarray(self.sign * measured - self.bound)
        values.excess = self, found
        return found


@lru_cache(maxsize=4)
def build_limits(grid: Grid, settings: Settings, prices: tuple[LimitPrice, ...] = ()) -> LimitTable:
    """Return every finite limit of a grid; voltages at held nodes are given and no limit of the market.

    Args:
        grid: the reduced grid.
        settings: worth of limits in general.
        prices: worth of single limits and kinds; the most specific holds.
    """
    rows: list[tuple[LimitKind, Measure, float, float, float, float]] = []
    given = {(p.kind, p.element_id): p.price_milli / 1e3 for p in prices}

    def price(kind: LimitKind, element_id: str) -> float:
        voltage = kind in (LimitKind.VOLTAGE_MAX, LimitKind.VOLTAGE_MIN)
        usual = settings.voltage_price_milli_per_puh if voltage else settings.loading_price_milli_per_mwh
        return given.get((kind, element_id), given.get((kind, None), usual / 1e3))

    for n in grid.free.tolist():
        if np.isfinite(grid.v_max[n]):
            worth = price(LimitKind.VOLTAGE_MAX, grid.bus_ids[int(grid.bus_of_v_max[n])])
            rows.append((LimitKind.VOLTAGE_MAX, Measure("v", n), 1.0, float(grid.v_max[n]), worth, 0.02))
        if np.isfinite(grid.v_min[n]):
            worth = price(LimitKind.VOLTAGE_MIN, grid.bus_ids[int(grid.bus_of_v_min[n])])
            rows.append((LimitKind.VOLTAGE_MIN, Measure("v", n), -1.0, -float(grid.v_min[n]), worth, 0.02))
    for kind, word, bounds in (
        (LimitKind.CURRENT_FROM, "if", grid.max_i_from),
        (LimitKind.CURRENT_TO, "it", grid.max_i_to),
        (LimitKind.APPARENT_POWER_FROM, "sf", grid.max_s),
        (LimitKind.APPARENT_POWER_TO, "st", grid.max_s),
    ):
        for k in np.flatnonzero(np.isfinite(bounds)).tolist():
            bound = float(bounds[k])
            rows.append((kind, Measure(word, k), 1.0, bound, price(kind, grid.branch_ids[k]), 0.3 * bound))
    for k in range(len(grid.infeed_ids)):
        for kind, sign, limit in (
            (LimitKind.IMPORT, 1.0, grid.max_import[k]),
            (LimitKind.EXPORT, -1.0, grid.max_export[k]),
        ):
            if np.isfinite(limit):
                worth, near = price(kind, grid.infeed_ids[k]), 0.3 * float(limit) + 1e-3
                rows.append((kind, Measure("root_p", k), sign, float(limit), worth, near))
    words = np.array([r[1].kind for r in rows])
    index = np.array([r[1].index for r in rows], dtype=int)
    return LimitTable(
        kinds=tuple(r[0] for r in rows),
        measures=tuple(r[1] for r in rows),
        sign=np.array([r[2] for r in rows]),
        bound=np.array([r[3] for r in rows]),
        price=np.array([r[4] for r in rows]),
        near=np.array([r[5] for r in rows]),
        places=tuple((w, p, index[p]) for w in np.unique(words).tolist() for p in (np.flatnonzero(words == w),)),
    )
