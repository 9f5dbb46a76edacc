"""Identifiers: random ones belong to senders; derived ones follow from their cause, so a repeat is the same event."""

import re
from uuid import UUID, uuid5

__all__ = ["NAMESPACE", "derived_id", "is_party_id", "is_uuid"]

# Topic names and principals carry the party.
_PARTY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_CANONICAL = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
NAMESPACE = UUID("6f1f4c0e-6a4b-5d2c-9a57-0f1e0b5c0de5")


def derived_id(event_type: str, *cause: str | int) -> str:
    """Return the id of a derived event: the same cause always gives the same id.

    Args:
        event_type: name of the derived event.
        cause: what it follows from, in a fixed order (area, ids, slot, revision ...).
    """
    # The unit separator cannot occur in an identifier, so no two causes collide by concatenation.
    return str(uuid5(NAMESPACE, "\x1f".join((event_type, *map(str, cause)))))


def is_party_id(text: str) -> bool:
    """Tell whether a text can be the id of a party."""
    return _PARTY.fullmatch(text) is not None


def is_uuid(text: str) -> bool:
    """Tell whether a text is a UUID in its canonical lower-case form."""
    return _CANONICAL.fullmatch(text) is not None
