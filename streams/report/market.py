"""Needs, offers, prices, awards and what was not taken, in the report; pure."""

from html import escape
from typing import Any

from streams.page.area import Session
from streams.page.drawing import bars, heat_map
from streams.page.key_figures import eur_per_mwh, mwh, words
from streams.page.tell import power
from streams.report.table import short, table
from streams.report.view import View

__all__ = ["awards", "market", "not_taken"]


def market(view: View, session: Session) -> str:
    """Return the volumes per quarter-hour and the nodal prices, drawn."""
    cleared = view.section("cleared").get(session.session_id)
    slots = cleared["slots"] if cleared else []
    none = [0] * session.slots.count
    series = {
        "offered": session.offers,
        "need": session.needs,
        "asked": session.requests,
        "taken": {
            "UP": [s["up_w"] for s in slots] or none,
            "DOWN": [s["down_w"] for s in slots] or none,
        },
        "missing": [s["shortfall_w"] for s in slots],
    }
    chart = bars(series, view.hours(session))
    return (
        f"<figure>{chart}<figcaption><b>Flexibility per quarter-hour</b>: dark = cleared, light = offered and not "
        "taken (cut off where there is far more), solid line = need, dashed line = requested, red on the axis = "
        "unmet. Above the axis up, below "
        f"down.</figcaption></figure>{prices(view, session)}"
    )


def prices(view: View, session: Session) -> str:
    value = view.section("prices").get(session.session_id)
    if value is None or not any(value["buses"].values()):
        return '<p class="note">No prices were published.</p>'
    network = view.state.rows.get(view.area.area_id, "network", "network")
    place = {b["bus_id"]: (b["tree"][1], b["tree"][0]) for b in network["buses"]} if network else {}
    order = sorted(value["buses"], key=lambda b: (place.get(b, (9, 9)), b))
    rows = [value["buses"][b] for b in order]
    values = sorted(p for row in rows for p in row)
    low, usual, high = values[0], values[len(values) // 2], values[-1]
    reach = max(high - usual, usual - low)
    height = min(420, max(120, 6 * len(order)))
    names = order[:: max(1, -(-len(order) * 13 // height))]
    hours = "".join(f"<span>{h}</span>" for h in [t for t in view.hours(session) if t] + ["24:00"])
    scale = heat_map([list(range(-50, 51))], 0, 50)
    return (
        f'<figure><div class="heat"><div class="rows" style="height:{height}px">'
        + "".join(f"<span>{escape(b)}</span>" for b in names)
        + f'</div><img alt="nodal prices, bus by quarter-hour" height="{height}" src="{heat_map(rows, usual, reach)}">'
        f'<div class="hours">{hours}</div></div><figcaption><b>Nodal prices</b>, EUR/MWh: neutral is the usual '
        f"{eur_per_mwh(usual)}, blue below it (lowest {eur_per_mwh(low)})"
        f'<img class="scale" alt="blue to orange" src="{scale}">orange above it (highest {eur_per_mwh(high)}); '
        "buses by feeder"
        "</figcaption></figure>"
    )


def awards(view: View, session: Session) -> str:
    """Return what was taken, the largest first."""

    def row(a: dict[str, Any]) -> tuple[Any, ...]:
        energy = sum(a["power_w"]) * a["resolution_s"] // 3600
        filled = [k for k, w in enumerate(a["power_w"]) if w]
        first, last = (filled[0], filled[-1] + 1) if filled else (0, 0)
        step = a["resolution_s"] * 1000
        when = f"{view.clock(a['start_ms'] + first * step)}–{view.clock(a['start_ms'] + last * step)}"
        paid = sum(w * p for w, p in zip(a["power_w"], a["price_milli_per_mwh"], strict=True))
        mean = paid // sum(a["power_w"]) if sum(a["power_w"]) else 0
        where = a["connection_point_id"] or a["portfolio_id"] or "–"
        return (
            short(a["offer_id"]), a["fsp_id"], where, a["bus_id"] or "several", words(a["direction"]), when,
            mwh(energy), power(max(a["power_w"], default=0)), eur_per_mwh(mean),
        )  # fmt: skip

    found = sorted(view.of("awards", session), key=lambda a: (-sum(a["power_w"]), a["award_id"]))
    head = ("Offer", "Provider", "At", "Bus", "Direction", "When", "MWh", "Peak", "Mean EUR/MWh")
    return table(head, map(row, found), numeric=(6, 7, 8), empty="Nothing was awarded.")


def not_taken(view: View, session: Session, n: dict[str, Any]) -> str:
    """Return what was clipped or not taken, with the reasons."""
    reasons = n["clearing"]["reasons"] if n["clearing"] else {}
    counts = table(("Reason", "Offers"), ((words(k), v) for k, v in reasons.items()), numeric=(1,))
    clipped = [
        (
            short(c["offer_id"]),
            c["fsp_id"],
            "clipped at the gate",
            "",
            mwh((sum(c["offered_w"]) - sum(c["allowed_w"])) * c["resolution_s"] // 3600),
            c["reason"],
        )
        for c in view.section("clipped").values()
    ]  # fmt: skip
    left = [
        (
            short(r["offer_id"]),
            r["fsp_id"],
            words(r["reason"]),
            r["element_id"] or "",
            mwh(r["rejected_energy_wh"]),
            r["text"],
        )
        for r in view.of("non_awards", session)
    ]
    head = ("Offer", "Provider", "Reason", "Element", "MWh", "In words")
    return counts + table(head, clipped + left, numeric=(4,), empty="Everything was taken.")
