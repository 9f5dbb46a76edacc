"""Who is paid what, who pays, and that it sums to the last digit."""

from dataclasses import replace

import pytest

from clearing import Case, Result, clear
from clearing.case import LimitPrice, Location, Offer, Quantity, Settings, StartChoice
from clearing.certificate import certify
from flexbus.errors import FaultyInputError
from flexbus.events.clearing import LimitKind
from flexbus.events.market import PricingRule
from flexbus.quantities import Direction
from tests.clearing_cases import case, chain, injection, offer, request

UP, DOWN = Direction.UP, Direction.DOWN


def overload(*offers: Offer, slots: int = 1, **settings: object) -> Case:
    """Two lines of 100 A (3.46 MVA) carry 5 MW to b2: nothing on offer is enough, so a MW is worth twice 3000 EUR."""
    return case(
        chain(3, max_a=100),
        [injection("b2", [-5_000_000] * slots)],
        slots=slots,
        offers=offers,
        settings=Settings(**settings),  # type: ignore[arg-type]
    )


def price(result: Result, offer_id: str) -> tuple[int, ...]:
    return next(o.price_milli_per_mwh for o in result.offers if o.offer_id == offer_id)


def test_what_is_paid_ends_at_the_cap_and_what_a_unit_is_worth_does_not() -> None:
    given = overload(offer("cure", "b2", UP, [[(500_000, 40_000)]]), price_cap_milli_per_mwh=400_000)
    result = clear(given)
    worth = next(b.p_price_milli_per_mwh[0] for b in result.buses if b.bus_id == "b2")
    assert worth > 5_900_000
    assert price(result, "cure") == (400_000,)
    assert certify(given, result).findings == ()


def test_an_accepted_bid_above_the_cap_is_paid_and_lifts_nobody_else() -> None:
    dear = offer("dear", "b2", UP, [[(100_000, 40_000), (100_000, 900_000)]])
    given = overload(dear, offer("cheap", "b2", UP, [[(500_000, 40_000)]]), price_cap_milli_per_mwh=400_000)
    result = clear(given)
    assert price(result, "dear") == (900_000,)
    assert price(result, "cheap") == (400_000,)
    assert certify(given, result).findings == ()


def test_who_has_to_pay_pays_no_more_than_the_cap_either() -> None:
    """Drawing more here costs 6000 EUR per MWh; who would give 9000 for it gives the cap."""
    given = overload(offer("wrong", "b2", DOWN, [[(100_000, -9_000_000)]]), price_cap_milli_per_mwh=400_000)
    result = clear(given)
    assert result.offers[0].quantity == (100_000,)
    assert price(result, "wrong") == (-400_000,)
    assert certify(given, result).findings == ()


def test_a_step_that_is_not_taken_does_not_lift_the_price_of_those_that_are() -> None:
    greedy = offer("greedy", "b2", UP, [[(100_000, 40_000), (100_000, 50_000_000)]])
    result = clear(overload(greedy, price_cap_milli_per_mwh=400_000))
    assert result.offers[0].quantity == (100_000,)
    assert price(result, "greedy") == (400_000,)


@pytest.mark.parametrize("kind", ["block", "start choice"])
def test_a_block_is_not_taken_at_a_loss_under_the_cap(kind: str) -> None:
    # Worth 6000 in slot 0 and nothing in slot 1: 2 x 300 is a bargain for the grid, yet 400 + 0 do not pay it.
    block = offer("whole", "b2", UP, [[(300_000, 300_000)]] * 2, all_or_nothing=True)
    if kind == "start choice":
        choice = StartChoice(profile=(300_000, 300_000), earliest_slot=0, latest_slot=0, price_milli_per_mwh=300_000)
        block = Offer(offer_id="whole", bus_id="b2", direction=UP, start_choice=choice)
    given = overload(block, slots=2, price_cap_milli_per_mwh=400_000)
    given = replace(given, baseline=(injection("b2", [-5_000_000, -100_000]),))
    assert clear(given).offers[0].quantity == (0, 0)
    paid = clear(replace(given, settings=Settings(price_cap_milli_per_mwh=700_000)))
    assert paid.offers[0].quantity == (300_000, 300_000)
    assert paid.offers[0].revenue_nano >= paid.offers[0].cost_nano


def test_a_cap_must_be_a_price() -> None:
    with pytest.raises(FaultyInputError) as caught:
        clear(overload(price_cap_milli_per_mwh=-1))
    assert [f.path for f in caught.value.faults] == ["$.settings.price_cap_milli_per_mwh"]


def two_needs(first: int, second: int) -> Case:
    """b0 --l1-- b1 --l2-- b2 draws more than both lines carry; what a MW at 200 EUR may cost is what they are worth."""
    return replace(
        overload(offer("cure", "b2", UP, [[(1_000_000, 200_000)]])),
        limit_prices=(
            LimitPrice(kind=LimitKind.CURRENT_TO, price_milli=first),
            LimitPrice(kind=LimitKind.CURRENT_TO, element_id="l2", price_milli=second),
        ),
    )


@pytest.mark.parametrize(
    ("every", "l2", "taken"), [(0, 0, 0), (150_000, 0, 0), (0, 300_000, 1), (150_000, 150_000, 1), (300_000, 0, 1)]
)
def test_every_limit_has_its_worth_by_kind_or_by_element(every: int, l2: int, taken: int) -> None:
    given = two_needs(every, l2)
    result = clear(given)
    assert result.offers[0].quantity == (taken * 1_000_000,)
    assert certify(given, result).findings == ()
    worth = next(b.p_price_milli_per_mwh[0] for b in result.buses if b.bus_id == "b2")
    assert worth == pytest.approx(every + l2, rel=0.08)  # a MW less draw relieves a little more than an MVA


def test_bad_limit_prices_are_named() -> None:
    given = replace(
        two_needs(0, 0),
        limit_prices=(
            LimitPrice(kind=LimitKind.REQUEST, price_milli=1),
            LimitPrice(kind=LimitKind.IMPORT, element_id="b2", price_milli=-1),
            LimitPrice(kind=LimitKind.VOLTAGE_MAX, price_milli=1),
            LimitPrice(kind=LimitKind.VOLTAGE_MAX, price_milli=2),
        ),
    )
    with pytest.raises(FaultyInputError) as caught:
        clear(given)
    assert {f.path for f in caught.value.faults} == {
        "$.limit_prices[0].kind",
        "$.limit_prices[1].element_id",
        "$.limit_prices[1].price_milli",
        "$.limit_prices[3]",
    }


@pytest.mark.parametrize("rule", PricingRule)
def test_what_providers_get_is_what_requests_pay_and_the_networks_bill(rule: PricingRule) -> None:
    """A zone buys, a voltage limit is cured with P and Q: every amount is an integer, and the sums close."""
    given = case(
        chain(6, km=4.0, price=50_000),
        [injection(f"b{k}", [1_700_000]) for k in range(1, 6)],
        offers=(
            offer("q", "b5", DOWN, [[(300_000, 4_000)]], quantity=Quantity.REACTIVE),
            offer("p", "b5", DOWN, [[(2_000_000, 30_000)]]),
            offer("near", "b1", DOWN, [[(333_333, -60_000)]]),
        ),
        requests=(
            request("brp", DOWN, [[(200_000, 90_000), (100_000, 70_000)]], location_kind=Location.ZONE,
                    location_id="near"),
        ),
        pricing_rule=rule,
    )  # fmt: skip
    result = clear(given)
    (bought,) = result.requests
    assert bought.matched == (300_000,)
    assert 0 <= bought.payment_nano <= 200_000 * 90_000 // 4 + 100_000 * 70_000 // 4
    assert result.cost_nano == sum(o.revenue_nano for o in result.offers) == sum(s.cost_nano for s in result.slots)
    assert result.cost_nano == bought.payment_nano + result.network_residual_nano
    assert any(o.quantity[0] and o.offer_id == "q" for o in result.offers)
    assert certify(given, result).findings == ()
    lying = replace(result, network_residual_nano=result.network_residual_nano + 1)
    assert any("network_residual" in f.path for f in certify(given, lying).findings)
