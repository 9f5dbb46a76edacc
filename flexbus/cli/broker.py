"""`flexbus broker`: start, stop and look at the local Kafka."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from flexbus.errors import EnvironmentProblem
from streams import broker_security as security
from streams.broker import Broker

__all__ = ["command"]

ENVIRONMENT = 3
DEFAULT_DIR = Path(".flexbus/broker")

data_dir_option = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT_DIR,
    show_default=True,
    help="Everything of the broker: log segments, settings, logs, keys.",
)


@click.group()
def command() -> None:
    """Run a real Apache Kafka on this machine; FLEXBUS_BOOTSTRAP names another one instead."""


@command.command()
@data_dir_option
@click.option("--port", type=click.IntRange(1, 65535), help="Where clients connect.  [default: a free port]")
@click.option("--secure", is_flag=True, help="SCRAM over TLS and access control, with an own CA.")
@click.option(
    "--reauthenticate-s",
    type=click.FloatRange(1),
    default=security.REAUTHENTICATE_S,
    show_default=True,
    help="With --secure: how long an open connection outlives a password that was rotated or removed, at most.",
)
def start(data_dir: Path, port: int | None, secure: bool, reauthenticate_s: float) -> None:
    """Start the broker and print its address."""
    if not secure:
        click.echo(
            "PLAIN MODE: no passwords, no encryption; loopback only. Use --secure for access control.",
            err=True,
        )
    broker = Broker(data_dir, port=port, secure=secure, reauthenticate_s=reauthenticate_s)
    click.echo(broker.start())


@command.command()
@data_dir_option
def stop(data_dir: Path) -> None:
    """Stop the broker in good order; its data stay."""
    click.echo("stopped" if Broker(data_dir).stop() else "was not running", err=True)


@command.command()
@data_dir_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def status(data_dir: Path, as_json: bool) -> None:
    """Say where the broker runs; exit code 3 if it does not."""
    known = Broker(data_dir).status()
    if as_json:
        click.echo(json.dumps(asdict(known)))
    elif known.running:
        mode = "secure" if known.secure else "plain, loopback only"
        click.echo(f"running at {known.bootstrap} ({mode}), pid {known.pid}, data in {known.data_dir}")
    else:
        click.echo(f"not running; data in {known.data_dir}")
    if not known.running:
        sys.exit(ENVIRONMENT)


@command.command()
@data_dir_option
@click.option("-n", "--lines", type=click.IntRange(1), default=50, show_default=True, help="How many, from the end.")
def logs(data_dir: Path, lines: int) -> None:
    """Print the end of Kafka's own log."""
    log = Broker(data_dir).log
    if not log.exists():
        raise EnvironmentProblem(f"There is no log at {log}: no broker was started in {data_dir}.")
    for line in log.read_text(errors="replace").splitlines()[-lines:]:
        click.echo(line)


@command.command()
@click.argument("name")
@data_dir_option
@click.option("--rotate", is_flag=True, help="Give a new password; the old one opens no connection more.")
@click.option("--remove", is_flag=True, help="Make the broker refuse the principal.")
def user(name: str, data_dir: Path, rotate: bool, remove: bool) -> None:
    """Make principal NAME and its client properties file.

    Printed is the file, which FLEXBUS_KAFKA_PROPERTIES may name. NAME has no rights until `flexbus access apply` gives
    it some; --remove takes them away too.
    """
    if rotate and remove:
        raise click.UsageError("--rotate and --remove exclude each other.")
    broker = Broker(data_dir, secure=True)
    if remove:
        from streams.access import revoke
        from streams.kafka import Connection

        if name in security.RESERVED:
            raise click.BadParameter(f"{name!r} cannot be removed: the broker itself needs it")
        admin = Connection.of(broker.bootstrap, security.properties_file(broker.data_dir, security.ADMIN))
        known = security.remove_users(broker.data_dir, broker.bootstrap, [name])
        done = revoke(admin, [name])  # its rights would be those of the next who gets the name
        if not known and not done.removed:  # a slip in the name of one who leaves would keep the door open
            raise click.BadParameter(f"there is no principal {name!r}; nothing was removed")
        click.echo(f"removed {name}, {len(done.removed)} rights with it", err=True)
        return
    try:
        broker.add_users(name, rotate=rotate)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    click.echo(str(security.properties_file(broker.data_dir, name)))
