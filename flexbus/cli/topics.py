"""`flexbus topics`: what there is, and what is missing."""

import json
from pathlib import Path

import click

from flexbus.cli.options import bootstrap_option, json_option, kafka_option
from flexbus.topics import topics
from streams.kafka import Connection
from streams.topics import PARTITIONS, create_topics, existing_topics

__all__ = ["command"]


@click.command()
@click.option("--party", "parties", multiple=True, help="Participant that needs an inbox and a topic; repeatable.")
@click.option("--create", is_flag=True, help="Create what is missing.")
@click.option("--partitions", type=click.IntRange(1), help=f"Of a new cluster.  [default: {PARTITIONS}]")
@json_option
@bootstrap_option
@kafka_option
def command(
    parties: tuple[str, ...],
    create: bool,
    partitions: int | None,
    as_json: bool,
    bootstrap: str | None,
    properties: Path | None,
) -> int:
    """List the topics that the bus needs, and create what is missing; exit code 1 if some are."""
    connection = Connection.of(bootstrap, properties)
    if create:
        for name in create_topics(connection, parties, partitions):
            click.echo(f"created {name}", err=True)
    there = existing_topics(connection)
    wanted = {t.name: t.partitions for t in topics(parties, partitions or PARTITIONS)}
    names = sorted(wanted.keys() | {n for n in there if n.startswith("flexbus.")})
    for name in names:
        found = there.get(name)
        if as_json:
            click.echo(json.dumps({"topic": name, "partitions": found, "exists": found is not None}))
        else:
            click.echo(f"{name:60} {'missing' if found is None else f'{found} partitions'}")
    return int(any(name not in there for name in wanted))
