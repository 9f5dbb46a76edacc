"""Between what bounds every state of a slot lies, whatever the market takes: intervals of flows, currents, voltages.

On a tree the flow into a bus is what is drawn behind it plus losses, the current follows from flow and voltage, the
voltage from that of the bus before: interval arithmetic from the leaves to the infeed points and back, a few times
over, bounds all of them by what can be injected (feasibility-based bound tightening). Nothing is assumed but that
voltages lie between `V_LOW` and `V_TOP`. A branch that closes a loop is left out of the tree, and what it may carry is
drawn or fed in at its ends: its current is a linear function of the currents that the nodes draw.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["I_TOP", "V_LOW", "V_TOP", "Boxes", "Tree", "boxes_of", "tree_of"]

Real = NDArray[np.float64]
Index = NDArray[np.int_]
Complex = NDArray[np.complexfloating[Any, Any]]

# No distribution grid works below 0.5 or above 1.3 pu, or at twice its ratings.
V_LOW = 0.5
V_TOP = 1.3
I_TOP = 2.0
SWEEPS = 6
# Of an interval: what floats may be off by.
NOISE = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A grid as arrays, per unit; the tree reaches every node from those whose voltage is held.

    Args:
        nodes: number of nodes.
        held: nodes whose voltage is held.
        f: from node of every branch.
        t: to node.
        z: series impedance.
        a2: squared ratio at the from side.
        shunt: admittance of every node to earth, with what branches have at their ends.
        levels: per distance from the held nodes: its branches of the tree.
        chords: branches that close loops.
        inward: per branch whether its from side is the farther one (of the tree).
        chord_idle: what branches that close loops carry with nothing injected anywhere, pu of current.
        chord_by: by how much at most it changes with a unit of current injected at a node (chords x nodes).
    """

    nodes: int
    held: Index
    f: Index
    t: Index
    z: Complex
    a2: Real
    shunt: Complex
    levels: tuple[Index, ...]
    chords: Index
    inward: NDArray[np.bool_]
    chord_idle: Real
    chord_by: Real


@dataclass(frozen=True, slots=True, kw_only=True)
class Boxes:
    """Bounds (slots x nodes or branches): squared voltages, squared currents, what leaves a branch at its far end."""

    w_low: Real
    w_high: Real
    l_low: Real
    l_high: Real
    p_low: Real
    p_high: Real
    q_low: Real
    q_high: Real
    w_far: Real  # least squared voltage at the far end, behind the ratio

    def cut(self) -> tuple[Real, Real, Real, Real]:
        """Return the chord of the squared flow: ``least w * l <= by_p p + by_q q - constant`` holds of every state.

        Returns:
            least squared voltage at the far end (behind the ratio), by_p, by_q, constant; slots x branches.
        """
        return (
            self.w_far,
            self.p_low + self.p_high,
            self.q_low + self.q_high,
            self.p_low * self.p_high + self.q_low * self.q_high,
        )


def tree_of(
    nodes: int,
    held: Index,
    held_v: Complex,
    f: Index,
    t: Index,
    z: Complex,
    a: Complex,
    shunt: Complex,
    half: Complex,
) -> Tree:
    """Return the tree of a grid, breadth first from the held nodes.

    Args:
        nodes: number of nodes.
        held: nodes whose voltage is held.
        held_v: their voltages, pu.
        f: from node of every branch.
        t: to node.
        z: series impedance, pu.
        a: complex ratio at the from side.
        shunt: admittance of the nodes to earth, pu.
        half: admittance to earth of every branch, at each of its ends.
    """
    a2 = np.abs(a) ** 2
    earth = shunt.astype(complex)
    np.add.at(earth, f, half / a2)
    np.add.at(earth, t, half)
    near: list[list[int]] = [[] for _ in range(nodes)]
    for k, ends in enumerate(zip(f.tolist(), t.tolist(), strict=True)):
        near[ends[0]].append(k)
        near[ends[1]].append(k)
    seen = np.zeros(nodes, dtype=bool)
    seen[held] = True
    used, inward = np.zeros(len(f), dtype=bool), np.zeros(len(f), dtype=bool)
    levels, front = [], [int(n) for n in held]
    while front:
        level, reached = [], []
        for n in front:
            for k in near[n]:
                other = int(t[k]) if int(f[k]) == n else int(f[k])
                if not seen[other]:
                    seen[other] = used[k] = True
                    inward[k] = int(f[k]) == other
                    level.append(k)
                    reached.append(other)
        if level:
            levels.append(np.array(level))
        front = reached
    chords = np.flatnonzero(~used)
    idle, by = _of_chords(chords, nodes, held, held_v, f, t, z, a, earth)
    return Tree(
        nodes=nodes,
        held=held,
        f=f,
        t=t,
        z=z,
        a2=a2,
        shunt=earth,
        levels=tuple(levels),
        chords=chords,
        inward=inward,
        chord_idle=idle,
        chord_by=by,
    )


def _of_chords(
    chords: Index, nodes: int, held: Index, held_v: Complex, f: Index, t: Index, z: Complex, a: Complex, earth: Complex
) -> tuple[Real, Real]:
    """Return the currents of branches that close loops with nothing injected, and by unit of current at each node."""
    if not len(chords):
        return np.zeros(0), np.zeros((0, nodes))
    y = 1 / z
    admittance = np.diag(earth)
    np.add.at(admittance, (f, f), y / np.abs(a) ** 2)
    np.add.at(admittance, (t, t), y)
    np.add.at(admittance, (f, t), -y / np.conj(a))
    np.add.at(admittance, (t, f), -y / a)
    free = np.setdiff1d(np.arange(nodes), held)
    over = np.zeros((len(chords), nodes), dtype=complex)
    rows = np.arange(len(chords))
    over[rows, f[chords]] += y[chords] / a[chords]
    over[rows, t[chords]] -= y[chords]
    by = np.zeros_like(over)
    try:
        by[:, free] = np.linalg.solve(admittance[np.ix_(free, free)].T, over[:, free].T).T
    except np.linalg.LinAlgError:  # no grid, but no reason to fail
        return np.full(len(chords), np.inf), np.zeros((len(chords), nodes))
    idle = over[:, held] @ held_v - by[:, free] @ (admittance[np.ix_(free, held)] @ held_v)
    return np.abs(idle), np.abs(by)


def boxes_of(tree: Tree, low: Complex, high: Complex, held_w: Real, rated: Real) -> Boxes:
    """Return the bounds of every slot.

    Args:
        tree: the grid.
        low: least injections (slots x nodes), real and reactive, pu.
        high: most injections.
        held_w: squared voltages of the held nodes, pu.
        rated: most squared series current of every branch (slots x branches), pu; inf = none stated.
    """
    return _Boxer(tree, low, high, held_w, rated).made()


class _Boxer:
    """Nodes and branches come first, slots last: levels are rows then."""

    def __init__(self, tree: Tree, low: Complex, high: Complex, held_w: Real, rated: Real) -> None:
        self.tree = tree
        slots, m = len(low), len(tree.f)
        self.s_low, self.s_high = low.T.copy(), high.T.copy()
        self.w_low, self.w_high = np.full((tree.nodes, slots), V_LOW**2), np.full((tree.nodes, slots), V_TOP**2)
        self.w_low[tree.held] = self.w_high[tree.held] = held_w[:, None]
        self.far = np.where(tree.inward, tree.f, tree.t)
        self.near = np.where(tree.inward, tree.t, tree.f)
        self.k_far = np.where(tree.inward, 1 / tree.a2, 1.0)[:, None]
        self.k_near = np.where(tree.inward, 1.0, 1 / tree.a2)[:, None]
        self.z = tree.z[:, None]
        self.z2 = np.abs(self.z) ** 2
        self.rated = rated.T
        self.l_low, self.l_high = np.zeros((m, slots)), np.zeros((m, slots))
        self.p_low, self.p_high, self.q_low, self.q_high = np.zeros((4, m, slots))

    def made(self) -> Boxes:
        for _ in range(SWEEPS):
            before = self.w_low.copy()
            self._chords()
            self._up()
            self._down()
            if float(np.abs(self.w_low - before).max(initial=0.0)) < 1e-4:
                break
        self._chords()
        self._up()
        return Boxes(
            w_low=self.w_low.T,
            w_high=self.w_high.T,
            l_low=self.l_low.T,
            l_high=self.l_high.T,
            p_low=self.p_low.T,
            p_high=self.p_high.T,
            q_low=self.q_low.T,
            q_high=self.q_high.T,
            w_far=(self.k_far * self.w_low[self.far]).T,
        )

    def _most(self, k: Index) -> Real:
        """Return the squared current that voltages at both ends drive at most."""
        ends = np.sqrt(self.k_near[k] * self.w_high[self.near[k]]), np.sqrt(self.k_far[k] * self.w_high[self.far[k]])
        return np.asarray((ends[0] + ends[1]) ** 2 / self.z2[k])

    def _chords(self) -> None:
        k = self.tree.chords
        if not len(k):
            return
        drawn = np.hypot(
            np.maximum(np.abs(self.s_low.real), np.abs(self.s_high.real)),
            np.maximum(np.abs(self.s_low.imag), np.abs(self.s_high.imag)),
        )
        current = self.tree.chord_idle[:, None] + self.tree.chord_by @ (drawn / np.sqrt(self.w_low))
        most = np.minimum(np.minimum(self._most(k), self.rated[k]), current**2 * (1 + NOISE))
        flow = np.sqrt(most * self.k_far[k] * self.w_high[self.far[k]])
        self.l_high[k] = most
        self.p_low[k], self.p_high[k], self.q_low[k], self.q_high[k] = -flow, flow, -flow, flow

    def _up(self) -> None:
        """Find flows and currents from the leaves on."""
        tree = self.tree
        g, b = tree.shunt.real[:, None], -tree.shunt.imag[:, None]  # what a shunt draws per squared voltage
        p_low = -self.s_high.real + np.minimum(g * self.w_low, g * self.w_high)
        p_high = -self.s_low.real + np.maximum(g * self.w_low, g * self.w_high)
        q_low = -self.s_high.imag + np.minimum(b * self.w_low, b * self.w_high)
        q_high = -self.s_low.imag + np.maximum(b * self.w_low, b * self.w_high)
        for k in (tree.chords, *reversed(tree.levels)):
            if not len(k):
                continue
            if k is not tree.chords:
                far = self.far[k]
                self.p_low[k], self.p_high[k] = p_low[far] - NOISE, p_high[far] + NOISE
                self.q_low[k], self.q_high[k] = q_low[far] - NOISE, q_high[far] + NOISE
                self._current(k)
            r, x = self.z[k].real, self.z[k].imag
            near = self.near[k]
            low, high = self.l_low[k], self.l_high[k]
            np.add.at(p_low, near, self.p_low[k] + np.minimum(r * low, r * high))
            np.add.at(p_high, near, self.p_high[k] + np.maximum(r * low, r * high))
            np.add.at(q_low, near, self.q_low[k] + np.minimum(x * low, x * high))
            np.add.at(q_high, near, self.q_high[k] + np.maximum(x * low, x * high))
            if k is tree.chords:  # what leaves it at the far end is fed in there
                far = self.far[k]
                np.add.at(p_low, far, -self.p_high[k])
                np.add.at(p_high, far, -self.p_low[k])
                np.add.at(q_low, far, -self.q_high[k])
                np.add.at(q_high, far, -self.q_low[k])

    def _current(self, k: Index) -> None:
        largest = np.maximum(self.p_low[k] ** 2, self.p_high[k] ** 2) + np.maximum(
            self.q_low[k] ** 2, self.q_high[k] ** 2
        )
        least = _least_square(self.p_low[k], self.p_high[k]) + _least_square(self.q_low[k], self.q_high[k])
        w_low, w_high = self.k_far[k] * self.w_low[self.far[k]], self.k_far[k] * self.w_high[self.far[k]]
        high = np.minimum(largest / w_low, self._most(k)) * (1 + NOISE)
        self.l_high[k] = high
        self.l_low[k] = np.minimum(least / w_high * (1 - NOISE), high)

    def _down(self) -> None:
        """Find voltages from the held nodes on."""
        for k in self.tree.levels:
            r, x = 2 * self.z[k].real, 2 * self.z[k].imag
            ends = r * self.p_low[k], r * self.p_high[k], x * self.q_low[k], x * self.q_high[k]
            near = self.k_near[k] * self.w_low[self.near[k]], self.k_near[k] * self.w_high[self.near[k]]
            least = np.minimum(ends[0], ends[1]) + np.minimum(ends[2], ends[3]) + self.z2[k] * self.l_low[k]
            most = np.maximum(ends[0], ends[1]) + np.maximum(ends[2], ends[3]) + self.z2[k] * self.l_high[k]
            far = self.far[k]
            low = np.maximum(self.w_low[far], (near[0] - most) / self.k_far[k] - NOISE)
            high = np.minimum(self.w_high[far], (near[1] - least) / self.k_far[k] + NOISE)
            fits = low <= high  # no state at all: then no bound is wrong, and the old one stays
            self.w_low[far] = np.where(fits, low, self.w_low[far])
            self.w_high[far] = np.where(fits, high, self.w_high[far])


def _least_square(low: Real, high: Real) -> Real:
    return np.where((low < 0) & (high > 0), 0.0, np.minimum(low**2, high**2))
