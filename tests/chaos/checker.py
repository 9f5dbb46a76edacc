"""Counts what went in and what came out, sharing no code with flexbus: Avro files, SHA-256 and Kafka's own reader.

What it must catch, and is tested to catch: a lost input, a doubled one, a reordered one, a changed block, a
publication that is missing or there twice.
"""

import hashlib
import io
import json
import struct
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fastavro
from confluent_kafka import Consumer, KafkaError, TopicPartition

SERVICES = {"scheduler", "congestion", "aggregation", "traffic_light", "clearing", "activation", "settlement"}
SCHEMAS = Path(__file__).parents[2] / "schemas" / "avro"


@dataclass(frozen=True)
class Record:
    """A record as Kafka's reader gives it."""

    topic: str
    partition: int
    offset: int
    value: bytes
    headers: dict[str, str]


@dataclass
class Report:
    """What is wrong, counted."""

    inputs: int = 0
    accepted: int = 0
    derived: int = 0
    lost: int = 0
    doubled: int = 0
    reordered: int = 0
    unpublished: int = 0
    broken: list[str] = field(default_factory=list)

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


def check(records: Iterable[Record]) -> Report:
    """Compare inboxes, journal, rejections and public topics."""
    by_topic: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_topic[record.topic].append(record)
    report = Report()
    blocks = [_decode("block", r.value) for r in by_topic["flexbus.journal.v1"]]
    _chains(blocks, report)
    _inputs(by_topic, blocks, report)
    _publications(by_topic, blocks, report)
    return report


def _decode(name: str, value: bytes) -> Any:
    schema = fastavro.parse_schema(json.loads((SCHEMAS / f"{name}.v1.avsc").read_text()))
    return fastavro.schemaless_reader(io.BytesIO(value[10:]), schema)


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


def _inputs(by_topic: dict[str, list[Record]], blocks: list[Any], report: Report) -> None:
    entries = [e for b in blocks for e in b["entries"]]
    places = Counter((e["sender_id"], e["inbox_partition"], e["inbox_offset"]) for e in entries)
    # An id counts in its area; the same id in another area is another event.
    ids = Counter((b["area_id"], e["sender_id"], e["event_id"]) for b in blocks for e in b["entries"])
    payloads: dict[tuple[str, str], set[bytes]] = defaultdict(set)
    for e in entries:
        payloads[e["sender_id"], e["event_id"]].add(e["payload"])
    refused: Counter[tuple[str, int, int]] = Counter()
    for record in by_topic["flexbus.rejections.v1"]:
        rejection = _decode("event_rejected", record.value)
        refused[rejection["sender_id"], rejection["inbox_partition"], rejection["inbox_offset"]] += 1
    report.accepted = len(entries)
    report.derived = sum(e["sender_id"] in SERVICES for e in entries)
    report.doubled += sum(n - 1 for n in ids.values()) + sum(n - 1 for n in refused.values())
    for topic, records in by_topic.items():
        if not topic.startswith("flexbus.in."):
            continue
        party = topic.removeprefix("flexbus.in.").removesuffix(".v1")
        for record in records:
            report.inputs += 1
            place = (party, record.partition, record.offset)
            if places[place] + refused[place] > 1:
                report.doubled += 1
            repeat = record.value in payloads.get((party, record.headers.get("ce_id", "")), ())
            if not places[place] and not refused[place] and not repeat:
                report.lost += 1
    # Each party's own order within an area is kept.
    last: dict[tuple[str, str, int], int] = {}
    for block in blocks:
        for e in block["entries"]:
            lane = (block["area_id"], e["sender_id"], e["inbox_partition"])
            report.reordered += e["inbox_offset"] <= last.get(lane, -1)
            last[lane] = e["inbox_offset"]


def _publications(by_topic: dict[str, list[Record]], blocks: list[Any], report: Report) -> None:
    """Each event of a public kind stands once on its topic, in the order of its area's chain."""
    expected: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    for block in blocks:
        for e in block["entries"]:
            word = "".join(f"_{c.lower()}" if c.isupper() else c for c in e["event_type"]).strip("_")
            expected[f"flexbus.out.{word}.v1"][block["area_id"], e["event_id"]] += 1
    for topic, records in by_topic.items():
        if not topic.startswith("flexbus.out.") or topic.startswith("flexbus.out.party."):
            continue
        found = Counter((r.headers.get("ce_subject", ""), r.headers.get("ce_id", "")) for r in records)
        report.unpublished += (expected[topic] - found).total()
        report.doubled += (found - expected[topic]).total()
        last: dict[str, tuple[int, int]] = {}
        for record in records:
            place = (int(record.headers.get("ce_block", -1)), int(record.headers.get("ce_index", -1)))
            report.reordered += place <= last.get(record.headers.get("ce_subject", ""), (-1, -1))
            last[record.headers.get("ce_subject", "")] = place
