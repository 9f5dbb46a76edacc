"""A small market told in messages: tests give a history and expect facts.

GRID --T1-- B1 --L1-- B2 --L2-- B3        zones: B2, B3 = "east"
            |          |         |
          GCP-1      GCP-2     GCP-3      fsp-a markets 1 and 2, fsp-b markets 3
"""

from dataclasses import dataclass, field, replace
from typing import Any

from flexbus import events as ev
from flexbus.errors import Fault
from flexbus.events import Role
from flexbus.quantities import Direction
from flexbus.time import parse_ms
from flexbus.validation import Admission, admission_faults, content_faults, fold_admission
from flexbus.views.fact import Fact

AREA, SESSION, PRODUCT = "north", "DA", "day-ahead"
START = parse_ms("2027-01-15T00:00:00+02:00")
QUARTER = 900_000
HOUR = 3_600_000
DAY = 24 * HOUR
DSO, TSO, FSP_A, FSP_B, METER = "dso", "tso", "fsp-a", "fsp-b", "meter"


def network(revision: int = 1, **changes: Any) -> ev.NetworkModelPublished:
    def bus(name: str, zone: str | None = None) -> ev.Bus:
        return ev.Bus(
            bus_id=name,
            nominal_voltage_v=20_000,
            min_voltage_ppm=950_000,
            max_voltage_ppm=1_050_000,
            zone_id=zone,
        )

    def branch(name: str, a: str, b: str, kind: ev.BranchKind = ev.BranchKind.LINE) -> ev.Branch:
        return ev.Branch(branch_id=name, kind=kind, from_bus_id=a, to_bus_id=b, r_ohm=0.1, x_ohm=0.2)

    model = ev.NetworkModelPublished(
        area_id=AREA,
        network_id="grid",
        revision=revision,
        valid_from_ms=START,
        buses=(bus("B0"), bus("B1"), bus("B2", "east"), bus("B3", "east")),
        branches=(
            branch("T1", "B0", "B1", ev.BranchKind.TRANSFORMER),
            branch("L1", "B1", "B2"),
            branch("L2", "B2", "B3"),
        ),
        infeed_points=(ev.InfeedPoint(infeed_id="GRID", bus_id="B0", voltage_ppm=1_000_000),),
    )
    return replace(model, **changes)


def product(**changes: Any) -> ev.MarketProductDefined:
    p = ev.MarketProductDefined(area_id=AREA, product_id=PRODUCT, name="day-ahead, quarter-hours")
    return replace(p, **changes)


def session(session_id: str = SESSION, **changes: Any) -> ev.MarketSessionScheduled:
    s = ev.MarketSessionScheduled(
        area_id=AREA,
        session_id=session_id,
        product_id=PRODUCT,
        delivery_start_ms=START,
        delivery_end_ms=START + DAY,
        gate_opens_ms=START - 14 * HOUR,
        gate_closes_ms=START - 12 * HOUR,
        settlement_due_ms=START + 2 * DAY,
    )
    return replace(s, **changes)


def participant(name: str, *roles: Role) -> ev.ParticipantRegistered:
    return ev.ParticipantRegistered(area_id=AREA, participant_id=name, name=name.upper(), roles=roles)


def point(name: str, bus: str, fsp: str, **changes: Any) -> ev.ConnectionPointRegistered:
    p = ev.ConnectionPointRegistered(
        area_id=AREA,
        connection_point_id=name,
        kind=ev.ConnectionPointKind.MIXED,
        bus_id=bus,
        fsp_id=fsp,
        meter_operator_id=METER,
        max_feed_in_w=500_000,
        max_draw_w=500_000,
    )
    return replace(p, **changes)


def asset(name: str, point_id: str, fsp: str) -> ev.AssetRegistered:
    return ev.AssetRegistered(
        area_id=AREA,
        asset_id=name,
        fsp_id=fsp,
        connection_point_id=point_id,
        kind=ev.AssetKind.PV,
        max_feed_in_w=300_000,
        max_draw_w=0,
    )


def offer(
    offer_id: str = "o1",
    fsp: str = FSP_A,
    point_id: str | None = "GCP-1",
    *,
    steps: tuple[tuple[int, int], ...] = ((100_000, 40_000),),
    slots: int = 4,
    direction: Direction = Direction.UP,
    **changes: Any,
) -> ev.FlexOffer:
    stack = tuple(ev.PriceStep(power_w=w, price_milli_per_mwh=p) for w, p in steps)
    o = ev.FlexOffer(
        offer_id=offer_id,
        revision=1,
        session_id=SESSION,
        fsp_id=fsp,
        connection_point_id=point_id,
        direction=direction,
        start_ms=START,
        resolution_s=900,
        slots=(ev.OfferSlot(steps=stack),) * slots,
    )
    return replace(o, **changes)


def submitted(*args: Any, **changes: Any) -> ev.FlexOfferSubmitted:
    return ev.FlexOfferSubmitted(area_id=AREA, offer=offer(*args, **changes))


def request(request_id: str = "r1", **changes: Any) -> ev.FlexRequest:
    r = ev.FlexRequest(
        request_id=request_id,
        revision=1,
        session_id=SESSION,
        requester_id=DSO,
        direction=Direction.UP,
        location_kind=ev.LocationKind.BRANCH,
        location_id="L1",
        start_ms=START,
        resolution_s=900,
        power_w=(50_000, 60_000),
        max_price_milli_per_mwh=90_000,
        causes=("MANUAL",),
        reason="maintenance",
    )
    return replace(r, **changes)


def baseline(
    point_id: str = "GCP-1", fsp: str = FSP_A, power_w: int = -200_000, **changes: Any
) -> ev.BaselineSubmitted:
    b = ev.BaselineSubmitted(
        area_id=AREA,
        baseline_id=f"base-{point_id}",
        revision=1,
        connection_point_id=point_id,
        fsp_id=fsp,
        session_id=SESSION,
        start_ms=START,
        resolution_s=900,
        power_w=(power_w,) * 96,
    )
    return replace(b, **changes)


def gate_opened(session_id: str = SESSION, at_ms: int = START - 14 * HOUR) -> ev.GateOpened:
    return ev.GateOpened(area_id=AREA, session_id=session_id, at_ms=at_ms)


def gate_closed(session_id: str = SESSION, at_ms: int = START - 12 * HOUR) -> ev.GateClosed:
    return ev.GateClosed(area_id=AREA, session_id=session_id, at_ms=at_ms)


def delivery_started(start_ms: int = START, session_id: str = SESSION) -> ev.DeliveryStarted:
    return ev.DeliveryStarted(area_id=AREA, session_id=session_id, start_ms=start_ms, end_ms=start_ms + QUARTER)


@dataclass
class Market:
    """The journal of one area as a list of facts, guarded by the same checks as the sequencer's."""

    facts: list[Fact] = field(default_factory=list)
    admission: Admission = field(default_factory=Admission)
    now_ms: int = START - 20 * HOUR

    def refuse(self, event: Any, sender: str, on_behalf_of: str | None = None) -> tuple[Fault, ...]:
        """Return the faults of an event that comes now; it changes nothing."""
        faults = content_faults(event)
        return faults or admission_faults(self.admission, event, sender, on_behalf_of, self.now_ms)

    def send(self, event: Any, sender: str, on_behalf_of: str | None = None) -> Fact:
        """Take an event into the journal; it must have no fault."""
        faults = self.refuse(event, sender, on_behalf_of)
        assert faults == (), "\n".join(map(str, faults))
        position = len(self.facts)
        fact = Fact(
            event=event,
            event_id=f"e{position}",
            sender_id=sender,
            on_behalf_of=on_behalf_of,
            received_at_ms=self.now_ms,
            block=position,
            index=0,
        )
        self.facts.append(fact)
        fold_admission(self.admission, fact)
        return fact


def codes(faults: tuple[Fault, ...]) -> dict[str, str]:
    """Return the codes of faults by path."""
    return {f.path: f.code.value for f in faults}


def founded(*, scheduled: bool = True) -> Market:
    """An area with its parties, grid, points, product and, if wanted, one session; the gate has not opened."""
    market = Market()
    market.send(ev.AreaOpened(area_id=AREA, name="North", fmo_id="fmo", time_zone="Europe/Helsinki"), "fmo")
    for name, role in ((DSO, Role.DSO), (TSO, Role.TSO), (FSP_A, Role.FSP), (FSP_B, Role.FSP)):
        market.send(participant(name, role), "fmo")
    market.send(participant(METER, Role.METER_OPERATOR), "fmo")
    market.send(network(), DSO)
    market.send(point("GCP-1", "B1", FSP_A), DSO)
    market.send(point("GCP-2", "B2", FSP_A), DSO)
    market.send(point("GCP-3", "B3", FSP_B), DSO)
    market.send(product(), "fmo")
    if scheduled:
        market.send(session(), "fmo")
    return market


def open_market() -> Market:
    """The same with its gate open."""
    market = founded()
    market.send(gate_opened(), "scheduler")
    return market
