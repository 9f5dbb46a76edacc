"""What a stage knows of one market area: its place in the chain, the folded state, and what is due.

Pure: given the same blocks it comes to the same, whoever asks and however often. What is due and not yet in the
journal is sent; the journal's answer is the only proof that it arrived. So a stage may be killed at any instant:
its successor folds the same blocks and finds the same things due.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from flexbus.journal import Block, verify_block
from flexbus.views.fact import Emission, Fact, Job, facts_of

__all__ = ["Area", "Due", "Kept", "Stage"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stage: its view and what it puts out; everything else is the shell's.

    Attributes:
        service: its name: of its inbox, of its consumer group, on the command line.
        new_state: makes the state of an area of which nothing is known.
        fold: takes one fact into the state.
        decide: what is due after a fact; must depend on its arguments only.
        outputs: names of the events it may send.
        reads: names of the events that fold and decide look at; None = all.
        imports: modules its computations need, imported by the worker process beforehand; empty = no worker.
        measure: given the monitor, returns what is told every fact, for further metrics.
        row: small market view of a state for the stage's table: integers, with units in their names.
    """

    service: str
    new_state: Callable[[], Any]
    fold: Callable[[Any, Fact], Any]
    decide: Callable[[Any, Fact], tuple[Emission | Job, ...]]
    outputs: frozenset[str]
    reads: frozenset[str] | None = None
    imports: tuple[str, ...] = ()
    measure: Callable[[Any], Callable[[Fact], None]] | None = None
    row: Callable[[Any], dict[str, int]] | None = None


@dataclass(slots=True)
class Due:
    """Something due, and whether this process has sent it (or put it to work).

    Attributes:
        what: the fact to send or the computation to run.
        cause_ms: when the event was received from which it follows, UTC ms.
        sent: whether this process has done its part.
    """

    what: Emission | Job
    cause_ms: int
    sent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a checkpoint keeps of an area beside its place in the chain."""

    state: Any
    pending: tuple[tuple[Emission | Job, int], ...]
    counts: dict[str, int]
    said: set[int]


@dataclass(slots=True)
class Area:
    """One area as a stage sees it.

    Attributes:
        area_id: market area.
        view: the fold and its decisions.
        partition: journal partition that the area lives in.
        last: number and hash of the last block, None before the first.
        pending: what is due and not in the journal, by event id, in the order it fell due.
        counts: events seen, by kind.
        offset: where the last block stands in the partition; -1 where nobody has said.
    """

    area_id: str
    view: Stage
    partition: int
    state: Any = None
    last: tuple[int, bytes] | None = None
    offset: int = -1
    pending: dict[str, Due] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    _said: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.state = self.view.new_state()

    def take(self, block: Block) -> tuple[Fact, ...] | None:
        """Take in the next block; return its facts that the view reads, or None if the block was seen before.

        Raises:
            ChainError: the block does not continue the chain.
        """
        if self.last is not None and block.number <= self.last[0]:
            return None
        verified = verify_block(self.last, block)
        for entry in block.entries:
            self.counts[entry.event_type] += 1
            if entry.sender_id == self.view.service:
                # Only our own word counts: an id is derived, so anybody could send something under it.
                self.pending.pop(entry.event_id, None)
                self._said.add(UUID(entry.event_id).int)
        facts = tuple(facts_of(block, self.view.reads))
        for fact in facts:
            self._take(fact)
        self.last = verified
        return facts

    def kept(self) -> Kept:
        """Return what a successor cannot do without; it sends again what is due."""
        pending = tuple((due.what, due.cause_ms) for due in self.pending.values())
        return Kept(state=self.state, pending=pending, counts=dict(self.counts), said=self._said)

    def restore(self, kept: Kept, last: tuple[int, bytes], offset: int) -> None:
        """Go on from what was kept.

        Args:
            kept: what `kept` gave.
            last: number and hash of the last block then.
            offset: where that block stands in the partition.
        """
        self.state, self.last, self.offset = kept.state, last, offset
        self.counts, self._said = Counter(kept.counts), kept.said
        for what, cause_ms in kept.pending:
            self.pending[what.job_id if isinstance(what, Job) else what.event_id] = Due(what, cause_ms)

    def unsent(self) -> list[Due]:
        """Return what is due, not in the journal and not yet sent by this process."""
        return [due for due in self.pending.values() if not due.sent]

    def _take(self, fact: Fact) -> None:
        self.state = self.view.fold(self.state, fact)
        for what in self.view.decide(self.state, fact):
            event_id = what.job_id if isinstance(what, Job) else what.event_id
            if UUID(event_id).int not in self._said and event_id not in self.pending:
                self.pending[event_id] = Due(what, fact.received_at_ms)
