"""Which infeed point a bus belongs to: the nearest one along closed branches."""

from collections import deque

from flexbus.events import NetworkModelPublished

__all__ = ["infeed_of_bus"]


def infeed_of_bus(network: NetworkModelPublished) -> dict[str, str]:
    """Return the infeed point of every bus that is connected to one.

    Nearest counts in closed branches; of several equally near, the first by id. A dead bus belongs to none.

    Args:
        network: the network model.
    """
    neighbours: dict[str, list[str]] = {b.bus_id: [] for b in network.buses}
    for branch in network.branches:
        if branch.closed:
            neighbours.setdefault(branch.from_bus_id, []).append(branch.to_bus_id)
            neighbours.setdefault(branch.to_bus_id, []).append(branch.from_bus_id)
    found: dict[str, str] = {}
    for point in sorted(network.infeed_points, key=lambda p: p.infeed_id):
        found.setdefault(point.bus_id, point.infeed_id)
    # Breadth first from all infeed points at once. Within a distance, buses are visited in the order of the ids of
    # their infeed points, so the first to reach a bus is the one that the rule names.
    frontier = deque(found)
    while frontier:
        bus_id = frontier.popleft()
        for neighbour in neighbours.get(bus_id, ()):
            if neighbour not in found:
                found[neighbour] = found[bus_id]
                frontier.append(neighbour)
    return found
