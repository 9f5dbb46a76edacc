"""The sequencer: reads every inbox and is the only writer of the journal.

Workers are static members of one consumer group over the inboxes and the journal. A worker decides for the
areas of the journal partitions that are assigned to it, and for no other, so each chain has one writer; the
group's generation fences a worker that was paused past its time-outs. State is the journal's fold, moved on in
memory and thrown away whenever a transaction does not come about. While the broker writes one batch, the next is read
and decoded; it is decided on only when the one before stands.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Any

from confluent_kafka import OFFSET_END, KafkaError, KafkaException, TopicPartition
from prometheus_client import Counter

from flexbus import codec, validation
from flexbus.catalogue import SERVICES_BY_ID
from flexbus.errors import EnvironmentProblem
from flexbus.journal import Block
from flexbus.topics import JOURNAL, REJECTIONS, party_of_inbox, party_topic
from streams.caution import Caution
from streams.checkpoint import AreaImage, Checkpoints, Image
from streams.inbox import input_of
from streams.inputs import Input, Reading
from streams.intake import Intake, Outcome, Rules
from streams.journal_reader import end_offset, read_blocks
from streams.kafka import Connection, Trouble, environment_problem
from streams.monitor import Monitor
from streams.process import Headroom, collect_seldom, no_collection
from streams.registry import configured
from streams.stored import bounds_of
from streams.topics import PARTY_PARTITION, Targets, journal_partitions
from streams.transaction import Member, Output, Watchdog, commit, lags

__all__ = ["GROUP", "RULES", "Sequencer", "run"]

log = logging.getLogger(__name__)

GROUP = "flexbus-sequencer"
INBOXES = r"^flexbus\.in\..+\.v1$"
BATCH = 5000
BATCH_BYTES = 8_000_000
LEAST = 50  # inputs to be read at once, however large they are
WAIT_S = 0.05
DECIDE_S = 2.0  # within a transaction, which the broker gives up after ten seconds; what is left waits for the next
NEW_INBOX_WITHIN_MS = 2_000
# What is fetched waits in one queue, in the order of arrival, whoever sent it: a gate's closing does not overtake
# the offers that came before it. Only a backlog beyond this size can be overtaken.
PREFETCH_KBYTES = 65_536
# What a step may need beyond what is kept: its batch and the queue take a quarter of it.
HEADROOM_BYTES = 1_000_000_000
# A full batch makes half of them and lets them go; to look through them meanwhile took a tenth of the time.
COLLECT_AFTER = 1_000_000
LAG_EVERY_S = 2.0
LAG_SHARE = 0.005  # of the time at most
_TIMEOUT_S = 30.0
_Place = tuple[int, Block, int]  # partition, block and its offset

RULES = Rules(
    content=validation.content_faults,
    state=validation.Admission,
    fold=validation.fold_admission,
    admission=validation.admission_faults,
    authority=validation.authority_faults,
    signature=validation.signature_faults,
    told=lambda admission: len(admission.registry.participants),
)


class Sequencer:
    """One worker.

    Args:
        connection: the broker, as the sequencer's principal.
        slot: number of this worker among its siblings, from 0; at most one process has it.
        rules: the checks; others only in tests.
        monitor: where it says what it does.
        checkpoints: where it keeps its checkpoints; None keeps none.
        headroom: ends the process before a step takes far more memory than any should; None in a process that does
            other things too, as the limit is one of the whole process and of all that it starts.
    """

    def __init__(
        self,
        connection: Connection,
        slot: int = 0,
        rules: Rules = RULES,
        monitor: Monitor | None = None,
        checkpoints: Checkpoints | None = None,
        headroom: Headroom | None = None,
    ) -> None:
        self._connection = connection
        self._headroom = headroom
        self._checkpoints = checkpoints or Checkpoints(None, "sequencer")
        self._counts = _Counts(monitor or Monitor("sequencer"))
        self._rules = rules
        self._registry = configured()
        self._trouble = Trouble()
        self._partitions = journal_partitions(connection)
        self._intakes: dict[int, Intake] = {}
        self._delivered: list[_Place] = []
        self._read_to: dict[int, int] = {}  # next journal offset to read when a partition comes again
        self._most = BATCH  # to be read at once
        self._gathered_at = 0.0
        self._ahead: list[Input] = []  # read while the batch before was being written
        self._readings: dict[tuple[str, int, int], Reading] = {}  # what they say, by topic, partition, offset
        self._ending: Future[None] | None = None  # the end of the transaction under way
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self.watchdog = Watchdog()
        self._caution = Caution(connection, self.watchdog.beat)
        name = f"{GROUP}-{slot}"
        self._producer = connection.transactional_producer(name, self._trouble)
        self._targets = Targets(connection, self._producer)
        self._consumer = connection.member(
            GROUP,
            name,
            self._trouble,
            **{
                "topic.metadata.refresh.interval.ms": NEW_INBOX_WITHIN_MS,
                "queued.max.messages.kbytes": PREFETCH_KBYTES,
            },
        )
        self._member = Member(self._consumer, self._problem, self._assigned, self._revoked, self._could_not_read)

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
            for topic in (JOURNAL, REJECTIONS):
                with self.watchdog.patient(_TIMEOUT_S):
                    self._targets.ready(topic, _TIMEOUT_S)
        except KafkaException as error:
            raise self._problem(error) from error
        self._member.subscribe([INBOXES, JOURNAL])

    def step(self) -> int:
        """Read a batch and publish what it leads to; return how many inputs it had.

        Raises:
            EnvironmentProblem: the broker refuses or is lost; end the process.
            KafkaException: end the process; a fresh one takes over where the last transaction ended.
        """
        self.watchdog.beat()
        if self._intakes and self._headroom is not None:
            self._headroom.renew()
        self._counts.monitor.progress()
        self._counts.lag(self._consumer, self._caution)
        if self._trouble.hopeless is not None:
            raise self._problem(self._trouble.hopeless)
        if self._caution.doubts(drained=self._member.drained):
            self._member.set_back()
        inputs = self._gathered()
        told = {party_of_inbox(topic) for topic in {i.topic for i in inputs}} - SERVICES_BY_ID.keys()
        with self.watchdog.patient(_TIMEOUT_S):
            self._targets.look(told, _TIMEOUT_S)
        batches = deque(_by_size(_in_order_of_arrival(inputs)))
        while batches:
            left = self._sequence(batches.popleft(), last=not batches)
            if left is None:
                self._intakes, self._read_to = {}, {}  # they are ahead of the journal
                self._member.set_back()
                break
            if left:
                batches.appendleft(left)
        if due := [p for p in self._checkpoints.due() if p in self._intakes]:
            self._checkpoints.write(self._image, due)
        return len(inputs)

    def close(self) -> None:
        """Leave in good order; the place stays reserved for the session time-out."""
        self._consumer.close()
        self._pool.shutdown()
        self._caution.close()
        self.watchdog.stop()
        self._checkpoints.close()

    def _problem(self, error: KafkaException | KafkaError) -> EnvironmentProblem:
        return environment_problem(error, self._connection.bootstrap, self._trouble, self._producer)

    def _gathered(self) -> list[Input]:
        """Return what to decide on next: what was read ahead, and what else comes until it is time.

        Every block costs each of its readers, however little is in it.
        """
        wait_s = WAIT_S - (time.monotonic() - self._gathered_at) if self._ahead else WAIT_S
        if wait_s > 0 and len(self._ahead) < self._most:
            found = self._consume(wait_s)  # first: it forgets what was read ahead if partitions come or go
            self._ahead += found
        self._gathered_at = time.monotonic()
        inputs, self._ahead = self._ahead, []
        return inputs

    def _consume(self, wait_s: float) -> list[Input]:
        due = self._caution.is_due
        found = [input_of(m) for m in self._member.consume(self._most, 0.0 if due else wait_s)]
        if not self._caution.in_turn(found):
            self._member.set_back()
            return []
        if due:
            found += self._caution.share()
        if found:  # as many of this size as make a batch, whatever comes next
            size = sum(len(given.value or b"") for given in found) // len(found)
            self._most = max(LEAST, min(BATCH, BATCH_BYTES // (size + 1)))
        return found

    def _read_ahead(self, end: Callable[[], None]) -> None:
        """End a transaction; while the broker writes, read and decode what comes next."""
        self._ending = self._pool.submit(end)
        try:
            self._ahead = self._consume(0.0)
            # Decoded, an event takes many times its bytes; what is beyond the next batch waits as it came.
            for given in next(iter(_by_size(self._ahead)), []):
                self._read(given)
            self._ending.result()
        finally:
            self._ending = None

    def _read(self, given: Input) -> None:
        """Have an input read, unless it was before or is of a partition that is not ours."""
        self.watchdog.beat()  # a megabyte may take a second
        place = (given.topic, given.partition, given.offset)
        if place not in self._readings and (intake := self._intakes.get(given.partition)) is not None:
            self._readings[place] = intake.read(given)

    def _settle(self) -> None:
        """Let the transaction under way end, before partitions come or go."""
        if self._ending is not None:
            wait([self._ending])
            if self._ending.exception() is not None:
                self._intakes, self._read_to = {}, {}

    def _sequence(self, batch: list[Input], *, last: bool) -> list[Input] | None:
        """Publish what a batch leads to; return what of it there was no time for, None if nothing was published."""
        self._delivered = []
        outcomes: list[Outcome] = []
        taken: list[Input] = []
        left: list[Input] = []
        for given in batch:  # not within the transaction, which the broker gives up if it takes too long
            self._read(given)

        deadline = time.monotonic() + DECIDE_S

        def in_time(inputs: Iterable[Input]) -> Iterator[Reading]:
            for given in inputs:
                self.watchdog.beat()
                if taken and time.monotonic() > deadline:
                    left.append(given)
                    continue
                taken.append(given)
                yield self._readings.pop((given.topic, given.partition, given.offset))

        def outputs() -> Iterator[Output]:
            # One partition's outputs are on their way while the next one's inputs are decided on.
            for partition, inputs in groupby(sorted(batch, key=_by_partition), key=_by_partition):
                outcome = self._intakes[partition].decide(in_time(inputs))
                outcomes.append(outcome)
                yield from self._outputs(partition, outcome)

        def positions() -> Iterator[TopicPartition]:
            # All that was read is in this batch or before it, if it is the last: so is what was passed over.
            nexts = self._caution.positions() if last and not left else {}
            for i in taken:
                place = (i.topic, i.partition)
                nexts[place] = max(nexts.get(place, 0), i.next_offset)
            yield from (TopicPartition(topic, partition, offset) for (topic, partition), offset in nexts.items())

        def finish(end: Callable[[], None]) -> None:
            if last and not left:
                self._read_ahead(end)
            else:
                end()

        if not commit(self._producer, self._consumer, outputs(), positions(), finish):
            return None
        for outcome in outcomes:
            self._counts.add(outcome)
            for rejection in outcome.rejections:
                self._caution.refused(rejection.inbox_topic, len(rejection.original))
        for partition, block, offset in self._delivered:
            if partition not in self._intakes:  # went to somebody else while the broker wrote
                continue
            self._intakes[partition].placed(block.area_id, block.number, offset)
            self._read_to[partition] = max(self._read_to.get(partition, 0), offset + 1)
            self._checkpoints.folded(partition, len(block.entries))
        return left

    def _outputs(self, partition: int, outcome: Outcome) -> Iterable[Output]:
        for block in outcome.blocks:
            place = partial(self._note, self._delivered, partition, block)
            yield Output(JOURNAL, partition, block.area_id.encode(), codec.encode(block), delivered=place)
        for rejection in outcome.rejections:
            yield Output(REJECTIONS, partition, rejection.area_id.encode(), codec.encode(rejection))
        for receipt in outcome.receipts:
            if self._targets.party_ready(receipt.party_id):
                topic = party_topic(receipt.party_id)
                headers = {"ce_type": "ReceiptsIssued", "ce_subject": receipt.area_id}
                value = codec.encode(receipt, self._registry)
                yield Output(topic, PARTY_PARTITION, receipt.area_id.encode(), value, headers)

    @staticmethod
    def _note(places: list[_Place], partition: int, block: Block, offset: int) -> None:
        places.append((partition, block, offset))

    def _image(self, partition: int) -> Image:
        areas = tuple(
            AreaImage(area_id=area_id, number=head[0], hash=head[1], offset=offset, state=kept)
            for area_id, head, offset, kept in self._intakes[partition].kept()
        )
        return Image(partition=partition, next_offset=self._read_to[partition], areas=areas)

    def _assigned(self, consumer: Any, assignment: list[TopicPartition]) -> None:
        """Take over partitions: fenced, then stable offsets, then the journal, in this order (research F1)."""
        self._settle()
        self._ahead, self._readings = [], {}
        if self._headroom is not None:
            self._headroom.lift()
        mine = {t.partition for t in assignment if t.topic == JOURNAL}
        inboxes = [TopicPartition(t.topic, t.partition) for t in assignment if t.topic != JOURNAL]
        committed = consumer.committed(inboxes, timeout=_TIMEOUT_S) if inboxes else []
        self._read_to = {p: offset for p, offset in self._read_to.items() if p in mine}
        with no_collection():
            self._intakes = {p: self._restored(p) for p in mine}
        with self.watchdog.patient(_TIMEOUT_S):
            bounds = bounds_of(self._connection, [(t.topic, t.partition) for t in committed])
        places = [TopicPartition(t.topic, t.partition, _within(t, *bounds[t.topic, t.partition])) for t in committed]
        idle = [TopicPartition(JOURNAL, p, OFFSET_END) for p in mine]
        strays = [t for t in places if t.partition not in mine]
        starts = {(t.topic, t.partition): t.offset for t in places if t.partition in mine}
        self._caution.begin(starts, {spot: end for spot, (_, end) in bounds.items()})
        # The client fetches before it is told to pause: what it must not see does not stand there.
        away = [TopicPartition(t.topic, t.partition, OFFSET_END) for t in places if self._caution.suspects(t.topic)]
        consumer.assign([t for t in places if not self._caution.suspects(t.topic)] + away + idle)
        # The journal is assigned to say who writes it, not to be read. An inbox that came without its journal
        # partition (workers learn of a new inbox one after the other) waits for the next assignment.
        consumer.pause(idle + strays + away)
        self._checkpoints.settled()
        self._counts.monitor.ready(sorted(mine))
        log.info("assigned: journal partitions %s, %d inbox partitions", sorted(mine), len(places) - len(strays))

    def _could_not_read(self, topic: str, partition: int, offset: int) -> None:
        log.warning("%s, partition %d: the client cannot read what stands at %d", topic, partition, offset)
        self._caution.suspect([topic])

    def _revoked(self, consumer: Any, _: list[TopicPartition]) -> None:
        self._settle()
        self._ahead, self._readings = [], {}
        self._caution.begin({}, {})
        consumer.unassign()  # between two transactions: the intakes are as the journal is, and only need to catch up

    def _restored(self, partition: int) -> Intake:
        intake = self._intakes.get(partition) or self._from_checkpoint(partition)
        start = self._read_to.get(partition, 0)
        for offset, block in read_blocks(self._connection, partition, start, beat=self.watchdog.beat):
            intake.replay(block)
            intake.placed(block.area_id, block.number, offset)
            self._read_to[partition] = offset + 1
            self._checkpoints.folded(partition, len(block.entries))
        return intake

    def _from_checkpoint(self, partition: int) -> Intake:
        intake = Intake(partition, self._partitions, self._rules, self._registry)
        with self.watchdog.paused():
            end = end_offset(self._connection, partition)
            image = self._checkpoints.read(self._connection, partition, end)
            if image is not None:
                for area in image.areas:
                    intake.restore(area.area_id, (area.number, area.hash), area.offset, area.state)
                self._read_to[partition] = image.next_offset
        return intake


class _Counts:
    """The sequencer's metrics."""

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor
        self._rejections = Counter(
            "flexbus_rejections", "Faults of rejected inputs.", ("code",), registry=monitor.market
        )
        self._duplicates = Counter("flexbus_duplicates", "Inputs that were known already.", registry=monitor.registry)
        self._lag_at = 0.0

    def lag(self, consumer: Any, caution: Caution) -> None:
        if time.monotonic() >= self._lag_at:
            began = time.monotonic()
            suspects = caution.lags()
            for partition, behind in lags(consumer).items():
                known = behind + suspects.get(partition, 0)
                self.monitor.lag.labels(self.monitor.service, partition).set(known)
            now = time.monotonic()  # thousands of inboxes are not asked for the sake of a gauge all the time
            self._lag_at = now + max(LAG_EVERY_S, (now - began) / LAG_SHARE)

    def add(self, outcome: Outcome) -> None:
        service = self.monitor.service
        for (kind, area), count in outcome.accepted.items():
            self.monitor.events.labels(service, kind, area).inc(count)
        self.monitor.blocks.labels(service).inc(len(outcome.blocks))
        self._duplicates.inc(outcome.duplicates)
        for rejection in outcome.rejections:
            for fault in rejection.faults:
                self._rejections.labels(fault.code.value).inc()


def run(
    connection: Connection,
    slot: int = 0,
    stop: threading.Event | None = None,
    monitor: Monitor | None = None,
    checkpoints: Checkpoints | None = None,
    headroom_bytes: int = HEADROOM_BYTES,
) -> None:
    """Sequence until told to stop, in a process that does nothing else.

    Args:
        connection: the broker, as the sequencer's principal.
        slot: number of this worker among its siblings, from 0; at most one process has it.
        stop: set to end in good order.
        monitor: where it says what it does; the caller serves it.
        checkpoints: where it keeps its checkpoints; None keeps none.
        headroom_bytes: most memory that a step may need beyond what is kept; the process ends before it takes more.

    Raises:
        EnvironmentProblem: Kafka cannot be used.
        KafkaException: start a fresh process; what was not committed is read again.
    """
    collect_seldom(COLLECT_AFTER)
    headroom = Headroom(headroom_bytes)
    worker = Sequencer(connection, slot, monitor=monitor, checkpoints=checkpoints, headroom=headroom)
    worker.open()
    while stop is None or not stop.is_set():
        worker.step()
    worker.close()


def _within(place: TopicPartition, first: int, end: int) -> int:
    """Return where to read an inbox on: where the group stands, or if the broker has not that any more, all of it."""
    if first <= place.offset <= end:
        return int(place.offset)
    if place.offset >= 0:
        text = "%s, partition %d has %d to %d, and the group stands at %d: all of it is read again"
        log.warning(text, place.topic, place.partition, first, end, place.offset)
    return first


_by_partition = attrgetter("partition")


def _in_order_of_arrival(inputs: list[Input]) -> list[Input]:
    """Sort by the broker's time between inboxes, and never within one, should its clock have been set back."""
    latest: dict[tuple[str, int], int] = {}
    keyed = []
    for given in inputs:
        place = (given.topic, given.partition)
        at_ms = latest[place] = max(latest.get(place, 0), given.received_at_ms)
        keyed.append((at_ms, *place, given.offset, given))
    keyed.sort()  # no two have the same place, so the inputs themselves are never compared
    return [given for *_, given in keyed]


def _by_size(inputs: Iterable[Input]) -> Iterable[list[Input]]:
    batch: list[Input] = []
    size = 0
    for given in inputs:
        batch.append(given)
        size += len(given.value or b"")
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
