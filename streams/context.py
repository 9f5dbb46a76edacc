"""What a service process is given: the broker, its number, its clock, how it is told to stop."""

import threading
from dataclasses import dataclass
from pathlib import Path

from streams.kafka import Connection
from streams.monitor import Monitor

__all__ = ["Context"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Everything a service gets from outside, wired once per process.

    Attributes:
        service: name of the service.
        connection: the broker, as the service's principal.
        monitor: metrics and health of this process.
        stop: set when the process shall end in good order.
        slot: number of this worker among its siblings, from 0.
        run_dir: directory of the run; None when run alone.
        clock: `system` or `played`.
    """

    service: str
    connection: Connection
    monitor: Monitor
    stop: threading.Event
    slot: int = 0
    run_dir: Path | None = None
    clock: str = "system"
