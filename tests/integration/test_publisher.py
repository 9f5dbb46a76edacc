"""The publisher on a real Kafka: each event once to everyone who may see it, also when it is killed."""

import random
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flexbus import codec
from flexbus import events as ev
from flexbus.catalogue import CATALOGUE
from flexbus.client import Client
from flexbus.quantities import Direction
from flexbus.topics import party_topic
from streams.broker_runtime import find_java, kafka_jars
from streams.kafka import Connection
from tests import market
from tests.integration import core
from tests.integration.core import DSO, FMO, FSP_A, FSP_B, Worker

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

AREAS = ("north", "east", "south")


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    with core.own_kafka(tmp_path / "broker") as found, Worker("streams.sequencer", found):
        yield found


def award(offer_id: str, fsp: str) -> ev.Award:
    return ev.Award(
        award_id=f"award-{len(fsp)}",
        offer_id=offer_id,
        offer_revision=1,
        fsp_id=fsp,
        connection_point_id="GCP-1",
        portfolio_id=None,
        bus_id="B1",
        direction=Direction.UP,
        start_ms=market.START,
        resolution_s=900,
        power_w=(100_000, 50_000),
        price_milli_per_mwh=(40_000, 41_000),
    )


def cleared(area: str) -> ev.MarketCleared:
    slot = ev.ClearedSlot(
        start_ms=market.START,
        status=ev.SlotStatus.EXACT,
        up_w=200_000,
        down_w=0,
        requested_w=0,
        shortfall_w=0,
        loss_gap_w=0,
        ac_violation_ppm=0,
        cost_nano=1,
        binding=(),
    )
    refused = ev.NonAward(
        offer_id="o3",
        fsp_id=FSP_B,
        reason=ev.NonAwardReason.PRICE,
        element_id=None,
        amount=1,
        rejected_energy_wh=1,
        text="o3 of fsp-b was too dear",
    )
    return ev.MarketCleared(
        area_id=area,
        session_id=market.SESSION,
        clearing_id="c1",
        gate_block=1,
        network_id="grid",
        network_revision=1,
        start_ms=market.START,
        resolution_s=900,
        slots=(slot, replace(slot, start_ms=market.START + 900_000)),
        awards=(award("o1", FSP_A), award("o2", FSP_B)),
        non_awards=(refused,),
        requests=(),
        cost_nano=2,
        welfare_nano=3,
        solver="none",
        case_hash="00",
        result_hash="00",
    )


def ids(connection: Connection, topic: str, kind: str) -> Counter[str]:
    """Count the events of a kind on a topic by their header."""
    party = topic.startswith("flexbus.out.party.")
    with Client(connection.bootstrap, topic.split(".")[3] if party else None) as client:
        return Counter(r.event_id for r in client.consume(kind, own=party))


def clear(connection: Connection, areas: tuple[str, ...]) -> None:
    with Client(connection.bootstrap, "clearing") as clearing:
        clearing.post_all(cleared(area) for area in areas)
    core.eventually(lambda: sum(e.event_type == "MarketCleared" for e in core.entries(connection)) == len(areas))


def test_killed_under_load_it_publishes_each_event_once(connection: Connection) -> None:
    chance = random.Random(5)
    with Worker("streams.publisher", connection) as publisher:
        core.open_gates(connection, AREAS)
        with Client(connection.bootstrap, FSP_A) as a:
            for round_ in range(5):
                a.post_all(core.offer_of(round_ * 200 + n, AREAS[n % 3]) for n in range(200))
                time.sleep(chance.uniform(0.2, 1.5))
                publisher.kill()
        core.eventually(lambda: len(core.entries(connection)) == len(core.founding("x")) * 3 + 1000)
        sent = {e.event_id for e in core.entries(connection) if e.event_type == "FlexOfferSubmitted"}
        once = Counter(dict.fromkeys(sent, 1))
        for party in (FSP_A, FMO):  # the provider its own, the market operator all
            core.eventually(lambda party=party: len(ids(connection, party_topic(party), "FlexOfferSubmitted")) == 1000)
            assert ids(connection, party_topic(party), "FlexOfferSubmitted") == once
        assert not ids(connection, party_topic(FSP_B), "FlexOfferSubmitted")
        assert not ids(connection, party_topic(DSO), "FlexOfferSubmitted")
        assert sum(ids(connection, "flexbus.out.gate_opened.v1", "GateOpened").values()) == 3
        assert publisher.starts >= 6


def test_identities_are_removed_for_all_but_their_owners(connection: Connection) -> None:
    with Worker("streams.publisher", connection):
        core.open_gates(connection, AREAS[:1])
        clear(connection, AREAS[:1])

        def read(party: str | None, own: bool) -> list[Any]:
            with Client(connection.bootstrap, party) as client:
                return list(client.events(ev.MarketCleared, own=own))

        core.eventually(lambda: read(None, False) and read(FMO, True))
        (public,), (own,), (whole,), (dso,) = read(None, False), read(FSP_A, True), read(FMO, True), read(DSO, True)
        assert whole == cleared(AREAS[0])
        assert [(a.fsp_id, a.offer_id, a.power_w) for a in public.awards] == [("", "", (100_000, 50_000))] * 2
        assert [(n.fsp_id, n.offer_id, n.text) for n in public.non_awards] == [("", "", "")]
        assert public.slots == whole.slots
        assert (own.awards, own.non_awards) == (whole.awards[:1], ())
        assert dso == public
        for secret in (FSP_A, FSP_B, "o1", "GCP-1"):
            assert secret.encode() not in codec.encode(public)
        assert FSP_B not in str(own)


def test_stock_kafka_reads_an_out_topic(connection: Connection) -> None:
    with Worker("streams.publisher", connection):
        core.open_gates(connection, AREAS[:1])
        core.eventually(lambda: ids(connection, "flexbus.out.gate_opened.v1", "GateOpened"))
    jars = kafka_jars(pom=Path(__file__).with_name("kafka_tools_pom.xml"))
    command = [str(find_java()), "-cp", f"{jars}/*", "org.apache.kafka.tools.consumer.ConsoleConsumer"]
    command += ["--bootstrap-server", connection.bootstrap, "--topic", "flexbus.out.gate_opened.v1"]
    command += ["--from-beginning", "--max-messages", "1", "--timeout-ms", "20000"]
    command += ["--property", "print.headers=true", "--property", "print.key=true"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    headers, key, value = done.stdout.rstrip(b"\n").split(b"\t", 2)
    assert b"ce_type:GateOpened" in headers
    assert key == AREAS[0].encode()
    # The console decodes bytes as text, so what is no UTF-8 is not shown; the ids in the event are.
    assert market.SESSION.encode() in value


def test_every_public_kind_has_its_topic() -> None:
    named = {k.out_topic for k in CATALOGUE.values() if k.public}
    assert None not in named
    assert len(named) == sum(k.public is not None for k in CATALOGUE.values())
