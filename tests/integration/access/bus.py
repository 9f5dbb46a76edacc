"""A secured bus for the tests of who may do what, and what each principal gets out of it.

Each role is one party with its own password; `named` is a bystander whom every event names; the services are
principals too. Nothing here asks the code under test what is allowed but the table itself.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from flexbus import codec
from flexbus import events as ev
from flexbus.access import PLAYER, SERVICE_PRINCIPALS, TABLE, Verb, grants_of
from flexbus.catalogue import CATALOGUE, values_at
from flexbus.cli.access import command
from flexbus.client import Client
from flexbus.events import EventRejected, Role, Verdict
from flexbus.journal import Entry
from flexbus.topics import REJECTIONS, party_topic, topics
from streams.access import Provisioned, provision
from streams.broker import Broker
from streams.journal_reader import read_blocks, read_records
from streams.kafka import Connection
from streams.publisher import Publisher
from streams.sequencer import Sequencer
from tests.every_cell import PARTY_OF
from tests.integration.bus import working
from tests.integration.core import eventually

ROLES_OF = {party: (role,) for role, party in PARTY_OF.items()}
NAMED, OTHER = "party-named", "other"
PARTIES: dict[str, tuple[Role, ...]] = {**ROLES_OF, NAMED: (Role.OBSERVER,), OTHER: (Role.FSP,)}
PRINCIPALS = (*PARTIES, *SERVICE_PRINCIPALS, PLAYER)
PARTITIONS = 2
DENIED = "TOPIC_AUTHORIZATION_FAILED"


@dataclass
class Bus:
    """A secured bus whose sequencer and publisher run as themselves."""

    broker: Broker
    made: Provisioned

    def config(self, principal: str) -> dict[str, str]:
        return {"bootstrap.servers": self.broker.bootstrap, **self.made.connection(principal).security}

    def client(self, party: str) -> Client:
        connection = self.made.connection(party)
        return Client(connection.bootstrap, party, security=connection.security)

    @cached_property
    def auditor(self) -> Connection:
        return self.made.connection(PARTY_OF[Role.AUDITOR])

    def rejected(self) -> dict[str, EventRejected]:
        found = {}
        for partition in range(PARTITIONS):
            for _, value in read_records(self.auditor, REJECTIONS, partition):
                rejection = codec.decode_as(value, EventRejected)
                found[rejection.event_id or ""] = rejection
        return found

    def accepted(self) -> set[str]:
        blocks = (block for p in range(PARTITIONS) for _, block in read_blocks(self.auditor, p))
        return {entry.event_id for block in blocks for entry in block.entries}

    def faults(self, event_ids: set[str]) -> dict[str, set[str]]:
        """Paths and codes of what was refused by event id, once every verdict is there; empty set = accepted."""
        eventually(lambda: event_ids <= self.rejected().keys() | self.accepted(), 90, "verdicts are missing")
        rejected = self.rejected()
        return {
            i: {f"{f.path} {f.code.value}" for f in rejected[i].faults} if i in rejected else set() for i in event_ids
        }

    def found(self, *areas: str) -> None:
        """Open areas with one party in each role, and the two bystanders."""
        with self.client("fmo") as fmo:
            for story in (*zip(*(founding_of(area) for area in areas), strict=True),):
                receipts = fmo.send_all(list(story))
                assert {r.verdict for r in receipts} == {Verdict.ACCEPTED}, receipts

    def entries(self, area: str) -> list[Entry]:
        """Every entry of an area's journal, as an auditor reads it."""
        blocks = (block for p in range(PARTITIONS) for _, block in read_blocks(self.auditor, p))
        return [entry for block in blocks if block.area_id == area for entry in block.entries]


def founding_of(area: str, named: Role = Role.OBSERVER) -> list[Any]:
    """What the market operator sends to open an area, and to give `NAMED` a role in it."""
    opened = ev.AreaOpened(area_id=area, name=area, fmo_id="fmo", time_zone="Europe/Helsinki")
    return [opened, *registrations(area, named)]


def registrations(area: str, named: Role = Role.OBSERVER) -> list[ev.ParticipantRegistered]:
    return [
        ev.ParticipantRegistered(area_id=area, participant_id=party, name=party, roles=roles)
        for party, roles in (PARTIES | {NAMED: (named,)}).items()
    ]


@contextmanager
def secured_bus(folder: Path) -> Iterator[Bus]:
    """A broker with access control, on which sequencer and publisher work, each as itself, by all rules."""
    broker = Broker(folder / "broker", secure=True)
    with ExitStack() as stack:
        stack.callback(broker.kill)
        broker.start()
        bus = Bus(broker, provision(broker, PARTIES, PARTITIONS))
        stack.enter_context(working(Sequencer(bus.made.connection("sequencer"))))
        stack.enter_context(working(Publisher(bus.made.connection("publisher"))))
        yield bus


def written(bus: Bus, principal: str, topic: str) -> str:
    return outcomes(bus, principal, [topic])[topic]


def outcomes(bus: Bus, principal: str, names: list[str]) -> dict[str, str]:
    """Write one record to each topic as a principal; `delivered` or the broker's refusal, by topic."""
    said: dict[str, str] = {}
    producer = Producer({**bus.config(principal), "log_level": 0, "error_cb": lambda _: None})
    for topic in names:

        def done(error: Any, _: Any, topic: str = topic) -> None:
            said[topic] = "delivered" if error is None else error.name()

        producer.produce(topic, b"probe", b"key", partition=0, on_delivery=done)  # compacted topics want a key
    producer.flush(60)
    return said


def readable(bus: Bus, principal: str, names: list[str]) -> set[str]:
    """Fetch from each topic as a principal; return those that the broker gives something of, be it the end."""
    given: set[str] = set()
    consumer = Consumer(
        {
            **bus.config(principal),
            "group.id": "flexbus-reader",
            "enable.partition.eof": True,
            "enable.auto.commit": False,
            "log_level": 0,
            "error_cb": lambda _: None,
        }
    )
    # Whoever may not even know of a topic is told so by the metadata; whoever may write it only, by the fetch.
    asked = {topic: consumer.list_topics(topic, timeout=20).topics[topic].error for topic in names}
    assert {error.name() for error in asked.values() if error is not None} <= {DENIED}
    refused = {topic for topic, error in asked.items() if error is not None}
    consumer.assign([TopicPartition(topic, 0, 0) for topic in names if topic not in refused])
    deadline = time.monotonic() + 60
    while given | refused != set(names):
        assert time.monotonic() < deadline, f"no answer about {set(names) - given - refused}"
        for message in consumer.consume(500, 0.2):
            error = message.error()
            denied = error is not None and error.name() == DENIED
            (refused if denied else given).add(message.topic())
    consumer.close()
    return given - refused


def every_topic() -> list[str]:
    return [t.name for t in topics(PARTIES, PARTITIONS)]


def allowed(principal: str, operation: str) -> set[str]:
    grants = [g for g in grants_of(PARTIES) if g.principal in (principal, "*") and g.resource == "TOPIC"]
    return {
        topic
        for topic in every_topic()
        for g in grants
        if g.operation == operation and (topic.startswith(g.name) if g.prefixed else topic == g.name)
    }


def in_full(role: Role, name: str) -> bool:
    """Tell whether who is named by an event sees all of it: its role may send it, or it is named outside lists."""
    return Verb.SEND in TABLE[role, name] or any("[]" not in path for path in CATALOGUE[name].parties)


def founding(event: Any) -> bool:
    """Tell what founded the area from the specimen, which names `named` alone."""
    return (isinstance(event, ev.AreaOpened) and event.fmo_id == "fmo") or (
        isinstance(event, ev.ParticipantRegistered) and event.name == event.participant_id
    )


def logged(bus: Bus, *options: str) -> list[dict[str, Any]]:
    """What `flexbus access reads` tells an auditor."""
    connected = ["--bootstrap", bus.broker.bootstrap, "--kafka-properties", str(bus.made.properties["auditor"])]
    done = CliRunner().invoke(command, ["reads", *options, *connected], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def own_area(role: Role, word: str) -> str:
    """Return the area in which `NAMED` has a role and is named by an event of a kind."""
    return f"own-{role.value.lower()}-{word}"


def read_by(
    bus: Bus, party: str, *, own: bool, area_of: Callable[[str], str] = "see-{}".format
) -> dict[str, list[Any]]:
    """What a party reads of the kinds told in the journal, as itself, by kind; see `records_by`."""
    records = records_by(bus, party, own=own, area_of=area_of)
    return {name: [event for event, _ in found] for name, found in records.items()}


def records_by(
    bus: Bus, party: str, *, own: bool, area_of: Callable[[str], str] = "see-{}".format
) -> dict[str, list[tuple[Any, bytes]]]:
    """Events and all bytes of their records (key, headers, value) on a party's own topic, or the public ones.

    Args:
        bus: the bus.
        party: who reads.
        own: its own topic, else the public ones.
        area_of: the area in which each kind was told, by its word; others are left out.
    """
    names = [party_topic(party)] if own else [k.out_topic for k in CATALOGUE.values() if k.out_topic]
    open_ = {(topic, p) for topic in names for p in range(1 if own else PARTITIONS)}
    found: dict[str, list[tuple[Any, bytes]]] = {}
    consumer = bus.made.connection(party).reader()
    consumer.assign([TopicPartition(topic, p, 0) for topic, p in sorted(open_)])
    deadline = time.monotonic() + 60
    while open_:
        assert time.monotonic() < deadline, f"no answer from {open_}"
        for message in consumer.consume(500, 0.1):
            if (error := message.error()) is not None:
                assert error.code() == KafkaError._PARTITION_EOF, error
                open_.discard((message.topic(), message.partition()))
                continue
            event = codec.decode(message.value())
            name = type(event).__name__
            if name in CATALOGUE and event.area_id == area_of(CATALOGUE[name].word):
                headers = b"".join(k.encode() + v for k, v in message.headers() or ())
                found.setdefault(name, []).append((event, b" ".join((message.key(), headers, message.value()))))
    consumer.close()
    return found


def hidden_in(event: Any) -> set[str]:
    """The words of an event that nobody is told who sees it without identities, by the catalogue's row."""
    paths = CATALOGUE[type(event).__name__].identities
    return {word for path in paths for value in values_at(event, path) for word in words(value)}


def words(value: Any) -> Iterator[str]:
    """Every text in an event or a JSON value; names of fields are none."""
    if isinstance(value, str):
        yield value
    elif is_dataclass(value) and not isinstance(value, type):
        yield from words(list(asdict(value).values()))
    elif isinstance(value, dict):
        yield from words(list(value.values()))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from words(inner)
