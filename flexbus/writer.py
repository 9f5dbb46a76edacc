"""What the bus itself writes all the time, straight to Avro bytes, by a function compiled once per class.

The same bytes as the Avro library writes, without a dict for each record on the way. It trusts the types it is given,
so it is for records that our own code makes: what a party makes goes through the library, which looks at them.
"""

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

__all__ = ["writer"]

Writer = Callable[[Any, Callable[[bytes], None]], None]


def _long(number: int) -> bytes:
    """Return a whole number as Avro's long: zigzag, seven bits a byte, the lowest first."""
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"{number} does not fit into 64 bits")
    left = number << 1 if number >= 0 else ~(number << 1)
    found = bytearray()
    while left > 127:
        found.append(left & 127 | 128)
        left >>= 7
    found.append(left)
    return bytes(found)


_SHORT = {number: _long(number) for number in range(-64, 8192)}


def writer(cls: Any) -> Writer:
    """Return the function that hands the bytes of an instance, piece by piece, to what takes them.

    Args:
        cls: a dataclass of the types that `flexbus.avro` knows.
    """
    return _WRITERS.get(cls) or _WRITERS.setdefault(cls, _compiled(cls))


_WRITERS: dict[Any, Writer] = {}


def _compiled(cls: Any) -> Writer:
    names: dict[str, Any] = {"short": _SHORT.get, "long": _long}
    body = "\n".join(f"    {line}" for line in _record(cls, "v", 0, names))
    exec(f"def write(v, o):\n{body}", names)
    function: Writer = names["write"]
    return function


def _record(cls: Any, value: str, depth: int, names: dict[str, Any]) -> Iterator[str]:
    hints = get_type_hints(cls, include_extras=True)
    for field in fields(cls):
        yield f"x{depth} = {value}.{field.name}"
        yield from _value(hints[field.name], f"x{depth}", depth + 1, names)


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
