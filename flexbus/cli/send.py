"""`flexbus send`: events as a party, one verdict line per event."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import click

from flexbus import codec
from flexbus.cli.options import bootstrap_option, kafka_option, read_signing_key, signing_key_option
from flexbus.cli.send_foreign import AS_WRITTEN, event_of, read_source
from flexbus.client import Client, Record, Sent
from flexbus.errors import Fault, FaultCode, FaultyInputError
from flexbus.events import Receipt, Verdict
from flexbus.views.harmonise import Source
from streams.kafka import Connection

__all__ = ["command"]

_CHUNK = 500
_LARGEST = 16_000_000 - 10_000


@dataclass(slots=True)
class _Line:
    """One line of the input on its way to its verdict."""

    number: int
    record: Record | None = None
    faults: tuple[Fault, ...] = ()
    sent: Sent | None = None
    receipt: Receipt | None = None
    event_id: str | None = field(default=None)

    def verdict(self) -> dict[str, Any]:
        receipt = self.receipt
        found: dict[str, Any] = {"line": self.number, "event_id": self.event_id}
        if receipt is None:
            return found | {"verdict": "NOT_SENT", "faults": _plain(self.faults)}
        found |= {"verdict": receipt.verdict.value, "block": receipt.block, "index": receipt.index}
        return found | {"faults": _plain(dict.fromkeys((*self.faults, *receipt.faults)))}  # both read JSON

    @property
    def refused(self) -> bool:
        return self.receipt is None or self.receipt.verdict is Verdict.REJECTED


@click.command()
@click.option("--as", "party", required=True, help="Party that sends; the connection's principal must be the same.")
@click.option("--on-behalf-of", help="Party acted for under a mandate.")
@click.option("--raw", is_flag=True, help="Send a line that is no event all the same, so that the bus rejects it.")
@click.option("--binary", is_flag=True, help="FILE is one record value as it stands, for example one Avro event.")
@click.option(
    "--source",
    "source_file",
    type=click.File("rb"),
    help="FILE has a planning system's own forecasts; this file tells its unit, sign and names.",
)
@click.option("--key", help="Record key with --binary: the area id.")
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="Header to add or replace; repeatable.")
@signing_key_option
@click.option(
    "--timeout",
    type=click.IntRange(1, 86_400),
    default=30,
    show_default=True,
    help="Seconds to wait for verdicts.",
)
@click.argument("file", type=click.File("rb"))
@bootstrap_option
@kafka_option
def command(
    party: str,
    on_behalf_of: str | None,
    raw: bool,
    binary: bool,
    source_file: BinaryIO | None,
    key: str | None,
    headers: tuple[str, ...],
    signing_key: BinaryIO | None,
    timeout: int,
    file: BinaryIO,
    bootstrap: str | None,
    properties: Path | None,
) -> int:
    """Send events, or with --source forecasts, one JSON object a line, and print one verdict a line.

    A line may carry `ce_id` (to repeat a send safely) and `ce_onbehalfof` beside the event's fields. Exit code 1
    if anything was rejected or not sent, 3 if Kafka or the sequencer does not answer.
    """
    if source_file is not None and (raw or binary):
        raise click.UsageError("--source makes events of what it reads; --raw and --binary send it as it is.")
    source = None if source_file is None else read_source(source_file)
    if nameless := [h for h in headers if not h.partition("=")[0] or "=" not in h]:
        raise click.UsageError(f"--header {nameless[0]!r}: write NAME=VALUE")
    given = dict(h.partition("=")[::2] for h in headers)
    connection = Connection.of(bootstrap, properties)
    refused = False
    options: dict[str, Any] = {"security": connection.security, "timeout_s": timeout, "interface": "cli"}
    options["signing_key"] = read_signing_key(signing_key)
    with Client(connection.bootstrap, party, **options) as client:
        lines = _binary(file, key, given) if binary else _read(client, file, on_behalf_of, raw, given, source)
        while chunk := list(islice(lines, _CHUNK)):
            for line in _send(client, chunk):
                click.echo(json.dumps(line.verdict()))
                refused = refused or line.refused
    return 1 if refused else 0


def _read(
    client: Client,
    file: BinaryIO,
    on_behalf_of: str | None,
    raw: bool,
    given: dict[str, str],
    source: Source | None = None,
) -> Iterator[_Line]:
    for number, text in enumerate(file, 1):
        if not text.strip():
            continue
        line = _Line(number)
        fields: Any = None
        try:
            fields = _json(text, **(AS_WRITTEN if source else {}))
            attributes = _attributes(fields)
            event = event_of(source, fields) if source else codec.from_json(_without_place(fields))
            made = client.record(
                event,
                event_id=attributes.get("ce_id"),
                on_behalf_of=attributes.get("ce_onbehalfof") or on_behalf_of,
            )
            line.record = Record(made.value, made.key, {**made.headers, **given})
        except FaultyInputError as error:
            line.faults = error.faults
            if raw:
                line.record = _as_it_is(text, fields, given)
        line.event_id = line.record.event_id if line.record else None
        yield _fitting(line)


def _binary(file: BinaryIO, key: str | None, given: dict[str, str]) -> Iterator[_Line]:
    line = _Line(1, Record(file.read(), (key or "").encode(), given), event_id=given.get("ce_id"))
    yield _fitting(line)


def _send(client: Client, lines: list[_Line]) -> Iterable[_Line]:
    going = [line for line in lines if line.record is not None]
    try:
        sent = client.post_records(line.record for line in going if line.record)
    except FaultyInputError:  # the broker refuses one for its size: find out which, the others still go
        for line in going:
            _send_alone(client, line)
        return lines
    for line, place in zip(going, sent, strict=True):
        line.sent = place
    for line, receipt in zip(going, client.verdicts(sent), strict=True):
        line.receipt = receipt
    return lines


def _send_alone(client: Client, line: _Line) -> None:
    assert line.record is not None
    try:
        # Those that went through already are known by their id and become duplicates.
        line.receipt = client.verdicts(client.post_records([line.record]))[0]
    except FaultyInputError as error:
        line.faults += error.faults


def _fitting(line: _Line) -> _Line:
    if line.record is not None and len(line.record.value) > _LARGEST:
        message = f"{len(line.record.value)} bytes; an event has at most {codec.MAX_EVENT_BYTES}"
        line.faults += (Fault(code=FaultCode.TOO_LARGE, path="$", message=message),)
        line.record = None
    return line


def _as_it_is(text: bytes, fields: Any, given: dict[str, str]) -> Record:
    area = fields.get("area_id") if _is_object(fields) else None
    headers = {"ce_specversion": "1.0", "ce_id": str(uuid4()), **given}
    return Record(text.rstrip(b"\r\n"), area.encode(errors="replace") if isinstance(area, str) else b"", headers)


def _json(text: bytes, **options: Any) -> Any:
    try:
        return json.loads(text, **options)
    except (ValueError, RecursionError) as error:
        fault = Fault(code=FaultCode.NOT_DECODABLE, path="$", message=f"not JSON: {error}")
        raise FaultyInputError((fault,)) from error


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _attributes(fields: Any) -> dict[str, str | None]:
    if not _is_object(fields):
        return {}
    found = {name: fields.pop(name, None) for name in ("ce_id", "ce_onbehalfof")}
    wrong = [name for name, value in found.items() if not isinstance(value, str | None)]
    if wrong:
        raise FaultyInputError(
            tuple(Fault(code=FaultCode.BAD_HEADER, path=f"$.{name}", message="expected text") for name in wrong)
        )
    return found


def _without_place(value: Any) -> Any:
    """Drop what `flexbus tail` adds, so that its lines can be sent again."""
    return {k: v for k, v in value.items() if k not in ("ce_time", "journal")} if _is_object(value) else value


def _plain(faults: Iterable[Fault]) -> list[dict[str, str]]:
    return [{"code": f.code.value, "path": f.path, "message": f.message} for f in faults]
