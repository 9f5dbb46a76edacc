"""Consume, transform, produce: outputs and input positions in one Kafka transaction, or none of them.

The recipe of design 2: what librdkafka calls retriable is repeated, what it calls abortable is aborted and read
again, and anything else (fenced, illegal generation, lost connection to a coordinator in mid-air) ends the
process, as a fresh one knows better where it stands.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from flexbus.errors import FlexbusError

__all__ = ["Member", "Output", "Watchdog", "commit", "lags"]

log = logging.getLogger(__name__)

HANG_S = 15.0
HANG_EXIT = 70
_PASSING = frozenset({KafkaError._PARTITION_EOF, KafkaError.UNKNOWN_TOPIC_OR_PART})  # events that go by themselves
# The last is said of a batch in which the client finds no record, so that it thinks that it has not all of it.
_UNREADABLE = frozenset({KafkaError._BAD_COMPRESSION, KafkaError._BAD_MSG, KafkaError.MSG_SIZE_TOO_LARGE})


@dataclass(frozen=True, slots=True)
class Output:
    """A record to be produced; `delivered` is told its offset, before its transaction commits."""

    topic: str
    partition: int
    key: bytes
    value: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    timestamp_ms: int = 0
    delivered: Callable[[int], None] | None = None


class Watchdog:
    """Ends the process when a step hangs: librdkafka calls were seen hanging for good after a broker was killed."""

    def __init__(self, hang_s: float = HANG_S) -> None:
        self._hang_s = hang_s
        self._beat = time.monotonic()
        self._paused = False
        self._off = threading.Event()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def beat(self) -> None:
        """Say that work goes on."""
        self._beat = time.monotonic()

    def stop(self) -> None:
        """Stop watching: the work ends in good order."""
        self._off.set()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not watch for a while: long work of our own that has nobody to wait for."""
        self._paused = True
        try:
            yield
        finally:
            self.beat()
            self._paused = False

    @contextmanager
    def patient(self, more_s: float) -> Iterator[None]:
        """Wait longer for one call that has a time-out of its own, which comes first unless it hangs.

        Args:
            more_s: its time-out.
        """
        self._hang_s += more_s
        try:
            yield
        finally:
            self.beat()
            self._hang_s -= more_s

    @property
    def silent_s(self) -> float:
        """Seconds since the last beat."""
        return time.monotonic() - self._beat

    def _watch(self) -> None:
        while not self._off.wait(1.0):
            if self.silent_s > self._hang_s and not self._paused:
                log.critical("a step has hung for %.0f s; ending, so that a fresh process takes over", self.silent_s)
                os._exit(HANG_EXIT)


class Member:
    """A member of a consumer group whose batches are all of one assignment.

    One call of librdkafka may return records from before and after partitions came or went: the former may be
    somebody else's by now or come a second time. Such a batch is not told, and read again by whom it belongs to.

    Args:
        consumer: the consumer.
        problem: says of an error of the consumer what it means to a person.
        assigned: given the consumer and its partitions, has it read each from where the group stands.
        revoked: given the same, lets them go.
        unreadable: told topic, partition and offset of what no client can read; then all is read again from where the
            group stands. None has such an error raised.

    Attributes:
        drained: whether the client had no more to give when it was last asked.
    """

    def __init__(
        self,
        consumer: Consumer,
        problem: Callable[[KafkaException | KafkaError], FlexbusError],
        assigned: Callable[[Consumer, list[TopicPartition]], None],
        revoked: Callable[[Consumer, list[TopicPartition]], None],
        unreadable: Callable[[str, int, int], None] | None = None,
    ) -> None:
        self._consumer, self._problem, self._assigned, self._revoked = consumer, problem, assigned, revoked
        self._unreadable = unreadable
        self._moved = False
        self.drained = False

    def subscribe(self, topics: list[str]) -> None:
        """Join the group; `consume` takes part in it."""
        self._consumer.subscribe(topics, on_assign=self._on_assign, on_revoke=self._on_revoke)

    def consume(self, most: int, wait_s: float) -> list[Message]:
        """Return the next records.

        Args:
            most: most of them.
            wait_s: how long to wait for as many, s.

        Raises:
            FlexbusError: what `problem` makes of an error that does not go by itself.
        """
        self._moved = False
        try:
            messages = self._consumer.consume(most, wait_s)
        except KafkaException as error:
            raise self._problem(error) from error
        self.drained = len(messages) < most
        if self._unreadable is not None and (beyond := [m for m in messages if _is_unreadable(m)]):
            for message in beyond:
                self._unreadable(message.topic(), message.partition(), message.offset())
            self.set_back()
            return []
        for message in messages:
            if (fault := message.error()) is not None and fault.code() not in _PASSING:
                raise self._problem(fault)
        found = [m for m in messages if m.error() is None]
        if not self._moved:
            return found
        if found and self._consumer.assignment():
            self.set_back()  # the consumer is past what came after the partitions
        return []

    def set_back(self) -> None:
        """Have the partitions that are assigned read again from where the group stands."""
        self._assigned(self._consumer, self._consumer.assignment())

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._moved = True
        self._assigned(consumer, partitions)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._moved = True
        self._revoked(consumer, partitions)


def commit(
    producer: Producer,
    consumer: Consumer,
    outputs: Iterable[Output],
    positions: Iterable[TopicPartition],
    finish: Callable[[Callable[[], None]], None] | None = None,
) -> bool:
    """Publish outputs and positions together; tell whether it happened.

    Args:
        producer: the transactional producer, initialised.
        consumer: the group member that the positions belong to.
        outputs: records to produce, taken one by one.
        positions: next offset to read of each input partition; asked for after the last of them.
        finish: called with what ends the transaction and waits for the broker; has called it when it returns. None
            does nothing else meanwhile.

    Returns:
        False if the transaction was aborted: nothing was published and the inputs must be read again.

    Raises:
        KafkaException: neither worked; end the process.
    """
    try:
        producer.begin_transaction()
        for output in outputs:
            _produce(producer, output)
        # Of the generation in which the inputs were read: whoever owns them by now is none of its business.
        where, group = list(positions), consumer.consumer_group_metadata()

        def end() -> None:
            _again(lambda: producer.send_offsets_to_transaction(where, group))
            _again(producer.commit_transaction)

        end() if finish is None else finish(end)
    except KafkaException as error:
        if not error.args[0].txn_requires_abort():
            raise
        log.warning("transaction aborted, reading its inputs again: %s", error.args[0].str())
        _again(producer.abort_transaction)
        return False
    return True


def lags(consumer: Consumer) -> dict[int, int]:
    """Return by partition number how many records are known to be there and not yet read, over all topics."""
    found: dict[int, int] = {}
    for place in consumer.position(consumer.assignment()):
        _, end = consumer.get_watermark_offsets(place, cached=True)
        behind = end - place.offset if place.offset >= 0 and end >= 0 else 0
        found[place.partition] = found.get(place.partition, 0) + max(behind, 0)
    return found


def _is_unreadable(message: Message) -> bool:
    error = message.error()
    return error is not None and error.code() in _UNREADABLE and message.offset() is not None and message.offset() >= 0


def _produce(producer: Producer, output: Output) -> None:
    further: dict[str, Any] = {}
    if (delivered := output.delivered) is not None:
        further["on_delivery"] = lambda error, message: error or delivered(message.offset())
    while True:
        try:
            producer.produce(
                output.topic,
                key=output.key,
                value=output.value,
                partition=output.partition,
                headers=dict(output.headers),
                timestamp=output.timestamp_ms,
                **further,
            )
        except BufferError:  # the local queue is full: let deliveries make room
            producer.poll(0.1)
        else:
            return


def _again(call: Callable[[], object]) -> None:
    while True:
        try:
            call()
        except KafkaException as error:
            if not error.args[0].retriable():
                raise
            time.sleep(0.02)
        else:
            return
