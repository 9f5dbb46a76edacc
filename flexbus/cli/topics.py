"""`flexbus topics`: what there is, and what is missing."""

import json
from pathlib import Path

import click

from flexbus.access import grants_of
from flexbus.cli.access import parties_of, party_option
from flexbus.cli.options import bootstrap_option, json_option, kafka_option
from flexbus.topics import topics
from streams.access import NoAccessControlError, apply_grants
from streams.kafka import Connection
from streams.quotas import give_quotas
from streams.topics import PARTITIONS, create_topics, existing_topics

__all__ = ["command"]


@click.command()
@party_option
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
    """List the topics that the bus needs, and create what is missing; exit code 1 if some are.

    On a broker with access control --create also gives the named participants their rights and quotas, and the services
    their rights. There a principal is shown only the topics that it may use.
    """
    connection = Connection.of(bootstrap, properties)
    roles = parties_of(parties)
    if create:
        for name in create_topics(connection, roles, partitions):
            click.echo(f"created {name}", err=True)
        if connection.security:
            try:
                done = apply_grants(connection, grants_of(roles))
                give_quotas(connection, roles)
                click.echo(f"{len(done.added)} rights added, {len(done.removed)} removed", err=True)
            except NoAccessControlError as problem:
                click.echo(f"NO ACCESS CONTROL: {problem}", err=True)
    there = existing_topics(connection)
    wanted = {t.name: t.partitions for t in topics(roles, partitions or PARTITIONS)}
    unseen = "missing, or not shown to this principal" if connection.security else "missing"
    names = sorted(wanted.keys() | {n for n in there if n.startswith("flexbus.")})
    for name in names:
        found = there.get(name)
        if as_json:
            click.echo(json.dumps({"topic": name, "partitions": found, "exists": found is not None}))
        else:
            click.echo(f"{name:60} {unseen if found is None else f'partitions {found}'}")
    return int(any(name not in there for name in wanted))
