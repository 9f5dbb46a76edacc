"""Kill -9 of any service during the day does not change the final summary, nor does a rolling restart of all.

One bus plays the same day, that of the low-voltage grid, again and again, each time in an area of its own and a week
later; in each some services are killed in the middle of their work, and come back to a journal that has grown. In the
last all are restarted in good order, one after the other, and Kafka itself when they are through, while offers flow in
other areas. Compared is the whole final summary: every number of the area, and what was refused in it by code; the page
of the running monitor must show the same numbers. What was sent, all days long, is counted by `tests.chaos.checker`.
(The day of the medium-voltage grid is played whole in test_market_day.py.)
"""

import json
import os
import signal
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from flexbus import events as ev
from flexbus.views.fact import Fact
from streams.broker import Broker
from streams.demo.run import Day, Options
from streams.demo.scenario import another_day
from streams.demo.world import World
from streams.kafka import Connection
from streams.page.model import PageState, fold_rejection, summary
from streams.services import SERVICES
from streams.supervisor import Supervisor
from streams.topics import create_topics
from tests.chaos.__main__ import settled
from tests.chaos.load import AREAS, NotingPorts, Offers, Sends, later
from tests.integration import core
from tests.integration.bus import wait_for

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(900)]

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
# Three or four a day, each when the one before is back.
KILLED = (
    ("sequencer", "publisher", "settlement"),
    ("congestion", "aggregation", "scheduler"),
    ("traffic_light", "clearing", "monitor", "activation"),
)
# When every service has been restarted; what is left of the day goes through a Kafka that is new.
LAST: type[Any] = ev.SettlementComputed
OFFERS_PER_SECOND = 30


class Bus:
    """A running bus on which days are played one after the other."""

    def __init__(self, day: Day) -> None:
        self._day = day
        self._weeks = 0
        self.sends = Sends()

    def play(self, name: str, *killed: str) -> dict[str, Any]:
        """Play the day in an area of its own, killing services each at its fact; return its final summary."""
        supervisor = self._supervisor
        victims: dict[str, int] = {}

        def watch(fact: Fact) -> None:
            for service in killed:
                if isinstance(fact.event, MOMENTS[service]) and service not in victims:
                    victims[service] = supervisor.pids()[f"{service}-0"]
                    os.kill(victims[service], signal.SIGKILL)

        found = self._played(f"kill-{name}", watch)
        supervisor.wait_ready(120)
        for service in killed:
            assert service in victims, f"{MOMENTS[service].__name__} never came"
            assert supervisor.pids()[f"{service}-0"] != victims[service], f"{service} was not started again"
        return found

    def play_restarting(self, moments: dict[str, type[Any]]) -> dict[str, Any]:
        """Play the day; at its fact each service is ended in good order, and the day goes on when it is back.

        The last is Kafka: stopped and started at its old address.
        """
        waiting = dict(moments)
        brokers: list[int | None] = []

        def watch(fact: Fact) -> None:
            for service in [s for s, kind in waiting.items() if isinstance(fact.event, kind)]:
                del waiting[service]
                before = self._supervisor.pids()[f"{service}-0"]
                os.kill(before, signal.SIGTERM)
                wait_for(partial(self._is_replaced, f"{service}-0", before))
                self._supervisor.wait_ready(120)
            if isinstance(fact.event, LAST) and not brokers:
                assert waiting == {}, "Kafka comes last"
                brokers.extend(self._restart_broker())
                self._supervisor.wait_ready(120)

        found = self._played("restarted", watch)
        assert brokers, f"{LAST.__name__} never came"
        before, after = brokers
        assert None not in (before, after)
        assert before != after
        return found

    def _restart_broker(self) -> tuple[int | None, int | None]:
        """Return Kafka's process ids before and after."""
        broker = Broker(self._day.options.run_dir / "broker")
        before = broker.status()
        assert before.bootstrap is not None
        broker.stop()
        broker = Broker(broker.data_dir, port=int(before.bootstrap.rpartition(":")[2]))
        assert broker.start() == before.bootstrap
        return before.pid, broker.status().pid

    @property
    def connection(self) -> Connection:
        assert self._day.connection is not None
        return self._day.connection

    @property
    def _supervisor(self) -> Supervisor:
        assert self._day.supervisor is not None
        return self._day.supervisor

    def _is_replaced(self, worker: str, before: int) -> bool:
        return self._supervisor.pids().get(worker, before) != before

    def _played(self, area_id: str, watch: Callable[[Fact], None]) -> dict[str, Any]:
        assert self._day.world is not None
        scenario = another_day(self._day.world.scenario, area_id, 7 * self._weeks)
        self._weeks += 1
        world = World(NotingPorts(self.connection, sends=self.sends), scenario, lambda _: None, 0.0, watch)
        try:
            world.play()
            core.eventually(lambda: self._page_shows(world), 60, "the monitor's page shows other numbers")
            return final(world)
        finally:
            world.close()

    def _page_shows(self, world: World) -> bool:
        """Tell whether the running page has of this area what a fold from the journal's beginning has."""
        area_id = world.scenario.area_id
        wanted = summary(world.mirror.page)["areas"][area_id]
        try:
            with urllib.request.urlopen(self._supervisor.url("page") + "summary", timeout=30) as answer:
                shown = json.load(answer)["areas"].get(area_id)
        except OSError:  # it has just been killed, and the next one has not told its address yet
            return False
        return bool(shown == json.loads(json.dumps(wanted)))


def final(world: World) -> dict[str, Any]:
    """Return the final summary of a world's own area, without its id and the session's, which tells the date."""
    area_id = world.scenario.area_id
    area = summary(world.mirror.page)["areas"][area_id]
    area["sessions"] = list(area["sessions"].values())
    own = PageState()  # the page counts what was refused on the whole bus, so in the areas before this one too
    for rejection in world.mirror.rejected:
        if rejection.area_id == area_id:
            fold_rejection(own, rejection)
    return {**area, "rejections": summary(own)["rejections"]}


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bus]:
    folder = tmp_path_factory.mktemp("kills")
    day = Day(Options(run_dir=folder, grid="1-LV-rural1--2-sw", speed=0), lambda _: None)
    try:
        day.start()
        yield Bus(day)
    finally:
        day.close()


@pytest.fixture(scope="module")
def undisturbed(bus: Bus) -> dict[str, Any]:
    return bus.play("nobody")


def test_the_undisturbed_day_is_a_whole_day(undisturbed: dict[str, Any]) -> None:
    (session,) = undisturbed["sessions"]
    assert session["clearing"]["awards"] > 0
    assert session["settlement"]["approved"] == session["settlement"]["settlements"] > 0
    assert undisturbed["grid"]["buses"] > 0
    assert undisturbed["participants"]["FSP"] == 5
    assert undisturbed["connection_points"] > 0
    # What is no Avro but JSON is told what it lacks as an event, too.
    not_decodable = {"NOT_DECODABLE", "MISSING_FIELD"}
    assert set(undisturbed["rejections"]) == {"BAD_QUANTITY", "GATE_CLOSED", "NOT_YOURS_OR_UNKNOWN"} | not_decodable


def test_every_service_is_killed() -> None:
    assert sorted(service for day in KILLED for service in day) == sorted(MOMENTS) == sorted(SERVICES)


@pytest.mark.long  # in `make test` chaos kills all of them, and compares its days as well
@pytest.mark.parametrize("services", KILLED, ids="-".join)
def test_killed_services_change_nothing(services: tuple[str, str], bus: Bus, undisturbed: dict[str, Any]) -> None:
    assert bus.play("-".join(services), *services) == undisturbed


def test_a_rolling_restart_under_load_changes_nothing(bus: Bus, undisturbed: dict[str, Any]) -> None:
    create_topics(bus.connection, core.PARTIES)
    core.open_gates(bus.connection, AREAS, later)
    offers = Offers(bus.connection, seed=1, per_second=OFFERS_PER_SECOND)
    offers.start()
    try:
        found = bus.play_restarting(MOMENTS)
    finally:
        offers.stop()
    assert found == undisturbed
    report = settled(bus.connection, offers.sends.acknowledged + bus.sends.acknowledged)
    assert report.ok, report
    assert report.marked > 500
    assert offers.sends.failed.total() == bus.sends.failed.total() == 0
