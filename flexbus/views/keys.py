"""The signing keys of a market area's parties, and which events must be signed; a pure fold."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flexbus import events as ev
from flexbus.views.fact import Fact

__all__ = ["Keyring", "SigningKey", "fold"]


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key of a party that was neither replaced nor revoked."""

    public_key: bytes
    valid_until_ms: int | None


@dataclass(slots=True)
class Keyring:
    """Keys at a position of the journal; one that has ended stays known, so that it cannot come back.

    Attributes:
        keys: those neither replaced nor revoked, by party and id.
        key_ids: ids of all that there ever were, by party.
        public_keys: all that there ever were, by party; several parties may have the same.
        must_be_signed: names of events.
    """

    keys: dict[str, dict[str, SigningKey]] = field(default_factory=dict)
    key_ids: dict[str, set[str]] = field(default_factory=dict)
    public_keys: dict[str, set[bytes]] = field(default_factory=dict)
    must_be_signed: frozenset[str] = frozenset()

    def own(self, party_id: str) -> Mapping[str, SigningKey]:
        """Return the keys of a party by id, those whose time is over among them."""
        return self.keys.get(party_id, {})

    def live(self, party_id: str, at_ms: int) -> tuple[bytes, ...]:
        """Return the public keys of a party that count at a time of receipt, UTC ms."""
        own = self.keys.get(party_id, {}).values()
        return tuple(k.public_key for k in own if k.valid_until_ms is None or at_ms < k.valid_until_ms)


def fold(state: Keyring, fact: Fact) -> Keyring:
    """Return the keyring after a fact; facts that concern no key leave it as it was."""
    change = _CHANGES.get(type(fact.event))
    if change is not None:
        change(state, fact.event)
    return state


def _registered(state: Keyring, e: ev.SigningKeyRegistered) -> None:
    own = state.keys.setdefault(e.party_id, {})
    own.pop(e.replaces_key_id or "", None)
    own[e.key_id] = SigningKey(e.public_key, e.valid_until_ms)
    state.key_ids.setdefault(e.party_id, set()).add(e.key_id)
    state.public_keys.setdefault(e.party_id, set()).add(e.public_key)


def _revoked(state: Keyring, e: ev.SigningKeyRevoked) -> None:
    state.keys.get(e.party_id, {}).pop(e.key_id, None)


def _policy(state: Keyring, e: ev.SignaturePolicySet) -> None:
    state.must_be_signed = frozenset(e.event_types)


_CHANGES: dict[type[Any], Callable[[Keyring, Any], None]] = {
    ev.SigningKeyRegistered: _registered,
    ev.SigningKeyRevoked: _revoked,
    ev.SignaturePolicySet: _policy,
}
