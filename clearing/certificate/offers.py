"""Does every award keep the rules its own offer came with?"""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from clearing.case import Offer, Quantity, Unit, UnitKind
from clearing.certificate.evidence import PPM, Evidence, Finding
from flexbus.events.clearing import NonAwardReason
from flexbus.quantities import Direction

__all__ = ["check_offers"]

Amounts = NDArray[np.int_]
# Awards are whole W: what a rule gains or loses by that.
WHOLE_W = 1.0


def check_offers(e: Evidence) -> Iterator[Finding]:
    """Yield a finding for every rule of an offer, group, link or unit that the awards break."""
    groups: dict[str, list[str]] = defaultdict(list)
    taken_ids = {o.offer_id for o, a in zip(e.case.offers, e.taken, strict=True) if a.any()}
    position = {o.offer_id: k for k, o in enumerate(e.result.offers)}
    for offer, amounts in zip(e.case.offers, e.taken, strict=True):
        path = f"$.offers[{position[offer.offer_id]}].quantity"
        for message in _rules(e, offer, amounts):
            yield Finding(path, f"{offer.offer_id}: {message}")
        if offer.exclusive_group_id is not None and offer.offer_id in taken_ids:
            groups[offer.exclusive_group_id].append(offer.offer_id)
        parent = offer.parent_offer_id
        if parent is not None and offer.offer_id in taken_ids and parent not in taken_ids:
            yield Finding(path, f"{offer.offer_id} is taken without its parent {parent}")
    for group, members in sorted(groups.items()):
        if len(members) > 1:
            yield Finding("$.offers", f"exclusive group {group}: {', '.join(members)} are all taken")
    for unit in e.case.units:
        mine = [(o, a) for o, a in zip(e.case.offers, e.taken, strict=True) if o.unit_id == unit.unit_id]
        if mine and all(_stands_aside(e, offer, amounts) for offer, amounts in mine):
            continue
        for message in _storage(e, unit, mine) if unit.kind is UnitKind.STORAGE else _inverter(e, unit, mine):
            yield Finding("$.offers", f"unit {unit.unit_id}: {message}")


def _rules(e: Evidence, offer: Offer, amounts: Amounts) -> Iterator[str]:
    if (amounts < 0).any():
        yield "a negative quantity"
    if offer.start_choice is not None:
        yield from _start(offer, amounts)
        return
    if not amounts.any() and not offer.polygons:
        return
    full = np.array([sum(s.quantity for s in slot.steps) for slot in offer.slots])
    most = np.array(
        [f if s.max_quantity is None else min(f, s.max_quantity) for f, s in zip(full, offer.slots, strict=True)]
    )
    least = np.array([slot.min_quantity for slot in offer.slots])
    for t in np.flatnonzero(amounts > most).tolist():
        yield f"slot {t}: {amounts[t]} taken, {most[t]} offered"
    for t in np.flatnonzero((amounts > 0) & (amounts < least)).tolist():
        yield f"slot {t}: {amounts[t]} taken, at least {least[t]} or nothing"
    if offer.all_or_nothing and amounts.any():
        for t in np.flatnonzero(amounts != full).tolist():
            yield f"slot {t}: {amounts[t]} of a block of {full[t]}"
    seconds = int(amounts.sum()) * e.case.resolution_s
    slack = e.case.resolution_s  # one W over one slot
    if offer.max_energy_wh is not None and seconds > offer.max_energy_wh * 3600 + slack:
        yield f"{seconds / 3600:.1f} Wh taken, the budget is {offer.max_energy_wh} Wh"
    if offer.min_energy_wh is not None and amounts.any() and seconds < offer.min_energy_wh * 3600 - slack:
        yield f"{seconds / 3600:.1f} Wh taken, at least {offer.min_energy_wh} Wh or nothing"
    # The slot before the first is at zero, as the ramp of the first slot counts from there.
    step = np.diff(np.r_[0, amounts])
    for limit, change, word in ((offer.max_rise, step, "rises"), (offer.max_fall, -step, "falls")):
        if limit is not None:
            for t in np.flatnonzero(change > limit + WHOLE_W).tolist():
                yield f"slot {t}: {word} by {change[t]}, at most {limit}"
    yield from _runs(offer, amounts)
    energy = np.r_[0.0, np.cumsum(amounts) * e.hours]
    for piece in () if _stands_aside(e, offer, amounts) else offer.polygons:
        point = (float(energy[piece.slot]), float(amounts[piece.slot]) * e.hours)
        corners = [(float(v.energy_before_wh), float(v.energy_wh)) for v in piece.vertices]
        if not _inside(point, corners, (piece.slot + 1) * e.hours * WHOLE_W):
            yield f"slot {piece.slot}: {point[0]:.1f} Wh before and {point[1]:.1f} Wh in it lie outside its polygon"


def _stands_aside(e: Evidence, offer: Offer, amounts: Amounts) -> bool:
    """Tell whether nothing is taken of an offer, and every slot that it is offered in says that its rules forbid it.

    What no delivery can satisfy is no reason to clear nobody: such a unit stays as it is without the market.
    """
    if amounts.any():
        return False
    told = {
        t
        for n in e.result.non_awards
        if n.offer_id == offer.offer_id and n.reason is NonAwardReason.OTHER_CONSTRAINT
        for t in n.slots
    }
    return offer.start_choice is None and all(t in told for t, s in enumerate(offer.slots) if s.steps)


def _start(offer: Offer, amounts: Amounts) -> Iterator[str]:
    assert offer.start_choice is not None
    if not amounts.any():
        return
    choice = offer.start_choice
    for start in range(choice.earliest_slot, choice.latest_slot + 1):
        if start + len(choice.profile) <= len(amounts):
            shape = np.zeros(len(amounts), dtype=int)
            shape[start : start + len(choice.profile)] = choice.profile
            if (shape == amounts).all():
                return
    yield "what is taken is not its profile at any allowed start"


def _runs(offer: Offer, amounts: Amounts) -> Iterator[str]:
    if offer.max_run_slots is None and offer.min_rest_slots == 0:
        return
    on = np.flatnonzero(np.diff(np.r_[0, amounts > 0, 0]) == 1)
    off = np.flatnonzero(np.diff(np.r_[0, amounts > 0, 0]) == -1)
    for begin, end in zip(on.tolist(), off.tolist(), strict=True):
        if offer.max_run_slots is not None and end - begin > offer.max_run_slots:
            yield f"slots {begin} to {end - 1}: longer than {offer.max_run_slots} slots in a row"
    for end, begin in zip(off[:-1].tolist(), on[1:].tolist(), strict=True):
        if begin - end < offer.min_rest_slots:
            yield f"slot {begin}: rests {begin - end} slots, at least {offer.min_rest_slots}"


def _inside(point: tuple[float, float], corners: list[tuple[float, float]], slack: float) -> bool:
    """Tell whether a point lies in the convex hull of corners: no direction separates them by more than slack."""
    rel = np.array(corners) - np.array(point)
    turns = np.linspace(0, np.pi, 720, endpoint=False)
    edges = np.array([b - a for k, a in enumerate(rel) for b in rel[k + 1 :]] or [[1.0, 0.0]])
    normals = np.r_[np.c_[np.cos(turns), np.sin(turns)], np.c_[-edges[:, 1], edges[:, 0]]]
    length = np.hypot(normals[:, 0], normals[:, 1])
    normals = normals[length > 0] / length[length > 0][:, None]
    reach = rel @ normals.T
    return bool((reach.min(axis=0) <= slack).all() and (reach.max(axis=0) >= -slack).all())


def _storage(e: Evidence, unit: Unit, offers: list[tuple[Offer, Amounts]]) -> Iterator[str]:
    charge, discharge = unit.charge_efficiency_ppm / PPM, unit.discharge_efficiency_ppm / PPM
    keep = (1 - unit.self_discharge_ppm_per_h / PPM) ** e.hours
    stored = float(unit.initial_energy_wh)
    last = unit.min_final_energy_wh or 0
    for t in range(e.case.slots):
        stored *= keep
        base = unit.baseline_power_w[t] if unit.baseline_power_w else 0
        flows = [(base, True)] if base > 0 else [(-base, False)]
        flows += [(int(a[t]), o.direction is Direction.UP) for o, a in offers if o.quantity is Quantity.ACTIVE]
        for power, out in flows:
            stored += -power * e.hours / discharge if out else power * e.hours * charge
        # Every slot may be off by the whole watts of its awards.
        slack = (t + 1) * e.hours * WHOLE_W * max(len(offers), 1) / min(discharge, 1.0)
        low = max(unit.min_energy_wh, last) if t == e.case.slots - 1 else unit.min_energy_wh
        if not low - slack <= stored <= unit.max_energy_wh + slack:
            yield f"slot {t}: {stored:.1f} Wh stored, allowed {low} to {unit.max_energy_wh}"


def _inverter(e: Evidence, unit: Unit, offers: list[tuple[Offer, Amounts]]) -> Iterator[str]:
    p = np.array(unit.baseline_power_w or (0,) * e.case.slots, dtype=float)
    q = np.array(unit.baseline_reactive_power_var or (0,) * e.case.slots, dtype=float)
    touched = np.zeros(e.case.slots, dtype=bool)
    for offer, amounts in offers:
        change = offer.direction.sign * amounts.astype(float)
        touched |= amounts > 0
        if offer.quantity is Quantity.ACTIVE:
            p += change
            q += change * offer.tan_phi_ppm / PPM
        else:
            q += change
    for t in np.flatnonzero(touched).tolist():
        if unit.max_apparent_power_va is not None and np.hypot(p[t], q[t]) > unit.max_apparent_power_va + 2:
            yield f"slot {t}: {np.hypot(p[t], q[t]):.0f} VA, the inverter has {unit.max_apparent_power_va}"
        if unit.max_tan_phi_ppm is not None and abs(q[t]) > abs(p[t]) * unit.max_tan_phi_ppm / PPM + 2:
            yield f"slot {t}: {q[t]:.0f} var at {p[t]:.0f} W leave the tan phi cone"
