"""What a fold is fed, and what a decision returns.

A view module has a state class, `fold(state, fact) -> state` (it may change and return the state it was given:
the fold owns it), and, where the market function decides something, `decide(state, fact)` called after the
fold of the same fact. Both depend on nothing but their arguments, so a replay gives the same.
"""

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from typing import Any

from flexbus import codec
from flexbus.ids import derived_id
from flexbus.journal import Block
from flexbus.reader import Unmade, quickly

__all__ = ["Emission", "Fact", "Job", "emit", "facts_of", "quick_fact"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One journal entry, decoded, with its position."""

    event: Any
    event_id: str
    sender_id: str
    on_behalf_of: str | None
    received_at_ms: int
    block: int
    index: int

    @property
    def actor_id(self) -> str:
        """Party the event counts for: the one acted for, else the sender."""
        return self.on_behalf_of or self.sender_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Emission:
    """A derived fact that is due; its id follows from its cause, so sending it twice changes nothing."""

    event_id: str
    event: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A computation that is due and whose results are facts; run only while its last result is not in the journal.

    Attributes:
        job_id: event id of the last emission of the result.
        run: a function of a module, so that another process can run it.
        arguments: its arguments, picklable.
    """

    job_id: str
    run: Callable[..., tuple[Emission, ...]]
    arguments: tuple[Any, ...] = field(default=())


def emit(event: Any, *cause: str | int) -> Emission:
    """Return a derived fact with the id that follows from its type, area and cause."""
    return Emission(event_id=derived_id(type(event).__name__, event.area_id, *cause), event=event)


quick_fact = quickly(Fact)


def facts_of(block: Block, reads: Container[str] | None = None, unmade: Unmade | None = None) -> Iterator[Fact]:
    """Yield the entries of a block, decoded, in order.

    Args:
        block: the block.
        reads: names of the events wanted, as the others need not be decoded; None = all.
        unmade: a record whose arrays may be left as they are written; see `flexbus.reader`.
    """
    for index, entry in enumerate(block.entries):
        if reads is not None and entry.event_type not in reads:
            continue
        yield quick_fact(
            event=codec.decode_entry(entry.payload, entry.schema_fingerprint, unmade),
            event_id=entry.event_id,
            sender_id=entry.sender_id,
            on_behalf_of=entry.on_behalf_of,
            received_at_ms=entry.received_at_ms,
            block=block.number,
            index=index,
        )
