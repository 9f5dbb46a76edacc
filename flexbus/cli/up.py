"""`flexbus up`: all services under one supervisor."""

import logging
import sys
import threading
from pathlib import Path

import click

from flexbus.cli.access import parties_of, party_option
from flexbus.cli.options import bootstrap_option, clock_option

__all__ = ["command"]

DEFAULT_DIR = Path(".flexbus/up")


@click.command()
@bootstrap_option
@click.option(
    "--run-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT_DIR,
    show_default=True,
    help="Logs, checkpoints, and the broker's data if one is started.",
)
@clock_option
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes per stage.")
@party_option
@click.option("--secure", is_flag=True, help="The own Kafka with TLS, passwords and access control.")
@click.option("--page-port", type=click.IntRange(0, 65535), help="Port of the page.  [default: a free one]")
def command(
    bootstrap: str | None,
    run_dir: Path,
    clock: str,
    workers: int,
    parties: tuple[str, ...],
    secure: bool,
    page_port: int | None,
) -> int:
    """Run every service, restart what dies, and stop all of it on Ctrl-C.

    Without --bootstrap or FLEXBUS_BOOTSTRAP a local Kafka is started in the run directory and stopped at the end. With
    --secure it is one with access control: each service and each --party is a principal of its own, whose client
    properties are in RUN_DIR/broker/security/users, and whose token for the page in RUN_DIR/broker/security/readers.
    """
    from streams.access import Provisioned, provision
    from streams.broker import Broker
    from streams.kafka import Connection
    from streams.process import stop_on_signals
    from streams.services import STAGES
    from streams.supervisor import Supervisor
    from streams.topics import create_topics

    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    stop = threading.Event()
    stop_on_signals(stop)
    roles = parties_of(parties)
    if bootstrap and secure:
        raise click.UsageError(
            "--secure is for the Kafka that `flexbus up` starts itself; give your own its rights by `flexbus access "
            "apply`, and each service its password by `flexbus run SERVICE --kafka-properties`"
        )
    broker = None if bootstrap else Broker(run_dir / "broker", secure=secure)
    supervisor: Supervisor | None = None
    # Another `flexbus up` of this run directory may be what runs it: ours to stop only once the directory is ours.
    stops_broker = broker is not None and broker.status().bootstrap is None
    try:
        if broker is not None:
            mode = "SECURE MODE" if secure else "PLAIN MODE: no passwords, no encryption; loopback only"
            click.echo(f"starting Kafka; {mode}", err=True)
            bootstrap = broker.start()
        made: Provisioned | None = None
        if broker is not None and secure:
            made = provision(broker, roles)
            connection = made.admin
        else:
            connection = Connection.of(bootstrap)
            create_topics(connection, roles)
        supervisor = Supervisor(
            connection,
            run_dir,
            clock=clock,
            page_port=page_port,
            workers=dict.fromkeys(STAGES, workers),
            properties=made.properties if made else None,
            page_readers=made.readers if made else None,
            metrics_token=made.metrics_token if made else None,
        )
        supervisor.start()
        stops_broker = True
        click.echo(f"Kafka at {connection.bootstrap}; logs in {run_dir / 'logs'}", err=True)
        if not stop.is_set():
            supervisor.wait_ready()
            click.echo(f"all services are ready; the page: {supervisor.url('page')}", err=True)
        stop.wait()
    finally:
        if supervisor is not None:
            supervisor.stop()
        if broker is not None and stops_broker:
            broker.stop()
    click.echo("everything is stopped", err=True)
    return 0
