"""The tables of a clearing's report: who was taken, who was not and why, what stays unmet, who pays."""

from collections.abc import Iterable, Sequence
from html import escape

from clearing.case import Case
from clearing.phases import probabilities_ppm, windows
from clearing.result import LimitKind, Result
from flexbus.quantities import PPM

__all__ = ["figures", "money", "provenance", "refused", "requested", "scenarios", "slot_facts", "taken", "unmet"]

ROWS = 30
VOLTAGES = (LimitKind.VOLTAGE_MAX, LimitKind.VOLTAGE_MIN)
THERMAL = (
    LimitKind.CURRENT_FROM,
    LimitKind.CURRENT_TO,
    LimitKind.APPARENT_POWER_FROM,
    LimitKind.APPARENT_POWER_TO,
)


def _words(code: str) -> str:
    return code.replace("_", " ").lower()


def _amount(kind: LimitKind, amount: int) -> str:
    if kind in VOLTAGES:
        return f"{amount / PPM:.6f} pu"
    unit = "kVA" if kind in THERMAL else "kW"
    return "no AC solution" if kind is LimitKind.POWER_FLOW else f"{amount / 1e3:,.3f} {unit}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: frozenset[int]) -> str:
    def cell(tag: str, k: int, text: str) -> str:
        return f"<{tag}{' class=n' if k in numbers else ''}>{escape(text)}</{tag}>"

    body = "".join("<tr>" + "".join(cell("td", k, x) for k, x in enumerate(row)) + "</tr>" for row in rows)
    top = "".join(cell("th", k, x) for k, x in enumerate(head))
    return f"<div class=rows><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"


def scenarios(case: Case, result: Result) -> str:
    """Return what each scenario comes to, and what is reserved for all of them; nothing without scenarios."""
    if not result.scenarios:
        return ""
    hours, days = case.resolution_s / 3600, windows(case)
    rows = []
    for s, window in zip(result.scenarios, days, strict=True):
        slots = result.slots[window.start : window.stop]
        before, after = s.baseline_violation_cost_nano / 1e9, s.violation_cost_nano / 1e9
        rows.append(
            (
                s.scenario_id,
                f"{s.probability_ppm / 1e4:g} %",
                f"{sum(x.up_w for x in slots) * hours / 1e6:,.3f} / {sum(x.down_w for x in slots) * hours / 1e6:,.3f}",
                f"{s.cost_nano / 1e9:,.2f}",
                f"{before:,.0f} to {after:,.0f}",
                str(sum(any(x.kind is not LimitKind.REQUEST for x in slot.shortfalls) for slot in slots)),
                f"{s.welfare_nano / 1e9:,.2f}",
            )
        )
    head = ("scenario", "probability", "called MWh up / down", "paid for calls EUR", "broken limits, worth EUR",
            "slots with a broken limit", "welfare before reservations EUR")  # fmt: skip
    held = sorted((r for r in result.reservations if any(r.quantity)), key=lambda r: (-r.revenue_nano, r.offer_id))
    most = [
        (
            r.offer_id,
            f"{max(r.quantity) / 1e3:,.3f}",
            f"{sum(r.quantity) * hours / 1e6:,.4f}",
            f"{r.revenue_nano / 1e9:,.2f}",
            f"{r.cost_nano / 1e9:,.2f}",
        )
        for r in held[:ROWS]
    ]
    total = sum(r.revenue_nano for r in held) / 1e9
    return (
        "<h2>Scenarios</h2>"
        + _table(head, rows, frozenset({1, 2, 3, 4, 5, 6}))
        + "<h2>What is reserved, whatever comes</h2>"
        + _table(("offer", "at most kW", "MWh held", "paid EUR", "bid EUR"), most, frozenset({1, 2, 3, 4}))
        + f'<p class="small">{len(most)} of {len(held)} reservations shown; all are paid {total:,.2f} EUR.</p>'
    )


def _expected_energy(case: Case, quantity: Sequence[int]) -> float:
    """Return what is taken on average over the scenarios, MWh (Mvarh)."""
    parts = zip(probabilities_ppm(case), windows(case), strict=True)
    return sum(p / PPM * sum(quantity[w.start : w.stop]) for p, w in parts) * case.resolution_s / 3600 / 1e6


def taken(case: Case, result: Result) -> str:
    """Return who was taken, for how much."""
    by_id = {offer.offer_id: offer for offer in case.offers}
    awards = sorted((o for o in result.offers if any(o.quantity)), key=lambda o: (-o.revenue_nano, o.offer_id))
    rows = []
    for award in awards[:ROWS]:
        offer = by_id[award.offer_id]
        energy = _expected_energy(case, award.quantity)
        rows.append(
            (
                award.offer_id,
                offer.provider_id,
                offer.bus_id or "portfolio",
                f"{offer.direction.value.lower()}, {offer.quantity.value.lower()}",
                f"{energy:,.4f}",
                f"{award.revenue_nano / 1e9 / energy:,.2f}" if energy else "",
                f"{award.revenue_nano / 1e9:,.2f}",
                f"{(award.revenue_nano - award.cost_nano) / 1e9:,.2f}",
            )
        )
    head = ("offer", "provider", "bus", "what", "MWh (Mvarh)", "EUR/MWh", "paid EUR", "above bid EUR")
    rest = awards[ROWS:]
    more = f" and {len(rest)} more for {sum(o.revenue_nano for o in rest) / 1e9:,.2f} EUR" if rest else ""
    below = any(o.revenue_nano < o.cost_nano and by_id[o.offer_id].unit_id is not None for o in awards)
    note = " A storage earns as a whole: one of its offers may be paid less than its bid." if below else ""
    return _table(head, rows, frozenset({4, 5, 6, 7})) + f'<p class="small">{len(rows)} offers shown{more}.{note}</p>'


def refused(result: Result, labels: Sequence[str]) -> str:
    """Return who was not taken, and why."""
    shown = sorted(result.non_awards, key=lambda n: (-n.rejected_energy_wh, n.offer_id))
    rows = [
        (
            n.offer_id,
            n.reason.value.replace("_", " ").lower(),
            f"{len(n.slots)} ({labels[n.slots[0]]} to {labels[n.slots[-1]]})" if n.slots else "",
            f"{n.rejected_energy_wh / 1e6:,.4f}",
            n.text,
        )
        for n in shown[:ROWS]
    ]
    more = f'<p class="small">{len(rows)} of {len(shown)} reasons shown, largest energy first.</p>'
    by_code: dict[str, list[int]] = {}
    for n in shown:
        by_code.setdefault(n.reason.value, []).append(n.rejected_energy_wh)
    most = sorted(by_code.items(), key=lambda c: (-sum(c[1]), c[0]))
    short = "; ".join(f"{_words(code)} {sum(wh) / 1e6:,.3f} MWh ({len(wh)} times)" for code, wh in most)
    lead = f"<p>Not taken for: {escape(short)}.</p>" if short else ""
    return lead + _table(("offer", "reason", "slots", "MWh not taken", "in words"), rows, frozenset({3})) + more


def requested(case: Case, result: Result) -> str:
    """Return who asked, what was met and why not all."""
    by_id = {request.request_id: request for request in case.requests}
    rows = []
    for r in result.requests:
        request = by_id[r.request_id]
        place = request.location_id or "area"
        rows.append(
            (
                r.request_id,
                request.requester_id,
                f"{request.direction.value.lower()} at {request.location_kind.value.lower().replace('_', ' ')} {place}",
                f"{_expected_energy(case, r.requested):,.4f}",
                f"{_expected_energy(case, r.matched):,.4f}",
                r.reason or "met",
            )
        )
    return _table(("request", "by", "what", "asked MWh", "met MWh", "why not in full"), rows, frozenset({3, 4}))


def provenance(result: Result) -> str:
    """Return the hashes and the solver."""
    rows = [
        ("case", result.case_id),
        ("hash of the case", result.case_hash),
        ("hash of the result", result.result_hash),
        ("solver", f"{result.solver.name}, {result.solver.versions}; {result.solver.settings}"),
    ]
    return f'<div class="small">{_table(("what", "value"), rows, frozenset())}</div>'


def figures(case: Case, result: Result) -> str:
    """Return the key numbers as tiles."""
    up, down = (_expected_energy(case, [getattr(s, name) for s in result.slots]) for name in ("up_w", "down_w"))
    count = sum(any(o.quantity) for o in result.offers)
    rungs: dict[str, int] = {}
    for s in result.slots:
        rungs[s.status.value.lower()] = rungs.get(s.status.value.lower(), 0) + 1
    broken = sum(any(x.kind is not LimitKind.REQUEST for x in s.shortfalls) for s in result.slots)
    arrow = "\N{RIGHTWARDS ARROW}"
    rows = [
        (f"{result.welfare_nano / 1e9:,.2f}", "EUR welfare gained over keeping the baseline"),
        (f"{result.cost_nano / 1e9:,.2f}", "EUR paid to providers"),
        (
            f"{result.baseline_violation_cost_nano / 1e9:,.0f} {arrow} {result.violation_cost_nano / 1e9:,.0f}",
            "EUR worth of broken limits, before and after",
        ),
        (f"{broken} of {len(result.slots)}", "slots in which a limit stays broken"),
        (f"{up:,.3f} / {down:,.3f}", "MWh of flexibility taken, up / down"),
        (f"{count} of {len(result.offers)}", "offers taken, in part or in full"),
        (" + ".join(str(n) for n in rungs.values()), f"slots {', '.join(rungs)} (how each was solved)"),
    ]
    return "".join(f"<div><b>{escape(value)}</b><span>{escape(what)}</span></div>" for value, what in rows)


def slot_facts(result: Result, t: int) -> str:
    """Return what binds and what stays unmet in one slot, as a panel beside its drawings."""
    slot = result.slots[t]
    short = sorted(slot.shortfalls, key=lambda s: (s.kind is LimitKind.REQUEST, s.kind.value, -s.amount))
    rows = [(_words(s.kind.value), s.element_id, f"short by {_amount(s.kind, s.amount)}") for s in short[:10]]
    named = {(s.kind, s.element_id) for s in slot.shortfalls}
    for b in sorted(slot.binding, key=lambda b: -b.price_milli)[:10]:
        if (b.kind, b.element_id) not in named:
            per = "pu" if b.kind in VOLTAGES else "MVA" if b.kind in THERMAL else "MW"
            rows.append(
                (_words(b.kind.value), b.element_id, f"at its limit, worth {b.price_milli / 1e3:,.2f} EUR/{per}h")
            )
    left = len(short) - 10
    more = f'<p class="small">and {left} more shortfalls</p>' if left > 0 else ""
    body = (
        _table(("limit", "where", "state"), rows, frozenset()) if rows else "<p>No limit binds, nothing is short.</p>"
    )
    if slot.gap_nano is not None:
        more += (
            f'<p class="small">At most {max(slot.gap_nano, 0) / 1e9:,.4f} EUR more could be gained in this slot.</p>'
        )
    return f"<figure><figcaption>What binds, what is short</figcaption>{body}{more}</figure>"


def unmet(result: Result, labels: Sequence[str]) -> str:
    """Return what stays unmet over all slots, by cause."""
    found: dict[tuple[LimitKind, str], list[tuple[int, int]]] = {}
    for t, slot in enumerate(result.slots):
        for s in slot.shortfalls:
            found.setdefault((s.kind, s.element_id), []).append((t, s.amount))
    if not found:
        return "<p>Every limit is kept and every request met.</p>"
    order = sorted(found.items(), key=lambda f: (f[0][0] is LimitKind.REQUEST, -len(f[1]), f[0][0].value, f[0][1]))
    rows = [
        (
            _words(kind.value),
            element,
            f"{len(hits)} ({labels[hits[0][0]]} to {labels[hits[-1][0]]})",
            _amount(kind, max(amount for _, amount in hits)),
        )
        for (kind, element), hits in order[:ROWS]
    ]
    more = f'<p class="small">{len(rows)} of {len(order)} causes shown.</p>' if len(order) > ROWS else ""
    return _table(("what", "where", "slots", "at worst short by"), rows, frozenset({3})) + more


def money(result: Result) -> str:
    """Return who pays and who is paid; the two sides sum to the last digit."""
    asked, rest = sum(r.payment_nano for r in result.requests), result.network_residual_nano
    rows = [
        ("requests pay for what they got", f"{asked / 1e9:,.2f}"),
        (
            "the network operator pays the rest (limits, losses, reactive power)",
            f"{rest / 1e9:,.2f}",
        ),
        ("providers are paid", f"{result.cost_nano / 1e9:,.2f}"),
        ("of which they had bid", f"{result.bid_cost_nano / 1e9:,.2f}"),
    ]
    return _table(("", "EUR"), rows, frozenset({1}))
