"""A client that is given nothing, on a real Kafka: nobody who reads for as long as it lives waits for ever.

After a restart of Kafka a client was seen once to get nothing and say nothing, which no test can bring about. Here its
partitions are paused behind the back of who reads by it, which comes to the same.
"""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer

from flexbus import codec
from flexbus.client import Client
from flexbus.errors import EnvironmentProblem
from flexbus.events import Verdict
from flexbus.partition import partition_of
from flexbus.topics import CLOCK, JOURNAL
from streams import lookout
from streams.clock import PlayedClock, tick_bytes
from streams.context import Context
from streams.kafka import Connection
from streams.lookout import Lookout
from streams.monitor import Monitor
from streams.page.feed import Feed
from streams.publisher import Publisher
from streams.scheduler import Scheduler
from streams.sequencer import Sequencer
from tests.integration import core
from tests.integration.bus import working
from tests.integration.core import FMO
from tests.page_day import blocks

pytestmark = pytest.mark.kafka
WITHIN_S = 60.0
LOOK_EVERY_S = 0.5
PARTITIONS = 4


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    with core.own_kafka(tmp_path_factory.mktemp("lookout") / "broker", PARTITIONS) as found:
        yield found


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> Callable[[Lookout], None]:
    """Has a reader look often, once it has begun to read: on a busy machine that alone may take seconds."""

    def often(watch: Lookout) -> None:
        monkeypatch.setattr(lookout, "LOOK_EVERY_S", LOOK_EVERY_S)
        watch._passed_s = LOOK_EVERY_S

    return often


def deafen(consumer: Consumer) -> None:
    consumer.pause(consumer.assignment())


def until(true: Callable[[], Any]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def goes_on(step: Callable[[], object], seconds: float = 6 * LOOK_EVERY_S) -> None:
    """Let it be at the end of everything, usually for some looks."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        step()


def ends(step: Callable[[], object]) -> None:
    """Step until the error comes that has a fresh process take over."""
    with pytest.raises(EnvironmentProblem, match="this reader was given none"):
        goes_on(step, WITHIN_S)


def more(connection: Connection) -> None:
    """Have a block written, as the sequencer does."""
    area = f"area-{uuid.uuid4().hex[:8]}"
    (_, opened), *_ = core.founding(area)
    (block,) = blocks([(FMO, opened, time.time_ns() // 1_000_000)], area_id=area)
    producer = connection.transactional_producer("more")
    producer.init_transactions(30)
    producer.begin_transaction()
    place = partition_of(area.encode(), PARTITIONS)
    producer.produce(JOURNAL, codec.encode(block), area.encode(), partition=place)
    producer.commit_transaction(30)


def test_the_sequencer_reads_by_another_client(connection: Connection, look: Callable[[Lookout], None]) -> None:
    worker = Sequencer(connection)
    with working(worker), Client(connection.bootstrap, FMO) as client:
        first, second = (core.founding(f"area-{uuid.uuid4().hex[:8]}")[0][1] for _ in range(2))
        assert client.send(first).verdict is Verdict.ACCEPTED
        look(worker._caution._lookout)
        time.sleep(6 * LOOK_EVERY_S)
        assert not worker._caution._suspects, "it is only quiet"
        deafen(worker._consumer)
        (receipt,) = client.verdicts(client.post_all([second]), WITHIN_S)
        assert receipt.verdict is Verdict.ACCEPTED


def test_the_publisher_ends(connection: Connection, look: Callable[[Lookout], None]) -> None:
    more(connection)
    worker, left = Publisher(connection), sum(map(len, core.chains(connection).values()))
    worker.open()
    deadline = time.monotonic() + WITHIN_S
    while left > 0:
        left -= worker.step()
        assert time.monotonic() < deadline
    look(worker._lookout)
    goes_on(worker.step)
    deafen(worker._consumer)
    goes_on(worker.step)
    more(connection)
    ends(worker.step)
    worker.close()


def test_the_scheduler_ends(connection: Connection, look: Callable[[Lookout], None]) -> None:
    monitor, stop = Monitor("scheduler"), threading.Event()
    worker = Scheduler(Context(service="scheduler", connection=connection, monitor=monitor, stop=stop))
    failed: list[BaseException] = []

    def run() -> None:
        try:
            worker.run()
        except EnvironmentProblem as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    until(lambda: len(worker._next) == PARTITIONS)
    thread.join(1.0)
    look(worker._lookout)
    thread.join(8 * LOOK_EVERY_S)  # it waits up to a second for blocks
    assert thread.is_alive(), failed
    deafen(worker._reader)
    more(connection)
    thread.join(WITHIN_S)
    assert "this reader was given none" in str(failed)


def test_the_clock_ends(connection: Connection, look: Callable[[Lookout], None]) -> None:
    producer, clock = connection.producer(), PlayedClock(connection)
    producer.produce(CLOCK, tick_bytes(1_000), key=b"market", partition=0)
    assert producer.flush(10) == 0
    until(lambda: clock.now_ms() == 1_000)
    look(clock._lookout)
    goes_on(clock.now_ms)
    deafen(clock._reader)
    producer.produce(CLOCK, tick_bytes(2_000), key=b"market", partition=0)
    assert producer.flush(10) == 0
    ends(clock.now_ms)
    clock.close()


def test_the_feed_of_page_and_figures_ends(connection: Connection, look: Callable[[Lookout], None]) -> None:
    more(connection)
    feed = Feed(connection)
    feed.open()

    def read() -> bool:
        feed.read(500, 0.05)
        return feed.caught_up

    until(read)
    look(feed._lookout)
    goes_on(read)
    assert feed._consumer is not None
    deafen(feed._consumer)
    more(connection)
    ends(read)
    feed.close()
