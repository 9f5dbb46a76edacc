"""On a Kafka that has played a day, the next demo plays a later one, as a played clock never runs back."""

from datetime import date, timedelta

import pytest

from flexbus.events import NetworkModelPublished
from flexbus.time import local_day
from streams.demo.scenario import Scenario, another_day, days_until_after

DAY = date(2027, 7, 25)
ZONE = "Europe/Berlin"
YEAR = 364
HOUR_MS = 3_600_000


def scenario() -> Scenario:
    network = NetworkModelPublished(
        area_id="a", network_id="n", revision=1, valid_from_ms=0, buses=(), branches=(), infeed_points=()
    )
    return Scenario(
        area_id="a",
        title="",
        note="",
        day=DAY,
        time_zone=ZONE,
        start_ms=local_day(DAY, ZONE).start_ms,
        network=network,
        injections=(),
        sites=(),
        step_w=1,
    )


@pytest.mark.parametrize(
    ("played_h", "days"),
    [(-500, 0), (-19, 0), (-18, YEAR), (36, YEAR), (YEAR * 24 - 19, YEAR), (YEAR * 24 - 18, 2 * YEAR)],
    ids=["long before", "just before", "at its begin", "as after this day", "before the next", "at the next"],
)
def test_a_day_is_moved_by_whole_years_until_all_of_it_is_to_come(played_h: int, days: int) -> None:
    first = scenario()
    played_ms = first.start_ms + played_h * HOUR_MS
    assert days_until_after(first, played_ms) == days
    moved = another_day(first, "b", days)
    assert moved.begins_ms > played_ms
    assert moved.day == DAY + timedelta(days=days)
    assert moved.start_ms == local_day(moved.day, ZONE).start_ms
    assert moved.day.weekday() == DAY.weekday()
