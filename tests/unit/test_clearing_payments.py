"""Tables of what is asked and paid: the same integers, however large."""

from fractions import Fraction

import numpy as np
import pytest

from clearing.case import Offer, OfferSlot, Step
from clearing.payments import Bids, revenue_nano
from clearing.steps import step_table
from flexbus.quantities import MAX_POWER_W, MAX_PRICE_MILLI_PER_MWH, Direction, amount_nano, energy_wh


def book(quantity: int, price: int) -> list[Offer]:
    steps = (Step(quantity=quantity, price_milli_per_mwh=-price), Step(quantity=quantity, price_milli_per_mwh=price))
    capped = OfferSlot(steps=steps, max_quantity=quantity + quantity // 3)
    return [
        Offer(offer_id="a", bus_id="b", direction=Direction.UP, slots=(OfferSlot(steps=steps), OfferSlot())),
        Offer(offer_id="b", bus_id="b", direction=Direction.DOWN, slots=(capped, OfferSlot(steps=steps[1:]))),
    ]


@pytest.mark.parametrize(("quantity", "price"), [(7_001, 33_333), (MAX_POWER_W // 2, MAX_PRICE_MILLI_PER_MWH)])
@pytest.mark.parametrize("resolution_s", [300, 900, 3600])
def test_sums_of_any_size_are_exact(quantity: int, price: int, resolution_s: int) -> None:
    offers = book(quantity, price)
    taken = np.array([[quantity + 5, 0], [quantity + 2, quantity - 1]])
    bids = Bids(offers, step_table(tuple(offers), [False, False]), taken)
    asked = [[-quantity * price + 5 * price, 0], [-quantity * price + 2 * price, (quantity - 1) * price]]
    assert bids.asked.tolist() == asked
    assert bids.last.tolist() == [[price, 0], [price, price]]
    cost = bids.cost_nano(resolution_s).tolist()
    for row, want in zip(cost, asked, strict=True):
        for found, exact in zip(row, want, strict=True):
            # A float has 53 bits: half a nano-EUR of small sums, a billionth of a millionth of large ones.
            assert abs(found - Fraction(exact * resolution_s, 3600)) <= max(
                Fraction(1, 2), abs(exact) * Fraction(1, 2**53)
            )
    paid = revenue_nano(taken, np.full_like(taken, price), resolution_s)
    assert paid.tolist() == [[amount_nano(energy_wh(q, resolution_s), price) for q in row] for row in taken.tolist()]
    assert int(paid.sum()) == sum(sum(row) for row in paid.tolist())
