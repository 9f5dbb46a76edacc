"""Faults that can be told from one event alone; each is listed with its path."""

from dataclasses import replace
from typing import Any

import pytest

from flexbus import events as ev
from flexbus.catalogue import CATALOGUE
from flexbus.events import Role
from flexbus.quantities import MAX_POWER_W
from flexbus.validation import content_faults
from flexbus.validation.content import MOST_FAULTS
from tests.market import (
    AREA,
    DSO,
    HOUR,
    METER,
    QUARTER,
    START,
    asset,
    baseline,
    codes,
    network,
    offer,
    participant,
    point,
    product,
    request,
    session,
    submitted,
)


def found(event: Any) -> dict[str, str]:
    return codes(content_faults(event))


def with_slots(*stacks: tuple[tuple[int, int], ...], **changes: Any) -> ev.FlexOfferSubmitted:
    slots = tuple(
        ev.OfferSlot(steps=tuple(ev.PriceStep(power_w=w, price_milli_per_mwh=p) for w, p in stack)) for stack in stacks
    )
    return ev.FlexOfferSubmitted(area_id=AREA, offer=replace(offer(), slots=slots, **changes))


def test_a_good_market_has_no_faults() -> None:
    for event in (
        participant("fsp-a", Role.FSP), network(), product(), session(), point("G", "B1", "fsp-a"), submitted(),
        asset("pv", "G", "fsp-a"), baseline(), ev.FlexRequestSubmitted(area_id=AREA, request=request()),
    ):  # fmt: skip
        assert content_faults(event) == ()


@pytest.mark.parametrize("name", ["", "a b", "a/b", "å", "x" * 65, "a:b", "x\x1fy", "..", "-a"])
def test_a_party_id_is_what_a_topic_name_can_carry(name: str) -> None:
    assert found(replace(participant("x", Role.FSP), participant_id=name, name="X")) == {
        "$.participant_id": "BAD_VALUE"
    }


@pytest.mark.parametrize("name", ["", "..", ".", "a/b", ":a", "x" * 65])
def test_an_area_id_can_stand_in_an_address(name: str) -> None:
    opened = ev.AreaOpened(area_id=name, name="North", fmo_id="fmo", time_zone="Europe/Helsinki")
    assert found(opened) == {"$.area_id": "BAD_VALUE"}


@pytest.mark.parametrize("name", ["", " b1", "b1\n", "x" * 129, "a\x1fb"])
def test_no_identifier_is_blank_or_holds_control_characters(name: str) -> None:
    assert found(replace(asset("pv", "GCP-1", "fsp-a"), asset_id=name)) == {"$.asset_id": "BAD_VALUE"}


def test_identifiers_of_the_grid_may_have_blanks_and_letters_of_any_language() -> None:
    assert found(replace(asset("pv", "GCP-1", "fsp-a"), asset_id="MV1.101 Bus 4 Käyttöpaikka")) == {}


def test_every_fault_of_an_offer_has_its_path() -> None:
    event = with_slots(((1_000, 50), (1_000, 50), (0, 60)), (), ((-5, 10**10),), offer_id="", resolution_s=600)
    assert found(event) == {
        "$.offer.offer_id": "BAD_VALUE",
        "$.offer.resolution_s": "BAD_PERIOD",
        "$.offer.slots[0].steps[1].price_milli_per_mwh": "BAD_PRICE",
        "$.offer.slots[0].steps[2].power_w": "BAD_QUANTITY",
        "$.offer.slots[2].steps[0].power_w": "BAD_QUANTITY",
        "$.offer.slots[2].steps[0].price_milli_per_mwh": "BAD_PRICE",
    }


def test_a_slot_may_be_empty_but_not_the_whole_offer() -> None:
    assert found(with_slots((), ((1_000, 5),))) == {}
    assert found(with_slots((), ())) == {"$.offer.slots": "BAD_QUANTITY"}
    assert found(submitted(slots=0)) == {"$.offer.slots": "BAD_SERIES"}
    assert found(submitted(slots=401)) == {"$.offer.slots": "BAD_SERIES"}


def test_an_offer_is_at_a_point_or_of_a_portfolio() -> None:
    assert found(submitted(point_id=None)) == {"$.offer.connection_point_id": "BAD_VALUE"}
    assert found(submitted(portfolio_id="p")) == {"$.offer.connection_point_id": "BAD_VALUE"}
    assert found(submitted(point_id=None, portfolio_id="p")) == {}


def test_revisions_tell_first_submissions_from_changes() -> None:
    assert found(submitted(revision=2)) == {"$.offer.revision": "BAD_VALUE"}
    assert found(submitted(revision=0)) == {"$.offer.revision": "BAD_VALUE"}
    assert found(ev.FlexOfferReplaced(area_id=AREA, offer=offer())) == {"$.offer.revision": "BAD_VALUE"}
    assert found(ev.FlexOfferReplaced(area_id=AREA, offer=offer(revision=2))) == {}


def test_minimum_quantities_and_energies_can_be_reached() -> None:
    steps = (ev.PriceStep(power_w=1_000, price_milli_per_mwh=1),)
    slot = ev.OfferSlot(steps=steps, min_power_w=2_000)
    assert found(ev.FlexOfferSubmitted(area_id=AREA, offer=replace(offer(), slots=(slot,)))) == {
        "$.offer.slots[0].min_power_w": "BAD_QUANTITY"
    }
    assert found(submitted(min_energy_wh=100_000)) == {}
    assert found(submitted(min_energy_wh=100_001)) == {"$.offer.min_energy_wh": "BAD_QUANTITY"}
    assert found(submitted(min_energy_wh=2, max_energy_wh=1)) == {"$.offer.min_energy_wh": "BAD_QUANTITY"}


def test_an_instant_in_seconds_is_told_as_a_slip_of_unit() -> None:
    (fault,) = content_faults(replace(session(), settlement_due_ms=START // 1000 + 10**9))[:1]
    assert fault.path == "$.settlement_due_ms"
    assert "milliseconds" in fault.message


def test_a_start_lies_on_its_grid() -> None:
    assert found(submitted(start_ms=START + 60_000)) == {"$.offer.start_ms": "BAD_PERIOD"}
    assert found(baseline(start_ms=START + QUARTER)) == {}


def test_no_quantity_is_beyond_a_power_system() -> None:
    assert found(baseline(power_w=MAX_POWER_W + 1))["$.power_w[0]"] == "BAD_QUANTITY"
    assert found(baseline(power_w=-MAX_POWER_W)) == {}


def test_a_network_names_its_own_buses_once() -> None:
    good = network()
    assert found(replace(good, buses=good.buses + good.buses[:1])) == {"$.buses": "BAD_VALUE"}
    assert found(replace(good, buses=good.buses[:3])) == {"$.branches[2].to_bus_id": "UNKNOWN_ELEMENT"}
    assert found(replace(good, infeed_points=())) == {"$.infeed_points": "MISSING_FIELD"}
    broken = replace(good.branches[0], r_ohm=float("nan"), ratio=0.0, to_bus_id="B0")
    assert found(replace(good, branches=(broken,))) == {
        "$.branches[0].r_ohm": "BAD_QUANTITY",
        "$.branches[0].ratio": "BAD_QUANTITY",
        "$.branches[0].to_bus_id": "BAD_VALUE",
    }
    upside_down = replace(good.buses[0], min_voltage_ppm=1_100_000)
    assert found(replace(good, buses=(upside_down, *good.buses[1:]))) == {"$.buses[0].min_voltage_ppm": "BAD_QUANTITY"}


def test_the_series_of_a_forecast_are_equally_long() -> None:
    forecast = ev.NetForecastPublished(
        area_id=AREA, forecast_id="n", revision=1, network_id="grid", issued_at_ms=START, start_ms=START,
        resolution_s=900,
        injections=(
            ev.BusInjection(bus_id="B1", power_w=(1, 2), reactive_power_var=(0, 0)),
            ev.BusInjection(bus_id="B2", power_w=(1, 2), reactive_power_var=(0,)),
        ),
    )  # fmt: skip
    assert found(forecast) == {"$.injections[1].reactive_power_var": "BAD_SERIES"}


def thermal(**changes: Any) -> ev.CongestionForecastReceived:
    e = ev.CongestionForecastReceived(
        area_id=AREA, forecast_id="f", revision=1, element_id="T1", kind=ev.CongestionKind.THERMAL,
        issued_at_ms=START, start_ms=START, resolution_s=900, flow_w=(-5_400_000,) * 4, limit_import_w=5_000_000,
    )  # fmt: skip
    return replace(e, **changes)


def test_t_in_3_five_faults_in_one_forecast_are_five_paths() -> None:
    wrong = thermal(
        resolution_s=600, limit_import_w=0, revision=0, probability_ppm=(2_000_000,) * 4, need_up_w=(1,), area_id=""
    )
    assert set(found(wrong)) == {
        "$.area_id",
        "$.resolution_s",
        "$.limit_import_w",
        "$.revision",
        "$.need_up_w",
        *(f"$.probability_ppm[{i}]" for i in range(4)),
    }


def test_a_voltage_forecast_gives_needs_of_equal_length() -> None:
    voltage = ev.CongestionForecastReceived(
        area_id=AREA, forecast_id="f", revision=1, element_id="B1", kind=ev.CongestionKind.VOLTAGE,
        issued_at_ms=START, start_ms=START, resolution_s=900, need_up_w=(1, 2), need_down_w=(0,),
    )  # fmt: skip
    assert found(voltage) == {"$.need_down_w": "BAD_SERIES"}
    assert found(replace(voltage, need_down_w=(0, 0))) == {}


def test_a_manual_request_says_why() -> None:
    assert found(ev.FlexRequestSubmitted(area_id=AREA, request=request(reason=" "))) == {
        "$.request.reason": "MISSING_FIELD"
    }


def test_a_light_stands_for_whole_hours_and_yellow_has_a_limit() -> None:
    light = ev.TrafficLightSet(
        area_id=AREA, light_id="t", revision=1, connection_point_id="G", start_ms=START, end_ms=START + HOUR,
        colour=ev.Colour.RED,
    )  # fmt: skip
    assert found(light) == {}
    assert found(replace(light, start_ms=START + QUARTER)) == {"$.start_ms": "BAD_PERIOD"}
    assert found(replace(light, end_ms=START)) == {"$.end_ms": "BAD_PERIOD"}
    assert found(replace(light, colour=ev.Colour.YELLOW)) == {"$.max_up_w": "MISSING_FIELD"}
    assert found(replace(light, max_up_w=5)) == {"$.max_up_w": "BAD_VALUE"}


def test_a_limit_limits_something() -> None:
    limit = ev.CapacityLimitForeseen(
        area_id=AREA,
        limit_id="l",
        revision=1,
        connection_point_id="G",
        start_ms=START,
        end_ms=START + 1,
        reason="works",
    )
    assert found(limit) == {"$.max_feed_in_w": "MISSING_FIELD"}
    assert found(replace(limit, max_draw_w=-1)) == {"$.max_draw_w": "BAD_QUANTITY"}


def test_a_session_runs_in_order() -> None:
    assert found(session(gate_closes_ms=START + 1)) == {"$.gate_closes_ms": "BAD_PERIOD"}
    assert found(session(gate_opens_ms=START - 12 * HOUR)) == {"$.gate_closes_ms": "BAD_PERIOD"}
    assert found(session(settlement_due_ms=START)) == {"$.settlement_due_ms": "BAD_PERIOD"}


def test_a_product_is_consistent() -> None:
    assert found(product(step_w=0)) == {"$.step_w": "BAD_QUANTITY"}
    assert found(product(step_w=3_000)) == {"$.min_offer_w": "BAD_QUANTITY", "$.request_step_w": "BAD_QUANTITY"}
    assert found(product(margin_ppm=2_000_000)) == {"$.margin_ppm": "BAD_QUANTITY"}
    assert found(product(request_max_price_milli_per_mwh=9_000_000)) == {
        "$.request_max_price_milli_per_mwh": "BAD_PRICE"
    }


def test_a_battery_has_a_capacity() -> None:
    assert found(replace(asset("b", "G", "f"), kind=ev.AssetKind.BATTERY)) == {"$.storage_capacity_wh": "MISSING_FIELD"}


def test_a_time_zone_and_an_eic_are_real() -> None:
    area = ev.AreaOpened(area_id=AREA, name="N", fmo_id="fmo", time_zone="Europe/Atlantis")
    assert found(area) == {"$.time_zone": "BAD_VALUE"}
    assert found(replace(area, time_zone="../../etc/passwd")) == {"$.time_zone": "BAD_VALUE"}
    assert found(replace(participant("x", Role.FSP), eic="short")) == {"$.eic": "BAD_VALUE"}
    assert found(replace(participant("x", Role.FSP), eic="10X1001A1001A450")) == {}


def test_the_quality_of_a_reading_is_as_long_as_the_reading() -> None:
    reading = ev.MeterReadingReceived(
        area_id=AREA, reading_id="m", revision=1, connection_point_id="G", meter_operator_id=METER, start_ms=START,
        resolution_s=900, energy_wh=(1, -2), quality=(ev.Quality.MEASURED,),
    )  # fmt: skip
    assert found(reading) == {"$.quality": "BAD_SERIES"}


def test_reasons_are_said_in_words() -> None:
    refused = ev.AssetRefused(area_id=AREA, asset_id="pv", reason="")
    assert found(refused) == {"$.reason": "MISSING_FIELD"}
    assert found(replace(refused, reason="x" * 1001)) == {"$.reason": "BAD_VALUE"}
    assert found(replace(refused, reason="two\nlines")) == {}
    assert found(replace(refused, reason="bell\a")) == {"$.reason": "BAD_VALUE"}


def test_a_mandate_names_events_that_exist() -> None:
    mandate = ev.MandateGranted(
        area_id=AREA, mandate_id="m", grantor_id=DSO, agent_id=DSO, event_types=("Nonsense",), valid_from_ms=5,
        valid_until_ms=START,
    )  # fmt: skip
    assert found(mandate) == {"$.agent_id": "BAD_VALUE", "$.event_types[0]": "UNKNOWN_EVENT"}


def test_a_mandate_names_nothing_that_no_mandate_covers() -> None:
    never = {kind.type_name for kind in CATALOGUE.values() if not kind.by_mandate}
    assert never == {
        "AreaOpened", "MandateGranted", "MandateRevoked", "SigningKeyRegistered", "SigningKeyRevoked",
        "SignaturePolicySet",
    }  # fmt: skip
    granted = ev.MandateGranted(
        area_id=AREA, mandate_id="m", grantor_id="a", agent_id="b", event_types=("FlexOfferSubmitted", *never),
        valid_from_ms=START,
    )  # fmt: skip
    assert found(granted) == {f"$.event_types[{n}]": "BAD_VALUE" for n in range(1, 1 + len(never))}
    assert found(replace(granted, event_types=("FlexOfferSubmitted",))) == {}


def test_what_is_nothing_but_faults_is_not_looked_through_to_its_end() -> None:
    event = ev.PortfolioRegistered(area_id="a", portfolio_id="p", fsp_id="f", asset_ids=("",) * 400_000)
    assert len(content_faults(event)) == MOST_FAULTS


def test_lists_that_every_process_keeps_and_sends_on_have_an_end() -> None:
    """A hundred bytes on their way may become a megabyte that is kept for ever."""
    kinds = ("GateOpened",) * 90_000
    granted = ev.MandateGranted(
        area_id=AREA, mandate_id="m", grantor_id="a", agent_id="b", event_types=kinds, valid_from_ms=START,
        valid_until_ms=None,
    )  # fmt: skip
    assert found(granted) == {"$.event_types": "BAD_VALUE"}
    ids = tuple(f"{n:x}" for n in range(120_000))
    portfolio = ev.PortfolioRegistered(area_id=AREA, portfolio_id="p", fsp_id="a", asset_ids=ids)
    assert found(portfolio) == {"$.asset_ids": "BAD_SERIES"}
    assert found(replace(portfolio, asset_ids=ids[:1000])) == {}
    asked = ev.FlexRequestSubmitted(area_id=AREA, request=request(causes=ids))
    assert found(asked) == {"$.request.causes": "BAD_SERIES"}
