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
