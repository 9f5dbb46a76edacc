"""A made-up market day on a feeder of 41 buses, as a journal: deterministic, and plausible enough to look at.

The grid states come from the real power flow; awards are made by a simple rule, not by the clearing.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from clearing.power_flow import AcGrid
from flexbus import codec
from flexbus import events as ev
from flexbus.errors import Fault, FaultCode
from flexbus.ids import derived_id
from flexbus.journal import Block, Entry, next_block
from flexbus.quantities import Direction, amount_nano, cents, energy_wh
from flexbus.time import parse_ms

AREA, SESSION = "valley", "DA-2026-06-21"
START = parse_ms("2026-06-21T00:00:00+02:00")
QUARTER = 900_000
SLOTS = 96
READ_EVERY = 4  # meters are read every hour
NOON = START + 52 * QUARTER  # one o'clock, when the sun stands highest: where the tests of the page put the clock
FSPS = ("fsp-alder", "fsp-birch", "fsp-cedar", "fsp-maple")
DSO, TSO, FMO, METER = "dso-valley", "tso-north", "fmo-local", "meter-co"


def network() -> ev.NetworkModelPublished:
    """A 110/20 kV station with four feeders, two open ties, and positions of a small valley."""
    buses = [_bus("HV", 110_000, 0.0, 4.2), _bus("MV", 20_000, 0.0, 4.0)]
    branches = [
        ev.Branch(
            branch_id="T1",
            name="transformer 1",
            kind=ev.BranchKind.TRANSFORMER,
            from_bus_id="HV",
            to_bus_id="MV",
            r_ohm=0.08,
            x_ohm=1.9,
            max_apparent_power_va=12_000_000,
        )
    ]
    for feeder, (length, angle) in enumerate(((13, 0.2), (10, 1.4), (9, 2.6), (7, 3.9))):
        before, x, y = "MV", 0.0, 4.0
        for k in range(length):
            name = f"F{feeder + 1}.{k + 1:02d}"
            bend = angle + 0.5 * math.sin(k * 1.1 + feeder)
            x, y = x + math.cos(bend), y + 0.7 * math.sin(bend)
            buses.append(_bus(name, 20_000, x, y))
            branches.append(_line(f"L{name[1:]}", before, name, 0.55 if feeder else 0.65, 210 if feeder else 200))
            before = name
    branches += [
        ev.Branch(
            branch_id=f"S{n}", kind=ev.BranchKind.SWITCH, from_bus_id=a, to_bus_id=b, r_ohm=0.0, x_ohm=0.0, closed=False
        )
        for n, (a, b) in enumerate((("F1.13", "F2.10"), ("F3.09", "F4.07")), start=1)
    ]
    slack = ev.InfeedPoint(infeed_id="GRID", bus_id="HV", voltage_ppm=1_025_000, import_price_milli_per_mwh=60_000)
    return ev.NetworkModelPublished(
        area_id=AREA, network_id="valley-mv", revision=1, name="Valley, medium voltage", valid_from_ms=START,
        buses=tuple(buses), branches=tuple(branches), infeed_points=(slack,),
    )  # fmt: skip


def _bus(bus_id: str, volt: int, x: float, y: float) -> ev.Bus:
    return ev.Bus(bus_id=bus_id, nominal_voltage_v=volt, min_voltage_ppm=960_000, max_voltage_ppm=1_055_000, x=x, y=y)


def _line(branch_id: str, a: str, b: str, km: float, ampere: int) -> ev.Branch:
    return ev.Branch(
        branch_id=branch_id, kind=ev.BranchKind.LINE, from_bus_id=a, to_bus_id=b,
        r_ohm=0.5 * km, x_ohm=0.37 * km, b_s=3e-6 * km, max_current_ma=ampere * 1000,
    )  # fmt: skip


def forecast(net: ev.NetworkModelPublished) -> ev.NetForecastPublished:
    """Load with two peaks everywhere, photovoltaics on the long feeder."""
    injections = []
    for n, bus in enumerate(b.bus_id for b in net.buses if b.bus_id.startswith("F")):
        size = 150_000 + 37_000 * (n * 7 % 5)
        sun = 720_000 + 60_000 * (n % 4) if bus.startswith("F1") else (260_000 if n % 3 == 0 else 0)
        power_w, reactive = [], []
        for slot in range(SLOTS):
            hour = slot / 4
            peaks = 0.7 * math.exp(-((hour - 8) ** 2) / 5) + 1.15 * math.exp(-((hour - 19.3) ** 2) / 4.5)
            load = size * (0.45 + peaks)
            shine = max(0.0, math.sin((hour - 5.5) / 15 * math.pi)) ** 1.6 if 5.5 < hour < 20.5 else 0.0
            power_w.append(int(sun * shine - load))
            reactive.append(int(-0.25 * load))
        injections.append(ev.BusInjection(bus_id=bus, power_w=tuple(power_w), reactive_power_var=tuple(reactive)))
    return ev.NetForecastPublished(
        area_id=AREA, forecast_id="net-1", revision=1, network_id=net.network_id, issued_at_ms=START - 86_400_000,
        start_ms=START, resolution_s=900, injections=tuple(injections),
    )  # fmt: skip


def _state(net: ev.NetworkModelPublished, p: np.ndarray, q: np.ndarray, cleared: bool) -> ev.GridStatePublished:
    state = AcGrid(net).solve(p, q)
    volt = np.rint(np.abs(state.voltage_pu) * 1e6).astype(int)
    load = np.rint(np.nan_to_num(state.loading_ppm)).astype(int)
    flow = np.rint(state.p_from_w).astype(int)
    return ev.GridStatePublished(
        area_id=AREA, session_id=SESSION, cleared=cleared, start_ms=START, resolution_s=900,
        buses=tuple(
            ev.BusVoltage(bus_id=b.bus_id, voltage_ppm=tuple(volt[:, k].tolist())) for k, b in enumerate(net.buses)
        ),
        branches=tuple(
            ev.BranchFlow(
                branch_id=b.branch_id, power_w=tuple(flow[:, k].tolist()), loading_ppm=tuple(load[:, k].tolist())
            )
            for k, b in enumerate(net.branches)
        ),
    )  # fmt: skip


def _reading(
    d: ev.DeliveryComputed, reading_id: str, revision: int, first: int, metered_wh: tuple[int | None, ...]
) -> ev.MeterReadingReceived:
    return ev.MeterReadingReceived(
        area_id=AREA, reading_id=f"{reading_id}.{first:02d}", revision=revision,
        connection_point_id=d.connection_point_id or "", meter_operator_id=METER,
        start_ms=d.start_ms + first * QUARTER, resolution_s=900, energy_wh=tuple(m or 0 for m in metered_wh),
    )  # fmt: skip


class _Day:
    """Writes the events of the day in order."""

    def __init__(self) -> None:
        self.net = network()
        self.forecast = forecast(self.net)
        self.points: list[tuple[str, str, str, Direction]] = []

    def events(self) -> Iterator[tuple[str, object, int]]:
        """Yield (sender, event, market time)."""
        before = START - 20 * 3_600_000
        yield from ((s, e, before) for s, e in self._registry())
        yield from ((s, e, START - 14 * 3_600_000) for s, e in self._needs_and_offers())
        yield from ((s, e, START - 11 * 3_600_000) for s, e in self._clearing())
        yield from self._delivery()
        yield from ((s, e, START + 30 * 3_600_000) for s, e in self._settlement())

    def _registry(self) -> Iterator[tuple[str, object]]:
        yield FMO, ev.AreaOpened(area_id=AREA, name="Valley", fmo_id=FMO, time_zone="Europe/Berlin")
        roles = {DSO: ev.Role.DSO, TSO: ev.Role.TSO, FMO: ev.Role.FMO, METER: ev.Role.METER_OPERATOR}
        for party, role in (*roles.items(), *((f, ev.Role.FSP) for f in FSPS), ("auditor", ev.Role.AUDITOR)):
            yield FMO, ev.ParticipantRegistered(area_id=AREA, participant_id=party, name=party, roles=(role,))
        yield DSO, self.net
        yield DSO, self.forecast
        buses = [f"F1.{k:02d}" for k in range(3, 14)] + ["F2.04", "F2.08", "F3.03", "F3.07", "F4.05"]
        for n, bus in enumerate(buses):
            point, fsp = f"GCP-{n + 1:02d}", FSPS[n % 4]
            way = Direction.DOWN if bus.startswith("F1") else Direction.UP
            self.points.append((point, bus, fsp, way))
            yield DSO, ev.ConnectionPointRegistered(
                area_id=AREA, connection_point_id=point, kind=ev.ConnectionPointKind.MIXED, bus_id=bus, fsp_id=fsp,
                meter_operator_id=METER, max_feed_in_w=1_200_000, max_draw_w=900_000,
            )  # fmt: skip
            yield fsp, ev.AssetRegistered(
                area_id=AREA, asset_id=f"A-{point}", fsp_id=fsp, connection_point_id=point,
                kind=ev.AssetKind.PV if way is Direction.DOWN else ev.AssetKind.BATTERY,
                max_feed_in_w=900_000, max_draw_w=0,
            )  # fmt: skip
            yield (
                DSO,
                ev.AssetApproved(area_id=AREA, asset_id=f"A-{point}", validated_up_w=400_000, validated_down_w=600_000),
            )
        yield FMO, ev.MarketProductDefined(area_id=AREA, product_id="DA-QH", name="Day-ahead quarter-hours")
        yield FMO, ev.MarketSessionScheduled(
            area_id=AREA, session_id=SESSION, product_id="DA-QH", delivery_start_ms=START,
            delivery_end_ms=START + SLOTS * QUARTER, gate_opens_ms=START - 16 * 3_600_000,
            gate_closes_ms=START - 12 * 3_600_000, settlement_due_ms=START + 30 * 3_600_000,
        )  # fmt: skip
        yield "scheduler", ev.GateOpened(area_id=AREA, session_id=SESSION, at_ms=START - 16 * 3_600_000)

    def _needs_and_offers(self) -> Iterator[tuple[str, object]]:
        p, q = self._injections()
        yield "congestion", _state(self.net, p, q, False)
        for element, way, peak, width, size in (
            ("L1.01", Direction.DOWN, 52, 14, 1_900_000),
            ("F1.13", Direction.DOWN, 52, 10, 1_300_000),
            ("T1", Direction.UP, 78, 7, 900_000),
        ):
            need = tuple(max(0, round(size * (1 - ((s - peak) / width) ** 2) / 10_000) * 10_000) for s in range(SLOTS))
            kind = ev.CongestionKind.VOLTAGE if element.startswith("F") else ev.CongestionKind.THERMAL
            yield "congestion", ev.NeedComputed(
                area_id=AREA, session_id=SESSION, element_id=element, kind=kind, direction=way, start_ms=START,
                resolution_s=900, need_w=need, state=ev.NeedState.OPEN, causes=("net-1 r1",),
            )  # fmt: skip
            if element == "F1.13":
                continue
            yield "congestion", ev.FlexRequestSubmitted(
                area_id=AREA,
                request=ev.FlexRequest(
                    request_id=f"REQ-{element}", revision=1, session_id=SESSION, requester_id=DSO, direction=way,
                    location_kind=ev.LocationKind.BRANCH, location_id=element, start_ms=START, resolution_s=900,
                    power_w=need, max_price_milli_per_mwh=180_000, causes=("net-1 r1",), reason="overload",
                ),
            )  # fmt: skip
        for n, (point, _, fsp, way) in enumerate(self.points):
            first, last = (34, 70) if way is Direction.DOWN else (68, 90)
            slots = tuple(
                ev.OfferSlot(
                    steps=(
                        ev.PriceStep(power_w=180_000 + 20_000 * (n % 3), price_milli_per_mwh=25_000 + 3_100 * n),
                        ev.PriceStep(power_w=90_000, price_milli_per_mwh=60_000 + 4_000 * n),
                    )
                    if first <= s < last
                    else ()
                )
                for s in range(SLOTS)
            )
            yield fsp, ev.FlexOfferSubmitted(
                area_id=AREA,
                offer=ev.FlexOffer(
                    offer_id=f"OFR-{n + 1:02d}", revision=1, session_id=SESSION, fsp_id=fsp,
                    connection_point_id=point, direction=way, start_ms=START, resolution_s=900, slots=slots,
                ),
            )  # fmt: skip
        expected = {o.connection_point_id: o for o in map(self._order, self._awards())}
        for point, _, fsp, _ in self.points:
            first = (expected[point].start_ms - START) // QUARTER if point in expected else SLOTS
            yield fsp, ev.BaselineSubmitted(
                area_id=AREA, baseline_id=f"BL-{point}", revision=1, connection_point_id=point, fsp_id=fsp,
                session_id=SESSION, start_ms=START, resolution_s=900,
                power_w=tuple(4 * (60_000 + 900 * max(0, s - first)) for s in range(SLOTS)),
            )  # fmt: skip
        yield DSO, ev.CapacityLimitForeseen(
            area_id=AREA, limit_id="LIM-1", revision=1, connection_point_id="GCP-04", start_ms=START + 44 * QUARTER,
            end_ms=START + 60 * QUARTER, max_feed_in_w=700_000, reason="cable works at F1.06",
        )  # fmt: skip
        yield "scheduler", ev.GateClosed(area_id=AREA, session_id=SESSION, at_ms=START - 12 * 3_600_000)
        for n, (point, _, _, _) in enumerate(self.points):
            colours = [ev.Colour.GREEN] * 24
            if n in (3, 11):
                colours[11:15] = [ev.Colour.YELLOW] * 4
            if n == 12:
                colours[18:21] = [ev.Colour.RED] * 3
            yield "traffic_light", ev.TrafficLightChanged(
                area_id=AREA, session_id=SESSION, connection_point_id=point, start_ms=START, colours=tuple(colours),
                max_up_w=(None,) * 24, max_down_w=(None,) * 24, causes=("LIM-1",) if n == 3 else (),
            )  # fmt: skip
        yield "traffic_light", ev.FlexOfferClipped(
            area_id=AREA, offer_id="OFR-04", revision=1, fsp_id=self.points[3][2], start_ms=START, resolution_s=900,
            offered_w=(270_000,) * SLOTS, allowed_w=(150_000,) * SLOTS, causes=("LIM-1",),
            reason="capacity limit LIM-1 leaves 150 kW from 11:00 to 15:00",
        )  # fmt: skip

    def _injections(self) -> tuple[np.ndarray, np.ndarray]:
        index = {b.bus_id: k for k, b in enumerate(self.net.buses)}
        p = np.zeros((SLOTS, len(index)))
        q = np.zeros((SLOTS, len(index)))
        for i in self.forecast.injections:
            p[:, index[i.bus_id]] = i.power_w
            q[:, index[i.bus_id]] = i.reactive_power_var
        return p, q

    def _awards(self) -> list[ev.Award]:
        found = []
        for n, (point, bus, fsp, way) in enumerate(self.points):
            if n % 6 == 5:
                continue
            middle, width, size = (52, 13, 260_000) if way is Direction.DOWN else (78, 7, 200_000)
            power = tuple(max(0, round(size * (1 - ((s - middle) / width) ** 2) / 1_000) * 1_000) for s in range(SLOTS))
            price = tuple(62_000 + 700 * n + 900 * abs(s - middle) if w else 0 for s, w in enumerate(power))
            found.append(
                ev.Award(
                    award_id=derived_id("Award", AREA, n), offer_id=f"OFR-{n + 1:02d}", offer_revision=1, fsp_id=fsp,
                    connection_point_id=point, portfolio_id=None, bus_id=bus, direction=way, start_ms=START,
                    resolution_s=900, power_w=power, price_milli_per_mwh=price,
                )
            )  # fmt: skip
        return found

    def _clearing(self) -> Iterator[tuple[str, object]]:
        self.awards = self._awards()
        p, q = self._injections()
        index = {b.bus_id: k for k, b in enumerate(self.net.buses)}
        for a in self.awards:
            p[:, index[a.bus_id or ""]] += a.direction.sign * np.array(a.power_w)
        yield "clearing", _state(self.net, p, q, True)
        up = [sum(a.power_w[s] for a in self.awards if a.direction is Direction.UP) for s in range(SLOTS)]
        down = [sum(a.power_w[s] for a in self.awards if a.direction is Direction.DOWN) for s in range(SLOTS)]
        prices = tuple(
            ev.NodalPrice(
                bus_id=b.bus_id,
                price_milli_per_mwh=tuple(
                    int(60_000 - down[s] / 40 * (min(k, 14) / 14 if b.bus_id.startswith("F1") else 0) + up[s] / 25)
                    for s in range(SLOTS)
                ),
            )
            for k, b in enumerate(self.net.buses)
        )
        yield (
            "clearing",
            ev.NodalPricesPublished(
                area_id=AREA, session_id=SESSION, clearing_id="CLR-1", start_ms=START, resolution_s=900, buses=prices
            ),
        )
        slots = tuple(
            ev.ClearedSlot(
                start_ms=START + s * QUARTER, up_w=up[s], down_w=down[s], requested_w=up[s] + down[s],
                status=ev.SlotStatus.IDLE if not up[s] + down[s] else
                (ev.SlotStatus.REPAIRED if 48 < s < 54 else ev.SlotStatus.EXACT),
                shortfall_w=40_000 if s == 78 else 0, loss_gap_w=900 if 48 < s < 54 else 0, ac_violation_ppm=0,
                cost_nano=sum(amount_nano(energy_wh(a.power_w[s], 900), a.price_milli_per_mwh[s]) for a in self.awards),
                binding=("L1.01",) if down[s] else (("T1",) if up[s] else ()),
            )
            for s in range(SLOTS)
        )  # fmt: skip
        taken = {a.offer_id for a in self.awards}
        left = tuple(
            ev.NonAward(
                offer_id=f"OFR-{n + 1:02d}", fsp_id=fsp, rejected_energy_wh=2_400_000 + 130_000 * n,
                reason=ev.NonAwardReason.PRICE if f"OFR-{n + 1:02d}" in taken else ev.NonAwardReason.NO_DEMAND,
                element_id=None, amount=4_000 * n,
                text=f"the last steps ask {4 * n} EUR/MWh more than the price at {bus}",
            )
            for n, (_, bus, fsp, _) in enumerate(self.points)
        )  # fmt: skip
        cost = sum(s.cost_nano for s in slots)
        yield "clearing", ev.MarketCleared(
            area_id=AREA, session_id=SESSION, clearing_id="CLR-1", gate_block=7, network_id="valley-mv",
            network_revision=1, start_ms=START, resolution_s=900, slots=slots, awards=tuple(self.awards),
            non_awards=left,
            requests=(
                ev.RequestOutcome(
                    request_id="REQ-L1.01", requester_id=DSO, requested_w=tuple(down), matched_w=tuple(down), reason=""
                ),
            ),
            cost_nano=cost, welfare_nano=3 * cost, solver="made up for a test", case_hash="ab" * 32,
            result_hash="cd" * 32,
        )  # fmt: skip
        yield "congestion", ev.ProcurementStatusChanged(
            area_id=AREA, request_id="REQ-L1.01", requester_id=DSO, session_id=SESSION,
            state=ev.ProcurementState.PART_PROCURED, needed_w=tuple(down), procured_w=tuple(down),
            remaining_w=(0,) * SLOTS,
        )  # fmt: skip
        yield "aggregation", ev.AggregateOffered(
            area_id=AREA, session_id=SESSION, aggregate_id="AGG-UP", infeed_id="GRID", direction=Direction.UP,
            start_ms=START, resolution_s=900, power_w=tuple(400_000 if 72 <= s < 88 else 0 for s in range(SLOTS)),
            price_milli_per_mwh=(95_000,) * SLOTS,
            members=(
                ev.AggregateMember(
                    offer_id="OFR-13", fsp_id=self.points[12][2], connection_point_id="GCP-13", portfolio_id=None,
                    first_slot=72, power_w=(400_000,) * 16, price_milli_per_mwh=(95_000,) * 16,
                ),
            ),
        )  # fmt: skip
        yield TSO, ev.AggregateActivated(
            area_id=AREA, tso_activation_id="TSO-1", aggregate_id="AGG-UP", tso_id=TSO, start_ms=START + 76 * QUARTER,
            resolution_s=900, power_w=(300_000,) * 4, price_milli_per_mwh=97_000,
        )  # fmt: skip
        yield "aggregation", ev.AggregateDisaggregated(
            area_id=AREA, session_id=SESSION, tso_activation_id="TSO-1", aggregate_id="AGG-UP",
            start_ms=START + 76 * QUARTER, resolution_s=900,
            tso_id=TSO, direction=Direction.UP, price_milli_per_mwh=97_000,
            shares=(
                ev.AggregateShare(
                    offer_id="OFR-13", fsp_id=self.points[12][2], connection_point_id="GCP-13", portfolio_id=None,
                    power_w=(300_000,) * 4,
                ),
            ),
            unserved_w=(0,) * 4,
        )  # fmt: skip

    def _delivery(self) -> Iterator[tuple[str, object, int]]:
        orders = {a.award_id: self._order(a) for a in self.awards}
        answered = {}
        self.orders = list(orders.values())
        self.delivered = [self._deliver(n, o) for n, o in enumerate(self.orders)]
        for slot in range(SLOTS):
            at = START + slot * QUARTER
            if slot % READ_EVERY == 0:
                yield from ((METER, reading, at) for reading in self._readings(at - READ_EVERY * QUARTER, at))
            for n, a in enumerate(self.awards):
                order = orders[a.award_id]
                if order.start_ms - QUARTER != at:
                    continue
                answered[a.award_id] = n
                yield "activation", order, at
                if n == 5:
                    yield (
                        a.fsp_id,
                        ev.ActivationRefused(
                            area_id=AREA,
                            activation_id=order.activation_id,
                            fsp_id=a.fsp_id,
                            reason="inverter in repair",
                        ),
                        at + 20_000,
                    )
                elif n == 9:
                    yield (
                        "activation",
                        ev.ActivationTimedOut(
                            area_id=AREA, activation_id=order.activation_id, fsp_id=a.fsp_id, at_ms=at + 60_000
                        ),
                        at + 60_000,
                    )
                else:
                    yield (
                        a.fsp_id,
                        ev.ActivationAcknowledged(area_id=AREA, activation_id=order.activation_id, fsp_id=a.fsp_id),
                        at + 9_000,
                    )
            yield (
                "scheduler",
                ev.DeliveryStarted(area_id=AREA, session_id=SESSION, start_ms=at, end_ms=at + QUARTER),
                at,
            )
            if slot == 54:
                stop = orders[self.awards[2].award_id]
                yield DSO, ev.CapacityLimitUnforeseen(
                    area_id=AREA, limit_id="STOP-1", connection_point_id=stop.connection_point_id or "",
                    start_ms=at + QUARTER, end_ms=at + 5 * QUARTER, max_feed_in_w=0, reason="earth fault on F1.05",
                ), at  # fmt: skip
                yield "activation", ev.ActivationStopped(
                    area_id=AREA, activation_id=stop.activation_id, fsp_id=stop.fsp_id, from_ms=at + QUARTER,
                    until_ms=at + 5 * QUARTER, cause="STOP-1", reason="earth fault on F1.05",
                ), at  # fmt: skip
        end = START + SLOTS * QUARTER
        yield "scheduler", ev.DeliveryEnded(area_id=AREA, session_id=SESSION, at_ms=end), end
        for d in self.delivered:
            yield "settlement", d, end

    def _readings(self, from_ms: int, until_ms: int) -> Iterator[ev.MeterReadingReceived]:
        """Yield what the meters with an order read in a period, one reading a point."""
        for d in self.delivered:
            first, last = ((t - d.start_ms) // QUARTER for t in (from_ms, until_ms))
            metered = d.metered_wh[max(0, first) : max(0, last)]
            if metered:
                yield _reading(d, f"MR-{d.connection_point_id}", 1, max(0, first), metered)

    def _order(self, award: ev.Award) -> ev.ActivationOrdered:
        filled = [s for s, w in enumerate(award.power_w) if w]
        first, last = filled[0], filled[-1] + 1
        return ev.ActivationOrdered(
            area_id=AREA, session_id=SESSION, activation_id=derived_id("ActivationOrdered", award.award_id),
            award_id=award.award_id, tso_activation_id=None, offer_id=award.offer_id, orderer_id=DSO,
            fsp_id=award.fsp_id, connection_point_id=award.connection_point_id, portfolio_id=None,
            direction=award.direction, start_ms=START + first * QUARTER, resolution_s=900,
            power_w=award.power_w[first:last], price_milli_per_mwh=award.price_milli_per_mwh[first:last],
            acknowledge_by_ms=START + (first - 1) * QUARTER + 60_000,
        )  # fmt: skip

    def _deliver(self, n: int, order: ev.ActivationOrdered, late: bool = False) -> ev.DeliveryComputed:
        owed = tuple(energy_wh(p, 900) for p in order.power_w)
        share = {5: 0.0, 7: 0.95 if late else 0.6}.get(n, 1.0)
        sign = order.direction.sign
        baseline = tuple(int(60_000 + 900 * k) for k in range(len(owed)))
        got = tuple(int(o * share) for o in owed)
        return ev.DeliveryComputed(
            area_id=AREA, session_id=SESSION, delivery_id=f"DEL-{n:02d}", revision=2 if late else 1,
            activation_id=order.activation_id, award_id=order.award_id, fsp_id=order.fsp_id,
            connection_point_id=order.connection_point_id, start_ms=order.start_ms, resolution_s=900,
            baseline_wh=baseline, metered_wh=tuple(b + sign * g for b, g in zip(baseline, got, strict=True)),
            ordered_wh=owed, delivered_wh=got, shortfall_wh=tuple(o - g for o, g in zip(owed, got, strict=True)),
        )  # fmt: skip

    def _settlement(self) -> Iterator[tuple[str, object]]:
        yield "scheduler", ev.SettlementDue(area_id=AREA, session_id=SESSION, at_ms=START + 30 * 3_600_000)
        for fsp in FSPS:
            lines, invoice = self._lines(fsp)
            yield "settlement", ev.SettlementComputed(
                area_id=AREA, session_id=SESSION, settlement_id=f"SET-{fsp}", revision=1, fsp_id=fsp, buyer_id=DSO,
                lines=lines, invoice=invoice, total_cents=sum(i.amount_cents for i in invoice),
            )  # fmt: skip
        late = self.orders[7]
        before = sum(i.amount_cents for i in self._lines(late.fsp_id)[1])
        yield late.fsp_id, ev.SettlementDisputed(
            area_id=AREA, settlement_id=f"SET-{late.fsp_id}", revision=1, party_id=late.fsp_id,
            reason="the meter at the point was read late",
        )  # fmt: skip
        self.delivered[7] = self._deliver(7, late, late=True)
        yield METER, _reading(self.delivered[7], "MR-late", 2, 0, self.delivered[7].metered_wh)
        yield "settlement", self.delivered[7]
        lines, invoice = self._lines(late.fsp_id)
        after = sum(i.amount_cents for i in invoice)
        yield "settlement", ev.SettlementCorrected(
            area_id=AREA, session_id=SESSION, settlement_id=f"SET-{late.fsp_id}", revision=2, fsp_id=late.fsp_id,
            buyer_id=DSO, lines=lines, invoice=invoice, total_cents=after, difference_cents=after - before,
            causes=("MR-late r2",),
        )  # fmt: skip
        for fsp in FSPS:
            yield (
                DSO,
                ev.SettlementApproved(
                    area_id=AREA, settlement_id=f"SET-{fsp}", revision=2 if fsp == late.fsp_id else 1, buyer_id=DSO
                ),
            )

    def _lines(self, fsp: str) -> tuple[tuple[ev.SettlementLine, ...], tuple[ev.InvoiceLine, ...]]:
        lines, invoice = [], []
        for order, d in zip(self.orders, self.delivered, strict=True):
            if order.fsp_id != fsp:
                continue
            own = [
                ev.SettlementLine(
                    activation_id=order.activation_id, award_id=order.award_id,
                    connection_point_id=order.connection_point_id, start_ms=order.start_ms + k * QUARTER,
                    ordered_wh=o, delivered_wh=g, paid_wh=min(o, g), penalised_wh=max(0, o - g - o // 10),
                    price_milli_per_mwh=c, remuneration_nano=min(o, g) * c,
                    penalty_nano=max(0, o - g - o // 10) * c // 2,
                )
                for k, (o, g, c) in enumerate(
                    zip(d.ordered_wh, d.delivered_wh, order.price_milli_per_mwh, strict=True)
                )
            ]  # fmt: skip
            paid, penalty = cents(sum(i.remuneration_nano for i in own)), cents(sum(i.penalty_nano for i in own))
            text = f"Flexibility {order.direction.value} at {order.connection_point_id}"
            invoice.append(
                ev.InvoiceLine(
                    activation_id=order.activation_id, text=text, remuneration_cents=paid, penalty_cents=penalty,
                    amount_cents=paid - penalty,
                )
            )  # fmt: skip
            lines += own
        return tuple(lines), tuple(invoice)


def history() -> list[tuple[str, object, int]]:
    """Return (sender, event, market time) of the whole day, in order."""
    return list(_Day().events())


def blocks(events: list[tuple[str, Any, int]], size: int = 7, area_id: str = AREA) -> list[Block]:
    """Return the events as a chain of blocks of a given size, in an area of a given name."""
    found: list[Block] = []
    head = None
    for first in range(0, len(events), size):
        entries = tuple(
            Entry(
                event_id=derived_id(type(e).__name__, first, k), event_type=type(e).__name__,
                schema_fingerprint=codec.fingerprint_of(type(e)), sender_id=sender, on_behalf_of=None,
                received_at_ms=at, inbox_partition=0, inbox_offset=first + k,
                payload=codec.encode(replace(e, area_id=area_id)),
            )
            for k, (sender, e, at) in enumerate(events[first : first + size])
        )  # fmt: skip
        found.append(next_block(area_id, head, entries))
        head = (found[-1].number, found[-1].hash)
    return found


def rejections() -> list[ev.EventRejected]:
    """Return three refused inputs."""
    told = (
        (FSPS[1], "FlexOfferSubmitted", FaultCode.GATE_CLOSED, "$.offer.session_id", "the gate closed at 12:00"),
        (FSPS[2], "FlexOfferSubmitted", FaultCode.BAD_QUANTITY, "$.offer.slots[3].steps[0].power_w",
         "250 is no multiple of 1000 W"),
        ("stranger", None, FaultCode.NOT_DECODABLE, "$", "not an Avro event: expected it to start with C3 01"),
    )  # fmt: skip
    return [
        ev.EventRejected(
            area_id=AREA, rejection_id=derived_id("EventRejected", n), event_id=None, event_type=kind,
            sender_id=sender, on_behalf_of=None, inbox_topic=f"flexbus.in.{sender}.v1", inbox_partition=0,
            inbox_offset=n, received_at_ms=START - 3_600_000, faults=(Fault(code=code, path=path, message=message),),
            original=b"not an event", headers={},
        )
        for n, (sender, kind, code, path, message) in enumerate(told)
    ]  # fmt: skip
