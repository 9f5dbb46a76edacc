"""The publisher beside a group that moves: no block is published twice."""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import NewTopic

from flexbus import codec
from flexbus.errors import EnvironmentProblem
from flexbus.events import ParticipantRegistered, Role
from flexbus.ids import derived_id
from flexbus.journal import Block, Entry, next_block
from flexbus.topics import JOURNAL, party_topic
from streams import topics
from streams.kafka import Connection
from streams.publisher import Publisher
from streams.topics import Targets, TopicsRefused

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

    def refused(_: Connection, parties: Iterable[str], **__: Any) -> None:
        asked.append(len([*parties]))
        raise TopicsRefused("who runs the bus makes topics", map(party_topic, parties))

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
    monkeypatch.setattr(topics, "create_topics", lambda *_, **__: pytest.fail("it is there"))
    assert Targets(CONNECTION, told(NO_LEADER, None)).party_ready("fsp-a")


@pytest.mark.parametrize("answer", [ABSENT, NO_LEADER])
def test_a_party_whose_topic_was_made_just_now_misses_nothing(
    monkeypatch: pytest.MonkeyPatch, answer: KafkaError
) -> None:
    monkeypatch.setattr(topics, "create_topics", lambda *_, **__: None)
    assert Targets(CONNECTION, told(ABSENT, answer, None)).party_ready("fsp-a")


class Answers(SimpleNamespace):
    """A broker without the topics that are wanted, which answers each time somebody asks it to make them.

    Args:
        answers: by call what it says of each topic: an error, or None for one that is made.
        silent: how often it does not even tell its topics.
    """

    def __init__(self, *answers: KafkaError | None, silent: int = 0) -> None:
        super().__init__(answers=list(answers), silent=silent, made=set(), asked=0, bootstrap="kafka:9092")

    def admin(self, _: Any = None) -> "Answers":
        return self

    def poll(self, _: float) -> None:
        return

    def list_topics(self, *_: Any, timeout: float) -> Any:
        if self.silent:
            self.silent -= 1
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        whole = SimpleNamespace(error=None, partitions={0: SimpleNamespace(error=None)})
        return SimpleNamespace(topics=dict.fromkeys(self.made, whole))

    def create_topics(self, wanted: list[NewTopic], **_: float) -> dict[str, Future[None]]:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.asked += 1
        found: dict[str, Future[None]] = {}
        for topic in wanted:
            done = found[topic.topic] = Future()
            if answer is None:
                self.made.add(topic.topic)
                done.set_result(None)
            else:
                done.set_exception(KafkaException(answer))
        return found


PASSING = [
    KafkaError._TRANSPORT,
    KafkaError._TIMED_OUT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError.UNKNOWN,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.NOT_CONTROLLER,
    KafkaError.BROKER_NOT_AVAILABLE,
    KafkaError.INVALID_REPLICATION_FACTOR,
    KafkaError.THROTTLING_QUOTA_EXCEEDED,
]


def targets_of(broker: Answers, producer: Any = None) -> Targets:
    connection: Any = broker
    return Targets(connection, producer or broker)


@pytest.mark.parametrize("code", PASSING)
def test_a_party_whose_topic_a_broker_in_trouble_did_not_make_misses_nothing(code: int) -> None:
    """What is passed over in that moment is never published; only who is refused has no topic."""
    broker = Answers(KafkaError(code), None)
    assert targets_of(broker).party_ready("fsp-a")
    assert broker.asked == 2


@pytest.mark.parametrize("code", PASSING)
def test_a_broker_that_stays_in_trouble_ends_the_process_with_the_reason(code: int) -> None:
    targets = targets_of(Answers(KafkaError(code, "in trouble")))
    began = time.monotonic()
    with pytest.raises(EnvironmentProblem, match=r"could not be created.*in trouble") as caught:
        targets.look(["fsp-a"], 0.5)
    assert not isinstance(caught.value, TopicsRefused)
    assert time.monotonic() - began < 5.0


def test_a_broker_that_is_away_when_asked_for_its_topics_has_refused_nobody() -> None:
    absent: Any = SimpleNamespace(topics={})
    broker = Answers(None, silent=2)
    answers = [absent]
    producer = SimpleNamespace(list_topics=lambda **k: answers.pop(0) if answers else broker.list_topics(**k))
    assert targets_of(broker, producer).party_ready("fsp-a")


def test_a_broker_that_answers_nothing_ends_the_process_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "_ASIDE_S", 0.0)
    broker: Any = Answers(None)
    broker.create_topics = lambda wanted, **_: {t.topic: Future() for t in wanted}
    with pytest.raises(EnvironmentProblem, match=r"could not be created.*cannot be reached"):
        targets_of(broker).look(["fsp-a"], 0.3)


@pytest.mark.parametrize(
    "code", [KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.POLICY_VIOLATION, KafkaError.TOPIC_EXCEPTION]
)
def test_only_who_is_refused_a_topic_gets_nothing_and_is_not_asked_for_again_at_once(code: int) -> None:
    broker = Answers(KafkaError(code), None)
    targets = targets_of(broker)
    assert not targets.party_ready("fsp-a")
    assert not targets.party_ready("fsp-a")
    assert broker.asked == 1


def test_who_is_admitted_with_one_who_is_refused_misses_nothing() -> None:
    """Its topic is made, and may be told of later; taken for refused it would be passed over meanwhile."""
    broker: Any = Answers(None)
    make = broker.create_topics

    def create(wanted: list[NewTopic], **_: float) -> dict[str, Future[None]]:
        found: dict[str, Future[None]] = make([t for t in wanted if t.topic != party_topic("fsp-b")])
        if any(t.topic == party_topic("fsp-b") for t in wanted):
            done = found.setdefault(party_topic("fsp-b"), Future())
            done.set_exception(KafkaException(KafkaError(KafkaError.POLICY_VIOLATION)))
        return found

    broker.create_topics = create
    late = [SimpleNamespace(topics={}), SimpleNamespace(topics={})]
    producer = SimpleNamespace(list_topics=lambda **k: late.pop(0) if late else broker.list_topics(**k))
    targets = targets_of(broker, producer)
    targets.look(["fsp-a", "fsp-b"], 5.0)
    assert (targets.party_ready("fsp-a"), targets.party_ready("fsp-b")) == (True, False)


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
