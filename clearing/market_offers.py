"""Offers, blocks, budgets, ramps, links and units as columns and rows: a case becomes a market.

A step of an offer that nothing couples to other slots or offers is merged with its equals (same bus, slot, direction,
price) into one column and split pro rata afterwards, so that the size of the program is that of the grid, not of the
book.
"""

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from clearing.case import Case, Offer, Quantity, Unit, UnitKind
from clearing.inverter import add_inverter
from clearing.market import Market, Member, has_only_a_budget, is_coupled, is_plain_block, offer_cap
from clearing.market_requests import RequestBuilder
from clearing.network import Grid
from clearing.phases import probabilities_ppm, windows
from clearing.rows import INF
from clearing.steps import StepTable
from clearing.storage import add_storage

__all__ = ["build_market"]

Index = NDArray[np.int_]
MEGA = 1e6


def build_market(
    case: Case, grid: Grid, live: NDArray[np.bool_], table: StepTable, chosen: NDArray[np.bool_]
) -> Market:
    """Return the columns and rows of a case.

    Args:
        case: the case, checked and canonical.
        grid: its grid.
        live: slots that take part (slots); in the others nothing can be taken.
        table: the steps of its offers.
        chosen: steps that take part.
    """
    offers, requests = list(case.offers), list(case.requests)
    market = Market(offers=offers, requests=requests, windows=windows(case))
    weights = [p / MEGA for p in probabilities_ppm(case)]
    market.weight = [w for w, window in zip(weights, market.windows, strict=True) for _ in window]
    builders = [_Builder(case, grid, live, market, table, chosen, n) for n in range(len(market.windows))]
    for builder in builders:
        builder.own_columns()
        builder.merged()
        builder.links()
        for unit in sorted(case.units, key=lambda u: u.unit_id):
            builder.unit(unit)
    reserved = [k for k, offer in enumerate(offers) if any(offer.reservation_price_milli_per_mwh)]
    if reserved:
        delivered = {key: columns for builder in builders for key, columns in builder.delivered.items()}
        for k in reserved:
            _reserve(market, k, delivered)
    if requests:
        matrices, upper = market.injections(case.slots, len(grid.bus_ids)), np.array(market.upper)
        for window in market.windows:
            RequestBuilder(case, grid, live, market, window).build(matrices, upper)
    return market


def _reserve(market: Market, k: int, delivered: dict[tuple[int, int], list[int]]) -> None:
    """Add what is reserved of an offer per slot of the day, and that no scenario calls more than that.

    The award is at home in the likeliest scenario that can call it, so that it counts in the merit of a slot.
    """
    offer, length = market.offers[k], len(market.windows[0])
    for day_slot, price in enumerate(offer.reservation_price_milli_per_mwh):
        states = [w.start + day_slot for w in market.windows if (k, w.start + day_slot) in delivered]
        if not price or not states:
            continue
        home = max(states, key=lambda t: (market.weight[t], -t))
        cap = offer_cap(offer, day_slot % length) / MEGA
        column = market.column(price / 1e3 / market.weight[home], cap, home)
        market.reserved[k, day_slot] = column
        for t in states:
            terms = [(c, 1.0) for c in delivered[k, t]] + [(column, -1.0)]
            market.called[k, t] = market.row(("CALL", offer.offer_id, t), terms, -INF, 0.0)


def _runs(offers: Index, kind: NDArray[np.bool_]) -> list[Index]:
    """Split offers into runs of one kind, so that columns and rows keep the order of the offers."""
    return [r for r in np.split(offers, np.flatnonzero(np.diff(kind[offers])) + 1) if len(r)]


class _Builder:
    """Walks one scenario of a case (or a case without) once, in canonical order."""

    def __init__(
        self,
        case: Case,
        grid: Grid,
        live: NDArray[np.bool_],
        market: Market,
        table: StepTable,
        chosen: NDArray[np.bool_],
        scenario: int,
    ) -> None:
        self.case, self.grid, self.live, self.market, self.table = case, grid, live, market, table
        self.scenario, self.window = scenario, market.windows[scenario]
        mine = np.flatnonzero(chosen & (table.slot >= self.window.start) & (table.slot < self.window.stop))
        self.mine = mine[live[table.slot[mine]]]
        self.hours = case.resolution_s / 3600
        self.bus = {b: k for k, b in enumerate(grid.bus_ids)}
        self.bus_is_dead = (grid.node_of_bus < 0).tolist()
        self.parents = frozenset(o.parent_offer_id for o in market.offers if o.parent_offer_id)
        self.stacked = np.zeros(0, dtype=int)  # rows of the table that are merged with their equals
        self.delivered: dict[tuple[int, int], list[int]] = {}  # offer, slot -> columns
        self.groups: dict[str, list[int]] = defaultdict(list)
        self.by_id = {o.offer_id: k for k, o in enumerate(market.offers)}

    def places(self, offer: Offer) -> list[tuple[int, float]]:
        if offer.bus_id is not None:
            return [(self.bus[offer.bus_id], 1.0)]
        return [(self.bus[s.bus_id], s.share_ppm / MEGA) for s in offer.shares]

    def dead(self, offer: Offer) -> bool:
        return any(self.bus_is_dead[b] for b, _ in self.places(offer))

    def own_columns(self) -> None:
        """Add the offers that need columns of their own; the steps of the others are noted as mergeable."""
        table, rows, offers = self.table, self.mine, self.market.offers
        placed = [o.bus_id is not None and not self.bus_is_dead[self.bus[o.bus_id]] for o in offers]
        coupled = [is_coupled(o, self.parents) for o in offers]
        mergeable = np.array(placed, dtype=bool) & ~np.array(coupled, dtype=bool)
        own = mergeable[table.offer[rows]] & table.indivisible[rows]
        self.stacked = rows[mergeable[table.offer[rows]] & ~own]
        alone = ~mergeable
        alone[table.offer[rows[own]]] = True
        lone = [p and has_only_a_budget(o, self.parents) for p, o in zip(placed, offers, strict=True)]
        budget = np.array(lone, dtype=bool)
        budget[table.offer[rows[table.indivisible[rows]]]] = False
        for some in _runs(np.flatnonzero(alone), budget):
            if budget[some[0]]:
                self.budgeted(some)
                continue
            for k in some.tolist():
                self.offer(k)

    def rows_of(self, first: int, last: int) -> Index:
        """Return the rows of the table of some offers, neighbours in canonical order, that take part."""
        ends = np.searchsorted(self.mine, [self.table.first[first], self.table.first[last + 1]])
        return self.mine[ends[0] : ends[1]]

    def budgeted(self, offers: Index) -> None:
        """Add the columns of offers that nothing but a budget ties: at once what `offer` does one by one."""
        table, market = self.table, self.market
        rows = self.rows_of(int(offers[0]), int(offers[-1]))
        rows = rows[np.isin(table.offer[rows], offers)]
        if not len(rows):
            return
        offer, slot = table.offer[rows], table.slot[rows]
        columns = np.array(market.columns(table.price[rows], offer, slot, table.cap[rows]))
        first = np.flatnonzero(np.r_[True, offer[1:] != offer[:-1]])
        mine = [market.offers[k] for k in offer[first].tolist()]
        of_row = np.repeat(np.arange(len(first)), np.diff(np.r_[first, len(rows)]))
        bus, reactive, sign, tan = self.traits(mine)[:, of_row]
        self.inject_alone(slot * len(self.grid.bus_ids) + bus, columns, reactive, sign, tan)
        market.row_tag += [("MAX_ENERGY", o.offer_id, self.window.start) for o in mine]
        budgets = [(o.max_energy_wh or 0) / MEGA for o in mine]
        market.rows.add_alike(np.split(columns, first[1:]), self.hours, budgets)

    def traits(self, offers: list[Offer]) -> Index:
        """Return bus, whether it is reactive power, sign and tan phi of offers at one bus (4 x offers)."""
        return np.array(
            [
                (self.bus[o.bus_id or ""], o.quantity is Quantity.REACTIVE, o.direction.sign, o.tan_phi_ppm)
                for o in offers
            ],
            dtype=int,
        ).T

    def inject_alone(self, cells: Index, columns: Index, reactive: Index, sign: Index, tan: Index) -> None:
        """Note what a unit of columns does to the bus of its cell."""
        market = self.market
        for into, which, factor in (
            (market.inject_p, reactive == 0, sign.astype(float)),
            (market.inject_q, (reactive == 0) & (tan != 0), sign * (tan / MEGA)),
            (market.inject_q, reactive == 1, sign.astype(float)),
        ):
            into.add_all(cells[which], columns[which], factor[which])

    def offer(self, k: int) -> None:
        offer = self.market.offers[k]
        if self.dead(offer):
            return
        if offer.start_choice is not None:
            self.start_choice(k)
            return
        if is_plain_block(offer):
            self.block(k)
            return
        coupled = is_coupled(offer, self.parents) or offer.bus_id is None
        rows = self.rows_of(k, k)
        if not coupled:
            rows = rows[self.table.indivisible[rows]]
        if not len(rows):
            return
        table = self.table
        columns = self.market.columns(table.price[rows], table.offer[rows], table.slot[rows], table.cap[rows])
        slots = table.slot[rows].tolist()
        self.inject(k, columns, slots, 1.0)
        for t, column in zip(slots, columns, strict=True):
            self.delivered.setdefault((k, t), []).append(column)
        for t in dict.fromkeys(slots):
            if offer.slots[t].min_quantity > 0:
                self.in_slot(k, t)
        if coupled:
            self.over_time(k)

    def inject(self, k: int, columns: list[int], slots: list[int], amount: float) -> None:
        """Note what a unit of columns does to the buses, each in its slot and (payback) later."""
        offer = self.market.offers[k]
        buses = len(self.grid.bus_ids)
        active = offer.quantity is Quantity.ACTIVE
        tan = offer.tan_phi_ppm / MEGA
        parts = [(columns, slots, amount * offer.direction.sign)]
        if offer.payback is not None:
            back = offer.payback
            share = back.factor_ppm / MEGA / back.window_slots
            for column, t in zip(columns, slots, strict=True):
                first = t + 1 + back.delay_slots
                later = list(range(first, min(first + back.window_slots, self.window.stop)))
                parts.append(([column] * len(later), later, -amount * offer.direction.sign * share))
        for which, when, sign in parts:
            for b, weight in self.places(offer):
                cells = [t * buses + b for t in when]
                if active:
                    self.market.inject_p.add(cells, which, sign * weight)
                    if tan:
                        self.market.inject_q.add(cells, which, sign * weight * tan)
                else:
                    self.market.inject_q.add(cells, which, sign * weight)

    def merged(self) -> None:
        """Columns of the steps that nothing couples: one for all that are equal."""
        market, table, rows = self.market, self.table, self.stacked
        if not len(rows):
            return
        offers, buses = market.offers, len(self.grid.bus_ids)
        mine = np.unique(table.offer[rows])
        of_offer = np.zeros((4, len(offers)), dtype=int)
        of_offer[:, mine] = self.traits([offers[k] for k in mine.tolist()])
        bus, reactive, sign, tan = of_offer[:, table.offer[rows]]
        keys = np.array([tan, sign, reactive, table.price[rows], bus, table.slot[rows]])
        order = np.lexsort(keys)
        keys, rows = keys[:, order], rows[order]
        first = np.flatnonzero(np.r_[True, (keys[:, 1:] != keys[:, :-1]).any(axis=0)])
        tan, sign, reactive, price, bus, slot = keys[:, first]
        made = market.columns(price, table.offer[rows], table.slot[rows], table.cap[rows], first)
        self.inject_alone(slot * buses + bus, np.array(made), reactive, sign, tan)

    def take(self, k: int) -> int:
        """Return the binary column "anything of this offer is taken", made on first use."""
        key = k, self.scenario
        if key not in self.market.taken:
            y = self.market.column(0.0, 1.0, -1, integer=True)
            self.market.taken[key] = y
            offer = self.market.offers[k]
            for t in self.window:
                columns = self.delivered.get((k, t))
                if columns and offer.start_choice is None:
                    terms = [(c, 1.0) for c in columns] + [(y, -offer_cap(offer, t) / MEGA)]
                    self.market.row(("TAKEN", offer.offer_id, t), terms, -INF, 0.0)
        return self.market.taken[key]

    def in_slot(self, k: int, t: int) -> None:
        """Rows of an offer that delivers at least its minimum in a slot, or nothing."""
        offer = self.market.offers[k]
        least = offer.slots[t].min_quantity
        on = self.market.at_least[k, t] = self.market.column(0.0, 1.0, t, integer=True)
        total = [(c, 1.0) for c in self.delivered[k, t]]
        cap = offer_cap(offer, t) / MEGA
        self.market.row(("MINIMUM", offer.offer_id, t), [*total, (on, -least / MEGA)], 0.0, INF)
        self.market.row(("MINIMUM", offer.offer_id, t), [*total, (on, -cap)], -INF, 0.0)

    def total(self, k: int, factor: float = 1.0) -> list[tuple[int, float]]:
        return [(c, factor) for t in self.window for c in self.delivered.get((k, t), ())]

    def over_time(self, k: int) -> None:
        """Rows of one offer over its slots."""
        offer, market = self.market.offers[k], self.market
        budgets = offer.max_energy_wh is not None or offer.min_energy_wh is not None
        energy = self.total(k, self.hours) if budgets else []
        if offer.max_energy_wh is not None:
            market.row(("MAX_ENERGY", offer.offer_id, self.window.start), energy, -INF, offer.max_energy_wh / MEGA)
        if offer.min_energy_wh is not None:
            y = self.take(k)
            row = [*energy, (y, -offer.min_energy_wh / MEGA)]
            market.row(("MIN_ENERGY", offer.offer_id, -1), row, 0.0, INF)
        if offer.all_or_nothing:
            y = self.take(k)
            for t in self.window:
                want = sum(s.quantity for s in offer.slots[t].steps)
                if want:
                    have = [(c, 1.0) for c in self.delivered.get((k, t), ())]
                    market.row(("BLOCK", offer.offer_id, t), [*have, (y, -want / MEGA)], 0.0, 0.0)
        if offer.exclusive_group_id is not None:
            self.groups[offer.exclusive_group_id].append(k)
        self.ramps(k)
        self.runs(k)
        self.polygons(k)

    def ramps(self, k: int) -> None:
        offer = self.market.offers[k]
        for limit, sign, word in ((offer.max_rise, 1.0, "RISE"), (offer.max_fall, -1.0, "FALL")):
            if limit is None:
                continue
            for t in self.window:
                before = [(c, -sign) for c in self.delivered.get((k, t - 1), ())]
                now = [(c, sign) for c in self.delivered.get((k, t), ())]
                if before or now:
                    self.market.row((word, offer.offer_id, t), now + before, -INF, limit / MEGA)

    def runs(self, k: int) -> None:
        """At most `max_run_slots` slots in a row, at least `min_rest_slots` between two runs."""
        offer = self.market.offers[k]
        if offer.max_run_slots is None and offer.min_rest_slots == 0:
            return
        on: dict[int, int] = {}
        for t in self.window:
            columns = self.delivered.get((k, t))
            if columns:
                on[t] = self.market.column(0.0, 1.0, t, integer=True)
                terms = [(c, 1.0) for c in columns]
                self.market.row(("RUN", offer.offer_id, t), [*terms, (on[t], -offer_cap(offer, t) / MEGA)], -INF, 0.0)
                if offer.min_rest_slots:
                    # A slot in which nothing is delivered would else bridge a rest that is too short.
                    least = min(self.case.settings.quantity_step_w, offer_cap(offer, t)) / MEGA
                    self.market.row(("RUN", offer.offer_id, t), [*terms, (on[t], -least)], 0.0, INF)
        longest = offer.max_run_slots
        if longest is not None:
            for t in self.window[: max(len(self.window) - longest, 0)]:
                window = [(on[s], 1.0) for s in range(t, t + longest + 1) if s in on]
                if len(window) > longest:
                    self.market.row(("RUN", offer.offer_id, t), window, -INF, float(longest))
        # A slot that is off after one that was on starts a rest: the next ones stay off as well.
        for t in self.window[1:]:
            for s in range(t + 1, min(t + offer.min_rest_slots, self.window.stop)):
                if t - 1 in on and s in on:
                    terms = [(on[t - 1], 1.0), (on[s], 1.0)] + ([(on[t], -1.0)] if t in on else [])
                    self.market.row(("REST", offer.offer_id, t), terms, -INF, 1.0)

    def polygons(self, k: int) -> None:
        offer = self.market.offers[k]
        for piece in offer.polygons:
            weights = [self.market.column(0.0, 1.0, -1) for _ in piece.vertices]
            slot = self.window.start + piece.slot
            before = [(c, self.hours) for t in self.window[: piece.slot] for c in self.delivered.get((k, t), ())]
            now = [(c, self.hours) for c in self.delivered.get((k, slot), ())]
            tag = ("POLYGON", offer.offer_id, slot)
            self.market.row(tag, [(w, 1.0) for w in weights], 1.0, 1.0)
            corners = list(zip(weights, piece.vertices, strict=True))
            self.market.row(tag, before + [(w, -v.energy_before_wh / MEGA) for w, v in corners], 0.0, 0.0)
            self.market.row(tag, now + [(w, -v.energy_wh / MEGA) for w, v in corners], 0.0, 0.0)

    def start_choice(self, k: int) -> None:
        offer = self.market.offers[k]
        choice = offer.start_choice
        assert choice is not None
        starts = []
        for s in self.window[choice.earliest_slot : choice.latest_slot + 1]:
            slots = range(s, s + len(choice.profile))
            if not all(self.live[t] for t in slots):
                continue
            members = [Member(k, t, q) for t, q in zip(slots, choice.profile, strict=True)]
            cost = choice.price_milli_per_mwh / 1e3 * sum(choice.profile) / MEGA
            column = self.market.column(cost, 1.0, s, integer=True, members=members)
            starts.append(column)
            for t, q in zip(slots, choice.profile, strict=True):
                if q:
                    self.inject(k, [column], [t], q / MEGA)
        y = self.take(k)
        terms = [(c, 1.0) for c in starts]
        self.market.row(("START", offer.offer_id, -1), [*terms, (y, -1.0)], 0.0, 0.0)
        if offer.exclusive_group_id is not None:
            self.groups[offer.exclusive_group_id].append(k)

    def block(self, k: int) -> None:
        """A block is one column: its whole profile, or nothing."""
        offer = self.market.offers[k]
        wanted = {t: sum(s.quantity for s in offer.slots[t].steps) for t in self.window if offer.slots[t].steps}
        # A block that was cut, or that reaches into a dead slot, cannot be had in full.
        if not wanted or any(not self.live[t] or offer_cap(offer, t) < q for t, q in wanted.items()):
            return
        steps = [s for t in self.window for s in offer.slots[t].steps]
        cost = sum(s.quantity * s.price_milli_per_mwh for s in steps) / 1e3 / MEGA
        members = [Member(k, t, q) for t, q in wanted.items()]
        y = self.market.column(cost, 1.0, min(wanted), integer=True, members=members)
        self.market.taken[k, self.scenario] = y
        for t, q in wanted.items():
            self.inject(k, [y], [t], q / MEGA)
        if offer.exclusive_group_id is not None:
            self.groups[offer.exclusive_group_id].append(k)

    def links(self) -> None:
        market = self.market
        for group in sorted(self.groups):
            row = [(self.take(k), 1.0) for k in self.groups[group]]
            market.row(("EXCLUSIVE", group, -1), row, -INF, 1.0)
        for k, offer in enumerate(market.offers):
            if offer.parent_offer_id is None or self.dead(offer):
                continue
            parent = self.by_id[offer.parent_offer_id]
            child, above = self.take(k), self.take(parent)
            market.row(("PARENT", offer.offer_id, -1), [(child, 1.0), (above, -1.0)], -INF, 0.0)
            # "Taken" means that something is delivered.
            least = max(1, self.case.settings.quantity_step_w) / MEGA
            if not (market.offers[parent].start_choice or is_plain_block(market.offers[parent])):
                market.row(("PARENT", offer.parent_offer_id, -1), [*self.total(parent), (above, -least)], 0.0, INF)

    def unit(self, unit: Unit) -> None:
        if unit.kind is UnitKind.STORAGE:
            add_storage(self.window, self.market, unit, self.delivered, self.hours)
        else:
            add_inverter(self.window, self.market, unit, self.delivered)
