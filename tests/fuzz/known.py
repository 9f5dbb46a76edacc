"""Faults that are known, because they were put in: a refusal names all of them, each with its code and its path.

What a name means is written down here once more, so that a rule that is lost is missed.
"""

import io
import json
import random
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from functools import cache, partial
from typing import Any

from clearing.files import case_to_text, read_case
from flexbus import codec
from flexbus.cli.send import _read as lines_of
from flexbus.errors import Fault, FaultyInputError
from flexbus.topics import inbox
from flexbus.views.harmonise import Source
from tests import clearing_cases
from tests.fuzz.files import FORECAST
from tests.fuzz.folds import Readers, day
from tests.fuzz.sender import Sender

__all__ = ["DOORS"]

Known = tuple[str, str]  # code and path
_Break = tuple[Known, Callable[[], object]]  # a fault, and what puts it in
_MOST = 3  # faults put into one input

# End of a field's name -> a value that no field of that name takes, and the code it is refused with.
_NAMES: tuple[tuple[tuple[str, ...], Any, str], ...] = (
    (("_milli_per_mwh", "_milli_per_mvarh"), 10**12, "BAD_PRICE"),
    (("_w", "_var", "_va", "_wh", "_varh", "_ppm"), -(2**62) - 1, "BAD_QUANTITY"),
    (("_ma", "_voltage_v"), 0, "BAD_QUANTITY"),
    (("resolution_s",), 7, "BAD_PERIOD"),
    (("_s",), -1, "BAD_PERIOD"),
    (("_ms",), 10**15, "BAD_PERIOD"),
    (("revision",), 0, "BAD_VALUE"),
    (("_id", "_ids"), " ", "BAD_VALUE"),
)


def _leaves(inside: Any, path: str = "$", name: str = "") -> Iterator[tuple[str, str, Any, Any]]:
    """Yield path, name, container and key of every value of a JSON value that contains no others."""
    places = [(key, key) for key in inside] if isinstance(inside, dict) else [(n, name) for n in range(len(inside))]
    for key, called in places:
        at = f"{path}.{key}" if isinstance(inside, dict) else f"{path}[{key}]"
        if isinstance(inside[key], dict | list):
            yield from _leaves(inside[key], at, called)
        else:
            yield at, called, inside, key


def _put(inside: Any, key: Any, value: Any) -> Callable[[], object]:
    return partial(inside.__setitem__, key, value)


def _of_content(event: dict[str, Any]) -> Iterator[_Break]:
    """Yield what can be put into an event that is still one: identifiers, quantities, prices, instants, revisions."""
    for path, name, inside, key in _leaves(event):
        for ends, value, code in _NAMES:
            if name.endswith(ends) and type(inside[key]) is type(value) and path != "$.area_id":
                yield (code, path), _put(inside, key, value)
                break


def _of_form(value: dict[str, Any], *kept: str) -> Iterator[_Break]:
    """Yield what can be put into a JSON value that then fits its form no more: wrong types, missing and odd fields."""
    for path, name, inside, key in _leaves(value):
        if path in kept:
            continue
        if name == "start_ms":
            yield ("MISSING_FIELD", path), partial(inside.pop, key)
        else:
            yield ("WRONG_TYPE", path), _put(inside, key, [[]])
    yield ("UNKNOWN_FIELD", "$"), _put(value, "odd", 1)


def _several(breaks: Iterator[_Break], chance: random.Random, least: int = 2) -> set[Known]:
    """Put two or three faults in, and return them; fewer where there are no more to put in."""
    found = list(breaks)
    chosen = chance.sample(found, min(len(found), chance.randint(least, _MOST)))
    for _, put in chosen:
        put()
    return {known for known, _ in chosen}


def _missed(known: set[Known], faults: tuple[Fault, ...]) -> set[Known]:
    return known - {(f.code.value, f.path) for f in faults}


@cache
def _running() -> Readers:
    readers = Readers()
    readers.intake.take([readers._input(*record) for record in day()])
    return readers


def _sequencer(chance: random.Random, *, as_json: bool) -> tuple[set[Known], set[Known]]:
    sender, value, key = chance.choice(day())
    event = codec.to_json(codec.decode(value))
    known = _several(_of_content(event), chance, 1)
    bad = json.dumps(event).encode() if as_json else codec.encode(codec.from_json(event))
    given = _running()._input(sender, bad, key)
    around: list[_Break] = []
    headers = dict(given.headers)
    other: dict[str, Any] = {}
    around.append((("BAD_HEADER", "$headers.ce_time"), _put(headers, "ce_time", b"noon")))
    around.append((("BAD_HEADER", "$headers.ce_id"), _put(headers, "ce_id", b"one")))
    if as_json:
        known.add(("NOT_DECODABLE", "$"))
    else:
        around.append((("BAD_HEADER", "$headers.ce_type"), _put(headers, "ce_type", b"Odd")))
        around.append((("BAD_HEADER", "$key"), _put(other, "key", b"elsewhere")))
        if event["type"] != "AreaOpened":
            around.append((("UNKNOWN_PARTY", "$"), _put(other, "topic", inbox("nobody"))))
    if len(known) < 2 or chance.random() < 0.5:
        known |= _several(iter(around), chance, max(1, 2 - len(known)))
    (rejection,) = _running().intake.take([replace(given, headers=tuple(headers.items()), **other)]).rejections
    return known, _missed(known, rejection.faults)


def avro(chance: random.Random) -> tuple[set[Known], set[Known]]:
    """A record in an inbox: its values, its headers, its key and its sender."""
    return _sequencer(chance, as_json=False)


def json_record(chance: random.Random) -> tuple[set[Known], set[Known]]:
    """A record in an inbox that is JSON: refused for that, and for what would be wrong with it as Avro."""
    return _sequencer(chance, as_json=True)


def line(chance: random.Random) -> tuple[set[Known], set[Known]]:
    """A line of a file of `flexbus send`."""
    _, value, _ = chance.choice(day())
    event = codec.to_json(codec.decode(value))
    return _line(event, _several(_of_form(event, "$.type"), chance), None)


def foreign(chance: random.Random) -> tuple[set[Known], set[Known]]:
    """A line of a planning system's own forecast."""
    line = json.loads(FORECAST)
    breaks: list[_Break] = [
        (("BAD_QUANTITY", "$.values[0]"), _put(line["values"], 0, "much")),
        (("BAD_PERIOD", "$.times[1]"), _put(line["times"], 1, "noon")),
        (("UNKNOWN_ELEMENT", "$.element"), _put(line, "element", "nowhere")),
    ]
    source = Source(unit="kW", export_positive=False, elements={"Trafo 1": "T1"})
    return _line(line, _several(iter(breaks), chance), source)


def _line(value: Any, known: set[Known], source: Source | None) -> tuple[set[Known], set[Known]]:
    file = io.BytesIO(json.dumps(value).encode())
    (read,) = lines_of(Sender(), file, None, False, {}, source)  # type: ignore[arg-type]
    return known, _missed(known, tuple(read.faults))


def case(chance: random.Random) -> tuple[set[Known], set[Known]]:
    """A case file."""
    value = deepcopy(_case())
    known = _several(_of_form(value, "$.format"), chance)
    try:
        read_case(json.dumps(value))
    except FaultyInputError as error:
        return known, _missed(known, error.faults)
    return known, known


@cache
def _case() -> dict[str, Any]:
    value: dict[str, Any] = json.loads(case_to_text(clearing_cases.market_day(1, 4, 4, 3)))
    return value


# Each puts faults into an input, has it refused, and returns what it put in and what of that was not named.
DOORS: dict[str, Callable[[random.Random], tuple[set[Known], set[Known]]]] = {
    f.__name__: f for f in (avro, json_record, line, foreign, case)
}
