"""The published numbers: integers from a cleared market, its independent AC verification, reasons and hash."""

import importlib.metadata
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clearing.canonical import result_hash
from clearing.case import Case, Location, Offer, Quantity, Request, RequestSlot, UnitKind
from clearing.certificate.stages import evidences, value_and_bound_nano
from clearing.formulation import SlotLimit
from clearing.phases import expected, windows
from clearing.power_flow import ac_grid
from clearing.reasons import Explainer
from clearing.reservations import reservations
from clearing.result import (
    Binding,
    BranchResult,
    BusResult,
    CallDuals,
    Certificate,
    End,
    InfeedResult,
    LimitDual,
    LimitKind,
    OfferResult,
    RequestDual,
    RequestResult,
    Result,
    ScenarioResult,
    Shortfall,
    SlotDuals,
    SlotResult,
    SolverInfo,
    UnitDuals,
    ZonePrice,
)
from clearing.unmet import Buyers
from flexbus.events.clearing import SlotStatus
from flexbus.events.market import PricingRule
from flexbus.quantities import PPM, Direction, amount_nano, energy_wh

if TYPE_CHECKING:
    from clearing.pipeline import Cleared

__all__ = ["summarise"]

Real = NDArray[np.float64]
MEGA = 1e6
LADDER = (
    SlotStatus.IDLE,
    SlotStatus.EXACT,
    SlotStatus.REPAIRED,
    SlotStatus.LINEARISED,
    SlotStatus.MERIT_ORDER,
    SlotStatus.BASELINE_KEPT,
)
# A price, in EUR per MW (MVA, pu) and hour, below which a limit does not count as binding.
BINDING = 1e-3
# A multiplier, in EUR per MWh, that is none.
NO_DUAL = 1e-9


@cache
def _versions() -> str:
    return " ".join(f"{p} {importlib.metadata.version(p)}" for p in ("clarabel", "highspy"))


def summarise(cleared: "Cleared", case_hash: str, ends: tuple[End, ...] = ()) -> Result:
    """Return the result of a cleared market.

    Args:
        cleared: the optimised market.
        case_hash: hash of the canonical case.
        ends: what the entries of its series stand for.
    """
    return _Summary(cleared).result(case_hash, ends)


class _Summary:
    """Collects the numbers once; the parts of the result read them."""

    def __init__(self, cleared: "Cleared") -> None:
        self.c, self.case, self.grid = cleared, cleared.case, cleared.grid
        self.hours = self.case.resolution_s / 3600
        self.taken = _award_table(cleared)
        self.used = np.asarray(self.taken.any(axis=1))
        self.prices = _offer_prices(cleared, self.taken)
        self.p, self.q = dispatch(self.case, cleared.market.offers, self.taken)
        self.ac = ac_grid(self.case.network).solve(self.p, self.q)
        self.element = cleared.repair.element
        self.windows = cleared.market.windows
        self.reservations = reservations(self.case, cleared.market.offers, self.taken, self._calls())

    def result(self, case_hash: str, ends: tuple[End, ...]) -> Result:
        c, case = self.c, self.case
        offers = self._offers()
        requests = self._requests()
        scenarios = self._scenarios(requests)
        infeed, violation, base_violation, value = (
            expected(case, [getattr(s, name) for s in scenarios])
            for name in (
                "infeed_cost_nano",
                "violation_cost_nano",
                "baseline_violation_cost_nano",
                "request_value_nano",
            )
        )
        cost = sum(o.revenue_nano for o in offers)
        bids = sum(o.cost_nano for o in offers)
        slots = self._slots(requests)
        made = Result(
            case_id=case.case_id,
            case_hash=case_hash,
            result_hash="",
            start_ms=case.start_ms,
            resolution_s=case.resolution_s,
            status=max((s.status for s in slots), key=LADDER.index),
            ends=ends,
            scenarios=scenarios if case.scenarios else (),
            reservations=self.reservations,
            slots=slots,
            offers=offers,
            non_awards=Explainer(
                c.repair, c.prices, c.awards, c.value, c.call, case.resolution_s, c.steps, case.settings.quantity_step_w
            ).all(),
            requests=requests,
            buses=self._buses(),
            branches=self._branches(),
            infeed_points=self._infeeds(),
            zone_prices=_zone_prices(c, self.taken) if case.pricing_rule is PricingRule.ZONAL else (),
            cost_nano=cost,
            bid_cost_nano=bids,
            request_value_nano=value,
            infeed_cost_nano=infeed,
            violation_cost_nano=violation,
            baseline_violation_cost_nano=base_violation,
            welfare_nano=value + base_violation - bids - infeed - violation,
            network_residual_nano=cost - sum(r.payment_nano for r in requests),
            certificate=self._duals(),
            solver=SolverInfo(
                name="Clarabel, HiGHS",
                versions=_versions(),
                settings="clarabel qdldl threads=1 tol=1e-9; highs threads=1 seed=1 feasibility=1e-10 mip_gap=1e-7",
            ),
        )
        made = self._certified(made)
        return replace(made, result_hash=result_hash(made))

    def _duals(self) -> Certificate:
        """Return the multipliers of the relaxation, with the digits that the solver knows."""
        bound, market = self.c.bound, self.c.market
        worth = {unit.unit_id: np.zeros(self.case.slots) for unit in self.case.units if unit.kind is UnitKind.STORAGE}
        for (kind, name, t), dual in zip(market.row_tag, bound.structural.tolist(), strict=True):
            if kind == "STORAGE" and name in worth:
                worth[name][t] = -dual * self.hours
        return Certificate(
            value_nano=0,
            lower_bound_nano=None,
            gap_nano=None,
            duals=tuple(
                SlotDuals(
                    slot=t,
                    balance_p=_digits(relaxed.balance_p),
                    balance_q=_digits(relaxed.balance_q),
                    drop=_digits(relaxed.drop),
                    limits=tuple(
                        LimitDual(
                            kind=limit.kind,
                            element_id=self._limit_element(limit),
                            value=_digit(p),
                            value_q=_digit(q),
                        )
                        for limit, p, q in relaxed.limits
                        if max(abs(p), abs(q)) > NO_DUAL
                    ),
                    requests=tuple(
                        RequestDual(request_id=name, value=_digit(value))
                        for name, value in sorted(bound.requests[t].items())
                        if value > NO_DUAL
                    ),
                )
                for t, relaxed in sorted(bound.slots.items())
            ),
            stored=tuple(UnitDuals(unit_id=u, worth_eur_per_mwh=_digits(w)) for u, w in sorted(worth.items())),
            called=self._calls(),
        )

    def _calls(self) -> tuple[CallDuals, ...]:
        priced = [k for k, o in enumerate(self.case.offers) if any(o.reservation_price_milli_per_mwh)]
        return tuple(
            CallDuals(offer_id=self.case.offers[k].offer_id, worth_eur_per_mwh=_digits(self.c.call[k])) for k in priced
        )

    def _limit_element(self, limit: SlotLimit) -> str:
        infeed = limit.kind in (LimitKind.IMPORT, LimitKind.EXPORT)
        return (self.grid.infeed_ids if infeed else self.grid.branch_ids)[limit.index]

    def _certified(self, made: Result) -> Result:
        """Return the result with value, bound and gap as whoever checks it will compute them."""
        value, lower = value_and_bound_nano(self.case, made, evidences(self.case, made))
        certificate = replace(
            made.certificate,
            value_nano=value,
            lower_bound_nano=lower,
            gap_nano=None if lower is None else value - lower,
        )
        return replace(made, certificate=certificate)

    def _offers(self) -> tuple[OfferResult, ...]:
        made = []
        held = {r.offer_id: r for r in self.reservations}
        for k, offer in enumerate(self.c.market.offers):
            first = held.get(offer.offer_id)
            made.append(
                OfferResult(
                    offer_id=offer.offer_id,
                    quantity=tuple(self.taken[k].tolist()),
                    price_milli_per_mwh=tuple(self.prices[k].tolist()),
                    revenue_nano=expected(self.case, [self._revenue(k, w) for w in self.windows])
                    + (0 if first is None else first.revenue_nano),
                    cost_nano=expected(self.case, [self._bids(k, w) for w in self.windows])
                    + (0 if first is None else first.cost_nano),
                )
            )
        return tuple(made)

    def _revenue(self, k: int, window: range) -> int:
        """Return what is paid for the calls of an offer in a scenario, 1e-9 EUR."""
        if not self.used[k]:
            return 0
        used = window.start + np.flatnonzero(self.taken[k, window.start : window.stop])
        return sum(
            amount_nano(energy_wh(q, self.case.resolution_s), m)
            for q, m in zip(self.taken[k, used].tolist(), self.prices[k, used].tolist(), strict=True)
        )

    def _bids(self, k: int, window: range) -> int:
        if not self.used[k]:
            return 0
        offer = self.c.market.offers[k]
        used = window.start + np.flatnonzero(self.taken[k, window.start : window.stop])
        return sum(_bid_cost(offer, t, int(self.taken[k, t]), self.case.resolution_s) for t in used.tolist())

    def _scenarios(self, requests: tuple[RequestResult, ...]) -> tuple[ScenarioResult, ...]:
        """Return the sums of each scenario; without scenarios those of the whole market."""
        offers, repair = range(len(self.c.market.offers)), self.c.repair
        base_excess = repair.limits.excess(repair.base_values)
        names = [(s.scenario_id, s.probability_ppm) for s in self.case.scenarios] or [("", PPM)]
        made = []
        for (name, ppm), window in zip(names, self.windows, strict=True):
            value, infeed = self._request_value(requests, window), self._infeed_cost(window)
            bids = sum(self._bids(k, window) for k in offers)
            violation = self._violation_cost(self.c.point.excess, window)
            base = self._violation_cost(base_excess, window)
            made.append(
                ScenarioResult(
                    scenario_id=name,
                    probability_ppm=ppm,
                    cost_nano=sum(self._revenue(k, window) for k in offers),
                    bid_cost_nano=bids,
                    request_value_nano=value,
                    infeed_cost_nano=infeed,
                    violation_cost_nano=violation,
                    baseline_violation_cost_nano=base,
                    welfare_nano=value + base - bids - infeed - violation,
                )
            )
        return tuple(made)

    def _requests(self) -> tuple[RequestResult, ...]:
        c, case = self.c, self.case
        matched = {r: np.zeros(case.slots, dtype=int) for r in range(len(c.market.requests))}
        price = {r: np.zeros(case.slots, dtype=int) for r in range(len(c.market.requests))}
        net = {r: np.zeros(case.slots) for r in range(len(c.market.requests))}
        measured_of = {column: (n, m) for n, m in enumerate(c.market.measured) for column in m.columns}
        pools: dict[tuple[int, int], tuple[float, list[tuple[int, int, int]]]] = {}
        for column, r, step in c.market.request_columns:
            t = c.market.slot[column]
            if column in measured_of:
                n, m = measured_of[column]
                delivered = c.repair.delivered(m, c.point.values) * MEGA
                key = (-1, n)
                worth = c.multipliers.measured.get(n, 0.0)
            else:
                row = c.market.request_row[r, t]
                delivered = self._net(c.market.requests[r], t)
                key = (0, row)
                worth = -float(c.multipliers.structural[row]) if len(c.multipliers.structural) else 0.0
            net[r][t] = delivered
            pools.setdefault(key, (delivered, []))[1].append((column, r, step))
            price[r][t] = round(max(worth, 0.0) * 1e3)
        for delivered, entries in pools.values():
            left = max(int(np.floor(delivered + 0.5)), 0)
            entries.sort(key=lambda e: (c.repair.cost[e[0]], e[1], e[2]))
            for column, r, step in entries:
                t = c.market.slot[column]
                entry = c.market.requests[r].slots[t]
                # A request that the program left alone (its minimum was out of reach) stays unmet.
                if entry.min_quantity > 0 and not self._minimum_met(r, t):
                    continue
                part = min(left, entry.steps[step].quantity)
                matched[r][t] += part
                left -= part
        made = []
        buyers = Buyers(c.repair, c.point, c.multipliers, c.awards, c.value)
        for r, request in enumerate(c.market.requests):
            asked = tuple(sum(s.quantity for s in e.steps) for e in request.slots)
            got = tuple(matched[r].tolist())
            why = buyers.why(r, asked, got, net[r])
            made.append(
                RequestResult(
                    request_id=request.request_id,
                    requested=asked,
                    matched=got,
                    price_milli_per_mwh=tuple(price[r].tolist()),
                    payment_nano=expected(
                        case, [self._payment(request, got, price[r].tolist(), w) for w in self.windows]
                    ),
                    unmet_reason=None if why is None else why.reason,
                    price_distance_milli_per_mwh=None if why is None else why.distance,
                    reason="" if why is None else why.text,
                )
            )
        return tuple(made)

    def _payment(self, request: Request, got: tuple[int, ...], price: list[int], window: range) -> int:
        length = self.case.resolution_s
        return sum(
            min(
                amount_nano(energy_wh(got[t], length), price[t]),
                _worth_to_buyer(request.slots[t], got[t], length),
            )
            for t in window
            if got[t]
        )

    def _minimum_met(self, r: int, t: int) -> bool:
        c = self.c
        total = sum(
            float(c.point.x[column])
            for column, q, _ in c.market.request_columns
            if q == r and c.market.slot[column] == t
        )
        return total * MEGA >= c.market.requests[r].slots[t].min_quantity - 1

    def _net(self, request: Request, t: int) -> float:
        """Return the flexibility taken inside a request's place, W or var in its direction."""
        zone = {b.bus_id: b.zone_id for b in self.case.network.buses}
        total = 0.0
        change = self._change_p if request.quantity is Quantity.ACTIVE else self._change_q
        for b, bus_id in enumerate(self.grid.bus_ids):
            if self.grid.node_of_bus[b] < 0:
                continue
            inside = (
                request.location_kind is Location.AREA
                or (request.location_kind is Location.BUS and bus_id == request.location_id)
                or (request.location_kind is Location.ZONE and zone[bus_id] == request.location_id)
            )
            if inside:
                total += change[t, b]
        return request.direction.sign * total

    @property
    def _change_p(self) -> Real:
        return self.p - _baseline(self.case)[0]

    @property
    def _change_q(self) -> Real:
        return self.q - _baseline(self.case)[1]

    def _request_value(self, requests: tuple[RequestResult, ...], window: range) -> int:
        return sum(
            _worth_to_buyer(request.slots[t], got.matched[t], self.case.resolution_s)
            for request, got in zip(self.c.market.requests, requests, strict=True)
            for t in window
        )

    def _infeed_cost(self, window: range) -> int:
        change = self.c.point.values["root_p"] - self.c.repair.base_values["root_p"]
        cost = np.nan_to_num(change * self.c.repair.energy_price)[window.start : window.stop]
        return round(float(cost.sum()) * self.hours * 1e9)

    def _violation_cost(self, excess: Real, window: range) -> int:
        cost = np.nan_to_num(np.clip(excess, 0, None)) @ self.c.repair.limits.price
        return round(float(cost[window.start : window.stop].sum()) * self.hours * 1e9)

    def _slots(self, requests: tuple[RequestResult, ...]) -> tuple[SlotResult, ...]:
        c, case = self.c, self.case
        up = [o.direction is Direction.UP and o.quantity is Quantity.ACTIVE for o in c.market.offers]
        down = [o.direction is Direction.DOWN and o.quantity is Quantity.ACTIVE for o in c.market.offers]
        made = []
        losses = self.ac.losses_w()
        for t in range(case.slots):
            used = np.flatnonzero(self.taken[:, t])
            paid = sum(
                amount_nano(energy_wh(q, case.resolution_s), m)
                for q, m in zip(self.taken[used, t].tolist(), self.prices[used, t].tolist(), strict=True)
            )
            shortfalls = self._shortfalls(t, requests)
            made.append(
                SlotResult(
                    status=self._status(t),
                    up_w=int(self.taken[up, t].sum()),
                    down_w=int(self.taken[down, t].sum()),
                    requested_w=sum(r.requested[t] for r in requests),
                    matched_w=sum(r.matched[t] for r in requests),
                    losses_w=_whole(losses[t]),
                    loss_gap_w=_whole(self.c.bound.gap_mw[t] * MEGA),
                    ac_violation_ppm=self._ac_violation(t, shortfalls),
                    repair_steps=int(c.repair.steps[t]) if c.active[t] else 0,
                    cost_nano=paid,
                    binding=self._binding(t),
                    shortfalls=shortfalls,
                )
            )
        return tuple(made)

    def _status(self, t: int) -> SlotStatus:
        if not self.c.base.converged[t] or not self.ac.converged[t]:
            return SlotStatus.BASELINE_KEPT
        if not self.c.active[t]:
            return SlotStatus.IDLE
        return SlotStatus.EXACT if self.c.bound.exact[t] else SlotStatus.REPAIRED

    def _binding(self, t: int) -> tuple[Binding, ...]:
        limits = self.c.repair.limits
        return tuple(
            Binding(kind=limits.kinds[k], element_id=self.element(k), price_milli=round(value * 1e3))
            for (slot, k), value in sorted(self.c.multipliers.limit.items())
            # Whole quanta of awards may step back from a limit that binds.
            if slot == t and value > BINDING and max(self.c.point.excess[t, k], self.c.optimum.excess[t, k]) > -1e-4
        )

    def _shortfalls(self, t: int, requests: tuple[RequestResult, ...]) -> tuple[Shortfall, ...]:
        if not self.c.base.converged[t]:
            return (Shortfall(kind=LimitKind.POWER_FLOW, element_id=self.case.network.network_id, amount=0),)
        limits = self.c.repair.limits
        found = []
        for k in np.flatnonzero(self.c.point.excess[t] > 1e-6).tolist():
            amount = round(float(self.c.point.excess[t, k]) * MEGA)
            found.append(Shortfall(kind=limits.kinds[k], element_id=self.element(k), amount=amount))
        for r in requests:
            if r.matched[t] < r.requested[t]:
                found.append(
                    Shortfall(kind=LimitKind.REQUEST, element_id=r.request_id, amount=r.requested[t] - r.matched[t])
                )
        return tuple(found)

    def _ac_violation(self, t: int, shortfalls: tuple[Shortfall, ...]) -> int:
        """Return the worst excess the independent power flow sees beyond what is named as shortfall, ppm."""
        if not self.ac.converged[t]:
            return 0
        named = {s.element_id for s in shortfalls}
        worst = 0.0
        held = {p.bus_id for p in self.case.network.infeed_points}
        for b, bus in enumerate(self.case.network.buses):
            if bus.bus_id in named or bus.bus_id in held or not self.ac.energised[b]:
                continue
            v = abs(self.ac.voltage_pu[t, b]) * MEGA
            worst = max(worst, v - bus.max_voltage_ppm, bus.min_voltage_ppm - v)
        for b, branch in enumerate(self.case.network.branches):
            if branch.branch_id not in named and np.isfinite(self.ac.loading_ppm[t, b]):
                worst = max(worst, float(self.ac.loading_ppm[t, b]) - PPM)
        # A millionth is the promised accuracy; the integer shows what is beyond it.
        return int(np.floor(worst + 0.5)) if worst > 0.5 else 0

    def _buses(self) -> tuple[BusResult, ...]:
        voltage = _series(np.abs(self.ac.voltage_pu) * MEGA)
        p, q = _parts(self.c.prices.p), _parts(self.c.prices.q)
        return tuple(
            BusResult(
                bus_id=bus_id,
                voltage_ppm=voltage[b],
                p_price_milli_per_mwh=p["total"][b],
                p_energy_milli_per_mwh=p["energy"][b],
                p_losses_milli_per_mwh=p["losses"][b],
                p_voltage_milli_per_mwh=p["voltage"][b],
                p_congestion_milli_per_mwh=p["congestion"][b],
                q_price_milli_per_mwh=q["total"][b],
                q_energy_milli_per_mwh=q["energy"][b],
                q_losses_milli_per_mwh=q["losses"][b],
                q_voltage_milli_per_mwh=q["voltage"][b],
                q_congestion_milli_per_mwh=q["congestion"][b],
            )
            for b, bus_id in enumerate(self.grid.bus_ids)
        )

    def _branches(self) -> tuple[BranchResult, ...]:
        series = _series(self.ac.p_from_w), _series(self.ac.q_from_var), _series(self.ac.loading_ppm)
        return tuple(
            BranchResult(branch_id=branch.branch_id, power_w=p, reactive_power_var=q, loading_ppm=loading)
            for branch, p, q, loading in zip(self.case.network.branches, *series, strict=True)
        )

    def _infeeds(self) -> tuple[InfeedResult, ...]:
        series = _series(self.ac.root_p_w), _series(self.ac.root_q_var)
        return tuple(
            InfeedResult(infeed_id=point.infeed_id, power_w=p, reactive_power_var=q)
            for point, p, q in zip(self.case.network.infeed_points, *series, strict=True)
        )


def dispatch(case: Case, offers: list[Offer], taken: NDArray[np.int_]) -> tuple[Real, Real]:
    """Return the injections that awards lead to (slots x buses), W and var, payback included.

    Args:
        case: the case, canonical.
        offers: its offers, sorted.
        taken: awards (offers x slots), W or var.
    """
    p, q = _baseline(case)
    index = {b.bus_id: k for k, b in enumerate(case.network.buses)}
    horizon = len(windows(case)[0])
    for k, offer in enumerate(offers):
        if not taken[k].any():
            continue
        change = taken[k].astype(float) * offer.direction.sign
        if offer.payback is not None:
            back = offer.payback
            share = back.factor_ppm / PPM / back.window_slots
            for t in np.flatnonzero(taken[k]).tolist():
                first = t + 1 + back.delay_slots
                end = min(first + back.window_slots, t - t % horizon + horizon)
                change[first:end] -= taken[k][t] * offer.direction.sign * share
        shares = [(offer.bus_id, PPM)] if offer.bus_id is not None else [(s.bus_id, s.share_ppm) for s in offer.shares]
        for bus_id, share_ppm in shares:
            part = change * (share_ppm / PPM)
            if offer.quantity is Quantity.ACTIVE:
                p[:, index[bus_id]] += part
                q[:, index[bus_id]] += part * (offer.tan_phi_ppm / PPM)
            else:
                q[:, index[bus_id]] += part
    return p, q


def _baseline(case: Case) -> tuple[Real, Real]:
    p = np.zeros((case.slots, len(case.network.buses)))
    q = np.zeros_like(p)
    index = {b.bus_id: k for k, b in enumerate(case.network.buses)}
    for entry in case.baseline:
        p[:, index[entry.bus_id]] += entry.power_w
        q[:, index[entry.bus_id]] += entry.reactive_power_var
    for award in case.fixed_awards:
        shares = [(award.bus_id, PPM)] if award.bus_id is not None else [(s.bus_id, s.share_ppm) for s in award.shares]
        for bus_id, share in shares:
            part = np.array(award.power) * award.direction.sign * (share / PPM)
            (p if award.quantity is Quantity.ACTIVE else q)[:, index[bus_id]] += part
    return p, q


def _award_table(cleared: "Cleared") -> NDArray[np.int_]:
    table = np.zeros((len(cleared.market.offers), cleared.case.slots), dtype=int)
    for (k, t), watts in cleared.awards.items():
        table[k, t] = watts
    return table


def _steps(offer: Offer, t: int, quantity: int) -> list[tuple[int, int]]:
    """Return how a quantity fills an offer's steps: (quantity, price)."""
    if offer.start_choice is not None:
        return [(quantity, offer.start_choice.price_milli_per_mwh)]
    filled = []
    for step in offer.slots[t].steps:
        part = min(quantity, step.quantity)
        quantity -= part
        if part:
            filled.append((part, step.price_milli_per_mwh))
    return filled


def _worth_to_buyer(entry: RequestSlot, matched: int, resolution_s: int) -> int:
    """Return what a met quantity is worth at the bids of its demand curve, 1e-9 EUR."""
    total, left = 0, matched
    for step in entry.steps:
        part = min(left, step.quantity)
        total += round(part * resolution_s * step.price_milli_per_mwh / 3600)
        left -= part
    return total


def _bid_cost(offer: Offer, t: int, quantity: int, resolution_s: int) -> int:
    return round(sum(q * m for q, m in _steps(offer, t, quantity)) * resolution_s / 3600)


def _offer_prices(cleared: "Cleared", taken: NDArray[np.int_]) -> NDArray[np.int_]:
    """Return the price per offer and slot by the case's pricing rule, 1/1000 EUR per MWh."""
    case, market = cleared.case, cleared.market
    nodal = np.round(cleared.value * 1e3).astype(int)
    if case.pricing_rule is PricingRule.PAY_AS_BID:
        paid = np.zeros_like(nodal)
        for k, t in np.argwhere(taken).tolist():
            filled = _steps(market.offers[k], t, int(taken[k, t]))
            total = sum(q for q, _ in filled)
            paid[k, t] = -(-sum(q * m for q, m in filled) // total)
        return paid
    if case.pricing_rule is PricingRule.ZONAL:
        zones = {z.zone_id: z for z in _zone_prices(cleared, taken)}
        paid = np.zeros_like(nodal)
        for k, t in np.argwhere(taken).tolist():
            offer = market.offers[k]
            zone = zones[_zone_of(case, offer)]
            prices = zone.up_milli_per_mwh if offer.direction is Direction.UP else zone.down_milli_per_mwh
            paid[k, t] = prices[t]
        return paid
    cap = case.settings.price_cap_milli_per_mwh
    worth = nodal
    if cap is not None:
        nodal = np.clip(nodal, -cap, cap)
    for k, t in np.argwhere(taken).tolist():
        bid = _steps(market.offers[k], t, int(taken[k, t]))[-1][1]
        # Above the cap nobody is paid below what was asked and accepted.
        nodal[k, t] = max(nodal[k, t], min(worth[k, t], bid))
        # Integer prices must not put an accepted marginal step a rounding error below its own bid.
        if 0 < bid - nodal[k, t] <= 2:
            nodal[k, t] = bid
    return nodal


def _zone_of(case: Case, offer: Offer) -> str:
    """Return the zone of an offer; a portfolio is in the zone of its largest share."""
    bus_id = offer.bus_id or max(offer.shares, key=lambda s: (s.share_ppm, s.bus_id)).bus_id
    return next(b.zone_id or "" for b in case.network.buses if b.bus_id == bus_id)


def _zone_prices(cleared: "Cleared", taken: NDArray[np.int_]) -> tuple[ZonePrice, ...]:
    """Return uniform prices: the highest bid accepted in a zone and direction."""
    case = cleared.case
    best: dict[tuple[str, Direction], dict[int, int]] = {}
    for k, t in np.argwhere(taken).tolist():
        offer = cleared.market.offers[k]
        bid = _steps(offer, t, int(taken[k, t]))[-1][1]
        slot = best.setdefault((_zone_of(case, offer), offer.direction), {})
        slot[t] = max(slot.get(t, bid), bid)
    zones = sorted({b.zone_id or "" for b in case.network.buses})
    return tuple(
        ZonePrice(
            zone_id=z,
            up_milli_per_mwh=tuple(best.get((z, Direction.UP), {}).get(t, 0) for t in range(case.slots)),
            down_milli_per_mwh=tuple(best.get((z, Direction.DOWN), {}).get(t, 0) for t in range(case.slots)),
        )
        for z in zones
    )


def _parts(parts: dict[str, Real]) -> dict[str, list[tuple[int, ...]]]:
    """Round the parts per bus so that they sum to the rounded total; energy takes the remainder."""
    total = np.round(np.sum(list(parts.values()), axis=0) * 1e3).astype(int)
    made = {w: np.round(parts[w] * 1e3).astype(int) for w in ("losses", "voltage", "congestion")}
    energy = total - sum(made.values())
    return {k: [tuple(s) for s in v.T.tolist()] for k, v in {"total": total, "energy": energy, **made}.items()}


def _digits(values: Real) -> tuple[float, ...]:
    """Return floats with nine digits: what the solver knows, and the same on every machine."""
    return tuple(map(float, ("%.9g " * len(values) % tuple(values.tolist())).split()))


def _digit(value: float) -> float:
    return float(f"{value:.9g}")


def _series(values: Real) -> list[tuple[int, ...]]:
    """Return the columns (slots x elements) as series of the nearest integers, 0 for what is not finite."""
    with np.errstate(invalid="ignore"):
        whole = np.where(np.isfinite(values), np.floor(values + 0.5), 0.0).astype(int)
    return [tuple(s) for s in whole.T.tolist()]


def _whole(value: float) -> int:
    return int(np.floor(value + 0.5)) if np.isfinite(value) else 0
