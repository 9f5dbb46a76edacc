"""Every cell of the table in which somebody may send, and every one in which nobody may, tried on the real bus.

Whether a role may send a kind is told by the sequencer, as the broker knows topics and neither roles nor kinds: a party
that may send anything may write its inbox. What the broker can tell it refuses itself: who may send nothing has no
inbox to write, and nobody writes another's.
"""

import time
from contextlib import ExitStack
from dataclasses import replace
from itertools import groupby
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, TopicPartition

from flexbus import codec
from flexbus import events as ev
from flexbus.access import TABLE, Verb
from flexbus.catalogue import CATALOGUE, Service
from flexbus.client import Client
from flexbus.events import Role
from flexbus.journal import Block
from flexbus.partition import partition_of
from flexbus.topics import JOURNAL, inbox
from streams.journal_reader import end_offset
from tests import every_cell
from tests.every_cell import PARTY_OF, Sent
from tests.integration.access.bus import DENIED, NAMED, OTHER, PARTIES, PARTITIONS, Bus, outcomes, written
from tests.specimens import specimen

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(600)]

WRONG_ROLE = "$ WRONG_ROLE"  # of the sender; that of a party which the event names has that field's path
SERVICES = tuple(s.value for s in Service)

# --- allowed


def post(client: Client, told: list[Sent]) -> dict[str, Sent]:
    """Send events in one go; return them by the ids they were sent under."""
    found = {}
    records = []
    for sent in told:
        client.signing_key = sent.key
        event_id = str(uuid4())
        records.append(client.record(sent.event, event_id=event_id))
        found[event_id] = sent
    client.signing_key = None
    client.post_records(records)
    return found


def wait_in_journal(bus: Bus, journal: Consumer, event_ids: set[str]) -> None:
    """Wait until the journal holds events: what one inbox sends next may rest on them."""
    missing = set(event_ids)
    deadline = time.monotonic() + 30
    while missing:
        assert time.monotonic() < deadline, bus.faults(event_ids)
        for message in journal.consume(100, 0.02):
            if message.error() is None:
                missing -= {entry.event_id for entry in codec.decode_as(message.value(), Block).entries}


@pytest.fixture(scope="module")
def accepted(bus: Bus) -> set[tuple[str, str]]:
    """Sender and kind of what is in the journal, after everybody has sent everything that it may."""
    with ExitStack() as stack:
        journal = bus.auditor.reader()
        stack.callback(journal.close)
        place = partition_of(every_cell.AREA.encode(), PARTITIONS)
        journal.assign([TopicPartition(JOURNAL, place, end_offset(bus.auditor, place))])
        clients: dict[str, Client] = {}
        for sender, told in groupby(every_cell.story(), key=lambda sent: sent.sender):
            if sender not in clients:
                clients[sender] = stack.enter_context(bus.client(sender))
            wait_in_journal(bus, journal, set(post(clients[sender], list(told))))
    entries = bus.entries(every_cell.AREA)
    told_again = [(e.sender_id, type(codec.decode(e.payload)).__name__) for e in entries]
    assert told_again == [(s.sender, type(s.event).__name__) for s in every_cell.story()], "each once, in order"
    return set(told_again)


@pytest.mark.parametrize("role", Role, ids=lambda r: r.value)
def test_what_a_role_may_send_is_taken_into_the_journal(accepted: set[tuple[str, str]], role: Role) -> None:
    may = {name for name in CATALOGUE if Verb.SEND in TABLE[role, name]}
    assert {name for sender, name in accepted if sender == PARTY_OF[role]} == may


@pytest.mark.parametrize("service", Service, ids=lambda s: s.value)
def test_what_a_service_may_send_is_taken_into_the_journal(accepted: set[tuple[str, str]], service: Service) -> None:
    may = {name for name, kind in CATALOGUE.items() if service in kind.send}
    assert {name for sender, name in accepted if sender == service.value} == may


# --- forbidden


@pytest.fixture(scope="module")
def verdicts(bus: Bus) -> dict[tuple[str, str], set[str]]:
    """What became of every kind sent by every party and service that has an inbox: codes by sender and kind."""
    areas = {name: f"send-{kind.word}" for name, kind in CATALOGUE.items()}
    bus.found(*areas.values())
    sent: dict[str, tuple[str, str]] = {}
    senders = [*(p for r, p in PARTY_OF.items() if r not in (Role.AUDITOR, Role.OBSERVER)), *SERVICES]
    for sender in senders:
        with bus.client(sender) as client:
            told = []
            for name, kind in CATALOGUE.items():
                # A service speaks for others: its request is the system operator's.
                event = specimen(kind, areas[name], sender if sender in PARTIES else PARTY_OF[Role.DSO], NAMED)
                if isinstance(event, ev.MandateGranted):
                    event = replace(event, mandate_id=sender)  # an id is the first one's who takes it
                told.append(Sent(sender, event))
            sent |= {i: (sender, type(s.event).__name__) for i, s in post(client, told).items()}
    return {sent[i]: codes for i, codes in bus.faults(set(sent)).items()}


@pytest.mark.parametrize("role", Role, ids=lambda r: r.value)
def test_what_a_role_may_not_send_is_refused_for_that(
    bus: Bus, verdicts: dict[tuple[str, str], set[str]], role: Role
) -> None:
    party = PARTY_OF[role]
    may = {name for name in CATALOGUE if Verb.SEND in TABLE[role, name]}
    if not may:
        assert written(bus, party, inbox(party)) == DENIED, "who may send nothing is refused by the broker itself"
        return
    assert {name for name in CATALOGUE if WRONG_ROLE not in verdicts[party, name]} == may
    assert all(verdicts[party, name] for name in set(CATALOGUE) - may), "nothing forbidden is in the journal"


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
        agent_id=OTHER,
        event_types=("FlexRequestWithdrawn",),
        valid_from_ms=0,
    )
    revoke_it = ev.MandateRevoked(area_id=area, mandate_id="m", grantor_id="dso")
    with bus.client(OTHER) as agent, bus.client("dso") as dso:

        def codes() -> set[str]:
            return {f.code.value for f in agent.send(withdrawn, on_behalf_of="dso").faults}

        assert "NO_MANDATE" in codes()
        assert dso.send(grant).faults == ()
        assert "NO_MANDATE" not in codes()
        assert dso.send(revoke_it).faults == ()
        assert "NO_MANDATE" in codes()
