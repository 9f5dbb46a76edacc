"""Tells where a reader stands still although something waits for it there.

After a restart of Kafka a client was seen to get nothing for minutes while the log went on, without a word of an error.
Who reads for as long as it lives asks here now and then. A client of another library looks, beside the reader's work.
"""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from flexbus.errors import EnvironmentProblem
from streams.kafka import Connection
from streams.stored import Spot, Stored, bounds_of

__all__ = ["LOOK_EVERY_S", "Lookout"]

LOOK_EVERY_S = 20.0
PATIENCE = 5  # times so long, for who always has other work left
_CALLED_EVERY_S = 1.0  # at least; of a longer pause the reader was held up, and no more than this counts
_LOOK_S = 5.0  # at one place: of what was taken back there may be gigabytes


class Lookout:
    """Watches one reader.

    Args:
        connection: the broker.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stored = Stored(connection)
        self._stood: Mapping[Spot, int] = {}  # where the reader was a while ago
        self._waiting: dict[
            Spot, tuple[int, int]
        ] = {}  # where it stood when something was seen to wait; how often since
        self._idle: dict[Spot, tuple[int, int]] = {}  # from where to where nothing stands that is for a reader
        self._look: threading.Thread | None = None
        self._passed_s, self._called_at = 0.0, time.monotonic()

    def close(self) -> None:
        """Close the connection, unless it is in use: then it ends with the process."""
        if self._look is None or not self._look.is_alive():
            self._stored.close()

    def anew(self) -> None:
        """Let the reader begin anew: it is to be given what it was not."""
        self._stood, self._passed_s = {}, 0.0
        if self._look is None:
            self._waiting = {}

    def stalled(self, nexts: Callable[[], Mapping[Spot, int]], *, drained: bool) -> list[Spot]:
        """Return the partitions that the reader gets nothing of; most calls cost next to nothing.

        What was seen to wait must still wait a while later, and the reader have nothing else left to work on, or the
        while be long: who is busy comes to it later. Time in which the reader was held up does not count.

        Args:
            nexts: returns the next offset of each partition that is read.
            drained: whether the client had no more to give when it was last asked.
        """
        now = time.monotonic()
        self._passed_s += min(now - self._called_at, _CALLED_EVERY_S)
        self._called_at = now
        if self._look is not None:
            if not self._look.is_alive():
                self._look, self._passed_s = None, 0.0
            return []
        if self._passed_s < LOOK_EVERY_S:
            return []
        here = dict(nexts())
        waiting = {s: (at, times + 1) for s, (at, times) in self._waiting.items() if here.get(s) == at}
        found = [spot for spot, (_, times) in waiting.items() if drained or times >= PATIENCE]
        still = {spot: at for spot, at in self._stood.items() if here.get(spot) == at and spot not in waiting}
        self._waiting, self._stood, self._passed_s = {} if found else waiting, here, 0.0
        if still:
            self._look = threading.Thread(target=self._see, args=(still,), name="lookout", daemon=True)
            self._look.start()
        return found

    def check(self, nexts: Callable[[], Mapping[Spot, int]], *, drained: bool) -> None:
        """Have a process end whose reader gets nothing; arguments as for `stalled`.

        Raises:
            EnvironmentProblem: it gets nothing; a fresh process reads on.
        """
        if found := self.stalled(nexts, drained=drained):
            where = ", ".join(f"{topic} partition {partition}" for topic, partition in sorted(found))
            raise EnvironmentProblem(
                f"Kafka at {self._connection.bootstrap} has records in {where} of which this reader was given none for "
                f"{LOOK_EVERY_S:.0f} s; it ends, so that a fresh process reads on."
            )

    def _see(self, still: Mapping[Spot, int]) -> None:
        """Note those of some places at which something stands."""
        with suppress(EnvironmentProblem):  # the broker is away: nobody is given anything
            bounds = bounds_of(self._connection, still)
            for spot, at in still.items():
                if self._waits(spot, at, *bounds[spot]):
                    self._waiting[spot] = at, 0

    def _waits(self, spot: Spot, at: int, first: int, end: int) -> bool:
        seen_from, seen_to = self._idle.get(spot, (at, at))
        start = max(first, seen_to if seen_from == at else at)
        self._idle[spot] = at, start
        deadline = time.monotonic() + _LOOK_S
        for part in self._stored.parts(spot, start, end):
            if any(True for _ in part.inputs):
                return True
            self._idle[spot] = at, part.following
            if time.monotonic() > deadline:  # the next look goes on there
                break
        return False
