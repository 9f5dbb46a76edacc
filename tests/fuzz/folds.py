"""Whatever was accepted is folded by everything that folds in production: nothing in a journal may stop a reader.

A day that has an event of every kind is played; the input says what is sent beside it, before which step. Who sends a
step sends what is put before it too, so the facts of the bus's own services are changed as well as those of parties.
"""

import json
import pickle
from collections import Counter
from collections.abc import Iterable
from functools import cache
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import Histogram

from clearing.snapshot import Snapshot, obstacle
from clearing.translation import case_of
from flexbus import codec
from flexbus.errors import FaultyInputError
from flexbus.journal import Block
from flexbus.partition import partition_of
from flexbus.signing import sign
from flexbus.topics import inbox
from flexbus.views import agenda
from flexbus.views.fact import Job
from streams.area import Area
from streams.checkpoint import Checkpoints, Image, images_of
from streams.figures import MarketFigures
from streams.inputs import Input
from streams.intake import Intake
from streams.page import model
from streams.page.metered import refresh_metered
from streams.publisher import Publisher
from streams.scheduler import VIEW as SCHEDULER
from streams.sequencer import RULES
from streams.stages import VIEWS
from tests.every_cell import AREA, story
from tests.fuzz.sender import named

__all__ = ["Readers", "day", "fold_seeds", "folds", "play"]

Record = tuple[str, bytes, Ed25519PrivateKey | None]  # sender, value, and what signs it

PARTITIONS = 4
HOME = partition_of(AREA.encode(), PARTITIONS)
_LATEST_MS = 4_102_444_800_000  # 2100
_AT_ONCE = 20  # records that become a block
_MOST = 40  # inputs beside the day: more of them would only take longer


class _Anywhere:
    """Topics of a broker that has all of them."""

    def ready(self, _: str) -> None:
        return

    def party_ready(self, _: str) -> bool:
        return True


class Readers:
    """The sequencer of an area, and all that read its journal: stages, scheduler, publisher, page and figures."""

    def __init__(self) -> None:
        self.intake = Intake(HOME, PARTITIONS, RULES)
        self.stages = [Area(AREA, view, HOME) for view in (*VIEWS.values(), SCHEDULER)]
        self.page = model.PageState()
        self.figures = MarketFigures(Histogram("latency", "-", ("area",), registry=None))
        self.publisher: Any = SimpleNamespace(_registers={}, _registry=None, _targets=_Anywhere())
        self.accepted: Counter[str] = Counter()
        self.due: Counter[str] = Counter()
        self._offsets: Counter[str] = Counter()

    def take(self, records: Iterable[Record]) -> list[int]:
        """Have records judged, and everybody fold what was accepted; return the places of those among them."""
        given = [self._input(*record) for record in records]
        outcome = self.intake.take(given)
        entries = [entry for block in outcome.blocks for entry in block.entries]
        assert len(entries) + len(outcome.rejections) == len(given)
        for rejection in outcome.rejections:
            named(rejection.faults)
            assert not any("could not be checked" in f.message for f in rejection.faults), rejection.faults
        for block in outcome.blocks:
            self._fold(codec.decode(codec.encode(block)))
        self.accepted.update(entry.event_type for entry in entries)
        places = {dict(record.headers)["ce_id"]: place for place, record in enumerate(given)}
        return [places[entry.event_id.encode()] for entry in entries]

    def _input(self, sender: str, value: bytes, key: Ed25519PrivateKey | None) -> Input:
        offset = self._offsets[sender]
        self._offsets[sender] += 1
        number = sum(self._offsets.values())
        headers = [("ce_id", str(UUID(int=number, version=4)).encode())]
        if key is not None:
            headers.append(("ce_signature", sign(key, value)))
        return Input(
            topic=inbox(sender),
            partition=HOME,
            offset=offset,
            received_at_ms=1_000_000 + number,
            key=AREA.encode(),
            value=value,
            headers=tuple(headers),
        )

    def _fold(self, block: Block) -> None:
        for area in self.stages:
            area.take(block)
            for due in area.unsent():
                due.sent = True
                if isinstance(due.what, Job):
                    self._start(due.what)
                else:
                    codec.encode(due.what.event)
                    self.due[type(due.what.event).__name__] += 1
            if area.view.row is not None:
                area.view.row(area.state)
        model.fold(self.page, block)
        self.figures.block(block)
        assert list(self.figures.collect())
        for output in Publisher._outputs(self.publisher, HOME, block):
            assert isinstance(output.value, bytes)

    def _start(self, job: Job) -> None:
        """Hand a computation over as to its process, without running it."""
        self.due[job.run.__name__] += 1
        for argument in pickle.loads(pickle.dumps(job.arguments)):
            if isinstance(argument, Snapshot):
                assert obstacle(argument) is None
                case_of(argument)

    def look(self) -> None:
        """Ask everybody what their state says: page, metrics, what the clock makes due, and their checkpoints."""
        for shown in self.page.areas.values():
            refresh_metered(shown)
        json.dumps([model.summary(self.page), model.snapshot(self.page, AREA)])
        for area in self.stages:
            if area.view is SCHEDULER:
                agenda.due(area.state, _LATEST_MS)
                agenda.next_due_ms(area.state)
            kept = Checkpoints(None, area.view.service)
            assert list(kept._lines(Image(partition=HOME, next_offset=1, areas=images_of([area]))))


@cache
def day() -> tuple[Record, ...]:
    """Return the records of the day."""
    return tuple((sent.sender, codec.encode(sent.event), sent.key) for sent in story())


def play(beside: Iterable[tuple[int, bytes]]) -> tuple[Readers, Counter[str]]:
    """Play the day with records put before its steps; return the readers, and what of the records was accepted.

    Args:
        beside: number of a step, and what its sender sends before it.
    """
    put: dict[int, list[bytes]] = {}
    for step, value in beside:
        put.setdefault(step, []).append(value)
    readers, got_in = Readers(), Counter[str]()
    records, extra = list[Record](), set[int]()
    for step, (sender, value, key) in enumerate(day()):
        for other in put.get(step, ()):
            extra.add(len(records))
            records.append((sender, other, key))
        records.append((sender, value, key))
    for first in range(0, len(records), _AT_ONCE):
        for place in readers.take(records[first : first + _AT_ONCE]):
            if first + place in extra:
                got_in[type(codec.decode(records[first + place][1])).__name__] += 1
    readers.look()
    return readers, got_in


def folds(data: bytes) -> None:
    """JSON lines of a step of the day and an event: what of them is accepted can be folded by all that read."""
    beside = []
    for line in data.split(b"\n")[:_MOST]:
        try:
            given = json.loads(line)
            step, event = given["step"], given["event"]
            if type(step) is int and 0 <= step < len(day()):
                beside.append((step, codec.encode(codec.from_json(event))))
        except (ValueError, RecursionError, LookupError, TypeError, FaultyInputError):
            continue  # the targets `send` and `sequencer` take what is no event
    play(beside)


def fold_seeds() -> list[bytes]:
    """Inputs to start from: runs of steps, each sent twice."""
    lines = [
        json.dumps({"step": n, "event": codec.to_json(codec.decode(value))}).encode()
        for n, (_, value, _) in enumerate(day())
    ]
    return [b"\n".join(lines[first : first + 5]) for first in range(0, len(lines), 5)]
