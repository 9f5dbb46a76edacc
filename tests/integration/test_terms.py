"""A market of storages, profiles and reactive power on a real Kafka: cleared, ordered and settled as in memory."""

from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from flexbus import events as ev
from flexbus.catalogue import Service
from flexbus.client import Client
from flexbus.views.fact import facts_of
from streams.broker import Broker
from streams.kafka import Connection
from streams.supervisor import Supervisor
from streams.topics import create_topics
from tests.integration import core
from tests.story import AREA
from tests.unit.test_terms_day import played

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.alone,
    pytest.mark.long,
]  # a minute; test_terms_day.py in memory takes one second

PARTIES = ("fmo", "grid-dso", "tso", "alpha", "beta", "meters")
RUN = ("sequencer", "clearing", "activation", "settlement")
SERVICES = frozenset(s.value for s in Service)


def journal(connection: Connection) -> dict[str, Any]:
    return {f.event_id: f.event for block in core.chains(connection).get(AREA, ()) for f in facts_of(block)}


def test_what_is_cleared_ordered_and_settled_is_what_follows_in_memory(tmp_path: Path) -> None:
    _, facts = played()
    clients: dict[str, Client] = {}
    broker = Broker(tmp_path / "broker")
    try:
        connection = Connection(broker.start())
        create_topics(connection, PARTIES, 1)
        supervisor = Supervisor(connection, tmp_path, services=RUN)
        supervisor.start()
        try:
            supervisor.wait_ready()
            for sender, group in groupby(facts, key=lambda f: f.sender_id):
                told = list(group)
                if sender in SERVICES - {"scheduler", *RUN}:
                    continue
                if sender not in RUN:
                    client = clients.get(sender) or clients.setdefault(sender, Client(connection.bootstrap, sender))
                    sent = client.post_records(client.record(f.event, event_id=f.event_id) for f in told)
                    if sender in PARTIES:
                        assert {r.verdict for r in client.verdicts(sent)} == {ev.Verdict.ACCEPTED}
                        continue
                core.eventually(lambda told=told: {f.event_id for f in told} <= journal(connection).keys())
            found = journal(connection)
        finally:
            for client in clients.values():
                client.close()
            supervisor.stop()
    finally:
        broker.stop()
    for fact in (f for f in facts if f.sender_id in RUN):
        here = found[fact.event_id]
        if isinstance(here, ev.MarketCleared):  # one event per block in memory, many on Kafka
            here = replace(here, gate_block=fact.event.gate_block)
            assert here.reactive_awards
        assert here == fact.event
    assert {type(f.event) for f in facts if f.sender_id in RUN} >= {ev.MarketCleared, ev.SettlementComputed}
