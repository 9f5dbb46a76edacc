"""Folds and checks are total: no event of the catalogue, however strange, makes one of them fail.

Events are made from the field types alone with few identifiers, so that histories collide, refer to each other,
come in the wrong order and contradict one another far more than any market does.
"""

import types
from collections import Counter
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from flexbus import events as ev
from flexbus.catalogue import CATALOGUE
from flexbus.errors import Fault
from flexbus.quantities import Direction
from flexbus.validation import Admission, admission_faults, content_faults, fold_admission
from flexbus.views import book, congestion, registry, traffic_light
from flexbus.views.fact import Emission, Fact
from tests.market import (
    START,
    baseline,
    gate_closed,
    gate_opened,
    network,
    offer,
    open_market,
    product,
    request,
    session,
)

NAMES = st.sampled_from(["a", "b", "fmo", "DA", "GCP-1", "o1", "o2"])


@cache
def values(name: str, kind: Any) -> st.SearchStrategy[Any]:
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in (Union, types.UnionType):
        return st.none() | values(name, next(a for a in get_args(kind) if a is not type(None)))
    if get_origin(kind) is tuple:
        return st.lists(values(name, get_args(kind)[0]), max_size=3).map(tuple)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return st.sampled_from(list(kind))
    if is_dataclass(kind):
        return instances(kind)
    if kind is bool:
        return st.booleans()
    if kind is str:
        return NAMES
    if kind is bytes:
        return st.sampled_from([bytes(32), bytes(range(32)), b"", bytes(33)])
    if kind is float:
        return st.sampled_from([0.0, 1.0, -1.0])
    if name.endswith("_ms"):
        return st.integers(-1, 8).map(lambda n: START + n * 900_000)
    if name == "resolution_s":
        return st.sampled_from([300, 900, 3600])
    if name.endswith("revision"):
        return st.integers(1, 3)
    if name.endswith(("_w", "_wh", "_var", "_varh", "_ppm", "_s")):
        return st.sampled_from([1_000, 20_000, 0, 1_000_000])
    return st.sampled_from([2, -2, 1_000_000, 0])


def instances(cls: Any) -> st.SearchStrategy[Any]:
    return _instances(cls)


@cache
def _instances(cls: Any) -> st.SearchStrategy[Any]:
    hints = get_type_hints(cls, include_extras=True)
    parts = {f.name: st.just("north") if f.name == "area_id" else values(f.name, hints[f.name]) for f in fields(cls)}
    return st.builds(cls, **parts)


def history(events: list[Any]) -> list[Fact]:
    return [
        Fact(event=e, event_id=str(n), sender_id="a", on_behalf_of=None, received_at_ms=START, block=n, index=0)
        for n, e in enumerate(events)
    ]


def views() -> list[tuple[Any, Any]]:
    return [
        (registry, registry.Registry()),
        (book, book.Book()),
        (traffic_light, traffic_light.TrafficLights()),
        (congestion, congestion.Congestion()),
    ]


IDS = st.sampled_from(["o1", "o2", "o3"])
SESSIONS = st.sampled_from(["DA", "ID"])
REVISIONS = st.integers(2, 4)
WATTS = st.sampled_from([1_000, 50_000, 300_000])
SIGNED = st.sampled_from([-200_000, 0, 450_000])
POINTS = st.sampled_from(["GCP-1", "GCP-2", "GCP-3"])
STARTS = st.integers(0, 6).map(lambda k: START + k * 900_000)


def offers(revision: st.SearchStrategy[int]) -> st.SearchStrategy[Any]:
    return st.builds(
        offer,
        IDS,
        point_id=POINTS,
        steps=st.sampled_from([((100_000, 10),), ((50_000, 5), (200_000, 90))]),
        slots=st.integers(1, 5),
        direction=st.sampled_from(list(Direction)),
        revision=revision,
        session_id=SESSIONS,
        start_ms=STARTS,
        all_or_nothing=st.booleans(),
        exclusive_group_id=st.none() | st.just("g"),
    )


def terms() -> st.SearchStrategy[dict[str, Any]]:
    """Fields of sound offers with terms of their own."""
    unit = {"unit_id": st.sampled_from(["u1", "u2"])}
    var = ev.ReactiveSlot(steps=(ev.ReactiveStep(reactive_power_var=5_000, price_milli_per_mvarh=2_000),))
    stores = st.builds(
        ev.Storage,
        initial_energy_wh=st.sampled_from([0, 50_000]),
        max_energy_wh=st.just(50_000),
        min_final_energy_wh=st.none() | st.just(50_000),
        baseline_power_w=st.just(()) | st.just((-7,) * 96),
    )
    circle = st.just(ev.Inverter(max_apparent_power_va=300_000))
    corners = (ev.PolygonVertex(energy_before_wh=0, energy_wh=0), ev.PolygonVertex(energy_before_wh=9, energy_wh=99))
    tied = st.builds(
        ev.OfferTerms,
        tan_phi_ppm=st.sampled_from([0, -400_000]),
        max_run_slots=st.none() | st.just(1),
        min_rest_slots=st.sampled_from([0, 2]),
        max_rise_w=st.none() | WATTS,
        payback=st.none() | st.just(ev.Payback(factor_ppm=900_000, delay_slots=1, window_slots=3)),
        polygons=st.just(()) | st.just((ev.PolygonSlice(slot=0, vertices=corners),)),
    )
    rigid = st.builds(
        ev.StartChoice,
        profile_w=st.sampled_from([(50_000,), (100_000, 0, 300_000)]),
        latest_start_ms=st.integers(6, 9).map(lambda k: START + k * 900_000),
        price_milli_per_mwh=st.sampled_from([-5, 40]),
    )
    reactive = st.builds(ev.ReactiveOffer, slots=st.lists(st.just(var), min_size=1, max_size=3).map(tuple))
    of_unit = st.builds(ev.OfferTerms, **unit, storage=st.none() | stores)
    of_roof = st.builds(ev.OfferTerms, **unit, reactive=st.none() | reactive, inverter=st.none() | circle)
    plain = st.none() | tied | of_unit
    return plain.map(lambda t: {"terms": t}) | (
        st.builds(ev.OfferTerms, start_choice=rigid) | st.builds(ev.OfferTerms, reactive=reactive) | of_roof
    ).map(lambda t: {"terms": t, "slots": ()} if t.reactive or t.start_choice else {"terms": t})


def offers_with_terms(revision: st.SearchStrategy[int]) -> st.SearchStrategy[Any]:
    plain = offers(revision).map(lambda o: replace(o, all_or_nothing=False))
    return st.builds(lambda o, changes: replace(o, **changes), plain, terms())


def requests(revision: st.SearchStrategy[int]) -> st.SearchStrategy[Any]:
    return st.builds(
        request,
        IDS,
        revision=revision,
        session_id=SESSIONS,
        location_id=st.sampled_from(["L1", "T1"]),
        power_w=st.lists(WATTS, min_size=1, max_size=4).map(tuple),
        start_ms=STARTS,
    )


def within(cls: Any, **parts: Any) -> st.SearchStrategy[Any]:
    return st.builds(cls, area_id=st.just("north"), **parts)


def cleared(e: ev.MarketCleared, slots: list[ev.ClearedSlot]) -> ev.MarketCleared:
    """Make the series of a cleared session fit each other."""

    def fitting(values: tuple[int, ...], others: tuple[int, ...]) -> tuple[int, ...]:
        return (*values, *others)[: len(others)]

    awards = (replace(a, start_ms=START, power_w=a.power_w or (1_000,)) for a in e.awards)
    asked = (replace(r, requested_w=r.requested_w or (1_000,)) for r in e.requests)
    return replace(
        e,
        start_ms=START,
        slots=tuple(replace(s, start_ms=START + n * e.resolution_s * 1000) for n, s in enumerate(slots)),
        awards=tuple(replace(a, price_milli_per_mwh=fitting(a.price_milli_per_mwh, a.power_w)) for a in awards),
        requests=tuple(replace(r, matched_w=fitting(r.matched_w, r.requested_w)) for r in asked),
        reactive_awards=(),
        reservations=(),
        award_terms=(),
        reactive_requests=(),
    )


# Classes whose sound events chance does not hit; the others are made from their field types.
INTRICATE: dict[str, st.SearchStrategy[Any]] = {
    "AreaOpened": within(ev.AreaOpened, name=NAMES, fmo_id=NAMES, time_zone=st.just("Europe/Helsinki")),
    "NetworkModelPublished": st.builds(network, REVISIONS),
    "MarketProductDefined": st.builds(
        product,
        request_max_price_milli_per_mwh=st.none() | st.just(90_000),
        sensitivity_ppm=st.sampled_from([500_000, 1_000_000]),
    ),
    "MarketSessionScheduled": st.builds(session, SESSIONS, gate_closes_ms=st.sampled_from([START - 1, START])),
    "FlexOfferSubmitted": within(ev.FlexOfferSubmitted, offer=offers(st.just(1)) | offers_with_terms(st.just(1))),
    "FlexOfferReplaced": within(ev.FlexOfferReplaced, offer=offers(REVISIONS) | offers_with_terms(REVISIONS)),
    "FlexRequestSubmitted": within(ev.FlexRequestSubmitted, request=requests(st.just(1))),
    "FlexRequestAmended": within(ev.FlexRequestAmended, request=requests(REVISIONS)),
    "GateOpened": st.builds(gate_opened, SESSIONS),
    "GateClosed": st.builds(gate_closed, SESSIONS),
    "NetForecastPublished": within(
        ev.NetForecastPublished,
        forecast_id=IDS,
        revision=REVISIONS,
        network_id=st.just("grid"),
        issued_at_ms=STARTS,
        start_ms=STARTS,
        resolution_s=st.just(900),
        injections=st.just((ev.BusInjection(bus_id="B1", power_w=(1,), reactive_power_var=(0,)),)),
    ),
    "BaselineSubmitted": st.builds(baseline, POINTS, power_w=SIGNED, revision=REVISIONS, session_id=SESSIONS),
    "ScheduleSubmitted": within(
        ev.ScheduleSubmitted,
        schedule_id=IDS,
        revision=REVISIONS,
        connection_point_id=POINTS,
        fsp_id=NAMES,
        session_id=SESSIONS,
        start_ms=STARTS,
        resolution_s=st.just(900),
        power_w=st.lists(SIGNED, min_size=1, max_size=4).map(tuple),
    ),
    "CapacityLimitForeseen": within(
        ev.CapacityLimitForeseen,
        limit_id=IDS,
        revision=REVISIONS,
        connection_point_id=POINTS,
        start_ms=STARTS,
        end_ms=STARTS.map(lambda at: at + 6_300_000),
        max_feed_in_w=st.none() | WATTS,
        max_draw_w=WATTS,
        reason=st.just("works"),
    ),
    "TrafficLightSet": within(
        ev.TrafficLightSet,
        light_id=IDS,
        revision=REVISIONS,
        connection_point_id=POINTS,
        start_ms=st.just(START),
        end_ms=st.integers(1, 3).map(lambda h: START + h * 3_600_000),
        colour=st.just(ev.Colour.YELLOW),
        max_up_w=WATTS,
        max_down_w=st.none() | WATTS,
    ),
    "MarketCleared": st.builds(
        cleared, instances(ev.MarketCleared), st.lists(instances(ev.ClearedSlot), min_size=1, max_size=3)
    ),
    "CongestionForecastReceived": within(
        ev.CongestionForecastReceived,
        forecast_id=IDS,
        revision=st.integers(1, 4),
        session_id=st.none() | SESSIONS,
        element_id=st.sampled_from(["T1", "L1", "L2", "GRID", "nowhere"]),
        kind=st.just(ev.CongestionKind.THERMAL),
        issued_at_ms=STARTS.map(lambda at: at - 50_000_000),
        start_ms=STARTS,
        resolution_s=st.just(900),
        flow_w=st.lists(st.none() | st.integers(-3_000_000, 3_000_000), min_size=1, max_size=6).map(tuple),
        limit_import_w=st.just(1_000_000),
        limit_export_w=st.none() | st.just(1_000_000),
    ),
}


@cache
def likely(name: str) -> st.SearchStrategy[Any]:
    return INTRICATE[name] if name in INTRICATE else instances(CATALOGUE[name].event)


LIKELY = st.one_of(
    st.sampled_from(sorted(CATALOGUE)).flatmap(likely),
    st.sampled_from(sorted(INTRICATE)).flatmap(likely),
    likely("CongestionForecastReceived"),
    within(ev.FlexOfferSubmitted, offer=offers_with_terms(st.just(1))),
)


def told(events: list[Any]) -> list[str]:
    """Fold a history with every view; return the types of what falls due."""
    states, found = views(), []
    for fact in history(events):
        for view, state in states:
            assert view.fold(state, fact) is state
            if hasattr(view, "decide"):
                for due in view.decide(state, fact):
                    assert isinstance(due, Emission)
                    found.append(type(due.event).__name__)
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(LIKELY, min_size=15, max_size=40))
def test_any_event_can_be_judged_at_any_position(events: list[Any]) -> None:
    admission = Admission()
    for fact in history(events):
        for fault in content_faults(fact.event):
            assert isinstance(fault, Fault)
        if not content_faults(fact.event):
            for sender in ("a", "fmo", "scheduler", "congestion"):
                for fault in admission_faults(admission, fact.event, sender, None, START):
                    assert isinstance(fault, Fault)
            fold_admission(admission, fact)


PROLOGUE = [
    *(fact.event for fact in open_market().facts),
    product(request_max_price_milli_per_mwh=90_000),
    session("ID"),
    gate_opened("ID"),
]


def test_any_history_of_sound_events_can_be_folded() -> None:
    folded: Counter[str] = Counter()
    due: Counter[str] = Counter()
    said: Counter[str] = Counter()

    @settings(max_examples=200, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(LIKELY, min_size=25, max_size=60))
    def check(events: list[Any]) -> None:
        sound = [e for e in events if not content_faults(e)]
        folded.update(type(e).__name__ for e in sound)
        known = (e.offer.terms for e in sound if isinstance(e, ev.FlexOfferSubmitted) and e.offer.terms is not None)
        said.update(f.name for t in known for f in fields(t) if getattr(t, f.name))
        told(sound)
        due.update(told([*PROLOGUE, *sound, gate_closed("DA"), gate_closed("ID")]))

    check()
    # The test is worth nothing if chance makes no sound events, or none on which the views decide something.
    assert len(folded) > 0.8 * len(CATALOGUE)
    assert {"FlexOfferClipped", "TrafficLightChanged", "NeedComputed", "FlexRequestSubmitted"} <= set(due)
    assert {f.name for f in fields(ev.OfferTerms)} - set(said) <= {"max_fall_w", "reservation_price_milli_per_mwh"}


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_every_view_folds_every_event_of_the_catalogue(name: str) -> None:
    many = settings(
        max_examples=5000,
        derandomize=True,
        database=None,
        phases=[Phase.generate],  # any sound event will do, the smallest one takes seconds to find
        suppress_health_check=list(HealthCheck),
    )
    told([*PROLOGUE, find(likely(name), lambda e: not content_faults(e), settings=many)])
