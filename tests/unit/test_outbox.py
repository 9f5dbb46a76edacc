"""What a service sends goes out in order, and what falls due together goes out together."""

from typing import Any

import pytest

from flexbus import codec
from flexbus import events as ev
from flexbus.views.fact import emit
from streams import outbox
from streams.kafka import Connection
from streams.outbox import Outbox


class Producer:
    def __init__(self, calls: list[Any]) -> None:
        self.calls = calls

    def produce(self, topic: str, value: bytes, key: bytes, **more: Any) -> None:
        self.calls.append((topic, codec.decode(value).at_ms, key, more["headers"]["ce_id"]))

    def poll(self, _: float) -> int:
        return 0


def test_facts_are_written_before_the_first_goes_out_and_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    encode = codec.encode_trusted

    def noted(event: Any) -> bytes:
        calls.append("written")
        return encode(event)

    monkeypatch.setattr(outbox, "journal_partitions", lambda _: 4)
    monkeypatch.setattr(Connection, "producer", lambda *_, **__: Producer(calls))
    monkeypatch.setattr(codec, "encode_trusted", noted)
    facts = [emit(ev.GateClosed(area_id="north", session_id="s", at_ms=n), n) for n in range(3)]

    Outbox(Connection("nowhere:1"), "scheduler", lambda _: None).send((fact, 1_000) for fact in facts)

    sent = [("flexbus.in.scheduler.v1", n, b"north", fact.event_id) for n, fact in enumerate(facts)]
    assert calls == ["written"] * 3 + sent
