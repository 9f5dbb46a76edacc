"""The sequencer as a process on a real Kafka: killed, doubled, paused, fed with poison."""

import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from operator import attrgetter
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import NewTopic

from flexbus import codec
from flexbus import events as ev
from flexbus.client import Client, Record, Sent
from flexbus.errors import FaultCode
from flexbus.events import Verdict
from flexbus.partition import partition_of
from flexbus.topics import inbox, party_topic
from streams import topics
from streams.kafka import Connection
from streams.sequencer import Sequencer
from streams.topics import create_topics
from tests import market
from tests.integration import core
from tests.integration.bus import working
from tests.integration.core import FMO, FSP_A, FSP_B, Worker

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

AREAS = ("north", "east", "south", "west", "isle")
SEQUENCER = "streams.sequencer"


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    with core.own_kafka(tmp_path / "broker") as found:
        yield found


class Load:
    """Offers of two providers in all areas, one in seven sent twice; knows what must come out."""

    def __init__(self, connection: Connection, seed: int) -> None:
        self._random = random.Random(seed)
        self._clients = {party: Client(connection.bootstrap, party) for party in (FSP_A, FSP_B)}
        self._connection = connection
        self.ids: set[str] = set()
        self.sent: Counter[str] = Counter()
        self._number = 0

    def send(self, count: int) -> None:
        records: dict[str, list[Record]] = {FSP_A: [], FSP_B: []}
        for _ in range(count):
            self._number += 1
            party = self._random.choice((FSP_A, FSP_B))
            record = self._clients[party].record(
                core.offer_of(self._number, self._random.choice(AREAS), party),
                event_id=str(uuid4()),
            )
            self.ids.add(str(record.headers["ce_id"]))
            records[party] += [record] * (2 if self._random.random() < 1 / 7 else 1)
        for party, mine in records.items():
            self._clients[party].post_records(mine)
            self.sent[party] += len(mine)

    def settled(self) -> bool:
        return all(len(core.receipts(self._connection, p)) >= n for p, n in self.sent.items())

    def check(self) -> None:
        """Nothing lost, nothing doubled: by a count of the topics alone."""
        core.eventually(self.settled, 90, "receipts are missing")
        found = Counter(e.event_id for e in core.entries(self._connection) if e.event_type == "FlexOfferSubmitted")
        lost, doubled = self.ids - found.keys(), {i for i, n in found.items() if n > 1}
        assert (len(lost), len(doubled), len(found)) == (0, 0, len(self.ids))
        for party, count in self.sent.items():
            receipts = core.receipts(self._connection, party)
            places = Counter((r.inbox_partition, r.inbox_offset) for r in receipts)
            assert len(receipts) == len(places) == count
            accepted = sum(r.verdict is Verdict.ACCEPTED for r in receipts)
            assert Counter(r.verdict for r in receipts) == Counter(
                {Verdict.ACCEPTED: accepted, Verdict.DUPLICATE: count - accepted}
            )
        for client in self._clients.values():
            client.close()


def test_kill_nine_under_load_loses_nothing_and_doubles_nothing(connection: Connection) -> None:
    with Worker(SEQUENCER, connection) as worker:
        core.open_gates(connection, AREAS)
        load, chance = Load(connection, seed=1), random.Random(2)
        for _ in range(5):
            load.send(300)
            time.sleep(chance.uniform(0.0, 1.5))
            worker.kill()
            load.send(300)
            time.sleep(chance.uniform(0.5, 2.0))
        load.check()
        assert worker.starts >= 6


def test_workers_come_go_and_wake_up_as_zombies(connection: Connection) -> None:
    with ExitStack() as stack:
        first = stack.enter_context(Worker(SEQUENCER, connection, 0))
        core.open_gates(connection, AREAS)
        load = Load(connection, seed=3)
        load.send(400)
        second = stack.enter_context(Worker(SEQUENCER, connection, 1))
        time.sleep(3)
        load.send(400)
        first.signal(signal.SIGSTOP)  # longer than session and transaction last: the other takes its areas over
        load.send(400)
        time.sleep(core.PAUSE_S)
        first.signal(signal.SIGCONT)
        load.send(400)
        second.kill()
        load.send(400)
        third = stack.enter_context(Worker(SEQUENCER, connection, 2))
        time.sleep(2)
        load.send(400)
        third.stop()
        load.check()


class SlowToTakeOver(Sequencer):
    """Its consumer has fetched inputs by the time it is through with an assignment, and returns them at once."""

    def _assigned(self, consumer: Any, assignment: list[TopicPartition]) -> None:
        super()._assigned(consumer, assignment)
        time.sleep(3.0)  # longer than a fetch may wait


def test_what_comes_during_an_assignment_is_not_lost(connection: Connection) -> None:
    with Client(connection.bootstrap, FSP_A) as client:
        sent = client.post_all(core.offer_of(n, area) for n in range(20) for area in AREAS)
        sequencer = SlowToTakeOver(connection)
        sequencer.open()
        read = 0

        def done() -> bool:
            nonlocal read
            read += sequencer.step()
            return read >= len(sent)

        core.eventually(done, what="inputs are missing")
        sequencer.close()
        receipts = client.verdicts(sent)
        assert len(receipts) == len(sent)
        assert {r.verdict for r in receipts} == {Verdict.REJECTED}  # these areas were never opened


def test_a_party_that_comes_later_is_heard(connection: Connection) -> None:
    with Worker(SEQUENCER, connection):
        core.open_gates(connection, AREAS[:1])
        create_topics(connection, ("late",))
        with Client(connection.bootstrap, "late") as late:
            receipt = late.send(core.offer_of(1, AREAS[0]))
            assert receipt.verdict is Verdict.REJECTED


def test_who_could_get_nothing_is_heard_once_its_topic_is_there(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With access control who runs the bus makes the topics, perhaps a moment after the party has begun to send."""

    def refused(_: Connection, parties: Iterable[str], **__: object) -> None:
        raise topics.TopicsRefused("only who runs the bus makes topics", map(party_topic, parties))

    monkeypatch.setattr(topics, "create_topics", refused)
    monkeypatch.setattr(topics, "_ASK_AGAIN_S", 0.5)
    admin, area = connection.admin(), AREAS[0]
    with working(Sequencer(connection)):
        core.open_gates(connection, [area])
        (made,) = admin.create_topics([NewTopic(inbox("early"), 4, 1)]).values()
        made.result(30)
        with Client(connection.bootstrap, FSP_A) as other:
            record = other.record(core.offer_of(1, area))
        writer, place = connection.producer(), partition_of(area.encode(), 4)

        def sent() -> None:
            writer.produce(inbox("early"), record.value, record.key, place, headers={"ce_id": str(uuid4())})
            assert writer.flush(30) == 0

        sent()
        core.eventually(lambda: any(r.sender_id == "early" for r in core.rejections(connection)))
        (made,) = admin.create_topics([NewTopic(party_topic("early"), 1, 1)]).values()
        made.result(30)

        def heard() -> bool:
            sent()
            return bool(core.receipts(connection, "early"))

        core.eventually(heard, 30, "it was forgotten")


def test_repeats_and_reused_ids(connection: Connection) -> None:
    area = AREAS[0]
    with Worker(SEQUENCER, connection):
        core.open_gates(connection, [area])
        with Client(connection.bootstrap, FSP_A) as a, Client(connection.bootstrap, FSP_B) as b:
            event_id = str(uuid4())
            first = a.send(core.offer_of(1, area), event_id=event_id)
            assert (first.verdict, first.faults) == (Verdict.ACCEPTED, ())
            assert a.send(core.offer_of(1, area), event_id=event_id).verdict is Verdict.DUPLICATE
            for client, event in ((a, core.offer_of(2, area)), (b, core.offer_of(1, area, FSP_B))):
                reused = client.send(event, event_id=event_id)
                assert [f.code.value for f in reused.faults] == ["ID_REUSED"]


def test_poison_is_rejected_with_every_fault_and_stops_nothing(connection: Connection) -> None:
    area = AREAS[0]
    good = core.offer_of(1, area)
    with Worker(SEQUENCER, connection) as worker, Client(connection.bootstrap, FSP_A) as client:
        core.open_gates(connection, [area])
        encoded, key = codec.encode(good), area.encode()

        def record(value: bytes, key: bytes = key, **headers: str) -> Record:
            return Record(value, key, {"ce_id": str(uuid4()), **headers})

        poison: list[tuple[Record, set[str]]] = [
            (record(b""), {"NOT_DECODABLE"}),
            (record(b'{"type": "FlexOfferSubmitted"}'), {"NOT_DECODABLE", "MISSING_FIELD"}),
            (record(b"\xc3\x01"), {"NOT_DECODABLE"}),
            (record(b"\xc3\x01" + bytes(8) + b"x"), {"UNKNOWN_SCHEMA"}),
            (record(encoded[:-1]), {"NOT_DECODABLE"}),
            (record(encoded + b"\x00"), {"NOT_DECODABLE"}),
            (record(random.Random(1).randbytes(5_000_000)), {"TOO_LARGE"}),
            (record(bytes(5_000_000)), {"TOO_LARGE"}),
            (record(codec.encode(core.chains(connection)[area][0])), {"UNKNOWN_EVENT"}),
            (Record(encoded, key, {}), {"BAD_HEADER"}),
            (Record(encoded, key, {"ce_id": "1"}), {"BAD_HEADER"}),
            (record(encoded, ce_type="GateClosed", ce_subject="elsewhere", ce_time="noon"), {"BAD_HEADER"}),
            (record(encoded, b"elsewhere"), {"BAD_HEADER"}),
            (record(encoded, b"\xff\xfe"), {"BAD_HEADER"}),
            (record(codec.encode(core.offer_of(1, area, FSP_B))), {"NOT_YOURS_OR_UNKNOWN"}),
            (record(codec.encode(core.in_area(market.gate_closed(), area))), {"WRONG_ROLE"}),
        ]
        sent = client.post_records(r for r, _ in poison)
        for receipt, (_, expected) in zip(client.verdicts(sent), poison, strict=True):
            assert receipt.verdict is Verdict.REJECTED
            assert {f.code.value for f in receipt.faults} == expected, receipt.faults
        assert client.send(good).verdict is Verdict.ACCEPTED
        kept = {(r.inbox_partition, r.inbox_offset): r for r in core.rejections(connection)}
        for place, (record_, _) in zip(sent, poison, strict=True):
            found = kept[place.partition, place.offset]
            assert (found.original, found.sender_id, found.inbox_topic) == (record_.value, FSP_A, inbox(FSP_A))
        headers = kept[sent[11].partition, sent[11].offset]
        assert {f.path for f in headers.faults} == {"$headers.ce_type", "$headers.ce_subject", "$headers.ce_time"}
        assert worker.starts == 1


def test_a_flood_of_large_records_is_worked_off_in_bounded_memory(connection: Connection) -> None:
    area, flood = AREAS[0], 400
    with Worker(SEQUENCER, connection) as worker, Client(connection.bootstrap, FSP_A, timeout_s=120) as client:
        core.open_gates(connection, [area])
        noise = random.Random(1).randbytes(950_000)  # 380 MB in all, as fast as the broker takes them
        with Sampling(worker) as memory:
            sent = client.post_records(Record(noise, area.encode(), {"ce_id": str(uuid4())}) for _ in range(flood))
            assert client.send(core.offer_of(1, area)).verdict is Verdict.ACCEPTED
            assert {r.verdict for r in client.verdicts(sent)} == {Verdict.REJECTED}
        assert memory.most < 400_000_000
        assert worker.starts == 1


class Sampling:
    """Looks at a process's memory all the time."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.most = 0

    def _run(self) -> None:
        while not self._stop.wait(0.05):
            self.most = max(self.most, self._worker.memory())

    def __enter__(self) -> "Sampling":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


SLOWLY = """
import sys, time
from streams import intake, kafka, transaction
from streams.sequencer import run

kafka.TRANSACTION_TIMEOUT_MS, step = 5_000, intake.Intake.{step}
transaction.Watchdog.__init__.__defaults__ = (4.0,)
intake.Intake.{step} = lambda *given: (time.sleep({seconds}), step(*given))[1]
run(kafka.Connection(sys.argv[1]))
"""


@pytest.mark.parametrize(("step", "seconds"), [("read", 0.15), ("_decide", 0.4)])  # Kafka gives up every ten seconds
def test_a_batch_that_takes_longer_than_a_transaction_may_last_is_worked_off(
    connection: Connection, step: str, seconds: float
) -> None:
    """A megabyte may take seconds on a slow machine: here all inputs take long, and time-outs are short."""
    slowly = SLOWLY.format(step=step, seconds=seconds)
    with Client(connection.bootstrap, FSP_A, timeout_s=120) as client:
        sent = client.post_all(core.offer_of(n, area) for n in range(8) for area in AREAS)
        with Worker(SEQUENCER, connection, command=[sys.executable, "-c", slowly, connection.bootstrap]) as worker:
            verdicts = client.verdicts(sent)
            assert {r.verdict for r in verdicts} == {Verdict.REJECTED}  # nobody opened the areas
            assert worker.starts == 1


def test_what_is_read_with_care_is_let_go_with_its_partitions(connection: Connection) -> None:
    """Between two assignments nothing is decided: by then the group may have given the partitions to another."""
    producer, worker = connection.producer(), Sequencer(connection)
    for number in range(40_000):
        producer.produce(inbox(FSP_A), random.randbytes(50), b"k", partition=number % 4)
    assert producer.flush(30) == 0
    held: list[int] = []  # partitions that were assigned when something was decided
    sequence = worker._sequence

    def sequenced(batch: list[Any], *, last: bool) -> list[Any] | None:
        held.append(len(worker._consumer.assignment()))
        return sequence(batch, last=last)

    worker._sequence = sequenced  # type: ignore[method-assign]
    worker._caution.suspect([inbox(FSP_A)])
    worker.open()
    deadline = time.monotonic() + 60
    while not held:
        worker.step()
        assert time.monotonic() < deadline
    with working(Sequencer(connection, 1)):
        while len(worker._consumer.assignment()) in (0, held[0]):
            worker.step()
            assert time.monotonic() < deadline
    worker.close()
    assert 0 not in held


def test_a_record_in_the_wrong_partition_cannot_split_a_chain(connection: Connection) -> None:
    area = AREAS[0]
    with Worker(SEQUENCER, connection), Client(connection.bootstrap, FMO) as fmo:
        opened = ev.AreaOpened(area_id=area, name=area, fmo_id=FMO, time_zone="Europe/Helsinki")
        home = fmo.send(opened)
        assert home.verdict is Verdict.ACCEPTED
        elsewhere = (home.inbox_partition + 1) % 4
        record = fmo.record(core.in_area(market.product(), area))
        producer = connection.producer()
        places: list[Any] = []
        producer.produce(
            inbox(FMO),
            record.value,
            record.key,
            partition=elsewhere,
            headers=dict(record.headers),
            on_delivery=lambda _, m: places.append(m.offset()),
        )
        producer.flush(10)
        (receipt,) = fmo.verdicts([Sent(event_id=None, partition=elsewhere, offset=places[0])])
        assert [(f.code.value, f.path) for f in receipt.faults] == [("BAD_HEADER", "$key")]
        assert set(core.chains(connection)) == {area}


HEADROOM_BYTES = 150_000_000


BOMBS = (
    ("zstd", 1, 200_000_000),  # six kilobytes that the client's library refuses to unpack
    ("gzip", 1, 300_000_000),  # unpacked whatever it takes
    ("lz4", 120_000, 1_000),  # small as a whole, and too many for a moment
)


@pytest.mark.long  # `make test` has one that becomes megabytes in test_strange_batches.py
def test_a_batch_that_becomes_gigabytes_is_one_rejection(connection: Connection) -> None:
    program = "import sys; from streams.kafka import Connection; from streams.sequencer import run; "
    program += f"run(Connection(sys.argv[1]), headroom_bytes={HEADROOM_BYTES})"
    with Worker(SEQUENCER, connection, command=[sys.executable, "-c", program, connection.bootstrap]) as worker:
        core.open_gates(connection, AREAS)
        load = Load(connection, seed=4)
        before = len(core.rejections(connection))
        for codec_name, records, size in BOMBS:
            load.send(20)
            _post(connection, [b"before"], "none")
            if records > 1:  # what a process could bear is refused when the next one looks before it reads
                worker.signal(signal.SIGSTOP)
            _post(connection, [bytes(size)] * records, codec_name)
            if records > 1:
                worker.kill()
            _post(connection, [b"after"], "none")
        load.send(20)
        load.check()
        core.eventually(lambda: len(core.rejections(connection)) >= before + 3 * len(BOMBS), 30, "not all was refused")
        found = sorted(core.rejections(connection)[before:], key=attrgetter("inbox_offset"))
        starts = worker.starts
    assert len(found) == 3 * len(BOMBS)
    for (_, records, _), first, batch, last in zip(BOMBS, found[::3], found[1::3], found[2::3], strict=True):
        assert (first.original, last.original) == (b"before", b"after")
        assert (batch.inbox_offset, last.inbox_offset) == (first.inbox_offset + 1, first.inbox_offset + 1 + records)
        (fault,) = [f for f in batch.faults if f.path == "$"]
        assert fault.code is FaultCode.TOO_LARGE
        assert f"batch of {records} records" in fault.message
        assert batch.original[16] == 2  # of the format of Kafka's batches, of which it is one
        assert len(batch.original) < 8_000_000
    assert starts <= 2 * len(BOMBS)


def _post(connection: Connection, values: list[bytes], codec_name: str) -> None:
    """Send records of somebody to one partition in one batch."""
    settings = {
        "compression.type": codec_name,
        "message.max.bytes": 1_000_000_000,
        "batch.size": 1_000_000_000,
        "batch.num.messages": 1_000_000,
        "queue.buffering.max.messages": 1_000_000,
        "queue.buffering.max.kbytes": 2_000_000,
        "linger.ms": 60_000,  # until the flush: records that come slowly would make two batches of one
    }
    producer = Producer({"bootstrap.servers": connection.bootstrap, **settings})
    told: list[Any] = []
    for value in values:
        producer.produce(inbox(market.DSO), value, partition=1, on_delivery=lambda *args: told.append(args))
    producer.flush(120)
    assert [error for error, _ in told if error is not None] == []
    assert len({m.offset() for _, m in told}) == len(values)
