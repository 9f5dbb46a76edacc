"""Small markets with an answer that can be said in words: a case is given, the result is expected."""

import random
from dataclasses import replace

import pytest

from clearing import Case, Result, clear
from clearing.case import BusShare, Location, RequestKind, Settings
from flexbus.errors import FaultyInputError
from flexbus.events.clearing import NonAwardReason, SlotStatus
from flexbus.quantities import Direction
from tests.clearing_cases import case, chain, injection, market_day, offer, request

UP, DOWN = Direction.UP, Direction.DOWN


def taken(result: Result) -> dict[str, tuple[int, ...]]:
    return {o.offer_id: o.quantity for o in result.offers}


def price(result: Result) -> dict[str, tuple[int, ...]]:
    return {o.offer_id: o.price_milli_per_mwh for o in result.offers}


def request_at(
    kind: Location, place: str, watts: int = 300_000, worth: int = 100_000, direction: Direction = UP
) -> Case:
    """A four-bus feeder, a cheap offer at its end and a dear one at its start, one request."""
    return case(
        chain(4),
        [injection(f"b{k}", [-200_000]) for k in (1, 2, 3)],
        offers=(
            offer("cheap", "b3", direction, [[(200_000, 20_000)]]),
            offer("dear", "b1", direction, [[(200_000, 50_000)]]),
        ),
        requests=(request("need", direction, [[(watts, worth)]], location_kind=kind, location_id=place),),
    )


def test_request_of_the_area_takes_the_cheapest_and_pays_the_marginal_price() -> None:
    result = clear(request_at(Location.AREA, ""))
    assert taken(result) == {"cheap": (200_000,), "dear": (100_000,)}
    assert price(result) == {"cheap": (50_000,), "dear": (50_000,)}
    assert result.requests[0].matched == (300_000,)
    assert result.requests[0].reason == ""


def test_request_at_a_bus_or_in_a_zone_counts_only_what_is_there() -> None:
    assert taken(clear(request_at(Location.BUS, "b3"))) == {"cheap": (200_000,), "dear": (0,)}
    assert taken(clear(request_at(Location.ZONE, "near"))) == {"cheap": (0,), "dear": (200_000,)}


def test_unmet_request_says_how_much_is_missing() -> None:
    result = clear(request_at(Location.BUS, "b3"))
    need = result.requests[0]
    assert need.matched == (200_000,)
    assert "100.000 kW short" in need.reason
    assert result.slots[0].shortfalls[0].element_id == "need"
    assert result.slots[0].shortfalls[0].amount == 100_000


@pytest.mark.parametrize("direction", [UP, DOWN])
def test_request_over_a_branch_counts_the_change_of_its_ac_flow(direction: Direction) -> None:
    given = request_at(Location.BRANCH, "l2", 150_000, direction=direction)
    before = clear(replace(given, requests=()))
    after = clear(given)
    was, now = (next(b.power_w[0] for b in r.branches if b.branch_id == "l2") for r in (before, after))
    assert (was - now) * direction.sign == pytest.approx(150_000, abs=2)
    # Behind the branch only the cheap offer helps, and losses make a little less than the request enough.
    assert taken(after)["dear"] == (0,)
    assert 149_000 < taken(after)["cheap"][0] <= 151_000


def test_tso_request_at_the_infeed_point_counts_what_arrives_there() -> None:
    given = request_at(Location.INFEED_POINT, "root", 250_000)
    given = replace(given, requests=(replace(given.requests[0], kind=RequestKind.TSO),))
    before, after = clear(replace(given, requests=())), clear(given)
    drop = before.infeed_points[0].power_w[0] - after.infeed_points[0].power_w[0]
    assert drop == pytest.approx(250_000, abs=2)


def test_request_below_every_bid_takes_nothing_and_every_offer_hears_its_distance() -> None:
    result = clear(request_at(Location.AREA, "", worth=15_000))
    assert taken(result) == {"cheap": (0,), "dear": (0,)}
    reasons = {n.offer_id: (n.reason, n.amount) for n in result.non_awards}
    assert reasons["cheap"] == (NonAwardReason.PRICE, 5_000)
    assert reasons["dear"] == (NonAwardReason.PRICE, 35_000)


def test_voltage_rise_is_cured_by_the_offer_that_helps_most_per_euro() -> None:
    given = case(
        chain(6, km=4.0),
        [injection(f"b{k}", [2_000_000]) for k in range(1, 6)],
        offers=(
            offer("end", "b5", DOWN, [[(2_000_000, 30_000)]]),
            offer("start", "b1", DOWN, [[(2_000_000, 25_000)]]),
        ),
    )
    result = clear(given)
    assert result.slots[0].status is SlotStatus.REPAIRED
    assert result.slots[0].ac_violation_ppm == 0
    assert max(b.voltage_ppm[0] for b in result.buses) == pytest.approx(1_050_000, abs=1)
    assert taken(result)["end"][0] > 100_000
    assert taken(result)["start"] == (0,)
    # The marginal offer sets the price at its bus; near the infeed a MW is worth less.
    assert price(result)["end"] == (30_000,)
    assert 0 < price(result)["start"][0] < 25_000
    assert result.slots[0].binding[0].element_id == "b5"


def test_overload_without_offers_stays_as_a_named_shortfall() -> None:
    given = case(chain(3, max_a=100), [injection("b2", [-5_000_000])])
    result = clear(given)
    assert {s.element_id for s in result.slots[0].shortfalls} == {"l1", "l2"}
    assert result.violation_cost_nano == result.baseline_violation_cost_nano > 0


def test_offer_in_the_wrong_direction_is_not_taken() -> None:
    given = case(
        chain(3, max_a=100),
        [injection("b2", [-5_000_000])],
        offers=(offer("worse", "b2", DOWN, [[(1_000_000, -1_000)]]), offer("cure", "b2", UP, [[(3_000_000, 9_000)]])),
    )
    result = clear(given)
    assert taken(result)["worse"] == (0,)
    assert taken(result)["cure"][0] > 1_000_000


def test_portfolio_delivers_by_its_shares() -> None:
    given = replace(
        request_at(Location.BUS, "b3", 100_000),
        offers=(
            offer(
                "both",
                None,
                UP,
                [[(400_000, 10_000)]],
                shares=(BusShare(bus_id="b3", share_ppm=250_000), BusShare(bus_id="b1", share_ppm=750_000)),
            ),
        ),
    )
    assert taken(clear(given)) == {"both": (400_000,)}


def test_energy_budget_is_spent_where_it_is_worth_most() -> None:
    given = case(
        chain(3),
        [injection("b2", [-100_000] * 4)],
        slots=4,
        offers=(offer("limited", "b2", UP, [[(400_000, 10_000)]] * 4, max_energy_wh=150_000),),
        requests=(
            request("need", UP, [[(400_000, 20_000 + 10_000 * t)] for t in range(4)], location_kind=Location.AREA),
        ),
    )
    result = clear(given)
    assert taken(result)["limited"] == (0, 0, 200_000, 400_000)
    reason = next(n for n in result.non_awards if n.offer_id == "limited")
    assert reason.reason is NonAwardReason.ENERGY_BUDGET


def test_block_is_taken_whole_or_not_at_all() -> None:
    def with_worth(worth: int) -> Result:
        return clear(
            case(
                chain(3),
                [injection("b2", [-100_000] * 3)],
                slots=3,
                offers=(offer("block", "b2", UP, [[(100_000, 50_000)]] * 3, all_or_nothing=True),),
                requests=(
                    request("need", UP, [[(100_000, 90_000)], [(100_000, worth)], []], location_kind=Location.AREA),
                ),
            )
        )

    assert taken(with_worth(90_000))["block"] == (100_000,) * 3
    assert taken(with_worth(30_000))["block"] == (0,) * 3


def test_equal_offers_at_one_bus_share_pro_rata() -> None:
    given = case(
        chain(3),
        [injection("b2", [-100_000])],
        offers=(offer("a", "b2", UP, [[(300_000, 10_000)]]), offer("b", "b2", UP, [[(100_000, 10_000)]])),
        requests=(request("need", UP, [[(200_000, 50_000)]], location_kind=Location.AREA),),
    )
    assert taken(clear(given)) == {"a": (150_000,), "b": (50_000,)}


def test_permuted_case_gives_the_same_bytes() -> None:
    given = market_day(3, 12, 8, 30, feed_in=40e6)
    rng = random.Random(0)
    net = given.network
    shuffled = replace(
        given,
        offers=tuple(rng.sample(given.offers, len(given.offers))),
        baseline=tuple(rng.sample(given.baseline, len(given.baseline))),
        network=replace(
            net,
            buses=tuple(rng.sample(net.buses, len(net.buses))),
            branches=tuple(rng.sample(net.branches, len(net.branches))),
        ),
    )
    assert clear(shuffled) == clear(given)


def test_faulty_case_lists_every_fault_with_its_path() -> None:
    given = request_at(Location.BUS, "nowhere")
    given = replace(
        given,
        offers=(given.offers[0], given.offers[0]),
        baseline=(injection("b9", [0]), injection("b1", [0, 0])),
        settings=Settings(quantity_step_w=0),
    )
    with pytest.raises(FaultyInputError) as caught:
        clear(given)
    assert {f.path for f in caught.value.faults} == {
        "$.requests[0].location_id",
        "$.offers[1].offer_id",
        "$.baseline[0].bus_id",
        "$.baseline[1].power_w",
        "$.baseline[1].reactive_power_var",
        "$.settings.quantity_step_w",
    }
