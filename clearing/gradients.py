"""Gradients at AC states that were asked for before: the same state is not differentiated twice."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearing.state import Measure, PowerFlow, State

__all__ = ["Gradients"]

Real = NDArray[np.float64]
Complex = NDArray[np.complexfloating[Any, Any]]


class Gradients:
    """What is known of the gradients at the states of a horizon, the last state of every slot."""

    def __init__(self, flow: PowerFlow, slots: int) -> None:
        """Know nothing yet.

        Args:
            flow: the power flow.
            slots: slots of the horizon.
        """
        self.flow, grid = flow, flow.grid
        roots = len(grid.infeed_ids)
        self._root_v = np.full((slots, grid.nodes), np.nan, dtype=complex)
        self._root_p, self._root_q = np.zeros((2, slots, roots, grid.nodes))
        self._root_w = np.zeros((slots, roots, len(grid.free)), dtype=complex)
        # By slot: measures, the state that they were taken at, and what they are.
        self._nothing = np.zeros((0, grid.nodes)), np.zeros((0, grid.nodes))
        self._known: dict[int, tuple[list[Measure], Complex, tuple[Real, Real]]] = {}

    def of_roots(self, state: State, slots: NDArray[np.bool_]) -> tuple[Real, Real]:
        """Return d infeed / d (P, Q injection), slots x infeed points x nodes, up to date in some slots.

        Args:
            state: the states, converged in those slots.
            slots: in which slots it is asked for.
        """
        stale = np.flatnonzero(slots & (self._root_v != state.v).any(axis=1))
        if len(stale):
            v = state.v[stale]
            part = State(v=v, s=state.s[stale], converged=np.ones(len(stale), dtype=bool))
            made = self.flow.root_gradients(part, self._root_w[stale])
            self._root_p[stale], self._root_q[stale], self._root_w[stale] = made
            self._root_v[stale] = v
        return self._root_p, self._root_q

    def of(self, state: State, slots: list[int], wanted: list[list[Measure]]) -> list[tuple[Real, Real]]:
        """Return d measure / d (P, Q injection) of measures in slots (per slot: measures x nodes).

        Args:
            state: the states, converged in those slots.
            slots: slots.
            wanted: what to differentiate in each of them.
        """
        found = [self._kept(t, state.v[t], measures) for t, measures in zip(slots, wanted, strict=True)]
        new = [n for n, made in enumerate(found) if made is None]
        if new:
            mine = [slots[n] for n in new]
            v = state.v[mine]
            part = State(v=v, s=state.s[mine], converged=np.ones(len(mine), dtype=bool))
            others = [[m for m in wanted[n] if m.kind != "root_p"] for n in new]
            made = self.flow.gradients_of(part, others) if any(others) else [self._nothing] * len(new)
            if any(len(o) < len(wanted[n]) for n, o in zip(new, others, strict=True)):
                slots_of = np.zeros(len(state.v), dtype=bool)
                slots_of[[t for t, n, o in zip(mine, new, others, strict=True) if len(o) < len(wanted[n])]] = True
                self.of_roots(state, slots_of)
            for n, at, both in zip(new, v, made, strict=True):
                self._known[slots[n]] = wanted[n], at, self._with_roots(slots[n], wanted[n], both)
                found[n] = self._known[slots[n]][2]
        return [made for made in found if made is not None]

    def _with_roots(self, t: int, measures: list[Measure], others: tuple[Real, Real]) -> tuple[Real, Real]:
        """Return gradients of measures of a slot, from those that are no infeed and what is known of the infeed."""
        if len(others[0]) == len(measures):
            return others
        is_root = np.array([m.kind == "root_p" for m in measures])
        index = [m.index for m in measures if m.kind == "root_p"]
        by_p, by_q = np.empty((2, len(measures), self._root_p.shape[2]))
        by_p[~is_root], by_q[~is_root] = others
        by_p[is_root], by_q[is_root] = self._root_p[t, index], self._root_q[t, index]
        return by_p, by_q

    def _kept(self, t: int, v: Complex, measures: list[Measure]) -> tuple[Real, Real] | None:
        """Return gradients at a state where it is that of the last ones, which hold all that are asked for."""
        known = self._known.get(t)
        if known is None or (known[1] != v).any():
            return None
        if known[0] == measures:
            return known[2]
        place = {m: k for k, m in enumerate(known[0])}
        if not all(m in place for m in measures):
            return None
        rows = [place[m] for m in measures]
        return known[2][0][rows], known[2][1][rows]
