"""Whole market days without Kafka: the same world, rules, folds, decisions and clearing, for grids and days."""

import re
from typing import Any

import pytest

from flexbus import codec
from flexbus import events as ev
from flexbus.views.fact import Fact
from streams.demo.grid_day import scenario_of
from streams.demo.terminal import table
from streams.demo.world import World
from streams.page.model import PageState, summary
from streams.report import report
from tests.chaos.checker import _decode, _word
from tests.chaos.rules import READS, told
from tests.memory_bus import MemoryPorts


def play(grid: str, day: str) -> tuple[PageState, list[Fact]]:
    facts: list[Fact] = []
    world = World(MemoryPorts(), scenario_of(grid, day), lambda _: None, 0.0, facts.append)
    world.play()
    page: PageState = world.mirror.page
    return page, facts


@pytest.mark.slow
@pytest.mark.parametrize(
    ("grid", "day"),
    [
        ("1-LV-rural1--2-sw", "sunny"),
        ("1-LV-rural1--2-sw", "winter"),
        ("1-MV-rural--2-sw", "sunny"),
        ("1-MV-rural--2-sw", "winter"),
    ],
)
def test_a_day_is_played_to_its_end(grid: str, day: str) -> None:
    page, facts = play(grid, day)
    final = summary(page)
    (area,) = final["areas"].values()
    (session,) = area["sessions"].values()
    assert session["congestion"]["forecast"]["violated_slots"] > 0
    assert session["congestion"]["cleared"]["violated_slots"] == 0
    assert set(session["clearing"]["status"]) <= {"IDLE", "EXACT", "REPAIRED"}
    assert session["clearing"]["worst_ac_violation_ppm"] <= 1
    assert session["settlement"]["approved"] == session["settlement"]["settlements"] > 0
    assert session["activations"]["refused"] == 1
    assert session["activations"]["timed_out"] == 0
    for settlement in (f.event for f in facts if isinstance(f.event, ev.SettlementComputed)):
        assert sum(line.amount_cents for line in settlement.invoice) == settlement.total_cents
    assert "settlement" in table(final)
    assert_all_follows_once(facts)
    assert_every_part_was_played(session, facts)
    # What was assumed beyond the grid's own data is said wherever the numbers are.
    grown = re.search(r"loads x (\d\.\d\d): electrified heating", area["name"])
    assert bool(grown) is (day == "winter")
    for shown in (table(final), report(page)):
        assert area["name"] in shown


def assert_all_follows_once(facts: list[Fact]) -> None:
    """What counts after chaos finds nothing wrong with a day that nobody disturbed."""
    named = [(type(f.event).__name__, f.event) for f in facts]
    story = told([(n, _decode(_word(n), codec.encode(e))) for n, e in named if n in READS], None)
    assert len(story.expected) > 30
    assert (story.missing, story.doubled) == ([], [])


def assert_every_part_was_played(session: dict[str, Any], facts: list[Fact]) -> None:
    seen = {type(f.event) for f in facts}
    assert seen >= {ev.FlexOfferReplaced, ev.FlexOfferWithdrawn, ev.CapacityLimitForeseen, ev.TrafficLightSet}
    assert session["offers"]["clipped"] >= 1
    assert session["activations"]["stopped"] >= 1
    assert session["delivery"]["under_delivered"] >= 1
    assert session["settlement"]["corrected"] >= 1
    assert session["tso"]["shares"] >= 1


def test_the_same_day_twice_gives_the_same_numbers_and_the_same_derived_ids() -> None:
    first, facts = play("1-LV-rural1--2-sw", "sunny")
    second, again = play("1-LV-rural1--2-sw", "sunny")
    assert summary(first) == summary(second)
    services = {"scheduler", "congestion", "aggregation", "traffic_light", "clearing", "activation", "settlement"}
    assert [f.event_id for f in facts if f.sender_id in services] == [
        f.event_id for f in again if f.sender_id in services
    ]
