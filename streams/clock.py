"""What time the market has: the computer's, or a played day's, told by ticks on a topic.

Only the scheduler asks; everybody else reads market time from the journal.
"""

import json
import time
from typing import Protocol

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from flexbus.errors import EnvironmentProblem
from flexbus.topics import CLOCK
from streams.journal_reader import read_messages
from streams.kafka import Connection, Trouble, environment_problem
from streams.lookout import Lookout

__all__ = ["Clock", "PlayedClock", "SystemClock", "Ticker", "clock_of", "last_tick", "read_tick", "tick_bytes"]

_KEY = b"market"
_TIMEOUT_S = 30.0
_SYSTEM_STEP_S = 1.0
_AT_ONCE = 1000


def tick_bytes(market_ms: int) -> bytes:
    """Return a tick as it lies on the topic."""
    return json.dumps({"market_ms": market_ms}).encode()


def read_tick(value: bytes | None) -> int | None:
    """Return the market time of a tick, UTC ms; None if it is none."""
    try:
        at = json.loads(value or b"null")["market_ms"]
    except (ValueError, TypeError, KeyError):
        return None
    return at if type(at) is int else None


def last_tick(connection: Connection) -> int | None:
    """Return the latest market time that was ever played on a broker, UTC ms; None if there was none.

    Raises:
        EnvironmentProblem: the broker does not answer.
    """
    ticks = (read_tick(message.value()) for message in read_messages(connection, CLOCK, 0))
    return max((at for at in ticks if at is not None), default=None)


class Clock(Protocol):
    """The market's time; it never runs backwards."""

    def now_ms(self) -> int | None:
        """Return the market time, UTC ms; None before the first tick of a played day."""

    def wait_s(self, due_ms: int | None) -> float:
        """Return how long one may wait for something due then before asking again, s."""

    def close(self) -> None:
        """Let go of the broker."""


class SystemClock:
    """The computer's clock."""

    def now_ms(self) -> int:
        """Return the time, UTC ms."""
        return time.time_ns() // 1_000_000

    def wait_s(self, due_ms: int | None) -> float:
        """Return how long one may wait before asking again, s."""
        if due_ms is None:
            return _SYSTEM_STEP_S
        return min(_SYSTEM_STEP_S, max(0.0, (due_ms - self.now_ms()) / 1000))

    def close(self) -> None:
        """Nothing to let go of."""


class PlayedClock:
    """The latest tick on the clock topic.

    Args:
        connection: the broker.
        step_s: how long a tick may stay unnoticed, s.
    """

    def __init__(self, connection: Connection, step_s: float = 0.05) -> None:
        self._connection = connection
        self._step_s = step_s
        self._trouble = Trouble()
        self._reader = connection.reader(self._trouble, **{"enable.partition.eof": False})
        self._reader.assign([TopicPartition(CLOCK, 0, 0)])
        self._lookout = Lookout(connection)
        self._next = 0
        self._now_ms: int | None = None

    def now_ms(self) -> int | None:
        """Return the latest tick.

        Raises:
            EnvironmentProblem: the broker refuses, or gives none of the ticks that it has.
        """
        if self._trouble.hopeless is not None:
            raise environment_problem(self._trouble.hopeless, self._connection.bootstrap)
        messages = self._reader.consume(_AT_ONCE, 0.0)
        for message in messages:
            error = message.error()
            if error is not None:
                if error.code() in (KafkaError._UNKNOWN_PARTITION, KafkaError.UNKNOWN_TOPIC_OR_PART):
                    raise environment_problem(error, self._connection.bootstrap)
                continue
            self._next = message.offset() + 1
            at = read_tick(message.value())
            if at is not None and (self._now_ms is None or at > self._now_ms):
                self._now_ms = at
        self._lookout.check(lambda: {(CLOCK, 0): self._next}, drained=len(messages) < _AT_ONCE)
        return self._now_ms

    def wait_s(self, due_ms: int | None) -> float:
        """Return how long one may wait before asking again, s."""
        return self._step_s

    def close(self) -> None:
        """Let go of the broker."""
        self._reader.close()
        self._lookout.close()


def clock_of(name: str, connection: Connection) -> Clock:
    """Return the clock of a name.

    Args:
        name: `system` or `played`.
        connection: the broker, for a played clock.

    Raises:
        ValueError: another name.
    """
    if name == "system":
        return SystemClock()
    if name == "played":
        return PlayedClock(connection)
    raise ValueError(f"{name!r} is no clock: take system or played")


class Ticker:
    """Plays a day: says what time the market has.

    Args:
        connection: the broker, as a principal that may write the clock topic.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._trouble = Trouble()
        self._producer = connection.producer(self._trouble, **{"linger.ms": 0})
        self._failed: KafkaError | None = None

    def tick(self, market_ms: int) -> None:
        """Set the market's time, UTC ms; returns when the broker has it.

        Raises:
            EnvironmentProblem: the broker did not take it.
        """
        self._failed = None
        try:
            self._producer.produce(CLOCK, key=_KEY, value=tick_bytes(market_ms), on_delivery=self._delivered)
        except KafkaException as error:
            raise environment_problem(error, self._connection.bootstrap, self._trouble) from error
        left = self._producer.flush(_TIMEOUT_S)
        if left or self._failed is not None:
            raise self._problem()

    def close(self) -> None:
        """Let go of the broker."""
        self._producer.flush(1.0)

    def _delivered(self, error: KafkaError | None, _: object) -> None:
        self._failed = error

    def _problem(self) -> EnvironmentProblem:
        cause = self._failed or KafkaError(KafkaError._MSG_TIMED_OUT)
        return environment_problem(cause, self._connection.bootstrap, self._trouble)
