"""Sessions are scheduled; the clock goes on; what becomes due is said in market-time order, once."""

from flexbus import events as ev
from flexbus.ids import derived_id
from flexbus.views import agenda
from flexbus.views.agenda import Agenda, due, next_due_ms
from flexbus.views.fact import Fact

AREA = "A"
HOUR, SLOT = 3_600_000, 900_000
START = 100 * HOUR


def fact(event: object, event_id: str = "x") -> Fact:
    return Fact(event=event, event_id=event_id, sender_id="FMO", on_behalf_of=None, received_at_ms=0, block=0, index=0)


def session(name: str = "s1", start_ms: int = START, slots: int = 4) -> ev.MarketSessionScheduled:
    end = start_ms + slots * SLOT
    return ev.MarketSessionScheduled(
        area_id=AREA,
        session_id=name,
        product_id="p",
        delivery_start_ms=start_ms,
        delivery_end_ms=end,
        gate_opens_ms=start_ms - 10 * HOUR,
        gate_closes_ms=start_ms - HOUR,
        settlement_due_ms=end + HOUR,
    )


def told(*events: object, resolution_s: int = 900) -> Agenda:
    product = ev.MarketProductDefined(area_id=AREA, product_id="p", name="Quarter-hours", resolution_s=resolution_s)
    state = Agenda()
    for event in (product, *events):
        state = agenda.fold(state, fact(event))
    return state


def said(state: Agenda, now_ms: int) -> list[str]:
    return [type(e.emission.event).__name__ for e in due(state, now_ms)]


def test_a_session_goes_from_its_gate_to_its_settlement() -> None:
    # opens          closes   |start                       |end          settlement
    #   |--------------|------|----|----|----|----|---------|
    state = told(session())
    assert said(state, START - 10 * HOUR - 1) == []
    assert said(state, START - 10 * HOUR) == ["GateOpened"]
    assert said(state, START + 10 * HOUR) == [
        "GateOpened",
        "GateClosed",
        *["DeliveryStarted"] * 4,
        "DeliveryEnded",
        "SettlementDue",
    ]


def test_slots_follow_the_product() -> None:
    state = told(session(), resolution_s=1800)
    slots = [
        e.emission.event for e in due(state, START + 10 * HOUR) if isinstance(e.emission.event, ev.DeliveryStarted)
    ]
    assert [(s.start_ms, s.end_ms) for s in slots] == [
        (START, START + 2 * SLOT),
        (START + 2 * SLOT, START + 4 * SLOT),
    ]


def test_what_the_journal_shows_is_not_due_any_more() -> None:
    state = told(session())
    opened = due(state, START)[0].emission
    agenda.fold(state, fact(opened.event, opened.event_id))
    assert said(state, START - 10 * HOUR) == []
    assert next_due_ms(state) == START - HOUR


def test_ids_follow_from_the_cause_so_a_second_scheduler_says_the_same() -> None:
    first, second = (due(told(session()), START + 10 * HOUR) for _ in range(2))
    assert first == second
    assert first[0].emission.event_id == derived_id("GateOpened", AREA, "s1")
    assert len({e.emission.event_id for e in first}) == len(first)


def test_two_sessions_are_told_in_the_order_of_time_not_of_scheduling() -> None:
    later, earlier = session("late", START + 4 * SLOT), session("early", START)
    state = told(later, earlier)
    times = [e.at_ms for e in due(state, START + 100 * HOUR)]
    assert times == sorted(times)
    # At one instant the delivery of one session ends before that of the next begins.
    at_border = [e for e in due(state, START + 4 * SLOT) if e.at_ms == START + 4 * SLOT]
    assert [type(e.emission.event).__name__ for e in at_border] == ["DeliveryEnded", "DeliveryStarted"]


def test_a_session_is_scheduled_once_and_needs_its_product() -> None:
    state = told(session(), session(start_ms=START + 50 * HOUR))
    assert max(e.at_ms for e in due(state, START + 500 * HOUR)) == START + 2 * HOUR
    unknown = agenda.fold(Agenda(), fact(session()))
    assert said(unknown, START + 500 * HOUR) == []
