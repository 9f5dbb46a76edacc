"""Splitting a whole number among many by weight, exactly: the one rule for shares of energy and of power."""

from collections.abc import Sequence

__all__ = ["apportion"]


def apportion(total: int, weights: Sequence[int]) -> tuple[int, ...]:
    """Split a whole number in proportion to weights (largest remainder; ties go to the first).

    The shares are whole, never negative and sum to the total. A share never exceeds its weight while the total
    does not exceed their sum, and never falls below it once the total has reached the sum.

    Args:
        total: what is split, >= 0, any unit.
        weights: one weight >= 0 each; the caller's order settles ties, so it should be canonical.

    Raises:
        ValueError: a negative number, or something to split and nobody to take it.
    """
    whole = sum(weights)
    if total < 0 or any(w < 0 for w in weights):
        raise ValueError(f"cannot split {total} by {list(weights)}: neither may be negative")
    if total == 0:
        return (0,) * len(weights)
    if whole == 0:
        raise ValueError(f"cannot split {total}: all weights are zero")
    shares = [total * w // whole for w in weights]
    left = total - sum(shares)
    if left:
        by_remainder = sorted(range(len(weights)), key=lambda i: (-(total * weights[i] % whole), i))
        for i in by_remainder[:left]:
            shares[i] += 1
    return tuple(shares)
