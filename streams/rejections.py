"""Rejected inputs with the bytes that were sent, as who runs the bus finds them and as their sender does.

Who may read the topic of rejections sees all of them. A party may not, and needs it not: its verdicts are on its own
topic, what it sent is in its own inbox, and the two together say the same.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from flexbus import codec
from flexbus.errors import CodecError, EnvironmentProblem
from flexbus.events import EventRejected, Receipt, ReceiptsIssued, Verdict
from flexbus.ids import derived_id
from flexbus.topics import REJECTIONS, inbox, party_topic
from streams.inputs import Input
from streams.journal_reader import read_records
from streams.kafka import Connection
from streams.read_log import resource
from streams.registry import configured
from streams.stored import bounds_of, read_inputs
from streams.topics import existing_topics

__all__ = ["REPLACES", "Rejections", "Successor", "own_rejection", "rejection_id_of"]

REPLACES = "ce_replaces"  # header of an input that was sent in place of a rejected one: the id of that rejection
_RECEIPTS = ReceiptsIssued.__name__


@dataclass(frozen=True, slots=True)
class Successor:
    """An input that its sender sent in place of a rejected one.

    Attributes:
        event_id: its id, if it has one that is text.
        partition: where it is in the sender's inbox.
        offset: where it is there.
    """

    event_id: str | None
    partition: int
    offset: int


def rejection_id_of(topic: str, partition: int, offset: int) -> str:
    """Return the id under which an input is rejected, if it is."""
    return derived_id(EventRejected.__name__, topic, partition, offset)


def own_rejection(sender_id: str, given: Input, receipt: Receipt) -> EventRejected:
    """Return the rejection of an input from its record and the receipt for it."""
    texts = {name: (value or b"").decode(errors="replace") for name, value in given.headers}
    try:
        event_type = codec.type_of(given.value or b"", configured())[0]
    except (CodecError, EnvironmentProblem):
        event_type = texts.get("ce_type") or ""
    return EventRejected(
        area_id=(given.key or b"").decode(errors="replace"),
        rejection_id=rejection_id_of(given.topic, given.partition, given.offset),
        event_id=receipt.event_id,
        event_type=event_type or None,
        sender_id=sender_id,
        on_behalf_of=texts.get("ce_onbehalfof") or None,
        inbox_topic=given.topic,
        inbox_partition=given.partition,
        inbox_offset=given.offset,
        received_at_ms=given.received_at_ms,
        faults=receipt.faults,
        original=given.value or b"",
        headers=texts,
    )


class Rejections:
    """The rejections that a principal may see: all of them, or those of what it sent itself.

    Args:
        connection: the broker, as that principal.
        note: notes a read before it begins: what, see `resource`, and the market area.

    Raises:
        EnvironmentProblem: the broker does not answer, or there are no rejections that this principal may see.
    """

    def __init__(self, connection: Connection, note: Callable[[str, str], None]) -> None:
        self._connection, self._note = connection, note
        self._topics = existing_topics(connection)  # those that the principal may know of
        user = connection.security.get("sasl.username")
        self._own = None if REJECTIONS in self._topics else user
        if REJECTIONS not in self._topics and inbox(user or "") not in self._topics:
            raise EnvironmentProblem(
                f"Kafka at {connection.bootstrap} has no topic {REJECTIONS} that this principal may read, and no "
                "inbox of its own: `flexbus topics --create` makes what is missing."
            )
        self.refused: set[str] = set()  # ids of the rejections gone through so far
        self.lost = 0  # own ones gone through whose input the inbox does not keep any more

    def each(
        self, party: str | None = None, area: str | None = None, code: str | None = None
    ) -> Iterator[EventRejected]:
        """Yield rejections, the oldest of each partition first.

        Args:
            party: only of what this party sent.
            area: only of this market area.
            code: only with this fault code.
        """
        for found in self._mine(self._own, area) if self._own else self._all(party, area, code):
            of_code = code is None or code in {f.code.value for f in found.faults}
            if of_code and party in (None, found.sender_id) and area in (None, found.area_id):
                yield found

    def find(self, rejection_id: str) -> EventRejected | None:
        """Return a rejection; goes through all of them, so that `refused` is whole."""
        if self._own is not None:
            receipts = self._receipts(self._own)
            for (partition, offset), receipt in receipts.items():
                if rejection_id_of(inbox(self._own), partition, offset) == rejection_id:
                    given = self._input(inbox(self._own), partition, offset)
                    return None if given is None else own_rejection(self._own, given, receipt)
            return None
        self._note(resource(REJECTIONS, id=rejection_id), "")
        last = None
        for found in self._decoded():
            last = found if found.rejection_id == rejection_id else last
        return last

    def input(self, found: EventRejected) -> Input | None:
        """Return the rejected input as it is in the inbox; None if it is there no more, or not for this principal."""
        if found.inbox_topic not in self._topics:
            return None
        return self._input(found.inbox_topic, found.inbox_partition, found.inbox_offset)

    def successors(self, since_ms: Mapping[str, int]) -> dict[str, dict[str, list[Successor]]]:
        """Return by inbox and rejection what its sender sent in place of it; nothing of inboxes that may not be read.

        Only the sender's own inbox counts: others could claim what they like in theirs.

        Args:
            since_ms: when the first of the rejected inputs was received, by inbox; UTC ms.
        """
        found: dict[str, dict[str, list[Successor]]] = {}
        for topic in sorted(since_ms.keys() & self._topics.keys()):
            replacing = found.setdefault(topic, {})
            self._note(resource(topic, header=REPLACES), "")
            for given in self._since(topic, since_ms[topic]):
                headers = {name: bytes(raw or b"").decode(errors="replace") for name, raw in given.headers}
                if REPLACES in headers:
                    made = Successor(headers.get("ce_id"), given.partition, given.offset)
                    replacing.setdefault(headers[REPLACES], []).append(made)
        return found

    def _all(self, party: str | None, area: str | None, code: str | None) -> Iterator[EventRejected]:
        self._note(resource(REJECTIONS, party=party, code=code), area or "")
        yield from self._decoded()

    def _decoded(self) -> Iterator[EventRejected]:
        for partition in range(self._topics[REJECTIONS]):
            for _, value in read_records(self._connection, REJECTIONS, partition):
                found = codec.decode_as(value, EventRejected)
                self.refused.add(found.rejection_id)
                yield found

    def _mine(self, party: str, area: str | None) -> Iterator[EventRejected]:
        receipts = self._receipts(party)
        if receipts:
            self._note(resource(inbox(party)), area or "")
            starts: dict[int, int] = {}
            for partition, offset in receipts:
                starts[partition] = min(offset, starts.get(partition, offset))
            for given in self._inputs(inbox(party), starts):
                # Some records of a batch may have been refused one by one before the rest was as a whole.
                for offset in range(given.offset, given.next_offset):
                    receipt = receipts.pop((given.partition, offset), None)
                    if receipt is not None:
                        yield own_rejection(party, replace(given, offset=offset), receipt)
            self.lost += len(receipts)

    def _receipts(self, party: str) -> dict[tuple[int, int], Receipt]:
        topic, registry = party_topic(party), configured()
        self._note(resource(topic, type=_RECEIPTS), "")
        found: dict[tuple[int, int], Receipt] = {}
        for _, value in read_records(self._connection, topic, 0):
            if codec.type_of(value, registry)[0] != _RECEIPTS:
                continue
            for receipt in codec.decode_as(value, ReceiptsIssued, registry).receipts:
                if receipt.verdict is Verdict.REJECTED:
                    found[receipt.inbox_partition, receipt.inbox_offset] = receipt
        self.refused |= {rejection_id_of(inbox(party), *place) for place in found}
        return found

    def _input(self, topic: str, partition: int, offset: int) -> Input | None:
        self._note(resource(topic, partition=partition, offset=offset), "")
        given = next(self._inputs(topic, {partition: offset}), None)
        return given if given is not None and given.offset == offset else None

    def _since(self, topic: str, since_ms: int) -> Iterator[Input]:
        spots = [(topic, partition) for partition in range(self._topics[topic])]
        return read_inputs(self._connection, bounds_of(self._connection, spots, since_ms))

    def _inputs(self, topic: str, starts: Mapping[int, int]) -> Iterator[Input]:
        """Yield what some partitions of a topic have, each from an offset, or what is kept after it, to its end."""
        bounds = bounds_of(self._connection, [(topic, partition) for partition in starts])
        wanted = {spot: (max(first, starts[spot[1]]), end) for spot, (first, end) in bounds.items()}
        return read_inputs(self._connection, wanted)
