"""Every cell of the table tried on the page."""

import json
import stat
import time
import urllib.request
from typing import Any
from urllib.parse import quote

import pytest

from flexbus import codec
from flexbus.access import TABLE, Verb
from flexbus.catalogue import without_identities
from flexbus.events import ReadLogged, Role
from flexbus.topics import PAGE, read_log
from streams.journal_reader import read_records
from streams.page.readers import make_reader, token_file
from tests.every_cell import PARTY_OF
from tests.integration.access.bus import NAMED, OTHER, PARTIES, Bus, hidden_in, in_full, words
from tests.integration.access.page import Page
from tests.integration.core import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(600)]


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
            hidden = hidden_in(event)
            assert hidden, name
            assert hidden & {*words(found), *words(rows)} == set(), name
        else:
            assert status == 403, name
        assert bool(rows) == bool(verbs & {Verb.SEE, Verb.SEE_WITHOUT_IDENTITY}), name
        if Verb.SEE not in verbs:
            assert all(row["sender_id"] is None for row in rows), name


def test_whom_an_event_names_sees_its_own_on_the_page(page: Page, told_own: dict[tuple[Role, str], Any]) -> None:
    eventually(lambda: page.get("/health")[1]["caught_up"], what="the page does not catch up")
    for (role, name), event in told_own.items():
        status, found = page.get(f"/entry/{quote(event.area_id)}/1/0", NAMED)
        assert status == 200, (role, name)
        if in_full(role, name):
            assert found["event"] == codec.to_json(event), (role, name)
        else:
            assert OTHER not in json.dumps(found), (role, name)
            assert NAMED in json.dumps(found), (role, name)


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
    page.get("/state?area=see-market_cleared&who=4", "fsp")
    page.get("/journal?area=see-market_cleared&who=5", "brp")
    page.get("/summary?who=6", "auditor")
    following = {"Authorization": page.proof("fsp")}
    stream = urllib.request.Request(f"{page.url}/events?area=see-market_cleared&who=7", headers=following)
    with urllib.request.urlopen(stream, timeout=30) as answer:
        assert answer.readline().startswith(b"id: ")
    logged = [codec.decode_as(value, ReadLogged) for _, value in read_records(bus.auditor, read_log(PAGE), 0)]
    found = {r.resource[-1]: (r.reader_id, r.role, r.status) for r in logged if "who=" in r.resource}
    assert found == {
        "1": ("dso", "DSO", 200),
        "2": ("", "", 401),
        "3": ("fsp", "", 403),
        "4": ("fsp", "FSP", 200),
        "5": ("brp", "BRP", 200),
        "6": ("auditor", "", 200),
        "7": ("fsp", "FSP", 200),
    }
    assert abs(logged[-1].at_ms - time.time() * 1000) < 60_000
