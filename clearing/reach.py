"""What storages and dependency-based slices can reach, and which of them cannot stay where they are.

A storage whose bounds nothing can keep, or slices that no delivery satisfies, are faults of the case: an interval of
what may be stored (Wh delivered) is carried from slot to slot, as wide as the offers' caps allow. Any other rule of
an offer is left out, so that what is called out of reach is out of reach.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from clearing.case import Case, Offer, PolygonSlice, Quantity, Unit, UnitKind
from flexbus.errors import Fault, FaultCode
from flexbus.quantities import PPM, Direction

__all__ = ["must_run", "offered_w", "reach_faults"]

Place = tuple[float, float]
# Wh, and a share of the numbers compared: what floats may be off by.
NOISE_WH, NOISE = 1e-6, 1e-12


def must_run(case: Case) -> tuple[frozenset[str], frozenset[str]]:
    """Return the storages and the offers with slices that break their rules if nothing is taken, by id.

    Args:
        case: the case as it is sent in, or one scenario of an unfolded one.
    """
    storages = {u.unit_id for u in case.units if u.kind is UnitKind.STORAGE and _stored(case, u, ())[0] is not None}
    sliced = {
        o.offer_id
        for o in case.offers
        if any(not _cut(_hull(p), 0.0, 0.0, 0.0, 0.0) for p in o.polygons) and any(e.steps for e in o.slots)
    }
    return frozenset(storages), frozenset(sliced)


def reach_faults(case: Case) -> Iterator[Fault]:
    """Yield every storage and every slice of a case, good in form, that no delivery can satisfy."""
    offers: dict[str, list[Offer]] = {}
    for offer in case.offers:
        if offer.unit_id is not None and offer.quantity is Quantity.ACTIVE:
            offers.setdefault(offer.unit_id, []).append(offer)
    for k, unit in enumerate(case.units):
        if unit.kind is UnitKind.STORAGE:
            t, low, high = _stored(case, unit, offers.get(unit.unit_id, ()))
            if t is not None:
                least, most = _bounds(case, unit, t)
                message = (
                    f"slot {t}: between {low:.1f} and {high:.1f} Wh can be stored by then, "
                    f"given its offers, baseline and losses; allowed are {least} to {most} Wh"
                )
                name = _to_blame(case, unit, t, high)
                yield Fault(code=FaultCode.BAD_QUANTITY, path=f"$.units[{k}].{name}", message=message)
    for k, offer in enumerate(case.offers):
        if offer.polygons and offer.slots:
            yield from _slices(case, offer, f"$.offers[{k}]")


def offered_w(offer: Offer, slot: int) -> int:
    """Return the most an offer with stacks can deliver in a slot, W or var."""
    entry = offer.slots[slot]
    total = sum(s.quantity for s in entry.steps)
    return total if entry.max_quantity is None else min(total, entry.max_quantity)


def _bounds(case: Case, unit: Unit, slot: int) -> tuple[int, int]:
    final = unit.min_final_energy_wh if slot == case.slots - 1 else None
    return max(unit.min_energy_wh, final or 0), unit.max_energy_wh


def _to_blame(case: Case, unit: Unit, slot: int, high: float) -> str:
    """Return the field that a storage out of reach is most likely wrong in."""
    if not unit.min_energy_wh <= unit.initial_energy_wh <= unit.max_energy_wh:
        return "initial_energy_wh"
    least, _ = _bounds(case, unit, slot)
    if high < least:
        return "min_energy_wh" if least == unit.min_energy_wh else "min_final_energy_wh"
    final = unit.min_final_energy_wh
    return "min_final_energy_wh" if final is not None and final > unit.max_energy_wh else "max_energy_wh"


def _stored(case: Case, unit: Unit, offers: Sequence[Offer]) -> tuple[int | None, float, float]:
    """Return the first slot in which a storage cannot be within its bounds (None = it can), and what it can hold."""
    hours = case.resolution_s / 3600
    charge, discharge = unit.charge_efficiency_ppm / PPM, unit.discharge_efficiency_ppm / PPM
    low = high = float(unit.initial_energy_wh)
    for t in range(case.slots):
        base = unit.baseline_power_w[t] if unit.baseline_power_w else 0
        change = (-base * charge if base < 0 else -base / discharge) * hours
        caps = [(o.direction, offered_w(o, t)) for o in offers]
        out = sum(w for way, w in caps if way is Direction.UP) * hours / discharge
        into = sum(w for way, w in caps if way is Direction.DOWN) * hours * charge
        keep = unit.kept(hours)
        low, high = low * keep + change - out, high * keep + change + into
        least, most = _bounds(case, unit, t)
        slack = NOISE_WH + NOISE * (abs(low) + abs(high) + most)
        if least > most or low > most + slack or high < least - slack:
            return t, low, high
        low, high = max(low, least), min(high, most)
    return None, low, high


def _slices(case: Case, offer: Offer, here: str) -> Iterator[Fault]:
    """Yield the first slice of an offer that what was possible before it leaves no point of."""
    hours = case.resolution_s / 3600
    low = high = 0.0
    for t in range(case.slots):
        cap = offered_w(offer, t) * hours
        mine = [(n, p) for n, p in enumerate(offer.polygons) if p.slot == t]
        left: list[Place] = []
        for n, piece in mine:
            hull = _hull(piece)
            left = _cut(hull, low, high, 0.0, cap) if n == mine[0][0] else _both(left, hull)
            if not left:
                message = (
                    f"slot {t}: with {low:.1f} to {high:.1f} Wh delivered before and at most {cap:.1f} Wh in the slot "
                    "no delivery lies in this slice and those before it"
                )
                yield Fault(code=FaultCode.BAD_QUANTITY, path=f"{here}.polygons[{n}]", message=message)
                return
        after = [x + y for x, y in left] if mine else [low, high + cap]
        low, high = max(min(after), 0.0), max(after)


def _hull(piece: PolygonSlice) -> list[Place]:
    """Return the corners of the convex hull, counter-clockwise; one or two for a point or a line."""
    points = sorted({(float(v.energy_before_wh), float(v.energy_wh)) for v in piece.vertices})
    if len(points) < 3:
        return points

    def chain(ordered: Sequence[Place]) -> list[Place]:
        made: list[Place] = []
        for p in ordered:
            while len(made) > 1 and _turn(made[-2], made[-1], p) <= 0:
                made.pop()
            made.append(p)
        return made[:-1]

    return chain(points) + chain(points[::-1])


def _turn(a: Place, b: Place, c: Place) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _cut(corners: list[Place], left: float, right: float, low: float, high: float) -> list[Place]:
    """Return the part of a convex figure within a rectangle."""
    for a, b, most in ((-1.0, 0.0, -left), (1.0, 0.0, right), (0.0, -1.0, -low), (0.0, 1.0, high)):
        corners = _half(corners, a, b, most)
    return corners


def _both(corners: list[Place], other: list[Place]) -> list[Place]:
    """Return the part of a convex figure within another one, which may be a line or a point."""
    if len(other) == 1:
        (x, y), *_ = other
        return _cut(corners, x, x, y, y)
    for p, q in pairwise([*other, other[0]]):
        along = (q[0] - p[0], q[1] - p[1])
        length = (along[0] ** 2 + along[1] ** 2) ** 0.5
        a, b = along[1] / length, -along[0] / length
        corners = _half(corners, a, b, a * p[0] + b * p[1])
        if len(other) == 2:  # a line ends at its ends as well
            a, b = along[0] / length, along[1] / length
            corners = _half(corners, a, b, a * q[0] + b * q[1])
    return corners


def _half(corners: list[Place], a: float, b: float, most: float) -> list[Place]:
    """Return the part of a convex figure where a x + b y <= most."""
    over = [a * x + b * y - most for x, y in corners]
    slack = [NOISE_WH + NOISE * (abs(x) + abs(y) + abs(most)) for x, y in corners]
    made: list[Place] = []
    for k, (p, d) in enumerate(zip(corners, over, strict=True)):
        n = (k + 1) % len(corners)
        q, e = corners[n], over[n]
        if d <= slack[k]:
            made.append(p)
        if (d > slack[k]) != (e > slack[n]):
            part = min(max(d / (d - e), 0.0), 1.0) if d != e else 0.0
            made.append((p[0] + part * (q[0] - p[0]), p[1] + part * (q[1] - p[1])))
    return made
