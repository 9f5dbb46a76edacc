"""A small market to tell histories with: two infeed points, three points, one session of four quarter-hours.

up-a (100) --- n1 --- n2 ---(open)--- n3 --- up-b (200)
               p1     p2              p3
"""

from collections.abc import Iterable
from dataclasses import replace
from types import ModuleType
from typing import Any

from flexbus import events as ev
from flexbus.events import BranchKind, ConnectionPointKind, Role
from flexbus.quantities import Direction
from flexbus.views.fact import Emission, Fact

AREA = "west"
HOUR = 3_600_000
SLOT = 900_000
DAY = 1_767_225_600_000  # 2026-01-01T00:00Z, start of delivery
GATE = DAY - 12 * HOUR
SLOTS = tuple(DAY + i * SLOT for i in range(4))


class Story:
    """Folds a view over events as they are told, and feeds what it decides back as the journal would."""

    def __init__(self, view: ModuleType, state: Any) -> None:
        self.view, self.state = view, state
        self.told: list[Any] = []
        self.seen: set[str] = set()

    def hear(self, event: Any, event_id: str = "", sender: str = "somebody") -> tuple[Emission, ...]:
        """Fold one event; return what it makes due."""
        fact = Fact(
            event=event,
            event_id=event_id or f"told-{len(self.told)}",
            sender_id=sender,
            on_behalf_of=None,
            received_at_ms=0,
            block=len(self.told),
            index=0,
        )
        self.told.append(event)
        self.seen.add(fact.event_id)
        self.state = self.view.fold(self.state, fact)
        decide = getattr(self.view, "decide", None)
        return tuple(decide(self.state, fact)) if decide else ()

    def tell(self, *events: Any) -> list[Any]:
        """Fold events and everything that follows from them; return what followed, in order."""
        followed = []
        for event in events:
            queue = list(self.hear(event))
            while queue:
                emission = queue.pop(0)
                if emission.event_id not in self.seen:
                    followed.append(emission.event)
                    queue += self.hear(emission.event, emission.event_id)
        return followed


def only(kind: type[Any], events: Iterable[Any]) -> list[Any]:
    return [e for e in events if type(e) is kind]


def party(name: str, *roles: Role) -> ev.ParticipantRegistered:
    return ev.ParticipantRegistered(area_id=AREA, participant_id=name, name=name, roles=roles)


def point(name: str, bus: str, fsp: str = "alpha") -> ev.ConnectionPointRegistered:
    return ev.ConnectionPointRegistered(
        area_id=AREA,
        connection_point_id=name,
        kind=ConnectionPointKind.MIXED,
        bus_id=bus,
        fsp_id=fsp,
        meter_operator_id="meters",
        max_feed_in_w=1_000_000,
        max_draw_w=1_000_000,
    )


def bus(name: str) -> ev.Bus:
    return ev.Bus(bus_id=name, nominal_voltage_v=20_000, min_voltage_ppm=900_000, max_voltage_ppm=1_100_000)


def line(name: str, start: str, end: str, *, closed: bool = True) -> ev.Branch:
    return ev.Branch(
        branch_id=name,
        kind=BranchKind.LINE,
        from_bus_id=start,
        to_bus_id=end,
        r_ohm=0.1,
        x_ohm=0.1,
        closed=closed,
        max_current_ma=300_000,
    )


NETWORK = ev.NetworkModelPublished(
    area_id=AREA,
    network_id="grid",
    revision=1,
    valid_from_ms=0,
    buses=tuple(bus(b) for b in ("100", "200", "n1", "n2", "n3")),
    branches=(
        line("l1", "100", "n1"),
        line("l2", "n1", "n2"),
        line("l3", "n2", "n3", closed=False),
        line("l4", "n3", "200"),
    ),
    infeed_points=(
        ev.InfeedPoint(infeed_id="up-a", bus_id="100", voltage_ppm=1_000_000),
        ev.InfeedPoint(infeed_id="up-b", bus_id="200", voltage_ppm=1_000_000),
    ),
)


def product(**changes: Any) -> ev.MarketProductDefined:
    return ev.MarketProductDefined(area_id=AREA, product_id="day-ahead", name="Day-ahead", **changes)


def session(name: str = "s1", **changes: Any) -> ev.MarketSessionScheduled:
    values: dict[str, Any] = {
        "delivery_start_ms": DAY,
        "delivery_end_ms": DAY + HOUR,
        "gate_opens_ms": GATE - HOUR,
        "gate_closes_ms": GATE,
        "settlement_due_ms": DAY + 48 * HOUR,
    }
    return ev.MarketSessionScheduled(area_id=AREA, session_id=name, product_id="day-ahead", **(values | changes))


def opened(**product_changes: Any) -> tuple[Any, ...]:
    """Everything up to an open gate."""
    return (
        ev.AreaOpened(area_id=AREA, name="West", fmo_id="fmo", time_zone="Europe/Helsinki"),
        party("grid-dso", Role.DSO),
        party("tso", Role.TSO),
        party("alpha", Role.FSP),
        party("beta", Role.FSP),
        party("meters", Role.METER_OPERATOR),
        NETWORK,
        point("p1", "n1"),
        point("p2", "n2", "beta"),
        point("p3", "n3"),
        product(**product_changes),
        session(),
        ev.GateOpened(area_id=AREA, session_id="s1", at_ms=GATE - HOUR),
    )


def offer(
    name: str,
    at: str | None,
    steps: tuple[tuple[int, int], ...] = ((100_000, 50_000),),
    *,
    fsp: str = "alpha",
    direction: Direction = Direction.UP,
    slots: int = 4,
    **changes: Any,
) -> ev.FlexOfferSubmitted:
    stack = tuple(ev.PriceStep(power_w=p, price_milli_per_mwh=c) for p, c in steps)
    minimum = changes.pop("min_power_w", 0)
    return ev.FlexOfferSubmitted(
        area_id=AREA,
        offer=ev.FlexOffer(
            offer_id=name,
            revision=1,
            session_id="s1",
            fsp_id=fsp,
            connection_point_id=at,
            direction=direction,
            start_ms=DAY,
            resolution_s=900,
            slots=(ev.OfferSlot(steps=stack, min_power_w=minimum),) * slots,
            **changes,
        ),
    )


def baseline(at: str, *power_w: int, fsp: str = "alpha", **changes: Any) -> ev.BaselineSubmitted:
    values: dict[str, Any] = {"start_ms": DAY, "resolution_s": 900, "session_id": "s1", "revision": 1}
    return ev.BaselineSubmitted(
        area_id=AREA,
        baseline_id=f"baseline-{at}",
        connection_point_id=at,
        fsp_id=fsp,
        power_w=power_w,
        **(values | changes),
    )


GATE_CLOSED = ev.GateClosed(area_id=AREA, session_id="s1", at_ms=GATE)


def award(
    name: str, at: str | None, power_w: tuple[int, ...], *, price: int = 60_000, fsp: str = "alpha", **changes: Any
) -> ev.Award:
    values: dict[str, Any] = {"direction": Direction.UP, "portfolio_id": None, "offer_id": name}
    return ev.Award(
        award_id=f"award-{name}",
        offer_revision=1,
        fsp_id=fsp,
        connection_point_id=at,
        bus_id=None,
        start_ms=DAY,
        resolution_s=900,
        power_w=power_w,
        price_milli_per_mwh=(price,) * len(power_w),
        **(values | changes),
    )


def cleared(*awards: ev.Award, session_id: str = "s1") -> ev.MarketCleared:
    return ev.MarketCleared(
        area_id=AREA,
        session_id=session_id,
        clearing_id="clearing",
        gate_block=0,
        network_id="grid",
        network_revision=1,
        start_ms=DAY,
        resolution_s=900,
        slots=(),
        awards=awards,
        non_awards=(),
        requests=(),
        cost_nano=0,
        welfare_nano=0,
        solver="none",
        case_hash="",
        result_hash="",
    )


def ordered(
    name: str, at: str | None, *power_w: int, direction: Direction = Direction.UP, **changes: Any
) -> ev.ActivationOrdered:
    order = ev.ActivationOrdered(
        area_id=AREA,
        session_id="s1",
        activation_id=name,
        award_id=f"award-{name}",
        tso_activation_id=None,
        offer_id=name,
        orderer_id="grid-dso",
        fsp_id="alpha",
        connection_point_id=at,
        portfolio_id=None,
        direction=direction,
        start_ms=DAY,
        resolution_s=900,
        power_w=power_w,
        price_milli_per_mwh=(60_000,) * len(power_w),
        acknowledge_by_ms=DAY,
    )
    return replace(order, **changes)


def begins(slot: int, session_id: str = "s1") -> ev.DeliveryStarted:
    start = DAY + slot * SLOT
    return ev.DeliveryStarted(area_id=AREA, session_id=session_id, start_ms=start, end_ms=start + SLOT)


def reading(at: str, *energy_wh: int, revision: int = 1, **changes: Any) -> ev.MeterReadingReceived:
    values: dict[str, Any] = {"start_ms": DAY, "resolution_s": 900}
    return ev.MeterReadingReceived(
        area_id=AREA,
        reading_id=f"reading-{at}",
        revision=revision,
        connection_point_id=at,
        meter_operator_id="meters",
        energy_wh=energy_wh,
        **(values | changes),
    )


DUE = ev.SettlementDue(area_id=AREA, session_id="s1", at_ms=DAY + 48 * HOUR)
