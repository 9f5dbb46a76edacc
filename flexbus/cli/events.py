"""`flexbus events`: the event catalogue as a table, as JSON lines, or as the documentation's pages."""

import json
from itertools import groupby
from typing import Any

import click

from flexbus import avro
from flexbus.catalogue import CATALOGUE, Kind
from flexbus.cli.options import json_option

__all__ = ["command", "markdown"]


def _row(kind: Kind) -> dict[str, Any]:
    return {
        "event": kind.type_name,
        "family": kind.family,
        "meaning": kind.meaning,
        "send": sorted(s.value for s in kind.send),
        "see": {r.value: s.value for r, s in kind.see.items()},
        "public": kind.public.value if kind.public else None,
        "topic": kind.out_topic,
        "key": "area_id",
    }


def _type(schema: Any) -> str:
    if isinstance(schema, list):
        return f"{_type(schema[1])} or null"
    if isinstance(schema, str):
        return schema.rpartition(".")[2]
    match schema["type"]:
        case "array":
            return f"list of {_type(schema['items'])}"
        case "map":
            return f"map of {_type(schema['values'])}"
        case "enum":
            return " \\| ".join(schema["symbols"])
        case _:
            return str(schema["name"])


def _records(schema: Any) -> list[Any]:
    """Return the nested records of a schema, outermost first."""
    if isinstance(schema, list):
        return [r for item in schema for r in _records(item)]
    if not isinstance(schema, dict):
        return []
    inner = [schema["items"]] if schema["type"] == "array" else []
    if schema["type"] == "record":
        inner = [f["type"] for f in schema["fields"]]
        return [schema, *(r for item in inner for r in _records(item))]
    return [r for item in inner for r in _records(item)]


def markdown() -> str:
    """Return the catalogue and every field as one Markdown page."""
    lines = [
        "# Events",
        "",
        "Made by `flexbus events --markdown`; do not edit. The key of every record is its market area.",
        "FMO and AUDITOR see every event in full. A party that an event names sees it with its own identity kept: the",
        "whole event, or its own entries where the event lists many parties, as a cleared market does.",
        "",
        " · ".join(f"[{family}](#{family})" for family in dict.fromkeys(k.family for k in CATALOGUE.values())),
        "",
    ]
    for family, rows in groupby(CATALOGUE.values(), key=lambda k: k.family):
        kinds = list(rows)
        lines += [f"## {family}", "", f"The story and the rules: [{family}.md]({family}.md).", ""]
        lines += ["| event | meaning | sent by | seen by | public topic |", "|---|---|---|---|---|"]
        for kind in kinds:
            row = _row(kind)
            seen = ", ".join(r + (" (no identities)" if s != "FULL" else "") for r, s in row["see"].items())
            public = (
                f"`{kind.out_topic}`" + (" (no identities)" if row["public"] != "FULL" else "") if kind.public else ""
            )
            lines.append(f"| {kind.type_name} | {kind.meaning} | {', '.join(row['send'])} | {seen} | {public} |")
        lines.append("")
        shown: set[str] = set()
        for kind in kinds:
            for record in _records(avro.schema_of(kind.event)):
                if record["name"] in shown:
                    continue
                shown.add(record["name"])
                lines += [f"### {record['name']}", "", record["doc"], "", "| field | type | meaning |", "|---|---|---|"]
                lines += [
                    f"| {f['name']} | {_type(f['type'])} | {f['doc'].replace('|', ' ')} |" for f in record["fields"]
                ]
                lines.append("")
    return "\n".join(lines)


def _table() -> str:
    """Return the catalogue for a terminal: one row per event, its meaning in a line below."""
    lines = [
        "* = without the identities of others. FMO and AUDITOR see every event in full; a party that an event names",
        "sees its own of it, on flexbus.out.party.<party>.v1. The key of every record is its market area (area_id).",
    ]
    head = ("event", "sent by", "seen by", "public topic")
    rows = [(head, "")]
    for kind in CATALOGUE.values():
        row = _row(kind)
        seen = [f"{role}{'' if sight == 'FULL' else '*'}" for role, sight in row["see"].items()]
        if row["public"]:
            seen.append("anyone" if row["public"] == "FULL" else "anyone*")
        rows.append((
            (row["event"], ", ".join(row["send"]), ", ".join(seen) or "-", row["topic"] or "-"), row["meaning"]
        ))  # fmt: skip
    widths = [max(len(cells[n]) for cells, _ in rows) for n in range(3)]
    for cells, meaning in rows:
        lines += ["", "  ".join([*(f"{c:{w}}" for c, w in zip(cells[:3], widths, strict=True)), cells[3]])]
        if meaning:
            lines.append(f"    {meaning}")
    return "\n".join(lines)


@click.command()
@json_option
@click.option("--markdown", "as_markdown", is_flag=True, help="The page docs/events/README.md.")
def command(as_json: bool, as_markdown: bool) -> None:
    """List every event: meaning, who may send it, who may see it, public topic, key."""
    if as_markdown:
        click.echo(markdown(), nl=False)
        return
    if as_json:
        for kind in CATALOGUE.values():
            click.echo(json.dumps(_row(kind)))
    else:
        click.echo(_table())
