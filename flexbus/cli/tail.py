"""`flexbus tail`: published events as JSON lines, CSV or an Avro file."""

import json
import sys
from collections.abc import Iterator
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

import click

from flexbus import avro, codec
from flexbus.catalogue import CATALOGUE
from flexbus.cli.options import bootstrap_option, kafka_option
from flexbus.client import Client, Received
from flexbus.time import iso, parse_ms
from streams.kafka import Connection

__all__ = ["command"]


def _instant(_: click.Context, __: click.Parameter, text: str) -> str:
    if text not in ("start", "end"):
        try:
            if parse_ms(text) < 0:
                raise ValueError(f"{text!r} is before 1970")
        except ValueError as error:
            raise click.BadParameter(f"{error}; an instant is for example 2027-07-25T00:00:00+02:00") from error
    return text


def _kind(_: click.Context, __: click.Parameter, text: str) -> str:
    if text in CATALOGUE:
        return text
    meant = get_close_matches(text.lower(), {name.lower(): name for name in CATALOGUE}, 1)
    hint = "".join(f" (is it {name}?)" for name in CATALOGUE if name.lower() in meant)
    raise click.BadParameter(f"{text!r} is no event of the catalogue{hint}; list them with `flexbus events`")


@click.command()
@click.argument("kind", callback=_kind)
@click.option("--area", help="One market area.  [default: all]")
@click.option(
    "--from",
    "from_",
    default="start",
    show_default=True,
    callback=_instant,
    help="start, end, or an instant (ISO 8601).",
)
@click.option(
    "--until", default="end", show_default=True, callback=_instant, help="end (what is there now), or an instant."
)
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, instead of --until.")
@click.option("--as", "party", help="Read as this party.")
@click.option("--own", is_flag=True, help="What concerns the party (--as), with its identity kept.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["json", "csv", "avro"]),
    default="json",
    show_default=True,
    help="What is printed: JSON or CSV lines, or Avro records.",
)
@click.option("--rows", help="CSV: field whose entries become the rows, for example awards.")
@click.option("-n", "--lines", type=click.IntRange(1), help="Stop after so many events.")
@bootstrap_option
@kafka_option
def command(
    kind: str,
    area: str | None,
    from_: str,
    until: str,
    follow: bool,
    party: str | None,
    own: bool,
    form: str,
    rows: str | None,
    lines: int | None,
    bootstrap: str | None,
    properties: Path | None,
) -> None:
    """Print published events of one KIND (`flexbus events` lists them)."""
    connection = Connection.of(bootstrap, properties)
    with Client(connection.bootstrap, party, security=connection.security, interface="cli") as client:
        found = client.consume(kind, area=area, from_=from_, until=None if follow else until, own=True if own else None)
        _WRITERS[form](kind, islice(found, lines), rows)


def _write_json(_: str, found: Iterator[Received], __: str | None) -> None:
    for one in found:
        about = {
            "ce_id": one.event_id,
            "ce_time": iso(one.received_at_ms),
            "journal": {"block": one.block, "index": one.index},
        }
        click.echo(json.dumps(about | codec.to_json(one.event)))


def _write_csv(_: str, found: Iterator[Received], rows: str | None) -> None:
    from flexbus.frames import frame

    try:
        table = frame(found, rows)
    except ValueError as error:  # no such list of rows, or more than one to choose from
        raise click.UsageError(f"--rows: {error}") from error
    table.to_csv(sys.stdout, index=False)


def _write_avro(kind: str, found: Iterator[Received], _: str | None) -> None:
    import fastavro

    schema = fastavro.parse_schema(avro.schema_of(CATALOGUE[kind].event))
    fastavro.writer(sys.stdout.buffer, schema, (codec.to_json_values(one.event) for one in found), codec="deflate")


_WRITERS = {"json": _write_json, "csv": _write_csv, "avro": _write_avro}
