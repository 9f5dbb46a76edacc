"""`flexbus access`: who may do what, as a table, as Kafka ACLs, and on a broker."""

import json
from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path

import click

from flexbus.access import (
    PLAYER,
    SERVICE_PRINCIPALS,
    TABLE,
    TRADING,
    Grant,
    Verb,
    grants_of,
    grants_of_party,
    public_grants,
    service_grants,
)
from flexbus.catalogue import CATALOGUE, Service
from flexbus.cli.options import bootstrap_option, json_option, kafka_option
from flexbus.events import Role
from flexbus.time import iso, parse_ms
from flexbus.topics import READ_LOGS

__all__ = ["command", "markdown", "parties_of"]

_EXAMPLES: Mapping[str, tuple[Role, ...]] = {
    "fsp-a": (Role.FSP,),
    "auditor": (Role.AUDITOR,),
    "visitor": (Role.OBSERVER,),
}
_INTRODUCTION = """\
# Who may do what

Made by `flexbus access table --markdown`; do not edit. Everything here follows from the event catalogue
(`flexbus/catalogue.py`) by `flexbus/access.py`; Kafka's ACLs, the publisher's filters and the page's follow from the
same table.

- **send**: parties of this role may send the event. Which role a party has is an event of the market area
  (`ParticipantRegistered`), so this is judged by the sequencer: it refuses with `WRONG_ROLE`, and nobody else can write
  the journal. What Kafka proves is *who* sends: only the party's own principal can write its inbox.
  Kafka itself cannot judge that: it knows topics, neither kinds of event nor areas, and one party may be FSP in one
  area and BRP in another. Who may send nothing anywhere has no inbox that it could write.
- **see**: they see every such event of their area in full.
- **anon**: they see every such event with the identities of others removed. Still named are who asks by a flex
  request, the balance responsible parties of an aggregate on offer, and the TSO that activated one.
- **own**: they see in full what they sent and what names them; of lists, their own entries.
- empty: it does not reach them.

What a role is told comes on the topic of its party, `flexbus.out.party.<party>.v1`, which only that party may read.
What anyone may see comes on `flexbus.out.<event>.v1`, for every principal that has proven who it is. The page shows the
same to a reader who has proven who it is; see [the page](page.md).
"""
_RIGHTS = """\
## What the broker allows

On a broker with access control (`flexbus broker start --secure`, `flexbus up --secure`) everything is forbidden that no
line below allows. `*` as principal is any user with a password; `*` after a name means every name that begins so.
`flexbus access acls --party NAME` prints these lines, `flexbus access apply --party NAME` makes them so.
"""
_PARTIES = """\
### Participants

The name of the principal is the name of the party. By example: `fsp-a` trades, `auditor` audits, `visitor` is an
observer, who may send nothing and so has no inbox to write. A party may read its own inbox too: it holds what the party
sent itself, and with its receipts tells it what of that was refused. The SDK and the command line note on
`flexbus.reads.<party>.v1` what the party reads through them; it can write no other's. An auditor (`NAME=AUDITOR`) reads
all inboxes, the journal and what was refused, as only together they tell that nothing was left out, and everybody's
logs of reads. That is of all areas of the cluster, so who runs the bus, not the operator of one market, decides who
audits it.
"""
_SERVICES = """\
### Our own processes

Each is a principal of its own. A process that is broken into can do what is written here: only the sequencer can write
the journal, only the publisher can publish, a stage can only propose facts in its own name, and the page can change
nothing but the log of what it shows. `player` moves the clock of a played day; a real market has none.
Over HTTP each tells everybody of itself alone: rates, memory, health. What it knows of the market (figures by area or
kind of event, the pages of a stage) it tells for the token of who runs the bus, which Prometheus has too: the table
above shows none of it to anybody unproven. It notes that on `flexbus.reads.<service>.v1` first.
"""


def markdown() -> str:
    """Return the page docs/access.md."""
    lines = [_INTRODUCTION]
    roles = [r for r in Role if r not in (Role.FMO, Role.AUDITOR)]
    lines.append("FMO and AUDITOR see every event in full; what an FMO may send stands in its column.")
    lines.append("`services` are those of our own processes that send the event.\n")
    for family, kinds in groupby(CATALOGUE.values(), key=lambda k: k.family):
        lines.append(f"## {family}\n")
        lines.append("| event | FMO | " + " | ".join(r.value for r in roles) + " | services | public |")
        lines.append("|---" * (len(roles) + 4) + "|")
        for kind in kinds:
            own = ", ".join(_signs(TABLE[Role.FMO, kind.type_name] & {Verb.SEND}))
            cells = [", ".join(_signs(TABLE[r, kind.type_name])) for r in roles]
            public = "" if kind.public is None else ("in full" if kind.public.value == "FULL" else "anon")
            ours = ", ".join(sorted(s.value for s in kind.send if isinstance(s, Service)))
            lines.append(f"| {kind.type_name} | {own} | " + " | ".join(cells) + f" | {ours} | {public} |")
        lines.append("")
    lines.append(_RIGHTS)
    lines += _listed("### Anyone with a password\n", public_grants())
    lines.append(_PARTIES)
    lines += _listed("", [g for name, held in _EXAMPLES.items() for g in grants_of_party(name, held)])
    lines.append(_SERVICES)
    lines += _listed("", [g for name in (*SERVICE_PRINCIPALS, PLAYER) for g in service_grants(name)])
    return "\n".join(lines).rstrip("\n") + "\n"


def _signs(verbs: Iterable[Verb]) -> list[str]:
    return [verb.value for verb in Verb if verb in verbs]


def _listed(heading: str, grants: Iterable[Grant]) -> list[str]:
    return [*([heading] if heading else []), "```", *(str(g).rstrip() for g in grants), "```", ""]


def parties_of(named: Iterable[str]) -> dict[str, frozenset[Role]]:
    """Return roles by participant of options such as `fsp-a` or `dso=DSO,METER_OPERATOR`.

    Raises:
        BadParameter: a role that there is not, or a name of the bus's own.
    """
    found = {}
    for text in named:
        name, _, roles = text.partition("=")
        try:
            found[name] = frozenset(Role(r) for r in roles.split(",")) if roles else TRADING
            grants_of_party(name)
        except ValueError as error:
            raise click.BadParameter(f"{error}; roles are {', '.join(r.value for r in Role)}") from error
    return found


party_option = click.option(
    "--party",
    "parties",
    multiple=True,
    metavar="NAME[=ROLE,...]",
    help="Participant: one that sends, unless ROLE says otherwise (OBSERVER, AUDITOR, ...); repeatable.",
)


@click.group()
def command() -> None:
    """Who may do what: one table, and everything that follows from it."""


@command.command()
@click.option("--markdown", "as_markdown", is_flag=True, help="The page docs/access.md.")
@json_option
def table(as_markdown: bool, as_json: bool) -> None:
    """Print which role may send and see which event."""
    if as_markdown:
        click.echo(markdown(), nl=False)
        return
    for (role, name), verbs in TABLE.items():
        if as_json:
            click.echo(json.dumps({"role": role.value, "event": name, "may": _signs(verbs)}))
        elif verbs:
            click.echo(f"{name:28} {role.value:15} {', '.join(_signs(verbs))}")


@command.command()
@party_option
@json_option
def acls(parties: tuple[str, ...], as_json: bool) -> None:
    """Print Kafka's rights as the table says.

    Of anyone with a password, of our services and of the named participants.
    """
    for grant in grants_of(parties_of(parties)):
        if as_json:
            about = {"principal": f"User:{grant.principal}", "operation": grant.operation}
            pattern = "PREFIXED" if grant.prefixed else "LITERAL"
            about |= {"resource": grant.resource, "name": grant.name, "pattern": pattern, "permission": "ALLOW"}
            click.echo(json.dumps(about))
        else:
            click.echo(str(grant).rstrip())


@command.command()
@party_option
@click.option("--revoke", "gone", multiple=True, metavar="NAME", help="Participant that loses every right; repeatable.")
@bootstrap_option
@kafka_option
def apply(parties: tuple[str, ...], gone: tuple[str, ...], bootstrap: str | None, properties: Path | None) -> None:
    """Make Kafka's rights what the table says.

    For our services and the named participants; others keep theirs. A named participant that has no quotas yet gets
    those of everybody.
    """
    from streams.access import apply_grants
    from streams.kafka import Connection
    from streams.quotas import give_quotas

    connection, roles = Connection.of(bootstrap, properties), parties_of(parties)
    done = apply_grants(connection, grants_of(roles), gone)
    give_quotas(connection, roles)
    for word, grants in (("added", done.added), ("removed", done.removed)):
        for grant in grants:
            click.echo(f"{word:8} {grant}".rstrip(), err=True)
    click.echo(f"{len(done.added)} rights added, {len(done.removed)} removed", err=True)


@command.command()
@click.argument("name")
@click.option(
    "--readers", "folder", type=click.Path(file_okay=False, path_type=Path), required=True, help="Directory of tokens."
)
@click.option("--role", "roles", multiple=True, type=click.Choice([r.value for r in Role]), help="In every area.")
@click.option("--rotate", is_flag=True, help="A new token; the old one is refused from the next request on.")
@click.option("--remove", is_flag=True, help="End the token.")
def reader(name: str, folder: Path, roles: tuple[str, ...], rotate: bool, remove: bool) -> None:
    """Make the token with which NAME reads the page.

    Of a page that runs with --page-readers; printed is the token's file. Roles in a market area come from its journal;
    --role is for who audits every area of the cluster. --rotate without it keeps what was given.
    """
    from streams.page.readers import make_reader, remove_reader

    if remove:
        if not remove_reader(folder, name):  # a slip in the name of one who leaves would keep the page open
            raise click.BadParameter(f"there is no token of {name!r} in {folder}; nothing was removed")
    else:
        click.echo(str(make_reader(folder, name, [Role(r) for r in roles], rotate=rotate)))


@command.command()
@click.argument("name")
@click.option("--bytes-per-s", type=click.FloatRange(1), help="Most that it may write to the broker, by average.")
@click.option("--percent", type=click.FloatRange(1), help="Most of a thread of the broker that its requests may take.")
@bootstrap_option
@kafka_option
def quota(
    name: str, bytes_per_s: float | None, percent: float | None, bootstrap: str | None, properties: Path | None
) -> None:
    """Print the quotas of participant NAME, after changing what is given; who asks for more waits."""
    from streams.kafka import Connection
    from streams.quotas import BYTES, PERCENT, quotas_of, set_quotas

    connection = Connection.of(bootstrap, properties)
    given = {BYTES: bytes_per_s, PERCENT: percent}
    set_quotas(connection, [name], {what: value for what, value in given.items() if value is not None})
    click.echo(json.dumps(quotas_of(connection).get(name, {}), sort_keys=True))


@command.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def key(file: Path) -> None:
    """Make a signing key in FILE; print its public key.

    Only the owner of FILE can read it; the public key is as SigningKeyRegistered takes it. A FILE with a key is kept.
    """
    from flexbus.signing import public_key
    from streams.access import signing_key

    # Whoever asks again wants to see it, not to lose it.
    click.echo(public_key(signing_key(file)).hex())


@command.command()
@click.option("--reader", help="Only what this party read, or is said to have read.")
@click.option("--area", help="Only of this market area.")
@click.option("--from", "from_", metavar="INSTANT", help="Only what the broker received since (ISO 8601).")
@bootstrap_option
@kafka_option
def reads(
    reader: str | None, area: str | None, from_: str | None, bootstrap: str | None, properties: Path | None
) -> None:
    """Print who read what, as JSON lines.

    They are in the order in which the broker received them. `mark` is `forged` where a record names another reader than
    the only one who can write that log, `unreadable` where it is no record of a read, else null.
    """
    from flexbus import codec
    from streams.kafka import Connection
    from streams.read_log import ReadLog, read_logs, resource

    try:
        since_ms = 0 if from_ is None else parse_ms(from_)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--from") from error
    connection = Connection.of(bootstrap, properties)
    ReadLog(connection, "cli").note(resource(f"{READ_LOGS}*", reader=reader, from_=from_), area or "")
    for noted in read_logs(connection, since_ms):
        read = noted.read
        if reader not in (None, noted.writer, read and read.reader_id) or area not in (None, read and read.area_id):
            continue
        about = {"logged_at": iso(noted.logged_at_ms), "writer": noted.writer, "mark": noted.mark}
        click.echo(json.dumps(about | (codec.to_json(read) if read is not None else {})))
