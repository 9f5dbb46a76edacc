"""Bytes that not everybody reads alike are refused, wherever in an event they are; what is legal Avro is taken."""

import io
from dataclasses import replace
from functools import cache
from typing import Any

import fastavro
import pytest

from flexbus import codec
from flexbus.catalogue import CATALOGUE
from flexbus.errors import CodecError, FaultCode
from flexbus.events import GateClosed, ParticipantRegistered, Role
from flexbus.strict import walker
from flexbus.validation.stacks import UNMADE
from flexbus.values import to_plain
from tests import market
from tests.specimens import specimen

NAMES = sorted(CATALOGUE)
Piece = tuple[str, bytes]  # what it is, and how it is written


def number(value: int) -> bytes:
    """As the specification has it: zigzag, seven bits a byte, the lowest first."""
    left, found = (value << 1) ^ (value >> 63), []
    while left > 127:
        found.append(left & 127 | 128)
        left >>= 7
    return bytes([*found, left])


def pieces(schema: Any, value: Any, blocks: str = "whole") -> list[Piece]:
    """Write a value by the specification, piece by piece.

    Args:
        schema: as `avro.schema_of` makes it, parsed.
        value: plain values.
        blocks: of arrays and maps: "whole" as one, "sized" as one with its size, "single" one for each item, sized.
    """
    named: dict[str, Any] = {}

    def written(kind: Any, x: Any) -> list[Piece]:
        if isinstance(kind, str) and kind in named:
            kind = named[kind]
        if isinstance(kind, list):
            index = 0 if x is None else 1
            return [("index", number(index)), *written(kind[index], x)]
        if isinstance(kind, dict) and "name" in kind:
            named[kind["name"]] = kind
        match kind["type"] if isinstance(kind, dict) else kind:
            case "record":
                return [p for f in kind["fields"] for p in written(f["type"], x[f["name"]])]
            case "enum":
                return [("index", number(kind["symbols"].index(x)))]
            case "array":
                return blocked([written(kind["items"], item) for item in x])
            case "map":
                return blocked([written("string", k) + written(kind["values"], v) for k, v in x.items()])
            case "long":
                return [("number", number(x))]
            case "string" | "bytes":
                raw = x.encode() if isinstance(x, str) else x
                return [("number", number(len(raw))), ("raw", raw)]
            case "boolean":
                return [("boolean", bytes([x]))]
            case plain:
                out = io.BytesIO()
                fastavro.schemaless_writer(out, plain, x)
                return [("raw", out.getvalue())]

    def blocked(items: list[list[Piece]]) -> list[Piece]:
        found: list[Piece] = []
        for block in [[i] for i in items] if blocks == "single" else [items] if items else []:
            inside = [p for item in block for p in item]
            size = sum(len(raw) for _, raw in inside)
            head = [("number", number(len(block)))]
            if blocks != "whole":
                head = [("number", number(-len(block))), ("size", number(size))]
            found += head + inside
        return [*found, ("number", number(0))]

    return written(schema, value)


@cache
def event_of(name: str) -> Any:
    """An event with lists that are not empty, as far as its specimen has them."""
    return specimen(CATALOGUE[name], "north", "a", "b")


def parts_of(name: str, blocks: str = "whole") -> tuple[bytes, list[Piece]]:
    schema, head = codec._writer(name)
    return head, pieces(schema, to_plain(event_of(name)), blocks)


def refusals(head: bytes, parts: list[Piece], at: int, raw: bytes) -> list[FaultCode | None]:
    """What each way of reading makes of an event with other bytes in a place: the code, None if it takes them."""
    data = head + b"".join(raw if n == at else p for n, (_, p) in enumerate(parts))
    found: list[FaultCode | None] = []
    for read in (codec.decode, lambda d: codec.decode_entry(d, head[2:10], UNMADE)):
        try:
            read(data)
            found.append(None)
        except CodecError as error:
            found.append(error.code)
    return found


def more(raw: bytes, size: int, last: int = 0) -> bytes:
    """The same seven bits a byte, in so many bytes."""
    return raw[:-1] + bytes([raw[-1] | 128]) + b"\x80" * (size - len(raw) - 1) + bytes([last])


REFUSED = [FaultCode.NOT_DECODABLE] * 2


@pytest.mark.parametrize("name", NAMES)
def test_a_number_in_more_bytes_than_it_needs_is_refused_wherever_it_is(name: str) -> None:
    head, parts = parts_of(name)
    assert head + b"".join(raw for _, raw in parts) == codec.encode(event_of(name))
    for at, (kind, raw) in enumerate(parts):
        if kind in ("number", "index"):
            for size in (len(raw) + 1, 11, 41):
                assert refusals(head, parts, at, more(raw, size)) == REFUSED, (at, size)
            assert refusals(head, parts, at, more(raw, 10, 2)) == REFUSED, (at, "beyond 64 bits")


@pytest.mark.parametrize("name", NAMES)
def test_an_index_from_the_end_and_a_strange_truth_value_are_refused(name: str) -> None:
    """The library takes the last branch or symbol, and truth; others end, or take a lie."""
    head, parts = parts_of(name)
    for at, (kind, _) in enumerate(parts):
        if kind == "index":
            assert refusals(head, parts, at, number(-1)) == REFUSED
        if kind == "boolean":
            assert refusals(head, parts, at, b"\2") == REFUSED


@pytest.mark.parametrize("blocks", ["sized", "single"])
@pytest.mark.parametrize("name", NAMES)
def test_sized_blocks_are_taken_if_they_have_their_size(name: str, blocks: str) -> None:
    head, parts = parts_of(name, blocks)
    data = head + b"".join(raw for _, raw in parts)
    assert codec.decode(data) == event_of(name)
    assert to_plain(codec.decode_entry(data, head[2:], UNMADE)) == to_plain(event_of(name))
    for at, (kind, raw) in enumerate(parts):
        if kind == "size":
            assert raw != number(0)
            assert refusals(head, parts, at, number(0)) == REFUSED
        if kind in ("number", "size"):
            assert refusals(head, parts, at, more(raw, len(raw) + 1)) == REFUSED


@pytest.mark.parametrize("bits", range(63))
def test_a_number_of_any_length_is_read_in_that_length_alone(bits: int) -> None:
    closed = GateClosed(area_id="a", session_id="s", at_ms=2**bits)
    data = codec.encode(closed)
    raw = number(2**bits)
    assert data.endswith(raw)
    assert codec.decode(data) == closed
    for size in range(len(raw) + 1, 13):
        with pytest.raises(CodecError, match="more bytes than it needs"):
            codec.decode(data[: -len(raw)] + more(raw, size))


@pytest.mark.parametrize("count", [-(2**63), -(2**62), 2**63 - 1])
def test_a_block_of_more_items_than_bytes_is_refused_at_once(count: int) -> None:
    data = codec.encode(replace(event_of("ParticipantRegistered"), roles=(), eic=None, brp_id=None))
    assert refusals(data[:-3], [("number", b""), ("raw", b"\0" * 3)], 0, number(count)) == REFUSED
    with pytest.raises(ValueError, match="is said to have"):
        walker({"type": "array", "items": "long"})(number(count) + b"\2\2\0", 0)


def test_texts_may_end_as_they_like() -> None:
    """A last letter beyond ASCII before a 0 looks like a number of a byte too many."""
    closed = GateClosed(area_id="é", session_id="ÿ", at_ms=0)
    empty = ParticipantRegistered(area_id="north", participant_id="a", name="Café", roles=(), eic=None)
    offer = replace(market.submitted("o"), offer=replace(market.offer("o"), slots=()))
    for event in (closed, empty, replace(empty, roles=(Role.FSP,), name="\x80"), offer):
        data = codec.encode(event)
        assert codec.decode(data) == event == codec._decoded(data, *codec._frame(data, None))


SCHEMA = fastavro.parse_schema(
    {
        "type": "record",
        "name": "org.other.All",
        "fields": [
            {"name": "i", "type": "int"},
            {"name": "f", "type": "float"},
            {"name": "d", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {"name": "x", "type": {"type": "fixed", "name": "Four", "size": 4}},
            {"name": "y", "type": ["null", "Four", {"type": "array", "items": "long"}]},
            {"name": "m", "type": {"type": "map", "values": {"type": "map", "values": "double"}}},
            {"name": "n", "type": ["null", "All"]},
        ],
    }
)
LEAF: dict[str, Any] = {"i": -(2**31), "f": 1.5, "d": 2**63 - 1, "x": b"\x80\0\x80\0", "y": b"\x80\0\xff\0", "n": None}
INNER = LEAF | {"m": {"é": {"": 1 / 3, "ü": -2.0}, "ß": {}}}
WHOLE = LEAF | {"m": {}, "n": INNER, "y": [0, -1, 63, 64, -(2**63), 2**63 - 1] * 40}


def test_whatever_an_older_or_another_schema_has_is_walked_over() -> None:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, SCHEMA, WHOLE)
    data = out.getvalue()
    assert walker(SCHEMA)(b"**" + data, 2) == len(data) + 2


@pytest.mark.parametrize("raw", [number(2**31), number(-(2**31) - 1)])
def test_an_int_beyond_32_bits_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="byte 0: an int"):
        walker("int")(raw, 0)
