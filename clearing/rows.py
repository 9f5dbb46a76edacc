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
MOST_BRANCHES = 100
# HiGHS takes minutes at the root of programs with thousands of decisions, whatever its limits: beyond so many the best
# that some branches find has to do, and the bound tells how far from the optimum it may be. Pivots times nonzeros are
# counted, no time, so that runs repeat.
MANY_DECISIONS, MOST_WORK = 1_000, 100_000_000
# Where branch and bound stops; nodes are counted and not timed, so that runs repeat.
ABSOLUTE_GAP = RELATIVE_GAP = 1e-7
MOST_NODES = 20_000
WHOLE = 1e-7
_GOOD = (highspy.HighsModelStatus.kOptimal, highspy.HighsModelStatus.kSolutionLimit)
_OPTIONS = (
    ("output_flag", False),
    # Looking for what can be left out takes ten times as long as solving does: markets are wide, and few columns move.
    ("presolve", "off"),
    ("threads", 1),
    ("random_seed", 1),
    ("primal_feasibility_tolerance", 1e-10),
    ("dual_feasibility_tolerance", 1e-10),
    ("mip_abs_gap", ABSOLUTE_GAP),
    ("mip_feasibility_tolerance", 1e-9),
)
# What is tried in turn when HiGHS as it is set ends without an optimum: 4 is the primal simplex method.
_OTHER_WAYS = (("presolve", "choose"), ("simplex_strategy", 4), ("solver", "ipm"))
# Solvers with nothing in them: to make one takes as long as to solve a small program.
_idle: list[Any] = []


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

    def add_alike(self, columns: Sequence[NDArray[np.int_]], coefficient: float, high: list[float]) -> None:
        """Append rows whose terms all have one coefficient, without a lower bound."""
        count = np.cumsum([len(c) for c in columns])
        start = len(self.index)
        self.index += np.concatenate(columns).tolist()
        self.value += [coefficient] * int(count[-1])
        self.starts += (count + start).tolist()
        self.low += [-INF] * len(high)
        self.high += high

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

    def is_same(self, other: "LinearProgram") -> bool:
        """Tell whether another program is this one, bit by bit."""
        own = (*self._vectors(), self.matrix.indptr, self.matrix.indices, self.matrix.data)
        others = (*other._vectors(), other.matrix.indptr, other.matrix.indices, other.matrix.data)
        return all(map(np.array_equal, own, others))

    def _vectors(self) -> tuple[NDArray[Any], ...]:
        return self.cost, self.lower, self.upper, self.row_low, self.row_high, self.integer


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
    """An optimal point; `row_dual` is the change of the cost per unit of a row's bound (absent for integers).

    `basis` is that of the relaxation if there are integers.
    """

    x: Real
    row_dual: Real
    column_dual: Real
    objective: float
    bound: float
    basis: Basis | None = None


def solve_linear(program: LinearProgram, *, basis: Basis | None = None) -> Solution | None:
    """Solve with HiGHS, one thread, fixed seed; None when there is no feasible point.

    Args:
        program: the linear or mixed-integer program.
        basis: basis of a solution of a program of the same shape to start from.
    """
    if not len(program.cost):  # HiGHS has no optimum of nothing
        nothing = np.zeros(0)
        return Solution(
            x=nothing, row_dual=np.zeros(len(program.row_low)), column_dual=nothing, objective=0.0, bound=0.0
        )
    if not program.integer.any():
        return _decided_by_bounds(program) or _continuous(program, basis)
    many = int(program.integer.sum()) > MANY_DECISIONS
    known, found = _branched(program, basis, many=many)
    if known or found is not None:
        return found
    solver = _loaded(program, whole=program.integer)
    solver.setOptionValue("presolve", "choose")
    solver.setOptionValue("mip_rel_gap", RELATIVE_GAP)
    solver.setOptionValue("mip_max_nodes", MOST_NODES)
    solver.run()
    info = solver.getInfo()
    if solver.getModelStatus() not in _GOOD and info.primal_solution_status != 2:
        return None
    return _whole_solution(program, np.array(solver.getSolution().col_value), info.mip_dual_bound)


def _decided_by_bounds(program: LinearProgram) -> Solution | None:
    """Return the optimum if every column at its better bound breaks no row: no limit is in the way of any step."""
    cost = program.cost
    x = np.where(cost < 0, program.upper, program.lower)
    if not np.isfinite(x).all() or (program.lower > program.upper).any():
        return None
    value = program.matrix @ x
    if (value < program.row_low).any() or (value > program.row_high).any():
        return None
    objective = float(cost @ x)
    return Solution(x=x, row_dual=np.zeros(len(value)), column_dual=cost.copy(), objective=objective, bound=objective)


def _loaded(program: LinearProgram, whole: NDArray[np.bool_] | None = None, solver: Any = None) -> Any:
    """Return HiGHS with a program in it, of which no column or some are whole numbers."""
    columns, rows = len(program.cost), len(program.row_low)
    if solver is None:
        solver = highspy.Highs()
        for name, value in _OPTIONS:
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
        np.zeros(columns, dtype=np.int32) if whole is None else whole.astype(np.int32),
    )
    return solver


def _continuous(program: LinearProgram, basis: Basis | None) -> Solution | None:
    columns, rows = len(program.cost), len(program.row_low)
    try:
        solver = _idle.pop()
    except IndexError:
        solver = None
    solver = _loaded(program, solver=solver)
    if basis is not None and basis.shape == (columns, rows):
        solver.setBasis(basis.statuses)
    solver.run()
    if basis is not None and solver.getModelStatus() not in _GOOD:
        # From a basis of another program HiGHS may end at "infeasible" where a fresh start finds the optimum.
        solver.clearSolver()
        solver.run()
    as_made = True
    for option, value in _OTHER_WAYS:
        if solver.getModelStatus() in (*_GOOD, highspy.HighsModelStatus.kInfeasible):
            break
        as_made = False
        solver.clearSolver()
        solver.setOptionValue(option, value)
        solver.run()
    if solver.getModelStatus() not in _GOOD:
        return None
    found = solver.getSolution()
    objective = float(solver.getObjectiveValue())
    made = Solution(
        x=np.array(found.col_value),
        row_dual=np.array(found.row_dual),
        column_dual=np.array(found.col_dual),
        objective=objective,
        bound=objective,
        basis=Basis(statuses=solver.getBasis(), shape=(columns, rows)),
    )
    if as_made:
        solver.clearModel()
        _idle.append(solver)
    return made


def _branched(program: LinearProgram, basis: Basis | None, *, many: bool = False) -> tuple[bool, Solution | None]:
    """Return whether a few branches decide a program, and its solution (None: there is no feasible point).

    Of a program with many decisions the best solution found is returned, even if it is not decided.

    A market has thousands of continuous steps and few decisions, most of which the relaxation takes: each branch is
    a few pivots from the one before, where a solver for any program begins with seconds of presolve.
    """
    solver = _loaded(program)
    if basis is not None and basis.shape == (len(program.cost), len(program.row_low)):
        solver.setBasis(basis.statuses)
    numbers = np.flatnonzero(program.integer).astype(np.int32)
    best: Real | None = None
    least = np.inf
    root: Basis | None = None
    open_nodes = [(-np.inf, program.lower[numbers], program.upper[numbers])]
    branches = work = 0
    while branches < MOST_BRANCHES or (many and (work < MOST_WORK or best is None)):
        branches += 1
        while open_nodes and open_nodes[-1][0] >= least - max(ABSOLUTE_GAP, RELATIVE_GAP * abs(least)):
            open_nodes.pop()
        if not open_nodes:
            return True, None if best is None else _whole_solution(program, best, least, root)
        _, low, high = open_nodes.pop()
        solver.changeColsBounds(len(numbers), numbers, low, high)
        solver.run()
        status = solver.getModelStatus()
        if status == highspy.HighsModelStatus.kInfeasible:
            work += program.matrix.nnz
            continue
        if status not in _GOOD:
            return False, None
        if root is None:
            root = Basis(statuses=solver.getBasis(), shape=(len(program.cost), len(program.row_low)))
        info = solver.getInfo()
        work += (info.simplex_iteration_count + 1) * program.matrix.nnz
        value = float(info.objective_function_value)
        if value >= least - max(ABSOLUTE_GAP, RELATIVE_GAP * abs(least)):
            continue
        x = np.array(solver.getSolution().col_value)
        part = x[numbers]
        away = np.abs(part - np.round(part))
        k = int((np.where(away > WHOLE, part - np.floor(part), 0.0) if many else away).argmax())
        if away[k] <= WHOLE:
            best, least = x, value
            continue
        below, above = high.copy(), low.copy()
        below[k], above[k] = np.floor(part[k]), np.floor(part[k]) + 1
        children = [(value, low, below), (value, above, high)]
        # The nearer one comes first; of many choices, of which most are "no", the one that decides most.
        open_nodes += children if many or part[k] - np.floor(part[k]) > 0.5 else children[::-1]
    if not many or best is None:
        return False, None
    return False, _whole_solution(program, best, min([least, *(bound for bound, _, _ in open_nodes)]), root)


def _whole_solution(program: LinearProgram, x: Real, bound: float, basis: Basis | None = None) -> Solution:
    x = np.where(program.integer, np.round(x), x)
    return Solution(
        x=x,
        row_dual=np.zeros(len(program.row_low)),
        column_dual=np.zeros(len(program.cost)),
        objective=float(program.cost @ x),
        bound=float(bound),
        basis=basis,
    )
