"""What the bus itself writes all the time, straight to Avro bytes, by a function compiled once per class.

The same bytes as the Avro library writes, without a dict for each record on the way. It trusts the types it is given,
so it is for records that our own code makes or has read: what a party makes goes through the library, which looks at
them.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import lru_cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

__all__ = ["Shared", "writer"]

Shared = dict[int, tuple[Any, bytes]]
Writer = Callable[[Any, Callable[[bytes], None], Shared], None]


@lru_cache(1 << 14)  # prices and quantities come again and again
def _long(number: int) -> bytes:
    """Return a whole number as Avro's long: zigzag, seven bits a byte, the lowest first."""
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"{number} does not fit into 64 bits")
    left = number << 1 if number >= 0 else ~(number << 1)
    if left < 1 << 14:
        return bytes((left & 127 | 128, left >> 7)) if left > 127 else bytes((left,))
    if left < 1 << 21:
        return bytes((left & 127 | 128, left >> 7 & 127 | 128, left >> 14))
    if left < 1 << 28:
        return bytes((left & 127 | 128, left >> 7 & 127 | 128, left >> 14 & 127 | 128, left >> 21))
    found = bytearray()
    while left > 127:
        found.append(left & 127 | 128)
        left >>= 7
    found.append(left)
    return bytes(found)


_SHORT = {number: _long(number) for number in range(-64, 8192)}


def writer(cls: Any) -> Writer:
    """Return the function that hands the bytes of an instance, piece by piece, to what takes them.

    Its third argument keeps what it wrote of lists that are fields of the instance itself: another instance that holds
    the very same list, as views of one event do, is not asked to write it again.

    Args:
        cls: a dataclass of the types that `flexbus.avro` knows.
    """
    return _WRITERS.get(cls) or _WRITERS.setdefault(cls, _compiled(cls))


_WRITERS: dict[Any, Writer] = {}


def _compiled(cls: Any) -> Writer:
    names: dict[str, Any] = {"short": _SHORT.get, "long": _long, "double": struct.Struct("<d").pack}
    body = "\n".join(f"    {line}" for line in _record(cls, "v", 0, names)) or "    pass"
    exec(f"def write(v, o, m):\n{body}", names)
    function: Writer = names["write"]
    return function


def _record(cls: Any, value: str, depth: int, names: dict[str, Any]) -> Iterator[str]:
    hints = get_type_hints(cls, include_extras=True)
    for field in fields(cls):
        yield f"x{depth} = {value}.{field.name}"
        lines = _value(hints[field.name], f"x{depth}", depth + 1, names)
        yield from _once(lines) if depth == 0 and _is_list_of_records(hints[field.name]) else lines


def _is_list_of_records(hint: Any) -> bool:
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    return get_origin(hint) is tuple and is_dataclass(get_args(hint)[0])


def _once(lines: Iterator[str]) -> Iterator[str]:
    """Yield the lines that write x0, or find what they wrote of it before."""
    yield "known = m.get(id(x0))"
    yield "if known is None:"
    yield "    parts, out = [], o"
    yield "    o = parts.append"
    yield from _indented(lines)
    yield "    o = out"
    yield "    known = m[id(x0)] = x0, b''.join(parts)"  # kept alive: an id may be used again
    yield "o(known[1])"


def _value(hint: Any, value: str, depth: int, names: dict[str, Any]) -> Iterator[str]:
    """Yield the lines that write the value of a variable."""
    origin, item = get_origin(hint), f"x{depth}"
    if origin is Annotated:
        yield from _value(get_args(hint)[0], value, depth, names)
    elif origin in (Union, UnionType):
        (inner,) = (a for a in get_args(hint) if a is not type(None))
        yield f"if {value} is None: o(b'\\0')"
        yield "else:"
        yield "    o(b'\\2')"
        yield from _indented(_value(inner, value, depth, names))
    elif origin is tuple and get_args(hint)[0] is int:
        yield f"if {value}:"
        yield f"    n, {item} = len({value}), {value}[0]"
        yield f"    {_number('n')}"
        yield f"    if {value}.count({item}) == n: o((short({item}) or long({item})) * n)"  # most series are flat
        yield "    else:"
        yield f"        for {item} in {value}: {_number(item)}"
        yield "o(b'\\0')"
    elif origin in (tuple, dict):
        yield f"if {value}:"
        yield f"    {_number(f'len({value})')}"
        if origin is tuple:
            yield f"    for {item} in {value}:"
        else:
            yield f"    for k{depth}, {item} in {value}.items():"
            yield from _indented(_value(str, f"k{depth}", depth + 1, names), 2)
        yield from _indented(_value(get_args(hint)[origin is dict], item, depth + 1, names), 2)
        yield "o(b'\\0')"
    elif is_dataclass(hint):
        yield from _record(hint, value, depth, names)
    elif isinstance(hint, type) and issubclass(hint, Enum):
        yield f"o({_named(names, {m: _long(n) for n, m in enumerate(hint)})}[{value}])"
    elif hint is int:
        yield _number(value)
    elif hint is bool:
        yield f"o(b'\\1' if {value} else b'\\0')"
    elif hint is float:
        yield f"o(double({value}))"
    elif hint in (str, bytes):
        yield f"b = {value}.encode()" if hint is str else f"b = {value}"
        yield _number("len(b)")
        yield "o(b)"
    else:
        raise TypeError(f"no writer for {hint!r}")


def _number(value: str) -> str:
    return f"o(short({value}) or long({value}))"


def _indented(lines: Iterator[str], steps: int = 1) -> Iterator[str]:
    return (f"{'    ' * steps}{line}" for line in lines)


def _named(names: dict[str, Any], helper: Any) -> str:
    name = f"_{len(names)}"
    names[name] = helper
    return name
