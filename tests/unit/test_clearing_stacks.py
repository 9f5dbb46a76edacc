"""A book looked at in columns: the same as walking every slot of every offer, whichever stacks are one object."""

import random
from dataclasses import replace

import numpy as np
import pytest

from clearing.canonical import canonical_case
from clearing.case import Offer, OfferSlot, StartChoice, Step
from clearing.check import check_case
from clearing.pipeline import solve
from clearing.stacks import Stacks, stacks_of
from flexbus.quantities import Direction
from tests.clearing_cases import case, chain, injection, market_day

SLOTS = 5


def book(seed: int) -> tuple[Offer, ...]:
    """Offers whose stacks are few objects, many of them the same, some equal but others; some choose their start."""
    rng = random.Random(seed)
    few = [OfferSlot(), OfferSlot()] + [
        OfferSlot(steps=(Step(quantity=rng.randint(1, 3), price_milli_per_mwh=1000),)) for _ in range(4)
    ]
    made = []
    for k in range(12):
        one = Offer(
            offer_id=f"o{k}", bus_id="b1", direction=Direction.UP, slots=tuple(rng.choice(few) for _ in range(SLOTS))
        )
        choice = StartChoice(earliest_slot=0, latest_slot=1, profile=(5,), price_milli_per_mwh=1)
        made.append(replace(one, slots=(), start_choice=choice) if k % 5 == 3 else one)
    return tuple(made)


@pytest.mark.parametrize("seed", range(5))
def test_columns_tell_what_every_slot_holds(seed: int) -> None:
    offers = book(seed)
    stacks = stacks_of(offers)
    assert stacks_of(offers) is stacks
    assert stacks_of(book(seed + 1)) is not stacks
    walked = [(k, t, entry) for k, o in enumerate(offers) for t, entry in enumerate(o.slots)]
    assert [(k, t) for k, t, _ in walked] == list(zip(stacks.offer.tolist(), stacks.slot.tolist(), strict=True))
    assert all(stacks.distinct[n] is e for n, (_, _, e) in zip(stacks.which.tolist(), walked, strict=True))
    assert len({id(e) for e in stacks.distinct}) == len(stacks.distinct)
    sizes = stacks.tell(lambda e: sum(s.quantity for s in e.steps), int)
    assert sizes.tolist() == [sum(s.quantity for s in e.steps) for _, _, e in walked]
    spelt = [(k, n) for k, n, length in zip(*stacks.runs(), strict=True) for _ in range(length)]
    assert spelt == list(zip(stacks.offer.tolist(), stacks.which.tolist(), strict=True))


def test_an_empty_book_has_no_stacks() -> None:
    assert Stacks(()).distinct == []
    assert Stacks(()).runs() == ([], [], [])


def test_a_fault_of_a_stack_is_named_in_every_slot_that_has_it() -> None:
    bad = OfferSlot(steps=(Step(quantity=0, price_milli_per_mwh=1000),))
    good = OfferSlot(steps=(Step(quantity=5, price_milli_per_mwh=1000),))
    offers = tuple(
        Offer(offer_id=f"o{k}", bus_id="b1", direction=Direction.UP, slots=slots)
        for k, slots in enumerate([(good, bad, bad), (good, good, good), (bad, good, good)])
    )
    given = case(chain(2), [injection("b1", [0] * 3)], slots=3, offers=offers)
    assert sorted(f.path for f in check_case(given)) == [
        "$.offers[0].slots[1].steps[0].quantity",
        "$.offers[0].slots[2].steps[0].quantity",
        "$.offers[2].slots[0].steps[0].quantity",
    ]


def test_what_a_column_injects_in_a_slot_is_what_the_whole_market_says() -> None:
    cleared = solve(canonical_case(market_day(3, 8, 6, 40, price=30_000)))
    columns, grid = cleared.repair.columns, cleared.grid
    whole = {"p": columns.node_p.toarray(), "q": columns.node_q.toarray()}
    for t in range(6):
        rows = slice(t * grid.nodes, (t + 1) * grid.nodes)
        both = np.vstack([whole["p"][rows], whole["q"][rows]])
        place, made = columns.local(t)
        assert place.tolist() == np.flatnonzero(both.any(axis=0)).tolist()
        assert np.array_equal(made.toarray().T, both[:, place])
        some = np.arange(1, len(columns.cost), 2)
        p, q = columns.slot_injections(t, some)
        assert np.array_equal(p.toarray(), whole["p"][rows][:, some])
        assert np.array_equal(q.toarray(), whole["q"][rows][:, some])


def test_a_relaxation_that_takes_what_is_taken_is_not_followed() -> None:
    cleared = solve(canonical_case(market_day(3, 8, 6, 40, price=30_000)))
    repair, best = cleared.repair, cleared.optimum
    taken = {t: (np.flatnonzero(repair.column_slot == t), best.x[repair.column_slot == t]) for t in range(6)}
    before = repair.steps.copy()
    assert repair.follow(best, taken, np.ones(6, dtype=bool), np.ones(6)) is best
    assert np.array_equal(repair.steps, before)
