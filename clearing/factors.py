"""Factors of an admittance matrix in numpy alone, so that whoever checks a result needs no other library.

Nodes are eliminated in the order of their neighbours left, fewest first: a tree then has no fill-in and a feeder with
a few loops hardly any. Symmetric pattern, no pivoting: the diagonal of an admittance matrix is heavy. What a solve does
at a node it does for all slots at once; of small grids the inverse is faster for few slots.
"""

from functools import cached_property
from heapq import heapify, heappop, heappush
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Factors"]

Complex = NDArray[np.complexfloating[Any, Any]]
Index = NDArray[np.int_]

# Up to this many rows, and numbers to solve for at once, the inverse is faster.
FEW_ROWS, FEW_NUMBERS = 1500, 8000
# Products of one call for a vector and for more columns up to which OpenBLAS takes one thread.
MOST_VECTOR, MOST_MATRIX = 4000, 32_000


class Factors:
    """LU factors of a square matrix.

    Args:
        size: rows.
        row: row of each entry; entries at one place add up.
        column: column of each entry.
        value: the entries.

    Raises:
        numpy.linalg.LinAlgError: a pivot is zero.
    """

    def __init__(self, size: int, row: Index, column: Index, value: Complex) -> None:
        self.size = size
        rows: list[dict[int, complex]] = [{} for _ in range(size)]
        for i, j, a in zip(row.tolist(), column.tolist(), value.tolist(), strict=True):
            rows[i][j] = rows[i].get(j, 0.0) + a
        for i in range(size):  # the pattern has to be symmetric
            for j in list(rows[i]):
                rows[j].setdefault(i, 0.0)
        self._steps = _eliminated(rows)

    def solve(self, right: Complex) -> Complex:
        """Return x with ``matrix @ x = right`` (rows x any number of columns)."""
        if self.size <= FEW_ROWS and right.size <= FEW_NUMBERS:
            return _product(self._inverse, right)
        return self._swept(right)

    def solve_transposed(self, right: Complex) -> Complex:
        """Return x with ``matrix.T @ x = right`` (rows x any number of columns)."""
        if self.size <= FEW_ROWS and right.size <= FEW_NUMBERS:
            return _product(self._inverse.T, right)
        x = right.astype(complex)
        for node, pivot, near, _, beside in self._steps:
            x[node] /= pivot
            if len(near):
                x[near] -= beside[:, None] * x[node]
        for node, _, near, below, _ in reversed(self._steps):
            if len(near):
                x[node] -= below[:, 0] @ x[near]
        return x

    @cached_property
    def _inverse(self) -> Complex:
        return self._swept(np.eye(self.size, dtype=complex))

    def _swept(self, right: Complex) -> Complex:
        x = right.astype(complex)
        for node, _, near, below, _ in self._steps:
            if len(near):
                x[near] -= below * x[node]
        for node, pivot, near, _, beside in reversed(self._steps):
            if len(near):
                x[node] -= beside @ x[near]
            x[node] /= pivot
        return x


def _product(matrix: Complex, right: Complex) -> Complex:
    """Return a product in pieces so small that OpenBLAS wakes no threads, which wait longer than they work."""
    size, columns = right.shape
    rows = max((MOST_VECTOR if columns == 1 else MOST_MATRIX // columns) // max(size, 1), 1)
    if rows >= size:
        return np.asarray(matrix @ right)
    return np.concatenate([matrix[k : k + rows] @ right for k in range(0, size, rows)])


def _eliminated(rows: list[dict[int, complex]]) -> list[tuple[int, complex, Index, Complex, Complex]]:
    """Eliminate all nodes: node, pivot, neighbours left, factors below the pivot (a column) and entries beside it."""
    steps = []
    queue = [(len(entries), node) for node, entries in enumerate(rows)]
    heapify(queue)
    done = [False] * len(rows)
    while queue:
        count, node = heappop(queue)
        if done[node] or count != len(rows[node]):
            continue
        done[node] = True
        entries = rows[node]
        pivot = entries.pop(node)
        if pivot == 0:
            raise np.linalg.LinAlgError(f"nothing is left on the diagonal in row {node}")
        near = sorted(entries)
        beside = [entries[k] for k in near]
        below = []
        for i in near:
            factor = rows[i].pop(node) / pivot
            below.append(factor)
            for j, entry in zip(near, beside, strict=True):
                rows[i][j] = rows[i].get(j, 0.0) - factor * entry
            heappush(queue, (len(rows[i]), i))
        steps.append(
            (
                node,
                pivot,
                np.array(near, dtype=int),
                np.array(below, dtype=complex)[:, None],
                np.array(beside, dtype=complex),
            )
        )
    return steps
