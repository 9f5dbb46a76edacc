"""Every cell of the table in which somebody may see, and how, tried on the topics of the real broker."""

import json
from functools import partial
from typing import Any

import pytest

from flexbus import codec
from flexbus.access import TABLE, Verb
from flexbus.catalogue import CATALOGUE, without_identities
from flexbus.events import Role
from tests.every_cell import PARTY_OF
from tests.integration.access.bus import NAMED, OTHER, Bus, founding, hidden_in, in_full, own_area, read_by, records_by

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize("role", Role, ids=lambda r: r.value)
def test_a_role_sees_what_the_table_lets_it_and_how(bus: Bus, told: dict[str, Any], role: Role) -> None:
    own, public = (records_by(bus, PARTY_OF[role], own=True), records_by(bus, PARTY_OF[role], own=False))
    for name, event in told.items():
        records = [(e, raw) for e, raw in (*own.get(name, ()), *public.get(name, ())) if not founding(e)]
        seen, raws = [e for e, _ in records], [raw for _, raw in records]
        verbs = TABLE[role, name]
        if Verb.SEE in verbs:
            assert event in seen, name
        elif Verb.SEE_WITHOUT_IDENTITY in verbs:
            assert seen, name
            assert all(e == without_identities(event) for e in seen), name
            hidden = hidden_in(event)
            assert hidden, name
            assert [(w, raw) for w in hidden for raw in raws if w.encode() in raw] == [], "in no byte of the record"
        else:
            assert seen == [], name


def test_what_is_hidden_would_be_found_in_the_record_of_who_may_see_it(bus: Bus, told: dict[str, Any]) -> None:
    """The look into the bytes is a good one: the same words are there for the auditor."""
    kinds = {n for (role, n), verbs in TABLE.items() if Verb.SEE_WITHOUT_IDENTITY in verbs}
    seen = records_by(bus, PARTY_OF[Role.AUDITOR], own=True)
    for name in kinds:
        raw = b"".join(raw for event, raw in seen[name] if event == told[name])
        assert {word for word in hidden_in(told[name]) if word.encode() not in raw} == set(), name


@pytest.mark.parametrize("role", sorted({r for (r, _), v in TABLE.items() if Verb.SEE_OWN in v}, key=str), ids=str)
def test_whom_an_event_names_sees_its_own(bus: Bus, told_own: dict[tuple[Role, str], Any], role: Role) -> None:
    own = read_by(bus, NAMED, own=True, area_of=partial(own_area, role))
    for (other, name), event in told_own.items():
        if other is role:
            seen = [e for e in own.get(name, ()) if not founding(e)]
            if in_full(role, name):
                assert seen == [event], name
            else:  # named in lists: its own entries and nobody else's
                assert len(seen) == 1, name
                assert OTHER not in json.dumps(codec.to_json(seen[0])), name
                assert NAMED in json.dumps(codec.to_json(seen[0])), name


def test_who_is_not_named_is_told_nothing(bus: Bus, told: dict[str, Any]) -> None:
    own = read_by(bus, NAMED, own=True)
    nobodys = {n for n, k in CATALOGUE.items() if not k.parties and not any(isinstance(s, Role) for s in k.send)}
    nobodys -= {n for n in nobodys if TABLE[Role.OBSERVER, n]}
    assert nobodys
    assert {n for n in nobodys if any(not founding(e) for e in own.get(n, ()))} == set()
