"""From forecast to need to quantity: the rules HEDGE-06, 07, 09 and 10 on integers; pure.

Need is computed element by element from the leaves of the feeder tree to its root, because what is requested
below an element also acts on its flow.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from flexbus import events as ev
from flexbus.events import CongestionKind, LocationKind
from flexbus.quantities import PPM, Direction
from flexbus.time import QUARTER_HOUR_MS
from flexbus.views.harmonise import Cell

__all__ = ["FeederTree", "Key", "feeder_tree", "needs_of", "place_kind", "quantity_w", "runs", "thermal_need_w"]

# Element, kind of congestion, direction of the need.
Key = tuple[str, CongestionKind, Direction]


@dataclass(slots=True)
class FeederTree:
    """The closed branches as a tree from the infeed points; a branch that closes a loop is not in it.

    Attributes:
        depth: number of branches to the infeed point, by bus.
        above: branch towards the infeed point and the bus at its other end, by bus; infeed buses are absent.
        below: bus at the lower end, by branch of the tree.
        lower: buses next below, by bus.
        infeeds: infeed points by bus.
    """

    depth: dict[str, int] = field(default_factory=dict)
    above: dict[str, tuple[str, str]] = field(default_factory=dict)
    below: dict[str, str] = field(default_factory=dict)
    lower: dict[str, list[str]] = field(default_factory=dict)
    infeeds: dict[str, list[str]] = field(default_factory=dict)

    def depth_of(self, element_id: str, kind: CongestionKind) -> int:
        """Return how deep an element lies; a bus lies below the branch that feeds it, at the same depth."""
        if kind is CongestionKind.VOLTAGE:
            return self.depth.get(element_id, 0)
        return self.depth.get(self.below.get(element_id, ""), 0)

    def over(self, element_id: str, kind: CongestionKind) -> Iterable[str]:
        """Yield the branches and infeed points through which power at an element flows, the element left out."""
        bus = element_id if kind is CongestionKind.VOLTAGE else self.below.get(element_id)
        while bus is not None:
            step = self.above.get(bus)
            if step is None:
                yield from (i for i in self.infeeds.get(bus, ()) if i != element_id)
                return
            if step[0] != element_id:
                yield step[0]
            bus = step[1]

    def buses_behind(self, element_id: str) -> frozenset[str] | None:
        """Return the buses behind a branch or infeed point; None if it is not in the tree (a loop)."""
        roots = [b for b, infeeds in self.infeeds.items() if element_id in infeeds]
        if element_id in self.below:
            roots = [self.below[element_id]]
        if not roots:
            return None
        queue = list(roots)
        for bus in queue:
            queue.extend(self.lower.get(bus, ()))
        return frozenset(queue)


def feeder_tree(network: ev.NetworkModelPublished) -> FeederTree:
    """Return the feeder tree of a network: breadth first from the infeed points over closed branches."""
    near: dict[str, list[tuple[str, str]]] = {}
    for branch in sorted(network.branches, key=lambda b: b.branch_id):
        if branch.closed:
            near.setdefault(branch.from_bus_id, []).append((branch.branch_id, branch.to_bus_id))
            near.setdefault(branch.to_bus_id, []).append((branch.branch_id, branch.from_bus_id))
    tree = FeederTree()
    for infeed in sorted(network.infeed_points, key=lambda i: i.infeed_id):
        tree.infeeds.setdefault(infeed.bus_id, []).append(infeed.infeed_id)
        tree.depth[infeed.bus_id] = 0
    queue = list(tree.depth)
    for bus in queue:
        for branch_id, other in near.get(bus, ()):
            if other not in tree.depth:
                tree.depth[other] = tree.depth[bus] + 1
                tree.above[other] = (branch_id, bus)
                tree.below[branch_id] = other
                tree.lower.setdefault(bus, []).append(other)
                queue.append(other)
    return tree


def thermal_need_w(cell: Cell, product: ev.MarketProductDefined, correction_w: int, direction: Direction) -> int:
    """Return the need over an element in a quarter-hour, W (HEDGE-06).

    Args:
        cell: forecast of the element.
        product: margin, least probability and least need.
        correction_w: what requests below add to the flow, W, positive = export.
        direction: UP against import, DOWN against export.
    """
    up = direction is Direction.UP
    limit, flow = (cell.limit_import_w, cell.flow_min_w) if up else (cell.limit_export_w, cell.flow_max_w)
    if limit is None or flow is None or _unlikely(cell, product):
        return 0
    usable = limit * (PPM - product.margin_ppm) // PPM
    raw = max(0, (-(flow + correction_w) if up else flow + correction_w) - usable)
    return raw if raw >= product.min_need_w else 0


def _unlikely(cell: Cell, product: ev.MarketProductDefined) -> bool:
    return cell.probability_ppm is not None and cell.probability_ppm < product.p_min_ppm


def quantity_w(need_w: int, product: ev.MarketProductDefined) -> int:
    """Return what is requested for a need: by the sensitivity, rounded up to the step (HEDGE-10)."""
    offered = -(-need_w * PPM // product.sensitivity_ppm)
    return -(-offered // product.request_step_w) * product.request_step_w


def needs_of(
    cells: Mapping[tuple[str, CongestionKind], Mapping[int, Cell]],
    tree: FeederTree,
    product: ev.MarketProductDefined,
    starts: Sequence[int],
    stale_before_ms: int,
    kept_w: Mapping[Key, Sequence[int]],
    requested_w: Callable[[Key, int, int], int],
) -> dict[Key, list[int]]:
    """Return the need per element, direction and slot, from the leaves to the root (HEDGE-07).

    Args:
        cells: newest forecast by element and quarter-hour.
        tree: the feeder tree.
        product: product of the session.
        starts: start of each slot of the session, UTC ms.
        stale_before_ms: forecasts issued before are too old for a new request (HEDGE-04).
        kept_w: need last published per element and slot; it stays where the forecast is stale.
        requested_w: quantity that is requested for a need: element, start of the slot (UTC ms), need (W).
    """
    span_ms = product.resolution_s * 1000
    corrections: dict[str, list[int]] = {}
    found: dict[Key, list[int]] = {}
    # At the same depth a bus comes before the branch that feeds it.
    order = sorted(cells, key=lambda k: (-tree.depth_of(*k), k[1] is CongestionKind.THERMAL, k[0]))
    for element_id, kind in order:
        series = cells[element_id, kind]
        correction = corrections.get(element_id, [0] * len(starts))
        change = [0] * len(starts)
        for direction in Direction:
            key = (element_id, kind, direction)
            kept = kept_w.get(key, ())
            need = found[key] = [0] * len(starts)
            for i, start_ms in enumerate(starts):
                most, old = 0, False
                for quarter_ms in range(
                    start_ms // QUARTER_HOUR_MS * QUARTER_HOUR_MS, start_ms + span_ms, QUARTER_HOUR_MS
                ):
                    cell = series.get(quarter_ms)
                    if cell is None:
                        continue
                    old = old or cell.issued_at_ms < stale_before_ms
                    most = max(most, _need_w(cell, product, correction[i], direction))
                need[i] = (kept[i] if i < len(kept) else 0) if old else most
                effect_w = requested_w(key, start_ms, need[i]) * product.sensitivity_ppm // PPM
                change[i] += direction.sign * effect_w
        if any(change):
            for upper in tree.over(element_id, kind):
                total = corrections.setdefault(upper, [0] * len(starts))
                for i, watts in enumerate(change):
                    total[i] += watts
    return found


def _need_w(cell: Cell, product: ev.MarketProductDefined, correction_w: int, direction: Direction) -> int:
    if cell.kind is CongestionKind.THERMAL:
        return thermal_need_w(cell, product, correction_w, direction)
    if _unlikely(cell, product):
        return 0
    return cell.need_up_w if direction is Direction.UP else cell.need_down_w


def runs(values: Sequence[int]) -> list[tuple[int, tuple[int, ...]]]:
    """Return each run of consecutive slots that need something: index of its first slot, and its values."""
    found: list[tuple[int, tuple[int, ...]]] = []
    begin: int | None = None
    for index, value in enumerate((*values, 0)):
        if value > 0 and begin is None:
            begin = index
        elif value <= 0 and begin is not None:
            found.append((begin, tuple(values[begin:index])))
            begin = None
    return found


def place_kind(element_id: str, kind: CongestionKind, infeeds: Iterable[str]) -> LocationKind:
    """Return how the location of a request for an element is named."""
    if kind is CongestionKind.VOLTAGE:
        return LocationKind.BUS
    return LocationKind.INFEED_POINT if element_id in set(infeeds) else LocationKind.BRANCH
