"""Newton's method for one slot of the power flow, where the fixed point does not contract."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import splu

__all__ = ["newton"]

Complex = NDArray[np.complexfloating[Any, Any]]

STEPS = 40


def newton(
    y: sparse.csc_matrix, i_held: Complex, s: Complex, start: Complex, tolerance_pu: float
) -> tuple[Complex, bool]:
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
        current = y @ v + i_held
        unit = v / np.abs(v)
        ds_da = 1j * (sparse.diags(v * np.conj(current)) - sparse.diags(v) @ (y @ sparse.diags(v)).conj())
        ds_dm = sparse.diags(unit * np.conj(current)) + sparse.diags(v) @ (y @ sparse.diags(unit)).conj()
        jacobian = sparse.bmat([[ds_da.real, ds_dm.real], [ds_da.imag, ds_dm.imag]], format="csc")
        try:
            step = splu(jacobian).solve(-np.r_[mismatch.real, mismatch.imag])
        except RuntimeError:  # singular: no solution near here
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


def _mismatch(y: sparse.csc_matrix, i_held: Complex, s: Complex, v: Complex) -> Complex:
    return np.asarray(v * np.conj(y @ v + i_held) - s)
