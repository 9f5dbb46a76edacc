"""The publisher beside a group that moves: no block is published twice."""

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, TopicPartition

from flexbus import codec
from flexbus.errors import EnvironmentProblem
from flexbus.events import ParticipantRegistered, Role
from flexbus.ids import derived_id
from flexbus.journal import Block, Entry, next_block
from flexbus.topics import JOURNAL, party_topic
from streams import topics
from streams.kafka import Connection
from streams.publisher import Publisher
from streams.topics import Targets

CONNECTION = Connection("127.0.0.1:9")
Rebalance = Callable[[Any, list[TopicPartition]], None]


class Record:
    """A journal record as the consumer gives it."""

    def __init__(self, offset: int, block: Block) -> None:
        self._offset, self._value = offset, codec.encode(block)

    def error(self) -> None:
        return None

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset

    def value(self) -> bytes:
        return self._value


class Broker(SimpleNamespace):
    """Producer, consumer and connection in one, with one partition; `moves` is asked before each read.

    Attributes:
        journal: the records of the partition.
        committed_to: offset of each commit.
        reads_at: where the consumer reads next, None = the partition is not assigned.
    """

    def __init__(self, journal: list[Record], *moves: str) -> None:
        super().__init__(journal=journal, moves=list(moves))
        self.committed_to: list[int] = []
        self.reads_at: int | None = None

    def connection(self) -> Connection:
        known: Any = SimpleNamespace(transactional_producer=lambda *_: self, member=lambda *_: self, bootstrap="")
        return known  # type: ignore[no-any-return]

    def subscribe(self, _: list[str], on_assign: Rebalance, on_revoke: Rebalance) -> None:
        self.on_assign, self.on_revoke = on_assign, on_revoke

    def consume(self, *_: Any) -> list[Record]:
        """Return what comes; as librdkafka may, also what came before a rebalance in the same call."""
        found = []
        for move in self.moves.pop(0).split() if self.moves else ["read"]:
            match move:
                case "assign":
                    self.on_assign(self, [TopicPartition(JOURNAL, 0)])
                case "revoke":
                    self.on_revoke(self, [TopicPartition(JOURNAL, 0)])
                case _ if self.reads_at is not None:
                    found += self.journal[self.reads_at :]
                    self.reads_at = len(self.journal)
        return found

    def assign(self, places: list[TopicPartition]) -> None:
        self.reads_at = max(places[0].offset, 0)

    def unassign(self) -> None:
        self.reads_at = None

    def assignment(self) -> list[TopicPartition]:
        return [] if self.reads_at is None else [TopicPartition(JOURNAL, 0)]

    def committed(self, places: list[TopicPartition], **_: Any) -> list[TopicPartition]:
        return [TopicPartition(p.topic, p.partition, 0) for p in places]

    def send_offsets_to_transaction(self, places: list[TopicPartition], _: Any) -> None:
        self.committed_to += [p.offset for p in places]

    def position(self, _: list[TopicPartition]) -> list[TopicPartition]:
        return []

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: []  # what else a client does leaves no trace here


def published(*moves: str, then: int = 2) -> list[int]:
    """Return the commits of a publisher whose partition comes and goes so, and then stays for some reads."""
    broker = Broker([Record(0, next_block("north", None, ()))], *moves)
    publisher = Publisher(broker.connection())
    publisher.open()
    for _ in range(len(moves) + then):
        publisher.step()
    publisher.close()
    return broker.committed_to


def test_a_block_is_published_once() -> None:
    assert published("assign") == [1]


def test_what_was_read_before_the_partition_came_back_is_published_once() -> None:
    assert published("assign", "read revoke assign") == [1]


def test_what_was_read_before_the_partition_went_is_left_to_its_next_owner() -> None:
    assert published("assign", "read revoke", then=0) == []


def test_what_came_with_the_partition_is_not_lost() -> None:
    assert published("assign read") == [1]


def test_hundreds_who_are_admitted_at_once_are_asked_for_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each question takes a quarter of a second, and the transaction that waits for them is given up after ten."""
    asked = []

    def refused(_: Connection, parties: Iterable[str]) -> None:
        asked.append(len([*parties]))
        raise EnvironmentProblem("who runs the bus makes topics")

    monkeypatch.setattr(topics, "create_topics", refused)
    monkeypatch.setattr(topics, "existing_topics", lambda _: {})
    admitted = [admission(n) for n in range(300)]
    broker = Broker([Record(0, next_block("north", None, tuple(admitted)))], "assign", "read")
    broker.list_topics = lambda *_, **__: SimpleNamespace(topics={})
    publisher = Publisher(broker.connection())
    publisher.open()
    for _ in range(4):
        publisher.step()
    publisher.close()
    assert broker.committed_to == [1]
    assert asked == [300]


def told(*answers: KafkaError | None) -> Any:
    """A producer to which the broker tells, one time after the other, that fsp-a's topic has this error or none."""
    left = list(answers)

    def topics_told(**_: Any) -> Any:
        error = left.pop(0)
        absent = error is not None and error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART
        topic = SimpleNamespace(error=None, partitions={0: SimpleNamespace(error=error)})
        return SimpleNamespace(topics={} if absent else {party_topic("fsp-a"): topic})

    return SimpleNamespace(list_topics=topics_told)


NO_LEADER, ABSENT = KafkaError(KafkaError.LEADER_NOT_AVAILABLE), KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)


def test_a_party_whose_topic_has_no_leader_for_a_moment_misses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is when Kafka comes back, and the services with it; what is passed over is never published."""
    monkeypatch.setattr(topics, "create_topics", lambda *_: pytest.fail("it is there"))
    assert Targets(CONNECTION, told(NO_LEADER, None)).party_ready("fsp-a")


@pytest.mark.parametrize("answer", [ABSENT, NO_LEADER])
def test_a_party_whose_topic_was_made_just_now_misses_nothing(
    monkeypatch: pytest.MonkeyPatch, answer: KafkaError
) -> None:
    monkeypatch.setattr(topics, "create_topics", lambda *_: None)
    assert Targets(CONNECTION, told(ABSENT, answer, None)).party_ready("fsp-a")


def admission(number: int) -> Entry:
    event = ParticipantRegistered(
        area_id="north", participant_id=f"p{number}", name=f"p{number}", roles=(Role.FSP,), eic=None
    )
    return Entry(
        event_id=derived_id("admission", number),
        event_type="ParticipantRegistered",
        schema_fingerprint=codec.fingerprint_of(ParticipantRegistered),
        sender_id="fmo",
        on_behalf_of=None,
        received_at_ms=1_800_000_000_000,
        inbox_partition=0,
        inbox_offset=number,
        payload=codec.encode(event),
    )
