"""`flexbus rejections`: what was refused and why; repair it and send it again."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import click

from flexbus import codec
from flexbus.cli.options import bootstrap_option, json_option, kafka_option
from flexbus.client import Client, Record
from flexbus.errors import CodecError
from flexbus.events import EventRejected, Verdict
from flexbus.time import iso
from flexbus.topics import REJECTIONS
from streams.journal_reader import read_records
from streams.kafka import Connection
from streams.read_log import ReadLog, resource
from streams.registry import configured
from streams.topics import existing_topics

__all__ = ["command"]


@click.group()
def command() -> None:
    """Look at rejected inputs; their original bytes are kept."""


@command.command("list")
@click.option("--party", help="Only what this party sent.")
@click.option("--area", help="Only of this market area.")
@click.option("--code", help="Only with this fault code.")
@json_option
@bootstrap_option
@kafka_option
def list_(
    party: str | None,
    area: str | None,
    code: str | None,
    as_json: bool,
    bootstrap: str | None,
    properties: Path | None,
) -> None:
    """List rejections, the oldest of each partition first."""
    connection = Connection.of(bootstrap, properties)
    ReadLog(connection, "cli").note(resource(REJECTIONS, party=party, code=code), area or "")
    for found in _rejections(connection):
        codes = sorted({f.code.value for f in found.faults})
        if (party not in (None, found.sender_id)) or (area not in (None, found.area_id)):
            continue
        if code is not None and code not in codes:
            continue
        if as_json:
            click.echo(json.dumps(_about(found)))
        else:
            when, kind = iso(found.received_at_ms), found.event_type or "?"
            click.echo(f"{found.rejection_id}  {when:24}  {found.sender_id:16} {kind:26} {', '.join(codes)}")


@command.command()
@click.argument("rejection_id")
@bootstrap_option
@kafka_option
def show(rejection_id: str, bootstrap: str | None, properties: Path | None) -> None:
    """Print one rejection: every fault, the headers, and the event as far as it can be read."""
    found = _find(Connection.of(bootstrap, properties), rejection_id)
    about = _about(found) | {"headers": found.headers, "original_bytes": len(found.original)}
    click.echo(json.dumps(about | _original(found), indent=2))


@command.command()
@click.argument("rejection_id")
@click.option("--as", "party", help="Who sends it.  [default: who had sent it]")
@click.option("--with", "repaired", type=click.File("rb"), help="The repaired event as JSON.  [default: as it was]")
@bootstrap_option
@kafka_option
def resend(
    rejection_id: str, party: str | None, repaired: BinaryIO | None, bootstrap: str | None, properties: Path | None
) -> int:
    """Send a rejected input again, repaired, under a new id that names the old rejection; print the verdict."""
    connection = Connection.of(bootstrap, properties)
    found = _find(connection, rejection_id)
    options: dict[str, Any] = {"security": connection.security, "interface": "cli"}
    with Client(connection.bootstrap, party or found.sender_id, **options) as client:
        if repaired is not None:
            record = client.record(repaired.read(), on_behalf_of=found.on_behalf_of)
        else:
            kept = {k: v for k, v in found.headers.items() if k.startswith("ce_")}
            record = Record(found.original, found.area_id.encode(), {**kept, "ce_id": str(uuid4())})
        linked = Record(record.value, record.key, {**record.headers, "ce_replaces": found.rejection_id})
        receipt = client.verdicts(client.post_records([linked]))[0]
    faults = [{"code": f.code.value, "path": f.path, "message": f.message} for f in receipt.faults]
    verdict = {"event_id": receipt.event_id, "replaces": found.rejection_id, "verdict": receipt.verdict.value}
    click.echo(json.dumps(verdict | {"block": receipt.block, "index": receipt.index, "faults": faults}))
    return int(receipt.verdict is Verdict.REJECTED)


def _rejections(connection: Connection) -> Iterator[EventRejected]:
    for partition in range(existing_topics(connection).get(REJECTIONS, 0)):
        for _, value in read_records(connection, REJECTIONS, partition):
            yield codec.decode_as(value, EventRejected)


def _find(connection: Connection, rejection_id: str) -> EventRejected:
    ReadLog(connection, "cli").note(resource(REJECTIONS, id=rejection_id))
    for found in _rejections(connection):
        if found.rejection_id == rejection_id:
            return found
    raise click.UsageError(f"there is no rejection {rejection_id}; `flexbus rejections list` shows them")


def _about(found: EventRejected) -> dict[str, Any]:
    return {
        "rejection_id": found.rejection_id,
        "received_at": iso(found.received_at_ms),
        "sender_id": found.sender_id,
        "on_behalf_of": found.on_behalf_of,
        "area_id": found.area_id,
        "event_type": found.event_type,
        "event_id": found.event_id,
        "inbox": {"topic": found.inbox_topic, "partition": found.inbox_partition, "offset": found.inbox_offset},
        "faults": [{"code": f.code.value, "path": f.path, "message": f.message} for f in found.faults],
    }


def _original(found: EventRejected) -> dict[str, Any]:
    try:
        return {"event": codec.to_json(codec.decode(found.original, configured()))}
    except CodecError:
        text = found.original[:2000]
        return {"original_text": text.decode(errors="replace"), "original_hex": text.hex()}
