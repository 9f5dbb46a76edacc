"""Kill -9 of any one service during the day does not change the final summary."""

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from flexbus import events as ev
from flexbus.views.fact import Fact
from streams.demo.run import Day, Options

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(600)]

GRID = "1-LV-rural1--2-sw"
# Service -> the fact at which it is killed: in the middle of the work that it does.
MOMENTS: dict[str, type[Any]] = {
    "sequencer": ev.FlexOfferReplaced,
    "scheduler": ev.ActivationOrdered,
    "congestion": ev.NetForecastPublished,
    "aggregation": ev.GateClosed,
    "traffic_light": ev.CapacityLimitForeseen,
    "clearing": ev.GateClosed,
    "activation": ev.ActivationAcknowledged,
    "settlement": ev.SettlementDue,
    "publisher": ev.MarketCleared,
    "monitor": ev.MarketCleared,
}


def _play(folder: Path, kill: tuple[str, type[Any]] | None = None) -> dict[str, Any]:
    killed = threading.Event()
    victim: list[int] = []
    day: Day

    def watch(fact: Fact) -> None:
        if kill is not None and isinstance(fact.event, kill[1]) and not killed.is_set():
            killed.set()
            assert day.supervisor is not None
            victim.append(day.supervisor.pids()[f"{kill[0]}-0"])
            os.kill(victim[0], signal.SIGKILL)

    day = Day(Options(run_dir=folder, grid=GRID, speed=0, report=folder / "report.html"), lambda _: None, watch)
    try:
        day.start()
        summary = day.play()
        if kill is not None:
            assert killed.is_set(), f"{kill[1].__name__} never came"
            assert day.supervisor is not None
            assert day.supervisor.pids()[f"{kill[0]}-0"] not in victim, "it was not started again"
        return summary
    finally:
        day.close()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return _play(tmp_path_factory.mktemp("undisturbed"))


def test_the_undisturbed_day_is_a_whole_day(undisturbed: dict[str, Any]) -> None:
    (area,) = undisturbed["areas"].values()
    (session,) = area["sessions"].values()
    assert session["clearing"]["awards"] > 0
    assert session["settlement"]["approved"] == session["settlement"]["settlements"] > 0


@pytest.mark.parametrize("service", MOMENTS)
def test_a_killed_service_changes_nothing(service: str, undisturbed: dict[str, Any], tmp_path: Path) -> None:
    assert _play(tmp_path, (service, MOMENTS[service])) == undisturbed
