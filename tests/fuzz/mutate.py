"""How inputs are meddled with beyond their bytes: as JSON, and Avro events as the JSON they stand for.

A changed byte of a number, a key or an event's encoding mostly makes nonsense that is refused at the door. A changed
value gets in.
"""

import json
import random
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from flexbus import codec
from flexbus.errors import FlexbusError

__all__ = ["meddled_avro", "meddled_json"]

_VALUES: tuple[Any, ...] = (
    0, 1, -1, 2**31, 2**53 + 1, -(2**63), 2**63, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"),
    "", " ", "0", "-5e2", "\0", "\ud800", "é" * 130, "x" * 1100, "2027-03-28T02:30:00+01:00",
    None, True, False, [], {}, [[]], {"": 0},
)  # fmt: skip
_NAMES = tuple(value for value in _VALUES if isinstance(value, str))
_MOST = 4  # changes to one input
_Place = tuple[Any, Any]  # a container and the key or index in it


def meddled_json(data: bytes, chance: random.Random) -> bytes:
    """Return JSON lines of which values were changed, taken out, doubled or exchanged; other bytes as they are."""
    lines = data.split(b"\n")
    number = chance.randrange(len(lines))
    try:
        value = json.loads(lines[number])
    except (ValueError, RecursionError):
        return data
    lines[number] = json.dumps(_meddled(value, chance)).encode()
    return b"\n".join(lines)


def meddled_avro(data: bytes, chance: random.Random) -> bytes:
    """Return an event as Avro of which values were changed; other bytes as they are."""
    try:
        event = codec.decode(data)
        value = codec.to_json(event)
        return codec.encode(codec.from_json(_meddled(value, chance)))
    except (FlexbusError, UnicodeEncodeError):
        return data


def _meddled(value: Any, chance: random.Random) -> Any:
    whole = [value]
    for _ in range(chance.randint(1, _MOST)):
        places = list(_places(whole))
        inside, key = chance.choice(places)
        match chance.randrange(7):
            case 0:
                inside[key] = deepcopy(chance.choice(_VALUES))
            case 1 | 2:
                inside[key] = _near(inside[key], chance)
            case 3 if inside is not whole:
                del inside[key]
            case 4 if isinstance(inside, list) and inside is not whole:
                inside.insert(key, deepcopy(inside[key]))
            case 5 if isinstance(inside, dict):
                inside[chance.choice(_NAMES)] = inside.pop(key)
            case _:
                other, there = chance.choice(places)
                inside[key] = deepcopy(other[there])
    return whole[0]


def _near(value: Any, chance: random.Random) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value[:-1] if isinstance(value, str | list) else deepcopy(chance.choice(_VALUES))
    return chance.choice((value + 1, value - 1, -value, value * 2, value * 1000, value // 2, str(value)))


def _places(inside: Any) -> Iterator[_Place]:
    keys = list(inside) if isinstance(inside, dict) else range(len(inside))
    for key in keys:
        yield inside, key
        if isinstance(inside[key], dict | list):
            yield from _places(inside[key])
