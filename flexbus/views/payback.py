"""The payback of what was taken: when and how much of it comes back, as clearing and settlement both count it."""

from collections.abc import Sequence

from flexbus.events import Payback
from flexbus.quantities import PPM

__all__ = ["longest_slots", "payback_w"]


def payback_w(power_w: Sequence[int], payback: Payback) -> list[int]:
    """Return what comes back in the opposite direction per slot, from the first slot of what was taken on.

    The series goes on past its end by delay and window. What comes back in a slot is rounded half up once.

    Args:
        power_w: what was taken per slot, W >= 0.
        payback: factor, delay and window.
    """
    window, delay = _window(payback), _delay(payback)
    scaled = [0] * (len(power_w) + longest_slots(payback))
    for slot, taken in enumerate(power_w):
        if taken:
            for later in range(slot + 1 + delay, slot + 1 + delay + window):
                scaled[later] += taken * payback.factor_ppm
    return [(2 * s + PPM * window) // (2 * PPM * window) for s in scaled]


def longest_slots(payback: Payback) -> int:
    """Return how many slots past the end of what was taken something comes back."""
    return _delay(payback) + _window(payback)


def _delay(payback: Payback) -> int:
    return max(0, payback.delay_slots)


def _window(payback: Payback) -> int:
    return max(1, payback.window_slots)
