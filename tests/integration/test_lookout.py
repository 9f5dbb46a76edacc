"""A client that is given nothing, on a real Kafka: nobody who reads for as long as it lives waits for ever.

After a restart of Kafka a client was seen once to get nothing and say nothing, which no test can bring about. Here its
partitions are paused behind the back of who reads by it, which comes to the same.
"""

import threading
import time
import uuid
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Consumer

from flexbus.client import Client
from flexbus.errors import EnvironmentProblem
from flexbus.events import Verdict
from flexbus.topics import CLOCK
from streams import lookout
from streams.clock import PlayedClock, tick_bytes
from streams.context import Context
from streams.kafka import Connection
from streams.monitor import Monitor
from streams.page.feed import Feed
from streams.publisher import Publisher
from streams.scheduler import Scheduler
from streams.sequencer import Sequencer
from tests.integration import core
from tests.integration.bus import working
from tests.integration.core import FMO, Worker

pytestmark = pytest.mark.kafka
WITHIN_S = 30.0


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    with core.own_kafka(tmp_path_factory.mktemp("lookout") / "broker") as found:
        yield found


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookout, "LOOK_EVERY_S", 1.0)


def deafen(consumer: Consumer) -> None:
    consumer.pause(consumer.assignment())


def ends(step: Callable[[], object]) -> None:
    """Step until the error comes that has a fresh process take over."""
    with pytest.raises(EnvironmentProblem, match="this reader was given none"):
        goes_on(step, WITHIN_S)


def goes_on(step: Callable[[], object], seconds: float = 5.0) -> None:
    """Let it be at the end of everything, usually for some looks."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        step()


def more(connection: Connection) -> None:
    """Have a block written."""
    opened = core.founding(f"area-{uuid.uuid4().hex[:8]}")[0][1]
    with Worker("streams.sequencer", connection), Client(connection.bootstrap, FMO) as client:
        assert client.send(opened).verdict is Verdict.ACCEPTED


def test_the_sequencer_reads_by_another_client(connection: Connection) -> None:
    worker = Sequencer(connection)
    with working(worker), Client(connection.bootstrap, FMO) as client:
        first, second = (core.founding(f"area-{uuid.uuid4().hex[:8]}")[0][1] for _ in range(2))
        assert client.send(first).verdict is Verdict.ACCEPTED
        deafen(worker._consumer)
        (receipt,) = client.verdicts(client.post_all([second]), WITHIN_S)
        assert receipt.verdict is Verdict.ACCEPTED


def test_the_publisher_ends(connection: Connection) -> None:
    more(connection)
    worker = Publisher(connection)
    worker.open()
    deadline = time.monotonic() + WITHIN_S
    while worker.step() == 0:
        assert time.monotonic() < deadline
    goes_on(worker.step)
    deafen(worker._consumer)
    goes_on(worker.step)
    more(connection)
    ends(worker.step)
    worker.close()


def test_the_scheduler_ends(connection: Connection) -> None:
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
    thread.join(6.0)
    assert thread.is_alive(), failed
    deafen(worker._reader)
    more(connection)
    thread.join(WITHIN_S)
    assert "this reader was given none" in str(failed)


def test_the_clock_ends(connection: Connection) -> None:
    producer, clock = connection.producer(), PlayedClock(connection)
    producer.produce(CLOCK, tick_bytes(1_000), key=b"market", partition=0)
    assert producer.flush(10) == 0
    deadline = time.monotonic() + WITHIN_S
    while clock.now_ms() != 1_000:
        assert time.monotonic() < deadline
    goes_on(clock.now_ms)
    deafen(clock._reader)
    producer.produce(CLOCK, tick_bytes(2_000), key=b"market", partition=0)
    assert producer.flush(10) == 0
    ends(clock.now_ms)
    clock.close()


def test_the_feed_of_page_and_figures_ends(connection: Connection) -> None:
    more(connection)
    feed = Feed(connection)
    feed.open()

    def read() -> None:
        feed.read(500, 0.05)

    deadline = time.monotonic() + WITHIN_S
    while not feed.caught_up:
        read()
        assert time.monotonic() < deadline
    goes_on(read)
    assert feed._consumer is not None
    deafen(feed._consumer)
    more(connection)
    ends(read)
    feed.close()
