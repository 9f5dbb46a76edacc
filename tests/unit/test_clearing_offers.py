"""What ties the slots of an offer, and offers, together: every rule holds and the best choice is made."""

from dataclasses import replace
from typing import Any

import pytest

from clearing import Case, Result, clear
from clearing.canonical import canonical_case
from clearing.case import (
    FixedAward,
    Location,
    Offer,
    Payback,
    Phase,
    PolygonSlice,
    PolygonVertex,
    Quantity,
    Settings,
    StartChoice,
    Unit,
    UnitKind,
)
from clearing.certificate import certify
from clearing.pipeline import solve
from flexbus.events.clearing import NonAwardReason, SlotStatus
from flexbus.events.market import PricingRule
from flexbus.quantities import Direction
from tests.clearing_cases import case, chain, injection, offer, request
from tests.cures import cheaper
from tests.tied_market import SLOTS, tied_market

UP, DOWN = Direction.UP, Direction.DOWN


def market(offers: tuple[Offer, ...], worth: list[int], watts: int = 100_000, **more: Any) -> Case:
    """Two buses, hardly a limit; the area asks for `watts` upward at the worth of every slot (0 = not)."""
    slots = len(worth)
    return case(
        chain(3, km=0.1),
        [injection("b2", [-100_000] * slots)],
        slots=slots,
        offers=offers,
        requests=(request("need", UP, [[(watts, w)] if w else [] for w in worth], location_kind=Location.AREA),),
        **more,
    )


def up(offer_id: str, price: int, slots: int, watts: int = 100_000, **more: Any) -> Offer:
    return offer(offer_id, "b2", UP, [[(watts, price)]] * slots, **more)


def taken(result: Result, offer_id: str) -> tuple[int, ...]:
    return next(o.quantity for o in result.offers if o.offer_id == offer_id)


def reason(result: Result, offer_id: str) -> NonAwardReason:
    return next(n.reason for n in result.non_awards if n.offer_id == offer_id)


def test_at_most_one_of_an_exclusive_group_is_taken() -> None:
    offers = (
        up("early", 20_000, 2, exclusive_group_id="g"),
        up("late", 30_000, 2, exclusive_group_id="g"),
        up("other", 80_000, 2),
    )
    result = clear(market(offers, [50_000, 90_000], watts=200_000))
    assert taken(result, "early") == (100_000, 100_000)
    assert taken(result, "late") == (0, 0)
    assert taken(result, "other") == (0, 100_000)
    assert reason(result, "late") is NonAwardReason.EXCLUSIVE_SIBLING


def test_child_is_taken_only_with_its_parent() -> None:
    child = up("child", 10_000, 1, parent_offer_id="parent")
    dear, cheap = up("parent", 95_000, 1, all_or_nothing=True), up("parent", 60_000, 1, all_or_nothing=True)
    # Together they cost 105 for 180 of worth, but the dear parent at 95 is above what one unit is worth.
    result = clear(market((child, replace(dear, slots=up("x", 200_000, 1).slots)), [90_000], watts=200_000))
    assert taken(result, "child") == (0,)
    assert reason(result, "child") is NonAwardReason.PARENT_NOT_TAKEN
    result = clear(market((child, cheap), [90_000], watts=200_000))
    assert taken(result, "child") == taken(result, "parent") == (100_000,)


def test_minimum_acceptance_is_kept() -> None:
    small = offer("big", "b2", UP, [[(300_000, 10_000)]], minimum=200_000)
    given = market((small, up("dear", 40_000, 1)), [50_000], watts=100_000)
    # 200 kW at 10 are the cheaper way to 100 kW, but nobody would pay them: the last watt is worth nothing there.
    assert taken(clear(given), "big") == (0,)
    assert taken(clear(replace(given, pricing_rule=PricingRule.PAY_AS_BID)), "big") == (200_000,)
    result = clear(
        market(
            (replace(small, slots=offer("x", "b2", UP, [[(300_000, 30_000)]], 200_000).slots), up("dear", 40_000, 1)),
            [50_000],
        )
    )
    assert taken(result, "big") == (0,)
    assert taken(result, "dear") == (100_000,)
    assert reason(result, "big") is NonAwardReason.MINIMUM_QUANTITY


def test_runs_are_limited_and_followed_by_a_rest() -> None:
    result = clear(market((up("worker", 10_000, 6, max_run_slots=2, min_rest_slots=2),), [50_000] * 6))
    on = [q > 0 for q in taken(result, "worker")]
    assert sum(on) == 4
    assert on in ([True, True, False, False, True, True],)


def test_ramp_limits_the_change_between_slots() -> None:
    result = clear(market((up("slow", 10_000, 4, max_rise=30_000, max_fall=50_000),), [50_000] * 4))
    got = taken(result, "slow")
    assert all(-50_000 <= b - a <= 30_000 for a, b in zip((0, *got), got, strict=False))
    assert got == (30_000, 60_000, 90_000, 100_000)


def test_minimum_energy_is_all_or_nothing_at_all() -> None:
    def with_worth(worth: int) -> tuple[int, ...]:
        return taken(clear(market((up("least", 40_000, 2, min_energy_wh=40_000),), [90_000, worth])), "least")

    assert sum(with_worth(30_000)) >= 160_000
    assert with_worth(1_000) in ((0, 0), with_worth(1_000))
    assert sum(taken(clear(market((up("least", 85_000, 2, min_energy_wh=50_000),), [90_000, 1_000])), "least")) == 0


def test_payback_returns_the_energy_and_is_paid_for_it() -> None:
    payback = up("payback", 10_000, 4, payback=Payback(factor_ppm=1_000_000, delay_slots=0, window_slots=2))
    first = replace(payback, slots=(payback.slots[0], *([replace(payback.slots[0], steps=())] * 3)))
    result = clear(market((first,), [50_000, 0, 0, 0]))
    assert taken(result, "payback") == (100_000, 0, 0, 0)
    base = clear(market((), [50_000, 0, 0, 0]))
    drawn = [a - b for a, b in zip(result.infeed_points[0].power_w, base.infeed_points[0].power_w, strict=True)]
    assert drawn == [pytest.approx(x, abs=200) for x in (-100_000, 50_000, 50_000, 0)]


def test_payback_in_a_slot_that_needs_the_power_is_counted_against_it() -> None:
    payback = up("payback", 10_000, 4, payback=Payback(factor_ppm=1_000_000, delay_slots=0, window_slots=1))
    result = clear(market((payback,), [50_000, 80_000, 0, 0]))
    # Taking slot 0 takes the same from slot 1, which is worth more: only slot 1 is taken.
    assert taken(result, "payback") == (0, 100_000, 0, 0)


def test_storage_charges_before_it_discharges_and_loses_on_the_way() -> None:
    unit = Unit(
        unit_id="battery",
        kind=UnitKind.STORAGE,
        max_energy_wh=100_000,
        charge_efficiency_ppm=800_000,
    )
    offers = (
        offer("charge", "b2", DOWN, [[(200_000, 0)]] * 3, unit_id="battery"),
        offer("discharge", "b2", UP, [[(100_000, 1_000)]] * 3, unit_id="battery"),
    )
    result = clear(market(offers, [0, 0, 90_000], units=(unit,)))
    charge, discharge = taken(result, "charge"), taken(result, "discharge")
    assert discharge == (0, 0, 100_000)
    assert sum(charge) * 0.8 >= sum(discharge) - 3
    stored = 0.0
    for c, d in zip(charge, discharge, strict=True):
        stored += (c * 0.8 - d) / 4
        assert -1 <= stored <= 100_001
    empty = clear(market(offers, [90_000, 0, 0], units=(unit,)))
    assert taken(empty, "discharge") == (0, 0, 0)


@pytest.mark.parametrize("resolution_s", [300, 900, 1800, 3600])
def test_a_store_loses_the_same_over_a_day_of_quarters_and_of_hours(resolution_s: int) -> None:
    """A tenth per hour: of 100 kWh 65,610 Wh are left after four hours, whatever the slots they are cleared in."""
    slots = 4 * 3600 // resolution_s
    unit = Unit(
        unit_id="battery",
        kind=UnitKind.STORAGE,
        initial_energy_wh=100_000,
        max_energy_wh=100_000,
        min_final_energy_wh=60_000,
        self_discharge_ppm_per_h=100_000,
    )
    last: list[list[tuple[int, int]]] = [[]] * (slots - 1) + [[(100_000, 20_000)]]
    given = market((offer("last", "b2", UP, last, unit_id="battery"),), [0] * (slots - 1) + [90_000], units=(unit,))
    given = replace(given, resolution_s=resolution_s)
    result = clear(given)
    assert taken(result, "last")[-1] * resolution_s / 3600 == pytest.approx(5_610, abs=1)
    assert certify(given, result).findings == ()


def test_rigid_profile_starts_where_it_is_worth_most() -> None:
    shift = Offer(
        offer_id="shift",
        bus_id="b2",
        direction=UP,
        start_choice=StartChoice(profile=(100_000, 50_000), earliest_slot=0, latest_slot=3, price_milli_per_mwh=20_000),
    )
    result = clear(market((shift,), [30_000, 30_000, 90_000, 30_000, 30_000]))
    assert taken(result, "shift") == (0, 0, 100_000, 50_000, 0)


def test_polygon_slices_tie_energy_now_to_energy_before() -> None:
    """In slot 1 only as much as was delivered in slot 0."""
    corners = (
        PolygonVertex(energy_before_wh=0, energy_wh=0),
        PolygonVertex(energy_before_wh=25_000, energy_wh=0),
        PolygonVertex(energy_before_wh=25_000, energy_wh=25_000),
    )
    tied = up("tied", 10_000, 2, polygons=(PolygonSlice(slot=1, vertices=corners),))
    result = clear(market((tied,), [0, 60_000]))
    # Slot 0 is not wanted, but 10 + 10 for 60 is a good trade.
    assert taken(result, "tied") == (100_000, 100_000)
    assert taken(clear(market((tied,), [0, 15_000])), "tied") == (0, 0)


def test_reactive_offers_cure_a_voltage_and_are_paid_the_reactive_price() -> None:
    given = case(
        chain(6, km=4.0),
        [injection(f"b{k}", [1_700_000]) for k in range(1, 6)],
        offers=(
            offer("q", "b5", DOWN, [[(3_000_000, 4_000)]], quantity=Quantity.REACTIVE),
            offer("p", "b5", DOWN, [[(2_000_000, 30_000)]]),
        ),
    )
    result = clear(given)
    assert taken(result, "q")[0] > 0
    assert taken(result, "p") == (0,)
    bus = next(b for b in result.buses if b.bus_id == "b5")
    assert bus.q_price_milli_per_mwh[0] == -4_000
    assert bus.q_voltage_milli_per_mwh[0] == -4_000
    assert result.slots[0].ac_violation_ppm == 0


def test_pricing_rules() -> None:
    offers = (up("cheap", 20_000, 1), up("dear", 50_000, 1))
    given = market(offers, [90_000], watts=150_000)
    by_rule = {
        rule: {o.offer_id: o.price_milli_per_mwh[0] for o in clear(replace(given, pricing_rule=rule)).offers}
        for rule in PricingRule
    }
    assert by_rule[PricingRule.PAY_AS_BID] == {"cheap": 20_000, "dear": 50_000}
    assert by_rule[PricingRule.NODAL] == {"cheap": 50_000, "dear": 50_000}
    assert by_rule[PricingRule.ZONAL] == {"cheap": 50_000, "dear": 50_000}


def test_real_time_keeps_earlier_awards_and_clears_what_is_left() -> None:
    given = case(
        chain(3, max_a=100),
        [injection("b2", [-5_000_000])],
        offers=(offer("cure", "b2", UP, [[(3_000_000, 9_000)]]),),
    )
    alone = taken(clear(given), "cure")[0]
    earlier = FixedAward(award_id="a", bus_id="b2", direction=UP, power=(1_000_000,))
    then = taken(clear(replace(given, phase=Phase.REAL_TIME, fixed_awards=(earlier,))), "cure")[0]
    assert alone - then == pytest.approx(1_000_000, abs=2)


def test_slot_without_an_ac_solution_keeps_its_baseline_and_says_so() -> None:
    given = case(
        chain(4, km=10.0),
        [injection("b3", [-900_000_000, -100_000])],
        slots=2,
        offers=(offer("o", "b3", UP, [[(100_000, 1_000)]] * 2),),
    )
    result = clear(given)
    assert result.slots[0].status is SlotStatus.BASELINE_KEPT
    assert result.slots[0].shortfalls[0].kind.value == "POWER_FLOW"
    assert result.slots[1].status is SlotStatus.IDLE
    assert reason(result, "o")


def test_step_quantum_is_respected_and_rounded_to_the_safe_side() -> None:
    given = case(
        chain(6, km=4.0),
        [injection(f"b{k}", [2_000_000]) for k in range(1, 6)],
        offers=(offer("end", "b5", DOWN, [[(2_000_000, 30_000)]]),),
    )
    given = replace(given, settings=replace(given.settings, quantity_step_w=10_000))
    result = clear(given)
    assert taken(result, "end")[0] % 10_000 == 0
    assert result.slots[0].ac_violation_ppm == 0
    assert max(b.voltage_ppm[0] for b in result.buses) <= 1_050_000


def test_parts_of_a_price_sum_to_it() -> None:
    given = case(
        chain(6, km=4.0, price=50_000),
        [injection(f"b{k}", [2_000_000]) for k in range(1, 6)],
        offers=(offer("end", "b5", DOWN, [[(2_000_000, 30_000)]]),),
    )
    for bus in clear(given).buses:
        assert bus.p_price_milli_per_mwh[0] == (
            bus.p_energy_milli_per_mwh[0]
            + bus.p_losses_milli_per_mwh[0]
            + bus.p_voltage_milli_per_mwh[0]
            + bus.p_congestion_milli_per_mwh[0]
        )
        assert bus.p_energy_milli_per_mwh[0] in (50_000, 49_999, 50_001)


def test_a_push_that_overfills_a_storage_is_seen_as_breaking_its_row() -> None:
    """The search for better corners starts from pushed columns; what leaves a storage's bounds must not be kept."""
    tank = Unit(unit_id="tank", kind=UnitKind.STORAGE, max_energy_wh=10_000)
    offers = (
        offer("charge", "b2", DOWN, [[(200_000, -60_000)]] * 3, unit_id="tank"),
        offer("discharge", "b2", UP, [[(100_000, 1_000)]] * 3, unit_id="tank"),
    )
    cleared = solve(canonical_case(market(offers, [0, 0, 90_000], units=(tank,))))
    repair, best = cleared.repair, cleared.optimum.x
    assert repair.broken_groups(best) == frozenset()
    pushed = best.copy()
    market_ = cleared.market
    (column,) = (c for c in range(len(market_.cost)) if [(m.offer, m.slot) for m in market_.members(c)] == [(0, 0)])
    pushed[column] = repair.upper[column]
    assert repair.broken_groups(pushed) == {int(repair.column_group[column])}


def test_a_slot_with_nothing_in_it_does_not_bridge_a_rest() -> None:
    """Worth its price in the first and the third slot, but at rest for two slots after each run."""
    given = market((up("worker", 10_000, 3, min_rest_slots=2),), [50_000, 5_000, 50_000])
    got = taken(clear(given), "worker")
    assert sum(q > 0 for q in got) == 1 or all(got)


def test_awards_in_whole_kilowatts_have_the_prices_of_the_state_that_they_lead_to() -> None:
    """The quantum steps back from the current limit that sets the price; it binds all the same."""
    net = chain(3, max_a=40.0, price=50_000)
    book = (
        offer("a", "b2", Direction.UP, [[(900_123, 90_000)]]),
        offer("b", "b2", Direction.UP, [[(900_000, 95_500)]]),
    )
    given = case(net, [injection("b2", [-2_000_777])], offers=book, settings=Settings(quantity_step_w=1000))
    result = clear(given)
    assert sum(o.quantity[0] for o in result.offers) % 1000 in (0, 123)
    assert result.slots[0].binding
    assert certify(given, result).findings == ()


@pytest.mark.parametrize("more", [{}, {"min_energy_wh": 25_000}, {"max_energy_wh": 25_000}])
def test_a_block_that_must_deliver_all_it_has_by_a_second_rule_is_taken_whole(more: dict[str, object]) -> None:
    """Prices are those of blocks a hair smaller, which such a block cannot be."""
    block = offer("block", "b2", UP, [[(100_000, 10_000)]], 100_000, all_or_nothing=True, **more)
    need = request("need", UP, [[(100_000, 50_000)]], location_kind=Location.AREA)
    given = case(chain(3, km=0.1), [injection("b2", [-100_000])], offers=(block,), requests=(need,))
    result = clear(given)
    assert result.status is SlotStatus.EXACT
    assert result.offers[0].quantity == (100_000,)
    assert certify(given, result).findings == ()


@pytest.mark.parametrize(
    ("seed", "left_out"), [(25, "o00-portfolio-runs-block"), (43, "o05-polygon-block"), (27, "o02-start")]
)
def test_a_block_left_out_sets_no_price(seed: int, left_out: str) -> None:
    """Where every price between two bids would do, it is not the one at which such a block just earns nothing."""
    given = tied_market(seed)
    result = clear(given)
    block = next(o for o in given.offers if o.offer_id == left_out)
    dearer = cheaper(block, -3, tuple(range(SLOTS)))
    other = clear(replace(given, offers=tuple(dearer if o is block else o for o in given.offers)))
    assert not any(next(o.quantity for o in result.offers if o.offer_id == left_out))
    assert other.buses == result.buses
