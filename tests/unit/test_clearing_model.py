"""A prepared network: the same bytes as without, in whatever order its elements came."""

from dataclasses import replace

import numpy as np
import pytest

from clearing import Case, Model, award, clear
from clearing.convert.cases import convert_case
from clearing.files import result_to_text
from flexbus.errors import FaultyInputError
from flexbus.events.clearing import SlotStatus
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


def measured(case: Case, times: float) -> Case:
    """The same market at another state of the grid."""
    power = tuple(replace(b, power_w=tuple(round(times * w) for w in b.power_w)) for b in case.baseline)
    return replace(case, baseline=power)


@pytest.mark.parametrize("slots", [1, 2])
def test_the_same_offers_at_many_states_with_one_model_are_the_same_bytes(slots: int) -> None:
    case = convert_case("matpower", "case33bw", day="winter", slots=slots, offers=15, seed=2)
    first, *others = case.offers
    cheaper = replace(case, offers=(*others, replace(first, direction=first.direction)))
    model = Model(case.network)
    for market in (
        case,
        measured(case, 1.1),
        measured(case, 0.2),
        measured(cheaper, 1.1),
        replace(measured(case, 1.1), resolution_s=300),
        replace(measured(case, 1.1), requests=case.requests[:1]),
        measured(case, 1.1),
    ):
        assert result_to_text(clear(market, model=model)) == result_to_text(clear(market))


def test_a_model_that_knows_the_offers_still_finds_the_faults_of_a_state() -> None:
    case = market_day(2, 15, 6, 20)
    model = Model(case.network)
    clear(case, model=model)
    first, *others = case.baseline
    faulty = {
        "$.baseline[0].bus_id": replace(case, baseline=(replace(first, bus_id="none"), *others)),
        "$.baseline[0].power_w": replace(case, baseline=(replace(first, power_w=first.power_w[:-1]), *others)),
        "$.baseline[1].bus_id": replace(case, baseline=(first, first, *others)),
        "$.offers[0].bus_id": replace(case, offers=(replace(case.offers[0], bus_id="none"), *case.offers[1:])),
    }
    for path, market in faulty.items():
        with pytest.raises(FaultyInputError) as caught:
            clear(market, model=model)
        assert path in [f.path for f in caught.value.faults]


def test_an_award_is_what_the_result_publishes() -> None:
    case = convert_case("matpower", "case33bw", day="winter", slots=2, offers=30, seed=2)
    awarded, result = award(case, model=Model(case.network)), clear(case)
    assert awarded.offer_ids == tuple(o.offer_id for o in result.offers)
    assert awarded.quantity.tolist() == [list(o.quantity) for o in result.offers]
    assert awarded.price_milli_per_mwh.tolist() == [list(o.price_milli_per_mwh) for o in result.offers]
    assert awarded.status == tuple(s.status for s in result.slots) == (SlotStatus.EXACT,) * 2
    assert awarded.ac_violation_ppm == tuple(s.ac_violation_ppm for s in result.slots) == (0, 0)
    voltage = [b.voltage_ppm for b in result.buses]
    assert np.abs(np.abs(awarded.ac.voltage_pu.T) * 1e6 - voltage).max() <= 0.5
    assert any(any(o.quantity) for o in result.offers)
    assert awarded.result() == result
