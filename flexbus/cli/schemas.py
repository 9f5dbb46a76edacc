"""`flexbus schemas`: the Avro schemas, their fingerprints, and writing the files from the event classes."""

import json

import click

from flexbus import avro, codec
from flexbus.catalogue import CATALOGUE
from flexbus.events import EventRejected, ReadLogged, ReceiptsIssued
from flexbus.journal import Block
from schemas import avro_dir

__all__ = ["command", "expected_files"]


def expected_files() -> dict[str, str]:
    """Return file name and text of the newest version of every schema, as the classes define them."""
    classes = [k.event for k in CATALOGUE.values()] + [Block, EventRejected, ReceiptsIssued, ReadLogged]
    words = {k.event: k.word for k in CATALOGUE.values()}
    own = {
        Block: "block",
        EventRejected: "event_rejected",
        ReceiptsIssued: "receipts_issued",
        ReadLogged: "read_logged",
    }
    return {
        f"{words.get(c) or own[c]}.v1.avsc": json.dumps(avro.schema_of(c), indent=2, ensure_ascii=False) + "\n"
        for c in classes
    }


@click.command()
@click.option("--write", is_flag=True, help="write the schema files from the event classes")
@click.option("--json", "as_json", is_flag=True, help="one JSON object per line")
def command(write: bool, as_json: bool) -> None:
    """List the Avro schemas with their fingerprints."""
    if write:
        for name, text in expected_files().items():
            (avro_dir() / name).write_text(text, encoding="utf-8")
        click.echo(f"wrote {len(expected_files())} schemas to {avro_dir()}", err=True)
        return
    for path in sorted(avro_dir().glob("*.avsc")):
        import fastavro

        print_ = codec.fingerprint(fastavro.parse_schema(json.loads(path.read_text(encoding="utf-8")))).hex()
        click.echo(json.dumps({"schema": path.name, "fingerprint": print_}) if as_json else f"{print_}  {path.name}")
