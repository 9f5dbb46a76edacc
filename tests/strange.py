"""Strange events: made from the field types alone, with so few names and instants that they meddle with each other."""

import types
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

AREA = "a"
START = 1_800_000_000_000
NAMES = st.sampled_from([AREA, "b"])
NUMBERS = st.integers(-2, 2) | st.sampled_from([-1_000_000, 20_000, 1_000_000])


def events(cls: Any) -> st.SearchStrategy[Any]:
    """Return events of a class of area `a`."""
    return _events(cls)


@cache
def _events(cls: Any) -> st.SearchStrategy[Any]:
    hints = get_type_hints(cls, include_extras=True)
    parts = {f.name: st.just(AREA) if f.name == "area_id" else _values(f.name, hints[f.name]) for f in fields(cls)}
    return st.builds(cls, **parts)


@cache
def _values(name: str, kind: Any) -> st.SearchStrategy[Any]:
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in (Union, types.UnionType):
        return st.none() | _values(name, next(a for a in get_args(kind) if a is not type(None)))
    if get_origin(kind) is tuple:
        return st.lists(_values(name, get_args(kind)[0]), max_size=3).map(tuple)
    if get_origin(kind) is dict:
        return st.dictionaries(NAMES, _values(name, get_args(kind)[1]))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return st.sampled_from(list(kind))
    if is_dataclass(kind):
        return events(kind)
    if kind is int:
        return _whole_numbers(name)
    if kind is bytes:
        return st.sampled_from([bytes(32), bytes(range(32)), b"", bytes(33)])
    return {bool: st.booleans(), str: NAMES, float: st.sampled_from([0.0, 1.0, -1.0])}[kind]


def _whole_numbers(name: str) -> st.SearchStrategy[int]:
    if name.endswith("_ms"):
        return st.integers(-1, 8).map(lambda n: START + n * 900_000)
    if name == "resolution_s":
        return st.sampled_from([300, 900, 3600])
    return st.integers(1, 3) if name.endswith("revision") else NUMBERS
