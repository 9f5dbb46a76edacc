"""What an input says by itself, with every fault that shows in it, whatever came before it."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from flexbus import codec
from flexbus.catalogue import CATALOGUE, SERVICES_BY_ID
from flexbus.errors import CodecError, EnvironmentProblem, Fault, FaultCode, FaultyInputError
from flexbus.ids import is_uuid
from flexbus.partition import partition_of
from flexbus.time import parse_instant
from flexbus.topics import party_of_inbox
from flexbus.validation.stacks import UNMADE

__all__ = ["LONGEST_ID", "MOST_KEPT", "Input", "InputReader", "Reading", "checked", "shown"]

log = logging.getLogger(__name__)

LONGEST_ID = 200  # characters
MOST_KEPT = 8_000_000  # bytes: a compressed record passes the broker's limit and may still be larger than this
_MOST_JSON = 65_536  # bytes of a record that is read as JSON to tell its faults
_HEADERS = frozenset(("ce_id", "ce_type", "ce_subject", "ce_time", "ce_onbehalfof", "ce_signature"))
_SIGNATURE_BYTES = 64  # Ed25519


@dataclass(frozen=True, slots=True)
class Input:
    """One inbox record as it came.

    Attributes:
        batch: 0 for a record; else this is a batch that no client should read, with so many records: `value` is all of
            it as Kafka stores it, `offset` that of its first record.
    """

    topic: str
    partition: int
    offset: int
    received_at_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    batch: int = 0

    @property
    def next_offset(self) -> int:
        """What comes after it in its partition."""
        return self.offset + max(1, self.batch)


@dataclass(slots=True)
class Reading:
    """One input on its way: what is known of it so far, and what is wrong; no area was looked at yet."""

    given: Input
    sender_id: str
    event_id: str | None = None
    on_behalf_of: str | None = None
    signature: bytes | None = None
    event_type: str | None = None
    subject: str | None = None
    fingerprint: bytes = b""
    event: Any = None
    area_id: str = ""
    placed: bool = False  # it is in the partition that knows its area
    faults: list[Fault] = field(default_factory=list)

    def fault(self, code: FaultCode, path: str, message: str) -> None:
        """Note something that is wrong."""
        self.faults.append(Fault(code=code, path=path, message=message))


class InputReader:
    """Reads the inputs of one journal partition.

    Args:
        partition: its number.
        partitions: how many the journal has.
        content: faults that an event shows by itself.
        registry: knows the schema ids of inputs in Confluent framing; None = there are none.
    """

    def __init__(
        self,
        partition: int,
        partitions: int,
        content: Callable[[Any], tuple[Fault, ...]],
        registry: codec.Registry | None,
    ) -> None:
        self._partition, self._partitions = partition, partitions
        self._content, self._registry = content, registry

    def read(self, given: Input) -> Reading:
        """Return what an input says."""
        reading = Reading(given, party_of_inbox(given.topic), area_id=_area_of_key(given.key))
        _read_headers(reading)
        self._read_value(reading)
        if reading.event is not None:
            reading.placed = self._check_place(reading)
            _check_headers(reading)
        return reading

    def _read_value(self, reading: Reading) -> None:
        value = reading.given.value
        if not value:
            reading.fault(FaultCode.NOT_DECODABLE, "$", "the record is empty")
            return
        if reading.given.batch:
            reading.fault(
                FaultCode.TOO_LARGE,
                "$",
                f"a batch of {reading.given.batch} records that becomes far too large, cannot be unpacked, or is as no "
                "client of Kafka makes it; it is kept as Kafka stored it. Send the events again in smaller batches, or "
                "let the SDK send them",
            )
            return
        most = codec.MAX_SERVICE_EVENT_BYTES if reading.sender_id in SERVICES_BY_ID else codec.MAX_EVENT_BYTES
        if len(value) > most:
            kept = f"; the first {MOST_KEPT} are kept, SHA-256 {sha256(value).hexdigest()}" * (len(value) > MOST_KEPT)
            reading.fault(
                FaultCode.TOO_LARGE, "$", f"{len(value)} bytes are more than the {most} an event may have{kept}"
            )
            return
        try:
            name, reading.fingerprint = codec.type_of(value, self._registry)
            if name not in CATALOGUE:
                reading.fault(FaultCode.UNKNOWN_EVENT, "$", f"{name} is written by the bus itself and cannot be sent")
                return
            if not codec.shipped(reading.fingerprint):
                # The journal must be read without the registry, which may forget or be gone.
                reading.fault(
                    FaultCode.UNKNOWN_SCHEMA,
                    "$",
                    f"the registry's schema of {name} is no version that the bus has; `flexbus schemas` lists those",
                )
                return
            reading.event = codec.decode_entry(value, reading.fingerprint, UNMADE)
        except CodecError as error:
            reading.faults.append(error.fault())
            if value[:1] == b"{" and len(value) <= _MOST_JSON:
                # No Avro begins like that: it was to be translated first.
                reading.faults += self._faults_of_json(value)
        except EnvironmentProblem as problem:
            # Whatever one sender writes, the others' events must not wait for the registry.
            text = f"its schema id is not known yet and cannot be asked for: send it again later. {problem}"
            reading.fault(FaultCode.UNKNOWN_SCHEMA, "$", text)

    def _faults_of_json(self, value: bytes) -> tuple[Fault, ...]:
        """Return what would be wrong with an event that came as JSON: its sender need not find out one by one."""
        try:
            event = codec.from_json(value)
        except FaultyInputError as error:
            return error.faults
        return checked(self._content, event)

    def _check_place(self, reading: Reading) -> bool:
        """Note what is wrong with area and partition; tell whether this partition knows the area."""
        area_id: str = reading.event.area_id
        if not area_id or len(area_id) > LONGEST_ID:
            reading.fault(FaultCode.BAD_VALUE, "$.area_id", f"an area id has 1 to {LONGEST_ID} characters")
            return False
        reading.area_id = area_id
        key = area_id.encode()
        if reading.given.key != key:
            reading.fault(
                FaultCode.BAD_HEADER,
                "$key",
                f"the record key is {shown(reading.given.key)!r}, not area_id {area_id!r}",
            )
        home = partition_of(key, self._partitions)
        if home != self._partition:
            reading.fault(
                FaultCode.BAD_HEADER,
                "$key",
                f"area {area_id!r} belongs in partition {home}, not {self._partition}: "
                "let the client choose it from the key, partitioner murmur2",
            )
        return home == self._partition


def checked(check: Callable[..., tuple[Fault, ...]], *arguments: Any) -> tuple[Fault, ...]:
    """Return what a check finds; one that breaks on an input costs that input only, never the market's queue."""
    try:
        return tuple(check(*arguments))
    except Exception as error:
        log.exception("a check broke on an input")
        message = f"could not be checked ({type(error).__name__}: {error}); tell the operator of the bus"
        return (Fault(code=FaultCode.BAD_VALUE, path="$", message=message),)


def _read_headers(reading: Reading) -> None:
    found: dict[str, str] = {}
    for name, raw in reading.given.headers:
        if name not in _HEADERS:
            continue
        if name in found:
            reading.fault(FaultCode.BAD_HEADER, f"$headers.{name}", "the header is given more than once")
            continue
        if name == "ce_signature":
            found[name] = ""
            if raw is None or len(raw) != _SIGNATURE_BYTES:
                reading.fault(FaultCode.BAD_HEADER, "$headers.ce_signature", "an Ed25519 signature has 64 bytes")
            else:
                reading.signature = raw
            continue
        try:
            found[name] = (raw or b"").decode()
        except UnicodeDecodeError:
            found[name] = ""
            reading.fault(FaultCode.BAD_HEADER, f"$headers.{name}", "the header is not UTF-8")
            continue
        if len(found[name]) > LONGEST_ID:
            reading.fault(
                FaultCode.BAD_HEADER, f"$headers.{name}", f"the header is longer than {LONGEST_ID} characters"
            )
            found[name] = found[name][:LONGEST_ID]  # a rejection repeats some, and is to fit into a record
    event_id = found.get("ce_id")
    if event_id is None:
        reading.fault(FaultCode.BAD_HEADER, "$headers.ce_id", "the event has no id: give it a UUID of its own")
    elif not is_uuid(event_id):
        reading.fault(FaultCode.BAD_HEADER, "$headers.ce_id", f"{event_id[:60]!r} is no UUID in lower-case form")
    else:
        reading.event_id = event_id
    reading.on_behalf_of = found.get("ce_onbehalfof") or None
    reading.event_type = found.get("ce_type") or None
    reading.subject = found.get("ce_subject")
    if found.get("ce_time"):
        try:
            parse_instant(found["ce_time"])
        except ValueError as error:
            reading.fault(FaultCode.BAD_HEADER, "$headers.ce_time", f"not RFC 3339: {str(error)[:100]}")


def _check_headers(reading: Reading) -> None:
    name = type(reading.event).__name__
    if reading.event_type not in (None, name):
        reading.fault(
            FaultCode.BAD_HEADER, "$headers.ce_type", f"the header says {reading.event_type!r}, the schema {name!r}"
        )
    reading.event_type = name
    if reading.subject not in (None, reading.event.area_id):
        reading.fault(FaultCode.BAD_HEADER, "$headers.ce_subject", "the header is not the event's area_id")


def _area_of_key(key: bytes | None) -> str:
    try:
        return (key or b"").decode()[:LONGEST_ID]
    except UnicodeDecodeError:
        return ""


def shown(value: bytes | None) -> str:
    """Return the beginning of a header or key as text for people."""
    return (value or b"").decode(errors="replace")[:LONGEST_ID]
