"""What is left of offers keeps every limit, wastes none, and the quick answers agree with the slow ones."""

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from flexbus import events as ev
from flexbus.quantities import Direction
from flexbus.views import traffic_light
from flexbus.views.clipping import clip
from flexbus.views.restrictions import Limit, PointLimits, Signals, allowed_w, limits_of, limits_over, power_at
from flexbus.views.traffic_light import TrafficLights, clip_session
from tests.market import DSO, FSP_A, HOUR, QUARTER, SESSION, START, Market, baseline, founded, gate_opened, offer, point

AREA = "north"
WATTS = st.sampled_from([0, 1_000, 40_500, 90_000, 250_000])
UP = Direction.UP


@st.composite
def markets(draw: st.DrawFn) -> Market:
    """One connection point with any mix of static light, lights, limits, baseline and offers."""
    market = founded()
    market.send(point("GCP-1", "B1", FSP_A, static_up_w=draw(st.none() | WATTS)), DSO)
    market.send(gate_opened(), "scheduler")
    if draw(st.booleans()):
        powers = tuple(draw(st.sampled_from([-200_000, 0, 450_000])) for _ in range(96))
        market.send(replace(baseline(), power_w=powers), FSP_A)
    for k in range(draw(st.integers(0, 2))):
        colour = draw(st.sampled_from(list(ev.Colour)))
        market.send(
            ev.TrafficLightSet(
                area_id=AREA,
                light_id=f"t{k}",
                revision=1,
                connection_point_id="GCP-1",
                start_ms=START,
                end_ms=START + draw(st.integers(1, 2)) * HOUR,
                colour=colour,
                max_up_w=draw(WATTS) if colour is ev.Colour.YELLOW else None,
            ),
            DSO,
        )
    for k in range(draw(st.integers(0, 2))):
        start_ms = START + draw(st.integers(0, 5)) * QUARTER // 2
        market.send(
            ev.CapacityLimitForeseen(
                area_id=AREA,
                limit_id=f"l{k}",
                revision=1,
                connection_point_id="GCP-1",
                start_ms=start_ms,
                end_ms=start_ms + QUARTER,
                max_feed_in_w=draw(WATTS),
                reason="works",
            ),
            DSO,
        )
    for k in range(draw(st.integers(1, 4))):
        steps = draw(st.sampled_from([((30_000, 5),), ((50_000, 5), (100_000, 9)), ((200_000, 7),)]))
        made = offer(f"o{k}", steps=steps, slots=6, exclusive_group_id=draw(st.none() | st.just("g")))
        least = draw(st.sampled_from([0, 20_000]))
        slots = tuple(replace(slot, min_power_w=least) for slot in made.slots)
        market.send(ev.FlexOfferSubmitted(area_id=AREA, offer=replace(made, slots=slots)), FSP_A)
    return market


def folded(market: Market) -> TrafficLights:
    state = TrafficLights()
    for fact in market.facts:
        traffic_light.fold(state, fact)
    return state


def power(o: ev.FlexOffer, slot: int) -> int:
    return sum(step.power_w for step in o.slots[slot].steps)


def together(offers: list[ev.FlexOffer], slot: int) -> int:
    """The most that the point gives: all lone offers, and the greatest of the exclusive group."""
    lone = sum(power(o, slot) for o in offers if o.exclusive_group_id is None)
    return lone + max((power(o, slot) for o in offers if o.exclusive_group_id is not None), default=0)


def limit(state: TrafficLights, slot: int) -> int | None:
    start_ms = START + slot * QUARTER
    entries = state.book.session(SESSION)
    b = entries.baselines.get("GCP-1")
    stands = None if b is None else b.power_w[slot]
    return allowed_w(state, "GCP-1", UP, start_ms, start_ms + QUARTER, stands)[0]


@settings(max_examples=150, deadline=None)
@given(markets())
def test_what_is_left_keeps_every_limit_and_wastes_none(market: Market) -> None:
    state = folded(market)
    offers = state.book.session(SESSION).offers
    cuts = clip_session(state, SESSION)
    left: list[Any] = [clip(o, cuts.get(name)) for name, o in offers.items()]
    for slot in range(6):
        most = limit(state, slot)
        given_w, wanted_w = together(left, slot), together(list(offers.values()), slot)
        if most is None or wanted_w <= most // 1_000 * 1_000:
            assert all(power(a, slot) == power(b, slot) for a, b in zip(left, offers.values(), strict=True))
            continue
        assert given_w <= most
        assert given_w % 1_000 == 0
        if all(o.slots[slot].min_power_w == 0 for o in offers.values()):
            assert given_w == most // 1_000 * 1_000
    for name, cut in cuts.items():
        assert cut.causes
        assert any(a < b for a, b in zip(cut.allowed_w, cut.offered_w, strict=True)), name


@settings(max_examples=150, deadline=None)
@given(markets())
def test_the_quick_answers_agree_with_the_slow_one(market: Market) -> None:
    state = folded(market)
    entry = state.book.session(SESSION).baselines.get("GCP-1")
    for direction in Direction:
        quick = PointLimits(state, "GCP-1", direction, entry)
        found = []
        for slot in range(8):
            start_ms = START + slot * QUARTER
            stands = None if entry is None else entry.power_w[slot]
            slow = allowed_w(state, "GCP-1", direction, start_ms, start_ms + QUARTER, stands)[0]
            assert quick.most_w(start_ms, start_ms + QUARTER) == slow
            found.append(slow)
        least = quick.least_w()
        if least is None:
            assert set(found) == {None}
        else:
            assert all(most is None or least <= most for most in found)


NINTHS = st.integers(-3, 12).map(lambda k: START + k * QUARTER // 3)
LIMITS = st.builds(
    Limit,
    limit_id=st.sampled_from(["a", "b", "c", "d", "e"]),
    revision=st.just(1),
    start_ms=NINTHS,
    end_ms=NINTHS,  # one that was lifted may end before it starts
    max_feed_in_w=st.none() | WATTS,
    max_draw_w=st.none() | WATTS,
    stops=st.booleans(),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(LIMITS, max_size=6), st.none() | st.lists(WATTS, min_size=1, max_size=3), st.integers(0, 3))
def test_limits_over_many_slots_are_those_of_each_slot(
    limits: list[Limit], power_w: list[int] | None, first: int
) -> None:
    at = point("GCP-1", "B1", FSP_A)
    state = Signals(limits={"GCP-1": {limit.limit_id: limit for limit in limits}})
    known = None if power_w is None else replace(baseline(), start_ms=START + first * QUARTER, power_w=tuple(power_w))
    starts = range(START, START + 4 * QUARTER, QUARTER)
    found = limits_over(state, at, starts, known)
    causes = set()
    for direction in Direction:
        for slot, start_ms in enumerate(starts):
            each = list(limits_of(state, at, direction, start_ms, start_ms + QUARTER, power_at(known, start_ms)))
            assert found.allowed_w[direction][slot] == min((r.allowed_w for r in each), default=None)
            causes |= {r.cause for r in each}
    assert found.causes == causes
