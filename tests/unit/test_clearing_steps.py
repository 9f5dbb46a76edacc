"""A clearing that starts from the cheapest steps ends where one with the whole book does."""

from dataclasses import replace

import pytest

import clearing.steps
from clearing import clear
from clearing.case import Case
from clearing.certificate import certify
from tests.clearing_cases import market_day


def book() -> Case:
    """A sunny day with ten offers at each bus, every third with an energy budget that binds."""
    case = market_day(5, 12, 8, 100, price=45_000, feed_in=20e6)
    plain = [o for o in case.offers if o.max_energy_wh is None and o.min_energy_wh is None and o.unit_id is None]
    assert len(plain) > 50
    offers = tuple(
        replace(o, max_energy_wh=sum(s.quantity for e in o.slots for s in e.steps) // 8) if k % 3 == 0 else o
        for k, o in enumerate(plain)
        if not o.all_or_nothing and o.start_choice is None and o.parent_offer_id is None and not o.polygons
    )
    return replace(case, offers=offers, units=())


@pytest.mark.parametrize("large", [0, 60_000])
def test_scouting_finds_the_optimum_of_the_whole_book(monkeypatch: pytest.MonkeyPatch, large: int) -> None:
    case = book()
    whole = clear(case)
    monkeypatch.setattr(clearing.steps, "SMALL", 0)
    monkeypatch.setattr(clearing.steps, "DEPTH", 1)
    monkeypatch.setattr(clearing.steps, "LARGE", large)
    scouted = clear(case)
    assert any(any(o.quantity) for o in whole.offers)
    truth = whole.certificate.value_nano
    assert abs(scouted.certificate.value_nano - truth) <= 1e-6 * abs(truth)
    assert certify(case, scouted).findings == ()
