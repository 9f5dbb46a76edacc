"""A pandapower net as `NetworkModelPublished`, checked branch by branch against pandapower's own power flow.

Electrical parameters come from pandapower's own branch matrix (`_ppc`), so that its conventions (tap changers,
magnetising branch, parallel systems) hold exactly; topology, names, limits and switches come from the tables.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearing.convert.errors import ConversionError
from clearing.convert.units import ConnectedUnit, static_unit
from clearing.convert.verify import differences_to_pandapower, solve_with_pandapower
from flexbus.events.grid import Branch, BranchKind, Bus, InfeedPoint, NetworkModelPublished

__all__ = [
    "bus_id_of",
    "injections_from_pandapower",
    "network_from_pandapower",
    "read_pandapower",
    "units_from_pandapower",
]

# Tables that are carried over, and tables that hold no equipment.
CARRIED = frozenset({"bus", "line", "trafo", "switch", "load", "sgen", "storage", "ext_grid", "shunt"})
NO_EQUIPMENT = frozenset(
    {
        "bus_geodata",
        "characteristic",
        "group",
        "line_geodata",
        "loadcases",
        "measurement",
        "poly_cost",
        "pwl_cost",
        "substation",
        "trafo_characteristic_table",
        "q_capability_curve_table",
        "q_capability_characteristic",
        "shunt_characteristic_table",
    }
)
DEFAULT_BAND = (0.9, 1.1)  # EN 50160


def read_pandapower(path: str) -> Any:
    """Read a net that pandapower saved as JSON.

    Raises:
        ConversionError: the file is not such a net.
    """
    import pandapower as pp

    if not Path(path).is_file():
        raise ConversionError(path, ["there is no such file"])
    try:
        net = pp.from_json(path)
    except Exception as error:  # whatever the library trips over, the file is at fault
        raise ConversionError(path, [f"not a pandapower net in JSON: {error}"]) from error
    if not isinstance(net, pp.pandapowerNet):
        raise ConversionError(path, ["not a pandapower net in JSON"])
    return net


def bus_id_of(index: int) -> str:
    """Return the bus id of a row of ``net.bus``."""
    return f"bus{index}"


def network_from_pandapower(
    net: Any, *, area_id: str, network_id: str, name: str = "", valid_from_ms: int = 0
) -> NetworkModelPublished:
    """Convert a net.

    Args:
        net: pandapower net; buses out of service are left out, branches out of service become open.
        area_id: market area the network is for.
        network_id: identifier of the network model.
        name: name for people.
        valid_from_ms: start of validity, UTC ms.

    Raises:
        ConversionError: elements that have no place in the model, each named; or the converted network does
            not give pandapower's power flow.
    """
    faults = list(_unsupported(net))
    if faults:
        raise ConversionError(name or network_id, faults)
    solved = solve_with_pandapower(net)
    branches, shunts = _branches(net, solved)
    for row in net.shunt[net.shunt.in_service].itertuples():
        shunts[row.bus] = shunts.get(row.bus, 0) + complex(row.p_mw, -row.q_mvar) * row.step / row.vn_kv**2
    network = NetworkModelPublished(
        area_id=area_id,
        network_id=network_id,
        revision=1,
        name=name,
        valid_from_ms=valid_from_ms,
        buses=tuple(_buses(net, shunts)),
        branches=tuple(branches),
        infeed_points=tuple(
            InfeedPoint(
                infeed_id=f"infeed{row.Index}",
                bus_id=bus_id_of(row.bus),
                voltage_ppm=round(row.vm_pu * 1e6),
                angle_deg=float(row.va_degree),
            )
            for row in net.ext_grid[net.ext_grid.in_service].itertuples()
        ),
    )
    faults = differences_to_pandapower(solved, network, *injections_from_pandapower(solved, network))
    if faults:
        raise ConversionError(name or network_id, faults)
    return network


def injections_from_pandapower(
    net: Any, network: NetworkModelPublished
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the net injections stored in the net's tables, (1 x buses) W and var, positive = feed-in."""
    index = {bus.bus_id: k for k, bus in enumerate(network.buses)}
    s = np.zeros(len(index), dtype=complex)
    for table, sign in (("load", -1), ("sgen", 1), ("storage", -1)):
        rows = net[table]
        for row in rows[rows.in_service].itertuples():
            k = index.get(bus_id_of(row.bus))
            if k is not None:
                s[k] += sign * complex(row.p_mw, row.q_mvar) * row.scaling * 1e6
    return s.real[None, :].copy(), s.imag[None, :].copy()


def units_from_pandapower(net: Any, network: NetworkModelPublished, day: str) -> tuple[ConnectedUnit, ...]:
    """Return what is connected, with a made-up day (winter or sunny) around the stored values."""
    buses = {bus.bus_id for bus in network.buses}
    units = []
    for table, sign in (("load", -1), ("sgen", 1), ("storage", -1)):
        rows = net[table]
        for row in rows[rows.in_service].itertuples():
            power = sign * complex(row.p_mw, row.q_mvar) * row.scaling * 1e6
            if bus_id_of(row.bus) in buses and power:
                units.append(
                    static_unit(
                        unit_id=f"{table}{row.Index}",
                        name=_text(row.name),
                        bus_id=bus_id_of(row.bus),
                        power_va=power,
                        generation=power.real > 0,
                        day=day,
                    )
                )
    return tuple(units)


def _unsupported(net: Any) -> Iterator[str]:
    import pandas as pd

    for table, rows in net.items():
        if table.startswith(("_", "res_")) or not isinstance(rows, pd.DataFrame) or table in NO_EQUIPMENT:
            continue
        if table not in CARRIED:
            live = rows[rows.in_service.astype(bool)] if "in_service" in rows else rows
            for index in live.index:
                yield f"{table} {index} ({live.get('name', {}).get(index)}): this kind of element is not supported"
    for column in ("const_z_p_percent", "const_i_p_percent", "const_z_q_percent", "const_i_q_percent"):
        if column in net.load:
            for index in net.load.index[net.load.in_service & (net.load[column].fillna(0) != 0)]:
                yield f"load {index}: voltage dependent ({column}); only constant power is supported"
    if "step_dependency_table" in net.shunt:
        for index in net.shunt.index[net.shunt.in_service & net.shunt.step_dependency_table.fillna(False)]:
            yield f"shunt {index}: step table is not supported"
    for index in net.switch.index[net.switch.et.eq("t3")]:
        yield f"switch {index}: at a three-winding transformer"
    if not net.ext_grid.in_service.any():
        yield "no ext_grid in service: the grid has no infeed point"


def _buses(net: Any, shunts: dict[int, complex]) -> Iterator[Bus]:
    for row in net.bus[net.bus.in_service].itertuples():
        low, high = getattr(row, "min_vm_pu", np.nan), getattr(row, "max_vm_pu", np.nan)
        x, y = _position(net, row)
        shunt = shunts.get(row.Index, 0j)
        zone = getattr(row, "zone", None)
        yield Bus(
            bus_id=bus_id_of(row.Index),
            name=_text(row.name) if hasattr(row, "name") else "",
            nominal_voltage_v=round(row.vn_kv * 1000),
            min_voltage_ppm=round((DEFAULT_BAND[0] if np.isnan(low) else low) * 1e6),
            max_voltage_ppm=round((DEFAULT_BAND[1] if np.isnan(high) else high) * 1e6),
            shunt_g_s=shunt.real,
            shunt_b_s=shunt.imag,
            zone_id=_text(zone) or None,
            x=x,
            y=y,
        )


def _position(net: Any, row: Any) -> tuple[float | None, float | None]:
    geo = getattr(row, "geo", None)
    if isinstance(geo, str):
        x, y = json.loads(geo)["coordinates"][:2]
        return float(x), float(y)
    table = net.get("bus_geodata")
    if table is not None and row.Index in table.index:
        return float(table.x.at[row.Index]), float(table.y.at[row.Index])
    return None, None


def _text(value: object) -> str:
    return "" if value is None or value != value else str(value)


def _branches(net: Any, solved: Any) -> tuple[list[Branch], dict[int, complex]]:
    """Convert lines, transformers and switches; shunts (S per bus) take what a pi model cannot hold."""
    first = {name: span[0] for name, span in solved._pd2ppc_lookups["branch"].items()}
    pis = _Pis(solved._ppc)
    open_at = {(r.et, r.element, r.bus) for r in net.switch[~net.switch.closed].itertuples()}
    live = set(net.bus.index[net.bus.in_service])
    shunts: dict[int, complex] = {}
    branches: list[Branch] = []

    def add(kind: BranchKind, et: str, row: Any, f: int, t: int, at: int, i_from_a: float, i_to_a: float) -> None:
        if f not in live or t not in live:
            return
        v_from, v_to = float(net.bus.vn_kv.at[f]), float(net.bus.vn_kv.at[t])
        pi = pis.at(at, v_to)
        ends = (bool(row.in_service) and (et, row.Index, f) not in open_at, (et, row.Index, t) not in open_at)
        closed = all(ends) and bool(row.in_service)
        if closed:
            shunts[t] = shunts.get(t, 0) + pi.extra_to
        elif ends[0] and row.in_service:
            hanging = pi.half + pi.series_with(pi.half + pi.extra_to)
            shunts[f] = shunts.get(f, 0) + hanging * (v_to / v_from / pi.ratio) ** 2
        elif ends[1] and row.in_service:
            shunts[t] = shunts.get(t, 0) + pi.half + pi.extra_to + pi.series_with(pi.half)
        branches.append(
            Branch(
                branch_id=f"{kind.value.lower()}{row.Index}",
                name=_text(net[{"l": "line", "t": "trafo", "b": "switch"}[et]]["name"].at[row.Index]),
                kind=kind,
                from_bus_id=bus_id_of(f),
                to_bus_id=bus_id_of(t),
                r_ohm=pi.z.real,
                x_ohm=pi.z.imag,
                g_s=2 * pi.half.real,
                b_s=2 * pi.half.imag,
                ratio=pi.ratio,
                shift_deg=pi.shift_deg,
                closed=closed,
                max_current_ma=_milli(i_to_a),
                max_from_current_ma=_milli(i_from_a),
            )
        )

    for k, row in enumerate(net.line.itertuples()):
        amps = row.max_i_ka * 1e3 * row.df * row.parallel * _share(row)
        add(BranchKind.LINE, "l", row, row.from_bus, row.to_bus, first["line"] + k, amps, amps)
    for k, row in enumerate(net.trafo.itertuples()):
        amps = row.sn_mva * 1e3 / 3**0.5 * row.parallel * row.df * _share(row)
        limits = (amps / row.vn_hv_kv, amps / row.vn_lv_kv)
        add(BranchKind.TRANSFORMER, "t", row, row.hv_bus, row.lv_bus, first["trafo"] + k, *limits)
    branches.extend(_switches(net, live))
    return branches, shunts


class _Pi:
    """One row of the branch matrix, in ohm and siemens at the to side."""

    def __init__(self, row: Any, z_base: float) -> None:
        from pandapower.pypower.idx_brch import (
            BR_B,
            BR_B_ASYM,
            BR_G,
            BR_G_ASYM,
            BR_R,
            BR_X,
            SHIFT,
            TAP,
        )

        real = np.real(row)
        self.z = complex(real[BR_R], real[BR_X]) * z_base
        self.half = complex(real[BR_G], real[BR_B]) / z_base / 2
        self.extra_to = complex(real[BR_G_ASYM], real[BR_B_ASYM]) / z_base / 2
        self.ratio = float(real[TAP]) or 1.0
        self.shift_deg = float(real[SHIFT])

    def series_with(self, y: complex) -> complex:
        """Admittance of the series impedance and y behind it."""
        return y / (1 + y * self.z)


class _Pis:
    def __init__(self, ppc: Any) -> None:
        self._rows, self._base_mva = ppc["branch"], ppc["baseMVA"]

    def at(self, k: int, v_kv: float) -> _Pi:
        return _Pi(self._rows[k], v_kv**2 / self._base_mva)


def _share(row: Any) -> float:
    percent = getattr(row, "max_loading_percent", np.nan)
    return 1.0 if np.isnan(percent) else percent / 100


def _milli(amps: float) -> int | None:
    # pandapower writes "no limit" as a very large current; rounded down, so never looser than the source.
    return None if np.isnan(amps) or amps >= 9e4 else int(np.floor(amps * 1e3 + 1e-6))


def _switches(net: Any, live: set[int]) -> Iterator[Branch]:
    for row in net.switch[net.switch.et == "b"].itertuples():
        if row.bus not in live or row.element not in live:
            continue
        z = float(getattr(row, "z_ohm", 0.0) or 0.0)
        if z != z:
            z = 0.0
        # pandapower's own split of a switch impedance (switch_rx_ratio = 2).
        r = z * 2 / 5**0.5
        limit = float(getattr(row, "in_ka", np.nan))
        amps = _milli(limit * 1e3)
        yield Branch(
            branch_id=f"switch{row.Index}",
            name=_text(net.switch["name"].at[row.Index]) if "name" in net.switch else "",
            kind=BranchKind.SWITCH,
            from_bus_id=bus_id_of(row.bus),
            to_bus_id=bus_id_of(row.element),
            r_ohm=r,
            x_ohm=r / 2,
            closed=bool(row.closed),
            max_current_ma=amps,
            max_from_current_ma=amps,
        )
