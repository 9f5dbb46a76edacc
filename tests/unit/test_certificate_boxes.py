"""What the certificate says bounds every state of a slot bounds the AC states of random dispatches."""

import random
from dataclasses import replace

import numpy as np
import pytest

from clearing import Case
from clearing.canonical import canonical_case
from clearing.case import BusShare, Payback, Quantity, StartChoice
from clearing.certificate.boxes import boxes_of, tree_of
from clearing.certificate.injected import injected_range
from clearing.dispatch import dispatch
from clearing.network import Grid, build_grid
from clearing.pipeline import _at_nodes, baseline_injections
from clearing.state import PowerFlow
from flexbus.events.grid import Branch, BranchKind
from flexbus.quantities import Direction
from tests.clearing_cases import case, injection, line, offer, random_feeder

SLOTS = 3


def offered(seed: int, loops: int) -> Case:
    """A random feeder of 12 buses, some lines towards the infeed, a tap changer, and offers of many kinds."""
    rng = random.Random(seed)
    net = random_feeder(seed, 12)
    branches = [
        replace(b, from_bus_id=b.to_bus_id, to_bus_id=b.from_bus_id) if rng.random() < 0.3 else b for b in net.branches
    ]
    branches[0] = Branch(
        branch_id="tap", kind=BranchKind.TRANSFORMER, from_bus_id="b0000", to_bus_id="b0001",
        r_ohm=0.2, x_ohm=1.0, b_s=-1e-5, g_s=1e-6, ratio=rng.choice([0.95, 1.05]),
    )  # fmt: skip
    branches += [line(f"loop{k}", f"b{rng.randint(1, 5):04d}", f"b{rng.randint(6, 11):04d}", 0.7) for k in range(loops)]
    net = replace(net, branches=tuple(branches))
    baseline = [
        injection(
            f"b{k:04d}", [rng.randrange(-600_000, 600_000) for _ in range(SLOTS)], [rng.randrange(-200_000, 9)] * 3
        )
        for k in range(1, 12)
    ]
    stack = [[(rng.randrange(10_000, 300_000), 1_000)] for _ in range(SLOTS)]
    down, up = Direction.DOWN, Direction.UP
    offers = (
        offer("a", "b0005", up, stack),
        offer("b", "b0011", down, stack, tan_phi_ppm=-300_000),
        offer("c", "b0007", up, stack, quantity=Quantity.REACTIVE),
        offer("d", "b0009", down, stack, payback=Payback(factor_ppm=900_000, delay_slots=0, window_slots=2)),
        replace(
            offer("e", None, up, stack),
            shares=(BusShare(bus_id="b0002", share_ppm=300_000), BusShare(bus_id="b0010", share_ppm=700_000)),
        ),
        replace(
            offer("f", "b0008", up, []),
            start_choice=StartChoice(profile=(90_000, 200_000), earliest_slot=0, latest_slot=1, price_milli_per_mwh=1),
        ),
    )
    return canonical_case(case(net, baseline, slots=SLOTS, offers=offers))


def some_dispatch(given: Case, rng: random.Random) -> np.ndarray:
    """Return awards (offers x slots) within the stacks; a profile starts somewhere."""
    taken = np.zeros((len(given.offers), SLOTS), dtype=int)
    for k, o in enumerate(given.offers):
        if o.start_choice is not None:
            first = rng.randint(0, 1)
            taken[k, first : first + 2] = o.start_choice.profile
            continue
        for t, entry in enumerate(o.slots):
            most = sum(s.quantity for s in entry.steps)
            taken[k, t] = rng.choice([0, most, rng.randint(0, most)])
    return taken


def tree(grid: Grid):  # type: ignore[no-untyped-def]
    return tree_of(
        grid.nodes, grid.held, grid.held_v, grid.from_node, grid.to_node, 1 / grid.y, grid.ratio, grid.shunt, grid.half
    )


@pytest.mark.parametrize("loops", [0, 1, 2])
@pytest.mark.parametrize("seed", range(6))
def test_every_state_that_offers_can_make_lies_in_the_boxes(seed: int, loops: int) -> None:
    given = offered(seed, loops)
    grid = build_grid(given.network)
    flow, base = PowerFlow(grid), baseline_injections(given, grid)
    low, high = (base + _at_nodes(given, grid, [part]) for part in injected_range(given))
    unrated = np.full((SLOTS, len(grid.branch_ids)), np.inf)
    boxes = boxes_of(tree(grid), low, high, np.abs(grid.held_v) ** 2, unrated)
    rng = random.Random(seed)
    bus_index = [b.bus_id for b in given.network.buses]
    assert sorted(bus_index) == bus_index
    for _ in range(20):
        p, q = dispatch(given, list(given.offers), some_dispatch(given, rng))
        s = _at_nodes(given, grid, [np.asarray((p + 1j * q) / 1e6)])
        assert (s.real >= low.real - 1e-9).all()
        assert (s.real <= high.real + 1e-9).all()
        assert (s.imag >= low.imag - 1e-9).all()
        assert (s.imag <= high.imag + 1e-9).all()
        state = flow.solve(s)
        assert state.converged.all()
        w = np.abs(state.v) ** 2
        assert (w >= boxes.w_low - 1e-9).all()
        assert (w <= boxes.w_high + 1e-9).all()
        inner = state.v[:, grid.from_node] / grid.ratio
        current = (inner - state.v[:, grid.to_node]) * grid.y
        squared = np.abs(current) ** 2
        assert (squared <= boxes.l_high * (1 + 1e-7) + 1e-9).all()
        far_v = np.where(tree(grid).inward, inner, state.v[:, grid.to_node])
        out = far_v * np.conj(current) * np.where(tree(grid).inward, -1.0, 1.0)
        w_far, by_p, by_q, constant = boxes.cut()
        assert (w_far * squared <= by_p * out.real + by_q * out.imag - constant + 1e-7).all()


def test_boxes_close_around_the_only_state_where_nothing_is_offered() -> None:
    given = replace(offered(1, 0), offers=())
    grid = build_grid(given.network)
    s = baseline_injections(given, grid)
    boxes = boxes_of(tree(grid), s, s, np.abs(grid.held_v) ** 2, np.full((SLOTS, len(grid.branch_ids)), np.inf))
    w = np.abs(PowerFlow(grid).solve(s).v) ** 2
    assert np.abs(boxes.w_low - w).max() < 1e-3
    assert np.abs(boxes.w_high - w).max() < 1e-3
