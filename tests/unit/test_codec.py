"""Events survive the wire, and what is not an event is refused with its reason."""

import struct
from dataclasses import replace

import pytest

from flexbus import avro, codec
from flexbus.errors import CodecError, FaultCode, FaultyInputError
from flexbus.events import FlexOffer, FlexOfferSubmitted, GateClosed, OfferSlot, PriceStep
from flexbus.quantities import Direction

OFFER = FlexOfferSubmitted(
    area_id="north",
    offer=FlexOffer(
        offer_id="o-1",
        revision=1,
        session_id="da-1",
        fsp_id="fsp-1",
        connection_point_id="cp-1",
        direction=Direction.UP,
        start_ms=0,
        resolution_s=900,
        slots=(OfferSlot(steps=(PriceStep(power_w=1000, price_milli_per_mwh=50_000),)),) * 4,
    ),
)


REGISTRY = codec.Registry({"FlexOfferSubmitted": 7}, {7: avro.schema_of(FlexOfferSubmitted)})


def test_single_object_round_trip() -> None:
    data = codec.encode(OFFER)
    assert data[:2] == b"\xc3\x01"
    assert data[2:10] == codec.fingerprint_of(FlexOfferSubmitted)
    assert codec.type_of(data) == ("FlexOfferSubmitted", data[2:10])
    assert codec.decode(data) == OFFER


def test_confluent_framing_round_trip_and_both_are_read() -> None:
    registry = REGISTRY
    data = codec.encode(OFFER, registry)
    assert data[:5] == b"\x00" + struct.pack(">I", 7)
    assert codec.decode(data, registry) == OFFER
    assert codec.decode(codec.encode(OFFER), registry) == OFFER
    assert codec.type_of(data, registry) == ("FlexOfferSubmitted", codec.fingerprint_of(FlexOfferSubmitted))
    assert codec.decode_as(data, FlexOfferSubmitted, registry) == OFFER


def test_the_journal_needs_no_registry_for_what_was_sent_with_one() -> None:
    known = codec.fingerprint_of(FlexOfferSubmitted)
    framed, single = codec.encode(OFFER, REGISTRY), codec.encode(OFFER)
    assert codec.decode_entry(framed, known) == codec.decode_entry(single, known) == OFFER
    with pytest.raises(CodecError, match="no schema has the fingerprint"):
        codec.decode_entry(framed, b"12345678")
    with pytest.raises(CodecError, match="SCHEMA_REGISTRY_URL"):
        codec.decode(framed)


def test_an_event_is_republished_with_the_senders_body_in_the_framing_wanted() -> None:
    known = codec.fingerprint_of(FlexOfferSubmitted)
    framed, single = codec.encode(OFFER, REGISTRY), codec.encode(OFFER)
    for payload in (framed, single):
        assert codec.current(OFFER, payload, known) == single
        assert codec.current(OFFER, payload, known, REGISTRY) == framed
    assert codec.current(OFFER, b"of an older schema", b"12345678", REGISTRY) == framed


def test_the_same_event_is_told_in_either_framing() -> None:
    framed, single = codec.encode(OFFER, REGISTRY), codec.encode(OFFER)
    other = codec.encode(replace(OFFER, area_id="south"), REGISTRY)
    assert codec.says_the_same(single, framed, REGISTRY)
    assert codec.says_the_same(framed, single, REGISTRY)
    assert not codec.says_the_same(single, other, REGISTRY)
    with pytest.raises(CodecError, match="SCHEMA_REGISTRY_URL"):
        codec.says_the_same(single, framed)


@pytest.mark.parametrize("schema", ["string", {"type": "record"}, {"type": "record", "name": "Rain", "fields": []}, 5])
def test_a_schema_of_no_event_is_refused(schema: object) -> None:
    with pytest.raises(CodecError):
        codec.writer_schema(schema)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", FaultCode.NOT_DECODABLE),
        (b"hello, this is no Avro", FaultCode.NOT_DECODABLE),
        (b"\xc3\x01" + b"\x00" * 20, FaultCode.UNKNOWN_SCHEMA),
        (codec.encode(OFFER)[:-3], FaultCode.NOT_DECODABLE),
        (codec.encode(OFFER) + b"x", FaultCode.NOT_DECODABLE),
        (b"\x00" + struct.pack(">I", 9) + b"abc", FaultCode.NOT_DECODABLE),
    ],
)
def test_what_is_no_event_is_refused(data: bytes, code: FaultCode) -> None:
    with pytest.raises(CodecError) as caught:
        codec.decode(data)
    assert caught.value.code is code


def test_the_fingerprint_is_the_avro_specification_one() -> None:
    # The specification's own example: CRC-64-AVRO of the schema "null", here as 8 bytes little-endian.
    assert struct.unpack("<Q", codec.fingerprint("null"))[0] == 0x63DD24E7CC258F8A


def test_json_round_trip() -> None:
    assert codec.from_json(codec.to_json(OFFER)) == OFFER


def test_every_fault_of_a_json_event_is_listed_with_its_path() -> None:
    value = codec.to_json(OFFER)
    del value["offer"]["fsp_id"]
    value["offer"]["direction"] = "SIDEWAYS"
    value["offer"]["slots"][2]["steps"][0]["power_w"] = "1 kW"
    value["offer"]["slots"][3]["steps"] = "abc"
    value["offer"]["colour"] = "red"
    with pytest.raises(FaultyInputError) as caught:
        codec.from_json(value)
    assert {(f.path, f.code) for f in caught.value.faults} == {
        ("$.offer.fsp_id", FaultCode.MISSING_FIELD),
        ("$.offer.direction", FaultCode.WRONG_TYPE),
        ("$.offer.slots[2].steps[0].power_w", FaultCode.WRONG_TYPE),
        ("$.offer.slots[3].steps", FaultCode.WRONG_TYPE),
        ("$.offer", FaultCode.UNKNOWN_FIELD),
    }


@pytest.mark.parametrize("value", [True, 1.0, 2**63, "5"])
def test_a_long_is_a_whole_number_of_64_bits(value: object) -> None:
    with pytest.raises(FaultyInputError):
        codec.from_json({"type": "GateClosed", "area_id": "a", "session_id": "s", "at_ms": value})


def test_unknown_type_and_broken_json() -> None:
    for text, code in (
        ("{", FaultCode.NOT_DECODABLE),
        ('{"type": "Rain"}', FaultCode.UNKNOWN_EVENT),
        ("{}", FaultCode.MISSING_FIELD),
    ):
        with pytest.raises(FaultyInputError) as caught:
            codec.from_json(text)
        assert caught.value.faults[0].code is code


def test_decode_as_refuses_another_type() -> None:
    with pytest.raises(CodecError):
        codec.decode_as(codec.encode(OFFER), GateClosed)
