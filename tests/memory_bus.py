"""The whole bus in one process, without Kafka: the same rules, folds and decisions, one event per block.

For fast tests of the market's logic; what Kafka adds (order, exactly once, restarts) is tested on a real one.
"""

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from flexbus import codec
from flexbus.errors import CodecError, Fault
from flexbus.events import EventRejected
from flexbus.journal import Block, Entry, next_block
from flexbus.validation import admission_faults, content_faults
from flexbus.validation.state import Admission
from flexbus.validation.state import fold as fold_admission
from flexbus.views import agenda
from flexbus.views.fact import Emission, Fact, facts_of
from streams.area import Area
from streams.demo.mirror import DayStuckError
from streams.page.model import PageState, fold_rejection
from streams.page.model import fold as fold_page
from streams.stages import VIEWS


@dataclass
class MemoryPorts:
    """The demo world's ports to a bus in memory."""

    bus: "MemoryBus | None" = None

    def mirror(self, area_id: str, on_fact: Callable[[Fact], None]) -> "MemoryBus":
        self.bus = MemoryBus(area_id, on_fact)
        return self.bus

    def client(self, party: str) -> "_Client":
        assert self.bus is not None
        return _Client(self.bus, party)

    def ticker(self) -> "MemoryBus":
        assert self.bus is not None
        return self.bus


@dataclass
class _Client:
    bus: "MemoryBus"
    party: str

    def post_all(self, events: Iterable[Any]) -> list[SimpleNamespace]:
        return [SimpleNamespace(event_id=self.bus.post(self.party, e)) for e in events]

    def post_records(self, records: Iterable[Any]) -> None:
        for record in records:
            self.bus.post_bytes(self.party, record.value, record.headers["ce_id"])

    def close(self) -> None:
        """Nothing to close."""


class MemoryBus:
    """One market area in memory.

    Args:
        area_id: market area.
        on_fact: called for every fact, in order.
    """

    def __init__(self, area_id: str, on_fact: Callable[[Fact], None] = lambda _: None) -> None:
        self.area_id = area_id
        self.blocks: list[Block] = []
        self.rejected: list[EventRejected] = []
        self.seen: set[str] = set()
        self.page = PageState()
        self.on_fact = on_fact
        self.stages = [Area(area_id, view, 0) for view in VIEWS.values()]
        self._admission = Admission()
        self._agenda = agenda.Agenda()
        self._head: tuple[int, bytes] | None = None
        self._market_ms = 0
        self._ids = 0

    def post(self, party: str, event: Any, event_id: str | None = None) -> str:
        """Send an event as a party; return its id."""
        return self.post_bytes(party, codec.encode(event), event_id or self._next_id())

    def _next_id(self) -> str:
        self._ids += 1
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.area_id}/{self._ids}"))

    def post_bytes(self, party: str, payload: bytes, event_id: str) -> str:
        """Send bytes as a party; return the id."""
        if event_id in self.seen:
            return event_id
        try:
            event = codec.decode(payload)
            faults: tuple[Fault, ...] = content_faults(event)
            faults = faults or admission_faults(self._admission, event, party, None, self._now())
        except CodecError as error:
            event, faults = None, (error.fault(),)
        if faults:
            self._reject(party, payload, event_id, event, faults)
            return event_id
        entry = Entry(
            event_id=event_id,
            event_type=type(event).__name__,
            schema_fingerprint=payload[2:10],
            sender_id=party,
            on_behalf_of=None,
            received_at_ms=self._now(),
            inbox_partition=0,
            inbox_offset=len(self.blocks),
            payload=payload,
        )
        block = next_block(self.area_id, self._head, (entry,))
        self._head = (block.number, block.hash)
        self.blocks.append(block)
        self.seen.add(event_id)
        self.page = fold_page(self.page, block)
        for fact in facts_of(block):
            self._admission = fold_admission(self._admission, fact)
            self._agenda = agenda.fold(self._agenda, fact)
            for stage in self.stages:
                stage.take(block)
            self.on_fact(fact)
        return event_id

    def tick(self, market_ms: int) -> None:
        """Let market time pass; what falls due happens, and what follows from it."""
        self._market_ms = max(self._market_ms, market_ms)
        while entries := agenda.due(self._agenda, self._market_ms):
            self.post("scheduler", entries[0].emission.event, entries[0].emission.event_id)
            assert entries[0].emission.event_id in self.seen, self.rejected[-1].faults
            self.drain()

    def drain(self) -> None:
        """Let every stage do what is due until nothing is."""
        while due := [(stage, d) for stage in self.stages for d in stage.unsent()]:
            for stage, d in due:
                d.sent = True
                results = (d.what,) if isinstance(d.what, Emission) else d.what.run(*d.what.arguments)
                for emission in results:
                    self.post(stage.view.service, emission.event, emission.event_id)

    def caught_up(self) -> bool:
        """Tell whether the journal shows everything that the stages owe."""
        return not any(stage.pending for stage in self.stages)

    def _now(self) -> int:
        return self._market_ms

    def _reject(self, party: str, payload: bytes, event_id: str, event: Any, faults: tuple[Fault, ...]) -> None:
        rejection = EventRejected(
            area_id=self.area_id,
            rejection_id=self._next_id(),
            event_id=event_id,
            event_type=type(event).__name__ if event is not None else None,
            sender_id=party,
            on_behalf_of=None,
            inbox_topic=f"flexbus.in.{party}.v1",
            inbox_partition=0,
            inbox_offset=len(self.rejected),
            received_at_ms=self._now(),
            faults=faults,
            original=payload,
            headers={},
        )
        self.rejected.append(rejection)
        self.page = fold_rejection(self.page, rejection)

    # -- the ports of the demo world, so that the same world plays here --------------------------------------------

    def start(self) -> None:
        """Nothing to start."""

    def stop(self) -> None:
        """Nothing to stop."""

    def close(self) -> None:
        """Nothing to close."""

    def expect(self, market_ms: int) -> None:
        """Nothing to await: a tick here returns when everything due has happened."""

    def owed(self) -> str:
        """Return what stages still owe, for people."""
        return ", ".join(f"{s.view.service}: {len(s.pending)}" for s in self.stages if s.pending)

    def wait(self, done: Callable[[], bool], what: str | Callable[[], str], patience_s: float = 0) -> None:
        """Let the stages work; what is awaited must then hold."""
        self.drain()
        if not done():
            reasons = [str(f) for r in self.rejected[-3:] for f in r.faults]
            raise DayStuckError(f"{what if isinstance(what, str) else what()}; last rejections: {reasons}")
