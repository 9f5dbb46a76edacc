"""A participant may ask so much of the broker and no more; nobody else waits for it."""

import json
from typing import Any

import pytest
from click.testing import CliRunner
from confluent_kafka import Producer

from flexbus.access import SERVICE_PRINCIPALS
from flexbus.cli.access import command
from flexbus.errors import EnvironmentProblem
from flexbus.topics import inbox
from streams.broker_security import ADMIN, properties_file
from streams.quotas import BYTES, PERCENT, QUOTAS, give_quotas, quotas_of, set_quotas
from tests.integration.access.bus import PARTIES, Bus
from tests.integration.core import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(300)]


def throttled(bus: Bus, party: str) -> float:
    """How long the broker has somebody wait who sends 4 MB at once, s."""
    waits: list[float] = []
    settings: dict[str, Any] = {"throttle_cb": lambda event: waits.append(event.throttle_time), "linger.ms": 100}
    producer = Producer({**bus.config(party), **settings})
    for _ in range(8):
        producer.produce(inbox(party), bytes(500_000), b"nowhere", partition=0)
        assert producer.flush(60) == 0
    producer.poll(0.2)
    return sum(waits)


def test_every_participant_has_quotas_and_no_service(bus: Bus) -> None:
    found = quotas_of(bus.made.admin)
    assert {party: found.get(party) for party in PARTIES} == dict.fromkeys(PARTIES, QUOTAS)
    assert not found.keys() & set(SERVICE_PRINCIPALS)


def test_who_sends_more_waits_and_nobody_else(bus: Bus) -> None:
    assert throttled(bus, "dso") == 0.0
    options = [
        "--bootstrap",
        bus.broker.bootstrap,
        "--kafka-properties",
        str(properties_file(bus.broker.data_dir, ADMIN)),
    ]
    done = CliRunner().invoke(command, ["quota", "dso", "--bytes-per-s", "300000", *options], catch_exceptions=False)
    assert json.loads(done.stdout) == {BYTES: 300_000.0, PERCENT: QUOTAS[PERCENT]}
    give_quotas(bus.made.admin, ["dso"])
    assert quotas_of(bus.made.admin)["dso"][BYTES] == 300_000.0, "what was decided for one stays"
    try:
        eventually(lambda: throttled(bus, "dso") > 0, 60, "it may send what it likes")
        assert throttled(bus, "tso") == 0.0
    finally:
        set_quotas(bus.made.admin, ["dso"], QUOTAS)


def test_a_participant_does_not_change_its_own(bus: Bus) -> None:
    with pytest.raises(EnvironmentProblem):
        set_quotas(bus.made.connection("dso"), ["dso"], {BYTES: 1e12})
    assert quotas_of(bus.made.admin)["dso"] == QUOTAS
