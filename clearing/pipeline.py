"""From case to result: check, sort, reduce, optimise, verify in AC, round, price, explain, hash."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearing.canonical import canonical_case, case_hash
from clearing.case import Case, Offer, Quantity
from clearing.check import check_case
from clearing.exactness import Bound, bound_of
from clearing.limits import LimitTable, build_limits
from clearing.linearisation import Gradients, Multipliers, Point
from clearing.market import Market, build_market, is_plain_block
from clearing.model import Model
from clearing.network import Grid, build_grid
from clearing.phases import ends, unfold, windows
from clearing.power_flow import AcGrid, ac_grid
from clearing.pricing import NodalPrices, nodal_prices, worth_at_places
from clearing.rationality import forces, losing_columns, short_requests
from clearing.repair import Repair
from clearing.reservations import call_worth
from clearing.result import Result
from clearing.rounding import Awards, columns_of, round_awards
from clearing.set_aside import MustRun, opening, settle
from clearing.state import PowerFlow, State, measure_values
from clearing.steps import StepTable, choose_cheapest, deepen, step_table
from clearing.summary import summarise
from clearing.superlu import SuperFactors
from flexbus.errors import FaultyInputError
from flexbus.events.grid import BusInjection
from flexbus.quantities import PPM

__all__ = ["Cleared", "clear", "solve"]

Real = NDArray[np.float64]
MEGA = 1e6
# EUR per MWh: a step must be worth this much more than its bid to make a slot worth solving.
WORTH = 1e-6
MAX_BANS = 20
# EUR per MWh: a step left out must be worth this much more than its price to be looked at again.
WORTH_MORE = 1e-3
# A book with more steps is looked at once as a whole; then those take part whose price is within this share of the
# spread of all prices from what they are worth.
MANY_STEPS = 20_000
PROMISING = 0.2
WORTH_LEAVING = 0.8
MAX_ROUNDS = 12
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
    if model is not None and not model.is_of(case.network):
        raise ValueError(f"the model is of network {model.network.network_id!r}, not that of case {case.case_id!r}")
    faults = check_case(case, network_is_checked=model is not None)
    if faults:
        raise FaultyInputError(faults)
    case = canonical_case(case, None if model is None else model.network)
    text = None if model is None else model.text
    return summarise(solve(unfold(case), workers, model), case_hash(case, text), ends(case))


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
    problem = _Problem(case, grid, flow, base, limits, energy_price, forced)
    market, repair, point, multipliers, prices, value, bound = problem.optimise(workers)
    awards, integer = _rounded(case, market, repair, point, value)
    if settings.quantity_step_w > 1:
        # Whole quanta move the state by more than a watt; prices are those of the state that is published.
        prices = nodal_prices(repair, integer, multipliers)
        value = _offer_values(case, grid, market, prices)
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
    best = repair.point(columns_of(market, more, again.x), again.state)
    return (more, best) if float(best.merit.sum()) < float(made.merit.sum()) else (awards, made)


class _Problem:
    """A case whose steps and slots take part as they turn out to matter."""

    def __init__(
        self,
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
        self.excess = limits.excess(measure_values(grid, base))
        offers = list(case.offers)
        self.table = step_table(offers, [o.start_choice is not None or is_plain_block(o) for o in offers])
        parents = frozenset(o.parent_offer_id for o in offers if o.parent_offer_id)
        self.forcing = np.array([forces(o, parents) for o in offers], dtype=bool)
        zone = {b.bus_id: b.zone_id for b in case.network.buses}
        self.zones = tuple(zone[b] for b in grid.bus_ids)
        self.active = _active(case, grid, flow, base, self.excess, energy_price)
        for offer in filter(forced.wants, offers):
            self.active = self.active | _reach(case, offer) & base.converged
        self.live = self.active
        self.gradients: Gradients = {}

    def optimise(self, workers: int) -> tuple[Market, Repair, Point, Multipliers, NodalPrices, Real, Bound]:
        """Clear with the cheapest steps, then with those that turn out to be wanted, until none is."""
        case, grid = self.case, self.grid
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
        polished = repair.polish(point, multipliers, ~bound.exact)
        if float(polished.merit.sum()) < float(point.merit.sum()):
            point = polished
            multipliers = repair.multipliers(point)
            prices = nodal_prices(repair, point, multipliers)
            value = _offer_values(case, grid, repair.market, prices)
        # The bound holds for every dispatch of the market; its multipliers stay those it was made with.
        return repair.market, repair, point, multipliers, prices, value, bound

    def _repair(self, chosen: NDArray[np.bool_]) -> Repair:
        self.live = _spread(self.case, self.active)
        live = self.live & self.base.converged
        market = build_market(self.case, self.grid, live, self.table, chosen)
        repair = Repair(
            self.grid,
            self.flow,
            self.limits,
            market,
            self.base,
            self.energy_price,
            live,
            self.zones,
            self.gradients,
        )
        repair.opening = opening(market, self.forced)
        return repair

    def _settle(self, repair: Repair, start: Point | None) -> tuple[Point, Multipliers, NodalPrices, Real]:
        """Optimise, and again without the blocks and minima that would lose money at the prices that come out."""
        case, market = self.case, repair.market
        banned: frozenset[int] = frozenset()
        for left in reversed(range(MAX_BANS)):
            point, multipliers = repair.run(start, banned)
            prices = nodal_prices(repair, point, multipliers)
            value = _offer_values(case, self.grid, market, prices)
            if repair.given_up:
                break
            losing = losing_columns(case, market, point.x, value) | short_requests(market, repair, point)
            if not losing:
                break
            banned, start = banned | losing, None
            if left <= 1:  # whatever it costs in welfare, nobody is made to deliver at a loss
                banned = banned.union(market.taken.values(), market.at_least.values())
        return point, multipliers, prices, value

    def _promising(self, repair: Repair) -> NDArray[np.bool_]:
        """Return the steps that a first look at the whole book finds worth their price, or not far from it."""
        point, multipliers = repair.scout()
        value = _offer_values(self.case, self.grid, repair.market, nodal_prices(repair, point, multipliers))
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

    def add(entry: BusInjection) -> None:
        n = node[entry.bus_id]
        if n >= 0:
            s[:, n] += (np.array(entry.power_w) + 1j * np.array(entry.reactive_power_var)) / MEGA

    for entry in case.baseline:
        add(entry)
    for award in case.fixed_awards:
        unit = 1.0 if award.quantity is Quantity.ACTIVE else 1j
        shares = [(award.bus_id, PPM)] if award.bus_id is not None else [(a.bus_id, a.share_ppm) for a in award.shares]
        for bus_id, share in shares:
            n = node[bus_id]
            if n >= 0:
                s[:, n] += unit * award.direction.sign * np.array(award.power) * (share / PPM) / MEGA
    return s


def _energy_price(case: Case, grid: Grid) -> Real:
    """Return the price of infeed energy per slot and infeed point, EUR per MWh."""
    given = {p.infeed_id: p.price_milli_per_mwh for p in case.infeed_prices}
    own = {p.infeed_id: p.import_price_milli_per_mwh for p in case.network.infeed_points}
    columns = [given.get(i, (own[i],) * case.slots) for i in grid.infeed_ids]
    return np.array(columns, dtype=float).T / 1e3


def _active(
    case: Case, grid: Grid, flow: PowerFlow, base: State, excess: Real, energy_price: Real
) -> NDArray[np.bool_]:
    """Tell which slots have anything to decide.

    Where the baseline keeps every limit, nobody asks, and no step is worth its price at the baseline's
    marginal losses, the baseline satisfies the optimality conditions and stays.
    """
    active = np.zeros(case.slots, dtype=bool)
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
    by_p, by_q, _ = flow.root_gradients(State(v=base.v[priced], s=base.s[priced], converged=priced[priced]))
    for worth, by in ((worth_p, by_p), (worth_q, by_q)):
        worth[priced] = -(energy_price[priced][:, :, None] * by).sum(axis=1)[:, node] * alive
    index = {b: k for k, b in enumerate(grid.bus_ids)}
    horizon = len(windows(case)[0])
    worths = worth_at_places(list(case.offers), index, worth_p, worth_q, horizon)
    for offer, worth in zip(case.offers, worths, strict=True):
        if offer.start_choice is not None:
            choice = offer.start_choice
            gain = worth > choice.price_milli_per_mwh / 1e3 + WORTH
            for window in windows(case):
                reach = window[choice.earliest_slot : choice.latest_slot + len(choice.profile)]
                active[list(reach)] |= gain[list(reach)]
            continue
        cheapest = np.array([e.steps[0].price_milli_per_mwh / 1e3 if e.steps else np.inf for e in offer.slots])
        active |= worth > cheapest + WORTH
    return active & base.converged


def _spread(case: Case, active: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Add the slots that offers would be forced into by what they do in an active slot."""
    parents = frozenset(o.parent_offer_id for o in case.offers if o.parent_offer_id)
    units: dict[str, list[Offer]] = {}
    spans: list[NDArray[np.bool_]] = []
    for offer in case.offers:
        if offer.unit_id is not None:
            units.setdefault(offer.unit_id, []).append(offer)
        if offer.all_or_nothing or offer.start_choice is not None or forces(offer, parents):
            spans.append(_reach(case, offer))
    for members in units.values():
        spans.append(np.any([_reach(case, o) for o in members], axis=0))
    slots = np.arange(case.slots)
    spans = [span & (slots >= w.start) & (slots < w.stop) for span in spans for w in windows(case)]
    while True:
        before = int(active.sum())
        for span in spans:
            if (active & span).any():
                active = active | span
        if int(active.sum()) == before:
            return active


def _reach(case: Case, offer: Offer) -> NDArray[np.bool_]:
    span = np.zeros(case.slots, dtype=bool)
    if offer.start_choice is not None:
        choice = offer.start_choice
        for window in windows(case):
            span[list(window[choice.earliest_slot : choice.latest_slot + len(choice.profile)])] = True
    else:
        span[:] = [bool(e.steps) for e in offer.slots]
    if offer.payback is not None:
        last = int(np.flatnonzero(span).max(initial=0))
        span[: last + 1 + offer.payback.delay_slots + offer.payback.window_slots] |= span.any()
    return span


def _offer_values(case: Case, grid: Grid, market: Market, prices: NodalPrices) -> Real:
    """Return what one more MW of each offer is worth in each slot (offers x slots), EUR per MWh."""
    index = {b: k for k, b in enumerate(grid.bus_ids)}
    p, q = prices.total_p(), prices.total_q()
    if not market.offers:
        return np.zeros((0, case.slots))
    return worth_at_places(market.offers, index, p, q, len(market.windows[0]))


def _relief(market: Market, value: Real) -> Real:
    """Return per column whether more of it relieves (> 0) or presses (< 0) what binds in its slot."""
    relief = np.zeros(len(market.cost))
    carries = np.flatnonzero((np.diff(market.member_first) > 0) & ~np.array(market.integer, dtype=bool))
    first = np.array(market.member_first)[carries]
    table = market.all_members()
    relief[carries] = value[table.offer[first], table.slot[first]]
    return relief
