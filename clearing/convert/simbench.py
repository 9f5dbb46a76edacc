"""A SimBench grid and one day of its own profiles: network, forecast per bus, and the units behind it.

SimBench's profiles are 35 136 quarter-hours of the year 2016 without clock changes; a day has 96 of them. Its
own rule for absolute values is followed: loads have P and Q profiles, generation and storage P profiles and no Q.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearing.convert.errors import ConversionError
from clearing.convert.pandapower import bus_id_of, network_from_pandapower
from clearing.convert.units import ConnectedUnit
from flexbus.events.assets import AssetKind
from flexbus.events.grid import BusInjection, NetworkModelPublished

__all__ = ["SimbenchDay", "load_simbench", "simbench_day"]

Watts = NDArray[np.int64]
SLOTS = 96
YEAR_START = date(2016, 1, 1)
# A word for a day is one of its season: the highest load of a low-voltage grid can fall into October.
MONTHS = {"winter": (11, 12, 1, 2), "sunny": (4, 5, 6, 7, 8, 9)}
# Table of the net, profiles that serve it, sign towards feed-in, columns of P and Q in the profiles.
TABLES = (("load", ("load",), -1), ("sgen", ("powerplants", "renewables"), 1), ("storage", ("storage",), -1))
KIND_BY_PREFIX = (
    ("PV", AssetKind.PV),
    ("WP", AssetKind.WIND),
    ("BM", AssetKind.BIOMASS),
    ("Hydro", AssetKind.HYDRO),
    ("Air_", AssetKind.HEAT_PUMP),
    ("Soil_", AssetKind.HEAT_PUMP),
    ("HLS_", AssetKind.EV_CHARGER),
    ("APLS_", AssetKind.EV_CHARGER),
    ("G", AssetKind.INDUSTRY),
    ("BL-", AssetKind.INDUSTRY),
    ("WB-", AssetKind.INDUSTRY),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimbenchDay:
    """A grid and one day of it.

    Args:
        code: SimBench code.
        day: date in the profile year.
        network: the grid.
        power_w: net injection (96 per day x buses), W, in the order of ``network.buses``.
        reactive_power_var: net reactive injection (96 per day x buses), var.
        units: what is connected, with its share of the injections.
    """

    code: str
    day: date
    network: NetworkModelPublished
    power_w: Watts
    reactive_power_var: Watts
    units: tuple[ConnectedUnit, ...]

    def injections(self) -> tuple[BusInjection, ...]:
        """Return the forecast as it goes into `NetForecastPublished`, without the buses that are always zero."""
        return tuple(
            BusInjection(bus_id=bus.bus_id, power_w=tuple(p.tolist()), reactive_power_var=tuple(q.tolist()))
            for bus, p, q in zip(self.network.buses, self.power_w.T, self.reactive_power_var.T, strict=True)
            if p.any() or q.any()
        )


def simbench_day(
    code: str,
    day: str = "winter",
    *,
    area_id: str = "area-1",
    network_id: str = "",
    valid_from_ms: int = 0,
    days: int = 1,
) -> SimbenchDay:
    """Load a SimBench grid (some 3 s) and take one day of its profiles.

    Args:
        code: SimBench code, for example 1-MV-rural--0-sw; scenarios 1 and 2 have more generation.
        day: a date in 2016 (2016-06-15 or 06-15), "winter" = day of the highest load less generation from November
            to February, or "sunny" = day of the highest generation less load from April to September.
        area_id: market area.
        network_id: identifier of the network model; empty = the code.
        valid_from_ms: start of validity of the network, UTC ms.
        days: days in a row from that one on; after the last of the year comes the first.

    Raises:
        ConversionError: unknown code or day, or a grid that cannot be carried over.
    """
    net = load_simbench(code)
    network = network_from_pandapower(
        net, area_id=area_id, network_id=network_id or code, name=f"SimBench {code}", valid_from_ms=valid_from_ms
    )
    first = _first_slot(net, day, code)
    units = tuple(_units(net, network, first, SLOTS * days))
    index = {bus.bus_id: k for k, bus in enumerate(network.buses)}
    p = np.zeros((SLOTS * days, len(index)), dtype=np.int64)
    q = np.zeros_like(p)
    for unit in units:
        p[:, index[unit.bus_id]] += unit.power_w
        q[:, index[unit.bus_id]] += unit.reactive_power_var
    return SimbenchDay(
        code=code,
        day=YEAR_START + timedelta(days=first // SLOTS),
        network=network,
        power_w=p,
        reactive_power_var=q,
        units=units,
    )


def load_simbench(code: str) -> Any:
    """Load a SimBench grid as pandapower net.

    Raises:
        ConversionError: there is no such grid.
    """
    return deepcopy(_net(code))


@lru_cache(maxsize=1)
def _net(code: str) -> Any:
    """Return a grid as it was read; 3 s of tables, and whoever wants a grid twice wants it at once."""
    import simbench

    if code not in simbench.collect_all_simbench_codes():
        raise ConversionError(code, ["no such SimBench code; an example is 1-MV-rural--0-sw"])
    return simbench.get_simbench_net(code)


def _first_slot(net: Any, day: str, code: str) -> int:
    if day in MONTHS:
        surplus = _surplus_of_the_year(net).reshape(-1, SLOTS)
        extreme = surplus.max(axis=1) if day == "sunny" else -surplus.min(axis=1)
        season = [k for k in range(len(extreme)) if (YEAR_START + timedelta(days=k)).month in MONTHS[day]]
        return season[int(extreme[season].argmax())] * SLOTS
    chosen = profile_date(code, day)
    assert chosen is not None
    return (chosen - YEAR_START).days * SLOTS


def profile_date(code: str, day: str) -> date | None:
    """Return the date of a day of the profile year, None for winter and sunny, which the profiles decide.

    Raises:
        ConversionError: no such day.
    """
    if day in MONTHS:
        return None
    try:
        chosen = date.fromisoformat(day if len(day) > 5 else f"{YEAR_START.year}-{day}")
    except ValueError as error:
        raise ConversionError(code, [f"day {day!r} is no date (2016-06-15), nor winter nor sunny"]) from error
    if chosen.year != YEAR_START.year:
        raise ConversionError(code, [f"day {day}: the profiles are of {YEAR_START.year}"])
    return chosen


def _surplus_of_the_year(net: Any) -> NDArray[np.float64]:
    """Generation less load of the whole grid per quarter-hour of the year, MW."""
    total = np.zeros(len(net.profiles["load"]))
    for table, sources, sign in TABLES:
        rows = net[table][net[table].in_service]
        if len(rows):
            weights = (rows.p_mw * rows.scaling).groupby(rows.profile).sum()
            for profile, weight in weights.items():
                total += sign * weight * _series(net, sources, str(profile) + ("_pload" if table == "load" else ""))
    return total


def _series(net: Any, sources: tuple[str, ...], column: str) -> NDArray[np.float64]:
    for source in sources:
        table = net.profiles[source]
        if column in table:
            return np.asarray(table[column].to_numpy(dtype=float))
    raise ConversionError("simbench", [f"profile {column} is missing"])


def _units(net: Any, network: NetworkModelPublished, first: int, slots: int) -> Iterator[ConnectedUnit]:
    day = np.arange(first, first + slots) % len(net.profiles["load"])
    buses = {bus.bus_id for bus in network.buses}
    for table, sources, sign in TABLES:
        rows = net[table][net[table].in_service]
        for row in rows.itertuples():
            if bus_id_of(row.bus) not in buses:
                continue
            scale = sign * row.scaling * 1e6
            if table == "load":
                p = row.p_mw * _series(net, sources, f"{row.profile}_pload")[day]
                q = row.q_mvar * _series(net, sources, f"{row.profile}_qload")[day]
            else:
                p = row.p_mw * _series(net, sources, row.profile)[day]
                q = np.full(slots, float(row.q_mvar))
            yield ConnectedUnit(
                unit_id=f"{table}{row.Index}",
                name=str(row.name),
                bus_id=bus_id_of(row.bus),
                kind=_kind(table, row.profile),
                profile=row.profile,
                rated_power_va=round(abs(row.sn_mva if row.sn_mva == row.sn_mva else row.p_mw) * 1e6),
                power_w=tuple(np.rint(scale * p).astype(int).tolist()),
                reactive_power_var=tuple(np.rint(scale * q).astype(int).tolist()),
            )


def _kind(table: str, profile: str) -> AssetKind:
    if table == "storage":
        return AssetKind.BATTERY
    if table == "sgen" and profile.startswith("lv_"):
        return AssetKind.PV  # generation of a low-voltage grid: roofs
    return next((kind for prefix, kind in KIND_BY_PREFIX if profile.startswith(prefix)), AssetKind.LOAD)
