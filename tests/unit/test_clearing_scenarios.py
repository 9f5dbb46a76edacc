"""A two-stage auction reserves once what some scenario may call, at the least expected cost, and pays for both."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from clearing import Case, Result, clear
from clearing.canonical import canonical_case, result_hash
from clearing.case import FixedAward, Location, Offer, Payback, Phase, Scenario, StartChoice, Unit, UnitKind
from clearing.certificate import certify
from clearing.convert.cases import convert_case
from clearing.files import case_to_text, read_case, read_result, result_to_text
from clearing.phases import unfold
from clearing.pipeline import solve
from clearing.power_flow import solve_ac
from flexbus.cli.certify import command as certify_command
from flexbus.cli.clear import command as clear_command
from flexbus.cli.convert import command as convert_command
from flexbus.errors import FaultyInputError
from flexbus.events.clearing import NonAwardReason
from flexbus.events.market import PricingRule
from flexbus.quantities import Direction
from tests.clearing_cases import case, chain, injection, market_day, offer, random_feeder, request
from tests.extensive_form import extensive_form

UP, DOWN = Direction.UP, Direction.DOWN


def scenario(name: str, ppm: int, **watts: list[int]) -> Scenario:
    injections = tuple(injection(bus, values) for bus, values in watts.items())
    return Scenario(scenario_id=name, probability_ppm=ppm, injections=injections)


def held(offer_id: str, bus: str, hold: int, stack: list[tuple[int, int]], slots: int = 1, **more: Any) -> Offer:
    """An upward offer that asks `hold` per MW and hour to be ready, and its stack when it is called."""
    way = more.pop("direction", UP)
    more["reservation_price_milli_per_mwh"] = (hold,) * slots
    return offer(offer_id, bus, way, [stack] * slots, **more)


def two_days(*offers: Offer, **more: Any) -> Case:
    """b0 - b1, 1 MW may be drawn; b1 draws 0.8 MW on three days of four, 1.3 MW on the fourth."""
    net = chain(2, km=0.001)
    net = replace(net, infeed_points=tuple(replace(p, max_import_w=1_000_000) for p in net.infeed_points))
    days = (scenario("calm", 750_000, b1=[-800_000]), scenario("peak", 250_000, b1=[-1_300_000]))
    return case(
        net, [injection("b1", [-800_000])], offers=offers, phase=Phase.STOCHASTIC, **{"scenarios": days, **more}
    )


def reserved(result: Result) -> dict[str, int]:
    return {r.offer_id: r.quantity[0] for r in result.reservations}


def test_two_scenarios_by_hand() -> None:
    """0.3 MW lack in the peak. To hold and call: a 1 + 90/4 = 23.5, b 20 + 40/4 = 30, c 2 + 200/4 = 52 EUR per MW."""
    result = clear(
        two_days(
            held("a", "b1", 1_000, [(200_000, 90_000)]),
            held("b", "b1", 20_000, [(500_000, 40_000)]),
            held("c", "b1", 2_000, [(500_000, 200_000)]),
        )
    )
    assert [s.scenario_id for s in result.scenarios] == ["calm", "peak"]
    got = reserved(result)
    assert got["a"] == 200_000
    assert got["b"] == pytest.approx(100_000, abs=2)
    assert got["c"] == 0
    assert {o.offer_id: o.quantity for o in result.offers} == {i: (0, q) for i, q in got.items()}
    # One more MW in the peak saves b: 20 / 0.25 + 40 = 120. Being able to call a saves 120 - 90 there, b 120 - 40.
    assert next(b for b in result.buses if b.bus_id == "b1").p_price_milli_per_mwh == (0, 120_000)
    price = {r.offer_id: r.price_milli_per_mwh for r in result.reservations}
    assert price == {"a": (7_500,), "b": (20_000,), "c": (0,)}
    calls = {o.offer_id: o.price_milli_per_mwh[1] for o in result.offers}
    assert (calls["a"], calls["b"]) == (90_000, 40_000)
    # A quarter of an hour: hold 0.2 x 1 + 0.1 x 20, call (0.2 x 90 + 0.1 x 40) / 4.
    assert result.bid_cost_nano == pytest.approx((2.2 + 5.5) / 4 * 1e9, abs=100_000)
    assert result.certificate.gap_nano is not None
    assert 0 <= result.certificate.gap_nano < 100_000


def test_a_rare_need_prefers_what_is_cheap_to_hold_a_usual_one_what_is_cheap_to_call() -> None:
    book = (held("hold-cheap", "b1", 1_000, [(500_000, 90_000)]), held("call-cheap", "b1", 20_000, [(500_000, 40_000)]))
    rare = two_days(*book)
    usual = replace(
        rare, scenarios=tuple(replace(s, probability_ppm=1_000_000 - s.probability_ppm) for s in rare.scenarios)
    )
    assert [bool(reserved(clear(c))["hold-cheap"]) for c in (rare, usual)] == [True, False]
    assert [bool(reserved(clear(c))["call-cheap"]) for c in (rare, usual)] == [False, True]


def test_one_reservation_serves_every_scenario_that_needs_it() -> None:
    """Both peaks lack something, the second more: what is held for it serves the first as well and is paid once."""
    days = (scenario("low", 500_000, b1=[-1_100_000]), scenario("high", 500_000, b1=[-1_300_000]))
    result = clear(two_days(held("a", "b1", 10_000, [(500_000, 50_000)]), scenarios=days))
    assert reserved(result)["a"] == pytest.approx(300_000, abs=2)
    assert result.offers[0].quantity == pytest.approx((300_000, 100_000), abs=2)
    assert result.reservations[0].cost_nano == pytest.approx(0.3 * 10 / 4 * 1e9, abs=100_000)
    # Only the scenario that calls all of it pays for more of it.
    assert result.reservations[0].price_milli_per_mwh == (10_000,)
    assert result.offers[0].price_milli_per_mwh == (50_000, 50_000)


def test_a_violation_too_rare_for_its_cure_stays_and_is_named() -> None:
    """An hour of 0.3 MW too much costs 900 EUR, but comes once in a million days."""
    days = (scenario("usual", 999_999, b1=[-800_000]), scenario("freak", 1, b1=[-1_300_000]))
    result = clear(two_days(held("a", "b1", 1_000, [(500_000, 40_000)]), scenarios=days))
    assert reserved(result) == {"a": 0}
    assert [[s.element_id for s in slot.shortfalls] for slot in result.slots] == [["root"], []]
    assert result.scenarios[0].violation_cost_nano == pytest.approx(0.3 * 3000 / 4 * 1e9, rel=1e-4)
    assert result.violation_cost_nano == pytest.approx(result.scenarios[0].violation_cost_nano / 1e6, abs=1)


@pytest.mark.parametrize("rule", PricingRule)
def test_one_certain_scenario_without_reservation_prices_is_the_plain_clearing(rule: PricingRule) -> None:
    plain = replace(market_day(3, 15, 6, 60, price=45_000, feed_in=26e6), pricing_rule=rule)
    book = tuple(
        replace(o, reservation_price_milli_per_mwh=() if k % 2 or o.all_or_nothing else (0,) * 6)
        for k, o in enumerate(plain.offers)
    )
    same = clear(plain)
    days = (Scenario(scenario_id="only", probability_ppm=1_000_000),)
    made = clear(replace(plain, offers=book, scenarios=days, phase=Phase.STOCHASTIC))
    assert any(any(o.quantity) for o in same.offers)
    # What is reserved for nothing is what is called; the rest is the same to the last digit.
    assert {r.offer_id: r.quantity for r in made.reservations} == {o.offer_id: o.quantity for o in same.offers}
    assert all(r.revenue_nano == r.cost_nano == 0 for r in made.reservations)
    bare = replace(made, scenarios=(), reservations=(), case_hash=same.case_hash, result_hash=same.result_hash)
    assert bare == same


def random_case(seed: int, *, slots: int = 2, features: bool = False) -> Case:
    """A feeder with too little room for some of its scenarios, and a book that asks to be held."""
    rng = random.Random(seed)
    n = 6
    net = random_feeder(seed, n, max_a=120.0, price=40_000)
    base = [injection(f"b{k:04d}", [rng.randrange(-700_000, -200_000) for _ in range(slots)]) for k in range(1, n)]
    shares = [rng.randrange(1, 5) for _ in range(3)]
    ppm = [1_000_000 * s // sum(shares) for s in shares]
    ppm[0] += 1_000_000 - sum(ppm)
    days = tuple(
        scenario(f"s{i}", p, **{b.bus_id: [round(w * (0.6 + 0.7 * i)) for w in b.power_w] for b in base})
        for i, p in enumerate(ppm)
    )
    kinds: list[dict[str, Any]] = [{}]
    if features:
        kinds += [
            {"max_energy_wh": 60_000},
            {"payback": Payback(factor_ppm=500_000, delay_slots=1, window_slots=2)},
            {"exclusive_group_id": "g"},
            {"max_rise": 150_000, "max_fall": 150_000},
            {"max_run_slots": 1, "min_rest_slots": 1},
            {"minimum": 50_000},
            {"tan_phi_ppm": 200_000},
        ]
    book = []
    for i in range(10):
        low = rng.randrange(45, 120) * 1000
        stack = [(rng.randrange(50_000, 250_000), low), (rng.randrange(50_000, 250_000), low + 20_000)]
        hold = rng.choice([0, 500, 3_000, 12_000])
        book.append(held(f"o{i}", f"b{rng.randrange(1, n):04d}", hold, stack, slots, **rng.choice(kinds)))
    if features:
        book.append(offer("block", "b0003", UP, [[(80_000, 60_000)]] * slots, all_or_nothing=True))
        book.append(held("out", "b0004", 100, [(200_000, 50_000)], slots, unit_id="store"))
        book.append(held("in", "b0004", 100, [(200_000, 1_000)], slots, unit_id="store", direction=DOWN))
    store = Unit(unit_id="store", kind=UnitKind.STORAGE, initial_energy_wh=20_000, max_energy_wh=60_000)
    return case(
        net, base, slots=slots, offers=tuple(book), scenarios=days, phase=Phase.STOCHASTIC,
        units=(store,) if features else (),
        requests=(request("zone", UP, [[(300_000, 55_000)]] * slots, location_kind=Location.AREA),),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_the_expected_cost_is_that_of_the_whole_problem_at_once(seed: int) -> None:
    given = canonical_case(random_case(seed))
    cleared = solve(unfold(given))
    assert cleared.bound.exact.all()
    truth = extensive_form(given)
    assert float(cleared.optimum.merit.sum()) == pytest.approx(truth, rel=1e-6, abs=1e-4)
    assert cleared.bound.value == pytest.approx(truth, rel=1e-6, abs=1e-4)
    result = clear(given)
    assert result.certificate.value_nano / 1e9 * 4 == pytest.approx(truth, rel=1e-4, abs=0.01)
    assert any(r.cost_nano for r in result.reservations)


@pytest.mark.parametrize("seed", range(6))
def test_every_scenario_holds_in_ac_and_the_certificate_holds(seed: int) -> None:
    """Offers with budgets, groups, ramps, runs, minima, a block and a storage: their rules hold in each scenario."""
    given = random_case(seed, slots=4, features=True)
    result = clear(given)
    assert [str(f) for f in certify(given, result).findings] == []
    buses = [b.bus_id for b in given.network.buses]
    for k, day in enumerate(given.scenarios):
        p = np.zeros((given.slots, len(buses)))
        for entry in day.injections:
            p[:, buses.index(entry.bus_id)] += entry.power_w
        q = np.zeros_like(p)
        for o in given.offers:
            got = next(r.quantity for r in result.offers if r.offer_id == o.offer_id)
            own = np.array(got[k * given.slots : (k + 1) * given.slots])
            assert (own <= np.array(next(r.quantity for r in result.reservations if r.offer_id == o.offer_id))).all()
            own = own.astype(float)
            for later in np.flatnonzero(own).tolist() if o.payback else ():
                own[later + 2 : later + 4] -= 0.25 * got[k * given.slots + later]
            p[:, buses.index(o.bus_id or "")] += o.direction.sign * own
            q[:, buses.index(o.bus_id or "")] += o.direction.sign * own * o.tan_phi_ppm / 1e6
        state = solve_ac(given.network, p, q)
        for t in range(given.slots):
            slot = result.slots[k * given.slots + t]
            named = {s.element_id for s in slot.shortfalls}
            for b, bus in enumerate(buses):
                assert bus in named or 0.95 - 1e-6 <= abs(state.voltage_pu[t, b]) <= 1.05 + 1e-6
            for j, branch in enumerate(given.network.branches):
                assert branch.branch_id in named or state.loading_ppm[t, j] <= 1_000_001


@cache
def settled(rule: PricingRule = PricingRule.NODAL) -> tuple[Case, Result]:
    given = replace(random_case(2, slots=3, features=True), pricing_rule=rule)
    return given, clear(given)


@pytest.mark.parametrize("rule", PricingRule)
def test_reservations_and_expected_calls_sum_to_the_last_digit(rule: PricingRule) -> None:
    given, result = settled(rule)
    assert certify(given, result).findings == ()
    ppm = [s.probability_ppm for s in given.scenarios]
    slots, called = given.slots, [0] * len(ppm)
    for o, first in zip(result.offers, result.reservations, strict=True):
        pay = [
            sum((q * 900 + 1800) // 3600 * m for q, m in zip(o.quantity[w], o.price_milli_per_mwh[w], strict=True))
            for w in (slice(k * slots, (k + 1) * slots) for k in range(len(ppm)))
        ]
        hold = sum((q * 900 + 1800) // 3600 * m for q, m in zip(first.quantity, first.price_milli_per_mwh, strict=True))
        assert first.revenue_nano == hold
        twice = 2 * sum(p * a for p, a in zip(ppm, pay, strict=True))
        assert o.revenue_nano == hold + (twice + 1_000_000) // 2_000_000
        called = [a + b for a, b in zip(called, pay, strict=True)]
        # Nobody is held below his bid.
        assert first.revenue_nano >= first.cost_nano - 10_000_000
    assert [s.cost_nano for s in result.scenarios] == called
    assert any(r.revenue_nano for r in result.reservations)
    assert result.cost_nano == sum(o.revenue_nano for o in result.offers)
    assert result.bid_cost_nano == sum(o.cost_nano for o in result.offers)
    assert result.network_residual_nano == result.cost_nano - sum(r.payment_nano for r in result.requests)
    assert result.welfare_nano == (
        result.request_value_nano
        + result.baseline_violation_cost_nano
        - result.bid_cost_nano
        - result.infeed_cost_nano
        - result.violation_cost_nano
    )


def test_no_scenario_leaves_a_provider_below_its_bids() -> None:
    given, result = settled()
    bids = {o.offer_id: o for o in given.offers}
    for o in result.offers:
        for t, (q, price) in enumerate(zip(o.quantity, o.price_milli_per_mwh, strict=True)):
            filled = 0
            for step in bids[o.offer_id].slots[t % given.slots].steps if not bids[o.offer_id].unit_id else ():
                if filled < q and bids[o.offer_id].max_rise is None and bids[o.offer_id].max_run_slots is None:
                    assert price >= step.price_milli_per_mwh - 1 or bids[o.offer_id].all_or_nothing
                filled += step.quantity


def changed(result: Result, path: list[str | int], by: float) -> Result:
    value = json.loads(result_to_text(result))
    at = value
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] += by
    made = read_result(json.dumps(value))
    return replace(made, result_hash=result_hash(replace(made, result_hash="")))


def places(result: Result) -> dict[str, list[str | int]]:
    """One number of every part that scenarios add."""
    k = next(i for i, r in enumerate(result.reservations) if r.cost_nano)
    t = next(i for i, q in enumerate(result.reservations[k].quantity) if q)
    s = max(range(len(result.slots)), key=lambda i: result.offers[k].quantity[i])
    c = next(i for i, x in enumerate(result.certificate.called) if x.offer_id == result.offers[k].offer_id)
    return {
        "reserved": ["reservations", k, "quantity", t],
        "price of it": ["reservations", k, "price_milli_per_mwh", t],
        "its revenue": ["reservations", k, "revenue_nano"],
        "its cost": ["reservations", k, "cost_nano"],
        "a call": ["offers", k, "quantity", s],
        "revenue": ["offers", k, "revenue_nano"],
        "bids": ["offers", k, "cost_nano"],
        "probability": ["scenarios", 0, "probability_ppm"],
        "cost of a scenario": ["scenarios", 1, "cost_nano"],
        "bids of a scenario": ["scenarios", 1, "bid_cost_nano"],
        "welfare of a scenario": ["scenarios", 1, "welfare_nano"],
        "expected cost": ["cost_nano"],
        "expected welfare": ["welfare_nano"],
        "expected payment": ["requests", 0, "payment_nano"],
        "bound": ["certificate", "lower_bound_nano"],
        "value": ["certificate", "value_nano"],
        "worth of a call": ["certificate", "called", c, "worth_eur_per_mwh", s],
    }


@pytest.mark.parametrize("what", [*places(settled()[1])])
def test_certify_refuses_a_changed_number(what: str) -> None:
    given, result = settled()
    path = places(result)[what]
    by = {"bound": 100_000, "price of it": 5, "worth of a call": 0.05}.get(what, 1)
    assert certify(given, changed(result, path, by)).findings != ()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda r: replace(r, scenarios=r.scenarios[::-1]),
        lambda r: replace(r, scenarios=()),
        lambda r: replace(r, reservations=r.reservations[1:]),
        lambda r: replace(r, certificate=replace(r.certificate, called=r.certificate.called[1:])),
        lambda r: replace(r, slots=r.slots[:-1]),
        lambda r: replace(r, offers=(replace(r.offers[0], price_milli_per_mwh=()), *r.offers[1:])),
        lambda r: replace(r, buses=(replace(r.buses[0], voltage_ppm=()), *r.buses[1:])),
    ],
)
def test_certify_refuses_what_is_left_out(spoil: Callable[[Result], Result]) -> None:
    given, result = settled()
    made = spoil(result)
    assert certify(given, replace(made, result_hash=result_hash(replace(made, result_hash="")))).findings != ()


def test_the_order_of_scenarios_offers_and_buses_does_not_matter() -> None:
    given, result = settled()
    rng = random.Random(1)

    def shuffled(items: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(rng.sample(items, len(items)))

    other = replace(
        given,
        offers=shuffled(given.offers),
        scenarios=tuple(replace(s, injections=shuffled(s.injections)) for s in shuffled(given.scenarios)),
        network=replace(given.network, buses=shuffled(given.network.buses), branches=shuffled(given.network.branches)),
    )
    assert other != given
    assert result_to_text(clear(other)) == result_to_text(result)


def test_a_reservation_priced_lower_by_what_the_reason_says_is_taken() -> None:
    given = two_days(held("a", "b1", 1_000, [(500_000, 90_000)]), held("dear", "b1", 20_000, [(500_000, 60_000)]))
    result = clear(given)
    assert reserved(result)["dear"] == 0
    why = next(n for n in result.non_awards if n.offer_id == "dear" and n.reason is NonAwardReason.PRICE)
    # To hold a and call it costs 1 + 90/4; dear is called at 60/4, so it may ask 8.5 to be held.
    assert why.price_distance_milli_per_mwh == pytest.approx(11_500, abs=2)
    assert why.slots == (1,)
    cheaper = 20_000 - (why.price_distance_milli_per_mwh or 0) - 1
    book = (given.offers[0], replace(given.offers[1], reservation_price_milli_per_mwh=(cheaper,)))
    assert reserved(clear(replace(given, offers=book)))["dear"] > 0


def test_a_profile_starts_when_each_scenario_needs_it() -> None:
    """The peak comes early in one scenario and late in the other; a washing machine's worth of relief follows it."""
    net = chain(2, km=0.001)
    net = replace(net, infeed_points=tuple(replace(p, max_import_w=1_000_000) for p in net.infeed_points))
    days = (
        scenario("early", 500_000, b1=[-1_300_000, -1_300_000, -800_000, -800_000]),
        scenario("late", 500_000, b1=[-800_000, -800_000, -1_300_000, -1_300_000]),
    )
    choice = StartChoice(profile=(250_000, 250_000), earliest_slot=0, latest_slot=2, price_milli_per_mwh=50_000)
    given = case(
        net, [injection("b1", [-800_000] * 4)], slots=4, scenarios=days, phase=Phase.STOCHASTIC,
        offers=(
            Offer(offer_id="wash", bus_id="b1", direction=UP, start_choice=choice),
            offer("rest", "b1", UP, [[(100_000, 120_000)]] * 4),
        ),
    )  # fmt: skip
    result = clear(given)
    got = {o.offer_id: o.quantity for o in result.offers}
    assert got["wash"] == (250_000, 250_000, 0, 0, 0, 0, 250_000, 250_000)
    assert got["rest"] == pytest.approx((50_000, 50_000, 0, 0, 0, 0, 50_000, 50_000), abs=2)
    assert next(r.quantity for r in result.reservations if r.offer_id == "wash") == (250_000,) * 4
    assert result.violation_cost_nano == 0
    assert certify(given, result).findings == ()


def test_an_earlier_award_is_part_of_every_scenario() -> None:
    given = two_days(held("a", "b1", 1_000, [(500_000, 90_000)]))
    earlier = FixedAward(award_id="earlier", bus_id="b1", direction=UP, power=(200_000,))
    both = [reserved(clear(replace(given, fixed_awards=f)))["a"] for f in ((), (earlier,))]
    assert both == pytest.approx([300_000, 100_000], abs=2)


def test_a_stochastic_case_and_its_result_are_files() -> None:
    given, result = settled()
    assert read_case(case_to_text(given)) == given
    assert read_result(result_to_text(result)) == result


def test_every_fault_is_named_with_its_path() -> None:
    given = two_days(held("a", "b1", 1_000, [(500_000, 90_000)]), held("b", "b1", -1, [(1, 1)], all_or_nothing=True))
    choice = StartChoice(profile=(1,), earliest_slot=0, latest_slot=0, price_milli_per_mwh=1)
    book = (
        given.offers[0],
        given.offers[1],
        Offer(offer_id="c", bus_id="b1", direction=UP, start_choice=choice, reservation_price_milli_per_mwh=(1,)),
        held("d", "b1", 1, [(1, 1)], 2),
    )
    book = (*book[:3], replace(book[3], slots=book[3].slots[:1]))
    days = (scenario("x", 600_000, b9=[1]), scenario("x", 500_000, b1=[1, 2]), scenario("", 0))
    with pytest.raises(FaultyInputError) as caught:
        clear(replace(given, offers=book, scenarios=days))
    assert {f.path for f in caught.value.faults} == {
        "$.scenarios",
        "$.scenarios[0].injections[0].bus_id",
        "$.scenarios[1].scenario_id",
        "$.scenarios[1].injections[0].power_w",
        "$.scenarios[1].injections[0].reactive_power_var",
        "$.scenarios[2].scenario_id",
        "$.scenarios[2].probability_ppm",
        "$.offers[1].reservation_price_milli_per_mwh",
        "$.offers[1].reservation_price_milli_per_mwh[0]",
        "$.offers[2].reservation_price_milli_per_mwh",
        "$.offers[3].reservation_price_milli_per_mwh",
    }
    with pytest.raises(FaultyInputError) as caught:
        clear(replace(given, offers=given.offers[:1], phase=Phase.DAY_AHEAD))
    paths = {f.path for f in caught.value.faults}
    assert paths == {"$.scenarios", "$.offers[0].reservation_price_milli_per_mwh"}
    with pytest.raises(FaultyInputError) as caught:
        clear(replace(given, offers=(), scenarios=()))
    assert {f.path for f in caught.value.faults} == {"$.scenarios"}


@pytest.mark.slow
def test_twenty_scenarios_of_a_day_on_33_buses_clear_and_certify(tmp_path: Path) -> None:
    """On the command line, from a converted grid to the proof, with blocks, budgets, storages and reactive offers."""
    files = {name: str(tmp_path / name) for name in ("case.json", "result.json", "report.html")}
    grid = ["matpower", "case33bw", "--slots", "24", "--offers", "30", "--scenarios", "20"]
    steps: list[tuple[Any, list[str]]] = [
        (convert_command, [*grid, "--out", files["case.json"]]),
        (clear_command, [files["case.json"], "--out", files["result.json"], "--report", files["report.html"]]),
        (certify_command, [files["case.json"], files["result.json"]]),
    ]
    for command, arguments in steps:
        done = CliRunner().invoke(command, arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.output
    result = read_result(Path(files["result.json"]).read_text())
    assert len(result.scenarios) == 20
    assert len(result.slots) == 20 * 24
    assert max(s.ac_violation_ppm for s in result.slots) == 0
    assert sum(any(r.quantity) for r in result.reservations) > 10
    page = Path(files["report.html"]).read_text()
    for text in ("20 scenarios", "What is reserved, whatever comes", "day-07"):
        assert text in page


def test_the_made_up_scenarios_are_the_same_for_the_same_seed() -> None:
    first, again, other = (
        convert_case("matpower", "case33bw", slots=2, offers=5, seed=seed, scenarios=3) for seed in (1, 1, 2)
    )
    assert first == again
    assert first.scenarios != other.scenarios
    assert sum(s.probability_ppm for s in first.scenarios) == 1_000_000
    assert certify(first, clear(first)).findings == ()
