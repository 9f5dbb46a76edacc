"""The final numbers of a market day: what the terminal, the report and the kill tests compare; pure.

Nothing here depends on wall time, on how entries were batched into blocks, or on random ids, so two runs of
the same day give the same numbers whatever process was killed in between.
"""

from collections import Counter
from typing import Any

from flexbus.events import Role
from flexbus.quantities import PPM, Direction, energy_wh
from streams.page.area import Area, Session

__all__ = ["TOLERANCE_PPM", "congestion", "summary_of"]

# The clearing promises limits to 1e-6 pu; what is nearer than that to a limit keeps it.
TOLERANCE_PPM = 1


def summary_of(area: Area) -> dict[str, Any]:
    """Return the numbers of one area: grid, participants, and each session's market, delivery and money."""
    network = area.network
    people = area.rows.section(area.area_id, "participants").values()
    roles = Counter(role for p in people for role in p["roles"])
    return {
        "name": area.info["name"],
        "grid": None
        if network is None
        else {
            "network_id": network.network_id,
            "name": network.name,
            "revision": network.revision,
            "buses": len(network.buses),
            "branches": len(network.branches),
        },
        "participants": {r.value: roles[r.value] for r in Role if roles[r.value]},
        "connection_points": len(area.bus_of_point),
        "sessions": {s.session_id: _session(area, s) for _, s in sorted(area.sessions.items())},
    }


def _session(area: Area, session: Session) -> dict[str, Any]:
    sid = session.session_id
    return {
        "state": session.row["state"],
        "slots": session.slots.count,
        "needs": _up_down(session, session.needs),
        "requests": {
            "count": sum(1 for r in area.requests.values() if r.request.session_id == sid),
            **_up_down(session, session.requests),
        },
        "offers": {
            "count": session.offers_counted,
            "clipped": sum(1 for o in area.clipped if o in area.offers and area.offers[o].session_id == sid),
            **_up_down(session, session.offers),
        },
        "clearing": _clearing(area, session),
        "prices": _prices(area, sid),
        "congestion": {
            mode: congestion(area, area.rows.get(area.area_id, "grid", f"{sid}/{mode}"))
            for mode in ("forecast", "cleared")
        },
        "activations": _activations(area, sid),
        "delivery": _delivery(area, sid),
        "settlement": _settlement(area, sid),
        "tso": _tso(area, sid),
    }


def _energy(power_w: list[int], resolution_s: int) -> int:
    return energy_wh(sum(power_w), resolution_s)


def _up_down(session: Session, series: dict[str, list[int]]) -> dict[str, int]:
    return {f"{way.value.lower()}_wh": _energy(series[way.value], session.slots.resolution_s) for way in Direction}


def _clearing(area: Area, session: Session) -> dict[str, Any] | None:
    value = area.rows.get(area.area_id, "cleared", session.session_id)
    if value is None:
        return None
    slots = value["slots"]
    seconds = value["resolution_s"]
    return {
        "awards": value["awards"],
        "awarded_offers": value["awarded_offers"],
        "non_awards": value["non_awards"],
        "reasons": value["reasons"],
        "up_wh": _energy([s["up_w"] for s in slots], seconds),
        "down_wh": _energy([s["down_w"] for s in slots], seconds),
        "requested_wh": _energy([s["requested_w"] for s in slots], seconds),
        "shortfall_wh": _energy([s["shortfall_w"] for s in slots], seconds),
        "voltage_shortfall_ppm": max((s["voltage_shortfall_ppm"] for s in slots), default=0),
        "voltage_shortfall_slots": sum(s["voltage_shortfall_ppm"] > 0 for s in slots),
        "unmet_causes": _causes(slots),
        "status": dict(sorted(Counter(s["status"] for s in slots).items())),
        "worst_ac_violation_ppm": max((s["ac_violation_ppm"] for s in slots), default=0),
        "cost_nano": value["cost_nano"],
        "welfare_nano": value["welfare_nano"],
    }


def _causes(slots: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what stayed unmet: kind, element, in how many slots, by how much at worst; the longest first."""
    found: dict[tuple[str, str], list[int]] = {}
    for slot in slots:
        for kind, element_id, amount in slot["unmet"]:
            found.setdefault((kind, element_id), []).append(amount)
    rows = [
        {"kind": kind, "element_id": element_id, "slots": len(amounts), "worst": max(amounts)}
        for (kind, element_id), amounts in found.items()
    ]
    return sorted(rows, key=lambda r: (-r["slots"], -r["worst"], r["kind"], r["element_id"]))


def _prices(area: Area, session_id: str) -> dict[str, int] | None:
    value = area.rows.get(area.area_id, "prices", session_id)
    prices = sorted(p for series in value["buses"].values() for p in series) if value else []
    if not prices:
        return None
    return {
        "min_milli_per_mwh": prices[0],
        "median_milli_per_mwh": prices[len(prices) // 2],
        "max_milli_per_mwh": prices[-1],
    }


def congestion(area: Area, state: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return how far a grid state keeps the limits: slots and elements in violation, and the worst of them.

    Args:
        area: the area, for its network's limits.
        state: value of a `grid` row, or None.
    """
    if state is None or area.network is None:
        return None
    excess_of: Counter[int] = Counter()
    violated_slots: set[int] = set()
    elements: set[str] = set()
    extremes = {"min_voltage_ppm": None, "max_voltage_ppm": None, "max_loading_ppm": None}
    for bus in area.network.buses:
        series = [v for v in state["voltage_ppm"].get(bus.bus_id, ()) if v]  # zero = not energised
        _extreme(extremes, "min_voltage_ppm", min(series, default=None), min)
        _extreme(extremes, "max_voltage_ppm", max(series, default=None), max)
        for slot, value in enumerate(state["voltage_ppm"].get(bus.bus_id, ())):
            excess = max(value - bus.max_voltage_ppm, bus.min_voltage_ppm - value) if value else 0
            if excess > TOLERANCE_PPM:
                # A per cent of voltage beyond its band weighs like ten per cent of overload.
                excess_of[slot] += 10 * excess
                violated_slots.add(slot)
                elements.add(bus.bus_id)
    for branch_id, loading in sorted(state["loading_ppm"].items()):
        _extreme(extremes, "max_loading_ppm", max(loading, default=None), max)
        for slot, value in enumerate(loading):
            if value > PPM + TOLERANCE_PPM:
                excess_of[slot] += value - PPM
                violated_slots.add(slot)
                elements.add(branch_id)
    return {
        "violated_slots": len(violated_slots),
        "violated_elements": sorted(elements),
        "worst_slot": min(excess_of, key=lambda k: (-excess_of[k], k), default=None),
        **extremes,
    }


def _extreme(extremes: dict[str, Any], name: str, value: int | None, choose: Any) -> None:
    if value is not None:
        extremes[name] = value if extremes[name] is None else choose(extremes[name], value)


def _activations(area: Area, session_id: str) -> dict[str, int]:
    rows = [r for r in area.rows.section(area.area_id, "activations").values() if r["session_id"] == session_id]
    answers = Counter(r["answer"] for r in rows)
    return {
        "ordered": len(rows),
        "acknowledged": answers["ACKNOWLEDGED"],
        "refused": answers["REFUSED"],
        "timed_out": answers["TIMED_OUT"],
        "open": answers["OPEN"],
        "changed": sum(1 for r in rows if r["changed"]),
        "stopped": sum(1 for r in rows if r["stopped"]),
    }


def _delivery(area: Area, session_id: str) -> dict[str, int]:
    found = [d for d in area.deliveries.values() if d.session_id == session_id]
    return {
        "activations": len(found),
        "owed_wh": sum(sum(d.ordered_wh) for d in found),
        "delivered_wh": sum(sum(d.delivered_wh) for d in found),
        "shortfall_wh": sum(sum(d.shortfall_wh) for d in found),
        "under_delivered": sum(1 for d in found if sum(d.shortfall_wh) > 0),
    }


def _settlement(area: Area, session_id: str) -> dict[str, int]:
    rows = [r for r in area.rows.section(area.area_id, "settlements").values() if r["session_id"] == session_id]
    whats = Counter(step["what"] for r in rows for step in r["history"])
    return {
        "settlements": len(rows),
        "invoice_lines": sum(len(r["invoice"]) for r in rows),
        "remuneration_cents": sum(r["remuneration_cents"] for r in rows),
        "penalty_cents": sum(r["penalty_cents"] for r in rows),
        "total_cents": sum(r["total_cents"] for r in rows),
        "corrected": whats["corrected"],
        "approved": sum(1 for r in rows if r["state"] == "APPROVED"),
        "disputed": whats["disputed"],
    }


def _tso(area: Area, session_id: str) -> dict[str, int]:
    rows = [r for r in area.rows.section(area.area_id, "aggregates").values() if r["session_id"] == session_id]
    return {
        "aggregates": len(rows),
        "offered_wh": sum(_energy(r["power_w"], r["resolution_s"]) for r in rows),
        "activated_wh": sum(_energy(r["activated_w"], r["resolution_s"]) for r in rows),
        "unserved_wh": sum(_energy(r["unserved_w"], r["resolution_s"]) for r in rows),
        "shares": sum(len(r["shares"] or ()) for r in rows),
    }
