"""Where buses stand on the drawing: the published positions, or a tidy tree of the topology; pure."""

from collections import deque
from collections.abc import Iterable

from flexbus.events import NetworkModelPublished

__all__ = ["map_positions", "tree_positions"]

Positions = dict[str, tuple[float, float]]


def map_positions(network: NetworkModelPublished) -> Positions | None:
    """Return published positions scaled to the unit square, y downward; None where they make no drawing."""
    points = {b.bus_id: (b.x, b.y) for b in network.buses if b.x is not None and b.y is not None}
    if len(points) < len(network.buses) or len(set(points.values())) < max(2, len(points) // 2):
        return None
    xs = [float(x) for x, _ in points.values() if x is not None]
    ys = [float(y) for _, y in points.values() if y is not None]
    span = max(max(xs) - min(xs), max(ys) - min(ys)) or 1.0
    placed: Positions = {}
    taken: dict[tuple[float, float], int] = {}
    for bus_id, (x, y) in points.items():
        assert x is not None
        assert y is not None
        at = (round((x - min(xs)) / span, 4), round((max(ys) - y) / span, 4))
        # Busbars of one station share a position in most data; a small step keeps each one visible.
        again = taken.get(at, 0)
        taken[at] = again + 1
        placed[bus_id] = (at[0] + 0.012 * again, at[1] - 0.02 * again)
    return placed


def tree_positions(network: NetworkModelPublished) -> Positions:
    """Return a one-line layout: depth from the infeed to the right, feeders below each other.

    Only closed branches span the tree; what they do not reach follows below, each piece as its own tree.
    The longest way from a bus stays straight, side branches leave it downward.
    """
    neighbours: dict[str, list[str]] = {b.bus_id: [] for b in network.buses}
    for branch in network.branches:
        if branch.closed:
            neighbours[branch.from_bus_id].append(branch.to_bus_id)
            neighbours[branch.to_bus_id].append(branch.from_bus_id)
    placed: Positions = {}
    row = 0
    for root in (*(p.bus_id for p in network.infeed_points), *neighbours):
        if root not in placed:
            row = _place(root, neighbours, placed, row)
    width = max((x for x, _ in placed.values()), default=1.0) or 1.0
    height = max((y for _, y in placed.values()), default=1.0) or 1.0
    return {bus: (round(x / width, 4), round(y / height * 0.55, 4)) for bus, (x, y) in placed.items()}


def _place(root: str, neighbours: dict[str, list[str]], placed: Positions, row: int) -> int:
    children = _tree(root, neighbours, placed)
    order = list(_walk(root, children))
    depth_below: dict[str, int] = {}
    for bus in reversed(order):
        depth_below[bus] = 1 + max((depth_below[c] for c in children[bus]), default=-1)
    stack = [(root, 0, row)]
    next_row = row
    while stack:
        bus, depth, at = stack.pop()
        if at < 0:  # a side branch: the next free row
            next_row += 1
            at = next_row
        placed[bus] = (float(depth), float(at))
        ways = sorted(children[bus], key=lambda c: -depth_below[c])
        stack += [(side, depth + 1, -1) for side in reversed(ways[1:])]
        if ways:
            stack.append((ways[0], depth + 1, at))
    return next_row + 1


def _tree(root: str, neighbours: dict[str, list[str]], placed: Positions) -> dict[str, list[str]]:
    children: dict[str, list[str]] = {root: []}
    queue = deque([root])
    while queue:
        bus = queue.popleft()
        for other in neighbours[bus]:
            if other not in children and other not in placed:
                children[other] = []
                children[bus].append(other)
                queue.append(other)
    return children


def _walk(root: str, children: dict[str, list[str]]) -> Iterable[str]:
    stack = [root]
    while stack:
        bus = stack.pop()
        yield bus
        stack.extend(children[bus])
