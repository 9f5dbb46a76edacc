"""Quantities, their units, and the sign convention, stated once.

Sign: **positive = feeding the grid (production), negative = drawing from it**. Flexibility UP is more feed-in
or less draw, DOWN is less feed-in or more draw; a flexibility quantity itself is never negative.

All quantities on the wire and in the folds are 64-bit integers: power in W, reactive power in var, energy in
Wh, prices in thousandths of EUR per MWh. Money is exact: Wh x (1/1000 EUR / MWh) = 1e-9 EUR, so amounts are
integers of nano-EUR until an invoice line is rounded to cents by `cents`.
"""

from enum import Enum

__all__ = [
    "MAX_POWER_W",
    "MAX_PRICE_MILLI_PER_MWH",
    "NANO_PER_CENT",
    "PPM",
    "Direction",
    "amount_nano",
    "cents",
    "energy_wh",
]

PPM = 1_000_000
NANO_PER_CENT = 10_000_000
# 100 GW and 1 million EUR per MWh: larger numbers are a slip of unit, not a market.
MAX_POWER_W = 100_000_000_000
MAX_PRICE_MILLI_PER_MWH = 1_000_000_000


class Direction(Enum):
    """Direction of flexibility: UP is more feed-in or less draw, DOWN the opposite."""

    UP = "UP"
    DOWN = "DOWN"

    @property
    def sign(self) -> int:
        """Sign of a quantity of this direction in the feed-in-positive convention."""
        return 1 if self is Direction.UP else -1


def energy_wh(power_w: int, duration_s: int) -> int:
    """Return the energy of constant power over a period, rounded half away from zero.

    Args:
        power_w: power, W.
        duration_s: length of the period, s.
    """
    return _divide_half_away(power_w * duration_s, 3600)


def amount_nano(energy: int, price_milli_per_mwh: int) -> int:
    """Return the exact amount for energy at a price, in 1e-9 EUR.

    Args:
        energy: energy, Wh.
        price_milli_per_mwh: price, 1/1000 EUR per MWh.
    """
    return energy * price_milli_per_mwh


def cents(amount: int) -> int:
    """Round an amount in 1e-9 EUR to cents, half away from zero: the one rounding rule of invoices."""
    return _divide_half_away(amount, NANO_PER_CENT)


def _divide_half_away(numerator: int, denominator: int) -> int:
    sign = 1 if numerator >= 0 else -1
    return sign * ((2 * abs(numerator) + denominator) // (2 * denominator))
