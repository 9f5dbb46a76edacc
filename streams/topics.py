"""Topics on the broker: made from the one table, when they are missing."""

import logging
import time
from collections.abc import Iterable

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic, TopicMetadata

from flexbus.errors import EnvironmentProblem
from flexbus.topics import JOURNAL, Topic, party_topic, topics
from streams.kafka import Connection, Trouble, environment_problem, patiently

__all__ = ["PARTY_PARTITION", "Targets", "create_topics", "existing_topics", "journal_partitions"]

log = logging.getLogger(__name__)

PARTITIONS = 4
PARTY_PARTITION = 0  # party topics have this one
_TIMEOUT_S = 30.0
_ASK_AGAIN_S = 10.0
_TOLD_WITHIN_S = 120.0
# Kafka takes at most 10,000 records of its own per call: each topic, each of its partitions and each of its settings.
_TOPICS_PER_CALL = 100


def existing_topics(connection: Connection) -> dict[str, int]:
    """Return the topics of the broker with their partition counts.

    Raises:
        EnvironmentProblem: the broker does not answer.
    """
    trouble = Trouble()
    admin = connection.admin(trouble)
    try:
        found = admin.list_topics(timeout=_TIMEOUT_S).topics
    except KafkaException as error:
        raise environment_problem(error, connection.bootstrap, trouble, admin) from error
    return {name: len(t.partitions) for name, t in found.items() if t.error is None}


def journal_partitions(connection: Connection) -> int:
    """Return how many partitions the journal has.

    Raises:
        EnvironmentProblem: the broker does not answer, or has no journal.
    """
    count = existing_topics(connection).get(JOURNAL)
    if count is None:
        raise EnvironmentProblem(
            f"Kafka at {connection.bootstrap} shows no topic {JOURNAL}: make the topics by `flexbus topics --create`; "
            "if it is secure, only services, auditors and its admin see the journal."
        )
    return count


def create_topics(connection: Connection, parties: Iterable[str], partitions: int | None = None) -> tuple[str, ...]:
    """Create what is missing and return its names; existing topics stay as they are.

    Args:
        connection: the broker, as a principal that may create topics.
        parties: participants that need an inbox and a party topic.
        partitions: of journal, inboxes and out topics; None keeps the journal's, or takes 4 for a new one.

    Raises:
        EnvironmentProblem: the broker does not answer or refuses, or the journal has another partition count
            (inboxes and journal must agree, as an area's events stay in one partition).
    """
    there = existing_topics(connection)
    count = partitions or there.get(JOURNAL, PARTITIONS)
    if there.get(JOURNAL, count) != count:
        raise EnvironmentProblem(
            f"The journal has {there[JOURNAL]} partitions, not {count}; it cannot be changed, as each area's "
            "chain lives in one of them."
        )
    missing = [t for t in topics(parties, count) if t.name not in there]
    if missing:
        _create(connection, missing)
        _await(connection, {t.name for t in missing})
    return tuple(t.name for t in missing)


def _create(connection: Connection, missing: list[Topic]) -> None:
    trouble = Trouble()
    admin = connection.admin(trouble)
    wanted = [NewTopic(t.name, t.partitions, config=t.config) for t in missing]
    for first in range(0, len(wanted), _TOPICS_PER_CALL):
        _created(connection, admin, trouble, wanted[first : first + _TOPICS_PER_CALL])


def _created(connection: Connection, admin: AdminClient, trouble: Trouble, wanted: list[NewTopic]) -> None:
    for name, done in admin.create_topics(wanted, operation_timeout=_TIMEOUT_S).items():
        try:
            done.result(_TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # somebody else was quicker
                problem = environment_problem(error, connection.bootstrap, trouble, admin)
                raise EnvironmentProblem(f"Topic {name} could not be created. {problem}") from error


def _await(connection: Connection, names: set[str]) -> None:
    """Return when the broker tells of topics that it has made: of thousands it does so many seconds later."""
    deadline = time.monotonic() + _TOLD_WITHIN_S
    while missing := names - existing_topics(connection).keys():
        if time.monotonic() > deadline:
            raise EnvironmentProblem(
                f"Kafka at {connection.bootstrap} has made {len(names)} topics, and after {_TOLD_WITHIN_S:.0f} s "
                f"still does not tell of {len(missing)}, among them {min(missing)}: is the broker overloaded?"
            )
        time.sleep(0.1)


class Targets:
    """Topics a producer is about to write to: known to it with all their partitions before the first record.

    Args:
        connection: the broker.
        producer: the producer that will write.
    """

    def __init__(self, connection: Connection, producer: Producer) -> None:
        self._connection = connection
        self._producer = producer
        self._ready: set[str] = set()
        self._refused: set[str] = set()  # parties whose topics are missing and could not be made
        self._ask_at = 0.0

    def ready(self, topic: str) -> None:
        """Return when a topic can be written.

        Raises:
            KafkaException: the broker does not know it, or does not answer.
        """
        if topic not in self._ready:
            self._ready |= patiently(self._all)
        if topic not in self._ready:
            patiently(lambda: self._ask(topic))
            self._ready.add(topic)

    def look(self, parties: Iterable[str] = ()) -> None:
        """Make what is missing of the topics of parties, in one go however many they are; may take seconds.

        Who is refused is asked for again now and then, as who runs the bus may have made its topic. A topic that is
        there is waited for, as what its party is not given now it never is.

        Args:
            parties: those that may be new; call it before a transaction that writes to many of them.

        Raises:
            KafkaException: a topic that is there cannot be written, or the broker does not answer.
        """
        wanted = {p for p in parties if party_topic(p) not in self._ready} - self._refused
        if self._refused and time.monotonic() >= self._ask_at:
            wanted |= self._refused
        if not wanted:
            return
        self._ready |= patiently(lambda: self._all(wanted))
        missing = {p for p in wanted if party_topic(p) not in self._ready}
        if missing:
            made = False
            try:
                create_topics(self._connection, missing)
                made = True
            except EnvironmentProblem as problem:
                # With access control who runs the bus makes the topic (`flexbus topics --create`), perhaps in a moment.
                log.error("%s, %d in all, get nothing for now: %s", min(missing), len(missing), problem)
                self._ask_at = time.monotonic() + _ASK_AGAIN_S
            self._ready |= patiently(lambda: self._all(missing, made=made))
        self._refused = {p for p in self._refused | missing if party_topic(p) not in self._ready}

    def party_ready(self, party_id: str) -> bool:
        """Tell whether a party's topic can be written; make it for a party that was admitted meanwhile."""
        topic = party_topic(party_id)
        if topic not in self._ready and party_id not in self._refused:
            self.look([party_id])
        return topic in self._ready

    def _all(self, parties: Iterable[str] = (), *, made: bool = False) -> set[str]:
        """Return every topic that can be written: one question, as with hundreds a transaction would time out.

        Args:
            parties: those whose topics, if there are any, are to be among them.
            made: there are; another broker than the one that made them tells of them later.

        Raises:
            KafkaException: one of those has no leader yet, or is not told yet.
        """
        found = self._producer.list_topics(timeout=_TIMEOUT_S).topics
        errors = {name: _errors(topic) for name, topic in found.items()}
        untold = [KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)] if made else []
        for party in parties:
            for error in errors.get(party_topic(party), untold):
                raise KafkaException(error)
        return {name for name, those in errors.items() if not those}

    def _ask(self, topic: str) -> None:
        for error in _errors(self._producer.list_topics(topic, timeout=_TIMEOUT_S).topics[topic]):
            raise KafkaException(error)


def _errors(topic: TopicMetadata) -> list[KafkaError]:
    errors = [topic.error, *(p.error for p in topic.partitions.values())]
    return [error for error in errors if error is not None]
