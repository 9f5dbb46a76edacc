"""`flexbus run`: one service, in the foreground or under a supervisor."""

import logging
import os
import sys
import threading
from pathlib import Path
from typing import Any

import click

from flexbus.cli.options import bootstrap_option, clock_option, kafka_option
from streams.services import SERVICES

__all__ = ["command"]

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1", "[::1]"})


@click.command()
@click.argument("service", type=click.Choice(list(SERVICES)), metavar="SERVICE")
@bootstrap_option
@kafka_option
@click.option(
    "--run-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where its address is noted and its checkpoints lie.",
)
@clock_option
@click.option(
    "--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes that share the work."
)
@click.option(
    "--slot", type=click.IntRange(0), default=0, show_default=True, help="Number among the processes of this service."
)
@click.option("--listen", default="127.0.0.1:0", show_default=True, help="host:port of /metrics, /health and /view.")
@click.option(
    "--page-port",
    type=click.IntRange(0, 65535),
    help="Port of the page (service monitor).  [default: --listen's, or a free one]",
)
@click.option(
    "--anyone-may-read",
    is_flag=True,
    help="Plain mode beyond loopback: everything is shown to whoever reaches it; something else must guard it.",
)
@click.option(
    "--checkpoint-every",
    type=click.IntRange(1),
    default=50_000,
    show_default=True,
    help="Journal entries of a partition between two checkpoints in --run-dir.",
)
@click.option(
    "--page-readers",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Tokens of those who may read the page (flexbus access reader); without it, anyone who reaches it.",
)
@click.option(
    "--metrics-token",
    envvar="FLEXBUS_METRICS_TOKEN",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File of the token for what is of the market in /metrics, and for /view; without it, anyone who reaches them.",
)
@click.option("--supervised", is_flag=True, hidden=True)
def command(
    service: str,
    bootstrap: str | None,
    properties: Path | None,
    run_dir: Path | None,
    clock: str,
    workers: int,
    slot: int,
    listen: str,
    page_port: int | None,
    page_readers: Path | None,
    anyone_may_read: bool,
    metrics_token: Path | None,
    checkpoint_every: int,
    supervised: bool,
) -> int:
    """Run one service until Ctrl-C or SIGTERM.

    SERVICE is sequencer, a stage (congestion, aggregation, traffic_light, clearing, activation, settlement), scheduler,
    publisher or monitor.

    Several processes of one service share its partitions; give each its own --slot, or have --workers start them.
    A process that meets a broken journal or loses the broker ends with an error: run it under something that starts
    it again, as `flexbus up` does.
    """
    from streams.kafka import Connection

    connection = Connection.of(bootstrap, properties)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for talkative in ("faust", "streams.faust_app", "aiokafka", "mode", "aiohttp"):
        logging.getLogger(talkative).setLevel(logging.WARNING)
    if workers > 1:
        return _run_several(service, workers, connection, run_dir, clock, properties, metrics_token)

    from streams.context import Context
    from streams.monitor import Monitor
    from streams.process import die_with_parent, end_at_once, stop_on_end_of_input, stop_on_signals
    from streams.service_reads import ServiceReads
    from streams.services import run_service, step_back

    stop = threading.Event()
    stop_on_signals(stop)
    if supervised:
        die_with_parent()
        step_back(service)
        stop_on_end_of_input(stop)
    host, _, port = listen.rpartition(":")
    if service == "monitor" and page_readers is None and host not in _LOOPBACK and not anyone_may_read:
        raise click.UsageError(
            f"on {host} the page would show everything to anyone who reaches it: name its readers by --page-readers, "
            "stay on loopback, or say --anyone-may-read if something else guards it"
        )
    page_listens = service == "monitor" and page_port is None  # with a port of its own, metrics keep --listen's
    metrics_host = "127.0.0.1" if page_listens else host
    if metrics_token is None and metrics_host not in _LOOPBACK and not anyone_may_read:
        raise click.UsageError(
            f"on {metrics_host} /metrics and /view would tell what is of the market to anyone who reaches them: name a "
            "token by --metrics-token, stay on loopback, or say --anyone-may-read if something else guards them"
        )
    monitor = Monitor(service, run_dir, slot, metrics_token, ServiceReads(connection, service))
    address = monitor.serve(metrics_host, 0 if page_listens else int(port))
    logging.getLogger("flexbus").info("%s %d: http://127.0.0.1:%d/health", service, slot, address)
    context = Context(
        service=service,
        connection=connection,
        monitor=monitor,
        stop=stop,
        slot=slot,
        run_dir=run_dir,
        clock=clock,
        checkpoint_every=checkpoint_every,
    )
    try:
        run_service(context, host, page_port if page_port is not None else int(port), page_readers)
    except Exception as error:
        monitor.close()
        end_at_once(error)  # threads of a broken client must not hold the successor up
    monitor.close()
    return 0


def _run_several(
    service: str,
    workers: int,
    connection: Any,
    run_dir: Path | None,
    clock: str,
    properties: Path | None,
    metrics_token: Path | None,
) -> int:
    from streams.process import stop_on_signals
    from streams.supervisor import Supervisor

    stop = threading.Event()
    stop_on_signals(stop)
    supervisor = Supervisor(
        connection,
        run_dir or Path(".flexbus") / f"run-{service}-{os.getpid()}",
        clock=clock,
        services=(service,),
        workers={service: workers},
        properties={service: properties} if properties else None,
        metrics_token=metrics_token,
    )
    supervisor.start()
    try:
        stop.wait()
    finally:
        supervisor.stop()
    return 0
