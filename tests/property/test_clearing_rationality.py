"""Nobody is made to deliver at a loss: not for a minimum per slot, nor for a least energy, nor with an inverter."""

import random
from collections import defaultdict

import pytest

from clearing import clear, pipeline
from clearing.case import Case, Location, Offer, Unit, UnitKind
from clearing.certificate import certify
from clearing.rationality import _losing_blocks
from clearing.result import Result
from flexbus.events import NonAwardReason
from flexbus.quantities import Direction
from tests.clearing_cases import case, chain, injection, offer, request

UP = Direction.UP
SEEDS = range(16)
SLOTS = 4


def losses(given: Case, result: Result) -> dict[str, int]:
    """What every offer, or all offers of a unit, lost, 1e-9 EUR."""
    party = {o.offer_id: o.unit_id or o.offer_id for o in given.offers}
    lost: dict[str, int] = defaultdict(int)
    for o in result.offers:
        lost[party[o.offer_id]] += o.cost_nano - o.revenue_nano
    return {who: amount for who, amount in lost.items() if amount > 10_000_000}


def market(seed: int) -> Case:
    """Needs that come and go, and large minima to meet them with."""
    rng = random.Random(seed)
    offers = [_offer(rng, n) for n in range(rng.randint(4, 7))]
    needs = [[(rng.randrange(40_000, 250_000), rng.randrange(40, 120) * 1000 + n)] for n in range(SLOTS)]
    return case(
        chain(5, km=0.1),
        [injection("b4", [-100_000] * SLOTS)],
        slots=SLOTS,
        offers=tuple(offers),
        requests=(request("need", UP, needs, location_kind=Location.AREA),),
        units=(Unit(unit_id="inverter", kind=UnitKind.INVERTER, max_apparent_power_va=300_000),),
    )


def _offer(rng: random.Random, n: int) -> Offer:
    size = rng.randrange(60_000, 300_000)
    stack = [(size, rng.randrange(5, 60) * 1000 + n), (size // 2, rng.randrange(60, 90) * 1000 + n)]
    kind = ("plain", "minimum", "least energy", "ramp", "inverter")[n % 5]
    least = size * rng.randint(5, 9) // 10
    more: dict[str, object] = {}
    match kind:
        case "least energy":
            more["min_energy_wh"] = least * SLOTS // 8
        case "ramp":
            more["max_rise"] = least
        case "inverter":
            more["unit_id"] = "inverter"
    minimum = least if kind in ("minimum", "ramp", "inverter") else 0
    return offer(f"o{n}-{kind}", f"b{rng.randint(1, 4)}", UP, [stack] * SLOTS, minimum, **more)


def test_a_minimum_is_not_taken_at_a_price_below_its_bid() -> None:
    """100 kW are needed; the cheap offer has at least 200 kW, and its last watts would be worth nothing."""
    given = case(
        chain(3, km=0.1),
        [injection("b2", [-100_000])],
        offers=(
            offer("large", "b2", UP, [[(300_000, 10_000)]], 200_000),
            offer("dear", "b2", UP, [[(100_000, 40_000)]]),
        ),
        requests=(request("need", UP, [[(100_000, 50_000)]], location_kind=Location.AREA),),
    )
    result = clear(given)
    assert {o.offer_id: o.quantity for o in result.offers} == {"large": (0,), "dear": (100_000,)}
    assert [(n.offer_id, n.reason, n.amount) for n in result.non_awards] == [
        ("large", NonAwardReason.MINIMUM_QUANTITY, 200_000)
    ]


@pytest.mark.parametrize("seed", SEEDS)
def test_nobody_delivers_at_a_loss(seed: int) -> None:
    given = market(seed)
    result = clear(given)
    assert losses(given, result) == {}
    assert certify(given, result).findings == ()


def test_without_the_rule_somebody_would_and_the_certificate_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The counter-check: these markets are such that the cheapest dispatch makes some deliver at a loss."""
    monkeypatch.setattr(pipeline, "losing_columns", _losing_blocks)
    found = {}
    for seed in SEEDS:
        given = market(seed)
        result = clear(given)
        lost = losses(given, result)
        said = [f.message for f in certify(given, result).findings if "with a minimum loses" in f.message]
        assert len(said) == len(lost)
        found.update(lost)
    assert {name.rpartition("-")[2] for name in found} >= {"minimum", "inverter"}
