"""The short way of telling that an event is fine agrees with the long way that says what is wrong with it."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexbus import events as ev
from flexbus.catalogue import CATALOGUE
from flexbus.validation import content_trade, rules_offer, units
from flexbus.validation.stacks import stacks_of
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
        event = market.submitted(**{"offer_id": "o"} | changes)
        cls: Any = type(event)
        assert units._fine(cls)(event) is (list(units._faults(event, units._plan(cls), "$")) == [])
        assert units._fine(cls)(replace(market.submitted("o")))


NUMBERS = st.sampled_from([-1, 0, 1, 99, 100, 150, 200, 1_000, 10**13]) | st.integers(-(2**63), 2**63 - 1)
STEPS = st.builds(ev.PriceStep, power_w=NUMBERS, price_milli_per_mwh=NUMBERS)
SLOTS = st.builds(ev.OfferSlot, steps=st.lists(STEPS, max_size=3).map(tuple), min_power_w=st.just(0) | NUMBERS)


@settings(max_examples=500)
@given(slots=st.lists(SLOTS, max_size=4).map(tuple), swing_w=st.none() | NUMBERS)
def test_an_offer_looked_at_in_columns_is_looked_at_rightly(slots: tuple[ev.OfferSlot, ...], swing_w: int) -> None:
    offer = replace(market.offer("o"), slots=slots)
    event: Any = ev.FlexOfferSubmitted(area_id="a", offer=offer)
    stacks = stacks_of(slots)
    assert stacks_of(slots) is stacks
    steps = [step for slot in slots for step in slot.steps]
    if stacks.least_w > 0:
        assert (stacks.rise and stacks.fit) is (list(content_trade._stacks(offer)) == [])
    assert stacks.total_w == sum(step.power_w for step in steps)
    cls: Any = type(event)
    assert units._fine(cls)(event) is (list(units._faults(event, units._plan(cls), "$")) == [])
    product = replace(market.product(), step_w=50, min_offer_w=100, max_steps=2)
    if rules_offer._stacks_fine(offer, product, swing_w):
        assert all(product.min_offer_w <= step.power_w for step in steps)
        assert not any(step.power_w % product.step_w for step in steps)
        assert not any(slot.min_power_w % product.step_w for slot in slots)
        low, high = product.min_price_milli_per_mwh, product.max_price_milli_per_mwh
        assert all(low <= step.price_milli_per_mwh <= high for step in steps)
        assert all(len(slot.steps) <= product.max_steps for slot in slots)
        assert swing_w is None or all(sum(step.power_w for step in slot.steps) <= swing_w for slot in slots)
