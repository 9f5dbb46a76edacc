"""The scheduler: says what the clock makes due, as facts, in market-time order.

It follows the journal (what is scheduled, what was said already) and asks its clock. An area's events go to one
inbox partition by one idempotent producer, so their order is that of the agenda. Killed or started twice it
changes nothing: ids follow from session and instant, and what the journal does not show is said again.
"""

import time
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, TopicPartition

from flexbus import codec
from flexbus.catalogue import Service
from flexbus.journal import Block
from flexbus.topics import JOURNAL
from flexbus.views import agenda
from flexbus.views.fact import Emission, Fact, Job
from streams.area import Area, Stage
from streams.checkpoint import Image, images_of
from streams.clock import clock_of
from streams.context import Context
from streams.journal_reader import end_offset, read_blocks
from streams.kafka import Trouble, environment_problem
from streams.lookout import Lookout
from streams.monitor import Monitor
from streams.outbox import Outbox
from streams.stored import Spot
from streams.topics import journal_partitions

__all__ = ["VIEW", "Agendas", "Scheduler", "run"]

_LONGEST_WAIT_S = 1.0
_LAG_EVERY_S = 2.0
_AT_ONCE = 500


def _decides_nothing(_: agenda.Agenda, __: Fact) -> tuple[Emission | Job, ...]:
    return ()  # not the facts but the clock makes things due


VIEW = Stage(
    service=Service.SCHEDULER.value,
    new_state=agenda.Agenda,
    fold=agenda.fold,
    decide=_decides_nothing,
    outputs=frozenset({"GateOpened", "GateClosed", "DeliveryStarted", "DeliveryEnded", "SettlementDue"}),
    reads=frozenset(
        {
            "MarketProductDefined",
            "MarketSessionScheduled",
            "GateOpened",
            "GateClosed",
            "DeliveryStarted",
            "DeliveryEnded",
            "SettlementDue",
        }
    ),
)


@dataclass(frozen=True, slots=True)
class Said:
    """A fact the scheduler has to send.

    Attributes:
        emission: the fact.
        at_ms: market time it became due, UTC ms.
    """

    emission: Emission
    at_ms: int


class Agendas:
    """The agendas of all areas, and what this process has said of them; pure but for the metrics."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._areas: dict[str, Area] = {}
        self._said: set[str] = set()

    def take(self, block: Block, partition: int, offset: int = -1) -> None:
        """Take in a block; one that was seen before changes nothing.

        Args:
            block: the block.
            partition: journal partition that it comes from.
            offset: where it stands there.

        Raises:
            ChainError: the chain is broken here.
        """
        area = self._areas.setdefault(block.area_id, Area(block.area_id, VIEW, partition))
        facts = area.take(block)
        if facts is None:
            return
        area.offset = offset
        self._monitor.blocks.labels(VIEW.service).inc()
        for fact in facts:
            self._said.discard(fact.event_id)
            self._monitor.events.labels(VIEW.service, type(fact.event).__name__, block.area_id).inc()

    def image(self, partition: int, next_offset: int) -> Image:
        """Return what a checkpoint keeps of a partition that has been read up to an offset."""
        areas = [a for a in self._areas.values() if a.partition == partition]
        return Image(partition=partition, next_offset=next_offset, areas=images_of(areas))

    def restore(self, image: Image) -> None:
        """Go on from what a checkpoint has kept."""
        for found in image.areas:
            area = self._areas[found.area_id] = Area(found.area_id, VIEW, image.partition)
            area.restore(found.state, (found.number, found.hash), found.offset)

    def due(self, now_ms: int) -> list[Said]:
        """Return what became due and was not said yet, in market-time order; it counts as said from now on."""
        found = sorted(
            (entry for area in self._areas.values() for entry in agenda.due(area.state, now_ms)),
            key=lambda entry: entry.order,
        )
        fresh = [Said(e.emission, e.at_ms) for e in found if e.emission.event_id not in self._said]
        self._said.update(s.emission.event_id for s in fresh)
        return fresh

    def next_due_ms(self) -> int | None:
        """Return when the next thing is due that was not said yet, UTC ms."""
        times = (agenda.next_due_ms(area.state, self._said) for area in self._areas.values())
        return min((t for t in times if t is not None), default=None)


class Scheduler:
    """The shell: one consumer of the whole journal, one clock, one outbox.

    Args:
        context: what it is given.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._monitor = context.monitor
        self._agendas = Agendas(context.monitor)
        self._checkpoints = context.checkpoints()
        self._next: dict[int, int] = {}
        self._measured = 0.0
        self._failed: Exception | None = None
        self._trouble = Trouble()
        self._partitions = journal_partitions(context.connection)
        self._reader: Consumer = context.connection.reader(self._trouble, **{"enable.partition.eof": False})
        self._lookout = Lookout(context.connection)
        self._clock = clock_of(context.clock, context.connection)
        self._outbox = Outbox(context.connection, VIEW.service, self._fail)

    def run(self) -> None:
        """Say what becomes due until told to stop.

        Raises:
            FlexbusError: the journal is broken, or Kafka cannot be used; end the process.
        """
        self._checkpoints.read_ahead()
        self._catch_up()
        self._checkpoints.settled()
        self._monitor.ready(list(range(self._partitions)))
        while not self._context.stop.is_set():
            now_ms = self._clock.now_ms()
            if now_ms is not None:
                self._say(now_ms)
            wait_s = min(_LONGEST_WAIT_S, self._clock.wait_s(self._agendas.next_due_ms()))
            drained = self._read(wait_s) < _AT_ONCE
            self._outbox.poll()
            self._measure_lag()
            self._lookout.check(self._places, drained=drained)
            if due := self._checkpoints.due():
                self._checkpoints.write(lambda p: self._agendas.image(p, self._next[p]), due)
            if self._failed is not None:
                raise self._failed
        self._outbox.close()
        self._checkpoints.close()
        self._reader.close()
        self._lookout.close()
        self._clock.close()

    def _catch_up(self) -> None:
        """Read the journal to its end first: what it shows must not be said again."""
        connection = self._context.connection
        for partition in range(self._partitions):
            end = end_offset(connection, partition)
            image = self._checkpoints.read(connection, partition, end)
            if image is not None:
                self._agendas.restore(image)
            self._next[partition] = 0 if image is None else image.next_offset
            for offset, block in read_blocks(connection, partition, self._next[partition], end):
                self._take(block, partition, offset)
        self._reader.assign([TopicPartition(JOURNAL, p, offset) for p, offset in self._next.items()])

    def _take(self, block: Block, partition: int, offset: int) -> None:
        self._agendas.take(block, partition, offset)
        self._next[partition] = offset + 1
        self._checkpoints.folded(partition, len(block.entries))

    def _read(self, wait_s: float) -> int:
        """Take in what the journal has; wait for the first block at most that long."""
        first = self._reader.poll(wait_s)
        if first is None:
            return 0
        messages = [first, *self._reader.consume(_AT_ONCE - 1, 0.0)]
        for message in messages:
            error = message.error()
            if error is None:
                self._take(codec.decode_as(message.value(), Block), message.partition(), message.offset())
            elif error.code() not in (KafkaError._PARTITION_EOF, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN):
                raise environment_problem(error, self._context.connection.bootstrap, self._trouble)
        self._monitor.progress()
        return len(messages)

    def _places(self) -> dict[Spot, int]:
        return {(JOURNAL, partition): offset for partition, offset in self._next.items()}

    def _measure_lag(self) -> None:
        """Tell how far behind we are, as the last fetch told the ends: asking for them could hold up the clock."""
        if time.monotonic() - self._measured < _LAG_EVERY_S:
            return
        self._measured = time.monotonic()
        for partition, read in self._next.items():
            _, end = self._reader.get_watermark_offsets(TopicPartition(JOURNAL, partition), cached=True)
            # The marker that ends the last transaction is at the end and is never delivered.
            self._monitor.lag.labels(VIEW.service, partition).set(max(0, end - read - 1))

    def _say(self, now_ms: int) -> None:
        due = self._agendas.due(now_ms)
        self._outbox.send([(said.emission, said.at_ms) for said in due])
        for said in due:
            self._monitor.emissions.labels(VIEW.service, type(said.emission.event).__name__).inc()
            self._monitor.progress()

    def _fail(self, error: Exception) -> None:
        self._failed = error


def run(context: Context) -> None:
    """Run the scheduler until told to stop; see `Scheduler.run`."""
    Scheduler(context).run()
