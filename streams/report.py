"""report.html: a finished market day in one file that needs nothing else, made from the page's own state."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, tzinfo
from html import escape
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from flexbus.quantities import PPM
from streams.page.area import Area, Session
from streams.page.drawing import bars, diagram, heat_map, lines
from streams.page.key_figures import eur_per_mwh, key_figures, mwh, words
from streams.page.metered import refresh_metered
from streams.page.model import PageState, summary
from streams.page.summary import congestion
from streams.page.tell import euro, power

__all__ = ["report", "write_report"]

# Rows printed of long tables; what is left out is counted under the table.
MOST = 150


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
    parts = [_Chapter(state, state.areas[a], numbers["areas"][a]).text() for a in sorted(state.areas)]
    title = " and ".join(state.areas[a].info["name"] for a in sorted(state.areas)) or "no area"
    style = (resources.files("streams") / "report.css").read_text(encoding="utf-8")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Market day: {escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        f'img-src data:"><style>{style}</style></head><body>'
        f"{''.join(parts) or '<h1>Nothing happened</h1><p>The journal is empty.</p>'}"
        f"{_rejections(state, numbers['rejections'])}{_verify(state)}</body></html>\n"
    )


def _short(text: str | None) -> str:
    name = text or "–"
    return f"{name[:8]}…" if len(name) > 20 else name


def _table(
    head: Sequence[str], rows: Iterable[Sequence[Any]], numeric: Sequence[int] = (), empty: str = "None."
) -> str:
    """Return a table; cells are escaped, columns in `numeric` are right-aligned."""

    def cell(k: int, value: Any, tag: str) -> str:
        kind = ' class="n"' if k in numeric else ""
        return f"<{tag}{kind}>{escape(str(value))}</{tag}>"

    listed = list(rows)
    if not listed:
        return f'<p class="note">{escape(empty)}</p>'
    body = "".join(
        f"<tr{_sum_row(row)}>{''.join(cell(k, v, 'td') for k, v in enumerate(row))}</tr>" for row in listed[:MOST]
    )
    more = f'<p class="note">… and {len(listed) - MOST} more.</p>' if len(listed) > MOST else ""
    columns = "".join(cell(k, v, "th") for k, v in enumerate(head))
    return f"<table><thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table>{more}"


def _sum_row(row: Sequence[Any]) -> str:
    return ' class="sum"' if row[0] in ("Sum", "Total") else ""


class _Chapter:
    """The report of one area."""

    def __init__(self, state: PageState, area: Area, numbers: dict[str, Any]) -> None:
        self.state, self.area, self.numbers = state, area, numbers
        self.zone: tzinfo
        try:
            self.zone = ZoneInfo(area.info["time_zone"])
        except (ZoneInfoNotFoundError, ValueError):
            self.zone = UTC

    def section(self, name: str) -> dict[str, dict[str, Any]]:
        return self.state.rows.section(self.area.area_id, name)

    def of(self, name: str, session: Session) -> list[dict[str, Any]]:
        return [r for r in self.section(name).values() if r["session_id"] == session.session_id]

    def clock(self, at_ms: int, form: str = "%H:%M") -> str:
        return datetime.fromtimestamp(at_ms / 1000, self.zone).strftime(form)

    def span(self, row: dict[str, Any], count: int) -> str:
        return f"{self.clock(row['start_ms'])}–{self.clock(row['start_ms'] + count * row['resolution_s'] * 1000)}"

    def hours(self, session: Session) -> list[str]:
        step = max(1, 4 * 3600 // session.slots.resolution_s)
        starts = range(session.slots.count)
        return [
            self.clock(session.slots.start_ms + k * session.slots.resolution_s * 1000) if k % step == 0 else ""
            for k in starts
        ]

    def text(self) -> str:
        grid, area = self.numbers["grid"], self.area
        chain = self.state.chains[area.area_id]
        days = sorted({self.clock(s.slots.start_ms, "%A, %-d %B %Y") for s in area.sessions.values()})
        on = "no grid model" if grid is None else (
            f"{grid['name'] or grid['network_id']}, {grid['buses']} buses, {grid['branches']} branches"
        )  # fmt: skip
        people = ", ".join(
            f"{n} {role if len(role) < 4 else words(role)}" for role, n in self.numbers["participants"].items()
        )
        verdict = "verified" if chain["verified"] else f"BROKEN: {chain['fault']}"
        head = (
            f"<h1>Market day {escape(area.info['name'])}</h1>"
            f'<p class="lead">{escape("; ".join(days) or "no session")} ({escape(area.info["time_zone"])}). '
            f"Grid: {escape(on)}. Participants: {escape(people or 'none')}; "
            f"{self.numbers['connection_points']} connection points.</p>"
            f'<p class="note">Journal: {chain["blocks"]} blocks, {chain["entries"]} entries, hash chain '
            f"{escape(verdict)}, last block <code>{chain['last_hash']}</code></p>"
        )
        ordered = sorted(area.sessions.values(), key=lambda s: (s.slots.start_ms, s.session_id))
        return head + "".join(self.session(s) for s in ordered) + self.course()

    def session(self, session: Session) -> str:
        n = self.numbers["sessions"][session.session_id]
        title = "" if len(self.area.sessions) == 1 else f"<h2>Session {escape(session.session_id)}</h2>"
        return "".join(
            (
                title,
                self.tiles(n),
                "<h2>The day in numbers</h2>",
                self.overview(session, n),
                "<h2>The grid before and after</h2>",
                self.before_after(session, n),
                "<h2>Needs, offers and prices</h2>",
                self.market(session),
                "<h2>Awards</h2>",
                self.awards(session),
                "<h2>What was not taken, and why</h2>",
                self.not_taken(session, n),
                "<h2>Activation and delivery</h2>",
                self.activations(session),
                self.limits(session),
                self.tso(session),
                "<h2>Settlement</h2>",
                self.settlement(session, n),
            )
        )

    def tiles(self, n: dict[str, Any]) -> str:
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

    def overview(self, session: Session, n: dict[str, Any]) -> str:
        return _table(("What", "Amount", "Detail"), key_figures(n)) + self.congestion(session, n["congestion"])

    def congestion(self, session: Session, states: dict[str, Any]) -> str:
        named = {
            "forecast": "forecast without flexibility",
            "cleared": "with the cleared flexibility",
            "metered": "as metered (estimate: forecast, and meters where activated)",
        }
        by_meter = self.section("grid").get(f"{session.session_id}/metered")
        states = {**states, "metered": congestion(self.area, by_meter)}
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
        return _table(head, rows, numeric=(1, 2, 3, 4, 5), empty="No grid state was published.")

    def before_after(self, session: Session, n: dict[str, Any]) -> str:
        network = self.state.rows.get(self.area.area_id, "network", "network")
        states = {m: self.section("grid").get(f"{session.session_id}/{m}") for m in ("forecast", "cleared")}
        first = states["forecast"] or states["cleared"]
        if network is None or first is None:
            return '<p class="note">No network model or grid state was published.</p>'
        mode = "forecast" if states["forecast"] else "cleared"
        slot = n["congestion"][mode]["worst_slot"] or 0
        at = self.clock(first["start_ms"] + slot * first["resolution_s"] * 1000)
        names = {"forecast": "Before: forecast without flexibility", "cleared": "After: with the cleared flexibility"}
        drawn = "".join(
            f"<figure>{diagram(network, s, slot)}<figcaption><b>{names[m]}</b>, {at}</figcaption></figure>"
            for m, s in states.items()
            if s is not None
        )
        return (
            f"<p>The quarter-hour from {at} is the one furthest beyond its limits. A ring marks a bus outside its "
            "voltage band (V↑ above, V↓ below), white dashes an overloaded branch; orange is high, blue low in the "
            f"band; width is loading.</p>{drawn}{self.extremes(session, states, network)}"
        )

    def extremes(self, session: Session, states: dict[str, Any], network: dict[str, Any]) -> str:
        def loading(state: dict[str, Any] | None) -> list[float]:
            columns = zip(*state["loading_ppm"].values(), strict=True) if state else ()
            return [max(c) / 1e4 for c in columns]

        def voltage(state: dict[str, Any] | None, choose: Any) -> list[float]:
            columns = zip(*(v for v in state["voltage_ppm"].values() if all(v)), strict=True) if state else ()
            return [choose(c) / PPM for c in columns]

        f, c, hours = states["forecast"], states["cleared"], self.hours(session)
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

    def market(self, session: Session) -> str:
        cleared = self.section("cleared").get(session.session_id)
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
        chart = bars(series, self.hours(session))
        return (
            f"<figure>{chart}<figcaption><b>Flexibility per quarter-hour</b>: dark = cleared, light = offered and not "
            "taken (cut off where there is far more), solid line = need, dashed line = requested, red on the axis = "
            "unmet. Above the axis up, below "
            f"down.</figcaption></figure>{self.prices(session)}"
        )

    def prices(self, session: Session) -> str:
        value = self.section("prices").get(session.session_id)
        if value is None or not any(value["buses"].values()):
            return '<p class="note">No prices were published.</p>'
        network = self.state.rows.get(self.area.area_id, "network", "network")
        place = {b["bus_id"]: (b["tree"][1], b["tree"][0]) for b in network["buses"]} if network else {}
        order = sorted(value["buses"], key=lambda b: (place.get(b, (9, 9)), b))
        rows = [value["buses"][b] for b in order]
        low, high = min(map(min, rows)), max(map(max, rows))
        height = min(420, max(120, 6 * len(order)))
        names = order[:: max(1, len(order) * 13 // height)]
        hours = "".join(f"<span>{h}</span>" for h in [t for t in self.hours(session) if t] + ["24:00"])
        scale = heat_map([list(range(100))], 0, 99)
        return (
            f'<figure><div class="heat"><div class="rows" style="height:{height}px">'
            + "".join(f"<span>{escape(b)}</span>" for b in names)
            + f'</div><img alt="nodal prices, bus by quarter-hour" height="{height}" src="{heat_map(rows, low, high)}">'
            f'<div class="hours">{hours}</div></div><figcaption><b>Nodal prices</b>, EUR/MWh: {eur_per_mwh(low)}'
            f'<img class="scale" alt="dark to light" src="{scale}">{eur_per_mwh(high)}; buses by feeder'
            "</figcaption></figure>"
        )

    def awards(self, session: Session) -> str:
        def row(a: dict[str, Any]) -> tuple[Any, ...]:
            energy = sum(a["power_w"]) * a["resolution_s"] // 3600
            filled = [k for k, w in enumerate(a["power_w"]) if w]
            first, last = (filled[0], filled[-1] + 1) if filled else (0, 0)
            step = a["resolution_s"] * 1000
            when = f"{self.clock(a['start_ms'] + first * step)}–{self.clock(a['start_ms'] + last * step)}"
            paid = sum(w * p for w, p in zip(a["power_w"], a["price_milli_per_mwh"], strict=True))
            mean = paid // sum(a["power_w"]) if sum(a["power_w"]) else 0
            where = a["connection_point_id"] or a["portfolio_id"] or "–"
            return (
                _short(a["offer_id"]), a["fsp_id"], where, a["bus_id"] or "several", words(a["direction"]), when,
                mwh(energy), power(max(a["power_w"], default=0)), eur_per_mwh(mean),
            )  # fmt: skip

        found = sorted(self.of("awards", session), key=lambda a: (-sum(a["power_w"]), a["award_id"]))
        head = ("Offer", "Provider", "At", "Bus", "Direction", "When", "MWh", "Peak", "Mean EUR/MWh")
        return _table(head, map(row, found), numeric=(6, 7, 8), empty="Nothing was awarded.")

    def not_taken(self, session: Session, n: dict[str, Any]) -> str:
        reasons = n["clearing"]["reasons"] if n["clearing"] else {}
        counts = _table(("Reason", "Offers"), ((words(k), v) for k, v in reasons.items()), numeric=(1,))
        clipped = [
            (
                _short(c["offer_id"]),
                c["fsp_id"],
                "clipped before the clearing",
                "",
                mwh((sum(c["offered_w"]) - sum(c["allowed_w"])) * c["resolution_s"] // 3600),
                c["reason"],
            )
            for c in self.section("clipped").values()
        ]  # fmt: skip
        left = [
            (
                _short(r["offer_id"]),
                r["fsp_id"],
                words(r["reason"]),
                r["element_id"] or "",
                mwh(r["rejected_energy_wh"]),
                r["text"],
            )
            for r in self.of("non_awards", session)
        ]
        head = ("Offer", "Provider", "Reason", "Element", "MWh", "In words")
        return counts + _table(head, clipped + left, numeric=(4,), empty="Everything was taken.")

    def activations(self, session: Session) -> str:
        deliveries = self.section("deliveries")

        def row(a: dict[str, Any]) -> tuple[Any, ...]:
            d = deliveries.get(a["activation_id"])
            owed, got = (sum(d["ordered_wh"]), sum(d["delivered_wh"])) if d else (0, 0)
            note = a["note"]
            if a["stopped"]:
                stop = a["stopped"]
                note = f"stopped {self.clock(stop['from_ms'])}–{self.clock(stop['until_ms'])}: {note}"
            return (
                self.span(a, len(a["power_w"])), a["fsp_id"], a["connection_point_id"] or a["portfolio_id"] or "–",
                "TSO" if a["tso_activation_id"] else "DSO", words(a["direction"]),
                power(max(a["power_w"], default=0)), words(a["answer"]), mwh(owed) if d else "–",
                mwh(got) if d else "–", f"{100 * got / owed:.1f} %" if owed else "–", note,
            )  # fmt: skip

        found = sorted(self.of("activations", session), key=lambda a: (a["start_ms"], a["fsp_id"], a["activation_id"]))
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
        return _table(head, map(row, found), numeric=(5, 7, 8, 9), empty="Nothing was ordered.")

    def limits(self, session: Session) -> str:
        rows = [
            (
                "foreseen" if r["foreseen"] else "unforeseen stop",
                r["connection_point_id"],
                f"{self.clock(r['start_ms'])}–{self.clock(r['lifted_ms'] or r['end_ms'])}",
                "–" if r["max_feed_in_w"] is None else power(r["max_feed_in_w"]),
                "–" if r["max_draw_w"] is None else power(r["max_draw_w"]),
                r["reason"],
            )
            for r in self.section("limits").values()
        ]
        head = ("Limit", "Connection point", "When", "Feed-in ≤", "Draw ≤", "Reason")
        lights = [
            (r["connection_point_id"], self.colours(r), ", ".join(r["causes"]))
            for r in self.of("lights", session)
            if set(r["colours"]) != {"GREEN"}
        ]
        return (
            f"<h3>Capacity limits</h3>{_table(head, rows, numeric=(3, 4))}"
            f"<h3>Traffic lights that were not green all day</h3>"
            f"{_table(('Connection point', 'Hours', 'Causes'), lights, empty='All were green.')}"
        )

    def colours(self, row: dict[str, Any]) -> str:
        colours = row["colours"]
        edges = [0, *(k + 1 for k, (a, b) in enumerate(pairwise(colours)) if a != b), len(colours)]
        spans = [(a, b) for a, b in pairwise(edges) if colours[a] != "GREEN"]
        hour = [self.clock(row["start_ms"] + h * 3_600_000) for h in range(len(colours) + 1)]
        return ", ".join(f"{hour[a]}–{hour[b]} {colours[a].lower()}" for a, b in spans)

    def tso(self, session: Session) -> str:
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
            for r in self.of("aggregates", session)
        ]
        head = ("Infeed", "Direction", "Offered MWh", "Offers", "Activated by", "MWh", "Shares (peak)", "Unserved MWh")
        return f"<h3>Upward to the TSO</h3>{_table(head, rows, numeric=(2, 3, 5, 7))}"

    def settlement(self, session: Session, n: dict[str, Any]) -> str:
        found = self.of("settlements", session)
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
        text = _table(head, [*rows, total] if rows else [], numeric=(2, 3, 4, 5, 6), empty="Nothing was settled.")
        return text + "".join(self.invoice(r) for r in found)

    def invoice(self, row: dict[str, Any]) -> str:
        invoice = [
            (
                i["text"],
                _short(i["activation_id"]),
                *(f"{i[k] / 100:,.2f}" for k in ("remuneration_cents", "penalty_cents", "amount_cents")),
            )
            for i in row["invoice"]
        ]
        sum_row = ("Total", "", "", "", f"{row['total_cents'] / 100:,.2f}")
        slots = [
            (
                _short(a),
                self.clock(at),
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
            + _table(("For", "Activation", "Remuneration", "Penalty", "EUR"), [*invoice, sum_row], numeric=(2, 3, 4))
            + f"<details><summary>{row['lines_in_all']} settlement lines per quarter-hour</summary>"
            + _table(lines_head, slots, numeric=(2, 3, 4, 5, 6, 7))
            + "</details>"
        )

    def course(self) -> str:
        rows = [
            (
                f"{t['block']}.{t['index']}",
                self.clock(t["received_at_ms"], "%H:%M:%S"),
                t["type"],
                t["sender_id"] if t["on_behalf_of"] is None else f"{t['sender_id']} for {t['on_behalf_of']}",
                t["text"],
            )
            for t in self.state.timeline.get(self.area.area_id, ())
        ]
        note = "Entry is block and position in the journal; the time is when the broker received it."
        return (
            f'<h2>Who did what, and when</h2><p class="note">{note}</p>'
            f"{_table(('Entry', 'Received', 'Event', 'Sender', 'What'), rows)}"
        )


def _pu(ppm: int | None) -> str:
    return "–" if ppm is None else f"{ppm / PPM:.4f}"


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
        f"{_table(('Sender', 'Event', 'Fault', 'Where', 'What'), rows)}"
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
        f"{_table(('Area', 'Blocks', 'Entries', 'Chain', 'Hash of the last block'), rows, numeric=(1, 2))}"
    )
