"""A market day told from gate to invoice, through every check and every stage, without Kafka.

100 (up-a) --- n1 --- n2          n3 --- 200 (up-b)
 import <= 600 kW   p1 p2         p3
n1 draws 1 MW: 400 kW are missing in every quarter-hour.
"""

from dataclasses import replace
from typing import Any

import pytest

from flexbus import events as ev
from flexbus.views import settlement
from flexbus.views.settlement import Settlements, SettlementState
from tests.memory_bus import MemoryBus
from tests.story import (
    AREA,
    DAY,
    GATE,
    HOUR,
    NETWORK,
    SLOT,
    Story,
    baseline,
    offer,
    only,
    opened,
    reading,
)

SENDERS: dict[type[Any], str] = {
    ev.NetworkModelPublished: "grid-dso",
    ev.NetForecastPublished: "grid-dso",
    ev.ConnectionPointRegistered: "grid-dso",
    ev.CapacityLimitUnforeseen: "grid-dso",
    ev.SettlementApproved: "grid-dso",
    ev.AggregateActivated: "tso",
    ev.MeterReadingReceived: "meters",
}


class Day:
    """The bus in memory, and everything that was said on it."""

    def __init__(self) -> None:
        self.said: list[Any] = []
        self.bus = MemoryBus(AREA, lambda fact: self.said.append(fact.event))

    def say(self, *events: Any) -> list[Any]:
        """Send events as the parties that may send them; return all that was said."""
        before = len(self.said)
        for event in events:
            terms = getattr(event, "offer", event)
            sender = SENDERS.get(type(event)) or getattr(terms, "fsp_id", "fmo")
            self.bus.post(sender, event)
            self.bus.drain()
        assert [str(f) for r in self.bus.rejected for f in r.faults] == []
        return self.said[before:]

    def until(self, at_ms: int) -> list[Any]:
        before = len(self.said)
        self.bus.tick(at_ms)
        assert [str(f) for r in self.bus.rejected for f in r.faults] == []
        return self.said[before:]


@pytest.fixture(scope="module")
def day() -> Day:
    """The day until its settlement is corrected."""
    told = Day()
    founding = [e for e in opened(margin_ppm=0) if type(e) not in (ev.NetworkModelPublished, ev.GateOpened)]
    infeed = replace(NETWORK.infeed_points[0], max_import_w=600_000)
    told.until(GATE - 2 * HOUR)
    told.say(
        *founding[:6],
        replace(NETWORK, infeed_points=(infeed, NETWORK.infeed_points[1])),
        *founding[6:],
        ev.NetForecastPublished(
            area_id=AREA,
            forecast_id="forecast",
            revision=1,
            network_id="grid",
            issued_at_ms=GATE - 2 * HOUR,
            start_ms=DAY,
            resolution_s=900,
            injections=(ev.BusInjection(bus_id="n1", power_w=(-1_000_000,) * 4, reactive_power_var=(0,) * 4),),
        ),
    )
    told.until(GATE - HOUR)
    told.say(
        baseline("p1", -500_000, -500_000, -500_000, -500_000),
        baseline("p2", 0, 0, 0, 0, fsp="beta"),
        baseline("p3", 0, 0, 0, 0),
        offer("cheap", "p1", ((300_000, 50_000),)),
        offer("dear", "p2", ((300_000, 90_000),), fsp="beta"),
        offer("far", "p3", ((80_000, 40_000),)),
    )
    told.until(GATE)
    told.until(DAY - SLOT)
    upward = next(e for e in only(ev.AggregateOffered, told.said) if e.infeed_id == "up-b")
    told.say(
        ev.AggregateActivated(
            area_id=AREA,
            tso_activation_id="call",
            aggregate_id=upward.aggregate_id,
            tso_id="tso",
            start_ms=DAY + 2 * SLOT,
            resolution_s=900,
            power_w=(50_000,),
            price_milli_per_mwh=70_000,
        )
    )
    for order in only(ev.ActivationOrdered, told.said):
        answer = ev.ActivationAcknowledged(area_id=AREA, activation_id=order.activation_id, fsp_id=order.fsp_id)
        told.say(answer)
    told.until(DAY + SLOT)
    told.say(
        ev.CapacityLimitUnforeseen(
            area_id=AREA,
            limit_id="fault",
            connection_point_id="p2",
            start_ms=DAY + 3 * SLOT,
            end_ms=DAY + 4 * SLOT,
            reason="cable fault",
        )
    )
    told.until(DAY + 2 * HOUR)
    told.say(
        reading("p1", -50_000, -50_000, -50_000, -50_000),
        reading("p2", 26_000, 26_000, 26_000, 0),
        reading("p3", 0, 0, 12_500, 0),
    )
    told.until(DAY + 48 * HOUR)
    told.say(reading("p1", -50_000, -50_000, -125_000, -50_000, revision=2))
    (mine,) = {s.settlement_id: s for s in only(ev.SettlementCorrected, told.said)}.values()
    told.say(
        ev.SettlementApproved(area_id=AREA, settlement_id=mine.settlement_id, revision=2, buyer_id="grid-dso"),
    )
    return told


def test_the_market_is_cleared_on_its_grid(day: Day) -> None:
    (market,) = only(ev.MarketCleared, day.said)
    taken = {a.offer_id: a.power_w for a in market.awards}
    assert taken["cheap"] == (300_000,) * 4
    assert all(100_000 <= w <= 105_000 for w in taken["dear"])
    assert "far" not in taken
    assert all(s.shortfall_w == 0 and s.ac_violation_ppm == 0 for s in market.slots)


def test_orders_go_out_in_time_and_in_the_right_name(day: Day) -> None:
    orders = {(o.orderer_id, o.offer_id): o for o in only(ev.ActivationOrdered, day.said)}
    assert set(orders) == {("grid-dso", "cheap"), ("grid-dso", "dear"), ("tso", "far")}
    assert all(o.acknowledge_by_ms <= DAY for o in orders.values())
    assert only(ev.ActivationTimedOut, day.said) == []


def test_the_rest_goes_up_and_the_tso_takes_a_part(day: Day) -> None:
    upward = {e.infeed_id: e for e in only(ev.AggregateOffered, day.said)}
    assert upward["up-b"].power_w == (80_000,) * 4
    assert all(195_000 <= w <= 200_000 for w in upward["up-a"].power_w)
    (split,) = only(ev.AggregateDisaggregated, day.said)
    assert [(s.offer_id, s.power_w) for s in split.shares] == [("far", (50_000,))]


def test_an_unforeseen_limit_stops_the_order_at_its_point(day: Day) -> None:
    (stop,) = only(ev.ActivationStopped, day.said)
    assert (stop.fsp_id, stop.from_ms, stop.cause) == ("beta", DAY + 3 * SLOT, "fault")


def test_everybody_is_settled_with_who_ordered_and_corrected_once(day: Day) -> None:
    settled = {(s.buyer_id, s.fsp_id): s for s in only(ev.SettlementComputed, day.said)}
    assert set(settled) == {("grid-dso", "alpha"), ("grid-dso", "beta"), ("tso", "alpha")}
    # 12.5 kWh at 70 EUR per MWh
    assert settled["tso", "alpha"].total_cents == 88
    # p1: -50 kWh against -125 kWh in every quarter-hour is all of the 300 kW; its price is the worth at n1
    price = settled["grid-dso", "alpha"].lines[0].price_milli_per_mwh
    assert price >= 50_000
    assert settled["grid-dso", "alpha"].total_cents == round(300_000 * price / 10_000_000)
    # the stopped quarter-hour is neither owed nor penalised
    assert len(settled["grid-dso", "beta"].lines) == 3
    (corrected,) = only(ev.SettlementCorrected, day.said)
    assert (corrected.fsp_id, corrected.revision) == ("alpha", 2)
    assert sum(line.penalised_wh for line in corrected.lines) == 75_000 - 7_500
    assert corrected.difference_cents == corrected.total_cents - settled["grid-dso", "alpha"].total_cents < 0


def test_the_view_refolded_from_the_journal_knows_the_approval(day: Day) -> None:
    story = Story(settlement, Settlements())
    for event in day.said:
        story.hear(event)
    states = {s.newest.buyer_id + s.newest.fsp_id: s.state for s in story.state.settlements.values()}
    assert states["grid-dsoalpha"] is SettlementState.APPROVED
    assert states["tsoalpha"] is SettlementState.COMPUTED


def test_nothing_is_owed_at_the_end(day: Day) -> None:
    assert day.bus.caught_up()
