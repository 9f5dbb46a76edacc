"""Whether an event may enter the journal of its area: who sends it, for whom, about what, and in time.

Everything is judged by the state folded from the area's own chain, so the same chain gives the same verdict.
Facts of the bus's own services are judged by kind and by the gate only: they follow from the chain already,
and refusing one for what came after its cause would make a replay disagree.
"""

from collections.abc import Callable, Iterator
from functools import cache
from operator import attrgetter
from typing import Any

from flexbus import events as ev
from flexbus.catalogue import SERVICES_BY_ID, Kind, Service, kind_of
from flexbus.errors import Fault, FaultCode
from flexbus.events import Role
from flexbus.validation import rules_offer, rules_register, rules_signing, rules_trade
from flexbus.validation.state import Admission
from flexbus.validation.units import fault

__all__ = ["FOUNDERS", "RULES", "admission_faults", "authority_faults"]

FOUNDERS = frozenset({"fmo"})
Rule = Callable[[Admission, Any, str], Iterator[Fault]]

# Event class -> its rule, given the state, the event and the acting party.
RULES: dict[type[Any], Rule] = {
    **rules_register.RULES,
    **rules_signing.RULES,
    **rules_offer.RULES,
    **rules_trade.RULES,
}
# What also binds the services: the clockwork keeps its order, and no request of theirs gets past a gate.
_BINDING_SERVICES = frozenset(
    {
        ev.GateOpened,
        ev.GateClosed,
        ev.DeliveryStarted,
        ev.DeliveryEnded,
        ev.SettlementDue,
        ev.FlexRequestSubmitted,
        ev.FlexRequestAmended,
        ev.FlexRequestWithdrawn,
    }
)


def admission_faults(
    state: Admission,
    event: Any,
    sender_id: str,
    on_behalf_of: str | None,
    received_at_ms: int,
) -> tuple[Fault, ...]:
    """Return every fault that keeps an event out of the journal of its area; empty = it may enter.

    Args:
        state: state of the event's area, folded from its chain; a new one if the area has no chain.
        event: an event of the catalogue without content faults.
        sender_id: authenticated sender, from the name of its inbox.
        on_behalf_of: party that the sender says it acts for, None for itself.
        received_at_ms: when the broker took the event, UTC ms; only mandates are measured by it.
    """
    faults = list(authority_faults(state, event, sender_id, on_behalf_of, received_at_ms))
    if type(event) is ev.AreaOpened or state.registry.area is None:
        return tuple(faults)
    if sender_id in SERVICES_BY_ID:
        if type(event) in _BINDING_SERVICES and not faults:
            faults += _requester_is_operator(state, event)
            faults += RULES[type(event)](state, event, _named(event) or sender_id)
        return tuple(faults)
    acting = on_behalf_of or sender_id
    rule = RULES.get(type(event))
    # A stranger learns nothing about what exists in the area, and who has no mandate nothing about what a party has.
    knows = acting in state.registry.roles and all(f.code is not FaultCode.NO_MANDATE for f in faults)
    if rule is not None and knows:
        faults += rule(state, event, acting)
    return tuple(faults)


def authority_faults(
    state: Admission,
    event: Any,
    sender_id: str,
    on_behalf_of: str | None,
    received_at_ms: int,
) -> tuple[Fault, ...]:
    """Return the faults of who sends an event for whom, whatever its content says.

    Args:
        state: as in `admission_faults`.
        event: an event of the catalogue, perhaps with content faults.
        sender_id: as in `admission_faults`.
        on_behalf_of: as in `admission_faults`.
        received_at_ms: as in `admission_faults`.
    """
    if type(event) is ev.AreaOpened:
        return tuple(_opening(state, event, sender_id, on_behalf_of))
    if state.registry.area is None:
        text = f"area {event.area_id!r} is unknown; its market operator opens it with AreaOpened"
        return (fault(FaultCode.UNKNOWN_ELEMENT, "$.area_id", text),)
    service = SERVICES_BY_ID.get(sender_id)
    if service is not None:
        return tuple(_service(event, service, on_behalf_of))
    return tuple(_authority(state, event, sender_id, on_behalf_of, received_at_ms))


def _opening(state: Admission, e: ev.AreaOpened, sender_id: str, on_behalf_of: str | None) -> Iterator[Fault]:
    if state.registry.area is not None:
        yield fault(FaultCode.DUPLICATE_ID, "$.area_id", f"area {e.area_id!r} is open already; choose another id")
    if sender_id not in FOUNDERS:
        text = f"{sender_id!r} may not open areas; have {' or '.join(sorted(FOUNDERS))} open it"
        yield fault(FaultCode.WRONG_ROLE, "$", text)
    if e.fmo_id != sender_id or on_behalf_of is not None:
        text = f"an area is opened by its own market operator; {sender_id!r} sent this for {e.fmo_id!r}"
        yield fault(FaultCode.NOT_YOURS_OR_UNKNOWN, "$.fmo_id", text)


def _service(event: Any, service: Service, on_behalf_of: str | None) -> Iterator[Fault]:
    if service not in kind_of(type(event)).send:
        text = f"the service {service.value} does not send {type(event).__name__}"
        yield fault(FaultCode.WRONG_ROLE, "$", text)
    if on_behalf_of is not None:
        yield fault(FaultCode.NO_MANDATE, "$", "a service of the bus acts for nobody else")


def _requester_is_operator(state: Admission, event: Any) -> Iterator[Fault]:
    requester = _named(event)
    if requester is not None and not state.registry.has_role(requester, Role.DSO):
        text = f"{requester!r} is no DSO of the area; only its standing configuration makes requests"
        yield fault(FaultCode.WRONG_ROLE, "$", text)


def _authority(
    state: Admission, event: Any, sender_id: str, on_behalf_of: str | None, received_at_ms: int
) -> Iterator[Fault]:
    roles = state.registry.roles
    acting = on_behalf_of or sender_id
    missing: list[Fault] = []
    if acting != sender_id:
        missing += _mandate(state, kind_of(type(event)), sender_id, acting, received_at_ms)
    yield from missing
    # Who has no mandate of a party does not hear whether there is such a party, nor what it is.
    for party in (sender_id,) if missing else dict.fromkeys((sender_id, acting)):
        if party not in roles:
            text = f"{party!r} is no participant of area {event.area_id!r}; its market operator registers participants"
            yield fault(FaultCode.UNKNOWN_PARTY, "$", text)
    name = type(event).__name__
    allowed = kind_of(type(event)).send
    if not missing and acting in roles and not (roles[acting] & allowed):
        words = ", ".join(sorted(r.value for r in allowed if isinstance(r, Role))) or "a service of the bus alone"
        text = f"{acting!r} may not send {name} in area {event.area_id!r}; it is for {words}"
        yield fault(FaultCode.WRONG_ROLE, "$", text)
    named = _named(event)
    if named is not None and named != acting:
        path = "$." + str(kind_of(type(event)).actor)
        text = f"names {named!r}, but you act as {acting!r}; send what is yours, or with a mandate on its behalf"
        yield fault(FaultCode.NOT_YOURS_OR_UNKNOWN, path, text)


def _mandate(state: Admission, kind: Kind, agent: str, grantor: str, at_ms: int) -> Iterator[Fault]:
    name = kind.type_name
    if not kind.by_mandate:  # an agent could lock its grantor out, or outlive its mandate
        text = f"no mandate covers {name}, whatever it says; {grantor!r} sends it itself"
        yield fault(FaultCode.NO_MANDATE, "$", text)
        return
    for mandate in state.registry.mandates_of(grantor, agent):
        covers = not mandate.event_types or name in mandate.event_types
        until = mandate.valid_until_ms
        if covers and mandate.valid_from_ms <= at_ms and (until is None or at_ms < until):
            return
    text = f"{agent!r} has no mandate of {grantor!r} that covers {name} now; {grantor!r} grants one with MandateGranted"
    yield fault(FaultCode.NO_MANDATE, "$", text)


def _named(event: Any) -> str | None:
    kind: Any = type(event)
    read = _actor_of(kind)
    return None if read is None else read(event)


@cache
def _actor_of(cls: Any) -> Callable[[Any], str] | None:
    actor = kind_of(cls).actor
    return None if actor is None else attrgetter(actor)
