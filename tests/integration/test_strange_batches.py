"""Batches that no honest client sends, on a real Kafka: each is refused, nothing around it is lost, nobody waits."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import cramjam
import pytest
from confluent_kafka import Producer, TopicPartition

from flexbus.client import Client
from flexbus.events import EventRejected, Verdict
from flexbus.partition import partition_of
from flexbus.topics import inbox
from streams import stored
from streams.kafka import Connection
from streams.sequencer import Sequencer
from streams.topics import create_topics, journal_partitions
from tests.crafted import SNAPPY, STRANGE, ZSTD, A, crafted, post, record
from tests.integration import core
from tests.integration.bus import working
from tests.integration.core import FSP_A, FSP_B, Worker

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(600)]

AREA = "north"
ODD = {what: f"odd-{n}" for n, what in enumerate(STRANGE)}
FLOOD, BOMBS = "odd-flood", "odd-bombs"
TAKEN_BACK = 10_000
ONE = crafted(A)
HUGE = crafted(A, codec=SNAPPY, packed=b"\x82SNAPPY\0" + bytes(8) + (450_000_000).to_bytes(4, "big") + b"\0")


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    with core.own_kafka(tmp_path_factory.mktemp("strange") / "broker") as found:
        create_topics(found, [*ODD.values(), FLOOD, BOMBS])
        yield found


def test_what_would_take_all_of_its_memory_does_not_end_the_broker(connection: Connection) -> None:
    huge, one = post(connection, (inbox(FSP_A), 0, HUGE), (inbox(FSP_A), 0, ONE))
    assert (huge != 0, one) == (True, 0)


def covered(rejections: list[EventRejected], party: str, partition: int) -> list[tuple[int, int]]:
    """First and next offset of all that was refused of a party in a partition, in order."""
    found = []
    for r in rejections:
        if (r.inbox_topic, r.inbox_partition) == (inbox(party), partition):
            told = [re.search(r"batch of (\d+) records", fault.message) for fault in r.faults]
            found.append((r.inbox_offset, r.inbox_offset + max([int(t[1]) for t in told if t], default=1)))
    return sorted(found)


def whole(parts: list[tuple[int, int]], end: int) -> bool:
    """Tell whether parts follow each other from 0 to an end."""
    return [0, *(after for _, after in parts)] == [*(first for first, _ in parts), end]


@pytest.mark.alone
@pytest.mark.long
def test_none_ends_or_delays_the_sequencer_and_each_is_refused_once(connection: Connection) -> None:
    with Worker("streams.sequencer", connection) as worker, Client(connection.bootstrap, FSP_A) as client:
        core.open_gates(connection, [AREA])
        number = iter(range(10_000))

        def others_go_on() -> None:
            assert client.send(core.offer_of(next(number), AREA)).verdict is Verdict.ACCEPTED

        for partition in (1, 2):  # what comes while it reads, and what waits when it starts
            assert not any(post(connection, *((inbox(party), partition, ONE) for party in ODD.values())))
            core.eventually(lambda p=partition: all(covered(core.rejections(connection), o, p) for o in ODD.values()))
            if partition == 2:
                worker.signal(signal.SIGSTOP)
            taken = post(connection, *((inbox(party), partition, STRANGE[what]) for what, party in ODD.items()))
            assert not any(post(connection, *((inbox(party), partition, ONE) for party in ODD.values())))
            counts = [int.from_bytes(batch[57:61], "big") for batch in STRANGE.values()]
            ends = {o: 2 + n * (code == 0) for o, n, code in zip(ODD.values(), counts, taken, strict=True)}
            assert sum(end > 2 for end in ends.values()) > 10, "this broker takes most of them"
            if partition == 2:
                worker.kill()
            others_go_on()

            def refused(partition: int = partition, ends: dict[str, int] = ends) -> bool:
                found = core.rejections(connection)
                return all(whole(covered(found, party, partition), end) for party, end in ends.items())

            core.eventually(refused, 120, "not all was refused, or something twice")
        others_go_on()
        assert worker.starts <= 3  # once by the batch that ends the client's library, once by us


def test_a_sender_that_uses_transactions_is_read_like_any_other(connection: Connection, tmp_path: Path) -> None:
    """The end of each has an offset that no record has, and what is taken back has some as well."""
    log = tmp_path / "log"
    with Worker("streams.sequencer", connection, log=log), Client(connection.bootstrap, FSP_B) as client:
        core.open_gates(connection, ["west"])
        producer = Producer({"bootstrap.servers": connection.bootstrap, "transactional.id": "an-honest-one"})
        producer.init_transactions(30)
        wanted = []
        for number in range(30):
            record = client.record(core.offer_of(number, "west", FSP_B))
            producer.begin_transaction()
            place = partition_of(b"west", journal_partitions(connection))
            producer.produce(inbox(FSP_B), record.value, record.key, place, headers=dict(record.headers))
            if number % 3:
                producer.commit_transaction(30)
                wanted.append(record.headers["ce_id"])
            else:
                producer.abort_transaction(30)
        core.eventually(lambda: [e.event_id for e in core.entries(connection) if e.sender_id == FSP_B] == wanted, 60)
    assert "with care" not in log.read_text()


def test_what_is_taken_back_by_the_thousand_delays_nobody_and_is_passed_over_once(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker's answers are as short beside it as they are beside gigabytes."""
    monkeypatch.setattr(stored, "_FETCH_BYTES", 50_000)
    area, spot = "east", (inbox(FSP_B), partition_of(b"east", journal_partitions(connection)))
    own = {"transactional.id": "a-bad-one", "batch.num.messages": 1, "linger.ms": 0}
    bad = Producer({"bootstrap.servers": connection.bootstrap, **own})
    bad.init_transactions(30)
    worker, numbers = Sequencer(connection), iter(range(10_000))
    with working(worker), Client(connection.bootstrap, FSP_A) as client, Client(connection.bootstrap, FSP_B) as other:
        core.open_gates(connection, [area])

        def others_go_on() -> None:
            assert client.send(core.offer_of(next(numbers), area)).verdict is Verdict.ACCEPTED

        def much_is_taken_back() -> None:
            bad.begin_transaction()
            for _ in range(TAKEN_BACK):
                bad.produce(spot[0], b"", area.encode(), spot[1])
                bad.poll(0)
            assert bad.flush(60) == 0
            bad.abort_transaction(60)
            others_go_on()

        def is_passed_over() -> bool:
            others_go_on()
            (place,) = worker._consumer.committed([TopicPartition(*spot)], timeout=30)
            return bool(place.offset > 2 * TAKEN_BACK)

        much_is_taken_back()
        (receipt,) = other.verdicts(other.post_all([core.offer_of(1, area, FSP_B)]), 60)
        assert receipt.verdict is Verdict.ACCEPTED
        assert worker._caution.suspects(spot[0])
        much_is_taken_back()
        core.eventually(is_passed_over, 60, "who comes next would read it again")


def test_a_kilobyte_that_becomes_megabytes_ends_no_sequencer_again_and_again(connection: Connection) -> None:
    """Each batch is sound by itself; what a client's library makes at once of all that waits is gigabytes."""
    large = [
        record(0, bytes(30_000_000)),
        record(0, b"x", headers=((b"ce_type", b"a" * 30_000_000),)),
    ]
    bombs = [crafted(r, codec=ZSTD, packed=bytes(cramjam.zstd.compress(r))) for r in large]
    count = 60
    with Worker("streams.sequencer", connection) as worker, Client(connection.bootstrap, FSP_A, timeout_s=30) as client:
        core.open_gates(connection, ["far-north"])
        worker.signal(signal.SIGSTOP)
        assert not any(post(connection, *[(inbox(BOMBS), n % 4, bombs[n // 4 % 2]) for n in range(count)]))
        worker.kill()
        assert client.send(core.offer_of(1, "far-north")).verdict is Verdict.ACCEPTED

        def all_refused() -> bool:
            found = core.rejections(connection)
            return [len(covered(found, BOMBS, partition)) for partition in range(4)] == [count // 4] * 4

        core.eventually(all_refused, 180)
        assert worker.starts == 2


def test_a_flood_of_nothing_does_not_delay_the_others(connection: Connection) -> None:
    """Fifty kilobytes of records without anything, each of which would cost as much as an offer."""
    nothing = crafted(*[record(n, b"") for n in range(40_000)])
    with Worker("streams.sequencer", connection) as worker, Client(connection.bootstrap, FSP_A, timeout_s=30) as client:
        core.open_gates(connection, ["south"])
        assert not any(post(connection, *[(inbox(FLOOD), 3, nothing)] * 100))
        assert client.send(core.offer_of(1, "south")).verdict is Verdict.ACCEPTED
        core.eventually(lambda: whole(covered(core.rejections(connection), FLOOD, 3), 4_000_000), 60)
        assert worker.starts == 1
