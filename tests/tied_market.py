"""Random markets whose offers are bound by two and more rules of their own at once, and whose requests are too."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from clearing.case import (
    BusShare,
    Case,
    Location,
    Offer,
    Payback,
    PolygonSlice,
    PolygonVertex,
    Quantity,
    Request,
    StartChoice,
    Unit,
    UnitKind,
)
from flexbus.events.grid import BusInjection, NetworkModelPublished
from flexbus.quantities import Direction
from tests.clearing_cases import case, injection, offer, random_feeder, request

UP, DOWN = Direction.UP, Direction.DOWN
SLOTS = 4
HOURS = 0.25
# What an offer may be bound by beside its price; each name is a rule below.
RULES = (
    "block",
    "budget",
    "least_energy",
    "minimum",
    "group",
    "child",
    "rise",
    "fall",
    "runs",
    "rest",
    "clip",
    "payback",
    "polygon",
    "portfolio",
    "tan_phi",
    "reactive",
    "storage",
    "inverter",
    "start",
)


@dataclass(slots=True)
class Draft:
    """An offer while its rules are drawn, and the units that it brings."""

    rng: random.Random
    name: str
    buses: list[str]
    stack: list[tuple[int, int]]
    direction: Direction
    earlier: list[Offer]
    more: dict[str, Any] = field(default_factory=dict)
    minimum: int = 0
    cap: int | None = None
    units: list[Unit] = field(default_factory=list)

    @property
    def size(self) -> int:
        """All of a slot, W."""
        return sum(q for q, _ in self.stack)


def strained_feeder(rng: random.Random, seed: int, slots: int) -> tuple[NetworkModelPublished, list[BusInjection]]:
    """Return a feeder of 4 to 7 buses that is short of voltage or of current, and its baseline."""
    n = rng.randint(4, 7)
    net = random_feeder(seed, n, max_a=rng.choice([60.0, 90.0, 400.0]), price=rng.choice([0, 0, 40_000]))
    sign = rng.choice([1, 1, -1])
    baseline = [
        injection(
            f"b{k:04d}",
            [round(sign * rng.uniform(0.2, 1.0) * 4.5e6 / n * (1 if t else 0.4)) for t in range(slots)],
            [round(rng.uniform(-0.2, 0.2) * 1e6 / n) for _ in range(slots)],
        )
        for k in range(1, n)
    ]
    return net, baseline


def tied_market(seed: int, fewest: int = 2) -> Case:
    """A strained feeder, requests of every kind of place, offers bound by several rules each.

    Args:
        seed: of everything.
        fewest: rules that each offer has at least.
    """
    rng = random.Random(f"tied {seed}")
    net, baseline = strained_feeder(rng, seed, SLOTS)
    n = len(net.buses)
    offers: list[Offer] = []
    units: list[Unit] = []
    for i in range(rng.randint(5, 9)):
        made, own = _offer(rng, i, n, offers, fewest)
        offers += made
        units += own
    requests = tuple(_request(rng, i, n) for i in range(rng.randint(1, 4)))
    return case(net, baseline, slots=SLOTS, offers=tuple(offers), requests=requests, units=tuple(units))


def _offer(rng: random.Random, i: int, n: int, earlier: list[Offer], fewest: int) -> tuple[list[Offer], list[Unit]]:
    prices = sorted(rng.randrange(1, 90) * 1000 + rng.randrange(1000) for _ in range(rng.randint(1, 3)))
    chosen = rng.sample(RULES, rng.choice([fewest, fewest, fewest + 1, fewest + 2]))
    if "start" in chosen:  # a rigid profile takes none of the rules over time
        chosen = ["start", *(c for c in chosen if c in ("group", "child", "portfolio", "tan_phi", "reactive"))]
    draft = Draft(
        rng=rng,
        name=f"o{i:02d}-" + "-".join(chosen),
        buses=[f"b{rng.randrange(1, n):04d}", f"b{rng.randrange(1, n):04d}"],
        stack=[(rng.randrange(30_000, 300_000), p) for p in prices],
        direction=rng.choice([UP, DOWN]),
        earlier=earlier,
    )
    for name in chosen:
        _APPLY[name](draft)
    stacks: list[list[tuple[int, int]]] = [] if "start_choice" in draft.more else [draft.stack] * SLOTS
    bus = None if "shares" in draft.more else draft.buses[0]
    made = offer(draft.name, bus, draft.direction, stacks, draft.minimum, **draft.more)
    if draft.cap is not None:
        made = replace(made, slots=tuple(replace(s, max_quantity=draft.cap) for s in made.slots))
    if not draft.units or (draft.units[0].kind is UnitKind.INVERTER and rng.random() < 0.5):
        return [made], draft.units
    # The other side of the unit: what a storage takes in, what an inverter does with reactive power.
    other = offer(
        f"{draft.name}-other",
        made.bus_id or draft.buses[0],
        DOWN if made.direction is UP else UP,
        [[(draft.size, rng.randrange(1, 30) * 1000)]] * SLOTS,
        unit_id=draft.units[0].unit_id,
        quantity=Quantity.ACTIVE if draft.units[0].kind is UnitKind.STORAGE else Quantity.REACTIVE,
    )
    return [made, other], draft.units


def _set(**more: Callable[[Draft], Any]) -> Callable[[Draft], None]:
    def apply(d: Draft) -> None:
        d.more.update({name: value(d) for name, value in more.items()})

    return apply


def _minimum(d: Draft) -> None:
    d.minimum = d.rng.randrange(1, d.size)


def _clip(d: Draft) -> None:
    d.cap = d.rng.randrange(20_000, 200_000)


def _child(d: Draft) -> None:
    if d.earlier:
        d.more["parent_offer_id"] = d.rng.choice(d.earlier).offer_id


def _polygon(d: Draft) -> None:
    most = round(d.size * HOURS)
    corners = ((0, 0), (most, 0), (0, d.rng.randrange(most // 3, most)), (most, d.rng.randrange(0, most // 3)))
    slices = tuple(PolygonVertex(energy_before_wh=a, energy_wh=b) for a, b in corners)
    d.more["polygons"] = (PolygonSlice(slot=d.rng.randrange(1, SLOTS), vertices=slices),)


def _portfolio(d: Draft) -> None:
    if d.buses[0] != d.buses[1]:
        part = d.rng.randrange(1, 10) * 100_000
        shares = zip(d.buses, (part, 1_000_000 - part), strict=True)
        d.more["shares"] = tuple(BusShare(bus_id=b, share_ppm=s) for b, s in shares)


def _reactive(d: Draft) -> None:
    d.more["quantity"] = Quantity.REACTIVE
    d.more.pop("tan_phi_ppm", None)
    d.more.pop("unit_id", None)
    d.units.clear()


def _tan_phi(d: Draft) -> None:
    if "quantity" not in d.more:
        d.more["tan_phi_ppm"] = d.rng.choice([-300_000, 200_000, 400_000])


def _storage(d: Draft) -> None:
    if "quantity" in d.more or "unit_id" in d.more:
        return
    most = round(d.size * HOURS * d.rng.uniform(1.0, 3.0))
    d.more["unit_id"] = f"{d.name}-store"
    d.units.append(
        Unit(
            unit_id=f"{d.name}-store",
            kind=UnitKind.STORAGE,
            initial_energy_wh=d.rng.randrange(0, most),
            max_energy_wh=most,
            charge_efficiency_ppm=950_000,
            discharge_efficiency_ppm=930_000,
            self_discharge_ppm_per_h=4_000,
        )
    )


def _inverter(d: Draft) -> None:
    if "unit_id" in d.more or "quantity" in d.more:
        return
    d.more["unit_id"] = f"{d.name}-inverter"
    d.more.pop("shares", None)
    d.units.append(
        Unit(
            unit_id=f"{d.name}-inverter",
            kind=UnitKind.INVERTER,
            baseline_power_w=(50_000,) * SLOTS,
            max_apparent_power_va=max(60_000, round(d.size * d.rng.uniform(0.5, 1.5))),
            max_tan_phi_ppm=d.rng.choice([None, 400_000]),
        )
    )


def _start(d: Draft) -> None:
    length = d.rng.randint(1, 2)
    profile = tuple(d.rng.randrange(30_000, 300_000) for _ in range(length))
    first = d.rng.randrange(0, SLOTS - length + 1)
    d.more["start_choice"] = StartChoice(
        profile=profile,
        earliest_slot=first,
        latest_slot=d.rng.randrange(first, SLOTS - length + 1),
        price_milli_per_mwh=d.stack[0][1],
    )


_APPLY: dict[str, Callable[[Draft], None]] = {
    "block": _set(all_or_nothing=lambda _: True),
    "budget": _set(max_energy_wh=lambda d: round(d.size * SLOTS * HOURS / d.rng.randint(2, 4))),
    "least_energy": _set(min_energy_wh=lambda d: round(d.size * SLOTS * HOURS / d.rng.randint(5, 9))),
    "minimum": _minimum,
    "group": _set(exclusive_group_id=lambda d: f"g{d.rng.randint(0, 1)}"),
    "child": _child,
    "rise": _set(max_rise=lambda d: d.rng.randrange(d.size // 4, d.size)),
    "fall": _set(max_fall=lambda d: d.rng.randrange(d.size // 4, d.size)),
    "runs": _set(max_run_slots=lambda d: d.rng.randint(1, 2)),
    "rest": _set(min_rest_slots=lambda d: d.rng.randint(1, 2)),
    "clip": _clip,
    "payback": _set(payback=lambda d: Payback(factor_ppm=900_000, delay_slots=0, window_slots=d.rng.randint(1, 2))),
    "polygon": _polygon,
    "portfolio": _portfolio,
    "tan_phi": _tan_phi,
    "reactive": _reactive,
    "storage": _storage,
    "inverter": _inverter,
    "start": _start,
}


def _request(rng: random.Random, i: int, n: int) -> Request:
    where = rng.choice([Location.AREA, Location.ZONE, Location.BUS, Location.BRANCH, Location.INFEED_POINT])
    place = {
        Location.AREA: "",
        Location.ZONE: "z1",
        Location.BUS: f"b{rng.randrange(1, n):04d}",
        Location.BRANCH: f"l{rng.randrange(1, n):04d}",
        Location.INFEED_POINT: "root",
    }[where]
    curves = []
    for _ in range(SLOTS):
        prices = sorted((rng.randrange(20, 120) * 1000 + rng.randrange(1000) for _ in range(2)), reverse=True)
        curves.append([(rng.randrange(30_000, 300_000), p) for p in prices] if rng.random() < 0.8 else [])
    made = request(
        f"r{i}",
        rng.choice([UP, DOWN]),
        curves,
        location_kind=where,
        location_id=place,
        quantity=rng.choice([Quantity.ACTIVE, Quantity.ACTIVE, Quantity.REACTIVE]),
    )
    if rng.random() < 0.5:
        return made
    least = rng.randrange(1, 200_000)
    return replace(
        made,
        slots=tuple(
            replace(s, min_quantity=min(least, sum(x.quantity for x in s.steps))) if s.steps else s for s in made.slots
        ),
    )
