"""The logs of reads: who reads through the SDK or the command line notes it first, on the one log it can write."""

import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from confluent_kafka import KafkaError, KafkaException, Producer

from flexbus import codec
from flexbus.access import SERVICE_PRINCIPALS, is_reserved
from flexbus.errors import CodecError, EnvironmentProblem
from flexbus.events import ReadLogged
from flexbus.topics import NOBODY, PAGE, READ_LOGS, RUNS_THE_BUS, read_log, reader_of_log
from streams.kafka import Connection, Trouble, environment_problem, patiently
from streams.stored import bounds_of, read_inputs
from streams.topics import existing_topics

__all__ = ["Noted", "ReadLog", "read_logs", "resource"]

_LONGEST = 500
_TIMEOUT_S = 30.0
_ASKED_OF_KAFKA = 202
_NO_LOG = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,  # who may write no topic at all cannot be an idempotent producer
    }
)


def resource(topic: str, **query: Any) -> str:
    """Return what is read as it is noted: a topic, and after `?` what of it; None is no restriction."""
    given = {name.rstrip("_"): v.isoformat() if isinstance(v, datetime) else v for name, v in query.items()}
    text = urlencode({name: v for name, v in given.items() if v is not None}, safe=":")
    return f"{topic}?{text}" if text else topic


class ReadLog:
    """Notes the reads of one principal, each before it begins.

    Who reads is the user of the connection; where there is none, whom the party says it is, and else nobody is known.

    Args:
        connection: the broker.
        interface: door through which is read.
        party: who reads, for a connection that names no user.
        producer: writes the notes, and its trouble; None makes one.
        timeout_s: how long to wait for the broker.
    """

    def __init__(
        self,
        connection: Connection,
        interface: str,
        party: str | None = None,
        producer: tuple[Producer, Trouble] | None = None,
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        self._connection = connection
        self._interface = interface
        self._writer = connection.security.get("sasl.username") or party or NOBODY
        self._topic = read_log(self._writer)
        self._timeout_s = timeout_s
        if producer is None:
            trouble = Trouble()
            producer = (connection.producer(trouble, **{"linger.ms": 0}), trouble)
        self._producer, self._trouble = producer
        self._there = False

    def note(
        self, what: str, area_id: str = "", *, reader_id: str | None = None, status: int = _ASKED_OF_KAFKA
    ) -> None:
        """Note a read; returns when the broker has it.

        Args:
            what: see `resource`.
            area_id: market area, if one was named.
            reader_id: who reads, where that is another than who notes it; empty if nobody is known.
            status: see `ReadLogged`.

        Raises:
            EnvironmentProblem: the broker did not take it, so nothing may be shown.
        """
        itself = "" if self._writer == NOBODY else self._writer
        read = ReadLogged(
            area_id=area_id,
            reader_id=itself if reader_id is None else reader_id,
            role="",
            interface=self._interface,
            resource=what[:_LONGEST],
            status=status,
            at_ms=time.time_ns() // 1_000_000,
        )
        try:
            if not self._there:
                patiently(self._look, 2.0)
                self._there = True
            self._write(codec.encode(read), area_id.encode())
        except (KafkaException, BufferError) as error:
            raise self._not_noted(error) from error

    def _look(self) -> None:
        """Ask for the log, as a producer waits half a minute for one that is not there."""
        error = self._producer.list_topics(self._topic, timeout=self._timeout_s).topics[self._topic].error
        if error is not None:
            raise KafkaException(error)

    def _write(self, value: bytes, key: bytes) -> None:
        answers: list[KafkaError | None] = []
        self._producer.produce(self._topic, value, key, partition=0, on_delivery=lambda error, _: answers.append(error))
        while not answers:  # the producer gives up by itself
            self._producer.poll(0.1)
            if self._trouble.hopeless is not None:
                raise KafkaException(self._trouble.hopeless)
        if answers[0] is not None:
            raise KafkaException(answers[0])

    def _not_noted(self, error: KafkaException | BufferError) -> EnvironmentProblem:
        with suppress(KafkaException):  # a fatal error, which is what is told here
            self._producer.poll(0)
        problem = environment_problem(error, self._connection.bootstrap, self._trouble)
        causes = [*(error.args[:1] if isinstance(error, KafkaException) else ()), self._trouble.hopeless]
        without_log = any(cause is not None and cause.code() in _NO_LOG for cause in causes)
        advice = ""
        if without_log and self._writer == NOBODY and self._connection.security:
            advice = "Say who reads: Client(party=...), or --as."
        elif without_log:
            named = "" if is_reserved(self._writer) else f" --party {self._writer}"
            advice = f"{self._topic} and the right to write it come by `flexbus topics --create{named}`."
        why = f"{str(problem).removesuffix('.')}. {advice}" if advice else str(problem)
        return EnvironmentProblem(f"Reads are logged before anything is shown, and this one could not be: {why}")


@dataclass(frozen=True, slots=True)
class Noted:
    """A record of a log of reads.

    Attributes:
        writer: who alone can have written it, where the broker has access control.
        logged_at_ms: when the broker received it, UTC ms.
        read: what it says; None if it cannot be read.
    """

    writer: str
    logged_at_ms: int
    read: ReadLogged | None

    @property
    def mark(self) -> str | None:
        """What is to be held against it: `forged` if it names another reader than its writer, `unreadable`."""
        if self.read is None:
            return "unreadable"
        # The page has asked its readers who they are, and a service knows the token of who runs the bus; everybody
        # else speaks for himself alone.
        if self.writer == PAGE:
            return None
        believed = {"" if self.writer == NOBODY else self.writer}
        if self.writer in SERVICE_PRINCIPALS:
            believed |= {RUNS_THE_BUS, ""}
        return None if self.read.reader_id in believed else "forged"


def read_logs(connection: Connection, since_ms: int = 0) -> list[Noted]:
    """Return the records of all logs of reads in the order in which the broker received them.

    Args:
        connection: the broker, as a principal that may read them.
        since_ms: leave out what the broker received before, UTC ms.

    Raises:
        EnvironmentProblem: the broker does not answer, or there is no log that may be read.
    """
    names = sorted(t for t in existing_topics(connection) if t.startswith(READ_LOGS))
    if not names:
        raise EnvironmentProblem(
            f"Kafka at {connection.bootstrap} has no log of reads that this principal may know of: auditors may, and "
            "`flexbus topics --create` makes what is missing."
        )
    bounds = bounds_of(connection, [(name, 0) for name in names], since_ms or None)
    # Whoever writes a log cannot keep the others' from being read: a batch that no client should read is one record.
    noted = (Noted(reader_of_log(i.topic), i.received_at_ms, _read(i.value)) for i in read_inputs(connection, bounds))
    return sorted(noted, key=lambda found: found.logged_at_ms)


def _read(value: bytes | None) -> ReadLogged | None:
    try:
        return codec.decode_as(value or b"", ReadLogged)
    except CodecError:
        return None
