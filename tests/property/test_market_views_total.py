"""The folds and decisions after the gate are total: no event of the catalogue, however strange, makes one fail."""

from dataclasses import fields, replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clearing import session as sessions
from clearing.facts import facts_uncleared
from clearing.session import Sessions
from clearing.snapshot import obstacle
from clearing.translation import case_of
from flexbus import codec
from flexbus import events as ev
from flexbus.catalogue import CATALOGUE
from flexbus.quantities import Direction
from flexbus.views import activation, aggregation, clearing, delivery, settlement
from flexbus.views.fact import Emission, Fact, Job
from tests import story
from tests.strange import START
from tests.strange import events as strange

VIEWS: list[tuple[Any, type[Any]]] = [
    (activation, activation.Activations),
    (aggregation, aggregation.Aggregates),
    (clearing, clearing.Results),
    (delivery, delivery.Evidence),
    (settlement, settlement.Settlements),
    (sessions, Sessions),
]


LATE = {"activation", "aggregation", "clearing", "metering", "settlement", "traffic_light", "flex_offer"}
CLOCK = {"GateClosed", "DeliveryStarted", "DeliveryEnded", "SettlementDue"}
ANY = st.sampled_from(sorted(CATALOGUE)).flatmap(lambda name: strange(CATALOGUE[name].event))
TRADE = st.sampled_from(sorted(n for n, k in CATALOGUE.items() if k.family in LATE or n in CLOCK)).flatmap(
    lambda name: strange(CATALOGUE[name].event)
)
# A market in the names that the generator draws from, so that its events find something to act on.
MARKET: tuple[Any, ...] = (
    ev.AreaOpened(area_id="a", name="A", fmo_id="fmo", time_zone="Europe/Helsinki"),
    ev.ParticipantRegistered(area_id="a", participant_id="a", name="A", roles=(ev.Role.DSO, ev.Role.FSP)),
    replace(
        story.NETWORK,
        area_id="a",
        buses=(story.bus("a"), story.bus("b")),
        branches=(story.line("a", "a", "b"),),
        infeed_points=(ev.InfeedPoint(infeed_id="a", bus_id="a", voltage_ppm=1_000_000),),
    ),
    replace(story.point("a", "a", "a"), area_id="a"),
    replace(story.point("b", "b", "b"), area_id="a"),
    replace(story.product(), area_id="a", product_id="a"),
    ev.MarketSessionScheduled(
        area_id="a",
        session_id="a",
        product_id="a",
        delivery_start_ms=START,
        delivery_end_ms=START + 8 * 900_000,
        gate_opens_ms=0,
        gate_closes_ms=1,
        settlement_due_ms=2,
    ),
    ev.NetForecastPublished(
        area_id="a",
        forecast_id="a",
        revision=1,
        network_id="grid",
        issued_at_ms=START * 2,
        start_ms=START,
        resolution_s=3600,
        injections=(ev.BusInjection(bus_id="a", power_w=(1, 2), reactive_power_var=(3, 4)),),
    ),
)


# The life of a session, between whose steps anything may happen.
STEPS: tuple[Any, ...] = (
    replace(story.baseline("a", 1, 2, 3), area_id="a", session_id="a", fsp_id="a", start_ms=START),
    ev.FlexOfferSubmitted(
        area_id="a",
        offer=replace(story.offer("a", "a").offer, session_id="a", fsp_id="a", start_ms=START),
    ),
    ev.GateClosed(area_id="a", session_id="a", at_ms=1),
    replace(
        story.cleared(replace(story.award("a", "a", (1, 0, 2, 3)), fsp_id="a", start_ms=START)),
        area_id="a",
        session_id="a",
    ),
    ev.DeliveryStarted(area_id="a", session_id="a", start_ms=START, end_ms=START + 900_000),
    replace(story.ordered("a", "a", 20_000, 2, 3), area_id="a", session_id="a", fsp_id="a", start_ms=START),
    replace(story.ordered("b", "a", 4, 5, direction=Direction.DOWN), area_id="a", session_id="a", start_ms=START),
    replace(story.reading("a", 9_000, -9), area_id="a", start_ms=START),
    ev.SettlementDue(area_id="a", session_id="a", at_ms=START),
    replace(story.reading("a", 1, 2, 3, revision=2), area_id="a", start_ms=START),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(st.lists(TRADE | ANY, max_size=4), min_size=len(STEPS), max_size=len(STEPS)))
def test_any_trade_between_the_steps_of_a_session_can_be_folded_and_decided(between: list[list[Any]]) -> None:
    check([*MARKET, *(e for step, strange in zip(STEPS, between, strict=True) for e in (step, *strange))])


def check(events: list[Any]) -> None:
    facts = [
        Fact(event=e, event_id=str(n), sender_id="a", on_behalf_of=None, received_at_ms=START, block=n, index=0)
        for n, e in enumerate(events)
    ]
    for view, new in VIEWS:
        state, again = new(), new()
        for fact in facts:
            state, again = view.fold(state, fact), view.fold(again, fact)
            for what in view.decide(state, fact) if hasattr(view, "decide") else ():
                if isinstance(what, Job):
                    (snapshot,) = what.arguments
                    assert obstacle(snapshot) is None
                    case_of(snapshot)
                    facts_uncleared(snapshot, "strange")
                else:
                    assert isinstance(what, Emission)
                    codec.encode(what.event)
        assert state == again
        reads = getattr(view, "READS", None)
        if reads is not None:
            least = new()
            for fact in facts:
                if type(fact.event).__name__ in reads:
                    least = view.fold(least, fact)
            # What is due belongs to the last fact, which may be one that is not read.
            assert without_due(least) == without_due(state)


def without_due(state: Any) -> Any:
    changes: dict[str, Any] = {}
    for field in fields(state):
        value = getattr(state, field.name)
        if field.name == "due":
            changes["due"] = ()
        elif hasattr(value, "due") or hasattr(value, "activations"):
            changes[field.name] = without_due(value)
    return replace(state, **changes)
