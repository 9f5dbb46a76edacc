"""The short way of reading bytes gives what the Avro library gives, or gives up."""

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexbus import codec
from flexbus.errors import CodecError
from flexbus.events import GateClosed, OfferSlot, PriceStep
from flexbus.reader import reader
from tests import market, strange
from tests.property.test_fuzz import meddled

CLASSES = sorted(codec._CLASSES)


def short(data: bytes) -> Any:
    """What the short way makes of a whole event; None where it gives up."""
    name, _, offset = codec._frame(data, None)
    try:
        value, end = reader(codec._CLASSES[name])(data, offset)
    except Exception:
        return None
    return value if end == len(data) else None


def long(data: bytes) -> Any:
    name, schema, offset = codec._frame(data, None)
    return codec._decoded(data, name, codec._CLASSES[name], schema, offset)


@pytest.mark.parametrize("name", CLASSES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_what_our_writer_makes_is_read_the_short_way(name: str, data: st.DataObject) -> None:
    event = data.draw(strange.events(codec._CLASSES[name]))
    encoded = codec.encode(event)
    assert short(encoded) == event == long(encoded)
    assert repr(short(encoded)) == repr(event)  # True and 1 are equal, and not the same
    assert hash(short(encoded)) == hash(event) if name != "EventRejected" else True  # it holds a dict


@pytest.mark.parametrize("name", CLASSES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_what_somebody_meddled_with_is_read_alike_or_not_the_short_way(name: str, data: st.DataObject) -> None:
    encoded = codec.encode(data.draw(strange.events(codec._CLASSES[name])))
    body = data.draw(meddled(encoded[10:]))
    found = short(encoded[:10] + body)
    if found is not None:
        assert repr(found) == repr(long(encoded[:10] + body))


EDGES = [s * 2**n + d for n in range(63) for s in (1, -1) for d in (-1, 0, 1)]


@given(at_ms=st.integers(-(2**63), 2**63 - 1) | st.sampled_from(EDGES))
def test_every_whole_number_is_read(at_ms: int) -> None:
    event = GateClosed(area_id="a", session_id="s", at_ms=at_ms)
    assert short(codec.encode(event)) == event


@given(text=st.text(max_size=300))
def test_every_text_is_read(text: str) -> None:
    event = GateClosed(area_id=text, session_id=text, at_ms=1)
    assert short(codec.encode(event)) == event


def test_alike_slots_are_one_object_and_others_are_not() -> None:
    steps = (((1000, 5), (2000, 6)), ((1000, 5), (2000, 6)), ((1000, 5), (2000, 7)), (), (), ((1000, 5),))
    slots = tuple(OfferSlot(steps=tuple(PriceStep(power_w=w, price_milli_per_mwh=p) for w, p in s)) for s in steps)
    event = replace(market.submitted("o"), offer=replace(market.offer("o"), slots=slots))
    found = short(codec.encode(event))
    assert found == event
    first, second, third, *_ = found.offer.slots
    assert first is second
    assert first is not third


def test_what_is_read_is_frozen() -> None:
    event = short(codec.encode(market.submitted("o")))
    for record in (event, event.offer, event.offer.slots[0], event.offer.slots[0].steps[0]):
        with pytest.raises(AttributeError):
            setattr(record, fields(record)[0].name, None)


@pytest.mark.parametrize("cut", [1, 2, 40])
def test_what_ends_too_early_is_refused(cut: int) -> None:
    data = codec.encode(market.submitted("o"))
    assert short(data[:-cut]) is None
    with pytest.raises(CodecError):
        codec.decode(data[:-cut])
