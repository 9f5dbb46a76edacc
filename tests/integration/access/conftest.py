"""One secured bus, with one event of every kind in its journal, for all tests of who may do what."""

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import pytest

from flexbus import codec
from flexbus.access import TABLE, Verb
from flexbus.catalogue import CATALOGUE, Service
from flexbus.events import Role
from flexbus.ids import derived_id
from flexbus.journal import Entry, next_block
from flexbus.partition import partition_of
from flexbus.topics import JOURNAL
from tests.every_cell import PARTY_OF
from tests.integration.access.bus import NAMED, OTHER, PARTITIONS, Bus, founding_of, own_area, read_by, secured_bus
from tests.integration.access.page import Page
from tests.integration.core import eventually
from tests.specimens import specimen


@pytest.fixture(scope="session")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bus]:
    with secured_bus(tmp_path_factory.mktemp("access")) as bus:
        yield bus


@pytest.fixture(scope="session")
def told(bus: Bus) -> dict[str, Any]:
    """One event of every kind in the journal, each in an area of its own, naming `named` and `other`; by kind."""
    events, areas = {}, {}
    for name, kind in CATALOGUE.items():
        area = f"see-{kind.word}"
        events[name] = specimen(kind, area, NAMED, OTHER)
        sender = NAMED if any(isinstance(s, Role) for s in kind.send) else min(s.value for s in kind.send)
        areas[area] = (Role.OBSERVER, [(sender, events[name])])
    journal(bus, areas)
    eventually(lambda: len(read_by(bus, PARTY_OF[Role.AUDITOR], own=True)) >= len(CATALOGUE), 90, "not published")
    return events


@pytest.fixture(scope="session")
def told_own(bus: Bus, told: dict[str, Any]) -> dict[tuple[Role, str], Any]:
    """One event for each cell in which a role sees its own, in an area in which `named` has that role alone.

    `named` sends what its role may, and the market operator or a service the rest.
    """
    events, areas = {}, {}
    for (role, name), verbs in TABLE.items():
        if Verb.SEE_OWN in verbs:
            kind = CATALOGUE[name]
            area = own_area(role, kind.word)
            event = events[role, name] = specimen(kind, area, NAMED, OTHER)
            others = min(s.value if isinstance(s, Service) else "fmo" for s in kind.send)
            areas[area] = (role, [(NAMED if Verb.SEND in verbs else others, event)])
    journal(bus, areas)
    wanted = Counter(role for role, _ in events)

    def published() -> bool:
        seen = {
            role: read_by(bus, PARTY_OF[Role.AUDITOR], own=True, area_of=partial(own_area, role)) for role in wanted
        }
        return all(len(seen[role]) >= count for role, count in wanted.items())

    eventually(published, 120, "not published")
    return events


def journal(bus: Bus, areas: Mapping[str, tuple[Role, list[tuple[str, Any]]]]) -> None:
    """Write areas as the sequencer does: their founding, with the role of `named`, then who sends what."""
    producer = bus.made.connection("sequencer").transactional_producer("flexbus-sequencer-test")
    producer.init_transactions(30)
    producer.begin_transaction()
    for area, (role, told) in areas.items():
        head = None
        for number, part in enumerate(([("fmo", event) for event in founding_of(area, role)], told)):
            block = next_block(area, head, tuple(entry(who, e, (number, n)) for n, (who, e) in enumerate(part)))
            head = (block.number, block.hash)
            place = partition_of(area.encode(), PARTITIONS)
            producer.produce(JOURNAL, codec.encode(block), key=area.encode(), partition=place)
    producer.commit_transaction(30)


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


@pytest.fixture(scope="session")
def page(bus: Bus, told: dict[str, Any]) -> Iterator[Page]:
    page = Page(bus)
    try:
        eventually(lambda: page.get("/health")[1]["caught_up"], what="the page does not catch up")
        yield page
    finally:
        page.close()
