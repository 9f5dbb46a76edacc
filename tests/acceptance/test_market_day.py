"""The market day as a user sees it: the default demo, played as fast as the bus goes, on a real grid and Kafka."""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flexbus import events as ev
from flexbus.views.fact import Fact
from streams.demo.run import Day, Options

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(900)]

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


@dataclass
class Played:
    """A finished day with everything that was said and seen."""

    day: Day
    summary: dict[str, Any]
    facts: list[Fact]
    report: Path
    script: str  # what the README's loop over its script printed until the gate was open

    @property
    def session(self) -> dict[str, Any]:
        (area,) = self.summary["areas"].values()
        session: dict[str, Any]
        (session,) = area["sessions"].values()
        return session

    def of(self, kind: type[Any]) -> list[Any]:
        return [f.event for f in self.facts if isinstance(f.event, kind)]


def save_readme_script(day: Day, folder: Path) -> None:
    """Save the README's script as it says, in a folder outside the tree that has the environment beside it."""
    (script,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len([line for line in script.splitlines() if line.strip()]) <= 15
    assert day.connection is not None
    (folder / "example.py").write_text(script.replace("127.0.0.1:9092", day.connection.bootstrap), encoding="utf-8")
    (folder / ".venv").symlink_to(sys.prefix)


def start_readme_loop(folder: Path) -> "subprocess.Popen[str]":
    """Start the README's shell loop, word for word."""
    (loop,) = re.findall(r"```\n(until .*?)```", README, re.DOTALL)
    return subprocess.Popen(["bash", "-c", loop], cwd=folder, stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    folder = tmp_path_factory.mktemp("day")
    facts: list[Fact] = []
    loop: subprocess.Popen[str] | None = None
    printed = ""

    def see(fact: Fact) -> None:
        nonlocal loop, printed
        facts.append(fact)
        # As a newcomer does: begun before the gate opens, so that it has to try again until the offer is in.
        if loop is None and isinstance(fact.event, ev.AreaOpened):
            save_readme_script(day, folder)
            loop = start_readme_loop(folder)
        if loop is not None and not printed and isinstance(fact.event, ev.FlexOfferSubmitted):
            printed, _ = loop.communicate(timeout=120)
            assert loop.returncode == 0

    day = Day(Options(run_dir=folder / "run", speed=0, report=folder / "report.html"), lambda _: None, see)
    try:
        day.start()
        summary = day.play()
        yield Played(day, summary, facts, day.report(), printed)
    finally:
        if loop is not None and loop.poll() is None:
            loop.kill()
        day.close()


def test_the_grid_had_a_problem_and_the_market_solved_it(played: Played) -> None:
    congestion = played.session["congestion"]
    assert congestion["forecast"]["violated_slots"] > 0
    assert congestion["cleared"]["violated_slots"] == 0
    assert played.session["clearing"]["shortfall_wh"] == 0


def test_every_slot_stands_on_a_rung_that_was_verified_in_ac(played: Played) -> None:
    clearing = played.session["clearing"]
    assert set(clearing["status"]) <= {"IDLE", "EXACT", "REPAIRED"}
    assert sum(clearing["status"].values()) == 96
    assert clearing["worst_ac_violation_ppm"] <= 1


def test_an_external_power_flow_agrees_with_the_cleared_dispatch(played: Played) -> None:
    """Newton's method of another program on the grid's own data, with the awards added, keeps every limit."""
    import numpy as np
    import pandapower as pp

    from clearing.convert.simbench import load_simbench, simbench_day

    (cleared,) = played.of(ev.MarketCleared)
    data = simbench_day("1-MV-rural--2-sw", "sunny")
    network = data.network
    index = {b.bus_id: k for k, b in enumerate(network.buses)}
    p_w = data.power_w.astype(float)
    for award in cleared.awards:
        first = (award.start_ms - cleared.start_ms) // 900_000
        for n, w in enumerate(award.power_w):
            p_w[first + n, index[award.bus_id]] += award.direction.sign * w
    net = load_simbench("1-MV-rural--2-sw")
    net.load["in_service"] = net.sgen["in_service"] = net.storage["in_service"] = False
    bus_of = {b.bus_id: int(re.sub(r"\D", "", b.bus_id)) for b in network.buses}
    rows = [pp.create_sgen(net, bus_of[b.bus_id], 0.0) for b in network.buses]
    low = np.array([b.min_voltage_ppm for b in network.buses]) / 1e6
    high = np.array([b.max_voltage_ppm for b in network.buses]) / 1e6
    buses = [bus_of[b.bus_id] for b in network.buses]
    for slot in range(0, 96, 4):
        net.sgen.loc[rows, "p_mw"] = p_w[slot] / 1e6
        net.sgen.loc[rows, "q_mvar"] = data.reactive_power_var[slot] / 1e6
        pp.runpp(net, tolerance_mva=1e-10)
        voltage = net.res_bus.vm_pu.loc[buses].to_numpy()
        assert (voltage <= high + 1e-6).all(), f"slot {slot}: {np.nanmax(voltage)}"
        assert (voltage >= low - 1e-6).all(), f"slot {slot}: {np.nanmin(voltage)}"
        assert net.res_line.loading_percent.max() <= 100 + 1e-3


def test_every_part_of_the_story_happened(played: Played) -> None:
    session = played.session
    activations, delivery, settlement = session["activations"], session["delivery"], session["settlement"]
    assert activations["refused"] == 1
    assert activations["stopped"] >= 1
    assert activations["acknowledged"] + activations["refused"] == activations["ordered"]
    assert activations["timed_out"] == 0
    assert delivery["under_delivered"] >= 1
    assert settlement["corrected"] >= 1
    assert settlement["approved"] == settlement["settlements"] > 0
    assert session["offers"]["clipped"] >= 1
    assert played.of(ev.FlexOfferReplaced)
    assert played.of(ev.FlexOfferWithdrawn)


def test_forecasts_became_requests_and_requests_have_a_status(played: Played) -> None:
    derived = [e for e in played.of(ev.FlexRequestSubmitted) if "MANUAL" not in e.request.causes]
    assert derived
    assert {e.request_id for e in played.of(ev.ProcurementStatusChanged)} >= {e.request.request_id for e in derived}


def test_what_was_left_over_went_up_to_the_tso_and_came_back_in_exact_shares(played: Played) -> None:
    (activated,) = played.of(ev.AggregateActivated)
    (split,) = played.of(ev.AggregateDisaggregated)
    for slot, wanted in enumerate(activated.power_w):
        assert sum(s.power_w[slot] for s in split.shares) + split.unserved_w[slot] == wanted
    orders = [e for e in played.of(ev.ActivationOrdered) if e.tso_activation_id == activated.tso_activation_id]
    assert sum(sum(o.power_w) for o in orders) == sum(sum(s.power_w) for s in split.shares)
    assert {o.orderer_id for o in orders} == {"tso"}


def test_invoice_lines_add_up_to_the_cent(played: Played) -> None:
    settlements = [*played.of(ev.SettlementComputed), *played.of(ev.SettlementCorrected)]
    assert settlements
    for settlement in settlements:
        assert sum(line.amount_cents for line in settlement.invoice) == settlement.total_cents
        for line in settlement.invoice:
            assert line.amount_cents == line.remuneration_cents - line.penalty_cents


def test_hostile_input_was_refused_with_its_reasons_and_nothing_stopped(played: Played) -> None:
    faults = played.summary["rejections"]
    assert {"NOT_YOURS_OR_UNKNOWN", "BAD_QUANTITY", "NOT_DECODABLE", "GATE_CLOSED"} <= set(faults)


def test_the_report_is_one_file_without_outside_resources(played: Played) -> None:
    text = played.report.read_text(encoding="utf-8")
    assert "<svg" in text
    assert not re.search(r"""(src|href)=["']https?://""", text)


def test_the_replay_proves_chain_views_and_clearing(played: Played) -> None:
    result = played.day.verify()
    assert result.ok, result.text()


def test_fifteen_lines_outside_the_tree_read_the_cleared_market(played: Played, tmp_path: Path) -> None:
    """The README's script offers as an FSP while the gate is open, and reads the cleared market into pandas after."""
    assert len(played.script.splitlines()) == 1  # grep lets the verdict through that ends the loop, and nothing else
    assert "ACCEPTED" in played.script
    assert any(f.event.offer.offer_id == "my-battery-1" for f in played.facts if hasattr(f.event, "offer"))
    save_readme_script(played.day, tmp_path)
    command = [str(tmp_path / ".venv" / "bin" / "python"), "example.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "GATE_CLOSED" in done.stdout
    assert "price" in done.stdout
