"""A small builder of linear programs: columns, sparse rows, integrality; solved by HiGHS, deterministically."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import highspy
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

__all__ = ["Basis", "LinearProgram", "Rows", "Solution", "solve_linear"]

Real = NDArray[np.float64]
INF = float("inf")


@dataclass(slots=True)
class Rows:
    """Sparse rows `low <= a x <= high`, grown one by one."""

    starts: list[int] = field(default_factory=lambda: [0])
    index: list[int] = field(default_factory=list)
    value: list[float] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)

    def add(self, terms: Iterable[tuple[int, float]], low: float, high: float) -> int:
        """Append a row and return its number."""
        for column, coefficient in terms:
            self.index.append(column)
            self.value.append(coefficient)
        self.starts.append(len(self.index))
        self.low.append(low)
        self.high.append(high)
        return len(self.low) - 1

    def matrix(self, columns: int) -> sparse.csr_matrix:
        """Return the rows as a matrix; repeated entries of a row are summed."""
        made = sparse.csr_matrix(
            (np.array(self.value), np.array(self.index, dtype=int), np.array(self.starts, dtype=int)),
            shape=(len(self.low), columns),
        )
        made.sum_duplicates()
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearProgram:
    """Minimise `cost . x` within bounds and rows."""

    cost: Real
    lower: Real
    upper: Real
    matrix: sparse.csr_matrix
    row_low: Real
    row_high: Real
    integer: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """Where a solution sits, for the next program of the same shape."""

    statuses: Any
    shape: tuple[int, int]

    def carried(self, columns: int, rows: int, keys: Sequence[object], new_keys: Sequence[object]) -> "Basis":
        """Return the basis of a program that has other flow rows, each with its own slack, after the same market.

        Args:
            columns: columns of the market, which come first.
            rows: rows of the market, which come first.
            keys: what names each further row of the old program.
            new_keys: the same of the new one; a row that is new there is slack.
        """
        column_status, row_status = list(self.statuses.col_status), list(self.statuses.row_status)
        old = {key: (column_status[columns + k], row_status[rows + k]) for k, key in enumerate(keys)}
        slack = highspy.HighsBasisStatus.kLower, highspy.HighsBasisStatus.kBasic
        found = [old.get(key, slack) for key in new_keys]
        made = highspy.HighsBasis()
        made.col_status = column_status[:columns] + [c for c, _ in found]
        made.row_status = row_status[:rows] + [r for _, r in found]
        made.valid = True
        return Basis(statuses=made, shape=(columns + len(new_keys), rows + len(new_keys)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """An optimal point; `row_dual` is the change of the cost per unit of a row's bound (absent for integers)."""

    x: Real
    row_dual: Real
    column_dual: Real
    objective: float
    bound: float
    basis: Basis | None = None


def solve_linear(
    program: LinearProgram, *, basis: Basis | None = None, relative_gap: float = 1e-7, max_nodes: int = 20_000
) -> Solution | None:
    """Solve with HiGHS, one thread, fixed seed; None when there is no feasible point.

    Args:
        program: the linear or mixed-integer program.
        basis: basis of a solution of a program of the same shape to start from.
        relative_gap: gap at which branch and bound stops.
        max_nodes: most nodes of branch and bound; a count and no clock, so that runs repeat.
    """
    columns, rows = len(program.cost), len(program.row_low)
    integral = bool(program.integer.any())
    solver = highspy.Highs()
    for name, value in (
        ("output_flag", False),
        ("threads", 1),
        ("random_seed", 1),
        ("primal_feasibility_tolerance", 1e-10),
        ("dual_feasibility_tolerance", 1e-10),
        ("mip_rel_gap", relative_gap),
        ("mip_abs_gap", 1e-7),
        ("mip_feasibility_tolerance", 1e-9),
        ("mip_max_nodes", max_nodes),
    ):
        solver.setOptionValue(name, value)
    # Arrays, as attributes of a HighsLp would be turned into lists: half the time of a small program.
    solver.passModel(
        columns,
        rows,
        program.matrix.nnz,
        int(highspy.MatrixFormat.kRowwise),
        int(highspy.ObjSense.kMinimize),
        0.0,
        program.cost,
        program.lower,
        program.upper,
        program.row_low,
        program.row_high,
        program.matrix.indptr,
        program.matrix.indices,
        program.matrix.data,
        program.integer.astype(np.int32),
    )
    good = (highspy.HighsModelStatus.kOptimal, highspy.HighsModelStatus.kSolutionLimit)
    started = basis is not None and not integral and basis.shape == (columns, rows)
    if basis is not None and started:
        solver.setBasis(basis.statuses)
    solver.run()
    if started and solver.getModelStatus() not in good:
        # From a basis of another program HiGHS may end at "infeasible" where a fresh start finds the optimum.
        solver.clearSolver()
        solver.run()
    status = solver.getModelStatus()
    found = solver.getSolution()
    info = solver.getInfo()
    if status not in good and not (integral and info.primal_solution_status == 2):
        return None
    return Solution(
        x=np.array(found.col_value),
        row_dual=np.array(found.row_dual) if not integral else np.zeros(rows),
        column_dual=np.array(found.col_dual) if not integral else np.zeros(columns),
        objective=float(info.objective_function_value),
        bound=float(info.mip_dual_bound) if integral else float(info.objective_function_value),
        basis=None if integral else Basis(statuses=solver.getBasis(), shape=(columns, rows)),
    )
