"""Committed journal blocks of one partition, in order, up to its end."""

from collections.abc import Callable, Iterable, Iterator

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import OffsetSpec

from flexbus import codec
from flexbus.errors import EnvironmentProblem
from flexbus.journal import Block
from flexbus.topics import JOURNAL
from streams.kafka import Connection, Trouble, environment_problem, patiently

__all__ = ["Ends", "end_offset", "read_blocks", "read_blocks_at", "read_messages", "read_records"]

_TIMEOUT_S = 30.0
_NOTHING_THERE = frozenset({KafkaError._PARTITION_EOF, KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET})
_POLL_S = 0.05  # consume() waits this long for a full batch even when the end has been reached


class Ends:
    """Asks for the ends of partitions, again and again by one client.

    A transaction's markers reach partitions one by one: when its offsets are committed, its blocks may not show
    yet. Whoever must not miss them waits for this end, not for the last stable offset.

    Args:
        connection: the broker.
        topic: topic of the partitions.
    """

    def __init__(self, connection: Connection, topic: str = JOURNAL) -> None:
        self._connection, self._topic = connection, topic
        self._trouble = Trouble()
        self._admin = connection.admin(self._trouble)

    def of(self, partitions: Iterable[int]) -> dict[int, int]:
        """Return the end of each partition, open transactions included.

        Raises:
            EnvironmentProblem: the broker does not answer.
        """
        wanted = {TopicPartition(self._topic, p): OffsetSpec.latest() for p in partitions}

        def ask() -> dict[int, int]:
            asked = self._admin.list_offsets(
                wanted, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=_TIMEOUT_S
            )
            return {where.partition: int(found.result(_TIMEOUT_S).offset) for where, found in asked.items()}

        try:
            return patiently(ask) if wanted else {}
        except (KafkaException, TimeoutError) as error:
            raise environment_problem(error, self._connection.bootstrap, self._trouble, self._admin) from error


def end_offset(connection: Connection, partition: int, topic: str = JOURNAL) -> int:
    """Return the end of one partition; see `Ends`.

    Raises:
        EnvironmentProblem: the broker does not answer.
    """
    return Ends(connection, topic).of([partition])[partition]


def read_messages(
    connection: Connection,
    topic: str,
    partition: int,
    start: int = 0,
    end: int | None = None,
    beat: Callable[[], None] = lambda: None,
) -> Iterator[Message]:
    """Yield the committed records of a partition, with their headers and times.

    Args:
        connection: the broker.
        topic: topic to read.
        partition: partition to read.
        start: first offset.
        end: first offset not to read; None for the end as it is now.
        beat: called while reading and waiting.

    Raises:
        EnvironmentProblem: the broker does not answer, or a transaction stays open before the end.
    """
    end = end_offset(connection, partition, topic) if end is None else end
    if start >= end:
        return
    trouble = Trouble()
    reader: Consumer = connection.reader(trouble)
    try:
        reader.assign([TopicPartition(topic, partition, start)])
        silent = 0.0
        while True:
            messages = reader.consume(1000, _POLL_S)
            beat()
            silent = 0.0 if messages else silent + _POLL_S
            if silent > _TIMEOUT_S:
                raise EnvironmentProblem(
                    f"{topic} partition {partition} gave nothing more before offset {end} for {_TIMEOUT_S:.0f} s; "
                    f"is Kafka at {connection.bootstrap} running, or a transaction left open?"
                )
            for message in messages:
                error = message.error()
                if error is not None:
                    if error.code() == KafkaError._PARTITION_EOF:
                        if message.offset() >= end:
                            return
                        continue
                    raise environment_problem(error, connection.bootstrap, trouble)
                if message.offset() >= end:
                    return
                yield message
                if message.offset() == end - 1:
                    return
    finally:
        reader.close()


def read_records(
    connection: Connection,
    topic: str,
    partition: int,
    start: int = 0,
    end: int | None = None,
    beat: Callable[[], None] = lambda: None,
) -> Iterator[tuple[int, bytes]]:
    """Yield offset and value of the committed records of a partition; see `read_messages`."""
    for message in read_messages(connection, topic, partition, start, end, beat):
        yield message.offset(), message.value()


def read_blocks(
    connection: Connection,
    partition: int,
    start: int = 0,
    end: int | None = None,
    beat: Callable[[], None] = lambda: None,
) -> Iterator[tuple[int, Block]]:
    """Yield offset and block of the journal's committed blocks of a partition; see `read_records`."""
    for offset, value in read_records(connection, JOURNAL, partition, start, end, beat):
        yield offset, codec.decode_as(value, Block)


def read_blocks_at(
    connection: Connection, partition: int, offsets: Iterable[int]
) -> Iterator[tuple[int, Block | None]]:
    """Yield the journal's committed block at each of some offsets; None where there is none.

    Raises:
        EnvironmentProblem: the broker does not answer.
    """
    trouble = Trouble()
    reader: Consumer = connection.reader(trouble, **{"fetch.wait.max.ms": 10})
    try:
        for offset in sorted(offsets):
            reader.assign([TopicPartition(JOURNAL, partition, offset)])
            message = reader.poll(_TIMEOUT_S)
            if message is None:
                raise EnvironmentProblem(
                    f"{JOURNAL} partition {partition} gave nothing at offset {offset} for {_TIMEOUT_S:.0f} s; "
                    f"is Kafka at {connection.bootstrap} running?"
                )
            error = message.error()
            if error is None:
                found = message.offset() == offset
                yield offset, codec.decode_as(message.value(), Block) if found else None
            elif error.code() in _NOTHING_THERE:
                yield offset, None
            else:
                raise environment_problem(error, connection.bootstrap, trouble)
    finally:
        reader.close()
