"""A digest of a fold's state, the same in every process: sets are sorted, nothing depends on identity."""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

__all__ = ["state_digest"]

_AT_ONCE = 50_000  # parts that wait in memory
_Put = Callable[[Any, "_Parts"], None]


def state_digest(state: Any) -> str:
    """Return SHA-256 over a state.

    Raises:
        TypeError: it holds something else than dataclasses, containers, arrays of numbers and plain values.
    """
    parts = _Parts()
    _put(state, parts)
    return parts.hexdigest()


class _Parts(list[str]):
    """Texts on their way into a hash."""

    def __init__(self) -> None:
        super().__init__()
        self._hash = hashlib.sha256()

    def flush(self) -> None:
        self.append("")  # a separator behind the last part too
        self._hash.update("\x1f".join(self).encode())
        self.clear()

    def hexdigest(self) -> str:
        self.flush()
        return self._hash.hexdigest()


def _put(value: Any, parts: _Parts) -> None:
    kind = type(value)
    (_PUTS.get(kind) or _PUTS.setdefault(kind, _putter(kind)))(value, parts)


def _plain(value: Any, parts: _Parts) -> None:
    parts.append(repr(value))


def _mapping(value: Any, parts: _Parts) -> None:
    parts.append(f"map {len(value)}")
    for key, item in value.items():  # in its order: it follows from the journal too
        _put(key, parts)
        _put(item, parts)
        if len(parts) > _AT_ONCE:
            parts.flush()


def _set(value: Any, parts: _Parts) -> None:
    parts.append(f"set {len(value)}")
    found = []
    for item in value:
        own = _Parts()
        _put(item, own)
        found.append("\x1e".join(own))
    parts.extend(sorted(found))


def _list(value: Any, parts: _Parts) -> None:
    parts.append(f"list {len(value)}")
    for item in value:
        kind = type(item)
        if kind in _PLAIN:
            parts.append(repr(item))
        else:
            (_PUTS.get(kind) or _PUTS.setdefault(kind, _putter(kind)))(item, parts)


def _member(value: Any, parts: _Parts) -> None:
    parts.append(f"{type(value).__name__}.{value.name}")


def _array(value: Any, parts: _Parts) -> None:
    parts.append(hashlib.sha256(value.tobytes()).hexdigest())


def _function(value: Any, parts: _Parts) -> None:
    parts.append(getattr(value, "__qualname__", type(value).__name__))


_PLAIN: frozenset[type[Any]] = frozenset({str, int, float, bool, type(None), bytes})
_PUTS: dict[type[Any], _Put] = {
    **dict.fromkeys(_PLAIN, _plain),
    **dict.fromkeys((dict, Counter), _mapping),
    **dict.fromkeys((set, frozenset), _set),
    **dict.fromkeys((tuple, list), _list),
}


def _putter(kind: Any) -> _Put:
    if is_dataclass(kind):
        return _record(kind)
    for base in (dict, set, frozenset, tuple, list):
        if issubclass(kind, base):
            return _PUTS[base]
    if issubclass(kind, Enum):
        return _member
    if hasattr(kind, "tobytes"):
        return _array
    if any("__call__" in base.__dict__ for base in kind.__mro__):
        return _function
    raise TypeError(f"no digest of {kind.__name__}: a view's state is made of dataclasses and containers")


def _record(kind: Any) -> _Put:
    """Compiled once: a state may hold millions of small records."""
    lines = [f"parts.append({kind.__name__!r})"]
    for field in fields(kind):
        lines += [
            f"x = value.{field.name}",
            "if type(x) in plain: parts.append(repr(x))",
            "else: put(x, parts)",
        ]
    names: dict[str, Any] = {"plain": _PLAIN, "put": _put}
    exec("def record(value, parts):\n    " + "\n    ".join(lines), names)
    found: _Put = names["record"]
    return found
