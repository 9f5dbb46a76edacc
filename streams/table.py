"""The small view of a stage that people query: one Faust table per stage, one absolute row per area.

Rows come out of the fold as they are, so writing one twice changes nothing.
"""

import json
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import faust
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import NewTopic

from flexbus.topics import changelog
from streams.area import Area
from streams.kafka import Connection, Trouble, environment_problem
from streams.topics import existing_topics, journal_partitions

__all__ = ["MOST_PENDING", "Summary", "new_table", "raw_schema"]

MOST_PENDING = 1_000  # a closed gate may make a fact due for each of a hundred thousand offers, and a row is one record
_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A row: how far the stage has read an area, what it still waits for, and its small view of the market.

    Attributes:
        area_id: market area.
        block: number of the last block.
        hash: its hash, hexadecimal.
        events: events seen, by kind.
        pending: ids of facts that are due and not in the journal yet, the oldest `MOST_PENDING` of them.
        market: what the stage's `row` says; in a stored row it may be some seconds older than the rest.
    """

    area_id: str
    block: int
    hash: str
    events: dict[str, int]
    pending: list[str]
    market: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, area: Area, market: dict[str, int]) -> "Summary":
        """Return the row of an area.

        Args:
            area: the area.
            market: its small view of the market.
        """
        number, digest = area.last or (-1, b"")
        return cls(
            area_id=area.area_id,
            block=number,
            hash=digest.hex(),
            events=dict(sorted(area.counts.items())),
            pending=list(islice(area.pending, MOST_PENDING)),
            market=market,
        )

    @classmethod
    def of_bytes(cls, value: bytes) -> "Summary":
        """Return the row of a table's value."""
        return cls(**json.loads(value))

    def to_json(self) -> dict[str, Any]:
        """Return the row for people."""
        return asdict(self)

    def to_bytes(self) -> bytes:
        """Return the row as a table's value."""
        return json.dumps(asdict(self)).encode()


def new_table(app: Any, service: str, connection: Connection) -> Any:
    """Return the stage's table; its changelog is made if `create_topics` has not (a stage of one's own).

    Raises:
        EnvironmentProblem: the broker does not answer, or has no journal.
    """
    partitions = journal_partitions(connection)
    _create(connection, changelog(service), partitions)
    return app.Table(
        service,
        key_type=bytes,
        value_type=bytes,
        schema=raw_schema(),
        partitions=partitions,
        help="position, counts and small market view per area",
    )


def raw_schema() -> Any:
    """Return the schema of keys and values that are bytes: Faust's JSON keys would land in other partitions."""
    return faust.Schema(key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")


def _create(connection: Connection, topic: str, partitions: int) -> None:
    if topic in existing_topics(connection):
        return
    trouble = Trouble()
    admin = connection.admin(trouble)
    made = admin.create_topics([NewTopic(topic, partitions, config={"cleanup.policy": "compact"})])
    try:
        made[topic].result(_TIMEOUT_S)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # a sibling was quicker
            raise environment_problem(error, connection.bootstrap, trouble) from error
