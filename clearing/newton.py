"""Newton's method for one slot of the power flow, where the fixed point does not contract."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearing.factors import Factors

__all__ = ["newton", "transposed_solve"]

Real = NDArray[np.float64]
Index = NDArray[np.int_]
Complex = NDArray[np.complexfloating[Any, Any]]
# Row, column and value of the entries of a matrix; those at one place add up.
Entries = tuple[Index, Index, Complex]

STEPS = 40
# Up to this many rows LAPACK is faster than sparse factors in Python.
DENSE = 500


def newton(y: Entries, i_held: Complex, s: Complex, start: Complex, tolerance_pu: float) -> tuple[Complex, bool]:
    """Solve ``v * conj(y v + i_held) = s`` in polar coordinates, with halved steps while the mismatch grows.

    Args:
        y: admittance among the free nodes, per unit.
        i_held: current that the held voltages drive out of the free nodes (``y_fs @ v_held``), per unit.
        s: injections at the free nodes, per unit.
        start: first guess of the voltages, per unit.
        tolerance_pu: largest last step of any voltage, per unit.

    Returns:
        The voltages and whether they solve the equations.
    """
    v = start.copy()
    n = len(v)
    mismatch = _mismatch(y, i_held, s, v)
    scale = float(np.abs(s).max(initial=1.0))
    for _ in range(STEPS):
        try:
            step = _solved(jacobian(y, i_held, v), -np.r_[mismatch.real, mismatch.imag])
        except np.linalg.LinAlgError:  # singular: no solution near here
            return v, False
        if not np.isfinite(step).all():
            return v, False
        factor = 1.0
        while True:
            magnitude = np.abs(v) + factor * step[n:]
            new = magnitude * np.exp(1j * (np.angle(v) + factor * step[:n]))
            error = _mismatch(y, i_held, s, new)
            better = np.abs(error).max() < np.abs(mismatch).max() or np.abs(error).max() < 1e-9 * scale
            if (better and magnitude.min() > 0) or factor < 1e-3:
                break
            factor /= 2
        moved = float(np.abs(new - v).max())
        v, mismatch = new, error
        if moved <= tolerance_pu:
            return v, bool(np.abs(mismatch).max() < 1e-8 * scale)
    return v, bool(np.abs(mismatch).max() < 1e-9 * scale)


def transposed_solve(y: Entries, i_held: Complex, v: Complex, right: Real) -> Real:
    """Return x with J' x = right for the Jacobian of `jacobian`."""
    row, column, value = jacobian(y, i_held, v)
    return _solved((column, row, value), right)


def jacobian(y: Entries, i_held: Complex, v: Complex) -> tuple[Index, Index, Real]:
    """Return the entries of d(P, Q)/d(angle, magnitude) at voltages.

    Args:
        y: admittance among the free nodes, per unit.
        i_held: current that the held voltages drive out of the free nodes, per unit.
        v: their voltages, per unit.
    """
    row, column, value = y
    n = len(v)
    current, unit = _current(y, i_held, v), v / np.abs(v)
    by_angle = np.r_[-1j * v[row] * np.conj(value * v[column]), 1j * v * np.conj(current)]
    by_size = np.r_[v[row] * np.conj(value * unit[column]), unit * np.conj(current)]
    row, column = np.r_[row, np.arange(n)], np.r_[column, np.arange(n)]
    return (
        np.concatenate([row, row, row + n, row + n]),
        np.concatenate([column, column + n, column, column + n]),
        np.concatenate([by_angle.real, by_size.real, by_angle.imag, by_size.imag]),
    )


def _solved(matrix: tuple[Index, Index, Real], right: Real) -> Real:
    row, column, value = matrix
    size = len(right)
    if size > DENSE:
        return np.asarray(
            Factors(size, row, column, value.astype(complex)).solve(right[:, None].astype(complex))[:, 0].real
        )
    dense = np.zeros((size, size))
    np.add.at(dense, (row, column), value)
    return np.asarray(np.linalg.solve(dense, right), dtype=np.float64)


def _current(y: Entries, i_held: Complex, v: Complex) -> Complex:
    row, column, value = y
    current = i_held.copy()
    np.add.at(current, row, value * v[column])
    return current


def _mismatch(y: Entries, i_held: Complex, s: Complex, v: Complex) -> Complex:
    return np.asarray(v * np.conj(_current(y, i_held, v)) - s)
