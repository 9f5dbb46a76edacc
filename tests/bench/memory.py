"""Whether processes keep what they should let go: their memory over events, and what is said of it."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from statistics import median

import psutil

__all__ = ["MOST_MB_PER_MILLION", "Meter", "Sample", "growth", "leaking"]

# What may stay of a million events: the sequencer never forgets an id (36 MB), and an allocator is no clockwork.
MOST_MB_PER_MILLION = 80.0
# A slope within what pages and arenas move by anyway says nothing, however few events there were.
LEAST_MB = 8.0


@dataclass(frozen=True, slots=True)
class Sample:
    """Memory of each process, MB, and its pid, when so many events had been sent."""

    events: int
    mb: Mapping[str, float]
    pids: Mapping[str, int]


class Meter:
    """Takes samples of processes and of the children that work for them.

    Args:
        pids: gives the pids by name.
    """

    def __init__(self, pids: Callable[[], Mapping[str, int]]) -> None:
        self._pids = pids
        self.samples: list[Sample] = []

    def sample(self, events: int) -> None:
        """Take a sample, so many events after the beginning."""
        pids = dict(self._pids())
        self.samples.append(Sample(events, {name: _mb(pid) for name, pid in pids.items()}, pids))


def _mb(pid: int) -> float:
    with suppress(psutil.Error):  # what has just ended weighs nothing, and is missed by its pid
        process = psutil.Process(pid)
        total, command = process.memory_info().rss, process.cmdline()
        for child in process.children(recursive=True):
            with suppress(psutil.Error):
                # A fork that writes a checkpoint has its parent's command line, shares its pages and is gone soon.
                total += 0 if child.cmdline() == command else child.memory_info().rss
        return total / 1e6
    return 0.0


def growth(samples: Sequence[Sample]) -> dict[str, float]:
    """Return by process how much it grows, MB per million events, after the first half, in which things warm up.

    The median of the slopes between all pairs of samples: neither a single step (an arena more) nor a single peak
    moves it, and what grows steadily does not escape it.
    """
    late = samples[len(samples) // 2 :]
    found = {}
    for name in late[-1].mb:
        pairs = [(b.events - a.events, b.mb[name] - a.mb[name]) for a, b in combinations(late, 2) if name in a.mb]
        slopes = [mb / events for events, mb in pairs if events]
        found[name] = median(slopes) * 1e6 if slopes else 0.0
    return found


def leaking(samples: Sequence[Sample], most_mb_per_million: float = MOST_MB_PER_MILLION) -> dict[str, float]:
    """Return what is wrong, by process: its growth where that is more than may be, and infinity if it was replaced.

    A process that died and came back begins anew; nothing can be said of its memory then but that.
    """
    late = samples[len(samples) // 2 :]
    events = late[-1].events - late[0].events
    found = {
        name: rate
        for name, rate in growth(samples).items()
        if rate > most_mb_per_million and rate * events / 1e6 > LEAST_MB
    }
    gone = {name for name, pid in samples[0].pids.items() if any(s.pids.get(name) != pid for s in samples)}
    return found | dict.fromkeys(sorted(gone), float("inf"))
