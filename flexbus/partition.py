"""Which partition an area lives in: murmur2 as Kafka's own producers compute it, so that every client agrees."""

from functools import lru_cache

__all__ = ["partition_of"]

_SEED, _M, _32_BITS = 0x9747B28C, 0x5BD1E995, 0xFFFFFFFF


@lru_cache(maxsize=4096)
def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition of a record key (the partitioner `murmur2` of librdkafka, the default of Java).

    Args:
        key: record key, the area id in UTF-8.
        partitions: partitions of the topic.
    """
    return (_murmur2(key) & 0x7FFFFFFF) % partitions


def _murmur2(data: bytes) -> int:
    length = len(data)
    value = _SEED ^ length
    for start in range(0, length - 3, 4):
        word = int.from_bytes(data[start : start + 4], "little") * _M & _32_BITS
        value = (value * _M & _32_BITS) ^ ((word ^ word >> 24) * _M & _32_BITS)
    if rest := data[length & ~3 :]:
        value = (value ^ int.from_bytes(rest, "little")) * _M & _32_BITS
    value = (value ^ value >> 13) * _M & _32_BITS
    return value ^ value >> 15
