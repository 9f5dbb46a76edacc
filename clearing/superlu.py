"""Factors of an admittance matrix by SuperLU: for the clearing, faster over many slots than `clearing.factors`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import splu

__all__ = ["SMALL", "SuperFactors"]

# Rows up to which OpenBLAS takes one thread for a product with a vector.
SMALL = 60

Complex = NDArray[np.complexfloating[Any, Any]]
Index = NDArray[np.int_]


class SuperFactors:
    """LU factors of a square matrix; as `clearing.factors.Factors`."""

    def __init__(self, size: int, row: Index, column: Index, value: Complex) -> None:
        matrix = sparse.csc_matrix((value, (row, column)), shape=(size, size))
        # Symmetric mode: the matrix has a symmetric pattern and a heavy diagonal, a tree then has no fill-in.
        options = {"SymmetricMode": True}
        self._factor: Any = splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.01, options=options)
        # Of a small matrix the inverse is faster for one column.
        self._inverse = self._factor.solve(np.eye(size, dtype=complex)) if size <= SMALL else None

    def solve(self, right: Complex) -> Complex:
        """Return x with ``matrix @ x = right`` (rows x any number of columns)."""
        if self._inverse is not None and right.shape[1] == 1:
            return np.asarray(self._inverse.dot(right))
        return np.asarray(self._factor.solve(right))

    def solve_transposed(self, right: Complex) -> Complex:
        """Return x with ``matrix.T @ x = right`` (rows x any number of columns)."""
        return np.asarray(self._factor.solve(right, trans="T"))
