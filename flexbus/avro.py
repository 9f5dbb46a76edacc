"""From dataclasses to Avro schemas: the classes are the one source, the schema files follow from them.

A field is `Annotated[type, "documentation with unit"]`. int becomes long, float double, str string, Enum enum,
tuple array, `X | None` a union with null, a dataclass a record.
"""

import types
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

__all__ = ["NAMESPACE", "schema_of"]

NAMESPACE = "org.flexbus"

_PRIMITIVES: dict[type, str] = {int: "long", float: "double", str: "string", bool: "boolean", bytes: "bytes"}


def schema_of(cls: type[Any]) -> dict[str, Any]:
    """Return the Avro schema of a dataclass as parsed JSON.

    Raises:
        TypeError: a field has a type or a default that has no Avro counterpart here.
    """
    record: dict[str, Any] = _record(cls, set(), top=True)
    return record


def _record(cls: type[Any], known: set[str], *, top: bool = False) -> Any:
    if cls.__name__ in known:
        return f"{NAMESPACE}.{cls.__name__}"
    known.add(cls.__name__)
    hints = get_type_hints(cls, include_extras=True)
    rows: list[dict[str, Any]] = []
    for field in fields(cls):
        hint = hints[field.name]
        doc = ""
        if get_origin(hint) is Annotated:
            hint, doc = get_args(hint)[0], get_args(hint)[1]
        row: dict[str, Any] = {"name": field.name, "type": _type(hint, known), "doc": doc}
        if field.default is not MISSING:
            if isinstance(row["type"], list) and field.default is not None:
                # A default of a union is of its first branch (Avro specification, "Unions"), and ours begin with null.
                raise TypeError(f"{cls.__name__}.{field.name}: the default of an optional field is None")
            row["default"] = _default(field.default)
        rows.append(row)
    record: dict[str, Any] = {"type": "record", "name": cls.__name__}
    if top:
        record["namespace"] = NAMESPACE
    record["doc"] = " ".join((cls.__doc__ or "").split())
    record["fields"] = rows
    return record


def _type(hint: Any, known: set[str]) -> Any:
    if hint in _PRIMITIVES:
        return _PRIMITIVES[hint]
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        inner = [a for a in args if a is not type(None)]
        if len(inner) == 1:
            return ["null", _type(inner[0], known)]
    elif origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        return {"type": "array", "items": _type(args[0], known)}
    elif origin is dict and args[0] is str:
        return {"type": "map", "values": _type(args[1], known)}
    elif isinstance(hint, type) and issubclass(hint, Enum):
        if hint.__name__ in known:
            return f"{NAMESPACE}.{hint.__name__}"
        known.add(hint.__name__)
        doc = " ".join((hint.__doc__ or "").split())
        return {"type": "enum", "name": hint.__name__, "doc": doc, "symbols": [m.value for m in hint]}
    elif is_dataclass(hint) and isinstance(hint, type):
        return _record(hint, known)
    raise TypeError(f"no Avro type for {hint!r}")


def _default(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [_default(v) for v in value]
    return value
