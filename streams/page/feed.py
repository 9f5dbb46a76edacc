"""What the page reads from Kafka: journal, rejections and clock in order, and single blocks again on demand."""

import threading
from array import array
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from flexbus import codec
from flexbus.errors import CodecError, EnvironmentProblem
from flexbus.journal import Block
from flexbus.topics import CLOCK, JOURNAL, PAGE, REJECTIONS, read_log
from streams.kafka import Connection, Trouble, environment_problem
from streams.lookout import Lookout
from streams.stored import Spot

__all__ = ["BlockIndex", "Feed"]

_ASK_S = 5.0
_OPENS_WITHIN_S = 30.0  # a broker that has just made thousands of topics is busy
_BLOCKS_KEPT = 32
_AT_ONCE_BYTES = 2_000_000  # in Kafka's records; a block in memory takes twice that
# Nobody waits for figures and page, so they are often behind, and then what is read ahead is full: a batch or two.
_READ_AHEAD = {"queued.max.messages.kbytes": 1_024, "max.partition.fetch.bytes": 16_384}


@dataclass(slots=True)
class _Chain:
    partition: "array[int]" = field(default_factory=lambda: array("l"))
    offset: "array[int]" = field(default_factory=lambda: array("q"))
    hashes: bytearray = field(default_factory=bytearray)


class BlockIndex:
    """Where each block lies and its hash: 48 bytes a block, so the blocks themselves need not be kept."""

    def __init__(self) -> None:
        self._chains: dict[str, _Chain] = {}

    def add(self, block: Block, partition: int, offset: int) -> None:
        """Note a block; one that does not follow the last noted is left out (the chain check tells)."""
        chain = self._chains.setdefault(block.area_id, _Chain())
        if block.number == len(chain.offset):
            chain.partition.append(partition)
            chain.offset.append(offset)
            chain.hashes += block.hash

    def find(self, area_id: str, number: int) -> tuple[int, int] | None:
        """Return partition and offset of a block, None if it is not known."""
        chain = self._chains.get(area_id)
        if chain is None or not 0 <= number < len(chain.offset):
            return None
        return chain.partition[number], chain.offset[number]

    def hash_of(self, area_id: str, number: int) -> bytes | None:
        """Return the hash of a block as it was when folded, None if it is not known."""
        return None if self.find(area_id, number) is None else self._hash(area_id, number)

    def _hash(self, area_id: str, number: int) -> bytes:
        return bytes(self._chains[area_id].hashes[32 * number : 32 * number + 32])


class Feed:
    """Reads everything from the beginning, then what comes.

    Args:
        connection: the broker.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._trouble = Trouble()
        self._consumer: Consumer | None = None
        self._lookup: Consumer | None = None
        self._lock = threading.Lock()
        self._recent: OrderedDict[tuple[int, int], Block] = OrderedDict()
        self._reading: dict[Spot, int] = {}  # next offset of each partition
        self.at_end: set[Spot] = set()
        self._lookout = Lookout(connection)

    @property
    def caught_up(self) -> bool:
        """Whether every partition has been read to its end once."""
        return bool(self._reading) and self._reading.keys() <= self.at_end

    def open(self) -> None:
        """Begin to read all partitions from their beginning.

        Raises:
            EnvironmentProblem: Kafka does not answer, or a topic is missing.
        """
        consumer = self._connection.reader(self._trouble, **_READ_AHEAD)
        try:
            known = consumer.list_topics(timeout=_OPENS_WITHIN_S).topics
        except KafkaException as error:
            consumer.close()
            raise environment_problem(error, self._connection.bootstrap, self._trouble) from error
        missing = [t for t in (JOURNAL, REJECTIONS, read_log(PAGE)) if t not in known]
        if missing:
            consumer.close()
            raise EnvironmentProblem(
                f"Kafka at {self._connection.bootstrap} has no topic {', '.join(missing)}: "
                "create what is missing by `flexbus topics --create`."
            )
        wanted = [t for t in (JOURNAL, REJECTIONS, CLOCK) if t in known]
        self._reading = {(t, p): 0 for t in wanted for p in known[t].partitions}
        consumer.assign([TopicPartition(t, p, 0) for t, p in sorted(self._reading)])
        self._consumer = consumer

    def read(self, most: int, wait_s: float) -> list[tuple[str, int, int, Any]]:
        """Return what came: (topic, partition, offset, value); waits a moment if there is nothing.

        Args:
            most: most records; fewer where they are large.
            wait_s: how long to wait for the first, s.

        The value is a block, a rejection, the bytes of a tick, or the error that says why it cannot be read.

        Raises:
            EnvironmentProblem: Kafka refuses for good, or the client gives nothing of what waits.
        """
        assert self._consumer is not None
        found: list[tuple[str, int, int, Any]] = []
        size, drained = 0, False
        while len(found) < most and size < _AT_ONCE_BYTES:
            message = self._consumer.poll(0.0 if found else wait_s)
            if message is None:
                drained = True
                break
            error = message.error()
            if error is None:
                size += len(message.value() or b"")
                self._reading[message.topic(), message.partition()] = message.offset() + 1
                found.append((message.topic(), message.partition(), message.offset(), _value(message)))
            elif error.code() == KafkaError._PARTITION_EOF:
                self.at_end.add((message.topic(), message.partition()))
            elif self._trouble.hopeless is not None or not error.retriable():
                raise environment_problem(error, self._connection.bootstrap, self._trouble)
        if self._trouble.hopeless is not None:  # of a connection that is refused no record tells
            raise environment_problem(self._trouble.hopeless, self._connection.bootstrap)
        self._lookout.check(lambda: self._reading, drained=drained)
        return found

    def block_at(self, partition: int, offset: int) -> Block:
        """Return the block at a position, read again from Kafka unless it was just looked at.

        Raises:
            EnvironmentProblem: Kafka does not give it.
        """
        with self._lock:
            if (partition, offset) in self._recent:
                return self._recent[partition, offset]
            if self._lookup is None:
                # Kafka would let it wait half a second for more where it looked before, and it could not ask elsewhere.
                self._lookup = self._connection.reader(Trouble(), **{"fetch.wait.max.ms": 10})
            self._lookup.assign([TopicPartition(JOURNAL, partition, offset)])
            for _ in range(int(_ASK_S / 0.5)):
                message = self._lookup.poll(0.5)
                if message is not None and message.error() is None and message.offset() == offset:
                    block = codec.decode_as(message.value(), Block)
                    self._lookup.unassign()  # or it would go on asking a hundred times a second
                    self._recent[partition, offset] = block
                    if len(self._recent) > _BLOCKS_KEPT:
                        self._recent.popitem(last=False)
                    return block
        raise EnvironmentProblem(
            f"Kafka at {self._connection.bootstrap} did not give {JOURNAL} partition {partition} offset {offset} "
            f"within {_ASK_S:.0f} s; is it running?"
        )

    def close(self) -> None:
        """Let go of Kafka."""
        for consumer in (self._consumer, self._lookup):
            if consumer is not None:
                consumer.close()
        self._lookout.close()


def _value(message: Message) -> Any:
    data = message.value() or b""
    if message.topic() == CLOCK:
        return data
    try:
        return codec.decode(data)
    except CodecError as error:
        return error
