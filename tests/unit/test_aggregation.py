"""Aggregates at the gate, what goes up to the TSO, and how its activation comes down (FLEXGRID HLUC_01_UCS_04)."""

from dataclasses import replace
from typing import Any

import pytest

from flexbus import events as ev
from flexbus.fitting import size_of
from flexbus.quantities import Direction
from flexbus.views import aggregation
from flexbus.views.aggregation import Aggregates
from flexbus.views.infeed import infeed_of_bus
from tests.story import (
    AREA,
    DAY,
    GATE_CLOSED,
    HOUR,
    NETWORK,
    SLOT,
    Story,
    award,
    begins,
    cleared,
    line,
    offer,
    opened,
    party,
    session,
)

UP, DOWN = Direction.UP, Direction.DOWN


def story(*offers: Any) -> Story:
    told = Story(aggregation, Aggregates())
    told.tell(*opened(), *offers)
    return told


def upward(told: Story, *awards: ev.Award) -> list[ev.AggregateOffered]:
    told.tell(GATE_CLOSED)
    return told.tell(cleared(*awards))


def activated(aggregate: ev.AggregateOffered, *power_w: int, price: int = 90_000, **changes: Any) -> Any:
    values: dict[str, Any] = {"start_ms": DAY, "tso_activation_id": "t1"}
    return ev.AggregateActivated(
        area_id=AREA,
        aggregate_id=aggregate.aggregate_id,
        tso_id="tso",
        resolution_s=900,
        power_w=power_w,
        price_milli_per_mwh=price,
        **(values | changes),
    )


def next_gate(at_ms: int) -> ev.GateClosed:
    """The gate of a session that nobody here knows, as of which it is that late."""
    return ev.GateClosed(area_id=AREA, session_id="another", at_ms=at_ms)


def test_a_bus_belongs_to_the_nearest_infeed_point_along_closed_branches() -> None:
    assert infeed_of_bus(NETWORK) == {"100": "up-a", "200": "up-b", "n1": "up-a", "n2": "up-a", "n3": "up-b"}


def test_equally_near_goes_to_the_first_by_id_and_a_dead_bus_to_none() -> None:
    #  100 (z) - m - 200 (a);  m is one branch from both
    network = ev.NetworkModelPublished(
        area_id=AREA,
        network_id="g",
        revision=1,
        valid_from_ms=0,
        buses=(*NETWORK.buses[:2], *(ev.Bus(**{**b, "bus_id": n}) for b, n in ((BUS, "m"), (BUS, "dead")))),
        branches=(line("l1", "100", "m"), line("l2", "m", "200"), line("l3", "m", "dead", closed=False)),
        infeed_points=(
            ev.InfeedPoint(infeed_id="z", bus_id="100", voltage_ppm=1_000_000),
            ev.InfeedPoint(infeed_id="a", bus_id="200", voltage_ppm=1_000_000),
        ),
    )
    assert infeed_of_bus(network) == {"100": "z", "200": "a", "m": "a"}


BUS: dict[str, Any] = {
    "bus_id": "",
    "nominal_voltage_v": 20_000,
    "min_voltage_ppm": 900_000,
    "max_voltage_ppm": 1_100_000,
}


def test_offers_are_summed_at_the_gate_per_infeed_point_and_direction() -> None:
    told = story(
        offer("a", "p1", ((100_000, 50_000), (50_000, 80_000))),
        offer("b", "p2", ((50_000, 20_000),), fsp="beta", slots=2),
        offer("c", "p1", ((7_000, 10_000),), direction=DOWN),
        offer("d", "p3", ((9_000, 30_000),)),
    )
    totals = told.tell(GATE_CLOSED)
    assert [(t.infeed_id, t.direction, t.offers) for t in totals] == [
        ("up-a", DOWN, 1),
        ("up-a", UP, 2),
        ("up-b", UP, 1),
    ]
    assert totals[1].power_w == (200_000, 200_000, 150_000, 150_000)
    # (100 x 50 + 50 x 80 + 50 x 20) / 200 = 50 EUR per MWh; without b (5000 + 4000) / 150 = 60
    assert totals[1].mean_price_milli_per_mwh == (50_000, 50_000, 60_000, 60_000)


def test_what_the_market_left_goes_up_at_the_highest_price_of_what_is_left() -> None:
    told = story(
        offer("a", "p1", ((100_000, 50_000), (50_000, 80_000))),
        offer("b", "p2", ((50_000, 20_000),), fsp="beta"),
    )
    (aggregate,) = upward(told, award("a", "p1", (100_000, 150_000, 0, 120_000)), award("b", "p2", (50_000,) * 4))
    assert aggregate.power_w == (50_000, 0, 150_000, 30_000)
    assert aggregate.price_milli_per_mwh == (80_000, 0, 80_000, 80_000)
    (member,) = aggregate.members
    assert (member.offer_id, member.connection_point_id) == ("a", "p1")


def test_what_goes_up_says_its_bidding_zone_and_who_is_responsible_for_the_balance() -> None:
    told = Story(aggregation, Aggregates())
    area, *others = opened()
    told.tell(replace(area, bidding_zone_eic="10YFI-1--------U"), *others)
    for name, brp_id in (("alpha", "north-brp"), ("beta", "east-brp")):
        told.tell(replace(party(name, ev.Role.FSP), brp_id=brp_id))
    told.tell(offer("a", "p1"), offer("b", "p2", fsp="beta"), offer("c", "p1"))
    (aggregate,) = upward(told)
    assert aggregate.brp_ids == ("east-brp", "north-brp")
    assert aggregate.bidding_zone_eic == "10YFI-1--------U"


def test_the_price_of_what_goes_up_stays_negative_where_all_members_pay_to_be_called() -> None:
    told = story(
        offer("a", "p1", ((100_000, -5_000),), direction=DOWN),
        offer("b", "p2", ((50_000, -9_000),), fsp="beta", direction=DOWN),
    )
    (aggregate,) = upward(told, award("a", "p1", (100_000, 0, 100_000, 0)), award("b", "p2", (0, 0, 50_000, 0)))
    assert aggregate.power_w == (50_000, 150_000, 0, 150_000)
    assert aggregate.price_milli_per_mwh == (-9_000, -5_000, 0, -5_000)


def test_lights_and_limits_at_the_gate_bound_what_goes_up() -> None:
    limit = ev.CapacityLimitForeseen(
        area_id=AREA,
        limit_id="limit",
        revision=1,
        connection_point_id="p1",
        start_ms=DAY,
        end_ms=DAY + 2 * SLOT,
        max_feed_in_w=1_030_000,
        reason="works",
    )
    red = ev.TrafficLightSet(
        area_id=AREA,
        light_id="light",
        revision=1,
        connection_point_id="p2",
        start_ms=DAY,
        end_ms=DAY + HOUR,
        colour=ev.Colour.RED,
    )
    told = story(offer("a", "p1"), offer("b", "p2", fsp="beta"), limit, red)
    told.tell(
        ev.BaselineSubmitted(
            area_id=AREA,
            baseline_id="base",
            revision=1,
            connection_point_id="p1",
            fsp_id="alpha",
            session_id="s1",
            start_ms=DAY,
            resolution_s=900,
            power_w=(990_000, 1_000_000, 0, 0),
        )
    )
    (aggregate,) = upward(told)
    assert aggregate.power_w == (10_000, 0, 100_000, 100_000)
    assert [m.offer_id for m in aggregate.members] == ["a"]


def test_only_what_can_be_taken_in_any_part_goes_up() -> None:
    told = story(
        offer("block", "p1", all_or_nothing=True),
        offer("one-of", "p1", exclusive_group_id="g"),
        offer("child", "p1", parent_offer_id="parent"),
        offer("minimum", "p1", min_power_w=60_000),
        offer("energy", "p3", min_energy_wh=10_000),
        offer("limited", "p3", max_energy_wh=60_000),
    )
    (up_a, up_b) = upward(told, award("minimum", "p1", (60_000, 0, 0, 0)), award("limited", "p3", (40_000, 0, 0, 0)))
    assert [(m.offer_id, m.power_w) for m in up_a.members] == [("minimum", (40_000,))]
    # 60 kWh less 10 kWh awarded: 15 kWh in the first slot, 25 kWh in the second, 10 kWh in the third
    assert [(m.offer_id, m.power_w) for m in up_b.members] == [("limited", (60_000, 100_000, 40_000))]


def test_an_offer_after_the_gate_is_not_part_of_what_goes_up() -> None:
    told = story(offer("a", "p1"))
    told.tell(GATE_CLOSED, offer("late", "p2", fsp="beta"))
    (aggregate,) = told.tell(cleared())
    assert [m.offer_id for m in aggregate.members] == ["a"]


def test_a_tso_activation_is_split_by_what_members_have_left_to_the_watt() -> None:
    told = story(
        offer("a", "p1", ((30_000, 50_000),)),
        offer("b", "p2", ((20_000, 50_000),), fsp="beta"),
        offer("c", "p1", ((10_000, 50_000),)),
    )
    (aggregate,) = upward(told)
    # exact shares of 10 001 W: 5000.50, 3333.67, 1666.83; two W are left for the largest rests
    (split,) = told.tell(activated(aggregate, 10_001, 60_000, 70_000, 0))
    assert [(s.offer_id, s.power_w) for s in split.shares] == [
        ("a", (5_000, 30_000, 30_000, 0)),
        ("b", (3_334, 20_000, 20_000, 0)),
        ("c", (1_667, 10_000, 10_000, 0)),
    ]
    assert split.unserved_w == (0, 0, 10_000, 0)
    assert (split.tso_id, split.direction, split.price_milli_per_mwh) == ("tso", UP, 90_000)
    # what is left goes to the next activation, and the same one twice is one
    assert told.tell(activated(aggregate, 1, 1, 1, 1)) == []
    (second,) = told.tell(activated(aggregate, 60_000, 1, 0, 60_000, tso_activation_id="t2"))
    assert second.unserved_w == (10_001, 1, 0, 0)


def test_what_is_over_costs_no_memory_and_an_activation_of_it_stays_unserved() -> None:
    told = story(offer("a", "p1", ((30_000, 50_000),)), offer("b", "p2", ((20_000, 50_000),), fsp="beta"))
    (aggregate,) = upward(told)
    last = aggregate.start_ms + (len(aggregate.power_w) - 1) * aggregate.resolution_s * 1000
    told.tell(next_gate(last))
    assert len(told.state.offered[aggregate.aggregate_id].event.members) == 2
    told.tell(next_gate(last + aggregate.resolution_s * 1000))
    assert told.state.offered[aggregate.aggregate_id].event.members == ()
    (split,) = told.tell(activated(aggregate, 1_000, 0, 0, 2_000))
    assert (split.shares, split.unserved_w) == ((), (1_000, 0, 0, 2_000))


def test_members_whose_price_is_not_paid_and_slots_that_have_begun_stay_unserved() -> None:
    told = story(offer("a", "p1", ((30_000, 50_000),)), offer("b", "p2", ((20_000, 95_000),), fsp="beta"))
    (aggregate,) = upward(told)
    told.tell(begins(0), begins(1))
    (split,) = told.tell(activated(aggregate, 50_000, 50_000, 50_000, price=90_000))
    assert [(s.offer_id, s.power_w) for s in split.shares] == [("a", (0, 30_000, 30_000))]
    assert split.unserved_w == (50_000, 20_000, 20_000)


def test_slots_off_the_grid_of_the_aggregate_are_unserved() -> None:
    told = story(offer("a", "p1", ((30_000, 50_000),)))
    (aggregate,) = upward(told)
    (split,) = told.tell(activated(aggregate, 30_000, 30_000, start_ms=DAY + 3 * SLOT))
    assert (split.shares[0].power_w, split.unserved_w) == ((30_000, 0), (0, 30_000))
    (split,) = told.tell(activated(aggregate, 5_000, start_ms=DAY + 1, tso_activation_id="t2"))
    assert (split.shares, split.unserved_w) == ((), (5_000,))


def test_an_aggregate_of_more_offers_than_one_record_holds_goes_up_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    many = [offer(f"a{n:03}", "p1", fsp="alpha") for n in range(200)]
    few = [offer(f"b{n}", "p2", fsp="beta") for n in range(3)]
    (whole,) = upward(story(*many, *few))
    assert len(whole.members) == 203
    monkeypatch.setattr(aggregation, "MEMBERS_BYTES", room := size_of(whole.members) // 10)
    (part,) = upward(story(*many, *few))
    assert 0.9 * room < size_of(part.members) <= room
    assert [m for m in part.members if m.fsp_id == "beta"] == [m for m in whole.members if m.fsp_id == "beta"]
    assert part.power_w == tuple(sum(column) for column in zip(*(m.power_w for m in part.members), strict=True))


def test_what_goes_up_comes_down_in_one_record_too(monkeypatch: pytest.MonkeyPatch) -> None:
    #  one slot of 96 each: a member names it alone, its share has every slot of the activation
    told = Story(aggregation, Aggregates())
    day = session(delivery_end_ms=DAY + 24 * HOUR)
    told.tell(*(day if type(e) is ev.MarketSessionScheduled else e for e in opened()))
    told.tell(*(offer(f"a{n:03}", "p1", slots=1) for n in range(200)))
    monkeypatch.setattr(aggregation, "MEMBERS_BYTES", room := 10_000)
    (aggregate,) = upward(told)
    (split,) = told.tell(activated(aggregate, *aggregate.power_w))
    assert not any(split.unserved_w)
    assert len(split.shares) == len(aggregate.members)
    assert 0.9 * room < size_of(split.shares) <= room
