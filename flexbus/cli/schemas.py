"""`flexbus schemas`: the Avro schemas, their fingerprints, and writing the files from the event classes."""

import json
import sys
from collections.abc import Mapping
from typing import Any

import click
import fastavro

from flexbus import avro, codec
from flexbus.catalogue import CATALOGUE
from flexbus.cli.options import json_option
from flexbus.events import EventRejected, ReadLogged, ReceiptsIssued
from flexbus.evolution import clashes, same_but_docs
from flexbus.journal import Block
from schemas import avro_dir, avro_schemas, fingerprints

__all__ = ["classes", "command", "expected_files", "next_files"]

_RESTORE = "restore the file from version control: what is listed is out, and stays"


def classes() -> dict[str, type[Any]]:
    """Return every class that is a schema by its word in file names."""
    own: dict[str, type[Any]] = {
        "block": Block,
        "event_rejected": EventRejected,
        "receipts_issued": ReceiptsIssued,
        "read_logged": ReadLogged,
    }
    return {k.word: k.event for k in CATALOGUE.values()} | own


def expected_files() -> tuple[dict[str, str], list[str]]:
    """Return `next_files` of this package: as the classes are, beside the files and the list that are stored."""
    schemas = {word: avro.schema_of(cls) for word, cls in classes().items()}
    return next_files(schemas, avro_schemas(), fingerprints())


def next_files(
    classes: Mapping[str, Any], stored: Mapping[tuple[str, int], Any], listed: Mapping[str, Mapping[int, str]]
) -> tuple[dict[str, str], list[str]]:
    """Return name and text of the file of each schema's newest version, and of the list of all versions.

    A listed version stays as it is, but for its docs. A schema that differs in more becomes the next version if that
    and all listed versions can read each other.

    Args:
        classes: schema by event word, as the classes are now.
        stored: schema by event word and version, as the files are.
        listed: fingerprint in hexadecimal by event word and version: what is out.

    Returns:
        Text by file name, and every fault: where, why, what to do. With a fault no file may be written.
    """
    files: dict[str, str] = {}
    faults: list[str] = []
    listing = {word: dict(versions) for word, versions in listed.items()}
    for word, version in sorted({(w, v) for w, vs in listed.items() for v in vs} | set(stored)):
        faults += _against_list(word, version, stored.get((word, version)), listed.get(word, {}).get(version))
    for word in sorted(set(listing) - set(classes)):
        faults.append(f"{word}: the event is listed, but has no class: put it back, its records are in journals")
    for word, schema in classes.items():
        versions = {v: stored[word, v] for v in sorted(listing.get(word, {})) if (word, v) in stored}
        newest = max(versions, default=0)
        if newest == 0 or not same_but_docs(schema, versions[newest]):
            faults += [f"{word}.v{newest + 1} {clash}" for clash in clashes(schema, versions)]
            print_ = _fingerprint(schema)
            faults += [_repeated(word, v, schema, versions) for v, k in listing.get(word, {}).items() if k == print_]
            newest += 1
            listing.setdefault(word, {})[newest] = print_
        files[f"{word}.v{newest}.avsc"] = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
    files["fingerprints.json"] = json.dumps(dict(sorted(listing.items())), indent=2) + "\n"
    return files, faults


def _against_list(word: str, version: int, schema: Any, known: str | None) -> list[str]:
    name = f"{word}.v{version}.avsc"
    if schema is None:
        return [f"{name}: listed in fingerprints.json, but the file is missing: {_RESTORE}"]
    if known is None:
        return [f"{name}: not listed in fingerprints.json: remove the file, `flexbus schemas --write` makes the next"]
    found = _fingerprint(schema)
    return [] if found == known else [f"{name}: its fingerprint is {found}, listed is {known}: {_RESTORE}"]


def _repeated(word: str, version: int, schema: Any, versions: Mapping[int, Any]) -> str:
    if version in versions and same_but_docs(schema, versions[version]):
        return f"{word}: the same as v{version}, which has successors: put back what the newest of them has"
    return (
        f"{word}: the same as v{version} but for a default, which fingerprints do not tell: leave the defaults of "
        "listed fields as they are, or add a new field"
    )


def _fingerprint(schema: Any) -> str:
    return codec.fingerprint(fastavro.parse_schema(schema)).hex()


@click.command()
@click.option("--write", is_flag=True, help="Write the schema files from the event classes.")
@json_option
def command(write: bool, as_json: bool) -> None:
    """List the Avro schemas with their fingerprints.

    With --write a changed event class becomes the next version of its schema, if that and all versions before it can
    read each other; otherwise nothing is written, and every reason is told.
    """
    if write:
        files, faults = expected_files()
        for fault in faults:
            click.echo(fault, err=True)
        if faults:
            click.echo(f"{len(faults)} faults: nothing is written", err=True)
            sys.exit(1)
        for name, text in files.items():
            (avro_dir() / name).write_text(text, encoding="utf-8")
        click.echo(f"wrote {len(files) - 1} schemas to {avro_dir()}", err=True)
        return
    for (word, version), schema in avro_schemas().items():
        name, print_ = f"{word}.v{version}.avsc", _fingerprint(schema)
        click.echo(json.dumps({"schema": name, "fingerprint": print_}) if as_json else f"{print_}  {name}")
