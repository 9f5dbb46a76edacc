"""What a service process is given: the broker, its number, its clock, how it is told to stop."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from streams.checkpoint import EVERY_ENTRIES, Checkpoints
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
        checkpoint_every: journal entries of a partition between two checkpoints.
    """

    service: str
    connection: Connection
    monitor: Monitor
    stop: threading.Event
    slot: int = 0
    run_dir: Path | None = None
    clock: str = "system"
    checkpoint_every: int = EVERY_ENTRIES

    def checkpoints(self, packages: Iterable[str] = ()) -> Checkpoints:
        """Return the checkpoints of the service; run alone, without a run directory, it keeps none.

        Args:
            packages: further top-level packages whose classes its state may hold.
        """
        folder = None if self.run_dir is None else self.run_dir / "checkpoints"
        return Checkpoints(folder, self.service, packages, self.checkpoint_every, self.slot)
