"""Admission of signing keys, and of events that must be, or are, signed.

A key is registered by its party: the first one (also after the loss of all others) proves itself by signing its own
registration, a further one is vouched for by a key that counts. So who has stolen a password alone cannot bring in
a key of its own while the party has one. The market operator may register and revoke for a party that has lost
everything. Revoking needs no signature: the key may be what was lost.

Whether a further key's private half is held is not asked, and the same public key may be that of several parties: a
signature is held against the keys of its sender alone. So who takes another's public key keeps nobody from it and can
sign nothing with it.
"""

from collections.abc import Callable, Iterator
from typing import Any

from flexbus import events as ev
from flexbus.catalogue import SERVICES_BY_ID
from flexbus.errors import Fault, FaultCode
from flexbus.events import Role
from flexbus.signing import is_signed_by
from flexbus.validation.state import Admission
from flexbus.validation.units import fault

__all__ = ["RULES", "signature_faults"]

MOST_KEYS = 4  # of a party that count at once: a wrong signature is held against each, an eighth of a millisecond long
_PATH = "$headers.ce_signature"


def signature_faults(
    state: Admission, event: Any, sender_id: str, received_at_ms: int, payload: bytes, signature: bytes | None
) -> tuple[Fault, ...]:
    """Return what is wrong with an event's signature, or with its absence.

    Args:
        state: state of the event's area, folded from its chain.
        event: the event.
        sender_id: authenticated sender; under a mandate it is the agent that signs.
        received_at_ms: when the broker took the event, UTC ms.
        payload: the event's bytes as they came.
        signature: Ed25519 signature over them, None if there is none.
    """
    if sender_id in SERVICES_BY_ID:  # its inbox is proof enough, and its facts follow from the journal anyway
        return ()
    name = type(event).__name__
    keys = state.keyring.live(sender_id, received_at_ms)
    demanded = name in state.keyring.must_be_signed
    if isinstance(event, ev.SigningKeyRegistered) and event.party_id == sender_id:
        keys, demanded = keys or (event.public_key,), True
    if signature is None:
        if not demanded:
            return ()
        text = f"{name} must be signed here: send the Ed25519 signature over the value in the header ce_signature"
        return (fault(FaultCode.NO_SIGNATURE, _PATH, text),)
    if not keys:
        if not demanded:
            return ()  # evidence that nobody can check yet
        text = f"{sender_id!r} has no signing key that counts in this area; register one with SigningKeyRegistered"
        return (fault(FaultCode.BAD_SIGNATURE, _PATH, text),)
    if not any(is_signed_by(key, signature, payload) for key in keys):
        text = (
            f"the signature is by none of the {len(keys)} keys of {sender_id!r} that count now, or not over this value"
        )
        return (fault(FaultCode.BAD_SIGNATURE, _PATH, text),)
    return ()


def _own(s: Admission, party_id: str, acting: str) -> Iterator[Fault]:
    if party_id != acting and not s.registry.has_role(acting, Role.FMO):
        text = f"keys of {party_id!r} are its own business, or the market operator's; you act as {acting!r}"
        yield fault(FaultCode.NOT_YOURS_OR_UNKNOWN, "$.party_id", text)
    elif party_id not in s.registry.roles:
        text = f"{party_id!r} is no participant of this area; its market operator registers participants"
        yield fault(FaultCode.UNKNOWN_PARTY, "$.party_id", text)


def _key_registered(s: Admission, e: ev.SigningKeyRegistered, acting: str) -> Iterator[Fault]:
    yield from _own(s, e.party_id, acting)
    own = s.keyring.own(e.party_id)
    if e.key_id in s.keyring.key_ids.get(e.party_id, ()):
        text = f"{e.key_id!r} is or was another key of {e.party_id!r}; give the new one an id of its own"
        yield fault(FaultCode.DUPLICATE_ID, "$.key_id", text)
    if e.public_key in s.keyring.public_keys.get(e.party_id, ()):
        text = f"this is or was a key of {e.party_id!r}; make a new one, as a key that has ended cannot come back"
        yield fault(FaultCode.DUPLICATE_ID, "$.public_key", text)
    if e.replaces_key_id is not None and e.replaces_key_id not in own:
        text = f"{e.replaces_key_id!r} is no key of {e.party_id!r} that could be replaced"
        yield fault(FaultCode.NOT_YOURS_OR_UNKNOWN, "$.replaces_key_id", text)
    elif len(own) - (e.replaces_key_id is not None) >= MOST_KEYS:
        text = f"{e.party_id!r} has {MOST_KEYS} keys; name the one that this one replaces, or revoke one"
        yield fault(FaultCode.WRONG_STATE, "$.key_id", text)


def _key_revoked(s: Admission, e: ev.SigningKeyRevoked, acting: str) -> Iterator[Fault]:
    yield from _own(s, e.party_id, acting)
    if e.key_id not in s.keyring.own(e.party_id):
        text = f"{e.key_id!r} is no key of {e.party_id!r}, or has ended already"
        yield fault(FaultCode.NOT_YOURS_OR_UNKNOWN, "$.key_id", text)


RULES: dict[type[Any], Callable[[Admission, Any, str], Iterator[Fault]]] = {
    ev.SigningKeyRegistered: _key_registered,
    ev.SigningKeyRevoked: _key_revoked,
}
