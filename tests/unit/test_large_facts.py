"""A service's fact speaks for a whole session and may be large; a party's event may not."""

from dataclasses import replace
from uuid import uuid4

import pytest

from clearing import session
from flexbus import codec
from flexbus import events as ev
from flexbus.errors import FaultCode
from flexbus.journal import Block, Entry
from flexbus.partition import partition_of
from flexbus.quantities import MAX_POWER_W
from flexbus.topics import inbox
from flexbus.views.fact import Emission, facts_of
from streams.area import Area
from streams.inputs import Input
from streams.intake import Intake
from streams.sequencer import RULES
from streams.stages import VIEWS
from tests import market
from tests.integration.core import FSP_A, FSP_B, founding, offer_of

AREA = "north"
HOME = partition_of(AREA.encode(), 1)


def record(party: str, value: bytes, offset: int = 0) -> Input:
    return Input(
        topic=inbox(party),
        partition=HOME,
        offset=offset,
        received_at_ms=1_000 + offset,
        key=AREA.encode(),
        value=value,
        headers=(("ce_id", str(uuid4()).encode()),),
    )


def test_the_prices_of_a_thousand_buses_fit_and_their_block_can_be_read() -> None:
    prices = ev.NodalPricesPublished(
        area_id=AREA,
        session_id="s1",
        clearing_id="c",
        start_ms=1_767_225_600_000,
        resolution_s=900,
        buses=tuple(
            ev.NodalPrice(bus_id=f"bus {n}", price_milli_per_mwh=tuple(range(10**8 + n, 10**8 + n + 96)))
            for n in range(4_000)
        ),
    )
    value = codec.encode(prices)
    assert codec.MAX_EVENT_BYTES < len(value) < codec.MAX_SERVICE_EVENT_BYTES
    intake = Intake(HOME, 1, RULES)
    assert intake.take([record(s, codec.encode(e), n) for n, (s, e) in enumerate(founding(AREA))]).rejections == []
    outcome = intake.take([record("clearing", value), record(FSP_A, value, 999)])
    (rejected,) = outcome.rejections
    assert (rejected.sender_id, {f.code for f in rejected.faults}) == (FSP_A, {FaultCode.TOO_LARGE})
    (block,) = outcome.blocks
    assert codec.decode_as(codec.encode(block), Block).entries[0].payload == value


def test_a_block_of_large_facts_can_be_read() -> None:
    entry = Entry(
        event_id="e",
        event_type="NodalPricesPublished",
        schema_fingerprint=b"",
        sender_id="clearing",
        on_behalf_of=None,
        received_at_ms=0,
        inbox_partition=0,
        inbox_offset=0,
        payload=bytes(codec.MAX_SERVICE_EVENT_BYTES),
    )
    block = Block(area_id=AREA, number=0, previous_hash=b"", hash=b"", entries=(entry, entry))
    assert codec.decode_as(codec.encode(block), Block) == block


def cleared(many: int) -> tuple[ev.MarketCleared, list[str]]:
    """A session with many offers of one provider and three of another, cleared; and the ids of all offers."""
    offers = [offer_of(n, AREA) for n in range(many)] + [offer_of(n, AREA, FSP_B) for n in range(3)]
    history = [*founding(AREA), *((e.offer.fsp_id, e) for e in offers)]
    history.append(("scheduler", replace(market.gate_closed(), area_id=AREA)))
    outcome = Intake(HOME, 1, RULES).take([record(s, codec.encode(e), n) for n, (s, e) in enumerate(history)])
    assert outcome.rejections == []
    state = session.Sessions()
    for fact in (fact for block in outcome.blocks for fact in facts_of(block)):
        state = session.fold(state, fact)
    (due,) = state.due
    assert isinstance(due, Emission)
    return due.event, [e.offer.offer_id for e in offers]


def test_a_market_of_more_offers_than_one_record_tells_of_is_told_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, offered = cleared(200)
    assert {n.offer_id for n in whole.non_awards} == set(offered)
    monkeypatch.setattr(codec, "MAX_SERVICE_EVENT_BYTES", len(codec.encode(whole)))
    assert cleared(200)[0] == whole
    told, _ = cleared(2_000)
    assert codec.MAX_SERVICE_EVENT_BYTES - 200 < len(codec.encode(told)) <= codec.MAX_SERVICE_EVENT_BYTES
    assert {n.offer_id for n in told.non_awards if n.fsp_id == FSP_B} == set(offered[-3:]), (
        "who sent few is told of all"
    )
    assert replace(told, non_awards=()) == replace(whole, non_awards=(), gate_block=told.gate_block)


def test_sums_of_what_is_offered_and_asked_for_are_told_however_large_they_are() -> None:
    #  each number is one that a party may send; two of them are more
    most_w = most_var = MAX_POWER_W
    pool = ev.PortfolioRegistered(area_id=AREA, portfolio_id="pool", fsp_id=FSP_A, asset_ids=("a1",))
    steps = ((most_w, 40_000), (most_w, 50_000))
    offers = [market.submitted(f"big-{n}", FSP_A, None, portfolio_id="pool", steps=steps, slots=96) for n in range(2)]
    var = tuple(ev.ReactiveStep(reactive_power_var=most_var, price_milli_per_mvarh=p) for p in (50_000, 40_000))
    reactive = market.request(
        power_w=(),
        reactive_slots=(ev.ReactiveSlot(steps=var),),
        location_kind=ev.LocationKind.BUS,
        location_id="B1",
        max_price_milli_per_mwh=0,
    )
    history = [
        *founding(AREA),
        (FSP_A, market.asset("a1", "GCP-1", FSP_A)),
        (market.DSO, ev.AssetApproved(area_id=AREA, asset_id="a1", validated_up_w=300_000, validated_down_w=0)),
        (FSP_A, pool),
        (market.DSO, ev.PortfolioApproved(area_id=AREA, portfolio_id="pool")),
        *((FSP_A, e) for e in offers),
        (market.DSO, ev.FlexRequestSubmitted(area_id=AREA, request=reactive)),
        ("scheduler", market.gate_closed()),
    ]
    intake, areas, told = Intake(HOME, 1, RULES), [Area(AREA, view, HOME) for view in VIEWS.values()], set()
    inputs = [record(s, codec.encode(e), n) for n, (s, e) in enumerate(history)]
    while inputs:
        outcome = intake.take(inputs)
        assert [str(f) for r in outcome.rejections for f in r.faults] == []
        inputs = []
        for area in areas:
            for block in outcome.blocks:
                area.take(block)
            for due in area.unsent():
                assert isinstance(due.what, Emission)
                due.sent = True
                told.add(type(due.what.event).__name__)
                inputs.append(record(area.view.service, codec.encode(due.what.event), len(told)))
    assert told >= {"FlexOfferClipped", "OffersAggregated", "MarketCleared", "AggregateOffered"}
    assert "ProcurementStatusChanged" in told
