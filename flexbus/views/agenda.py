"""What the clock makes due: gates, delivery slots and settlement of every scheduled session, in market-time order.

The agenda is what the scheduler works off. It follows from the sessions in the journal alone, so a scheduler that
was killed finds again what is due and not yet said.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from flexbus import events as ev
from flexbus.time import slot_starts
from flexbus.views.fact import Emission, Fact, emit

__all__ = ["Agenda", "Entry", "due", "fold", "next_due_ms"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing the clock will make a fact.

    Attributes:
        at_ms: market time at which it is due, UTC ms.
        rank: order among what is due at the same instant: what ends comes before what begins.
        emission: the fact.
    """

    at_ms: int
    rank: int
    emission: Emission

    @property
    def order(self) -> tuple[int, int, str]:
        """Sorting key: time, rank, session."""
        return self.at_ms, self.rank, self.emission.event.session_id


@dataclass(slots=True)
class Agenda:
    """The agenda of one area.

    Attributes:
        resolution_s: length of a slot by product, s.
        open: what the journal does not show yet, by event id, in order of time.
        sessions: every session scheduled so far.
    """

    resolution_s: dict[str, int] = field(default_factory=dict)
    open: dict[str, Entry] = field(default_factory=dict)
    sessions: set[str] = field(default_factory=set)


def fold(state: Agenda, fact: Fact) -> Agenda:
    """Take one fact into the agenda."""
    handle = _CHANGES.get(type(fact.event))
    if handle is not None:
        handle(state, fact.event, fact.event_id)
    return state


def due(state: Agenda, now_ms: int) -> tuple[Entry, ...]:
    """Return what is due and not in the journal, in order.

    Args:
        state: the agenda.
        now_ms: market time, UTC ms.
    """
    found = []
    for entry in state.open.values():
        if entry.at_ms > now_ms:
            break
        found.append(entry)
    return tuple(found)


def next_due_ms(state: Agenda, said: Collection[str] = ()) -> int | None:
    """Return when the first open thing is due, UTC ms; None if nothing is open.

    Args:
        state: the agenda.
        said: ids of what is on its way to the journal.
    """
    return next((e.at_ms for i, e in state.open.items() if i not in said), None)


def _product(state: Agenda, e: ev.MarketProductDefined, _: str) -> None:
    state.resolution_s[e.product_id] = e.resolution_s


def _session(state: Agenda, e: ev.MarketSessionScheduled, _: str) -> None:
    resolution_s = state.resolution_s.get(e.product_id)
    if resolution_s is None or e.session_id in state.sessions:
        return  # as the registry has it: a session is scheduled once, with its product as it was then
    state.sessions.add(e.session_id)
    entries = [*state.open.values(), *_entries(e, resolution_s)]
    state.open = {n.emission.event_id: n for n in sorted(entries, key=lambda n: n.order)}


def _said(state: Agenda, _: Any, event_id: str) -> None:
    state.open.pop(event_id, None)


def _entries(e: ev.MarketSessionScheduled, resolution_s: int) -> Iterator[Entry]:
    area, session = e.area_id, e.session_id
    slots = (e.delivery_end_ms - e.delivery_start_ms) // (resolution_s * 1000)
    yield _entry(e.gate_closes_ms, 0, ev.GateClosed(area_id=area, session_id=session, at_ms=e.gate_closes_ms))
    yield _entry(e.gate_opens_ms, 2, ev.GateOpened(area_id=area, session_id=session, at_ms=e.gate_opens_ms))
    for start_ms in slot_starts(e.delivery_start_ms, resolution_s, slots):
        slot = ev.DeliveryStarted(
            area_id=area, session_id=session, start_ms=start_ms, end_ms=start_ms + resolution_s * 1000
        )
        yield _entry(start_ms, 3, slot, start_ms)
    end_ms = e.delivery_end_ms
    yield _entry(end_ms, 1, ev.DeliveryEnded(area_id=area, session_id=session, at_ms=end_ms))
    yield _entry(e.settlement_due_ms, 4, ev.SettlementDue(area_id=area, session_id=session, at_ms=e.settlement_due_ms))


def _entry(at_ms: int, rank: int, event: Any, *more: int) -> Entry:
    return Entry(at_ms=at_ms, rank=rank, emission=emit(event, event.session_id, *more))


_CHANGES: dict[type[Any], Callable[[Agenda, Any, str], None]] = {
    ev.MarketProductDefined: _product,
    ev.MarketSessionScheduled: _session,
    ev.GateOpened: _said,
    ev.GateClosed: _said,
    ev.DeliveryStarted: _said,
    ev.DeliveryEnded: _said,
    ev.SettlementDue: _said,
}
