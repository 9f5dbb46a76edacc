"""Activation, limits, the way up to the TSO and settlement, in the report; pure."""

from html import escape
from itertools import pairwise
from typing import Any

from streams.page.area import Session
from streams.page.key_figures import eur_per_mwh, mwh, words
from streams.page.tell import euro, power
from streams.report.table import short, table
from streams.report.view import View

__all__ = ["activations", "limits", "settlement", "tso"]


def activations(view: View, session: Session) -> str:
    """Return the orders with their answers and what was delivered of them."""
    deliveries = view.section("deliveries")

    def row(a: dict[str, Any]) -> tuple[Any, ...]:
        d = deliveries.get(a["activation_id"])
        owed, got = (sum(d["ordered_wh"]), sum(d["delivered_wh"])) if d else (0, 0)
        note = a["note"]
        if a["stopped"]:
            stop = a["stopped"]
            note = f"stopped {view.clock(stop['from_ms'])}–{view.clock(stop['until_ms'])}: {note}"
        return (
            view.span(a, len(a["power_w"])), a["fsp_id"], a["connection_point_id"] or a["portfolio_id"] or "–",
            "TSO" if a["tso_activation_id"] else "DSO", words(a["direction"]),
            power(max(a["power_w"], default=0)), words(a["answer"]), mwh(owed) if d else "–",
            mwh(got) if d else "–", f"{100 * got / owed:.1f} %" if owed else "–", note,
        )  # fmt: skip

    found = sorted(view.of("activations", session), key=lambda a: (a["start_ms"], a["fsp_id"], a["activation_id"]))
    head = (
        "When",
        "Provider",
        "At",
        "For",
        "Direction",
        "Peak",
        "Answer",
        "Owed MWh",
        "Delivered",
        "Share",
        "Note",
    )
    return table(head, map(row, found), numeric=(5, 7, 8, 9), empty="Nothing was ordered.")


def limits(view: View, session: Session) -> str:
    """Return capacity limits, and traffic lights that were not always green."""
    rows = [
        (
            "foreseen" if r["foreseen"] else "unforeseen stop",
            r["connection_point_id"],
            f"{view.clock(r['start_ms'])}–{view.clock(r['lifted_ms'] or r['end_ms'])}",
            "–" if r["max_feed_in_w"] is None else power(r["max_feed_in_w"]),
            "–" if r["max_draw_w"] is None else power(r["max_draw_w"]),
            r["reason"],
        )
        for r in view.section("limits").values()
    ]
    head = ("Limit", "Connection point", "When", "Feed-in ≤", "Draw ≤", "Reason")
    lights = [
        (r["connection_point_id"], colours(view, r), ", ".join(r["causes"]))
        for r in view.of("lights", session)
        if set(r["colours"]) != {"GREEN"}
    ]
    return (
        f"<h3>Capacity limits</h3>{table(head, rows, numeric=(3, 4))}"
        f"<h3>Traffic lights that were not green all day</h3>"
        f"{table(('Connection point', 'Hours', 'Causes'), lights, empty='All were green.')}"
    )


def colours(view: View, row: dict[str, Any]) -> str:
    colours = row["colours"]
    edges = [0, *(k + 1 for k, (a, b) in enumerate(pairwise(colours)) if a != b), len(colours)]
    spans = [(a, b) for a, b in pairwise(edges) if colours[a] != "GREEN"]
    hour = [view.clock(row["start_ms"] + h * 3_600_000) for h in range(len(colours) + 1)]
    return ", ".join(f"{hour[a]}–{hour[b]} {colours[a].lower()}" for a, b in spans)


def tso(view: View, session: Session) -> str:
    """Return what was offered upward and what the TSO activated of it."""

    def shares(row: dict[str, Any]) -> str:
        found = row["shares"] or ()
        return ", ".join(f"{s['fsp_id']} {power(max(s['power_w'], default=0))}" for s in found)

    def energy(row: dict[str, Any], key: str) -> str:
        return mwh(sum(row[key]) * row["resolution_s"] // 3600)

    rows = [
        (
            r["infeed_id"],
            words(r["direction"]),
            energy(r, "power_w"),
            r["members"],
            r["tso_id"] or "–",
            energy(r, "activated_w"),
            shares(r),
            energy(r, "unserved_w"),
        )
        for r in view.of("aggregates", session)
    ]
    head = ("Infeed", "Direction", "Offered MWh", "Offers", "Activated by", "MWh", "Shares (peak)", "Unserved MWh")
    return f"<h3>Upward to the TSO</h3>{table(head, rows, numeric=(2, 3, 5, 7))}"


def settlement(view: View, session: Session, n: dict[str, Any]) -> str:
    """Return who is paid what, then each invoice with its lines."""
    found = view.of("settlements", session)
    rows = [
        (
            r["fsp_id"],
            r["buyer_id"],
            mwh(r["ordered_wh"]),
            mwh(r["delivered_wh"]),
            f"{r['remuneration_cents'] / 100:,.2f}",
            f"{r['penalty_cents'] / 100:,.2f}",
            f"{r['total_cents'] / 100:,.2f}",
            words(r["state"]),
            " → ".join(f"r{h['revision']} {h['what']} {euro(h['total_cents'])}" for h in r["history"]),
        )
        for r in found
    ]
    money = n["settlement"]
    sums = (f"{money[k] / 100:,.2f}" for k in ("remuneration_cents", "penalty_cents", "total_cents"))
    total = ("Sum", "", "", "", *sums, "", "")
    head = ("Provider", "Buyer", "Owed MWh", "Delivered", "Remuneration", "Penalty", "EUR", "State", "Course")
    text = table(head, rows, numeric=(2, 3, 4, 5, 6), empty="Nothing was settled.", total=total)
    return text + "".join(invoice(view, r) for r in found)


def invoice(view: View, row: dict[str, Any]) -> str:
    invoice = [
        (
            i["text"],
            short(i["activation_id"]),
            *(f"{i[k] / 100:,.2f}" for k in ("remuneration_cents", "penalty_cents", "amount_cents")),
        )
        for i in row["invoice"]
    ]
    sum_row = ("Total", "", "", "", f"{row['total_cents'] / 100:,.2f}")
    slots = [
        (
            short(a),
            view.clock(at),
            f"{owed / 1e3:.1f}",
            f"{got / 1e3:.1f}",
            f"{penalised / 1e3:.1f}",
            eur_per_mwh(price),
            f"{remuneration / 1e9:.4f}",
            f"{penalty / 1e9:.4f}",
        )
        for a, at, owed, got, _, penalised, price, remuneration, penalty in row["lines"]
    ]
    title = f"Invoice {row['buyer_id']} to {row['fsp_id']}, revision {row['revision']}"
    lines_head = ("Activation", "Slot", "Owed kWh", "Delivered", "Penalised", "EUR/MWh", "Remuneration", "Penalty")
    return (
        f"<h3>{escape(title)}</h3>"
        + table(("For", "Activation", "Remuneration", "Penalty", "EUR"), invoice, numeric=(2, 3, 4), total=sum_row)
        + f"<details><summary>{row['lines_in_all']} settlement lines per quarter-hour</summary>"
        + table(lines_head, slots, numeric=(2, 3, 4, 5, 6, 7))
        + "</details>"
    )
