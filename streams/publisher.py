"""The publisher: journal -> what anyone may see, and what each party may see, exactly once.

A static group member over the journal; its outputs and positions go in one transaction per batch. Its only state
is who has which role, folded from the journal's own register.
"""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, Message, TopicPartition

from flexbus import codec
from flexbus.catalogue import CATALOGUE
from flexbus.errors import EnvironmentProblem
from flexbus.journal import Block, Entry
from flexbus.sight import public_view, views_of
from flexbus.time import iso
from flexbus.topics import JOURNAL, party_topic
from flexbus.views import registry
from flexbus.views.fact import facts_of
from flexbus.views.registry import Registry
from streams.checkpoint import AreaImage, Checkpoints, Image
from streams.journal_reader import read_blocks
from streams.kafka import Connection, Trouble, environment_problem
from streams.lookout import Lookout
from streams.monitor import Monitor
from streams.registry import configured
from streams.stored import Spot
from streams.topics import PARTY_PARTITION, Targets
from streams.transaction import Member, Output, Watchdog, commit, lags

__all__ = ["GROUP", "Publisher", "publications", "run"]

log = logging.getLogger(__name__)

GROUP = "flexbus-publisher"
BATCH = 20  # blocks
BATCH_OUTPUTS = 5_000  # records of one transaction: a block may hold 500 events, each for several topics
LAG_EVERY_S = 2.0
WAIT_S = 0.05
_TIMEOUT_S = 30.0
_MAKES_TOPICS_S = 120.0  # of hundreds of parties
_ROLE_EVENTS = frozenset({"AreaOpened", "ParticipantRegistered", "ParticipantRemoved"})
_ADMITTING = "ParticipantRegistered"
_LEAVING = "ParticipantRemoved"  # who leaves is told so, and nothing after it


def publications(entry: Entry, event: Any, register: Registry) -> Iterator[tuple[str | None, Any]]:
    """Yield party (None = anyone) and what it sees of an entry; see `flexbus.sight`."""
    kind = CATALOGUE[entry.event_type]
    public = public_view(event, kind)
    if public is not None:
        yield None, public
    senders = (entry.sender_id,) if entry.on_behalf_of is None else (entry.sender_id, entry.on_behalf_of)
    yield from views_of(event, kind, senders, register.roles, public)


class Publisher:
    """One worker.

    Args:
        connection: the broker, as the publisher's principal.
        slot: number of this worker among its siblings, from 0; at most one process has it.
        monitor: where it says what it does.
        checkpoints: where it keeps its checkpoints; None keeps none.
    """

    def __init__(
        self,
        connection: Connection,
        slot: int = 0,
        monitor: Monitor | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self._monitor = monitor or Monitor("publisher")
        self._checkpoints = checkpoints or Checkpoints(None, "publisher")
        self._connection = connection
        self._registry = configured()
        self._trouble = Trouble()
        self._registers: dict[str, Registry] = {}
        self._next: dict[int, int] = {}  # next offset that the registers have not seen, by partition
        self._heads: dict[str, tuple[int, int, bytes, int]] = {}  # partition, last block's number, hash and offset
        self._lag_at = 0.0
        self.watchdog = Watchdog()
        name = f"{GROUP}-{slot}"
        self._producer = connection.transactional_producer(name, self._trouble)
        self._targets = Targets(connection, self._producer)
        self._consumer = connection.member(GROUP, name, self._trouble)
        self._member = Member(self._consumer, self._problem, self._assigned, self._revoked)
        self._lookout = Lookout(connection)

    def open(self) -> None:
        """Fence the former process of this slot and join the group.

        Raises:
            EnvironmentProblem: the broker or the schema registry does not answer or refuses.
        """
        self._checkpoints.read_ahead()
        if self._registry is not None:
            with self.watchdog.paused():
                self._registry.learn()
        try:
            with self.watchdog.patient(_TIMEOUT_S):  # a broker that has just made thousands of topics is busy
                self._producer.init_transactions(_TIMEOUT_S)
        except KafkaException as error:
            raise self._problem(error) from error
        self._member.subscribe([JOURNAL])

    def step(self) -> int:
        """Read some blocks and publish them; return how many.

        Raises:
            EnvironmentProblem: the broker refuses, is lost or gives nothing of what waits; end the process.
            KafkaException: end the process; a fresh one takes over where the last transaction ended.
        """
        self.watchdog.beat()
        self._monitor.progress()
        if self._trouble.hopeless is not None:
            raise self._problem(self._trouble.hopeless)
        self._say_lag()
        self._lookout.check(self._places, drained=self._member.drained)
        messages = deque(self._member.consume(BATCH, WAIT_S))
        count = len(messages)
        with self.watchdog.patient(_MAKES_TOPICS_S):
            self._targets.look(self._admitted(messages), _MAKES_TOPICS_S)
        while messages:
            blocks: list[Block] = []
            nexts: dict[int, int] = {}
            # Handed over one by one; the positions that they lead to are known when the last was.
            outputs = self._outputs_of(messages, blocks, nexts)
            if not commit(self._producer, self._consumer, outputs, _positions(nexts)):
                self._member.set_back()
                break
            self._count(blocks)
        if due := [p for p in self._checkpoints.due() if p in self._next]:
            self._checkpoints.write(self._image, due)
        return count

    def close(self) -> None:
        """Leave in good order."""
        self._consumer.close()
        self._lookout.close()
        self.watchdog.stop()
        self._checkpoints.close()

    def _problem(self, error: KafkaException | KafkaError) -> EnvironmentProblem:
        return environment_problem(error, self._connection.bootstrap, self._trouble, self._producer)

    def _outputs_of(self, messages: deque[Message], blocks: list[Block], nexts: dict[int, int]) -> Iterator[Output]:
        """Take journal records from the left until one transaction is full, and yield what is to be published.

        A block is not parted. What is yielded waits in the producer's queue, whose size is bounded in bytes; who
        fills it waits.
        """
        count = 0
        while messages and count < BATCH_OUTPUTS:
            message = messages.popleft()
            block = codec.decode_as(message.value(), Block)
            blocks.append(block)
            for output in self._outputs(message.partition(), block):
                count += 1
                yield output
            nexts[message.partition()] = message.offset() + 1
            self._seen(message.partition(), block, message.offset())
            self.watchdog.beat()

    def _outputs(self, partition: int, block: Block) -> Iterator[Output]:
        register = self._registers.setdefault(block.area_id, Registry())
        key = block.area_id.encode()
        for entry, fact in zip(block.entries, facts_of(block), strict=True):
            event = fact.event
            leaves = entry.event_type == _LEAVING
            if entry.event_type in _ROLE_EVENTS and not leaves:
                registry.fold(register, fact)
            headers = _headers(block, fact.index)
            shared: codec.Shared = {}
            current = codec.current(event, entry.payload, entry.schema_fingerprint, self._registry)
            for party, view in publications(entry, event, register):
                if party is None:
                    place = partition
                    topic = CATALOGUE[entry.event_type].out_topic or ""
                    self._targets.ready(topic)
                elif self._targets.party_ready(party):
                    topic, place = party_topic(party), PARTY_PARTITION
                else:
                    continue
                value = current if view is event else codec.encode_trusted(view, self._registry, shared)
                yield Output(topic, place, key, value, headers, entry.received_at_ms)
            if leaves:
                registry.fold(register, fact)

    @staticmethod
    def _admitted(messages: Iterable[Message]) -> set[str]:
        """Return the parties that some journal records admit; an operator may admit hundreds at once."""
        found = set()
        for message in messages:
            if _ADMITTING.encode() in message.value():
                block = codec.decode_as(message.value(), Block)
                found |= {fact.event.participant_id for fact in facts_of(block, frozenset({_ADMITTING}))}
        return found

    def _places(self) -> dict[Spot, int]:
        return {(t.topic, t.partition): self._next.get(t.partition, 0) for t in self._consumer.assignment()}

    def _say_lag(self) -> None:
        if time.monotonic() >= self._lag_at:
            self._lag_at = time.monotonic() + LAG_EVERY_S
            for partition, behind in lags(self._consumer).items():
                self._monitor.lag.labels(self._monitor.service, partition).set(behind)

    def _count(self, blocks: list[Block]) -> None:
        service = self._monitor.service
        self._monitor.blocks.labels(service).inc(len(blocks))
        for block in blocks:
            for kind, count in Counter([entry.event_type for entry in block.entries]).items():
                self._monitor.events.labels(service, kind, block.area_id).inc(count)

    def _assigned(self, consumer: Any, assignment: list[TopicPartition]) -> None:
        committed = consumer.committed([TopicPartition(t.topic, t.partition) for t in assignment], timeout=_TIMEOUT_S)
        self._registers, self._next, self._heads = {}, {}, {}
        for place in committed:
            end = max(place.offset, 0)
            start = self._restore(place.partition, end)
            for offset, block in read_blocks(self._connection, place.partition, start, end, self.watchdog.beat):
                self._learn_roles(block)
                self._seen(place.partition, block, offset)
        with self.watchdog.patient(_MAKES_TOPICS_S):
            known = {party for register in self._registers.values() for party in register.roles}
            self._targets.look(known, _MAKES_TOPICS_S)
        consumer.assign(
            [t if t.offset >= 0 else TopicPartition(JOURNAL, t.partition, OFFSET_BEGINNING) for t in committed]
        )
        self._lookout.anew()
        self._checkpoints.settled()
        self._monitor.ready(sorted(t.partition for t in committed))
        log.info("assigned: journal partitions %s", sorted(t.partition for t in committed))

    def _restore(self, partition: int, end: int) -> int:
        with self.watchdog.paused():
            image = self._checkpoints.read(self._connection, partition, end)
        if image is None:
            return 0
        self._next[partition] = image.next_offset
        for area in image.areas:
            self._registers[area.area_id] = area.state
            self._heads[area.area_id] = (partition, area.number, area.hash, area.offset)
        return image.next_offset

    def _seen(self, partition: int, block: Block, offset: int) -> None:
        self._heads[block.area_id] = (partition, block.number, block.hash, offset)
        self._next[partition] = offset + 1
        self._checkpoints.folded(partition, len(block.entries))

    def _image(self, partition: int) -> Image:
        areas = tuple(
            AreaImage(area_id=area_id, number=number, hash=digest, offset=offset, state=self._registers[area_id])
            for area_id, (home, number, digest, offset) in self._heads.items()
            if home == partition
        )
        return Image(partition=partition, next_offset=self._next[partition], areas=areas)

    def _learn_roles(self, block: Block) -> None:
        register = self._registers.setdefault(block.area_id, Registry())
        for fact in facts_of(block, _ROLE_EVENTS):
            registry.fold(register, fact)

    def _revoked(self, consumer: Any, _: list[TopicPartition]) -> None:
        consumer.unassign()


def run(
    connection: Connection,
    slot: int = 0,
    stop: threading.Event | None = None,
    monitor: Monitor | None = None,
    checkpoints: Checkpoints | None = None,
) -> None:
    """Publish until told to stop; arguments and errors as for the sequencer's `run`."""
    worker = Publisher(connection, slot, monitor, checkpoints)
    worker.open()
    while stop is None or not stop.is_set():
        worker.step()
    worker.close()


def _positions(nexts: dict[int, int]) -> Iterator[TopicPartition]:
    for partition, offset in nexts.items():
        yield TopicPartition(JOURNAL, partition, offset)


def _headers(block: Block, index: int) -> dict[str, str]:
    entry = block.entries[index]
    return {
        "ce_specversion": "1.0",
        "ce_id": entry.event_id,
        "ce_source": "/flexbus",  # not the sender: that is an identity
        "ce_type": entry.event_type,
        "ce_subject": block.area_id,
        "ce_time": iso(entry.received_at_ms),
        "ce_block": str(block.number),
        "ce_index": str(index),
    }
