"""What is sent again of a rejected input, and how its sender tells a rejection from its own records."""

from dataclasses import replace
from typing import Any

import click
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from flexbus import codec
from flexbus.cli.rejections import again
from flexbus.events import EventRejected, FlexOfferSubmitted
from flexbus.signing import sign
from flexbus.topics import inbox
from streams.inbox import input_of
from streams.inputs import Input
from streams.intake import Intake, Rules
from streams.kafka import Connection
from streams.rejections import Rejections, own_rejection
from tests import market

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
EVENT: FlexOfferSubmitted = market.submitted("o", market.FSP_A, "GCP-1", slots=4)
VALUE = codec.encode(EVENT)
HEADERS = {
    "ce_id": b"0" * 8 + b"-0000-4000-8000-" + b"0" * 12,
    "ce_type": b"FlexOfferSubmitted",
    "ce_time": b"never",  # what is wrong with it
    "ce_onbehalfof": b"somebody",
    "ce_signature": sign(KEY, VALUE),
    "ce_replaces": b"an older one",
    "traceparent": b"x",
}


def given(value: bytes = VALUE, **headers: bytes | None) -> Input:
    pairs = tuple({**HEADERS, **headers}.items())
    return Input("flexbus.in.fsp-a.v1", 0, 7, 1_800_000_000_000, EVENT.area_id.encode(), value, pairs)


def rejected(one: Input) -> EventRejected:
    intake = Intake(0, 1, Rules(content=lambda _: (), state=dict, fold=lambda s, _: s, admission=lambda *_: ()))
    (found,) = intake.take([one]).rejections
    return found


def test_as_it_was_it_keeps_value_and_signature_under_a_new_id_that_names_the_old() -> None:
    one = given()
    record = again(rejected(one), one)
    assert (record.value, record.key) == (VALUE, EVENT.area_id.encode())
    new = dict(record.headers)
    assert new.pop("ce_id") not in (HEADERS["ce_id"], HEADERS["ce_id"].decode())
    assert new.pop("ce_replaces") == rejected(one).rejection_id
    assert new == {name: HEADERS[name] for name in ("ce_type", "ce_time", "ce_onbehalfof", "ce_signature")}


def test_a_key_signs_it_anew() -> None:
    other = Ed25519PrivateKey.from_private_bytes(bytes(32))
    assert again(rejected(given()), given(), other).headers["ce_signature"] == sign(other, VALUE)
    assert again(rejected(given()), None, other).headers["ce_signature"] == sign(other, VALUE)


def test_a_signature_that_cannot_be_read_is_asked_for_and_not_made_up() -> None:
    with pytest.raises(click.UsageError, match=r"offset 7: sign it anew by --signing-key"):
        again(rejected(given()), None)
    unsigned = replace(given(), headers=(("ce_id", b"no uuid"),))
    assert again(rejected(unsigned), None).value == VALUE


@pytest.mark.parametrize("value", [VALUE, b"", b"noise"])
def test_a_sender_tells_the_same_rejection_from_its_record_and_receipt(value: bytes) -> None:
    intake = Intake(0, 1, Rules(content=lambda _: (), state=dict, fold=lambda s, _: s, admission=lambda *_: ()))
    outcome = intake.take([given(value)])
    ((receipt,),) = (issued.receipts for issued in outcome.receipts)
    assert own_rejection("fsp-a", given(value), receipt) == outcome.rejections[0]


def test_a_rejection_whose_input_the_inbox_keeps_no_more_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    intake = Intake(0, 1, Rules(content=lambda _: (), state=dict, fold=lambda s, _: s, admission=lambda *_: ()))
    issued = intake.take([given(), replace(given(), offset=8)]).receipts
    values = [(n, codec.encode(one)) for n, one in enumerate(issued)]
    monkeypatch.setattr("streams.rejections.existing_topics", lambda _: {"flexbus.in.fsp-a.v1": 1})
    monkeypatch.setattr("streams.rejections.read_records", lambda *_: iter(values))
    monkeypatch.setattr(Rejections, "_inputs", lambda *_: iter(()))
    noted: list[str] = []
    seen = Rejections(Connection("127.0.0.1:1", {"sasl.username": "fsp-a"}), lambda what, _: noted.append(what))
    assert list(seen.each()) == []
    assert seen.lost == 2
    assert noted == ["flexbus.out.party.fsp-a.v1?type=ReceiptsIssued", "flexbus.in.fsp-a.v1"]


class Odd:
    """A record with a header whose name is no text, which no client of ours can write."""

    def headers(self) -> Any:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    def topic(self) -> str:
        return inbox("fsp-a")

    def partition(self) -> int:
        return 2

    def offset(self) -> int:
        return 7

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_700_000_000_000

    def key(self) -> bytes:
        return b"north"

    value = key


def test_a_header_whose_name_is_no_text_ends_nobody_who_reads_the_inbox() -> None:
    given = input_of(Odd())
    assert (given.topic, given.partition, given.offset, given.headers) == (inbox("fsp-a"), 2, 7, ())
