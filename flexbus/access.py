"""Who may do what: one table, role x event kind x verb, derived from the event catalogue; and the rights it comes to.

What Kafka allows (`grants_of`), what publisher and page show (`sight_of`) and docs/access.md all follow from here. The
broker knows topics, not kinds of event: it proves who sends and keeps topics apart. Whether a sender's role may send
a kind is judged by the sequencer (`flexbus.validation`), as roles are given per market area, by events.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from flexbus.catalogue import CATALOGUE, Kind, Service, Sight
from flexbus.events import Role
from flexbus.ids import is_party_id
from flexbus.topics import (
    CLOCK,
    INBOXES,
    JOURNAL,
    NOBODY,
    PAGE,
    READ_LOGS,
    REJECTIONS,
    RUNS_THE_BUS,
    SERVICE_PRINCIPALS,
    STAGES,
    changelog,
    inbox,
    party_topic,
    read_log,
)

__all__ = [
    "ALL_SEEING",
    "ANYONE",
    "PLAYER",
    "SERVICE_PRINCIPALS",
    "TABLE",
    "TRADING",
    "Grant",
    "Operation",
    "Resource",
    "Verb",
    "grants_of",
    "grants_of_party",
    "is_reserved",
    "public_grants",
    "service_grants",
    "sight_of",
    "told",
]


class Verb(Enum):
    """What a role may do with a kind of event."""

    SEND = "send"
    SEE = "see"
    SEE_WITHOUT_IDENTITY = "anon"
    SEE_OWN = "own"


# They see every event of their area in full.
ALL_SEEING = frozenset({Role.FMO, Role.AUDITOR})


def told(role: Role, kind: Kind) -> Sight | None:
    """Return how a role is told every event of a kind on its parties' own topics; None if it is not told of it."""
    return Sight.FULL if role in ALL_SEEING else kind.see.get(role)


def sight_of(role: Role, kind: Kind) -> Sight | None:
    """Return how a role sees every event of a kind, told or public; None if only what is its own."""
    sights = (told(role, kind), kind.public)
    return Sight.FULL if Sight.FULL in sights else sights[0] or sights[1]


def _verbs(role: Role, kind: Kind) -> frozenset[Verb]:
    found = {Verb.SEND} if role in kind.send else set()
    sight = sight_of(role, kind)
    if sight is Sight.FULL:
        return frozenset(found | {Verb.SEE})
    if sight is Sight.WITHOUT_IDENTITIES:
        found.add(Verb.SEE_WITHOUT_IDENTITY)
    if kind.parties or role in kind.send:  # who sends an event and whom it names see it in full
        found.add(Verb.SEE_OWN)
    return frozenset(found)


TABLE: Mapping[tuple[Role, str], frozenset[Verb]] = {
    (role, name): _verbs(role, kind) for name, kind in CATALOGUE.items() for role in Role
}
_SENDERS = frozenset(role for (role, _), verbs in TABLE.items() if Verb.SEND in verbs)
# What a party is taken for on the broker as long as nobody says otherwise: one that sends and reads what is its own.
TRADING = _SENDERS - ALL_SEEING


# --- the broker's rights


class Operation(Enum):
    """What Kafka may allow; READ and WRITE include DESCRIBE."""

    READ = "READ"
    WRITE = "WRITE"
    DESCRIBE = "DESCRIBE"


class Resource(Enum):
    """On what."""

    TOPIC = "TOPIC"
    GROUP = "GROUP"
    TRANSACTIONAL_ID = "TRANSACTIONAL_ID"


@dataclass(frozen=True, slots=True, order=True)
class Grant:
    """One Kafka ACL: everything that no grant allows is forbidden.

    Attributes:
        principal: SCRAM user; `*` is every user that has proven who it is.
        resource: kind of resource, a value of `Resource`.
        name: its name, or what its name begins with.
        operation: a value of `Operation`.
        prefixed: whether `name` is a prefix.
    """

    principal: str
    resource: str
    name: str
    operation: str
    prefixed: bool = False

    def __str__(self) -> str:
        name = f"{self.name}*" if self.prefixed else self.name
        return f"{self.principal:20} {self.operation:9} {self.resource:17} {name}"


ANYONE = "*"
PLAYER = "player"  # moves the market's clock of a played day; a real market has none
_RESERVED = frozenset({*SERVICE_PRINCIPALS, PLAYER, ANYONE, NOBODY, RUNS_THE_BUS, "broker", "party", "journal"})
# Consumers that say themselves where they read belong to no group, yet the client asks who would lead it.
_READER_GROUP = "flexbus-reader"


class _Granting:
    """Collects the grants of one principal."""

    def __init__(self, principal: str) -> None:
        self.principal = principal
        self.grants: list[Grant] = []

    def _add(self, resource: Resource, operation: Operation, names: Iterable[str], prefixed: bool) -> "_Granting":
        self.grants += [Grant(self.principal, resource.value, n, operation.value, prefixed) for n in names]
        return self

    def reads(self, *topics: str, prefixed: bool = False) -> "_Granting":
        return self._add(Resource.TOPIC, Operation.READ, topics, prefixed)

    def writes(self, *topics: str, prefixed: bool = False) -> "_Granting":
        return self._add(Resource.TOPIC, Operation.WRITE, topics, prefixed)

    def joins(self, group: str, prefixed: bool = False) -> "_Granting":
        return self._add(Resource.GROUP, Operation.READ, (group,), prefixed)

    def transacts(self, prefix: str) -> "_Granting":
        return self._add(Resource.TRANSACTIONAL_ID, Operation.WRITE, (prefix,), True)


def is_reserved(name: str) -> bool:
    """Tell whether no participant may have a name, as its rights would be those of a part of the bus."""
    return name in _RESERVED or name.startswith("flexbus")


def service_grants(service: str) -> tuple[Grant, ...]:
    """Return the rights of one of our own processes: what it needs for its work and nothing else.

    Args:
        service: one of `SERVICE_PRINCIPALS`, or `PLAYER`.

    Raises:
        KeyError: another name.
    """
    may = _Granting(service)
    if service == "sequencer":
        may.reads(INBOXES, prefixed=True).reads(JOURNAL).joins("flexbus-sequencer")
        may.writes(JOURNAL, REJECTIONS).writes("flexbus.out.party.", prefixed=True).transacts("flexbus-sequencer-")
    elif service == "publisher":
        may.reads(JOURNAL).joins("flexbus-publisher")
        may.writes("flexbus.out.", prefixed=True).transacts("flexbus-publisher-")
    elif service == PAGE:
        may.reads(JOURNAL, REJECTIONS, CLOCK)
    elif service == Service.SCHEDULER.value:
        may.reads(JOURNAL, CLOCK).writes(inbox(service))
    elif service in STAGES:
        may.reads(JOURNAL, changelog(service)).joins(f"flexbus-{service}")
        may.writes(inbox(service), changelog(service))
    elif service == PLAYER:
        may.writes(CLOCK)
    else:
        raise KeyError(service)
    if service in SERVICE_PRINCIPALS:  # whom it told what over HTTP
        may.writes(read_log(service))
    return tuple(may.grants)


def grants_of_party(party_id: str, roles: Iterable[Role] = TRADING) -> tuple[Grant, ...]:
    """Return the rights of a participant: its own inbox, topic, log of reads and consumer groups.

    Args:
        party_id: the participant, and its principal.
        roles: what it is in any area. Who may send nothing has no inbox to write; an auditor also reads all
            inboxes, the journal and what was refused, as only together they tell that nothing was left out, and
            everybody's logs of reads.

    Raises:
        ValueError: the name is one of the bus's own, or can be nobody's.
    """
    if is_reserved(party_id):
        raise ValueError(f"{party_id!r} is a name of the bus's own; a participant needs another")
    if not is_party_id(party_id):
        raise ValueError(
            f"{party_id!r} is no party id: a letter or digit and up to 63 more, dots, hyphens or underscores"
        )
    held = frozenset(roles)
    # A colon, which no party id has: with a dot the groups of "a" would be those of the party "a.b", too.
    may = _Granting(party_id).reads(party_topic(party_id)).joins(party_id).joins(f"{party_id}:", prefixed=True)
    may.writes(read_log(party_id))
    if held & _SENDERS:
        may.writes(inbox(party_id)).reads(inbox(party_id))  # what it sent itself, to see and mend what was refused
    if Role.AUDITOR in held:
        may.reads(INBOXES, prefixed=True).reads(JOURNAL, REJECTIONS).reads(READ_LOGS, prefixed=True)
    return tuple(may.grants)


def public_grants() -> tuple[Grant, ...]:
    """Return what every proven user may: read the out topics of the kinds that anyone may see."""
    may = _Granting(ANYONE).reads(*(kind.out_topic for kind in CATALOGUE.values() if kind.out_topic is not None))
    return (
        *may.grants,
        Grant(ANYONE, Resource.GROUP.value, _READER_GROUP, Operation.DESCRIBE.value),
    )


def grants_of(parties: Mapping[str, Iterable[Role]]) -> tuple[Grant, ...]:
    """Return every right of a cluster: of anyone, of our services, of the participants.

    Args:
        parties: roles by participant.
    """
    return tuple(_all(parties))


def _all(parties: Mapping[str, Iterable[Role]]) -> Iterator[Grant]:
    yield from public_grants()
    for service in (*SERVICE_PRINCIPALS, PLAYER):
        yield from service_grants(service)
    for party_id, roles in sorted(parties.items()):
        yield from grants_of_party(party_id, roles)
