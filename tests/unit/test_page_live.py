"""Meter readings on the page while delivery runs: grid and delivered power follow them before anything is settled."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from clearing.power_flow import AcGrid
from flexbus import events as ev
from flexbus.events import Quality, Role
from streams.page.metered import refresh_metered
from streams.page.model import PageState, fold, snapshot
from streams.page.rows import Lens
from tests.page_day import AREA, DSO, FSPS, METER, QUARTER, READ_EVERY, SESSION, SLOTS, START, blocks, history

Told = list[tuple[str, Any, int]]
ONE = 52  # slot of one o'clock
END = "F1.13"


@pytest.fixture(scope="module")
def events() -> Told:
    return history()


def until(events: Told, slot: int) -> Told:
    """The day up to and with the beginning of a quarter-hour's delivery, and so the readings of the hour before."""
    started = [k for k, (_, e, _) in enumerate(events) if isinstance(e, ev.DeliveryStarted)]
    return events[: started[slot] + 1]


def shown(events: Told) -> PageState:
    state = PageState()
    for block in blocks(events):
        fold(state, block)
    refresh_metered(state.areas[AREA])
    return state


def grid(state: PageState, mode: str) -> dict[str, Any]:
    value = state.rows.get(AREA, "grid", f"{SESSION}/{mode}")
    assert value is not None
    return value


def read_orders(state: PageState) -> dict[str, dict[str, Any]]:
    return state.rows.section(AREA, "readings")


def test_before_the_first_reading_nothing_is_metered(events: Told) -> None:
    gate = next(k for k, (_, e, _) in enumerate(events) if isinstance(e, ev.MeterReadingReceived))
    state = shown(events[:gate])
    assert state.rows.get(AREA, "grid", f"{SESSION}/metered") is None
    assert read_orders(state) == {}


def test_the_grid_follows_the_readings_while_delivery_runs(events: Told) -> None:
    # read:  ... 12:00–13:00 | not read: 13:00 on
    told = until(events, ONE)
    assert not any(isinstance(e, ev.SettlementDue | ev.DeliveryComputed | ev.DeliveryEnded) for _, e, _ in told)
    state = shown(told)
    metered, cleared, forecast = (grid(state, mode) for mode in ("metered", "cleared", "forecast"))
    for slot in range(ONE - READ_EVERY, ONE):  # an order was refused: more feeds in than was cleared
        volts = [g["voltage_ppm"][END][slot] for g in (cleared, metered, forecast)]
        assert volts == sorted(set(volts))
        assert cleared["loading_ppm"]["L1.01"][slot] < metered["loading_ppm"]["L1.01"][slot]
        assert metered["read"][slot] == 10
    assert metered["read"][ONE:] == [0] * (SLOTS - ONE)  # and what is not read is the plan, and says so
    assert metered["plan"] == "cleared"
    for table in ("voltage_ppm", "loading_ppm", "power_w"):
        for element, series in metered[table].items():
            assert series[ONE:] == cleared[table][element][ONE:]


def test_an_hour_later_an_hour_more_is_read(events: Told) -> None:
    before, after = (grid(shown(until(events, k)), "metered") for k in (ONE, ONE + READ_EVERY))
    assert before["voltage_ppm"][END][:ONE] == after["voltage_ppm"][END][:ONE]
    assert before["voltage_ppm"][END][ONE] != after["voltage_ppm"][END][ONE]
    assert [bool(n) for n in after["read"][ONE : ONE + READ_EVERY + 1]] == [True] * READ_EVERY + [False]


def test_a_meter_that_reads_less_than_the_baseline_lowers_its_voltage(events: Told) -> None:
    # no order is running at four in the morning: what is read counts all the same
    told = until(events, 20)
    slot, point = 16, "GCP-11"  # at F1.13; baseline 60 kWh
    low, even = (shown([*told, reading(point, slot, (wh,))]) for wh in (10_000, 60_000))
    assert grid(low, "metered")["voltage_ppm"][END][slot] < grid(even, "metered")["voltage_ppm"][END][slot]
    assert grid(even, "metered")["voltage_ppm"][END][slot] == grid(even, "forecast")["voltage_ppm"][END][slot]


def reading(
    point: str, slot: int, energy_wh: tuple[int, ...], revision: int = 1, quality: tuple[Quality, ...] = ()
) -> tuple[str, ev.MeterReadingReceived, int]:
    event = ev.MeterReadingReceived(
        area_id=AREA, reading_id=f"{point}.{slot}.{revision}", revision=revision, connection_point_id=point,
        meter_operator_id=METER, start_ms=START + slot * QUARTER, resolution_s=900, energy_wh=energy_wh,
        quality=quality,
    )  # fmt: skip
    return METER, event, START + 30 * QUARTER


def test_a_later_version_replaces_an_earlier_one_and_never_the_other_way(events: Told) -> None:
    told, slot, point = until(events, 20), 16, "GCP-11"
    first, second = reading(point, slot, (10_000,)), reading(point, slot, (35_000,), revision=2)
    volts = [
        grid(shown([*told, *versions]), "metered")["voltage_ppm"][END][slot]
        for versions in ([first], [second], [first, second], [second, first])
    ]
    assert volts[0] != volts[1]
    assert volts[1:] == [volts[1]] * 3


def test_a_missing_value_is_no_reading_and_an_estimated_one_is(events: Told) -> None:
    told, slot, point = until(events, 20), 16, "GCP-11"
    lost = reading(point, slot, (10_000, 10_000), quality=(Quality.MISSING, Quality.ESTIMATED))
    state = shown([*told, lost])
    assert grid(state, "metered")["read"][slot : slot + 2] == [0, 1]
    assert grid(state, "metered")["voltage_ppm"][END][slot] == grid(state, "cleared")["voltage_ppm"][END][slot]

    state = shown([*told, reading(point, slot, (10_000,))])
    assert grid(state, "metered")["read"][slot] == 1
    fold(state, blocks([reading(point, slot, (0,), 2, (Quality.MISSING,))])[0])  # taken back: the plan again
    refresh_metered(state.areas[AREA])
    assert grid(state, "metered")["read"][slot] == 0
    assert grid(state, "metered")["voltage_ppm"][END][slot] == grid(state, "cleared")["voltage_ppm"][END][slot]


def test_what_is_delivered_is_shown_as_it_is_read_and_then_as_computed(events: Told) -> None:
    state = shown(until(events, ONE))
    orders = {a["activation_id"]: a for a in state.rows.section(AREA, "activations").values()}
    live = read_orders(state)
    assert len(live) == 10
    assert "deliveries" not in snapshot(state, AREA)["sections"]
    end = shown(events)
    computed = end.rows.section(AREA, "deliveries")
    for activation_id, row in live.items():
        read = sum(wh is not None for wh in row["delivered_wh"])
        assert 0 < read < len(row["delivered_wh"])
        assert row["delivered_wh"][read:] == [None] * (len(row["delivered_wh"]) - read)
        if orders[activation_id]["answer"] == "REFUSED":
            assert set(row["delivered_wh"][:read]) == {0}
        elif computed[activation_id]["revision"] == 1:  # what the readings say is what the settlement computes
            assert row["delivered_wh"][:read] == computed[activation_id]["delivered_wh"][:read]


def test_once_computed_a_reading_changes_the_grid_but_not_what_is_settled(events: Told) -> None:
    due = next(k for k, (_, e, _) in enumerate(events) if isinstance(e, ev.SettlementDue))
    before = shown(events[: due + 1])
    late = shown([*events[: due + 1], reading("GCP-01", ONE, (1_000_000,), revision=5)])
    assert read_orders(before) == read_orders(late)
    assert grid(before, "metered")["voltage_ppm"][END][ONE] < grid(late, "metered")["voltage_ppm"][END][ONE]


@pytest.mark.parametrize("role", list(Role))
def test_who_may_not_see_readings_sees_nothing_that_follows_from_them(events: Told, role: Role) -> None:
    state = shown(until(events, ONE))
    party = {Role.DSO: DSO, Role.FSP: FSPS[0], Role.METER_OPERATOR: METER}.get(role)
    for lens in (Lens(role), Lens(role, party), Lens(role, party, proven=True, area_id=AREA)):
        sections = snapshot(state, AREA, lens)["sections"]
        allowed = role in (Role.DSO, Role.FMO, Role.AUDITOR)
        assert ("readings" in sections) == allowed
        assert (f"{SESSION}/metered" in sections.get("grid", {})) == allowed


def test_only_the_quarter_hours_read_are_solved_anew(events: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    state = shown(until(events, ONE))
    solved: list[int] = []
    solve = AcGrid.solve

    def counted(self: AcGrid, p: np.ndarray, q: np.ndarray) -> Any:
        solved.append(len(p))
        return solve(self, p, q)

    monkeypatch.setattr(AcGrid, "solve", counted)
    area = state.areas[AREA]
    assert not refresh_metered(area)  # nothing new, nothing done
    fold(state, blocks([reading("GCP-01", ONE, (50_000, 50_000))])[0])
    assert refresh_metered(area)
    assert solved == [2]


def test_much_at_once_is_done_in_parts_the_newest_first(events: Told) -> None:
    whole, parts = shown(until(events, ONE)), PageState()
    for block in blocks(until(events, ONE)):
        fold(parts, block)
    area = parts.areas[AREA]
    assert refresh_metered(area, 1)
    assert [k for k, n in enumerate(grid(parts, "metered")["read"]) if n] == [ONE - 1]
    steps = 1
    while refresh_metered(area, 1):
        steps += 1
        assert steps <= ONE
    assert grid(parts, "metered") == grid(whole, "metered")
    assert read_orders(parts) == read_orders(whole)


def test_the_readings_of_days_that_are_over_are_let_go(events: Told) -> None:
    day = 86_400_000
    schedule = next(e for _, e, _ in events if isinstance(e, ev.MarketSessionScheduled))
    tomorrow = replace(
        schedule, session_id="NEXT", delivery_start_ms=schedule.delivery_start_ms + day,
        delivery_end_ms=schedule.delivery_end_ms + day,
    )  # fmt: skip
    due = ("scheduler", ev.SettlementDue(area_id=AREA, session_id="NEXT", at_ms=START + 3 * day), START + 3 * day)
    state = shown([*events, ("fmo-local", tomorrow, START)])
    assert any(state.areas[AREA].evidence.readings.values())
    after = shown([*events, ("fmo-local", tomorrow, START), due, reading("GCP-01", ONE, (1,), revision=9)])
    left = after.areas[AREA].evidence
    assert {k[0] for k in left.baselines} == set()
    assert sum(len(r) for r in left.readings.values()) == 1  # the one that came too late to be shown
    assert grid(after, "metered") == grid(state, "metered")
