"""Nodal prices of active and reactive power at an AC point, and what they consist of.

The price of a bus is the worth of one more unit of injection: minus the gradient of the cost at the AC state,
each binding limit weighted with its multiplier (envelope theorem). So energy, losses, voltage and congestion
are the terms of one sum, in radial and meshed grids alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clearing.case import Location, Offer, Quantity
from clearing.linearisation import Multipliers, Point
from clearing.repair import Repair
from clearing.result import LimitKind
from clearing.state import Measure

__all__ = ["NodalPrices", "Places", "nodal_prices", "worth_at"]

Real = NDArray[np.float64]
MEGA = 1e6
VOLTAGE = (LimitKind.VOLTAGE_MAX, LimitKind.VOLTAGE_MIN)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodalPrices:
    """Parts of the prices (slots x buses), EUR per MWh or Mvarh; the price is their sum.

    `pressure` holds, per slot, the limits that press with their multiplier and their pull on every bus
    (active, reactive): minus multiplier x gradient.
    """

    p: dict[str, Real]
    q: dict[str, Real]
    pressure: dict[int, list[tuple[int, float, Real, Real]]]

    def total_p(self) -> Real:
        """Return the price of active power (slots x buses), EUR per MWh."""
        return np.asarray(sum(self.p.values()))

    def physical(self) -> tuple[Real, Real]:
        """Return the prices without what requests at buses, in zones and in the area add."""
        return self.total_p() - self.p["requests"], self.total_q() - self.q["requests"]

    def energy_only(self) -> tuple[Real, Real]:
        """Return the prices (P, Q) without requests and limits: energy and losses."""
        return np.asarray(self.p["energy"] + self.p["losses"]), np.asarray(self.q["energy"] + self.q["losses"])

    def total_q(self) -> Real:
        """Return the price of reactive power (slots x buses), EUR per Mvarh."""
        return np.asarray(sum(self.q.values()))


def nodal_prices(repair: Repair, point: Point, multipliers: Multipliers) -> NodalPrices:
    """Return the prices at a point.

    Args:
        repair: the optimisation that found the point.
        point: the AC point.
        multipliers: its duals.
    """
    grid, market = repair.grid, repair.market
    slots, buses = repair.slots, len(grid.bus_ids)
    words = ("energy", "requests", "losses", "voltage", "congestion")
    p = {w: np.zeros((slots, buses)) for w in words}
    q = {w: np.zeros((slots, buses)) for w in words}
    pressure: dict[int, list[tuple[int, float, Real, Real]]] = {}
    alive = grid.node_of_bus >= 0
    node = np.maximum(grid.node_of_bus, 0)
    by_slot: dict[int, list[tuple[int, float]]] = {}
    for (t, k), value in sorted(multipliers.limit.items()):
        by_slot.setdefault(t, []).append((k, value))
    measured: dict[int, list[tuple[int, float]]] = {}
    for m, value in sorted(multipliers.measured.items()):
        if value > 0:
            measured.setdefault(market.measured[m].slot, []).append((m, value))
    priced = repair.base.converged & repair.energy_price.any(axis=1)
    by_p, by_q = (part[:, :, node] * alive for part in repair.root_gradients(point, priced))
    price = np.where(priced[:, None], repair.energy_price, 0.0)[:, :, None]
    whole = -by_p.sum(axis=1)
    infeed = -(price * by_p).sum(axis=1)
    p["energy"] = infeed / np.where(whole == 0, 1.0, whole)
    p["losses"] = infeed - p["energy"]
    q["losses"] = -(price * by_q).sum(axis=1)
    asked = sorted(by_slot.keys() | measured.keys())
    measures = [
        [repair.limits.measures[k] for k, _ in by_slot.get(t, [])]
        + [Measure(market.measured[m].kind, market.measured[m].index) for m, _ in measured.get(t, [])]
        for t in asked
    ]
    for t, (by_p, by_q) in zip(asked, repair.gradients.of(point.state, asked, measures), strict=True):
        limits, wanted = by_slot.get(t, []), measured.get(t, [])
        by_p, by_q = by_p[:, node] * alive, by_q[:, node] * alive
        for i, (k, value) in enumerate(limits):
            weight = -value * repair.limits.sign[k]
            word = "voltage" if repair.limits.kinds[k] in VOLTAGE else "congestion"
            pull_p, pull_q = weight * by_p[i], weight * by_q[i]
            p[word][t] += pull_p
            q[word][t] += pull_q
            pressure.setdefault(t, []).append((k, value, pull_p, pull_q))
        for i, (m, value) in enumerate(wanted):
            weight = -value * market.measured[m].sign
            r = len(limits) + i
            p["congestion"][t] += weight * by_p[r]
            q["congestion"][t] += weight * by_q[r]
    _add_requests(repair, multipliers, p["requests"], q["requests"])
    return NodalPrices(p=p, q=q, pressure=pressure)


def _add_requests(repair: Repair, multipliers: Multipliers, p: Real, q: Real) -> None:
    """Add what requests at buses, in zones and in the area pay for delivery there."""
    market, grid = repair.market, repair.grid
    done: set[int] = set()
    zones = repair.zones
    for (r, t), row in sorted(market.request_row.items()):
        value = -float(multipliers.structural[row]) if len(multipliers.structural) else 0.0
        if row in done or value <= 0:
            continue
        done.add(row)
        request = market.requests[r]
        inside = grid.node_of_bus >= 0
        if request.location_kind is Location.BUS:
            inside = inside & (np.array(grid.bus_ids) == request.location_id)
        elif request.location_kind is Location.ZONE:
            inside = inside & (zones == request.location_id)
        target = p if request.quantity is Quantity.ACTIVE else q
        target[t, inside] += value * request.direction.sign


def worth_at(offer: Offer, index: dict[str, int], p: Real, q: Real, horizon: int) -> Real:
    """Return the worth of one more unit of an offer per slot from prices per slot and bus.

    Args:
        offer: the offer.
        index: column of every bus in the prices.
        p: prices of active power (slots x buses).
        q: prices of reactive power (slots x buses).
        horizon: slots of a scenario; what comes back falls into the same one.
    """
    if offer.bus_id is not None:
        places = [(index[offer.bus_id], 1.0)]
    else:
        places = [(index[s.bus_id], s.share_ppm / MEGA) for s in offer.shares]
    active = offer.quantity is Quantity.ACTIVE
    tan = offer.tan_phi_ppm / MEGA
    total = np.zeros(len(p))
    for b, weight in places:
        total += weight * ((p[:, b] + tan * q[:, b]) if active else q[:, b])
    total *= offer.direction.sign
    if offer.payback is not None:
        back = offer.payback
        share = back.factor_ppm / MEGA / back.window_slots
        later = np.zeros(len(p))
        for t in range(len(p)):
            first = t + 1 + back.delay_slots
            end = min(first + back.window_slots, t - t % horizon + horizon)
            later[t] = total[first:end].sum() * share
        total = total - later
    return np.asarray(total)


class Places:
    """Where offers are: what one more unit of each is worth follows from prices by bus."""

    def __init__(self, offers: Sequence[Offer], index: dict[str, int], horizon: int) -> None:
        """Look the places up.

        Args:
            offers: the offers.
            index: column of every bus in the prices.
            horizon: slots of a scenario.
        """
        self._offers, self._index, self._horizon = offers, index, horizon
        self._plain = [k for k, o in enumerate(offers) if o.bus_id is not None and o.payback is None]
        self._others = sorted(set(range(len(offers))) - set(self._plain))
        plain = [offers[k] for k in self._plain]
        self._bus = [index[o.bus_id or ""] for o in plain]
        active = np.array([o.quantity is Quantity.ACTIVE for o in plain], dtype=float)
        tan = np.array([o.tan_phi_ppm for o in plain]) / MEGA
        sign = np.array([o.direction.sign for o in plain], dtype=float)
        self._of_p, self._of_q = active * sign, np.where(active > 0, tan, 1.0) * sign

    def worth(self, p: Real, q: Real) -> Real:
        """Return the worth of one more unit of every offer in every slot (offers x slots), EUR per MWh.

        Args:
            p: prices of active power (slots x buses).
            q: prices of reactive power (slots x buses).
        """
        worth = np.empty((len(self._offers), len(p)))
        worth[self._plain] = (p[:, self._bus] * self._of_p + q[:, self._bus] * self._of_q).T
        for k in self._others:
            worth[k] = worth_at(self._offers[k], self._index, p, q, self._horizon)
        return worth
