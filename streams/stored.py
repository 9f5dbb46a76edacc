"""Inboxes and logs of reads batch by batch, as Kafka stores them: whoever writes them cannot harm who reads them.

A participant writes its batches itself, and the broker looks at less than a client relies on: a few bytes may become
gigabytes, end the client's library, have it stand still, or give records the offsets of others. Here every byte is
looked at before anything relies on it, and a batch that no honest client makes is one input, refused.
"""

import asyncio
import struct
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from operator import itemgetter
from typing import Any, NamedTuple

import cramjam
from aiokafka import TopicPartition as Place
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import READ_COMMITTED
from aiokafka.errors import KafkaError, LeaderNotAvailableError, for_code
from aiokafka.protocol.fetch import FetchRequest
from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from streams.inputs import Input
from streams.kafka import Connection, Trouble, environment_problem, patiently

__all__ = ["MOST_HEADERS", "MOST_RECORDS", "MOST_UNPACKED", "Part", "Spot", "Stored", "bounds_of", "read_inputs"]

Spot = tuple[str, int]  # topic and partition
Bytes = bytes | memoryview

# librdkafka refuses a zstd batch that becomes more than its receive.message.max.bytes, 100 MB; where the batch does not
# tell its size, sometimes half of that. What it refuses must be refused here.
MOST_UNPACKED = 32_000_000
MOST_RECORDS = 100_000
MOST_HEADERS = 100  # of a record; two bytes can be one, which take a hundred in memory
USUAL_HEADERS = 30  # of the records of a batch on average at most; tracing may add a dozen to our six
# A batch of nothing costs the queue as much as one of events, and its sender next to nothing. A record has an id, in 41
# bytes with the name of its header, of which half cannot be compressed.
FEW_RECORDS = 1_000
LEAST_BYTES, LEAST_BYTES_COMPRESSED = 40, 8
USUAL_GROWTH = 50  # times that a batch becomes larger; an honest one hardly does, as ids cannot be compressed
_FETCH_BYTES = 4_000_000
_TIMEOUT_S = 30.0
_PATIENCE_S = 10.0  # a step that hangs for longer ends the process

# What every batch begins with: base offset, length, leader epoch, magic, CRC, attributes, last offset delta, first and
# last timestamp, producer id and epoch, base sequence, count of records.
_HEADER = struct.Struct(">qiibIhiqqqhii")
_BEFORE_LENGTH = 12  # bytes that the length does not count
_CODEC_BITS, _BY_BROKER_BIT, _TRANSACTIONAL_BIT, _CONTROL_BIT = 0x07, 0x08, 0x10, 0x20
_PLAIN, _GZIP, _SNAPPY, _LZ4, _ZSTD = range(5)
_GZIP_ALONE = 31  # zlib's word for one member with its header and trailer
_SNAPPY_MAGIC, _SNAPPY_HEADER_BYTES = b"\x82SNAPPY\0", 16
_UNPACK = {_LZ4: cramjam.lz4.decompress_into, _ZSTD: cramjam.zstd.decompress_into}
_LONGEST_VARINT = 63


class _UnsoundError(Exception):
    """A batch is none that a client should read."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """One batch.

    Attributes:
        first: its first offset.
        next: the one after its last.
        records: how many it has; the broker has counted them.
        first_ms: time of the first, to which the records' own times are added, UTC ms.
        at_ms: time of the last, UTC ms; of all where the broker tells the time.
        attributes: how it is compressed, and what it is for.
        producer_id: who wrote it, as the broker numbers producers.
        data: all of its bytes.
    """

    first: int
    next: int
    records: int
    first_ms: int
    at_ms: int
    attributes: int
    producer_id: int
    data: bytes

    def surplus(self, room: bytearray) -> int | None:
        """Return the bytes that it becomes beyond what is usual, None if a client must not read it at all.

        Args:
            room: where it is unpacked, of `MOST_UNPACKED` bytes; no more than that is, to find out.
        """
        if self.attributes & _CONTROL_BIT:  # only the broker writes these
            return 0
        try:
            data = self._unpacked(room)
            for _ in self._records(data):
                pass
        except _UnsoundError:
            return None
        return max(0, len(data) - USUAL_GROWTH * len(self.data))

    def inputs(self, spot: Spot, start: int, room: bytearray) -> list[Input]:
        """Return its records from an offset on, or if no client should read it, itself as one input."""
        try:
            found = list(self._records(self._unpacked(room)))
        except _UnsoundError:
            first = max(self.first, start)
            return [Input(*spot, first, self.at_ms, None, self.data, (), batch=self.next - first)]
        return [
            Input(*spot, self.first + n, self._time(delta_ms), key, value, _named(headers))
            for n, (delta_ms, key, value, headers) in enumerate(found)
            if self.first + n >= start
        ]

    def _time(self, delta_ms: int) -> int:
        return self.at_ms if self.attributes & _BY_BROKER_BIT else self.first_ms + delta_ms

    def _unpacked(self, room: bytearray) -> Bytes:
        codec, packed = self.attributes & _CODEC_BITS, memoryview(self.data)[_HEADER.size :]
        least = LEAST_BYTES_COMPRESSED if codec else LEAST_BYTES
        if self.records > MOST_RECORDS or len(packed) < (self.records - FEW_RECORDS) * least:
            raise _UnsoundError
        return _unpacked(codec, packed, room)

    def _records(self, data: Bytes) -> "Iterator[_Record]":
        try:
            yield from _records(data, self.records)
        except IndexError as error:  # a record goes on beyond its end
            raise _UnsoundError from error


class Part(NamedTuple):
    """One answer of the broker about a partition.

    Attributes:
        inputs: what it has for a reader, to be taken before the next part is.
        following: the offset that comes after it.
        size: bytes of all its batches, those that were taken back among them.
    """

    inputs: Iterator[Input]
    following: int
    size: int


class Stored:
    """Reads partitions as they are stored.

    Args:
        connection: the broker.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._loop = asyncio.new_event_loop()
        self._client: Any = None
        self.ends: dict[Spot, int] = {}  # first offset after what was committed, as last heard

    @cached_property
    def _room(self) -> bytearray:
        return bytearray(MOST_UNPACKED)  # of no use to who never reads

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._loop.run_until_complete(self._client.close())
        self._loop.close()

    def surpluses(self, spot: Spot, start: int, end: int) -> Iterator[int | None]:
        """Yield of each batch of a partition the bytes that it becomes beyond what is usual.

        None stands for one that no client should read at all.

        Args:
            spot: the partition.
            start: first offset.
            end: first offset that is of no interest.

        Raises:
            EnvironmentProblem: the broker does not answer or refuses.
        """
        while start < end:
            batches, _ = self._fetch(spot, start)
            if not batches:  # what is left belongs to a transaction under way
                return
            yield from (batch.surplus(self._room) for batch in batches)
            start = batches[-1].next

    def parts(self, spot: Spot, start: int, end: int | None = None) -> Iterator[Part]:
        """Yield what a partition has, one answer of the broker after the other; arguments as for `inputs`.

        Of what was taken back there may be gigabytes, in which there is no input.
        """
        while end is None or start < end:
            batches, aborted = self._fetch(spot, start)
            if not batches:
                return
            following = batches[-1].next
            yield Part(self._inputs(spot, start, end, batches, aborted), following, sum(len(b.data) for b in batches))
            start = following

    def inputs(self, spot: Spot, start: int, end: int | None = None) -> Iterator[Input]:
        """Yield what a partition has, each batch that no client should read as one input.

        Args:
            spot: the partition.
            start: first offset.
            end: first offset that is of no interest; None reads until there is nothing more.

        Raises:
            EnvironmentProblem: the broker does not answer or refuses.
        """
        return chain.from_iterable(part.inputs for part in self.parts(spot, start, end))

    def _inputs(
        self, spot: Spot, start: int, end: int | None, batches: list[_Batch], aborted: list[tuple[int, int]]
    ) -> Iterator[Input]:
        for batch in _committed(batches, aborted):
            for given in batch.inputs(spot, start, self._room):
                if end is not None and given.offset >= end:
                    return
                yield given

    def _fetch(self, spot: Spot, start: int) -> tuple[list[_Batch], list[tuple[int, int]]]:
        """Return some batches from the one of an offset on; producer and first offset of what was aborted there."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                left_s = max(0.0, deadline - time.monotonic())
                data, aborted = self._loop.run_until_complete(asyncio.wait_for(self._fetched(spot, start), left_s))
            except (KafkaError, TimeoutError, OSError) as error:
                # A leader may change, and the broker ends connections that are to prove themselves again.
                if not getattr(error, "retriable", False) or time.monotonic() > deadline:
                    raise environment_problem(error, self._connection.bootstrap) from error
                time.sleep(0.05)
            else:
                return [b for b in _batches(data) if b.next > start], aborted

    async def _fetched(self, spot: Spot, start: int) -> tuple[bytes, list[tuple[int, int]]]:
        topic, partition = spot
        if self._client is None:
            client = AIOKafkaClient(bootstrap_servers=self._connection.bootstrap, **self._connection.for_aiokafka())
            await client.bootstrap()
            self._client = client
        await self._client.add_topic(topic)
        leader = self._client.cluster.leader_for_partition(Place(topic, partition))
        if leader is None or leader < 0:
            await self._client.force_metadata_update()
            raise LeaderNotAvailableError(f"{topic} partition {partition}")
        wanted = [(topic, [(partition, start, _FETCH_BYTES)])]
        request = FetchRequest(0, 1, _FETCH_BYTES, READ_COMMITTED, wanted)
        answer = await self._client.send(leader, request)
        ((_, ((_, error, _, *rest),)),) = answer.topics
        if error:
            await self._client.force_metadata_update()
            raise for_code(error)(f"{topic} partition {partition} at offset {start}")
        self.ends[spot] = int(rest[0])
        aborted = next((part for part in rest if isinstance(part, list)), [])
        return bytes(rest[-1] or b""), aborted


def bounds_of(
    connection: Connection, spots: Iterable[Spot], since_ms: int | None = None
) -> dict[Spot, tuple[int, int]]:
    """Return the first offset that is kept and the first after what is committed, for partitions of many topics.

    Args:
        connection: the broker.
        spots: the partitions.
        since_ms: the first of what the broker received since, instead of all that is kept; UTC ms.

    Raises:
        EnvironmentProblem: the broker does not answer.
    """
    trouble = Trouble()
    admin = connection.admin(trouble)
    places = [TopicPartition(*spot) for spot in spots]

    def ask(what: OffsetSpec) -> dict[Spot, int]:
        level = IsolationLevel.READ_COMMITTED
        asked = admin.list_offsets(dict.fromkeys(places, what), isolation_level=level, request_timeout=_TIMEOUT_S)
        return {(at.topic, at.partition): int(found.result(_TIMEOUT_S).offset) for at, found in asked.items()}

    if not places:
        return {}
    begin = OffsetSpec.earliest() if since_ms is None else OffsetSpec.for_timestamp(since_ms)
    try:
        first, end = (patiently(partial(ask, what)) for what in (begin, OffsetSpec.latest()))
    except (KafkaException, TimeoutError) as error:
        raise environment_problem(error, connection.bootstrap, trouble, admin) from error
    return {spot: (first[spot] if first[spot] >= 0 else end[spot], end[spot]) for spot in end}


def read_inputs(connection: Connection, bounds: Mapping[Spot, tuple[int, int]]) -> Iterator[Input]:
    """Yield what partitions have, one after the other, whatever their writers made of them; see `Stored.inputs`.

    Args:
        connection: the broker.
        bounds: first offset of each, and the first that is of no interest.
    """
    with closing(Stored(connection)) as stored:
        for spot, (first, end) in bounds.items():
            yield from stored.inputs(spot, first, end)


def _batches(data: bytes) -> Iterator[_Batch]:
    """Split what the broker has sent; the last may be cut off and is left out."""
    at = 0
    while at + _HEADER.size <= len(data):
        first, length, _, _, _, attributes, last, *told = _HEADER.unpack_from(data, at)
        first_ms, at_ms, producer_id, _, _, records = told
        end = at + _BEFORE_LENGTH + length
        if end > len(data):
            return
        yield _Batch(first, first + last + 1, records, first_ms, at_ms, attributes, producer_id, data[at:end])
        at = end


def _committed(batches: Iterable[_Batch], aborted: Iterable[tuple[int, int]]) -> Iterator[_Batch]:
    """Yield those that are of no aborted transaction, and no marker of the end of one."""
    waiting, going = sorted(aborted, key=itemgetter(1), reverse=True), set()
    for batch in batches:
        while waiting and waiting[-1][1] <= batch.first:
            going.add(waiting.pop()[0])
        if batch.attributes & _CONTROL_BIT:
            going.discard(batch.producer_id)
        elif batch.producer_id not in going or not batch.attributes & _TRANSACTIONAL_BIT:
            yield batch


_Record = tuple[int, bytes | None, bytes | None, list[tuple[bytes, bytes | None]]]  # time delta, key, value, headers


def _unpacked(codec: int, packed: memoryview, room: bytearray) -> Bytes:
    """Return what a batch holds, as every client's library would have it."""
    if codec == _PLAIN:
        return packed
    if codec == _GZIP:
        # What follows the first member is read by the broker, and by some clients only.
        stream = zlib.decompressobj(_GZIP_ALONE)
        try:
            found = stream.decompress(packed, MOST_UNPACKED)
        except zlib.error as error:
            raise _UnsoundError from error
        if not stream.eof or stream.unused_data:
            raise _UnsoundError
        return found
    if codec == _SNAPPY:
        return _unsnapped(packed)
    try:
        return memoryview(room)[: _UNPACK[codec](packed, room)]
    except cramjam.DecompressionError as error:
        raise _UnsoundError from error


def _unsnapped(packed: memoryview) -> bytes:
    blocks, at = [packed], len(packed)
    if packed[: len(_SNAPPY_MAGIC)] == _SNAPPY_MAGIC:
        blocks, at = [], _SNAPPY_HEADER_BYTES
    while at < len(packed):
        begin = at + 4
        at = begin + int.from_bytes(packed[at:begin], "big")
        if at > len(packed):
            raise _UnsoundError
        blocks.append(packed[begin:at])
    try:
        if sum(cramjam.snappy.decompress_raw_len(block) for block in blocks) > MOST_UNPACKED:
            raise _UnsoundError
        return b"".join(bytes(cramjam.snappy.decompress_raw(block)) for block in blocks)
    except cramjam.DecompressionError as error:
        raise _UnsoundError from error


def _records(data: Bytes, count: int) -> Iterator[_Record]:
    """Yield the records of a batch; an IndexError is one as well.

    Raises:
        _UnsoundError: they are not so many, of the lengths that they tell, at the offsets that follow each other.
    """
    at, spare = 0, MOST_HEADERS + count * USUAL_HEADERS
    for n in range(count):
        length, at = _varint(data, at)
        end = at + length
        delta_ms, at = _varint(data, at + 1)  # past attributes that say nothing
        delta, at = _varint(data, at)
        key, at = _bytes(data, at, end)
        value, at = _bytes(data, at, end)
        many, at = _varint(data, at)
        spare -= many
        if delta != n or not 0 <= many <= MOST_HEADERS or spare < 0:
            raise _UnsoundError
        headers = []
        for _ in range(many):
            name, at = _bytes(data, at, end)
            raw, at = _bytes(data, at, end)
            if name is None:
                raise _UnsoundError
            headers.append((name, raw))
        if at != end:
            raise _UnsoundError
        yield delta_ms, key, value, headers
    if at != len(data):
        raise _UnsoundError


def _varint(data: Bytes, at: int) -> tuple[int, int]:
    """Return a zigzag number and where it ends; libraries differ about what is too long for them."""
    byte = data[at]
    raw, shift = byte & 0x7F, 0
    while byte & 0x80:
        at, shift = at + 1, shift + 7
        if shift > _LONGEST_VARINT:
            raise _UnsoundError
        byte = data[at]
        raw |= (byte & 0x7F) << shift
    return (raw >> 1) ^ -(raw & 1), at + 1


def _bytes(data: Bytes, at: int, end: int) -> tuple[bytes | None, int]:
    length, at = _varint(data, at)
    if length == -1:
        return None, at
    if not 0 <= length <= end - at:
        raise _UnsoundError
    return bytes(data[at : at + length]), at + length


def _named(headers: list[tuple[bytes, bytes | None]]) -> tuple[tuple[str, bytes | None], ...]:
    """Return headers with their names as text; none if a name is no text, as `streams.inbox` does."""
    try:
        return tuple((name.decode(), raw) for name, raw in headers)
    except UnicodeDecodeError:
        return ()
