"""What is noted of a read, and what is believed of a note."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from flexbus.events import ReadLogged
from streams.kafka import Connection
from streams.page.read_log import ReadLog
from streams.read_log import Noted, resource
from tests.integration.bus import wait_for


def noted(writer: str, reader: str) -> Noted:
    read = ReadLogged(
        area_id="", reader_id=reader, role="", interface="sdk", resource="flexbus.journal.v1", status=202, at_ms=0
    )
    return Noted(writer, 0, read)


@pytest.mark.parametrize(
    ("writer", "reader", "mark"),
    [
        ("fsp-a", "fsp-a", None),
        ("fsp-a", "fsp-b", "forged"),
        ("fsp-a", "", "forged"),
        ("admin", "fsp-a", "forged"),
        ("monitor", "fsp-a", None),
        ("monitor", "", None),
        ("clearing", "admin", None),
        ("clearing", "clearing", None),
        ("clearing", "", None),
        ("clearing", "fsp-a", "forged"),
        ("clearing", "sequencer", "forged"),
        ("fsp-a", "admin", "forged"),
        ("anyone", "", None),
        ("anyone", "anyone", "forged"),
        ("anyone", "fsp-a", "forged"),
    ],
)
def test_a_record_speaks_for_its_writer_alone_but_for_the_page_and_the_token_of_a_service(
    writer: str, reader: str, mark: str | None
) -> None:
    assert noted(writer, reader).mark == mark


def test_what_is_no_record_of_a_read_is_marked() -> None:
    assert Noted("fsp-a", 0, None).mark == "unreadable"


def test_a_resource_names_topic_and_query_without_what_is_not_restricted() -> None:
    assert resource("t") == "t"
    assert resource("t", area=None, from_="start", until=None) == "t?from=start"
    at = datetime(2027, 1, 15, tzinfo=UTC)
    assert resource("t", from_=at, until=7) == "t?from=2027-01-15T00:00:00%2B00:00&until=7"
    assert resource("t", area="a&b") == "t?area=a%26b"


class Client:
    """A producer that delivers at once, or one that a fatal error has ended."""

    def __init__(self, *, ended: bool) -> None:
        self._ended = ended
        self._delivered: list[Callable[[None, None], None]] = []

    def poll(self, wait_s: float) -> None:
        if self._ended:
            raise KafkaException(KafkaError(KafkaError._FATAL))
        while self._delivered:
            self._delivered.pop()(None, None)
        time.sleep(0.001)

    def produce(self, *_: Any, on_delivery: Callable[[None, None], None], **__: Any) -> None:
        if self._ended:
            raise KafkaException(KafkaError(KafkaError._FATAL))
        self._delivered.append(on_delivery)

    def flush(self, _: float) -> None:
        """Nothing is left."""


def test_the_page_goes_on_with_a_new_client_when_one_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would show nothing to anybody until it is started anew."""
    clients = [Client(ended=True), Client(ended=False)]
    monkeypatch.setattr(Connection, "producer", lambda *_, **__: clients.pop(0))
    page = ReadLog(Connection("127.0.0.1:9"))
    wait_for(lambda: not clients)
    asyncio.run(page.note(area_id="", reader_id="dso", role="DSO", resource="/", status=200))
    page.close()
