"""The outside world of the demo day: market operator, DSO, TSO, meter operator and five providers.

Everyone acts through the SDK as its own party and reacts to what the bus tells it; nobody looks at a wall clock.
"""

import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from flexbus import events as ev
from flexbus.access import PLAYER
from flexbus.client import Client, Record
from flexbus.views.fact import Fact
from streams.clock import Ticker
from streams.demo import preparation
from streams.demo.mirror import Mirror
from streams.demo.plant import Plant
from streams.demo.preparation import PARTIES
from streams.demo.scenario import DSO, FMO, FSPS, METER, SLOT_S, TSO, Scenario, offers_of
from streams.demo.signing import Keys, policy
from streams.kafka import Connection

__all__ = ["KafkaPorts", "Ports", "World"]

_SLOT_MS = SLOT_S * 1000
_READ_EVERY = 4
_PATIENCE_S = 120.0  # as a party's own system has: the broker may be away for a while


class Ports(Protocol):
    """How the world reaches the bus: a real one, or one in memory for tests."""

    def mirror(self, area_id: str, on_fact: Callable[[Fact], None]) -> Any:
        """Return the reader of the journal; see `streams.demo.mirror.Mirror`."""

    def client(self, party: str) -> Any:
        """Return the SDK as a party; see `flexbus.Client`."""

    def ticker(self) -> Any:
        """Return the hand that moves the market's clock; see `streams.clock.Ticker`."""


@dataclass(frozen=True, slots=True)
class KafkaPorts:
    """The world on a real bus.

    Attributes:
        connection: the broker, as a principal that may read the journal.
        principals: on a broker with access control, the connection of every party and of the clock's player.
    """

    connection: Connection
    principals: Mapping[str, Connection] = field(default_factory=dict)

    def mirror(self, area_id: str, on_fact: Callable[[Fact], None]) -> Mirror:
        """Return a reader of the journal in a thread of its own."""
        return Mirror(self.connection, area_id, on_fact)

    def client(self, party: str) -> Client:
        """Return the SDK as a party."""
        known = self.principals.get(party, self.connection)
        return Client(known.bootstrap, party, security=known.security, timeout_s=_PATIENCE_S)

    def ticker(self) -> Ticker:
        """Return the hand that moves the market's clock."""
        return Ticker(self.principals.get(PLAYER, self.connection))


class World:
    """Plays one scenario against a running bus.

    Args:
        ports: how the bus is reached.
        scenario: what is traded.
        say: called with progress for people.
        pace: real seconds that a quarter-hour of delivery lasts at least; other phases follow from it.
        on_fact: called for every fact, in the reader's thread.
        keys: with what the parties sign what they send; None signs nothing.
    """

    def __init__(
        self,
        ports: Ports,
        scenario: Scenario,
        say: Callable[[str], None],
        pace: float,
        on_fact: Callable[[Fact], None] | None = None,
        keys: Keys | None = None,
    ) -> None:
        self.scenario = scenario
        self.mirror = ports.mirror(scenario.area_id, self._on_fact)
        self._say, self._pace, self._watch = say, pace, on_fact
        self._clients = {party: ports.client(party) for party in PARTIES}
        self._keys = keys
        for party, client in self._clients.items():
            if keys is not None:
                client.signing_key = keys.key(party)
        self._ticker = ports.ticker()
        self._sent: set[str] = set()
        self._todo: list[tuple[str, Any]] = []
        self._sites = {s.connection_point_id: s for s in scenario.sites}
        self._plant = Plant(self._sites, scenario.start_ms)
        self._refuse: str | None = None
        self._refused: set[str] = set()
        self._cleared: ev.MarketCleared | None = None
        self._aggregates: list[ev.AggregateOffered] = []
        self._late_point: str | None = None
        self._stop_point: str | None = None

    def play(self) -> None:
        """Play the whole day.

        Raises:
            DayStuckError: the bus does not go on.
        """
        self.mirror.start()
        self._register()
        self._auction()
        self._deliver()
        self._settle()

    def close(self) -> None:
        """Close every connection."""
        self.mirror.stop()
        for client in self._clients.values():
            client.close()
        self._ticker.close()

    # -- acting ---------------------------------------------------------------------------------------------------

    def _send(self, party: str, *events: Any) -> None:
        self._sent.update(str(sent.event_id) for sent in self._clients[party].post_all(events))

    def _quiet(self, what: str) -> None:
        """Wait until all that was sent has its verdict, every stage has caught up and every order its answer."""

        def missing() -> set[str]:
            refused = {r.event_id for r in self.mirror.rejected if r.event_id}
            return {e for e in self._sent if e not in self.mirror.seen and e not in refused}

        while True:
            self.mirror.wait(
                lambda: not missing() and self.mirror.caught_up(),
                lambda: f"{what}: {len(missing())} verdicts; {self.mirror.owed()}",
            )
            todo, self._todo = self._todo, []
            if not todo:
                return
            for party, event in todo:
                self._send(party, event)

    def _tick(self, market_ms: int, seconds: float = 0.0) -> None:
        self._ticker.tick(market_ms)
        self.mirror.expect(market_ms)
        if seconds:
            time.sleep(seconds)

    # -- reacting (in the reader's thread: only take notes) -------------------------------------------------------

    def _on_fact(self, fact: Fact) -> None:
        event = fact.event
        if self._watch is not None:
            self._watch(fact)
        self._plant.see(event)
        match event:
            case ev.ActivationOrdered():
                self._todo.append((event.fsp_id, self._answer(event)))
            case ev.MarketCleared():
                self._cleared = event
            case ev.AggregateOffered():
                self._aggregates.append(event)
            case ev.SettlementComputed() | ev.SettlementCorrected():
                approval = ev.SettlementApproved(
                    area_id=event.area_id,
                    settlement_id=event.settlement_id,
                    revision=event.revision,
                    buyer_id=event.buyer_id,
                )
                self._todo.append((event.buyer_id, approval))
            case _:
                pass

    def _answer(self, order: ev.ActivationOrdered) -> Any:
        if order.connection_point_id == self._refuse and not self._refused:
            self._refused.add(order.activation_id)
            return ev.ActivationRefused(
                area_id=order.area_id,
                activation_id=order.activation_id,
                fsp_id=order.fsp_id,
                reason="inverter under repair since this morning",
            )
        return ev.ActivationAcknowledged(area_id=order.area_id, activation_id=order.activation_id, fsp_id=order.fsp_id)

    # -- the phases of the day ------------------------------------------------------------------------------------

    def _register(self) -> None:
        s = self.scenario
        self._say("registering participants, grid, connection points and assets")
        self._tick(s.begins_ms)
        self._send(FMO, preparation.area(s))
        self._quiet("the area")
        for admitted in preparation.participants(s):
            self._send(FMO, admitted)
        self._demand_signatures()
        self._send(FMO, preparation.product(s))
        self._quiet("the participants")
        self._send(FMO, preparation.session(s))
        self._send(DSO, s.network)
        self._quiet("the grid")
        for point in preparation.points(s):
            self._send(DSO, point)
        self._quiet("the connection points")
        for asset in preparation.assets(s):
            self._send(asset.fsp_id, asset)
        self._quiet("the assets")
        for approved in preparation.approvals(s):
            self._send(DSO, approved)
        self._quiet("the approvals")

    def _demand_signatures(self) -> None:
        """Every party makes its key known, and then the market operator takes nothing unsigned."""
        if self._keys is None:
            return
        self._quiet("the first participants")
        for party, event in self._keys.registrations(self.scenario.area_id):
            self._send(party, event)
        self._quiet("the signing keys")
        self._send(FMO, policy(self.scenario.area_id))
        self._quiet("the demand for signatures")

    def _change_key(self, party: str) -> None:
        """A party signs with another key from now on; the order of its inbox says for what."""
        if self._keys is None:
            return
        self._say(f"{party} changes its signing key")
        self._send(party, self._keys.rotate(self.scenario.area_id, party))
        self._clients[party].signing_key = self._keys.key(party)

    def _auction(self) -> None:
        s, area = self.scenario, self.scenario.area_id
        self._say("gate open: forecast, baselines, limits, offers")
        self._tick(s.gate_opens_ms)
        self._quiet("the gate's opening")
        self._send(DSO, preparation.forecast(s))
        for baseline in preparation.baselines(s):
            self._send(baseline.fsp_id, baseline)
        self._quiet("the congestion forecast")
        self._send(DSO, *preparation.restrictions(s))
        offers = offers_of(s)
        waves, opened_ms = 8, s.gate_closes_ms - s.gate_opens_ms
        for wave in range(waves):
            for offer in offers[wave::waves]:
                self._send(offer.fsp_id, ev.FlexOfferSubmitted(area_id=area, offer=offer))
            self._tick(s.gate_opens_ms + opened_ms * (wave + 1) // (waves + 1), self._pace * 2)
        self._quiet("the offers")
        self._second_thoughts(offers)
        self._hostile(offers[0])
        self._quiet("the rejections")
        self._say(f"gate closes: {len(offers)} offers, one withdrawn; clearing")
        self._tick(s.gate_closes_ms)
        self._quiet("MarketCleared")
        # Too late by one event: the gate is a position in the journal, so this one is refused.
        late = replace(offers[0], offer_id=f"{offers[0].offer_id}.late")
        self._send(late.fsp_id, ev.FlexOfferSubmitted(area_id=area, offer=late))
        self._quiet("the clearing")
        self._after_clearing()

    def _second_thoughts(self, offers: tuple[ev.FlexOffer, ...]) -> None:
        """One provider replaces an offer, another withdraws one; the DSO asks by hand for some flexibility."""
        area = self.scenario.area_id
        first, last = offers[0], offers[-1]
        self._send(first.fsp_id, ev.FlexOfferReplaced(area_id=area, offer=preparation.cheaper(first)))
        self._send(last.fsp_id, ev.FlexOfferWithdrawn(area_id=area, offer_id=last.offer_id, fsp_id=last.fsp_id))
        self._send(DSO, preparation.request_by_hand(self.scenario))

    def _hostile(self, good: ev.FlexOffer) -> None:
        """What a bus must survive: another's name, watts mistaken, and bytes that are no event."""
        area = self.scenario.area_id
        other = next(fsp for fsp in FSPS if fsp != good.fsp_id)
        self._send(other, ev.FlexOfferSubmitted(area_id=area, offer=replace(good, offer_id="not-mine")))
        huge = replace(good.slots[0], steps=(ev.PriceStep(power_w=400_000_000_000, price_milli_per_mwh=50_000),))
        wrong = replace(good, offer_id="in-milliwatt", slots=(huge, *good.slots[1:]))
        self._send(good.fsp_id, ev.FlexOfferSubmitted(area_id=area, offer=wrong))
        event_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{area}/no-event"))
        self._sent.add(event_id)
        headers = {"ce_id": event_id, "ce_type": "FlexOfferSubmitted"}
        self._clients[good.fsp_id].post_records([Record(b'{"hello": "world"}', area.encode(), headers)])

    def _after_clearing(self) -> None:
        """Providers send schedules; the cast of the delivery follows from the awards."""
        cleared = self._cleared
        assert cleared is not None
        awards = sorted(cleared.awards, key=lambda a: (-sum(a.power_w), a.offer_id))
        points: list[str] = []
        for award in awards:
            if award.connection_point_id and award.connection_point_id not in points:
                points.append(award.connection_point_id)
        # The largest delivers in full, so that the grid is seen to be relieved; the next ones play the parts.
        cast = points[1:5]
        if len(cast) > 0:
            self._plant.weak_point = cast[0]
        if len(cast) > 1:
            self._stop_point = cast[1]
        if len(cast) > 2:
            self._refuse = cast[2]
        if len(cast) > 3:
            self._late_point = cast[3]
        changes: dict[str, list[int]] = {}
        for award in awards:
            if award.connection_point_id is None:
                continue
            site = self._sites[award.connection_point_id]
            power = changes.setdefault(site.connection_point_id, list(site.baseline_w))
            offset = (award.start_ms - self.scenario.start_ms) // _SLOT_MS
            for n, w in enumerate(award.power_w):
                power[offset + n] += award.direction.sign * w
        for point, power in sorted(changes.items()):
            self._send(
                self._sites[point].fsp_id,
                ev.ScheduleSubmitted(
                    area_id=self.scenario.area_id,
                    schedule_id=f"schedule-{point}",
                    revision=1,
                    connection_point_id=point,
                    fsp_id=self._sites[point].fsp_id,
                    session_id=self.scenario.session_id,
                    start_ms=self.scenario.start_ms,
                    resolution_s=SLOT_S,
                    power_w=tuple(power),
                ),
            )
        self._quiet("the schedules")
        mega = sum(sum(a.power_w) for a in awards) / 4e6
        self._say(f"cleared: {len(awards)} awards, {mega:.2f} MWh, cost {cleared.cost_nano / 1e9:.2f} EUR")

    def _deliver(self) -> None:
        s = self.scenario
        stop_slot = self._stop_slot()
        tso_slot = 68  # 17:00
        for slot in range(s.slots):
            began = time.monotonic()
            at = s.start_ms + slot * _SLOT_MS
            if slot == tso_slot - 8:
                self._tso_activates(tso_slot)
                self._quiet("the TSO's activation")
            if slot == s.slots // 2:
                self._change_key(METER)
            self._tick(at)
            if slot == stop_slot and self._stop_point:
                self._quiet("the slot of the stop")
                self._say(f"unforeseen limit at {self._stop_point}: its activation stops")
                self._send(
                    DSO,
                    ev.CapacityLimitUnforeseen(
                        area_id=s.area_id,
                        limit_id="limit-fault",
                        connection_point_id=self._stop_point,
                        start_ms=at,
                        end_ms=at + 8 * _SLOT_MS,
                        reason="cable fault; the point must follow its baseline",
                    ),
                )
            self._quiet(f"slot {slot}")
            if slot % _READ_EVERY == 0 and slot:
                self._read_meters(range(slot - _READ_EVERY, slot))
                self._say(f"delivery {slot // 4:02d}:00")
            time.sleep(max(0.0, self._pace - (time.monotonic() - began)))
        self._tick(s.end_ms)
        self._quiet("the last slot")
        self._read_meters(range(s.slots - _READ_EVERY, s.slots))
        self._quiet("the last readings")

    def _stop_slot(self) -> int | None:
        """Return the middle of the longest run of the award that is to be stopped."""
        if self._cleared is None or self._stop_point is None:
            return None
        best: tuple[int, int] = (0, 0)
        for award in self._cleared.awards:
            if award.connection_point_id != self._stop_point:
                continue
            offset = (award.start_ms - self.scenario.start_ms) // _SLOT_MS
            run = 0
            for n, w in enumerate((*award.power_w, 0)):
                if w:
                    run += 1
                    continue
                best = max(best, (run, offset + n - run))
                run = 0
        return best[1] + best[0] // 2

    def _tso_activates(self, slot: int) -> None:
        """The TSO takes a part of what was left over locally, for one hour."""
        start_ms = self.scenario.start_ms + slot * _SLOT_MS
        for offered in sorted(self._aggregates, key=lambda a: (a.infeed_id, a.direction.value)):
            first = (start_ms - offered.start_ms) // _SLOT_MS
            window = offered.power_w[first : first + 4] if first >= 0 else ()
            step = self.scenario.step_w
            power_w = tuple(w * 4 // 10 // step * step for w in window)
            if len(power_w) == 4 and all(power_w):
                self._say(
                    f"TSO activates up to {max(power_w) / 1e6:.2f} MW {offered.direction.value.lower()} for one hour"
                )
                self._send(
                    TSO,
                    ev.AggregateActivated(
                        area_id=self.scenario.area_id,
                        tso_activation_id="tso-activation-1",
                        aggregate_id=offered.aggregate_id,
                        tso_id=TSO,
                        start_ms=start_ms,
                        resolution_s=SLOT_S,
                        power_w=power_w,
                        price_milli_per_mwh=max(offered.price_milli_per_mwh[first : first + 4]),
                    ),
                )
                return
        self._say("nothing was left over for the TSO")

    def _read_meters(self, slots: range) -> None:
        for point in self._sites:
            if point != self._late_point:
                self._send(METER, self._reading(point, slots, revision=1))

    def _reading(self, point: str, slots: Iterable[int], revision: int) -> Any:
        slots = tuple(slots)
        return ev.MeterReadingReceived(
            area_id=self.scenario.area_id,
            reading_id=f"{point}.{slots[0]:02d}.{revision}",
            revision=revision,
            connection_point_id=point,
            meter_operator_id=METER,
            start_ms=self.scenario.start_ms + slots[0] * _SLOT_MS,
            resolution_s=SLOT_S,
            energy_wh=self._plant.energy_wh(point, slots),
        )

    def _settle(self) -> None:
        self._say("settlement")
        self._tick(self.scenario.settlement_due_ms)
        self._quiet("the settlement")
        if self._late_point:
            self._say(f"late meter reading of {self._late_point}: settlement is corrected")
            self._send(METER, self._reading(self._late_point, range(self.scenario.slots), revision=1))
            self._quiet("the correction")
