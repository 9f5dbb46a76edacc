"""The grid before and after, in the report; pure."""

from typing import Any

from flexbus.quantities import PPM
from streams.page.area import Session
from streams.page.drawing import diagram, lines
from streams.page.summary import congestion
from streams.report.table import table
from streams.report.view import View

__all__ = ["before_after", "congestion_table"]


def _pu(ppm: int | None) -> str:
    return "–" if ppm is None else f"{ppm / PPM:.4f}"


def congestion_table(view: View, session: Session, states: dict[str, Any]) -> str:
    """Return how far each grid state kept the limits."""
    named = {
        "forecast": "forecast without flexibility",
        "cleared": "with the cleared flexibility",
        "metered": "as metered (estimate: forecast, and meters where activated)",
    }
    by_meter = view.section("grid").get(f"{session.session_id}/metered")
    states = {**states, "metered": congestion(view.area, by_meter)}
    rows = [
        (
            named[mode],
            s["violated_slots"],
            len(s["violated_elements"]),
            _pu(s["min_voltage_ppm"]),
            _pu(s["max_voltage_ppm"]),
            "–" if s["max_loading_ppm"] is None else f"{s['max_loading_ppm'] / 1e4:.1f} %",
        )
        for mode, s in states.items()
        if s is not None
    ]
    head = ("Grid state", "Quarter-hours outside limits", "Elements", "Lowest V", "Highest V", "Highest loading")
    return table(head, rows, numeric=(1, 2, 3, 4, 5), empty="No grid state was published.")


def before_after(view: View, session: Session, n: dict[str, Any]) -> str:
    """Return the grid in the worst quarter-hour before and after, and the extremes over the day."""
    network = view.state.rows.get(view.area.area_id, "network", "network")
    states = {m: view.section("grid").get(f"{session.session_id}/{m}") for m in ("forecast", "cleared")}
    first = states["forecast"] or states["cleared"]
    if network is None or first is None:
        return '<p class="note">No network model or grid state was published.</p>'
    mode = "forecast" if states["forecast"] else "cleared"
    slot = n["congestion"][mode]["worst_slot"] or 0
    at = view.clock(first["start_ms"] + slot * first["resolution_s"] * 1000)
    names = {"forecast": "Before: forecast without flexibility", "cleared": "After: with the cleared flexibility"}
    drawn = "".join(
        f"<figure>{diagram(network, s, slot)}<figcaption><b>{names[m]}</b>, {at}</figcaption></figure>"
        for m, s in states.items()
        if s is not None
    )
    return (
        f"<p>The quarter-hour from {at} is the one furthest beyond its limits. A ring marks a bus outside its "
        "voltage band (V↑ above, V↓ below), white dashes an overloaded branch; orange is high, blue low in the "
        f"band; width is loading.</p>{drawn}{extremes(view, session, states, network)}"
    )


def extremes(view: View, session: Session, states: dict[str, Any], network: dict[str, Any]) -> str:
    def loading(state: dict[str, Any] | None) -> list[float]:
        columns = zip(*state["loading_ppm"].values(), strict=True) if state else ()
        return [max(c) / 1e4 for c in columns]

    def voltage(state: dict[str, Any] | None, choose: Any) -> list[float]:
        columns = zip(*(v for v in state["voltage_ppm"].values() if all(v)), strict=True) if state else ()
        return [choose(c) / PPM for c in columns]

    f, c, hours = states["forecast"], states["cleared"], view.hours(session)
    high = min(b["max_voltage_ppm"] for b in network["buses"]) / PPM
    low = max(b["min_voltage_ppm"] for b in network["buses"]) / PPM
    drawn = (
        ("Highest loading of any branch", lines(loading(f), loading(c) or None, (100,), hours, "%")),
        ("Highest voltage", lines(voltage(f, max), voltage(c, max) or None, (high,), hours, "p.u.")),
        ("Lowest voltage", lines(voltage(f, min), voltage(c, min) or None, (low,), hours, "p.u.")),
    )
    figures = "".join(f"<figure>{d}<figcaption><b>{name}</b></figcaption></figure>" for name, d in drawn)
    note = "Dashed grey: before; solid blue: after; dashed red: limit."
    return f'<p class="note">{note}</p><div class="three">{figures}</div>'
