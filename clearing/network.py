"""The grid as arrays: per unit, zero-impedance branches fused, islands and infeed points found, oriented.

Canonical: nodes, branches and infeed points are sorted by id, so that the arrays, and with them every digit of
a clearing, do not depend on the order in which a network model lists its elements.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

from flexbus.events.grid import NetworkModelPublished

__all__ = ["Grid", "build_grid"]

Real = NDArray[np.float64]
Complex = NDArray[np.complexfloating[Any, Any]]
Index = NDArray[np.int_]

SQRT3 = 3.0**0.5
BASE_W = 1e6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Grid:
    """Arrays of a network in per unit of 1 MVA and nominal voltage.

    Buses are those of the model sorted by id; a node is a set of buses joined by zero-impedance branches;
    branches are the closed ones with an impedance, between energised nodes, sorted by id.
    """

    bus_ids: tuple[str, ...]
    node_of_bus: Index  # node of each bus, -1 = not energised
    nodes: int
    v_min: Real  # per node, tightest of its buses, pu
    v_max: Real
    bus_of_v_max: Index  # bus whose limit is the tightest
    bus_of_v_min: Index
    shunt: Complex  # per node, pu admittance
    branch_ids: tuple[str, ...]
    from_node: Index
    to_node: Index
    y: Complex  # series admittance, pu
    half: Complex  # shunt admittance at each end, pu
    ratio: Complex  # complex ratio at the from side
    max_i_from: Real  # pu of current, inf = none
    max_i_to: Real
    max_s: Real  # pu of power, inf = none
    infeed_ids: tuple[str, ...]
    infeed_node: Index
    held: Index  # nodes whose voltage is held
    held_v: Complex
    free: Index
    max_import: Real  # per infeed point, pu, inf = none
    max_export: Real
    y_bus: sparse.csr_matrix
    y_from: sparse.csr_matrix
    y_to: sparse.csr_matrix
    y_all: sparse.csr_matrix  # the three above each other: from, to, bus
    parent: Index  # branch towards the infeed in a breadth-first tree, -1 at held nodes
    outward: NDArray[np.int_]  # per branch +1 = from side nearer to the infeed, -1 = to side nearer
    order: Index  # nodes, breadth first from the infeed points
    radial: bool

    def node_index(self) -> dict[str, int]:
        """Return the node of every bus id; -1 = not energised."""
        return {b: int(n) for b, n in zip(self.bus_ids, self.node_of_bus, strict=True)}


@lru_cache(maxsize=4)
def build_grid(network: NetworkModelPublished, *, voltage_margin_ppm: int = 0, loading_margin_ppm: int = 0) -> Grid:
    """Return the arrays of a network model that has passed `clearing.check`.

    Args:
        network: the network model.
        voltage_margin_ppm: taken off both ends of every voltage band, millionths of nominal.
        loading_margin_ppm: taken off every thermal limit, millionths of the limit.
    """
    buses = sorted(network.buses, key=lambda b: b.bus_id)
    branches = sorted(network.branches, key=lambda b: b.branch_id)
    points = sorted(network.infeed_points, key=lambda p: p.infeed_id)
    index = {b.bus_id: k for k, b in enumerate(buses)}
    nominal = np.array([b.nominal_voltage_v for b in buses], dtype=float)
    f = np.array([index[b.from_bus_id] for b in branches], dtype=int)
    t = np.array([index[b.to_bus_id] for b in branches], dtype=int)
    z = np.array([complex(b.r_ohm, b.x_ohm) for b in branches], dtype=complex)
    closed = np.array([b.closed for b in branches], dtype=bool)
    root_bus = np.array([index[p.bus_id] for p in points], dtype=int)

    bonds = closed & (z == 0)
    raw = _components(len(buses), f[bonds], t[bonds])
    live = closed & (z != 0)
    island = _components(len(buses), f[closed], t[closed])
    fed = np.isin(island, island[root_bus])
    # Nodes are numbered by their first bus in canonical order.
    numbers: dict[int, int] = {}
    node_of_bus = np.full(len(buses), -1)
    for k in range(len(buses)):
        if fed[k]:
            node_of_bus[k] = numbers.setdefault(int(raw[k]), len(numbers))
    n = len(numbers)

    v_min, v_max = np.full(n, -np.inf), np.full(n, np.inf)
    bus_min, bus_max = np.zeros(n, dtype=int), np.zeros(n, dtype=int)
    shunt = np.zeros(n, dtype=complex)
    zero_charging = np.zeros(len(buses), dtype=complex)
    z_base = nominal**2 / BASE_W
    charging = np.array([complex(b.g_s, b.b_s) for b in branches], dtype=complex)
    for k in np.flatnonzero(bonds).tolist():
        zero_charging[f[k]] += charging[k] / 2
        zero_charging[t[k]] += charging[k] / 2
    margin = voltage_margin_ppm / 1e6
    for b, bus in enumerate(buses):
        node = int(node_of_bus[b])
        if node < 0:
            continue
        low, high = bus.min_voltage_ppm / 1e6 + margin, bus.max_voltage_ppm / 1e6 - margin
        if low > v_min[node]:
            v_min[node], bus_min[node] = low, b
        if high < v_max[node]:
            v_max[node], bus_max[node] = high, b
        shunt[node] += (complex(bus.shunt_g_s, bus.shunt_b_s) + zero_charging[b]) * z_base[b]

    keep = np.flatnonzero(live & (node_of_bus[f] >= 0) & (node_of_bus[t] >= 0))
    fn, tn = node_of_bus[f[keep]], node_of_bus[t[keep]]
    y = z_base[t[keep]] / z[keep]
    half = charging[keep] / 2 * z_base[t[keep]]
    ratio = np.array([branches[k].ratio * np.exp(1j * np.deg2rad(branches[k].shift_deg)) for k in keep])
    ratio = ratio.astype(complex)
    share = 1 - loading_margin_ppm / 1e6
    i_base = BASE_W / SQRT3 / nominal
    max_i_to = np.array([_limit(branches[k].max_current_ma, 1e3 * i_base[t[k]]) for k in keep]) * share
    max_i_from = np.array([_limit(branches[k].max_from_current_ma, 1e3 * i_base[f[k]]) for k in keep]) * share
    max_s = np.array([_limit(branches[k].max_apparent_power_va, BASE_W) for k in keep]) * share

    rows = np.arange(len(keep))
    shape = (len(keep), n)
    cols = (np.r_[rows, rows], np.r_[fn, tn])
    y_from = sparse.csr_matrix((np.r_[(y + half) / np.abs(ratio) ** 2, -y / np.conj(ratio)], cols), shape=shape)
    y_to = sparse.csr_matrix((np.r_[-y / ratio, y + half], cols), shape=shape)
    at_from = sparse.csr_matrix((np.ones(len(keep)), (fn, rows)), shape=(n, len(keep)))
    at_to = sparse.csr_matrix((np.ones(len(keep)), (tn, rows)), shape=(n, len(keep)))
    y_bus = sparse.csr_matrix(at_from @ y_from + at_to @ y_to + sparse.diags(shunt, format="csr"))

    infeed_node = node_of_bus[root_bus]
    held, first = np.unique(infeed_node, return_index=True)
    volts = np.array([p.voltage_ppm / 1e6 * np.exp(1j * np.deg2rad(p.angle_deg)) for p in points])
    parent, outward, order = _tree(n, fn, tn, held)
    return Grid(
        bus_ids=tuple(b.bus_id for b in buses),
        node_of_bus=node_of_bus,
        nodes=n,
        v_min=v_min,
        v_max=v_max,
        bus_of_v_max=bus_max,
        bus_of_v_min=bus_min,
        shunt=shunt,
        branch_ids=tuple(branches[k].branch_id for k in keep),
        from_node=fn,
        to_node=tn,
        y=y,
        half=half,
        ratio=ratio,
        max_i_from=max_i_from,
        max_i_to=max_i_to,
        max_s=max_s,
        infeed_ids=tuple(p.infeed_id for p in points),
        infeed_node=infeed_node,
        held=held,
        held_v=volts[first],
        free=np.setdiff1d(np.arange(n), held),
        max_import=np.array([_limit(p.max_import_w, BASE_W) for p in points]),
        max_export=np.array([_limit(p.max_export_w, BASE_W) for p in points]),
        y_bus=y_bus,
        y_from=y_from,
        y_to=y_to,
        y_all=sparse.vstack([y_from, y_to, y_bus], format="csr"),
        parent=parent,
        outward=outward,
        order=order,
        radial=len(keep) == n - len(held),
    )


def _limit(value: int | None, base: float) -> float:
    return np.inf if value is None else value / base


def _components(n: int, f: Index, t: Index) -> Index:
    graph = sparse.csr_matrix((np.ones(len(f)), (f, t)), shape=(n, n))
    return np.asarray(csgraph.connected_components(graph, directed=False)[1], dtype=int)


def _tree(n: int, f: Index, t: Index, held: Index) -> tuple[Index, Index, Index]:
    """Walk breadth first from all held nodes at once, neighbours in branch order."""
    near: list[list[tuple[int, int]]] = [[] for _ in range(n)]
    for k, (a, b) in enumerate(zip(f.tolist(), t.tolist(), strict=True)):
        near[a].append((k, b))
        near[b].append((k, a))
    depth = np.full(n, -1)
    parent = np.full(n, -1)
    order = [int(h) for h in held]
    depth[held] = 0
    for node in order:
        for k, other in near[node]:
            if depth[other] < 0:
                depth[other], parent[other] = depth[node] + 1, k
                order.append(other)
    rank = np.empty(n, dtype=int)
    rank[order] = np.arange(len(order))
    outward = np.where(rank[f] <= rank[t], 1, -1) if len(f) else np.zeros(0, dtype=int)
    return parent, outward, np.array(order, dtype=int)
