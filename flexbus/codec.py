"""The wire format: Avro single-object encoding, or Confluent framing when a registry is used; both are read.

Single object: C3 01, the CRC-64-AVRO fingerprint of the writer's schema (8 bytes, little-endian), the body.
Confluent: 00, the schema id in the registry (4 bytes, big-endian), the body. The first byte tells them apart.
The package ships every version of every schema, so single-object bytes need no server to be read.
JSON is in `flexbus.values`, and offered here too.
"""

import io
import struct
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar

import fastavro

from flexbus import avro
from flexbus.build import builder
from flexbus.catalogue import CATALOGUE
from flexbus.errors import CodecError, FaultCode
from flexbus.events import (
    EventRejected,
    GridStatePublished,
    NetForecastPublished,
    NodalPricesPublished,
    ReadLogged,
    ReceiptsIssued,
)
from flexbus.journal import Block
from flexbus.reader import GIVEN_UP, Unmade, reader
from flexbus.strict import Walker, walker
from flexbus.values import from_json, from_json_as, to_json, to_json_values, to_plain
from flexbus.writer import Shared, writer
from schemas import avro_schemas

__all__ = [
    "MAX_EVENT_BYTES",
    "MAX_SERVICE_EVENT_BYTES",
    "Registry",
    "Shared",
    "WriterSchema",
    "current",
    "decode",
    "decode_as",
    "decode_entry",
    "encode",
    "encode_trusted",
    "fingerprint",
    "fingerprint_of",
    "from_json",
    "from_json_as",
    "says_the_same",
    "shipped",
    "to_json",
    "to_json_values",
    "type_of",
    "writer_schema",
]

MAX_EVENT_BYTES = 1_000_000
# The bus's own facts speak for whole sessions (4,000 awards over 96 slots are 3 MB), and a block holds many events.
MAX_SERVICE_EVENT_BYTES = 6_000_000
MAX_RECORD_BYTES = 16_000_000
T = TypeVar("T")
_SINGLE_OBJECT = b"\xc3\x01"
_CONFLUENT = b"\x00"

# Records of the bus itself, beside the events of the catalogue.
_OWN: tuple[type[Any], ...] = (Block, EventRejected, ReceiptsIssued, ReadLogged)
# Long series of numbers that all differ: the library reads and writes them in less than half the time.
_SERIES = frozenset({GridStatePublished, NetForecastPublished, NodalPricesPublished})
# Written by nobody but us, and all the time.
_HOT = frozenset({Block, EventRejected, ReceiptsIssued})
_CLASSES: dict[str, type[Any]] = {
    **{k: v.event for k, v in CATALOGUE.items()},
    **{c.__name__: c for c in _OWN},
}


WriterSchema = tuple[str, bytes, Any]
"""Type name, fingerprint and parsed schema of what wrote a record."""


class Registry:
    """Ids of a Confluent-compatible schema registry, as plain maps; `streams.registry` asks a server."""

    def __init__(self, ids: Mapping[str, int], schemas: Mapping[int, Any]) -> None:
        self._ids = dict(ids)
        self._writers = {i: writer_schema(s) for i, s in schemas.items()}

    def id_of(self, name: str) -> int:
        """Return the id of a type's newest schema.

        Raises:
            CodecError: the type is not known here.
        """
        if name not in self._ids:
            raise CodecError(FaultCode.UNKNOWN_SCHEMA, f"{name} has no schema id in the registry")
        return self._ids[name]

    def writer(self, schema_id: int) -> WriterSchema:
        """Return the writer's schema of an id.

        Raises:
            CodecError: the id is not known here.
        """
        if schema_id not in self._writers:
            raise CodecError(FaultCode.UNKNOWN_SCHEMA, f"schema id {schema_id} is not in the registry")
        return self._writers[schema_id]


def writer_schema(raw: Any) -> WriterSchema:
    """Return a schema of elsewhere as what it writes: our own one where the fingerprint is that of a shipped one.

    Raises:
        CodecError: it is no Avro schema, or of no event.
    """
    try:
        schema = fastavro.parse_schema(raw)
        found, name = fingerprint(schema), schema["name"].rpartition(".")[2]
    except Exception as error:
        raise CodecError(FaultCode.UNKNOWN_SCHEMA, f"no Avro schema of an event: {str(error)[:200]}") from error
    if name not in _CLASSES:
        raise CodecError(FaultCode.UNKNOWN_EVENT, f"{name} is no event of the catalogue")
    return _known().get(found) or (name, found, schema)


def fingerprint(schema: Any) -> bytes:
    """Return the CRC-64-AVRO fingerprint of a parsed schema, 8 bytes little-endian as on the wire."""
    canonical = fastavro.schema.to_parsing_canonical_form(schema)
    hexadecimal = fastavro.schema.fingerprint(canonical, "CRC-64-AVRO")
    return bytes.fromhex(hexadecimal)


@cache
def _writer(name: str) -> tuple[Any, bytes]:
    schema = fastavro.parse_schema(avro.schema_of(_CLASSES[name]))
    return schema, _SINGLE_OBJECT + fingerprint(schema)


@cache
def _known() -> dict[bytes, WriterSchema]:
    """Return every shipped schema version by fingerprint."""
    found: dict[bytes, WriterSchema] = {}
    for name in _CLASSES:
        schema, head = _writer(name)
        found[head[2:]] = (name, head[2:], schema)
    for raw in avro_schemas().values():
        parsed = fastavro.parse_schema(raw)
        known = fingerprint(parsed)
        found.setdefault(known, (raw["name"], known, parsed))
    return found


def shipped(known: bytes) -> bool:
    """Tell whether this version of flexbus has the schema of a fingerprint."""
    return known in _known()


def fingerprint_of(cls: type[Any]) -> bytes:
    """Return the fingerprint of the newest schema of an event class."""
    return _writer(cls.__name__)[1][2:]


def encode(event: Any, registry: Registry | None = None) -> bytes:
    """Return an event, block or rejection as bytes.

    Args:
        event: the dataclass instance.
        registry: when given, Confluent framing with its ids is used.
    """
    cls = type(event)
    if cls in _HOT:
        return encode_trusted(event, registry)
    out = io.BytesIO()
    out.write(_head(cls, registry))
    fastavro.schemaless_writer(out, _writer(cls.__name__)[0], to_plain(event))
    return out.getvalue()


def encode_trusted(event: Any, registry: Registry | None = None, shared: Shared | None = None) -> bytes:
    """Return what our own code has made, or has read, as bytes: as `encode`, but its types are not looked at.

    Args:
        event: the event, or what somebody may see of it.
        registry: as in `encode`.
        shared: the same empty dict for all views of one event: lists that are the same in them are written once.
    """
    if type(event) in _SERIES:
        return encode(event, registry)
    parts = [_head(type(event), registry)]
    writer(type(event))(event, parts.append, {} if shared is None else shared)
    return b"".join(parts)


def _head(cls: type[Any], registry: Registry | None) -> bytes:
    if registry is None:
        return _writer(cls.__name__)[1]
    return _CONFLUENT + struct.pack(">I", registry.id_of(cls.__name__))


def current(event: Any, payload: bytes, known: bytes, registry: Registry | None = None) -> bytes:
    """Return an event in the newest schema: the sender's own body where that is so already.

    Args:
        event: the event.
        payload: the bytes it was read from.
        known: fingerprint of their schema.
        registry: as in `encode`.
    """
    if known != fingerprint_of(type(event)):
        return encode(event, registry)
    if registry is None and payload[:2] == _SINGLE_OBJECT:
        return payload
    return _head(type(event), registry) + payload[5 if payload[:1] == _CONFLUENT else 10 :]


def says_the_same(data: bytes, other: bytes, registry: Registry | None = None) -> bool:
    """Tell whether encoded bytes are others by the same schema, whatever the framing of each.

    Raises:
        CodecError: not an encoded event, or in Confluent framing and its id is not known.
    """
    if data == other:
        return True
    (_, one, _), start = _frame(data, registry)
    (_, two, _), begin = _frame(other, registry)
    return one == two and data[start:] == other[begin:]


def type_of(data: bytes, registry: Registry | None = None) -> tuple[str, bytes]:
    """Return type name and schema fingerprint of encoded bytes without decoding the body.

    Raises:
        CodecError: not an encoded event, or of an unknown schema.
    """
    (name, known, _), _ = _frame(data, registry)
    return name, known


def decode(data: bytes, registry: Registry | None = None) -> Any:
    """Return the event of encoded bytes.

    Raises:
        CodecError: not Avro, or Avro that others would not read alike; an unknown schema, a truncated or overlong body.
    """
    return _body(data, *_frame(data, registry))


def decode_entry(payload: bytes, known: bytes, unmade: Unmade | None = None) -> Any:
    """Return the event of a journal entry; it needs no registry, however its sender framed it.

    Args:
        payload: the sender's bytes.
        known: fingerprint of their schema, as the entry has it.
        unmade: a record whose arrays may be left as they are written; see `flexbus.reader`.

    Raises:
        CodecError: as for `decode`.
    """
    if payload[:1] != _CONFLUENT:
        return _body(payload, *_frame(payload, None), unmade)
    return _body(payload, _shipped(known), 5, unmade)


def _body(data: bytes, written: WriterSchema, offset: int, unmade: Unmade | None = None) -> Any:
    name, known, _ = written
    cls: Any = _CLASSES[name]
    # By fingerprint: two threads that both begin may each have parsed a schema of their own.
    if cls not in _SERIES and _writer(name)[1].endswith(known):
        # The short way for what our own writers make; everything else, faults above all, goes the long way.
        with suppress(*GIVEN_UP):
            value, end = reader(cls, unmade)(data, offset)
            if end == len(data):
                return value
    return _decoded(data, written, offset)


def _decoded(data: bytes, written: WriterSchema, offset: int) -> Any:
    name, known, writer = written
    body = io.BytesIO(data)
    body.seek(offset)
    newest, head = _writer(name)
    try:
        value = fastavro.schemaless_reader(body, writer, None if head.endswith(known) else newest)
        rest = len(data) - body.tell()
    except Exception as error:
        raise CodecError(
            FaultCode.NOT_DECODABLE, f"the body is not a {name}: {type(error).__name__}: {str(error)[:200]}"
        ) from error
    if rest:
        raise CodecError(FaultCode.NOT_DECODABLE, f"{rest} bytes follow the end of the {name}")
    try:
        _walker(known, writer)(data, offset)
    except Exception as error:
        raise CodecError(
            FaultCode.NOT_DECODABLE, f"the body is not a {name} that all read alike: {str(error)[:200]}"
        ) from error
    try:
        return builder(_CLASSES[name])(value)
    except Exception as error:
        raise CodecError(FaultCode.NOT_DECODABLE, f"the body is not a valid {name}: {error}") from error


def _walker(known: bytes, schema: Any) -> Walker:
    return _WALKERS.get(known) or _WALKERS.setdefault(known, walker(schema))


_WALKERS: dict[bytes, Walker] = {}  # by fingerprint


def decode_as(data: bytes, cls: type[T], registry: Registry | None = None) -> T:
    """Return encoded bytes as an instance of one expected class.

    Raises:
        CodecError: not decodable, or of another type.
    """
    value = decode(data, registry)
    if not isinstance(value, cls):
        raise CodecError(FaultCode.UNKNOWN_EVENT, f"expected {cls.__name__}, found {type(value).__name__}")
    return value


def _shipped(known: bytes) -> WriterSchema:
    found = _known().get(known)
    if found is None:
        raise CodecError(
            FaultCode.UNKNOWN_SCHEMA,
            f"no schema has the fingerprint {known.hex()}; list them with `flexbus schemas`",
        )
    return found


def _frame(data: bytes, registry: Registry | None) -> tuple[WriterSchema, int]:
    """Return what wrote encoded bytes, and where the body begins."""
    if len(data) > MAX_RECORD_BYTES:
        raise CodecError(FaultCode.TOO_LARGE, f"{len(data)} bytes are more than {MAX_RECORD_BYTES}")
    if data[:2] == _SINGLE_OBJECT and len(data) >= 10:
        return _shipped(data[2:10]), 10
    if data[:1] == _CONFLUENT and len(data) >= 5:
        schema_id = struct.unpack(">I", data[1:5])[0]
        if registry is None:
            raise CodecError(
                FaultCode.NOT_DECODABLE,
                f"in Confluent framing with schema id {schema_id}, but no schema registry is named here: set "
                "SCHEMA_REGISTRY_URL, or write Avro single objects",
            )
        return registry.writer(schema_id), 5
    raise CodecError(
        FaultCode.NOT_DECODABLE,
        f"not an Avro event: expected it to start with the bytes C3 01, found {data[:2].hex() or 'nothing'}",
    )
