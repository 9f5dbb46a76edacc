"""Events straight from Avro bytes, by a function compiled once per class: the hot path of every process.

A journal of offers is mostly small numbers in small nested records, and a general reader makes a dict of each record
before the record itself is made. These functions know the class, so they need neither. They read only what our own
writer writes, in the newest schema; whatever else comes (long varints, sized blocks, strange booleans, bytes that end
too early) they give up on, and the general reader decides what it is. So they may be strict, and need no words.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass, replace
from enum import Enum
from functools import cache
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

__all__ = ["GIVEN_UP", "Unmade", "changer", "columns", "fillable", "items", "quickly", "reader", "shell_of"]

T = TypeVar("T")
Reader = Callable[[bytes, int], tuple[Any, int]]
ItemsReader = Callable[[bytes, int, int], tuple[Any, int]]
# A record, and what reads arrays of it otherwise: of bytes, the offset of the first item and how many there are, at
# least one, it makes what stands for the array, and the next offset.
Unmade = tuple[type[Any], ItemsReader]
# What a reader raises where it gives up: a form that is not ours, or bytes that end too early.
GIVEN_UP = (ValueError, IndexError, struct.error)
_SHIFTS = ((127, 7), (16_383, 14), (2_097_151, 21), (268_435_455, 28))


@cache
def reader(cls: Any, unmade: Unmade | None = None) -> Reader:
    """Return the function that reads an instance: of bytes and an offset it makes the value and the next offset.

    It raises one of `GIVEN_UP`, or goes beyond the end of the bytes, where it gives up.

    Args:
        cls: a dataclass of the types that `flexbus.avro` knows.
        unmade: a record whose arrays are left as they are written.
    """
    names = _names(unmade)
    function: Reader = _compiled("d, i", [*_record(cls, "v", 0, names), "return v, i"], names)
    return function


@cache
def items(cls: Any) -> ItemsReader:
    """Return what reads the items of an array of records to a tuple: of bytes, an offset and their number.

    Args:
        cls: a dataclass, as for `reader`.
    """
    names = _names()
    function: ItemsReader = _compiled("d, i, b", [*_items(cls, "v", 0, names), "return v, i"], names)
    return function


@cache
def columns(cls: Any) -> ItemsReader:
    """Return what reads the items of an array of records to lists, without making a record; called as `items`.

    The first list says how often each item comes in a row, as it is told once; then there is one for each field,
    in their order: numbers, or of inner records how many there are, and their fields.

    Args:
        cls: a dataclass of whole numbers, and of tuples of such dataclasses.
    """
    names, found = _names(), ["c0"]
    item = list(_columns(cls, found, names))
    lines = [f"{name} = []; {name}_add = {name}.append" for name in found]
    lines += ["left, same = b, NOTHING", "while left:", "    left -= 1"]
    lines += ["    if d.startswith(same, i):", "        c0[-1] += 1; i += len(same)", "        continue", "    at = i"]
    lines += [*_indented(iter(item)), "    c0_add(1)", "    same = d[at:i]", "if d[i]: raise ValueError"]
    lines.append(f"return ({', '.join(found)}), i + 1")
    function: ItemsReader = _compiled("d, i, b", lines, names)
    return function


def _columns(cls: Any, found: list[str], names: dict[str, Any]) -> Iterator[str]:
    """Yield the lines that read a record into lists, whose names are added to those found."""
    hints = get_type_hints(cls)
    for field in fields(cls):
        number = len(found)
        found.append(f"c{number}")
        if hints[field.name] is int:
            yield from _varint()
            yield f"c{number}_add(~(b >> 1) if b & 1 else b >> 1)"
            continue
        yield from _size()
        yield f"c{number}_add(b)"
        inner = list(_columns(get_args(hints[field.name])[0], found, names))
        yield f"n{number} = b"
        yield "if b == 1:"  # most stacks have one step
        yield from _indented(iter(inner))
        yield "else:"
        yield "    for _ in range(b):"
        yield from _indented(iter(inner), 2)
        yield f"if n{number}:"
        yield "    if d[i]: raise ValueError"
        yield "    i += 1"


def _names(unmade: Unmade | None = None) -> dict[str, Any]:
    double = struct.Struct("<d").unpack_from
    # No bytes start with NOTHING, whoever sends them: before the first item there is none that could come again.
    return {"rest": _rest, "NOTHING": (), "double": double, "unmade": unmade}


def _compiled(arguments: str, lines: list[str], names: dict[str, Any]) -> Any:
    body = "\n".join(f"    {line}" for line in lines)
    exec(f"def read({arguments}):\n{body}", names)
    return names["read"]


@cache
def shell_of(cls: Any) -> type[Any]:
    """Return a class of the same slots whose instances are quickly filled, and then become the frozen dataclass.

    A frozen dataclass sets each field by a call; for records of two fields that is most of the time they take.
    """
    if not fillable(cls):
        raise TypeError(f"{cls.__name__} has other slots than fields, or its constructor does more than to set them")
    names = [f.name for f in fields(cls)]
    sets = "\n".join(f"    self.{n} = {n}" for n in names) or "    pass"
    space: dict[str, Any] = {}
    exec(f"def __init__(self, {', '.join(names)}):\n{sets}", space)
    return type(f"_{cls.__name__}", (), {"__slots__": tuple(names), "__init__": space["__init__"]})


def quickly(cls: type[T]) -> type[T]:
    """Return what makes instances of a frozen dataclass as its constructor does, in a third of the time.

    For the few records that are made for every event; it does not return a class, though it is called like one.
    """
    kind: Any = cls
    names: dict[str, Any] = {"new": object.__new__, "shell": shell_of(kind), "kind": kind}
    for field in fields(kind):
        names[f"of_{field.name}"] = field.default
    given = (f.name if f.default is MISSING else f"{f.name}=of_{f.name}" for f in fields(kind))
    sets = (f"x.{f.name} = {f.name}" for f in fields(kind))
    lines = ["x = new(shell)", *sets, "x.__class__ = kind", "return x"]
    exec(f"def make(*, {', '.join(given)}):\n    " + "\n    ".join(lines), names)
    made: type[T] = names["make"]
    return made


@cache
def changer(cls: Any, changed: tuple[str, ...]) -> Callable[..., Any]:
    """Return what copies an instance with other values in some fields, in a fifth of the time of `replace`.

    It is given the instance and the values.

    Args:
        cls: a dataclass.
        changed: the fields, in the order of the values.
    """
    names: dict[str, Any] = {"new": object.__new__, "kind": cls, "replace": replace}
    values = ", ".join(f"new_{n}" for n in changed)
    if fillable(cls):
        names["shell"] = shell_of(cls)
        sets = (f"x.{f.name} = {f'new_{f.name}' if f.name in changed else f'v.{f.name}'}" for f in fields(cls))
        lines = ["x = new(shell)", *sets, "x.__class__ = kind", "return x"]
    else:
        lines = [f"return replace(v, {', '.join(f'{n}=new_{n}' for n in changed)})"]
    exec(f"def change(v, {values}):\n    " + "\n    ".join(lines), names)
    made: Callable[..., Any] = names["change"]
    return made


def fillable(cls: Any) -> bool:
    """Tell whether `shell_of` can make instances of a dataclass."""
    names = tuple(f.name for f in fields(cls) if f.init)
    own = tuple(cls.__dict__.get("__slots__", ())) == names and cls.__bases__ == (object,)
    return own and len(names) == len(fields(cls)) and not hasattr(cls, "__post_init__")


def _record(cls: Any, into: str, depth: int, names: dict[str, Any]) -> Iterator[str]:
    """Yield the lines that read a record into a variable."""
    hints = get_type_hints(cls, include_extras=True)
    parts = []
    for number, field in enumerate(fields(cls)):
        part = f"f{depth}_{number}"
        parts.append(part)
        yield from _value(hints[field.name], part, depth + 1, names)
    yield f"{into} = {_named(names, shell_of(cls))}({', '.join(parts)})"
    yield f"{into}.__class__ = {_named(names, cls)}"


def _value(hint: Any, into: str, depth: int, names: dict[str, Any]) -> Iterator[str]:
    origin = get_origin(hint)
    if origin is Annotated:
        yield from _value(get_args(hint)[0], into, depth, names)
    elif origin in (Union, UnionType):
        (inner,) = (a for a in get_args(hint) if a is not type(None))
        yield "b = d[i]; i += 1"
        yield f"if b == 0: {into} = None"
        yield "elif b == 2:"
        yield from _indented(_value(inner, into, depth, names))
        yield "else: raise ValueError"
    elif origin is tuple:
        yield from _array(get_args(hint)[0], into, depth, names)
    elif origin is dict:
        yield from _map(get_args(hint)[1], into, depth, names)
    elif is_dataclass(hint):
        yield from _record(hint, into, depth, names)
    elif isinstance(hint, type) and issubclass(hint, Enum):
        yield "b = d[i]; i += 1"
        yield "if b & 129: raise ValueError"
        yield f"{into} = {_named(names, tuple(hint))}[b >> 1]"
    elif hint is int:
        yield from _varint()
        yield f"{into} = ~(b >> 1) if b & 1 else b >> 1"
    elif hint is str:
        yield from _size()
        yield f"{into} = d[i:i + b].decode(); i += b"
    elif hint is bytes:
        yield from _size()
        yield f"{into} = d[i:i + b]; i += b"
    elif hint is bool:
        yield "b = d[i]; i += 1"
        yield "if b > 1: raise ValueError"
        yield f"{into} = b == 1"
    elif hint is float:
        yield f"{into}, = double(d, i); i += 8"
    else:
        raise TypeError(f"no reader for {hint!r}")


def _varint() -> Iterator[str]:
    """Yield the lines that read the unsigned number of a varint into b; numbers are mostly short."""
    yield "b = d[i]; i += 1"
    indent = ""
    for mask, shift in _SHIFTS:
        yield f"{indent}if b > {mask}:"
        indent += "    "
        if shift == 28:
            yield f"{indent}b, i = rest(d, i, b & {mask})"
        else:
            yield f"{indent}b = b & {mask} | d[i] << {shift}; i += 1"
    for mask, _ in _SHIFTS[-2::-1]:  # whose last byte is 0 has a byte too many
        indent = indent[4:]
        yield f"{indent}elif b <= {mask}: raise ValueError"


def _size() -> Iterator[str]:
    yield from _varint()
    yield "if b & 1: raise ValueError"
    yield "b >>= 1"


def _array(inner: Any, into: str, depth: int, names: dict[str, Any]) -> Iterator[str]:
    """Yield the lines that read an array."""
    item = f"v{depth}"
    yield from _size()
    yield f"if b == 0: {into} = ()"
    unmade = names["unmade"]
    if unmade is not None and inner is unmade[0]:
        yield f"else: {into}, i = {_named(names, unmade[1])}(d, i, b)"
        return
    if is_dataclass(inner):
        # Most stacks have one step, most messages one part.
        yield "elif b == 1:"
        yield from _indented(_value(inner, item, depth + 1, names))
        yield "    if d[i]: raise ValueError"
        yield "    i += 1"
        yield f"    {into} = ({item},)"
    yield "else:"
    yield from _indented(_items(inner, into, depth, names))


def _items(inner: Any, into: str, depth: int, names: dict[str, Any]) -> Iterator[str]:
    many, at, item, left, same = (f"{letter}{depth}" for letter in "lavns")
    if inner is int:
        yield from _numbers(into, many, at, item, left)
        return
    remembers = is_dataclass(inner) and _numbers_only(inner)
    yield f"{left}, {many} = b, []"
    if remembers:
        yield f"{same} = NOTHING"
    yield f"while {left}:"
    yield f"    {left} -= 1"
    if remembers:
        # Flat series are common. Written as the item before it, an item is the same item: no need to make another.
        yield f"    if d.startswith({same}, i):"
        yield f"        {many}.append({item}); i += len({same})"
        yield "        continue"
        yield f"    {at} = i"
    yield from _indented(_value(inner, item, depth + 1, names))
    yield f"    {many}.append({item})"
    if remembers:
        yield f"    {same} = d[{at}:i]"
    yield "if d[i]: raise ValueError"
    yield "i += 1"
    yield f"{into} = tuple({many})"


def _numbers(into: str, many: str, at: str, item: str, left: str) -> Iterator[str]:
    """Yield the lines that read an array of whole numbers: most series are flat, or flat for a while."""
    yield f"{left}, {many} = b, []"
    yield f"while {left}:"
    yield f"    {left} -= 1"
    yield f"    {at} = i"
    yield from _indented(_value(int, item, 0, {}))
    yield f"    {many}.append({item})"
    yield f"    if {left} and d[i] == d[{at}]:"
    # A number's bytes say where it ends, so the same bytes again are the same number again.
    yield f"        {at} = d[{at}:i]"
    yield f"        if len({at}) * {left} < len(d) - i and d.startswith({at} * {left}, i):"
    yield f"            i += len({at}) * {left}"
    yield f"            {many} += [{item}] * {left}"
    yield "            break"
    yield f"        while {left} and d.startswith({at}, i):"
    yield f"            {left} -= 1"
    yield f"            i += len({at})"
    yield f"            {many}.append({item})"
    yield "if d[i]: raise ValueError"
    yield "i += 1"
    yield f"{into} = tuple({many})"


def _numbers_only(hint: Any) -> bool:
    """Tell whether a type has no texts and bytes in it, so that two of it are often alike, and quickly compared."""
    if get_origin(hint) is Annotated:
        return _numbers_only(get_args(hint)[0])
    if is_dataclass(hint):
        return all(_numbers_only(h) for h in get_type_hints(hint, include_extras=True).values())
    if get_args(hint):
        return all(_numbers_only(h) for h in get_args(hint) if h not in (type(None), Ellipsis))
    return hint not in (str, bytes)


def _map(inner: Any, into: str, depth: int, names: dict[str, Any]) -> Iterator[str]:
    many, key, item, n = f"m{depth}", f"k{depth}", f"v{depth}", f"n{depth}"
    yield f"{many} = {{}}"
    yield from _size()
    yield f"{n} = b"
    yield f"if {n}:"
    yield f"    for _ in range({n}):"
    yield from _indented(_value(str, key, depth + 1, names), 2)
    yield from _indented(_value(inner, item, depth + 1, names), 2)
    yield f"        {many}[{key}] = {item}"
    yield "    if d[i]: raise ValueError"
    yield "    i += 1"
    yield f"{into} = {many}"


def _indented(lines: Iterator[str], steps: int = 1) -> Iterator[str]:
    return (f"{'    ' * steps}{line}" for line in lines)


def _rest(d: bytes, i: int, b: int) -> tuple[int, int]:
    """Read what is left of a varint of five to ten bytes."""
    for shift in range(28, 70, 7):
        more = d[i]
        i += 1
        b |= (more & 127) << shift
        if more < 128:
            if more == 0 or b >> 64:
                raise ValueError
            return b, i
    raise ValueError


def _named(names: dict[str, Any], helper: Any) -> str:
    name = f"_{len(names)}"
    names[name] = helper
    return name
