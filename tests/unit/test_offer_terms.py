"""What is particular to an offer is checked field by field: every fault with its path and code."""

from dataclasses import replace
from typing import Any

import pytest

from flexbus import codec
from flexbus import events as ev
from flexbus.events import MarketPhase
from flexbus.validation import content_faults
from tests.market import (
    AREA,
    DSO,
    FSP_A,
    QUARTER,
    START,
    Market,
    codes,
    founded,
    gate_opened,
    offer,
    open_market,
    point,
    product,
    request,
    session,
)

JSON = dict[str, Any]


def terms(**fields: Any) -> ev.OfferTerms:
    """Terms as a provider writes them."""
    return codec.from_json_as(fields, ev.OfferTerms)


def with_terms(offer_id: str = "o1", *, slots: int = 4, **fields: Any) -> ev.FlexOffer:
    reactive = {"start_choice", "reactive"} & set(fields)
    return offer(offer_id, slots=0 if reactive else slots, terms=terms(**fields))


def faults(o: ev.FlexOffer) -> dict[str, str]:
    found = content_faults(ev.FlexOfferSubmitted(area_id=AREA, offer=o))
    assert all(len(f.message) > 10 for f in found)
    return {path.removeprefix("$.offer."): code for path, code in codes(found).items()}


def var(quantity: int = 100_000, price: int = 2_000) -> JSON:
    return {"reactive_power_var": quantity, "price_milli_per_mvarh": price}


Q: JSON = {"slots": [{"steps": [var()]}] * 4}
PROFILE: JSON = {"profile_w": [50_000, 0, 90_000], "latest_start_ms": START + 3 * QUARTER, "price_milli_per_mwh": 5}
STORAGE: JSON = {"initial_energy_wh": 50_000, "max_energy_wh": 100_000}
CIRCLE: JSON = {"max_apparent_power_va": 100_000}
BACK: JSON = {"factor_ppm": 900_000, "window_slots": 4}


def slice_(slot: int, corners: int = 3) -> JSON:
    return {"slot": slot, "vertices": [{"energy_before_wh": n, "energy_wh": n * n} for n in range(corners)]}


GOOD: dict[str, JSON] = {
    "nothing": {},
    "reactive": {"reactive": Q, "min_rest_slots": 2, "unit_id": "u", "inverter": CIRCLE},
    "start choice": {"start_choice": PROFILE, "payback": BACK, "tan_phi_ppm": -200_000},
    "runs": {"max_run_slots": 1, "min_rest_slots": 400, "max_rise_w": 0, "max_fall_w": 5},
    "slices": {"polygons": [slice_(0), slice_(3, 1)]},
    "storage": {"unit_id": "u", "storage": STORAGE},
    "inverter": {"unit_id": "u", "inverter": CIRCLE | {"max_tan_phi_ppm": 500_000}},
    "reservation": {"reservation_price_milli_per_mwh": [0, 1, 2, 3]},
}


@pytest.mark.parametrize("name", GOOD)
def test_good_terms_have_no_fault_and_survive_the_wire(name: str) -> None:
    o = with_terms(**GOOD[name])
    assert faults(o) == {}
    event = ev.FlexOfferSubmitted(area_id=AREA, offer=o)
    assert codec.decode(codec.encode(event)) == event
    assert codec.from_json(codec.to_json(event)) == event


BAD: dict[str, tuple[JSON, dict[str, str]]] = {
    "reactive without slots": ({"reactive": {"slots": []}}, {"terms.reactive.slots": "BAD_SERIES"}),
    "nothing reactive": ({"reactive": {"slots": [{"steps": []}]}}, {"terms.reactive.slots": "BAD_QUANTITY"}),
    "reactive prices fall": (
        {"reactive": {"slots": [{"steps": [var(), var(1_000, 1_999)]}]}},
        {"terms.reactive.slots[0].steps[1].price_milli_per_mvarh": "BAD_PRICE"},
    ),
    "21 reactive steps": (
        {"reactive": {"slots": [{"steps": [var(1, n) for n in range(21)]}]}},
        {"terms.reactive.slots[0].steps": "BAD_SERIES"},
    ),
    "no var, minimum too large": (
        {"reactive": {"slots": [{"steps": [var(0), var(5, 3_000)], "min_reactive_power_var": 6}]}},
        {
            "terms.reactive.slots[0].steps[0].reactive_power_var": "BAD_QUANTITY",
            "terms.reactive.slots[0].min_reactive_power_var": "BAD_QUANTITY",
        },
    ),
    "reactive budgets": (
        {"reactive": Q | {"min_energy_varh": 200_000, "max_energy_varh": 100_000}},
        {"terms.reactive.min_energy_varh": "BAD_QUANTITY"},
    ),
    "reactive and active at once": (
        {
            "reactive": Q,
            "tan_phi_ppm": 1,
            "max_rise_w": 1,
            "max_fall_w": 1,
            "polygons": [slice_(0)],
            "unit_id": "u",
            "storage": STORAGE,
        },
        {
            "terms.tan_phi_ppm": "BAD_VALUE",
            "terms.max_rise_w": "BAD_VALUE",
            "terms.max_fall_w": "BAD_VALUE",
            "terms.polygons": "BAD_VALUE",
            "terms.storage": "BAD_VALUE",
        },
    ),
    "profile": (
        {"start_choice": PROFILE | {"profile_w": [0, 5], "latest_start_ms": START - QUARTER}},
        {
            "terms.start_choice.profile_w": "BAD_QUANTITY",
            "terms.start_choice.latest_start_ms": "BAD_PERIOD",
        },
    ),
    "no profile, crooked window": (
        {"start_choice": PROFILE | {"profile_w": [], "latest_start_ms": START + 1}},
        {"terms.start_choice.profile_w": "BAD_SERIES", "terms.start_choice.latest_start_ms": "BAD_PERIOD"},
    ),
    "profile with what is not rigid": (
        {
            "start_choice": PROFILE,
            "max_run_slots": 1,
            "min_rest_slots": 1,
            "max_rise_w": 1,
            "max_fall_w": 1,
            "unit_id": "u",
            "reservation_price_milli_per_mwh": [1],
        },
        {
            "terms.max_run_slots": "BAD_VALUE",
            "terms.min_rest_slots": "BAD_VALUE",
            "terms.max_rise_w": "BAD_VALUE",
            "terms.max_fall_w": "BAD_VALUE",
            "terms.unit_id": "BAD_VALUE",
            "terms.reservation_price_milli_per_mwh": "BAD_VALUE",
        },
    ),
    "runs": (
        {"max_run_slots": 0, "min_rest_slots": -1, "max_rise_w": -1, "tan_phi_ppm": 10_000_001},
        {
            "terms.max_run_slots": "BAD_VALUE",
            "terms.min_rest_slots": "BAD_VALUE",
            "terms.max_rise_w": "BAD_QUANTITY",
            "terms.tan_phi_ppm": "BAD_QUANTITY",
        },
    ),
    "payback": (
        {"payback": {"factor_ppm": 10_000_001, "delay_slots": -1, "window_slots": 0}},
        {
            "terms.payback.factor_ppm": "BAD_QUANTITY",
            "terms.payback.delay_slots": "BAD_VALUE",
            "terms.payback.window_slots": "BAD_VALUE",
        },
    ),
    "slices": (
        {"polygons": [slice_(4), slice_(1, 0), slice_(1, 65)]},
        {
            "terms.polygons[0].slot": "BAD_VALUE",
            "terms.polygons[1].vertices": "BAD_SERIES",
            "terms.polygons[2].slot": "DUPLICATE_ID",
            "terms.polygons[2].vertices": "BAD_SERIES",
        },
    ),
    "unit without a name": ({"storage": STORAGE}, {"terms.storage": "BAD_VALUE"}),
    "two units": ({"unit_id": "u", "storage": STORAGE, "inverter": CIRCLE}, {"terms.inverter": "BAD_VALUE"}),
    "storage": (
        {
            "unit_id": "u",
            "storage": {
                "initial_energy_wh": 101_000,
                "max_energy_wh": 100_000,
                "min_final_energy_wh": 100_001,
                "charge_efficiency_ppm": 0,
                "discharge_efficiency_ppm": 1_000_001,
                "self_discharge_ppm_per_h": 1_000_000,
                "baseline_power_w": [-1] * 193,
            },
        },
        {
            "terms.storage.initial_energy_wh": "BAD_QUANTITY",
            "terms.storage.min_final_energy_wh": "BAD_QUANTITY",
            "terms.storage.charge_efficiency_ppm": "BAD_VALUE",
            "terms.storage.discharge_efficiency_ppm": "BAD_VALUE",
            "terms.storage.self_discharge_ppm_per_h": "BAD_VALUE",
            "terms.storage.baseline_power_w": "BAD_SERIES",
        },
    ),
    "storage upside down": (
        {"unit_id": "u", "storage": STORAGE | {"min_energy_wh": 100_001}},
        {"terms.storage.max_energy_wh": "BAD_QUANTITY"},
    ),
    "inverter of nothing": (
        {"unit_id": "u", "inverter": {}},
        {"terms.inverter.max_apparent_power_va": "MISSING_FIELD"},
    ),
    "inverter outside": (
        {
            "unit_id": "u",
            "inverter": CIRCLE
            | {
                "max_tan_phi_ppm": 500_000,
                "baseline_power_w": [100_010, -10],
                "baseline_reactive_power_var": [0, 7],
            },
        },
        {
            "terms.inverter.baseline_power_w[0]": "BAD_QUANTITY",
            "terms.inverter.baseline_reactive_power_var[1]": "BAD_QUANTITY",
        },
    ),
    "inverter in two lengths": (
        {"unit_id": "u", "inverter": CIRCLE | {"baseline_power_w": [0], "baseline_reactive_power_var": [0, 0]}},
        {"terms.inverter.baseline_reactive_power_var": "BAD_SERIES"},
    ),
    "reservation": (
        {"reservation_price_milli_per_mwh": [1, -1]},
        {
            "terms.reservation_price_milli_per_mwh": "BAD_SERIES",
            "terms.reservation_price_milli_per_mwh[1]": "BAD_PRICE",
        },
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_every_fault_of_the_terms_is_listed_with_path_and_code(name: str) -> None:
    said, expected = BAD[name]
    assert faults(with_terms(**said)) == expected


def test_what_stands_beside_the_terms_must_go_with_them() -> None:
    full = replace(with_terms(reactive=Q), slots=offer().slots, min_energy_wh=1, max_energy_wh=2)
    assert faults(full) == {"slots": "BAD_VALUE", "min_energy_wh": "BAD_VALUE", "max_energy_wh": "BAD_VALUE"}
    rigid = replace(with_terms(start_choice=PROFILE), slots=offer().slots, max_energy_wh=2, all_or_nothing=True)
    assert faults(rigid) == {"slots": "BAD_VALUE", "max_energy_wh": "BAD_VALUE", "all_or_nothing": "BAD_VALUE"}
    assert faults(with_terms(reactive=Q, start_choice=PROFILE)) == {"terms.start_choice": "BAD_VALUE"}
    pool = replace(with_terms(payback=BACK), connection_point_id=None, portfolio_id="pool")
    assert faults(pool) == {"terms.payback": "BAD_VALUE"}
    block = replace(with_terms(reservation_price_milli_per_mwh=[1] * 4), all_or_nothing=True)
    assert faults(block) == {"terms.reservation_price_milli_per_mwh": "BAD_VALUE"}
    assert faults(offer(slots=0)) == {"slots": "BAD_SERIES"}
    assert faults(offer(slots=0, terms=terms())) == {"slots": "BAD_SERIES"}


# ---- against the market


def refused(market: Market, o: ev.FlexOffer, **changes: Any) -> dict[str, str]:
    found = market.refuse(ev.FlexOfferSubmitted(area_id=AREA, offer=replace(o, **changes)), FSP_A)
    return {path.removeprefix("$.offer."): code for path, code in codes(found).items()}


@pytest.mark.parametrize("name", [n for n in GOOD if n != "reservation"])
def test_good_terms_are_admitted(name: str) -> None:
    assert refused(open_market(), with_terms(**GOOD[name])) == {}


def test_reactive_power_and_profiles_are_measured_by_the_product_and_the_point() -> None:
    market = open_market()
    steps = [var(1_500), var(500, 2_001), var(2_000_000, 3_000_001)]
    q = with_terms(reactive={"slots": [{"steps": steps, "min_reactive_power_var": 7}]})
    assert refused(market, q) == {
        "terms.reactive.slots[0].steps[0].reactive_power_var": "BAD_QUANTITY",
        "terms.reactive.slots[0].steps[1].reactive_power_var": "BAD_QUANTITY",
        "terms.reactive.slots[0].steps[2].price_milli_per_mvarh": "BAD_PRICE",
        "terms.reactive.slots[0].min_reactive_power_var": "BAD_QUANTITY",
        "terms.reactive.slots[0].steps": "IMPLAUSIBLE",
    }
    rigid = {"profile_w": [500, 1_000_001_000], "price_milli_per_mwh": -3_000_001}
    assert refused(market, with_terms(start_choice=PROFILE | rigid)) == {
        "terms.start_choice.profile_w[0]": "BAD_QUANTITY",
        "terms.start_choice.profile_w[1]": "IMPLAUSIBLE",
        "terms.start_choice.price_milli_per_mwh": "BAD_PRICE",
    }


def test_reactive_power_and_profiles_stay_inside_the_delivery() -> None:
    market = open_market()
    late = START + 93 * QUARTER
    assert refused(market, with_terms(reactive=Q), start_ms=late) == {"start_ms": "BAD_PERIOD"}
    window = PROFILE | {"latest_start_ms": START + 94 * QUARTER}  # three slots from there end after the day
    assert refused(market, with_terms(start_choice=window)) == {"start_ms": "BAD_PERIOD"}
    assert refused(market, with_terms(start_choice=window | {"latest_start_ms": START + 93 * QUARTER})) == {}


def test_a_unit_is_described_once_known_and_stays_where_and_what_it_is() -> None:
    market = open_market()
    by_name = with_terms("o2", unit_id="u")
    assert refused(market, by_name) == {"terms.unit_id": "UNKNOWN_ELEMENT"}
    market.send(ev.FlexOfferSubmitted(area_id=AREA, offer=with_terms(unit_id="u", storage=STORAGE)), FSP_A)
    assert refused(market, by_name) == {}
    assert refused(market, by_name, connection_point_id="GCP-2") == {"terms.unit_id": "BAD_VALUE"}
    assert refused(market, with_terms("o2", unit_id="u", inverter=CIRCLE)) == {"terms.unit_id": "BAD_VALUE"}
    assert refused(market, with_terms("o2", unit_id="u", reactive=Q)) == {"terms.unit_id": "BAD_VALUE"}
    short = with_terms("o2", unit_id="u", storage=STORAGE | {"baseline_power_w": [0] * 95})
    assert refused(market, short) == {"terms.storage.baseline_power_w": "BAD_SERIES"}
    # units are of their provider: another one's has the same name and nothing to do with it
    other = replace(by_name, fsp_id="fsp-b", connection_point_id="GCP-3")
    found = market.refuse(ev.FlexOfferSubmitted(area_id=AREA, offer=other), "fsp-b")
    assert codes(found) == {"$.offer.terms.unit_id": "UNKNOWN_ELEMENT"}


def market_of(phase: MarketPhase) -> Market:
    market = founded(scheduled=False)
    market.send(product(phase=phase), "fmo")
    market.send(session(), "fmo")
    market.send(gate_opened(), "scheduler")
    return market


def test_what_a_phase_cannot_keep_is_refused_at_the_gate_and_not_in_the_clearing() -> None:
    capacity = market_of(MarketPhase.CAPACITY)
    tied = with_terms(
        max_run_slots=1, min_rest_slots=1, payback=BACK, polygons=[slice_(0)], unit_id="u", storage=STORAGE
    )
    names = ("max_run_slots", "min_rest_slots", "payback", "polygons", "storage")
    assert refused(capacity, tied) == {f"terms.{name}": "BAD_VALUE" for name in names}
    assert refused(capacity, with_terms(start_choice=PROFILE)) == {"terms.start_choice": "BAD_VALUE"}
    assert refused(capacity, with_terms(max_rise_w=5, unit_id="u", inverter=CIRCLE)) == {}
    priced = with_terms(**GOOD["reservation"])
    assert refused(capacity, priced) == {"terms.reservation_price_milli_per_mwh": "BAD_VALUE"}
    assert refused(market_of(MarketPhase.STOCHASTIC), priced) == {}


# ---- requests


def asked(**changes: Any) -> dict[str, str]:
    """Faults of a request, at the gate of an open market."""
    r = request(location_kind=ev.LocationKind.BUS, location_id="B1", **changes)
    found = open_market().refuse(ev.FlexRequestSubmitted(area_id=AREA, request=r), DSO)
    return {path.removeprefix("$.request."): code for path, code in codes(found).items()}


def demand(*steps: tuple[int, int], least: int = 0) -> ev.DemandSlot:
    stack = tuple(ev.PriceStep(power_w=w, price_milli_per_mwh=p) for w, p in steps)
    return ev.DemandSlot(steps=stack, min_power_w=least)


def reactive(*steps: tuple[int, int], least: int = 0) -> ev.ReactiveSlot:
    stack = tuple(ev.ReactiveStep(reactive_power_var=q, price_milli_per_mvarh=p) for q, p in steps)
    return ev.ReactiveSlot(steps=stack, min_reactive_power_var=least)


def test_a_demand_curve_falls_and_adds_up() -> None:
    good = (demand((20_000, 90_000), (30_000, 10), least=10_000), demand((60_000, 90_000)))
    assert asked(curve=good) == {}
    assert asked(curve=good[:1]) == {"curve": "BAD_SERIES"}
    assert asked(curve=good, min_power_w=1_000) == {"min_power_w": "BAD_VALUE"}
    assert asked(curve=good, max_price_milli_per_mwh=80_000) == {
        "curve[0].steps": "BAD_PRICE",
        "curve[1].steps": "BAD_PRICE",
    }
    crooked = (demand((20_000, 5), (30_000, 5), least=51_000), demand((60_000, -1)))
    assert asked(curve=crooked) == {
        "curve[0].steps[1].price_milli_per_mwh": "BAD_PRICE",
        "curve[0].min_power_w": "BAD_QUANTITY",
        "curve[1].steps[0].price_milli_per_mwh": "BAD_PRICE",
    }
    assert asked(curve=(good[0], demand((59_000, 90_000)))) == {"curve[1].steps": "BAD_QUANTITY"}
    assert asked(curve=(demand((500, 9), (49_500, 8), least=1), good[1])) == {
        "curve[0].steps[0].power_w": "BAD_QUANTITY",
        "curve[0].steps[1].power_w": "BAD_QUANTITY",
        "curve[0].min_power_w[0]": "BAD_QUANTITY",
    }


def test_a_request_for_reactive_power_says_nothing_of_active_power() -> None:
    q = {"power_w": (), "max_price_milli_per_mwh": 0, "reactive_slots": (reactive((40_000, 9_000)), reactive())}
    assert asked(**q) == {}
    assert asked(reactive_slots=q["reactive_slots"], min_power_w=1, curve=(demand(), demand())) == {
        "power_w": "BAD_VALUE",
        "min_power_w": "BAD_VALUE",
        "max_price_milli_per_mwh": "BAD_VALUE",
        "curve": "BAD_VALUE",
    }
    assert asked(**(q | {"reactive_slots": (reactive(),)})) == {"reactive_slots": "BAD_QUANTITY"}
    wrong = (reactive((500, 7), (1_000, 8), least=2_000),)
    assert asked(**(q | {"reactive_slots": wrong})) == {
        "reactive_slots[0].steps[1].price_milli_per_mvarh": "BAD_PRICE",
        "reactive_slots[0].min_reactive_power_var": "BAD_QUANTITY",
    }
    assert asked(**(q | {"reactive_slots": (reactive((500, 3_000_001)),)})) == {
        "reactive_slots[0].steps[0].reactive_power_var": "BAD_QUANTITY",
        "reactive_slots[0].steps[0].price_milli_per_mvarh": "BAD_PRICE",
    }
    assert asked(**(q | {"start_ms": START + 95 * QUARTER})) == {"start_ms": "BAD_PERIOD"}


def test_a_request_for_an_area_names_this_one() -> None:
    market = open_market()
    for name, expected in ((AREA, {}), ("east", {"$.request.location_id": "UNKNOWN_ELEMENT"})):
        r = request(location_kind=ev.LocationKind.AREA, location_id=name)
        assert codes(market.refuse(ev.FlexRequestSubmitted(area_id=AREA, request=r), DSO)) == expected


# ---- scenarios


def forecast(*scenarios: ev.ForecastScenario) -> ev.NetForecastPublished:
    return ev.NetForecastPublished(
        area_id=AREA,
        forecast_id="f",
        revision=1,
        network_id="grid",
        issued_at_ms=START,
        start_ms=START,
        resolution_s=900,
        injections=(injection("B1"),),
        scenarios=scenarios,
    )


def injection(bus_id: str, slots: int = 2) -> ev.BusInjection:
    return ev.BusInjection(bus_id=bus_id, power_w=(1,) * slots, reactive_power_var=(0,) * slots)


def scenario(name: str, ppm: int, *injections: ev.BusInjection) -> ev.ForecastScenario:
    return ev.ForecastScenario(scenario_id=name, probability_ppm=ppm, injections=injections)


def test_scenarios_of_a_forecast_are_certain_together_and_on_its_slots() -> None:
    market = open_market()
    calm, peak = scenario("calm", 750_000), scenario("peak", 250_000, injection("B2"))
    assert codes(market.refuse(forecast(calm, peak), DSO)) == {}
    assert codes(market.refuse(forecast(calm, calm), DSO)) == {"$.scenarios": "BAD_VALUE"}
    never = scenario("never", 0, injection("B2", 3), injection("B2"))
    assert codes(market.refuse(forecast(calm, peak, never), DSO)) == {
        "$.scenarios[2].probability_ppm": "BAD_VALUE",
        "$.scenarios[2].injections": "BAD_VALUE",
        "$.scenarios[2].injections[0].power_w": "BAD_SERIES",
        "$.scenarios[2].injections[0].reactive_power_var": "BAD_SERIES",
    }
    many = [scenario(f"s{n}", 1_000_000 if n == 0 else 1) for n in range(21)]
    assert set(codes(market.refuse(forecast(*many), DSO))) == {"$.scenarios"}
    nowhere = scenario("all", 1_000_000, injection("B9"))
    path = "$.scenarios[0].injections[0].bus_id"
    assert codes(market.refuse(forecast(nowhere), DSO)) == {path: "UNKNOWN_ELEMENT"}


def test_terms_stay_with_the_point_that_offers_them() -> None:
    market = open_market()
    market.send(point("GCP-4", "B1", FSP_A, max_feed_in_w=10_000, max_draw_w=0), DSO)
    small = with_terms(reactive={"slots": [{"steps": [var(11_000)]}]})
    assert refused(market, small, connection_point_id="GCP-4") == {"terms.reactive.slots[0].steps": "IMPLAUSIBLE"}
