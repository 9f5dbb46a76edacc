"""What holds for every settlement and every sharing of energy, whatever the numbers."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexbus import events as ev
from flexbus.events import Quality
from flexbus.quantities import PPM, Direction
from flexbus.shares import apportion
from flexbus.views import settlement
from flexbus.views.settlement import Computed, Settlements, line_of
from tests.story import AREA, DUE, GATE_CLOSED, Story, baseline, opened, ordered, product, reading

wh = st.integers(0, 10**9)
price = st.integers(-3_000_000, 3_000_000)
ppm = st.integers(0, PPM)


@given(st.integers(0, 10**12), st.lists(st.integers(0, 10**9), min_size=1, max_size=20).filter(any))
def test_shares_sum_to_the_total_and_are_within_one_of_the_exact_ones(total: int, weights: list[int]) -> None:
    shares = apportion(total, weights)
    assert sum(shares) == total
    for share, weight in zip(shares, weights, strict=True):
        assert abs(share - Fraction(total * weight, sum(weights))) < 1
        assert share <= weight if total <= sum(weights) else share >= weight


def test_nothing_can_be_split_among_nobody() -> None:
    assert apportion(0, [0, 0]) == (0, 0)
    for total, weights in ((1, [0, 0]), (-1, [1]), (1, [2, -1])):
        with pytest.raises(ValueError, match="cannot split"):
            apportion(total, weights)


@given(wh, wh, price, ppm, ppm)
def test_a_line_follows_its_rule(owed: int, delivered: int, milli: int, tolerance: int, penalty: int) -> None:
    order = ordered("a", "p1", 1, price_milli_per_mwh=(milli,))
    line = line_of(order, 0, owed, delivered, product(tolerance_ppm=tolerance, penalty_ppm=penalty))
    assert line.paid_wh == min(owed, delivered)
    assert line.remuneration_nano == line.paid_wh * milli
    shortfall = owed - line.paid_wh
    beyond = max(Fraction(0), shortfall - Fraction(owed * tolerance, PPM))
    assert 0 <= line.penalty_nano <= beyond * abs(milli) * Fraction(penalty, PPM)
    assert beyond - 1 < line.penalised_wh <= beyond
    if delivered >= owed:
        assert line.penalty_nano == 0


points = st.sampled_from(["p1", "p3"])
orders = st.lists(
    st.tuples(points, st.sampled_from(Direction), st.lists(st.integers(0, 4000), min_size=4, max_size=4)),
    min_size=1,
    max_size=5,
)
readings = st.lists(
    st.tuples(
        points,
        st.integers(1, 3),
        st.lists(st.tuples(st.integers(-2000, 2000), st.sampled_from(Quality)), min_size=1, max_size=4),
    ),
    max_size=6,
)


def told(placed: list[Any], refused: bool) -> Story:
    story = Story(settlement, Settlements())
    story.tell(*opened(), baseline("p1", 400, 400, -400, 0), baseline("p3", 1, 2, 3, 4), GATE_CLOSED)
    for number, (at, direction, power_w) in enumerate(placed):
        story.tell(ordered(f"a{number}", at, *power_w, direction=direction))
    if refused:
        story.tell(ev.ActivationRefused(area_id=AREA, activation_id="a0", fsp_id="alpha", reason="broken"))
    return story


def read(row: tuple[str, int, list[tuple[int, Quality]]]) -> ev.MeterReadingReceived:
    at, revision, values = row
    quality = tuple(q for _, q in values)
    return reading(at, *(v for v, _ in values), revision=revision, quality=quality)


def newest(followed: list[Any]) -> list[Computed]:
    return [e for e in followed if isinstance(e, ev.SettlementComputed | ev.SettlementCorrected)]


@settings(max_examples=60, deadline=None)
@given(orders, readings, readings, st.booleans())
def test_a_corrected_settlement_is_the_one_computed_afresh(
    placed: list[Any], early: list[Any], late: list[Any], refused: bool
) -> None:
    #  one story is told the late readings after the due date, the other before it
    corrected, afresh = told(placed, refused), told(placed, refused)
    steps = newest(corrected.tell(*map(read, early), DUE, *map(read, late)))
    (fresh,) = newest(afresh.tell(*map(read, early), *map(read, late), DUE))
    last = steps[-1]
    assert (last.lines, last.invoice, last.total_cents) == (fresh.lines, fresh.invoice, fresh.total_cents)
    assert [s.revision for s in steps] == list(range(1, len(steps) + 1))
    differences = sum(s.difference_cents for s in steps if isinstance(s, ev.SettlementCorrected))
    assert steps[0].total_cents + differences == last.total_cents


@settings(max_examples=60, deadline=None)
@given(orders, readings, st.booleans())
def test_every_cent_and_every_watt_hour_is_accounted_for(placed: list[Any], early: list[Any], refused: bool) -> None:
    followed = told(placed, refused).tell(*map(read, early), DUE)
    for settled in newest(followed):
        for row in settled.invoice:
            lines = [line for line in settled.lines if line.activation_id == row.activation_id]
            assert abs(row.remuneration_cents - Fraction(sum(x.remuneration_nano for x in lines), 10**7)) <= Fraction(
                1, 2
            )
            assert abs(row.penalty_cents - Fraction(sum(x.penalty_nano for x in lines), 10**7)) <= Fraction(1, 2)
            assert row.amount_cents == row.remuneration_cents - row.penalty_cents
        assert settled.total_cents == sum(row.amount_cents for row in settled.invoice)
    shown: dict[tuple[str | None, int], list[int]] = {}
    for e in followed:
        if isinstance(e, ev.DeliveryComputed):
            for slot, delivered in enumerate(e.delivered_wh):
                base, metered = e.baseline_wh[slot], e.metered_wh[slot]
                deviation = 0 if base is None or metered is None else abs(metered - base)
                assert 0 <= delivered <= deviation
                assert e.shortfall_wh[slot] == max(0, e.ordered_wh[slot] - delivered)
                shown.setdefault((e.connection_point_id, e.start_ms + slot), [deviation, 0])[1] += delivered
    assert all(given_out <= deviation for deviation, given_out in shown.values())


def test_the_order_of_the_orders_in_the_journal_does_not_matter() -> None:
    placed = [("p1", Direction.UP, [400, 800, 1200, 1600]), ("p1", Direction.UP, [4, 8, 12, 16])]
    totals = []
    for flip in (1, -1):
        story = Story(settlement, Settlements())
        story.tell(*opened(), baseline("p1", 0, 0, 0, 0), GATE_CLOSED)
        rows = list(enumerate(placed))[::flip]
        story.tell(*(ordered(f"a{n}", at, *w, direction=d) for n, (at, d, w) in rows), reading("p1", 77, 0, 201, 500))
        totals.append([(e.activation_id, e.delivered_wh) for e in story.tell(DUE)[:2]])
    assert totals[0] == totals[1]
