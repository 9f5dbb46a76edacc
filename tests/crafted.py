"""Batches made byte by byte, as a participant can that means harm, and their way to a broker."""

import asyncio
import gzip
import struct

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.util import calc_crc32c

from streams.kafka import Connection
from streams.stored import MOST_HEADERS

PLAIN, GZIP, SNAPPY, LZ4, ZSTD = range(5)


def zigzag(number: int) -> bytes:
    """A whole number as Kafka and Avro write it."""
    raw, found = (number << 1) ^ (number >> 63), bytearray()
    while raw > 0x7F:
        found.append(raw & 0x7F | 0x80)
        raw >>= 7
    return bytes([*found, raw])


def beyond_32_bits(number: int) -> bytes:
    """The same number to a library that takes 32 bits of it, and another to one that takes 64."""
    raw = number << 1 | 1 << 33
    return bytes(raw >> 7 * n & 0x7F | (0x80 if n < 4 else 0) for n in range(5))


def record(
    delta: int,
    value: bytes,
    *,
    headers: tuple[tuple[bytes, bytes | None], ...] = (),
    key: bytes = zigzag(1) + b"k",
    at: bytes | None = None,
    length: int = 0,
) -> bytes:
    body = b"\0" + zigzag(0) + (zigzag(delta) if at is None else at) + key + zigzag(len(value)) + value
    body += zigzag(len(headers))
    for name, raw in headers:
        body += zigzag(len(name)) + name + (zigzag(-1) if raw is None else zigzag(len(raw)) + raw)
    return zigzag(len(body) + length) + body


def crafted(*records: bytes, codec: int = PLAIN, packed: bytes | None = None) -> bytes:
    """Return a batch of records, or of what is said to be them compressed."""
    data = b"".join(records) if packed is None else packed
    checked = struct.pack(">hiqqqhii", codec, len(records) - 1, 7, 7, -1, -1, -1, len(records)) + data
    return struct.pack(">qiibI", 0, 9 + len(checked), -1, 2, calc_crc32c(checked)) + checked


A, B = record(0, b"a"), record(1, b"b")
# What a broker takes (but for the last five, which are for one that looks less), and no honest client sends.
STRANGE = {
    "the offset of another": crafted(A, record(0, b"b")),
    "an offset far away": crafted(A, record(2**31 - 1, b"b")),
    "an offset before all": crafted(record(-5, b"a"), B),
    "offsets in another order": crafted(record(1, b"a"), record(0, b"b")),
    "an offset of more bits than are read": crafted(record(0, b"a", at=beyond_32_bits(0))),
    "a key of less than nothing": crafted(record(0, b"a", key=zigzag(-2))),
    "a key of more bits than are read": crafted(record(0, b"a", key=beyond_32_bits(1) + b"k")),
    "a key beyond the record": crafted(record(0, b"a", key=zigzag(500) + b"k")),
    "another length": crafted(record(0, b"a", length=1), B),
    "a record beyond the batch": crafted(record(0, b"a", length=1)),
    "more than its records": crafted(A, packed=A + B),
    "too many headers": crafted(record(0, b"a", headers=((b"", None),) * (MOST_HEADERS + 1))),
    "many headers in each": crafted(*[record(n, b"", headers=((b"", None),) * 99) for n in range(50)]),
    "nothing before its records": crafted(A, codec=GZIP, packed=gzip.compress(b"") + gzip.compress(A)),
    "a second part": crafted(A, B, codec=GZIP, packed=gzip.compress(A) + gzip.compress(B)),
    "half of gzip": crafted(A, codec=GZIP, packed=gzip.compress(A)[:-9]),
    "no gzip": crafted(A, codec=GZIP, packed=A),
    "no lz4": crafted(A, codec=LZ4, packed=A),
    "no snappy": crafted(A, codec=SNAPPY, packed=b"\xff"),
    "half of snappy": crafted(A, codec=SNAPPY, packed=b"\x82SNAPPY\0" + bytes(8) + b"\0\1\0\0\0"),
    "snappy that says it becomes gigabytes": crafted(A, codec=SNAPPY, packed=b"\xff\xff\xff\xff\x07\0\0"),
}  # fmt: skip


def post(connection: Connection, *batches: tuple[str, int, bytes]) -> list[int]:
    """Write batches as they are, one after the other.

    Args:
        connection: the broker.
        batches: topic, partition and bytes of each.

    Returns:
        The broker's error code for each, 0 for none.
    """

    async def sent() -> list[int]:
        client = AIOKafkaClient(bootstrap_servers=connection.bootstrap, **connection.for_aiokafka())
        await client.bootstrap()
        codes = []
        try:
            for topic, partition, batch in batches:
                await client.add_topic(topic)
                leader = client.cluster.leader_for_partition(TopicPartition(topic, partition))
                wanted = [(topic, [(partition, batch)])]
                request = ProduceRequest(required_acks=-1, timeout=10_000, topics=wanted, transactional_id=None)
                answer = await client.send(leader, request)
                codes.append(int(answer.topics[0][1][0][1]))
        finally:
            await client.close()
        return codes

    return asyncio.run(sent())
