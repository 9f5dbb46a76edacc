"""Converters against pandapower: every bus and branch of the raw nets, every kind of loss an error."""

import copy
import warnings
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandapower as pp
import pandapower.networks as pn
import pytest

from clearing.convert import ConversionError
from clearing.convert.pandapower import injections_from_pandapower, network_from_pandapower, read_pandapower
from clearing.convert.simbench import load_simbench, simbench_day
from clearing.power_flow import solve_ac
from flexbus.events.assets import AssetKind

warnings.filterwarnings("ignore", category=FutureWarning)


def small() -> Any:
    """A net with a transformer off its neutral tap, a shunt, parallel lines and switches of all kinds."""
    net = pp.create_empty_network()
    b = [pp.create_bus(net, vn_kv=kv, geodata=(k, 0)) for k, kv in enumerate([110, 20, 20, 20, 20, 20])]
    pp.create_ext_grid(net, b[0], vm_pu=1.02)
    trafo = pp.create_transformer(net, b[0], b[1], "25 MVA 110/20 kV", tap_pos=-3)
    lines = [
        pp.create_line(net, b[1], b[2], 4.0, "NA2XS2Y 1x240 RM/25 12/20 kV", parallel=2),
        pp.create_line(net, b[2], b[3], 3.0, "NA2XS2Y 1x240 RM/25 12/20 kV"),
        pp.create_line(net, b[1], b[4], 5.0, "NA2XS2Y 1x240 RM/25 12/20 kV", df=0.9),
        pp.create_line(net, b[3], b[4], 6.0, "NA2XS2Y 1x240 RM/25 12/20 kV"),
    ]
    pp.create_switch(net, b[4], b[5], et="b")
    pp.create_switch(net, b[3], lines[3], et="l", closed=False)  # line 3 hangs at bus 4, with its charging
    pp.create_switch(net, b[1], trafo, et="t")
    pp.create_shunt(net, b[3], q_mvar=-0.9, p_mw=0.05, step=2)
    for k, (p, q) in enumerate([(1.0, 0.3), (2.0, 0.5), (1.5, 0.2), (0.7, 0.1)]):
        pp.create_load(net, b[2 + k], p, q, scaling=0.8)
    pp.create_sgen(net, b[3], 3.0, -0.4)
    pp.create_storage(net, b[5], 0.5, 2.0, q_mvar=0.1)
    return net


def against_raw(net: Any) -> float:
    """Largest voltage difference to runpp on the raw net; powers of the infeed are asserted here."""
    network = network_from_pandapower(net, area_id="a", network_id="n")
    state = solve_ac(network, *injections_from_pandapower(net, network))
    raw = copy.deepcopy(net)
    pp.runpp(raw, tolerance_mva=1e-9, calculate_voltage_angles=True, numba=False)
    assert state.root_p_w.sum() / 1e6 == pytest.approx(raw.res_ext_grid.p_mw.sum(), abs=1e-5)
    assert state.root_q_var.sum() / 1e6 == pytest.approx(raw.res_ext_grid.q_mvar.sum(), abs=1e-5)
    return float(np.abs(np.abs(state.voltage_pu[0]) - raw.res_bus.vm_pu[raw.bus.in_service].to_numpy()).max())


def test_all_kinds_of_switch_tap_and_shunt() -> None:
    assert against_raw(small()) < 1e-8


def test_open_at_the_transformer_leaves_its_magnetising_current() -> None:
    net = small()
    extra = pp.create_bus(net, vn_kv=20)
    trafo = pp.create_transformer(net, 0, extra, "25 MVA 110/20 kV")
    pp.create_switch(net, extra, trafo, et="t", closed=False)
    pp.create_line(net, extra, 1, 0.5, "NA2XS2Y 1x240 RM/25 12/20 kV")
    assert against_raw(net) < 1e-8


@pytest.mark.parametrize("name", ["create_cigre_network_mv", "create_cigre_network_lv", "mv_oberrhein", "case33bw"])
def test_public_nets(name: str) -> None:
    assert against_raw(getattr(pn, name)()) < 1e-8


def test_limits_are_those_of_the_tables() -> None:
    network = network_from_pandapower(small(), area_id="a", network_id="n")
    by_id = {b.branch_id: b for b in network.branches}
    assert by_id["line0"].max_current_ma == 842_000  # 2 x 421 A
    assert by_id["line2"].max_current_ma == 378_900  # 421 A x 0.9
    assert by_id["transformer0"].max_from_current_ma == int(25e6 / 3**0.5 / 110)
    assert not by_id["line3"].closed
    assert by_id["switch0"].r_ohm == 0


def drop(net: Any, what: str) -> None:
    if what == "gen":
        pp.create_gen(net, 3, 1.0)
    elif what == "ward":
        pp.create_ward(net, 3, 0.1, 0.1, 0.1, 0.1)
    elif what == "impedance":
        pp.create_impedance(net, 2, 4, 0.1, 0.1, 10)
    elif what == "dcline":
        pp.create_dcline(net, 2, 4, 0.1, 1.0, 0.01, 1.0, 1.0)
    elif what == "load":
        pp.create_load(net, 2, 0.1, const_z_p_percent=50)


@pytest.mark.parametrize("what", ["gen", "ward", "impedance", "dcline", "load"])
def test_what_would_be_dropped_is_named(what: str) -> None:
    net = small()
    drop(net, what)
    with pytest.raises(ConversionError, match=f"{what} [04]"):
        network_from_pandapower(net, area_id="a", network_id="n")


def test_a_wrong_conversion_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    import clearing.convert.pandapower as module

    monkeypatch.setattr(module._Pi, "series_with", lambda self, y: 0)
    with pytest.raises(ConversionError, match="in pandapower"):
        network_from_pandapower(small(), area_id="a", network_id="n")


def test_file_that_is_no_net(tmp_path: Any) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"a": 1}')
    with pytest.raises(ConversionError, match="not a pandapower net"):
        read_pandapower(str(path))
    with pytest.raises(ConversionError, match="there is no such file"):
        read_pandapower(str(tmp_path / "y.json"))


@pytest.mark.parametrize("code", ["1-LV-rural1--2-sw", "1-MV-urban--0-sw"])
def test_simbench_day_is_the_librarys_own_day(code: str) -> None:
    import simbench

    sunny = simbench_day(code, "sunny")
    net = load_simbench(code)
    values = simbench.get_absolute_values(net, profiles_instead_of_study_cases=True)
    first = (sunny.day - sunny.day.replace(month=1, day=1)).days * 96
    index = {b.bus_id: k for k, b in enumerate(sunny.network.buses)}
    expect = np.zeros((96, len(index)))
    for table, sign in (("load", -1), ("sgen", 1), ("storage", -1)):
        frame = values[(table, "p_mw")].iloc[first : first + 96]
        for unit in net[table].index:
            expect[:, index[f"bus{net[table].bus.at[unit]}"]] += sign * frame[unit].to_numpy() * 1e6
    assert np.abs(sunny.power_w - expect).max() <= 0.5 * len(sunny.units)
    year = {table: values[(table, "p_mw")].to_numpy() for table in ("load", "sgen", "storage")}
    surplus = np.zeros(366 * 96)
    for table, sign in (("load", -1), ("sgen", 1), ("storage", -1)):
        surplus += sign * year[table].sum(axis=1) if year[table].size else 0
    assert first <= int(surplus.argmax()) < first + 96


@pytest.mark.parametrize(("word", "sign", "months"), [("winter", -1, {11, 12, 1, 2}), ("sunny", 1, {4, 5, 6, 7, 8, 9})])
def test_simbench_day_of_a_word_is_the_extreme_one_of_its_season(
    word: str, sign: int, months: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    import clearing.convert.simbench as module

    surplus = np.random.default_rng(1).normal(size=366 * 96)
    # The whole year's extreme is out of season, as it is in 1-LV-rural1--2-sw on 7 October.
    surplus[(date(2016, 10, 7) - date(2016, 1, 1)).days * 96 + 40] = sign * 1e3
    monkeypatch.setattr(module, "_surplus_of_the_year", lambda net: surplus)
    days = [date(2016, 1, 1) + timedelta(days=k) for k in range(366)]
    chosen = days[module._first_slot(None, word, "any") // 96]
    assert chosen.month in months
    most = (sign * surplus).reshape(-1, 96).max(axis=1)
    assert most[days.index(chosen)] == max(m for m, d in zip(most, days, strict=True) if d.month in months)


def test_simbench_day_of_a_date_and_its_units() -> None:
    day = simbench_day("1-LV-rural1--2-sw", "06-15")
    assert day.day.isoformat() == "2016-06-15"
    kinds = {unit.kind for unit in day.units}
    assert {AssetKind.PV, AssetKind.BATTERY, AssetKind.HEAT_PUMP, AssetKind.EV_CHARGER} <= kinds
    assert sum(sum(i.power_w) for i in day.injections()) == day.power_w.sum()
    assert all(bus.x is not None for bus in day.network.buses)


@pytest.mark.parametrize(("code", "day"), [("1-XV-rural", "winter"), ("1-LV-rural1--0-sw", "2017-01-01")])
def test_unknown_code_or_day(code: str, day: str) -> None:
    with pytest.raises(ConversionError, match=r"no such|2016"):
        simbench_day(code, day)
