"""`flexbus replay`: go through the journal again."""

import json
from pathlib import Path

import click

from flexbus.cli.options import bootstrap_option, json_option, kafka_option
from flexbus.journal import Block
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

    Without --verify only the chain is checked. With it, every view is folded twice from zero, every fact of a
    stage is derived again and compared byte for byte, every clearing is solved again, and the public topics are
    compared with what follows from the journal.
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
    from streams.refold import AreaProof, refold

    proofs: list[AreaProof] = []
    for partition in range(journal_partitions(connection)):
        chains: dict[str, list[Block]] = {}
        for _, block in read_blocks(connection, partition):
            chains.setdefault(block.area_id, []).append(block)
        proofs += [refold(area_id, blocks, {}) for area_id, blocks in chains.items()]
    for proof in sorted(proofs, key=lambda p: p.area_id):
        if as_json:
            about = {"area_id": proof.area_id, "blocks": proof.blocks, "entries": proof.entries, "head": proof.head}
            click.echo(json.dumps(about | {"findings": [str(f) for f in proof.findings]}))
        else:
            click.echo(f"{proof.area_id:16} {proof.blocks:7} blocks {proof.entries:8} entries  head {proof.head}")
            for finding in proof.findings:
                click.echo(f"MISMATCH {finding}")
    return int(any(p.findings for p in proofs))
