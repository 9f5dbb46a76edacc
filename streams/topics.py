"""Topics on the broker: made from the one table, when they are missing."""

import logging
import math
import time
from collections.abc import Collection, Iterable, Mapping

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic, TopicMetadata

from flexbus.errors import EnvironmentProblem
from flexbus.topics import JOURNAL, Topic, party_topic, topics
from streams.kafka import PATIENCE_S, Connection, Trouble, environment_problem, patiently

__all__ = ["PARTY_PARTITION", "Targets", "TopicsRefused", "create_topics", "existing_topics", "journal_partitions"]

log = logging.getLogger(__name__)

PARTITIONS = 4
PARTY_PARTITION = 0  # party topics have this one
_TIMEOUT_S = 30.0
_ASK_AGAIN_S = 10.0
_TOLD_WITHIN_S = 120.0
_RETRY_S = 0.2
_ASIDE_S = 1.0  # librdkafka's own time-out says more than ours, so it comes first
# Of the ten seconds after which the broker gives a transaction up, and of the fifteen that the watchdog waits.
_WITHIN_A_TRANSACTION_S = 7.0
# Kafka takes at most 10,000 records of its own per call: each topic, each of its partitions and each of its settings.
_TOPICS_PER_CALL = 100
# Kafka says these of a topic for as long as nobody acts. Not so that there are too few brokers for its copies
# (INVALID_REPLICATION_FACTOR), as while the brokers come back.
_REFUSALS = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TOPIC_EXCEPTION,  # its name is invalid, or another's but for dots and underscores
        KafkaError.INVALID_PARTITIONS,
        KafkaError.INVALID_CONFIG,
        KafkaError.POLICY_VIOLATION,
    }
)


class TopicsRefused(EnvironmentProblem):
    """Kafka has refused to make some topics, for as long as nobody acts; what else was missing is made.

    Attributes:
        names: these topics.
    """

    def __init__(self, text: str, names: Iterable[str]) -> None:
        super().__init__(text)
        self.names = frozenset(names)


def existing_topics(connection: Connection, deadline: float = math.inf) -> dict[str, int]:
    """Return the topics of the broker with their partition counts.

    Args:
        connection: the broker.
        deadline: end of the wait by `time.monotonic`, s, if it is earlier than the usual one.

    Raises:
        EnvironmentProblem: the broker does not answer.
    """
    trouble = Trouble()
    admin = connection.admin(trouble)
    try:
        found = admin.list_topics(timeout=_left(deadline)).topics
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


def create_topics(
    connection: Connection, parties: Iterable[str], partitions: int | None = None, deadline: float = math.inf
) -> tuple[str, ...]:
    """Create what is missing and return its names; existing topics stay as they are.

    Args:
        connection: the broker, as a principal that may create topics.
        parties: participants that need an inbox and a party topic.
        partitions: of journal, inboxes and out topics; None keeps the journal's, or takes 4 for a new one.
        deadline: as for `existing_topics`.

    Raises:
        TopicsRefused: the broker refuses some of them.
        EnvironmentProblem: the broker does not answer, or the journal has another partition count
            (inboxes and journal must agree, as an area's events stay in one partition).
    """
    there = existing_topics(connection, deadline)
    count = partitions or there.get(JOURNAL, PARTITIONS)
    if there.get(JOURNAL, count) != count:
        raise EnvironmentProblem(
            f"The journal has {there[JOURNAL]} partitions, not {count}; it cannot be changed, as each area's "
            "chain lives in one of them."
        )
    missing = [t for t in topics(parties, count) if t.name not in there]
    if missing:
        refused = _create(connection, missing, deadline)
        _await(connection, {t.name for t in missing} - refused.keys(), deadline)
        if refused:
            name, problem = next(iter(refused.items()))
            raise TopicsRefused(f"Topic {name} could not be created. {problem}", refused)
    return tuple(t.name for t in missing)


def _create(connection: Connection, missing: list[Topic], deadline: float) -> Mapping[str, EnvironmentProblem]:
    """Have topics made; return those that were refused, and why."""
    trouble = Trouble()
    admin = connection.admin(trouble)
    wanted = [NewTopic(t.name, t.partitions, config=t.config) for t in missing]
    refused: dict[str, EnvironmentProblem] = {}
    for first in range(0, len(wanted), _TOPICS_PER_CALL):
        refused |= _created(connection, admin, trouble, wanted[first : first + _TOPICS_PER_CALL], deadline)
    return refused


def _created(
    connection: Connection, admin: AdminClient, trouble: Trouble, wanted: list[NewTopic], deadline: float
) -> Mapping[str, EnvironmentProblem]:
    refused = {}
    left_s = _left(deadline)
    for name, done in admin.create_topics(wanted, operation_timeout=left_s, request_timeout=left_s).items():
        try:
            done.result(_left(deadline) + _ASIDE_S)
        except (KafkaException, TimeoutError) as error:
            fault = error.args[0] if isinstance(error, KafkaException) else KafkaError(KafkaError._TIMED_OUT)
            if fault.code() == KafkaError.TOPIC_ALREADY_EXISTS:  # somebody else was quicker
                continue
            problem = environment_problem(fault, connection.bootstrap, trouble, admin)
            if fault.code() not in _REFUSALS:
                raise EnvironmentProblem(f"Topic {name} could not be created. {problem}") from error
            refused[name] = problem
    return refused


def _await(connection: Connection, names: set[str], deadline: float) -> None:
    """Return when the broker tells of topics that it has made: of thousands it does so many seconds later."""
    began = time.monotonic()
    while missing := names - existing_topics(connection, deadline).keys():
        if time.monotonic() > min(began + _TOLD_WITHIN_S, deadline):
            raise EnvironmentProblem(
                f"Kafka at {connection.bootstrap} has made {len(names)} topics, and after "
                f"{time.monotonic() - began:.0f} s still does not tell of {len(missing)}, among them {min(missing)}: "
                "is the broker overloaded?"
            )
        time.sleep(0.1)


def _left(deadline: float) -> float:
    """Return how long one call may take, s: librdkafka has no word for none at all."""
    return max(0.1, min(_TIMEOUT_S, deadline - time.monotonic()))


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

    def ready(self, topic: str, within_s: float = _WITHIN_A_TRANSACTION_S) -> None:
        """Return when a topic can be written.

        Args:
            topic: its name.
            within_s: longest wait, s.

        Raises:
            KafkaException: the broker does not know it, or does not answer.
        """
        if topic in self._ready:
            return
        deadline = time.monotonic() + within_s
        self._learn(deadline)
        if topic not in self._ready:
            patiently(lambda: self._ask(topic, deadline), deadline - time.monotonic())
            self._ready.add(topic)

    def look(self, parties: Iterable[str], within_s: float) -> None:
        """Make what is missing of the topics of parties, in one go however many they are; may take seconds.

        Only of whom Kafka refuses a topic is it believed that there is none; it is asked for again now and then, as who
        runs the bus may have made it. Everything else is waited for, as what a party is not given now it never is.

        Args:
            parties: those that may be new; call it before a transaction that writes to many of them.
            within_s: longest wait, s; a second more at most.

        Raises:
            EnvironmentProblem: the broker did not make a topic, and did not refuse it either; end the process.
            KafkaException: a topic that is there cannot be written, or the broker does not answer; likewise.
        """
        wanted = {p for p in parties if party_topic(p) not in self._ready} - self._refused
        if self._refused and time.monotonic() >= self._ask_at:
            wanted |= self._refused
        if not wanted:
            return
        deadline = time.monotonic() + within_s
        self._learn(deadline, wanted)
        missing = {p for p in wanted if party_topic(p) not in self._ready}
        if missing:
            self._learn(deadline, missing, made=missing - self._make(missing, deadline))
        self._refused = {p for p in self._refused | missing if party_topic(p) not in self._ready}

    def _make(self, parties: set[str], deadline: float) -> set[str]:
        """Make the topics of parties; return who is refused one."""
        while True:
            try:
                create_topics(self._connection, parties, deadline=deadline)
            except TopicsRefused as problem:
                refused = {p for p in parties if party_topic(p) in problem.names}
                # With access control who runs the bus makes the topic (`flexbus topics --create`), perhaps in a moment.
                if refused:
                    log.error("%s, %d in all, get nothing for now: %s", min(refused), len(refused), problem)
                self._ask_at = time.monotonic() + _ASK_AGAIN_S
                return refused
            except EnvironmentProblem as problem:
                if time.monotonic() + _RETRY_S > deadline:
                    raise
                log.warning("trying again: %s", problem)
                time.sleep(_RETRY_S)
            else:
                return set()

    def party_ready(self, party_id: str) -> bool:
        """Tell whether a party's topic can be written; make it for a party that was admitted meanwhile."""
        topic = party_topic(party_id)
        if topic not in self._ready and party_id not in self._refused:
            self.look([party_id], _WITHIN_A_TRANSACTION_S)
        return topic in self._ready

    def _learn(self, deadline: float, parties: Iterable[str] = (), made: Collection[str] = ()) -> None:
        """Learn of every topic that can be written: one question, as with hundreds a transaction would time out.

        Args:
            deadline: as for `existing_topics`.
            parties: those whose topics, if there are any, are to be among them.
            made: those of them that have one; another broker than the one that made it tells of it later.

        Raises:
            KafkaException: one of those has no leader, or is not told, in time.
        """

        def ask() -> None:
            found = self._producer.list_topics(timeout=_left(deadline)).topics
            errors = {name: _errors(topic) for name, topic in found.items()}
            for party in parties:
                untold = [KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)] if party in made else []
                for error in errors.get(party_topic(party), untold):
                    raise KafkaException(error)
            self._ready |= {name for name, those in errors.items() if not those}

        patiently(ask, min(PATIENCE_S, deadline - time.monotonic()))

    def _ask(self, topic: str, deadline: float) -> None:
        for error in _errors(self._producer.list_topics(topic, timeout=_left(deadline)).topics[topic]):
            raise KafkaException(error)


def _errors(topic: TopicMetadata) -> list[KafkaError]:
    errors = [topic.error, *(p.error for p in topic.partitions.values())]
    return [error for error in errors if error is not None]
