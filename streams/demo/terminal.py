"""The day's summary as people read it in a terminal; pure."""

from collections.abc import Iterator
from typing import Any

__all__ = ["table"]


def table(summary: dict[str, Any]) -> str:
    """Return the final numbers of a day as lines of text.

    Args:
        summary: what `streams.page.model.summary` returns.
    """
    rows = [row for area_id, area in summary["areas"].items() for row in _area(area_id, area)]
    faults = ", ".join(f"{code} {count}" for code, count in summary["rejections"].items()) or "none"
    rows.append(("rejections by fault", faults))
    width = max(len(name) for name, text in rows if text)
    return "\n".join(f"  {name:<{width}}  {text}" if text else f"\n{name}" for name, text in rows)


def _area(area_id: str, area: dict[str, Any]) -> Iterator[tuple[str, str]]:
    grid = area["grid"] or {"buses": 0, "branches": 0}
    yield f"Market area {area_id}: {area['name']}", ""
    yield "grid", f"{grid['buses']} buses, {grid['branches']} branches, {area['connection_points']} connection points"
    yield "participants", ", ".join(f"{n} {role}" for role, n in area["participants"].items())
    for session_id, session in area["sessions"].items():
        yield from _session(session_id, session)


def _session(session_id: str, s: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield f"Session {session_id}", ""
    before, after = s["congestion"]["forecast"], s["congestion"]["cleared"]
    yield "needs", _up_down(s["needs"])
    yield "requests", f"{s['requests']['count']} ({_up_down(s['requests'])})"
    yield "offers", f"{s['offers']['count']} ({_up_down(s['offers'])}), {s['offers']['clipped']} clipped"
    clearing = s["clearing"]
    if clearing:
        how = ", ".join(f"{n} {status}" for status, n in clearing["status"].items())
        yield "cleared", f"{clearing['awards']} awards ({_up_down(clearing)})"
        yield "slots", f"{how}; broken in AC beyond what is unmet: {clearing['worst_ac_violation_ppm']} ppm"
        yield "unmet", _unmet(clearing)
        yield "cost", f"{clearing['cost_nano'] / 1e9:,.2f} EUR, welfare {clearing['welfare_nano'] / 1e9:,.2f} EUR"
    if s["prices"]:
        p = s["prices"]
        yield (
            "nodal prices",
            f"{p['min_milli_per_mwh'] / 1000:.2f} to {p['max_milli_per_mwh'] / 1000:.2f} EUR/MWh, "
            f"median {p['median_milli_per_mwh'] / 1000:.2f}",
        )
    if before and after:
        yield "violated without market", _congestion(before)
        yield "violated when cleared", _congestion(after)
    a, d, m, tso = s["activations"], s["delivery"], s["settlement"], s["tso"]
    yield (
        "activations",
        f"{a['ordered']} ordered, {a['acknowledged']} acknowledged, {a['refused']} refused, "
        f"{a['stopped']} stopped, {a['timed_out']} timed out",
    )
    yield (
        "TSO",
        f"{tso['aggregates']} aggregates of {tso['offered_wh'] / 1e6:.3f} MWh offered to the TSO; "
        f"{tso['activated_wh'] / 1e6:.3f} MWh activated in {tso['shares']} shares, "
        f"{tso['unserved_wh'] / 1e6:.3f} MWh unserved",
    )
    yield (
        "delivery",
        f"{d['delivered_wh'] / 1e6:.3f} of {d['owed_wh'] / 1e6:.3f} MWh owed, {d['under_delivered']} under-delivered",
    )
    yield (
        "settlement",
        f"{m['settlements']} settlements, {m['invoice_lines']} invoice lines, {m['total_cents'] / 100:,.2f} EUR "
        f"({m['remuneration_cents'] / 100:,.2f} less {m['penalty_cents'] / 100:,.2f} penalty), "
        f"{m['corrected']} corrected, {m['approved']} approved",
    )


def _up_down(value: dict[str, Any]) -> str:
    return f"{value['up_wh'] / 1e6:.3f} MWh up, {value['down_wh'] / 1e6:.3f} MWh down"


def _congestion(value: dict[str, Any]) -> str:
    if not value["violated_slots"]:
        return "nothing"
    loading = value["max_loading_ppm"]
    return (
        f"{value['violated_slots']} quarter-hours, {len(value['violated_elements'])} elements; "
        f"voltage {value['min_voltage_ppm'] / 1e6:.4f} to {value['max_voltage_ppm'] / 1e6:.4f} pu, "
        f"loading up to {(loading or 0) / 1e4:.1f} %"
    )


def _unmet(clearing: dict[str, Any]) -> str:
    """Say what stayed unmet: energy, voltages, and the first causes by name."""
    text = f"{clearing['shortfall_wh'] / 1e6:.3f} MWh"
    if clearing["voltage_shortfall_slots"]:
        worst = clearing["voltage_shortfall_ppm"]
        text += f", voltage out of its band in {clearing['voltage_shortfall_slots']} slots by up to {worst} ppm"
    causes = clearing["unmet_causes"]
    named = ", ".join(
        f"{c['kind'].lower().replace('_', ' ')} {c['element_id']} in {c['slots']} slots" for c in causes[:3]
    )
    more = f" and {len(causes) - 3} more" if len(causes) > 3 else ""
    return f"{text} ({named}{more})" if named else text
