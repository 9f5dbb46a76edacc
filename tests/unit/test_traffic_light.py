"""What a connection point may give, and how offers are cut before the clearing."""

from dataclasses import replace
from typing import Any

from flexbus import events as ev
from flexbus.events import Colour
from flexbus.quantities import Direction
from flexbus.views import traffic_light
from flexbus.views.clipping import clip
from flexbus.views.fact import Emission
from flexbus.views.traffic_light import TrafficLights, allowed_w, clip_session
from tests.market import (
    AREA,
    DSO,
    FSP_A,
    HOUR,
    QUARTER,
    SESSION,
    START,
    Market,
    asset,
    baseline,
    founded,
    gate_closed,
    gate_opened,
    offer,
    open_market,
    point,
    product,
    session,
    submitted,
)  # fmt: skip

UP, DOWN = Direction.UP, Direction.DOWN


def run(market: Market) -> tuple[TrafficLights, list[Emission]]:
    state, due = TrafficLights(), list[Emission]()
    for fact in market.facts:
        traffic_light.fold(state, fact)
        due += traffic_light.decide(state, fact)
    return state, due


def at(market: Market, direction: Direction, hour: float = 0, baseline_w: int | None = 0) -> tuple[int | None, Any]:
    start = START + round(hour * HOUR)
    return allowed_w(run(market)[0], "GCP-1", direction, start, start + QUARTER, baseline_w)


def light(light_id: str = "t1", hours: tuple[int, int] = (0, 24), **changes: Any) -> ev.TrafficLightSet:
    e = ev.TrafficLightSet(
        area_id=AREA, light_id=light_id, revision=1, connection_point_id="GCP-1",
        start_ms=START + hours[0] * HOUR, end_ms=START + hours[1] * HOUR, colour=Colour.RED,
    )  # fmt: skip
    return replace(e, **changes)


def limit(limit_id: str = "l1", hours: tuple[float, float] = (0, 24), **changes: Any) -> ev.CapacityLimitForeseen:
    e = ev.CapacityLimitForeseen(
        area_id=AREA, limit_id=limit_id, revision=1, connection_point_id="GCP-1",
        start_ms=START + round(hours[0] * HOUR), end_ms=START + round(hours[1] * HOUR), reason="works",
    )  # fmt: skip
    return replace(e, **changes)


def stop(**changes: Any) -> ev.CapacityLimitUnforeseen:
    e = ev.CapacityLimitUnforeseen(
        area_id=AREA, limit_id="u1", connection_point_id="GCP-1", start_ms=START, end_ms=START + HOUR, reason="fault"
    )
    return replace(e, **changes)


# --- what is allowed --------------------------------------------------------------------------------------------


def test_without_light_or_limit_the_contract_is_the_limit() -> None:
    assert at(founded(), UP, baseline_w=-200_000) == (700_000, ("contract of GCP-1",))
    assert at(founded(), DOWN, baseline_w=-200_000) == (300_000, ("contract of GCP-1",))
    assert at(founded(), UP, baseline_w=None) == (None, ())


def test_the_static_light_is_the_default_and_the_dynamic_one_overrides_it() -> None:
    market = founded()
    market.send(point("GCP-1", "B1", FSP_A, static_up_w=50_000), DSO)
    assert at(market, UP) == (50_000, ("static light of GCP-1",))
    market.send(light(hours=(1, 2), colour=Colour.YELLOW, max_up_w=80_000), DSO)
    assert at(market, UP, 0.75) == (50_000, ("static light of GCP-1",))
    assert at(market, UP, 1) == (80_000, ("light t1 revision 1: YELLOW",))
    market.send(light("t2", (1, 2), colour=Colour.GREEN), DSO)
    assert at(market, UP, 1, None) == (None, ())


def test_a_yellow_light_silent_on_a_direction_leaves_its_default() -> None:
    market = founded()
    market.send(point("GCP-1", "B1", FSP_A, static_down_w=30_000), DSO)
    market.send(light(colour=Colour.YELLOW, max_up_w=80_000), DSO)
    assert at(market, DOWN) == (30_000, ("static light of GCP-1",))


def test_of_overlapping_lights_the_last_accepted_counts() -> None:
    market = founded()
    market.send(light("t1", colour=Colour.YELLOW, max_up_w=80_000), DSO)
    market.send(light("t2", (0, 2)), DSO)
    assert at(market, UP)[0] == 0
    market.send(light("t1", revision=2, colour=Colour.YELLOW, max_up_w=90_000), DSO)
    assert at(market, UP)[0] == 90_000


def test_a_newer_revision_of_a_light_replaces_its_period_too() -> None:
    market = founded()
    market.send(light(hours=(0, 4)), DSO)
    market.send(light(hours=(8, 9), revision=2), DSO)
    assert at(market, UP, 0, None) == (None, ())
    assert at(market, UP, 8)[0] == 0


def test_overlapping_limits_all_apply_from_the_baseline() -> None:
    market = founded()
    market.send(limit("l1", max_feed_in_w=300_000), DSO)
    market.send(limit("l2", (0, 1), max_feed_in_w=250_000, max_draw_w=150_000), DSO)
    assert at(market, UP, baseline_w=200_000) == (50_000, ("limit l2 revision 1",))
    assert at(market, UP, 1, 200_000) == (100_000, ("limit l1 revision 1",))
    assert at(market, DOWN, baseline_w=-100_000) == (50_000, ("limit l2 revision 1",))
    assert at(market, DOWN, baseline_w=-200_000) == (0, ("limit l2 revision 1",))


def test_a_limit_that_touches_a_slot_binds_all_of_it() -> None:
    market = founded()
    market.send(limit(hours=(0.9, 1.1), max_feed_in_w=0), DSO)
    assert [at(market, UP, h)[0] for h in (0.5, 0.75, 1.0, 1.25)] == [500_000, 0, 0, 500_000]


def test_without_baseline_a_limit_counts_from_the_contracted_power() -> None:
    market = founded()
    market.send(limit(max_feed_in_w=450_000), DSO)
    assert at(market, UP, baseline_w=None) == (0, ("limit l1 revision 1, no baseline",))
    assert at(market, DOWN, baseline_w=None) == (None, ())


def test_a_lifted_limit_ends_there_and_a_newer_revision_replaces_it() -> None:
    market = founded()
    market.send(limit(max_feed_in_w=0), DSO)
    market.send(ev.CapacityLimitLifted(area_id=AREA, limit_id="l1", from_ms=START + HOUR), DSO)
    assert [at(market, UP, h)[0] for h in (0.75, 1.0)] == [0, 500_000]
    market.send(limit(revision=2, hours=(2, 3), max_feed_in_w=0), DSO)
    assert [at(market, UP, h)[0] for h in (0.75, 2.0)] == [500_000, 0]


def test_a_limit_that_is_lifted_before_it_starts_binds_nothing() -> None:
    market = open_market()
    market.send(limit(hours=(0.1, 2), max_feed_in_w=0), DSO)
    assert at(market, UP)[0] == 0
    lifted = ev.CapacityLimitLifted(area_id=AREA, limit_id="l1", from_ms=START + HOUR // 10)
    market.send(lifted, DSO)
    assert at(market, UP) == (500_000, ("contract of GCP-1",)), "not even the slot in which it was to start"
    market.send(lifted, DSO)
    assert [c.causes for c in changed(market)] == [("limit l1 revision 1, no baseline",), ()]
    market.send(limit(revision=2, hours=(0, 2), max_feed_in_w=0), DSO)
    assert at(market, UP)[0] == 0


def test_a_stop_leaves_nothing_in_either_direction() -> None:
    market = founded()
    market.send(stop(), DSO)
    assert at(market, UP) == (0, ("limit u1 revision 1: stop",))
    assert at(market, DOWN)[0] == 0
    assert at(market, UP, 1)[0] == 500_000
    mild = founded()
    mild.send(stop(stop_activations=False, max_feed_in_w=100_000), DSO)
    assert at(mild, UP) == (100_000, ("limit u1 revision 1",))
    assert at(mild, DOWN)[0] == 500_000


def test_only_what_the_dso_has_approved_of_the_assets_is_allowed() -> None:
    market = founded()
    market.send(asset("pv", "GCP-1", FSP_A), FSP_A)
    market.send(ev.AssetApproved(area_id=AREA, asset_id="pv", validated_up_w=70_000, validated_down_w=0), DSO)
    assert at(market, UP) == (70_000, ("assets of GCP-1: approved flexibility",))
    assert at(market, DOWN)[0] == 0


def test_a_removed_point_gives_nothing() -> None:
    market = founded()
    market.send(ev.ConnectionPointRemoved(area_id=AREA, connection_point_id="GCP-1", reason="gone"), DSO)
    assert at(market, UP) == (0, ("point GCP-1: removed",))


# --- changed lights ---------------------------------------------------------------------------------------------


def changed(market: Market) -> list[ev.TrafficLightChanged]:
    return [e.event for e in run(market)[1] if isinstance(e.event, ev.TrafficLightChanged)]


def test_points_that_are_green_all_day_say_nothing_when_the_gate_opens() -> None:
    assert changed(open_market()) == []


def test_the_opening_gate_shows_what_restricts_a_point_by_hour() -> None:
    market = founded()
    market.send(point("GCP-1", "B1", FSP_A, static_up_w=50_000), DSO)
    market.send(light(hours=(1, 2)), DSO)
    assert changed(market) == []
    market.send(gate_opened(), "scheduler")
    (event,) = changed(market)
    assert event.connection_point_id == "GCP-1"
    assert event.start_ms == START
    assert event.colours[:3] == (Colour.YELLOW, Colour.RED, Colour.YELLOW)
    assert len(event.colours) == 24
    assert event.max_up_w[:3] == (50_000, 0, 50_000)
    assert event.max_down_w[:3] == (None, 0, None)
    assert event.causes == ("light t1 revision 1: RED", "static light of GCP-1")


def test_each_change_while_the_gate_is_open_is_a_fact_and_no_change_is_none() -> None:
    market = open_market()
    market.send(light(hours=(1, 2)), DSO)
    market.send(light("same", hours=(1, 2)), DSO)
    market.send(light("green", (0, 24), colour=Colour.GREEN), DSO)
    market.send(gate_closed(), "scheduler")
    market.send(light("late", hours=(3, 4)), DSO)
    assert [e.colours[1] for e in changed(market)] == [Colour.RED, Colour.GREEN]


def test_a_limit_shows_in_the_light_and_follows_the_baseline() -> None:
    market = open_market()
    market.send(limit(hours=(0, 1), max_feed_in_w=100_000), DSO)
    market.send(baseline(power_w=-200_000), FSP_A)
    assert [e.max_up_w[:2] for e in changed(market)] == [(0, None), (300_000, None)]


def test_a_repeated_run_gives_the_same_ids() -> None:
    market = open_market()
    market.send(light(), DSO)
    market.send(submitted(), FSP_A)
    market.send(gate_closed(), "scheduler")
    first, second = run(market)[1], run(market)[1]
    assert [e.event_id for e in first] == [e.event_id for e in second]
    assert len({e.event_id for e in first}) == len(first) == 2


# --- cut offers -------------------------------------------------------------------------------------------------


def cut(market: Market) -> dict[str, tuple[int, ...]]:
    return {k: c.allowed_w for k, c in clip_session(run(market)[0], SESSION).items()}


def test_the_dearest_steps_are_cut_first_and_the_offerer_learns_why() -> None:
    market = open_market()
    market.send(light(hours=(0, 1), colour=Colour.YELLOW, max_up_w=120_500), DSO)
    market.send(submitted(steps=((100_000, 10), (50_000, 20)), slots=5), FSP_A)
    market.send(gate_closed(), "scheduler")
    state, due = run(market)
    event = due[-1].event
    assert isinstance(event, ev.FlexOfferClipped)
    assert event.offered_w == (150_000,) * 5
    assert event.allowed_w == (120_000,) * 4 + (150_000,)
    assert event.causes == ("light t1 revision 1: YELLOW",)
    assert "4 of 5 slots" in event.reason
    kept = clip(offer(steps=((100_000, 10), (50_000, 20)), slots=5), clip_session(state, SESSION)["o1"])
    assert [[s.power_w for s in slot.steps] for slot in kept.slots] == [[100_000, 20_000]] * 4 + [[100_000, 50_000]]


def test_offers_that_are_not_cut_are_not_mentioned() -> None:
    market = open_market()
    market.send(submitted(), FSP_A)
    market.send(gate_closed(), "scheduler")
    assert run(market)[1] == []
    assert clip(offer(), None) is not None


def test_offers_at_one_point_share_its_limit_cheapest_first() -> None:
    market = open_market()
    market.send(light(colour=Colour.YELLOW, max_up_w=150_000), DSO)
    market.send(submitted("dear", steps=((100_000, 90),), slots=1), FSP_A)
    market.send(submitted("cheap", steps=((100_000, 10),), slots=1), FSP_A)
    market.send(submitted("down", steps=((100_000, 10),), slots=1, direction=DOWN), FSP_A)
    assert cut(market) == {"dear": (50_000,)}


def test_members_of_an_exclusive_group_do_not_add_up() -> None:
    market = open_market()
    market.send(light(colour=Colour.YELLOW, max_up_w=150_000), DSO)
    for name, power_w in (("a", 100_000), ("b", 140_000)):
        market.send(submitted(name, steps=((power_w, 10),), slots=1, exclusive_group_id="g"), FSP_A)
    assert cut(market) == {}
    market.send(submitted("c", steps=((20_000, 5),), slots=1), FSP_A)
    assert cut(market) == {"b": (130_000,)}


def test_a_minimum_that_is_no_longer_reached_empties_the_slot() -> None:
    market = open_market()
    market.send(light(colour=Colour.YELLOW, max_up_w=80_000), DSO)
    slot = replace(offer().slots[0], min_power_w=90_000)
    market.send(ev.FlexOfferSubmitted(area_id=AREA, offer=replace(offer(), slots=(slot,))), FSP_A)
    assert cut(market) == {"o1": (0,)}


def test_a_block_is_cut_as_a_whole() -> None:
    market = open_market()
    market.send(light(hours=(1, 2)), DSO)
    market.send(submitted(slots=5, all_or_nothing=True), FSP_A)
    assert cut(market) == {"o1": (0,) * 5}


def test_a_portfolio_is_cut_to_the_sum_of_its_points() -> None:
    market = open_market()
    for name, place in (("pv1", "GCP-1"), ("pv2", "GCP-2")):
        market.send(asset(name, place, FSP_A), FSP_A)
        market.send(
            ev.AssetApproved(area_id=AREA, asset_id=name, validated_up_w=300_000, validated_down_w=300_000), DSO
        )
    market.send(ev.PortfolioRegistered(area_id=AREA, portfolio_id="p", fsp_id=FSP_A, asset_ids=("pv1", "pv2")), FSP_A)
    market.send(ev.PortfolioApproved(area_id=AREA, portfolio_id="p"), DSO)
    market.send(submitted(point_id=None, portfolio_id="p", steps=((500_000, 10),), slots=1), FSP_A)
    assert cut(market) == {}
    market.send(light(colour=Colour.YELLOW, max_up_w=100_000), DSO)
    assert cut(market) == {"o1": (400_000,)}
    assert clip_session(run(market)[0], SESSION)["o1"].causes == ("light t1 revision 1: YELLOW",)


def test_what_is_allowed_is_on_the_step_of_the_product() -> None:
    market = founded()
    market.send(product(step_w=10_000, min_offer_w=10_000), "fmo")
    market.send(session("coarse"), "fmo")
    market.send(gate_opened("coarse"), "scheduler")
    market.send(light(colour=Colour.YELLOW, max_up_w=59_999), DSO)
    market.send(submitted(session_id="coarse", slots=1), FSP_A)
    assert clip_session(run(market)[0], "coarse")["o1"].allowed_w == (50_000,)


def test_a_change_goes_through_the_limits_of_its_point_once() -> None:
    class Counted(dict[str, Any]):
        looks = 0

        def values(self) -> Any:
            self.looks += 1
            return super().values()

    market = open_market()
    state, _ = run(market)
    state.limits["GCP-1"] = limits = Counted()
    market.send(limit(max_feed_in_w=100_000), DSO)
    traffic_light.fold(state, market.facts[-1])
    assert [type(e.event) for e in state.due] == [ev.TrafficLightChanged]
    assert limits.looks == 1, "not for each of 96 slots in both directions: a point may have thousands"
