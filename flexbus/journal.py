"""The journal: blocks of entries, one hash chain per market area; pure.

A block's hash is SHA-256 over area, number, previous hash and every entry field, each length-prefixed, so it
can be recomputed in any language without an Avro encoder.
"""

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from flexbus.errors import ChainError

__all__ = ["GENESIS", "Block", "Entry", "block_hash", "next_block", "verify_block"]

GENESIS = bytes(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One accepted event with its evidence."""

    event_id: Annotated[str, "identifier given by the sender, or derived"]
    event_type: Annotated[str, "name in the event catalogue"]
    schema_fingerprint: Annotated[bytes, "CRC-64-AVRO of the writer's schema, 8 bytes little-endian"]
    sender_id: Annotated[str, "authenticated sender: party of the inbox topic"]
    on_behalf_of: Annotated[str | None, "party acted for under a mandate; null = the sender itself"]
    received_at_ms: Annotated[int, "when the broker took the event, UTC ms"]
    inbox_partition: Annotated[int, "partition of the inbox record"]
    inbox_offset: Annotated[int, "offset of the inbox record"]
    payload: Annotated[bytes, "the sender's bytes, unchanged"]
    signature: Annotated[bytes | None, "Ed25519 signature over the payload, if one came with it"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A run of entries of one market area."""

    area_id: Annotated[str, "market area"]
    number: Annotated[int, "number in the chain, from 0 without gap"]
    previous_hash: Annotated[bytes, "hash of the block before; 32 zero bytes for block 0"]
    hash: Annotated[bytes, "SHA-256 of this block"]
    entries: Annotated[tuple[Entry, ...], "entries in order"]


def block_hash(area_id: str, number: int, previous_hash: bytes, entries: Iterable[Entry]) -> bytes:
    """Return the hash of a block's content."""
    digest = hashlib.sha256()
    digest.update(_text(area_id) + struct.pack(">q", number) + previous_hash)
    for e in entries:
        digest.update(
            b"".join(
                (
                    _text(e.event_id),
                    _text(e.event_type),
                    e.schema_fingerprint,
                    _text(e.sender_id),
                    _optional(None if e.on_behalf_of is None else e.on_behalf_of.encode()),
                    struct.pack(">qqq", e.received_at_ms, e.inbox_partition, e.inbox_offset),
                    _bytes(e.payload),
                    _optional(e.signature),
                )
            )
        )
    return digest.digest()


def next_block(area_id: str, previous: tuple[int, bytes] | None, entries: tuple[Entry, ...]) -> Block:
    """Return the block that continues a chain.

    Args:
        area_id: market area.
        previous: number and hash of the last block, None to begin a chain.
        entries: what it holds.
    """
    number, before = (0, GENESIS) if previous is None else (previous[0] + 1, previous[1])
    return Block(
        area_id=area_id,
        number=number,
        previous_hash=before,
        hash=block_hash(area_id, number, before, entries),
        entries=entries,
    )


def verify_block(previous: tuple[int, bytes] | None, block: Block) -> tuple[int, bytes]:
    """Check that a block continues its chain and is whole; return its number and hash.

    Raises:
        ChainError: a gap, another predecessor, or changed content.
    """
    number, before = (0, GENESIS) if previous is None else (previous[0] + 1, previous[1])
    if block.number != number:
        raise ChainError(block.area_id, block.number, f"expected block {number}: the chain has a gap or a fork")
    if block.previous_hash != before:
        raise ChainError(block.area_id, block.number, "does not name the hash of the block before it")
    if block_hash(block.area_id, block.number, block.previous_hash, block.entries) != block.hash:
        raise ChainError(block.area_id, block.number, "content does not match its hash: it was changed")
    return block.number, block.hash


def _bytes(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def _text(value: str) -> bytes:
    return _bytes(value.encode())


def _optional(value: bytes | None) -> bytes:
    return b"\x00" if value is None else b"\x01" + _bytes(value)
