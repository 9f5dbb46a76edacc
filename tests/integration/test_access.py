"""Every cell of the table of who may do what, tried on a real broker with access control and on the real page.

Each role is one party with its own password; `named` is a bystander whom every event names; the services are
principals too. Nothing here asks the code under test what is allowed but the table itself.
"""

import base64
import json
import queue
import stat
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import click
import pytest
from click.testing import CliRunner
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from flexbus import codec
from flexbus import events as ev
from flexbus.access import PLAYER, SERVICE_PRINCIPALS, TABLE, Verb, grants_of
from flexbus.catalogue import CATALOGUE, Service, without_identities
from flexbus.cli.access import command
from flexbus.cli.rejections import command as rejections_command
from flexbus.client import Client
from flexbus.errors import EnvironmentProblem
from flexbus.events import EventRejected, ReadLogged, Role
from flexbus.ids import derived_id
from flexbus.journal import Block, Entry, next_block
from flexbus.partition import partition_of
from flexbus.time import parse_ms
from flexbus.topics import CLOCK, JOURNAL, PAGE, REJECTIONS, inbox, party_topic, read_log, topics
from flexbus.validation import Admission, admission_faults, fold_admission
from streams import broker_security as security
from streams.access import Provisioned, apply_grants, provision, revoke
from streams.broker import Broker
from streams.intake import Rules
from streams.journal_reader import read_blocks, read_records
from streams.kafka import Connection
from streams.page.readers import make_reader, token_file
from streams.page.server import PageConfig
from streams.page.server import run as run_page
from streams.publisher import Publisher
from streams.sequencer import Sequencer
from tests.integration.bus import working
from tests.integration.core import eventually
from tests.specimens import specimen

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(600)]

PARTY_OF: dict[Role, str] = {role: role.value.lower().replace("_", "-") for role in Role}  # "fmo" founds areas
ROLES_OF = {party: (role,) for role, party in PARTY_OF.items()}
NAMED, OTHER = "named", "other"
PARTIES: dict[str, tuple[Role, ...]] = {**ROLES_OF, NAMED: (Role.OBSERVER,), OTHER: (Role.FSP,)}
PARTITIONS = 2
WRONG_ROLE = "$ WRONG_ROLE"  # of the sender; that of a party which the event names has that field's path
DENIED = "TOPIC_AUTHORIZATION_FAILED"
# The real rules of admission; content is another matter, and specimens have none.
RULES = Rules(content=lambda _: (), state=Admission, fold=fold_admission, admission=admission_faults)


@dataclass
class Bus:
    """A secured bus whose sequencer and publisher run as themselves."""

    broker: Broker
    made: Provisioned

    def config(self, principal: str) -> dict[str, str]:
        return {"bootstrap.servers": self.broker.bootstrap, **self.made.connection(principal).security}

    def client(self, party: str) -> Client:
        connection = self.made.connection(party)
        return Client(connection.bootstrap, party, security=connection.security)

    @cached_property
    def auditor(self) -> Connection:
        return self.made.connection(PARTY_OF[Role.AUDITOR])

    def rejected(self) -> dict[str, EventRejected]:
        found = {}
        for partition in range(PARTITIONS):
            for _, value in read_records(self.auditor, REJECTIONS, partition):
                rejection = codec.decode_as(value, EventRejected)
                found[rejection.event_id or ""] = rejection
        return found

    def accepted(self) -> set[str]:
        blocks = (block for p in range(PARTITIONS) for _, block in read_blocks(self.auditor, p))
        return {entry.event_id for block in blocks for entry in block.entries}

    def faults(self, event_ids: set[str]) -> dict[str, set[str]]:
        """Paths and codes of what was refused by event id, once every verdict is there; empty set = accepted."""
        eventually(lambda: event_ids <= self.rejected().keys() | self.accepted(), 90, "verdicts are missing")
        rejected = self.rejected()
        return {
            i: {f"{f.path} {f.code.value}" for f in rejected[i].faults} if i in rejected else set() for i in event_ids
        }

    def found(self, area: str) -> None:
        """Open an area with one party in each role, and the two bystanders."""
        opened = ev.AreaOpened(area_id=area, name=area, fmo_id="fmo", time_zone="Europe/Helsinki")
        with self.client("fmo") as fmo:
            fmo.post_all([opened, *registrations(area)])


def registrations(area: str) -> list[ev.ParticipantRegistered]:
    return [
        ev.ParticipantRegistered(area_id=area, participant_id=party, name=party, roles=roles)
        for party, roles in PARTIES.items()
    ]


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bus]:
    broker = Broker(tmp_path_factory.mktemp("access") / "broker", secure=True)
    with ExitStack() as stack:
        stack.callback(broker.kill)
        broker.start()
        bus = Bus(broker, provision(broker, PARTIES, PARTITIONS))
        stack.enter_context(working(Sequencer(bus.made.connection("sequencer"), rules=RULES)))
        stack.enter_context(working(Publisher(bus.made.connection("publisher"))))
        yield bus


# --- send


@pytest.fixture(scope="module")
def verdicts(bus: Bus) -> dict[tuple[str, str], set[str]]:
    """What became of every kind sent by every party and service that has an inbox: codes by sender and kind."""
    areas = {name: f"send-{kind.word}" for name, kind in CATALOGUE.items()}
    for area in areas.values():
        bus.found(area)
    sent: dict[str, tuple[str, str]] = {}
    senders = [*(p for r, p in PARTY_OF.items() if r not in (Role.AUDITOR, Role.OBSERVER)), *(s.value for s in Service)]
    eventually(lambda: len(bus.accepted()) >= len(areas) * (1 + len(PARTIES)), 90, "the areas are not founded")
    for sender in senders:
        with bus.client(sender) as client:
            records = []
            for name, kind in CATALOGUE.items():
                event_id = str(uuid4())
                sent[event_id] = (sender, name)
                # A service speaks for others: its request is the system operator's.
                event = specimen(kind, areas[name], sender if sender in PARTIES else PARTY_OF[Role.DSO], NAMED)
                if isinstance(event, ev.MandateGranted):
                    event = replace(event, mandate_id=sender)  # an id is the first one's who takes it
                records.append(client.record(event, event_id=event_id))
            client.post_records(records)
    return {sent[i]: codes for i, codes in bus.faults(set(sent)).items()}


@pytest.mark.parametrize("role", Role, ids=lambda r: r.value)
def test_a_role_sends_what_the_table_lets_it_and_nothing_else(
    bus: Bus, verdicts: dict[tuple[str, str], set[str]], role: Role
) -> None:
    party = PARTY_OF[role]
    may = {name for name in CATALOGUE if Verb.SEND in TABLE[role, name]}
    if not may:
        assert written(bus, party, inbox(party)) == DENIED, "who may send nothing is refused by the broker itself"
        return
    codes = {name: verdicts[party, name] for name in CATALOGUE}
    assert {name for name, found in codes.items() if WRONG_ROLE not in found} == may
    assert all(codes[name] for name in set(CATALOGUE) - may), "nothing forbidden is in the journal"


def test_parties_of_each_role_were_heard(verdicts: dict[tuple[str, str], set[str]]) -> None:
    """The refusals above are of kinds, not of everything: each sending role has something in the journal."""
    for role in (Role.FMO, Role.DSO, Role.TSO, Role.FSP, Role.METER_OPERATOR):
        assert any(not codes for (party, _), codes in verdicts.items() if party == PARTY_OF[role]), role


@pytest.mark.parametrize("service", Service, ids=lambda s: s.value)
def test_a_service_sends_its_own_kinds_only(verdicts: dict[tuple[str, str], set[str]], service: Service) -> None:
    allowed = {name for name in CATALOGUE if WRONG_ROLE not in verdicts[service.value, name]}
    assert allowed == {name for name, kind in CATALOGUE.items() if service in kind.send}


@pytest.mark.parametrize("role", Role, ids=lambda r: r.value)
def test_nobody_sends_as_somebody_else(bus: Bus, role: Role) -> None:
    """What a role may not send does not get there through the inbox of one that may: the broker refuses."""
    party = PARTY_OF[role]
    others = [inbox(p) for p in PARTIES if p != party] + [inbox(s.value) for s in Service] + [JOURNAL]
    refused = outcomes(bus, party, others)
    assert refused == dict.fromkeys(others, DENIED)


def test_acting_for_another_needs_its_mandate(bus: Bus) -> None:
    area = "mandates"
    bus.found(area)
    withdrawn = ev.FlexRequestWithdrawn(area_id=area, request_id="r", requester_id="dso", reason="x")
    grant = ev.MandateGranted(
        area_id=area,
        mandate_id="m",
        grantor_id="dso",
        agent_id=NAMED_AGENT,
        event_types=("FlexRequestWithdrawn",),
        valid_from_ms=0,
    )
    revoke_it = ev.MandateRevoked(area_id=area, mandate_id="m", grantor_id="dso")
    with bus.client(NAMED_AGENT) as agent, bus.client("dso") as dso:

        def codes() -> set[str]:
            return {f.code.value for f in agent.send(withdrawn, on_behalf_of="dso").faults}

        assert "NO_MANDATE" in codes()
        assert dso.send(grant).faults == ()
        assert "NO_MANDATE" not in codes()
        assert dso.send(revoke_it).faults == ()
        assert "NO_MANDATE" in codes()


NAMED_AGENT = OTHER

# --- see


@pytest.fixture(scope="module")
def told(bus: Bus) -> dict[str, Any]:
    """One event of every kind in the journal, each in an area of its own, naming `named` and `other`; by kind."""
    events = {}
    producer = bus.made.connection("sequencer").transactional_producer("flexbus-sequencer-test")
    producer.init_transactions(30)
    producer.begin_transaction()
    for name, kind in CATALOGUE.items():
        area = f"see-{kind.word}"
        opened = ev.AreaOpened(area_id=area, name=area, fmo_id="fmo", time_zone="Europe/Helsinki")
        events[name] = specimen(kind, area, NAMED, OTHER)
        story = [("fmo", opened), *(("fmo", e) for e in registrations(area))]
        sender = NAMED if any(isinstance(s, Role) for s in kind.send) else min(s.value for s in kind.send)  # type: ignore[union-attr]
        head = None
        for number, part in enumerate((story, [(sender, events[name])])):
            block = next_block(area, head, tuple(entry(who, e, (number, n)) for n, (who, e) in enumerate(part)))
            head = (block.number, block.hash)
            place = partition_of(area.encode(), PARTITIONS)
            producer.produce(JOURNAL, codec.encode(block), key=area.encode(), partition=place)
    producer.commit_transaction(30)
    eventually(lambda: len(read_by(bus, PARTY_OF[Role.AUDITOR], own=True)) >= len(CATALOGUE), 90, "not published")
    return events


def entry(sender: str, event: Any, place: tuple[int, int]) -> Entry:
    return Entry(
        event_id=derived_id(type(event).__name__, event.area_id, *place),
        event_type=type(event).__name__,
        schema_fingerprint=codec.fingerprint_of(type(event)),
        sender_id=sender,
        on_behalf_of=None,
        received_at_ms=1_800_000_000_000,
        inbox_partition=0,
        inbox_offset=0,
        payload=codec.encode(event),
    )


def read_by(bus: Bus, party: str, *, own: bool) -> dict[str, list[Any]]:
    """What a party reads of the kinds told above, as itself, by kind."""
    names = [party_topic(party)] if own else [k.out_topic for k in CATALOGUE.values() if k.out_topic]
    open_ = {(topic, p) for topic in names for p in range(1 if own else PARTITIONS)}
    found: dict[str, list[Any]] = {}
    consumer = bus.made.connection(party).reader()
    consumer.assign([TopicPartition(topic, p, 0) for topic, p in sorted(open_)])
    deadline = time.monotonic() + 60
    while open_:
        assert time.monotonic() < deadline, f"no answer from {open_}"
        for message in consumer.consume(500, 0.1):
            if (error := message.error()) is not None:
                assert error.code() == KafkaError._PARTITION_EOF, error
                open_.discard((message.topic(), message.partition()))
                continue
            event = codec.decode(message.value())
            name = type(event).__name__
            if name in CATALOGUE and event.area_id == f"see-{CATALOGUE[name].word}":
                found.setdefault(name, []).append(event)
    consumer.close()
    return found


def founding(event: Any) -> bool:
    """Tell what founded the area from the specimen, which names `named` alone."""
    return (isinstance(event, ev.AreaOpened) and event.fmo_id == "fmo") or (
        isinstance(event, ev.ParticipantRegistered) and event.name == event.participant_id
    )


@pytest.mark.parametrize("role", Role, ids=lambda r: r.value)
def test_a_role_sees_what_the_table_lets_it_and_how(bus: Bus, told: dict[str, Any], role: Role) -> None:
    own, public = (read_by(bus, PARTY_OF[role], own=True), read_by(bus, PARTY_OF[role], own=False))
    for name, event in told.items():
        seen = [e for e in (*own.get(name, ()), *public.get(name, ())) if not founding(e)]
        verbs = TABLE[role, name]
        if Verb.SEE in verbs:
            assert event in seen, name
        elif Verb.SEE_WITHOUT_IDENTITY in verbs:
            assert seen, name
            assert all(e == without_identities(event) for e in seen), name
        else:
            assert seen == [], name


def test_whom_an_event_names_sees_its_own(bus: Bus, told: dict[str, Any]) -> None:
    own = read_by(bus, NAMED, own=True)
    for name, event in told.items():
        kind = CATALOGUE[name]
        seen = [e for e in own.get(name, ()) if not founding(e)]
        sent = any(isinstance(s, Role) for s in kind.send)
        if sent or any("[]" not in path for path in kind.parties):
            assert seen == [event], name
        elif kind.parties:  # named in lists: its own entries and nobody else's
            assert len(seen) == 1, name
            assert OTHER not in json.dumps(codec.to_json(seen[0])), name
            assert NAMED in json.dumps(codec.to_json(seen[0])), name
        else:
            assert seen == [], name


# --- what was refused


def test_a_party_finds_and_mends_its_own_rejections_with_its_own_rights(bus: Bus, tmp_path: Path) -> None:
    """It may read its receipts and its inbox, and neither the topic of rejections nor another's inbox."""
    area = "mending"
    bus.found(area)
    key = Ed25519PrivateKey.generate()

    def rejections(*arguments: str, party: str = "fsp", given: bytes = b"") -> Any:
        connected = ["--bootstrap", bus.broker.bootstrap, "--kafka-properties", str(bus.made.properties[party])]
        return CliRunner().invoke(rejections_command, [*arguments, *connected], given, standalone_mode=False)

    def listed(party: str) -> dict[str, dict[str, Any]]:
        done = rejections("list", "--area", area, "--json", party=party)
        assert done.exception is None, done.exception
        return {r["rejection_id"]: r for r in map(json.loads, done.stdout.splitlines())}

    wrong = ev.MandateGranted(
        area_id=area, mandate_id="m", grantor_id="dso", agent_id="brp", event_types=(), valid_from_ms=0
    )
    with bus.client("fsp") as fsp, bus.client("brp") as brp:
        fsp.signing_key = key
        refused = fsp.send(wrong)
        others = brp.send(wrong)
    assert refused.faults
    assert others.faults
    eventually(lambda: len(listed("auditor")) == 2, 60, "the rejections are missing")
    everything = listed("auditor")
    assert {r["replaced_by"] for r in everything.values()} == {None}, "an auditor reads no inbox, and is not told"
    own = listed("fsp")
    ((rejection_id, found),) = own.items()
    assert found == {**everything[rejection_id], "replaced_by": []}
    out = tmp_path / "original"
    shown = json.loads(rejections("show", rejection_id, "--out", str(out)).stdout)
    assert (shown["event_id"], shown["event"]) == (refused.event_id, codec.to_json(wrong))
    assert out.read_bytes() == codec.encode(wrong)
    (of_another,) = everything.keys() - own.keys()
    assert isinstance(rejections("show", of_another).exception, click.UsageError)

    as_it_was = json.loads(rejections("resend", rejection_id).stdout)
    assert {f["code"] for f in as_it_was["faults"]} == {f.code.value for f in refused.faults}, "and no BAD_HEADER"
    repaired = replace(wrong, grantor_id="fsp")
    done = rejections("resend", rejection_id, "--with", "-", given=json.dumps(codec.to_json(repaired)).encode())
    assert json.loads(done.stdout)["verdict"] == "ACCEPTED"
    (first, second) = listed("fsp")[rejection_id]["replaced_by"]
    assert (first["event_id"], second["event_id"]) == (as_it_was["event_id"], json.loads(done.stdout)["event_id"])
    assert (first["rejection_id"] in listed("fsp"), second["rejection_id"]) == (True, None)
    noted = {r["resource"].partition("?")[0] for r in logged(bus, "--reader", "fsp")}
    assert {inbox("fsp"), party_topic("fsp")} <= noted, "its reads are on record"
    assert REJECTIONS not in noted


# --- the broker, topic by topic


def written(bus: Bus, principal: str, topic: str) -> str:
    return outcomes(bus, principal, [topic])[topic]


def outcomes(bus: Bus, principal: str, names: list[str]) -> dict[str, str]:
    """Write one record to each topic as a principal; `delivered` or the broker's refusal, by topic."""
    said: dict[str, str] = {}
    producer = Producer({**bus.config(principal), "log_level": 0, "error_cb": lambda _: None})
    for topic in names:

        def done(error: Any, _: Any, topic: str = topic) -> None:
            said[topic] = "delivered" if error is None else error.name()

        producer.produce(topic, b"probe", b"key", partition=0, on_delivery=done)  # compacted topics want a key
    producer.flush(60)
    return said


def readable(bus: Bus, principal: str, names: list[str]) -> set[str]:
    """Fetch from each topic as a principal; return those that the broker gives something of, be it the end."""
    given: set[str] = set()
    consumer = Consumer(
        {
            **bus.config(principal),
            "group.id": "flexbus-reader",
            "enable.partition.eof": True,
            "enable.auto.commit": False,
            "log_level": 0,
            "error_cb": lambda _: None,
        }
    )
    # Whoever may not even know of a topic is told so by the metadata; whoever may write it only, by the fetch.
    asked = {topic: consumer.list_topics(topic, timeout=20).topics[topic].error for topic in names}
    assert {error.name() for error in asked.values() if error is not None} <= {DENIED}
    refused = {topic for topic, error in asked.items() if error is not None}
    consumer.assign([TopicPartition(topic, 0, 0) for topic in names if topic not in refused])
    deadline = time.monotonic() + 60
    while given | refused != set(names):
        assert time.monotonic() < deadline, f"no answer about {set(names) - given - refused}"
        for message in consumer.consume(500, 0.2):
            error = message.error()
            denied = error is not None and error.name() == DENIED
            (refused if denied else given).add(message.topic())
    consumer.close()
    return given - refused


def every_topic() -> list[str]:
    return [t.name for t in topics(PARTIES, PARTITIONS)]


PRINCIPALS = (*PARTIES, *SERVICE_PRINCIPALS, PLAYER)


@pytest.mark.parametrize("principal", PRINCIPALS)
def test_the_broker_lets_each_principal_read_its_topics_and_no_other(bus: Bus, principal: str) -> None:
    assert readable(bus, principal, every_topic()) == allowed(principal, "READ")


def allowed(principal: str, operation: str) -> set[str]:
    grants = [g for g in grants_of(PARTIES) if g.principal in (principal, "*") and g.resource == "TOPIC"]
    return {
        topic
        for topic in every_topic()
        for g in grants
        if g.operation == operation and (topic.startswith(g.name) if g.prefixed else topic == g.name)
    }


def test_groups_and_transactional_ids_are_their_owners(bus: Bus) -> None:
    from confluent_kafka import KafkaException

    with pytest.raises(KafkaException, match="TRANSACTIONAL_ID_AUTHORIZATION_FAILED"):
        bus.made.connection("publisher").transactional_producer("flexbus-sequencer-0").init_transactions(20)
    consumer = Consumer({**bus.config("clearing"), "group.id": "flexbus-settlement", "log_level": 0})
    consumer.subscribe([JOURNAL])
    deadline = time.monotonic() + 30
    said = ""
    while not said and time.monotonic() < deadline:
        message = consumer.poll(0.5)
        said = message.error().name() if message is not None and message.error() is not None else ""
    consumer.close()
    assert said == "GROUP_AUTHORIZATION_FAILED"


def test_rights_that_are_too_many_are_taken_away_and_a_revoked_party_has_none(bus: Bus) -> None:
    bus.broker.add_users("leaver")
    config = {"bootstrap.servers": bus.broker.bootstrap, **security.client_config(bus.broker.data_dir, "leaver")}
    leaver = Bus(bus.broker, replace(bus.made, properties={"leaver": Path()}))
    leaver.config = lambda _: config  # type: ignore[method-assign]
    trading = grants_of({"leaver": (Role.FSP,)})
    mine = [g for g in trading if g.principal == "leaver"]
    too_much = [g for g in grants_of({"leaver": (Role.AUDITOR,)}) if g.principal == "leaver"]

    apply_grants(bus.made.admin, too_much)
    assert readable(leaver, "leaver", [JOURNAL]) == {JOURNAL}
    done = apply_grants(bus.made.admin, mine)
    assert JOURNAL in {g.name for g in done.removed}
    assert readable(leaver, "leaver", [JOURNAL]) == set()
    assert apply_grants(bus.made.admin, mine).added == ()
    assert len(revoke(bus.made.admin, ["leaver"]).removed) == len(mine)
    assert apply_grants(bus.made.admin, trading, []).added == tuple(sorted(mine)), "nobody else lost anything"


# --- the page


class Page:
    """The page server in a thread, as the monitor's principal."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._stop = threading.Event()
        ready: queue.Queue[str] = queue.Queue()
        connection = bus.made.connection("monitor")
        config = PageConfig(connection=connection, on_ready=ready.put, readers=bus.made.readers)
        self._thread = threading.Thread(target=run_page, args=(config, self._stop))
        self._thread.start()
        self.url = ready.get(timeout=30).rstrip("/")

    def get(self, path: str, party: str | None = None, token: str | None = None) -> tuple[int, Any]:
        headers = {}
        if party is not None:
            known = token or token_file(self._bus.made.readers, party).read_text().split("=", 1)[1].splitlines()[0]
            headers["Authorization"] = "Basic " + base64.b64encode(f"{party}:{known}".encode()).decode()
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url + path, headers=headers), timeout=30) as found:
                text = found.read().decode()
                return found.status, json.loads(text) if text.startswith(("{", "[")) else text
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(20)
        assert not self._thread.is_alive()


@pytest.fixture(scope="module")
def page(bus: Bus, told: dict[str, Any]) -> Iterator[Page]:
    page = Page(bus)
    try:
        eventually(lambda: page.get("/health")[1]["caught_up"], what="the page does not catch up")
        yield page
    finally:
        page.close()


@pytest.fixture(scope="module")
def shown(page: Page, told: dict[str, Any]) -> dict[tuple[Role, str], tuple[int, Any, list[Any]]]:
    """Status and entry of each event opened by each role, and the rows of it in the journal's list."""
    found = {}
    for name, event in told.items():  # by event, as the page reads each block from Kafka once
        for role, party in PARTY_OF.items():
            status, opened = page.get(f"/entry/{quote(event.area_id)}/1/0", party)
            rows = page.get(f"/journal?area={quote(event.area_id)}&type={name}", party)[1]
            found[role, name] = (status, opened, [row for row in rows if row["block"] == 1])
    return found


@pytest.mark.parametrize("role", Role, ids=lambda r: r.value)
def test_the_page_shows_a_reader_what_its_role_may_see(
    shown: dict[tuple[Role, str], tuple[int, Any, list[Any]]], told: dict[str, Any], role: Role
) -> None:
    for name, event in told.items():
        status, found, rows = shown[role, name]
        verbs = TABLE[role, name]
        if Verb.SEE in verbs:
            assert (status, found["event"]) == (200, codec.to_json(event)), name
        elif Verb.SEE_WITHOUT_IDENTITY in verbs:
            assert (status, found["event"]) == (200, codec.to_json(without_identities(event))), name
            assert found["sender_id"] is None, name
        else:
            assert status == 403, name
        assert bool(rows) == bool(verbs & {Verb.SEE, Verb.SEE_WITHOUT_IDENTITY}), name
        if Verb.SEE not in verbs:
            assert all(row["sender_id"] is None for row in rows), name


def test_whom_an_event_names_sees_its_own_on_the_page(page: Page, told: dict[str, Any]) -> None:
    event = told["MarketCleared"]
    status, found = page.get(f"/entry/{event.area_id}/1/0", NAMED)
    assert status == 200
    assert OTHER not in json.dumps(found)
    assert NAMED in json.dumps(found)


@pytest.mark.parametrize("path", ["/", "/state", "/events", "/journal", "/summary", "/entry/see-area_opened/0/0"])
def test_the_page_shows_nothing_to_nobody(page: Page, path: str) -> None:
    assert page.get(path)[0] == 401
    assert page.get(path, "dso", "guessed")[0] == 401
    fsp = token_file(page._bus.made.readers, "fsp").read_text().split("=", 1)[1].strip()
    assert page.get(path, "dso", fsp)[0] == 401, "another's token"


def test_nobody_looks_through_other_eyes(page: Page) -> None:
    area = "see-market_cleared"
    for query in ("role=FMO", "role=DSO", "party=named", "role=FSP&party=named"):
        assert page.get(f"/state?area={area}&{query}", "fsp")[0] == 403, query
    assert page.get(f"/state?area={area}&role=FSP&party=fsp", "fsp")[0] == 200
    assert page.get(f"/state?area={area}&role=DSO", "fmo")[0] == 200, "the operator may ask what others see"
    assert page.get("/summary", "fsp")[0] == 403
    assert page.get("/summary", "auditor")[0] == 200


def test_participants_are_shown_to_those_who_may_see_them(page: Page) -> None:
    def names(party: str) -> set[str]:
        return set(page.get("/state?area=see-gate_opened", party)[1]["sections"].get("participants", {}))

    assert names("dso") == names("fmo") == set(PARTIES)
    assert names("fsp") == {"fsp"}


def test_a_token_that_is_replaced_or_ended_is_refused_at_once(page: Page, bus: Bus) -> None:
    path = token_file(bus.made.readers, "brp")
    old = path.read_text().split("=", 1)[1].splitlines()[0]
    make_reader(bus.made.readers, "brp", rotate=True)
    assert page.get("/state", "brp", old)[0] == 401
    assert page.get("/state", "brp")[0] == 200


def test_tokens_and_passwords_are_their_owners_alone(bus: Bus) -> None:
    secret = [*bus.made.readers.iterdir(), *bus.made.properties.values()]
    assert {stat.S_IMODE(p.stat().st_mode) for p in secret} == {0o600}
    assert {stat.S_IMODE(p.parent.stat().st_mode) for p in secret} == {0o700}


def test_every_read_is_on_record_before_it_is_answered(page: Page, bus: Bus) -> None:
    page.get("/entry/see-market_cleared/1/0?who=1", "dso")
    page.get("/entry/see-market_cleared/1/0?who=2")
    page.get("/state?area=see-market_cleared&role=FMO&who=3", "fsp")
    logged = [codec.decode_as(value, ReadLogged) for _, value in read_records(bus.auditor, read_log(PAGE), 0)]
    found = {r.resource[-1]: (r.reader_id, r.role, r.status) for r in logged if "who=" in r.resource}
    assert found == {"1": ("dso", "DSO", 200), "2": ("", "", 401), "3": ("fsp", "", 403)}
    assert abs(logged[-1].at_ms - time.time() * 1000) < 60_000


# --- the logs of reads


def logged(bus: Bus, *options: str) -> list[dict[str, Any]]:
    """What `flexbus access reads` tells an auditor."""
    connected = ["--bootstrap", bus.broker.bootstrap, "--kafka-properties", str(bus.made.properties["auditor"])]
    done = CliRunner().invoke(command, ["reads", *options, *connected], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def sdk_reads(bus: Bus, reader: str) -> list[tuple[str, str, str]]:
    found = [r for r in logged(bus, "--reader", reader) if r["interface"] == "sdk"]
    assert {(r["writer"], r["mark"], r["status"]) for r in found} <= {(reader, None, 202)}
    return [(r["reader_id"], r["area_id"], r["resource"]) for r in found]


def test_what_a_party_reads_through_the_sdk_is_on_record_before_it_has_it(bus: Bus, told: dict[str, Any]) -> None:
    public = "flexbus.out.market_cleared.v1?type=MarketCleared"
    before = sdk_reads(bus, "tso")
    with bus.client("tso") as tso:
        following = tso.consume("MarketCleared", area="see-market_cleared", until=None)
        assert sdk_reads(bus, "tso") == before, "nothing has been asked for yet"
        next(following)
        begun = [("tso", "see-market_cleared", f"{public}&area=see-market_cleared&from=start")]
        assert sdk_reads(bus, "tso") == before + begun
        following.close()  # type: ignore[attr-defined]
        assert len(tso.frame("MarketCleared", from_=7, until=8)) == 0
        list(tso.receipts())
    rest = [("tso", "", f"{public}&from=7&until=8")]
    rest += [("tso", "", f"{party_topic('tso')}?type=ReceiptsIssued&from=start&until=end")]
    assert sdk_reads(bus, "tso") == before + begun + rest, "one record a call"


def test_who_reads_is_whom_the_broker_knows(bus: Bus, told: dict[str, Any]) -> None:
    """Without a party, or as another, a read is noted under the name that was proven."""
    known = bus.made.connection("observer")
    before = len(sdk_reads(bus, "observer"))
    for claimed in (None, "dso"):
        with Client(known.bootstrap, claimed, security=known.security) as client:
            assert list(client.consume("MarketCleared", area="see-market_cleared"))
    assert len(sdk_reads(bus, "observer")) == before + 2


def test_waiting_for_verdicts_is_one_read(bus: Bus) -> None:
    before = sdk_reads(bus, "brp")
    with bus.client("brp") as brp:
        for _ in range(3):
            brp.send(ev.MandateRevoked(area_id="nowhere", mandate_id="m", grantor_id="brp"))
    assert sdk_reads(bus, "brp")[len(before) :] == [
        ("brp", "", f"{party_topic('brp')}?type=ReceiptsIssued&from=end"),
    ]


def test_a_read_that_cannot_be_logged_yields_nothing(bus: Bus, told: dict[str, Any]) -> None:
    """A guest with a password and no log: Kafka would give it the public topic, the SDK and the command do not."""
    bus.broker.add_users("guest")
    file = security.properties_file(bus.broker.data_dir, "guest")
    guest = Bus(bus.broker, replace(bus.made, properties={"guest": file}))
    known = guest.made.connection("guest")
    topic = CATALOGUE["MarketCleared"].out_topic
    assert topic is not None
    assert readable(guest, "guest", [topic]) == {topic}
    given: list[Any] = []
    for party in (None, "guest", "dso"):
        with Client(known.bootstrap, party, security=known.security) as client:
            with pytest.raises(EnvironmentProblem, match=r"could not be: .*--create --party guest"):
                given.extend(client.consume("MarketCleared"))
            with pytest.raises(EnvironmentProblem, match=r"could not be: .*--create --party guest"):
                client.frame("MarketCleared")
    with Client(known.bootstrap, "dso", security=known.security) as client, pytest.raises(EnvironmentProblem):
        given.extend(client.receipts())
    assert given == []


def test_a_record_that_names_another_reader_is_not_believed(bus: Bus) -> None:
    began = "2020-01-01T00:00:00Z"
    lie = ReadLogged(area_id="", reader_id="dso", role="", interface="page", resource="lie", status=200, at_ms=1)
    truth = replace(lie, reader_id="meter-operator", resource="truth")
    producer = Producer(bus.config("meter-operator"))
    for value in (codec.encode(lie), codec.encode(truth), b"noise", codec.encode(registrations("x")[0])):
        producer.produce(read_log("meter-operator"), value, partition=0)
    assert producer.flush(30) == 0
    found = [(r["mark"], r.get("resource")) for r in logged(bus, "--reader", "meter-operator", "--from", began)]
    assert found[-4:] == [("forged", "lie"), (None, "truth"), ("unreadable", None), ("unreadable", None)]
    assert "lie" in [r.get("resource") for r in logged(bus, "--reader", "dso")], "whom it accuses hears of it"
    assert logged(bus, "--from", "2999-01-01T00:00:00Z") == []


def test_the_logs_are_told_in_the_order_of_the_broker_and_to_auditors_only(bus: Bus) -> None:
    found = logged(bus)
    assert {r["writer"] for r in found} >= {"tso", "brp", "auditor"}
    times = [parse_ms(r["logged_at"]) for r in found]
    assert times == sorted(times)
    assert (found[-1]["reader_id"], found[-1]["interface"]) == ("auditor", "cli"), "reading the log is a read"
    connected = ["--bootstrap", bus.broker.bootstrap, "--kafka-properties", str(bus.made.properties["dso"])]
    refused = CliRunner().invoke(command, ["reads", *connected])
    assert isinstance(refused.exception, EnvironmentProblem)
    assert refused.stdout == ""


# --- last, as it leaves records that nobody can read


@pytest.mark.parametrize("principal", [*PARTIES, *SERVICE_PRINCIPALS, PLAYER])
def test_the_broker_lets_each_principal_write_its_topics_and_no_other(bus: Bus, principal: str) -> None:
    may = allowed(principal, "WRITE")
    # What those write there who may is shown above; a stray record would stay in the chain or the clock.
    kept = may & {JOURNAL, REJECTIONS, CLOCK}
    bodies = outcomes(bus, principal, [t for t in every_topic() if t not in kept])
    assert {t for t, said in bodies.items() if said == "delivered"} == may - kept
    assert set(bodies.values()) <= {"delivered", DENIED}


def test_secrets_are_in_no_log(bus: Bus) -> None:
    logs = "".join(p.read_text(errors="replace") for p in (bus.broker.data_dir / "log").iterdir())
    for path in (*bus.made.properties.values(), *bus.made.readers.iterdir()):
        for line in path.read_text().splitlines():
            if "password" in line or line.startswith("token"):
                assert line.partition("=")[2] not in logs, path.name
    assert "Denied" in logs, "what was refused is on record"
    assert "sasl.password" not in repr(bus.made)
    assert isinstance(next(iter(read_blocks(bus.auditor, 0)))[1], Block)
