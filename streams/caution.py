"""Which inboxes a client of Kafka must not read, and what those have: batch by batch, a share at a time.

An inbox comes under suspicion by a batch that no client should read, by records that the client repeats, passes over
or stands still at, or by how much of it was refused. It stays there for as long as the process lives, so whoever harms
the client's library does it once. What it has is taken beside the others' inputs, which do not wait for it.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice

from streams.inputs import Input
from streams.kafka import Connection
from streams.lookout import Lookout
from streams.stored import Spot, Stored

__all__ = ["Caution"]

log = logging.getLogger(__name__)

MANY_REFUSED = 1_000  # inputs, or kilobytes of them: what is long takes long to refuse
SHARE = 500  # inputs of all suspects together, beside ten times as many of the others
SHARE_BYTES = 1_000_000
ASK_EVERY_S = 0.1
_DISHONEST = "no honest client sends what it has"


class Caution:
    """Watches over inboxes.

    Args:
        connection: the broker.
    """

    def __init__(self, connection: Connection) -> None:
        self._stored = Stored(connection)
        self._suspects: set[str] = set()
        self._refused: Counter[str] = Counter()  # inputs and kilobytes by inbox
        self._next: dict[Spot, int] = {}  # offset that comes next
        self._warily: Iterator[Input] = iter(())  # what the suspects have
        self._ask_at = 0.0
        self._lookout = Lookout(connection)

    def close(self) -> None:
        """Close the connections."""
        self._stored.close()
        self._lookout.close()

    def begin(self, starts: Mapping[Spot, int], ends: Mapping[Spot, int], beat: Callable[[], None]) -> None:
        """Look at what waits in inboxes before anybody reads it; what else was read is let go.

        Args:
            starts: where each is read from; none gives nothing more until the next call.
            ends: where each ends.
            beat: called while looking.

        Raises:
            EnvironmentProblem: the broker does not answer or refuses.
        """
        self._next, self._warily, self._ask_at = dict(starts), iter(()), 0.0
        for spot, start in starts.items():
            beat()
            if not self.suspects(spot[0]) and self._stored.harmful(spot, start, ends[spot], beat):
                self.suspect([spot[0]])

    def suspects(self, topic: str) -> bool:
        """Tell whether an inbox must not be read by the client."""
        return topic in self._suspects

    def suspect(self, topics: Iterable[str], why: str = _DISHONEST) -> bool:
        """Have inboxes read with care from the next `begin` on; tell whether that is new of one.

        Args:
            topics: the inboxes.
            why: the reason, for people.
        """
        more = set(topics) - self._suspects
        self._suspects |= more
        for topic in sorted(more):
            log.warning("%s is read with care from now on: %s", topic, why)
        return bool(more)

    def in_turn(self, found: Iterable[Input]) -> bool:
        """Tell whether what the client has read is what comes next.

        Senders write the offsets within their batches, and the client believes them; it also passes over what it cannot
        make out. If not, the inbox is under suspicion.

        Raises:
            EnvironmentProblem: the broker does not answer or refuses.
        """
        leaps: dict[Spot, list[int]] = {}  # offsets read from where the first was missing
        for given in found:
            spot = (given.topic, given.partition)
            expected = self._next.get(spot)
            if expected is None or given.offset < expected:
                self.suspect([given.topic])
                return False
            if given.offset > expected:
                leaps.setdefault(spot, [])
            if spot in leaps:
                leaps[spot].append(given.offset)
            else:
                self._next[spot] = given.offset + 1
        # The end of a transaction has an offset of its own, and what was taken back has some: rightly missing.
        for spot, offsets in leaps.items():
            there = self._stored.inputs(spot, self._next[spot], offsets[-1] + 1)
            told = [(given.offset, given.batch) for given in islice(there, len(offsets) + 1)]
            if told != [(offset, 0) for offset in offsets]:
                self.suspect([spot[0]])
                return False
            self._next[spot] = offsets[-1] + 1
        return True

    def refused(self, topic: str, size: int) -> None:
        """Note that an input of an inbox was refused.

        Args:
            topic: the inbox.
            size: its length, bytes.
        """
        self._refused[topic] += 1 + size // 1_000

    def doubts(self, *, drained: bool) -> bool:
        """Tell whether an inbox came under suspicion for what was refused, or as the client gives nothing of it.

        Args:
            drained: whether the client had no more to give when it was last asked.
        """
        refused = self.suspect(topic for topic, n in self._refused.items() if n >= MANY_REFUSED)
        stalled = self._lookout.stalled(self._trusted, drained=drained)
        return self.suspect((spot[0] for spot in stalled), "the client gives nothing of what waits there") or refused

    def _trusted(self) -> dict[Spot, int]:
        return {spot: at for spot, at in self._next.items() if not self.suspects(spot[0])}

    def lags(self) -> dict[int, int]:
        """Return by partition number how many records of suspects are known to be there and not yet read."""
        found: Counter[int] = Counter()
        for spot, offset in self._next.items():
            if self.suspects(spot[0]):
                found[spot[1]] += max(0, self._stored.ends.get(spot, 0) - offset)
        return dict(found)

    @property
    def is_due(self) -> bool:
        """Whether it is time to ask for what suspects have."""
        return bool(self._suspects) and time.monotonic() >= self._ask_at

    def share(self) -> list[Input]:
        """Return a share of what suspects have.

        Raises:
            EnvironmentProblem: the broker does not answer or refuses.
        """
        if not self.is_due:
            return []
        found, size = [], 0
        for given in islice(self._warily, SHARE):
            found.append(given)
            self._next[given.topic, given.partition] = given.next_offset
            size += len(given.value or b"")
            if size >= SHARE_BYTES:
                break
        if not found:
            starts = {spot: offset for spot, offset in self._next.items() if self.suspects(spot[0])}
            self._warily = chain.from_iterable(self._stored.inputs(spot, at) for spot, at in starts.items())
            self._ask_at = time.monotonic() + ASK_EVERY_S
        return found
