"""What a service's own pages and metrics tell of the market, noted on its log of reads before it is told."""

import logging
import threading
import time

from flexbus.errors import EnvironmentProblem
from flexbus.topics import RUNS_THE_BUS
from streams.kafka import Connection, Trouble
from streams.read_log import ReadLog

__all__ = ["ServiceReads"]

log = logging.getLogger(__name__)

_WITHIN_S = 2.0  # to find the log, and to write there: Prometheus waits 5 s, and shall have the rest if Kafka is away
_AGAIN_S = 3600.0  # what is asked for every few seconds, by Prometheus or by nobody known, is noted once in this time
_TOLD, _REFUSED = 200, 401


class ServiceReads:
    """Notes who is told of the market by one process.

    Who gives the token is who runs the bus, as nobody else has it; without a token nobody is known.

    Args:
        connection: the broker, as the service's principal.
        service: the service; it writes the log where the connection names no user.
    """

    def __init__(self, connection: Connection, service: str) -> None:
        self._connection, self._service = connection, service
        self._log: ReadLog | None = None
        self._lock = threading.Lock()
        self._noted: dict[tuple[str, int, int], float] = {}

    def told(self, what: str, area_id: str = "", token: str | None = None, *, every: bool = False) -> bool:
        """Note what is about to be told; return whether it may be.

        For a token it is when the broker has the note. Where none is asked for, everything is told anyway, so it is
        noted meanwhile.

        Args:
            what: path that was asked for.
            area_id: market area, if one was named.
            token: what was given, and right.
            every: note each such read for a token, not one an hour.
        """
        if token is None:
            self._meanwhile(what, area_id, _TOLD)
            return True
        key = (what, _TOLD, hash(token))
        if not every and self._is_noted(key):
            return True
        noted = self._note(what, area_id, RUNS_THE_BUS, _TOLD)
        if noted and not every:
            self._noted[key] = time.monotonic()
        return noted

    def refused(self, what: str) -> None:
        """Note that somebody without the right token was told nothing.

        Args:
            what: what was asked for, one of a few: whoever asks must not make the log grow by asking for ever more.
        """
        self._meanwhile(what, "", _REFUSED)

    def _is_noted(self, key: tuple[str, int, int]) -> bool:
        return time.monotonic() - self._noted.get(key, -_AGAIN_S) < _AGAIN_S

    def _meanwhile(self, what: str, area_id: str, status: int) -> None:
        key = (what, status, 0)
        with self._lock:
            if self._is_noted(key):
                return
            self._noted[key] = time.monotonic()

        def note() -> None:
            if not self._note(what, area_id, "", status):
                self._noted.pop(key, None)

        threading.Thread(target=note, name="note of a read", daemon=True).start()

    def _note(self, what: str, area_id: str, reader_id: str, status: int) -> bool:
        try:
            self._opened().note(what, area_id, reader_id=reader_id, status=status)
        except EnvironmentProblem as problem:
            log.warning("%s: %s", what, problem)
            self._log = None  # a client that was refused stays so; the next one sees what has been mended since
            return False
        return True

    def _opened(self) -> ReadLog:
        with self._lock:
            if self._log is None:
                trouble = Trouble()
                soon = {"linger.ms": 0, "delivery.timeout.ms": int(_WITHIN_S * 1000)}
                writer = (self._connection.producer(trouble, **soon), trouble)
                self._log = ReadLog(self._connection, "service", self._service, writer, _WITHIN_S)
            return self._log
