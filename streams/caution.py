"""Which inboxes a client of Kafka must not read, and what those have: batch by batch, a share at a time.

An inbox comes under suspicion by a batch that no client should read, by records that the client repeats, passes over
or stands still at, by how much of it was refused or taken back, or by how much waits in it. It stays there for as long
as the process lives, so whoever harms the client's library does it once. What it has is taken beside the others'
inputs, which do not wait for it.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice

from streams.inputs import Input
from streams.kafka import Connection
from streams.lookout import Lookout
from streams.stored import Spot, Stored

__all__ = ["Caution"]

log = logging.getLogger(__name__)

MANY_REFUSED = 1_000  # inputs, or kilobytes of them: what is long takes long to refuse
MANY_PARTS = 8  # of what was taken back between two inputs, some megabytes each
LOOK_S = 10.0  # to look through all that waits, before anybody reads
# The client unpacks at once whatever one answer brings of all inboxes, and a kilobyte may become 32 MB.
MOST_SURPLUS = 200_000_000
SHARE = 500  # inputs of all suspects together, beside ten times as many of the others
SHARE_BYTES = 1_000_000
SHARE_S = 0.1  # what is refused at its end alone takes long: three kilobytes may become 32 MB with 10,000 headers
REST = 9  # times as long as a share took, the others are not kept waiting
ASK_EVERY_S = 0.1
AT_ONCE = 10  # suspects that can be asked so often; if there are more, each is asked less often
_DISHONEST = "no honest client sends what it has"
_REFUSED = "much of it was refused"
_TAKEN_BACK = "too much of it was taken back"
_TOO_MUCH = "more waits there than can be looked at before it is read"
_TOO_LARGE = "what waits there becomes far too large"


class Caution:
    """Watches over inboxes.

    Args:
        connection: the broker.
        beat: called often while looking and reading.
    """

    def __init__(self, connection: Connection, beat: Callable[[], None]) -> None:
        self._beat = beat
        self._stored = Stored(connection)
        self._suspects: set[str] = set()
        self._refused: Counter[str] = Counter()  # inputs and kilobytes by inbox
        self._next: dict[Spot, int] = {}  # offset that comes next
        self._turns: dict[Spot, float] = {}  # when each of a suspect may be read again, in the order of their turns
        self._left: dict[Spot, Iterator[Input | int]] = {}  # what those have that was not given yet
        self._rest_until = 0.0
        self._lookout = Lookout(connection)

    def close(self) -> None:
        """Close the connections."""
        self._stored.close()
        self._lookout.close()

    def begin(self, starts: Mapping[Spot, int], ends: Mapping[Spot, int]) -> None:
        """Look at what waits in inboxes before anybody reads it; what else was read is let go.

        Where most waits comes last; what there is no time for, or no room once it is unpacked, is read with care.

        Args:
            starts: where each is read from; none gives nothing more until the next call.
            ends: where each ends.

        Raises:
            EnvironmentProblem: the broker does not answer or refuses.
        """
        self._next, self._left = dict(starts), {}
        self._lookout.anew()
        deadline, room = time.monotonic() + LOOK_S, MOST_SURPLUS
        for spot, start in sorted(starts.items(), key=lambda place: ends[place[0]] - place[1]):
            if self.suspects(spot[0]):
                continue
            left = room
            for surplus in self._stored.surpluses(spot, start, ends[spot]):
                self._beat()
                left -= surplus or 0
                if surplus is None or left < 0 or time.monotonic() > deadline:
                    why = _DISHONEST if surplus is None else _TOO_LARGE if left < 0 else _TOO_MUCH
                    self.suspect([spot[0]], why)
                    break
            else:
                room = left
        self._turns = {spot: 0.0 for spot in starts if self.suspects(spot[0])}

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
            told: list[tuple[int, int]] = []
            for many, part in enumerate(self._stored.parts(spot, self._next[spot], offsets[-1] + 1)):
                self._beat()
                if many == MANY_PARTS:
                    self.suspect([spot[0]], _TAKEN_BACK)
                    return False
                for given in islice(part.inputs, len(offsets) + 1 - len(told)):
                    self._beat()  # a batch may take a second
                    told.append((given.offset, given.batch))
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
        refused = self.suspect((topic for topic, n in self._refused.items() if n >= MANY_REFUSED), _REFUSED)
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

    def positions(self) -> dict[Spot, int]:
        """Return where the next share of each suspect begins; what was given stands before it."""
        return {spot: self._next[spot] for spot in self._turns}

    @property
    def is_due(self) -> bool:
        """Whether it is time to ask for what suspects have."""
        now = time.monotonic()
        return now >= self._rest_until and any(at <= now for at in self._turns.values())

    def share(self) -> list[Input]:
        """Return a share of what suspects have, which take turns; ask for it when `is_due`.

        Raises:
            EnvironmentProblem: the broker does not answer or refuses.
        """
        began = time.monotonic()
        found = self._share(began)
        now = time.monotonic()
        self._rest_until = now + REST * (now - began)
        return found

    def _share(self, now: float) -> list[Input]:
        found: list[Input] = []
        size = 0
        for spot in [spot for spot, at in self._turns.items() if at <= now]:
            self._beat()
            del self._turns[spot]
            self._turns[spot] = 0.0
            if spot not in self._left:
                self._left[spot] = self._parts(spot)
            for given in self._left[spot]:
                self._beat()  # a batch may take a second
                if isinstance(given, int):
                    size += given
                else:
                    found.append(given)
                    self._next[spot] = given.next_offset
                    size += len(given.value or b"")
                if size >= SHARE_BYTES or len(found) >= SHARE or time.monotonic() - now > SHARE_S:
                    return found
            del self._left[spot]
            self._turns[spot] = now + ASK_EVERY_S * max(1.0, len(self._turns) / AT_ONCE)
        return found

    def _parts(self, spot: Spot) -> Iterator[Input | int]:
        """Yield what waits, and after each answer of the broker its length, bytes: there may be nothing in it."""
        for part in self._stored.parts(spot, self._next[spot]):
            yield from part.inputs
            self._next[spot] = part.following
            yield part.size
