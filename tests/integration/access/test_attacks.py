"""A participant with a good password of its own tries what is not its own: the broker refuses all of it."""

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from flexbus.topics import JOURNAL, REJECTIONS, inbox, party_topic
from tests.integration.access.bus import Bus, allowed, every_topic
from tests.integration.access.page import Page

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(300)]

ATTACKER = "fsp"  # has what a participant has, in an area and outside


def _futures(found: Any) -> None:
    for future in found.values() if isinstance(found, dict) else [found]:
        future.result(30)


def _configured(kind: str, name: str, setting: str, value: str) -> list[ConfigResource]:
    entry = ConfigEntry(setting, value, incremental_operation=AlterConfigOpType.SET)
    return [ConfigResource(ConfigResource.Type[kind], name, incremental_configs=[entry])]


def _password(name: str) -> UserScramCredentialUpsertion:
    return UserScramCredentialUpsertion(name, ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096), b"mine-now")


def _acl(principal: str) -> AclBinding:
    return AclBinding(
        ResourceType.TOPIC,
        JOURNAL,
        ResourcePatternType.LITERAL,
        f"User:{principal}",
        "*",
        AclOperation.ALL,
        AclPermissionType.ALLOW,
    )


ANY_ACL = AclBindingFilter(
    ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY
)
ATTEMPTS: dict[str, Callable[[AdminClient], Any]] = {
    "make a topic": lambda a: a.create_topics([NewTopic("flexbus.in.fsp.v2", 1, 1)]),
    "make a topic of another's inbox": lambda a: a.create_topics([NewTopic(inbox("newcomer"), 1, 1)]),
    "delete the journal": lambda a: a.delete_topics([JOURNAL]),
    "delete its own inbox, the evidence": lambda a: a.delete_topics([inbox(ATTACKER)]),
    "delete what it sent": lambda a: a.delete_records([TopicPartition(inbox(ATTACKER), 0, 1)]),
    "delete journal records": lambda a: a.delete_records([TopicPartition(JOURNAL, 0, 1)]),
    "cut the journal's time": lambda a: a.incremental_alter_configs(
        _configured("TOPIC", JOURNAL, "retention.ms", "1000")
    ),
    "cut its inbox's time": lambda a: a.incremental_alter_configs(
        _configured("TOPIC", inbox(ATTACKER), "retention.ms", "1000")
    ),
    "change the broker": lambda a: a.incremental_alter_configs(
        _configured("BROKER", "1", "max.connections.per.ip", "1")
    ),
    "read the broker's settings": lambda a: a.describe_configs([ConfigResource(ConfigResource.Type.BROKER, "1")]),
    "read the journal's settings": lambda a: a.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, JOURNAL)]),
    "more partitions": lambda a: a.create_partitions([NewPartitions(JOURNAL, 8)]),
    "give itself rights": lambda a: a.create_acls([_acl(ATTACKER)]),
    "take others' rights": lambda a: a.delete_acls([ANY_ACL]),
    "set the admin's password": lambda a: a.alter_user_scram_credentials([_password("admin")]),
    "set another's password": lambda a: a.alter_user_scram_credentials([_password("dso")]),
    "look at the sequencer's group": lambda a: a.describe_consumer_groups(["flexbus-sequencer"]),
    "delete the publisher's group": lambda a: a.delete_consumer_groups(["flexbus-publisher"]),
    "move another's position": lambda a: a.alter_consumer_group_offsets(
        [ConsumerGroupTopicPartitions("flexbus-sequencer", [TopicPartition(inbox("dso"), 0, 0)])]
    ),
    "see another's position": lambda a: a.list_consumer_group_offsets([ConsumerGroupTopicPartitions("dso")]),
}


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_a_participant_administers_nothing(bus: Bus, attempt: str) -> None:
    admin = AdminClient({**bus.config(ATTACKER), "log_level": 0})
    # Of a topic that one may not know of librdkafka finds no leader that it could ask.
    with pytest.raises(KafkaException, match=r"AUTHORIZATION_FAILED|No leaders found"):
        _futures(ATTEMPTS[attempt](admin))


def test_a_participant_reads_no_rights(bus: Bus) -> None:
    """They would name every party."""
    admin = AdminClient({**bus.config(ATTACKER), "log_level": 0})
    told: list[AclBinding] = []
    with suppress(KafkaException):  # refused; or answered with those that it may see, which are none
        told = admin.describe_acls(ANY_ACL).result(30)
    assert told == []


def test_a_participant_does_not_learn_who_else_there_is(bus: Bus) -> None:
    """Names of topics and groups name parties: it is told those that it may use."""
    admin = AdminClient({**bus.config(ATTACKER), "log_level": 0})
    told = {name for name, topic in admin.list_topics(timeout=20).topics.items() if topic.error is None}
    assert told == allowed(ATTACKER, "READ") | allowed(ATTACKER, "WRITE")
    assert party_topic("dso") in every_topic()
    assert not [name for name in told if "dso" in name or "party-named" in name]
    groups = {g.group_id for g in admin.list_consumer_groups().result(30).valid}
    assert not [g for g in groups if g.startswith("flexbus-") and g != "flexbus-reader"], groups


@pytest.mark.parametrize("group", ["dso", "dso:main", "fsp.x", "fspx", "flexbus-sequencer", "flexbus-reader"])
def test_a_participant_joins_no_group_but_its_own(bus: Bus, group: str) -> None:
    assert _joined(bus, group) == "GROUP_AUTHORIZATION_FAILED"


@pytest.mark.parametrize("group", ["fsp", "fsp:main"])
def test_and_its_own_it_does(bus: Bus, group: str) -> None:
    assert _joined(bus, group) == "_PARTITION_EOF"


def _joined(bus: Bus, group: str) -> str:
    settings = {"group.id": group, "enable.partition.eof": True, "auto.offset.reset": "latest", "log_level": 0}
    consumer = Consumer({**bus.config(ATTACKER), **settings})
    consumer.subscribe([party_topic(ATTACKER)])
    deadline = time.monotonic() + 40
    try:
        while time.monotonic() < deadline:
            message = consumer.poll(0.5)
            if message is not None and message.error() is not None:
                return str(message.error().name())
    finally:
        consumer.close()
    return "nothing"


@pytest.mark.parametrize("name", ["flexbus-sequencer-0", "flexbus-publisher-0", "fsp", "anything"])
def test_a_participant_has_no_transactions(bus: Bus, name: str) -> None:
    """One of the sequencer's id would fence the sequencer."""
    producer = Producer({**bus.config(ATTACKER), "transactional.id": name, "log_level": 0})
    with pytest.raises(KafkaException, match="TRANSACTIONAL_ID_AUTHORIZATION_FAILED"):
        producer.init_transactions(20)


# --- the page


def raw(page: Page, *lines: str) -> str:
    port = int(page.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall("\r\n".join((*lines, "Connection: close", "", "")).encode())
        found = b""
        with suppress(ConnectionResetError):  # it does not read to the end what it refuses
            while part := connection.recv(65536):
                found += part
    return found.decode(errors="replace")


@pytest.mark.parametrize(
    "path",
    [
        "/static/../server.py",
        "/static/..%2fserver.py",
        "/static/%2e%2e/%2e%2e/broker_security.py",
        "//etc/passwd",
        "/static//etc/passwd",
        "/static/app.js%00.py",
        "/entry/..%2f..%2fx/0/0",
        "/metrics/../state",
        "/health/../state",
        "/health/%2e%2e/state",
        "/health?x=/../state",
        "/health;/state",
    ],
)
@pytest.mark.parametrize("proven", [False, True])
def test_no_path_leads_out_or_around_the_gate(page: Page, path: str, proven: bool) -> None:
    lines = [f"GET {path} HTTP/1.1", f"Host: {page.url.partition('://')[2]}"]
    answer = raw(page, *lines, *([f"Authorization: {page.proof(ATTACKER)}"] if proven else []))
    status, body = answer.split()[1], answer.partition("\r\n\r\n")[2]
    if status == "200":
        assert path.startswith("/health")
        assert set(json.loads(body)) == {"status", "caught_up"}
    else:
        assert status in (("400", "404") if proven else ("400", "401")), answer[:200]
        assert len(body) < 200


@pytest.mark.parametrize(
    "lines",
    [
        ("GET /state HTTP/1.1", "Host: attacker.example"),
        ("GET /state HTTP/1.1", "Host: {own}", "Host: attacker.example"),
        ("GET http://attacker.example/state HTTP/1.1", "Host: {own}"),
        ("POST /state HTTP/1.1", "Host: {own}", "Content-Length: 0"),
        ("GET /state HTTP/1.1", "Host: {own}", "Authorization: Basic " + "A" * 7000),
        ("GET /state HTTP/1.1", "Host: {own}", "Authorization: Bearer "),
        ("GET /state HTTP/1.1", "Host: {own}", "X: " + "a" * 100_000),
        ("GET /state?" + "a" * 100_000 + " HTTP/1.1", "Host: {own}"),
        ("GET /state HTTP/1.1", "Host: {own}", "Transfer-Encoding: chunked", "Content-Length: 5"),
    ],
)
def test_what_is_no_request_of_a_reader_gets_nothing(page: Page, lines: tuple[str, ...]) -> None:
    own = page.url.partition("://")[2]
    answer = raw(page, *(line.replace("{own}", own) for line in lines))
    assert answer.split()[1][0] == "4", answer[:200]
    assert "participants" not in answer
    assert page.get("/state", ATTACKER)[0] == 200, "and the page goes on"


def test_the_open_addresses_name_nobody_and_nothing_of_the_market(page: Page, told: dict[str, Any]) -> None:
    open_ = str(page.get("/health")) + str(page.get("/metrics"))
    assert not [name for name in ("dso", "party-named", "fsp", "see-", "entries", "rejections") if name in open_]


def test_another_site_can_neither_read_the_page_nor_have_it_read(page: Page) -> None:
    request = urllib.request.Request(page.url + "/health", headers={"Origin": "http://attacker.example"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        headers = {name.lower(): value for name, value in answer.headers.items()}
    assert "access-control-allow-origin" not in headers
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "set-cookie" not in headers
    with pytest.raises(urllib.error.HTTPError, match="401") as refused:
        urllib.request.urlopen(page.url + "/", timeout=10)
    assert "frame-ancestors 'none'" in refused.value.headers["Content-Security-Policy"]


def test_the_rejections_of_others_are_not_told_on_the_page(bus: Bus, page: Page) -> None:
    """They hold what others sent: for who operates the area, and auditors."""
    assert REJECTIONS not in allowed(ATTACKER, "READ")
    shown = page.get("/state?area=see-gate_opened", ATTACKER)[1]["sections"].get("rejections", {})
    assert {row["sender_id"] for row in shown.values()} <= {ATTACKER}
