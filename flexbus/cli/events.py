"""`flexbus events`: the event catalogue as a table."""

import json

import click

from flexbus.catalogue import CATALOGUE

__all__ = ["command"]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="one JSON object per line")
def command(as_json: bool) -> None:
    """List every event: meaning, who may send it, who may see it, topic."""
    for kind in CATALOGUE.values():
        senders = sorted(s.value for s in kind.send)
        row = {
            "event": kind.type_name,
            "family": kind.family,
            "meaning": kind.meaning,
            "send": senders,
            "see": {r.value: s.value for r, s in kind.see.items()},
            "public": kind.public.value if kind.public else None,
            "topic": kind.out_topic,
            "key": "area_id",
        }
        if as_json:
            click.echo(json.dumps(row))
        else:
            click.echo(f"{kind.type_name:28} {', '.join(senders):40} {kind.meaning}")
