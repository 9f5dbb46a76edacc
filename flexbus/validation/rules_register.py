"""Admission of participants, mandates, connection points, assets, grid, products, sessions and gates."""

from collections.abc import Callable, Iterator
from typing import Any

from flexbus import events as ev
from flexbus.errors import Fault, FaultCode
from flexbus.events import Role
from flexbus.validation.rules_common import known, own_point, revised, stale, unused
from flexbus.validation.state import Admission
from flexbus.validation.units import MAX_SESSION_SLOTS, fault
from flexbus.views.registry import Gate

__all__ = ["RULES"]


def _participant_removed(s: Admission, e: ev.ParticipantRemoved, _: str) -> Iterator[Fault]:
    yield from known("$.participant_id", e.participant_id, s.registry.participants, "participant")
    if s.registry.area is not None and s.registry.area.fmo_id == e.participant_id:
        text = "the market operator of an area cannot be removed from it"
        yield fault(FaultCode.WRONG_STATE, "$.participant_id", text)


def _mandate_granted(s: Admission, e: ev.MandateGranted, acting: str) -> Iterator[Fault]:
    if e.agent_id not in s.registry.roles:
        text = f"{e.agent_id!r} is no participant of this area; have it registered first"
        yield fault(FaultCode.UNKNOWN_PARTY, "$.agent_id", text)
    before = s.registry.mandates.get(e.mandate_id)
    if before is not None and before.grantor_id != acting:
        yield from unused("$.mandate_id", e.mandate_id, s.registry.mandates, "mandate")


def _mandate_revoked(s: Admission, e: ev.MandateRevoked, acting: str) -> Iterator[Fault]:
    before = s.registry.mandates.get(e.mandate_id)
    if before is None or before.grantor_id != acting:
        text = f"mandate {e.mandate_id!r} is unknown, revoked, or not granted by {acting!r}"
        yield fault(FaultCode.NOT_YOURS_OR_UNKNOWN, "$.mandate_id", text)


def _point_registered(s: Admission, e: ev.ConnectionPointRegistered, _: str) -> Iterator[Fault]:
    if s.registry.network is None:
        text = "the area has no network model yet; publish NetworkModelPublished first"
        yield fault(FaultCode.WRONG_STATE, "$.bus_id", text)
    else:
        yield from known("$.bus_id", e.bus_id, s.registry.buses, "bus of the network model")
    for path, party, role in (
        ("$.fsp_id", e.fsp_id, Role.FSP),
        ("$.meter_operator_id", e.meter_operator_id, Role.METER_OPERATOR),
    ):
        if party not in s.registry.roles:
            text = f"{party!r} is no participant of this area; its market operator registers participants"
            yield fault(FaultCode.UNKNOWN_PARTY, path, text)
        elif not s.registry.has_role(party, role):
            yield fault(FaultCode.WRONG_ROLE, path, f"{party!r} has not the role {role.value} in this area")


def _point(s: Admission, e: Any, _: str) -> Iterator[Fault]:
    yield from known("$.connection_point_id", e.connection_point_id, s.registry.connection_points, "connection point")


def _asset_registered(s: Admission, e: ev.AssetRegistered, acting: str) -> Iterator[Fault]:
    yield from own_point(s, "$.connection_point_id", e.connection_point_id, acting)
    before = s.registry.assets.get(e.asset_id)
    if before is not None and before.fsp_id != acting:
        yield from unused("$.asset_id", e.asset_id, s.registry.assets, "asset")


def _asset_approved(s: Admission, e: ev.AssetApproved, _: str) -> Iterator[Fault]:
    asset = s.registry.assets.get(e.asset_id)
    yield from known("$.asset_id", e.asset_id, s.registry.assets, "asset")
    if asset is not None:
        most = asset.max_feed_in_w + asset.max_draw_w
        for name in ("validated_up_w", "validated_down_w"):
            if getattr(e, name) > most:
                text = f"{getattr(e, name)} W is more than the asset can swing from full draw to full feed-in, {most} W"
                yield fault(FaultCode.BAD_QUANTITY, f"$.{name}", text)


def _asset_refused(s: Admission, e: ev.AssetRefused, _: str) -> Iterator[Fault]:
    yield from known("$.asset_id", e.asset_id, s.registry.assets, "asset")


def _portfolio_registered(s: Admission, e: ev.PortfolioRegistered, acting: str) -> Iterator[Fault]:
    before = s.registry.portfolios.get(e.portfolio_id)
    if before is not None and before.fsp_id != acting:
        yield from unused("$.portfolio_id", e.portfolio_id, s.registry.portfolios, "portfolio")
    for index, asset_id in enumerate(e.asset_ids):
        asset = s.registry.assets.get(asset_id)
        if asset is None or asset.fsp_id != acting:
            text = f"asset {asset_id!r} is unknown or not of {acting!r}; register it first"
            yield fault(FaultCode.NOT_YOURS_OR_UNKNOWN, f"$.asset_ids[{index}]", text)


def _portfolio_judged(s: Admission, e: ev.PortfolioApproved | ev.PortfolioRefused, _: str) -> Iterator[Fault]:
    yield from known("$.portfolio_id", e.portfolio_id, s.registry.portfolios, "portfolio")


def _network(s: Admission, e: ev.NetworkModelPublished, _: str) -> Iterator[Fault]:
    before = s.registry.network
    if before is not None and before.network_id == e.network_id and e.revision <= before.revision:
        yield stale("$.revision", e.revision, before.revision)
    buses = {b.bus_id for b in e.buses}
    for bus_id, points in s.registry.points_at_bus.items():
        if points and bus_id not in buses:
            text = (
                f"bus {bus_id!r} is missing, but {len(points)} connection points hang on it; move or remove them first"
            )
            yield fault(FaultCode.UNKNOWN_ELEMENT, "$.buses", text)


def _net_forecast(s: Admission, e: ev.NetForecastPublished, acting: str) -> Iterator[Fault]:
    network = s.registry.network
    if network is None or network.network_id != e.network_id:
        text = f"{e.network_id!r} is not the network model of this area; publish the model first"
        yield fault(FaultCode.UNKNOWN_ELEMENT, "$.network_id", text)
    else:
        for index, injection in enumerate(e.injections):
            path = f"$.injections[{index}].bus_id"
            yield from known(path, injection.bus_id, s.registry.buses, "bus of the network model")
        for k, scenario in enumerate(e.scenarios):
            for index, injection in enumerate(scenario.injections):
                path = f"$.scenarios[{k}].injections[{index}].bus_id"
                yield from known(path, injection.bus_id, s.registry.buses, "bus of the network model")
    where = s.net_forecasts
    yield from revised("$.forecast_id", e.forecast_id, e.revision, where, acting, e.network_id, "forecast")


def _session_scheduled(s: Admission, e: ev.MarketSessionScheduled, _: str) -> Iterator[Fault]:
    yield from unused("$.session_id", e.session_id, s.registry.sessions, "session")
    yield from known("$.product_id", e.product_id, s.registry.products, "product")
    product = s.registry.products.get(e.product_id)
    if product is not None:
        step_ms = product.resolution_s * 1000
        for name in ("delivery_start_ms", "delivery_end_ms"):
            if getattr(e, name) % step_ms:
                text = f"is not at the start of a slot of the product, {product.resolution_s} s"
                yield fault(FaultCode.BAD_PERIOD, f"$.{name}", text)
        slots = (e.delivery_end_ms - e.delivery_start_ms) // step_ms
        if slots > MAX_SESSION_SLOTS:
            text = (
                f"the delivery has {slots} slots of {product.resolution_s} s; {MAX_SESSION_SLOTS} at most are cleared"
            )
            text += " together: schedule several sessions"
            yield fault(FaultCode.BAD_PERIOD, "$.delivery_end_ms", text)


def _moved(*allowed: Gate) -> Callable[[Admission, Any, str], Iterator[Fault]]:
    def rule(s: Admission, e: Any, _: str) -> Iterator[Fault]:
        session = s.registry.sessions.get(e.session_id)
        yield from known("$.session_id", e.session_id, s.registry.sessions, "session")
        if session is not None and session.gate not in allowed:
            text = f"the gate of session {e.session_id!r} is {session.gate.value}; this does not follow from there"
            yield fault(FaultCode.WRONG_STATE, "$.session_id", text)

    return rule


RULES: dict[type[Any], Callable[[Admission, Any, str], Iterator[Fault]]] = {
    ev.ParticipantRemoved: _participant_removed,
    ev.MandateGranted: _mandate_granted,
    ev.MandateRevoked: _mandate_revoked,
    ev.ConnectionPointRegistered: _point_registered,
    ev.ConnectionPointRemoved: _point,
    ev.AssetRegistered: _asset_registered,
    ev.AssetApproved: _asset_approved,
    ev.AssetRefused: _asset_refused,
    ev.PortfolioRegistered: _portfolio_registered,
    ev.PortfolioApproved: _portfolio_judged,
    ev.PortfolioRefused: _portfolio_judged,
    ev.NetworkModelPublished: _network,
    ev.NetForecastPublished: _net_forecast,
    ev.MarketSessionScheduled: _session_scheduled,
    ev.GateOpened: _moved(Gate.NOT_OPEN),
    ev.GateClosed: _moved(Gate.OPEN),
    ev.DeliveryStarted: _moved(Gate.CLOSED),
    ev.DeliveryEnded: _moved(Gate.CLOSED),
    ev.SettlementDue: _moved(Gate.CLOSED),
}
