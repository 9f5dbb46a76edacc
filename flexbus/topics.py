"""Names and settings of every Kafka topic, from the event catalogue; pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from flexbus.catalogue import CATALOGUE, Service

__all__ = [
    "CLOCK",
    "INBOXES",
    "JOURNAL",
    "NOBODY",
    "PAGE",
    "READ_LOGS",
    "REJECTIONS",
    "RUNS_THE_BUS",
    "SERVICE_PRINCIPALS",
    "STAGES",
    "Topic",
    "changelog",
    "inbox",
    "party_of_inbox",
    "party_topic",
    "read_log",
    "reader_of_log",
    "topics",
]

JOURNAL = "flexbus.journal.v1"
REJECTIONS = "flexbus.rejections.v1"
CLOCK = "flexbus.clock.v1"
READ_LOGS = "flexbus.reads."  # what the names of all logs of reads begin with
INBOXES = "flexbus.in."  # what the names of all inboxes begin with
_VERSION = ".v1"

# Who writes a log of reads besides the participants: the page and every other process of ours for those whom it tells
# something, who runs the bus, and whoever does not say who he is; the last on a broker without access control alone, as
# elsewhere nobody has the right.
PAGE, RUNS_THE_BUS, NOBODY = "monitor", "admin", "anyone"
STAGES = tuple(s.value for s in Service if s is not Service.SCHEDULER)
SERVICE_PRINCIPALS = ("sequencer", *STAGES, Service.SCHEDULER.value, "publisher", PAGE)

_KEEP = {"retention.ms": "-1", "retention.bytes": "-1"}
# The broker's own clock is the evidence of when a record was received, so the sender's is not taken.
_AS_RECEIVED = {**_KEEP, "message.timestamp.type": "LogAppendTime"}


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic to be created.

    Attributes:
        name: name of the topic.
        partitions: number of partitions; inboxes and journal have the same.
        config: topic settings.
    """

    name: str
    partitions: int
    config: dict[str, str] = field(default_factory=dict)


def inbox(party_id: str) -> str:
    """Return the topic that only this party may write."""
    return f"{INBOXES}{party_id}{_VERSION}"


def party_of_inbox(topic: str) -> str:
    """Return the party an inbox topic belongs to: the authenticated sender of what is in it."""
    return topic.removeprefix(INBOXES).removesuffix(_VERSION)


def party_topic(party_id: str) -> str:
    """Return the topic on which a party receives receipts and the events that it may see in full."""
    return f"flexbus.out.party.{party_id}.v1"


def read_log(writer: str) -> str:
    """Return the topic on which this party, or part of the bus, alone notes what was read through it."""
    return f"{READ_LOGS}{writer}{_VERSION}"


def reader_of_log(topic: str) -> str:
    """Return who writes a log of reads."""
    return topic.removeprefix(READ_LOGS).removesuffix(_VERSION)


def changelog(service: str) -> str:
    """Return the topic that holds the table of a stage, as the stream framework names it."""
    return f"flexbus-{service}-{service}-changelog"


def topics(parties: Iterable[str], partitions: int) -> tuple[Topic, ...]:
    """Return all topics of a cluster.

    Args:
        parties: ids of the participants that have an inbox, a topic of their own and a log of what they read.
        partitions: partitions of inboxes, journal and out topics.
    """
    parties = set(parties)
    senders = sorted({*parties, *(s.value for s in Service)})
    found = [
        Topic(JOURNAL, partitions, dict(_KEEP) | {"max.message.bytes": "16000000"}),
        Topic(REJECTIONS, partitions, dict(_KEEP) | {"max.message.bytes": "16000000"}),
        Topic(CLOCK, 1, {"cleanup.policy": "compact"}),
    ]
    # The stream framework makes no topics, and one that is made while it starts has no partitions in its eyes.
    found += [Topic(changelog(s), partitions, {"cleanup.policy": "compact"}) for s in STAGES]
    found += [Topic(inbox(s), partitions, dict(_AS_RECEIVED) | {"max.message.bytes": "8000000"}) for s in senders]
    # One reader, one order over all its areas, and a cluster of thousands of parties: one partition is right.
    found += [Topic(party_topic(p), 1, dict(_KEEP) | {"max.message.bytes": "8000000"}) for p in sorted(parties)]
    readers = sorted({*parties, *SERVICE_PRINCIPALS, RUNS_THE_BUS, NOBODY})
    found += [Topic(read_log(w), 1, dict(_AS_RECEIVED)) for w in readers]
    found += [
        Topic(k.out_topic, partitions, dict(_KEEP) | {"max.message.bytes": "8000000"})
        for k in CATALOGUE.values()
        if k.out_topic
    ]
    return tuple(found)
