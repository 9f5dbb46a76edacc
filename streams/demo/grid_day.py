"""From a SimBench grid and day to the scenario of the demo."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date, timedelta

import numpy as np

from clearing.convert.simbench import SimbenchDay, simbench_day
from clearing.convert.units import ConnectedUnit
from clearing.power_flow import solve_ac
from flexbus.events import AssetKind, BusInjection
from flexbus.time import local_day
from streams.demo.scenario import FSPS, Scenario, Site

__all__ = ["DEFAULT_GRID", "TIME_ZONE", "scenario_of"]

DEFAULT_GRID = "1-MV-rural--2-sw"
TIME_ZONE = "Europe/Berlin"
# At most this many connection points per technology are marketed, largest first.
_MOST = {AssetKind.PV: 40, AssetKind.BATTERY: 12, AssetKind.INDUSTRY: 6, AssetKind.LOAD: 8}
_MOST_OTHERS = 6
# The electrified winter: loads grow until an element is loaded so far, or a voltage falls so far below its band.
_WINTER_LOADING = 1.10
_WINTER_DROP_PU = 0.004
_BLOCK_SLOTS = 8


def scenario_of(grid: str, day: str) -> Scenario:
    """Load a grid and a day, and decide who markets what on it.

    Args:
        grid: SimBench code.
        day: winter, sunny, or a date of the profile year.

    Raises:
        ConversionError: unknown grid or day.
    """
    area_id = grid.partition("--")[0].removeprefix("1-").lower()
    data = simbench_day(grid, day, area_id=area_id)
    market_day = _market_day(data.day)
    period = local_day(market_day, TIME_ZONE)
    factor = _winter_factor(data) if day == "winter" else 1.0
    units = tuple(_grown(unit, factor) for unit in data.units)
    # Quantity steps follow the size of the grid: kilowatts at medium voltage, 100 W at low voltage.
    step_w = 1000 if max(b.nominal_voltage_v for b in data.network.buses) > 30_000 else 100
    title, note = f"SimBench {grid}, {day} day ({data.day:%d %B} of its profile year)", ""
    if factor != 1.0:
        # In the title, because that is the name of the area: journal, page, summary and report show it.
        title += f", loads x {factor:.2f}: electrified heating"
        note = (
            f"All loads are taken {factor:.2f} times as large as in SimBench, an electrified winter: the peak loads an "
            f"element to {_WINTER_LOADING:.0%}, or takes a voltage {_WINTER_DROP_PU:.1%} below its band."
        )
    return Scenario(
        area_id=area_id,
        title=title,
        note=note,
        day=market_day,
        time_zone=TIME_ZONE,
        start_ms=period.start_ms,
        network=data.network,
        injections=tuple(_injections(data, units)),
        sites=tuple(_sites(units, step_w)),
        step_w=step_w,
    )


def _market_day(profile_day: date) -> date:
    """Return the day of the coming year with the same month and day, never one of a clock change."""
    day = date(2027, 3, 1) if (profile_day.month, profile_day.day) == (2, 29) else profile_day.replace(year=2027)
    while local_day(day, TIME_ZONE).slots(900) != 96:
        day += timedelta(days=1)
    return day


def _grown(unit: ConnectedUnit, factor: float) -> ConnectedUnit:
    if factor == 1.0 or not unit.unit_id.startswith("load"):
        return unit
    return replace(
        unit,
        power_w=tuple(round(w * factor) for w in unit.power_w),
        reactive_power_var=tuple(round(w * factor) for w in unit.reactive_power_var),
        rated_power_va=round(unit.rated_power_va * factor),
    )


def _winter_factor(data: SimbenchDay) -> float:
    """Return by how much loads must grow until the peak strains the grid."""
    units = [u for u in data.units if u.unit_id.startswith("load")]
    index = {bus.bus_id: k for k, bus in enumerate(data.network.buses)}
    load_p = np.zeros_like(data.power_w, dtype=float)
    load_q = np.zeros_like(load_p)
    for unit in units:
        load_p[:, index[unit.bus_id]] += unit.power_w
        load_q[:, index[unit.bus_id]] += unit.reactive_power_var
    peak = int(data.power_w.sum(axis=1).argmin())
    lowest = np.array([b.min_voltage_ppm for b in data.network.buses]) / 1e6
    low, high = 1.0, 12.0
    for _ in range(12):
        factor = (low + high) / 2
        state = solve_ac(
            data.network,
            data.power_w[peak : peak + 1] + (factor - 1) * load_p[peak : peak + 1],
            data.reactive_power_var[peak : peak + 1] + (factor - 1) * load_q[peak : peak + 1],
        )
        drop = (lowest - np.abs(state.voltage_pu)).max()
        held = np.nanmax(state.loading_ppm) / 1e6 < _WINTER_LOADING and drop < _WINTER_DROP_PU
        low, high = (factor, high) if state.converged.all() and held else (low, factor)
    return round(low, 2)


def _injections(data: SimbenchDay, units: Sequence[ConnectedUnit]) -> Iterator[BusInjection]:
    p: dict[str, np.ndarray] = {}
    q: dict[str, np.ndarray] = {}
    for unit in units:
        p[unit.bus_id] = p.get(unit.bus_id, 0) + np.array(unit.power_w)
        q[unit.bus_id] = q.get(unit.bus_id, 0) + np.array(unit.reactive_power_var)
    for bus in data.network.buses:
        if bus.bus_id in p:
            yield BusInjection(
                bus_id=bus.bus_id,
                power_w=tuple(p[bus.bus_id].tolist()),
                reactive_power_var=tuple(q[bus.bus_id].tolist()),
            )


def _sites(units: Sequence[ConnectedUnit], step_w: int) -> Iterator[Site]:
    fsp_of = {kind: fsp for fsp, (_, kinds) in FSPS.items() for kind in kinds}
    taken: dict[AssetKind, int] = {}
    for unit in sorted(units, key=lambda u: (-max(map(abs, u.power_w)), -u.rated_power_va, u.unit_id)):
        kind = unit.kind
        if taken.get(kind, 0) >= _MOST.get(kind, _MOST_OTHERS):
            continue
        site = _site(unit, fsp_of[kind])
        if max((*site.up_w, *site.down_w)) < step_w:
            continue
        taken[kind] = taken.get(kind, 0) + 1
        yield site


def _site(unit: ConnectedUnit, fsp_id: str) -> Site:
    """Say what a unit can give: generators curtail, stores charge or discharge, loads shift up and down."""
    base = unit.power_w
    rated = max(unit.rated_power_va, max(map(abs, base)))
    storage_wh = None
    if unit.kind is AssetKind.BATTERY:
        up, down = [rated - max(w, 0) for w in base], [rated + min(w, 0) for w in base]
        storage_wh = 2 * rated
    elif unit.unit_id.startswith("sgen"):
        steerable = unit.kind in (AssetKind.BIOMASS, AssetKind.CHP, AssetKind.HYDRO)
        up = [(rated - w) if steerable else 0 for w in base]
        down = [w * 9 // 10 for w in base]
    else:
        up, down = [-w * 3 // 10 for w in base], [min(-w * 2 // 10, rated + w) for w in base]
    return Site(
        connection_point_id=f"cp-{unit.unit_id}",
        bus_id=unit.bus_id,
        kind=unit.kind,
        fsp_id=fsp_id,
        baseline_w=base,
        max_feed_in_w=rated if unit.kind is AssetKind.BATTERY or unit.unit_id.startswith("sgen") else 0,
        max_draw_w=rated if unit.kind is AssetKind.BATTERY or not unit.unit_id.startswith("sgen") else 0,
        up_w=tuple(max(w, 0) for w in up),
        down_w=tuple(max(w, 0) for w in down),
        storage_wh=storage_wh,
        block_slots=_BLOCK_SLOTS if unit.kind is AssetKind.INDUSTRY else 0,
    )
