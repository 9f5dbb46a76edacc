"""Small and large cases for the tests of the clearing: feeders, offers, requests in a few words."""

import random
from typing import Any

from clearing.case import Case, Offer, OfferSlot, Request, RequestSlot, Settings, Step
from flexbus.events.grid import Branch, BranchKind, Bus, BusInjection, InfeedPoint, NetworkModelPublished
from flexbus.quantities import Direction

START_MS = 1_782_864_000_000


def bus(bus_id: str, *, band: tuple[int, int] = (950_000, 1_050_000), zone: str | None = None) -> Bus:
    return Bus(bus_id=bus_id, nominal_voltage_v=20_000, min_voltage_ppm=band[0], max_voltage_ppm=band[1], zone_id=zone)


def line(branch_id: str, a: str, b: str, km: float = 1.0, max_a: float | None = None) -> Branch:
    return Branch(
        branch_id=branch_id,
        kind=BranchKind.LINE,
        from_bus_id=a,
        to_bus_id=b,
        r_ohm=0.25 * km,
        x_ohm=0.12 * km,
        b_s=8e-5 * km,
        max_current_ma=None if max_a is None else round(max_a * 1000),
    )


def network(buses: list[Bus], branches: list[Branch], *, root: str = "b0", price: int = 0) -> NetworkModelPublished:
    return NetworkModelPublished(
        area_id="area",
        network_id="net",
        revision=1,
        valid_from_ms=0,
        buses=tuple(buses),
        branches=tuple(branches),
        infeed_points=(
            InfeedPoint(infeed_id="root", bus_id=root, voltage_ppm=1_000_000, import_price_milli_per_mwh=price),
        ),
    )


def chain(n: int, *, km: float = 2.0, max_a: float | None = None, price: int = 0) -> NetworkModelPublished:
    """A feeder b0 - b1 - ... - b(n-1) with lines l1 ... l(n-1)."""
    return network(
        [bus(f"b{k}", zone="near" if k < n / 2 else "far") for k in range(n)],
        [line(f"l{k}", f"b{k - 1}", f"b{k}", km, max_a) for k in range(1, n)],
        price=price,
    )


def injection(bus_id: str, watts: list[int], var: list[int] | None = None) -> BusInjection:
    return BusInjection(bus_id=bus_id, power_w=tuple(watts), reactive_power_var=tuple(var or [0] * len(watts)))


def offer(
    offer_id: str,
    bus_id: str | None,
    direction: Direction,
    stacks: list[list[tuple[int, int]]],
    minimum: int = 0,
    **more: object,
) -> Offer:
    """Stacks per slot of (quantity W, price in 1/1000 EUR per MWh)."""
    slots = tuple(
        OfferSlot(steps=tuple(Step(quantity=q, price_milli_per_mwh=m) for q, m in s), min_quantity=minimum if s else 0)
        for s in stacks
    )
    return Offer(offer_id=offer_id, bus_id=bus_id, direction=direction, slots=slots, **more)  # type: ignore[arg-type]


def request(request_id: str, direction: Direction, curves: list[list[tuple[int, int]]], **more: object) -> Request:
    slots = tuple(RequestSlot(steps=tuple(Step(quantity=q, price_milli_per_mwh=m) for q, m in s)) for s in curves)
    return Request(request_id=request_id, direction=direction, slots=slots, **more)  # type: ignore[arg-type]


def case(net: NetworkModelPublished, baseline: list[BusInjection], *, slots: int = 1, **more: object) -> Case:
    return Case(
        case_id="test",
        network=net,
        start_ms=START_MS,
        resolution_s=900,
        slots=slots,
        baseline=tuple(baseline),
        **more,  # type: ignore[arg-type]
    )


def random_feeder(seed: int, n: int, *, max_a: float = 400.0, price: int = 0) -> NetworkModelPublished:
    """A radial feeder of n buses; most buses hang on a recent one, so that it is long and branches."""
    rng = random.Random(seed)
    buses = [bus(f"b{k:04d}", zone=f"z{k % 3}") for k in range(n)]
    branches = [
        line(f"l{k:04d}", f"b{max(0, k - rng.randint(1, 4)):04d}", f"b{k:04d}", rng.uniform(0.2, 0.8), max_a)
        for k in range(1, n)
    ]
    return network(buses, branches, root="b0000", price=price)


def market_day(seed: int, n: int, slots: int, offers: int, *, price: int = 0, feed_in: float = 9e6) -> Case:
    """A sunny day that lifts the voltage at noon, on a random feeder, with a random book."""
    rng = random.Random(seed)
    net = random_feeder(seed, n, price=price)
    baseline = []
    for k in range(1, n):
        load = rng.uniform(0.3, 1.7) * 3e6 / n
        sun = rng.uniform(0.0, 2.0) * feed_in / n
        watts, var = [], []
        for t in range(slots):
            hour = 24 * t / slots
            shine = max(0.0, 1 - ((hour - 13) / 5) ** 2)
            peak = 0.6 + 0.4 * max(0.0, 1 - ((hour - 19) / 3) ** 2)
            watts.append(round(sun * shine - load * peak))
            var.append(round(-0.3 * load * peak))
        baseline.append(injection(f"b{k:04d}", watts, var))
    book = []
    for i in range(offers):
        down = rng.random() < 0.7
        stack = [(rng.randrange(20, 120) * 1000, rng.randrange(5, 90) * 1000) for _ in range(rng.randint(1, 3))]
        stack = [(q, p) for (q, _), p in zip(stack, sorted(p for _, p in stack), strict=True)]
        first = rng.randrange(0, slots // 2 + 1)
        span = range(first, rng.randrange(first, slots) + 1)
        kind = rng.random()
        more: dict[str, Any] = {}
        if kind < 0.2:
            more["max_energy_wh"] = sum(q for q, _ in stack) * len(span) // 12
        elif kind < 0.3:
            span = range(first, min(first + 6, slots))
            more["all_or_nothing"] = True
        book.append(
            offer(
                f"o{i:05d}",
                f"b{rng.randrange(1, n):04d}",
                Direction.DOWN if down else Direction.UP,
                [stack if t in span else [] for t in range(slots)],
                **more,
            )
        )
    return case(net, baseline, slots=slots, offers=tuple(book), settings=Settings())
