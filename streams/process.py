"""Child processes that never outlive their parent, and signals that end things in good order."""

import ctypes
import gc
import logging
import os
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import psutil

from flexbus.errors import EnvironmentProblem, FlexbusError

__all__ = [
    "BROKEN",
    "ENVIRONMENT",
    "Headroom",
    "collect_seldom",
    "die_with_parent",
    "end_at_once",
    "no_collection",
    "noted_process",
    "stop_on_end_of_input",
    "stop_on_signals",
]

BROKEN, ENVIRONMENT = 1, 3  # exit codes of design 9
_PR_SET_PDEATHSIG = 1
_CLOCK_STEP_S = 3.0
log = logging.getLogger(__name__)


def collect_seldom(after: int = 100_000) -> None:
    """Look for cyclic garbage seldom: a service keeps most of what it makes, and none of that is in cycles.

    With Python's own thresholds a stage that keeps an order book spends more time on looking through it again and
    again than on folding.

    Args:
        after: objects that are made and not let go before the youngest are looked through.
    """
    gc.set_threshold(after, 50, 100)


class Headroom:
    """Ends the process, by the system's refusal, before one step of it needs far more memory than any should.

    What a party sends may become gigabytes before it can be looked at. Without a limit the system would end whatever is
    largest, the broker as likely as not; with it a fresh process is started, which looks before it reads. Memory that a
    process keeps from step to step is not limited. Linux; elsewhere nothing.

    Args:
        most_bytes: what one step may need beyond what the process has, bytes.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes

    def renew(self) -> None:
        """Say that a step begins."""
        if sys.platform.startswith("linux"):
            self._limit(psutil.Process().memory_info().data + self._most)

    def lift(self) -> None:
        """Say that a state is going to be built, however large it is."""
        self._limit(resource.RLIM_INFINITY)

    @staticmethod
    def _limit(most_bytes: int) -> None:
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        if hard == resource.RLIM_INFINITY or 0 <= most_bytes < hard:
            resource.setrlimit(resource.RLIMIT_DATA, (most_bytes, hard))


@contextmanager
def no_collection() -> Iterator[None]:
    """Collect no garbage while a state is built: it is all kept, and looking through it again and again takes half."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends, however that ends (Linux; elsewhere nothing)."""
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended between the two calls
        os._exit(1)


def stop_on_signals(stop: threading.Event) -> None:
    """Set the event on SIGTERM and Ctrl-C; the second signal ends the process at once."""

    def on_signal(number: int, _: object) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)


def stop_on_end_of_input(stop: threading.Event, grace_s: float = 5.0) -> None:
    """Set the event when standard input ends, which is how a child learns anywhere that its supervisor is gone."""

    def watch() -> None:
        descriptor = sys.stdin.fileno()
        while os.read(descriptor, 4096):
            pass
        stop.set()
        threading.Event().wait(grace_s)
        os._exit(1)

    threading.Thread(target=watch, name="supervisor-watch", daemon=True).start()


def _started_at(process: psutil.Process, started: float) -> bool:
    """Tell whether a process is the one that started then, and not another that got its number.

    Start times are told from the boot time, a whole second that may become the next one when the clock is corrected.

    Args:
        process: the process that has the number now.
        started: start time that was noted, seconds since the epoch.

    Raises:
        psutil.NoSuchProcess: there is none any more.
    """
    return bool(abs(process.create_time() - started) < _CLOCK_STEP_S)


def noted_process(pid: object, started: object) -> psutil.Process | None:
    """Return the process that a note names, if it still runs; a note that makes no sense names none.

    Args:
        pid: process id, as the note has it.
        started: start time, seconds since the epoch, as the note has it.
    """
    if type(pid) is not int or pid <= 0 or not isinstance(started, int | float):
        return None
    try:
        found = psutil.Process(pid)
        return found if _started_at(found, started) and found.status() != psutil.STATUS_ZOMBIE else None
    except (psutil.Error, OverflowError):
        return None


def end_at_once(error: BaseException) -> NoReturn:
    """Say why and end this process without waiting for any thread; a fresh one takes over from the journal."""
    known = isinstance(error, FlexbusError)
    log.critical("ending: %s", error, exc_info=None if known else error)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(ENVIRONMENT if isinstance(error, EnvironmentProblem) else BROKEN)
