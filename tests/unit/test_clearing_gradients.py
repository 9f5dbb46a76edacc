"""The turned-around sweep gives the same gradients of the infeed as the factors of the Jacobian."""

from dataclasses import replace

import numpy as np
import pytest

from clearing.network import build_grid
from clearing.pipeline import baseline_injections
from clearing.state import Measure, PowerFlow
from tests.unit.test_clearing_meshed import ring


@pytest.mark.parametrize("shift_deg", [0.0, 2.5])
def test_sweep_equals_jacobian(shift_deg: float) -> None:
    case = ring(uneven=True)
    net = case.network
    branches = (replace(net.branches[0], ratio=1.02, shift_deg=shift_deg), *net.branches[1:])
    grid = build_grid(replace(net, branches=branches))
    flow = PowerFlow(grid)
    state = flow.solve(baseline_injections(case, grid))
    assert state.converged.all()
    by_p, by_q, pull = flow.root_gradients(state)
    v = state.v[0]
    right_p, right_q = flow.gradients(flow.factor(v), v, [Measure("root_p", 0)])
    assert np.abs(right_p - np.round(right_p)).max() > 1e-3
    assert np.abs(by_p[0] - right_p).max() < 1e-10
    assert np.abs(by_q[0] - right_q).max() < 1e-10
    again, _, _ = flow.root_gradients(state, pull)
    assert np.abs(again - by_p).max() < 1e-12
