"""Options that several subcommands share."""

from pathlib import Path
from typing import Any, BinaryIO

import click

from flexbus.signing import private_key

__all__ = ["bootstrap_option", "clock_option", "json_option", "kafka_option", "read_signing_key", "signing_key_option"]

bootstrap_option = click.option(
    "--bootstrap", envvar="FLEXBUS_BOOTSTRAP", help="Kafka's host:port.  [default: FLEXBUS_BOOTSTRAP]"
)
kafka_option = click.option(
    "--kafka-properties",
    "properties",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="FLEXBUS_KAFKA_PROPERTIES",
    help="File with librdkafka's TLS and SASL settings, one name=value a line.",
)
clock_option = click.option(
    "--clock",
    type=click.Choice(["system", "played"]),
    default="system",
    show_default=True,
    help="What time it is in the market: the machine's, or that of a played day (flexbus.clock.v1).",
)
json_option = click.option("--json", "as_json", is_flag=True, help="JSON lines instead of a table.")
signing_key_option = click.option(
    "--signing-key", type=click.File("rb"), help="PEM file of the Ed25519 key that signs each event."
)


def read_signing_key(file: BinaryIO | None) -> Any:
    """Return the key of `--signing-key`, or None without one.

    Raises:
        click.BadParameter: the file holds no such key.
    """
    try:
        return None if file is None else private_key(file.read())
    except ValueError as error:
        raise click.BadParameter(f"{file.name if file else ''}: {error}") from error
