"""Who sees what of an event, told with parties of a market."""

from dataclasses import replace
from typing import Any

import pytest

from flexbus import codec
from flexbus import events as ev
from flexbus.access import TABLE, Verb
from flexbus.catalogue import CATALOGUE, parties_of, without_identities
from flexbus.events import Role
from flexbus.sight import public_view, views_of
from tests import market
from tests.integration.core import FSP_A, FSP_B, offer_of
from tests.integration.test_publisher import cleared
from tests.specimens import specimen

ROLES = {
    "fmo": frozenset({Role.FMO}),
    "auditor": frozenset({Role.AUDITOR}),
    "dso": frozenset({Role.DSO}),
    "tso": frozenset({Role.TSO}),
    "brp": frozenset({Role.BRP}),
    FSP_A: frozenset({Role.FSP}),
    FSP_B: frozenset({Role.FSP}),
    "observer": frozenset({Role.OBSERVER}),
}


def seen(event: Any, *senders: str) -> dict[str, Any]:
    return dict(views_of(event, CATALOGUE[type(event).__name__], senders, ROLES))


def public(event: Any) -> Any:
    return public_view(event, CATALOGUE[type(event).__name__])


def test_an_offer_is_its_providers_and_the_market_operators() -> None:
    offer = offer_of(1, "north")
    assert seen(offer, FSP_A) == dict.fromkeys(("fmo", "auditor", FSP_A), offer)
    assert public(offer) is None


def test_the_agent_that_sent_it_sees_it_too() -> None:
    assert FSP_B in seen(offer_of(1, "north"), FSP_B, FSP_A)


def test_the_system_operator_sees_a_baseline_without_its_provider() -> None:
    baseline = market.baseline()
    found = seen(baseline, FSP_A)
    assert set(found) == {"fmo", "auditor", "dso", FSP_A}
    assert found["dso"] == replace(baseline, fsp_id="")


def test_awards_are_public_without_identities_and_each_provider_sees_its_own() -> None:
    event = cleared("north")
    found = seen(event, "clearing")
    assert set(found) == {"fmo", "auditor", "dso", FSP_A, FSP_B}
    assert found["fmo"] is event
    assert [a.offer_id for a in found[FSP_A].awards] == ["o1"]
    assert [a.offer_id for a in found[FSP_B].awards] == ["o2"]
    assert found[FSP_B].non_awards == event.non_awards
    assert found["dso"] == public(event)
    assert parties_of(public(event)) == frozenset()


def test_a_hash_of_what_is_hidden_is_hidden_too() -> None:
    """Who knows all bids but one could try what it may be until the hash fits."""
    event = replace(cleared("north"), case_hash="ab" * 32, result_hash="cd" * 32)
    views = seen(event)
    for anonymous in (public(event), views["dso"], views[FSP_A]):
        assert (anonymous.case_hash, anonymous.result_hash) == ("", "")
    assert views["fmo"] == views["auditor"] == event


def test_a_request_is_public_without_its_causes_and_whole_for_its_requester() -> None:
    event = ev.FlexRequestSubmitted(area_id="north", request=market.request())
    assert public(event).request.causes == ()
    assert public(event).request.requester_id == "dso"
    assert seen(event, "dso")["dso"] is event


# What names a party although identities are removed: who asks, and those whom the TSO deals with or is.
TOLD = {
    "FlexRequestSubmitted": {"request.requester_id"},
    "FlexRequestAmended": {"request.requester_id"},
    "FlexRequestWithdrawn": {"requester_id"},
    "AggregateOffered": {"brp_ids"},
    "AggregateDisaggregated": {"tso_id"},
}


@pytest.mark.parametrize("name", sorted({n for (_, n), verbs in TABLE.items() if Verb.SEE_WITHOUT_IDENTITY in verbs}))
def test_no_field_that_names_a_party_is_left_without_identities(name: str) -> None:
    """By the names that such fields have anywhere, whatever the row of this kind says."""
    parties = {path.split(".")[-1] for kind in CATALOGUE.values() for path in kind.parties} | {"brp_ids"}
    whole = specimen(CATALOGUE[name], "north", FSP_A, FSP_B)
    assert naming(codec.to_json(whole), parties), "there is something to hide"
    assert naming(codec.to_json(without_identities(whole)), parties) == TOLD.get(name, set())


def naming(value: Any, parties: set[str], path: str = "") -> set[str]:
    """Return the paths of the fields that hold something and have one of these names."""
    if isinstance(value, list):
        return {found for item in value for found in naming(item, parties, path)}
    if isinstance(value, dict):
        return {found for k, v in value.items() for found in naming(v, parties, f"{path}.{k}".strip("."))}
    return {path} if value and path.split(".")[-1] in parties else set()


def test_an_outsider_sees_nothing() -> None:
    for event in (offer_of(1, "north"), market.baseline(), market.network()):
        assert "observer" not in seen(event)
        assert "brp" not in seen(event)


def test_a_provider_sees_its_own_share_of_a_list_that_others_see_nothing_of() -> None:
    event = specimen(CATALOGUE["AggregateDisaggregated"], "north", FSP_A, FSP_B)
    found = seen(event, "aggregation")
    assert found[FSP_A].shares == event.shares[:1]
    assert found[FSP_B].shares == event.shares[1:]
    assert found["tso"].shares == ()
