"""Are the nodal prices those of the limits that bind, in AC?

The price of a bus is what one more W there changes: the cost of infeed energy, and the worth of every limit and
request that the flow touches. All of it is one scalar function H of the voltages; one transposed solve with the
power flow's equations gives its derivative for every bus at once.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearing.case import Location, Quantity
from clearing.certificate.evidence import Evidence, Finding
from clearing.power_flow import AcGrid
from clearing.result import Binding, LimitKind

__all__ = [
    "check_prices",
    "infeed_price",
    "is_from_nearer",
    "nodal_prices",
    "nodal_prices_of_flow",
    "price_parts",
    "pulls",
]

Real = NDArray[np.float64]
Complex = NDArray[np.complexfloating[Any, Any]]
Row = tuple[NDArray[np.int_], Complex]  # nodes and admittances of a current
Worth = dict[tuple[object, ...], float]  # kind, where, place, quantity and sign of requests -> EUR per MWh
PARTS = ("energy", "losses", "voltage", "congestion")
VOLTAGE = (LimitKind.VOLTAGE_MAX, LimitKind.VOLTAGE_MIN)
# EUR per MWh: published multipliers have three decimals, and awards are whole watts.
TOLERANCE = 0.02
RELATIVE = 2e-4


def check_prices(e: Evidence) -> Iterator[Finding]:
    """Yield a finding for every price that is not the sum of its parts, or not that of AC."""
    index = {bus.bus_id: k for k, bus in enumerate(e.case.network.buses)}
    p, q = nodal_prices(e)
    apart = price_parts(e)
    for j, bus in enumerate(e.result.buses):
        for word, computed in (("p", p), ("q", q)):
            path = f"$.buses[{j}].{word}_price_milli_per_mwh"
            total = np.array(getattr(bus, f"{word}_price_milli_per_mwh"))
            parts = np.sum([getattr(bus, f"{word}_{part}_milli_per_mwh") for part in PARTS], axis=0)
            for t in np.flatnonzero(total != parts).tolist():
                yield Finding(f"{path}[{t}]", f"{total[t]} is not the sum {parts[t]} of its parts")
            scale = TOLERANCE + RELATIVE * np.abs(computed).max(axis=1)
            claims = [(path, total, computed[:, index[bus.bus_id]], "the binding limits give")]
            # Energy is what remains, requests included.
            for part in PARTS[1:]:
                published = np.array(getattr(bus, f"{word}_{part}_milli_per_mwh"))
                truth = apart[word, part][:, index[bus.bus_id]]
                claims.append((f"$.buses[{j}].{word}_{part}_milli_per_mwh", published, truth, f"{part} come to"))
            for where, published, truth, words in claims:
                for t in np.flatnonzero(np.abs(published / 1e3 - truth) > scale).tolist():
                    message = f"published {published[t] / 1e3:.3f}, {words} {truth[t]:.3f} EUR per MWh"
                    yield Finding(f"{where}[{t}]", message)


def price_parts(e: Evidence) -> dict[tuple[str, str], Real]:
    """Return the parts of the P and Q prices (slots x buses), EUR per MWh, without what requests at buses add.

    One more transposed solve for each: infeed energy, what an infeed changes at all, the limits of either kind.
    Energy is the mean price of the infeed points that it comes from; losses are what it costs more, or less.
    """
    shape = (e.case.slots, len(e.case.network.buses))
    made = {(word, part): np.zeros(shape) for word in ("p", "q") for part in PARTS}
    energy, worth = infeed_price(e), _worths(e)
    asked = [
        t
        for t in np.flatnonzero(e.before.converged & e.after.converged).tolist()
        if energy[t].any() or e.result.slots[t].binding or worth[t]
    ]
    slots: list[_Slot] = []
    for t in asked:
        bought, whole, voltage, congestion = (_Slot(e, t) for _ in range(4))
        for k, price in enumerate(energy[t].tolist()):
            bought.root(k, price)
            whole.root(k, 1.0)
        for binding in e.result.slots[t].binding:
            (voltage if binding.kind in VOLTAGE else congestion).limit(binding)
        congestion.flows(worth[t])
        slots += [bought, whole, voltage, congestion]
    by_p, by_q = (np.asarray(part).reshape(len(asked), 4, shape[1]) for part in _of_flow(e, slots))
    alive = e.grid.energised
    mean = np.divide(by_p[:, 0], by_p[:, 1], out=np.zeros_like(by_p[:, 0]), where=np.abs(by_p[:, 1]) > 1e-12)
    made["p", "energy"][asked] = mean * alive
    made["p", "losses"][asked], made["q", "losses"][asked] = (by_p[:, 0] - mean) * alive, by_q[:, 0] * alive
    for n, part in ((2, "voltage"), (3, "congestion")):
        made["p", part][asked], made["q", part][asked] = by_p[:, n] * alive, by_q[:, n] * alive
    return made


def pulls(e: Evidence, t: int) -> list[tuple[Binding, Real, Real]]:
    """Return the binding limits of a slot with what each adds to the P and Q prices of all buses, EUR per MWh."""
    binding = e.result.slots[t].binding
    slots = []
    for limit in binding:
        slots.append(_Slot(e, t))
        slots[-1].limit(limit)
    by_p, by_q = _of_flow(e, slots)
    alive = e.grid.energised
    return [(limit, p * alive, q * alive) for limit, p, q in zip(binding, by_p, by_q, strict=True)]


def nodal_prices(e: Evidence) -> tuple[Real, Real]:
    """Return the P and Q prices (slots x buses), EUR per MWh, from the published bindings and the AC states."""
    shape = (e.case.slots, len(e.case.network.buses))
    p, q = np.zeros(shape), np.zeros(shape)
    energy = infeed_price(e)
    worth = _worths(e)
    asked_of = {}
    for t in np.flatnonzero(e.before.converged & e.after.converged).tolist():
        if energy[t].any() or e.result.slots[t].binding or worth[t]:
            asked_of[t] = _Slot(e, t)
            p[t], q[t] = asked_of[t].ask(energy[t], worth[t])
    slots = list(asked_of)
    by_p, by_q = _of_flow(e, list(asked_of.values()))
    p[slots] = (p[slots] + by_p) * e.grid.energised
    q[slots] = (q[slots] + by_q) * e.grid.energised
    return p, q


def _worths(e: Evidence) -> list[Worth]:
    """Return the published worth of delivery per slot and place of requests, EUR per MWh."""
    asked = {request.request_id: request for request in e.case.requests}
    worth: list[Worth] = [{} for _ in range(e.case.slots)]
    for got in e.result.requests:
        request = asked[got.request_id]
        pool = (request.kind, request.location_kind, request.location_id, request.quantity, request.direction.sign)
        for t, price in enumerate(got.price_milli_per_mwh):
            if price:
                worth[t][pool] = price / 1e3
    return worth


def _of_flow(e: Evidence, slots: list["_Slot"]) -> tuple[Real, Real]:
    """Return the P and Q prices (slots x buses) that follow from what was asked about the flow, EUR per MWh."""
    if not slots:
        none = np.zeros((0, len(e.case.network.buses)))
        return none, none
    by_p, by_q = e.grid.adjoint(np.array([s.v for s in slots]).T, np.array([s.g for s in slots]).T)
    node = e.grid.node_of_bus
    p, q = by_p.T + [s.direct_p for s in slots], by_q.T + [s.direct_q for s in slots]
    return -p[:, node], -q[:, node]


def nodal_prices_of_flow(e: Evidence, t: int, energy: Real) -> tuple[Real, Real]:
    """Return the P and Q prices (buses) of a slot in which no limit binds, EUR per MWh."""
    slot = _Slot(e, t)
    for k, price in enumerate(energy.tolist()):
        slot.root(k, price)
    p, q = _of_flow(e, [slot])
    return p[0] * e.grid.energised, q[0] * e.grid.energised


def is_from_nearer(e: Evidence) -> NDArray[np.bool_]:
    """Tell per branch whether its from side is the one nearer to the infeed."""
    return _nearer(e.grid)


def infeed_price(e: Evidence) -> Real:
    """Return the price of infeed energy (slots x infeed points), EUR per MWh."""
    given = {price.infeed_id: price.price_milli_per_mwh for price in e.case.infeed_prices}
    return (
        np.array(
            [
                given.get(point.infeed_id, (point.import_price_milli_per_mwh,) * e.case.slots)
                for point in e.case.network.infeed_points
            ],
            dtype=float,
        ).T
        / 1e3
    )


class _Slot:
    """The derivative of H at one AC state."""

    def __init__(self, e: Evidence, t: int) -> None:
        self.e, self.t, self.grid = e, t, e.grid
        network = e.case.network
        self.bus = {b.bus_id: k for k, b in enumerate(network.buses)}
        self.branch = {b.branch_id: k for k, b in enumerate(network.branches)}
        self.infeed = {x.infeed_id: k for k, x in enumerate(network.infeed_points)}
        v = np.zeros(e.grid.nodes, dtype=complex)
        v[e.grid.node_of_bus] = e.after.voltage_pu[t]
        self.v = v
        self.g = np.zeros(e.grid.nodes, dtype=complex)
        self.direct_p = np.zeros(e.grid.nodes)
        self.direct_q = np.zeros(e.grid.nodes)

    @property
    def rank(self) -> list[int]:
        """Place of every node in a walk from the infeed points."""
        return _ranks(self.grid)

    def ask(self, energy: Real, worth: Worth) -> tuple[Real, Real]:
        """Add what presses on the flow; return what requests at buses add to the P and Q prices (buses)."""
        for k, price in enumerate(energy.tolist()):
            self.root(k, price)
        for binding in self.e.result.slots[self.t].binding:
            self.limit(binding)
        self.flows(worth)
        inside_p, inside_q = np.zeros(len(self.bus)), np.zeros(len(self.bus))
        for (_, where, place, quantity, sign), price in worth.items():
            assert isinstance(sign, int)
            if where not in (Location.INFEED_POINT, Location.BRANCH):
                target = inside_p if quantity is Quantity.ACTIVE else inside_q
                target += sign * price * self._inside(where, str(place))
        return inside_p, inside_q

    def flows(self, worth: Worth) -> None:
        """Add the requests over branches and at infeed points."""
        for (_, where, place, quantity, sign), price in worth.items():
            assert isinstance(sign, int)
            part = 1.0 if quantity is Quantity.ACTIVE else 1j
            if where is Location.INFEED_POINT:
                self.root(self.infeed[str(place)], sign * price, part)
            elif where is Location.BRANCH:
                self._flow(self.branch[str(place)], sign * price, part)

    def limit(self, binding: Binding) -> None:
        """Add a binding limit."""
        self._limit(binding.kind, binding.element_id, binding.price_milli / 1e3)

    def _inside(self, where: object, place: str) -> Real:
        return np.array(
            [
                where is Location.AREA
                or (where is Location.BUS and b.bus_id == place)
                or (where is Location.ZONE and b.zone_id == place)
                for b in self.e.case.network.buses
            ],
            dtype=float,
        )

    def root(self, k: int, weight: float, part: complex = 1.0) -> None:
        """Add what enters at an infeed point."""
        node = int(self.grid.node_of_bus[self.bus[self.e.case.network.infeed_points[k].bus_id]])
        self._power(node, self.grid.row(node), weight, part)
        # What is injected at the infeed node itself need not come from upstream.
        (self.direct_p if part == 1.0 else self.direct_q)[node] -= weight

    def _flow(self, k: int, weight: float, part: complex) -> None:
        row, node = self._near_end(k)
        self._power(node, row, weight, part)

    def _near_end(self, k: int) -> tuple[Row, int]:
        """The end of a branch that is nearer to the infeed, by number of branches, ties by canonical order."""
        f, t = self._ends(k)
        at_from = self.rank[f] <= self.rank[t]
        return self.grid.end(k, at_from), f if at_from else t

    def _ends(self, k: int) -> tuple[int, int]:
        branch = self.e.case.network.branches[k]
        node = self.grid.node_of_bus
        return int(node[self.bus[branch.from_bus_id]]), int(node[self.bus[branch.to_bus_id]])

    def _power(self, node: int, row: Row, weight: float, part: complex) -> None:
        # dS = conj(i) dv + v conj(y dv); the part of S along `part` as Re(conj(g) dv).
        nodes, y = row
        self.g[node] += weight * part * complex(y @ self.v[nodes])
        self.g[nodes] += weight * np.conj(part) * self.v[node] * np.conj(y)

    def _limit(self, kind: LimitKind, element: str, weight: float) -> None:
        if kind in (LimitKind.VOLTAGE_MAX, LimitKind.VOLTAGE_MIN):
            node = int(self.grid.node_of_bus[self.bus[element]])
            sign = 1.0 if kind is LimitKind.VOLTAGE_MAX else -1.0
            self.g[node] += sign * weight * self.v[node] / abs(self.v[node])
        elif kind in (LimitKind.IMPORT, LimitKind.EXPORT):
            self.root(self.infeed[element], weight if kind is LimitKind.IMPORT else -weight)
        else:
            k = self.branch[element]
            at_from = kind in (LimitKind.CURRENT_FROM, LimitKind.APPARENT_POWER_FROM)
            nodes, y = row = self.grid.end(k, at_from)
            node = self._ends(k)[0 if at_from else 1]
            current = complex(y @ self.v[nodes])
            if kind in (LimitKind.CURRENT_FROM, LimitKind.CURRENT_TO):
                self.g[nodes] += weight * np.conj(y) * current / max(abs(current), 1e-12)
            else:
                power = self.v[node] * np.conj(current)
                self._power(node, row, weight, power / max(abs(power), 1e-12))


@lru_cache(maxsize=4)
def _ranks(grid: AcGrid) -> list[int]:
    """Return the place of every node in a breadth-first walk from the infeed points, neighbours in the order of ids."""
    network, node = grid.network, grid.node_of_bus.tolist()
    at = {b.bus_id: node[k] for k, b in enumerate(network.buses)}
    first: dict[int, str] = {}
    for bus in sorted(network.buses, key=lambda b: b.bus_id):
        first.setdefault(at[bus.bus_id], bus.bus_id)
    near: dict[int, list[int]] = {k: [] for k in range(grid.nodes)}
    for branch in sorted(network.branches, key=lambda b: b.branch_id):
        if branch.closed and (branch.r_ohm or branch.x_ohm):
            f, t = at[branch.from_bus_id], at[branch.to_bus_id]
            near[f].append(t)
            near[t].append(f)
    walk = sorted({at[x.bus_id] for x in network.infeed_points}, key=lambda k: first[k])
    seen = set(walk)
    for k in walk:
        for other in near[k]:
            if other not in seen:
                seen.add(other)
                walk.append(other)
    place = {k: n for n, k in enumerate(walk)}
    return [place.get(k, len(place)) for k in range(grid.nodes)]


@lru_cache(maxsize=4)
def _nearer(grid: AcGrid) -> NDArray[np.bool_]:
    rank, node = _ranks(grid), grid.node_of_bus.tolist()
    at = {b.bus_id: node[k] for k, b in enumerate(grid.network.buses)}
    ends = [(at[b.from_bus_id], at[b.to_bus_id]) for b in grid.network.branches]
    return np.array([rank[f] <= rank[t] for f, t in ends], dtype=bool)
