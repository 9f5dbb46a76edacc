"""`flexbus rejections`: what was refused and why; repair it and send it again."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import click

from flexbus import codec
from flexbus.cli.options import bootstrap_option, json_option, kafka_option, read_signing_key, signing_key_option
from flexbus.client import Client, Record
from flexbus.errors import CodecError, FaultCode
from flexbus.events import EventRejected, Verdict
from flexbus.signing import sign
from flexbus.time import iso
from streams.inputs import Input
from streams.kafka import Connection
from streams.read_log import ReadLog
from streams.registry import configured
from streams.rejections import REPLACES, Rejections, Successor, rejection_id_of

__all__ = ["again", "command"]


@click.group()
def command() -> None:
    """Look at rejected inputs; their original bytes are kept.

    Who may read the topic of rejections sees all of them; a party under access control sees its own.
    """


@command.command("list")
@click.option("--party", help="Only what this party sent.")
@click.option("--area", help="Only of this market area.")
@click.option(
    "--code", type=click.Choice([code.value for code in FaultCode]), help="Only with this fault code.", metavar="CODE"
)
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
    """List rejections, and what replaced each.

    The oldest of each partition comes first.
    """
    seen = _seen(Connection.of(bootstrap, properties))
    listed = [_about(found) for found in seen.each(party, area, code)]
    _tell_successors(seen, listed)
    if seen.lost:
        text = f"{seen.lost} more rejections are not listed: their inputs are no longer in the inbox; see the receipts"
        click.echo(text, err=True)
    for about in listed:
        if as_json:
            click.echo(json.dumps(about))
            continue
        codes = ", ".join(sorted({f["code"] for f in about["faults"]}))
        replaced = "".join(f"  -> {one['event_id'] or '?'}" for one in about["replaced_by"] or ())
        kind, sender = about["event_type"] or "?", about["sender_id"]
        click.echo(f"{about['rejection_id']}  {about['received_at']:24}  {sender:16} {kind:26} {codes}{replaced}")


@command.command()
@click.argument("rejection_id")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="File for the input's own bytes, as they were sent."
)
@bootstrap_option
@kafka_option
def show(rejection_id: str, out: Path | None, bootstrap: str | None, properties: Path | None) -> None:
    """Print one rejection in full.

    Every fault, the headers, what replaced it, and the event as far as it can be read.
    """
    seen = _seen(Connection.of(bootstrap, properties))
    found = _find(seen, rejection_id)
    about = _about(found) | {"headers": found.headers, "original_bytes": len(found.original)}
    _tell_successors(seen, [about])
    if out is not None:
        try:
            out.write_bytes(found.original)
        except OSError as error:
            raise click.BadParameter(f"{out}: {error.strerror}", param_hint="--out") from error
    click.echo(json.dumps(about | _original(found), indent=2))


@command.command()
@click.argument("rejection_id")
@click.option("--as", "party", help="Who sends it.  [default: who had sent it]")
@click.option("--with", "repaired", type=click.File("rb"), help="The repaired event as JSON.  [default: as it was]")
@signing_key_option
@bootstrap_option
@kafka_option
def resend(
    rejection_id: str,
    party: str | None,
    repaired: BinaryIO | None,
    signing_key: BinaryIO | None,
    bootstrap: str | None,
    properties: Path | None,
) -> int:
    """Send a rejected input again, repaired or as it was.

    It goes under a new id that names the rejection; printed is the verdict. As it was, it keeps its signature;
    repaired, it has the one that --signing-key makes, or none.
    """
    key = read_signing_key(signing_key)
    connection = Connection.of(bootstrap, properties)
    seen = _seen(connection)
    found = _find(seen, rejection_id)
    options: dict[str, Any] = {"security": connection.security, "interface": "cli", "signing_key": key}
    with Client(connection.bootstrap, party or found.sender_id, **options) as client:
        if repaired is not None:
            record = client.record(repaired.read(), on_behalf_of=found.on_behalf_of)
            record = Record(record.value, record.key, {**record.headers, REPLACES: found.rejection_id})
        else:
            record = again(found, seen.input(found), key)
        receipt = client.verdicts(client.post_records([record]))[0]
    faults = [{"code": f.code.value, "path": f.path, "message": f.message} for f in receipt.faults]
    verdict = {"event_id": receipt.event_id, "replaces": found.rejection_id, "verdict": receipt.verdict.value}
    click.echo(json.dumps(verdict | {"block": receipt.block, "index": receipt.index, "faults": faults}))
    return int(receipt.verdict is Verdict.REJECTED)


def again(found: EventRejected, given: Input | None, key: Any = None) -> Record:
    """Return a rejected input as it was, under a new id that names its rejection.

    Args:
        found: the rejection; it keeps headers as text, which a signature does not survive.
        given: the input as it is in the inbox; None if it cannot be read there.
        key: Ed25519 private key that signs it anew; None leaves the signature that it had.

    Raises:
        click.UsageError: its signature is lost and no key is given, or it is a batch that no client should read.
    """
    if given is not None and given.batch:
        raise click.UsageError(
            f"a batch of {given.batch} records was refused as a whole, and would be again: send its events by "
            "`flexbus send`, or one of them by --with"
        )
    headers: dict[str, str | bytes]
    if given is None:
        headers, value, place = dict(found.headers), found.original, found.area_id.encode()
        if key is None and "ce_signature" in headers:
            raise click.UsageError(
                f"the input is signed, and its signature cannot be read from {found.inbox_topic} partition "
                f"{found.inbox_partition} offset {found.inbox_offset}: sign it anew by --signing-key"
            )
    else:
        headers = {name: raw or b"" for name, raw in given.headers}
        value, place = given.value or b"", given.key or b""
    kept = {name: raw for name, raw in headers.items() if name.startswith("ce_")}
    if key is not None:
        kept["ce_signature"] = sign(key, value)
    return Record(value, place, {**kept, "ce_id": str(uuid4()), REPLACES: found.rejection_id})


def _seen(connection: Connection) -> Rejections:
    return Rejections(connection, ReadLog(connection, "cli").note)


def _find(seen: Rejections, rejection_id: str) -> EventRejected:
    found = seen.find(rejection_id)
    if found is None:
        raise click.UsageError(f"there is no rejection {rejection_id}; `flexbus rejections list` shows them")
    return found


def _tell_successors(seen: Rejections, listed: Iterable[dict[str, Any]]) -> None:
    """Add `replaced_by` to rejections: null where this principal may not read the inbox that would tell."""
    listed = list(listed)
    since_ms: dict[str, int] = {}
    for about in listed:
        topic, at_ms = about["inbox"]["topic"], about.pop("received_at_ms")
        since_ms[topic] = min(at_ms, since_ms.get(topic, at_ms))
    known = seen.successors(since_ms)
    for about in listed:
        topic = about["inbox"]["topic"]
        found = known.get(topic)
        about["replaced_by"] = None
        if found is not None:
            about["replaced_by"] = [_successor(seen, topic, one) for one in found.get(about["rejection_id"], ())]


def _successor(seen: Rejections, topic: str, one: Successor) -> dict[str, Any]:
    rejection_id = rejection_id_of(topic, one.partition, one.offset)
    return {
        "event_id": one.event_id,
        "inbox": {"topic": topic, "partition": one.partition, "offset": one.offset},
        "rejection_id": rejection_id if rejection_id in seen.refused else None,
    }


def _about(found: EventRejected) -> dict[str, Any]:
    return {
        "rejection_id": found.rejection_id,
        "received_at": iso(found.received_at_ms),
        "received_at_ms": found.received_at_ms,
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
