"""One event of every kind, made from its fields alone: for tests of who may do what, where content does not matter."""

import types
import typing
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any

from flexbus.catalogue import Kind
from tests import market

# Fields that must fit together for a view to take the event in at all.
_WHOLE = {"NetworkModelPublished": market.network()}


def specimen(kind: Kind, area_id: str, *named: str) -> Any:
    """Return an event of a kind.

    Args:
        kind: its row in the catalogue.
        area_id: market area.
        named: whom it names wherever it names parties; of lists the first item names the first, and so on.
    """
    event = _WHOLE.get(kind.type_name) or _value(kind.event, "", len(named))
    for path in kind.parties:
        event = _named(event, path.split("."), named)
    return replace(event, area_id=area_id)


def _named(value: Any, path: list[str], named: tuple[str, ...]) -> Any:
    name = path[0].removesuffix("[]")
    if path[0].endswith("[]"):
        items = getattr(value, name)
        return replace(value, **{name: tuple(_named(i, path[1:], (n,)) for i, n in zip(items, named, strict=True))})
    if len(path) == 1:
        return replace(value, **{name: named[0]})
    return replace(value, **{name: _named(getattr(value, name), path[1:], named)})


def _value(hint: Any, name: str, many: int) -> Any:
    if typing.get_origin(hint) is typing.Annotated:
        hint = typing.get_args(hint)[0]
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _value(next(i for i in inside if i is not type(None)), name, many)
    if origin is tuple:
        return tuple(_value(inside[0], name, many) for _ in range(many))
    if origin is dict:
        return {}
    if is_dataclass(hint) and isinstance(hint, type):
        hints = typing.get_type_hints(hint)
        return hint(**{f.name: _value(hints[f.name], f.name, many) for f in fields(hint)})
    if isinstance(hint, type) and issubclass(hint, Enum):
        return next(iter(hint))
    number = 900 if name == "resolution_s" else market.START if name.endswith("_ms") else 1
    plain: dict[Any, Any] = {str: name or "x", int: number, float: 1.0, bool: True}
    return b"\0" * 32 if hint is bytes else plain[hint]
