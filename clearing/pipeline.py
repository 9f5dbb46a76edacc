"""From case to result: check, sort, reduce, optimise, verify in AC, round, price, explain, hash."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearing.awarded import Awarded
from clearing.book import Book
from clearing.canonical import canonical_case, case_hash
from clearing.case import Case, Quantity
from clearing.certificate.injected import injected_range
from clearing.check import check_case
from clearing.curvature import settle_inside
from clearing.exactness import Bound, bound_of
from clearing.gradients import Gradients
from clearing.limits import LimitTable, build_limits
from clearing.linearisation import Multipliers, Point
from clearing.market import Market
from clearing.model import Model
from clearing.network import Grid, build_grid
from clearing.phases import alone, ends, unfold, windows
from clearing.power_flow import AcGrid, ac_grid
from clearing.pricing import NodalPrices, nodal_prices
from clearing.rationality import losing_columns, short_requests
from clearing.repair import Cut, Repair
from clearing.reservations import call_worth
from clearing.result import Result
from clearing.rounding import Awards, columns_of, keep_stored, round_awards
from clearing.set_aside import MustRun, opening, put_aside, settle
from clearing.state import Measured, PowerFlow, State
from clearing.steps import StepTable, choose_cheapest, deepen
from clearing.summary import summarise
from clearing.superlu import SuperFactors
from flexbus.errors import FaultyInputError
from flexbus.quantities import PPM

__all__ = ["Cleared", "award", "clear", "solve"]

Real = NDArray[np.float64]
Complex = NDArray[np.complexfloating[Any, Any]]
MEGA = 1e6
# EUR per MWh: a step must be worth this much more than its bid to make a slot worth solving.
WORTH = 1e-6
MAX_BANS = 20
# The choices of so few blocks and minima are tried one after the other, the best first, so many at most; and the
# larger grid, horizon and book are together (slots x nodes + columns), the fewer.
FEW_BLOCKS = 12
MOST_CHOICES = 64
TRIED_SIZE = 20_000
# EUR per MWh: a step left out must be worth this much more than its price to be looked at again.
WORTH_MORE = 1e-3
# A book with more steps is looked at once as a whole; then those take part whose price is within this share of the
# spread of all prices from what they are worth.
MANY_STEPS = 20_000
PROMISING = 0.2
WORTH_LEAVING = 0.8
MAX_ROUNDS = 12
# Share of what a dispatch is worth by which another one must be better to be looked at.
WORTH_PROVING = 1e-7
# Linear programs of a round that only has to find out which steps matter.
SCOUT_STEPS = 1
# pu, MW: an excess beyond this counts as a broken limit.
BROKEN = 1e-6


@dataclass(slots=True, kw_only=True)
class Cleared:
    """Everything a clearing knows at its end, in canonical order, before it is written down."""

    case: Case
    grid: Grid
    market: Market
    steps: StepTable
    repair: Repair
    base: State
    optimum: Point  # before rounding
    point: Point  # of the integer awards
    multipliers: Multipliers
    prices: NodalPrices
    awards: Awards
    value: Real  # worth of one more MW per offer and slot, less what is paid for being able to call it, EUR per MWh
    call: Real  # worth of being able to call one more MW per offer and slot, EUR per MWh
    active: NDArray[np.bool_]
    bound: Bound
    ac: AcGrid  # of the case's network, for the independent power flow
    aside: frozenset[str] = frozenset()  # offers that do not take part: no dispatch keeps their own rules


def clear(case: Case, workers: int = 1, model: Model | None = None) -> Result:
    """Clear a market.

    Args:
        case: grid, baseline, demand, supply and rules.
        workers: processes over which the relaxations of slots that need a solver are spread.
        model: the case's network, prepared for many clearings.

    Returns:
        The result; the same case gives the same bytes, with any number of workers.

    Raises:
        FaultyInputError: the case is not valid; carries every fault with its JSON path.
        ValueError: the model is that of another network.
    """
    return award(case, workers, model).result()


def award(case: Case, workers: int = 1, model: Model | None = None) -> Awarded:
    """Clear a market and tell what is taken, at what price, with its proof and its AC power flow.

    The rest of the result (reasons, sums, certificate, hashes) takes as long again: `Awarded.result()` makes it when
    it is asked for, and is what `clear` returns.

    Args:
        case: grid, baseline, demand, supply and rules.
        workers: processes over which the relaxations of slots that need a solver are spread.
        model: the case's network, prepared for many clearings.

    Raises:
        FaultyInputError: the case is not valid; carries every fault with its JSON path.
        ValueError: the model is that of another network.
    """
    if model is not None and not model.is_of(case.network):
        raise ValueError(f"the model is of network {model.network.network_id!r}, not that of case {case.case_id!r}")
    faults = check_case(case) if model is None else model.faults(case)
    if faults:
        raise FaultyInputError(faults)
    known = canonical_case(case, None if model is None else model.network)

    def rest(awarded: Awarded) -> Result:
        return summarise(awarded, case_hash(known) if model is None else model.case_hash(known), ends(known))

    return Awarded(solve(unfold(known), workers, model), rest)


def solve(case: Case, workers: int = 1, model: Model | None = None) -> Cleared:
    """Optimise a canonical, checked case and verify it in AC.

    Args:
        case: the case, sorted by `clearing.canonical.canonical_case`.
        workers: processes over which the relaxations of slots that need a solver are spread.
        model: the case's network, prepared for many clearings.
    """
    settings = case.settings
    if model is None:
        grid = build_grid(
            case.network,
            voltage_margin_ppm=settings.voltage_margin_ppm,
            loading_margin_ppm=settings.loading_margin_ppm,
        )
        flow = PowerFlow(grid)
    else:
        grid, flow = model.flow(settings)
    base = flow.solve(baseline_injections(case, grid))
    limits = build_limits(grid, settings, case.limit_prices)
    energy_price = _energy_price(case, grid)
    whole = case
    case, forced = settle(case, grid, base.converged)
    while True:
        book = Book(case, grid) if model is None else model.book(case, grid)
        problem = _Problem(book, case, grid, flow, base, limits, energy_price, forced)
        market, repair, point, multipliers, prices, value, bound = problem.optimise(workers)
        storages, sliced = problem.stuck(repair, point, value)
        if not storages and not sliced:
            break
        case, forced = put_aside(case, forced, storages, sliced)
    awards, integer = _rounded(case, market, repair, point, value)
    if settings.quantity_step_w > 1:
        # Whole quanta move the state by more than a watt; prices are those of the state that is published.
        prices = nodal_prices(repair, integer, multipliers)
        value = book.places.worth(prices.total_p(), prices.total_q())
    call = call_worth(market, point.x, multipliers, value)
    return Cleared(
        case=whole,
        grid=grid,
        market=market,
        steps=problem.table,
        repair=repair,
        base=base,
        optimum=point,
        point=integer,
        multipliers=multipliers,
        prices=prices,
        awards=awards,
        value=value - call,
        call=call,
        active=problem.live,
        bound=bound,
        ac=ac_grid(case.network, SuperFactors) if model is None else model.ac,
        aside=forced.aside,
    )


def _rounded(case: Case, market: Market, repair: Repair, point: Point, value: Real) -> tuple[Awards, Point]:
    """Return the integer awards and their AC point.

    An offer with an energy budget cannot be rounded to the relieving side in every slot. Where that leaves a limit
    broken, those offers keep their integers and the others make up for it.
    """
    step, relief = case.settings.quantity_step_w, _relief(market, value)
    awards = round_awards(market, point.x, relief, step, case.resolution_s)
    awards = keep_stored(market, awards, point.x, case.units, case.resolution_s)
    made = repair.point(columns_of(market, awards, point.x), point.state)
    broken = np.asarray((made.excess > BROKEN).any(axis=1) & ~(point.excess > BROKEN).any(axis=1))
    if not broken.any():
        return awards, made
    table = market.all_members()
    limited = np.array([o.max_energy_wh is not None for o in market.offers], dtype=bool)[table.offer]
    tied = np.unique(table.column[limited & ~table.whole]).tolist()
    if not tied:
        return awards, made
    again = repair.restore(made, tied, broken)
    more = round_awards(market, again.x, relief, step, case.resolution_s)
    more = keep_stored(market, more, again.x, case.units, case.resolution_s)
    best = repair.point(columns_of(market, more, again.x), again.state)
    return (more, best) if float(best.merit.sum()) < float(made.merit.sum()) else (awards, made)


class _Problem:
    """A case whose steps and slots take part as they turn out to matter."""

    def __init__(
        self,
        book: Book,
        case: Case,
        grid: Grid,
        flow: PowerFlow,
        base: State,
        limits: LimitTable,
        energy_price: Real,
        forced: MustRun,
    ) -> None:
        self.case, self.grid, self.flow, self.base, self.forced = case, grid, flow, base, forced
        self.limits, self.energy_price = limits, energy_price
        self.base_values = Measured(grid, base)
        self.excess = limits.excess(self.base_values)
        self.book, self.table, self.forcing = book, book.table, book.forcing
        self.gradients = Gradients(flow, case.slots)
        self.active = _active(book, grid, self.gradients, base, self.excess, energy_price)
        for offer in filter(forced.wants, case.offers) if forced.storages or forced.sliced else ():
            self.active = self.active | book.reach(offer) & base.converged
        self.live = self.active

    @cached_property
    def injected(self) -> tuple[Complex, Complex]:
        """Least and most that all offers of the case can inject, slots x nodes."""
        parts = [injected_range(alone(self.case, k)) for k in range(len(windows(self.case)))]
        return _at_nodes(self.case, self.grid, [p[0] for p in parts]), _at_nodes(
            self.case, self.grid, [p[1] for p in parts]
        )

    def optimise(self, workers: int) -> tuple[Market, Repair, Point, Multipliers, NodalPrices, Real, Bound]:
        """Clear with the cheapest steps, then with those that turn out to be wanted, until none is."""
        case = self.case
        chosen, depth = choose_cheapest(self.table, self.active, self.forcing)
        most = case.settings.max_repair_steps
        steps = most if chosen.all() else min(SCOUT_STEPS, most)
        repair, start = self._repair(chosen), None
        if chosen.all() and len(chosen) > MANY_STEPS:
            promising = self._promising(repair)
            # A market that stays almost as large is not worth building again: it goes on from the basis of the look.
            if int(promising.sum()) < WORTH_LEAVING * len(chosen):
                chosen = promising
                repair = self._repair(chosen)
        for last in (*(False,) * (MAX_ROUNDS - 1), True):
            repair.max_steps = steps
            point, multipliers, prices, value = self._settle(repair, start)
            if repair.given_up:
                break
            call = call_worth(repair.market, point.x, multipliers, value)
            wanted = self._wanted(chosen, value - call, repair.market, multipliers)
            if last or (steps == most and not wanted.any()):
                break
            if not wanted.any():
                steps, start = most, point
                continue
            self.active = self.active.copy()
            self.active[np.unique(self.table.slot[wanted])] = True
            chosen = deepen(self.table, chosen, depth, wanted)
            repair, start = self._repair(chosen), None
        bound = bound_of(repair, point, multipliers, prices, self.live, workers)
        for way in (self._follow, self._settle_inside, self._polish, self._settle_inside):
            if bound.met.all():
                break
            found = way(repair, point, multipliers, prices, bound, workers)
            # Less is not worth the time of another proof.
            if float(found.merit.sum()) >= float(point.merit.sum()) - WORTH_PROVING * float(np.abs(point.merit).sum()):
                continue
            duals = repair.multipliers(found)
            paid = nodal_prices(repair, found, duals)
            worth = self._worth(paid)
            # At the prices of another dispatch nobody may be made to deliver at a loss either.
            if (
                duals.known
                and not duals.lost
                and not losing_columns(case, repair.market, found.x, worth)
                | short_requests(repair.market, repair, found)
            ):
                point, multipliers, prices, value = found, duals, paid, worth
                bound = bound_of(repair, point, multipliers, prices, self.live, workers)
        return repair.market, repair, point, multipliers, prices, value, bound

    def stuck(self, repair: Repair, point: Point, value: Real) -> tuple[frozenset[str], frozenset[str]]:
        """Return the storages and the offers with slices that must run, and would only at a loss or against the rules.

        What somebody's loss forbids may be what they need: the parent of an offer, a sibling's place, a minimum.
        """
        forced, market = self.forced, repair.market
        if not (forced.storages or forced.sliced) or repair.given_up:
            return frozenset(), frozenset()
        broken = repair.broken_groups(point.x)
        losing = losing_columns(self.case, market, point.x, value)
        if not broken and not losing:
            return frozenset(), frozenset()
        table = market.all_members()
        found = []
        for k, offer in enumerate(market.offers):
            if not forced.wants(offer):
                continue
            decided = {c for (j, _), c in (*market.taken.items(), *market.at_least.items()) if j == k}
            if decided & losing or broken & set(repair.column_group[table.column[table.offer == k]].tolist()):
                found.append(offer)
        units = frozenset(o.unit_id for o in found if o.unit_id in forced.storages)
        return frozenset(u for u in units if u), frozenset(o.offer_id for o in found if o.offer_id in forced.sliced)

    def _follow(self, repair: Repair, point: Point, *rest: Any) -> Point:
        bound: Bound = rest[2]
        return repair.follow(point, bound.taken, ~bound.met, bound.gap)

    def _settle_inside(self, repair: Repair, point: Point, *rest: Any) -> Point:
        multipliers, _, bound, _ = rest
        return settle_inside(repair, point, multipliers, ~bound.met & repair.restless(point, multipliers))

    def _polish(self, repair: Repair, point: Point, *rest: Any) -> Point:
        multipliers, _, bound, _ = rest
        return repair.polish(point, multipliers, ~bound.met)

    def _repair(self, chosen: NDArray[np.bool_]) -> Repair:
        self.live = self.book.spread(self.active)
        live = self.live & self.base.converged
        columns = self.book.columns(live, chosen)
        repair = Repair(
            self.grid,
            self.flow,
            self.limits,
            columns.market,
            self.base,
            self.energy_price,
            live,
            self.book.zones,
            self.gradients,
            columns,
            self.base_values,
        )
        repair.opening = opening(columns.market, self.forced)
        repair.injected_range = lambda: self.injected
        return repair

    def _settle(self, repair: Repair, start: Point | None) -> tuple[Point, Multipliers, NodalPrices, Real]:
        """Optimise, and again without the blocks and minima that would lose money at the prices that come out.

        In a small group of slots that depend on each other the very choice that makes somebody lose is ruled out, and
        the next best one is tried: the first in which nobody loses is the best. Elsewhere who loses is left out.
        """
        case, market = self.case, repair.market
        banned: frozenset[int] = frozenset()
        cuts: list[Cut] = []
        tries = min(MOST_CHOICES, TRIED_SIZE // (1 + self.grid.nodes * int(self.live.sum()) + len(market.cost)))
        for left in reversed(range(MAX_BANS + tries)):
            point, multipliers = repair.run(start, banned, cuts)
            prices = nodal_prices(repair, point, multipliers)
            value = self._worth(prices)
            if repair.given_up:
                break
            short = short_requests(market, repair, point)
            losing = losing_columns(case, market, point.x, value)
            if not losing | short:
                break
            start = None
            if len(cuts) < tries and not short:
                groups = sorted(set(repair.column_group[sorted(losing)].tolist()))
                mine = [repair.choice(point.x, g) for g in groups]
                cuts += [cut for cut in mine if len(cut[0]) <= FEW_BLOCKS]
                there = {c for columns, _ in mine if len(columns) <= FEW_BLOCKS for c in columns.tolist()}
                losing -= there
            banned = banned | losing | short
            if left <= 1:  # whatever it costs in welfare, nobody is made to deliver at a loss
                banned = banned.union(market.taken.values(), market.at_least.values())
        return point, multipliers, prices, value

    def _worth(self, prices: NodalPrices) -> Real:
        """Return what one more MW of each offer is worth in each slot (offers x slots), EUR per MWh."""
        return self.book.places.worth(prices.total_p(), prices.total_q())

    def _promising(self, repair: Repair) -> NDArray[np.bool_]:
        """Return the steps that a first look at the whole book finds worth their price, or not far from it."""
        point, multipliers = repair.scout()
        value = self._worth(nodal_prices(repair, point, multipliers))
        near = PROMISING * float(np.ptp(self.table.price)) / 1e3
        gain = self._gain(value, repair.market, multipliers)
        return np.asarray((gain > -near) | self.forcing[self.table.offer])

    def _wanted(
        self, chosen: NDArray[np.bool_], value: Real, market: Market, multipliers: Multipliers
    ) -> NDArray[np.bool_]:
        """Return the steps left out that would be worth more than their price, and than their offer's budget."""
        if chosen.all():
            return np.zeros(len(chosen), dtype=bool)
        gain = self._gain(value, market, multipliers)
        return np.asarray(~chosen & (gain > WORTH_MORE) & self.base.converged[self.table.slot])

    def _gain(self, value: Real, market: Market, multipliers: Multipliers) -> Real:
        """Return by how much every step is worth more than its price and its offer's budget, EUR per MWh."""
        table = self.table
        budget = np.zeros_like(value)
        place = {o.offer_id: k for k, o in enumerate(market.offers)}
        window = {w.start: slice(w.start, w.stop) for w in market.windows}
        for (kind, name, first), dual in zip(market.row_tag, multipliers.structural.tolist(), strict=False):
            if kind == "MAX_ENERGY":
                budget[place[name], window[first]] = -dual * self.case.resolution_s / 3600
        return np.asarray((value - budget)[table.offer, table.slot] - table.price / 1e3)


def baseline_injections(case: Case, grid: Grid) -> NDArray[np.complexfloating[Any, Any]]:
    """Return baseline and standing awards per slot and node, per unit."""
    s = np.zeros((case.slots, grid.nodes), dtype=complex)
    node = grid.node_index()
    at = np.array([node[b.bus_id] for b in case.baseline], dtype=int)
    if len(at):
        given = np.array([b.power_w for b in case.baseline]) + 1j * np.array(
            [b.reactive_power_var for b in case.baseline]
        )
        np.add.at(s.T, at[at >= 0], given[at >= 0] / MEGA)
    for award in case.fixed_awards:
        unit = 1.0 if award.quantity is Quantity.ACTIVE else 1j
        shares = [(award.bus_id, PPM)] if award.bus_id is not None else [(a.bus_id, a.share_ppm) for a in award.shares]
        for bus_id, share in shares:
            n = node[bus_id]
            if n >= 0:
                s[:, n] += unit * award.direction.sign * np.array(award.power) * (share / PPM) / MEGA
    return s


def _at_nodes(case: Case, grid: Grid, parts: list[Complex]) -> Complex:
    """Return what is injected at the buses of the network (slots x buses, scenario by scenario) at the nodes."""
    s = np.zeros((case.slots, grid.nodes), dtype=complex)
    node = grid.node_index()
    at = np.array([node[b.bus_id] for b in case.network.buses], dtype=int)
    np.add.at(s.T, at[at >= 0], np.concatenate(parts)[:, at >= 0].T)
    return s


def _energy_price(case: Case, grid: Grid) -> Real:
    """Return the price of infeed energy per slot and infeed point, EUR per MWh."""
    given = {p.infeed_id: p.price_milli_per_mwh for p in case.infeed_prices}
    own = {p.infeed_id: p.import_price_milli_per_mwh for p in case.network.infeed_points}
    columns = [given.get(i, (own[i],) * case.slots) for i in grid.infeed_ids]
    return np.array(columns, dtype=float).T / 1e3


def _active(
    book: Book, grid: Grid, gradients: Gradients, base: State, excess: Real, energy_price: Real
) -> NDArray[np.bool_]:
    """Tell which slots have anything to decide.

    Where the baseline keeps every limit, nobody asks, energy costs something or nothing, and no step is worth its price
    at the baseline's marginal losses, the baseline satisfies the optimality conditions and stays.
    """
    case = book.case
    # Where somebody is paid for taking energy, losses pay, and what is best nearby need not be best.
    active: NDArray[np.bool_] = np.asarray((energy_price < 0).any(axis=1))
    if excess.shape[1]:
        with np.errstate(invalid="ignore"):
            active |= (excess > 0).any(axis=1)
    for request in case.requests:
        active |= np.array([bool(e.steps) for e in request.slots])
    if active.all():
        return active & base.converged
    worth_p, worth_q = np.zeros((case.slots, len(grid.bus_ids))), np.zeros((case.slots, len(grid.bus_ids)))
    node, alive = np.maximum(grid.node_of_bus, 0), grid.node_of_bus >= 0
    priced = base.converged & energy_price.any(axis=1)
    by_p, by_q = gradients.of_roots(base, priced)
    for worth, by in ((worth_p, by_p), (worth_q, by_q)):
        worth[priced] = -(energy_price[priced][:, :, None] * by[priced]).sum(axis=1)[:, node] * alive
    worths = book.places.worth(worth_p, worth_q)
    active |= (worths > book.cheapest + WORTH).any(axis=0)
    for k in book.starts:
        choice = case.offers[k].start_choice
        assert choice is not None
        gain = worths[k] > choice.price_milli_per_mwh / 1e3 + WORTH
        for window in book.windows:
            reach = list(window[choice.earliest_slot : choice.latest_slot + len(choice.profile)])
            active[reach] |= gain[reach]
    return active & base.converged


def _relief(market: Market, value: Real) -> Real:
    """Return per column whether more of it relieves (> 0) or presses (< 0) what binds in its slot."""
    relief = np.zeros(len(market.cost))
    carries = np.flatnonzero((np.diff(market.member_first) > 0) & ~np.array(market.integer, dtype=bool))
    first = np.array(market.member_first)[carries]
    table = market.all_members()
    relief[carries] = value[table.offer[first], table.slot[first]]
    return relief
