"""Questions that many admission rules ask: does it exist, is it yours, is the gate open, is the revision newer."""

from collections.abc import Container, Iterator, Mapping, Sequence

from flexbus.errors import Fault, FaultCode
from flexbus.time import iso
from flexbus.validation.state import Admission, Record
from flexbus.validation.units import fault
from flexbus.views.registry import Gate, Session

__all__ = ["begun", "delivery", "gate", "known", "own_point", "powers", "revised", "unused"]


def known(path: str, name: str, where: Container[str], what: str) -> Iterator[Fault]:
    """Yield a fault unless a name is known."""
    if name not in where:
        yield fault(FaultCode.UNKNOWN_ELEMENT, path, f"{name!r} is no {what} of this area")


def own_point(state: Admission, path: str, point_id: str, acting: str) -> Iterator[Fault]:
    """Yield a fault unless the provider markets the connection point; whether it exists stays untold."""
    point = state.registry.connection_points.get(point_id)
    if point is None or point.fsp_id != acting:
        text = f"connection point {point_id!r} is unknown or not marketed by {acting!r}; the DSO registers it"
        yield fault(FaultCode.NOT_YOURS_OR_UNKNOWN, path, text)


def gate(
    state: Admission, path: str, session_id: str, *, early: bool = False
) -> tuple[Session | None, tuple[Fault, ...]]:
    """Return a session, and what keeps it from taking something now.

    Args:
        state: state of the area.
        path: JSON path of the session's id.
        session_id: the session.
        early: true = also taken before the gate opens.
    """
    session = state.registry.sessions.get(session_id)
    if session is None:
        return None, (fault(FaultCode.UNKNOWN_ELEMENT, path, f"{session_id!r} is no session of this area"),)
    if session.gate is Gate.CLOSED:
        text = f"the gate of session {session_id!r} has closed; what stood in the journal before counts"
        return session, (fault(FaultCode.GATE_CLOSED, path, text),)
    if session.gate is Gate.NOT_OPEN and not early:
        text = f"the gate of session {session_id!r} opens at {iso(session.scheduled.gate_opens_ms)}; send it then"
        return session, (fault(FaultCode.GATE_NOT_OPEN, path, text),)
    return session, ()


def delivery(session: Session, path: str, start_ms: int, resolution_s: int, slots: int) -> Iterator[Fault]:
    """Yield what is wrong with the slots of something that is delivered in a session.

    Args:
        session: the session.
        path: JSON path of the record with `start_ms` and `resolution_s`.
        start_ms: start of its first slot, UTC ms.
        resolution_s: length of its slots, s.
        slots: number of its slots.
    """
    if resolution_s != session.product.resolution_s:
        text = f"{resolution_s} s, but the product is traded in slots of {session.product.resolution_s} s"
        yield fault(FaultCode.BAD_PERIOD, f"{path}.resolution_s", text)
    end_ms = start_ms + slots * resolution_s * 1000
    first, last = session.scheduled.delivery_start_ms, session.scheduled.delivery_end_ms
    if start_ms < first or end_ms > last:
        text = (
            f"{iso(start_ms)} to {iso(end_ms)} is not inside the delivery of the session, {iso(first)} to {iso(last)}"
        )
        yield fault(FaultCode.BAD_PERIOD, f"{path}.start_ms", text)


def powers(path: str, values: Sequence[int], step_w: int) -> Iterator[Fault]:
    """Yield a fault for each quantity that is not a multiple of the product's step, W."""
    for index, value in enumerate(values):
        if value % step_w:
            text = f"{value} W is not a multiple of the product's step, {step_w} W"
            yield fault(FaultCode.BAD_QUANTITY, f"{path}[{index}]", text)


def unused(path: str, name: str, where: Container[str], what: str) -> Iterator[Fault]:
    """Yield a fault if an identifier is taken."""
    if name in where:
        text = f"{name!r} already names another {what} in this area; choose another, or send a change of it"
        yield fault(FaultCode.DUPLICATE_ID, path, text)


def revised(
    path: str, name: str, revision: int, where: Mapping[str, Record], acting: str, scope_id: str, what: str
) -> Iterator[Fault]:
    """Yield what is wrong with a thing that is new, or a newer revision of the sender's own.

    Args:
        path: JSON path of the id.
        name: the id.
        revision: its revision.
        where: what there is.
        acting: party that sends it.
        scope_id: what it hangs on and must keep.
        what: its name for people.
    """
    record = where.get(name)
    if record is None:
        return
    if record.owner_id != acting or record.scope_id != scope_id:
        text = f"{name!r} is already the id of another {what}; choose another id"
        yield fault(FaultCode.DUPLICATE_ID, path, text)
    elif revision <= record.revision:
        yield stale(path.rpartition(".")[0] + ".revision", revision, record.revision)


def stale(path: str, revision: int, newest: int) -> Fault:
    """Return the fault of a revision that is not newer than the newest."""
    text = f"revision {revision} is not newer than the accepted revision {newest}; send {newest + 1} or higher"
    return fault(FaultCode.STALE_REVISION, path, text)


def begun(state: Admission, path: str, from_ms: int) -> Iterator[Fault]:
    """Yield a fault if a slot has begun by the time of the market."""
    # At the very instant of a delivery start the slot has begun; 0 is the time before the first gate.
    if 0 < from_ms <= state.registry.market_time_ms:
        text = f"{iso(from_ms)} has begun: it is {iso(state.registry.market_time_ms)}; name a later slot"
        yield fault(FaultCode.TOO_LATE, path, text)
