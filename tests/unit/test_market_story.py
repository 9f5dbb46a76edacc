"""A market day told from gate to invoice, through every check and every stage, without Kafka.

100 (up-a) --- n1 --- n2          n3 --- 200 (up-b)
 import <= 600 kW   p1 p2         p3
n1 draws 1 MW: 400 kW are missing in every quarter-hour.
"""

from dataclasses import replace
from typing import Any

import pytest

from flexbus import events as ev
from flexbus.views import settlement, traffic_light
from flexbus.views.settlement import Settlements, SettlementState
from flexbus.views.traffic_light import TrafficLights
from streams import figures, scheduler
from streams.area import Area
from streams.refold import refold
from streams.stages import VIEWS
from tests.memory_bus import MemoryBus
from tests.story import (
    AREA,
    DAY,
    GATE,
    GATE_CLOSED,
    HOUR,
    NETWORK,
    SLOT,
    Story,
    baseline,
    begins,
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
            sender: Any = SENDERS.get(type(event)) or getattr(terms, "fsp_id", "fmo")
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


def test_what_the_clock_said_and_the_figures_stand_up_to_a_replay(day: Day) -> None:
    proof = refold(AREA, day.bus.blocks, {"scheduler": scheduler.VIEW, "figures": figures.VIEW})
    assert proof.findings == ()
    clock, shown = proof.views
    # gate opened and closed, four slots, end of delivery, settlement
    assert (clock.facts, clock.owed) == (8, ())
    assert (shown.facts, shown.owed) == (0, ())


def rows(day: Day, until: type[Any] | None = None) -> dict[str, dict[str, int]]:
    """The market views in the tables of the stages, after the first event of that kind or at the end."""
    areas = [Area(AREA, view, 0) for view in VIEWS.values()]
    for block in day.bus.blocks:
        for area in areas:
            area.take(block)
        if until is not None and any(e.event_type == until.__name__ for e in block.entries):
            break
    return {a.view.service: a.view.row(a.state) for a in areas if a.view.row is not None}


def test_the_tables_show_an_open_market(day: Day) -> None:
    shown = rows(day, ev.FlexOfferSubmitted)
    asked = [request.request.power_w for request in only(ev.FlexRequestSubmitted, day.said)]
    assert shown["clearing"] == {
        "sessions_open": 1,
        "sessions_closed_not_cleared": 0,
        "sessions_cleared": 0,
        "open_offers": 1,
        "open_requests": len(asked),
    }
    needed = only(ev.NeedComputed, day.said)[0]
    open_needs = {"needs_open": 1, "needs_covered": 0, "needs_uncovered": 0, "needs_gone": 0}
    assert shown["congestion"] == {**open_needs, "open_need_peak_w": max(needed.need_w)}
    assert shown["traffic_light"] == {"points_green": 3, "points_yellow": 0, "points_red": 0}


def test_the_tables_show_what_became_of_it(day: Day) -> None:
    cleared = rows(day, ev.ActivationOrdered)
    assert cleared["clearing"]["sessions_cleared"] == 1
    assert (cleared["clearing"]["open_offers"], cleared["clearing"]["open_requests"]) == (0, 0)
    offered = rows(day, ev.AggregateActivated)["aggregation"]
    assert offered["aggregates_offered"] == len(only(ev.AggregateOffered, day.said))
    up = [e.power_w for e in only(ev.AggregateOffered, day.said)]
    assert offered["offered_up_peak_w"] == max(map(sum, zip(*up, strict=True)))
    assert offered["offered_down_peak_w"] == 0

    end = rows(day)
    assert end["aggregation"]["aggregates_offered"] == 0  # over
    orders = only(ev.ActivationOrdered, day.said)
    assert end["activation"] == {
        "activations_ordered": 0,
        "activations_acknowledged": len(orders),
        "activations_refused": 0,
        "activations_timed_out": 0,
        "orders_to_come": 0,
    }
    settled = {s.settlement_id: s.total_cents for s in only(ev.SettlementComputed, day.said)}
    settled |= {s.settlement_id: s.total_cents for s in only(ev.SettlementCorrected, day.said)}
    assert end["settlement"] == {
        "settlements_computed": 2,
        "settlements_approved": 1,
        "settlements_disputed": 0,
        "total_cents": sum(settled.values()),
    }


def test_the_table_of_lights_shows_the_light_of_now() -> None:
    told = Story(traffic_light, TrafficLights())
    red = ev.TrafficLightSet(
        area_id=AREA,
        light_id="t",
        revision=1,
        connection_point_id="p1",
        start_ms=DAY,
        end_ms=DAY + HOUR,
        colour=ev.Colour.RED,
    )
    told.tell(*opened(), red)
    row = VIEWS["traffic_light"].row
    assert row is not None
    assert row(told.state) == {"points_green": 3, "points_yellow": 0, "points_red": 0}  # not yet: before the gate
    told.tell(GATE_CLOSED, begins(0))
    assert row(told.state) == {"points_green": 2, "points_yellow": 0, "points_red": 1}
