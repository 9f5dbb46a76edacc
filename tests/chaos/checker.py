"""Counts what went in and what came out, sharing no code with flexbus: Avro files, SHA-256 and Kafka's own reader.

What it must catch, and is tested to catch: a lost input, a send that Kafka acknowledged and that is in no inbox, an
input refused that had to be taken, a doubled one, a reordered one, a changed block, an entry that is not what was sent
or that had to be refused, a derived fact that never came or came twice (`tests.chaos.rules`), a publication or a
receipt that is missing, changed or there twice.
"""

import hashlib
import io
import json
import struct
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import fastavro
from confluent_kafka import Consumer, KafkaError, TopicPartition

from tests.chaos import rules

SERVICES = {"scheduler", "congestion", "aggregation", "traffic_light", "clearing", "activation", "settlement"}
# Who sends marks by this header what is valid, of all with one id exactly one must be in the journal, and what is not.
MARK, VALID, BROKEN = "chaos-expect", "accepted", "refused"
# What anyone may see: written down here once more, so that a kind that is never published is missed.
PUBLIC = {
    "AreaOpened",
    "SignaturePolicySet",
    "MarketProductDefined",
    "MarketSessionScheduled",
    "GateOpened",
    "GateClosed",
    "DeliveryStarted",
    "DeliveryEnded",
    "SettlementDue",
    "FlexRequestSubmitted",
    "FlexRequestAmended",
    "FlexRequestWithdrawn",
    "NodalPricesPublished",
    "MarketCleared",
    "OffersAggregated",
}
JOURNAL, REJECTIONS = "flexbus.journal.v1", "flexbus.rejections.v1"
INBOX, OUT, PARTY, VERSION = "flexbus.in.", "flexbus.out.", "flexbus.out.party.", ".v1"
SCHEMAS = Path(__file__).parents[2] / "schemas" / "avro"
MOST_FAULTS = 40


@dataclass(frozen=True)
class Record:
    """A record as Kafka's reader gives it."""

    topic: str
    partition: int
    offset: int
    value: bytes
    headers: dict[str, str]


class Acknowledged(NamedTuple):
    """A send that Kafka confirmed to its sender: from then on it must not be lost.

    Attributes:
        topic: inbox it was sent to.
        partition: where Kafka says that it is.
        offset: where Kafka says that it is.
        event_id: id it was sent with.
    """

    topic: str
    partition: int
    offset: int
    event_id: str | None


@dataclass
class Report:
    """What was looked at, and what is wrong, counted.

    Attributes:
        acknowledged: sends that had to be in an inbox.
        inputs: records in inboxes.
        accepted: entries of the journal.
        derived: entries of the services.
        marked: valid events that had to be taken.
        due: derived facts that had to come.
        published: records that had to be on public topics and on those of parties.
        receipts: receipts that had to be issued.
        lost: sends, inputs or derived facts that are nowhere, or refused though valid.
        doubled: what is there more than once.
        reordered: what stands behind something later of its kind.
        unpublished: publications and receipts that are missing.
        broken: what is wrong with the chain and with what its entries hold.
        faults: the first of what was lost, doubled or unpublished, for people.
    """

    acknowledged: int = 0
    inputs: int = 0
    accepted: int = 0
    derived: int = 0
    marked: int = 0
    due: int = 0
    published: int = 0
    receipts: int = 0
    lost: int = 0
    doubled: int = 0
    reordered: int = 0
    unpublished: int = 0
    broken: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def count(self, what: str, fault: str, times: int = 1) -> None:
        """Count what is wrong, and keep what it was: the first of them are enough to look for the cause."""
        setattr(self, what, getattr(self, what) + times)
        if times and len(self.faults) < MOST_FAULTS:
            self.faults.append(f"{what}: {fault}" + (f", {times} times" if times > 1 else ""))

    @property
    def ok(self) -> bool:
        return not (self.lost or self.doubled or self.reordered or self.unpublished or self.broken)


def read_all(settings: dict[str, Any], prefix: str = "flexbus.") -> list[Record]:
    """Read every committed record of the bus's topics, as they stand now."""
    consumer = Consumer(
        {
            **settings,
            "group.id": "checker",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )
    found: list[Record] = []
    try:
        topics = consumer.list_topics(timeout=30).topics
        open_ = {(n, p) for n, t in topics.items() if n.startswith(prefix) for p in t.partitions}
        consumer.assign([TopicPartition(name, partition, 0) for name, partition in open_])
        while open_:
            for message in consumer.consume(1000, 1.0):
                if message.error() is None:
                    headers = {k: (v or b"").decode(errors="replace") for k, v in message.headers() or ()}
                    found.append(
                        Record(message.topic(), message.partition(), message.offset(), message.value() or b"", headers)
                    )
                elif message.error().code() == KafkaError._PARTITION_EOF:
                    open_.discard((message.topic(), message.partition()))
    finally:
        consumer.close()
    return found


def check(records: Iterable[Record], now_ms: int | None = None, acknowledged: Iterable[Acknowledged] = ()) -> Report:
    """Compare inboxes, journal, rejections, receipts, derived facts, public topics and those of the parties.

    Args:
        records: all committed records of the bus.
        now_ms: the market's time, UTC ms, up to which the scheduler must have spoken; None asks nothing of it.
        acknowledged: what senders were told is in an inbox.
    """
    by_topic: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_topic[record.topic].append(record)
    report = Report()
    blocks = [_decode("block", r.value) for r in by_topic[JOURNAL]]
    _chains(blocks, report)
    refused = _refused(by_topic)
    _sends(by_topic, acknowledged, report)
    _inputs(by_topic, blocks, refused, report)
    _contents(by_topic, blocks, report)
    _receipts(by_topic, blocks, refused, report)
    _derived(blocks, now_ms, report)
    _publications(by_topic, blocks, report)
    return report


def _decode(name: str, value: bytes) -> Any:
    return fastavro.schemaless_reader(io.BytesIO(value[10:]), _schema(name))


@cache
def _schema(name: str) -> Any:
    return fastavro.parse_schema(json.loads((SCHEMAS / f"{name}.v1.avsc").read_text()))


def _word(event_type: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in event_type).strip("_")


def _chains(blocks: list[Any], report: Report) -> None:
    heads: dict[str, tuple[int, bytes]] = {}
    for block in blocks:
        number, before = heads.get(block["area_id"], (-1, bytes(32)))
        name = f"area {block['area_id']}, block {block['number']}"
        if block["number"] != number + 1:
            report.broken.append(f"{name} follows block {number}")
        if block["previous_hash"] != before:
            report.broken.append(f"{name} does not name the hash before it")
        if _hash(block) != block["hash"]:
            report.broken.append(f"{name} does not match its hash")
        heads[block["area_id"]] = (block["number"], block["hash"])


def _hash(block: Any) -> bytes:
    """docs/journal.md, The hash."""

    def sized(value: bytes) -> bytes:
        return len(value).to_bytes(4, "big") + value

    def optional(value: bytes | None) -> bytes:
        return b"\0" if value is None else b"\1" + sized(value)

    text = sized(block["area_id"].encode()) + struct.pack(">q", block["number"]) + block["previous_hash"]
    for e in block["entries"]:
        text += sized(e["event_id"].encode()) + sized(e["event_type"].encode()) + e["schema_fingerprint"]
        text += sized(e["sender_id"].encode())
        text += optional(None if e["on_behalf_of"] is None else e["on_behalf_of"].encode())
        text += struct.pack(">qqq", e["received_at_ms"], e["inbox_partition"], e["inbox_offset"])
        text += sized(e["payload"]) + optional(e["signature"])
    return hashlib.sha256(text).digest()


Place = tuple[str, int, int]


def _refused(by_topic: dict[str, list[Record]]) -> Counter[Place]:
    found = (_decode("event_rejected", record.value) for record in by_topic[REJECTIONS])
    return Counter((r["sender_id"], r["inbox_partition"], r["inbox_offset"]) for r in found)


def _placed(blocks: list[Any]) -> Counter[Place]:
    return Counter((e["sender_id"], e["inbox_partition"], e["inbox_offset"]) for b in blocks for e in b["entries"])


def _inboxes(by_topic: dict[str, list[Record]]) -> Iterator[tuple[str, Record]]:
    for topic, records in by_topic.items():
        if topic.startswith(INBOX):
            for record in records:
                yield topic.removeprefix(INBOX).removesuffix(VERSION), record


def _sends(by_topic: dict[str, list[Record]], acknowledged: Iterable[Acknowledged], report: Report) -> None:
    there = {
        Acknowledged(topic, r.partition, r.offset, r.headers.get("ce_id"))
        for topic, records in by_topic.items()
        if topic.startswith(INBOX)
        for r in records
    }
    for send in acknowledged:
        report.acknowledged += 1
        if send not in there:
            report.count("lost", f"acknowledged, and not in the inbox: {send}")


def _inputs(by_topic: dict[str, list[Record]], blocks: list[Any], refused: Counter[Place], report: Report) -> None:
    entries = [e for b in blocks for e in b["entries"]]
    places = _placed(blocks)
    # An id counts in its area, for participants and for services; the same id in another area is another event.
    ids = Counter((b["area_id"], e["sender_id"] in SERVICES, e["event_id"]) for b in blocks for e in b["entries"])
    payloads: dict[tuple[str, str], set[bytes]] = defaultdict(set)
    for e in entries:
        payloads[e["sender_id"], e["event_id"]].add(e["payload"])
    report.accepted = len(entries)
    report.derived = sum(e["sender_id"] in SERVICES for e in entries)
    for key, times in [*ids.items(), *refused.items()]:
        report.count("doubled", f"{key} in journal or rejections", times - 1)
    valid: set[tuple[str, str]] = set()
    gone: set[tuple[str, str]] = set()
    for party, record in _inboxes(by_topic):
        report.inputs += 1
        place = (party, record.partition, record.offset)
        name = (record.headers.get("ce_subject", ""), record.headers.get("ce_id", ""))
        if places[place] + refused[place] > 1:
            report.count("doubled", f"verdict on input {place}")
        repeat = record.value in payloads.get((party, name[1]), ())
        if not places[place] and not refused[place] and not repeat:
            report.count("lost", f"input {place}")
            gone.add(name)
        if record.headers.get(MARK) == VALID:
            valid.add(name)
            if refused[place] and repeat:
                report.count("lost", f"input {place}, refused as if it were no repeat of {name}")
    report.marked = len(valid)
    for area, event_id in sorted(valid - gone):
        if not ids[area, False, event_id]:
            report.count("lost", f"valid event {event_id} of area {area}, refused every time")
    # Each party's own order within an area is kept.
    last: dict[tuple[str, str, int], int] = {}
    for block in blocks:
        for e in block["entries"]:
            lane = (block["area_id"], e["sender_id"], e["inbox_partition"])
            report.reordered += e["inbox_offset"] <= last.get(lane, -1)
            last[lane] = e["inbox_offset"]


def _contents(by_topic: dict[str, list[Record]], blocks: list[Any], report: Report) -> None:
    """Journal and rejections hold what was sent, byte by byte under its id, and nothing else."""
    sent = {(party, r.partition, r.offset): r for party, r in _inboxes(by_topic)}
    for block in blocks:
        for e in block["entries"]:
            place = (e["sender_id"], e["inbox_partition"], e["inbox_offset"])
            name = f"area {block['area_id']}, block {block['number']}: event {e['event_id']} of input {place}"
            if (given := sent.get(place)) is None:
                report.broken.append(f"{name}, which nobody sent")
                continue
            if given.headers.get(MARK) == BROKEN:
                report.broken.append(f"{name}, which had to be refused")
            of_sender = (given.headers.get("ce_id"), given.headers.get("ce_onbehalfof"), given.value)
            if (e["event_id"], e["on_behalf_of"], e["payload"]) != of_sender:
                report.broken.append(f"{name} is not what was sent")
    for rejection in (_decode("event_rejected", record.value) for record in by_topic[REJECTIONS]):
        place = (rejection["sender_id"], rejection["inbox_partition"], rejection["inbox_offset"])
        if place in sent and rejection["original"] != sent[place].value:
            report.broken.append(f"the rejection of input {place} does not hold what was sent")


def _receipts(by_topic: dict[str, list[Record]], blocks: list[Any], refused: Counter[Place], report: Report) -> None:
    """Every input of a participant has one receipt, and what it says is so."""
    places = _placed(blocks)
    verdicts: dict[Place, list[str]] = defaultdict(list)
    for topic, records in by_topic.items():
        for record in records if topic.startswith(PARTY) else ():
            if record.headers.get("ce_type") == "ReceiptsIssued":
                party = topic.removeprefix(PARTY).removesuffix(VERSION)
                for receipt in _decode("receipts_issued", record.value)["receipts"]:
                    place = (party, receipt["inbox_partition"], receipt["inbox_offset"])
                    verdicts[place].append(receipt["verdict"])
    for place, found in verdicts.items():
        report.count("doubled", f"receipt of input {place}", len(found) - 1)
        kept = {"ACCEPTED": places[place], "REJECTED": refused[place], "DUPLICATE": True}
        if not all(kept[verdict] for verdict in found):
            report.count("lost", f"input {place}, of which the receipt says {found}")
    for party, record in _inboxes(by_topic):
        place = (party, record.partition, record.offset)
        report.receipts += party not in SERVICES
        if party not in SERVICES and place not in verdicts:
            report.count("unpublished", f"receipt of input {place}")


def _derived(blocks: list[Any], now_ms: int | None, report: Report) -> None:
    facts: dict[str, list[tuple[str, Any]]] = defaultdict(list)
    for block in blocks:
        for e in block["entries"]:
            if e["event_type"] in rules.READS:
                facts[block["area_id"]].append((e["event_type"], _decode(_word(e["event_type"]), e["payload"])))
    for area, mine in facts.items():
        story = rules.told(mine, now_ms)
        report.due += len(story.expected)
        for key in story.missing:
            report.count("lost", f"area {area}: {' '.join(key)} never came")
        for key in story.doubled:
            report.count("doubled", f"area {area}: {' '.join(key)}")


def _publications(by_topic: dict[str, list[Record]], blocks: list[Any], report: Report) -> None:
    """Every event is once where it must be: public kinds on their topic, all with who sent it and who runs the market.

    These two get its very bytes.

    Who else may see an event hangs on roles and mandates, so a party's topic may hold more; but nothing twice, and
    everything in the order of its area's chain.
    """
    expected: dict[str, Counter[tuple[str, ...]]] = defaultdict(Counter)
    payloads: dict[tuple[str, ...], bytes] = {}
    runs_it: dict[str, str] = {}
    for block in blocks:
        area = block["area_id"]
        for index, e in enumerate(block["entries"]):
            what: tuple[str, ...] = (area, e["event_id"], str(block["number"]), str(index))
            if e["event_type"] == "AreaOpened":
                runs_it.setdefault(area, _decode("area_opened", e["payload"])["fmo_id"])
            payloads[what] = e["payload"]
            if e["event_type"] in PUBLIC:
                expected[f"{OUT}{_word(e['event_type'])}{VERSION}"][what] += 1
            for party in {e["sender_id"], runs_it.get(area)} - SERVICES - {None}:
                expected[f"{PARTY}{party}{VERSION}"][what] += 1
    for topic in sorted({*expected, *(t for t in by_topic if t.startswith(OUT))}):
        records = [r for r in by_topic.get(topic, ()) if r.headers.get("ce_type") != "ReceiptsIssued"]
        found = Counter(_what(r) for r in records)
        report.published += expected[topic].total()
        for what, times in (expected[topic] - found).items():
            report.count("unpublished", f"{topic}: {what}", times)
        allowed = found.keys() if topic.startswith(PARTY) else expected[topic].keys()
        for what, times in found.items():
            report.count("doubled", f"{topic}: {what}", times - (what in allowed))
        last: dict[str, tuple[int, int]] = {}
        for record in records:
            what = _what(record)
            if topic.startswith(PARTY) and what in expected[topic] and record.value != payloads[what]:
                report.count("unpublished", f"{topic}: {what} with other bytes")
            place = (int(record.headers.get("ce_block", -1)), int(record.headers.get("ce_index", -1)))
            report.reordered += place <= last.get(record.headers.get("ce_subject", ""), (-1, -1))
            last[record.headers.get("ce_subject", "")] = place


def _what(record: Record) -> tuple[str, ...]:
    return tuple(record.headers.get(name, "") for name in ("ce_subject", "ce_id", "ce_block", "ce_index"))
