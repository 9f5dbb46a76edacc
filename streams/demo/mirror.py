"""A reader of the journal that knows when every stage has caught up.

It folds the same views as the stages and asks the same pure `decide`, so it knows which derived facts are still to
come. The day is held until nothing is owed: that is why a killed service delays the demo and does not change it.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping

from confluent_kafka import Consumer, TopicPartition

from flexbus import codec
from flexbus.errors import FlexbusError
from flexbus.events import EventRejected
from flexbus.journal import Block
from flexbus.topics import JOURNAL, REJECTIONS
from flexbus.views import agenda
from flexbus.views.fact import Emission, Fact, Job, facts_of
from streams.area import Area
from streams.kafka import Connection
from streams.page.model import PageState, fold_rejection
from streams.page.model import fold as fold_page
from streams.stages import VIEWS

__all__ = ["DayStuckError", "Mirror"]

# A killed service is back in seconds and a clearing takes some; minutes of silence are a fault to look at.
_PATIENCE_S = 300.0
# After a restart of Kafka librdkafka was seen once to give a reader nothing more, though records were there.
_SILENT_S = 20.0


class DayStuckError(FlexbusError):
    """The day does not go on; the message says what is awaited."""


class Mirror:
    """The journal as the demo world sees it, followed in a thread of its own.

    Args:
        connection: the broker.
        area_id: area of the demo.
        on_fact: called for every fact, in order, in the reader's thread.
    """

    def __init__(self, connection: Connection, area_id: str, on_fact: Callable[[Fact], None]) -> None:
        self.page = PageState()
        self.seen: set[str] = set()
        self.rejected: list[EventRejected] = []
        self.failure: BaseException | None = None
        self._connection = connection
        self._area_id = area_id
        self._on_fact = on_fact
        self._stages = [Area(area_id, view, 0) for view in VIEWS.values()]
        self._agenda = agenda.Agenda()
        self._market_ms = 0
        self._lock = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="mirror", daemon=True)

    def start(self) -> None:
        """Begin to follow the journal."""
        self._thread.start()

    def stop(self) -> None:
        """End the reader."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def wait(self, done: Callable[[], bool], what: str | Callable[[], str], patience_s: float = _PATIENCE_S) -> None:
        """Wait until a condition over the journal holds.

        Args:
            done: the condition, evaluated after every block.
            what: what is awaited, for the error.
            patience_s: how long silence is endured, s.

        Raises:
            DayStuckError: it did not come to hold, or the reader failed.
        """
        deadline = time.monotonic() + patience_s
        with self._lock:
            while not done():
                if self.failure is not None:
                    raise DayStuckError(f"the journal cannot be followed: {self.failure}") from self.failure
                if self._lock.wait(timeout=0.5):
                    deadline = time.monotonic() + patience_s
                elif time.monotonic() > deadline:
                    text = what if isinstance(what, str) else what()
                    raise DayStuckError(f"nothing came for {patience_s:.0f} s while waiting for {text}")

    def expect(self, market_ms: int) -> None:
        """Count what is due by this market time as owed by the scheduler."""
        self._market_ms = market_ms

    def caught_up(self) -> bool:
        """Tell whether the journal shows everything that scheduler and stages owe."""
        return not agenda.due(self._agenda, self._market_ms) and not any(stage.pending for stage in self._stages)

    def owed(self) -> str:
        """Return what stages still owe, for people; empty = nothing."""
        kinds = {f"{s.view.service}: {_name(due.what)}" for s in self._stages for due in s.pending.values()}
        kinds |= {f"scheduler: {_name(entry.emission)}" for entry in agenda.due(self._agenda, self._market_ms)}
        return ", ".join(sorted(kinds))

    def _follow(self) -> None:
        try:
            consumer = self._reader()
            try:
                topics = consumer.list_topics(timeout=20).topics
                nexts = {(t, p): 0 for t in (JOURNAL, REJECTIONS) for p in topics[t].partitions}
                _assign(consumer, nexts)
                heard_at = time.monotonic()
                while not self._stop.is_set():
                    messages = [m for m in consumer.consume(500, timeout=0.1) if m.error() is None]
                    if messages:
                        with self._lock:
                            self._take((m.topic(), m.value()) for m in messages)
                            self._lock.notify_all()
                        for message in messages:
                            nexts[message.topic(), message.partition()] = message.offset() + 1
                        heard_at = time.monotonic()
                    elif time.monotonic() - heard_at > _SILENT_S:
                        consumer.close()
                        consumer = self._reader()
                        _assign(consumer, nexts)
                        heard_at = time.monotonic()
            finally:
                consumer.close()
        except BaseException as error:
            self.failure = error

    def _reader(self) -> Consumer:
        return self._connection.reader(None, **{"enable.partition.eof": False})

    def _take(self, records: Iterable[tuple[str, bytes]]) -> None:
        for topic, value in records:
            if topic == REJECTIONS:
                rejection = codec.decode_as(value, EventRejected)
                self.rejected.append(rejection)
                self.page = fold_rejection(self.page, rejection)
                continue
            block = codec.decode_as(value, Block)
            if block.area_id != self._area_id:
                continue
            self.page = fold_page(self.page, block)
            for stage in self._stages:
                stage.take(block)
            for fact in facts_of(block):
                self.seen.add(fact.event_id)
                self._agenda = agenda.fold(self._agenda, fact)
                self._on_fact(fact)


def _name(due: Emission | Job) -> str:
    return type(due.event).__name__ if isinstance(due, Emission) else f"the result of {due.run.__name__}"


def _assign(consumer: Consumer, nexts: Mapping[tuple[str, int], int]) -> None:
    consumer.assign([TopicPartition(topic, partition, offset) for (topic, partition), offset in nexts.items()])
