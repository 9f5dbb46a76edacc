"""A fold's state as JSON-ready values and back: dataclasses, enums, containers and arrays, nothing else.

What is read makes only dataclasses and enum members of the named packages, so a file that somebody has tampered
with can be refused or be wrong, but never runs code of its own, as a pickle could. Lists carry a number first that
says what they are; the classes they name stand in a table of their own.
"""

import base64
import importlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from enum import Enum
from types import FunctionType
from typing import Any

import numpy as np

from flexbus.reader import fillable, shell_of

__all__ = ["PackingError", "pack", "unpack"]

PACKAGES = frozenset({"flexbus", "clearing", "streams"})
_PLAIN = frozenset({str, int, float, bool, type(None)})
_TUPLE, _LIST, _DICT, _SET, _FROZENSET, _COUNTER, _BYTES, _ARRAY, _NUMBERS = range(9)
_CONTAINERS: dict[type[Any], int] = {tuple: _TUPLE, list: _LIST, set: _SET, frozenset: _FROZENSET}
_FIRST_CLASS = 16
_WIDE = 16  # bytes of a packed number: ids are UUIDs


class PackingError(Exception):
    """A value cannot be packed, or packed values cannot be read."""


class _Packer:
    def __init__(self, packages: frozenset[str]) -> None:
        self._packages = packages
        self.classes: list[str] = []
        self._makers: dict[type[Any], Callable[[Any], Any]] = {}
        self._mutable: dict[int, Any] = {}

    def __call__(self, value: Any) -> Any:
        kind = type(value)
        if kind in _PLAIN:
            return value
        make = self._makers.get(kind)
        if make is None:
            make = self._makers[kind] = self._maker(kind)
        return make(value)

    def _once(self, value: Any) -> None:
        # Two names for one list would become two lists, and the fold would then come to something else.
        if id(value) in self._mutable:
            raise PackingError(f"a {type(value).__name__} is part of the state in two places")
        self._mutable[id(value)] = value  # kept alive: an id may be used again

    def _maker(self, kind: type[Any]) -> Callable[[Any], Any]:
        if kind in _CONTAINERS:
            return self._container(kind, _CONTAINERS[kind])
        if kind in (dict, Counter):
            return self._mapping(_COUNTER if kind is Counter else _DICT)
        if kind is bytes:
            return lambda value: [_BYTES, value.hex()]
        if kind is np.ndarray:
            return self._array
        if kind is FunctionType:
            return lambda value: [self._index(value)]
        if issubclass(kind, Enum):
            index = self._index(kind)
            return lambda value: [index, value.name]
        if is_dataclass(kind):
            return self._dataclass(kind)
        if issubclass(kind, tuple) and hasattr(kind, "_fields"):
            index = self._index(kind)
            return lambda value: [index, *[v if type(v) in _PLAIN else self(v) for v in value]]
        raise PackingError(f"a {kind.__module__}.{kind.__qualname__} cannot be packed")

    def _container(self, kind: type[Any], mark: int) -> Callable[[Any], Any]:
        changes = kind in (list, set)

        def make(value: Any) -> Any:
            if changes:
                self._once(value)
            if kind is set and value and all(type(v) is int and 0 <= v < 1 << 8 * _WIDE for v in value):
                return [_NUMBERS, b"".join([v.to_bytes(_WIDE, "big") for v in value]).hex()]
            return [mark, *[v if type(v) in _PLAIN else self(v) for v in value]]

        return make

    def _mapping(self, mark: int) -> Callable[[Any], Any]:
        def make(value: Any) -> Any:
            self._once(value)
            found: list[Any] = [mark]
            for key, item in value.items():
                found.append(key if type(key) in _PLAIN else self(key))
                found.append(item if type(item) in _PLAIN else self(item))
            return found

        return make

    def _array(self, value: Any) -> Any:
        self._once(value)
        if value.dtype.hasobject:
            raise PackingError("an array of objects cannot be packed")
        data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
        return [_ARRAY, value.dtype.str, list(value.shape), data]

    def _dataclass(self, kind: type[Any]) -> Callable[[Any], Any]:
        names = [f.name for f in fields(kind)]
        if not all(f.init for f in fields(kind)):
            raise PackingError(f"{kind.__qualname__} has fields that its constructor does not take")
        index = self._index(kind)
        changes = not kind.__dataclass_params__.frozen

        def make(value: Any) -> Any:
            if changes:
                self._once(value)
            found: list[Any] = [index]
            for name in names:
                item = getattr(value, name)
                found.append(item if type(item) in _PLAIN else self(item))
            return found

        return make

    def _index(self, kind: Any) -> int:
        name = f"{kind.__module__}:{kind.__qualname__}"
        if name.partition(".")[0].partition(":")[0] not in self._packages or "<" in name:
            raise PackingError(f"{name} is of none of the packages {', '.join(sorted(self._packages))}")
        if name not in self.classes:
            self.classes.append(name)
        return _FIRST_CLASS + self.classes.index(name)


def pack(value: Any, packages: Iterable[str] = PACKAGES) -> dict[str, Any]:
    """Return a value as JSON-ready values.

    Args:
        value: made of dataclasses, enums, containers, arrays, plain values and functions of modules.
        packages: top-level packages whose classes and functions it may hold.

    Raises:
        PackingError: it holds something else, or something that changes in two places.
    """
    packer = _Packer(frozenset(packages))
    packed = packer(value)
    return {"classes": packer.classes, "value": packed}


def unpack(packed: Any, packages: Iterable[str] = PACKAGES) -> Any:
    """Return the value that was packed.

    Raises:
        PackingError: not packed by `pack`, or by another version of a class.
    """
    try:
        found = [_found(name, frozenset(packages)) for name in packed["classes"]]
        return _unpacked(packed["value"], [*_READERS, *[None] * (_FIRST_CLASS - len(_READERS)), *found])
    except PackingError:
        raise
    except Exception as error:
        raise PackingError(f"{type(error).__name__}: {error}") from error


_Reader = Callable[[Any, Any], Any]


def _unpacked(value: Any, readers: Any) -> Any:
    return readers[value[0]](value, readers) if type(value) is list else value


def _items(value: Any, readers: Any) -> list[Any]:
    return [v if type(v) is not list else readers[v[0]](v, readers) for v in value[1:]]


def _dict(value: Any, readers: Any) -> dict[Any, Any]:
    items = _items(value, readers)
    return dict(zip(items[::2], items[1::2], strict=True))


def _numbers(value: Any, _: Any) -> set[int]:
    raw = bytes.fromhex(value[1])
    return {int.from_bytes(raw[n : n + _WIDE], "big") for n in range(0, len(raw), _WIDE)}


def _array(value: Any, _: Any) -> Any:
    return np.frombuffer(base64.b64decode(value[3]), dtype=np.dtype(value[1])).reshape(value[2]).copy()


_READERS: list[_Reader] = [
    lambda value, readers: tuple(_items(value, readers)),
    _items,
    _dict,
    lambda value, readers: set(_items(value, readers)),
    lambda value, readers: frozenset(_items(value, readers)),
    lambda value, readers: Counter(_dict(value, readers)),
    lambda value, _: bytes.fromhex(value[1]),
    _array,
    _numbers,
]


def _found(name: str, packages: frozenset[str]) -> _Reader:
    module, _, path = name.partition(":")
    if module.partition(".")[0] not in packages:
        raise PackingError(f"{name} is of none of the packages {', '.join(sorted(packages))}")
    kind: Any = importlib.import_module(module)
    for part in path.split("."):
        kind = getattr(kind, part)
    if getattr(kind, "__module__", "") != module:
        raise PackingError(f"{name} is defined elsewhere")
    if isinstance(kind, FunctionType):
        return lambda _value, _readers: kind
    if isinstance(kind, type) and issubclass(kind, Enum):
        return lambda value, _: kind[value[1]]
    if isinstance(kind, type) and is_dataclass(kind):
        return _constructor(kind)
    if isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return lambda value, readers: kind(*_items(value, readers))
    raise PackingError(f"{name} is neither a dataclass, nor an enum, nor a named tuple")


def _constructor(kind: Any) -> _Reader:
    """Compiled once: a state may hold millions of small records."""
    parts = [
        f"v[{n}] if type(v[{n}]) is not list else readers[v[{n}][0]](v[{n}], readers)"
        for n, _ in enumerate(fields(kind), start=1)
    ]
    names: dict[str, Any] = {"kind": kind, "size": len(fields(kind)) + 1, "wrong": _wrong}
    if fillable(kind):
        names["shell"] = shell_of(kind)
        lines = [f"x = shell({', '.join(parts)})", "x.__class__ = kind", "return x"]
    else:
        named = (f"{f.name}={part}" for f, part in zip(fields(kind), parts, strict=True))
        lines = [f"return kind({', '.join(named)})"]
    source = "\n    ".join(["def read(v, readers):", "if len(v) != size: wrong(kind)", *lines])
    exec(source, names)
    reader: _Reader = names["read"]
    return reader


def _wrong(kind: Any) -> None:
    raise PackingError(f"{kind.__qualname__} had other fields when this was written")
