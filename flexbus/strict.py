"""Whether bytes are Avro as everybody reads it.

The library takes more than the specification has: numbers of more bytes than they need or beyond 64 bits, indexes
counted from the end, truth values other than 0 and 1, and sizes of blocks that are not theirs. Others refuse these or
read something else (Java: at most ten bytes of a long), and what a party sends is passed on as it came.
Avro 1.12 specification, "Binary Encoding". Sized blocks, and several of them, are part of it.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

__all__ = ["Walker", "walker"]

Walker = Callable[[bytes, int], int]
# The last byte is 0 only where it is the only one, and 1 at most where it is the tenth: seven bits in each.
_NUMBER = rb"(?:[\x80-\xff]{0,8}[\x01-\x7f]|\x00|[\x80-\xff]{9}\x01)"
_number_at = re.compile(_NUMBER).match
_WIDTHS = {"null": 0, "float": 4, "double": 8}
_INT = range(-(2**31), 2**31)


def walker(schema: Any) -> Walker:
    """Return what walks over a value that the library has read: of bytes and an offset it makes the next offset.

    It raises a ValueError that says at which byte something is not as the specification has it.

    Args:
        schema: the writer's, as `fastavro.parse_schema` returns it.
    """
    return _walker(schema, {})


def _walker(schema: Any, named: dict[str, Walker]) -> Walker:
    if isinstance(schema, list):
        return _union([_walker(branch, named) for branch in schema])
    if isinstance(schema, str):
        return _PLAIN.get(schema) or (lambda d, i: named[schema](d, i))
    kind = schema["type"]
    if kind in ("record", "error"):
        parts: list[Walker] = []
        named[schema["name"]] = found = _record(parts)
        parts += [_walker(field["type"], named) for field in schema["fields"]]
        return found
    if kind == "enum":
        named[schema["name"]] = found = _index(len(schema["symbols"]))
        return found
    if kind == "fixed":
        named[schema["name"]] = found = _fixed(schema["size"])
        return found
    if kind == "array":
        return _blocks(_items(schema["items"], named))
    if kind == "map":
        return _blocks(_each(_record([_sized, _walker(schema["values"], named)])))
    return _walker(kind, named)


def _value(d: bytes, i: int) -> tuple[int, int]:
    """Return a number and the next offset."""
    if (byte := d[i]) < 128:  # nearly all of them
        return byte >> 1 ^ -(byte & 1), i + 1
    end, value = _number(d, i), 0
    for byte in reversed(d[i:end]):
        value = value << 7 | byte & 127
    return value >> 1 ^ -(value & 1), end


def _number(d: bytes, i: int) -> int:
    found = _number_at(d, i)
    if found is None:
        raise ValueError(f"byte {i}: a number is written in more bytes than it needs, or beyond 64 bits")
    return found.end()


def _short_number(d: bytes, i: int) -> int:
    value, end = _value(d, i)
    if value not in _INT:
        raise ValueError(f"byte {i}: an int beyond 32 bits")
    return end


def _boolean(d: bytes, i: int) -> int:
    if d[i] > 1:
        raise ValueError(f"byte {i}: a truth value is 0 or 1, not {d[i]}")
    return i + 1


def _sized(d: bytes, i: int) -> int:
    size, i = _value(d, i)
    return i + size


def _fixed(size: int) -> Walker:
    return lambda _, i: i + size


_PLAIN: dict[str, Walker] = {
    **{kind: _fixed(width) for kind, width in _WIDTHS.items()},
    "boolean": _boolean,
    "int": _short_number,
    "long": _number,
    "bytes": _sized,
    "string": _sized,
}


def _record(parts: list[Walker]) -> Walker:
    def walk(d: bytes, i: int) -> int:
        for part in parts:
            i = part(d, i)
        return i

    return walk


def _index(count: int) -> Walker:
    def walk(d: bytes, i: int) -> int:
        index, end = _value(d, i)
        if not 0 <= index < count:
            raise ValueError(f"byte {i}: there is no number {index} among {count}")
        return end

    return walk


def _union(branches: list[Walker]) -> Walker:
    known = _index(len(branches))

    def walk(d: bytes, i: int) -> int:
        end = known(d, i)
        return branches[_value(d, i)[0]](d, end)

    return walk


Counted = Callable[[bytes, int, int], int]


def _items(schema: Any, named: dict[str, Walker]) -> Counted:
    if schema != "long":
        return _each(_walker(schema, named))

    def walk(d: bytes, i: int, count: int) -> int:
        found = _numbers(count)(d, i)
        return _each(_number)(d, i, count) if found is None else found.end()  # the former says where it is wrong

    return walk


@lru_cache(64)
def _numbers(count: int) -> Callable[[bytes, int], re.Match[bytes] | None]:
    return re.compile(_NUMBER + b"{%d}" % count).match


def _each(item: Walker) -> Counted:
    def walk(d: bytes, i: int, count: int) -> int:
        for _ in range(count):
            i = item(d, i)
        return i

    return walk


def _blocks(items: Counted) -> Walker:
    def walk(d: bytes, i: int) -> int:
        while True:
            count, i = _value(d, i)
            if count == 0:
                return i
            if abs(count) > len(d):  # the library may have read none at all
                raise ValueError(f"byte {i}: a block is said to have {abs(count)} items")
            if count > 0:
                i = items(d, i, count)
                continue
            size, start = _value(d, i)
            end = items(d, start, -count)
            if end != start + size:
                raise ValueError(f"byte {i}: a block is said to have {size} bytes, and has {end - start}")
            i = end

    return walk
