"""A connection does not outlive its password: within the broker's limit it is proven again, or it ends.

The limit is a few seconds here. What goes on must go on without loss: librdkafka proves itself again on the open
connection; aiokafka, which the stages stand on, cannot, so the broker ends its connections and it makes new ones.
"""

import asyncio
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka import Producer

from flexbus import codec
from flexbus import events as ev
from flexbus.events import Role
from flexbus.journal import verify_block
from flexbus.topics import inbox
from flexbus.views.fact import facts_of
from streams import broker_security as security
from streams.access import Provisioned, provision
from streams.broker import Broker
from streams.journal_reader import end_offset, read_blocks
from streams.kafka import Connection
from streams.publisher import Publisher
from streams.sequencer import Sequencer
from streams.supervisor import Supervisor
from tests.integration.bus import OPEN_RULES, wait_for, working
from tests.integration.toy_stage import JOB_EVERY, SERVICE

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(150)]

LIMIT_S = 4.0
GRACE_S = 3.0  # a record is tried again, and the machine is busy
PARTITIONS = 2
PARTIES = ("stayer", "leaver", "rotated", "old-client", "asker")


@dataclass
class Bus:
    broker: Broker
    made: Provisioned

    def written(self, party: str) -> int:
        """Records in a party's inbox."""
        return sum(end_offset(self.made.admin, p, inbox(party)) for p in range(PARTITIONS))


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bus]:
    broker = Broker(tmp_path_factory.mktemp("reauthentication") / "broker", secure=True, reauthenticate_s=LIMIT_S)
    with ExitStack() as stack:
        stack.callback(broker.kill)
        broker.start()
        yield Bus(broker, provision(broker, dict.fromkeys(PARTIES, (Role.DSO,)), PARTITIONS))


class Writer:
    """Writes a record to its inbox ten times a second, on the connection it has."""

    def __init__(self, bus: Bus, party: str) -> None:
        connection = bus.made.connection(party)
        self.party = party
        self.refused: Counter[str] = Counter()
        self.delivered: list[float] = []
        self.failed: list[float] = []
        self._producer = Producer(
            {
                "bootstrap.servers": connection.bootstrap,
                **connection.security,
                "enable.idempotence": True,
                "linger.ms": 0,
                "message.timeout.ms": 5000,  # a busy machine may hold up who stays
                "error_cb": lambda error: self.refused.update([error.name()]),
                "log_level": 0,
            }
        )
        self.sent = 0

    def write(self) -> None:
        self.sent += 1
        self._producer.produce(inbox(self.party), b"%d" % self.sent, partition=0, on_delivery=self._done)
        self._producer.poll(0)

    def _done(self, error: Any, _: Any) -> None:
        (self.delivered if error is None else self.failed).append(time.monotonic())

    def close(self) -> None:
        self._producer.flush(10)


def test_the_connection_of_a_rotated_or_removed_principal_ends_in_time_and_others_go_on(bus: Bus) -> None:
    writers = {party: Writer(bus, party) for party in ("stayer", "leaver", "rotated")}
    for writer in writers.values():
        writer.write()
        writer.close()
    assert {p: len(w.delivered) for p, w in writers.items()} == dict.fromkeys(writers, 1)

    bus.broker.add_users("rotated", rotate=True)
    security.remove_users(bus.broker.data_dir, bus.broker.bootstrap, ["leaver"])
    changed = time.monotonic()
    while time.monotonic() < changed + 3 * LIMIT_S:
        for writer in writers.values():
            writer.write()
        time.sleep(0.1)
    for writer in writers.values():
        writer.close()

    for party in ("leaver", "rotated"):
        writer = writers[party]
        assert writer.delivered[-1] < changed + LIMIT_S + GRACE_S, party
        assert writer.failed, party
        assert writer.refused["_AUTHENTICATION"] > 0, writer.refused
    stayer = writers["stayer"]
    assert stayer.failed == []
    assert len(stayer.delivered) == stayer.sent == bus.written("stayer"), "nothing lost, nothing doubled"
    assert stayer.refused == {}, "its connection was not even ended"
    again = Writer(bus, "rotated")
    again.write()
    again.close()
    assert len(again.delivered) == 1, "the new password opens the door"


def test_a_client_that_cannot_prove_itself_again_is_disconnected_and_comes_back_only_with_the_right_password(
    bus: Bus,
) -> None:
    """aiokafka 0.14 knows no re-authentication (KIP-368)."""
    config = Connection(bus.broker.bootstrap, security.client_config(bus.broker.data_dir, "old-client")).for_aiokafka()
    topic = inbox("old-client")

    async def story() -> tuple[int, float]:
        producer = AIOKafkaProducer(bootstrap_servers=bus.broker.bootstrap, enable_idempotence=True, **config)
        await producer.start()
        sent = 0
        began = time.monotonic()
        while time.monotonic() < began + 2.5 * LIMIT_S:
            await asyncio.wait_for(producer.send_and_wait(topic, b"%d" % sent, partition=0), 10)
            sent += 1
            await asyncio.sleep(0.1)
        assert bus.written("old-client") == sent, "connections were ended and made anew, and nothing was lost"

        bus.broker.add_users("old-client", rotate=True)
        changed = last = time.monotonic()
        with suppress(TimeoutError):  # it would try for ever
            while time.monotonic() < changed + 2 * LIMIT_S + GRACE_S:
                await asyncio.wait_for(producer.send_and_wait(topic, b"late", partition=0), 3)
                last = time.monotonic()
                await asyncio.sleep(0.1)
        with suppress(TimeoutError):
            await asyncio.wait_for(producer.stop(), 1)
        return sent, last - changed

    sent, lived_on_s = asyncio.run(story())
    assert sent > 10
    assert lived_on_s < LIMIT_S + GRACE_S


def test_a_stage_the_sequencer_and_the_publisher_work_through_the_limit(bus: Bus, tmp_path: Path) -> None:
    """Many times over: each question is answered once, and no worker loses its place."""
    area = "reauthentication"
    log = tmp_path / "stage.log"
    environment = {**os.environ, "FLEXBUS_KAFKA_PROPERTIES": str(bus.made.properties[SERVICE])}
    command = [sys.executable, "-m", "tests.integration.toy_stage", bus.broker.bootstrap, "0", str(tmp_path)]
    asker = bus.made.connection("asker")
    producer = asker.producer()
    asked = 0

    def facts() -> list[Any]:
        head: tuple[int, bytes] | None = None
        found: list[Any] = []
        for partition in range(PARTITIONS):
            for _, block in read_blocks(bus.made.admin, partition):
                if block.area_id == area:
                    head = verify_block(head, block)
                    found += facts_of(block)
        return [fact.event for fact in found]

    with ExitStack() as stack:
        stack.enter_context(working(Sequencer(bus.made.connection("sequencer"), 0, OPEN_RULES)))
        stack.enter_context(working(Publisher(bus.made.connection("publisher"))))
        with log.open("wb") as output:
            stage = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        stack.callback(stage.wait)
        stack.callback(stage.kill)
        wait_for(lambda: "assigned" in log.read_text())
        began = time.monotonic()
        while time.monotonic() < began + 4 * LIMIT_S:
            asked += 1
            event = ev.FlexRequestWithdrawn(area_id=area, request_id=f"r{asked}", requester_id="asker", reason="")
            headers = {"ce_id": str(uuid4()), "ce_type": type(event).__name__, "ce_subject": area}
            producer.produce(inbox("asker"), codec.encode(event), area.encode(), headers=headers)
            producer.poll(0)
            time.sleep(0.1)
        assert producer.flush(30) == 0
        owed = Counter(
            reason
            for n in range(1, asked + 1)
            for reason in ([f"plain {n}"] if n % JOB_EVERY else [f"job first {n}", f"job last {n}"])
        )

        def told() -> Counter[str]:
            return Counter(e.reason for e in facts() if isinstance(e, ev.RequestMissedGate))

        wait_for(lambda: told().total() >= owed.total())
        assert told() == owed
        assert stage.poll() is None, log.read_text()[-3000:]
    assert len(re.findall(r"assigned \[", log.read_text())) == 1, "no rebalance: the group never missed it"


def test_services_whose_passwords_are_rotated_end_and_come_back_with_the_new_ones(bus: Bus, tmp_path: Path) -> None:
    """One of each kind, under the supervisor: it starts them anew, and they read their properties files again."""
    services = ("sequencer", "congestion", "scheduler", "publisher", "monitor")
    supervisor = Supervisor(bus.made.admin, tmp_path, services=services, properties=bus.made.properties)
    supervisor.start()
    try:
        supervisor.wait_ready()
        before = supervisor.pids()
        bus.broker.add_users(*services, rotate=True)
        wait_for(lambda: not set(before.values()) & set(supervisor.pids().values()), LIMIT_S + 3 * GRACE_S)
        supervisor.wait_ready()
        anew = supervisor.pids()
        time.sleep(2 * LIMIT_S)
        assert supervisor.pids() == anew, "with the right password nothing ends"
    finally:
        supervisor.stop()
    for service in services:
        assert "refused the user name or password" in (tmp_path / "logs" / f"{service}-0.log").read_text(), service
