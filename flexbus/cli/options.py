"""Options that several subcommands share."""

from pathlib import Path

import click

__all__ = ["bootstrap_option", "json_option", "kafka_option"]

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
json_option = click.option("--json", "as_json", is_flag=True, help="JSON lines on stdout instead of a table.")
