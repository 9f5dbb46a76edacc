"""The keys with which the parties of a secure demo day sign what they send."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from flexbus import events as ev
from flexbus.catalogue import CATALOGUE
from flexbus.events import Role
from flexbus.signing import public_key
from streams.access import signing_key

__all__ = ["Keys", "policy"]

# A party that has lost its key revokes it without one.
_UNSIGNED = "SigningKeyRevoked"


class Keys:
    """The private keys of parties that live in one place, which real ones do not.

    Args:
        folder: where they are kept, each in a file of its owner's alone.
        parties: who signs.
    """

    def __init__(self, folder: Path, parties: Iterable[str]) -> None:
        self._folder = folder
        self._numbers = dict.fromkeys(parties, 1)

    def key(self, party: str) -> Any:
        """Return the private key with which a party signs now."""
        return signing_key(self._folder / f"{party}.{self._numbers[party]}.pem")

    def registrations(self, area_id: str) -> Iterator[tuple[str, ev.SigningKeyRegistered]]:
        """Yield by party the event that makes its first key known; to be signed by that key."""
        for party in self._numbers:
            yield party, self._registered(area_id, party, None)

    def rotate(self, area_id: str, party: str) -> ev.SigningKeyRegistered:
        """Give a party a new key; return the event that puts it in place of the old, to be signed by the old."""
        old = str(self._numbers[party])
        self._numbers[party] += 1
        return self._registered(area_id, party, old)

    def _registered(self, area_id: str, party: str, old: str | None) -> ev.SigningKeyRegistered:
        return ev.SigningKeyRegistered(
            area_id=area_id,
            party_id=party,
            key_id=str(self._numbers[party]),
            public_key=public_key(self.key(party)),
            replaces_key_id=old,
        )


def policy(area_id: str) -> ev.SignaturePolicySet:
    """Return the demand that parties sign everything that they send."""
    kinds = CATALOGUE.values()
    sent = {kind.type_name for kind in kinds if any(isinstance(sender, Role) for sender in kind.send)}
    return ev.SignaturePolicySet(area_id=area_id, event_types=tuple(sorted(sent - {_UNSIGNED})))
