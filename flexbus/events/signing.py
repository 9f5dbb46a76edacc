"""Keys with which parties sign their events, and where a market demands that they do."""

from dataclasses import dataclass
from typing import Annotated

__all__ = ["SignaturePolicySet", "SigningKeyRegistered", "SigningKeyRevoked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKeyRegistered:
    """A party made a signing key known, its first one or in place of another; signed itself, see the rules."""

    area_id: Annotated[str, "market area"]
    party_id: Annotated[str, "party that signs with the key"]
    key_id: Annotated[str, "identifier of the key, one of its own among the party's keys"]
    public_key: Annotated[bytes, "Ed25519 public key, 32 bytes (RFC 8032)"]
    replaces_key_id: Annotated[str | None, "key that ends with this registration; null = none"] = None
    valid_until_ms: Annotated[int | None, "end of validity by the time of receipt, UTC ms; null = open"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKeyRevoked:
    """A party, or the market operator for it, ended a key; what was signed before keeps its evidence."""

    area_id: Annotated[str, "market area"]
    party_id: Annotated[str, "party that signed with the key"]
    key_id: Annotated[str, "identifier of the key"]
    reason: Annotated[str, "why, for people"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignaturePolicySet:
    """The market operator said which events count only with a valid signature of their sender; the newest counts."""

    area_id: Annotated[str, "market area"]
    event_types: Annotated[tuple[str, ...], "event types that must be signed; empty = none"]
