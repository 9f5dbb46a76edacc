"""Days on which many limits are exceeded that nobody can cure: they are priced, and get no rows."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from clearing import Case, repair
from clearing.canonical import canonical_case
from clearing.linearisation import Linearisation
from clearing.pipeline import Cleared, solve
from tests.clearing_cases import market_day


def narrow(band: int, feed_in: float) -> Case:
    """A day whose band no dispatch keeps in all slots: so many millionths around nominal."""
    given = market_day(5, 20, 12, 40, price=50_000, feed_in=feed_in)
    buses = tuple(
        replace(b, min_voltage_ppm=1_000_000 - band, max_voltage_ppm=1_000_000 + band) for b in given.network.buses
    )
    return canonical_case(replace(given, network=replace(given.network, buses=buses)))


def watched(given: Case, many: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Cleared, int]:
    """Clear, looking at so many exceeded limits as a whole; with the rows of the largest program."""
    made, rows = Linearisation.program, [0]

    def program(self: Any, *of: Any) -> Any:
        found = made(self, *of)
        rows.append(len(found[1].limits))
        return found

    with monkeypatch.context() as patch:
        patch.setattr(repair, "MANY_EXCEEDED", many)
        patch.setattr(Linearisation, "program", program)
        return solve(given), max(rows)


@pytest.mark.parametrize(("band", "feed_in"), [(2_000, 9e6), (4_000, 9e6), (10_000, 16e6)])
def test_the_dispatch_is_the_same_with_fewer_rows(band: int, feed_in: float, monkeypatch: pytest.MonkeyPatch) -> None:
    given = narrow(band, feed_in)
    looked, few = watched(given, 1, monkeypatch)
    plain, all_rows = watched(given, 10**9, monkeypatch)
    a, b = float(looked.optimum.merit.sum()), float(plain.optimum.merit.sum())
    assert a <= b + 1e-6 * max(1.0, abs(b))
    assert np.abs(looked.awards - plain.awards).max() <= 2_000  # W, of offers that cost the same
    assert few < all_rows
