"""Events survive the wire, and what is not an event is refused with its reason."""

import struct

import pytest

from flexbus import codec
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


def test_single_object_round_trip() -> None:
    data = codec.encode(OFFER)
    assert data[:2] == b"\xc3\x01"
    assert data[2:10] == codec.fingerprint_of(FlexOfferSubmitted)
    assert codec.type_of(data) == ("FlexOfferSubmitted", data[2:10])
    assert codec.decode(data) == OFFER


def test_confluent_framing_round_trip_and_both_are_read() -> None:
    from flexbus import avro

    registry = codec.Registry({"FlexOfferSubmitted": 7}, {7: avro.schema_of(FlexOfferSubmitted)})
    data = codec.encode(OFFER, registry)
    assert data[:5] == b"\x00" + struct.pack(">I", 7)
    assert codec.decode(data, registry) == OFFER
    assert codec.decode(codec.encode(OFFER), registry) == OFFER


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
