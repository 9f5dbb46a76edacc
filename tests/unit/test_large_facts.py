"""A service's fact speaks for a whole session and may be large; a party's event may not."""

from uuid import uuid4

from flexbus import codec
from flexbus import events as ev
from flexbus.errors import FaultCode
from flexbus.journal import Block, Entry
from flexbus.partition import partition_of
from flexbus.topics import inbox
from streams.inputs import Input
from streams.intake import Intake
from streams.sequencer import RULES
from tests.integration.core import FSP_A, founding

AREA = "north"
HOME = partition_of(AREA.encode(), 1)


def record(party: str, value: bytes, offset: int = 0) -> Input:
    return Input(
        topic=inbox(party),
        partition=HOME,
        offset=offset,
        received_at_ms=1_000 + offset,
        key=AREA.encode(),
        value=value,
        headers=(("ce_id", str(uuid4()).encode()),),
    )


def test_the_prices_of_a_thousand_buses_fit_and_their_block_can_be_read() -> None:
    prices = ev.NodalPricesPublished(
        area_id=AREA,
        session_id="s1",
        clearing_id="c",
        start_ms=1_767_225_600_000,
        resolution_s=900,
        buses=tuple(
            ev.NodalPrice(bus_id=f"bus {n}", price_milli_per_mwh=tuple(range(10**8 + n, 10**8 + n + 96)))
            for n in range(4_000)
        ),
    )
    value = codec.encode(prices)
    assert codec.MAX_EVENT_BYTES < len(value) < codec.MAX_SERVICE_EVENT_BYTES
    intake = Intake(HOME, 1, RULES)
    assert intake.take([record(s, codec.encode(e), n) for n, (s, e) in enumerate(founding(AREA))]).rejections == []
    outcome = intake.take([record("clearing", value), record(FSP_A, value, 999)])
    (rejected,) = outcome.rejections
    assert (rejected.sender_id, {f.code for f in rejected.faults}) == (FSP_A, {FaultCode.TOO_LARGE})
    (block,) = outcome.blocks
    assert codec.decode_as(codec.encode(block), Block).entries[0].payload == value


def test_a_block_of_large_facts_can_be_read() -> None:
    entry = Entry(
        event_id="e",
        event_type="NodalPricesPublished",
        schema_fingerprint=b"",
        sender_id="clearing",
        on_behalf_of=None,
        received_at_ms=0,
        inbox_partition=0,
        inbox_offset=0,
        payload=bytes(codec.MAX_SERVICE_EVENT_BYTES),
    )
    block = Block(area_id=AREA, number=0, previous_hash=b"", hash=b"", entries=(entry, entry))
    assert codec.decode_as(codec.encode(block), Block) == block
