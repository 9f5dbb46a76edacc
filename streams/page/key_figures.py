"""A session's final numbers in words, for the report and the terminal; pure."""

from typing import Any

__all__ = ["eur", "eur_per_mwh", "key_figures", "mwh", "words"]


def mwh(wh: int) -> str:
    """Return an energy in MWh, without the unit."""
    return f"{wh / 1e6:,.3f}"


def eur(nano: int) -> str:
    """Return an amount of 1e-9 EUR in EUR, without the unit."""
    return f"{nano / 1e9:,.2f}"


def eur_per_mwh(milli: int) -> str:
    """Return a price in EUR/MWh, without the unit."""
    return f"{milli / 1e3:,.2f}"


def words(code: str) -> str:
    """Return an enum's name as words."""
    return code.lower().replace("_", " ")


def _both(pair: dict[str, Any]) -> str:
    return f"up {mwh(pair['up_wh'])} MWh, down {mwh(pair['down_wh'])} MWh"


def key_figures(numbers: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return what, amount and detail of a session, in the order of the day.

    Args:
        numbers: a session of `streams.page.model.summary`.
    """
    rows = [
        ("State", words(numbers["state"]), ""),
        ("Needs", _both(numbers["needs"]), "per quarter-hour the greatest of any element"),
        ("Flex requests", _both(numbers["requests"]), f"{numbers['requests']['count']} requests"),
        ("Flex-offers", _both(numbers["offers"]), _offers(numbers["offers"])),
        *_clearing(numbers["clearing"], numbers["prices"]),
    ]
    acts, sent, money, tso = (numbers[k] for k in ("activations", "delivery", "settlement", "tso"))
    answers = ("acknowledged", "refused", "timed_out", "open", "changed", "stopped")
    said = ", ".join(f"{acts[k]} {words(k)}" for k in answers if acts[k])
    short = f"{sent['under_delivered']} activations short by {mwh(sent['shortfall_wh'])} MWh"
    paid = f"remuneration {money['remuneration_cents'] / 100:,.2f}, penalties {money['penalty_cents'] / 100:,.2f}"
    up = f"{mwh(tso['activated_wh'])} MWh activated in {tso['shares']} shares, {mwh(tso['unserved_wh'])} MWh unserved"
    return [
        *rows,
        ("Activations", f"{acts['ordered']} ordered", said),
        ("Delivery", f"{mwh(sent['delivered_wh'])} of {mwh(sent['owed_wh'])} MWh", short),
        ("Settlement", f"{money['total_cents'] / 100:,.2f} EUR", f"{paid}, {money['invoice_lines']} invoice lines"),
        ("Upward to the TSO", f"{mwh(tso['offered_wh'])} MWh offered", up),
    ]


def _offers(offers: dict[str, Any]) -> str:
    return f"{offers['count']} offers, {offers['clipped']} clipped by limits"


def _unmet(cleared: dict[str, Any]) -> tuple[str, str]:
    value, note = f"{mwh(cleared['shortfall_wh'])} MWh", "limits or requests that no offer could meet"
    if cleared["voltage_shortfall_slots"]:
        slots = cleared["voltage_shortfall_slots"]
        note += f"; a voltage out of its band in {slots} slots, by up to {cleared['voltage_shortfall_ppm'] / 1e4:.2f} %"
    return value, note


def _clearing(cleared: dict[str, Any] | None, prices: dict[str, int] | None) -> list[tuple[str, str, str]]:
    if cleared is None:
        return [("Cleared", "not cleared", "")]
    status = ", ".join(f"{count} {words(name)}" for name, count in cleared["status"].items())
    worst = f"worst violation in the independent power flow {cleared['worst_ac_violation_ppm'] / 1e4:.2f} %"
    rows = [
        ("Cleared", _both(cleared), f"{cleared['awards']} awards to {cleared['awarded_offers']} offers"),
        ("Unmet", *_unmet(cleared)),
        ("Quarter-hours", status, worst),
        ("Payment to providers", f"{eur(cleared['cost_nano'])} EUR", f"welfare {eur(cleared['welfare_nano'])} EUR"),
    ]
    if prices is not None:
        low, middle, high = (eur_per_mwh(prices[f"{k}_milli_per_mwh"]) for k in ("min", "median", "max"))
        rows.append(("Nodal prices", f"{low} to {high} EUR/MWh", f"median {middle}"))
    return rows
