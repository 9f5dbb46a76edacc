"""What meter readings change on the page while delivery runs, and what they are compared with; pure.

A reading only marks what follows from it; `metered.refresh_metered` computes that, many readings at once.
"""

from typing import Any

from flexbus import events as ev
from flexbus.views.days import days_of
from streams.page.area import Area, Handlers, Session
from streams.page.metered import refresh_metered
from streams.page.series import Slots

__all__ = ["EVIDENCE", "HANDLERS", "forget_settled", "mark_activation"]

# What the delivery view is fed here: what it reads less what makes orders due, which the page gives none of.
EVIDENCE: frozenset[type[Any]] = frozenset(
    {
        ev.PortfolioRegistered,
        ev.PortfolioApproved,
        ev.PortfolioRefused,
        ev.BaselineSubmitted,
        ev.ScheduleSubmitted,
        ev.GateClosed,
        ev.ActivationOrdered,
        ev.ActivationAcknowledged,
        ev.ActivationRefused,
        ev.ActivationTimedOut,
        ev.ActivationChanged,
        ev.ActivationStopped,
        ev.MeterReadingReceived,
    }
)


def _reading(area: Area, event: ev.MeterReadingReceived) -> None:
    end_ms = event.start_ms + len(event.energy_wh) * event.resolution_s * 1000
    area.points_due.update((event.connection_point_id, day) for day in days_of(event.start_ms, end_ms))
    for session in area.metered.values():
        session.metered_due.update(_slots_between(session, event.start_ms, end_ms))


def mark_activation(area: Area, activation_id: str) -> None:
    """Mark what an order, an answer to it, a change or a stop changes of what has been read already."""
    activation = area.evidence.activations.activations.get(activation_id)
    session = None if activation is None else area.metered.get(activation.order.session_id)
    if activation is None or session is None:
        return
    days = days_of(activation.order.start_ms, activation.over_ms)
    area.points_due.update((p, day) for p in activation.points if p in area.evidence.readings for day in days)
    touched = _slots_between(session, activation.order.start_ms, activation.end_ms)
    session.metered_due.update(k for k in touched if k in session.measured)


def _slots_between(session: Session, from_ms: int, until_ms: int) -> range:
    """Return the session's slots that share an instant with a period."""
    if until_ms <= from_ms:
        return range(0)
    slots = session.slots
    return range(max(0, slots.index(from_ms)), min(slots.count, slots.index(until_ms - 1) + 1))


def _end_ms(slots: Slots) -> int:
    return slots.start_ms + slots.count * slots.resolution_s * 1000


def forget_settled(area: Area, settled: Session) -> None:
    """Let go of the readings and baselines of sessions that were over before this one and are settled as well.

    A late reading corrects the session before; without an end the readings of every day would stay in memory.
    """
    running = [s.slots.start_ms for s in area.metered.values() if s.row["state"] != "SETTLEMENT"]
    horizon_ms = min([settled.slots.start_ms, *running])
    evidence = area.evidence
    ended = [s for s in area.metered.values() if _end_ms(s.slots) <= horizon_ms]
    if not ended:
        return
    refresh_metered(area)  # what is shown of them stays, also where many days are read at once
    for session in ended:
        del area.metered[session.session_id]
        session.measured.clear()
    for key in [k for k in evidence.baselines if k[0] not in area.metered]:
        del evidence.baselines[key]
    for key in [k for k in evidence.schedules if k[0] not in area.metered]:
        del evidence.schedules[key]
    for readings in evidence.readings.values():
        for at_ms in [t for t in readings if t < horizon_ms]:
            del readings[at_ms]


HANDLERS: Handlers = {ev.MeterReadingReceived: _reading}
