"""A converted network must give the power flow of the library it came from, branch by branch."""

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearing.convert.errors import ConversionError
from clearing.power_flow import solve_ac
from flexbus.events.grid import NetworkModelPublished

__all__ = ["differences_to_pandapower", "solve_with_pandapower"]

Real = NDArray[np.float64]

VOLTAGE_PU = 1e-7
POWER_MW = 1e-5
CURRENT_KA = 1e-7


def solve_with_pandapower(net: Any) -> Any:
    """Return a copy of the net with pandapower's power flow in it.

    The stored loads are taken, or a tenth of them, or none, whichever converges first; ``scaling`` of the copy
    says which.

    Raises:
        ConversionError: not even the empty grid converges.
    """
    import pandapower as pp

    solved = copy.copy(net)  # tables are replaced below, never changed in place
    for scale in (1.0, 0.1, 0.0):
        for table in ("load", "sgen", "storage"):
            solved[table] = net[table].assign(scaling=net[table].scaling * scale)
        try:
            pp.runpp(solved, calculate_voltage_angles=True, tolerance_mva=1e-9, max_iteration=50, numba=False)
        except pp.LoadflowNotConverged:
            continue
        return solved
    raise ConversionError("pandapower", ["its power flow does not converge even without load"])


def differences_to_pandapower(ref: Any, network: NetworkModelPublished, p_w: Real, q_var: Real) -> list[str]:
    """Compare the own power flow on the converted network with pandapower's results in the net.

    Args:
        ref: pandapower net with results.
        network: the same grid, converted.
        p_w: net injections the results were computed for (1 x buses), W.
        q_var: net reactive injections the results were computed for (1 x buses), var.

    Returns:
        One sentence per bus, branch or infeed point that differs; empty when all agree.
    """
    state = solve_ac(network, p_w, q_var)
    if not state.converged.all():
        return ["own power flow does not converge where pandapower's does"]
    found: list[str] = []

    def compare(what: str, own: float, theirs: float, limit: float, unit: str) -> None:
        if abs(own - (0.0 if np.isnan(theirs) else theirs)) > limit:
            found.append(f"{what}: {own:.9g} {unit} here, {theirs:.9g} {unit} in pandapower")

    for k, bus in enumerate(network.buses):
        own = abs(state.voltage_pu[0, k])
        compare(bus.bus_id, own, ref.res_bus.vm_pu.at[int(bus.bus_id[3:])], VOLTAGE_PU, "pu")
    for k, branch in enumerate(network.branches):
        if not branch.closed:
            continue
        kind = branch.kind.value.lower()
        row = int(branch.branch_id[len(kind) :])
        if kind == "switch":
            continue
        table, ends = (ref.res_line, ("from", "to")) if kind == "line" else (ref.res_trafo, ("hv", "lv"))
        flows = (
            (state.p_from_w[0, k], state.q_from_var[0, k], state.i_from_a[0, k]),
            (state.p_to_w[0, k], state.q_to_var[0, k], state.i_to_a[0, k]),
        )
        for end, (p, q, amps) in zip(ends, flows, strict=True):
            compare(f"{branch.branch_id} p_{end}", p / 1e6, table[f"p_{end}_mw"].at[row], POWER_MW, "MW")
            compare(f"{branch.branch_id} q_{end}", q / 1e6, table[f"q_{end}_mvar"].at[row], POWER_MW, "Mvar")
            compare(f"{branch.branch_id} i_{end}", amps / 1e3, table[f"i_{end}_ka"].at[row], CURRENT_KA, "kA")
    for k, point in enumerate(network.infeed_points):
        row = int(point.infeed_id[6:])
        compare(point.infeed_id, state.root_p_w[0, k] / 1e6, ref.res_ext_grid.p_mw.at[row], POWER_MW, "MW")
    return found
