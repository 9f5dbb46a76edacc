"""A grid as SVG: one drawing per view, colour-blind safe, readable in print."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from flexbus.events.grid import BranchKind, NetworkModelPublished

__all__ = ["Mark", "Scale", "draw_grid", "heat_map", "positions"]

WIDTH, HEIGHT, MARGIN = 560.0, 400.0, 26.0
NARROW, WIDE = 130.0, 240.0  # of a legend; both its ends may be long numbers
# Okabe-Ito vermillion: what is wrong is never told by colour alone, it is also dashed or ringed.
WRONG = "#d55e00"
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Scale:
    """A colour scale with its ends named.

    Args:
        low: value of the first colour.
        high: value of the last colour.
        colours: hex colours, evenly spread.
        unit: printed behind the numbers of the legend.
        clipped: values lie beyond the ends, and the legend says so.
    """

    low: float
    high: float
    colours: tuple[str, ...]
    unit: str
    clipped: bool = False

    def colour(self, value: float) -> str:
        """Return the colour of a value; values beyond the ends take the end's colour."""
        if math.isnan(value):
            return "#ffffff"
        span = self.high - self.low or 1.0
        place = min(max((value - self.low) / span, 0.0), 1.0) * (len(self.colours) - 1)
        k = min(int(place), len(self.colours) - 2)
        return _mix(self.colours[k], self.colours[k + 1], place - k)

    def legend(self, x: float, y: float, width: float) -> str:
        """Return the scale as a bar with its numbers."""
        steps = 24
        bars = "".join(
            f'<rect x="{x + k * width / steps:.1f}" y="{y}" width="{width / steps + 0.5:.1f}" height="8" '
            f'fill="{self.colour(self.low + (self.high - self.low) * k / (steps - 1))}"/>'
            for k in range(steps)
        )
        under, over = ("\N{LESS-THAN OR EQUAL TO} ", "\N{GREATER-THAN OR EQUAL TO} ") if self.clipped else ("", "")
        return (
            f'{bars}<text x="{x}" y="{y + 18}">{under}{self.low:,.10g}</text>'
            f'<text x="{x + width}" y="{y + 18}" text-anchor="end">{over}{self.high:,.10g} {escape(self.unit)}</text>'
        )


@dataclass(frozen=True, slots=True)
class Mark:
    """A triangle at a bus: flexibility taken there, up or down, with its size 0..1."""

    bus_id: str
    up: bool
    size: float
    title: str


def _mix(a: str, b: str, share: float) -> str:
    parts = [round(int(a[k : k + 2], 16) * (1 - share) + int(b[k : k + 2], 16) * share) for k in (1, 3, 5)]
    return "#" + "".join(f"{p:02x}" for p in parts)


def positions(network: NetworkModelPublished) -> dict[str, Point]:
    """Return a place on the drawing for every bus: its own coordinates, or a tree from the infeed points."""
    if all(bus.x is not None and bus.y is not None for bus in network.buses):
        places = {bus.bus_id: (bus.x or 0.0, -(bus.y or 0.0)) for bus in network.buses}
        if len(set(places.values())) > len(places) // 2:
            return _fit(places)
    return _fit(_tree(network))


def _tree(network: NetworkModelPublished) -> dict[str, Point]:
    near: dict[str, list[str]] = {bus.bus_id: [] for bus in network.buses}
    for branch in network.branches:
        if branch.closed:
            near[branch.from_bus_id].append(branch.to_bus_id)
            near[branch.to_bus_id].append(branch.from_bus_id)
    depth: dict[str, int] = {}
    children: dict[str, list[str]] = {bus: [] for bus in near}
    roots = [point.bus_id for point in network.infeed_points] + sorted(near)
    tops = []
    for root in roots:
        if root in depth:
            continue
        tops.append(root)
        depth[root] = 0
        queue = [root]
        for bus in queue:
            for other in near[bus]:
                if other not in depth:
                    depth[other] = depth[bus] + 1
                    children[bus].append(other)
                    queue.append(other)
    places: dict[str, Point] = {}
    leaf = 0.0
    for top in tops:
        # Post-order without recursion: a feeder can be a thousand buses deep.
        stack: list[tuple[str, bool]] = [(top, False)]
        while stack:
            bus, done = stack.pop()
            below = children[bus]
            if not below:
                places[bus] = (float(depth[bus]), leaf)
                leaf += 1.0
            elif done:
                heights = [places[child][1] for child in below]
                places[bus] = (float(depth[bus]), sum(heights) / len(heights))
            else:
                stack.append((bus, True))
                stack.extend((child, False) for child in reversed(below))
    return places


def _fit(places: dict[str, Point]) -> dict[str, Point]:
    xs, ys = [p[0] for p in places.values()], [p[1] for p in places.values()]
    span_x, span_y = max(xs) - min(xs) or 1.0, max(ys) - min(ys) or 1.0
    return {
        bus: (
            MARGIN + (x - min(xs)) / span_x * (WIDTH - 2 * MARGIN),
            MARGIN + (y - min(ys)) / span_y * (HEIGHT - 2 * MARGIN),
        )
        for bus, (x, y) in places.items()
    }


def draw_grid(
    network: NetworkModelPublished,
    title: str,
    *,
    bus_value: Callable[[str], float],
    bus_scale: Scale,
    bus_wrong: Callable[[str], bool],
    bus_text: Callable[[str], str],
    branch_value: Callable[[str], float],
    branch_scale: Scale | None,
    branch_text: Callable[[str], str],
    marks: Sequence[Mark] = (),
) -> str:
    """Return one drawing.

    Args:
        network: the grid.
        title: heading of the drawing.
        bus_value: value that colours a bus.
        bus_scale: its scale.
        bus_wrong: whether a bus breaks a limit (ringed).
        bus_text: tooltip of a bus.
        branch_value: loading of a branch, % of its limit; NaN = no limit.
        branch_scale: its scale; None draws plain branches.
        branch_text: tooltip of a branch.
        marks: triangles at buses.
    """
    at = positions(network)
    parts = []
    for branch in network.branches:
        (x1, y1), (x2, y2) = at[branch.from_bus_id], at[branch.to_bus_id]
        value = branch_value(branch.branch_id)
        stroke, width, dash = "#9a9a9a", 1.4, ""
        if not branch.closed:
            stroke, width, dash = "#cfcfcf", 1.0, ' stroke-dasharray="2 4"'
        elif branch_scale is not None and not math.isnan(value):
            stroke, width = branch_scale.colour(value), 1.2 + 2.6 * min(max(value / 100, 0.0), 1.2)
            if value > 100 + 1e-4:
                stroke, dash = WRONG, ' stroke-dasharray="7 3"'
        line = f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{stroke}"'
        tip = f"<title>{escape(branch_text(branch.branch_id))}</title>"
        parts.append(f'{line} stroke-width="{width:.1f}"{dash}>{tip}</line>')
        if branch.kind is BranchKind.TRANSFORMER and branch.closed:
            mx, my = (x1 + x2) / 2, (y1 + y2) / 2
            for dx in (-2.6, 2.6):
                parts.append(f'<circle cx="{mx + dx:.1f}" cy="{my:.1f}" r="4" fill="none" stroke="#444"/>')
    infeed = {point.bus_id for point in network.infeed_points}
    radius = 4.2 if len(network.buses) <= 200 else 2.4
    for bus in network.buses:
        x, y = at[bus.bus_id]
        fill = bus_scale.colour(bus_value(bus.bus_id))
        tip = f"<title>{escape(bus_text(bus.bus_id))}</title>"
        if bus.bus_id in infeed:
            box = f'x="{x - 6:.1f}" y="{y - 6:.1f}" width="12" height="12"'
            parts.append(f'<rect {box} fill="{fill}" stroke="#111" stroke-width="1.6">{tip}</rect>')
            continue
        ring = f'stroke="{WRONG}" stroke-width="2.4"' if bus_wrong(bus.bus_id) else 'stroke="#444" stroke-width="0.7"'
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{fill}" {ring}>{tip}</circle>')
    for mark in marks:
        x, y = at[mark.bus_id]
        r = 4 + 9 * math.sqrt(min(max(mark.size, 0.0), 1.0))
        sign = -1 if mark.up else 1
        lift = sign * (radius + 2)
        corners = f"{x - r:.1f},{y + lift:.1f} {x + r:.1f},{y + lift:.1f} {x:.1f},{y + lift + sign * r * 1.4:.1f}"
        fill = "#0072b2" if mark.up else "#e69f00"
        tip = f"<title>{escape(mark.title)}</title>"
        parts.append(f'<polygon points="{corners}" fill="{fill}" fill-opacity="0.85" stroke="#222">{tip}</polygon>')
    legends = bus_scale.legend(MARGIN, HEIGHT + 8, NARROW if branch_scale else WIDE)
    if branch_scale is not None:
        legends += branch_scale.legend(MARGIN + 190, HEIGHT + 8, NARROW)
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg viewBox="0 0 {WIDTH:.0f} {HEIGHT + 34:.0f}" '
        f'role="img" aria-label="{escape(title)}">{"".join(parts)}{legends}</svg></figure>'
    )


def heat_map(
    title: str, rows: Sequence[tuple[str, Sequence[float]]], scale: Scale, labels: Sequence[str], limit: float | None
) -> str:
    """Return rows of slots as coloured cells.

    Args:
        title: heading.
        rows: name and value per slot.
        scale: colours.
        labels: name of each slot for the axis.
        limit: values beyond it, of either sign, are crossed out; or None.
    """
    slots = len(labels)
    height = 12.0 if len(rows) <= 30 else max(2.0, 360.0 / len(rows))
    left, width = 92.0, 620.0 / max(slots, 1)
    parts = []
    dense = len(rows) * slots > 4000
    for r, (name, values) in enumerate(rows):
        y = r * height
        if height >= 9:
            parts.append(f'<text x="{left - 5}" y="{y + height - 3:.1f}" text-anchor="end">{escape(name)}</text>')
        if dense:
            continue
        for t, value in enumerate(values):
            x = left + t * width
            tip = f"<title>{escape(name)} {escape(labels[t])}: {value:.4g} {escape(scale.unit)}</title>"
            box = f'x="{x:.2f}" y="{y:.1f}" width="{width + 0.2:.2f}" height="{height:.1f}"'
            parts.append(f'<rect {box} fill="{scale.colour(value)}">{tip}</rect>')
            if limit is not None and abs(value) > limit + 1e-6:
                x2, y2 = x + width, y + height
                cross = f'<path d="M{x:.1f} {y2:.1f} L{x2:.1f} {y:.1f}" stroke="#000" stroke-width="0.7"/>'
                parts.append(cross)
    if dense:
        parts.append(_dense(rows, scale, left, width, height))
    bottom = len(rows) * height
    every = max(1, slots // 8)
    for t in range(0, slots, every):
        parts.append(f'<text x="{left + t * width:.1f}" y="{bottom + 11:.1f}">{escape(labels[t])}</text>')
    parts.append(scale.legend(left, bottom + 20, WIDE))
    box = f'viewBox="0 0 720 {bottom + 44:.0f}" role="img" aria-label="{escape(title)}"'
    return f'<figure class="wide"><figcaption>{escape(title)}</figcaption><svg {box}>{"".join(parts)}</svg></figure>'


def _dense(rows: Sequence[tuple[str, Sequence[float]]], scale: Scale, left: float, width: float, height: float) -> str:
    """Thousands of cells: neighbours of one shade joined, one path per shade, no tooltips."""
    span = scale.high - scale.low or 1.0
    paths: dict[int, list[str]] = {}
    for r, (_, values) in enumerate(rows):
        shades = [round(min(max((v - scale.low) / span, 0.0), 1.0) * 40) for v in values]
        t = 0
        while t < len(shades):
            end = t
            while end < len(shades) and shades[end] == shades[t]:
                end += 1
            x, y, w = left + t * width, r * height, (end - t) * width + 0.2
            paths.setdefault(shades[t], []).append(f"M{x:.1f} {y:.1f}h{w:.1f}v{height:.1f}h-{w:.1f}z")
            t = end
    return "".join(
        f'<path fill="{scale.colour(scale.low + span * shade / 40)}" d="{"".join(data)}"/>'
        for shade, data in sorted(paths.items())
    )
