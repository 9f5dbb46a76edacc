"""Whatever is put into an inbox: one verdict, every refusal with its faults, nothing raised, the chain whole."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from flexbus import codec
from flexbus.catalogue import CATALOGUE
from flexbus.events import Verdict
from flexbus.journal import verify_block
from streams.inputs import Input
from tests.integration.core import FSP_A, FSP_B, founding, offer_of
from tests.unit.test_intake import AREA, HOME, Inbox, fresh

STORY = founding(AREA)
PARTIES = (FSP_A, FSP_B, "fmo", "dso", "scheduler", "clearing", "nobody", "")
VALUES = [codec.encode(event) for _, event in STORY] + [codec.encode(offer_of(n, AREA)) for n in range(3)]
HEADERS = ("ce_id", "ce_type", "ce_subject", "ce_time", "ce_onbehalfof", "ce_signature", "other")


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid event with some bytes changed, cut off or added."""
    value = bytearray(draw(st.sampled_from(VALUES)))
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, len(value) - 1))
        match draw(st.sampled_from("xic")):
            case "x":
                value[place] = draw(st.integers(0, 255))
            case "i":
                value[place:place] = draw(st.binary(max_size=6))
            case _:
                del value[place + 1 :]
    return bytes(value)


framed = st.builds(
    lambda kind, body: codec._SINGLE_OBJECT + codec.fingerprint_of(CATALOGUE[kind].event) + body,
    st.sampled_from(sorted(CATALOGUE)),
    st.binary(max_size=200),
)
values = st.one_of(st.none(), st.binary(max_size=64), mutated(), framed)
ids = st.one_of(st.uuids().map(lambda u: str(u).encode()), st.binary(max_size=40), st.just(b"0" * 8))
texts = st.one_of(ids, st.sampled_from([AREA.encode(), b"FlexOfferSubmitted", b"2027-01-15T00:00:00Z", b"fsp-a"]))
headers = st.lists(st.tuples(st.sampled_from(HEADERS), st.one_of(st.none(), texts)), max_size=8).map(tuple)
records = st.builds(
    Input,
    topic=st.sampled_from(PARTIES).map(lambda p: f"flexbus.in.{p}.v1"),
    partition=st.just(HOME),
    offset=st.integers(0, 2**62),
    received_at_ms=st.integers(-1, 2**62),
    key=st.one_of(st.just(AREA.encode()), st.none(), st.binary(max_size=20)),
    value=values,
    headers=st.one_of(headers, st.uuids().map(lambda u: (("ce_id", str(u).encode()),))),
)


@settings(max_examples=300, deadline=None)
@given(batches=st.lists(st.lists(records, max_size=8), max_size=4))
def test_anything_gets_a_verdict(batches: list[list[Input]]) -> None:
    intake, box = fresh(), Inbox()
    blocks: list[Any] = intake.take([box.record(sender, event) for sender, event in STORY]).blocks
    for batch in batches:
        outcome = intake.take(batch)
        blocks += outcome.blocks
        accepted = sum(len(b.entries) for b in outcome.blocks)
        assert accepted + len(outcome.rejections) + outcome.duplicates == len(batch)
        assert all(r.faults for r in outcome.rejections)
        for written in (*outcome.blocks, *outcome.rejections, *outcome.receipts):
            assert codec.decode(codec.encode(written)) == written
        verdicts = [r for issued in outcome.receipts for r in issued.receipts]
        assert all(bool(r.faults) == (r.verdict is Verdict.REJECTED) for r in verdicts)
    heads: dict[str, tuple[int, bytes]] = {}
    successor = fresh()
    for block in blocks:
        heads[block.area_id] = verify_block(heads.get(block.area_id), block)
        successor.replay(block)
