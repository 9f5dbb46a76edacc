"""`flexbus replay`: go through the journal again."""

import json
from pathlib import Path

import click

from flexbus.cli.options import bootstrap_option, json_option, kafka_option
from flexbus.topics import JOURNAL
from streams.journal_reader import read_blocks
from streams.kafka import Connection
from streams.read_log import ReadLog, resource
from streams.topics import journal_partitions

__all__ = ["command"]


@click.command()
@click.option("--verify", is_flag=True, help="Compare everything that follows with what was published.")
@click.option("--solve/--no-solve", default=True, show_default=True, help="Run clearings again too (--verify).")
@json_option
@bootstrap_option
@kafka_option
def command(verify: bool, solve: bool, as_json: bool, bootstrap: str | None, properties: Path | None) -> int:
    """Go through the journal from its first block; exit code 1 if something is not as it must be.

    Without --verify: the chains, and that every event was admissible where it stands. With it, every view is also
    folded from zero, every fact of a stage is derived again and compared byte for byte, every clearing is solved
    again, and the public topics are compared with what follows from the journal. The table counts
    facts of stages and scheduler (re-derived), clearings and forecasts (re-computed), and facts that are not in the
    journal yet (still due).
    """
    connection = Connection.of(bootstrap, properties)
    ReadLog(connection, "cli").note(resource(JOURNAL, verify="yes" if verify else None))
    if not verify:
        return _chains(connection, as_json)
    from streams.replay import verify as verify_all

    result = verify_all(connection, solve=solve)
    click.echo(json.dumps(result.as_json()) if as_json else result.text())
    return 0 if result.ok else 1


def _chains(connection: Connection, as_json: bool) -> int:
    from streams.refold import ChainProof

    chains: dict[str, ChainProof] = {}
    for partition in range(journal_partitions(connection)):
        for _, block in read_blocks(connection, partition):
            chains.setdefault(block.area_id, ChainProof(block.area_id)).take(block)
    for area_id, chain in sorted(chains.items()):
        if as_json:
            about = {"area_id": area_id, "blocks": chain.blocks, "entries": chain.entries, "head": chain.head}
            click.echo(json.dumps(about | {"findings": [str(f) for f in chain.findings]}))
        else:
            click.echo(f"{area_id:16} {chain.blocks:7} blocks {chain.entries:8} entries  head {chain.head}")
            for finding in chain.findings:
                click.echo(f"MISMATCH {finding}")
    return int(any(chain.findings for chain in chains.values()))
