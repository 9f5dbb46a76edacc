"""The capability of an inverter as rows: its circle of apparent power, and its cone of tan phi.

The circle is replaced by a polygon inside it whose corners lie on it, the four axes among them: never more than
the inverter has, and at most 0.12 % less between two corners. The cone |Q| <= tan phi |P| is convex on either
side of P = 0; where offers can carry the unit across, one binary per slot says which side it is on.
"""

import math
from typing import TYPE_CHECKING

from clearing.case import Quantity, Unit
from clearing.rows import INF

if TYPE_CHECKING:
    from clearing.market import Market

__all__ = ["SIDES", "add_inverter", "baseline_of"]

MEGA = 1e6
SIDES = 64
Terms = list[tuple[int, float]]


def baseline_of(unit: Unit, slot: int) -> tuple[int, int]:
    """Return the power (W) and reactive power (var) of a unit without flexibility."""
    return (
        unit.baseline_power_w[slot] if unit.baseline_power_w else 0,
        unit.baseline_reactive_power_var[slot] if unit.baseline_reactive_power_var else 0,
    )


def add_inverter(slots: range, market: "Market", unit: Unit, delivered: dict[tuple[int, int], list[int]]) -> None:
    """Add the rows of an inverter to a market.

    Args:
        slots: slots to add rows for.
        market: the market, with the columns of its offers.
        unit: the inverter.
        delivered: columns per offer and slot.
    """
    mine = [k for k, o in enumerate(market.offers) if o.unit_id == unit.unit_id]
    for t in slots:
        p: Terms = []
        q: Terms = []
        low = high = baseline_of(unit, t)[0] / MEGA
        for k in mine:
            offer, columns = market.offers[k], delivered.get((k, t), ())
            sign = float(offer.direction.sign)
            if offer.quantity is Quantity.REACTIVE:
                q += [(c, sign) for c in columns]
                continue
            p += [(c, sign) for c in columns]
            q += [(c, sign * offer.tan_phi_ppm / MEGA) for c in columns] if offer.tan_phi_ppm else []
            reach = sign * sum(market.upper[c] for c in columns)
            low, high = low + min(reach, 0.0), high + max(reach, 0.0)
        if not (p or q):
            continue
        if unit.max_apparent_power_va is not None:
            _circle(market, unit, t, p, q)
        if unit.max_tan_phi_ppm is not None:
            _cone(market, unit, t, p, q, low, high)


def _circle(market: "Market", unit: Unit, t: int, p: Terms, q: Terms) -> None:
    p0, q0 = (x / MEGA for x in baseline_of(unit, t))
    assert unit.max_apparent_power_va is not None
    edge = unit.max_apparent_power_va / MEGA * math.cos(math.pi / SIDES)
    for k in range(SIDES):
        angle = 2 * math.pi * (k + 0.5) / SIDES
        a, b = math.cos(angle), math.sin(angle)
        terms = [(c, f * a) for c, f in p] + [(c, f * b) for c, f in q]
        most = sum(max(f, 0.0) * market.upper[c] for c, f in terms)
        # A baseline between the polygon and the circle may stay where it is.
        room = max(edge - a * p0 - b * q0, 0.0)
        if most > room:
            market.row(("CIRCLE", unit.unit_id, t), terms, -INF, room)


def _cone(market: "Market", unit: Unit, t: int, p: Terms, q: Terms, low: float, high: float) -> None:
    p0, q0 = (x / MEGA for x in baseline_of(unit, t))
    assert unit.max_tan_phi_ppm is not None
    tan = unit.max_tan_phi_ppm / MEGA
    tag = ("CONE", unit.unit_id, t)
    if low >= 0 or high <= 0:
        side = 1.0 if low >= 0 else -1.0
        for sign in (1.0, -1.0):
            terms = [(c, sign * f) for c, f in q] + [(c, -side * tan * f) for c, f in p]
            market.row(tag, terms, -INF, side * tan * p0 - sign * q0)
        return
    # 1 = on the other side than the baseline, so that a market in which nothing is decided keeps the rows.
    crossed = market.column(0.0, 1.0, t, integer=True)
    side = 1.0 if p0 >= 0 else -1.0
    room = high if side > 0 else -low  # how far out on the baseline's side
    back = -low if side > 0 else high  # how far out on the other one
    far = tan * max(high, -low) + abs(q0) + sum(abs(f) * market.upper[c] for c, f in q)
    out = [(c, side * f) for c, f in p]
    market.row(tag, [*out, (crossed, back)], -side * p0, INF)
    market.row(tag, [*out, (crossed, room)], -INF, room - side * p0)
    for sign in (1.0, -1.0):
        on_q, base = [(c, sign * f) for c, f in q], sign * q0
        market.row(tag, on_q + [(c, -tan * f) for c, f in out] + [(crossed, -far)], -INF, tan * side * p0 - base)
        market.row(tag, on_q + [(c, tan * f) for c, f in out] + [(crossed, far)], -INF, far - tan * side * p0 - base)
