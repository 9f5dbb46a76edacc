"""A capacity auction buys only what the grid could deliver: all of it upward, and all of it downward."""

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from clearing import Case, Result, clear
from clearing.case import FixedAward, Location, Offer, Payback, Phase, Unit, UnitKind
from clearing.certificate import certify
from clearing.files import case_to_text, read_case, read_result, result_to_text
from clearing.power_flow import solve_ac
from flexbus.errors import FaultyInputError
from flexbus.events.grid import NetworkModelPublished
from flexbus.quantities import Direction
from tests.clearing_cases import case, chain, injection, offer, random_feeder, request

UP, DOWN = Direction.UP, Direction.DOWN


def auction(*offers: Offer, watts: int = 600_000, slots: int = 1, sun: int = 1_000_000) -> Case:
    """A feeder with sun at its end near the upper voltage limit; the TSO wants reserve both ways."""
    return case(
        chain(6, km=4.0, price=70_000),
        [injection(f"b{k}", [sun] * slots) for k in range(1, 6)],
        slots=slots,
        offers=offers,
        requests=tuple(
            request(d.value, d, [[(watts, 50_000)]] * slots, location_kind=Location.AREA) for d in (UP, DOWN)
        ),
        phase=Phase.CAPACITY,
    )


def both_ways(name: str, bus: str, price: int, watts: int = 400_000, **more: Any) -> tuple[Offer, Offer]:
    return (
        offer(f"{name}-up", bus, UP, [[(watts, price)]], **more),
        offer(f"{name}-down", bus, DOWN, [[(watts, price)]], **more),
    )


def reserved(result: Result) -> dict[str, int]:
    return {o.offer_id: max(o.quantity) for o in result.offers}


def test_each_direction_is_bought_at_its_own_end() -> None:
    result = clear(auction(*both_ways("a", "b1", 10_000), sun=100_000))
    assert [(e.slot, e.direction) for e in result.ends] == [(0, UP), (0, DOWN)]
    quantity = {o.offer_id: o.quantity for o in result.offers}
    assert quantity == {"a-up": (400_000, 0), "a-down": (0, 400_000)}
    assert [r.matched for r in result.requests] == [(0, 400_000), (400_000, 0)]
    assert [(s.up_w, s.down_w) for s in result.slots] == [(400_000, 0), (0, 400_000)]
    # Availability is paid per MW and hour; what a call would cost upstream is not part of it.
    assert result.infeed_cost_nano == 0


def test_upward_reserve_that_would_lift_the_voltage_is_not_bought_but_downward_is() -> None:
    given = auction(*both_ways("end", "b5", 10_000), *both_ways("near", "b1", 30_000), sun=1_300_000)
    got = reserved(clear(given))
    assert got["end-down"] == 400_000
    assert got["end-up"] < 200_000
    assert got["near-up"] == 400_000
    # It is the voltage that keeps it out.
    wide = clear(replace(given, network=_wide(given)))
    assert reserved(wide)["end-up"] == 400_000


def _wide(given: Case) -> NetworkModelPublished:
    buses = tuple(replace(b, max_voltage_ppm=1_500_000) for b in given.network.buses)
    return replace(given.network, buses=buses)


@pytest.mark.parametrize("seed", range(8))
def test_what_is_awarded_is_deliverable_in_ac_at_both_ends(seed: int) -> None:
    """Checked by a power flow that shares nothing with the clearing: call all of one direction, in every slot."""
    rng = random.Random(seed)
    n, slots = 8, 2
    net = random_feeder(seed, n, max_a=rng.choice([60.0, 200.0]))
    base = [injection(f"b{k:04d}", [rng.randrange(-200_000, 300_000) for _ in range(slots)]) for k in range(1, n)]
    kinds: tuple[dict[str, Any], ...] = (
        {}, {}, {"all_or_nothing": True}, {"exclusive_group_id": "g"}, {"max_energy_wh": 90_000},
    )  # fmt: skip
    book = tuple(
        offer(
            f"o{i:02d}", f"b{rng.randrange(1, n):04d}", rng.choice([UP, DOWN]),
            [[(rng.randrange(200_000, 900_000), rng.randrange(1, 40) * 1000)]] * slots,
            **rng.choice(kinds),
        )
        for i in range(12)
    )  # fmt: skip
    wants = tuple(request(d.value, d, [[(2_000_000, 60_000)]] * slots, location_kind=Location.AREA) for d in (UP, DOWN))
    given = case(net, base, slots=slots, offers=book, requests=wants, phase=Phase.CAPACITY)
    result = clear(given)
    assert certify(given, result).findings == ()
    assert any(any(o.quantity) for o in result.offers)
    index = {b.bus_id: k for k, b in enumerate(net.buses)}
    for t, end in enumerate(result.ends):
        p = np.zeros((1, n))
        for entry in base:
            p[0, index[entry.bus_id]] += entry.power_w[end.slot]
        for mine in book:
            if mine.direction is end.direction:
                got = next(o.quantity for o in result.offers if o.offer_id == mine.offer_id)
                p[0, index[mine.bus_id]] += mine.direction.sign * got[t]  # type: ignore[index]
        state = solve_ac(net, p, np.zeros((1, n)))
        volts = np.abs(state.voltage_pu[0, 1:])
        assert volts.max() <= 1.05 + 1e-6
        assert volts.min() >= 0.95 - 1e-6
        assert np.nanmax(state.loading_ppm) <= 1_000_001
        assert result.slots[t].shortfalls == tuple(s for s in result.slots[t].shortfalls if s.kind.value == "REQUEST")


def test_group_block_and_earlier_awards_hold_over_both_ends() -> None:
    up, down = both_ways("a", "b1", 10_000, exclusive_group_id="one")
    result = clear(auction(up, down, sun=100_000))
    assert sorted(reserved(result).values()) == [0, 400_000]
    held = FixedAward(award_id="earlier", bus_id="b5", direction=UP, power=(500_000,))
    free, tied = (
        clear(replace(auction(*both_ways("end", "b5", 10_000), sun=1_200_000), fixed_awards=awards))
        for awards in ((), (held,))
    )
    assert reserved(tied)["end-up"] < reserved(free)["end-up"]


def test_ramps_bound_what_may_be_called_in_one_slot_and_not_in_the_next() -> None:
    up, down = both_ways("slow", "b1", 10_000, max_rise=150_000, max_fall=100_000)
    up, down = (replace(o, slots=o.slots * 3) for o in (up, down))
    given = auction(up, down, slots=3, sun=100_000)
    result = clear(given)
    got = {o.offer_id: [q for q in o.quantity if q] for o in result.offers}
    assert got == {"slow-up": [100_000] * 3, "slow-down": [100_000] * 3}
    assert certify(given, result).findings == ()


def test_a_capacity_case_and_its_result_are_files_and_certified() -> None:
    given = auction(*both_ways("a", "b5", 10_000))
    result = clear(given)
    assert read_case(case_to_text(given)) == given
    assert read_result(result_to_text(result)) == result
    assert certify(given, result).findings == ()
    assert certify(given, replace(result, ends=())).findings != ()


def test_what_binds_a_slot_to_a_call_in_another_one_is_a_fault() -> None:
    up, down = both_ways("a", "b1", 1_000)
    given = auction(
        replace(up, min_rest_slots=1, payback=Payback(factor_ppm=1, delay_slots=0, window_slots=1)),
        replace(down, max_run_slots=1, unit_id="u"),
    )
    given = replace(given, units=(Unit(unit_id="u", kind=UnitKind.STORAGE, max_energy_wh=1),))
    with pytest.raises(FaultyInputError) as caught:
        clear(given)
    assert {f.path for f in caught.value.faults} == {
        "$.offers[0].min_rest_slots",
        "$.offers[0].payback",
        "$.offers[1].max_run_slots",
        "$.units[0].kind",
    }
