"""Signatures: whose key counts, what must be signed, and what a thief of a password cannot do."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from flexbus import codec
from flexbus import events as ev
from flexbus.events import Verdict
from flexbus.journal import Block, next_block
from flexbus.partition import partition_of
from flexbus.signing import is_signed_by, public_key, sign
from flexbus.topics import inbox
from flexbus.validation.rules_signing import MOST_KEYS
from streams.inputs import Input
from streams.intake import Intake
from streams.refold import refold
from streams.sequencer import RULES
from tests import market
from tests.integration.core import FMO, FSP_A, FSP_B, founding, offer_of
from tests.market import HOUR

AREA, PARTITIONS = "north", 4
HOME = partition_of(AREA.encode(), PARTITIONS)


def key(number: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)


class Market:
    """An area with its gate open, as the sequencer keeps it."""

    def __init__(self) -> None:
        self.intake = Intake(HOME, PARTITIONS, RULES)
        self.blocks: list[Block] = []
        self.now_ms = market.START - 20 * HOUR
        self._offset = 0
        for sender, event in founding(AREA):
            assert self.send(sender, event) == {}

    def send(self, sender: str, event: Any, signer: Ed25519PrivateKey | None = None, **more: Any) -> dict[str, str]:
        """Send an event, signed or not; return its faults by path."""
        value = codec.encode(event)
        headers: list[tuple[str, bytes]] = [("ce_id", more.get("event_id", str(uuid4())).encode())]
        if signer is not None:
            headers.append(("ce_signature", sign(signer, more.get("signed", value))))
        if "on_behalf_of" in more:
            headers.append(("ce_onbehalfof", more["on_behalf_of"].encode()))
        self._offset += 1
        given = Input(inbox(sender), HOME, self._offset, self.now_ms, AREA.encode(), value, tuple(headers))
        outcome = self.intake.take([given])
        self.blocks += outcome.blocks
        if sender == "scheduler":
            assert not outcome.rejections
            return {}
        (receipt,) = outcome.receipts[0].receipts
        assert (receipt.verdict is Verdict.ACCEPTED) == (not receipt.faults)
        return {f.path: f.code.value for f in receipt.faults}

    def register(
        self, sender: str, number: int, signer: Ed25519PrivateKey | None = None, **changes: Any
    ) -> dict[str, str]:
        event = ev.SigningKeyRegistered(
            area_id=AREA, party_id=FSP_A, key_id=f"k{number}", public_key=public_key(key(number))
        )
        return self.send(sender, replace(event, **changes), signer)

    def demand(self, *kinds: str) -> None:
        assert self.send(FMO, ev.SignaturePolicySet(area_id=AREA, event_types=kinds)) == {}

    def revoke(self, sender: str, number: int) -> dict[str, str]:
        event = ev.SigningKeyRevoked(area_id=AREA, party_id=FSP_A, key_id=f"k{number}", reason="lost")
        return self.send(sender, event)


@pytest.fixture
def north() -> Iterator[Market]:
    """Whatever happens, an auditor comes to the same verdict about what was accepted."""
    found = Market()
    yield found
    proof = refold(AREA, found.blocks, {})
    assert proof.findings == ()


SIGNATURE = "$headers.ce_signature"


def test_a_first_key_proves_itself_and_signs_from_then_on(north: Market) -> None:
    assert north.register(FSP_A, 1) == {SIGNATURE: "NO_SIGNATURE"}
    assert north.register(FSP_A, 1, key(2)) == {SIGNATURE: "BAD_SIGNATURE"}, "does not hold the key it names"
    assert north.register(FSP_A, 1, key(1)) == {}
    north.demand("FlexOfferSubmitted")
    assert north.send(FSP_A, offer_of(1, AREA), key(1)) == {}
    kept = north.blocks[-1].entries[0]
    assert kept.signature is not None
    assert is_signed_by(public_key(key(1)), kept.signature, kept.payload), "the evidence stands in the journal"


def test_what_must_be_signed_is_refused_unsigned_by_another_key_or_over_other_bytes(north: Market) -> None:
    north.register(FSP_A, 1, key(1))
    north.demand("FlexOfferSubmitted")
    offer = offer_of(1, AREA)
    assert north.send(FSP_A, offer) == {SIGNATURE: "NO_SIGNATURE"}
    assert north.send(FSP_A, offer, key(2)) == {SIGNATURE: "BAD_SIGNATURE"}
    assert north.send(FSP_A, offer, key(1), signed=codec.encode(offer_of(2, AREA))) == {SIGNATURE: "BAD_SIGNATURE"}
    assert north.send(FSP_B, offer_of(1, AREA, FSP_B), key(3)) == {SIGNATURE: "BAD_SIGNATURE"}, "has no key"
    assert north.send(FSP_A, offer, key(1)) == {}
    north.demand()
    assert north.send(FSP_A, offer_of(3, AREA)) == {}, "demanded no longer"


def test_a_signature_that_is_not_demanded_must_still_be_true_once_there_is_a_key(north: Market) -> None:
    assert north.send(FSP_A, offer_of(1, AREA), key(1)) == {}, "nobody can check it yet: kept as evidence"
    north.register(FSP_A, 1, key(1))
    assert north.send(FSP_A, offer_of(2, AREA), key(2)) == {SIGNATURE: "BAD_SIGNATURE"}
    assert north.send(FSP_A, offer_of(2, AREA)) == {}


def test_a_stolen_password_brings_in_no_key(north: Market) -> None:
    north.register(FSP_A, 1, key(1))
    assert north.register(FSP_A, 2, key(2)) == {SIGNATURE: "BAD_SIGNATURE"}
    assert north.register(FSP_A, 2) == {SIGNATURE: "NO_SIGNATURE"}
    assert "$.party_id" in north.register(FSP_B, 2, key(2)), "nor does another party"


def test_rotation_ends_the_old_key_at_one_place_of_the_journal(north: Market) -> None:
    north.register(FSP_A, 1, key(1))
    north.demand("FlexOfferSubmitted")
    assert north.register(FSP_A, 2, key(1), replaces_key_id="k1") == {}
    assert north.send(FSP_A, offer_of(1, AREA), key(1)) == {SIGNATURE: "BAD_SIGNATURE"}
    assert north.send(FSP_A, offer_of(1, AREA), key(2)) == {}
    assert north.register(FSP_A, 3, key(2), replaces_key_id="k1") == {"$.replaces_key_id": "NOT_YOURS_OR_UNKNOWN"}


def test_two_keys_may_count_at_once(north: Market) -> None:
    north.register(FSP_A, 1, key(1))
    assert north.register(FSP_A, 2, key(1)) == {}
    north.demand("FlexOfferSubmitted")
    assert north.send(FSP_A, offer_of(1, AREA), key(1)) == {}
    assert north.send(FSP_A, offer_of(2, AREA), key(2)) == {}


def test_a_revoked_key_is_over_and_cannot_come_back(north: Market) -> None:
    north.register(FSP_A, 1, key(1))
    north.demand("FlexOfferSubmitted")
    assert north.revoke(FSP_B, 1) == {"$.party_id": "NOT_YOURS_OR_UNKNOWN"}
    assert north.revoke(FSP_A, 1) == {}, "by the password alone: the key may be what was lost"
    assert north.send(FSP_A, offer_of(1, AREA), key(1)) == {SIGNATURE: "BAD_SIGNATURE"}
    assert north.revoke(FSP_A, 1) == {"$.key_id": "NOT_YOURS_OR_UNKNOWN"}
    again = north.register(FSP_A, 1, key(1))
    assert again == {"$.key_id": "DUPLICATE_ID", "$.public_key": "DUPLICATE_ID"}
    assert north.register(FSP_A, 2, key(2)) == {}
    assert north.send(FSP_A, offer_of(1, AREA), key(2)) == {}


def test_the_market_operator_helps_who_has_lost_everything(north: Market) -> None:
    north.register(FSP_A, 1, key(1))
    assert north.revoke(FMO, 1) == {}
    assert north.register(FMO, 2) == {}
    north.demand("FlexOfferSubmitted")
    assert north.send(FSP_A, offer_of(1, AREA), key(2)) == {}


def test_a_key_ends_with_its_time(north: Market) -> None:
    assert north.register(FSP_A, 1, key(1), valid_until_ms=market.START) == {}
    north.demand("FlexOfferSubmitted")
    assert north.send(FSP_A, offer_of(1, AREA), key(1)) == {}
    north.now_ms = market.START
    assert north.send(FSP_A, offer_of(2, AREA), key(1)) == {SIGNATURE: "BAD_SIGNATURE"}


@pytest.fixture
def mandated(north: Market) -> Market:
    """One provider has a key, and a mandate of another, with a key, for all there is."""
    grant = ev.MandateGranted(
        area_id=AREA, mandate_id="m", grantor_id=FSP_A, agent_id=FSP_B, event_types=(), valid_from_ms=0
    )
    assert north.send(FSP_A, grant) == {}
    assert north.register(FSP_A, 1, key(1)) == {}
    assert north.register(FSP_B, 2, key(2), party_id=FSP_B) == {}
    return north


def test_under_a_mandate_the_agent_signs(mandated: Market) -> None:
    mandated.demand("FlexOfferSubmitted")
    offer = offer_of(1, AREA)
    assert mandated.send(FSP_B, offer, key(1), on_behalf_of=FSP_A) == {SIGNATURE: "BAD_SIGNATURE"}
    assert mandated.send(FSP_B, offer, key(2), on_behalf_of=FSP_A) == {}


def test_a_mandate_for_all_covers_neither_keys_nor_mandates(mandated: Market) -> None:
    """An agent could put its own keys in the place of its grantor's, and lock it out."""
    mandate = ev.MandateGranted(
        area_id=AREA, mandate_id="m2", grantor_id=FSP_A, agent_id=FSP_B, event_types=(), valid_from_ms=0
    )
    own = ev.SigningKeyRegistered(area_id=AREA, party_id=FSP_A, key_id="mine", public_key=public_key(key(3)))
    for event in (
        ev.SigningKeyRevoked(area_id=AREA, party_id=FSP_A, key_id="k1", reason="lock out"),
        own,
        replace(own, replaces_key_id="k1"),
        mandate,
        ev.MandateRevoked(area_id=AREA, mandate_id="m", grantor_id=FSP_A),
    ):
        for signer in (None, key(2), key(3)):
            assert mandated.send(FSP_B, event, signer, on_behalf_of=FSP_A)["$"] == "NO_MANDATE"
    assert mandated.send(FSP_B, offer_of(1, AREA), on_behalf_of=FSP_A) == {}, "what it is for"
    assert mandated.register(FSP_A, 4, key(1)) == {}


def test_an_agent_of_the_market_operator_decides_nothing_about_signatures(north: Market) -> None:
    grant = ev.MandateGranted(
        area_id=AREA, mandate_id="m", grantor_id=FMO, agent_id=FSP_B, event_types=(), valid_from_ms=0
    )
    assert north.send(FMO, grant) == {}
    assert north.register(FSP_A, 1, key(1)) == {}
    north.demand("FlexOfferSubmitted")
    policy = ev.SignaturePolicySet(area_id=AREA, event_types=())
    revoked = ev.SigningKeyRevoked(area_id=AREA, party_id=FSP_A, key_id="k1", reason="lock out")
    for event in (policy, revoked):
        assert north.send(FSP_B, event, on_behalf_of=FMO) == {"$": "NO_MANDATE"}


def test_another_partys_public_key_keeps_nobody_from_his_own(north: Market) -> None:
    """A signature is held against the keys of its sender alone, so who copies a public key has nothing of it."""
    assert north.register(FSP_B, 2, key(2), party_id=FSP_B) == {}
    assert north.register(FSP_B, 1, key(2), party_id=FSP_B) == {}, "vouched for by a key of its own, and of another"
    assert north.register(FSP_A, 1, key(1)) == {}
    north.demand("FlexOfferSubmitted")
    assert north.send(FSP_A, offer_of(1, AREA), key(1)) == {}
    assert north.send(FSP_A, offer_of(2, AREA), key(2)) == {SIGNATURE: "BAD_SIGNATURE"}
    stolen = north.send(FSP_B, offer_of(3, AREA), key(1))
    assert stolen["$.offer.fsp_id"] == "NOT_YOURS_OR_UNKNOWN", "what the other has signed is in the other's name"
    ended = ev.SigningKeyRevoked(area_id=AREA, party_id=FSP_B, key_id="k1", reason="was never ours")
    assert north.send(FSP_B, ended) == {}
    assert north.send(FSP_A, offer_of(4, AREA), key(1)) == {}, "nor does its end end the other's"


def test_only_the_operator_sets_the_policy_and_only_of_events_there_are(north: Market) -> None:
    policy = ev.SignaturePolicySet(area_id=AREA, event_types=("FlexOfferSubmitted",))
    assert north.send(FSP_A, policy) == {"$": "WRONG_ROLE"}
    assert north.send(FMO, replace(policy, event_types=("Offer",))) == {"$.event_types[0]": "UNKNOWN_EVENT"}


def test_services_need_no_signature(north: Market) -> None:
    north.demand("GateClosed")
    assert north.send("scheduler", replace(market.gate_closed(), area_id=AREA)) == {}


def test_a_key_is_32_bytes_and_one_off_the_curve_signs_nothing(north: Market) -> None:
    assert north.register(FSP_A, 1, key(1), public_key=b"short") == {
        "$.public_key": "BAD_VALUE",
        "$headers.ce_signature": "BAD_SIGNATURE",  # no key of that length has made it
    }
    assert north.register(FSP_A, 1, key(1), public_key=b"\xff" * 32) == {SIGNATURE: "BAD_SIGNATURE"}


def test_a_forged_signature_in_the_journal_is_found_by_the_replay() -> None:
    north = Market()
    north.register(FSP_A, 1, key(1))
    north.demand("FlexOfferSubmitted")
    north.send(FSP_A, offer_of(1, AREA), key(1))
    *before, last = north.blocks
    forged = replace(last.entries[0], signature=sign(key(2), last.entries[0].payload))
    chain = [*before, next_block(AREA, (before[-1].number, before[-1].hash), (forged,))]
    (finding,) = refold(AREA, chain, {}).findings
    assert "BAD_SIGNATURE" in str(finding)


def test_a_party_has_few_keys_at_once(north: Market) -> None:
    """A wrong signature is held against each of them, and thousands may come at once."""
    first = key(1)
    for number in range(1, MOST_KEYS + 1):
        assert north.register(FSP_A, number, first) == {}
    assert north.register(FSP_A, 99, first) == {"$.key_id": "WRONG_STATE"}
    assert north.register(FSP_A, 99, first, replaces_key_id="k2") == {}
    assert north.revoke(FSP_A, 3) == {}
    assert north.register(FSP_A, 100, first) == {}


def test_a_mandate_names_each_kind_once(north: Market) -> None:
    granted = ev.MandateGranted(
        area_id=AREA, mandate_id="m", grantor_id=FSP_B, agent_id=FSP_A, event_types=("FlexOfferSubmitted",) * 2,
        valid_from_ms=market.START, valid_until_ms=None,
    )  # fmt: skip
    assert north.send(FSP_B, granted) == {"$.event_types": "BAD_VALUE"}
