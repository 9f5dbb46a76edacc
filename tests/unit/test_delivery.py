"""Delivery: what the meters show against the baseline, shared among orders (BeFlexible SUC06.3)."""

from dataclasses import replace
from typing import Any

from flexbus import events as ev
from flexbus.events import AssetKind, Quality
from flexbus.quantities import Direction
from flexbus.views import delivery
from flexbus.views.activation import shown_at
from flexbus.views.delivery import Delivered, Evidence, deliveries, metered_wh, pool_of
from tests.story import (
    AREA,
    DAY,
    GATE_CLOSED,
    HOUR,
    SLOT,
    Story,
    baseline,
    begins,
    cleared,
    opened,
    ordered,
    point,
    reading,
    session,
)  # fmt: skip

DOWN = Direction.DOWN


def story(*before_gate: Any) -> Story:
    told = Story(delivery, Evidence())
    told.tell(*opened(), *before_gate, GATE_CLOSED)
    return told


def computed(told: Story, *points: str) -> dict[str, Delivered]:
    return deliveries(told.state, pool_of(told.state, points, DAY, DAY + 96 * SLOT))


def delivered(told: Story, name: str, *points: str) -> list[int]:
    return computed(told, *points)[name].delivered_wh


def test_delivered_is_what_the_meter_shows_beyond_the_baseline_in_the_ordered_direction() -> None:
    #  slot             0      1      2      3
    #  baseline W   -4000  -4000  -4000  -4000     = -1000 Wh
    #  metered Wh    -500  -1000  -1400      0
    #  deviation      500      0   -400   1000     ordered UP 2000 W = 500 Wh
    told = story(baseline("p1", -4000, -4000, -4000, -4000))
    told.tell(ordered("a", "p1", 2000, 2000, 2000, 2000), reading("p1", -500, -1000, -1400, 0))
    numbers = computed(told, "p1")["a"]
    assert numbers.baseline_wh == [-1000] * 4
    assert numbers.metered_wh == [-500, -1000, -1400, 0]
    assert numbers.ordered_wh == [500] * 4
    assert numbers.delivered_wh == [500, 0, 0, 1000]
    assert numbers.shortfall_wh == [0, 500, 500, 0]


def test_down_is_delivered_by_less_feed_in() -> None:
    told = story(baseline("p1", 4000, 4000))
    told.tell(ordered("a", "p1", 2000, 2000, direction=DOWN), reading("p1", 700, 1300))
    assert delivered(told, "a", "p1") == [300, 0]


def test_the_newest_baseline_before_the_gate_counts_and_none_after() -> None:
    told = story(baseline("p1", 0, 0), baseline("p1", 400, 400, revision=2))
    told.tell(baseline("p1", -90_000, -90_000, revision=3))
    told.tell(ordered("a", "p1", 400, 400), reading("p1", 200, 200))
    assert computed(told, "p1")["a"].baseline_wh == [100, 100]


def schedule(at: str, *power_w: int) -> ev.ScheduleSubmitted:
    return ev.ScheduleSubmitted(
        area_id=AREA,
        schedule_id="schedule",
        revision=1,
        connection_point_id=at,
        fsp_id="alpha",
        session_id="s1",
        start_ms=DAY,
        resolution_s=900,
        power_w=power_w,
    )


def test_a_schedule_before_the_gate_stands_in_for_a_baseline_one_after_it_does_not() -> None:
    told = story(schedule("p1", 400, 400), schedule("p2", 0, 0), baseline("p2", 800, 800))
    told.tell(schedule("p3", 400, 400))
    told.tell(*(ordered(p, p, 400, 400) for p in ("p1", "p2", "p3")))
    told.tell(*(reading(p, 300, 300) for p in ("p1", "p2", "p3")))
    assert computed(told, "p1")["p1"].baseline_wh == [100, 100]
    assert computed(told, "p2")["p2"].baseline_wh == [200, 200]
    assert computed(told, "p3")["p3"].baseline_wh == [None, None]
    assert delivered(told, "p3", "p3") == [0, 0]


def test_a_missing_reading_delivers_nothing_until_a_later_revision_brings_it() -> None:
    told = story(baseline("p1", 0, 0, 0))
    told.tell(ordered("a", "p1", 400, 400, 400))
    told.tell(reading("p1", 100, 77, quality=(Quality.ESTIMATED, Quality.MISSING)))
    numbers = computed(told, "p1")["a"]
    assert numbers.metered_wh == [100, None, None]
    assert numbers.shortfall_wh == [0, 100, 100]
    told.tell(reading("p1", 90, 100, revision=2), reading("p1", 1, 1, 1, revision=1))
    assert computed(told, "p1")["a"].metered_wh == [90, 100, 1]


def test_finer_readings_add_up_and_coarser_ones_cannot_be_split() -> None:
    told = story()
    told.tell(reading("p1", 1, 2, 3, 4, resolution_s=300), reading("p2", 1000, resolution_s=3600))
    assert metered_wh(told.state, "p1", DAY, 900) == 6
    assert metered_wh(told.state, "p1", DAY + SLOT, 900) is None
    assert metered_wh(told.state, "p2", DAY, 900) is None
    assert metered_wh(told.state, "p2", DAY, 3600) == 1000


def test_a_baseline_on_another_grid_is_integrated_exactly() -> None:
    told = story(baseline("p1", 1200, resolution_s=3600), baseline("p2", 0, 300, 600, resolution_s=300))
    assert delivery.baseline_wh(told.state, "s1", "p1", DAY + SLOT, 900) == 300
    assert delivery.baseline_wh(told.state, "s1", "p2", DAY, 900) == 75
    assert delivery.baseline_wh(told.state, "s1", "p1", DAY + 4 * SLOT, 900) is None


def test_orders_at_one_point_share_what_the_meter_shows_by_what_they_owe() -> None:
    #  owed  a 100  b 200  c 400 Wh;  shown 351  -> 50.14, 100.29, 200.57 -> the last Wh goes to the largest rest
    told = story(baseline("p1", 0))
    told.tell(ordered("a", "p1", 400), ordered("b", "p1", 800), ordered("c", "p1", 1600), reading("p1", 351))
    assert [delivered(told, n, "p1") for n in "abc"] == [[50], [100], [201]]


def test_a_refused_order_gets_nothing_and_leaves_all_to_the_others() -> None:
    told = story(baseline("p1", 0))
    told.tell(ordered("a", "p1", 400), ordered("b", "p1", 400), reading("p1", 150))
    told.tell(ev.ActivationRefused(area_id=AREA, activation_id="a", fsp_id="alpha", reason="broken"))
    assert delivered(told, "a", "p1") == [0]
    assert delivered(told, "b", "p1") == [150]
    assert computed(told, "p1")["a"].shortfall_wh == [100]


def test_a_stopped_slot_is_not_owed_and_takes_no_share() -> None:
    told = story(baseline("p1", 0, 0))
    told.tell(ordered("a", "p1", 400, 400), ordered("b", "p1", 400, 400), reading("p1", 150, 150))
    told.tell(
        ev.ActivationStopped(
            area_id=AREA,
            activation_id="a",
            fsp_id="alpha",
            from_ms=DAY + SLOT,
            until_ms=DAY + 2 * SLOT,
            cause="limit",
            reason="",
        )
    )
    assert computed(told, "p1")["a"].ordered_wh == [100, 0]
    assert delivered(told, "a", "p1") == [75, 0]
    assert delivered(told, "b", "p1") == [75, 150]


def test_of_opposite_orders_only_the_one_the_meter_shows_delivers() -> None:
    told = story(baseline("p1", 0))
    told.tell(ordered("a", "p1", 400), ordered("b", "p1", 400, direction=DOWN), reading("p1", -60))
    assert delivered(told, "a", "p1") == [0]
    assert delivered(told, "b", "p1") == [60]


def test_energy_is_not_counted_twice_for_two_sessions() -> None:
    told = story(baseline("p1", 0), baseline("p1", 4000, session_id="s2"))
    told.tell(ev.GateClosed(area_id=AREA, session_id="s2", at_ms=DAY - SLOT))
    told.tell(ordered("a", "p1", 400), ordered("b", "p1", 400, session_id="s2"), reading("p1", 120))
    assert [delivered(told, n, "p1") for n in "ab"] == [[60], [60]]
    assert computed(told, "p1")["b"].baseline_wh == [0]


def pooled(*points: str) -> list[Any]:
    assets = [
        ev.AssetRegistered(
            area_id=AREA,
            asset_id=f"asset-{p}",
            fsp_id="alpha",
            connection_point_id=p,
            kind=AssetKind.BATTERY,
            max_feed_in_w=9000,
            max_draw_w=9000,
        )
        for p in points
    ]
    ids = tuple(a.asset_id for a in assets)
    return [*assets, ev.PortfolioRegistered(area_id=AREA, portfolio_id="pool", fsp_id="alpha", asset_ids=ids)]


def test_a_portfolio_gets_what_the_orders_at_its_points_leave() -> None:
    #  p1 shows 180, of which the order at p1 takes the 100 that it owes; p3 shows 50 -> pool 130 of 150
    told = story(point("p4", "n1"), *pooled("p1", "p3"), baseline("p1", 0), baseline("p3", 0))
    told.tell(ordered("pool-order", None, 600, portfolio_id="pool"), ordered("a", "p1", 400))
    told.tell(reading("p1", 180), reading("p3", 50))
    assert pool_of(told.state, ["p3"], DAY, DAY + SLOT) == {"a", "pool-order"}
    assert delivered(told, "a", "p3") == [100]
    assert delivered(told, "pool-order", "p3") == [130]
    assert computed(told, "p1")["pool-order"].metered_wh == [230]


def test_a_portfolio_waits_until_all_its_points_are_read() -> None:
    told = story(*pooled("p1", "p3"), baseline("p1", 0), baseline("p3", 0))
    told.tell(ordered("pool-order", None, 600, portfolio_id="pool"), reading("p1", 180), begins(0))
    numbers = computed(told, "p1")["pool-order"]
    assert (numbers.metered_wh, numbers.delivered_wh) == ([None], [0])


NEXT = DAY + 96 * SLOT


def test_a_reading_concerns_the_orders_of_its_own_time_alone() -> None:
    told = story()
    told.tell(ordered("a", "p1", 400), ordered("b", "p1", 400, start_ms=NEXT))
    told.tell(ordered("late", "p1", 400, 400, 400, start_ms=NEXT - 2 * SLOT))  # into the next day
    assert pool_of(told.state, ["p1"], DAY, DAY + SLOT) == {"a"}
    assert pool_of(told.state, ["p1"], NEXT, NEXT + SLOT) == {"b", "late"}
    assert pool_of(told.state, ["p1"], NEXT + SLOT, NEXT + 2 * SLOT) == frozenset()
    everything = list(shown_at(told.state.activations, "p1", DAY, NEXT + 96 * SLOT))
    assert sorted(everything) == ["a", "b", "late"]
    told.tell(*(ordered(f"year-{n}", "p1", 400, start_ms=NEXT + n * 96 * SLOT) for n in range(1, 366)))
    assert pool_of(told.state, ["p1"], DAY, DAY + SLOT) == {"a"}
    assert max(map(len, told.state.activations.at_point["p1"].values())) == 2, "what a reading goes through"


def test_an_order_is_judged_the_same_whatever_is_computed_with_it() -> None:
    #  a and c are of the session s2; b, of s1 whose gate closed first, meets c and not a
    told = story(*(baseline(p, 0) for p in ("p1", "p2")), *(baseline(p, 400, session_id="s2") for p in ("p1", "p2")))
    told.tell(ev.GateClosed(area_id=AREA, session_id="s2", at_ms=DAY - SLOT))
    told.tell(ordered("a", "p1", 400, session_id="s2"), ordered("a2", "p1", 400, session_id="s2"))
    told.tell(ordered("b", "p2", 400), ordered("c", "p2", 400, session_id="s2"))
    told.tell(reading("p1", 150), reading("p2", 150))
    together = deliveries(told.state, ["a", "a2", "b", "c"])
    assert {name: deliveries(told.state, [name])[name] for name in together} == together
    assert [(n.baseline_wh, n.delivered_wh) for n in together.values()] == [
        ([100], [25]), ([100], [25]), ([0], [75]), ([0], [75])
    ]  # fmt: skip


def test_what_comes_back_the_next_day_is_in_its_baseline() -> None:
    payback = ev.Payback(factor_ppm=1_000_000, delay_slots=0, window_slots=2)
    told = story(baseline("p1", *(0,) * 97), baseline("p1", 0, session_id="s2", start_ms=NEXT))
    told.tell(session("s2", delivery_start_ms=NEXT, delivery_end_ms=NEXT + HOUR))
    told.tell(replace(cleared(), award_terms=(ev.AwardTerms(award_id="award-a", payback=payback),)))
    told.tell(ordered("a", "p1", 800, start_ms=NEXT - SLOT), ordered("b", "p1", 400, session_id="s2", start_ms=NEXT))
    told.tell(reading("p1", -30, start_ms=NEXT))
    #  a took 200 Wh, of which half comes back as draw in the first slot of the next day
    assert deliveries(told.state, ["b"])["b"].baseline_wh == [-100]
    assert deliveries(told.state, ["b"])["b"].delivered_wh == [70]
    told.tell(ev.ActivationRefused(area_id=AREA, activation_id="a", fsp_id="alpha", reason="broken"))
    assert deliveries(told.state, ["b"])["b"].baseline_wh == [0]
    act = told.state.activations.activations["a"]
    assert pool_of(told.state, act.points, act.order.start_ms, act.over_ms) == {"a", "b"}, "a change of a concerns b"


def test_an_order_to_a_portfolio_that_nobody_knows_delivers_nothing() -> None:
    told = story()
    told.tell(ordered("a", None, 400, portfolio_id="unheard-of"))
    assert deliveries(told.state, ["a"])["a"].delivered_wh == [0]
