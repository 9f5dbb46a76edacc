"""HEDGE-IoT SUC-FI-02.06: the tables T-IN, T-ND, T-RQ and T-RS, as far as they concern a market on the bus.

Feeder of tests/market.py: GRID --T1-- B1 --L1-- B2 --L2-- B3. Margin 2 %, least need 20 kW, step 10 kW.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from flexbus import events as ev
from flexbus.errors import FaultyInputError
from flexbus.events import CongestionKind, NeedState, ProcurementState
from flexbus.quantities import Direction
from flexbus.time import parse_ms
from flexbus.views import congestion, needs
from flexbus.views.congestion import Congestion, over_procured_w
from flexbus.views.fact import Emission
from flexbus.views.harmonise import Source, canonical, harmonise
from tests.market import (
    AREA,
    DSO,
    HOUR,
    QUARTER,
    START,
    TSO,
    codes,
    delivery_started,
    founded,
    gate_closed,
    gate_opened,
    network,
    product,
    request,
    session,
)  # fmt: skip

UP, DOWN = Direction.UP, Direction.DOWN
CAP = 90_000
E = TypeVar("E")


class Run:
    """A market and its congestion service: what the service decides is sent to the journal unless it is held."""

    def __init__(self, *, gate: bool = True, **terms: Any) -> None:
        self.market = founded(scheduled=False)
        self.state = Congestion()
        self.due: list[Emission] = []
        self.hold: Callable[[Any], bool] = lambda event: False
        self.seen = 0
        terms = {"request_max_price_milli_per_mwh": CAP, **terms}
        self.market.send(product(**terms), "fmo")
        self.market.send(session("S"), "fmo")
        self.step()
        if gate:
            self.send(gate_opened("S"), "scheduler")

    def send(self, event: Any, sender: str = DSO) -> list[Any]:
        """Send an event; return what the service decides on it."""
        before = len(self.due)
        self.market.send(event, sender)
        self.step()
        return [e.event for e in self.due[before:]]

    def step(self) -> None:
        while self.seen < len(self.market.facts):
            fact = self.market.facts[self.seen]
            self.seen += 1
            congestion.fold(self.state, fact)
            for emission in congestion.decide(self.state, fact):
                self.due.append(emission)
                if not self.hold(emission.event):
                    self.market.send(emission.event, "congestion")

    def of(self, kind: type[E]) -> list[E]:
        return [e.event for e in self.due if isinstance(e.event, kind)]

    def close(self, session_id: str = "S") -> list[Any]:
        return self.send(gate_closed(session_id), "scheduler")

    def live(self, session_id: str = "S") -> dict[str, tuple[int, ...]]:
        """Return the quantities of the live requests of the journal by location."""
        found: dict[str, tuple[int, ...]] = {}
        for name, record in self.market.admission.requests.items():
            tracked = self.state.procurement.requests[name]
            if record.live and record.scope_id == session_id and tracked.accepted is not None:
                found[tracked.accepted.location_id] = tracked.accepted.power_w
        return found


def forecast(
    element: str = "T1", flow_w: tuple[int | None, ...] = (-5_400_000,), revision: int = 1, **changes: Any
) -> ev.CongestionForecastReceived:
    e = ev.CongestionForecastReceived(
        area_id=AREA,
        forecast_id=f"f-{element}",
        revision=revision,
        element_id=element,
        kind=CongestionKind.THERMAL,
        issued_at_ms=START - 14 * HOUR + revision,
        start_ms=START,
        resolution_s=900,
        flow_w=flow_w,
        limit_import_w=5_000_000,
        limit_export_w=5_000_000,
    )
    return replace(e, **changes)


def voltage(bus: str, up: int = 0, down: int = 0, **changes: Any) -> ev.CongestionForecastReceived:
    e = ev.CongestionForecastReceived(
        area_id=AREA,
        forecast_id=f"v-{bus}",
        revision=1,
        element_id=bus,
        kind=CongestionKind.VOLTAGE,
        issued_at_ms=START - 14 * HOUR,
        start_ms=START,
        resolution_s=900,
        need_up_w=(up,),
        need_down_w=(down,),
    )
    return replace(e, **changes)


def cleared(run: Run, session_id: str = "S", **matched: tuple[int, ...]) -> ev.MarketCleared:
    """The clearing of a session that gives each location so much; "all" gives everything."""
    outcomes = []
    for name in run.state.procurement.of_session.get(session_id, {}):
        tracked = run.state.procurement.requests[name]
        if tracked.live and tracked.accepted is not None:
            wanted = tracked.accepted.power_w
            given = matched.get(tracked.accepted.location_id, (0,) * len(wanted))
            outcomes.append(
                ev.RequestOutcome(
                    request_id=name, requester_id=DSO, requested_w=wanted, matched_w=given, reason="too dear"
                )
            )
    slot = ev.ClearedSlot(
        start_ms=START,
        status=ev.SlotStatus.EXACT,
        up_w=0,
        down_w=0,
        requested_w=0,
        shortfall_w=0,
        loss_gap_w=0,
        ac_violation_ppm=0,
        cost_nano=0,
        binding=(),
    )
    return ev.MarketCleared(
        area_id=AREA,
        session_id=session_id,
        clearing_id="c",
        gate_block=1,
        network_id="grid",
        network_revision=1,
        start_ms=START,
        resolution_s=900,
        slots=(slot,),
        awards=(),
        non_awards=(),
        requests=tuple(outcomes),
        cost_nano=0,
        welfare_nano=0,
        solver="",
        case_hash="",
        result_hash="",
    )


def need(run: Run, element: str = "T1", direction: Direction = UP) -> int:
    """Return the need last told in the first slot, W."""
    told = [e for e in run.of(ev.NeedComputed) if (e.element_id, e.direction) == (element, direction)]
    return told[-1].need_w[0] if told else 0


# --- T-IN: intake (3, 7, 10, 12, 13 and 14 are admission: test_content.py, test_admission.py; 1 and 2 the sequencer)


def test_t_in_4_hourly_megawatts_with_import_positive() -> None:
    source = Source(unit="MW", export_positive=False, elements={"Trafo 1": "T1"})
    element, start_ms, flow_w = harmonise(source, "Trafo 1", ["2027-01-15T00:00:00+02:00"], ["0.4"], 3600)
    cells = canonical(forecast(element, flow_w, start_ms=start_ms, resolution_s=3600))
    assert {(q - START) // QUARTER: (c.flow_min_w, c.flow_max_w) for q, c in cells.items()} == dict.fromkeys(
        range(4), (-400000, -400000)
    )


def test_t_in_5_of_five_minute_flows_the_greatest_counts() -> None:
    (cell,) = canonical(forecast(flow_w=(-4_800_000, -5_200_000, -4_900_000), resolution_s=300)).values()
    assert cell.flow_min_w == -5_200_000


def test_t_in_6_both_limits_may_be_broken_in_one_quarter_hour() -> None:
    run = Run()
    run.send(forecast(flow_w=(-5_200_000, 5_300_000, 0), resolution_s=300))
    assert (need(run, direction=UP), need(run, direction=DOWN)) == (300_000, 400_000)


def test_t_in_8_the_repeated_hour_of_autumn_is_two_hours_in_utc() -> None:
    first = parse_ms("2027-10-31T00:00:00+03:00")
    local = []
    for k in range(100):
        offset = 3 if k < 16 else 2
        minutes = k * 15 - (0 if k < 16 else 60)
        local.append(f"2027-10-31T{minutes // 60:02d}:{minutes % 60:02d}:00+0{offset}:00")
    source = Source(unit="kW", export_positive=True, elements={"T1": "T1"})
    _, start_ms, flow_w = harmonise(source, "T1", local, list(range(100)), 900)
    assert start_ms == first
    cells = canonical(forecast(flow_w=flow_w, start_ms=start_ms))
    assert len(cells) == 100
    assert {parse_ms("2027-10-31T00:00:00Z"), parse_ms("2027-10-31T01:00:00Z")} <= set(cells)


def test_t_in_9_times_without_offset_are_refused_with_every_other_fault() -> None:
    source = Source(unit="kW", export_positive=True, elements={})
    with pytest.raises(FaultyInputError) as refused:
        harmonise(source, "T9", ["2027-10-31T03:00:00", "2027-10-31T03:15:00"], ["1.0005", "x"], 900)
    assert codes(refused.value.faults) == {
        "$.element": "UNKNOWN_ELEMENT",
        "$.times[0]": "BAD_PERIOD",
        "$.times[1]": "BAD_PERIOD",
        "$.values[0]": "BAD_QUANTITY",
        "$.values[1]": "BAD_QUANTITY",
    }


def test_a_gap_in_foreign_times_is_told() -> None:
    source = Source(unit="W", export_positive=True, elements={"T1": "T1"})
    with pytest.raises(FaultyInputError) as refused:
        harmonise(source, "T1", ["2027-01-15T00:00:00Z", "2027-01-15T00:30:00Z"], [1, 2], 900)
    assert codes(refused.value.faults) == {"$.times[1]": "BAD_PERIOD"}


def test_t_in_11_a_forecast_of_seven_hours_makes_no_new_request() -> None:
    run = Run(gate=False)
    run.send(forecast(issued_at_ms=START - 21 * HOUR))
    run.send(gate_opened("S", START - 14 * HOUR), "scheduler")
    assert run.due == []


def test_existing_requests_outlive_the_age_of_their_forecast() -> None:
    run = Run()
    run.send(forecast())
    run.send(forecast("L2", (0,), issued_at_ms=START - 6 * HOUR, limit_import_w=1_000))
    assert run.live() == {"T1": (500_000,)}


def test_the_newest_issue_wins_and_then_the_revision() -> None:
    run = Run()
    run.send(forecast(flow_w=(-5_400_000,), issued_at_ms=START - 13 * HOUR))
    older = forecast(flow_w=(-6_000_000,), forecast_id="other", issued_at_ms=START - 14 * HOUR)
    assert run.send(older) == []
    assert need(run) == 500_000


def grid_state(session_id: str = "S") -> ev.GridStatePublished:
    return ev.GridStatePublished(
        area_id=AREA,
        session_id=session_id,
        cleared=False,
        start_ms=START,
        resolution_s=900,
        buses=(),
        branches=(),
    )


def net_forecast(revision: int) -> ev.NetForecastPublished:
    return ev.NetForecastPublished(
        area_id=AREA,
        forecast_id="net",
        revision=revision,
        network_id="grid",
        issued_at_ms=START - 14 * HOUR,
        start_ms=START,
        resolution_s=900,
        injections=(ev.BusInjection(bus_id="B1", power_w=(0,), reactive_power_var=(0,)),),
    )


def computed(element: str, revision: int) -> ev.CongestionForecastReceived:
    return forecast(element, revision=revision, session_id="S", issued_at_ms=START - 14 * HOUR)


def test_what_a_newer_power_flow_no_longer_finds_is_withdrawn_when_its_grid_state_comes() -> None:
    run = Run()
    run.send(net_forecast(1))
    run.send(computed("L1", 1), "congestion")
    run.send(computed("T1", 1), "congestion")
    run.send(grid_state(), "congestion")
    assert run.live() == {"L1": (500_000,)}
    run.send(net_forecast(2))
    run.send(computed("T1", 2), "congestion")
    assert run.live() == {"L1": (500_000,)}
    run.send(grid_state(), "congestion")
    assert run.live() == {"T1": (500_000,)}
    run.send(net_forecast(3))
    run.send(grid_state(), "congestion")
    assert run.live() == {}


def test_a_newer_power_flow_leaves_what_a_planner_has_sent() -> None:
    run = Run()
    run.send(forecast("L1", session_id="S"))
    run.send(net_forecast(2))
    run.send(grid_state(), "congestion")
    assert run.live() == {"L1": (500_000,)}


# --- T-ND: needs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "flow_w", "probability", "up_w", "down_w"),
    [
        ("T-ND-1", -5_400_000, (), 500_000, 0),
        ("T-ND-2", 5_100_000, (), 0, 200_000),
        ("T-ND-3", -4_915_000, (), 0, 0),
        ("T-ND-4", -5_400_000, (300_000,), 0, 0),
        ("at p_min", -5_400_000, (500_000,), 500_000, 0),
        ("T-ND-5", -4_900_000, (), 0, 0),
        ("least need", -4_920_000, (), 20_000, 0),
    ],
)
def test_t_nd_1_to_5(name: str, flow_w: int, probability: tuple[int, ...], up_w: int, down_w: int) -> None:
    run = Run()
    run.send(forecast(flow_w=(flow_w,), probability_ppm=probability))
    assert (need(run, direction=UP), need(run, direction=DOWN)) == (up_w, down_w), name


# Needs of L1 by flows against limits of 1 MW (usable 980 kW), the first slot of T1 against 5 MW (usable 4.9 MW).
NESTED = [
    ("T-ND-6", -1_180_000, -5_400_000, {"L1": (200_000, 0), "T1": (300_000, 0)}),
    ("T-ND-7", 1_080_000, -5_400_000, {"L1": (0, 100_000), "T1": (600_000, 0)}),
    ("T-ND-8", -1_180_000, -5_050_000, {"L1": (200_000, 0), "T1": (0, 0)}),
    ("T-ND-11", 1_080_000, -4_000_000, {"L1": (0, 100_000), "T1": (0, 0)}),
]


@pytest.mark.parametrize(("name", "line_w", "trafo_w", "expected"), NESTED)
@pytest.mark.parametrize("upper_first", [True, False])
def test_t_nd_6_7_8_11_nested(
    name: str, line_w: int, trafo_w: int, expected: dict[str, tuple[int, int]], upper_first: bool
) -> None:
    run = Run()
    line = forecast("L1", (line_w,), limit_import_w=1_000_000, limit_export_w=1_000_000)
    trafo = forecast("T1", (trafo_w,))
    for event in (trafo, line) if upper_first else (line, trafo):
        run.send(event)
    assert {e: (need(run, e, UP), need(run, e, DOWN)) for e in ("L1", "T1")} == expected, name
    assert run.live() == {e: (max(n),) for e, n in expected.items() if any(n)}


def test_a_need_far_below_acts_on_every_element_above() -> None:
    run = Run()
    low = {"limit_import_w": 1_000_000, "limit_export_w": 1_000_000}
    run.send(forecast("GRID", (-5_400_000,)))
    run.send(forecast("L1", (-1_180_000,), **low))
    run.send(forecast("L2", (-1_080_000,), **low))
    assert [need(run, e) for e in ("L2", "L1", "GRID")] == [100_000, 100_000, 300_000]


def test_a_voltage_need_is_taken_as_given_and_acts_above() -> None:
    run = Run()
    run.send(voltage("B2", up=205_000))
    run.send(forecast("T1", (-5_400_000,)))
    assert (need(run, "B2"), need(run, "T1")) == (205_000, 290_000)
    assert run.live() == {"B2": (210_000,), "T1": (290_000,)}


def test_t_nd_9_a_newer_forecast_changes_the_need_and_says_both_causes() -> None:
    run = Run()
    (first, _) = run.send(forecast())[:2]
    (second, *_) = run.send(forecast(flow_w=(-5_000_000,), revision=2))
    assert isinstance(first, ev.NeedComputed)
    assert isinstance(second, ev.NeedComputed)
    assert (first.need_w[0], second.need_w[0]) == (500_000, 100_000)
    assert first.causes == ("f-T1 revision 1",)
    assert second.causes == ("f-T1 revision 2",)


def test_t_nd_10_a_replay_gives_the_same_needs_with_the_same_ids() -> None:
    run = Run()
    run.send(forecast())
    run.send(forecast("L1", (-6_000_000,)))
    run.close()
    run.send(cleared(run, L1=(600_000,)), "clearing")
    state, again = Congestion(), list[Any]()
    for fact in run.market.facts:
        congestion.fold(state, fact)
        again += congestion.decide(state, fact)
    assert again == run.due
    assert len({e.event_id for e in again}) == len(again)


def test_a_need_that_goes_is_gone() -> None:
    run = Run()
    run.send(forecast())
    run.send(forecast(flow_w=(0,), revision=2))
    assert [e.state for e in run.of(ev.NeedComputed)] == [NeedState.OPEN, NeedState.GONE]


def test_hedge_9_a_need_without_registered_points_is_the_dsos_own_to_solve() -> None:
    run = Run()
    run.send(ev.ConnectionPointRemoved(area_id=AREA, connection_point_id="GCP-3", reason="gone"))
    run.send(forecast("L2"))
    run.send(forecast("L2", (-5_500_000,), revision=2))
    (event,) = run.of(ev.NeedNotTradable)
    assert (event.element_id, event.direction) == ("L2", UP)
    assert run.live() == {}
    run.send(forecast("L1"))
    assert list(run.live()) == ["L1"]


# --- T-RQ: requests ---------------------------------------------------------------------------------------------


def test_t_rq_1_the_quantity_follows_the_sensitivity() -> None:
    run = Run(sensitivity_ppm=800_000)
    run.send(forecast())
    assert run.live() == {"T1": (630_000,)}


def test_t_rq_2_a_slot_without_need_ends_a_request() -> None:
    run = Run()
    run.send(forecast(flow_w=(-5_000_000, -5_020_000, 0, -4_990_000), start_ms=START + 10 * HOUR))
    requests = [e.request for e in run.of(ev.FlexRequestSubmitted)]
    assert [((r.start_ms - START) // QUARTER, r.power_w) for r in requests] == [
        (40, (100_000, 120_000)),
        (43, (90_000,)),
    ]
    r = requests[0]
    assert (r.requester_id, r.direction, r.location_kind, r.location_id, r.max_price_milli_per_mwh) == (
        DSO,
        UP,
        ev.LocationKind.BRANCH,
        "T1",
        CAP,
    )


def test_t_rq_3_quantities_are_rounded_up_to_the_step() -> None:
    run = Run()
    run.send(forecast(flow_w=(-5_001_000,)))
    assert run.live() == {"T1": (110_000,)}


def test_t_rq_4_what_the_day_ahead_gave_is_not_asked_for_again() -> None:
    run = Run()
    run.send(forecast(flow_w=(-5_200_000,)))
    run.close()
    run.send(cleared(run, T1=(300_000,)), "clearing")
    run.send(session("ID", gate_opens_ms=START - 11 * HOUR, gate_closes_ms=START - HOUR), "fmo")
    run.send(gate_opened("ID", START - 11 * HOUR), "scheduler")
    assert run.live("ID") == {}
    run.send(forecast(flow_w=(-5_400_000,), revision=2, issued_at_ms=START - 10 * HOUR))
    assert run.live("ID") == {"T1": (200_000,)}


def test_two_open_sessions_do_not_both_buy_for_one_need() -> None:
    run = Run()
    run.send(session("ID", gate_closes_ms=START - HOUR), "fmo")
    run.send(gate_opened("ID"), "scheduler")
    run.send(forecast())
    assert (run.live("S"), run.live("ID")) == ({"T1": (500_000,)}, {})
    run.close("S")
    run.send(cleared(run, T1=(100_000,)), "clearing")
    assert run.live("ID") == {"T1": (400_000,)}


def test_t_rq_5_a_need_that_arises_in_the_last_minutes_misses_the_gate() -> None:
    gate_ms = START - 12 * HOUR
    early, late = Run(), Run()
    early.send(forecast(issued_at_ms=gate_ms - 6 * 60_000))
    assert early.live() == {"T1": (500_000,)}
    late.send(forecast(issued_at_ms=gate_ms - 4 * 60_000))
    (missed,) = late.of(ev.RequestMissedGate)
    assert (missed.session_id, missed.reason) == ("S", "LATE")
    assert missed.request_id == early.of(ev.FlexRequestSubmitted)[0].request.request_id
    assert [e.state for e in late.of(ev.ProcurementStatusChanged)] == [ProcurementState.MISSED]
    late.close()
    late.send(session("ID", gate_opens_ms=gate_ms, gate_closes_ms=START - HOUR), "fmo")
    late.send(gate_opened("ID", gate_ms), "scheduler")
    assert late.live("ID") == {"T1": (500_000,)}


def test_a_request_that_reaches_the_journal_after_the_gate_has_missed_it() -> None:
    run = Run()
    run.hold = lambda event: isinstance(event, ev.FlexRequestSubmitted)
    run.send(forecast())
    (decided,) = run.of(ev.FlexRequestSubmitted)
    assert [type(e) for e in run.close()] == [ev.RequestMissedGate, ev.ProcurementStatusChanged]
    assert codes(run.market.refuse(decided, "congestion")) == {"$.request.session_id": "GATE_CLOSED"}


def test_a_forecast_for_a_session_that_is_over_goes_to_the_next_one() -> None:
    run = Run()
    run.close()
    decided = run.send(forecast(session_id="S"))
    assert [type(e) for e in decided] == [ev.NeedComputed, ev.RequestMissedGate, ev.ProcurementStatusChanged]
    run.send(session("ID", gate_closes_ms=START - HOUR), "fmo")
    run.send(gate_opened("ID", START - 12 * HOUR), "scheduler")
    assert run.live("ID") == {"T1": (500_000,)}


def test_a_forecast_meant_for_one_session_is_not_used_in_another() -> None:
    run = Run()
    run.send(session("ID", gate_closes_ms=START - 13 * HOUR), "fmo")
    run.send(gate_opened("ID"), "scheduler")
    run.send(forecast(session_id="S"))
    assert (run.live("S"), run.live("ID")) == ({"T1": (500_000,)}, {})


def settled(session_id: str, later_ms: int = 0) -> ev.SettlementDue:
    return ev.SettlementDue(area_id=AREA, session_id=session_id, at_ms=START + 48 * HOUR + later_ms)


def day(run: Run, number: int) -> tuple[int, int]:
    """Play a session with a need to its settlement; return what is then kept of forecasts, and found of requests."""
    later_ms = number * 72 * HOUR
    times = ("delivery_start_ms", "delivery_end_ms", "gate_opens_ms", "gate_closes_ms", "settlement_due_ms")
    planned = session(f"day-{number}")
    run.send(replace(planned, **{name: getattr(planned, name) + later_ms for name in times}), "fmo")
    run.send(gate_opened(planned.session_id, START - 14 * HOUR + later_ms), "scheduler")
    told = forecast(flow_w=(-5_400_000,) * 4, start_ms=START + later_ms, issued_at_ms=START - 13 * HOUR + later_ms)
    run.send(replace(told, forecast_id=f"f-{number}"))
    assert run.live(planned.session_id) == {"T1": (500_000,) * 4}
    run.close(planned.session_id)
    run.send(cleared(run, planned.session_id, T1=(100_000,) * 4), "clearing")
    run.send(settled(planned.session_id, later_ms), "scheduler")
    cells = sum(len(cells) for series in run.state.cells.values() for cells in series.values())
    place = run.state.procurement.requests[next(reversed(run.state.procurement.requests))].place
    return cells, len(list(run.state.procurement.at(place, START + later_ms)))


def test_what_is_looked_through_does_not_grow_with_the_days() -> None:
    run = Run()
    run.close()
    run.send(settled("S"), "scheduler")
    assert [day(run, number) for number in range(1, 6)] == [(0, 1)] * 5
    assert len(run.state.procurement.requests) == 5
    assert run.state.unsettled == {}


def test_of_a_day_that_is_settled_nothing_is_asked_and_nothing_kept() -> None:
    run = Run()
    run.close()
    run.send(settled("S"), "scheduler")
    assert run.send(forecast(session_id="S", flow_w=(-5_400_000,) * 4)) == []
    assert not any(cells for series in run.state.cells.values() for cells in series.values())
    run.send(forecast(flow_w=(-5_400_000,) * 4, start_ms=START + 24 * HOUR, revision=2))
    assert [len(cells) for series in run.state.cells.values() for cells in series.values() if cells] == [4]


def test_a_need_already_told_follows_the_forecast_also_after_its_gate() -> None:
    run = Run()
    run.send(forecast())
    run.send(session("ID", gate_closes_ms=START - HOUR), "fmo")
    run.close()
    (told,) = run.send(forecast(flow_w=(-5_500_000,), revision=2))
    assert isinstance(told, ev.NeedComputed)
    assert (told.session_id, told.need_w[0], told.state) == ("S", 600_000, NeedState.OPEN)


def test_what_a_person_asks_for_below_is_what_acts_above() -> None:
    run = Run()
    run.send(forecast("L1"))
    mine = run.of(ev.FlexRequestSubmitted)[0].request
    amended = replace(mine, revision=2, power_w=(100_000,), causes=("MANUAL",), reason="enough")
    run.send(ev.FlexRequestAmended(area_id=AREA, request=amended))
    run.send(forecast("T1"))
    assert run.live() == {"L1": (100_000,), "T1": (400_000,)}


def test_t_rq_6_without_a_price_cap_nothing_is_requested_and_the_dso_is_told() -> None:
    run = Run(request_max_price_milli_per_mwh=None)
    run.send(forecast())
    (event,) = run.of(ev.NeedNotTradable)
    assert event.reason.startswith("NO_PRICE")
    assert run.live() == {}


@pytest.mark.parametrize(
    ("flow_w", "expected"),
    [(-5_395_000, {"T1": (500_000,)}), (-5_380_000, {"T1": (480_000,)}), (0, {})],
    ids=["495 nothing", "480 amended", "0 withdrawn"],
)
def test_t_rq_7_changes_are_amended_or_withdrawn_while_the_gate_is_open(flow_w: int, expected: Any) -> None:
    run = Run()
    run.send(forecast())
    run.send(forecast(flow_w=(flow_w,), revision=2))
    assert run.live() == expected
    assert [e.request.revision for e in run.of(ev.FlexRequestAmended)] == ([2] if flow_w == -5_380_000 else [])
    assert len(run.of(ev.FlexRequestWithdrawn)) == (1 if flow_w == 0 else 0)


def test_a_withdrawn_need_that_comes_back_gets_a_new_request() -> None:
    run = Run()
    for revision, flow_w in enumerate((-5_400_000, 0, -5_400_000), start=1):
        run.send(forecast(flow_w=(flow_w,), revision=revision))
    first, second = (e.request.request_id for e in run.of(ev.FlexRequestSubmitted))
    assert first != second
    assert run.live() == {"T1": (500_000,)}


def test_t_rq_8_after_the_gate_nothing_is_changed_and_the_surplus_is_known() -> None:
    run = Run()
    run.send(forecast())
    run.close()
    assert [e.state for e in run.send(forecast(flow_w=(0,), revision=2))] == [NeedState.GONE]
    run.send(cleared(run, T1=(500_000,)), "clearing")
    (name,) = run.market.admission.requests
    assert over_procured_w(run.state, name) == (500_000,)


def test_a_request_that_a_cleared_session_has_no_room_to_tell_of_got_nothing() -> None:
    run = Run()
    run.send(forecast())
    run.close()
    untold = replace(cleared(run), requests=())
    run.send(untold, "clearing")
    assert last_status(run) == (ProcurementState.UNPROCURED, (500_000,))
    (expired,) = run.of(ev.FlexRequestExpired)
    assert (expired.remaining_w, "no" in expired.reason or "more requests" in expired.reason) == ((500_000,), True)


def test_t_rq_9_a_repeated_fact_changes_nothing() -> None:
    run = Run()
    run.send(forecast())
    before = len(run.due)
    for fact in run.market.facts[-3:]:
        congestion.fold(run.state, fact)
        assert congestion.decide(run.state, fact) == ()
    assert len(run.due) == before


def test_t_rq_12_no_request_for_a_slot_that_has_begun() -> None:
    run = Run(gate=False)
    run.send(session("X", delivery_start_ms=START - HOUR, delivery_end_ms=START + HOUR), "fmo")
    run.send(gate_opened("X"), "scheduler")
    run.send(gate_closed("X"), "scheduler")
    run.send(delivery_started(START, "X"), "scheduler")
    run.send(gate_opened("S"), "scheduler")
    run.send(forecast(flow_w=(-5_400_000,), session_id="S", issued_at_ms=START - 14 * HOUR))
    assert run.live() == {}
    run.send(forecast(flow_w=(-5_400_000,), session_id="S", revision=2, issued_at_ms=START))
    assert [e.state for e in run.of(ev.NeedComputed) if e.session_id == "S"] == [NeedState.UNCOVERED]
    assert run.of(ev.FlexRequestSubmitted) == []


# --- HEDGE-15: people -------------------------------------------------------------------------------------------


def test_what_a_person_withdraws_the_service_does_not_ask_for_again() -> None:
    run = Run()
    run.send(forecast())
    (name,) = run.market.admission.requests
    run.send(ev.FlexRequestWithdrawn(area_id=AREA, request_id=name, requester_id=DSO, reason="switched"))
    run.send(forecast(flow_w=(-5_600_000,), revision=2))
    assert run.live() == {}


def test_what_a_person_amends_stays_as_it_is() -> None:
    run = Run()
    run.send(forecast())
    mine = run.of(ev.FlexRequestSubmitted)[0].request
    amended = replace(mine, revision=2, power_w=(300_000,), causes=("MANUAL",), reason="enough")
    run.send(ev.FlexRequestAmended(area_id=AREA, request=amended))
    run.send(forecast(flow_w=(-5_600_000,), revision=2))
    assert run.live() == {"T1": (300_000,)}


def test_a_request_of_the_dso_itself_is_counted() -> None:
    run = Run()
    manual = request(session_id="S", location_id="T1", power_w=(200_000,))
    run.send(ev.FlexRequestSubmitted(area_id=AREA, request=manual))
    run.send(forecast())
    submitted = [e.request.power_w for e in run.of(ev.FlexRequestSubmitted)]
    assert submitted == [(300_000,)]


def test_a_request_of_the_tso_is_another_need() -> None:
    run = Run()
    theirs = request(session_id="S", requester_id=TSO, location_id="T1", power_w=(200_000,))
    run.send(ev.FlexRequestSubmitted(area_id=AREA, request=theirs), TSO)
    run.send(forecast())
    assert [e.request.power_w for e in run.of(ev.FlexRequestSubmitted)] == [(500_000,)]


# --- T-RS: responses --------------------------------------------------------------------------------------------


def two_slots() -> Run:
    run = Run()
    run.send(forecast(flow_w=(-5_400_000, -5_400_000)))
    run.close()
    return run


def last_status(run: Run) -> tuple[ProcurementState, tuple[int, ...]]:
    event = run.of(ev.ProcurementStatusChanged)[-1]
    return event.state, event.remaining_w


def test_a_request_in_the_journal_is_acknowledged() -> None:
    run = Run()
    run.send(forecast())
    assert last_status(run) == (ProcurementState.ACKNOWLEDGED, (500_000,))


def test_t_rs_1_part_procured() -> None:
    run = two_slots()
    run.send(cleared(run, T1=(300_000, 500_000)), "clearing")
    assert last_status(run) == (ProcurementState.PART_PROCURED, (200_000, 0))
    (expired,) = run.of(ev.FlexRequestExpired)
    assert (expired.remaining_w, expired.reason) == ((200_000, 0), "too dear")


def test_t_rs_2_the_rest_from_a_later_session_covers_the_need() -> None:
    run = two_slots()
    run.send(session("ID", gate_closes_ms=START - HOUR), "fmo")
    run.send(cleared(run, T1=(300_000, 500_000)), "clearing")
    run.send(gate_opened("ID", START - 11 * HOUR), "scheduler")
    assert run.live("ID") == {"T1": (200_000,)}
    run.send(gate_closed("ID", START - HOUR), "scheduler")
    run.send(cleared(run, "ID", T1=(200_000,)), "clearing")
    assert last_status(run) == (ProcurementState.PROCURED, (0,))
    assert {e.session_id: e.state for e in run.of(ev.NeedComputed)} == {
        "S": NeedState.COVERED,
        "ID": NeedState.COVERED,
    }


def test_t_rs_3_the_same_response_twice_is_counted_once() -> None:
    run = two_slots()
    result = cleared(run, T1=(300_000, 500_000))
    run.send(result, "clearing")
    assert run.send(result, "clearing") == []


def test_t_rs_5_more_than_requested_is_not_believed() -> None:
    run = two_slots()
    run.send(cleared(run, T1=(700_000, 0)), "clearing")
    assert last_status(run)[0] is ProcurementState.ACKNOWLEDGED


def test_t_rs_6_unprocured_without_later_session_is_uncovered() -> None:
    run = two_slots()
    run.send(cleared(run), "clearing")
    assert last_status(run) == (ProcurementState.UNPROCURED, (500_000, 500_000))
    told = run.of(ev.NeedComputed)[-1]
    assert (told.state, told.need_w[:2]) == (NeedState.UNCOVERED, (500_000, 500_000))


def test_a_withdrawn_request_is_withdrawn() -> None:
    run = Run()
    run.send(forecast())
    run.send(forecast(flow_w=(0,), revision=2))
    assert last_status(run)[0] is ProcurementState.WITHDRAWN


# --- the feeder tree ----------------------------------------------------------------------------------------------


def test_the_feeder_tree_runs_from_the_infeed_point() -> None:
    tree = needs.feeder_tree(network())
    assert tree.depth == {"B0": 0, "B1": 1, "B2": 2, "B3": 3}
    assert tree.buses_behind("L1") == frozenset({"B2", "B3"})
    assert tree.buses_behind("GRID") == frozenset({"B0", "B1", "B2", "B3"})
    assert list(tree.over("L2", CongestionKind.THERMAL)) == ["L1", "T1", "GRID"]
    assert list(tree.over("B2", CongestionKind.VOLTAGE)) == ["L1", "T1", "GRID"]


def test_a_branch_that_closes_a_loop_and_an_open_one_are_not_in_the_tree() -> None:
    base = network()
    tie = replace(base.branches[1], branch_id="TIE", from_bus_id="B1", to_bus_id="B3")
    looped = needs.feeder_tree(replace(base, branches=(*base.branches, tie)))
    assert looped.buses_behind("L2") is None or looped.buses_behind("TIE") is None
    opened = needs.feeder_tree(replace(base, branches=(*base.branches, replace(tie, closed=False))))
    assert opened.buses_behind("TIE") is None
    assert opened.depth["B3"] == 3


def test_runs_end_at_slots_without_need() -> None:
    assert needs.runs((0, 1, 2, 0, 3)) == [(1, (1, 2)), (4, (3,))]
    assert needs.runs(()) == []
