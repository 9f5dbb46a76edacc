"""What becomes of inputs: accepted into the next block of their area, known already, or rejected with every fault.

The heart of the sequencer, without Kafka: an `Intake` holds the areas of one journal partition. It is rebuilt
from the journal's blocks alone, so a fresh process decides as the one before would have.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from flexbus import codec
from flexbus.catalogue import SERVICES_BY_ID
from flexbus.errors import Fault, FaultCode
from flexbus.events import EventRejected, Receipt, ReceiptsIssued, Verdict
from flexbus.ids import derived_id
from flexbus.journal import Block, Entry, next_block, verify_block
from flexbus.reader import quickly
from flexbus.validation.stacks import UNMADE
from flexbus.views.fact import Fact, facts_of, quick_fact
from streams.inputs import LONGEST_ID, MOST_KEPT, Input, InputReader, Reading, checked, shown
from streams.seen import DIGEST_BYTES, Seen

__all__ = ["Intake", "Kept", "Outcome", "Rules"]

BLOCK_ENTRIES = 500
BLOCK_BYTES = 4_000_000
# The publisher tells of a block in one transaction, which has ten seconds: entries times parties that may be told.
BLOCK_TOLD = 50_000
# An input of a megabyte can have a hundred thousand faults; what is said about it stays within a record.
_MOST_FAULTS = 1000  # the content's own checks stop at the next
_MOST_HEADERS = 50
_LONGEST_TEXT = 500
_RECEIPTS_BYTES = 1_000_000
_quick_entry, _quick_receipt = quickly(Entry), quickly(Receipt)


@dataclass(frozen=True, slots=True)
class Rules:
    """The checks an input must pass, and the state they need; see `flexbus.validation`.

    Attributes:
        content: faults that an event shows by itself.
        state: the state of an area without history.
        fold: the state after an accepted fact.
        admission: faults of what would come next in an area: state, event, sender, on behalf of, received at.
        authority: those of them that need no sound content: who sends it for whom.
        signature: faults of its signature, or of none: state, event, sender, received at, payload, signature.
        told: how many parties of an area may be told of an entry: state.
    """

    content: Callable[[Any], tuple[Fault, ...]]
    state: Callable[[], Any]
    fold: Callable[[Any, Fact], Any]
    admission: Callable[[Any, Any, str, str | None, int], tuple[Fault, ...]]
    authority: Callable[[Any, Any, str, str | None, int], tuple[Fault, ...]] = lambda *_: ()
    signature: Callable[[Any, Any, str, int, bytes, bytes | None], tuple[Fault, ...]] = lambda *_: ()
    told: Callable[[Any], int] = lambda _: 1


@dataclass(slots=True)
class Outcome:
    """What a batch of inputs leads to; all of it is published together or not at all."""

    blocks: list[Block] = field(default_factory=list)
    rejections: list[EventRejected] = field(default_factory=list)
    receipts: list[ReceiptsIssued] = field(default_factory=list)
    accepted: dict[tuple[str, str], int] = field(default_factory=dict)
    duplicates: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a checkpoint keeps of an area: the state of admission and the ids seen, packed."""

    state: Any
    seen: bytes
    seen_of_services: bytes


@dataclass(slots=True)
class _Area:
    """The chain of one area and what is decided by it."""

    area_id: str
    state: Any
    head: tuple[int, bytes] | None = None
    offset: int = -1  # where the head stands in the journal, once that is known
    # Digest of sender and payload by id. Parties and services apart: derived ids can be foretold, and a party
    # that uses one up must not keep the service's own fact out.
    seen: Seen = field(default_factory=Seen)
    seen_of_services: Seen = field(default_factory=Seen)
    pending: list[Entry] = field(default_factory=list)
    pending_bytes: int = 0

    @property
    def next_number(self) -> int:
        return 0 if self.head is None else self.head[0] + 1

    def remember(self, entry: Entry) -> None:
        seen = self.seen_of_services if entry.sender_id in SERVICES_BY_ID else self.seen
        seen.add(_id_bytes(entry.event_id), _digest(entry.sender_id, entry.on_behalf_of, entry.payload))

    def known(self, event_id: str, sender_id: str) -> bytes | None:
        id_bytes = _id_bytes(event_id)
        of_services = self.seen_of_services.get(id_bytes)
        return of_services if sender_id in SERVICES_BY_ID else of_services or self.seen.get(id_bytes)


class Intake:
    """The areas of one journal partition.

    Args:
        partition: its number.
        partitions: how many the journal has.
        rules: the checks.
        registry: knows the schema ids of inputs in Confluent framing; None = there are none.
    """

    def __init__(self, partition: int, partitions: int, rules: Rules, registry: codec.Registry | None = None) -> None:
        self._reader = InputReader(partition, partitions, rules.content, registry)
        self._rules = rules
        self._areas: dict[str, _Area] = {}

    def replay(self, block: Block) -> None:
        """Take in a block of the journal; blocks already taken in are ignored.

        Raises:
            ChainError: the block does not continue its chain.
        """
        area = self._area(block.area_id)
        if area.head is not None and block.number <= area.head[0]:
            return
        area.head = verify_block(area.head, block)
        for entry, fact in zip(block.entries, facts_of(block, unmade=UNMADE), strict=True):
            area.remember(entry)
            area.state = self._rules.fold(area.state, fact)
        self._areas[block.area_id] = area

    def placed(self, area_id: str, number: int, offset: int) -> None:
        """Say where a block stands in the journal."""
        area = self._areas[area_id]
        if area.head is not None and area.head[0] == number:
            area.offset = offset

    def kept(self) -> Iterator[tuple[str, tuple[int, bytes], int, Kept]]:
        """Yield of each area its id, number and hash of its last block, the offset of that, and what to keep."""
        for area in self._areas.values():
            assert area.head is not None  # only accepted events make an area
            kept = Kept(state=area.state, seen=area.seen.packed(), seen_of_services=area.seen_of_services.packed())
            yield area.area_id, area.head, area.offset, kept

    def restore(self, area_id: str, head: tuple[int, bytes], offset: int, kept: Kept) -> None:
        """Go on from what was kept of an area; arguments as `kept` yields them."""
        self._areas[area_id] = _Area(
            area_id,
            kept.state,
            head,
            offset,
            Seen(kept.seen),
            Seen(kept.seen_of_services),
        )

    def take(self, inputs: Iterable[Input]) -> Outcome:
        """Decide on inputs in their order and move on; if the outcome cannot be published, throw the intake away.

        Args:
            inputs: inbox records of this partition number.
        """
        return self.decide([self.read(given) for given in inputs])

    def read(self, given: Input) -> Reading:
        """Return what an input says by itself, whatever came before it; may be done ahead of time."""
        return self._reader.read(given)

    def decide(self, readings: Iterable[Reading]) -> Outcome:
        """Decide as `take`, on inputs that were read already; each reading may be decided on once."""
        outcome = Outcome()
        receipts: dict[tuple[str, str], list[Receipt]] = {}
        touched: dict[str, _Area] = {}
        for reading in readings:
            receipt = self._decide(reading, outcome, touched)
            if reading.sender_id not in SERVICES_BY_ID:
                receipts.setdefault((reading.sender_id, reading.area_id), []).append(receipt)
        for area in touched.values():
            self._close(area, outcome)
        outcome.receipts = [
            ReceiptsIssued(area_id=area_id, party_id=party, receipts=part)
            for (party, area_id), found in receipts.items()
            for part in _parts(found)
        ]
        return outcome

    def _area(self, area_id: str) -> _Area:
        return self._areas.get(area_id) or _Area(area_id, self._rules.state())

    def _decide(self, reading: Reading, outcome: Outcome, touched: dict[str, _Area]) -> Receipt:
        given, faults = reading.given, reading.faults
        if reading.event is None:
            return self._reject(reading, outcome)
        value = given.value or b""
        area = self._area(reading.area_id)
        known = area.known(reading.event_id, reading.sender_id) if reading.event_id and reading.placed else None
        if known is not None:
            if not faults and known == _digest(reading.sender_id, reading.on_behalf_of, value):
                outcome.duplicates += 1
                return _receipt(reading, Verdict.DUPLICATE)
            reading.fault(
                FaultCode.ID_REUSED, "$headers.ce_id", "this id stands for another event; give each event its own id"
            )
        faults.extend(self._faults(area, reading))
        if faults:
            return self._reject(reading, outcome)
        assert reading.event_id is not None  # or there were a fault
        if area.pending_bytes + len(value) > BLOCK_BYTES:
            self._close(area, outcome)
        fact = quick_fact(
            event=reading.event,
            event_id=reading.event_id,
            sender_id=reading.sender_id,
            on_behalf_of=reading.on_behalf_of,
            received_at_ms=given.received_at_ms,
            block=area.next_number,
            index=len(area.pending),
        )
        entry = _quick_entry(
            event_id=reading.event_id,
            event_type=type(reading.event).__name__,
            schema_fingerprint=reading.fingerprint,
            sender_id=reading.sender_id,
            on_behalf_of=reading.on_behalf_of,
            received_at_ms=given.received_at_ms,
            inbox_partition=given.partition,
            inbox_offset=given.offset,
            payload=value,
            signature=reading.signature,
        )
        area.state = self._rules.fold(area.state, fact)
        area.remember(entry)
        area.pending.append(entry)
        area.pending_bytes += len(value)
        self._areas[area.area_id] = touched[area.area_id] = area
        count = (entry.event_type, area.area_id)
        outcome.accepted[count] = outcome.accepted.get(count, 0) + 1
        pending = len(area.pending)
        if pending >= BLOCK_ENTRIES or pending * self._rules.told(area.state) >= BLOCK_TOLD:
            self._close(area, outcome)
        return _receipt(reading, Verdict.ACCEPTED, fact.block, fact.index)

    def _faults(self, area: _Area, reading: Reading) -> list[Fault]:
        """Return what is wrong with a decoded event, beside its headers."""
        rules, event, sender_id, at_ms = self._rules, reading.event, reading.sender_id, reading.given.received_at_ms
        found = list(checked(rules.content, event))
        if not reading.placed:  # this partition does not know its area
            return found
        # The rules of admission may rely on sound content; who sends it for whom can be told without.
        check = rules.authority if found else rules.admission
        found += checked(check, area.state, event, sender_id, reading.on_behalf_of, at_ms)
        evidence = (sender_id, at_ms, reading.given.value or b"", reading.signature)
        return found + list(checked(rules.signature, area.state, event, *evidence))

    def _close(self, area: _Area, outcome: Outcome) -> None:
        if area.pending:
            block = next_block(area.area_id, area.head, tuple(area.pending))
            outcome.blocks.append(block)
            area.head = (block.number, block.hash)
            area.pending, area.pending_bytes = [], 0

    def _reject(self, reading: Reading, outcome: Outcome) -> Receipt:
        given = reading.given
        reading.faults = _bounded(reading.faults)
        outcome.rejections.append(
            EventRejected(
                area_id=reading.area_id,
                rejection_id=derived_id("EventRejected", given.topic, given.partition, given.offset),
                event_id=reading.event_id,
                event_type=reading.event_type,
                sender_id=reading.sender_id,
                on_behalf_of=reading.on_behalf_of,
                inbox_topic=given.topic,
                inbox_partition=given.partition,
                inbox_offset=given.offset,
                received_at_ms=given.received_at_ms,
                faults=tuple(reading.faults),
                original=(given.value or b"")[:MOST_KEPT],
                headers={name[:LONGEST_ID]: shown(value) for name, value in given.headers[:_MOST_HEADERS]},
            )
        )
        return _receipt(reading, Verdict.REJECTED)


def _receipt(reading: Reading, verdict: Verdict, block: int | None = None, index: int | None = None) -> Receipt:
    return _quick_receipt(
        event_id=reading.event_id,
        inbox_partition=reading.given.partition,
        inbox_offset=reading.given.offset,
        verdict=verdict,
        block=block,
        index=index,
        faults=tuple(reading.faults),
    )


def _bounded(faults: list[Fault]) -> list[Fault]:
    kept = [f if len(f.message) <= _LONGEST_TEXT >= len(f.path) else _shortened(f) for f in faults[:_MOST_FAULTS]]
    if len(faults) > _MOST_FAULTS:
        more = "there are more faults, which are not listed"
        kept.append(Fault(code=faults[_MOST_FAULTS].code, path="$", message=more))
    return kept


def _shortened(fault: Fault) -> Fault:
    return Fault(code=fault.code, path=fault.path[:_LONGEST_TEXT], message=fault.message[:_LONGEST_TEXT])


def _parts(receipts: list[Receipt]) -> Iterator[tuple[Receipt, ...]]:
    part: list[Receipt] = []
    size = 0
    for receipt in receipts:
        part.append(receipt)
        size += 60 + sum(len(f.message) + len(f.path) for f in receipt.faults)
        if size >= _RECEIPTS_BYTES:
            yield tuple(part)
            part, size = [], 0
    if part:
        yield tuple(part)


def _id_bytes(event_id: str) -> bytes:
    return bytes.fromhex(event_id.replace("-", ""))


def _digest(sender_id: str, on_behalf_of: str | None, payload: bytes) -> bytes:
    content = b"\x1f".join((sender_id.encode(), (on_behalf_of or "").encode(), payload))
    return blake2b(content, digest_size=DIGEST_BYTES).digest()
