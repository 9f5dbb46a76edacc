"""What is traded on the demo day: connection points, assets, baselines, offers; from a real grid, without chance.

Loads, generators and storages are those of the grid with their own profiles. Which of them are marketed, by whom
and at which price follows from their order and a seed alone, so two runs play the same day.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

from flexbus import events as ev
from flexbus.events import AssetKind, ConnectionPointKind, FlexOffer, OfferSlot, PriceStep
from flexbus.quantities import Direction, energy_wh

__all__ = [
    "DSO",
    "FMO",
    "FSPS",
    "HOUR_MS",
    "METER",
    "SLOT_S",
    "TSO",
    "Scenario",
    "Site",
    "another_day",
    "days_until_after",
    "offers_of",
]

FMO, DSO, TSO, METER = "fmo", "dso", "tso", "meter-operator"
SLOT_S = 900
HOUR_MS = 3_600_000
_DAY_MS = 24 * HOUR_MS

# Provider -> what it markets.
FSPS: dict[str, tuple[str, tuple[AssetKind, ...]]] = {
    "fsp-wind-and-sun": ("Wind and Sun Trading", (AssetKind.PV, AssetKind.WIND)),
    "fsp-storage": ("Storage Pool", (AssetKind.BATTERY,)),
    "fsp-biogas": ("Biogas and CHP Pool", (AssetKind.BIOMASS, AssetKind.CHP, AssetKind.HYDRO)),
    "fsp-industry": ("Industry Aggregator", (AssetKind.INDUSTRY,)),
    "fsp-community": ("Energy Community", (AssetKind.LOAD, AssetKind.HEAT_PUMP, AssetKind.EV_CHARGER)),
}

# Asking price for upward and downward flexibility, EUR per MWh: what it costs the provider.
_PRICES: dict[AssetKind, tuple[int, int]] = {
    AssetKind.PV: (0, 55),
    AssetKind.WIND: (0, 65),
    AssetKind.BATTERY: (95, 35),
    AssetKind.BIOMASS: (110, 40),
    AssetKind.CHP: (115, 45),
    AssetKind.HYDRO: (105, 50),
    AssetKind.INDUSTRY: (140, 25),
    AssetKind.LOAD: (170, 60),
    AssetKind.HEAT_PUMP: (125, 30),
    AssetKind.EV_CHARGER: (90, 20),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A connection point with one asset.

    Attributes:
        connection_point_id: connection point.
        bus_id: bus of the network model.
        kind: technology.
        fsp_id: provider that markets it.
        baseline_w: expected net power per slot, W, positive = feed-in.
        max_feed_in_w: greatest feed-in, W.
        max_draw_w: greatest draw, W.
        up_w: upward flexibility per slot, W.
        down_w: downward flexibility per slot, W.
        storage_wh: usable storage, Wh, or None.
        block_slots: length of the all-or-nothing blocks it offers, or 0.
    """

    connection_point_id: str
    bus_id: str
    kind: AssetKind
    fsp_id: str
    baseline_w: tuple[int, ...]
    max_feed_in_w: int
    max_draw_w: int
    up_w: tuple[int, ...]
    down_w: tuple[int, ...]
    storage_wh: int | None = None
    block_slots: int = 0

    @property
    def point_kind(self) -> ConnectionPointKind:
        """Kind of the connection point."""
        if self.storage_wh is not None:
            return ConnectionPointKind.STORAGE
        return ConnectionPointKind.GENERATION if self.max_feed_in_w else ConnectionPointKind.CONSUMPTION


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One market day.

    Attributes:
        area_id: market area.
        title: grid, day, and by how much its loads were changed, for people; the name of the area.
        note: how what the title says was found; empty = nothing was changed.
        day: local delivery day.
        time_zone: its time zone.
        start_ms: start of delivery, UTC ms.
        network: network model.
        injections: forecast net injection per bus.
        sites: what is marketed.
        step_w: quantity step of the product, W.
    """

    area_id: str
    title: str
    note: str
    day: date
    time_zone: str
    start_ms: int
    network: ev.NetworkModelPublished
    injections: tuple[ev.BusInjection, ...]
    sites: tuple[Site, ...]
    step_w: int

    @property
    def slots(self) -> int:
        """Number of slots of the day."""
        return len(self.sites[0].baseline_w)

    @property
    def end_ms(self) -> int:
        """End of delivery, UTC ms."""
        return self.start_ms + self.slots * SLOT_S * 1000

    @property
    def session_id(self) -> str:
        """Its day-ahead session."""
        return f"da-{self.day.isoformat()}"

    @property
    def begins_ms(self) -> int:
        """When participants register, UTC ms; nothing of the day is earlier."""
        return self.gate_opens_ms - 2 * HOUR_MS

    @property
    def gate_opens_ms(self) -> int:
        """When the gate of that session opens, UTC ms."""
        return self.start_ms - 16 * HOUR_MS

    @property
    def gate_closes_ms(self) -> int:
        """When it closes, UTC ms."""
        return self.start_ms - 12 * HOUR_MS

    @property
    def settlement_due_ms(self) -> int:
        """When it is settled, UTC ms."""
        return self.end_ms + 12 * HOUR_MS


def another_day(scenario: Scenario, area_id: str, days: int = 0) -> Scenario:
    """Return the same day in another area, some days later; a broker that lives on has seen the first one."""
    return replace(
        scenario,
        area_id=area_id,
        network=replace(scenario.network, area_id=area_id),
        day=scenario.day + timedelta(days=days),
        start_ms=scenario.start_ms + days * _DAY_MS,
    )


def days_until_after(scenario: Scenario, played_ms: int) -> int:
    """Return by how many days the day must move to come after a market time: the clock never runs back.

    Args:
        scenario: the day.
        played_ms: latest market time of the clock, UTC ms.

    Returns:
        Whole years of 52 weeks, which keep weekday and season.
    """
    late_ms = played_ms - scenario.begins_ms
    return 0 if late_ms < 0 else (late_ms // (364 * _DAY_MS) + 1) * 364


def offers_of(scenario: Scenario) -> tuple[FlexOffer, ...]:
    """Return every offer of the day: per site and direction a price stack, for industry all-or-nothing blocks."""
    found: list[FlexOffer] = []
    for site in scenario.sites:
        for direction, power_w in ((Direction.UP, site.up_w), (Direction.DOWN, site.down_w)):
            quantities = [w // scenario.step_w * scenario.step_w for w in power_w]
            if not any(quantities):
                continue
            if site.block_slots:
                found += _blocks(scenario, site, direction, quantities)
            else:
                found.append(_stack(scenario, site, direction, quantities))
    return tuple(found)


def _price(site: Site, direction: Direction, step: int) -> int:
    base = _PRICES[site.kind][0 if direction is Direction.UP else 1]
    # A spread of up to 20 EUR/MWh between sites and 12 per step, so that the merit order has a shape.
    digest = hashlib.sha256(f"{site.connection_point_id}/{direction.value}".encode()).digest()
    return (base + digest[0] % 21) * 1000 + step * 12_000


def _stack(scenario: Scenario, site: Site, direction: Direction, quantities: Sequence[int]) -> FlexOffer:
    slots = []
    for quantity in quantities:
        first = quantity * 3 // 5 // scenario.step_w * scenario.step_w
        parts = [p for p in (first, quantity - first) if p]
        steps = (PriceStep(power_w=p, price_milli_per_mwh=_price(site, direction, n)) for n, p in enumerate(parts))
        slots.append(OfferSlot(steps=tuple(steps)))
    return FlexOffer(
        offer_id=f"{site.connection_point_id}.{direction.value.lower()}",
        revision=1,
        session_id=scenario.session_id,
        fsp_id=site.fsp_id,
        connection_point_id=site.connection_point_id,
        direction=direction,
        start_ms=scenario.start_ms,
        resolution_s=SLOT_S,
        slots=tuple(slots),
        max_energy_wh=site.storage_wh,
    )


def _blocks(scenario: Scenario, site: Site, direction: Direction, quantities: Sequence[int]) -> list[FlexOffer]:
    found = []
    length = site.block_slots
    for begin in range(0, len(quantities) - length + 1, length):
        quantity = min(quantities[begin : begin + length])
        if not quantity:
            continue
        slot = OfferSlot(steps=(PriceStep(power_w=quantity, price_milli_per_mwh=_price(site, direction, 0)),))
        found.append(
            FlexOffer(
                offer_id=f"{site.connection_point_id}.{direction.value.lower()}.{begin:02d}",
                revision=1,
                session_id=scenario.session_id,
                fsp_id=site.fsp_id,
                connection_point_id=site.connection_point_id,
                direction=direction,
                start_ms=scenario.start_ms + begin * SLOT_S * 1000,
                resolution_s=SLOT_S,
                slots=(slot,) * length,
                all_or_nothing=True,
                max_energy_wh=energy_wh(quantity, SLOT_S) * length,
            )
        )
    return found
