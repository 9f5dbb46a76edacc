"""Column generation: a book of a hundred thousand steps has few that matter; find them by their prices.

Exact for linear programs whose left-out columns may stay at zero: a column is brought in as soon as its
reduced cost is negative, and rows that only left-out columns use cannot make it more attractive.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from clearing.rows import LinearProgram, Solution, solve_linear

__all__ = ["solve_by_columns", "solve_subset"]

Real = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Below this many columns the program is solved as it is.
SMALL = 4_000
PER_STACK = 3
ROUNDS = 60
ATTRACTIVE = -1e-7


def solve_by_columns(program: LinearProgram, kept: Mask, stack: NDArray[np.int_]) -> Solution | None:
    """Solve a linear program, bringing in columns as their prices call for them.

    Args:
        program: the program; columns beyond the length of `kept` always take part.
        kept: columns to start with; grown in place, so that the next program starts where this one ended.
        stack: stack of each column (same length as `kept`); of one stack few columns come in at a time.
    """
    if len(program.cost) <= SMALL:
        kept[:] = True
        return solve_linear(program)
    transposed = sparse.csr_matrix(program.matrix.T)
    must = program.lower[: len(kept)] > 0
    for _ in range(ROUNDS):
        kept |= must
        found = solve_subset(program, kept)
        if found is None:
            if kept.all():
                return None
            kept[:] = True
            continue
        reduced = program.cost - transposed @ found.row_dual
        wanted = (reduced[: len(kept)] < ATTRACTIVE) & ~kept & (program.upper[: len(kept)] > 0)
        if not wanted.any():
            return found
        kept |= _cheapest(np.flatnonzero(wanted), reduced, stack, len(kept))
    kept[:] = True
    return solve_linear(program)


def _cheapest(columns: NDArray[np.int_], reduced: Real, stack: NDArray[np.int_], size: int) -> Mask:
    """Return the most attractive columns of every stack."""
    order = columns[np.lexsort((columns, reduced[columns], stack[columns]))]
    groups = stack[order]
    first = np.r_[True, groups[1:] != groups[:-1]]
    start = np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))
    chosen = np.zeros(size, dtype=bool)
    chosen[order[(np.arange(len(order)) - start < PER_STACK) | (groups < 0)]] = True
    return chosen


def solve_subset(program: LinearProgram, kept: Mask) -> Solution | None:
    """Solve with some columns only; the others stay at zero, and rows without a column are left out."""
    mask = np.r_[kept, np.ones(len(program.cost) - len(kept), dtype=bool)]
    if mask.all():
        return solve_linear(program)
    matrix = sparse.csr_matrix(program.matrix[:, np.flatnonzero(mask)])
    used = np.diff(matrix.indptr) > 0
    part = replace(
        program,
        cost=program.cost[mask],
        lower=program.lower[mask],
        upper=program.upper[mask],
        matrix=sparse.csr_matrix(matrix[used]),
        row_low=program.row_low[used],
        row_high=program.row_high[used],
        integer=program.integer[mask],
    )
    found = solve_linear(part)
    if found is None:
        return None
    x, row_dual, column_dual = np.zeros(len(mask)), np.zeros(len(used)), np.zeros(len(mask))
    x[mask], row_dual[used], column_dual[mask] = found.x, found.row_dual, found.column_dual
    return Solution(x=x, row_dual=row_dual, column_dual=column_dual, objective=found.objective, bound=found.bound)
