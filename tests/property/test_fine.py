"""The short way of telling that an event is fine agrees with the long way that says what is wrong with it."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexbus.catalogue import CATALOGUE
from flexbus.validation import units
from tests import market, strange


@pytest.mark.parametrize("name", sorted(CATALOGUE))
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_both_ways_agree(name: str, data: st.DataObject) -> None:
    cls: Any = CATALOGUE[name].event
    event = data.draw(strange.events(cls))
    assert units._fine(cls)(event) is (list(units._faults(event, units._plan(cls), "$")) == [])


@given(
    power_w=st.integers(-(2**63), 2**63 - 1),
    price=st.integers(-(2**63), 2**63 - 1),
    start_ms=st.integers(-(2**63), 2**63 - 1),
    name=st.text(max_size=130),
)
def test_both_ways_agree_on_offers(power_w: int, price: int, start_ms: int, name: str) -> None:
    for changes in ({"steps": ((power_w, price),)}, {"start_ms": start_ms}, {"offer_id": name}):
        event = market.submitted(**{"offer_id": "o"} | changes)  # type: ignore[arg-type]
        cls: Any = type(event)
        assert units._fine(cls)(event) is (list(units._faults(event, units._plan(cls), "$")) == [])
        assert units._fine(cls)(replace(market.submitted("o")))
