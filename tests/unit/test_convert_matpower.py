"""MATPOWER cases against pandapower's power flow on the same tables, and published figures of the cases."""

from pathlib import Path
from typing import Any

import numpy as np
import pandapower as pp
import pandapower.networks as pn
import pytest
from pandapower.converter.pypower.from_ppc import from_ppc

from clearing.convert import ConversionError
from clearing.convert.matpower import find_matpower, network_from_matpower, read_matpower, units_from_matpower
from clearing.power_flow import AcState, solve_ac

RADIAL = ["case33bw", "case69", "case85", "case118zh", "case141", "case533mt_hi", "case1197"]


def solved(name: str) -> tuple[dict[str, Any], AcState]:
    mpc = read_matpower(find_matpower(name))
    network = network_from_matpower(mpc, area_id="a", network_id=name)
    bus = mpc["bus"]
    state = solve_ac(network, -bus[None, :, 2] * 1e6, -bus[None, :, 3] * 1e6)
    return mpc, state


@pytest.mark.parametrize("name", RADIAL)
def test_radial_cases_against_newton(name: str) -> None:
    mpc, state = solved(name)
    ppc = {"version": "2", "baseMVA": float(mpc["baseMVA"]), "bus": mpc["bus"].copy(), "gen": mpc["gen"].copy()}
    ppc["branch"] = mpc["branch"][:, :11].copy()
    # pandapower wants a series impedance; case141 has a branch without.
    bare = (ppc["branch"][:, 2] == 0) & (ppc["branch"][:, 3] == 0)
    ppc["branch"][bare, 3] = 1e-9
    net = from_ppc(ppc, f_hz=50, validate_conversion=False)
    pp.runpp(net, tolerance_mva=1e-9, numba=False, max_iteration=30, calculate_voltage_angles=True)
    assert state.converged.all()
    assert np.abs(np.abs(state.voltage_pu[0]) - net.res_bus.vm_pu.to_numpy()).max() < 1e-8
    assert state.root_p_w.sum() / 1e6 == pytest.approx(net.res_ext_grid.p_mw.sum(), abs=1e-6)


def test_case33_as_published() -> None:
    # Baran and Wu 1989: 202.7 kW of losses, lowest voltage 0.9131 pu at bus 18.
    _, state = solved("case33bw")
    assert state.losses_w()[0] == pytest.approx(202_677, abs=20)
    assert np.abs(state.voltage_pu[0]).min() == pytest.approx(0.9131, abs=5e-5)
    assert np.abs(state.voltage_pu[0]).argmin() == 17


def test_case33_is_that_of_pandapower() -> None:
    _, state = solved("case33bw")
    net = pn.case33bw()
    pp.runpp(net, tolerance_mva=1e-9, numba=False)
    assert np.abs(np.abs(state.voltage_pu[0]) - net.res_bus.vm_pu.to_numpy()).max() < 1e-7


def test_units_keep_the_peak() -> None:
    mpc = read_matpower(find_matpower("case33bw"))
    units = units_from_matpower(mpc, "winter")
    assert sum(min(u.power_w) for u in units) == -3_715_000
    assert all(len(u.power_w) == 96 for u in units)


@pytest.mark.parametrize(
    ("statement", "word"),
    [
        ("mpc.bus(:, PD) = foo(mpc.bus(:, PD));", "foo"),
        ("if true", "only assignments"),
        ("mpc.dcline = [1 2 1];", "dcline"),
        ("mpc.bus(:, [PD QD]) = __import__('os');", "not understood"),
        ("mpc.bus = [0];", "mpc.bus: 1 columns, at least 13"),
        ("mpc.gen = [1 2 3];", "mpc.gen: 3 columns, at least 8"),
        ("mpc.branch = 4;", "mpc.branch: is no table"),
        ("mpc.baseMVA = 0;", "no power base"),
        ("mpc.bus(2, BASE_KV) = 0;", "no nominal voltage"),
        ("mpc.branch(3, RATE_A) = 1 * 1e308;", "row 3 holds something that is no number, or far too large"),
        ("mpc.branch(3, [F_BUS BR_STATUS]) = 99;", "branch 3: bus 99 is missing"),
    ],
)
def test_what_is_not_understood_is_an_error(tmp_path: Path, statement: str, word: str) -> None:
    path = tmp_path / "casex.m"
    path.write_text(find_matpower("case33bw").read_text() + "\n" + statement + "\n")
    with pytest.raises(ConversionError, match=word):
        network_from_matpower(read_matpower(path), area_id="a", network_id="x")


def test_a_branch_out_of_service_may_end_at_a_bus_that_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "casex.m"
    text = find_matpower("case33bw").read_text()
    path.write_text(f"{text}\nmpc.branch(37, F_BUS) = 99;\nmpc.branch(37, BR_STATUS) = 0;\n")
    network = network_from_matpower(read_matpower(path), area_id="a", network_id="x")
    assert len(network.branches) == 36


def test_voltage_controlled_generators_are_named() -> None:
    with pytest.raises(ConversionError, match="gen 2 at bus 2"):
        network_from_matpower(read_matpower(find_matpower("case9")), area_id="a", network_id="x")


def test_no_such_case() -> None:
    with pytest.raises(ConversionError, match="no such file"):
        find_matpower("case0")
