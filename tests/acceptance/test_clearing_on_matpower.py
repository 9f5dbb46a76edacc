"""Cleared dispatches on the public radial cases and on random feeders hold in external Newton power flows.

The dispatch is taken from case and result alone; the grid goes from MATPOWER's raw tables into pandapower, and from
the published network model into power-grid-model.
"""

from typing import Any

import numpy as np
import pandapower as pp
import pytest
from pandapower.converter.pypower.from_ppc import from_ppc

from clearing import Case, Result, clear
from clearing.convert.cases import convert_case
from clearing.convert.matpower import find_matpower, read_matpower
from clearing.result import LimitKind
from tests.acceptance.test_clearing_on_simbench import injections
from tests.clearing_cases import market_day
from tests.unit.test_power_flow import by_power_grid_model

# Slots: fewer on the large grids, to spare time.
CASES = {
    "case33bw": 8,
    "case69": 8,
    "case85": 8,
    "case118zh": 4,
    "case141": 4,
    "case533mt_hi": 2,
    "case1197": 1,
}
VOLTAGE_PU, POWER_MW = 1e-6, 1e-5


def raw_net(name: str) -> Any:
    mpc = read_matpower(find_matpower(name))
    ppc = {"version": "2", "baseMVA": float(mpc["baseMVA"]), "bus": mpc["bus"].copy(), "gen": mpc["gen"].copy()}
    ppc["branch"] = mpc["branch"][:, :11].copy()
    bare = (ppc["branch"][:, 2] == 0) & (ppc["branch"][:, 3] == 0)
    ppc["branch"][bare, 3] = 1e-9
    ppc["bus"][:, 2:4] = 0.0
    net = from_ppc(ppc, f_hz=50, validate_conversion=False)
    net.sgen_of_bus = {f"bus{int(b)}": pp.create_sgen(net, b, 0.0, 0.0) for b in net.bus.index}
    return net, [f"bus{int(b)}" for b in mpc["bus"][:, 0]]


def newton(net: Any, power: dict[str, np.ndarray], names: list[str], t: int) -> tuple[np.ndarray, float]:
    order = list(net.bus.index)
    for bus, name in zip(order, names, strict=True):
        s = complex(power[name][t]) / 1e6 if name in power else 0j
        net.sgen.loc[net.sgen_of_bus[f"bus{int(bus)}"], ["p_mw", "q_mvar"]] = s.real, s.imag
    pp.runpp(net, tolerance_mva=1e-9, numba=False, max_iteration=30, calculate_voltage_angles=True)
    return net.res_bus.vm_pu.to_numpy(), float(net.res_ext_grid.p_mw.sum())


def check_voltages(case: Case, result: Result, names: list[str], v: np.ndarray, t: int) -> None:
    published = {b.bus_id: b.voltage_ppm[t] / 1e6 for b in result.buses}
    assert max(abs(published[n] - x) for n, x in zip(names, v, strict=True)) < VOLTAGE_PU
    named = {(s.kind, s.element_id): s.amount / 1e6 for s in result.slots[t].shortfalls}
    band = {b.bus_id: (b.min_voltage_ppm / 1e6, b.max_voltage_ppm / 1e6) for b in case.network.buses}
    held = {p.bus_id for p in case.network.infeed_points}
    for name, x in zip(names, v, strict=True):
        if name not in held:
            assert x - band[name][1] <= named.get((LimitKind.VOLTAGE_MAX, name), 0.0) + VOLTAGE_PU, (t, name)
            assert band[name][0] - x <= named.get((LimitKind.VOLTAGE_MIN, name), 0.0) + VOLTAGE_PU, (t, name)


# `make test` has the smallest, the one that breaks its limits, and one between them.
SOME = {"case33bw", "case141", "case1197"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.long] * (n not in SOME)) for n in CASES])
def test_radial_case_holds_in_newton(name: str) -> None:
    case = convert_case("matpower", name, slots=CASES[name], offers=40, seed=3)
    result = clear(case)
    power = injections(case, result)
    net, names = raw_net(name)
    for t in range(case.slots):
        v, root_mw = newton(net, power, names, t)
        check_voltages(case, result, names, v, t)
        assert root_mw == pytest.approx(sum(p.power_w[t] for p in result.infeed_points) / 1e6, abs=POWER_MW)
        total = sum(float(s[t].real) for s in power.values()) / 1e6
        assert root_mw + total == pytest.approx(result.slots[t].losses_w / 1e6, abs=POWER_MW)
        for point in case.network.infeed_points:
            over = {(s.kind, s.element_id): s.amount / 1e6 for s in result.slots[t].shortfalls}
            if point.max_import_w is not None:
                most = point.max_import_w / 1e6 + over.get((LimitKind.IMPORT, point.infeed_id), 0.0)
                assert root_mw <= most + POWER_MW
    assert any(any(o.quantity) for o in result.offers), "nothing was taken: the test would prove nothing"


@pytest.mark.parametrize("seed", range(6))
def test_random_feeder_holds_in_power_grid_model(seed: int) -> None:
    case = market_day(100 + seed, 20 + 7 * seed, 6, 40, price=(0, 45_000, -20_000)[seed % 3], feed_in=22e6)
    result = clear(case)
    power = injections(case, result)
    p, q = (
        np.array([[part(power.get(b.bus_id, np.zeros(6))[t]) for b in case.network.buses] for t in range(6)])
        for part in (np.real, np.imag)
    )
    voltages, _, root_p, _ = by_power_grid_model(case.network, p, q)
    names = [b.bus_id for b in case.network.buses]
    for t in range(case.slots):
        check_voltages(case, result, names, np.abs(voltages[t]), t)
        assert root_p[t].sum() / 1e6 == pytest.approx(result.infeed_points[0].power_w[t] / 1e6, abs=POWER_MW)
    assert any(any(o.quantity) for o in result.offers), "nothing was taken: the test would prove nothing"
