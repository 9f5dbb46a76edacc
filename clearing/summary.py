"""The published numbers: integers from a cleared market, its independent AC verification, reasons and hash."""

import importlib.metadata
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from clearing.awarded import Awarded, worst_excess_ppm
from clearing.canonical import result_hash
from clearing.case import Quantity, UnitKind
from clearing.certificate.shape import QUANTUM_DIGITS
from clearing.certificate.stages import evidences, value_and_bound_nano
from clearing.formulation import SlotLimit
from clearing.matching import Matching
from clearing.payments import revenue_nano, worth_to_buyer, zone_prices
from clearing.phases import expected
from clearing.reasons import Explainer, with_set_aside
from clearing.relaxation import COARSE, FINE
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
)
from flexbus.events.clearing import SlotStatus
from flexbus.events.market import PricingRule
from flexbus.quantities import PPM, Direction
from flexbus.reader import quickly

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
_offer_result = quickly(OfferResult)


@cache
def _versions() -> str:
    return " ".join(f"{p} {importlib.metadata.version(p)}" for p in ("clarabel", "highspy"))


class _Shared:
    """Series as tuples; equal ones (nothing taken, the same bus) are one object."""

    def __init__(self) -> None:
        self.made: dict[bytes, tuple[int, ...]] = {}

    def of(self, values: NDArray[np.int_]) -> tuple[int, ...]:
        key = values.tobytes()
        found = self.made.get(key)
        if found is None:
            found = self.made[key] = tuple(values.tolist())
        return found


def summarise(awarded: Awarded, case_hash: str, ends: tuple[End, ...] = ()) -> Result:
    """Return the result of a cleared market.

    Args:
        awarded: the awards, priced and verified.
        case_hash: hash of the canonical case.
        ends: what the entries of its series stand for.
    """
    return _Summary(awarded).result(case_hash, ends)


class _Summary:
    """Collects the numbers once; the parts of the result read them."""

    def __init__(self, awarded: Awarded) -> None:
        cleared = awarded.cleared
        self.awarded, self.c, self.case, self.grid = awarded, cleared, cleared.case, cleared.grid
        self.hours = self.case.resolution_s / 3600
        self.taken, self.bids, self.prices = awarded.quantity, awarded.bids, awarded.price_milli_per_mwh
        self.revenue = revenue_nano(self.taken, self.prices, self.case.resolution_s)
        self.cost = self.bids.cost_nano(self.case.resolution_s)
        self.p, self.q, self.ac = awarded.p, awarded.q, awarded.ac
        self.element = cleared.repair.element
        self.windows = cleared.market.windows
        self.reservations = reservations(self.case, cleared.market.offers, self.taken, self._calls())

    def result(self, case_hash: str, ends: tuple[End, ...]) -> Result:
        c, case = self.c, self.case
        offers = self._offers()
        requests = Matching(c, self.p, self.q).results()
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
            non_awards=with_set_aside(
                case,
                c.aside,
                Explainer(
                    c.repair,
                    c.prices,
                    c.awards,
                    c.value,
                    c.call,
                    case.resolution_s,
                    c.steps,
                    case.settings.quantity_step_w,
                    case.units,
                ).all(),
            ),
            requests=requests,
            buses=self._buses(),
            branches=self._branches(),
            infeed_points=self._infeeds(),
            zone_prices=zone_prices(c, self.bids) if case.pricing_rule is PricingRule.ZONAL else (),
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
                settings=f"clarabel qdldl threads=1 tol={FINE:g}, else {COARSE:g}; "
                "highs threads=1 seed=1 feasibility=1e-10 mip_gap=1e-7",
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
                    cuts=_digits(relaxed.cuts),
                    limits=tuple(
                        LimitDual(
                            kind=pressed.limit.kind,
                            element_id=self._limit_element(pressed.limit),
                            value=_digit(pressed.value),
                            value_q=_digit(pressed.value_q),
                            flow_p=_digit(pressed.flow_p),
                            flow_q=_digit(pressed.flow_q),
                        )
                        for pressed in relaxed.limits
                        if max(map(abs, (pressed.value, pressed.value_q, pressed.flow_p, pressed.flow_q))) > NO_DUAL
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
        value, lower, gaps = value_and_bound_nano(
            self.case, made, evidences(self.case, made, self.c.ac, (self.p, self.q, self.ac))
        )
        certificate = replace(
            made.certificate,
            value_nano=value,
            lower_bound_nano=lower,
            gap_nano=None if lower is None else value - lower,
        )
        slots = tuple(replace(s, gap_nano=gap) for s, gap in zip(made.slots, gaps, strict=True))
        return replace(made, slots=slots, certificate=certificate)

    def _offers(self) -> tuple[OfferResult, ...]:
        made = []
        held = {r.offer_id: r for r in self.reservations}
        series = _Shared()
        revenue = [self.revenue[:, w.start : w.stop].sum(axis=1).tolist() for w in self.windows]
        cost = [self.cost[:, w.start : w.stop].sum(axis=1).tolist() for w in self.windows]
        for k, offer in enumerate(self.c.market.offers):
            first = held.get(offer.offer_id)
            made.append(
                _offer_result(
                    offer_id=offer.offer_id,
                    quantity=series.of(self.taken[k]),
                    price_milli_per_mwh=series.of(self.prices[k]),
                    revenue_nano=expected(self.case, [r[k] for r in revenue])
                    + (0 if first is None else first.revenue_nano),
                    cost_nano=expected(self.case, [c[k] for c in cost]) + (0 if first is None else first.cost_nano),
                )
            )
        return tuple(made)

    def _scenarios(self, requests: tuple[RequestResult, ...]) -> tuple[ScenarioResult, ...]:
        """Return the sums of each scenario; without scenarios those of the whole market."""
        repair = self.c.repair
        base_excess = repair.limits.excess(repair.base_values)
        names = [(s.scenario_id, s.probability_ppm) for s in self.case.scenarios] or [("", PPM)]
        made = []
        for (name, ppm), window in zip(names, self.windows, strict=True):
            value, infeed = self._request_value(requests, window), self._infeed_cost(window)
            bids = int(self.cost[:, window.start : window.stop].sum())
            violation = self._violation_cost(self.c.point.excess, window)
            base = self._violation_cost(base_excess, window)
            made.append(
                ScenarioResult(
                    scenario_id=name,
                    probability_ppm=ppm,
                    cost_nano=int(self.revenue[:, window.start : window.stop].sum()),
                    bid_cost_nano=bids,
                    request_value_nano=value,
                    infeed_cost_nano=infeed,
                    violation_cost_nano=violation,
                    baseline_violation_cost_nano=base,
                    welfare_nano=value + base - bids - infeed - violation,
                )
            )
        return tuple(made)

    def _request_value(self, requests: tuple[RequestResult, ...], window: range) -> int:
        return sum(
            worth_to_buyer(request.slots[t], got.matched[t], self.case.resolution_s)
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
        active = np.array([o.quantity is Quantity.ACTIVE for o in c.market.offers], dtype=bool)
        rises = np.array([o.direction is Direction.UP for o in c.market.offers], dtype=bool)
        up_w, down_w = self.taken[active & rises].sum(axis=0), self.taken[active & ~rises].sum(axis=0)
        binding = self._binding()
        made = []
        losses = self.ac.losses_w()
        for t in range(case.slots):
            shortfalls = self._shortfalls(t, requests)
            made.append(
                SlotResult(
                    status=self.awarded.status[t],
                    up_w=int(up_w[t]),
                    down_w=int(down_w[t]),
                    requested_w=sum(r.requested[t] for r in requests),
                    matched_w=sum(r.matched[t] for r in requests),
                    losses_w=_whole(losses[t]),
                    loss_gap_w=_whole(self.c.bound.gap_mw[t] * MEGA),
                    ac_violation_ppm=worst_excess_ppm(c.ac, self.ac, t, {s.element_id for s in shortfalls}),
                    repair_steps=int(c.repair.steps[t]) if c.active[t] else 0,
                    cost_nano=int(self.revenue[:, t].sum()),
                    gap_nano=None,
                    binding=tuple(binding[t]),
                    shortfalls=shortfalls,
                )
            )
        return tuple(made)

    def _binding(self) -> list[list[Binding]]:
        """Return the limits that bind in every slot."""
        limits, found = self.c.repair.limits, [list[Binding]() for _ in range(self.case.slots)]
        for (t, k), value in sorted(self.c.multipliers.limit.items()):
            # Whole quanta of awards may step back from a limit that binds.
            if value > BINDING and max(self.c.point.excess[t, k], self.c.optimum.excess[t, k]) > -1e-4:
                found[t].append(
                    Binding(kind=limits.kinds[k], element_id=self.element(k), price_milli=round(value * 1e3))
                )
        return found

    def _shortfalls(self, t: int, requests: tuple[RequestResult, ...]) -> tuple[Shortfall, ...]:
        found = self.awarded.shortfalls[t]
        if not self.c.base.converged[t]:
            return found
        return found + tuple(
            Shortfall(kind=LimitKind.REQUEST, element_id=r.request_id, amount=r.requested[t] - r.matched[t])
            for r in requests
            if r.matched[t] < r.requested[t]
        )

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


def _parts(parts: dict[str, Real]) -> dict[str, list[tuple[int, ...]]]:
    """Round the parts per bus so that they sum to the rounded total; energy takes the remainder."""
    total = np.round(np.sum(list(parts.values()), axis=0) * 1e3).astype(int)
    made = {w: np.round(parts[w] * 1e3).astype(int) for w in ("losses", "voltage", "congestion")}
    energy = total - sum(made.values())
    return {k: list(map(tuple, v.T.tolist())) for k, v in {"total": total, "energy": energy, **made}.items()}


def _digits(values: Real) -> tuple[float, ...]:
    """Return floats to the quantum of multipliers, and nine digits at most: what the solver knows."""
    rounded = np.round(values, QUANTUM_DIGITS) + 0.0
    return tuple(map(float, ("%.9g " * len(values) % tuple(rounded.tolist())).split()))


def _digit(value: float) -> float:
    return _digits(np.array([value]))[0]


def _series(values: Real) -> list[tuple[int, ...]]:
    """Return the columns (slots x elements) as series of the nearest integers, 0 for what is not finite."""
    with np.errstate(invalid="ignore"):
        whole = np.where(np.isfinite(values), np.floor(values + 0.5), 0.0).astype(int)
    return list(map(tuple, whole.T.tolist()))


def _whole(value: float) -> int:
    return int(np.floor(value + 0.5)) if np.isfinite(value) else 0
