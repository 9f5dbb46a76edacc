"""A clearing as one printable page: the grid, the slots, who was taken and why not, and the proof in a sentence."""

import math
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template

import numpy as np

from clearing.case import Case
from clearing.certificate.stages import part_of
from clearing.drawing import Mark, Scale, draw_grid, heat_map
from clearing.phases import alone, state_labels, unfold
from clearing.power_flow import AcGrid, AcState
from clearing.report_tables import (
    figures,
    money,
    provenance,
    refused,
    requested,
    scenarios,
    slot_facts,
    taken,
    unmet,
)
from clearing.result import LimitKind, Result
from flexbus.quantities import Direction
from flexbus.time import iso

__all__ = ["report_html"]

LOADING = ("#e9ecef", "#9ecae1", "#4292c6", "#084594")
VOLTAGE = ("#2166ac", "#92c5de", "#f7f7f7", "#fdb863", "#b35806")
PRICE = ("#fde725", "#5ec962", "#21918c", "#3b528b", "#440154")


def report_html(case: Case, result: Result) -> str:
    """Return the report of a clearing as one HTML page without outside resources.

    Args:
        case: the case.
        result: its result.
    """
    labels, end_ms = state_labels(case), case.start_ms + case.slots * case.resolution_s * 1000
    length, phase = case.slots, case.phase.value.replace("_", "-").lower()
    case = unfold(case)
    before = _baseline(case)
    slot = _hardest(result, before)
    # Of several scenarios the one with the hardest slot is drawn.
    drawn, of_drawn, at, named = case, result, slot, labels
    if case.scenarios:
        scenario, at = divmod(slot, length)
        drawn, of_drawn = alone(case, scenario), part_of(case, result, scenario)
        before, named = _baseline(drawn), labels[scenario * length : (scenario + 1) * length]
    start, end = iso(case.start_ms), iso(end_ms)
    name = case.network.name or case.network.network_id
    text = files("clearing").joinpath("report.html").read_text(encoding="utf-8")
    return Template(text).substitute(
        title=escape(f"Clearing of {name}"),
        lead=escape(
            f"Market area {case.network.area_id}, {phase}, {start} to {end}, {length} slots of "
            f"{case.resolution_s // 60} min, "
            + (f"{len(case.scenarios)} scenarios, " if case.scenarios else "")
            + f"{len(case.offers)} offers, {len(case.requests)} requests, "
            f"prices {case.pricing_rule.value.replace('_', ' ').lower()}."
        ),
        certificate=escape(certificate_sentence(case, result)),
        figures=figures(case, result),
        slot=labels[slot],
        drawings=_drawings(drawn, of_drawn, before, at) + slot_facts(of_drawn, at),
        heatmaps=_heat_maps(drawn, of_drawn, named),
        scenarios=scenarios(case, result),
        unmet=unmet(result, labels),
        taken=taken(case, result),
        money=money(result),
        refused=refused(result, labels),
        requests=requested(case, result),
        provenance=provenance(result),
    )


def certificate_sentence(case: Case, result: Result) -> str:
    """Return what is proven, in one sentence."""
    worst = max((s.ac_violation_ppm for s in result.slots), default=0)
    named = sum(1 for s in result.slots for x in s.shortfalls if x.kind is not LimitKind.REQUEST)
    beyond = f"beyond the {named} named shortfalls" if named else "anywhere"
    proof = result.certificate
    text = (
        f"In an AC power flow of each of the {case.slots} slots the published dispatch breaks no limit "
        f"{beyond} (largest excess {worst} ppm); its value, which the market minimises, is "
        f"{proof.value_nano / 1e9:,.2f} EUR"
    )
    if proof.lower_bound_nano is None or proof.gap_nano is None:
        return f"{text}, without a lower bound. Check it with: flexbus certify CASE RESULT."
    if proof.gap_nano < 0:
        return f"{text}, which is less than its own lower bound: this result is not proven. See flexbus certify."
    share = abs(proof.gap_nano) / max(abs(proof.value_nano), 1)
    part = "" if share >= 1 else " (less than 0.1 %)" if share < 1e-3 else f" ({share:.1%})"
    return (
        f"{text}. No dispatch of the same offers has one below {proof.lower_bound_nano / 1e9:,.2f} EUR (lower bound): "
        f"at most {proof.gap_nano / 1e9:,.2f} EUR{part} could be gained. "
        "Check it without a solver: flexbus certify CASE RESULT."
    )


def _baseline(case: Case) -> AcState:
    grid = AcGrid(case.network)
    index = {bus.bus_id: k for k, bus in enumerate(case.network.buses)}
    p, q = np.zeros((case.slots, len(index))), np.zeros((case.slots, len(index)))
    for entry in case.baseline:
        p[:, index[entry.bus_id]] += entry.power_w
        q[:, index[entry.bus_id]] += entry.reactive_power_var
    return grid.solve(p, q)


def _hardest(result: Result, before: AcState) -> int:
    """The slot in which most was taken; without any, the one with the highest loading."""
    moved = [s.up_w + s.down_w for s in result.slots]
    if any(moved):
        return max(range(len(moved)), key=lambda t: (moved[t], -t))
    loading = np.nan_to_num(before.loading_ppm, nan=0.0)
    return int(loading.max(axis=1).argmax()) if loading.size else 0


def _drawings(case: Case, result: Result, before: AcState, t: int) -> str:
    network = case.network
    bus_index = {bus.bus_id: k for k, bus in enumerate(network.buses)}
    band = {bus.bus_id: (bus.min_voltage_ppm / 1e6, bus.max_voltage_ppm / 1e6) for bus in network.buses}
    held = {point.bus_id for point in network.infeed_points}
    branch_index = {branch.branch_id: k for k, branch in enumerate(network.branches)}
    buses = {bus.bus_id: bus for bus in result.buses}
    branches = {branch.branch_id: branch for branch in result.branches}
    low = min(b[0] for b in band.values())
    high = max(b[1] for b in band.values())
    volts = Scale(low, high, VOLTAGE, "pu")
    was = np.abs(before.voltage_pu[t])

    def loading_before(branch: str) -> float:
        return float(before.loading_ppm[t, branch_index[branch]]) / 1e4

    def loading_after(branch: str) -> float:
        k = branch_index[branch]
        limited = not math.isnan(float(before.loading_ppm[t, k])) or branches[branch].loading_ppm[t] > 0
        return branches[branch].loading_ppm[t] / 1e4 if limited else math.nan

    def broken(bus: str, v: float) -> bool:
        return bus not in held and v > 0 and not band[bus][0] - 1e-6 <= v <= band[bus][1] + 1e-6

    def view(title: str, voltage: "dict[str, float]", loading: "dict[str, float]", marks: Sequence[Mark]) -> str:
        return draw_grid(
            network,
            title,
            bus_value=lambda b: voltage[b],
            bus_scale=volts,
            bus_wrong=lambda b: broken(b, voltage[b]),
            bus_text=lambda b: f"{b}: {voltage[b]:.4f} pu",
            branch_value=lambda b: loading[b],
            branch_scale=Scale(0, 100, LOADING, "% of the limit"),
            branch_text=lambda b: f"{b}: {loading[b]:.1f} % loaded",
            marks=marks,
        )

    marks = _marks(case, result, t)
    price = {bus: buses[bus].p_price_milli_per_mwh[t] / 1000 for bus in buses}
    prices_scale = _price_scale([price[b] for b in sorted(price)])
    prices = draw_grid(
        network,
        "Prices of one more MWh fed in",
        bus_value=lambda b: price[b],
        bus_scale=prices_scale,
        bus_wrong=lambda b: False,
        bus_text=lambda b: f"{b}: {price[b]:.2f} EUR/MWh, {_parts(buses[b], t)}",
        branch_value=lambda b: math.nan,
        branch_scale=None,
        branch_text=lambda b: b,
        marks=marks,
    )
    first = view(
        "Before: forecast without flexibility",
        {b: float(was[k]) for b, k in bus_index.items()},
        {b: loading_before(b) for b in branch_index},
        (),
    )
    second = view(
        "After: voltages and loadings",
        {b: buses[b].voltage_ppm[t] / 1e6 for b in bus_index},
        {b: loading_after(b) for b in branch_index},
        marks,
    )
    return first + second + prices


def _parts(bus: object, t: int) -> str:
    words = ("energy", "losses", "voltage", "congestion")
    values = [getattr(bus, f"p_{word}_milli_per_mwh")[t] / 1000 for word in words]
    return ", ".join(f"{word} {value:.2f}" for word, value in zip(words, values, strict=True) if value)


def _marks(case: Case, result: Result, t: int) -> list[Mark]:
    by_id = {offer.offer_id: offer for offer in case.offers}
    taken: dict[tuple[str, bool], int] = {}
    for award in result.offers:
        offer = by_id[award.offer_id]
        if award.quantity[t]:
            places = [offer.bus_id] if offer.bus_id else [share.bus_id for share in offer.shares]
            for bus in places:
                key = (bus, offer.direction is Direction.UP)
                taken[key] = taken.get(key, 0) + award.quantity[t] // len(places)
    most = max(taken.values(), default=1)
    return [
        Mark(bus, up, watts / most, f"{bus}: {watts / 1e3:,.1f} kW {'up' if up else 'down'} taken")
        for (bus, up), watts in sorted(taken.items())
    ]


def _heat_maps(case: Case, result: Result, labels: Sequence[str]) -> str:
    loaded = sorted(result.branches, key=lambda b: (-max(b.loading_ppm, default=0), b.branch_id))[:12]
    loading = [(b.branch_id, [x / 1e4 for x in b.loading_ppm]) for b in loaded]
    prices = [(b.bus_id, [x / 1000 for x in b.p_price_milli_per_mwh]) for b in result.buses]
    scale = _price_scale([x for _, row in prices for x in row])
    kinds = (("up", [s.up_w / 1e3 for s in result.slots]), ("down", [s.down_w / 1e3 for s in result.slots]))
    flex = [(f"taken {word}", values) for word, values in kinds]
    most = max((v for _, row in flex for v in row), default=0.0)
    gaps = [max(s.gap_nano or 0, 0) / 1e9 for s in result.slots]
    unproven = Scale(0, round(max(gaps, default=0.0), 2), LOADING, "EUR")
    missed = heat_map("At most so much more could be gained, EUR", [("gap", gaps)], unproven, labels, None)
    return (
        heat_map("Flexibility taken, kW", flex, Scale(0, math.ceil(most) or 1, LOADING, "kW"), labels, None)
        + heat_map("Most loaded branches, % of the limit", loading, Scale(0, 100, LOADING, "%"), labels, 100)
        + heat_map(
            "Voltages nearest to a limit, % of the way from mid-band to it",
            _voltages(case, result),
            Scale(-100, 100, VOLTAGE, "%"),
            labels,
            100,
        )
        + heat_map("Nodal prices (worth of one more MWh fed in), one row per bus", prices, scale, labels, None)
        + (missed if unproven.high else "")
    )


def _price_scale(values: list[float]) -> Scale:
    """Return colours around the usual price, so that a broken limit does not blanch the rest."""
    every = sorted(values) or [0.0]
    n = len(every)
    low, usual, high = every[n // 10], every[n // 2], every[-1 - n // 10]
    reach = max(3 * min(high - usual, usual - low), 0.25 * abs(usual), 20.0)
    low, high = max(every[0], usual - reach), min(every[-1], usual + reach)
    if high - low < 1:
        low, high = usual - 1, usual + 1
    clipped = every[0] < low - 1 or every[-1] > high + 1
    return Scale(math.floor(low), math.ceil(high), PRICE, "EUR/MWh", clipped)


def _voltages(case: Case, result: Result) -> list[tuple[str, list[float]]]:
    """Return where in its band the voltage of the twelve most strained buses is: 0 = middle, 100 = a limit."""
    band = {b.bus_id: (b.min_voltage_ppm, b.max_voltage_ppm) for b in case.network.buses}
    held = {p.bus_id for p in case.network.infeed_points}
    rows = []
    for bus in result.buses:
        low, high = band[bus.bus_id]
        if bus.bus_id not in held and any(bus.voltage_ppm):
            rows.append(
                (bus.bus_id, [100 * (2 * v - low - high) / (high - low) if v else 0.0 for v in bus.voltage_ppm])
            )
    rows.sort(key=lambda r: (-max(abs(v) for v in r[1]), r[0]))
    return rows[:12]
