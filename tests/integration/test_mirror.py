"""The demo's reader of the journal on a real Kafka, behind a client library that gives nothing more."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Consumer

from flexbus.views.fact import Fact
from streams.demo import mirror
from streams.demo.mirror import Mirror
from streams.kafka import Connection
from streams.topics import create_topics
from tests.conftest import RunningKafka
from tests.integration.bus import wait_for
from tests.integration.page_served import write
from tests.page_day import blocks, history


class Deaf:
    """A consumer to which nothing comes: seen once after a restart of Kafka, and cannot be had when asked for."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self.list_topics, self.assign, self.close = consumer.list_topics, consumer.assign, consumer.close

    def consume(self, *_: Any, **__: Any) -> list[Any]:
        return []


@pytest.mark.kafka
def test_a_reader_that_gives_nothing_is_replaced(kafka: RunningKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = Connection(kafka.bootstrap)
    create_topics(connection, ["mirror-test"], None)
    area_id = f"mirror-{uuid4().hex[:8]}"
    write(connection, blocks(history(), area_id=area_id))
    made: list[object] = []
    patience_s = mirror._SILENT_S
    reader: Callable[..., Consumer] = connection.reader

    def readers(*given: Any, **settings: Any) -> Any:
        # Of the first nothing will come; the next may take longer to connect, on a busy machine.
        monkeypatch.setattr(mirror, "_SILENT_S", patience_s if made else 0.5)
        made.append(Deaf(reader(*given, **settings)) if not made else reader(*given, **settings))
        return made[-1]

    monkeypatch.setattr(Connection, "reader", lambda _, *given, **settings: readers(*given, **settings))
    facts: list[Fact] = []
    follower = Mirror(connection, area_id, facts.append)
    follower.start()
    try:
        wait_for(lambda: len(facts) == len(history()) or follower.failure is not None)
    finally:
        follower.stop()
    assert follower.failure is None
    assert len(made) > 1
