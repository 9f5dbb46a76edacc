"""Inboxes batch by batch, as Kafka stores them: what nobody could unpack is found here, and what is around it is read.

A client of Kafka unpacks a compressed batch as a whole, and a few kilobytes may become gigabytes, or nothing that the
client's library can unpack at all. The broker takes such a batch, and whoever reads on would end there, again and
again. So the sequencer looks at what waits for it before it reads: a batch that would harm it is one input, refused.
"""

import asyncio
import logging
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import cramjam
from aiokafka import TopicPartition as Place
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import READ_COMMITTED
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record import MemoryRecords
from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from streams.intake import Input
from streams.kafka import Connection, Trouble, environment_problem, patiently

__all__ = ["MOST_RECORDS", "MOST_UNPACKED", "Spot", "Stored", "ends_of"]

Spot = tuple[str, int]  # topic and partition
log = logging.getLogger(__name__)

# librdkafka refuses a zstd batch that becomes more than its receive.message.max.bytes, 100 MB; where the batch does not
# tell its size, sometimes half of that. What it refuses must be refused here.
MOST_UNPACKED = 32_000_000
MOST_RECORDS = 100_000
_FETCH_BYTES = 4_000_000
_WAIT_MS = 500
_TIMEOUT_S = 30.0

# What every batch begins with: base offset, length, leader epoch, magic, CRC, attributes, last offset delta, first and
# last timestamp, producer id and epoch, base sequence, count of records.
_HEADER = struct.Struct(">qiibIhiqqqhii")
_BEFORE_LENGTH = 12  # bytes that the length does not count
_CODEC_BITS, _TRANSACTIONAL_BIT, _CONTROL_BIT = 0x07, 0x10, 0x20
_GZIP, _SNAPPY, _LZ4, _ZSTD = 1, 2, 3, 4
# How many times its size a batch can become, where the format has a limit.
_AT_MOST = {_GZIP: 1_032, _SNAPPY: 64, _LZ4: 255}
_UNPACK = {_GZIP: cramjam.gzip.decompress_into, _LZ4: cramjam.lz4.decompress_into, _ZSTD: cramjam.zstd.decompress_into}


@dataclass(frozen=True, slots=True)
class _Batch:
    """One batch.

    Attributes:
        first: its first offset.
        next: the one after its last.
        records: how many it has; the broker has counted them.
        at_ms: time of the last, UTC ms.
        attributes: how it is compressed, and what it is for.
        producer_id: who wrote it, as the broker numbers producers.
        data: all of its bytes.
    """

    first: int
    next: int
    records: int
    at_ms: int
    attributes: int
    producer_id: int
    data: bytes

    def harms(self) -> bool:
        """Tell whether it must not be unpacked; unpacks no more than the limit to find out."""
        codec, packed = self.attributes & _CODEC_BITS, self.data[_HEADER.size :]
        if codec == 0:
            return False
        if self.records > MOST_RECORDS:
            return True
        if codec not in _UNPACK or len(packed) * _AT_MOST.get(codec, MOST_UNPACKED) <= MOST_UNPACKED:
            return False
        try:
            _UNPACK[codec](packed, bytearray(MOST_UNPACKED))
        except cramjam.DecompressionError:
            return True
        return False

    def inputs(self, spot: Spot, start: int) -> Iterator[Input]:
        """Return its records from an offset on, or if nobody can read them, itself as one input."""
        try:
            records = list(MemoryRecords(self.data).next_batch())
        except Exception:  # whatever is wrong with it
            log.exception("the batch at %d of %s, partition %d, cannot be read", self.first, *spot)
            return iter((self.as_input(spot, start),))
        found = (Input(*spot, r.offset, r.timestamp, r.key, r.value, tuple(r.headers)) for r in records)
        return (given for given in found if given.offset >= start)

    def as_input(self, spot: Spot, start: int) -> Input:
        """Return what is left of it from an offset on as the one input that is refused."""
        first = max(self.first, start)
        return Input(*spot, first, self.at_ms, None, self.data, (), batch=self.next - first)


class Stored:
    """Reads partitions as they are stored.

    Args:
        connection: the broker.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._loop = asyncio.new_event_loop()
        self._client: Any = None

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._loop.run_until_complete(self._client.close())
        self._loop.close()

    def harmful(self, spot: Spot, start: int, end: int, unread: Iterable[int] = ()) -> dict[int, int]:
        """Return the batches of a partition that must not be unpacked: the offset after each, by its first.

        Args:
            spot: the partition.
            start: first offset.
            end: first offset that is of no interest.
            unread: offsets at which a client of Kafka could not read on.

        Raises:
            EnvironmentProblem: the broker does not answer or refuses.
        """
        found = {}
        while start < end:
            batches, _ = self._fetch(spot, start)
            if not batches:  # what is left belongs to a transaction under way
                break
            for batch in batches:
                if batch.harms() or any(batch.first <= offset < batch.next for offset in unread):
                    found[batch.first] = batch.next
            start = batches[-1].next
        return found

    def inputs(self, spot: Spot, start: int, harmful: Mapping[int, int]) -> Iterator[Input]:
        """Yield what a partition has up to the last of its harmful batches, each of those as one input.

        Args:
            spot: the partition.
            start: first offset.
            harmful: what `harmful` found.

        Raises:
            EnvironmentProblem: the broker does not answer or refuses.
        """
        end = max(harmful.values())
        while start < end:
            batches, aborted = self._fetch(spot, start)
            if not batches:
                return
            committed = set(_committed(batches, aborted))
            for batch in batches:
                if batch.first in harmful:  # also of an aborted transaction: it must be got past
                    yield batch.as_input(spot, start)
                elif batch.first in committed:
                    yield from batch.inputs(spot, start)
            start = batches[-1].next

    def _fetch(self, spot: Spot, start: int) -> tuple[list[_Batch], list[tuple[int, int]]]:
        """Return some batches from the one of an offset on; producer and first offset of what was aborted there."""
        try:
            data, aborted = self._loop.run_until_complete(asyncio.wait_for(self._fetched(spot, start), _TIMEOUT_S))
        except (KafkaError, TimeoutError, OSError) as error:
            raise environment_problem(error, self._connection.bootstrap) from error
        return [b for b in _batches(data) if b.next > start], aborted

    async def _fetched(self, spot: Spot, start: int) -> tuple[bytes, list[tuple[int, int]]]:
        topic, partition = spot
        if self._client is None:
            client = AIOKafkaClient(bootstrap_servers=self._connection.bootstrap, **self._connection.for_aiokafka())
            await client.bootstrap()
            self._client = client
        await self._client.add_topic(topic)
        leader = self._client.cluster.leader_for_partition(Place(topic, partition))
        wanted = [(topic, [(partition, start, _FETCH_BYTES)])]
        request = FetchRequest(_WAIT_MS, 1, _FETCH_BYTES, READ_COMMITTED, wanted)
        answer = await self._client.send(leader, request)
        ((_, ((_, error, _, *rest),)),) = answer.topics
        if error:
            raise for_code(error)(f"{topic} partition {partition} at offset {start}")
        aborted = next((part for part in rest if isinstance(part, list)), [])
        return bytes(rest[-1] or b""), aborted


def ends_of(connection: Connection, spots: Iterable[Spot]) -> dict[Spot, int]:
    """Return the first offset after what is committed, for partitions of many topics at once.

    Args:
        connection: the broker.
        spots: the partitions.

    Raises:
        EnvironmentProblem: the broker does not answer.
    """
    trouble = Trouble()
    admin = connection.admin(trouble)
    wanted = {TopicPartition(*spot): OffsetSpec.latest() for spot in spots}

    def ask() -> dict[Spot, int]:
        level = IsolationLevel.READ_COMMITTED
        asked = admin.list_offsets(wanted, isolation_level=level, request_timeout=_TIMEOUT_S)
        return {(at.topic, at.partition): int(found.result(_TIMEOUT_S).offset) for at, found in asked.items()}

    try:
        return patiently(ask) if wanted else {}
    except (KafkaException, TimeoutError) as error:
        raise environment_problem(error, connection.bootstrap, trouble, admin) from error


def _batches(data: bytes) -> Iterator[_Batch]:
    """Split what the broker has sent; the last may be cut off and is left out."""
    at = 0
    while at + _HEADER.size <= len(data):
        base, length, _, _, _, attributes, last, _, at_ms, producer_id, _, _, records = _HEADER.unpack_from(data, at)
        end = at + _BEFORE_LENGTH + length
        if end > len(data):
            return
        yield _Batch(base, base + last + 1, records, at_ms, attributes, producer_id, data[at:end])
        at = end


def _committed(batches: Iterable[_Batch], aborted: Iterable[tuple[int, int]]) -> Iterator[int]:
    """Yield the first offset of each that is of no aborted transaction, and no marker of the end of one."""
    waiting, going = sorted(aborted, key=itemgetter(1), reverse=True), set()
    for batch in batches:
        while waiting and waiting[-1][1] <= batch.first:
            going.add(waiting.pop()[0])
        if batch.attributes & _CONTROL_BIT:
            going.discard(batch.producer_id)
        elif batch.producer_id not in going or not batch.attributes & _TRANSACTIONAL_BIT:
            yield batch.first
