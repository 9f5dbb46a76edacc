"""The own power flow against power-grid-model, a closed form, and Kirchhoff's laws."""

from typing import Any

import numpy as np
import power_grid_model as pgm
import pytest
from power_grid_model import ComponentType

from clearing.power_flow import AcGrid, AcState, PowerFlowInputError, solve_ac
from flexbus.events.grid import Branch, BranchKind, Bus, InfeedPoint, NetworkModelPublished


def bus(k: int, volt: int = 20_000, **more: Any) -> Bus:
    return Bus(bus_id=f"b{k}", nominal_voltage_v=volt, min_voltage_ppm=900_000, max_voltage_ppm=1_100_000, **more)


def line(f: int, t: int, r: float = 0.4, x: float = 0.3, **more: Any) -> Branch:
    more.setdefault("kind", BranchKind.LINE)
    name = f"l{f}-{t}" + ("" if "suffix" not in more else str(more.pop("suffix")))
    return Branch(branch_id=name, from_bus_id=f"b{f}", to_bus_id=f"b{t}", r_ohm=r, x_ohm=x, **more)


def root(k: int = 0, ppm: int = 1_000_000, **more: Any) -> InfeedPoint:
    return InfeedPoint(infeed_id=f"r{k}", bus_id=f"b{k}", voltage_ppm=ppm, **more)


def net(buses: list[Bus], branches: list[Branch], roots: list[InfeedPoint] | None = None) -> NetworkModelPublished:
    return NetworkModelPublished(
        area_id="a",
        network_id="n",
        revision=1,
        valid_from_ms=0,
        buses=tuple(buses),
        branches=tuple(branches),
        infeed_points=tuple(roots or [root()]),
    )


def random_grid(seed: int) -> tuple[NetworkModelPublished, np.ndarray, np.ndarray]:
    """A grid with a 110/20 kV transformer, loops, shunts, an open line, fuses and a second infeed point."""
    rng = np.random.default_rng(seed)
    n = 30
    buses = [bus(0, 110_000)] + [
        bus(k, shunt_g_s=float(rng.uniform(0, 1e-5)), shunt_b_s=float(rng.uniform(-1e-4, 1e-4))) for k in range(1, n)
    ]
    branches = [line(0, 1, 0.05, 1.9, g_s=1e-4, b_s=-5e-4, ratio=1.025, shift_deg=150.0, kind=BranchKind.TRANSFORMER)]
    for k in range(2, n):
        up = int(rng.integers(max(1, k - 4), k))
        if rng.random() < 0.15:
            branches.append(line(up, k, 0.0, 0.0, kind=BranchKind.SWITCH))
        else:
            branches.append(line(up, k, *rng.uniform(0.05, 0.8, 2), g_s=1e-7, b_s=float(rng.uniform(0, 3e-5))))
    branches.append(line(5, 25, 0.3, 0.4, suffix="loop", ratio=0.99, shift_deg=1.0, kind=BranchKind.TRANSFORMER))
    branches.append(line(8, 28, 0.3, 0.4, suffix="open", closed=False))
    roots = [root(0, 1_020_000)]
    if seed % 2:
        roots.append(root(20, 1_010_000, angle_deg=-150.5))
    p = rng.uniform(-4e5, 3e5, (5, n))
    q = rng.uniform(-2e5, 1e5, (5, n))
    p[:, 0] = q[:, 0] = 0
    return net(buses, branches, roots), p, q


def by_power_grid_model(network: NetworkModelPublished, p: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, ...]:
    """Solve with power-grid-model, built from the events alone.

    Its links and its source have an impedance: joined buses become one node, the source is made stiff.
    """
    ids = {b.bus_id: k for k, b in enumerate(network.buses)}
    joined = list(range(len(ids)))
    for b in network.branches:
        if b.r_ohm == 0 and b.x_ohm == 0 and b.closed:
            old, keep = joined[ids[b.to_bus_id]], joined[ids[b.from_bus_id]]
            joined = [keep if k == old else k for k in joined]
    ids = {b.bus_id: joined[k] for k, b in enumerate(network.buses)}
    held = sorted(set(joined))
    new = pgm.initialize_array
    node = new("input", "node", len(held))
    node["id"] = held
    node["u_rated"] = [network.buses[k].nominal_voltage_v for k in held]
    pis = [b for b in network.branches if b.closed and (b.r_ohm or b.x_ohm)]
    generic = new("input", "generic_branch", len(pis))
    generic["id"] = 10_000 + np.arange(len(pis))
    generic["from_node"] = [ids[b.from_bus_id] for b in pis]
    generic["to_node"] = [ids[b.to_bus_id] for b in pis]
    generic["from_status"] = generic["to_status"] = 1
    for name, values in {
        "r1": [b.r_ohm for b in pis],
        "x1": [b.x_ohm for b in pis],
        "g1": [b.g_s for b in pis],
        "b1": [b.b_s for b in pis],
        "k": [b.ratio for b in pis],
        "theta": [np.deg2rad(b.shift_deg) for b in pis],
    }.items():
        generic[name] = values
    shunt = new("input", "shunt", len(ids))
    shunt["id"] = 30_000 + np.arange(len(ids))
    shunt["node"] = list(ids.values())
    shunt["status"] = 1
    shunt["g1"] = [b.shunt_g_s for b in network.buses]
    shunt["b1"] = [b.shunt_b_s for b in network.buses]
    source = new("input", "source", len(network.infeed_points))
    source["id"] = 40_000 + np.arange(len(network.infeed_points))
    source["node"] = [ids[r.bus_id] for r in network.infeed_points]
    source["status"] = 1
    source["u_ref"] = [r.voltage_ppm / 1e6 for r in network.infeed_points]
    source["u_ref_angle"] = [np.deg2rad(r.angle_deg) for r in network.infeed_points]
    source["sk"] = 1e16
    load = new("input", "sym_load", len(ids))
    load["id"] = 50_000 + np.arange(len(ids))
    load["node"] = list(ids.values())
    load["status"] = 1
    load["type"] = pgm.LoadGenType.const_power
    load["p_specified"] = load["q_specified"] = 0
    update = new("update", "sym_load", p.shape)
    update["id"] = load["id"]
    update["p_specified"], update["q_specified"] = -p, -q
    data = {
        "node": node,
        "generic_branch": generic,
        "shunt": shunt,
        "source": source,
        "sym_load": load,
    }
    model = pgm.PowerGridModel({name: rows for name, rows in data.items() if len(rows)})
    out = model.calculate_power_flow(
        update_data={"sym_load": update}, error_tolerance=1e-9, calculation_method="newton_raphson"
    )
    node, source_out = out[ComponentType.node], out[ComponentType.source]
    v = (node["u_pu"] * np.exp(1j * node["u_angle"]))[:, [held.index(k) for k in joined]]
    flows = np.full((p.shape[0], len(network.branches)), np.nan)
    flows[:, [network.branches.index(b) for b in pis]] = out[ComponentType.generic_branch]["p_from"]
    return v, flows, source_out["p"], source_out["q"]


@pytest.mark.parametrize("seed", range(8))
def test_agrees_with_power_grid_model(seed: int) -> None:
    network, p, q = random_grid(seed)
    state = solve_ac(network, p, q)
    v, p_from, root_p, root_q = by_power_grid_model(network, p, q)
    assert state.converged.all()
    assert np.abs(state.voltage_pu - v).max() < 1e-8
    known = ~np.isnan(p_from[0])
    assert np.abs(state.p_from_w - p_from)[:, known].max() < 0.1
    assert np.abs(state.root_p_w - root_p).max() < 1.0
    assert np.abs(state.root_q_var - root_q).max() < 1.0


@pytest.mark.parametrize("seed", range(4))
def test_power_balances_at_every_bus(seed: int) -> None:
    network, p, q = random_grid(seed)
    state = solve_ac(network, p, q)
    assert np.abs(residual_va(network, state, p + 1j * q)).max() < 1e-3


def residual_va(network: NetworkModelPublished, state: AcState, injection: np.ndarray) -> np.ndarray:
    """Power that appears from nowhere at each bus; shunts at nominal voltage squared."""
    index = {b.bus_id: k for k, b in enumerate(network.buses)}
    left = injection.astype(complex).copy()
    for k, point in enumerate(network.infeed_points):
        left[:, index[point.bus_id]] += state.root_p_w[:, k] + 1j * state.root_q_var[:, k]
    for k, branch in enumerate(network.branches):
        left[:, index[branch.from_bus_id]] -= state.p_from_w[:, k] + 1j * state.q_from_var[:, k]
        left[:, index[branch.to_bus_id]] -= state.p_to_w[:, k] + 1j * state.q_to_var[:, k]
    for k, b in enumerate(network.buses):
        volt2 = np.abs(state.voltage_pu[:, k] * b.nominal_voltage_v) ** 2
        left[:, k] -= volt2 * complex(b.shunt_g_s, -b.shunt_b_s)
    return left


def test_two_buses_closed_form() -> None:
    # b0 (1 pu) --- r + jx --- b1 with p, q: v1^2 solves w^2 - (1 + 2(rp + xq)) w + |z|^2 |s|^2 = 0.
    p, q, r, x, volt = -2e6, -1e6, 1.0, 2.0, 20_000
    state = solve_ac(net([bus(0), bus(1)], [line(0, 1, r, x)]), np.array([[0, p]]), np.array([[0, q]]))
    a = 1 + 2 * (r * p + x * q) / volt**2
    w = (a + np.sqrt(a * a - 4 * (r * r + x * x) * (p * p + q * q) / volt**4)) / 2
    assert abs(state.voltage_pu[0, 1]) == pytest.approx(np.sqrt(w), abs=1e-13)
    loss = r * (p * p + q * q) / (w * volt**2)
    assert state.root_p_w[0, 0] == pytest.approx(-p + loss, abs=1e-6)
    assert state.losses_w()[0] == pytest.approx(loss, abs=1e-6)
    assert state.i_to_a[0, 0] == pytest.approx(np.hypot(p, q) / (np.sqrt(3 * w) * volt), rel=1e-12)


def test_export_leaves_by_the_infeed_point_with_negative_sign() -> None:
    state = solve_ac(net([bus(0), bus(1)], [line(0, 1)]), np.array([[0, 1e6]]), np.zeros((1, 2)))
    assert -1e6 < state.root_p_w[0, 0] < -0.99e6


def test_near_the_nose_newton_takes_over() -> None:
    # At x = 20 ohm and 20 kV the most that can be drawn is 10 MW; 9.99 MW contracts far too slowly.
    network = net([bus(0), bus(1)], [line(0, 1, 0.0, 20.0)])
    state = solve_ac(network, np.array([[0, -9.99e6], [0, -1e6]]), np.zeros((2, 2)))
    assert state.converged.all()
    theta = np.arcsin(2 * 9.99e6 * 20 / 20_000**2) / 2
    assert abs(state.voltage_pu[0, 1]) == pytest.approx(np.cos(theta), abs=1e-9)


def test_beyond_the_nose_the_slot_says_so_and_the_others_stand() -> None:
    network = net([bus(0), bus(1)], [line(0, 1, 0.0, 20.0)])
    state = solve_ac(network, np.array([[0, -10.1e6], [0, -1e6]]), np.zeros((2, 2)))
    assert state.converged.tolist() == [False, True]
    assert np.isnan(state.voltage_pu[0, 1])
    assert np.isnan(state.p_from_w[0, 0])
    assert np.isfinite(state.root_p_w[1, 0])


def test_island_is_de_energised_not_an_error() -> None:
    #  b0 --- b1 -/ - b2 --- b3
    network = net([bus(k) for k in range(4)], [line(0, 1), line(1, 2, closed=False), line(2, 3)])
    state = solve_ac(network, np.full((2, 4), -1e5), np.zeros((2, 4)))
    assert state.energised.tolist() == [True, True, False, False]
    assert np.abs(state.voltage_pu[:, 2:]).max() == 0
    assert np.abs(state.p_from_w[:, 1:]).max() == 0
    assert state.converged.all()
    assert state.root_p_w[0, 0] == pytest.approx(2e5, rel=1e-2)


def test_loop_of_zero_impedance_shares_evenly() -> None:
    # Two busbar couplers in parallel between b0 and b1.
    couplers = [line(0, 1, 0, 0, suffix="a"), line(0, 1, 0, 0, suffix="b")]
    network = net([bus(k) for k in range(3)], [*couplers, line(1, 2)])
    state = solve_ac(network, np.array([[0, 0, -1e6]]), np.zeros((1, 3)))
    assert state.p_from_w[0, 0] == pytest.approx(state.p_from_w[0, 1])
    assert state.p_from_w[0, :2].sum() == pytest.approx(state.root_p_w[0, 0])


def test_loading_is_the_worst_of_the_limits() -> None:
    limits = {"max_current_ma": 50_000, "max_from_current_ma": 40_000, "max_apparent_power_va": 2_000_000}
    network = net([bus(k) for k in range(3)], [line(0, 1, **limits), line(1, 2)])
    state = solve_ac(network, np.array([[0, -1e6, -1e5]]), np.zeros((1, 3)))
    s = np.hypot(state.p_from_w[0, 0], state.q_from_var[0, 0])
    expect = max(state.i_to_a[0, 0] / 50, state.i_from_a[0, 0] / 40, s / 2e6) * 1e6
    assert state.loading_ppm[0, 0] == pytest.approx(expect)
    assert np.isnan(state.loading_ppm[0, 1])


def test_only_held_buses_need_no_solving() -> None:
    network = net([bus(0), bus(1)], [line(0, 1)], [root(0), root(1, 1_010_000)])
    state = solve_ac(network, np.zeros((1, 2)), np.zeros((1, 2)))
    assert state.root_p_w[0, 1] > 0 > state.root_p_w[0, 0]


@pytest.mark.parametrize(
    ("network", "p", "word"),
    [
        (net([bus(0)], [line(0, 9)]), np.zeros((1, 1)), "b9"),
        (net([bus(0), bus(1)], [line(0, 1, 0, 0, ratio=1.1)]), np.zeros((1, 2)), "l0-1"),
        (net([bus(0), bus(1)], [line(0, 1, 0, 0)], [root(0), root(1, 1_010_000)]), np.zeros((1, 2)), "r1"),
        (net([bus(0), bus(1)], [line(0, 1)]), np.array([[0, np.nan]]), "b1"),
        (net([bus(0), bus(1)], [line(0, 1)]), np.zeros((1, 3)), "expected slots x 2"),
    ],
)
def test_what_cannot_be_solved_names_the_element(network: NetworkModelPublished, p: np.ndarray, word: str) -> None:
    with pytest.raises(PowerFlowInputError, match=word):
        solve_ac(network, p, np.zeros_like(p))


def test_slots_do_not_influence_each_other() -> None:
    network, p, q = random_grid(3)
    grid = AcGrid(network)
    together = grid.solve(p, q).voltage_pu
    alone = np.concatenate([grid.solve(p[t : t + 1], q[t : t + 1]).voltage_pu for t in range(len(p))])
    assert np.abs(together - alone).max() < 1e-13


@pytest.mark.parametrize("seed", range(4))
def test_it_ends_at_the_same_state_wherever_it_starts(seed: int) -> None:
    network, p, q = random_grid(seed)
    grid = AcGrid(network)
    there = grid.solve(p, q).voltage_pu
    for slots in (slice(0, 5), slice(0, 1)):
        near = grid.solve(0.8 * p[slots], 1.1 * q[slots]).voltage_pu
        found = grid.solve(p[slots], q[slots], near)
        assert found.converged.all()
        assert np.abs(found.voltage_pu - there[slots]).max() < 1e-12


def test_a_start_that_is_no_state_is_no_worse_than_none() -> None:
    network, p, q = random_grid(1)
    grid = AcGrid(network)
    nowhere = np.zeros((5, 30), dtype=complex)
    assert np.abs(grid.solve(p, q, nowhere).voltage_pu - grid.solve(p, q).voltage_pu).max() < 1e-12
