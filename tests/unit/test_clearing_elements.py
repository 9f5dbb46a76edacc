"""Every element of a grid, every length of a day and every kind of offer in one case; the certificate must hold."""

import random
from dataclasses import replace

import pytest

from clearing import Case, clear
from clearing.case import (
    BusShare,
    InfeedPrice,
    Location,
    Offer,
    Payback,
    PolygonSlice,
    PolygonVertex,
    Quantity,
    RequestKind,
    Settings,
    StartChoice,
    Unit,
    UnitKind,
)
from clearing.certificate import certify
from flexbus.events.clearing import LimitKind
from flexbus.events.grid import Branch, BranchKind, Bus, InfeedPoint, NetworkModelPublished
from flexbus.quantities import Direction
from tests.clearing_cases import case, injection, line, offer, request

UP, DOWN = Direction.UP, Direction.DOWN


def grid() -> NetworkModelPublished:
    """Two infeed points, a transformer, a loop, a coupler, an open switch, a shunt, limits of every kind.

    root -T1- a1 ==c== a2 --l1-- b --l2-- d --l4(S)-- e     other
               |                  |        \\                  |
               +------- l3 -------+         `-- (open) -- f --l5
    """

    def bus(name: str, volts: int = 20_000, **more: object) -> Bus:
        return Bus(
            bus_id=name, nominal_voltage_v=volts, min_voltage_ppm=950_000, max_voltage_ppm=1_050_000, **more,  # type: ignore[arg-type]
        )  # fmt: skip

    transformer = Branch(
        branch_id="T1", kind=BranchKind.TRANSFORMER, from_bus_id="root", to_bus_id="a1", r_ohm=0.08, x_ohm=1.6,
        g_s=2e-5, b_s=-1e-4, ratio=1.02, shift_deg=150.0, max_apparent_power_va=25_000_000, max_from_current_ma=200_000,
    )  # fmt: skip
    coupler = Branch(branch_id="c", kind=BranchKind.SWITCH, from_bus_id="a1", to_bus_id="a2", r_ohm=0.0, x_ohm=0.0)
    opened = replace(line("open", "d", "f"), closed=False)
    rated = replace(line("l4", "d", "e", 2.0), max_apparent_power_va=900_000)
    return NetworkModelPublished(
        area_id="area",
        network_id="net",
        revision=1,
        valid_from_ms=0,
        buses=(
            bus("root", 110_000), bus("a1"), bus("a2"), bus("b", zone_id="z"), bus("d", zone_id="z", shunt_b_s=5e-4),
            bus("e"), bus("f"), bus("other"), bus("island"),
        ),
        branches=(
            transformer, coupler, line("l1", "a2", "b", 3.0, 120.0), line("l2", "b", "d", 3.0, 120.0),
            line("l3", "a1", "d", 6.0, 120.0), rated, line("l5", "other", "f", 4.0, 60.0), opened,
        ),
        infeed_points=(
            InfeedPoint(infeed_id="up", bus_id="root", voltage_ppm=1_020_000, import_price_milli_per_mwh=60_000,
                        max_export_w=2_500_000),
            InfeedPoint(infeed_id="side", bus_id="other", voltage_ppm=1_010_000, angle_deg=-5.0, max_import_w=900_000),
        ),
    )  # fmt: skip


def day(slots: int, resolution_s: int, seed: int = 0) -> Case:
    rng = random.Random(seed)

    def series(size: int, sign: int) -> list[int]:
        return [round(sign * size * (0.3 + 0.7 * rng.random())) for _ in range(slots)]

    baseline = [
        injection("b", series(1_500_000, 1), series(200_000, -1)),
        injection("d", series(1_400_000, 1)),
        injection("e", series(1_500_000, -1), series(300_000, -1)),
        injection("f", series(1_300_000, -1)),
    ]
    return replace(case(grid(), baseline, slots=slots), resolution_s=resolution_s)


def with_everything(given: Case, seed: int) -> Case:
    rng = random.Random(seed)
    n = given.slots

    def stacks(steps: int, low: int, high: int) -> list[list[tuple[int, int]]]:
        return [
            [(rng.randrange(20_000, 150_000), p) for p in sorted(rng.randrange(low, high) for _ in range(steps))]
            for _ in range(n)
        ]

    part = (BusShare(bus_id="b", share_ppm=400_000), BusShare(bus_id="f", share_ppm=600_000))
    corners = tuple(PolygonVertex(energy_before_wh=x, energy_wh=y) for x, y in ((0, 0), (90_000, 0), (0, 30_000)))
    one, other = rng.choice([(UP, DOWN), (DOWN, UP)])
    book: tuple[Offer, ...] = (
        offer("20-steps", "e", UP, stacks(20, 1_000, 90_000)),
        offer("down", "d", DOWN, stacks(3, -70_000, 20_000)),
        offer("portfolio", None, UP, stacks(2, 20_000, 90_000), shares=part, tan_phi_ppm=200_000),
        offer("block", "f", UP, [[(200_000, 40_000)]] * n, all_or_nothing=True),
        offer("sibling-1", "e", UP, stacks(1, 10_000, 90_000), exclusive_group_id="g"),
        offer("sibling-2", "e", UP, stacks(1, 10_000, 90_000), exclusive_group_id="g"),
        offer("child", "f", UP, stacks(1, 10_000, 50_000), parent_offer_id="block"),
        offer("budget", "b", DOWN, stacks(2, -60_000, 10_000), max_energy_wh=120_000, min_energy_wh=20_000),
        offer("runner", "f", UP, stacks(1, 10_000, 60_000), max_run_slots=2, min_rest_slots=1),
        offer("ramp", "f", UP, stacks(1, 10_000, 60_000), max_rise=30_000, max_fall=40_000),
        offer("payback", "e", UP, stacks(1, 5_000, 40_000),
              payback=Payback(factor_ppm=1_100_000, delay_slots=1, window_slots=2)),
        offer("slices", "d", one, stacks(1, -20_000, 40_000), polygons=(PolygonSlice(slot=n - 1, vertices=corners),)),
        offer("charge", "b", DOWN, stacks(1, -80_000, 0), unit_id="tank"),
        offer("discharge", "b", UP, stacks(1, 0, 80_000), unit_id="tank"),
        offer("sun", "d", DOWN, stacks(1, -60_000, 0), unit_id="pv"),
        offer("var", "d", other, stacks(1, 0, 9_000), unit_id="pv", quantity=Quantity.REACTIVE),
        offer("minimum", "e", UP, stacks(2, 10_000, 90_000), minimum=40_000),
        offer("island", "island", UP, stacks(1, 1_000, 2_000)),
        Offer(offer_id="start", bus_id="f", direction=UP, start_choice=StartChoice(
            profile=(80_000, 40_000), earliest_slot=0, latest_slot=n - 2, price_milli_per_mwh=45_000)),
    )  # fmt: skip
    book = tuple(replace(o, slots=tuple(replace(s, max_quantity=50_000) for s in o.slots)) if o.offer_id == "sibling-1"
                 else o for o in book)  # fmt: skip
    curve = [[(150_000, 95_000), (100_000, 70_000)]] * n
    wants = (
        request("bus", UP, curve, location_kind=Location.BUS, location_id="e"),
        request("zone", DOWN, curve, location_kind=Location.ZONE, location_id="z", kind=RequestKind.ENERGY),
        request("line", UP, curve, location_kind=Location.BRANCH, location_id="l4"),
        request("tso", UP, curve, location_kind=Location.INFEED_POINT, location_id="side", kind=RequestKind.TSO),
        request("brp", UP, curve, location_kind=Location.AREA, kind=RequestKind.ENERGY),
        request("var", UP, curve, location_kind=Location.BUS, location_id="d", quantity=Quantity.REACTIVE),
    )
    units = (
        Unit(unit_id="tank", kind=UnitKind.STORAGE, initial_energy_wh=40_000, max_energy_wh=100_000,
             min_final_energy_wh=20_000, charge_efficiency_ppm=950_000, discharge_efficiency_ppm=930_000,
             self_discharge_ppm_per_h=2_000),
        Unit(unit_id="pv", kind=UnitKind.INVERTER, baseline_power_w=(300_000,) * n, max_apparent_power_va=320_000,
             max_tan_phi_ppm=484_000),
    )  # fmt: skip
    prices = (
        InfeedPrice(infeed_id="side", price_milli_per_mwh=tuple(rng.randrange(-20, 90) * 1000 for _ in range(n))),
    )
    return replace(given, offers=book, requests=wants, units=units, infeed_prices=prices)


@pytest.mark.parametrize("seed", range(6))
def test_everything_together_has_a_result_that_certifies(seed: int) -> None:
    given = with_everything(day(4, 900, seed), seed)
    result = clear(given)
    assert certify(given, result).findings == ()
    assert sum(any(o.quantity) for o in result.offers) >= 5
    # Whole watts: the smallest rating is 900 kVA, so that a millionth is 0.9 VA; 10 W is what is promised.
    assert all(s.ac_violation_ppm * 0.9 <= 10 for s in result.slots)
    for r in result.requests:
        assert (r.matched == r.requested) == (r.unmet_reason is None)
    dead = next(n for n in result.non_awards if n.offer_id == "island")
    assert dead.element_id == "island"
    assert next(b.voltage_ppm for b in result.buses if b.bus_id == "island") == (0,) * 4


def test_limits_of_every_kind_are_seen() -> None:
    """What the forecast breaks is a need; with nobody to cure it each broken limit is named."""
    low = Settings(voltage_margin_ppm=45_000)  # 0.995 to 1.005 pu
    seen = set()
    for given in (day(8, 900, 1), replace(dark(day(8, 900, 2)), settings=low), sunny(day(8, 900, 3))):
        result = clear(given)
        seen |= {s.kind for slot in result.slots for s in slot.shortfalls}
        # Each is counted in its slot: nobody ties them, so that their gaps make up that of the whole.
        assert result.certificate.gap_nano is not None
        assert abs(sum(slot.gap_nano or 0 for slot in result.slots) - result.certificate.gap_nano) <= 1_000
    rest = {LimitKind.REQUEST, LimitKind.POWER_FLOW}
    assert seen == set(LimitKind) - rest


def dark(given: Case) -> Case:
    """Nothing but load, twice as much."""
    loads = tuple(replace(b, power_w=tuple(-2 * abs(w) for w in b.power_w)) for b in given.baseline)
    return replace(given, baseline=loads)


def sunny(given: Case) -> Case:
    """Three times the sun, no load: power leaves by the transformer, over its own limit as well."""
    strong = tuple(replace(b, power_w=tuple(abs(w) * 3 for w in b.power_w)) for b in given.baseline)
    lines = tuple(
        replace(
            b, max_from_current_ma=b.max_current_ma if b.branch_id == "l2" else 30_000 if b.branch_id == "T1" else None
        )
        for b in given.network.branches
    )
    return replace(given, baseline=strong, network=replace(given.network, branches=lines))


@pytest.mark.parametrize(
    ("slots", "resolution_s"),
    [(1, 300), (12, 300), (192, 300), (92, 900), (96, 900), (100, 900), (192, 900), (48, 1800), (25, 3600), (1, 3600)],
)
def test_a_day_of_any_length_is_cleared(slots: int, resolution_s: int) -> None:
    given = day(slots, resolution_s)
    cure = offer("cure", "e", UP, [[(1_000_000, 30_000)]] * slots)
    given = replace(given, offers=(cure,))
    result = clear(given)
    assert len(result.slots) == len(result.offers[0].quantity) == slots
    assert any(result.offers[0].quantity)
    assert result.cost_nano == sum(s.cost_nano for s in result.slots) == result.offers[0].revenue_nano
    assert certify(given, result).findings == ()
