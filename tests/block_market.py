"""Tiny markets with blocks, and every choice of them tried: what is best, and what is best if nobody may lose.

Once the blocks are decided the slots are independent of each other, so each slot is cleared once for every set of
blocks that can be active in it, many at a time; a choice is then a sum over its slots.
"""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearing.canonical import canonical_case
from clearing.case import Case, InfeedPrice, Offer
from clearing.pipeline import solve
from flexbus.quantities import Direction
from tests.clearing_cases import case, injection, offer, random_feeder

UP, DOWN = Direction.UP, Direction.DOWN
HOURS = 0.25
MOST_SLOTS = 192
Real = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A set of accepted blocks: what it costs in all (EUR per hour), and what each block earns beyond its bid (EUR)."""

    accepted: frozenset[str]
    cost: float
    profit: dict[str, float]


def block_market(seed: int, blocks: int) -> Case:
    """A feeder with blocks, some of them in exclusive groups or with parents, and divisible offers in between."""
    rng = random.Random(f"blocks {seed}")
    n, slots = rng.randint(3, 5), rng.randint(2, 3)
    sign, price = rng.choice([1, -1]), rng.choice([0, 30_000])
    net = random_feeder(seed, n, max_a=rng.choice([50.0, 70.0, 400.0]), price=price)
    baseline = [
        injection(f"b{k:04d}", [round(sign * rng.uniform(0.5, 1.0) * 6e6 / n) for _ in range(slots)])
        for k in range(1, n)
    ]
    book: list[Offer] = []
    for i in range(blocks):
        first = rng.randrange(slots)
        span = range(first, rng.randint(first + 1, slots))
        stack = [(rng.randrange(100_000, 900_000), rng.randrange(1, 70) * 1000 + rng.randrange(1000))]
        more: dict[str, Any] = {}
        if rng.random() < 0.3:
            more["exclusive_group_id"] = f"g{rng.randint(0, 1)}"
        elif book and rng.random() < 0.3:
            more["parent_offer_id"] = rng.choice(book).offer_id
        cures = DOWN if sign > 0 else UP
        made = offer(
            f"block{i}",
            f"b{rng.randrange(1, n):04d}",
            cures if rng.random() < 0.8 else (UP if cures is DOWN else DOWN),
            [stack if t in span else [] for t in range(slots)],
            all_or_nothing=True,
            **more,
        )
        book.append(made)
    fill = [
        offer(
            f"fill{k}",
            f"b{rng.randrange(1, n):04d}",
            rng.choice([UP, DOWN]),
            [[(rng.randrange(50_000, 700_000), rng.randrange(-30, 90) * 1000 + rng.randrange(1000))]] * slots,
        )
        for k in range(rng.randint(3, 5))
    ]
    prices = InfeedPrice(
        infeed_id="root", price_milli_per_mwh=tuple(price + rng.randrange(20_000) for _ in range(slots))
    )
    return case(net, baseline, slots=slots, offers=(*book, *fill), infeed_prices=(prices,) if price else ())


def choices(given: Case) -> list[Choice]:
    """Return every set of blocks that keeps groups and parents, with its cost and profits."""
    blocks = [o for o in given.offers if o.all_or_nothing]
    states = list(_states(given, blocks))
    cost: dict[tuple[int, frozenset[str]], float] = {}
    worth: dict[tuple[int, frozenset[str]], Real] = {}
    buses: dict[str, int] = {}
    for part in range(0, len(states), MOST_SLOTS):
        now = states[part : part + MOST_SLOTS]
        cleared = solve(canonical_case(_all_at_once(given, blocks, now)))
        buses = {b: k for k, b in enumerate(cleared.grid.bus_ids)}
        infeed = (cleared.repair.base_values["root_p"] * cleared.repair.energy_price).sum(axis=1)
        for t, state in enumerate(now):
            cost[state] = float(cleared.optimum.merit[t] + infeed[t])
            worth[state] = cleared.prices.total_p()[t]
    made = []
    for accepted in _allowed(blocks):
        total, profit = 0.0, dict.fromkeys([o.offer_id for o in blocks], 0.0)
        for t in range(given.slots):
            state = t, frozenset(o.offer_id for o in blocks if o.offer_id in accepted and o.slots[t].steps)
            total += cost[state]
            for o in blocks:
                for step in o.slots[t].steps:
                    bid = step.price_milli_per_mwh / 1e3
                    price = float(worth[state][buses[o.bus_id or ""]]) * o.direction.sign
                    profit[o.offer_id] += (price - bid) * step.quantity / 1e6 * HOURS
                    total += bid * step.quantity / 1e6 if o.offer_id in accepted else 0.0
        made.append(Choice(accepted=accepted, cost=total, profit=profit))
    return made


def _states(given: Case, blocks: list[Offer]) -> Iterator[tuple[int, frozenset[str]]]:
    for t in range(given.slots):
        here = [o.offer_id for o in blocks if o.slots[t].steps]
        for some in itertools.product((False, True), repeat=len(here)):
            yield t, frozenset(name for name, taken in zip(here, some, strict=True) if taken)


def _all_at_once(given: Case, blocks: list[Offer], states: list[tuple[int, frozenset[str]]]) -> Case:
    """Return a case with one slot per state, the active blocks being part of its baseline."""
    entries = []
    for entry in given.baseline:
        watts = []
        for t, accepted in states:
            mine = (o for o in blocks if o.offer_id in accepted and o.bus_id == entry.bus_id)
            watts.append(entry.power_w[t] + sum(o.direction.sign * o.slots[t].steps[0].quantity for o in mine))
        entries.append(injection(entry.bus_id, watts))
    rest = (o for o in given.offers if not o.all_or_nothing)
    return replace(
        given,
        slots=len(states),
        baseline=tuple(entries),
        offers=tuple(replace(o, slots=tuple(o.slots[t] for t, _ in states)) for o in rest),
        infeed_prices=tuple(
            replace(p, price_milli_per_mwh=tuple(p.price_milli_per_mwh[t] for t, _ in states))
            for p in given.infeed_prices
        ),
    )


def _allowed(blocks: list[Offer]) -> Iterator[frozenset[str]]:
    for some in itertools.product((False, True), repeat=len(blocks)):
        mine = [o for o, taken in zip(blocks, some, strict=True) if taken]
        ids = frozenset(o.offer_id for o in mine)
        groups = [o.exclusive_group_id for o in mine if o.exclusive_group_id is not None]
        linked = all(o.parent_offer_id is None or o.parent_offer_id in ids for o in mine)
        if linked and len(groups) == len(set(groups)):
            yield ids
