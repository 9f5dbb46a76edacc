"""A small real bus for tests: a Kafka of its own, the real sequencer with rules that let everything pass."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from uuid import uuid4

from flexbus import codec
from flexbus import events as ev
from flexbus.journal import Block, verify_block
from flexbus.partition import partition_of
from flexbus.topics import inbox
from flexbus.views.fact import facts_of
from streams.broker import Broker
from streams.intake import Rules
from streams.journal_reader import Ends, read_blocks
from streams.kafka import Connection
from streams.sequencer import Sequencer
from streams.topics import create_topics

PARTY = "DSO-TEST"
PARTITIONS = 3
_FULL_MACHINE_S = 60.0
OPEN_RULES = Rules(
    content=lambda event: (),
    state=lambda: None,
    fold=lambda state, fact: None,
    admission=lambda state, event, sender, behalf, at: (),
)


class Bus:
    """What a test does with the bus."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._producer = connection.producer()
        self._ends = Ends(connection)
        self._read = dict.fromkeys(range(PARTITIONS), 0)
        self._blocks: dict[int, list[Block]] = {p: [] for p in self._read}

    def say(self, event: Any, event_id: str | None = None, party: str = PARTY) -> str:
        event_id = event_id or str(uuid4())
        headers = {"ce_id": event_id, "ce_type": type(event).__name__, "ce_subject": event.area_id}
        key = event.area_id.encode()
        place = partition_of(key, PARTITIONS)
        self._producer.produce(inbox(party), codec.encode(event), key, partition=place, headers=headers)
        return event_id

    def flush(self) -> None:
        assert self._producer.flush(30) == 0

    def ask(self, area: str, request: str) -> str:
        return self.say(ev.FlexRequestWithdrawn(area_id=area, request_id=request, requester_id=PARTY))

    def blocks(self) -> list[Block]:
        """Return the journal as it is by now; what was read before is not read again."""
        for p, end in self._ends.of(self._read).items():
            self._blocks[p] += [block for _, block in read_blocks(self.connection, p, self._read[p], end)]
            self._read[p] = end
        return [block for p in sorted(self._blocks) for block in self._blocks[p]]

    def facts(self, area: str) -> list[Any]:
        """Return the facts of an area in order; its chain is verified on the way."""
        head, found = None, list[Any]()
        for block in self.blocks():
            if block.area_id == area:
                head = verify_block(head, block)
                found.extend(facts_of(block))
        return found

    def count(self, kind: str) -> Counter[str]:
        return Counter(b.area_id for b in self.blocks() for e in b.entries if e.event_type == kind)


def wait_for(what: Callable[[], bool], within_s: float = 40.0, every_s: float = 0.1) -> None:
    """Wait until something holds; fails when it does not in time."""
    deadline = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < deadline, f"not within {within_s:.0f} s"
        time.sleep(every_s)


@contextmanager
def running_bus(folder: Path, sequenced: bool = True) -> Iterator[tuple[Bus, Broker]]:
    broker = Broker(folder / "broker")
    try:
        connection = Connection(broker.start())
        create_topics(connection, (PARTY,), PARTITIONS)
        with sequencing(connection) if sequenced else nullcontext():
            yield Bus(connection), broker
    finally:
        broker.stop()


@contextmanager
def working(worker: Any) -> Iterator[None]:
    """Let a sequencer or publisher work in a thread; that it ended by itself is a failure.

    Its watchdog would end the process of the tests, and on a full machine a step may take long.
    """
    stop = threading.Event()

    def work() -> None:
        with worker.watchdog.patient(_FULL_MACHINE_S):
            worker.open()
            while not stop.is_set():
                worker.step()
            worker.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
        assert thread.is_alive(), "it ended by itself"
    finally:
        stop.set()
        thread.join(20)


@contextmanager
def sequencing(connection: Connection, rules: Rules = OPEN_RULES) -> Iterator[None]:
    with working(Sequencer(connection, 0, rules)):
        yield
