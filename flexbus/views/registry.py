"""Who and what is registered in one market area: parties, mandates, points, assets, grid, products and sessions.

One state holds one area. The newest accepted registration counts; a changed asset or portfolio needs the
system operator's approval again (BeFlexible SUC08.1: every update passes its validation).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from flexbus import events as ev
from flexbus.events import Role
from flexbus.quantities import Direction
from flexbus.views.fact import Fact

__all__ = ["HELD_READY", "READS", "Gate", "Registry", "Session", "fold"]

# Phases whose auctions hold power ready: what they award is no delivery, and nothing of it is ordered by itself.
HELD_READY = frozenset({ev.MarketPhase.CAPACITY, ev.MarketPhase.STOCHASTIC})


class Gate(Enum):
    """State of the gate of a session, moved by the scheduler's events alone."""

    NOT_OPEN = "NOT_OPEN"
    OPEN = "OPEN"
    CLOSED = "CLOSED"


@dataclass(slots=True)
class Session:
    """A scheduled session with the product as it stood when the session was scheduled."""

    scheduled: ev.MarketSessionScheduled
    product: ev.MarketProductDefined
    gate: Gate = Gate.NOT_OPEN
    gate_block: int | None = None
    cleared: bool = False

    @property
    def slots(self) -> int:
        """Number of slots of the delivery period."""
        duration = self.scheduled.delivery_end_ms - self.scheduled.delivery_start_ms
        return duration // (self.product.resolution_s * 1000)


@dataclass(slots=True)
class Registry:
    """What is registered in one market area at a position of its journal.

    `market_time_ms` is the latest instant that the scheduler has put into the journal, 0 before the first.
    """

    area: ev.AreaOpened | None = None
    participants: dict[str, ev.ParticipantRegistered] = field(default_factory=dict)
    roles: dict[str, frozenset[Role]] = field(default_factory=dict)
    mandates: dict[str, ev.MandateGranted] = field(default_factory=dict)
    mandates_by_pair: dict[tuple[str, str], dict[str, ev.MandateGranted]] = field(default_factory=dict)
    connection_points: dict[str, ev.ConnectionPointRegistered] = field(default_factory=dict)
    points_at_bus: dict[str, dict[str, None]] = field(default_factory=dict)
    assets: dict[str, ev.AssetRegistered] = field(default_factory=dict)
    assets_at_point: dict[str, dict[str, None]] = field(default_factory=dict)
    asset_approvals: dict[str, ev.AssetApproved] = field(default_factory=dict)
    portfolios: dict[str, ev.PortfolioRegistered] = field(default_factory=dict)
    portfolios_approved: set[str] = field(default_factory=set)
    network: ev.NetworkModelPublished | None = None
    buses: dict[str, ev.Bus] = field(default_factory=dict)
    branches: dict[str, ev.Branch] = field(default_factory=dict)
    infeed_points: dict[str, ev.InfeedPoint] = field(default_factory=dict)
    zones: dict[str, tuple[str, ...]] = field(default_factory=dict)
    net_forecast: ev.NetForecastPublished | None = None
    products: dict[str, ev.MarketProductDefined] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)
    market_time_ms: int = 0

    def has_role(self, party_id: str, role: Role) -> bool:
        """Tell whether a party has a role in the area."""
        return role in self.roles.get(party_id, ())

    def with_role(self, role: Role) -> tuple[str, ...]:
        """Return the parties that have a role, in the order of their ids."""
        return tuple(sorted(p for p, roles in self.roles.items() if role in roles))

    def mandates_of(self, grantor_id: str, agent_id: str) -> tuple[ev.MandateGranted, ...]:
        """Return the mandates that one party has granted to another and not revoked."""
        return tuple(self.mandates_by_pair.get((grantor_id, agent_id), {}).values())

    def points_of_portfolio(self, portfolio_id: str) -> tuple[str, ...]:
        """Return the connection points behind which the assets of a portfolio are, in the order of their ids."""
        portfolio = self.portfolios.get(portfolio_id)
        if portfolio is None:
            return ()
        assets = (self.assets.get(a) for a in portfolio.asset_ids)
        return tuple(sorted({a.connection_point_id for a in assets if a is not None}))

    def validated_w(self, connection_point_id: str, direction: Direction) -> int | None:
        """Return the flexibility that the approvals of the assets at a point add up to, W; None without assets."""
        assets = self.assets_at_point.get(connection_point_id)
        if not assets:
            return None
        approvals = [self.asset_approvals[a] for a in assets if a in self.asset_approvals]
        return sum(a.validated_up_w if direction is Direction.UP else a.validated_down_w for a in approvals)


def fold(state: Registry, fact: Fact) -> Registry:
    """Return the registry after a fact; facts that register nothing leave it as it was."""
    change = _CHANGES.get(type(fact.event))
    if change is not None:
        change(state, fact.event)
        if type(fact.event) is ev.GateClosed and fact.event.session_id in state.sessions:
            session = state.sessions[fact.event.session_id]
            if session.gate_block is None:
                session.gate_block = fact.block
    return state


def _area_opened(state: Registry, e: ev.AreaOpened) -> None:
    if state.area is None:
        state.area = e
        state.roles[e.fmo_id] = state.roles.get(e.fmo_id, frozenset()) | {Role.FMO}


def _participant_registered(state: Registry, e: ev.ParticipantRegistered) -> None:
    operates = state.area is not None and state.area.fmo_id == e.participant_id
    state.participants[e.participant_id] = e
    state.roles[e.participant_id] = frozenset(e.roles) | ({Role.FMO} if operates else set())


def _participant_removed(state: Registry, e: ev.ParticipantRemoved) -> None:
    state.participants.pop(e.participant_id, None)
    state.roles.pop(e.participant_id, None)


def _mandate_granted(state: Registry, e: ev.MandateGranted) -> None:
    _end_mandate(state, e.mandate_id)
    state.mandates[e.mandate_id] = e
    state.mandates_by_pair.setdefault((e.grantor_id, e.agent_id), {})[e.mandate_id] = e


def _mandate_revoked(state: Registry, e: ev.MandateRevoked) -> None:
    _end_mandate(state, e.mandate_id)


def _end_mandate(state: Registry, mandate_id: str) -> None:
    before = state.mandates.pop(mandate_id, None)
    if before is not None:
        state.mandates_by_pair[(before.grantor_id, before.agent_id)].pop(mandate_id, None)


def _connection_point_registered(state: Registry, e: ev.ConnectionPointRegistered) -> None:
    before = state.connection_points.get(e.connection_point_id)
    if before is not None:
        state.points_at_bus.get(before.bus_id, {}).pop(e.connection_point_id, None)
    state.connection_points[e.connection_point_id] = e
    state.points_at_bus.setdefault(e.bus_id, {})[e.connection_point_id] = None


def _connection_point_removed(state: Registry, e: ev.ConnectionPointRemoved) -> None:
    before = state.connection_points.pop(e.connection_point_id, None)
    if before is not None:
        state.points_at_bus.get(before.bus_id, {}).pop(e.connection_point_id, None)


def _asset_registered(state: Registry, e: ev.AssetRegistered) -> None:
    before = state.assets.get(e.asset_id)
    if before == e:
        return
    if before is not None:
        state.assets_at_point.get(before.connection_point_id, {}).pop(e.asset_id, None)
    state.asset_approvals.pop(e.asset_id, None)
    state.assets[e.asset_id] = e
    state.assets_at_point.setdefault(e.connection_point_id, {})[e.asset_id] = None


def _asset_approved(state: Registry, e: ev.AssetApproved) -> None:
    state.asset_approvals[e.asset_id] = e


def _asset_refused(state: Registry, e: ev.AssetRefused) -> None:
    state.asset_approvals.pop(e.asset_id, None)


def _portfolio_registered(state: Registry, e: ev.PortfolioRegistered) -> None:
    if state.portfolios.get(e.portfolio_id) != e:
        state.portfolios_approved.discard(e.portfolio_id)
        state.portfolios[e.portfolio_id] = e


def _portfolio_approved(state: Registry, e: ev.PortfolioApproved) -> None:
    state.portfolios_approved.add(e.portfolio_id)


def _portfolio_refused(state: Registry, e: ev.PortfolioRefused) -> None:
    state.portfolios_approved.discard(e.portfolio_id)


def _network_model_published(state: Registry, e: ev.NetworkModelPublished) -> None:
    before = state.network
    if before is not None and before.network_id == e.network_id and e.revision <= before.revision:
        return
    state.network = e
    state.buses = {b.bus_id: b for b in e.buses}
    state.branches = {b.branch_id: b for b in e.branches}
    state.infeed_points = {i.infeed_id: i for i in e.infeed_points}
    zones: dict[str, list[str]] = {}
    for bus in e.buses:
        if bus.zone_id is not None:
            zones.setdefault(bus.zone_id, []).append(bus.bus_id)
    state.zones = {zone: tuple(buses) for zone, buses in zones.items()}


def _net_forecast_published(state: Registry, e: ev.NetForecastPublished) -> None:
    before = state.net_forecast
    if before is None or (e.issued_at_ms, e.revision) > (before.issued_at_ms, before.revision):
        state.net_forecast = e


def _product_defined(state: Registry, e: ev.MarketProductDefined) -> None:
    state.products[e.product_id] = e


def _session_scheduled(state: Registry, e: ev.MarketSessionScheduled) -> None:
    product = state.products.get(e.product_id)
    if product is not None and e.session_id not in state.sessions:
        state.sessions[e.session_id] = Session(e, product)


def _gate_opened(state: Registry, e: ev.GateOpened) -> None:
    session = state.sessions.get(e.session_id)
    if session is not None and session.gate is Gate.NOT_OPEN:
        session.gate = Gate.OPEN
    _advance(state, e.at_ms)


def _gate_closed(state: Registry, e: ev.GateClosed) -> None:
    session = state.sessions.get(e.session_id)
    if session is not None:
        session.gate = Gate.CLOSED
    _advance(state, e.at_ms)


def _market_cleared(state: Registry, e: ev.MarketCleared) -> None:
    session = state.sessions.get(e.session_id)
    if session is not None:
        session.cleared = True


def _delivery_started(state: Registry, e: ev.DeliveryStarted) -> None:
    _advance(state, e.start_ms)


def _delivery_ended(state: Registry, e: ev.DeliveryEnded) -> None:
    _advance(state, e.at_ms)


def _settlement_due(state: Registry, e: ev.SettlementDue) -> None:
    _advance(state, e.at_ms)


def _advance(state: Registry, at_ms: int) -> None:
    state.market_time_ms = max(state.market_time_ms, at_ms)


_CHANGES: dict[type[Any], Callable[[Registry, Any], None]] = {
    ev.AreaOpened: _area_opened,
    ev.ParticipantRegistered: _participant_registered,
    ev.ParticipantRemoved: _participant_removed,
    ev.MandateGranted: _mandate_granted,
    ev.MandateRevoked: _mandate_revoked,
    ev.ConnectionPointRegistered: _connection_point_registered,
    ev.ConnectionPointRemoved: _connection_point_removed,
    ev.AssetRegistered: _asset_registered,
    ev.AssetApproved: _asset_approved,
    ev.AssetRefused: _asset_refused,
    ev.PortfolioRegistered: _portfolio_registered,
    ev.PortfolioApproved: _portfolio_approved,
    ev.PortfolioRefused: _portfolio_refused,
    ev.NetworkModelPublished: _network_model_published,
    ev.NetForecastPublished: _net_forecast_published,
    ev.MarketProductDefined: _product_defined,
    ev.MarketSessionScheduled: _session_scheduled,
    ev.GateOpened: _gate_opened,
    ev.GateClosed: _gate_closed,
    ev.MarketCleared: _market_cleared,
    ev.DeliveryStarted: _delivery_started,
    ev.DeliveryEnded: _delivery_ended,
    ev.SettlementDue: _settlement_due,
}

READS = frozenset(t.__name__ for t in _CHANGES)
