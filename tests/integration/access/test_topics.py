"""What the broker itself allows: topic by topic, group by group."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Consumer

from flexbus.access import grants_of
from flexbus.errors import EnvironmentProblem
from flexbus.events import Role
from flexbus.topics import JOURNAL
from streams import broker_security as security
from streams.access import apply_grants, revoke
from streams.kafka import Connection
from streams.topics import journal_partitions
from tests.integration.access.bus import NAMED, PARTITIONS, PRINCIPALS, Bus, allowed, every_topic, readable

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize("principal", PRINCIPALS)
def test_the_broker_lets_each_principal_read_its_topics_and_no_other(bus: Bus, principal: str) -> None:
    assert readable(bus, principal, every_topic()) == allowed(principal, "READ")


def test_groups_and_transactional_ids_are_their_owners(bus: Bus) -> None:
    from confluent_kafka import KafkaException

    with pytest.raises(KafkaException, match="TRANSACTIONAL_ID_AUTHORIZATION_FAILED"):
        bus.made.connection("publisher").transactional_producer("flexbus-sequencer-0").init_transactions(20)
    consumer = Consumer({**bus.config("clearing"), "group.id": "flexbus-settlement", "log_level": 0})
    consumer.subscribe([JOURNAL])
    deadline = time.monotonic() + 30
    said = ""
    while not said and time.monotonic() < deadline:
        message = consumer.poll(0.5)
        said = message.error().name() if message is not None and message.error() is not None else ""
    consumer.close()
    assert said == "GROUP_AUTHORIZATION_FAILED"


def test_rights_that_are_too_many_are_taken_away_and_a_revoked_party_has_none(bus: Bus) -> None:
    bus.broker.add_users("leaver")
    config = {"bootstrap.servers": bus.broker.bootstrap, **security.client_config(bus.broker.data_dir, "leaver")}
    leaver = Bus(bus.broker, replace(bus.made, properties={"leaver": Path()}))
    leaver.config = lambda principal: config  # type: ignore[method-assign]
    trading = grants_of({"leaver": (Role.FSP,)})
    mine = [g for g in trading if g.principal == "leaver"]
    too_much = [g for g in grants_of({"leaver": (Role.AUDITOR,)}) if g.principal == "leaver"]

    apply_grants(bus.made.admin, too_much)
    assert readable(leaver, "leaver", [JOURNAL]) == {JOURNAL}
    done = apply_grants(bus.made.admin, mine)
    assert JOURNAL in {g.name for g in done.removed}
    assert readable(leaver, "leaver", [JOURNAL]) == set()
    assert apply_grants(bus.made.admin, mine).added == ()
    assert len(revoke(bus.made.admin, ["leaver"]).removed) == len(mine)
    assert apply_grants(bus.made.admin, trading, []).added == tuple(sorted(mine)), "nobody else lost anything"


def test_who_may_not_see_the_journal_or_asks_without_tls_is_told_what_to_name(bus: Bus) -> None:
    with pytest.raises(EnvironmentProblem, match="only services, auditors and its admin see the journal"):
        journal_partitions(bus.made.connection(NAMED))
    assert journal_partitions(bus.auditor) == PARTITIONS
    with pytest.raises(EnvironmentProblem, match=r"if it is secure, .* --kafka-properties"):
        journal_partitions(Connection.of(bus.broker.bootstrap, security={}))
