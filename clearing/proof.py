"""Proof that an AC state is the best one for its prices, without a solver: the dual of the relaxation in closed form.

At given worths of power at the nodes the Lagrangian of the branch flow relaxation falls apart into branches and buses
whose minima are known in closed form (derived in `clearing.certificate.bound`, which shares no code with this module).
With the multipliers of the AC state itself the bound meets the state's own cost exactly when the relaxation is exact
there. So a slot whose gap closes needs no cone solver: its relaxation has the AC state among its optima. Where the gap
stays open (reverse flow at the voltage limit, prices below zero, loops, priced violations) the solver has to look.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from clearing.certificate.boxes import I_TOP, V_LOW, V_TOP
from clearing.formulation import Pressed, SlotLimit, SlotMultipliers
from clearing.limits import LimitTable
from clearing.linearisation import Multipliers, Point
from clearing.network import Grid
from clearing.repair import Repair
from clearing.result import LimitKind

__all__ = ["AcDuals", "ac_duals"]

Real = NDArray[np.float64]
# Of all that a slot pays and earns: the tolerance that the cone solver would be run with.
CLOSED = 1e-9
CURRENTS = (LimitKind.CURRENT_FROM, LimitKind.CURRENT_TO)
APPARENT = (LimitKind.APPARENT_POWER_FROM, LimitKind.APPARENT_POWER_TO)
ROOTS = (LimitKind.IMPORT, LimitKind.EXPORT)
ENDS = {"pf": 0, "pt": 1, "qf": 2, "qt": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class AcDuals:
    """Multipliers of the relaxation at AC states (slots x nodes or branches), as `Relaxed` has them, and their worth.

    `bound` is what the grid costs at least at these worths, EUR per hour: energy, violations, less the worth of
    what is injected without market, and the noise of floats; `closed` tells where the AC state costs no more than that.
    """

    balance_p: Real
    balance_q: Real
    drop: Real
    limits: dict[int, list[Pressed]]
    bound: Real
    closed: NDArray[np.bool_]

    def slot(self, t: int) -> SlotMultipliers:
        """Return the multipliers of one slot."""
        return SlotMultipliers(
            balance_p=self.balance_p[t],
            balance_q=self.balance_q[t],
            drop=self.drop[t],
            limits=tuple(self.limits.get(t, ())),
        )


def ac_duals(repair: Repair, point: Point, multipliers: Multipliers, u_p: Real, u_q: Real) -> AcDuals:
    """Return the multipliers that belong to AC states, and in which slots they prove the state to be optimal.

    Args:
        repair: the optimisation, for grid, limits and prices.
        point: the dispatch with its AC states.
        multipliers: its duals.
        u_p: worth of active power (slots x nodes), EUR per MWh, without what requests at buses add.
        u_q: worth of reactive power (slots x nodes), EUR per Mvarh.
    """
    return _Duals(repair, point, multipliers, u_p.copy(), u_q.copy()).made()


class _Duals:
    def __init__(self, repair: Repair, point: Point, multipliers: Multipliers, u_p: Real, u_q: Real) -> None:
        self.repair, self.point, self.u_p, self.u_q = repair, point, u_p, u_q
        grid: Grid = repair.grid
        self.slots, m = repair.slots, len(grid.branch_ids)
        self.known = point.state.converged
        self.v = np.where(self.known[:, None], point.state.v, 1.0)
        u_p[:, grid.held] = u_q[:, grid.held] = 0.0
        for k, node in enumerate(grid.infeed_node.tolist()):
            u_p[:, node] += repair.energy_price[:, k]
        self.constant = np.zeros(self.slots)
        self.flows = np.zeros(self.slots)  # what measured requests lose by the flow as it is
        # What limits and requests add: worth of what enters branches (P from, P to, Q from, Q to), then directly
        # to the terms of P, Q and l, and to those of the squared voltages at both ends.
        self.entering = np.zeros((4, self.slots, m))
        self.direct = np.zeros((5, self.slots, m))
        self.limits: dict[int, list[Pressed]] = {}
        for (t, k), value in sorted(multipliers.limit.items()):
            self._limit(t, k, value)
        for k, value in sorted(multipliers.measured.items()):
            if value > 0:
                self._measured(k, value)

    def _limit(self, t: int, k: int, value: float) -> None:
        table, grid = self.repair.limits, self.repair.grid
        kind, j, bound, price = table.kinds[k], table.measures[k].index, float(table.bound[k]), float(table.price[k])
        parts = (value, 0.0)
        if kind in CURRENTS:
            mu = min(value / (2 * bound), price / ((1 + I_TOP) * bound))
            self.constant[t] -= mu * bound**2
            g, b, parts = float(grid.half[j].real), float(grid.half[j].imag), (mu, 0.0)
            square = float(abs(grid.half[j])) ** 2
            if kind is LimitKind.CURRENT_FROM:
                mu /= float(np.abs(grid.ratio[j])) ** 2
                self.direct[:, t, j] += np.array([2 * g, -2 * b, 1.0, square, 0.0]) * mu
            else:
                z = 1 / grid.y[j]
                along = 1 + 2 * (g * float(z.real) - b * float(z.imag))
                self.direct[:, t, j] += np.array([-2 * g, 2 * b, along, 0.0, square]) * mu
        elif kind in APPARENT:
            end = "f" if kind is LimitKind.APPARENT_POWER_FROM else "t"
            flow = complex(self.point.values[f"p{end}"][t, j], self.point.values[f"q{end}"][t, j])
            part = min(value, price) * flow / max(abs(flow), 1e-12)
            parts = (part.real, part.imag)
            self.entering[ENDS[f"p{end}"], t, j] += part.real
            self.entering[ENDS[f"q{end}"], t, j] += part.imag
            self.constant[t] -= min(value, price) * bound
        elif kind in ROOTS:
            self.u_p[t, grid.infeed_node[j]] += min(value, price) * float(table.sign[k])
            self.constant[t] -= min(value, price) * bound
        else:
            return  # limits of voltages are in the buses' minima
        self.limits.setdefault(t, []).append(Pressed(SlotLimit(kind, j, bound, price), *parts))

    def _measured(self, k: int, value: float) -> None:
        m = self.repair.market.measured[k]
        worth = m.sign * value
        if m.kind in ENDS:
            self.entering[ENDS[m.kind], m.slot, m.index] += worth
        else:
            target = self.u_p if m.kind == "root_p" else self.u_q
            target[m.slot, self.repair.grid.infeed_node[m.index]] += worth
        self.flows[m.slot] += worth * float(self.point.values[m.kind][m.slot, m.index])

    def made(self) -> AcDuals:
        repair, grid, point = self.repair, self.repair.grid, self.point
        f, t = grid.from_node, grid.to_node
        z = 1 / grid.y
        r, x, z2 = z.real, z.imag, np.abs(z) ** 2
        g, b = grid.half.real, grid.half.imag
        p_f, p_t = self.u_p[:, f] + self.entering[0], self.u_p[:, t] + self.entering[1]
        q_f, q_t = self.u_q[:, f] + self.entering[2], self.u_q[:, t] + self.entering[3]
        a_p, a_q = p_f - p_t + self.direct[0], q_f - q_t + self.direct[1]
        a_l = r * p_t + x * q_t + self.direct[2]
        inner = self.v[:, f] / grid.ratio
        flow = inner * np.conj((inner - self.v[:, t]) * grid.y) / np.abs(inner) ** 2
        # The multiplier of the voltage drop under which the state is stationary in P and Q (least squares of the two).
        by_p, by_q = 2 * r - 2 * z2 * flow.real, 2 * x - 2 * z2 * flow.imag
        left_p, left_q = a_p + 2 * a_l * flow.real, a_q + 2 * a_l * flow.imag
        drop = -(left_p * by_p + left_q * by_q) / (by_p**2 + by_q**2)
        square = (a_p + 2 * r * drop) ** 2 + (a_q + 2 * x * drop) ** 2
        slope = a_l - z2 * drop
        # A branch that gains by carrying more current has no minimum.
        cone = np.divide(square, 4 * slope, out=np.where(square > 0, np.inf, 0.0), where=slope > 0)
        w_from = g * p_f - b * q_f - drop + self.direct[3] - cone
        w_to = g * p_t - b * q_t + drop + self.direct[4]
        at_from, at_to = _gathers(grid)
        weight = self.u_p * grid.shunt.real - self.u_q * grid.shunt.imag
        weight = weight + (at_from @ w_from.T + at_to @ w_to.T).T
        s = repair.base.s
        injected = np.where(self.known, (self.u_p * s.real + self.u_q * s.imag).sum(axis=1), 0.0)
        bound = self.constant - injected + self._least(weight)
        market = point.state.s - s
        taken = np.where(self.known[:, None], self.u_p * market.real + self.u_q * market.imag, 0.0).sum(axis=1)
        with np.errstate(invalid="ignore"):
            priced = np.clip(point.excess, 0, None) @ repair.limits.price
            energy = (point.values["root_p"] * repair.energy_price).sum(axis=1)
            cost = energy + priced + self.flows + taken
            noise = CLOSED * (np.abs(energy) + np.abs(priced) + np.abs(injected) + np.abs(taken) + 1.0)
            closed = self.known & (cost - bound <= noise)
        return AcDuals(
            balance_p=self.u_p, balance_q=self.u_q, drop=drop, limits=self.limits, bound=bound - noise, closed=closed
        )

    def _least(self, weight: Real) -> Real:
        """Return the least of weight x squared voltage plus priced violations, summed over the nodes."""
        grid = self.repair.grid
        best = np.full(weight.shape, np.inf)
        low, price_low, corners = _corners(grid, self.repair.limits)
        with np.errstate(invalid="ignore", divide="ignore"):  # infinite weights of branches without a minimum
            for w, priced in corners:
                best = np.minimum(best, np.where(w > 0, weight * w, 0.0) + priced)
            # The price of a voltage too low is convex: its least may be where its slope is that of the weight.
            w = np.where(weight > 0, np.clip(price_low / (2 * weight), V_LOW, np.maximum(low, V_LOW)) ** 2, V_TOP**2)
            best = np.where(
                weight > 0, np.minimum(best, weight * w + price_low * np.maximum(low - np.sqrt(w), 0)), best
            )
        best[:, grid.held] = weight[:, grid.held] * np.abs(grid.held_v) ** 2
        return np.asarray(best.sum(axis=1))


@lru_cache(maxsize=4)
def _gathers(grid: Grid) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Return what adds up values of branches at their from and to nodes, those behind the ideal transformer."""
    lines, shape = np.arange(len(grid.branch_ids)), (grid.nodes, len(grid.branch_ids))
    at_from = sparse.csr_matrix((1 / np.abs(grid.ratio) ** 2, (grid.from_node, lines)), shape=shape)
    return at_from, sparse.csr_matrix((np.ones(len(lines)), (grid.to_node, lines)), shape=shape)


@lru_cache(maxsize=4)
def _corners(grid: Grid, table: LimitTable) -> tuple[Real, Real, tuple[tuple[Real, Real], ...]]:
    """Return low limits and their prices, and squared voltages between which nothing has a minimum, with their prices.

    Only below its low limit the price of a voltage is convex in the square, and may have its minimum in between.
    """
    low, high = np.zeros(grid.nodes), np.full(grid.nodes, V_TOP)
    price_low, price_high = np.zeros(grid.nodes), np.zeros(grid.nodes)
    for kind, measure, bound, price in zip(table.kinds, table.measures, table.bound, table.price, strict=True):
        if kind is LimitKind.VOLTAGE_MIN:
            low[measure.index], price_low[measure.index] = -bound, price
        elif kind is LimitKind.VOLTAGE_MAX:
            high[measure.index], price_high[measure.index] = bound, price
    found = []
    for corner in (np.full(grid.nodes, V_LOW), low, high, np.full(grid.nodes, V_TOP)):
        v = np.clip(corner, V_LOW, V_TOP)
        found.append((v**2, price_low * np.maximum(low - v, 0) + price_high * np.maximum(v - high, 0)))
    return low, price_low, tuple(found)
