"""The whole report: areas, their sessions, rejections, and how to verify it."""

from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from streams.page.area import Session
from streams.page.key_figures import key_figures, mwh, words
from streams.page.metered import refresh_metered
from streams.page.model import PageState, summary
from streams.report import delivery, grid, market
from streams.report.table import table
from streams.report.view import View

__all__ = ["report", "write_report"]


def write_report(state: PageState, path: Path) -> Path:
    """Write the report of a day.

    Args:
        state: the page's state after the day.
        path: file to write; replaced whole.
    """
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(report(state), encoding="utf-8")
    fresh.replace(path)
    return path


def report(state: PageState) -> str:
    """Return the report of all areas as one HTML document."""
    numbers = summary(state)
    for area in state.areas.values():
        refresh_metered(area)
    parts = [text(View(state, state.areas[a], numbers["areas"][a])) for a in sorted(state.areas)]
    title = " and ".join(state.areas[a].info["name"] for a in sorted(state.areas)) or "no area"
    style = (resources.files("streams.report") / "report.css").read_text(encoding="utf-8")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Market day: {escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        f'img-src data:"><style>{style}</style></head><body>'
        f"{''.join(parts) or '<h1>Nothing happened</h1><p>The journal is empty.</p>'}"
        f"{_rejections(state, numbers['rejections'])}{_verify(state)}</body></html>\n"
    )


def text(view: View) -> str:
    grid, area = view.numbers["grid"], view.area
    chain = view.state.chains[area.area_id]
    days = sorted({view.clock(s.slots.start_ms, "%A, %-d %B %Y") for s in area.sessions.values()})
    on = "no grid model" if grid is None else (
        f"{grid['name'] or grid['network_id']}, {grid['buses']} buses, {grid['branches']} branches"
    )  # fmt: skip
    people = ", ".join(
        f"{n} {role if len(role) < 4 else words(role)}" for role, n in view.numbers["participants"].items()
    )
    verdict = "verified" if chain["verified"] else f"BROKEN: {chain['fault']}"
    head = (
        f"<h1>Market day {escape(area.info['name'])}</h1>"
        f'<p class="lead">{escape("; ".join(days) or "no session")} ({escape(area.info["time_zone"])}). '
        f"Grid: {escape(on)}. Participants: {escape(people or 'none')}; "
        f"{view.numbers['connection_points']} connection points.</p>"
        f'<p class="note">Journal: {chain["blocks"]} blocks, {chain["entries"]} entries, hash chain '
        f"{escape(verdict)}, last block <code>{chain['last_hash']}</code></p>"
    )
    ordered = sorted(area.sessions.values(), key=lambda s: (s.slots.start_ms, s.session_id))
    return head + "".join(session(view, s) for s in ordered) + course(view)


def session(view: View, session: Session) -> str:
    n = view.numbers["sessions"][session.session_id]
    title = "" if len(view.area.sessions) == 1 else f"<h2>Session {escape(session.session_id)}</h2>"
    return "".join(
        (
            title,
            tiles(n),
            "<h2>The day in numbers</h2>",
            overview(view, session, n),
            "<h2>The grid before and after</h2>",
            grid.before_after(view, session, n),
            "<h2>Needs, offers and prices</h2>",
            market.market(view, session),
            "<h2>Awards</h2>",
            market.awards(view, session),
            "<h2>What was not taken, and why</h2>",
            market.not_taken(view, session, n),
            "<h2>Activation and delivery</h2>",
            delivery.activations(view, session),
            delivery.limits(view, session),
            delivery.tso(view, session),
            "<h2>Settlement</h2>",
            delivery.settlement(view, session, n),
        )
    )


def tiles(n: dict[str, Any]) -> str:
    c, money, sent = n["clearing"], n["settlement"], n["delivery"]
    before, after = n["congestion"]["forecast"], n["congestion"]["cleared"]

    def violated(state: dict[str, Any] | None) -> str:
        return "–" if state is None else str(state["violated_slots"])

    share = f"{100 * sent['delivered_wh'] / sent['owed_wh']:.1f} %" if sent["owed_wh"] else "–"
    shown = (
        (f"{violated(before)} → {violated(after)}", "quarter-hours outside limits", "before → after clearing"),
        ("–" if c is None else f"{mwh(c['up_wh'] + c['down_wh'])} MWh", "flexibility cleared",
         "" if c is None else f"up {mwh(c['up_wh'])}, down {mwh(c['down_wh'])}"),
        (share, "of what was owed was delivered", f"{mwh(sent['shortfall_wh'])} MWh short"),
        (f"{money['total_cents'] / 100:,.2f} EUR", "settled",
         f"{money['approved']} of {money['settlements']} approved, {money['corrected']} corrected"),
    )  # fmt: skip
    tiles = (
        f'<div class="tile"><b>{escape(a)}</b><span>{escape(b)}</span><small>{escape(d)}</small></div>'
        for a, b, d in shown
    )
    return f'<div class="tiles">{"".join(tiles)}</div>'


def overview(view: View, session: Session, n: dict[str, Any]) -> str:
    return table(("What", "Amount", "Detail"), key_figures(n)) + grid.congestion_table(view, session, n["congestion"])


def course(view: View) -> str:
    rows = [
        (
            f"{t['block']}.{t['index']}",
            view.clock(t["received_at_ms"], "%H:%M:%S"),
            t["type"],
            t["sender_id"] if t["on_behalf_of"] is None else f"{t['sender_id']} for {t['on_behalf_of']}",
            t["text"],
        )
        for t in view.state.timeline.get(view.area.area_id, ())
    ]
    note = "Entry is block and position in the journal; the time is when the broker received it."
    return (
        f'<h2>Who did what, and when</h2><p class="note">{note}</p>'
        f"{table(('Entry', 'Received', 'Event', 'Sender', 'What'), rows)}"
    )


def _rejections(state: PageState, counts: dict[str, int]) -> str:
    shown = sorted(state.rows.section("", "rejections").values(), key=lambda r: r["number"])
    rows = [
        (r["sender_id"], r["event_type"] or "unreadable", f["code"], f["path"], f["message"])
        for r in shown
        for f in r["faults"]
    ]
    said = ", ".join(f"{n} {code}" for code, n in counts.items())
    return (
        f"<h2>Rejections</h2><p>{state.rejected} inputs were refused and did not enter the journal"
        f"{': ' + escape(said) if said else ''}. Their original bytes are kept.</p>"
        f"{table(('Sender', 'Event', 'Fault', 'Where', 'What'), rows)}"
    )


def _verify(state: PageState) -> str:
    rows = [
        (a, c["blocks"], c["entries"], "verified" if c["verified"] else c["fault"], c["last_hash"])
        for a, c in sorted(state.chains.items())
    ]
    return (
        "<h2>How to verify this</h2><p>Every number above follows from the journal alone. Anyone who can read it "
        "checks the hash chain, folds every view again and solves every clearing again, to identical bytes:</p>"
        "<pre>flexbus replay --verify --bootstrap HOST:PORT</pre>"
        f"{table(('Area', 'Blocks', 'Entries', 'Chain', 'Hash of the last block'), rows, numeric=(1, 2))}"
    )
