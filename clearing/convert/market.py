"""A seeded, plausible market on a grid and a day: price stacks, blocks, budgets, storages, reactive power, requests.

For trying things out and for tests; nothing here claims to be a real book. Same input and seed, same case.
"""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from clearing.case import (
    Case,
    InfeedPrice,
    Location,
    Offer,
    OfferSlot,
    Payback,
    Quantity,
    Request,
    RequestKind,
    RequestSlot,
    Settings,
    Step,
    Unit,
    UnitKind,
)
from clearing.congestion import forecast_congestion
from clearing.convert.units import ConnectedUnit, daylight, evening
from flexbus.events.assets import AssetKind
from flexbus.events.grid import BusInjection, NetworkModelPublished
from flexbus.quantities import Direction

__all__ = ["EUR", "baseline_of", "infeed_price_curve", "made_up_market"]

EUR = 1000  # thousandths
BASE_PRICE = 85 * EUR
# No operator pays what a broken limit is worth on paper.
PRICE_CAP = 1000 * EUR
# Largest unit first, so that a few offers already matter to the grid.
SHARE_OF_KIND = {
    AssetKind.PV: 1.0,
    AssetKind.WIND: 1.0,
    AssetKind.BIOMASS: 0.8,
    AssetKind.HYDRO: 0.5,
    AssetKind.BATTERY: 1.0,
    AssetKind.HEAT_PUMP: 0.8,
    AssetKind.EV_CHARGER: 0.9,
    AssetKind.INDUSTRY: 0.3,
    AssetKind.LOAD: 0.25,
}


def made_up_market(
    network: NetworkModelPublished,
    units: Sequence[ConnectedUnit],
    *,
    case_id: str,
    start_ms: int,
    resolution_s: int,
    offers: int = 50,
    seed: int = 0,
) -> Case:
    """Return a case with a made-up market.

    A grid that its day does not congest gets an infeed limit of 93 % of the day's peak (subscribed capacity), so
    that there is something to trade; otherwise its own limits make the need.

    Args:
        network: the grid.
        units: what is connected, with its forecast; the baseline is their sum.
        case_id: label of the case.
        start_ms: start of the first slot, UTC ms.
        resolution_s: length of a slot, s.
        offers: number of offers; reactive, block, budget, storage and payback offers are among them.
        seed: of the random choices.
    """
    rng = Random(seed)
    slots = len(units[0].power_w) if units else 1
    baseline = baseline_of(units)
    network, critical = _with_need(network, baseline, slots)
    price = infeed_price_curve(slots, resolution_s, _surplus(baseline, slots), rng)
    book, stores = _book(units, critical, offers, slots, resolution_s, price, rng)
    return Case(
        case_id=case_id,
        network=network,
        start_ms=start_ms,
        resolution_s=resolution_s,
        slots=slots,
        baseline=baseline,
        infeed_prices=tuple(
            InfeedPrice(infeed_id=point.infeed_id, price_milli_per_mwh=price) for point in network.infeed_points
        ),
        offers=tuple(book),
        units=tuple(stores),
        requests=tuple(_requests(network, baseline, slots, resolution_s, rng)),
        settings=Settings(price_cap_milli_per_mwh=PRICE_CAP),
    )


def infeed_price_curve(slots: int, resolution_s: int, surplus: Sequence[float], rng: Random) -> tuple[int, ...]:
    """Return a wholesale-like price per slot: evening peak, and low or negative where the grid exports most.

    Args:
        slots: number of slots.
        resolution_s: length of a slot, s.
        surplus: net feed-in per slot over the day's greatest absolute value, -1..1.
        rng: source of the small wobble.
    """
    return tuple(
        round(
            BASE_PRICE
            + 60 * EUR * evening(k * resolution_s / 3600)
            - 95 * EUR * max(0.0, surplus[k])
            + rng.uniform(-3, 3) * EUR
        )
        for k in range(slots)
    )


def baseline_of(units: Sequence[ConnectedUnit]) -> tuple[BusInjection, ...]:
    """Return the sum of what is connected, per bus."""
    buses: dict[str, tuple[list[int], list[int]]] = {}
    for unit in units:
        p, q = buses.setdefault(unit.bus_id, ([0] * len(unit.power_w), [0] * len(unit.power_w)))
        for t, (pw, qv) in enumerate(zip(unit.power_w, unit.reactive_power_var, strict=True)):
            p[t] += pw
            q[t] += qv
    return tuple(
        BusInjection(bus_id=bus, power_w=tuple(p), reactive_power_var=tuple(q)) for bus, (p, q) in sorted(buses.items())
    )


def _totals(baseline: Sequence[BusInjection], slots: int) -> list[int]:
    return [sum(b.power_w[t] for b in baseline) for t in range(slots)]


def _surplus(baseline: Sequence[BusInjection], slots: int) -> list[float]:
    totals = _totals(baseline, slots)
    peak = max(1, *map(abs, totals)) if totals else 1
    return [total / peak for total in totals]


def _with_need(
    network: NetworkModelPublished, baseline: Sequence[BusInjection], slots: int
) -> tuple[NetworkModelPublished, frozenset[str]]:
    """Return the grid, with an infeed limit if nothing else is congested, and the buses that could cure it."""
    found = forecast_congestion(network, baseline, slots, report_from_ppm=1_000_000)
    if found.thermal or found.voltage or not baseline:
        behind = {s.bus_id for element in found.thermal for s in element.behind}
        return network, frozenset(behind | {bus.bus_id for bus in found.voltage})
    totals = _totals(baseline, slots)
    most_import, most_export = max(0, -min(totals)), max(0, max(totals))
    share = len(network.infeed_points)
    points = tuple(
        replace(
            point,
            max_import_w=max(1, most_import * 93 // 100 // share),
            max_export_w=max(1, max(most_export, most_import) * 93 // 100 // share),
        )
        for point in network.infeed_points
    )
    return replace(network, infeed_points=points), frozenset()


def _book(
    units: Sequence[ConnectedUnit],
    critical: frozenset[str],
    offers: int,
    slots: int,
    resolution_s: int,
    price: Sequence[int],
    rng: Random,
) -> tuple[list[Offer], list[Unit]]:
    ranked = sorted(units, key=lambda u: (-u.rated_power_va * SHARE_OF_KIND[u.kind], u.unit_id))
    # Who can cure the congestion comes first, the largest ahead; the rest of the book is a mixture.
    needed = [unit for unit in ranked if unit.bus_id in critical][: offers // 2]
    pool = [unit for unit in ranked if unit not in needed][: max(offers, 1) * 2]
    rng.shuffle(pool)
    pool = needed + pool
    book: list[Offer] = []
    stores: list[Unit] = []
    turn = 0
    while pool and len(book) < offers:
        unit = pool[turn % len(pool)]
        first = turn < len(pool)
        style = 0 if first and turn < len(needed) else turn % 10
        made, store = _offers_of(unit, turn, style, slots, resolution_s, price, rng, first)
        book += made[: offers - len(book)]
        if store is not None and any(offer.unit_id == store.unit_id for offer in book):
            stores.append(store)
        turn += 1
    return book, stores


def _offers_of(
    unit: ConnectedUnit,
    turn: int,
    style: int,
    slots: int,
    resolution_s: int,
    price: Sequence[int],
    rng: Random,
    first: bool,
) -> tuple[list[Offer], Unit | None]:
    name = f"{unit.unit_id}-{turn:03d}"
    markup = rng.uniform(5, 90) * EUR
    if unit.kind is AssetKind.BATTERY and first:
        return _battery(unit, name, slots, price, rng)
    up = _room(unit, Direction.UP)
    down = _room(unit, Direction.DOWN)
    direction = Direction.UP if sum(up) >= sum(down) else Direction.DOWN
    if rng.random() < 0.2 and min(sum(up), sum(down)) > 0:
        direction = Direction.DOWN if direction is Direction.UP else Direction.UP
    room = up if direction is Direction.UP else down
    common = {
        "offer_id": name,
        "provider_id": f"fsp-{rng.randint(1, 6)}",
        "bus_id": unit.bus_id,
        "direction": direction,
    }
    asks = [max(price[t], 0) + markup if direction is Direction.UP else markup * 0.7 - 10 * EUR for t in range(slots)]
    if style == 3:  # reactive power of an inverter or a capacitor
        reach = max(1, unit.rated_power_va // 3)
        stack = tuple(
            OfferSlot(steps=(Step(quantity=reach, price_milli_per_mwh=round(markup / 10)),)) for _ in range(slots)
        )
        return [Offer(**common, quantity=Quantity.REACTIVE, slots=stack)], None  # type: ignore[arg-type]
    if style == 5 and max(room) > 0:  # block over the hours around the largest room
        start, length = _window(room, max(1, round(7200 / resolution_s)))
        level = max(1, min(room[start : start + length]))
        block = tuple(
            OfferSlot(steps=(Step(quantity=level, price_milli_per_mwh=round(asks[start])),))
            if start <= t < start + length
            else OfferSlot()
            for t in range(slots)
        )
        return [Offer(**common, slots=block, all_or_nothing=True)], None  # type: ignore[arg-type]
    stack = tuple(_stack(room[t], asks[t], rng) for t in range(slots))
    more: dict[str, object] = {}
    energy = sum(room) * resolution_s // 3600
    if style in (1, 6, 8) and energy > 0:
        more["max_energy_wh"] = max(1, round(energy * rng.uniform(0.15, 0.5)))
    elif unit.kind is AssetKind.HEAT_PUMP and direction is Direction.UP:
        more["payback"] = Payback(factor_ppm=900_000, delay_slots=0, window_slots=max(1, round(7200 / resolution_s)))
    if unit.kind in (AssetKind.LOAD, AssetKind.INDUSTRY):
        more["tan_phi_ppm"] = 250_000
    return [Offer(**common, slots=stack, **more)], None  # type: ignore[arg-type]


def _room(unit: ConnectedUnit, direction: Direction) -> list[int]:
    """What the unit can change per slot: generation down, draw up, and a little the other way."""
    share = SHARE_OF_KIND[unit.kind]
    if direction is Direction.UP:
        return [round(-p * share) if p < 0 else 0 for p in unit.power_w]
    return [round(p * share) if p > 0 else round(-p * share * 0.4) for p in unit.power_w]


def _stack(room: int, ask: float, rng: Random) -> OfferSlot:
    steps = min(rng.randint(1, 4), room)
    if steps < 1:
        return OfferSlot()
    cuts = [room * k // steps for k in range(steps + 1)]
    return OfferSlot(
        steps=tuple(
            Step(quantity=cuts[k + 1] - cuts[k], price_milli_per_mwh=round(ask + k * 7 * EUR)) for k in range(steps)
        )
    )


def _window(room: Sequence[int], length: int) -> tuple[int, int]:
    length = min(length, len(room))
    starts = range(len(room) - length + 1)
    return max(starts, key=lambda s: (min(room[s : s + length]), -s)), length


def _battery(unit: ConnectedUnit, name: str, slots: int, price: Sequence[int], rng: Random) -> tuple[list[Offer], Unit]:
    power = max(1, unit.rated_power_va // 2)
    store = Unit(
        unit_id=f"{name}-store",
        kind=UnitKind.STORAGE,
        initial_energy_wh=power,
        max_energy_wh=2 * power,
        min_final_energy_wh=power,
        charge_efficiency_ppm=950_000,
        discharge_efficiency_ppm=950_000,
    )
    wear = round(rng.uniform(8, 30) * EUR)
    provider = f"fsp-{rng.randint(1, 6)}"
    sides = []
    for direction in (Direction.UP, Direction.DOWN):
        asks = [(max(price[t], 0) + 2 * wear) if direction is Direction.UP else wear for t in range(slots)]
        sides.append(
            Offer(
                offer_id=f"{name}-{direction.value.lower()}",
                provider_id=provider,
                bus_id=unit.bus_id,
                direction=direction,
                slots=tuple(OfferSlot(steps=(Step(quantity=power, price_milli_per_mwh=ask),)) for ask in asks),
                unit_id=store.unit_id,
            )
        )
    return sides, store


def _requests(
    network: NetworkModelPublished,
    baseline: Sequence[BusInjection],
    slots: int,
    resolution_s: int,
    rng: Random,
) -> list[Request]:
    """A TSO need at the infeed in the evening, a BRP's energy at noon, a DSO need at the bus with most draw."""
    peak = max(1, *(abs(total) for total in _totals(baseline, slots))) if baseline else 1

    def curve(quantity: int, bid: Sequence[float], when: Sequence[float]) -> tuple[RequestSlot, ...]:
        return tuple(
            RequestSlot(steps=(Step(quantity=max(1, quantity), price_milli_per_mwh=round(bid[t])),))
            if when[t] > 0.5
            else RequestSlot()
            for t in range(slots)
        )

    hours = [t * resolution_s / 3600 for t in range(slots)]
    sunset, noon = [evening(h) for h in hours], [daylight(h) for h in hours]
    asked = [
        Request(
            request_id="tso-evening",
            requester_id="tso",
            kind=RequestKind.TSO,
            direction=Direction.UP,
            location_kind=Location.INFEED_POINT,
            location_id=min(point.infeed_id for point in network.infeed_points),
            slots=curve(peak // 50, [rng.uniform(60, 90) * EUR] * slots, sunset),
        ),
        Request(
            request_id="brp-noon",
            requester_id="brp-1",
            kind=RequestKind.ENERGY,
            direction=Direction.DOWN,
            location_kind=Location.AREA,
            slots=curve(peak // 40, [rng.uniform(10, 40) * EUR] * slots, noon),
        ),
    ]
    if baseline:
        heaviest = min(baseline, key=lambda b: (min(b.power_w), b.bus_id))
        asked.append(
            Request(
                request_id="dso-bus",
                requester_id="dso",
                direction=Direction.UP,
                location_kind=Location.BUS,
                location_id=heaviest.bus_id,
                slots=curve(max(1, -min(heaviest.power_w) // 10), [rng.uniform(80, 160) * EUR] * slots, sunset),
            )
        )
    return asked
