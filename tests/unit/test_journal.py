"""A chain is gapless, and any change to it is found and located."""

from dataclasses import replace

import pytest

from flexbus import codec
from flexbus.errors import ChainError
from flexbus.journal import GENESIS, Block, Entry, next_block, verify_block


def entry(n: int) -> Entry:
    return Entry(
        event_id=f"e-{n}", event_type="GateClosed", schema_fingerprint=bytes(8), sender_id="fmo", on_behalf_of=None,
        received_at_ms=n, inbox_partition=0, inbox_offset=n, payload=b"x" * n,
    )  # fmt: skip


def chain(length: int) -> list[Block]:
    blocks: list[Block] = []
    head = None
    for n in range(length):
        block = next_block("north", head, (entry(2 * n), entry(2 * n + 1)))
        blocks.append(block)
        head = (block.number, block.hash)
    return blocks


def test_an_intact_chain_verifies_and_survives_the_wire() -> None:
    head = None
    for n, block in enumerate(chain(5)):
        head = verify_block(head, codec.decode_as(codec.encode(block), Block))
        assert head == (n, block.hash)
    assert chain(1)[0].previous_hash == GENESIS


@pytest.mark.parametrize(
    "change",
    [
        {"payload": b"y"},
        {"sender_id": "mallory"},
        {"on_behalf_of": ""},
        {"received_at_ms": 5},
        {"event_id": "e-1x"},
        {"schema_fingerprint": b"\x01" + bytes(7)},
        {"signature": b""},
    ],
)
def test_any_change_of_an_entry_is_found(change: dict[str, object]) -> None:
    first, second, *_ = chain(3)
    forged = replace(second, entries=(replace(second.entries[0], **change), second.entries[1]))  # type: ignore[arg-type]
    with pytest.raises(ChainError, match="block 1: content"):
        verify_block((0, first.hash), forged)


def test_gaps_forks_and_swapped_entries_are_found() -> None:
    a, b, c = chain(3)
    with pytest.raises(ChainError, match="gap"):
        verify_block((0, a.hash), c)
    with pytest.raises(ChainError, match="before it"):
        verify_block((0, bytes(32)), b)
    with pytest.raises(ChainError, match="content"):
        verify_block((0, a.hash), replace(b, entries=b.entries[::-1]))
