"""Factors in numpy alone, against LAPACK; and that nothing else is needed to check a result."""

import subprocess
import sys

import numpy as np
import pytest

from clearing.factors import FEW_NUMBERS, Factors
from clearing.newton import newton


def feeder(size: int, loops: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A random tree with a few loops and a phase shifter, every node with a little to earth."""
    rng = np.random.default_rng(seed)
    ends = [(k, int(rng.integers(max(0, k - 6), k))) for k in range(1, size)]
    ends += [(int(a), int(b)) for a, b in rng.integers(0, size, (loops, 2)) if a != b]
    row, column, value = [], [], []
    for n, (a, b) in enumerate(ends):
        y = 1 / complex(rng.uniform(0.01, 0.1), rng.uniform(0.01, 0.2))
        turn = np.exp(0.3j) if n == 2 else 1.0
        row += [a, a, b, b]
        column += [a, b, a, b]
        value += [y, -y / np.conj(turn), -y / turn, y]
    each = list(range(size))
    return np.array(row + each), np.array(column + each), np.array([*value, *rng.uniform(0.5, 2.0, size)])


def dense(size: int, row: np.ndarray, column: np.ndarray, value: np.ndarray) -> np.ndarray:
    full = np.zeros((size, size), dtype=complex)
    np.add.at(full, (row, column), value)
    return full


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("columns", [1, 96])
def test_both_solves_are_those_of_lapack(seed: int, columns: int) -> None:
    size = 40 * (seed + 1)
    entries = feeder(size, seed, seed)
    full, factors = dense(size, *entries), Factors(size, *entries)
    rng = np.random.default_rng(seed)
    right = rng.normal(size=(size, columns)) + 1j * rng.normal(size=(size, columns))
    assert np.abs(factors.solve(right) - np.linalg.solve(full, right)).max() < 1e-11
    assert np.abs(factors.solve_transposed(right) - np.linalg.solve(full.T, right)).max() < 1e-11


def test_the_inverse_and_the_factors_agree() -> None:
    size = 100
    factors = Factors(size, *feeder(size, 3, 1))
    right = np.ones((size, FEW_NUMBERS // size + 1), dtype=complex)
    assert np.abs(factors.solve(right)[:, :1] - factors.solve(right[:, :1])).max() < 1e-12


def test_a_matrix_without_pivot_is_refused() -> None:
    one = np.array([0, 1])
    with pytest.raises(np.linalg.LinAlgError, match="row 1"):
        Factors(2, one, one, np.array([1.0 + 0j, 0.0]))


@pytest.mark.parametrize("size", [50, 400])
def test_newton_finds_a_heavily_loaded_state_of_small_and_large_feeders(size: int) -> None:
    """A line of equal pieces whose end falls to 0.7: beyond 250 nodes without LAPACK."""
    each, y = np.arange(size), size / complex(0.05, 0.1)
    row = np.concatenate([each, each[:-1], each[1:]])
    column = np.concatenate([each, each[1:], each[:-1]])
    value = np.concatenate([np.full(size, 2 * y), np.full(2 * size - 2, -y)])
    value[size - 1] = y
    held = np.zeros(size, dtype=complex)
    held[0] = -y
    load = np.full(size, complex(-3.1, -0.7) / size)
    v, found = newton((row, column, value), held, load, np.ones(size, dtype=complex), 1e-12)
    assert found
    assert 0.6 < abs(v[-1]) < 0.9
    full = dense(size, row, column, value)
    assert np.abs(v * np.conj(full @ v + held) - load).max() < 1e-10


def test_certifying_loads_neither_scipy_nor_a_solver() -> None:
    code = (
        "import sys, clearing.certificate; "
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'scipy', 'highspy', 'clarabel', 'cvxpy', 'pandas'}))"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"
