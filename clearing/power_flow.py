"""Independent AC power flow, vectorised over slots; shares no code with the formulation it judges.

Model: balanced, constant power, one complex voltage per bus. A branch is an ideal transformer
``a = ratio * exp(1j * shift)`` at its from side, then a pi section of series admittance y and shunt ys, half
at each end::

    i_from = ((y + ys/2) * v_from / a - y * v_to) / conj(a)
    i_to   =  (y + ys/2) * v_to - y * v_from / a

Method: the fixed point ``v = Y_LL^-1 (conj(s / v) - Y_LS v_S)`` with one sparse factorisation for all slots.
On a radial grid this is the backward/forward sweep (the factors of a tree have no fill-in); meshes, several
infeed points and transformers need nothing more. Slots that do not contract go to Newton's method one by one.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from clearing.factors import Factors
from clearing.newton import newton, transposed_solve
from flexbus.errors import FlexbusError
from flexbus.events.grid import NetworkModelPublished

__all__ = ["AcGrid", "AcState", "PowerFlowInputError", "ac_grid", "solve_ac"]

Complex = NDArray[np.complexfloating[Any, Any]]
Real = NDArray[np.float64]
Index = NDArray[np.int_]

BASE_VA = 1e6
SQRT3 = 3.0**0.5
# Contraction is fast (factor about the voltage drop in pu) or not there at all; Newton takes what is left.
SWEEPS = 60
# Largest last step of any voltage.
TOLERANCE_PU = 1e-12


class Factorised(Protocol):
    """Factors of a square matrix, from its size and its entries."""

    def __init__(self, size: int, row: Index, column: Index, value: Complex) -> None: ...

    def solve(self, right: Complex) -> Complex:
        """Return x with ``matrix @ x = right``."""

    def solve_transposed(self, right: Complex) -> Complex:
        """Return x with ``matrix.T @ x = right``."""


class PowerFlowInputError(FlexbusError):
    """The network or the injections cannot be given to the power flow; the text names the element."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcState:
    """AC operating points, one per slot; rows of slots that did not converge are NaN.

    Args:
        voltage_pu: complex voltages (slots x buses), per unit of nominal; 0 at de-energised buses.
        p_from_w: power entering each branch at its from side (slots x branches), W; 0 on open branches.
        q_from_var: reactive power entering each branch at its from side (slots x branches), var.
        p_to_w: power entering each branch at its to side (slots x branches), W.
        q_to_var: reactive power entering each branch at its to side (slots x branches), var.
        i_from_a: current magnitude at the from side (slots x branches), A.
        i_to_a: current magnitude at the to side (slots x branches), A.
        root_p_w: power per infeed point (slots x infeed points), W; positive = entering from upstream.
        root_q_var: reactive power per infeed point, var; positive = entering from upstream.
        loading_ppm: worst ratio to the branch's limits (slots x branches), ppm; NaN = has no limit.
        converged: whether the slot was solved to the tolerance (slots).
        energised: whether a bus is connected to an infeed point (buses); injections elsewhere are ignored.
    """

    voltage_pu: Complex
    p_from_w: Real
    q_from_var: Real
    p_to_w: Real
    q_to_var: Real
    i_from_a: Real
    i_to_a: Real
    root_p_w: Real
    root_q_var: Real
    loading_ppm: Real
    converged: NDArray[np.bool_]
    energised: NDArray[np.bool_]

    def losses_w(self) -> Real:
        """Active losses in branches per slot, W (slots)."""
        return np.asarray((self.p_from_w + self.p_to_w).sum(axis=1))


class AcGrid:
    """A network prepared for many power flows: admittances, fused zero-impedance branches, factors.

    Args:
        network: the network model; its order of buses, branches and infeed points is that of all arrays.
        factors: what factorises the admittance matrix.

    Raises:
        PowerFlowInputError: unknown buses, a zero-impedance branch with a ratio, infeed points that disagree.
    """

    def __init__(self, network: NetworkModelPublished, factors: type[Factorised] = Factors) -> None:
        self.network = network
        self._factors = factors
        buses, branches = network.buses, network.branches
        index = {bus.bus_id: k for k, bus in enumerate(buses)}
        self._nominal_v = np.array([b.nominal_voltage_v for b in buses], dtype=float)
        self._from = np.array([_find(index, b.from_bus_id, b.branch_id) for b in branches], dtype=int)
        self._to = np.array([_find(index, b.to_bus_id, b.branch_id) for b in branches], dtype=int)
        self._root = np.array([_find(index, p.bus_id, p.infeed_id) for p in network.infeed_points], dtype=int)
        self._root_v = np.array(
            [p.voltage_ppm / 1e6 * np.exp(1j * np.deg2rad(p.angle_deg)) for p in network.infeed_points]
        )
        closed = np.array([b.closed for b in branches], dtype=bool)
        z = np.array([complex(b.r_ohm, b.x_ohm) for b in branches], dtype=complex)
        ys = np.array([complex(b.g_s, b.b_s) for b in branches], dtype=complex)
        ratio = np.array([b.ratio * np.exp(1j * np.deg2rad(b.shift_deg)) for b in branches], dtype=complex)
        self._refuse_bad_zero_impedance(z, ratio, closed)

        z_base = self._nominal_v[self._to] ** 2 / BASE_VA
        self._bonds = np.flatnonzero(closed & (z == 0))
        live = closed & (z != 0)
        self._closed = closed
        y = np.zeros(len(branches), dtype=complex)
        y[live] = z_base[live] / z[live]
        half = np.where(closed, ys * z_base / 2, 0)
        n = len(buses)
        self._node = self._fuse(n)
        nodes = int(self._node.max(initial=-1)) + 1
        self._nodes = nodes
        # Admittances seen at both ends; a bond keeps only its charging, the balance gives its current.
        y_ff = (y + half) / np.abs(ratio) ** 2
        y_ft = -y / np.conj(ratio)
        y_tf = -y / ratio
        y_tt = y + half
        self._ends = self._node[self._from], self._node[self._to]
        self._terms = y_ff, y_ft, y_tf, y_tt
        self._shunt = np.array([complex(b.shunt_g_s, b.shunt_b_s) for b in buses]) * self._nominal_v**2 / BASE_VA
        self._split(live)
        self._limits()

    def _refuse_bad_zero_impedance(self, z: Complex, ratio: Complex, closed: NDArray[np.bool_]) -> None:
        for k in np.flatnonzero(closed & (z == 0)):
            branch = self.network.branches[k]
            if ratio[k] != 1 or self._nominal_v[self._from[k]] != self._nominal_v[self._to[k]]:
                raise PowerFlowInputError(
                    f"{branch.branch_id}: zero impedance needs ratio 1, shift 0 and one nominal voltage"
                )

    def _fuse(self, n: int) -> Index:
        """Number the electrical nodes: buses joined by zero-impedance branches are one."""
        pairs = (self._from[self._bonds], self._to[self._bonds])
        return _islands(n, *pairs)

    def _entries(self) -> tuple[Index, Index, Complex]:
        """Return row, column and value of the entries of the nodal admittance matrix; those at one place add up."""
        (f, t), closed = self._ends, self._closed
        row = np.concatenate([f[closed], f[closed], t[closed], t[closed], self._node])
        column = np.concatenate([f[closed], t[closed], f[closed], t[closed], self._node])
        return row, column, np.concatenate([*(term[closed] for term in self._terms), self._shunt])

    def _gathered(self, values: Complex, node: Index, count: int) -> Complex:
        """Return the sums of rows per node."""
        total = np.zeros((count, values.shape[1]), dtype=complex)
        np.add.at(total, node, values)
        return total

    def _split(self, live: NDArray[np.bool_]) -> None:
        """Sort the nodes into held, to be solved and de-energised; factorise what is to be solved."""
        island = _islands(self._nodes, self._ends[0][live], self._ends[1][live])
        held = np.zeros(self._nodes, dtype=bool)
        held_v = np.zeros(self._nodes, dtype=complex)
        for point, bus, v in zip(self.network.infeed_points, self._root, self._root_v, strict=True):
            node = self._node[bus]
            if held[node] and held_v[node] != v:
                raise PowerFlowInputError(
                    f"infeed point {point.infeed_id}: holds another voltage than its zero-impedance neighbour"
                )
            held[node], held_v[node] = True, v
        fed = np.isin(island, island[held])
        self._held = np.flatnonzero(held)
        self._held_v = held_v[self._held]
        self._free = np.flatnonzero(fed & ~held)
        self._bus_of_free = np.unique(self._node, return_index=True)[1][self._free]
        self.energised: NDArray[np.bool_] = np.asarray(fed[self._node])
        place = np.full(self._nodes, -1)
        place[self._free] = np.arange(len(self._free))
        volts = np.zeros(self._nodes, dtype=complex)
        volts[self._held] = self._held_v
        row, column, value = self._entries()
        mine, held = place[row] >= 0, place[column] < 0
        inner = mine & ~held
        self._y_ff = place[row[inner]], place[column[inner]], value[inner]
        self._i_held = np.zeros(len(self._free), dtype=complex)  # what the held voltages drive out of the free nodes
        edge = mine & held
        np.add.at(self._i_held, place[row[edge]], value[edge] * volts[column[edge]])
        self._factor = self._factors(len(self._free), *self._y_ff) if len(self._free) else None
        self._no_load = self._factor.solve(-self._i_held[:, None])[:, 0] if self._factor else self._i_held
        self._bond_solver()

    def _bond_solver(self) -> None:
        """Prepare the currents of zero-impedance branches: as equal resistances, so that loops share."""
        buses = np.unique(np.r_[self._from[self._bonds], self._to[self._bonds]]).astype(int)
        self._bond_buses = buses
        if not len(buses):
            return
        position = {int(b): k for k, b in enumerate(buses)}
        rows = np.arange(len(self._bonds))
        f = np.array([position[int(b)] for b in self._from[self._bonds]])
        t = np.array([position[int(b)] for b in self._to[self._bonds]])
        incidence = np.zeros((len(rows), len(buses)))
        incidence[rows, f] += 1.0
        incidence[rows, t] -= 1.0
        _, first = np.unique(self._node[buses], return_index=True)
        keep = np.setdiff1d(np.arange(len(buses)), first)
        self._bond_keep = keep
        # Currents per demand: couplers of a busbar are few.
        self._bond_share = np.linalg.pinv(incidence[:, keep].T)

    def _limits(self) -> None:
        branches = self.network.branches

        def column(values: list[int | None], unit: float) -> Real:
            return np.array([np.nan if v is None else v * unit for v in values], dtype=float)

        self._max_i_to = column([b.max_current_ma for b in branches], 1e-3)
        self._max_i_from = column([b.max_from_current_ma for b in branches], 1e-3)
        self._max_s = column([b.max_apparent_power_va for b in branches], 1.0)

    @property
    def nodes(self) -> int:
        """Number of electrical nodes; buses joined by zero-impedance branches are one."""
        return self._nodes

    @property
    def node_of_bus(self) -> Index:
        """Node of every bus."""
        return self._node

    @property
    def free(self) -> Index:
        """Nodes whose voltage is solved for."""
        return self._free

    def row(self, node: int) -> tuple[Index, Complex]:
        """Return nodes and entries of a row of the nodal admittance matrix, per unit of 1 MVA."""
        row, column, value = self._entries()
        mine = row == node
        nodes, place = np.unique(column[mine], return_inverse=True)
        total = np.zeros(len(nodes), dtype=complex)
        np.add.at(total, place, value[mine])
        return nodes, total

    def end(self, branch: int, at_from: bool) -> tuple[Index, Complex]:
        """Return nodes and entries of the current that enters a branch at an end, per unit."""
        nodes = np.array([self._ends[0][branch], self._ends[1][branch]])
        terms = self._terms[:2] if at_from else self._terms[2:]
        return nodes, np.array([terms[0][branch], terms[1][branch]])

    def adjoint(self, v: Complex, pull: Complex) -> tuple[Real, Real]:
        """Return the derivatives of functions of the voltages by what the free nodes inject, through their equations.

        The power flow turned around: with Z the inverse of the admittances, ``dv = Z conj((ds - s dv / v) / v)``, so
        that the derivative g of a function becomes ``w = Z' (conj(g) - conj(w) s / v^2)`` by the currents.

        Args:
            v: converged voltages (nodes x slots).
            pull: g with dH = Re(conj(g) . dv), one function per slot (nodes x slots).

        Returns:
            dH/dP and dH/dQ (nodes x slots), per unit; 0 at all other nodes.
        """
        by_p, by_q = np.zeros((2, *v.shape))
        if self._factor is None:
            return by_p, by_q
        inner, right = v[self._free], np.conj(pull[self._free])
        current = self._gathered(self._y_ff[2][:, None] * inner[self._y_ff[1]], self._y_ff[0], len(inner))
        bend = np.conj(current + self._i_held[:, None]) / inner
        w = np.zeros_like(right)
        for _ in range(SWEEPS):
            with np.errstate(all="ignore"):
                new = self._factor.solve_transposed(right - np.conj(w) * bend)
                step, size = np.abs(new - w).max(axis=0), np.abs(new).max(axis=0)
            w = new
            there = step <= TOLERANCE_PU * size
            if there.all():
                break
        found = w / np.conj(inner)
        by_p[self._free], by_q[self._free] = found.real, found.imag
        n = len(inner)
        for t in np.flatnonzero(~there).tolist():  # does not contract
            g, unit = right[:, t], inner[:, t] / np.abs(inner[:, t])
            both = np.r_[(g * 1j * inner[:, t]).real, (g * unit).real]
            solved = transposed_solve(self._y_ff, self._i_held, inner[:, t], both)
            by_p[self._free, t], by_q[self._free, t] = solved[:n], solved[n:]
        return by_p, by_q

    def solve(self, p_w: Real, q_var: Real, near: Complex | None = None) -> AcState:
        """Solve all slots.

        Args:
            p_w: net injections (slots x buses), W, positive = feed-in, in the order of ``network.buses``.
            q_var: net reactive injections (slots x buses), var, positive = feed-in.
            near: voltages (slots x buses), per unit, of a state that is not far; None starts without load.

        Raises:
            PowerFlowInputError: the arrays have the wrong shape or contain NaN or infinity.
        """
        s_bus = self._injections(p_w, q_var)
        slots = s_bus.shape[1]
        s = self._gathered(s_bus, self._node, self._nodes)[self._free]
        v_free, done = self._fixed_point(s, slots, None if near is None else near.T[self._bus_of_free])
        for t in np.flatnonzero(~done):
            v_free[:, t], done[t] = newton(self._y_ff, self._i_held, s[:, t], self._no_load, TOLERANCE_PU)
        v_free[:, ~done] = np.nan
        v = np.zeros((self._nodes, slots), dtype=complex)
        v[self._held] = self._held_v[:, None]
        v[self._free] = v_free
        v[:, ~done] = np.where(self._fed_nodes()[:, None], np.nan, v[:, ~done])
        return self._state(v, s_bus, done)

    def _fed_nodes(self) -> NDArray[np.bool_]:
        fed = np.zeros(self._nodes, dtype=bool)
        fed[self._held] = fed[self._free] = True
        return fed

    def _injections(self, p_w: Real, q_var: Real) -> Complex:
        p, q = np.atleast_2d(np.asarray(p_w, dtype=float)), np.atleast_2d(np.asarray(q_var, dtype=float))
        want = len(self.network.buses)
        if p.shape != q.shape or p.shape[1] != want:
            raise PowerFlowInputError(f"injections are {p.shape} and {q.shape}, expected slots x {want} buses")
        s = np.asarray((p + 1j * q).T / BASE_VA)
        if not np.isfinite(s).all():
            bad = self.network.buses[int(np.argmin(np.isfinite(s).all(axis=1)))].bus_id
            raise PowerFlowInputError(f"injection at bus {bad} is not a finite number")
        s[~self.energised] = 0
        return s

    def _fixed_point(self, s: Complex, slots: int, near: Complex | None) -> tuple[Complex, NDArray[np.bool_]]:
        if self._factor is None:
            return np.zeros((0, slots), dtype=complex), np.ones(slots, dtype=bool)
        if slots == 1:
            return self._fixed_point_one(s, near)
        start = self._no_load
        v = np.repeat(start[:, None], slots, axis=1) if near is None else near.copy()
        done = np.zeros(slots, dtype=bool)
        active = np.arange(slots)
        last = np.full(slots, np.inf)
        for _ in range(SWEEPS):
            with np.errstate(all="ignore"):
                current = np.conj(s[:, active] / v[:, active])
                current[~np.isfinite(current)] = 0
                new = start[:, None] + self._factor.solve(current)
                step = np.abs(new - v[:, active]).max(axis=0)
            v[:, active] = new
            # A slot whose steps grow, or that has collapsed, is Newton's.
            done[active[step <= TOLERANCE_PU]] = True
            hopeless = (step > 2 * last[active]) | ~np.isfinite(step)
            last[active] = step
            active = active[(step > TOLERANCE_PU) & ~hopeless]
            if not len(active):
                break
        return v, done

    def _fixed_point_one(self, s: Complex, near: Complex | None) -> tuple[Complex, NDArray[np.bool_]]:
        """Do the same for one slot (nodes x 1), without what it costs to tell many apart."""
        assert self._factor is not None
        start = self._no_load[:, None]
        v, last, step = start if near is None else near, np.inf, np.inf
        with np.errstate(all="ignore"):
            for _ in range(SWEEPS):
                current = np.conj(s / v)
                if not np.isfinite(current).all():
                    current[~np.isfinite(current)] = 0
                new = start + self._factor.solve(current)
                last, step = step, float(np.abs(new - v).max())
                v = new
                if step <= TOLERANCE_PU or step > 2 * last or not math.isfinite(step):
                    break
        return v, np.array([step <= TOLERANCE_PU])

    def _state(self, v: Complex, s_bus: Complex, done: NDArray[np.bool_]) -> AcState:
        (f, t), (y_ff, y_ft, y_tf, y_tt) = self._ends, (term[:, None] for term in self._terms)
        i_from, i_to = y_ff * v[f] + y_ft * v[t], y_tf * v[f] + y_tt * v[t]
        v_bus = v[self._node]
        root_i = self._add_bonds(v_bus, s_bus, i_from, i_to)
        s_from, s_to = v_bus[self._from] * np.conj(i_from), v_bus[self._to] * np.conj(i_to)
        s_root = v_bus[self._root] * np.conj(root_i) * BASE_VA
        amps = BASE_VA / SQRT3 / self._nominal_v
        a_from, a_to = np.abs(i_from).T * amps[self._from], np.abs(i_to).T * amps[self._to]
        s_max = np.maximum(np.abs(s_from), np.abs(s_to)).T * BASE_VA
        loading = np.fmax(np.fmax(a_from / self._max_i_from, a_to / self._max_i_to), s_max / self._max_s) * 1e6
        loading[~done] = np.nan
        return AcState(
            voltage_pu=v_bus.T,
            p_from_w=s_from.real.T * BASE_VA,
            q_from_var=s_from.imag.T * BASE_VA,
            p_to_w=s_to.real.T * BASE_VA,
            q_to_var=s_to.imag.T * BASE_VA,
            i_from_a=a_from,
            i_to_a=a_to,
            root_p_w=s_root.real.T,
            root_q_var=s_root.imag.T,
            loading_ppm=loading,
            converged=done,
            energised=self.energised,
        )

    def _add_bonds(self, v_bus: Complex, s_bus: Complex, i_from: Complex, i_to: Complex) -> Complex:
        """Add the currents of zero-impedance branches in place; return those of the infeed points."""
        with np.errstate(all="ignore"):
            n, closed = len(v_bus), self._closed
            demand = self._gathered(i_from[closed], self._from[closed], n) + self._shunt[:, None] * v_bus
            demand += self._gathered(i_to[closed], self._to[closed], n)
            demand = demand - np.where(v_bus == 0, 0, np.conj(s_bus / v_bus))
        # The infeed points of a node share its balance evenly (one per node is the normal case).
        at_node = np.bincount(self._node[self._root], minlength=self._nodes)
        node_demand = self._gathered(demand, self._node, self._nodes)
        root_i = node_demand[self._node[self._root]] / at_node[self._node[self._root]][:, None]
        if len(self._bonds):
            np.subtract.at(demand, self._root, root_i)
            flow = self._bond_share @ -demand[self._bond_buses[self._bond_keep]]
            i_from[self._bonds] += flow
            i_to[self._bonds] -= flow
        return np.asarray(root_i)


@lru_cache(maxsize=4)
def ac_grid(network: NetworkModelPublished, factors: type[Factorised] = Factors) -> AcGrid:
    """Return the prepared grid of a network; the same one for the same network."""
    return AcGrid(network, factors)


def solve_ac(network: NetworkModelPublished, p_w: Real, q_var: Real) -> AcState:
    """Solve the AC power flow of a network once; see `AcGrid` for many times.

    Args:
        network: the network model.
        p_w: net injections (slots x buses), W, positive = feed-in, in the order of ``network.buses``.
        q_var: net reactive injections (slots x buses), var, positive = feed-in.

    Raises:
        PowerFlowInputError: the network or the injections cannot be solved for, with the element.
    """
    return AcGrid(network).solve(p_w, q_var)


def _find(index: dict[str, int], bus_id: str, owner: str) -> int:
    if bus_id not in index:
        raise PowerFlowInputError(f"{owner}: bus {bus_id} is not in the network")
    return index[bus_id]


def _islands(size: int, a: Index, b: Index) -> Index:
    """Number the groups of what is joined by pairs, by their first member."""
    top = list(range(size))

    def find(k: int) -> int:
        while top[k] != k:
            top[k] = top[top[k]]
            k = top[k]
        return k

    for i, j in zip(a.tolist(), b.tolist(), strict=True):
        i, j = find(i), find(j)
        top[max(i, j)] = min(i, j)
    return np.unique([find(k) for k in range(size)], return_inverse=True)[1] if size else np.zeros(0, dtype=int)
