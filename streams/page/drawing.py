"""Drawings of the report: the grid at a slot, series over the day, heat maps; SVG and PNG as text, pure."""

import base64
import struct
import zlib
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from flexbus.quantities import PPM
from streams.page.summary import TOLERANCE_PPM

__all__ = ["bars", "diagram", "heat_map", "lines", "shade"]

# Away from the usual value: blue below, orange above; how far is lightness, so it reads for every colour vision.
_MIDDLE = (240, 242, 244)
_BELOW, _ABOVE = ((120, 163, 213), (8, 48, 107)), ((243, 170, 98), (127, 50, 0))
_WIDTH, _PAD = 720.0, 26.0


def shade(distance: float) -> tuple[int, int, int]:
    """Return the colour of a distance between -1 (far below) and 1 (far above)."""
    size = min(1.0, abs(distance))
    half, full = _BELOW if distance < 0 else _ABOVE
    start, end, part = (_MIDDLE, half, 2 * size) if size < 0.5 else (half, full, 2 * size - 1)
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(start, end, strict=True))
    return red, green, blue


def diagram(network: dict[str, Any], state: dict[str, Any], slot: int, height: float = 330.0) -> str:
    """Return the one-line diagram of a grid state in one slot; violations carry a ring, dashes and a number.

    Args:
        network: value of the `network` row.
        state: value of a `grid` row.
        slot: index of the slot.
        height: height of the drawing, px at 720 px width.
    """
    xs, ys = zip(*(b["tree"] for b in network["buses"]), strict=True)
    wide, high = (max(xs) - min(xs)) or 1.0, (max(ys) - min(ys)) or 1.0

    def place(at: Sequence[float]) -> tuple[float, float]:
        x = _PAD + (at[0] - min(xs)) / wide * (_WIDTH - 2 * _PAD)
        return round(x, 1), round(_PAD + (at[1] - min(ys)) / high * (height - 2 * _PAD), 1)

    where = {b["bus_id"]: place(b["tree"]) for b in network["buses"]}
    parts = [_branch(b, where, state, slot) for b in network["branches"]]
    parts += [_infeed(where[p["bus_id"]]) for p in network["infeed_points"]]
    crowded = len(where) > 70
    loading = {b["branch_id"]: _at(state["loading_ppm"], b["branch_id"], slot) for b in network["branches"]}
    hottest = max(loading, key=lambda b: loading[b], default=None)
    if hottest is not None and loading[hottest] > PPM:
        parts.append(
            _hottest(next(b for b in network["branches"] if b["branch_id"] == hottest), where, loading[hottest])
        )
    parts += [_bus(b, where[b["bus_id"]], state, slot, crowded) for b in network["buses"]]
    return _svg(height, "grid", "one-line diagram of the grid", "".join(parts))


def _svg(height: float, kind: str, label: str, content: str, width: float = _WIDTH) -> str:
    return f'<svg class="{kind}" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{label}">{content}</svg>'


def _branch(branch: dict[str, Any], where: dict[str, tuple[float, float]], state: dict[str, Any], slot: int) -> str:
    (ax, ay), (bx, by) = where[branch["from_bus_id"]], where[branch["to_bus_id"]]
    if branch["closed"] and abs(ax - bx) > 1 and abs(ay - by) > 1:
        (nx, ny), (fx, fy) = ((ax, ay), (bx, by)) if ax <= bx else ((bx, by), (ax, ay))
        path, middle = f"M{nx},{ny}V{fy}H{fx}", ((nx + fx) / 2, fy)
    else:
        path, middle = f"M{ax},{ay}L{bx},{by}", ((ax + bx) / 2, (ay + by) / 2)
    loading = _at(state["loading_ppm"], branch["branch_id"], slot) if branch["closed"] else 0
    over = loading > PPM + TOLERANCE_PPM
    kind = "open" if not branch["closed"] else "over" if over else "high" if loading > 800_000 else "wire"
    width = 1.2 if not branch["closed"] else 1.3 + min(1.4, loading / PPM) * 3.8
    text = f'<path class="{kind}" d="{path}" stroke-width="{width:.1f}"/>'
    if over:
        text += f'<path class="hazard" d="{path}"/>'
    x, y = round(middle[0], 1), round(middle[1], 1)
    if branch["kind"] == "TRANSFORMER":
        text += f'<circle class="sign" cx="{x - 3}" cy="{y}" r="5"/><circle class="sign" cx="{x + 3}" cy="{y}" r="5"/>'
    elif branch["kind"] == "SWITCH" or not branch["closed"]:
        fill = "shut" if branch["closed"] else "sign white"
        text += f'<rect class="{fill}" x="{x - 3.5}" y="{y - 3.5}" width="7" height="7"/>'
    return text


def _at(table: dict[str, list[int]], name: str, slot: int) -> int:
    series = table.get(name)
    return series[slot] if series else 0


def _hottest(branch: dict[str, Any], where: dict[str, tuple[float, float]], loading: int) -> str:
    (ax, ay), (bx, by) = where[branch["from_bus_id"]], where[branch["to_bus_id"]]
    x, y = (ax + bx) / 2, (by if ax <= bx else ay) - 11
    return f'<text class="flag" x="{x:.1f}" y="{y:.1f}">{escape(branch["branch_id"])} {loading / 1e4:.0f} %</text>'


def _infeed(at: tuple[float, float]) -> str:
    x, y = at[0] - 18, at[1]
    return (
        f'<rect class="sign white" x="{x - 7}" y="{y - 7}" width="14" height="14"/>'
        f'<path class="sign" d="M{x - 7},{y}L{x},{y + 7}M{x - 7},{y - 7}L{x + 7},{y + 7}M{x},{y - 7}L{x + 7},{y}"/>'
    )


def _bus(bus: dict[str, Any], at: tuple[float, float], state: dict[str, Any], slot: int, crowded: bool) -> str:
    value = _at(state["voltage_ppm"], bus["bus_id"], slot)
    low, high = bus["min_voltage_ppm"], bus["max_voltage_ppm"]
    middle, half = (low + high) / 2, ((high - low) / 2) or 1
    t = (value - middle) / half if value else 0
    kind = "none" if not value else "vh" if t > 0.66 else "vh1" if t > 0.33 else "vl" if t < -0.66 else (
        "vl1" if t < -0.33 else "vm"
    )  # fmt: skip
    x, y = at
    radius = 3.2 if crowded else 4.5
    text = f'<circle class="{kind}" cx="{x}" cy="{y}" r="{radius}"/>'
    bad = value and not low - TOLERANCE_PPM <= value <= high + TOLERANCE_PPM
    name = escape(bus["bus_id"])
    if bad:
        mark = "V↑" if value > high else "V↓"
        text += f'<circle class="ring" cx="{x}" cy="{y}" r="{radius + 3}"/>'
        text += f'<text class="flag" x="{x}" y="{y - 9}">{mark}</text>'
    if not crowded:
        text += f'<text class="name" x="{x}" y="{y + radius + 9}">{name}</text>'
    return text


def bars(series: dict[str, Any], hours: Sequence[str], height: float = 220.0) -> str:
    """Return offered and cleared volumes as bars, needs and requests as lines; up above the axis, down below.

    Args:
        series: `offered`, `taken`, `need`, `asked`, each with UP and DOWN per slot, W; `missing` per slot, W.
        hours: text under every fourth hour's slot, one per slot, empty for none.
        height: px.
    """
    count = len(hours)
    top, low = (_room(series, way) for way in ("UP", "DOWN"))
    scale, inner = (height - 30) / (top + low), (_WIDTH - 50) / max(1, count)
    zero = 8 + top * scale

    def x(k: int) -> float:
        return round(44 + k * inner, 1)

    def box(k: int, start: int, end: int, sign: int) -> str:
        if end <= start:
            return ""
        a, b = zero - sign * start * scale, zero - sign * end * scale
        return f"M{x(k)},{a:.1f}H{x(k) + inner * 0.86:.1f}V{b:.1f}H{x(k)}Z"

    def stairs(values: Sequence[int], sign: int) -> str:
        path, before = [], 0
        for k, value in enumerate(values):
            if value:
                start = "" if before else f"M{x(k)},{zero:.1f}"
                path.append(f"{start}V{zero - sign * value * scale:.1f}H{x(k + 1)}")
            elif before:
                path.append(f"V{zero:.1f}")
            before = value
        return "".join(path)

    parts = [_power_axis(top, low, zero, scale)]
    for way, sign in (("UP", 1), ("DOWN", -1)):
        taken = series["taken"][way]
        offered = [min(w, top if sign > 0 else low) for w in series["offered"][way]]
        above = "".join(box(k, taken[k], offered[k], sign) for k in range(count))
        below = "".join(box(k, 0, taken[k], sign) for k in range(count))
        parts.append(f'<path class="offered {way.lower()}" d="{above}"/>')
        parts.append(f'<path class="taken {way.lower()}" d="{below}"/>')
    for name in ("need", "asked"):
        parts.append(f'<path class="{name}" d="{stairs(series[name]["UP"], 1)}{stairs(series[name]["DOWN"], -1)}"/>')
    missing = "".join(
        f"M{x(k)},{zero - 2:.1f}h{inner:.1f}v4h{-inner:.1f}Z" for k, w in enumerate(series["missing"]) if w
    )
    parts.append(f'<path class="missing" d="{missing}"/>')
    parts.append(_hours(hours, x, height))
    return _svg(height, "chart", "needs, offers and cleared volumes per quarter-hour", "".join(parts))


def _room(series: dict[str, Any], way: str) -> int:
    """Return the greatest power shown: offers may be ten times what is needed, and are cut off at half as much more."""

    def most(name: str, direction: str) -> int:
        return max(series[name][direction], default=0)

    matter = {d: max(most(name, d) for name in ("need", "asked", "taken")) for d in ("UP", "DOWN")}
    limit = 3 * max(matter.values()) // 2 or most("offered", way)
    if not matter[way] and any(matter.values()):
        limit = limit * 3 // 10
    return max(1, matter[way], min(limit, most("offered", way)))


def _power_axis(top: int, low: int, zero: float, scale: float) -> str:
    step = _nice((top + low) / 5)
    unit, size = ("MW", 1e6) if step >= 1e5 else ("kW", 1e3)
    marks = []
    for k in range(-int(low // step), int(top // step) + 1):
        y = zero - k * step * scale
        kind = "zero" if k == 0 else "rule"
        marks.append(f'<path class="{kind}" d="M44,{y:.1f}H{_WIDTH - 6:g}"/>')
        marks.append(f'<text class="tick" x="40" y="{y + 3:.1f}" text-anchor="end">{_signed(k * step / size)}</text>')
    return "".join(marks) + f'<text class="tick" x="2" y="12">{unit}</text>'


def _signed(value: float) -> str:
    return f"{value:+g}".replace("-", "−") if value else "0"


def _nice(value: float) -> float:
    unit = 10.0 ** (len(str(int(max(1.0, value)))) - 1)
    return next((m * unit for m in (1, 2, 5, 10) if m * unit >= value), 10 * unit)


def _hours(hours: Sequence[str], x: Callable[[int], float], height: float) -> str:
    return "".join(
        f'<text class="tick" x="{x(k)}" y="{height - 4:g}">{escape(text)}</text>'
        for k, text in enumerate(hours)
        if text
    )


def lines(
    before: Sequence[float], after: Sequence[float] | None, limits: Sequence[float], hours: Sequence[str], unit: str
) -> str:
    """Return two series over the day against limits.

    Args:
        before: value per slot without flexibility.
        after: value per slot with the cleared flexibility, or None.
        limits: values not to be passed.
        hours: text under slots, empty for none.
        unit: unit for the axis.
    """
    width, height = 340.0, 150.0
    known = [*before, *(after or ()), *limits]
    low, high = min(known), max(known)
    gap = (high - low) * 0.07 or 1.0
    inner = (width - 50) / max(1, len(hours))

    def y(value: float) -> float:
        return round(8 + (height - 30) * (1 - (value - low + gap) / (high - low + 2 * gap)), 1)

    def x(k: int) -> float:
        return round(44 + k * inner, 1)

    def path(values: Sequence[float]) -> str:
        return "M" + "L".join(f"{x(k) + inner / 2:.1f},{y(v)}" for k, v in enumerate(values))

    parts = []
    for limit in limits:
        parts.append(f'<path class="limit" d="M44,{y(limit)}H{width - 6:g}"/>')
        parts.append(f'<text class="tick" x="40" y="{y(limit) + 3}" text-anchor="end">{limit:g}</text>')
    parts.append(f'<text class="tick" x="2" y="12">{escape(unit)}</text>')
    if before:
        parts.append(f'<path class="before" d="{path(before)}"/>')
    if after:
        parts.append(f'<path class="after" d="{path(after)}"/>')
    parts.append(_hours(hours, x, height))
    return _svg(height, "chart", f"{escape(unit)} before and after", "".join(parts), width)


def heat_map(rows: Sequence[Sequence[int]], usual: int, reach: int) -> str:
    """Return a heat map as a PNG data address, one pixel per value; the page scales it up.

    Args:
        rows: values, one list per row, all of one length.
        usual: value of the neutral colour.
        reach: distance from it that has the strongest colour.
    """
    width = len(rows[0]) if rows else 0
    raw = b"".join(b"\0" + b"".join(bytes(shade((v - usual) / (reach or 1))) for v in row) for row in rows)
    header = struct.pack(">IIBBBBB", width, len(rows), 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(raw, 9)), (b"IEND", b""))
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return "data:image/png;base64," + base64.b64encode(png).decode()
