"""A large market day without chance: areas on a real grid, providers with a connection point each, many offers."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from flexbus import events as ev
from flexbus.events import FlexOffer, OfferSlot, PriceStep, Role
from flexbus.quantities import Direction
from streams.demo.scenario import DSO, FMO, METER, SLOT_S, TSO, Scenario

__all__ = ["LargeMarket", "large_market"]

_HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class LargeMarket:
    """One area of the large market.

    Attributes:
        scenario: grid and forecast of the area.
        providers: ids of its providers, each with one connection point.
        offers_each: offers per provider.
    """

    scenario: Scenario
    providers: tuple[str, ...]
    offers_each: int

    @property
    def area_id(self) -> str:
        """Market area."""
        return self.scenario.area_id

    @property
    def session_id(self) -> str:
        """The one session."""
        return "da-large"

    @property
    def opens_ms(self) -> int:
        """Gate opening, UTC ms."""
        return self.scenario.start_ms - 16 * _HOUR_MS

    @property
    def closes_ms(self) -> int:
        """Gate closure, UTC ms."""
        return self.scenario.start_ms - 12 * _HOUR_MS

    def founding(self) -> list[tuple[str, object]]:
        """Return what opens the area: (sender, event), in order."""
        a, s = self.area_id, self.scenario
        parties = [(FMO, Role.FMO), (DSO, Role.DSO), (TSO, Role.TSO), (METER, Role.METER_OPERATOR)]
        parties += [(p, Role.FSP) for p in self.providers]
        product = ev.MarketProductDefined(
            area_id=a,
            product_id="energy-15",
            name="quarter-hours",
            step_w=100,
            min_offer_w=100,
            request_max_price_milli_per_mwh=400_000,
            violation_price_milli_per_mwh=400_000,
        )
        session = ev.MarketSessionScheduled(
            area_id=a,
            session_id=self.session_id,
            product_id="energy-15",
            delivery_start_ms=s.start_ms,
            delivery_end_ms=s.end_ms,
            gate_opens_ms=self.opens_ms,
            gate_closes_ms=self.closes_ms,
            settlement_due_ms=s.end_ms + 12 * _HOUR_MS,
        )
        return [
            (FMO, ev.AreaOpened(area_id=a, name=a, fmo_id=FMO, time_zone=s.time_zone)),
            *(
                (FMO, ev.ParticipantRegistered(area_id=a, participant_id=p, name=p, roles=(role,)))
                for p, role in parties
            ),
            (FMO, product),
            (FMO, session),
        ]

    def grid(self) -> list[tuple[str, object]]:
        """Return grid and connection points: (sender, event)."""
        buses = [i.bus_id for i in self.scenario.injections]
        return [
            (DSO, self.scenario.network),
            *(
                (
                    DSO,
                    ev.ConnectionPointRegistered(
                        area_id=self.area_id,
                        connection_point_id=f"cp-{provider}",
                        kind=ev.ConnectionPointKind.MIXED,
                        bus_id=buses[n % len(buses)],
                        fsp_id=provider,
                        meter_operator_id=METER,
                        max_feed_in_w=5_000_000,
                        max_draw_w=5_000_000,
                    ),
                )
                for n, provider in enumerate(self.providers)
            ),
        ]

    def assets(self) -> list[tuple[str, object]]:
        """Return one asset per provider: (sender, event)."""
        return [
            (
                p,
                ev.AssetRegistered(
                    area_id=self.area_id,
                    asset_id=f"asset-{p}",
                    fsp_id=p,
                    connection_point_id=f"cp-{p}",
                    kind=ev.AssetKind.INDUSTRY,
                    max_feed_in_w=5_000_000,
                    max_draw_w=5_000_000,
                ),
            )
            for p in self.providers
        ]

    def approvals(self) -> list[tuple[str, object]]:
        """Return the DSO's approvals: (sender, event)."""
        return [
            (
                DSO,
                ev.AssetApproved(
                    area_id=self.area_id, asset_id=f"asset-{p}", validated_up_w=5_000_000, validated_down_w=5_000_000
                ),
            )
            for p in self.providers
        ]

    def forecast(self) -> tuple[str, object]:
        """Return the forecast of the day."""
        return DSO, ev.NetForecastPublished(
            area_id=self.area_id,
            forecast_id="forecast",
            revision=1,
            network_id=self.scenario.network.network_id,
            issued_at_ms=self.opens_ms,
            start_ms=self.scenario.start_ms,
            resolution_s=SLOT_S,
            injections=self.scenario.injections,
        )

    def offers(self) -> Iterator[FlexOffer]:
        """Yield the offers: 24 slots each, up or down, of 10 to 60 kW at 20 to 140 EUR per MWh, some as blocks."""
        number = 0
        for provider in self.providers:
            for k in range(self.offers_each):
                number += 1
                first = (number * 7) % 73
                power_w = 10_000 + (number * 37) % 51 * 1000
                price = 20_000 + (number * 53) % 121 * 1000
                slot = OfferSlot(steps=(PriceStep(power_w=power_w, price_milli_per_mwh=price),))
                yield FlexOffer(
                    offer_id=f"{provider}.{k:02d}",
                    revision=1,
                    session_id=self.session_id,
                    fsp_id=provider,
                    connection_point_id=f"cp-{provider}",
                    direction=Direction.DOWN if number % 3 else Direction.UP,
                    start_ms=self.scenario.start_ms + first * SLOT_S * 1000,
                    resolution_s=SLOT_S,
                    slots=(slot,) * 24,
                    max_energy_wh=power_w * 3 if number % 50 == 0 else None,
                    all_or_nothing=number % 400 == 0,
                )


def large_market(scenario: Scenario, areas: int, participants: int, offers: int) -> tuple[LargeMarket, ...]:
    """Return areas that share a grid's shape, with providers and offers spread evenly over them."""
    found = []
    for n in range(areas):
        area_id = f"area-{n + 1}"
        here = replace(scenario, area_id=area_id, network=replace(scenario.network, area_id=area_id))
        providers = tuple(f"fsp-{n + 1}-{k:03d}" for k in range(participants // areas))
        found.append(LargeMarket(here, providers, offers // participants))
    return tuple(found)
