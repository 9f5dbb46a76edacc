"""The services by name: what each process of the bus runs. Only the module of the wanted service is loaded."""

import importlib
import logging
import os
import threading
from pathlib import Path

from flexbus.errors import EnvironmentProblem
from streams.context import Context
from streams.process import collect_seldom

__all__ = ["SERVICES", "run_service", "step_back"]

log = logging.getLogger(__name__)

STAGES = ("congestion", "aggregation", "traffic_light", "clearing", "activation", "settlement")
# In the order in which they are started: who sends after who receives.
SERVICES = ("sequencer", *STAGES, "scheduler", "publisher", "monitor")
# Somebody waits for every other service: for a gate, a limit, a market, an order. Where all of them share a machine
# that is full, as in the minute after a gate, these come after them: together they get a fifteenth of it then, in which
# they still move on, however long that lasts.
_NICE = {"congestion": 15, "aggregation": 15, "settlement": 15, "monitor": 15}


def step_back(service: str) -> None:
    """Lower this process's priority if nobody waits for its service."""
    if service in _NICE and hasattr(os, "nice"):
        os.nice(_NICE[service])


def run_service(context: Context, host: str = "127.0.0.1", page_port: int = 0, readers: Path | None = None) -> None:
    """Run the context's service until it is told to stop.

    Args:
        context: what the service is given.
        host: address the page listens on.
        page_port: port of the page; 0 = a free one.
        readers: directory of the tokens of the page's readers; None = plain mode.

    Raises:
        FlexbusError: what makes it end.
    """
    name = context.service
    collect_seldom()
    if name in STAGES:
        from streams.stage import run_stage

        run_stage(importlib.import_module(f"streams.{name}").STAGE, context)
    elif name == "sequencer":
        from streams import sequencer

        sequencer.run(context.connection, context.slot, context.stop, context.monitor, context.checkpoints())
    elif name == "publisher":
        from streams import publisher

        publisher.run(context.connection, context.slot, context.stop, context.monitor, context.checkpoints())
    elif name == "scheduler":
        from streams import scheduler

        scheduler.run(context)
    elif name == "monitor":
        _run_monitor(context, host, page_port, readers)
    else:
        raise EnvironmentProblem(f"{name!r} is no service; there are {', '.join(SERVICES)}")


def _run_monitor(context: Context, host: str, port: int, readers: Path | None) -> None:
    """The page for people and the market's figures for Prometheus: two readers of the journal in one process."""
    from streams import figures
    from streams.page.server import PageConfig, run

    failed: list[BaseException] = []

    def count() -> None:
        try:
            figures.run(context)
        except BaseException as error:  # the process ends with its page, and a fresh one begins anew
            failed.append(error)
            context.stop.set()

    def ready(url: str) -> None:
        if context.run_dir is not None:
            note = context.run_dir / "page.url"
            fresh = note.with_suffix(".new")
            fresh.write_text(url)
            fresh.replace(note)

    counting = threading.Thread(target=count, name="figures", daemon=True)
    counting.start()
    if readers is None:
        log.warning("PLAIN MODE: the page at %s asks nobody who they are, and shows everything", host)
    config = PageConfig(connection=context.connection, host=host, port=port, on_ready=ready, readers=readers)
    run(config, context.stop)
    context.stop.set()
    counting.join(5.0)
    if failed:
        raise failed[0]
