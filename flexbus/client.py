"""The SDK: produce events as a party, learn what became of them, read what the party may see, get frames.

from flexbus import Client
from flexbus.events import MarketCleared

with Client("localhost:9092", party="fsp-a") as bus:
    print(bus.send(offer))                       # the verdict: accepted where, or every fault
    awards = bus.frame(MarketCleared, "awards")  # a pandas DataFrame
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar
from uuid import uuid4

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, Message, TopicPartition

from flexbus import codec
from flexbus.catalogue import CATALOGUE, SERVICES_BY_ID, kind_of
from flexbus.errors import EnvironmentProblem, Fault, FaultCode, FaultyInputError, FlexbusError
from flexbus.events import Receipt, ReceiptsIssued
from flexbus.signing import sign
from flexbus.time import iso, parse_ms
from flexbus.topics import inbox, party_topic
from flexbus.verdicts import Place, Verdicts, place_of
from streams.kafka import Connection, Trouble, environment_problem, patiently
from streams.read_log import ReadLog, resource
from streams.registry import configured

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Client", "Received", "Record", "Sent"]

E = TypeVar("E")
_RECEIPTS = "ReceiptsIssued"


@dataclass(frozen=True, slots=True)
class Record:
    """An event in the form it is sent.

    Attributes:
        value: Avro single object, or in Confluent framing.
        key: area id in UTF-8.
        headers: CloudEvents headers, `ce_id` among them; a signature is bytes.
    """

    value: bytes
    key: bytes
    headers: Mapping[str, str | bytes]

    @property
    def event_id(self) -> str | None:
        """Id of the event, if it has one that is text."""
        found = self.headers.get("ce_id")
        return found if isinstance(found, str) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """An event on its way: where the broker put it."""

    event_id: str | None
    partition: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """An event as it was published.

    Attributes:
        event: the event; identities may have been removed from it.
        event_id: its id.
        area_id: market area.
        block: number of the journal block it stands in.
        index: position in the block.
        received_at_ms: when the bus had received it, UTC ms.
        payload: the record's value, Avro single object or in Confluent framing.
    """

    event: Any
    event_id: str
    area_id: str
    block: int
    index: int
    received_at_ms: int
    payload: bytes


class Client:
    """A party's door to the bus; use it in a `with` block.

    With SCHEMA_REGISTRY_URL set it writes Confluent framing, and reads that too; see docs/connect.md. What it reads is
    logged before it is given: each call that reads, and once that it waits for the verdicts on what it sends.

    Args:
        bootstrap: host:port of a broker; None takes FLEXBUS_BOOTSTRAP.
        party: who sends and reads; the principal of the connection must be the same. None reads public topics only.
        security: librdkafka properties of TLS and SASL, see docs/connect.md; None takes FLEXBUS_KAFKA_PROPERTIES.
        timeout_s: how long to wait for the broker or a verdict.
        signing_key: Ed25519 private key (of `cryptography`) with which every event is signed; None signs nothing.
            The attribute may be set anew: after a change of keys.
        interface: name of the door in the log of reads, for programs that are a door of their own.
    """

    def __init__(
        self,
        bootstrap: str | None = None,
        party: str | None = None,
        *,
        security: Mapping[str, str] | None = None,
        timeout_s: float = 30.0,
        signing_key: Any = None,
        interface: str = "sdk",
    ) -> None:
        self._connection = Connection.of(bootstrap, security=security)
        self._party = party
        self._timeout_s = timeout_s
        self.signing_key = signing_key
        self._registry = configured()
        self._trouble = Trouble()
        self._producer = self._connection.producer(
            self._trouble, **{"delivery.timeout.ms": int(max(1.0, timeout_s) * 1000)}
        )
        self._log = ReadLog(self._connection, interface, party, (self._producer, self._trouble), timeout_s)
        self._receipts: Consumer | None = None
        self._receipts_from: list[TopicPartition] = []
        self._verdicts = Verdicts()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hand over what is still on its way, and leave."""
        with suppress(KafkaException):  # a fatal error; whoever sent waited for the broker and was told
            self._producer.flush(self._timeout_s)
        if self._receipts is not None:
            self._receipts.close()
            self._receipts = None

    # --- sending

    def send(self, event: Any, *, on_behalf_of: str | None = None, event_id: str | None = None) -> Receipt:
        """Send one event and wait for the verdict.

        Args:
            event: an event of the catalogue, or its JSON (text or values, with `type`).
            on_behalf_of: party acted for under a mandate.
            event_id: UUID of the event; None makes one. Repeat a send under the same id: it counts once.

        Returns:
            The receipt: ACCEPTED at a position of the journal, DUPLICATE, or REJECTED with every fault.

        Raises:
            FaultyInputError: the JSON is no event; carries every fault.
            EnvironmentProblem: the broker does not take it, or no verdict came.
        """
        return self.verdicts([self.post(event, on_behalf_of=on_behalf_of, event_id=event_id)])[0]

    def send_all(self, events: Iterable[Any], *, on_behalf_of: str | None = None) -> list[Receipt]:
        """Send many events and wait for their verdicts, in the order of the events; see `send`."""
        return self.verdicts(self.post_all(events, on_behalf_of=on_behalf_of))

    def post(self, event: Any, *, on_behalf_of: str | None = None, event_id: str | None = None) -> Sent:
        """Send one event without waiting for its verdict; see `send`."""
        return self.post_records([self.record(event, on_behalf_of=on_behalf_of, event_id=event_id)])[0]

    def post_all(self, events: Iterable[Any], *, on_behalf_of: str | None = None) -> list[Sent]:
        """Send many events, several on the way at once, without waiting for verdicts; see `send`."""
        return self.post_records(self.record(event, on_behalf_of=on_behalf_of) for event in events)

    def record(self, event: Any, *, on_behalf_of: str | None = None, event_id: str | None = None) -> Record:
        """Return an event as the record that would be sent; see `send`.

        Raises:
            FaultyInputError: the JSON is no event, or a text in it or in a header is no Unicode.
        """
        if not hasattr(event, "area_id"):
            event = codec.from_json(event)
        headers: dict[str, str | bytes] = {
            "ce_specversion": "1.0",
            "ce_id": event_id or str(uuid4()),
            "ce_source": f"/flexbus/{self._own()}",
            "ce_type": type(event).__name__,
            "ce_subject": event.area_id,
            "ce_time": iso(time.time_ns() // 1_000_000),
        }
        if on_behalf_of is not None:
            headers["ce_onbehalfof"] = on_behalf_of
        try:
            value, key = codec.encode(event, self._registry), event.area_id.encode()
            for text in headers.values():
                str(text).encode()
        except UnicodeEncodeError as error:
            fault = Fault(code=FaultCode.BAD_VALUE, path="$", message=f"a text is no Unicode: {error.reason}")
            raise FaultyInputError((fault,)) from error
        if self.signing_key is not None:
            headers["ce_signature"] = sign(self.signing_key, value)
        return Record(value, key, headers)

    def post_records(self, records: Iterable[Record]) -> list[Sent]:
        """Send records as they are; for gateways that pass on signed events, and for tests of what is refused.

        Raises:
            FaultyInputError: the broker refuses a record for its size.
            EnvironmentProblem: the broker does not take them.
        """
        return [self._delivered(d) for d in [self._produce(r) for r in records]]

    def verdicts(self, sent: Iterable[Sent], timeout_s: float | None = None) -> list[Receipt]:
        """Wait for the verdicts on what was sent, in its order.

        A client keeps so many verdicts that were not asked for (`flexbus.verdicts`), and reads older ones again.

        Raises:
            EnvironmentProblem: not all came in time; is the sequencer running?
        """
        wanted = [(s.partition, s.offset) for s in sent]
        found = self._verdicts.of(wanted)
        missing = set(wanted) - found.keys()
        if self._verdicts.may_be_gone(missing) and self._receipts is not None:
            self._receipts.assign(self._receipts_from)
            self._verdicts.forget()
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + limit_s
        while missing:
            if time.monotonic() > deadline:
                raise EnvironmentProblem(
                    f"{len(missing)} of {len(wanted)} events are with Kafka at {self._connection.bootstrap}, but no "
                    f"verdict came within {limit_s:.0f} s: is the sequencer running (`flexbus run sequencer`)? "
                    "Sending them again under the same ids is safe."
                )
            for receipt in self._read_receipts(0.02):
                self._verdicts.keep(receipt)
                if (place := place_of(receipt)) in missing:
                    found[place] = receipt
                    missing.discard(place)
        return [found[w] for w in wanted]

    # --- reading

    def consume(
        self,
        kind: type[E] | str,
        *,
        area: str | None = None,
        from_: str | int | datetime = "start",
        until: str | int | datetime | None = "end",
        own: bool | None = None,
    ) -> Iterator[Received]:
        """Yield published events of one kind.

        Args:
            kind: event class or its name.
            area: market area; None for all.
            from_: "start", "end" (only what comes from now on), or an instant (datetime, UTC ms, ISO 8601).
            until: "end" (what is there now), an instant, or None to go on for ever. Instants are times of receipt.
            own: True reads the party's own topic: what concerns it, with its identity kept; False the public
                one, where identities are removed. None takes the public topic where there is one.

        Raises:
            EnvironmentProblem: the topic is missing or may not be read, or the read cannot be logged.
        """
        for message in self._records(kind, area, from_, until, own):
            yield _received(message, self._registry)

    def events(self, kind: type[E], **options: Any) -> Iterator[E]:
        """Yield only the events; see `consume`."""
        for found in self.consume(kind, **options):
            yield found.event

    def frame(self, kind: type[E] | str, rows: str | None = None, **options: Any) -> "pd.DataFrame":
        """Return published events as a flat table.

        Args:
            kind: event class or its name.
            rows: field whose entries become the rows ("awards", "slots", "buses" ...): series in them or beside
                them become one row per slot with its `start`. None gives one row per event.
            options: as in `consume`.
        """
        from flexbus.frames import frame

        return frame(self.consume(kind, **options), rows)

    def receipts(self, *, from_: str | int | datetime = "start", until: Any = "end") -> Iterator[Receipt]:
        """Yield the verdicts on what the party has sent, also from other processes; see `consume`."""
        for message in self._records(_RECEIPTS, None, from_, until, True):
            yield from codec.decode_as(message.value(), ReceiptsIssued, self._registry).receipts

    # --- inside

    def _own(self) -> str:
        if self._party is None:
            raise EnvironmentProblem(
                "This client has no party: give one by Client(party=...), or --as, to send or read as it."
            )
        return self._party

    def _produce(self, record: Record) -> "_Delivery":
        # Before the first event, so that its verdict is not missed; services get none, they read the journal.
        if self._receipts is None and self._party not in SERVICES_BY_ID:
            self._receipts = self._open_receipts()
        delivery = _Delivery(record.event_id)
        while True:
            try:
                self._producer.produce(
                    inbox(self._own()),
                    value=record.value,
                    key=record.key,
                    headers=dict(record.headers),
                    on_delivery=delivery.done,
                )
            except BufferError:  # back-pressure: the broker is slower than we are
                self._poll(0.1)
            except KafkaException as error:
                raise self._refused(error.args[0]) from error
            else:
                self._poll(0)
                return delivery

    def _delivered(self, delivery: "_Delivery") -> Sent:
        while delivery.place is None and delivery.error is None:
            self._poll(0.1)
        if delivery.place is None:
            raise self._refused(delivery.error)
        partition, offset = delivery.place
        return Sent(event_id=delivery.event_id, partition=partition, offset=offset)

    def _refused(self, error: KafkaError) -> FlexbusError:
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            message = f"the broker takes no record of this size; an event has at most {codec.MAX_EVENT_BYTES} bytes"
            return FaultyInputError((Fault(code=FaultCode.TOO_LARGE, path="$", message=message),))
        return environment_problem(error, self._connection.bootstrap, self._trouble)

    def _poll(self, wait_s: float) -> None:
        try:
            self._producer.poll(wait_s)
        except KafkaException as error:  # a fatal one: the producer will send no more
            raise self._refused(error.args[0]) from error
        self._check()

    def _check(self) -> None:
        if self._trouble.hopeless is not None:
            raise environment_problem(self._trouble.hopeless, self._connection.bootstrap)

    def _open_receipts(self) -> Consumer:
        topic = party_topic(self._own())
        self._log.note(resource(topic, type=_RECEIPTS, from_="end"))
        consumer = self._connection.reader(self._trouble)
        self._receipts_from = self._places(consumer, topic, "end")
        consumer.assign(self._receipts_from)
        return consumer

    def _read_receipts(self, wait_s: float) -> Iterator[Receipt]:
        if self._receipts is None:
            self._receipts = self._open_receipts()
        for message in self._receipts.consume(500, wait_s):
            if message.error() is None:
                if _header(message, "ce_type") == _RECEIPTS:
                    yield from codec.decode_as(message.value(), ReceiptsIssued, self._registry).receipts
            elif message.error().code() != KafkaError._PARTITION_EOF:
                raise environment_problem(message.error(), self._connection.bootstrap, self._trouble)
        self._check()

    def _records(self, kind: Any, area: str | None, from_: Any, until: Any, own: bool | None) -> Iterator[Message]:
        name = kind if isinstance(kind, str) else kind_of(kind).type_name
        topic = self._topic_of(name, own)
        before_ms = None if until in ("end", None) else _instant_ms(until)
        self._log.note(resource(topic, type=name, area=area, from_=from_, until=until), area or "")
        consumer = self._connection.reader(self._trouble)
        try:
            places = self._places(consumer, topic, from_)
            ends = self._ends(consumer, places) if until == "end" else {}
            consumer.assign(places)
            open_ = {p.partition for p in places}
            while open_:
                for message in consumer.consume(500, 0.05):
                    partition = message.partition()
                    error = message.error()
                    if error is not None and error.code() != KafkaError._PARTITION_EOF:
                        raise environment_problem(error, self._connection.bootstrap, self._trouble)
                    if until is not None and message.offset() >= ends.get(partition, 2**63):
                        open_.discard(partition)
                        continue
                    if error is not None:
                        # Nothing more is here now; what is received later is later than an instant gone by.
                        if before_ms is not None and before_ms <= time.time_ns() // 1_000_000:
                            open_.discard(partition)
                        continue
                    if before_ms is not None and message.timestamp()[1] >= before_ms:
                        continue
                    if _header(message, "ce_type") == name and area in (None, (message.key() or b"").decode()):
                        yield message
                self._check()
        finally:
            consumer.close()

    def _topic_of(self, name: str, own: bool | None) -> str:
        if name == _RECEIPTS:
            return party_topic(self._own())
        if name not in CATALOGUE:
            raise EnvironmentProblem(f"{name!r} is no event of the catalogue; `flexbus events` lists them.")
        topic = CATALOGUE[name].out_topic
        if own or (own is None and topic is None):
            return party_topic(self._own())
        if topic is None:
            raise EnvironmentProblem(f"{name} is not public: read it as a party that may see it, own=True.")
        return topic

    def _places(self, consumer: Consumer, topic: str, from_: Any) -> list[TopicPartition]:
        def ask() -> list[TopicPartition]:
            found = consumer.list_topics(topic, timeout=self._timeout_s).topics[topic]
            if found.error is not None:
                raise KafkaException(found.error)
            partitions = sorted(found.partitions)
            if from_ == "start":
                return [TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions]
            if from_ == "end":
                at = self._ends(consumer, [TopicPartition(topic, p) for p in partitions])
                return [TopicPartition(topic, p, at[p]) for p in partitions]
            times = [TopicPartition(topic, p, _instant_ms(from_)) for p in partitions]
            at_times = consumer.offsets_for_times(times, timeout=self._timeout_s)
            return [t if t.offset >= 0 else TopicPartition(topic, t.partition, OFFSET_END) for t in at_times]

        try:
            return patiently(ask, 2.0)
        except KafkaException as error:
            raise environment_problem(error, self._connection.bootstrap, self._trouble, consumer) from error

    def _ends(self, consumer: Consumer, places: list[TopicPartition]) -> dict[int, int]:
        def ask() -> dict[int, int]:
            ends = {}
            for topic in {p.topic for p in places}:
                consumer.list_topics(topic, timeout=self._timeout_s)  # else a leader once unknown stays so
            for place in places:
                bare = TopicPartition(place.topic, place.partition)
                ends[place.partition] = int(consumer.get_watermark_offsets(bare, timeout=self._timeout_s)[1])
            return ends

        try:
            return patiently(ask)
        except KafkaException as error:
            raise environment_problem(error, self._connection.bootstrap, self._trouble, consumer) from error


class _Delivery:
    """What became of one record on its way to the broker; of the record itself, only its id and place are kept."""

    __slots__ = ("error", "event_id", "place")

    def __init__(self, event_id: str | None) -> None:
        self.event_id = event_id
        self.place: Place | None = None
        self.error: Any = None

    def done(self, error: Any, message: Any) -> None:
        if error is not None:
            self.error = error
        else:
            self.place = (message.partition(), message.offset())


def _received(message: Message, registry: codec.Registry | None) -> Received:
    return Received(
        event=codec.decode(message.value(), registry),
        event_id=_header(message, "ce_id") or "",
        area_id=(message.key() or b"").decode(),
        block=int(_header(message, "ce_block") or -1),
        index=int(_header(message, "ce_index") or -1),
        received_at_ms=message.timestamp()[1],
        payload=message.value(),
    )


def _header(message: Message, name: str) -> str | None:
    for found, value in message.headers() or ():
        if found == name:
            return bytes(value or b"").decode(errors="replace")
    return None


def _instant_ms(value: str | int | datetime) -> int:
    if isinstance(value, int):
        return value
    return parse_ms(value.isoformat() if isinstance(value, datetime) else value)
