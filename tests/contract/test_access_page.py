"""docs/access.md is the table, and the table is the catalogue."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from flexbus.access import SERVICE_PRINCIPALS, TABLE, TRADING, Verb, grants_of, grants_of_party, service_grants
from flexbus.catalogue import CATALOGUE, Service, Sight
from flexbus.cli.access import command, markdown
from flexbus.events import Role
from flexbus.topics import JOURNAL, NOBODY, RUNS_THE_BUS, inbox, party_topic, read_log, topics
from streams import publisher, sequencer
from streams.services import SERVICES


def test_the_page_is_current() -> None:
    page = Path(__file__).parents[2] / "docs" / "access.md"
    assert page.read_text(encoding="utf-8") == markdown(), "run `flexbus access table --markdown > docs/access.md`"


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_a_row_says_what_the_catalogue_says(name: str) -> None:
    """Written out by hand, not by the code under test."""
    kind = CATALOGUE[name]
    for role in Role:
        verbs = TABLE[role, name]
        assert (Verb.SEND in verbs) == (role in kind.send)
        everything = role in (Role.FMO, Role.AUDITOR) or kind.public is Sight.FULL or kind.see.get(role) is Sight.FULL
        assert (Verb.SEE in verbs) == everything
        anonymous = not everything and (role in kind.see or kind.public is not None)
        assert (Verb.SEE_WITHOUT_IDENTITY in verbs) == anonymous


def test_every_process_is_a_principal_with_the_groups_and_ids_that_it_uses() -> None:
    assert set(SERVICE_PRINCIPALS) == set(SERVICES)
    assert {s.value for s in Service} < set(SERVICE_PRINCIPALS)
    groups = {g.name for g in service_grants("sequencer") if g.resource == "GROUP"}
    assert groups == {sequencer.GROUP}
    groups = {g.name for g in service_grants("publisher") if g.resource == "GROUP"}
    assert groups == {publisher.GROUP}


def test_the_journal_has_one_writer_and_each_inbox_one() -> None:
    grants = grants_of({"fsp-a": TRADING, "auditor": [Role.AUDITOR]})
    names = [t.name for t in topics(["fsp-a", "auditor"], 4)]

    def writers(topic: str) -> set[str]:
        return {
            g.principal
            for g in grants
            if g.resource == "TOPIC"
            and g.operation == "WRITE"
            and (topic.startswith(g.name) if g.prefixed else g.name == topic)
        }

    assert writers(JOURNAL) == {"sequencer"}
    assert writers(inbox("fsp-a")) == {"fsp-a"}
    assert writers(inbox("auditor")) == set()
    assert writers(party_topic("fsp-a")) == {"sequencer", "publisher"}
    for service in Service:
        assert writers(inbox(service.value)) == {service.value}
    for reader in ("fsp-a", "auditor", *SERVICE_PRINCIPALS):
        assert writers(read_log(reader)) == {reader}
    unwritten = [inbox("auditor"), read_log(RUNS_THE_BUS), read_log(NOBODY)]  # who runs the bus needs no right
    assert [n for n in names if not writers(n)] == unwritten, "every topic has somebody who writes it"


@pytest.mark.parametrize(
    "name", ["sequencer", "clearing", "monitor", "admin", "anyone", "broker", "player", "*", "flexbus-sequencer"]
)
def test_no_party_takes_the_rights_of_a_part_of_the_bus(name: str) -> None:
    with pytest.raises(ValueError, match="the bus's own"):
        grants_of_party(name)
    assert CliRunner().invoke(command, ["acls", "--party", name]).exit_code == 2


@pytest.mark.parametrize("other", ["fsp-a.b", "fsp-a-b", "fsp-a_b", "fsp-ab", "fsp-a.v1", "fsp"])
def test_no_party_has_a_right_that_is_anothers_whose_name_begins_alike(other: str) -> None:
    """A right to names that begin so must not reach names of others."""
    mine = grants_of_party("fsp-a", [*TRADING])
    prefixes = [g.name for g in mine if g.prefixed]
    assert prefixes == ["fsp-a:"]
    for grant in grants_of_party(other, [*TRADING]):
        assert not any(grant.name.startswith(prefix) for prefix in prefixes), grant
        assert grant.name not in {g.name for g in mine}


def test_the_command_prints_a_partys_acls() -> None:
    out = CliRunner().invoke(command, ["acls", "--party", "watch=OBSERVER"]).stdout
    lines = [line.split() for line in out.splitlines() if line.startswith("watch ")]
    assert [line[1:] for line in lines] == [
        ["READ", "TOPIC", "flexbus.out.party.watch.v1"],
        ["READ", "GROUP", "watch"],
        ["READ", "GROUP", "watch:*"],
        ["WRITE", "TOPIC", "flexbus.reads.watch.v1"],
    ]
