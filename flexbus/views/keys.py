"""The signing keys of a market area's parties, and which events must be signed; a pure fold."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from flexbus import events as ev
from flexbus.views.fact import Fact

__all__ = ["Keyring", "SigningKey", "fold"]


@dataclass(slots=True)
class SigningKey:
    """A key of a party; one that has ended stays known, so that it cannot come back."""

    public_key: bytes
    valid_until_ms: int | None
    live: bool = True


@dataclass(slots=True)
class Keyring:
    """Keys by party and id at a position of the journal."""

    keys: dict[str, dict[str, SigningKey]] = field(default_factory=dict)
    must_be_signed: frozenset[str] = frozenset()

    def live(self, party_id: str, at_ms: int) -> tuple[bytes, ...]:
        """Return the public keys of a party that count at a time of receipt, UTC ms."""
        return tuple(
            k.public_key
            for k in self.keys.get(party_id, {}).values()
            if k.live and (k.valid_until_ms is None or at_ms < k.valid_until_ms)
        )

    def known(self, public_key: bytes) -> bool:
        """Tell whether a key was ever registered, by anybody."""
        return any(k.public_key == public_key for keys in self.keys.values() for k in keys.values())


def fold(state: Keyring, fact: Fact) -> Keyring:
    """Return the keyring after a fact; facts that concern no key leave it as it was."""
    change = _CHANGES.get(type(fact.event))
    if change is not None:
        change(state, fact.event)
    return state


def _registered(state: Keyring, e: ev.SigningKeyRegistered) -> None:
    own = state.keys.setdefault(e.party_id, {})
    if e.replaces_key_id in own:
        own[e.replaces_key_id].live = False
    own[e.key_id] = SigningKey(e.public_key, e.valid_until_ms)


def _revoked(state: Keyring, e: ev.SigningKeyRevoked) -> None:
    key = state.keys.get(e.party_id, {}).get(e.key_id)
    if key is not None:
        key.live = False


def _policy(state: Keyring, e: ev.SignaturePolicySet) -> None:
    state.must_be_signed = frozenset(e.event_types)


_CHANGES: dict[type[Any], Callable[[Keyring, Any], None]] = {
    ev.SigningKeyRegistered: _registered,
    ev.SigningKeyRevoked: _revoked,
    ev.SignaturePolicySet: _policy,
}
