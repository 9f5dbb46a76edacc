"""Dataclasses from the plain values that an Avro reader gives, by a function compiled once per class.

The hot path of every process: a journal of offers is mostly small nested records. Avro has checked names and
types already, so nothing is checked again here; what is no member of an enum raises.
"""

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from enum import Enum
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

__all__ = ["builder"]


def builder(cls: Any) -> Callable[[Any], Any]:
    """Return the function that makes an instance from a mapping of its fields.

    Args:
        cls: a dataclass of the types that `flexbus.avro` knows.
    """
    return _BUILDERS.get(cls) or _BUILDERS.setdefault(cls, _compiled(cls))


_BUILDERS: dict[Any, Callable[[Any], Any]] = {}


def _compiled(cls: Any) -> Callable[[Any], Any]:
    names: dict[str, Any] = {}
    exec(f"def build(x):\n    return {_call(cls, names)}", names)
    function: Callable[[Any], Any] = names["build"]
    return function


def _call(cls: Any, names: dict[str, Any]) -> str:
    """Return the source of a constructor call on the mapping `x`."""
    hints = get_type_hints(cls, include_extras=True)
    arguments = (f"{f.name}={_expression(hints[f.name], f'x[{f.name!r}]', names)}" for f in fields(cls))
    return f"{_named(names, cls)}({', '.join(arguments)})"


def _expression(hint: Any, value: str, names: dict[str, Any]) -> str:
    """Return Python source that makes a value of a type; helpers it needs are added to the names."""
    origin = get_origin(hint)
    if origin is Annotated:
        return _expression(get_args(hint)[0], value, names)
    if origin in (Union, UnionType):
        (inner,) = (a for a in get_args(hint) if a is not type(None))
        made = _expression(inner, value, names)
        return value if made == value else f"None if {value} is None else {made}"
    if origin is tuple:
        made = _expression(get_args(hint)[0], "x", names)
        return f"tuple({value})" if made == "x" else f"tuple([{made} for x in {value}])"
    if origin is dict:
        made = _expression(get_args(hint)[1], "x", names)
        return value if made == "x" else f"{{k: {made} for k, x in {value}.items()}}"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return f"{_named(names, {m.value: m for m in hint})}[{value}]"
    if is_dataclass(hint):
        if value == "x":  # the entries of a list are made in place: a call for each would double the cost
            return _call(hint, names)
        return f"{_named(names, builder(hint))}({value})"
    return value


def _named(names: dict[str, Any], helper: Any) -> str:
    name = f"_{len(names)}"
    names[name] = helper
    return name
