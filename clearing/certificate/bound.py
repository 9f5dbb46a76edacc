"""The lower bound that follows from published multipliers, by weak duality; numpy only.

The Lagrangian of the branch flow relaxation falls apart: every offer maximises its profit at the worth of its
buses, every request its surplus, every branch and every bus has a minimum in closed form. So any multipliers
whatever give a bound, and a wrong digit can only make it lower. Model, per unit of 1 MVA (Farivar and Low 2013),
series flow P, Q and squared current l behind the ideal transformer, w squared voltages:

    w_t = w_f / |a|^2 - 2 (r P + x Q) + |z|^2 l,   l w_f / |a|^2 >= P^2 + Q^2

With a multiplier d of the voltage drop and worths u of what enters a branch at its ends, a branch contributes
``min aP P + aQ Q + al l``, which is ``-(aP^2 + aQ^2) / (4 al) * w_f / |a|^2``: linear in w. Rules that tie slots
of an offer are kept (energy budget, block, start choice, exclusive group, storage) or dropped (minimum, ramp, run,
polygon, parent), which lowers the bound. Where a slot has multipliers of `cuts`, it is also used that no state leaves
what the offers can make of it (`clearing.certificate.boxes`): there the relaxation cannot burn what no current carries.
The bound holds for dispatches with voltages between 0.5 and 1.3 pu and currents up to twice the rating (or what is
published).
"""

from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearing.case import Case, Location, Quantity, Request
from clearing.certificate.boxes import I_TOP, V_LOW, V_TOP, Boxes, Tree, boxes_of, tree_of
from clearing.certificate.evidence import PPM, Evidence, Finding
from clearing.certificate.injected import injected_range
from clearing.certificate.money import state_costs
from clearing.certificate.physics import excesses
from clearing.certificate.prices import infeed_price, is_from_nearer, nodal_prices_of_flow
from clearing.certificate.profits import Earnings
from clearing.power_flow import AcGrid
from clearing.result import Certificate, LimitDual, LimitKind, SlotDuals, SlotResult

__all__ = ["bound_eur", "check_certificate", "check_gaps", "lower_bound_nano"]

Real = NDArray[np.float64]
Complex = NDArray[np.complexfloating[Any, Any]]
MEGA = 1e6
NOISE = 2_000
CURRENTS = (LimitKind.CURRENT_FROM, LimitKind.CURRENT_TO)
APPARENT = (LimitKind.APPARENT_POWER_FROM, LimitKind.APPARENT_POWER_TO)


def lower_bound_nano(e: Evidence, certificate: Certificate) -> int | None:
    """Return what no dispatch of the market costs less than, 1e-9 EUR; None when the multipliers give no bound.

    Args:
        e: case, awards and AC states.
        certificate: the multipliers.
    """
    value, _ = bound_eur(e, certificate)
    return None if value is None else int(np.floor(value * 1e9))


def bound_eur(e: Evidence, certificate: Certificate) -> tuple[float | None, Real]:
    """Return the same in EUR, not rounded, and by how much every slot misses its own bound.

    What was reserved is paid what being able to call it is worth. What rules tie to other slots (budgets, blocks,
    storages) sells in each of them what is taken of it, at its worth there: what it could gain by another choice is no
    slot's, and is left of the gap of the whole.
    """
    if not (e.after.converged | ~e.before.converged).all():
        return None, np.full(e.case.slots, np.nan)
    dual = _Dual(e, certificate)
    return dual.value(), dual.gaps()


def check_certificate(published: Certificate, value: int, truth: int | None) -> Iterator[Finding]:
    """Yield a finding when value, lower bound or gap do not follow from the case, the awards and the multipliers.

    Args:
        published: the certificate.
        value: what the published dispatch costs, recomputed, 1e-9 EUR.
        truth: the lower bound, recomputed from the published multipliers, 1e-9 EUR; None = they give none.
    """
    if published.value_nano != value:
        yield Finding("$.certificate.value_nano", f"published {published.value_nano}, follows {value}")
    lower = published.lower_bound_nano
    if lower is None or truth is None:
        if lower is not truth:
            yield Finding("$.certificate.lower_bound_nano", f"published {lower}, the multipliers give {truth}")
        if published.gap_nano is not None:
            yield Finding("$.certificate.gap_nano", "is published without a bound")
        return
    # The noise of floats on another processor.
    if abs(lower - truth) > NOISE + 1e-9 * abs(truth):
        yield Finding("$.certificate.lower_bound_nano", f"published {lower}, the multipliers give {truth}")
    if published.gap_nano != value - lower:
        yield Finding("$.certificate.gap_nano", f"published {published.gap_nano}, value less bound is {value - lower}")


def check_gaps(slots: tuple[SlotResult, ...], gaps: list[int | None], value: int) -> Iterator[Finding]:
    """Yield a finding for every slot whose gap does not follow from awards and multipliers.

    Args:
        slots: what is published.
        gaps: the gaps, recomputed, 1e-9 EUR; None = there is no bound.
        value: what the published dispatch costs, 1e-9 EUR: sums over AC states have its digits.
    """
    for t, (slot, truth) in enumerate(zip(slots, gaps, strict=True)):
        said = slot.gap_nano
        same = said is truth if said is None or truth is None else abs(said - truth) <= NOISE + 1e-9 * abs(value)
        if not same:
            yield Finding(f"$.slots[{t}].gap_nano", f"published {said}, the multipliers give {truth}")


class _Grid:
    """The network as arrays, nodes in the order of the certificate."""

    def __init__(self, grid: AcGrid) -> None:
        network = grid.network
        index = {b.bus_id: k for k, b in enumerate(network.buses)}
        ranks: dict[int, int] = {}
        self.node = np.full(len(network.buses), -1)
        for bus in sorted(network.buses, key=lambda b: b.bus_id):
            k = index[bus.bus_id]
            if grid.energised[k]:
                self.node[k] = ranks.setdefault(int(grid.node_of_bus[k]), len(ranks))
        self.nodes = len(ranks)
        kept = [
            (b.branch_id, k)
            for k, b in enumerate(network.branches)
            if b.closed and (b.r_ohm or b.x_ohm) and self.node[index[b.from_bus_id]] >= 0
        ]
        self.kept = [k for _, k in sorted(kept)]
        self.at = {network.branches[k].branch_id: n for n, k in enumerate(self.kept)}
        chosen = [network.branches[k] for k in self.kept]
        from_bus = np.array([index[b.from_bus_id] for b in chosen], dtype=int)
        to_bus = np.array([index[b.to_bus_id] for b in chosen], dtype=int)
        self.f, self.t = self.node[from_bus], self.node[to_bus]
        volt = np.array([b.nominal_voltage_v for b in network.buses], dtype=float)
        z_base = volt[to_bus] ** 2 / MEGA
        z = np.array([complex(b.r_ohm, b.x_ohm) for b in chosen]) / z_base if chosen else np.zeros(0, complex)
        self.z, self.r, self.x = z, z.real, z.imag
        self.z2 = np.abs(z) ** 2
        self.a = np.array([b.ratio * np.exp(1j * np.deg2rad(b.shift_deg)) for b in chosen], dtype=complex)
        self.a2 = np.abs(self.a) ** 2
        half = np.array([complex(b.g_s, b.b_s) for b in chosen], dtype=complex) / 2 * z_base
        self.half = half
        self.g, self.b = half.real, half.imag
        self.h2 = np.abs(half) ** 2
        self.shunt = np.zeros(self.nodes, dtype=complex)
        alive = np.flatnonzero(self.node >= 0)
        own = np.array([complex(b.shunt_g_s, b.shunt_b_s) for b in network.buses]) * volt**2 / MEGA
        np.add.at(self.shunt, self.node[alive], own[alive])
        for branch in network.branches:
            if branch.closed and not (branch.r_ohm or branch.x_ohm):
                for bus_id in (branch.from_bus_id, branch.to_bus_id):
                    k = index[bus_id]
                    if self.node[k] >= 0:
                        self.shunt[self.node[k]] += complex(branch.g_s, branch.b_s) / 2 * volt[k] ** 2 / MEGA
        self.root = np.array([self.node[index[p.bus_id]] for p in network.infeed_points], dtype=int)
        self.held, first = np.unique(self.root, return_index=True)
        volts = [p.voltage_ppm / PPM * np.exp(1j * np.deg2rad(p.angle_deg)) for p in network.infeed_points]
        self.held_v = np.array(volts, dtype=complex)[first]
        self.amp = 3**0.5 * volt / MEGA  # MVA per A
        self.from_bus, self.to_bus, self.index = from_bus, to_bus, index
        self.rows: dict[
            Any, dict[tuple[LimitKind, str], tuple[float, float]]
        ] = {}  # limits of the last rules asked for

    @cached_property
    def tree(self) -> Tree:
        return tree_of(self.nodes, self.held, self.held_v, self.f, self.t, self.z, self.a, self.shunt, self.half)


@lru_cache(maxsize=4)
def _grid_of(grid: AcGrid) -> _Grid:
    return _Grid(grid)


class _Dual:
    def __init__(self, e: Evidence, certificate: Certificate) -> None:
        self.e, self.case, self.g = e, e.case, _grid_of(e.grid)
        self.duals = {d.slot: d for d in certificate.duals}
        self.stored = {u.unit_id: np.array(u.worth_eur_per_mwh) for u in certificate.stored}
        self.called = {c.offer_id: np.maximum(np.array(c.worth_eur_per_mwh), 0.0) for c in certificate.called}
        self.energy = infeed_price(e)
        self.alive = e.before.converged
        slots = e.case.slots
        self.least = np.zeros(slots)  # what the grid costs at least, EUR per hour
        self.worth = {q: np.zeros((slots, len(e.case.network.buses))) for q in Quantity}
        self.pools = _pools(e.case)
        self.limits = _limit_rows(e)
        self.bands = self._bands()
        self.tops = {(kind, element): self._top(kind, element) for kind, element in self.limits if kind in CURRENTS}
        self.currents = self._currents_up_to()
        self.near = is_from_nearer(e)
        before = e.before
        self.base_root = self._gathered(before.root_p_w), self._gathered(before.root_q_var)

    def _gathered(self, power: Real) -> Real:
        """Return the power of the whole node of every infeed point, MW."""
        same = self.g.root[:, None] == self.g.root[None, :]
        return np.asarray(np.nan_to_num(power) @ same / MEGA)

    def value(self) -> float | None:
        for t in np.flatnonzero(self.alive).tolist():
            self.least[t] = self._slot(t)
        total = float(self.least.sum() - self.earnings.total())
        return total * self.e.hours if np.isfinite(total) else None

    def gaps(self) -> Real:
        """Return what every slot costs beyond its own bound, EUR, once `value` is known; NaN = no bound."""
        e, alive = self.e, self.g.node >= 0
        change_p, change_q = ((a - b)[:, alive] / MEGA for a, b in ((e.p, e.base_p), (e.q, e.base_q)))
        sold = self.worth[Quantity.ACTIVE][:, alive] * change_p + self.worth[Quantity.REACTIVE][:, alive] * change_q
        rest = self._violations() + sold.sum(axis=1) - self.least + self.earnings.missed
        found = state_costs(e) + rest * e.hours
        return np.where(self.alive & np.isfinite(found), found, np.nan)

    def _violations(self) -> Real:
        """Return what the violations that stay cost per slot, EUR per hour."""
        g, after = self.g, self.e.after
        alive = np.flatnonzero(g.node >= 0)
        v = np.ones((self.e.case.slots, g.nodes))
        v[:, g.node[alive]] = np.abs(after.voltage_pu[:, alive])
        low, high, price_low, price_high = self.bands
        found = (
            np.nan_to_num(np.maximum(low - v, 0.0)) @ price_low + np.nan_to_num(np.maximum(v - high, 0.0)) @ price_high
        )
        root = self._gathered(after.root_p_w)
        place = {p.infeed_id: k for k, p in enumerate(self.case.network.infeed_points)}
        for kind, size in (
            (LimitKind.CURRENT_FROM, after.i_from_a[:, g.kept] * g.amp[g.from_bus]),
            (LimitKind.CURRENT_TO, after.i_to_a[:, g.kept] * g.amp[g.to_bus]),
            (LimitKind.APPARENT_POWER_FROM, np.hypot(after.p_from_w, after.q_from_var)[:, g.kept] / MEGA),
            (LimitKind.APPARENT_POWER_TO, np.hypot(after.p_to_w, after.q_to_var)[:, g.kept] / MEGA),
            (LimitKind.IMPORT, root),
            (LimitKind.EXPORT, -root),
        ):
            mine = [(element, *row) for (word, element), row in self.limits.items() if word is kind]
            if mine:
                ids, bound, price = zip(*mine, strict=True)
                at = [(place if kind in (LimitKind.IMPORT, LimitKind.EXPORT) else g.at)[i] for i in ids]
                found += np.nan_to_num(np.maximum(size[:, at] - np.array(bound), 0.0)) @ np.array(price)
        return np.asarray(found)

    @cached_property
    def earnings(self) -> Earnings:
        return Earnings(self.case, self.worth, self.g.node >= 0, self.alive, self.stored, self.called, self.e.taken)

    # --- the grid of one slot ---

    def _slot(self, t: int) -> float:
        g, d = self.g, self.duals.get(t)
        if d is None and not self.energy[t].any():
            return 0.0  # nothing costs anything, and the baseline breaks nothing: all multipliers are zero
        voltage = np.zeros(self.g.nodes, dtype=complex)
        alive = np.flatnonzero(g.node >= 0)
        voltage[g.node[alive]] = self.e.after.voltage_pu[t, alive]
        if np.abs(voltage).max(initial=0.0) > V_TOP or np.abs(voltage).min(initial=V_TOP) < V_LOW:
            return -np.inf
        u, ends, constant = self._worths(t, d)
        drop = np.array(d.drop) if d is not None else self._drop(u, voltage)
        if len(drop) != len(g.kept):
            return -np.inf
        a_p = ends[0] - ends[1] + 2 * g.r * drop
        a_q = ends[2] - ends[3] + 2 * g.x * drop
        a_l = g.r * ends[1] + g.x * ends[3] - g.z2 * drop
        w_from = g.g * ends[0] - g.b * ends[2] - drop
        w_to = g.g * ends[1] - g.b * ends[3] + drop
        for dual in d.limits if d is not None else ():
            if dual.kind in CURRENTS:
                n, mu, free, _ = self._current(t, dual)
                constant -= free
                if dual.kind is LimitKind.CURRENT_FROM:
                    mu /= float(g.a2[n])
                    a_l[n] += mu
                    a_p[n] += 2 * mu * g.g[n]
                    a_q[n] -= 2 * mu * g.b[n]
                    w_from[n] += mu * g.h2[n]
                else:
                    a_l[n] += mu * (1 + 2 * (g.g[n] * g.r[n] - g.b[n] * g.x[n]))
                    a_p[n] -= 2 * mu * g.g[n]
                    a_q[n] += 2 * mu * g.b[n]
                    w_to[n] += mu * g.h2[n]
        constant -= float(u[0] @ self._s(t).real + u[1] @ self._s(t).imag)
        w_low, w_high, most = np.full(g.nodes, V_LOW**2), np.full(g.nodes, V_TOP**2), self.currents[t]
        if d is not None and len(d.cuts) == len(g.kept) and len(g.kept):
            boxes, k = self.boxes, self.boxed[t]
            w_low, w_high, most = boxes.w_low[k], boxes.w_high[k], np.minimum(most, boxes.l_high[k])
            sigma = np.maximum(np.array(d.cuts), 0.0)
            w_far, by_p, by_q, least = (part[k] for part in boxes.cut())
            # What leaves a branch at its far end: P - r l and Q - x l, or -P and -Q if that is its from side.
            inward = g.tree.inward
            sign = np.where(inward, 1.0, -1.0) * sigma
            a_p += sign * by_p
            a_q += sign * by_q
            a_l += sigma * (w_far + np.where(inward, 0.0, by_p * g.r + by_q * g.x))
            constant += float(sigma @ least)
        weight = u[0] * g.shunt.real - u[1] * g.shunt.imag
        square = a_p**2 + a_q**2
        # Where a branch may carry current for nothing, its current ends at what voltages and rating allow.
        least = np.sqrt(square / (4 * most) * w_high[g.f]) / np.abs(g.a)
        lifted = np.maximum(a_l, least)
        cone = np.divide(square, 4 * lifted, out=np.zeros_like(square), where=lifted > 0)
        lift = float((np.maximum(lifted, 0.0) - a_l) @ most)
        np.add.at(weight, g.f, (w_from - cone) / g.a2)
        np.add.at(weight, g.t, w_to)
        return float(constant + self._voltages(t, weight, w_low, w_high) - lift)

    def _worths(self, t: int, d: SlotDuals | None) -> tuple[tuple[Real, Real], list[Real], float]:
        """Return worths at the nodes, worths of what enters the branches (P from, P to, Q from, Q to), a constant."""
        g, e = self.g, self.e
        if d is not None:
            u_p, u_q = np.array(d.balance_p), np.array(d.balance_q)
            if len(u_p) != g.nodes or len(u_q) != g.nodes:
                return (np.full(g.nodes, np.nan), np.zeros(g.nodes)), [np.zeros(len(g.kept))] * 4, -np.inf
        else:
            u_p, u_q = np.zeros(g.nodes), np.zeros(g.nodes)
            price_p, price_q = nodal_prices_of_flow(e, t, self.energy[t])
            alive = np.flatnonzero(g.node >= 0)
            u_p[g.node[alive]], u_q[g.node[alive]] = price_p[alive], price_q[alive]
        # What enters at an infeed point costs what it costs: there the worth is no choice.
        u_p[g.held] = u_q[g.held] = 0.0
        np.add.at(u_p, g.root, self.energy[t])
        constant = -float(self.energy[t] @ self.base_root[0][t])
        more: list[Real] = [np.zeros(len(g.kept)) for _ in range(4)]
        for dual in d.limits if d is not None else ():
            if dual.kind in (LimitKind.IMPORT, LimitKind.EXPORT):
                bound, price = self.limits[dual.kind, dual.element_id]
                mu = min(max(dual.value, 0.0), price)
                k = next(k for k, p in enumerate(e.case.network.infeed_points) if p.infeed_id == dual.element_id)
                u_p[g.root[k]] += mu if dual.kind is LimitKind.IMPORT else -mu
                constant -= mu * bound
            elif dual.kind in APPARENT:
                bound, price = self.limits[dual.kind, dual.element_id]
                size = np.hypot(dual.value, dual.value_q)
                part = min(1.0, price / size) if size else 0.0
                n, at = g.at[dual.element_id], 0 if dual.kind is LimitKind.APPARENT_POWER_FROM else 1
                more[at][n] += part * dual.value
                more[2 + at][n] += part * dual.value_q
                constant -= part * size * bound
            elif dual.kind in CURRENTS:
                n, _, _, flow = self._current(t, dual)
                at = 0 if dual.kind is LimitKind.CURRENT_FROM else 1
                more[at][n] += flow[0]
                more[2 + at][n] += flow[1]
        asked = {r.request_id: r.value for r in d.requests} if d is not None else {}
        for key, members in self.pools[t].items():
            constant += self._request(t, key, members, asked, u_p, u_q, more)
        alive = np.flatnonzero(g.node >= 0)
        self.worth[Quantity.ACTIVE][t, alive] += u_p[g.node[alive]]
        self.worth[Quantity.REACTIVE][t, alive] += u_q[g.node[alive]]
        ends = [u_p[g.f] + more[0], u_p[g.t] + more[1], u_q[g.f] + more[2], u_q[g.t] + more[3]]
        return (u_p, u_q), ends, constant

    def _request(
        self,
        t: int,
        key: tuple[Any, ...],
        members: list[Request],
        asked: dict[str, float],
        u_p: Real,
        u_q: Real,
        more: list[Real],
    ) -> float:
        """Add what delivery is worth to requests that share a place; return minus their surplus."""
        _, where, place, quantity, sign = key
        steps = [s for r in members for s in r.slots[t].steps]
        most = max(0, *(s.price_milli_per_mwh for s in steps)) / 1e3
        worth = min(max((asked.get(r.request_id, 0.0) for r in members), default=0.0), most)
        surplus = sum(max(0.0, s.price_milli_per_mwh / 1e3 - worth) * s.quantity / MEGA for s in steps)
        active = quantity is Quantity.ACTIVE
        if where is Location.INFEED_POINT:
            k = next(k for k, p in enumerate(self.case.network.infeed_points) if p.infeed_id == place)
            (u_p if active else u_q)[self.g.root[k]] += sign * worth
            return float(-surplus - sign * worth * self.base_root[0 if active else 1][t, k])
        if where is Location.BRANCH:
            k = next(k for k, b in enumerate(self.case.network.branches) if b.branch_id == place)
            n, before = self.g.at[str(place)], self.e.before
            at = 0 if self.near[k] else 1
            more[at if active else 2 + at][n] += sign * worth
            flows = (before.p_from_w, before.p_to_w) if active else (before.q_from_var, before.q_to_var)
            return float(-surplus - sign * worth * flows[at][t, k] / MEGA)
        for k, bus in enumerate(self.case.network.buses):
            inside = where is Location.AREA or place == (bus.bus_id if where is Location.BUS else bus.zone_id)
            if inside and self.g.node[k] >= 0:
                self.worth[quantity][t, k] += sign * worth
        return -surplus

    def _drop(self, u: tuple[Real, Real], v: Complex) -> Real:
        """Return the multipliers of the voltage drops that fit prices at an AC state (least squares of two rows)."""
        g = self.g
        inner = v[g.f] / g.a
        w = np.abs(inner) ** 2
        s = inner * np.conj((inner - v[g.t]) / g.z)
        a_l = g.r * u[0][g.t] + g.x * u[1][g.t]
        left = u[0][g.f] - u[0][g.t] + 2 * a_l * s.real / w, u[1][g.f] - u[1][g.t] + 2 * a_l * s.imag / w
        by = 2 * g.r - 2 * g.z2 * s.real / w, 2 * g.x - 2 * g.z2 * s.imag / w
        return np.asarray(-(left[0] * by[0] + left[1] * by[1]) / (by[0] ** 2 + by[1] ** 2))

    def _current(self, t: int, dual: LimitDual) -> tuple[int, float, float, tuple[float, float]]:
        """Return branch, multiplier of the squared current, what it costs at least, and multipliers of the flow.

        What a current costs beyond its bound is at least the chord of its square, and at least what its flow needs at
        the highest voltage: together both stay under its price.
        """
        bound, price = self.limits[dual.kind, dual.element_id]
        n = self.g.at[dual.element_id]
        least, most = self._range_in_box(t, dual.kind, n)
        top = max(bound, min(float(self.tops[dual.kind, dual.element_id][t]), most))
        least = min(max(bound, least), top)
        mu, flow = max(dual.value, 0.0), np.hypot(dual.flow_p, dual.flow_q)
        volt = self._highest(t, dual.kind, n)
        asked = mu * (least + top) + flow * volt
        part = min(1.0, price / asked) if asked > 0 else 0.0
        free = part * (mu * (bound * (least + top) - least * top) + flow * volt * bound)
        return n, part * mu, float(free), (part * dual.flow_p, part * dual.flow_q)

    def _highest(self, t: int, kind: LimitKind, n: int) -> float:
        """Return the highest voltage at an end of a branch."""
        end = (self.g.f if kind is LimitKind.CURRENT_FROM else self.g.t)[n]
        return float(np.sqrt(self.boxes.w_high[self.boxed[t], end])) if t in self.boxed else V_TOP

    def _range_in_box(self, t: int, kind: LimitKind, n: int) -> tuple[float, float]:
        """Return between what the current at an end of a branch lies, whatever the offers do."""
        if t not in self.boxed:
            return 0.0, np.inf
        g, k, at_from = self.g, self.boxed[t], kind is LimitKind.CURRENT_FROM
        ratio = float(np.abs(g.a[n])) if at_from else 1.0
        end = (g.f if at_from else g.t)[n]
        charging = float(np.sqrt(g.h2[n] * self.boxes.w_high[k, end])) / ratio
        least, most = (float(np.sqrt(square[k, n])) for square in (self.boxes.l_low, self.boxes.l_high))
        return (least - charging) / ratio, (most + charging) / ratio

    def _top(self, kind: LimitKind, element: str) -> Real:
        """Return the current of a branch (pu) up to which the bound holds, per slot, whatever the offers can do."""
        at_from, n = kind is LimitKind.CURRENT_FROM, self.g.at[element]
        scale = float(self.g.amp[(self.g.from_bus if at_from else self.g.to_bus)[n]])
        seen = [(s.i_from_a if at_from else s.i_to_a)[:, self.g.kept[n]] * scale for s in (self.e.before, self.e.after)]
        return np.fmax(I_TOP * self.limits[kind, element][0], np.fmax(*seen))

    def _currents_up_to(self) -> Real:
        """Return the squared series currents (pu) up to which the bound holds, slots x branches."""
        g = self.g
        most = np.tile(V_TOP * (1 / np.abs(g.a) + 1) / np.abs(g.z), (self.e.case.slots, 1))
        charging = np.sqrt(g.h2) * V_TOP
        for (kind, element), top in self.tops.items():
            n = g.at[element]
            ratio = float(np.abs(g.a[n])) if kind is LimitKind.CURRENT_FROM else 1.0
            most[:, n] = np.minimum(most[:, n], top * ratio + float(charging[n]) / min(ratio, 1.0))
        return np.asarray(most**2)

    def _s(self, t: int) -> Complex:
        s = np.zeros(self.g.nodes, dtype=complex)
        alive = np.flatnonzero(self.g.node >= 0)
        np.add.at(s, self.g.node[alive], (self.e.base_p[t] + 1j * self.e.base_q[t])[alive] / MEGA)
        return s

    def _voltages(self, t: int, weight: Real, w_low: Real, w_high: Real) -> float:
        """Return the least of weight x squared voltage plus priced violations, node by node."""
        g, e = self.g, self.e
        held = np.zeros(g.nodes)
        alive = np.flatnonzero(g.node >= 0)
        held[g.node[alive]] = np.abs(e.after.voltage_pu[t, alive]) ** 2
        low, high, price_low, price_high = self.bands
        # The price of a voltage too low is convex: its least may be where its slope is that of the weight.
        slope = np.divide(price_low, 2 * weight, out=np.full(g.nodes, np.inf), where=weight > 0)
        best = np.full(g.nodes, np.inf)
        for w in (w_low, low**2, high**2, w_high, np.minimum(slope, low) ** 2):
            w = np.clip(w, w_low, w_high)
            cost = weight * w
            cost += price_low * np.maximum(low - np.sqrt(w), 0)
            cost += price_high * np.maximum(np.sqrt(w) - high, 0)
            best = np.minimum(best, cost)
        best[g.held] = (weight * held)[g.held]
        return float(best.sum())

    def _bands(self) -> tuple[Real, Real, Real, Real]:
        g = self.g
        low, high = np.zeros(g.nodes), np.full(g.nodes, V_TOP)
        price_low, price_high = np.zeros(g.nodes), np.zeros(g.nodes)
        for (kind, element), (bound, price) in self.limits.items():
            if kind in (LimitKind.VOLTAGE_MIN, LimitKind.VOLTAGE_MAX):
                n = int(g.node[g.index[element]])
                values, prices = (low, price_low) if kind is LimitKind.VOLTAGE_MIN else (high, price_high)
                values[n], prices[n] = bound, price
        return low, high, price_low, price_high

    @cached_property
    def boxed(self) -> dict[int, int]:
        return {t: k for k, t in enumerate(sorted(t for t, d in self.duals.items() if len(d.cuts)))}

    @cached_property
    def boxes(self) -> Boxes:
        """What bounds the states of the slots that use it."""
        g, slots = self.g, list(self.boxed)
        low, high = (self._at_nodes(part[slots]) for part in injected_range(self.case))
        s = np.array([self._s(t) for t in slots])
        return boxes_of(g.tree, s + low, s + high, np.abs(g.held_v) ** 2, self.currents[slots])

    def _at_nodes(self, power: Complex) -> Complex:
        made = np.zeros((len(power), self.g.nodes), dtype=complex)
        alive = self.g.node >= 0
        np.add.at(made.T, self.g.node[alive], power[:, alive].T)
        return made


def _pools(case: Case) -> list[dict[tuple[Any, ...], list[Request]]]:
    pools: list[dict[tuple[Any, ...], list[Request]]] = [defaultdict(list) for _ in range(case.slots)]
    for r in sorted(case.requests, key=lambda r: r.request_id):
        place = "" if r.location_kind is Location.AREA else r.location_id
        for t, entry in enumerate(r.slots):
            if entry.steps:
                pools[t][r.kind, r.location_kind, place, r.quantity, r.direction.sign].append(r)
    return pools


def _limit_rows(e: Evidence) -> dict[tuple[LimitKind, str], tuple[float, float]]:
    """Return bound (pu of voltage, MVA, MW) and price of every limit."""
    kept, rules = _grid_of(e.grid).rows, (e.case.settings, e.case.limit_prices)
    if rules in kept:
        return kept[rules]
    settings, network = e.case.settings, e.case.network
    margin, share = settings.voltage_margin_ppm / PPM, 1 - settings.loading_margin_ppm / PPM
    buses = {b.bus_id: b for b in network.buses}
    branches = {b.branch_id: b for b in network.branches}
    points = {p.infeed_id: p for p in network.infeed_points}

    def bound(kind: LimitKind, element: str) -> float:
        if kind is LimitKind.VOLTAGE_MAX:
            return buses[element].max_voltage_ppm / PPM - margin
        if kind is LimitKind.VOLTAGE_MIN:
            return buses[element].min_voltage_ppm / PPM + margin
        if kind in (LimitKind.IMPORT, LimitKind.EXPORT):
            point = points[element]
            return ((point.max_import_w if kind is LimitKind.IMPORT else point.max_export_w) or 0) / MEGA
        branch = branches[element]
        if kind in APPARENT:
            return (branch.max_apparent_power_va or 0) / MEGA * share
        at_from = kind is LimitKind.CURRENT_FROM
        amps = (branch.max_from_current_ma if at_from else branch.max_current_ma) or 0
        bus = buses[branch.from_bus_id if at_from else branch.to_bus_id]
        return amps / 1e3 * share * 3**0.5 * bus.nominal_voltage_v / MEGA

    kept.clear()
    found = excesses(e, e.before)
    kept[rules] = {(kind, element): (bound(kind, element), price) for kind, element, _, price in found}
    return kept[rules]
