"""A prepared network: the same bytes as without, in whatever order its elements came."""

from dataclasses import replace

import pytest

from clearing import Case, Model, clear
from clearing.convert.cases import convert_case
from clearing.files import result_to_text
from flexbus.errors import FaultyInputError
from tests.clearing_cases import chain, market_day


def shuffled(case: Case) -> Case:
    net = case.network
    return replace(case, network=replace(net, buses=net.buses[::-1], branches=net.branches[::-1]))


@pytest.mark.parametrize("slots", [1, 24])
def test_results_with_a_model_are_the_same_bytes(slots: int) -> None:
    case = convert_case("matpower", "case33bw", day="sunny", slots=slots, offers=30, seed=1)
    model = Model(case.network)
    markets = [
        case,
        replace(case, settings=replace(case.settings, voltage_margin_ppm=5_000)),
        replace(case, offers=case.offers[: len(case.offers) // 2]),
        case,
    ]
    for market in markets:
        assert result_to_text(clear(market, model=model)) == result_to_text(clear(market))


def test_the_order_of_the_network_does_not_matter() -> None:
    case = shuffled(market_day(2, 15, 6, 20))
    assert clear(case, model=Model(case.network)).result_hash == clear(case).result_hash


def test_a_model_of_another_network_is_refused() -> None:
    case = market_day(2, 15, 6, 20)
    with pytest.raises(ValueError, match="not that of case"):
        clear(case, model=Model(chain(3)))


def test_a_faulty_network_has_no_model_and_a_faulty_market_is_refused_with_one() -> None:
    case = market_day(2, 15, 6, 20)
    first, *others = case.network.branches
    with pytest.raises(FaultyInputError) as caught:
        Model(replace(case.network, branches=(replace(first, r_ohm=-1.0), *others)))
    assert [f.path for f in caught.value.faults] == ["$.network.branches[0].r_ohm"]
    with pytest.raises(FaultyInputError):
        clear(replace(case, resolution_s=7), model=Model(case.network))
