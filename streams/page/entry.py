"""One journal entry opened: the event, its evidence, and whether its block stands in the chain; pure."""

import hashlib
from typing import Any

from flexbus import codec
from flexbus.access import ALL_SEEING
from flexbus.catalogue import CATALOGUE, Sight
from flexbus.journal import GENESIS, Block, Entry, block_hash
from flexbus.sight import public_view, views_of
from streams.page.rows import Lens

__all__ = ["opened"]


def opened(block: Block, index: int, hash_before: bytes | None, folded_hash: bytes | None, lens: Lens) -> Any:
    """Return an entry as JSON-able values, None if the lens does not show it.

    Args:
        block: the block as it was just read.
        index: position of the entry in it.
        hash_before: hash of the block before as folded; None = not known.
        folded_hash: hash of this block as it was when folded; None = not known.
        lens: through whose eyes.
    """
    entry = block.entries[index]
    event = codec.decode_entry(entry.payload, entry.schema_fingerprint)
    shown = _shown(event, entry, lens)
    if shown is None:
        return None
    full = shown is event
    # A hash of what has names removed, and its length, would tell them to who tries the few there are, and so would the
    # hash of a block with such an entry in it. Where entries lay in an inbox tells which of them are of one sender.
    all_seeing = lens.role is None or lens.role in ALL_SEEING
    computed = block_hash(block.area_id, block.number, block.previous_hash, block.entries)
    before = GENESIS if block.number == 0 else hash_before
    return {
        "area_id": block.area_id,
        "block": block.number,
        "index": index,
        "entries": len(block.entries),
        "event_type": entry.event_type,
        "meaning": CATALOGUE[entry.event_type].meaning,
        "sight": (Sight.FULL if full else Sight.WITHOUT_IDENTITIES).value,
        "event_id": entry.event_id,
        "sender_id": entry.sender_id if full else None,
        "on_behalf_of": entry.on_behalf_of if full else None,
        "received_at_ms": entry.received_at_ms,
        "inbox_partition": entry.inbox_partition if full else None,
        "inbox_offset": entry.inbox_offset if full else None,
        "schema_fingerprint": entry.schema_fingerprint.hex(),
        "signed": entry.signature is not None if full else None,
        "payload_bytes": len(entry.payload) if full else None,
        "payload_sha256": hashlib.sha256(entry.payload).hexdigest() if full else None,
        "block_hash": block.hash.hex() if all_seeing else None,
        "previous_hash": block.previous_hash.hex() if all_seeing else None,
        "checks": {
            "content matches the block's hash": computed == block.hash,
            "names the hash of the block before": before is not None and block.previous_hash == before,
            "unchanged since it was first read": folded_hash == block.hash,
        },
        "event": codec.to_json(shown),
    }


def _shown(event: Any, entry: Entry, lens: Lens) -> Any:
    """Return what the publisher would let these eyes see: told to the party, or public; None if neither."""
    if lens.role is None:
        return event
    kind = CATALOGUE[entry.event_type]
    senders = (entry.sender_id, entry.on_behalf_of or entry.sender_id)
    party = lens.party_id or ""  # a role without a party: nothing is its own
    told = dict(views_of(event, kind, senders, {party: frozenset({lens.role})})).get(party)
    return public_view(event, kind) if told is None else told
