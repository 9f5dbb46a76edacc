"""A market of storages, profiles and reactive power from the gate to the invoice, with all rules, stages and the page.

Without Kafka; what is published of it without names is looked at byte by byte.
"""

from dataclasses import replace
from typing import Any

from flexbus import codec
from flexbus import events as ev
from flexbus.catalogue import kind_of
from flexbus.sight import public_view, views_of
from flexbus.views.fact import Fact
from streams.refold import refold
from streams.stages import VIEWS
from tests.memory_bus import MemoryBus
from tests.story import AREA, DAY, GATE, HOUR, SLOT, baseline, only, opened, reading
from tests.unit.test_snapshot import forecast, limited
from tests.unit.test_snapshot_terms import FEATURES, LATER, STORAGE, VAR, asked, offered
from tests.unit.test_terms_story import reactive

SENDERS = {
    ev.NetworkModelPublished: "grid-dso",
    ev.ConnectionPointRegistered: "grid-dso",
    ev.NetForecastPublished: "grid-dso",
}


def played() -> tuple[MemoryBus, list[Fact]]:
    facts: list[Fact] = []
    bus = MemoryBus(AREA, facts.append)
    for event in (*opened(), limited(500_000)):
        if not isinstance(event, ev.GateOpened):
            bus.post(SENDERS.get(type(event), "fmo"), event)
    bus.tick(GATE - HOUR)
    need = forecast(-1_000_000, -600_000, -700_000, -800_000)
    bus.post("grid-dso", replace(need, issued_at_ms=GATE - HOUR))
    charge = [{"steps": [{"power_w": 100_000, "price_milli_per_mwh": -1_000}]}] * 4
    # connection point p1 is alpha's, p2 beta's
    bus.post("alpha", baseline("p1", -200_000, -200_000, -200_000, -200_000))
    bus.post("alpha", offered("cell-out", slots=LATER, terms={"unit_id": "cell", "storage": STORAGE}))
    bus.post("alpha", offered("cell-in", direction="DOWN", slots=charge, terms={"unit_id": "cell"}))
    bus.post("alpha", offered("plain"))
    choice = FEATURES["start choice"][0]["terms"]["start_choice"] | {"price_milli_per_mwh": 20_000}
    terms: dict[str, Any] = {"slots": [], "terms": {"start_choice": choice}}
    bus.post("beta", offered("wash", fsp_id="beta", connection_point_id="p2", **terms))
    bus.post("beta", offered("roof", fsp_id="beta", connection_point_id="p2", **reactive(0, 90_000, 90_000, 90_000)))
    bus.post(
        "tso",
        asked(
            reactive_slots=[{"steps": [VAR[0] | {"price_milli_per_mvarh": 9_000}]}] * 2,
            request_id="volts",
            location_id="n2",
        ),
    )
    assert [str(f) for r in bus.rejected for f in r.faults] == []
    bus.tick(GATE)
    bus.tick(DAY + HOUR)
    for at, meter in (("p1", 50_000), ("p2", 25_000)):
        bus.post("meters", reading(at, *(meter,) * 4))
    bus.tick(DAY + 48 * HOUR)
    assert bus.caught_up(), bus.owed()
    return bus, facts


def test_a_day_of_storages_profiles_and_reactive_power() -> None:
    bus, facts = played()
    assert [str(f) for r in bus.rejected for f in r.faults] == []
    events = [f.event for f in facts]
    (market,) = only(ev.MarketCleared, events)
    # the import limit is held by what is offered, the TSO has its var
    assert {a.offer_id for a in market.awards} >= {"plain", "wash"}
    assert all(s.shortfall_w == 0 for s in market.slots[1:])
    (wash,) = (a for a in market.awards if a.offer_id == "wash")
    assert (len(wash.power_w), wash.start_ms in {DAY, DAY + SLOT, DAY + 2 * SLOT}) == (2, True)
    (roof,) = market.reactive_awards
    assert (roof.start_ms, roof.reactive_power_var) == (DAY + SLOT, (90_000, 90_000))
    (volts,) = market.reactive_requests
    assert volts.matched_var == (90_000, 90_000)
    assert volts.reason  # 10 kvar of each slot are missing, and why is said
    # every award of active power is ordered, none of reactive power is
    ordered = {
        (o.award_id, o.start_ms + k * SLOT): w
        for o in only(ev.ActivationOrdered, events)
        for k, w in enumerate(o.power_w)
    }
    assert ordered == {
        (a.award_id, a.start_ms + k * SLOT): w for a in market.awards for k, w in enumerate(a.power_w) if w
    }
    # money: both providers have a paper, which adds up, and reactive power is paid as awarded
    papers = {p.fsp_id: p for p in only(ev.SettlementComputed, events)}
    assert set(papers) == {"alpha", "beta"}
    for paper in papers.values():
        assert paper.total_cents == sum(i.amount_cents for i in paper.invoice)
    holdings = papers["beta"].holdings
    assert [(h.reactive_power_var, h.start_ms) for h in holdings] == [(90_000, DAY + SLOT), (90_000, DAY + 2 * SLOT)]
    assert sum(h.remuneration_nano for h in holdings) == 22_500 * sum(roof.price_milli_per_mvarh)
    # nothing of them goes up; what stands alone is counted
    assert {t.direction.value: t.individual_offers for t in only(ev.OffersAggregated, events)} == {"UP": 3, "DOWN": 1}
    states = [s.state.value for s in only(ev.ProcurementStatusChanged, events) if s.request_id == "volts"]
    assert states == ["ACKNOWLEDGED", "PART_PROCURED"]


def test_the_day_is_derived_again_from_its_journal() -> None:
    bus, _ = played()
    result = refold(AREA, bus.blocks, VIEWS)
    assert [str(f) for f in result.findings] == []


def test_the_public_sees_reactive_awards_without_names_and_each_provider_its_own() -> None:
    _, facts = played()
    (market,) = only(ev.MarketCleared, [f.event for f in facts])
    kind = kind_of(ev.MarketCleared)
    public = codec.encode(public_view(market, kind))
    assert not any(name in public for name in (b"beta", b"roof", b"wash", b"tso", b"p2"))
    roles: dict[str, frozenset[Any]] = {name: frozenset({ev.Role.FSP}) for name in ("alpha", "beta")}
    seen = dict(views_of(market, kind, ("clearing",), roles))
    assert seen["alpha"].reactive_awards == ()
    assert [a.offer_id for a in seen["beta"].reactive_awards] == ["roof"]
    assert seen["beta"].reactive_requests == ()
