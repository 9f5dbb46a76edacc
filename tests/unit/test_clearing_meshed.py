"""Loops: the relaxation does not know that angles add up around a loop; the clearing does."""

from dataclasses import replace

import numpy as np
import pytest

from clearing import Case, clear
from clearing.canonical import canonical_case
from clearing.certificate import certify
from clearing.exactness import angle_gaps, slot_problem
from clearing.pipeline import solve
from clearing.relaxation import solve_slot
from flexbus.events.clearing import SlotStatus
from flexbus.quantities import Direction
from tests.ac_opf import ac_opf
from tests.clearing_cases import bus, case, injection, line, network, offer

UP, DOWN = Direction.UP, Direction.DOWN


def ring(*, uneven: bool) -> Case:
    """Two ways from the infeed to a load; with uneven r/x the flows of least losses are not those of AC."""
    lines = [line("l1", "b0", "b1", 3.0, 110), line("l2", "b1", "b3", 3.0), line("l3", "b0", "b2", 3.0)]
    lines += [line("l4", "b2", "b3", 3.0), line("l5", "b3", "b4", 2.0)]
    if uneven:
        lines = [replace(b, r_ohm=b.r_ohm * 3, x_ohm=b.x_ohm / 3) if b.branch_id in ("l1", "l2") else b for b in lines]
    net = network([bus(f"b{k}") for k in range(5)], lines, price=60_000)
    return canonical_case(
        case(
            net,
            [injection("b1", [-3_600_000], [-400_000]), injection("b3", [-900_000]), injection("b4", [-2_500_000])],
            offers=(
                offer("up4", "b4", UP, [[(400_000, 55_000), (900_000, 75_000)]]),
                offer("up1", "b1", UP, [[(500_000, 90_000)]]),
                offer("down2", "b2", DOWN, [[(300_000, -58_000)]]),
            ),
        )
    )


@pytest.mark.parametrize("uneven", [False, True])
def test_loop_equals_ac_opf(uneven: bool) -> None:
    given = ring(uneven=uneven)
    cleared, oracle = solve(given), ac_opf(given)
    assert oracle.success
    assert cleared.awards.any()
    error = float(cleared.optimum.merit[0]) - oracle.objective
    assert abs(error) <= 1e-6 * max(1.0, abs(oracle.objective))
    for prices, right in ((cleared.prices.total_p(), oracle.price_p), (cleared.prices.total_q(), oracle.price_q)):
        mine = dict(zip(cleared.grid.bus_ids, prices[0], strict=True))
        assert max(abs(mine[b] - p) for b, p in right.items()) < 0.01


def test_loop_that_does_not_close_is_not_called_exact() -> None:
    cleared = solve(ring(uneven=True))
    relaxed = solve_slot(slot_problem(cleared.repair, cleared.optimum, cleared.multipliers, cleared.prices, 0))
    # Nothing is burnt, only the angles tell.
    assert relaxed.losses_mw < 1e-6
    assert np.abs(angle_gaps(cleared.grid, relaxed)).max() > 1e-4
    result = clear(ring(uneven=True))
    assert result.slots[0].status is SlotStatus.REPAIRED
    assert result.slots[0].ac_violation_ppm == 0
    assert certify(ring(uneven=True), result).findings == ()
    certificate = result.certificate
    assert certificate.lower_bound_nano is not None
    assert certificate.lower_bound_nano < certificate.value_nano
