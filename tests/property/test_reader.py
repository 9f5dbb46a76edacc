"""The short way of reading bytes gives what the Avro library gives, or gives up; that of writing gives its bytes."""

import io
from dataclasses import MISSING, dataclass, fields, replace
from itertools import pairwise
from math import gcd
from typing import Annotated, Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexbus import codec
from flexbus.catalogue import CATALOGUE, without_identities
from flexbus.errors import CodecError
from flexbus.events import GateClosed, NodalPrice, NodalPricesPublished, OfferSlot, PriceStep, Receipt
from flexbus.journal import Block, Entry
from flexbus.reader import GIVEN_UP, changer, quickly, reader
from flexbus.validation import content_faults
from flexbus.validation.stacks import UNMADE, WrittenSlots, stacks_of
from flexbus.values import to_plain
from flexbus.views.fact import Fact
from tests import market, strange
from tests.property.test_fuzz import cut
from tests.specimens import specimen

CLASSES = sorted(codec._CLASSES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Nothing but numbers."""

    numbers: Annotated[tuple[int, ...], "numbers"]


def short(data: bytes) -> Any:
    """What the short way makes of a whole event; None where it gives up."""
    (name, _, _), offset = codec._frame(data, None)
    cls: Any = codec._CLASSES[name]
    try:
        value, end = reader(cls)(data, offset)
    except GIVEN_UP:
        return None
    return value if end == len(data) else None


def long(data: bytes) -> Any:
    return codec._decoded(data, *codec._frame(data, None))


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
    body = data.draw(cut(encoded[10:]))
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


@given(
    runs=st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, -1, 63, 64]), st.integers(1, 30)))
)
def test_every_series_is_read(runs: list[tuple[int, int]]) -> None:
    series = tuple(number for number, times in runs for _ in range(times))
    event = NodalPricesPublished(
        area_id="a",
        session_id="s",
        clearing_id="c",
        start_ms=0,
        resolution_s=900,
        buses=(NodalPrice(bus_id="b", price_milli_per_mwh=series),),
    )
    assert short(codec.encode(event)) == event


def test_a_count_beyond_the_bytes_is_given_up() -> None:
    assert reader(Series)(b"\4\0\0\0", 0) == (Series(numbers=(0, 0)), 4)
    huge = b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\1"  # 2**63 - 1 of them
    with pytest.raises(GIVEN_UP):
        reader(Series)(huge + bytes(9), 0)


def test_threads_that_begin_together_still_read_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = codec.encode(market.submitted("o"))
    codec._known()
    codec._writer.cache_clear()  # as if the other thread had come second
    monkeypatch.setattr(codec, "_decoded", None)
    assert codec.decode(encoded) == market.submitted("o")


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


WATTS = st.sampled_from([0, 1, -1, 5_000, 10_000, 2**31, 2**63 - 1, -(2**63)]) | st.integers(-(2**63), 2**63 - 1)
STEPS = st.builds(PriceStep, power_w=WATTS, price_milli_per_mwh=WATTS)
SLOTS = st.builds(OfferSlot, steps=st.lists(STEPS, max_size=3).map(tuple), min_power_w=WATTS)
SINGLE = st.builds(OfferSlot, steps=STEPS.map(lambda step: (step,)), min_power_w=st.just(0) | WATTS)
RUNS = st.lists(st.tuples(SLOTS, st.integers(1, 3))) | st.lists(st.tuples(SINGLE, st.integers(1, 3)))


def as_taken(data: bytes) -> Any:
    """What the sequencer makes of bytes, and what is wrong with that."""
    try:
        event = codec.decode_entry(data, b"", UNMADE)
    except CodecError as error:
        return None, error.fault()
    return event, content_faults(event)


def as_told(data: bytes) -> Any:
    try:
        event = codec.decode(data)
    except CodecError as error:
        return None, error.fault()
    return event, content_faults(event)


@settings(max_examples=300, deadline=None)
@given(runs=RUNS)
def test_slots_that_are_not_made_say_what_they_would(runs: list[tuple[OfferSlot, int]]) -> None:
    slots = tuple(slot for slot, times in runs for _ in range(times))
    told = replace(market.submitted("o"), offer=replace(market.offer("o"), slots=slots))
    event, faults = as_taken(codec.encode(told))
    found = event.offer.slots
    assert isinstance(found, WrittenSlots) == bool(slots)
    assert (tuple(found), len(found), found[:2], bool(found)) == (slots, len(slots), slots[:2], bool(slots))
    assert replace(event, offer=replace(event.offer, slots=tuple(found))) == told
    assert faults == content_faults(told)
    stacks, minima, powers = (
        stacks_of(found),
        [s.min_power_w for s in slots],
        [x.power_w for s in slots for x in s.steps],
    )
    totals = [sum(step.power_w for step in slot.steps) for slot in slots]
    prices = [x.price_milli_per_mwh for s in slots for x in s.steps]
    for least, most, series in (
        (stacks.least_w, stacks.most_w, powers),
        (stacks.low_milli_per_mwh, stacks.high_milli_per_mwh, prices),
        (stacks.least_min_w, stacks.most_min_w, minima),
    ):
        assert (least, most) == (min(series, default=0), max(series, default=0))
    assert (stacks.total_w, stacks.most_total_w) == (sum(totals), max(totals, default=0))
    assert stacks.most_steps == max((len(slot.steps) for slot in slots), default=1)
    assert stacks.divisor_w == gcd(*powers, *minima)
    fits = all(least <= total for least, total in zip(minima, totals, strict=True))
    assert stacks.fit == (fits or max(minima, default=0) <= 0)
    assert stacks.rise == all(a < b for s in slots for a, b in pairwise(x.price_milli_per_mwh for x in s.steps))


@pytest.mark.parametrize("name", ["FlexOfferSubmitted", "FlexOfferReplaced"])
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_what_somebody_meddled_with_is_refused_alike_if_slots_are_not_made(name: str, data: st.DataObject) -> None:
    encoded = codec.encode(data.draw(strange.events(codec._CLASSES[name])))
    body = data.draw(st.just(encoded[10:]) | cut(encoded[10:]))
    (taken, faults), (told, expected) = as_taken(encoded[:10] + body), as_told(encoded[:10] + body)
    assert faults == expected
    if told is not None:
        assert repr(replace(taken, offer=replace(taken.offer, slots=tuple(taken.offer.slots)))) == repr(told)


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_no_bytes_are_taken_for_an_item_before_the_first(name: str) -> None:
    """There is none to be told again, and who asks for it ends: the sequencer did, whoever sent it such bytes."""
    encoded = codec.encode(specimen(CATALOGUE[name], "north", "a", "b"))
    for at in range(10, len(encoded)):
        meddled = encoded[:at] + b"\xff" * 99 + encoded[at:]
        try:
            told, expected = long(meddled), None
        except CodecError as error:
            told, expected = None, error.fault()
        for found, faults in (as_taken(meddled), as_told(meddled)):
            assert (found is None, None if found else faults) == (told is None, expected)


def by_library(event: Any) -> bytes:
    expected = io.BytesIO()
    schema, head = codec._writer(type(event).__name__)
    fastavro.schemaless_writer(expected, schema, to_plain(event))
    return head + expected.getvalue()


@pytest.mark.parametrize("name", CLASSES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_what_is_written_the_short_way_is_what_the_library_writes(name: str, data: st.DataObject) -> None:
    event = data.draw(strange.events(codec._CLASSES[name]))
    assert codec.encode(event) == codec.encode_trusted(event) == by_library(event)


@pytest.mark.parametrize("name", sorted(CATALOGUE))
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_views_that_share_lists_are_written_as_if_alone(name: str, data: st.DataObject) -> None:
    event = data.draw(strange.events(codec._CLASSES[name]))
    views = [event, without_identities(event), without_identities(event, keep="p"), event]
    shared: codec.Shared = {}
    assert [codec.encode_trusted(v, shared=shared) for v in views] == [by_library(v) for v in views]


@pytest.mark.parametrize("cls", [Entry, Receipt, Fact])
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_what_is_changed_quickly_is_what_replace_makes(cls: Any, data: st.DataObject) -> None:
    before = cls(**{f.name: data.draw(st.integers()) for f in fields(cls)})
    changed = data.draw(st.lists(st.sampled_from([f.name for f in fields(cls)]), min_size=1, unique=True))
    values = {name: data.draw(st.integers()) for name in changed}
    assert changer(cls, tuple(values))(before, *values.values()) == replace(before, **values)


@given(number=st.integers(-(2**63), 2**63 - 1) | st.sampled_from(EDGES))
def test_every_whole_number_is_written(number: int) -> None:
    values: dict[str, Any] = {
        f.name: None if "None" in str(f.type) else b"" if "bytes" in str(f.type) else "" for f in fields(Entry)
    }
    entry = Entry(**values)
    entry = replace(entry, received_at_ms=number, inbox_partition=number, inbox_offset=number)
    block = Block(area_id="a", number=number, previous_hash=b"", hash=b"", entries=(entry,) * 2)
    assert codec.decode(codec.encode(block)) == block == long(codec.encode(block))


def test_what_does_not_fit_is_not_written() -> None:
    with pytest.raises(ValueError, match="64 bits"):
        codec.encode(Block(area_id="a", number=2**63, previous_hash=b"", hash=b"", entries=()))


@pytest.mark.parametrize("cls", [Fact, Entry, Receipt])
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_what_is_made_quickly_is_what_the_constructor_makes(cls: Any, data: st.DataObject) -> None:
    values = {f.name: data.draw(st.integers()) for f in fields(cls)}
    made = quickly(cls)(**values)
    assert made == cls(**values)
    assert type(made) is cls
    needed = {f.name: values[f.name] for f in fields(cls) if f.default is MISSING}
    assert quickly(cls)(**needed) == cls(**needed)
    with pytest.raises(AttributeError):
        made.event_id = "another"
    with pytest.raises(TypeError):
        quickly(cls)(**dict(list(needed.items())[1:]))


def test_a_class_that_does_more_than_to_set_its_fields_is_not_made_quickly() -> None:
    @dataclass(frozen=True, slots=True)
    class Checked:
        x: int

        def __post_init__(self) -> None:
            raise ValueError

    with pytest.raises(TypeError, match="constructor does more"):
        quickly(Checked)
