"""`flexbus replay` on a real Kafka: an honest journal is proven, a forged one is not."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flexbus import codec
from flexbus import events as ev
from flexbus.client import Client
from flexbus.journal import next_block
from flexbus.topics import JOURNAL
from streams.kafka import Connection
from streams.replay import verify
from tests import market
from tests.integration import core
from tests.integration.core import FSP_A, Worker
from tests.integration.test_client import flexbus, lines

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

AREAS = ("north", "east")


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    """A journal with two open markets and some offers, published in full; nothing runs any more."""
    with core.own_kafka(tmp_path / "broker") as found:
        with Worker("streams.sequencer", found), Worker("streams.publisher", found):
            core.open_gates(found, AREAS)
            with Client(found.bootstrap, FSP_A) as client:
                client.send_all(core.offer_of(n, area) for n in range(10) for area in AREAS)
                core.eventually(lambda: sum(1 for _ in client.consume(ev.GateOpened)) == 2)
        yield found


def forge(connection: Connection, topic: str, partition: int, key: bytes, value: bytes) -> None:
    producer = connection.producer()
    producer.produce(topic, value, key, partition=partition)
    producer.flush(10)


def test_an_honest_journal_is_proven(connection: Connection) -> None:
    result = verify(connection)
    assert result.ok, result.text()
    assert [a.area_id for a in result.areas] == sorted(AREAS)
    assert sum(a.entries for a in result.areas) == len(core.entries(connection))
    assert result.published > 0
    assert result.unpublished == 0
    for area in result.areas:
        views = {v.view: v for v in area.views}
        assert (views["scheduler"].facts, views["scheduler"].owed) == (1, ())
        assert len(views["figures"].digest) == 64
    assert b"verified" in flexbus(connection, "replay", "--verify", "--no-solve")
    assert {a["area_id"] for a in lines(flexbus(connection, "replay", "--json"))} == set(AREAS)


def test_a_forged_block_is_found(connection: Connection) -> None:
    """Somebody who may write the journal appends a block that continues the chain but was never admissible."""
    chain = core.chains(connection)["north"]
    partition = next(p for p, _, v in core.values(connection, JOURNAL) if codec.decode(v).area_id == "north")
    late = replace(chain[-1].entries[0], payload=codec.encode(core.in_area(market.gate_opened(), "north")))
    late = replace(late, event_type="GateOpened", event_id="00000000-0000-4000-8000-000000000000")
    block = next_block("north", (chain[-1].number, chain[-1].hash), (late,))
    forge(connection, JOURNAL, partition, b"north", codec.encode(block))
    output = flexbus(connection, "replay", "--verify", "--no-solve", code=1)
    assert b"MISMATCH north" in output
    assert b"WRONG_ROLE" in output

    broken = replace(block, number=block.number + 2)
    forge(connection, JOURNAL, partition, b"north", codec.encode(broken))
    assert b"gap" in flexbus(connection, "replay", code=1)


def test_a_forged_word_of_the_scheduler_is_found(connection: Connection) -> None:
    """An open gate is closed: its role and the gate allow it, but it is not what the agenda had for the session."""
    chain = core.chains(connection)["north"]
    partition = next(p for p, _, v in core.values(connection, JOURNAL) if codec.decode(v).area_id == "north")
    opened = next(e for b in chain for e in b.entries if e.event_type == "GateOpened")
    closed = core.in_area(market.gate_closed(), "north")
    entry = replace(opened, event_type="GateClosed", event_id="00000000-0000-4000-8000-000000000000")
    entry = replace(
        entry, payload=codec.encode(closed), schema_fingerprint=codec.fingerprint_of(ev.GateClosed), inbox_offset=99
    )
    block = next_block("north", (chain[-1].number, chain[-1].hash), (entry,))
    forge(connection, JOURNAL, partition, b"north", codec.encode(block))
    output = flexbus(connection, "replay", "--verify", "--no-solve", code=1).decode()
    mismatches = [line for line in output.splitlines() if line.startswith("MISMATCH")]
    assert len(mismatches) == 1, output
    assert "GateClosed 00000000-0000-4000-8000-000000000000 does not follow from what precedes it" in mismatches[0]
    assert "[view scheduler]" in mismatches[0]


def test_a_forged_publication_is_found(connection: Connection) -> None:
    topic, value = "flexbus.out.gate_opened.v1", codec.encode(core.in_area(market.gate_opened("other"), "north"))
    for partition in range(4):
        forge(connection, topic, partition, b"north", value)
    with Worker("streams.sequencer", connection), Worker("streams.publisher", connection):
        core.open_gates(connection, ["west", "south", "isle"])
        with Client(connection.bootstrap) as client:
            core.eventually(lambda: sum(1 for _ in client.consume(ev.GateOpened)) == 5)
    assert b"is not what follows from the journal [publication]" in flexbus(
        connection, "replay", "--verify", "--no-solve", code=1
    )
