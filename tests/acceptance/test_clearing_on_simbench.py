"""Cleared dispatches on SimBench grids hold in pandapower's own power flow on the raw nets, in every slot of the day.

Between slots only injections change, so pandapower keeps its admittances; a few slots are computed anew besides, to
see that they are the same.
"""

import warnings
from typing import Any

import numpy as np
import pandapower as pp
import pytest

from clearing import Case, Result, clear
from clearing.case import Quantity
from clearing.convert.cases import convert_case
from clearing.convert.simbench import load_simbench
from clearing.result import LimitKind

VOLTAGE_PU = 1e-6
POWER_MW = 1e-5
# pandapower: what changes from slot to slot, and slots (each so many) that it computes without this.
RECYCLE = {"bus_pq": True, "trafo": False, "gen": False}
ANEW = 32
GRIDS = ["1-LV-rural1--2-sw", "1-LV-urban6--2-sw", "1-MV-rural--2-sw", "1-MV-urban--2-sw"]


def injections(case: Case, result: Result) -> dict[str, np.ndarray]:
    """Baseline plus awards per bus, VA per slot, from the published files alone."""
    total: dict[str, np.ndarray] = {}
    for entry in case.baseline:
        s = np.array(entry.power_w) + 1j * np.array(entry.reactive_power_var)
        total[entry.bus_id] = total.get(entry.bus_id, 0) + s
    by_id = {offer.offer_id: offer for offer in case.offers}
    for award in result.offers:
        offer = by_id[award.offer_id]
        taken = np.array(award.quantity, dtype=float) * offer.direction.sign
        if offer.payback is not None:
            back = offer.payback
            echo = np.zeros(len(taken))
            for t in np.flatnonzero(taken):
                first = t + 1 + back.delay_slots
                echo[first : first + back.window_slots] += taken[t] * back.factor_ppm / 1e6 / back.window_slots
            taken = taken - echo
        s = taken * (1 + 1j * offer.tan_phi_ppm / 1e6) if offer.quantity is Quantity.ACTIVE else 1j * taken
        places = [(offer.bus_id, 1.0)] if offer.bus_id else [(x.bus_id, x.share_ppm / 1e6) for x in offer.shares]
        for bus, share in places:
            total[bus] = total.get(bus, 0) + s * share
    return total


def bare(code: str) -> Any:
    """The raw net with one static generator per bus instead of its own loads and generation."""
    net = load_simbench(code)
    for table in ("load", "sgen", "storage"):
        net[table]["in_service"] = False
    net.sgen_of_bus = {bus: pp.create_sgen(net, bus, 0.0, 0.0) for bus in net.bus.index}
    return net


class Limits:
    """The limits of a raw net, and how far each is exceeded: pu for voltages, MVA for branches, MW for infeeds."""

    def __init__(self, net: Any, case: Case) -> None:
        self.net, line, trafo = net, net.line, net.trafo
        self.free = net.bus.index.difference(net.ext_grid.bus)
        bus = net.bus.loc[self.free]
        self.high, self.low = bus.max_vm_pu.to_numpy(), bus.min_vm_pu.to_numpy()
        limit_ka = line.max_i_ka * line.parallel * line.df * line.max_loading_percent / 100
        self.line_ka, self.line_kv = limit_ka.to_numpy(), net.bus.vn_kv[line.from_bus].to_numpy()
        limit_mva = trafo.sn_mva * trafo.parallel * trafo.df * trafo.max_loading_percent / 100
        self.trafo_mva, self.hv, self.lv = (x.to_numpy() for x in (limit_mva, trafo.vn_hv_kv, trafo.vn_lv_kv))
        self.points = case.network.infeed_points
        ends = LimitKind.CURRENT_FROM, LimitKind.CURRENT_TO
        self.names = [(LimitKind.VOLTAGE_MAX, f"bus{b}") for b in self.free]
        self.names += [(LimitKind.VOLTAGE_MIN, f"bus{b}") for b in self.free]
        self.names += [(end, f"line{k}") for end in ends for k in line.index]
        self.names += [(end, f"transformer{k}") for end in ends for k in trafo.index]
        self.names += [(LimitKind.IMPORT, p.infeed_id) for p in self.points if p.max_import_w is not None]
        self.names += [(LimitKind.EXPORT, p.infeed_id) for p in self.points if p.max_export_w is not None]
        self.is_voltage = np.arange(len(self.names)) < 2 * len(self.free)

    def excess(self) -> np.ndarray:
        net, root = self.net, 3**0.5
        v, line, trafo = net.res_bus.vm_pu[self.free].to_numpy(), net.res_line, net.res_trafo
        power = {p.infeed_id: float(net.res_ext_grid.p_mw[int(p.infeed_id[6:])]) for p in self.points}
        return np.concatenate(
            [
                v - self.high,
                self.low - v,
                *((i.to_numpy() - self.line_ka) * root * self.line_kv for i in (line.i_from_ka, line.i_to_ka)),
                trafo.i_hv_ka.to_numpy() * root * self.hv - self.trafo_mva,
                trafo.i_lv_ka.to_numpy() * root * self.lv - self.trafo_mva,
                [power[p.infeed_id] - p.max_import_w / 1e6 for p in self.points if p.max_import_w is not None],
                [-power[p.infeed_id] - p.max_export_w / 1e6 for p in self.points if p.max_export_w is not None],
            ]
        )


# `make test` has each grid once, and each day twice.
DAYS = [
    pytest.param(code, day, marks=[pytest.mark.long] * (number % 2 == before))
    for number, code in enumerate(GRIDS)
    for before, day in enumerate(("winter", "sunny"))
]


@pytest.mark.slow
@pytest.mark.parametrize(("code", "day"), DAYS)
def test_no_slot_violates_a_limit(code: str, day: str) -> None:
    warnings.simplefilter("ignore")
    case = convert_case("simbench", code, day=day, offers=60, seed=7)
    result = clear(case)
    power = injections(case, result)
    net = bare(code)
    units = list(net.sgen_of_bus.values())
    injected = np.array([power.get(f"bus{bus}", np.zeros(case.slots)) for bus in net.sgen_of_bus]) / 1e6
    limits, worst_v, worst_s = Limits(net, case), 0.0, 0.0
    place = {name: k for k, name in enumerate(limits.names)}
    buses = {bus.bus_id: bus.voltage_ppm for bus in result.buses}
    published = np.array([buses[f"bus{bus}"] for bus in net.bus.index]).T / 1e6
    before = after = 0
    for t in range(case.slots):
        net.sgen.loc[units, "p_mw"], net.sgen.loc[units, "q_mvar"] = injected[:, t].real, injected[:, t].imag
        pp.runpp(net, tolerance_mva=1e-9, numba=False, calculate_voltage_angles=True, recycle=RECYCLE)
        excess, v = limits.excess(), net.res_bus.vm_pu.to_numpy().copy()
        if t % ANEW == 0:
            pp.runpp(net, tolerance_mva=1e-9, numba=False, calculate_voltage_angles=True)
            assert np.abs(v - net.res_bus.vm_pu.to_numpy()).max() < 1e-9
            assert np.abs(excess - limits.excess()).max() < 1e-8
        assert np.abs(v - published[t]).max() < 1e-6, t
        broken = [s for s in result.slots[t].shortfalls if s.kind is not LimitKind.REQUEST]
        for s in broken:
            excess[place[s.kind, s.element_id]] -= s.amount / 1e6
        worst_v = max(worst_v, float(excess[limits.is_voltage].max()))
        worst_s = max(worst_s, float(excess[~limits.is_voltage].max()))
        after += bool(broken)
        before += any(o.quantity[t] for o in result.offers)
    print(
        f"{code} {day}: V {worst_v:.1e} pu, S {worst_s:.1e} MVA, slots with awards {before}, "
        f"with a limit that stays broken {after}"
    )
    assert worst_v <= VOLTAGE_PU
    assert worst_s <= POWER_MW
    assert before > 0, "nothing was taken: the test would prove nothing"
