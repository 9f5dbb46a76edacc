"""What an offer or request can say on the bus, and that it clears as the same offer of a case file does."""

import json
from dataclasses import replace
from typing import Any

import pytest

from clearing.case import Case
from clearing.files import case_to_text, read_case
from clearing.pipeline import clear
from clearing.result import Result
from clearing.session import Sessions
from clearing.translation import case_of
from flexbus import codec
from flexbus import events as ev
from flexbus.errors import FaultyInputError
from flexbus.events import NonAwardReason
from flexbus.validation import content_faults
from flexbus.views.fact import Job
from tests.story import AREA, DAY, GATE_CLOSED, HOUR, SLOT, Story, opened
from tests.unit.test_snapshot import due, forecast, limited, request

JSON = dict[str, Any]
STACK = [{"power_w": 200_000, "price_milli_per_mwh": 50_000}, {"power_w": 300_000, "price_milli_per_mwh": 90_000}]
IN_CASE = [{"quantity": 200_000, "price_milli_per_mwh": 50_000}, {"quantity": 300_000, "price_milli_per_mwh": 90_000}]
LATER = [{"steps": []}, {"steps": STACK}, {"steps": STACK}, {"steps": STACK}]


def offered(name: str = "o", **fields: Any) -> ev.FlexOfferSubmitted:
    """An offer as a provider writes it."""
    offer: JSON = {
        "offer_id": name,
        "revision": 1,
        "session_id": "s1",
        "fsp_id": "alpha",
        "connection_point_id": "p1",
        "direction": "UP",
        "start_ms": DAY,
        "resolution_s": 900,
        "slots": [{"steps": STACK}] * 4,
    }
    event = codec.from_json({"type": "FlexOfferSubmitted", "area_id": AREA, "offer": offer | fields})
    assert content_faults(event) == ()
    assert codec.decode(codec.encode(event)) == event
    assert isinstance(event, ev.FlexOfferSubmitted)
    return event


def in_case(name: str = "o", **fields: Any) -> JSON:
    """The same offer in a case file."""
    slots = [{"steps": IN_CASE}] * 4
    return {"offer_id": name, "provider_id": "alpha", "bus_id": "n1", "direction": "UP", "slots": slots} | fields


def bus(*told: Any, **product: Any) -> tuple[Case, ev.MarketCleared]:
    """What the bus makes of it: the case, and the market that is published."""
    usual = () if any(isinstance(e, ev.NetForecastPublished) for e in told) else (forecast(),)
    (job,) = due(*usual, limited(500_000), *told, **product)
    assert isinstance(job, Job)
    *_, last = job.run(*job.arguments)
    return case_of(job.arguments[0]), last.event


def filed(case: Case, offers: list[JSON], **more: Any) -> Result:
    """The result of a case file that has these offers in place of those of the bus."""
    frame = json.loads(case_to_text(replace(case, offers=(), units=(), requests=())))
    return clear(read_case(json.dumps(frame | {"offers": offers} | more)))


def awarded(market: ev.MarketCleared) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Quantities and prices per offer over the four slots of the session, of either kind of power."""
    found = {}
    awards: tuple[ev.Award | ev.ReactiveAward, ...] = (*market.awards, *market.reactive_awards)
    for award in awards:
        if isinstance(award, ev.ReactiveAward):
            quantity, price = award.reactive_power_var, award.price_milli_per_mvarh
        else:
            quantity, price = award.power_w, award.price_milli_per_mwh
        first = (award.start_ms - DAY) // SLOT
        rest = (0,) * (4 - first - len(quantity))
        found[award.offer_id] = ((0,) * first + quantity + rest, (0,) * first + price + rest)
    return found


def taken(result: Result) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    return {
        o.offer_id: (o.quantity, tuple(p if q else 0 for q, p in zip(o.quantity, o.price_milli_per_mwh, strict=True)))
        for o in result.offers
        if any(o.quantity)
    }


def same(market: ev.MarketCleared, result: Result) -> bool:
    mine = {n: (q, tuple(p if w else 0 for w, p in zip(q, m, strict=True))) for n, (q, m) in awarded(market).items()}
    assert mine == taken(result)
    assert market.case_hash == result.case_hash
    return bool(mine)


STORAGE = {"initial_energy_wh": 60_000, "max_energy_wh": 100_000, "charge_efficiency_ppm": 900_000}
CIRCLE = {"max_apparent_power_va": 400_000, "max_tan_phi_ppm": 400_000, "baseline_power_w": [-50_000] * 4}
# What is said on the bus, and in a case file.
FEATURES: dict[str, tuple[JSON, JSON, list[JSON]]] = {
    "plain": ({}, {}, []),
    "tan phi": ({"terms": {"tan_phi_ppm": -300_000}}, {"tan_phi_ppm": -300_000}, []),
    "ramps": (
        {"terms": {"max_rise_w": 150_000, "max_fall_w": 400_000}},
        {"max_rise": 150_000, "max_fall": 400_000},
        [],
    ),
    "runs and rests": (
        {"terms": {"max_run_slots": 1, "min_rest_slots": 2}},
        {"max_run_slots": 1, "min_rest_slots": 2},
        [],
    ),
    "payback": (
        {"terms": {"payback": {"factor_ppm": 500_000, "delay_slots": 1, "window_slots": 2}}},
        {"payback": {"factor_ppm": 500_000, "delay_slots": 1, "window_slots": 2}},
        [],
    ),
    "start choice": (
        {
            "slots": [],
            "terms": {
                "start_choice": {
                    "profile_w": [200_000, 300_000],
                    "latest_start_ms": DAY + 2 * SLOT,
                    "price_milli_per_mwh": 50_000,
                }
            },
        },
        {
            "slots": [],
            "start_choice": {
                "profile": [200_000, 300_000],
                "earliest_slot": 0,
                "latest_slot": 2,
                "price_milli_per_mwh": 50_000,
            },
        },
        [],
    ),
    "slices": (
        {
            "slots": LATER[1:],
            "start_ms": DAY + SLOT,
            "terms": {
                "polygons": [
                    {
                        "slot": 1,
                        "vertices": [
                            {"energy_before_wh": 0, "energy_wh": 0},
                            {"energy_before_wh": 0, "energy_wh": 100_000},
                            {"energy_before_wh": 60_000, "energy_wh": 0},
                        ],
                    }
                ]
            },
        },
        {
            "slots": [{}] + [{"steps": IN_CASE}] * 3,
            "polygons": [
                {
                    "slot": 2,
                    "vertices": [
                        {"energy_before_wh": 0, "energy_wh": 0},
                        {"energy_before_wh": 0, "energy_wh": 100_000},
                        {"energy_before_wh": 60_000, "energy_wh": 0},
                    ],
                }
            ],
        },
        [],
    ),
    "storage": (
        {"terms": {"unit_id": "cell", "storage": STORAGE | {"min_final_energy_wh": 10_000}}},
        {"unit_id": "alpha/cell"},
        [{"unit_id": "alpha/cell", "kind": "STORAGE", "min_final_energy_wh": 10_000, **STORAGE}],
    ),
    "inverter": (
        {"terms": {"unit_id": "roof", "inverter": CIRCLE, "tan_phi_ppm": 100_000}},
        {"unit_id": "alpha/roof", "tan_phi_ppm": 100_000},
        [{"unit_id": "alpha/roof", "kind": "INVERTER", **CIRCLE}],
    ),
}


@pytest.mark.parametrize("name", FEATURES)
def test_an_offer_of_the_bus_clears_as_that_of_a_case_file(name: str) -> None:
    said, written, units = FEATURES[name]
    case, market = bus(offered(**said))
    assert same(market, filed(case, [in_case(**written)], units=units))
    # and it is the feature that is cleared: without it something else comes out
    if name != "plain":
        _, without = bus(offered(**(said | {"terms": None, "slots": said.get("slots") or [{"steps": STACK}] * 4})))
        assert without.result_hash != market.result_hash


def test_the_award_of_a_profile_begins_at_the_start_that_was_chosen() -> None:
    _, market = bus(forecast(-100_000, -100_000, -700_000, -800_000), offered(**FEATURES["start choice"][0]))
    (award,) = market.awards
    assert (award.start_ms, award.power_w) == (DAY + 2 * SLOT, (200_000, 300_000))


def test_two_offers_of_one_storage_share_what_is_stored() -> None:
    empty = STORAGE | {"initial_energy_wh": 0}
    charge = [{"steps": [{"power_w": 100_000, "price_milli_per_mwh": -10_000}]}] * 4
    told = (
        forecast(-100_000, -100_000, -700_000, -700_000),
        offered("out", terms={"unit_id": "cell"}, slots=LATER),
        offered("in", direction="DOWN", slots=charge, terms={"unit_id": "cell", "storage": empty}),
    )
    case, market = bus(*told)
    units = [{"unit_id": "alpha/cell", "kind": "STORAGE", **empty}]
    down = [{"steps": [{"quantity": 100_000, "price_milli_per_mwh": -10_000}]}] * 4
    out = in_case("out", unit_id="alpha/cell", slots=[{}] + [{"steps": IN_CASE}] * 3)
    into = in_case("in", unit_id="alpha/cell", slots=down, direction="DOWN")
    assert same(market, filed(case, [into, out], units=units))
    quantities = {n: sum(q) for n, (q, _) in awarded(market).items()}
    # nothing was stored before, and charging loses a tenth; awards are rounded to whole W
    assert 0 < quantities["out"] <= quantities["in"] * 0.9 + 1


def test_the_newest_description_of_a_unit_counts() -> None:
    first = offered("a", terms={"unit_id": "cell", "storage": STORAGE})
    second = offered("b", terms={"unit_id": "cell", "storage": STORAGE | {"initial_energy_wh": 7}})
    (unit,) = bus(first, second)[0].units
    assert unit.initial_energy_wh == 7
    (unit,) = bus(second, first)[0].units
    assert unit.initial_energy_wh == 60_000


VAR = [{"reactive_power_var": 100_000, "price_milli_per_mvarh": 2_000}]
VAR_IN_CASE = [{"quantity": 100_000, "price_milli_per_mwh": 2_000}]
ASKED = [
    {"steps": [{"reactive_power_var": 40_000, "price_milli_per_mvarh": 9_000}], "min_reactive_power_var": 40_000},
    {
        "steps": [
            {"reactive_power_var": 40_000, "price_milli_per_mvarh": 9_000},
            {"reactive_power_var": 90_000, "price_milli_per_mvarh": 5_000},
        ]
    },
]
ASKED_IN_CASE = [
    {},
    {"steps": [{"quantity": 40_000, "price_milli_per_mwh": 9_000}], "min_quantity": 40_000},
    {"steps": [{"quantity": 40_000, "price_milli_per_mwh": 9_000}, {"quantity": 90_000, "price_milli_per_mwh": 5_000}]},
    {},
]


def asked(**fields: Any) -> ev.FlexRequestSubmitted:
    """A request as a buyer writes it."""
    filled: JSON = {
        "request_id": "r",
        "revision": 1,
        "session_id": "s1",
        "requester_id": "tso",
        "direction": "UP",
        "location_kind": "BUS",
        "location_id": "n1",
        "start_ms": DAY + SLOT,
        "resolution_s": 900,
        "power_w": [],
        "max_price_milli_per_mwh": 0,
    }
    event = codec.from_json({"type": "FlexRequestSubmitted", "area_id": AREA, "request": filled | fields})
    assert content_faults(event) == ()
    assert isinstance(event, ev.FlexRequestSubmitted)
    return event


REACTIVE = {"slots": [{"steps": VAR, "min_reactive_power_var": 10_000}] * 4, "max_energy_varh": 30_000}


def test_reactive_power_is_offered_and_asked_for() -> None:
    told = offered("q", slots=[], terms={"reactive": REACTIVE}), asked(reactive_slots=ASKED)
    case, market = bus(*told, step_w=10_000)
    slots = [{"steps": VAR_IN_CASE, "min_quantity": 10_000}] * 4
    written = in_case("q", quantity="REACTIVE", slots=slots, max_energy_wh=30_000)
    wish = {
        "request_id": "r",
        "requester_id": "tso",
        "kind": "TSO",
        "quantity": "REACTIVE",
        "direction": "UP",
        "location_kind": "BUS",
        "location_id": "n1",
        "slots": ASKED_IN_CASE,
    }
    result = filed(case, [written], requests=[wish])
    assert same(market, result)
    (award,) = market.reactive_awards
    assert market.awards == ()
    assert sum(award.reactive_power_var) * 900 // 3600 <= 30_000
    (got,) = market.reactive_requests
    assert market.requests == ()
    assert (got.requested_var, got.matched_var) == ((40_000, 130_000), result.requests[0].matched[1:3])
    assert got.matched_var[0] == 40_000
    # watts and vars are not added up
    assert [s.requested_w for s in market.slots] == [0] * 4
    unmet = [{(u.kind.value, u.element_id): u.amount for u in s.unmet} for s in market.slots]
    assert unmet[2]["REQUEST", "r"] == 130_000 - got.matched_var[1] > 0
    assert [s.shortfall_w for s in market.slots] == [sum(a for (k, _), a in u.items() if k == "IMPORT") for u in unmet]


def test_a_demand_curve_is_bought_step_by_step() -> None:
    steps = [
        {"power_w": 200_000, "price_milli_per_mwh": 120_000},
        {"power_w": 100_000, "price_milli_per_mwh": 60_000},
    ]
    wish = asked(
        location_kind="AREA",
        location_id=AREA,
        start_ms=DAY,
        power_w=[300_000],
        max_price_milli_per_mwh=120_000,
        curve=[{"steps": steps, "min_power_w": 50_000}],
    )
    case, market = bus(forecast(*(-1_000,) * 4), offered(slots=[{"steps": STACK}]), wish)
    (row,) = case.requests
    assert [(s.quantity, s.price_milli_per_mwh) for s in row.slots[0].steps] == [(200_000, 120_000), (100_000, 60_000)]
    assert (row.slots[0].min_quantity, row.location_id) == (50_000, "")
    assert market.requests[0].matched_w == (200_000,)  # the last 100 kW are worth less than the second step asks


def test_a_case_file_does_not_name_a_part_of_the_area() -> None:
    wish = {"request_id": "r", "direction": "UP", "location_kind": "AREA", "location_id": "east", "slots": [{}] * 4}
    case, _ = bus(offered())
    with pytest.raises(FaultyInputError) as caught:
        filed(case, [], requests=[wish])
    assert [(f.path, f.code.value) for f in caught.value.faults] == [("$.requests[0].location_id", "BAD_VALUE")]


def test_real_time_clears_as_the_day_before_does() -> None:
    case, market = bus(offered(), phase=ev.MarketPhase.REAL_TIME)
    assert case.phase.value == "REAL_TIME"
    assert awarded(market) == awarded(bus(offered())[1]) != {}


def test_a_request_that_names_another_area_is_not_taken_for_one_here() -> None:
    elsewhere = request("r", location_kind=ev.LocationKind.AREA, location_id="east")
    case, market = bus(elsewhere)
    assert case.requests == ()
    assert market.requests[0].matched_w == (0, 0, 0, 0)
    assert "AREA east is not on the network" in market.requests[0].reason


def test_what_nobody_can_keep_is_left_out_by_name_and_the_others_are_cleared() -> None:
    hopeless = {"initial_energy_wh": 0, "max_energy_wh": 100_000, "min_final_energy_wh": 90_000}
    told = (
        offered("cell-out", terms={"unit_id": "cell", "storage": hopeless}),
        offered("child", parent_offer_id="cell-out"),
        offered("good"),
    )
    case, market = bus(*told)
    assert set(awarded(market)) == {"good"}
    reasons = {n.offer_id: n for n in market.non_awards}
    assert reasons["cell-out"].reason is NonAwardReason.OTHER_CONSTRAINT
    assert "min_final_energy_wh: slot 3: between" in reasons["cell-out"].text
    assert reasons["child"].reason is NonAwardReason.OTHER_CONSTRAINT
    assert "no offer has the id 'cell-out'" in reasons["child"].text
    assert same(market, filed(case, [in_case("good")]))


def test_a_unit_in_the_way_is_named_as_its_provider_names_it() -> None:
    #  the longest name that there may be; with the provider's before it, the market could not be told
    name = "c" * 128
    little = {"initial_energy_wh": 10_000, "max_energy_wh": 100_000}
    _, market = bus(offered("a", terms={"unit_id": name, "storage": little}))
    assert content_faults(market) == ()
    assert name in {n.element_id for n in market.non_awards}


def test_an_offer_of_a_unit_that_nobody_described_is_left_out_by_name() -> None:
    _, market = bus(offered("lost", terms={"unit_id": "cell"}), offered("good"))
    assert set(awarded(market)) == {"good"}
    (lost,) = (n for n in market.non_awards if n.offer_id == "lost")
    assert "its unit cell is described by no offer" in lost.text


def test_awards_of_an_earlier_session_stand_with_their_payback_and_reactive_power() -> None:
    story = Story(__import__("clearing.session", fromlist=["fold"]), Sessions())
    for event in (*opened(), limited(500_000), forecast(-1_000_000, -9, -9, -9)):
        story.hear(event)
    payback = {"factor_ppm": 1_000_000, "delay_slots": 0, "window_slots": 2}
    story.hear(offered(slots=[{"steps": STACK}], terms={"payback": payback, "tan_phi_ppm": 500_000}))
    (job,) = story.hear(GATE_CLOSED)
    assert isinstance(job, Job)
    *_, market = job.run(*job.arguments)
    story.hear(market.event, market.event_id)
    (terms,) = market.event.award_terms
    assert terms.tan_phi_ppm == 500_000
    second = ev.MarketSessionScheduled(
        area_id=AREA,
        session_id="s2",
        product_id="day-ahead",
        delivery_start_ms=DAY,
        delivery_end_ms=DAY + HOUR,
        gate_opens_ms=DAY - HOUR,
        gate_closes_ms=DAY - SLOT,
        settlement_due_ms=DAY + 48 * HOUR,
    )
    story.hear(second)
    (job,) = story.hear(ev.GateClosed(area_id=AREA, session_id="s2", at_ms=DAY - SLOT))
    assert isinstance(job, Job)
    fixed = {a.award_id.partition("/")[2]: a for a in case_of(job.arguments[0]).fixed_awards}
    power = fixed[""].power[0]
    assert power > 0
    half = (0, (power + 1) // 2, (power + 1) // 2, 0)
    assert (fixed["payback"].power, fixed["payback"].direction.value) == (half, "DOWN")
    assert fixed["var"].power == (power // 2, 0, 0, 0)
    assert fixed["payback/var"].quantity.value == "REACTIVE"
