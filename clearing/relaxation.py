"""Solving the relaxation of `clearing.formulation`, slot by slot, with Clarabel."""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Any

import clarabel
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from clearing.formulation import Pressed, SlotMultipliers, SlotProblem, assemble
from clearing.result import LimitKind

__all__ = ["COARSE", "FINE", "Relaxed", "cone_settings", "losses_gap", "solve_cone", "solve_slot", "solve_slots"]

Real = NDArray[np.float64]

# Up to this many columns all take part at once.
FEW_COLUMNS = 300
# Of gap and feasibility: two iterations more than for the coarse one, which counts where the fine one is not reached.
FINE, COARSE = 1e-10, 1e-9
# EUR per MWh: a column left out must be worth this much more than it costs to be let in.
WORTH_TAKING = 1e-6


class SolverFailedError(Exception):
    """The cone solver broke down, or its numbers are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Relaxed(SlotMultipliers):
    """The optimum of the relaxation; `bound` is the lower of its primal and dual value."""

    solved: bool
    bound: float
    x: Real
    v: Real
    p: Real
    q: Real
    current_mva: Real  # squared currents, pu of 1 MVA
    losses_mw: float
    rows: Real  # per row of the problem, >= 0 where an upper side presses
    measured: Real  # per measured request


def solve_slots(problems: list[SlotProblem], workers: int = 1) -> list[Relaxed | None]:
    """Solve the relaxations of many slots, in their order; the same digits with any number of workers.

    Where the solver breaks down there is no answer (None).

    Args:
        problems: the slots.
        workers: processes to spread them over (the solver holds the interpreter's lock); 1 = in this one.
    """
    workers = min(workers, len(problems))
    if workers <= 1:
        return [_answer(problem) for problem in problems]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return list(pool.map(_answer, problems, chunksize=-(-len(problems) // (4 * workers))))


def _answer(problem: SlotProblem) -> Relaxed | None:
    try:
        return solve_slot(problem)
    except SolverFailedError:
        return None


def solve_slot(problem: SlotProblem) -> Relaxed:
    """Solve the relaxation of one slot with Clarabel.

    A large book has a thousand columns in a slot and few that move: it is solved with those that are likely to, and
    with those whose price turns out to be worth it, until none is left that would be.

    Args:
        problem: the slot.

    Raises:
        SolverFailedError: the solver broke down.
    """
    chosen = _first_columns(problem)
    while not chosen.all():
        found = _solve_columns(_only(problem, chosen))
        reduced = problem.cost - problem.inject_p.T @ found.balance_p - problem.inject_q.T @ found.balance_q
        wanted = ~chosen & (reduced < -WORTH_TAKING)
        if found.solved and not wanted.any():
            x = np.zeros(len(chosen))
            x[chosen] = found.x
            # What the prices are off by in their last digits: so little that it moves no one, but a bound stays one.
            missed = float(np.minimum(reduced, 0.0)[~chosen] @ problem.upper[~chosen])
            return replace(found, x=x, bound=found.bound + missed)
        chosen = chosen | wanted if found.solved else np.ones_like(chosen)
    return _solve_columns(problem)


def _first_columns(problem: SlotProblem) -> NDArray[np.bool_]:
    """Return the columns to begin with: the likely ones, and all that more than their own bounds hold."""
    if problem.likely is None or len(problem.cost) <= FEW_COLUMNS:
        return np.ones(len(problem.cost), dtype=bool)
    chosen = problem.likely | ~np.isfinite(problem.upper)
    chosen[problem.rows.indices] = True
    for _, _, _, _, columns in problem.measured:
        chosen[list(columns)] = True
    return np.asarray(chosen)


def _only(problem: SlotProblem, chosen: NDArray[np.bool_]) -> SlotProblem:
    """Return a slot with some of its columns."""
    keep = np.flatnonzero(chosen)
    place = np.cumsum(chosen) - 1
    return replace(
        problem,
        cost=problem.cost[keep],
        upper=problem.upper[keep],
        inject_p=problem.inject_p[:, keep],
        inject_q=problem.inject_q[:, keep],
        rows=problem.rows[:, keep],
        measured=tuple((*m[:4], tuple(int(place[c]) for c in m[4])) for m in problem.measured),
        likely=None,
    )


def _solve_columns(problem: SlotProblem) -> Relaxed:
    """Solve the relaxation of one slot with all its columns."""
    made = assemble(problem)
    solution, scale = solve_cone(made.cost, made.matrix, made.rhs, made.kinds)
    base, grid = made.base, problem.grid
    m, n, k = len(grid.branch_ids), grid.nodes, len(problem.cost)
    point, dual = np.array(solution.x), np.array(solution.z) / scale
    p, q = point[made.at_p : made.at_p + m], point[made.at_q : made.at_q + m]
    current, v = point[made.at_l : made.at_l + m], point[made.at_v : made.at_v + n]
    fixed = -float(problem.energy_price @ problem.base_root)
    of_limits: list[Pressed] = []
    flows = iter(made.flow_rows)
    for limit, row in made.limit_rows:
        if limit.kind in (LimitKind.APPARENT_POWER_FROM, LimitKind.APPARENT_POWER_TO):
            of_limits.append(Pressed(limit, -float(dual[row + 1]) / base, -float(dual[row + 2]) / base))
        elif limit.kind in (LimitKind.CURRENT_FROM, LimitKind.CURRENT_TO):
            flow = next(flows)
            by_p, by_q = -float(dual[flow + 1]) / base, -float(dual[flow + 2]) / base
            of_limits.append(Pressed(limit, float(dual[row]) / base**2, flow_p=by_p, flow_q=by_q))
        else:
            of_limits.append(Pressed(limit, float(dual[row]) / base))
    inner = v[grid.from_node] / np.abs(grid.ratio) ** 2
    drop = -dual[made.drop_row]
    for pressed in of_limits:
        # The certificate has the square of a current at the to side as a linear form of P, Q, l and w; here it is
        # |S|^2 / w. At a state they differ by l / w times what the voltage drop misses, that is by nothing.
        if pressed.limit.kind is LimitKind.CURRENT_TO:
            j = pressed.limit.index
            drop[j] -= pressed.value * float(current[j]) * base**2 / float(v[grid.to_node[j]])
    r = base * np.asarray((1 / grid.y).real)
    return Relaxed(
        solved=str(solution.status) in ("Solved", "AlmostSolved"),
        bound=min(float(made.cost @ point), float(solution.obj_val_dual) / scale) + fixed,
        x=point[made.at_x : made.at_x + k] * base,
        v=np.sqrt(np.maximum(v, 0)),
        p=p * base,
        q=q * base,
        current_mva=current * base**2,
        balance_p=-dual[made.p_row] / base,
        balance_q=-dual[made.q_row] / base,
        drop=drop,
        losses_mw=losses_gap(p, q, current, inner, r) * base,
        limits=tuple(of_limits),
        cuts=np.maximum(dual[made.cut_rows], 0.0) * made.cut_unit / base**2,
        rows=dual[made.row_of] / base,
        measured=dual[made.measured_rows] / base,
    )


def solve_cone(
    cost: Real, matrix: sparse.csc_matrix, rhs: Real, kinds: tuple[Any, ...], bent: sparse.csc_matrix | None = None
) -> tuple[Any, float]:
    """Solve ``min cost x, matrix x + s = rhs, s in kinds`` with Clarabel; return its solution and the costs' scale.

    With `bent`, positive semidefinite, half of ``x bent x`` is added to the costs. Refining every linear system is half
    of the time and most programs reach the fine tolerance without; one that does not is solved again with it, to the
    coarse one.

    Raises:
        SolverFailedError: the solver broke down.
    """
    # Costs of the order of one make Clarabel fast; violation prices would otherwise cost 200 iterations.
    scale = 1.0 / max(float(np.abs(cost).max(initial=0.0)) / 30, 1e-9)
    quadratic = (
        sparse.csc_matrix((len(cost), len(cost))) if bent is None else sparse.csc_matrix(sparse.triu(bent) * scale)
    )
    for refine, tolerance in ((False, FINE), (True, COARSE)):
        settings = cone_settings(tolerance)
        settings.iterative_refinement_enable = refine
        try:
            solver = clarabel.DefaultSolver(quadratic, cost * scale, matrix, rhs, list(kinds), settings)
            solution = solver.solve()
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except BaseException as error:  # a panic of a Rust program is no Exception
            raise SolverFailedError(str(error)) from error
        if not (np.isfinite(solution.x).all() and np.isfinite(solution.z).all()):
            raise SolverFailedError(str(solution.status))
        if str(solution.status) == "Solved":
            break
    return solution, scale


def cone_settings(tolerance: float = COARSE) -> Any:
    """Return the settings of Clarabel: one thread, the same digits on every machine.

    Args:
        tolerance: of gap and feasibility.
    """
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.max_threads = 1
    settings.direct_solve_method = "qdldl"
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = tolerance
    settings.presolve_enable = False
    settings.max_iter = 100
    return settings


def losses_gap(p: Real, q: Real, current: Real, v: Real, r: Real) -> float:
    """Return the fictitious losses of a point: sum of r (l - (P^2 + Q^2) / v), the loss-weighted cone gap."""
    return float(np.sum(np.abs(r) * np.maximum(current - (p**2 + q**2) / np.maximum(v, 1e-6), 0.0)))
