"""AC states of the reduced grid and the gradients of their limits with respect to injections.

The gradients come from adjoint sweeps over many slots at once, or from adjoint solves on the power flow Jacobian:
one factorisation per slot, one back-solve per limit. They hold at the AC state itself, meshed or radial, which is
what makes the prices AC-right.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import SuperLU, splu

from clearing.network import Grid
from clearing.superlu import SMALL

__all__ = ["Measure", "Measured", "PowerFlow", "State"]

Real = NDArray[np.float64]
Complex = NDArray[np.complexfloating[Any, Any]]

SWEEPS = 80
NEWTON_STEPS = 30
TOLERANCE = 1e-13
# Up to this many measures of a slot the sweeps are cheaper than factors of its Jacobian; sweeps at once.
FEW = 12
CHUNK = 1024
# Below this the sweep may hover around its fixed point without coming closer.
HOVER = 1e-12


@dataclass(frozen=True, slots=True)
class Measure:
    """A scalar of the state: what it is and of which node, branch or infeed point (index).

    Kinds: "v" magnitude, "if"/"it" current at an end, "sf"/"st" apparent power at an end, "pf" active and "qf"
    reactive power into the from side, "pt"/"qt" likewise at the to side, "root_p"/"root_q" power entering at
    an infeed point (of the whole node; several points at one node share it).
    """

    kind: str
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """AC states, slots x nodes; rows of slots that did not converge are NaN."""

    v: Complex
    s: Complex
    converged: NDArray[np.bool_]


class PowerFlow:
    """The power flow of a reduced grid: solves many slots and gives gradients at their states."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        y = grid.y_bus
        free, held = grid.free, grid.held
        self._y_fs = y[free][:, held]
        self._y_ff = sparse.csc_matrix(y[free][:, free])
        # Symmetric mode: a tree then has no fill-in.
        options = {"SymmetricMode": True}
        self._factor = (
            splu(self._y_ff, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.01, options=options) if len(free) else None
        )
        # Of a small grid the inverse is faster than the factors.
        self._inverse = (
            self._factor.solve(np.eye(len(free), dtype=complex)) if self._factor and len(free) <= SMALL else None
        )
        self._no_load = self._factor.solve(-(self._y_fs @ grid.held_v)) if self._factor else np.zeros(0, complex)
        coo = sparse.coo_matrix(self._y_ff)
        self._pattern = (coo.row, coo.col, coo.data)

    def solve(self, s: Complex, start: Complex | None = None) -> State:
        """Solve the power flow of all slots.

        Args:
            s: net injections (slots x nodes), per unit.
            start: voltages to start from (slots x nodes); the unloaded grid without.
        """
        grid = self.grid
        slots = len(s)
        v = np.empty((slots, grid.nodes), dtype=complex)
        v[:, grid.held] = grid.held_v
        done = np.ones(slots, dtype=bool)
        if self._factor is not None:
            begin = np.repeat(self._no_load[None, :], slots, axis=0)
            if start is not None:
                usable = np.isfinite(start).all(axis=1)
                begin[usable] = start[usable][:, grid.free]
            v_free, done = self._sweep(s[:, grid.free], begin)
            for t in np.flatnonzero(~done):
                v_free[t], done[t] = self._newton(s[t, grid.free])
            v_free[~done] = np.nan
            v[:, grid.free] = v_free
        v[~done] = np.nan
        return State(v=v, s=s, converged=done)

    def _sweep(self, s: Complex, v: Complex) -> tuple[Complex, NDArray[np.bool_]]:
        assert self._factor is not None
        if len(s) == 1:
            alone = self._sweep_one(s[0], v[0])
            if alone is not None:
                return alone
        done = np.zeros(len(s), dtype=bool)
        active = np.arange(len(s))
        last = np.full(len(s), np.inf)
        for _ in range(SWEEPS):
            with np.errstate(all="ignore"):
                current = np.conj(s[active] / v[active])
                current[~np.isfinite(current)] = 0
                new = self._no_load + self._factor.solve(np.ascontiguousarray(current.T)).T
                step = np.abs(new - v[active]).max(axis=1)
            v[active] = new
            there = (step <= TOLERANCE) | ((step <= HOVER) & (step > last[active] / 2))
            done[active[there]] = True
            hopeless = (step > 2 * last[active]) | ~np.isfinite(step)
            last[active] = step
            active = active[~there & ~hopeless]
            if not len(active):
                break
        done |= last <= HOVER
        return v, done

    def _sweep_one(self, s: Complex, v: Complex) -> tuple[Complex, NDArray[np.bool_]] | None:
        """Do the same for one slot, without what it costs to tell many apart; None where a voltage breaks down."""
        assert self._factor is not None
        last, no_load = np.inf, self._no_load
        solve: Any = self._factor.solve if self._inverse is None else self._inverse.dot
        with np.errstate(all="ignore"):
            for _ in range(SWEEPS):
                current = np.conj(s / v)
                new = no_load + solve(current)
                step = float(np.maximum.reduce(np.abs(new - v)))
                if not math.isfinite(step):
                    return None
                v = new
                there = step <= TOLERANCE or (step <= HOVER and step > last / 2)
                hopeless = step > 2 * last
                last = step
                if there or hopeless:
                    break
        return v[None, :], np.array([last <= HOVER])

    def _newton(self, s: Complex) -> tuple[Complex, bool]:
        v = self._no_load.copy()
        for _ in range(NEWTON_STEPS):
            mismatch = v * np.conj(self._y_ff @ v + self._y_fs @ self.grid.held_v) - s
            if np.abs(mismatch).max() < 1e-12 * max(1.0, float(np.abs(s).max())):
                return v, True
            try:
                step = splu(self._jacobian(v)).solve(-np.r_[mismatch.real, mismatch.imag])
            except RuntimeError:
                return v, False
            n = len(v)
            size = np.abs(v) + step[n:]
            if not np.isfinite(step).all() or size.min() <= 0.1:
                return v, False
            v = size * np.exp(1j * (np.angle(v) + step[:n]))
        return v, False

    def _jacobian(self, v: Complex) -> sparse.csc_matrix:
        """Return d(P, Q)/d(angle, magnitude) of the free nodes."""
        row, col, y = self._pattern
        n = len(v)
        current = self._y_ff @ v + self._y_fs @ self.grid.held_v
        unit = v / np.abs(v)
        by_angle = np.r_[-1j * v[row] * np.conj(y * v[col]), 1j * v * np.conj(current)]
        by_size = np.r_[v[row] * np.conj(y * unit[col]), unit * np.conj(current)]
        data = np.r_[by_angle.real, by_size.real, by_angle.imag, by_size.imag]
        place, indices, indptr = self._jacobian_pattern
        values = np.bincount(place, weights=data, minlength=len(indices))
        return sparse.csc_matrix((values, indices, indptr), shape=(2 * n, 2 * n))

    @cached_property
    def _jacobian_pattern(self) -> tuple[NDArray[np.int_], NDArray[np.int_], NDArray[np.int_]]:
        """Return where each term of the Jacobian goes among its entries, and their rows and column starts."""
        row, col, _ = self._pattern
        n = len(self.grid.free)
        diag = np.arange(n)
        r, c = np.r_[row, diag], np.r_[col, diag]
        rows, cols = np.r_[r, r, r + n, r + n], np.r_[c, c + n, c, c + n]
        keys, place = np.unique(cols * (2 * n) + rows, return_inverse=True)
        starts = np.searchsorted(keys // (2 * n), np.arange(2 * n + 1))
        return place, keys % (2 * n), starts

    def root_gradients(self, state: State, near: Complex | None = None) -> tuple[Real, Real, Complex]:
        """Return d(active power entering at the infeed points) / d (P, Q injection) for many slots at once.

        Args:
            state: converged states.
            near: third part of the answer at nearby states, to start from.

        Returns:
            Two arrays (slots x infeed points x nodes), per unit, and the pulls on the currents of the free nodes.
        """
        grid = self.grid
        slots, roots = len(state.v), len(grid.infeed_ids)
        by_p, by_q = np.zeros((2, slots, roots, grid.nodes))
        w = np.zeros((slots, roots, len(grid.free)), dtype=complex)
        for k, node in enumerate(grid.infeed_node.tolist()):
            row = slice(grid.y_bus.indptr[node], grid.y_bus.indptr[node + 1])
            pull = np.zeros((slots, grid.nodes), dtype=complex)
            pull[:, grid.y_bus.indices[row]] = state.v[:, node, None] * np.conj(grid.y_bus.data[row])
            start = None if near is None else near[:, k]
            by_p[:, k], by_q[:, k], w[:, k] = self._swept(state.v, state.s, pull, start)
            by_p[:, k, node], by_q[:, k, node] = -1.0, 0.0
        return by_p, by_q, w

    def gradients_of(self, state: State, wanted: list[list[Measure]]) -> list[tuple[Real, Real]]:
        """Return d measure / d (P, Q injection) for the measures of many slots (per slot: measures x nodes).

        Args:
            state: converged states.
            wanted: what to differentiate in each slot.
        """
        few = [t for t, measures in enumerate(wanted) if len(measures) <= FEW]
        found: dict[int, tuple[Real, Real]] = {}
        for t in sorted(set(range(len(wanted))) - set(few)):
            found[t] = self.gradients(self.factor(state.v[t]), state.v[t], wanted[t])
        pairs = [(t, m) for t in few for m in wanted[t]]
        swept = []
        for first in range(0, len(pairs), CHUNK):
            part = pairs[first : first + CHUNK]
            of = [t for t, _ in part]
            v, s = state.v[of], state.s[of]
            pull = np.array([self._pull(row, m) for row, (_, m) in zip(v, part, strict=True)])
            by_p, by_q, _ = self._swept(v, s, pull, None)
            swept += list(zip(by_p, by_q, strict=True))
        at = 0
        for t in few:
            mine = swept[at : at + len(wanted[t])]
            at += len(mine)
            by_p, by_q = (np.array([m[k] for m in mine]).reshape(len(mine), self.grid.nodes) for k in range(2))
            self._direct(wanted[t], by_p, by_q)
            found[t] = by_p, by_q
        return [found[t] for t in range(len(wanted))]

    def weighted_gradients(self, state: State, measures: tuple[Measure, ...], weight: Real) -> tuple[Real, Real]:
        """Return the gradients of a weighted sum of measures in many slots (slots x nodes).

        Args:
            state: converged states.
            measures: what is summed.
            weight: slots x measures.
        """
        pull = np.zeros(state.v.shape, dtype=complex)
        direct_p, direct_q = np.zeros((2, *state.v.shape))
        for k in np.flatnonzero(weight.any(axis=0)).tolist():
            m = measures[k]
            if m.kind == "v":
                size = state.v[:, m.index]
                pull[:, m.index] += weight[:, k] * size / np.abs(size)
                continue
            for t in np.flatnonzero(weight[:, k]).tolist():
                pull[t] += weight[t, k] * self._pull(state.v[t], m)
            if m.kind in ("root_p", "root_q"):
                direct = direct_p if m.kind == "root_p" else direct_q
                direct[:, self.grid.infeed_node[m.index]] -= weight[:, k]
        by_p, by_q, _ = self._swept(state.v, state.s, pull, None)
        return by_p + direct_p, by_q + direct_q

    def _swept(self, v: Complex, s: Complex, pull: Complex, start: Complex | None) -> tuple[Real, Real, Complex]:
        """Return the gradients of one pull per row through the free nodes, and the pulls on their currents.

        The sweep of `solve` turned around: with Z the inverse of the admittances, ``dv = Z conj((ds - s dv / v) / v)``,
        so the pull g of a measure on the voltages becomes ``w = Z' conj(g) - Z' (conj(w) s / v^2)`` on the currents.
        """
        free = self.grid.free
        by_p, by_q = np.zeros((2, *v.shape))
        if self._factor is None or not len(v):
            return by_p, by_q, np.zeros((len(v), len(free)), dtype=complex)
        right, bend = np.conj(pull[:, free]), s[:, free] / v[:, free] ** 2
        w = np.zeros_like(right) if start is None else start.copy()
        if len(right) == 1:
            w, done = self._swept_one(right[0], bend[0], w[0])
        else:
            done = self._swept_many(right, bend, w)
        on_power = w / np.conj(v[:, free])
        by_p[:, free], by_q[:, free] = on_power.real, on_power.imag
        for k in np.flatnonzero(~done).tolist():
            by_p[k : k + 1, free], by_q[k : k + 1, free] = self._solved(self.factor(v[k]), v[k], pull[k : k + 1])
        return by_p, by_q, w

    def _swept_one(self, right: Complex, bend: Complex, w: Complex) -> tuple[Complex, NDArray[np.bool_]]:
        """Sweep for one pull; whether that came to an end."""
        assert self._factor is not None
        solve: Any = self._factor.solve  # the stubs do not know the transposed solve
        there, inverse, size = False, self._inverse, 0.0
        with np.errstate(all="ignore"):
            for _ in range(SWEEPS):
                pull = right - np.conj(w) * bend
                new = solve(pull, trans="T") if inverse is None else pull.dot(inverse)
                step = float(np.maximum.reduce(np.abs(new - w)))
                w = new
                size = size or float(np.maximum.reduce(np.abs(new)))
                there = step <= 10 * TOLERANCE * size
                if there or not math.isfinite(step):
                    break
        return w[None, :], np.array([there])

    def _swept_many(self, right: Complex, bend: Complex, w: Complex) -> NDArray[np.bool_]:
        """Sweep for many pulls at once, `w` in place; tell which came to an end."""
        assert self._factor is not None
        solve: Any = self._factor.solve
        left, of, at, now = np.arange(len(right)), right, bend, w
        done = np.zeros(len(right), dtype=bool)
        with np.errstate(all="ignore"):
            for _ in range(SWEEPS):
                new = solve(np.ascontiguousarray((of - np.conj(now) * at).T), trans="T").T
                step = np.abs(new - now).max(axis=1)
                there = step <= 10 * TOLERANCE * np.abs(new).max(axis=1)
                now = new
                stay = ~there & np.isfinite(step)
                if stay.all():
                    continue
                w[left], done[left] = now, there
                left, of, at, now = left[stay], of[stay], at[stay], now[stay]
                if not len(left):
                    break
            else:
                w[left] = now
        return done

    def factor(self, v: Complex) -> SuperLU | None:
        """Return the factors of the Jacobian at one slot's voltages; None without free nodes."""
        return splu(self._jacobian(v[self.grid.free])) if len(self.grid.free) else None

    def gradients(self, factor: SuperLU | None, v: Complex, measures: list[Measure]) -> tuple[Real, Real]:
        """Return d measure / d (P, Q injection) for every node of one slot.

        Args:
            factor: factors of the Jacobian at these voltages.
            v: voltages of the slot (nodes).
            measures: what to differentiate.

        Returns:
            Two arrays (measures x nodes), per unit.
        """
        grid = self.grid
        by_p = np.zeros((len(measures), grid.nodes))
        by_q = np.zeros((len(measures), grid.nodes))
        if not measures:
            return by_p, by_q
        pull = np.array([self._pull(v, m) for m in measures])
        by_p[:, grid.free], by_q[:, grid.free] = self._solved(factor, v, pull)
        self._direct(measures, by_p, by_q)
        return by_p, by_q

    def _solved(self, factor: SuperLU | None, v: Complex, pull: Complex) -> tuple[Real, Real]:
        """Return the gradients of pulls on the voltages of one slot (pulls x free nodes), by adjoint solves."""
        free = self.grid.free
        if factor is None:
            return np.zeros((len(pull), 0)), np.zeros((len(pull), 0))
        v, g = v[free], np.conj(pull[:, free])
        right = np.concatenate([(g * 1j * v).real, (g * (v / np.abs(v))).real], axis=1)
        solve: Any = factor.solve  # the stubs do not know the transposed solve
        y = solve(np.ascontiguousarray(right.T), trans="T")
        return y[: len(free)].T, y[len(free) :].T

    def _direct(self, measures: list[Measure], by_p: Real, by_q: Real) -> None:
        """Note that injection at an infeed node itself lowers what has to enter there."""
        for k, m in enumerate(measures):
            if m.kind == "root_p":
                by_p[k, self.grid.infeed_node[m.index]] = -1.0
            elif m.kind == "root_q":
                by_q[k, self.grid.infeed_node[m.index]] = -1.0

    def _pull(self, v: Complex, m: Measure) -> Complex:
        """Return g with d measure = Re(conj(g) . dv) over all nodes."""
        grid = self.grid
        g = np.zeros(grid.nodes, dtype=complex)
        if m.kind == "v":
            g[m.index] = v[m.index] / np.abs(v[m.index])
            return g
        if m.kind in ("root_p", "root_q"):
            matrix, row, end = grid.y_bus, int(grid.infeed_node[m.index]), int(grid.infeed_node[m.index])
        elif m.kind.endswith("f"):
            matrix, row, end = grid.y_from, m.index, int(grid.from_node[m.index])
        else:
            matrix, row, end = grid.y_to, m.index, int(grid.to_node[m.index])
        entries = slice(matrix.indptr[row], matrix.indptr[row + 1])
        nodes, y = matrix.indices[entries], matrix.data[entries]
        current = complex(y @ v[nodes])
        if m.kind in ("if", "it"):
            size = abs(current)
            if size > 0:
                g[nodes] += np.conj(y) * current / size
            return g
        # s = v conj(i): ds = conj(i) dv + v conj(Y dv), so d Re(c conj?..) is split into its two terms.
        s = v[end] * np.conj(current)
        if m.kind in ("pf", "pt", "root_p"):
            w = 1.0 + 0j
        elif m.kind in ("qf", "qt", "root_q"):
            w = 1j
        else:
            w = s / abs(s) if abs(s) > 0 else 1.0 + 0j
        # d h = Re(conj(w) ds); Re(conj(w) v conj(Y dv)) = Re(w conj(v) Y dv).
        g[end] += w * current
        g[nodes] += np.conj(w * np.conj(v[end]) * y)
        return g


class Measured:
    """Every kind of `Measure` for all slots (slots x elements), per unit, each made when it is first asked for."""

    def __init__(self, grid: Grid, state: State) -> None:
        """Look at states.

        Args:
            grid: the grid.
            state: its states.
        """
        self._grid, self._state = grid, state
        self._made: dict[str, Real] = {}
        self.excess: tuple[object, Real] | None = None  # the limits that were last looked at, and what is beyond them

    @cached_property
    def _current(self) -> Complex:
        """Currents into the from sides, the to sides and the nodes."""
        return np.asarray(self._grid.y_all @ self._state.v.T).T

    def __getitem__(self, kind: str) -> Real:
        """Return one kind."""
        found = self._made.get(kind)
        if found is None:
            found = self._made[kind] = self._make(kind)
        return found

    def _make(self, kind: str) -> Real:
        grid, v, lines = self._grid, self._state.v, len(self._grid.branch_ids)
        if kind == "v":
            return np.asarray(np.abs(v))
        if kind.startswith("root"):
            node = grid.infeed_node
            power = v[:, node] * np.conj(self._current[:, 2 * lines + node]) - self._state.s[:, node]
            self._made["root_p"], self._made["root_q"] = power.real, power.imag
            return self._made[kind]
        side, first = (grid.from_node, 0) if kind.endswith("f") else (grid.to_node, lines)
        current = self._current[:, first : first + lines]
        if kind.startswith("i"):
            return np.asarray(np.abs(current))
        power = np.asarray(v[:, side] * np.conj(current))
        if kind.startswith("s"):
            return np.asarray(np.abs(power))
        return power.real if kind.startswith("p") else power.imag
