"""Activations: ordered, acknowledged or refused, changed, stopped (BeFlexible SUC06.2)."""

from dataclasses import dataclass
from typing import Annotated

from flexbus.quantities import Direction

__all__ = [
    "ActivationAcknowledged",
    "ActivationChanged",
    "ActivationOrdered",
    "ActivationRefused",
    "ActivationStopped",
    "ActivationTimedOut",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationOrdered:
    """A provider was ordered to deliver what was awarded, over consecutive slots."""

    area_id: Annotated[str, "market area"]
    session_id: Annotated[str, "session"]
    activation_id: Annotated[str, "identifier of the activation, derived"]
    award_id: Annotated[str | None, "award it carries out; null for a TSO activation"]
    tso_activation_id: Annotated[str | None, "TSO activation it is a share of; null otherwise"]
    offer_id: Annotated[str, "offer"]
    orderer_id: Annotated[str, "party that orders: DSO or TSO"]
    fsp_id: Annotated[str, "provider"]
    connection_point_id: Annotated[str | None, "connection point; null for a portfolio"]
    portfolio_id: Annotated[str | None, "portfolio; null for a connection point"]
    direction: Annotated[Direction, "direction"]
    start_ms: Annotated[int, "start of the first slot, UTC ms"]
    resolution_s: Annotated[int, "length of a slot, s"]
    power_w: Annotated[tuple[int, ...], "ordered quantity per slot, W"]
    price_milli_per_mwh: Annotated[tuple[int, ...], "price per slot, 1/1000 EUR per MWh"]
    acknowledge_by_ms: Annotated[int, "acknowledgement is due by here, market time, UTC ms"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationAcknowledged:
    """The provider confirmed an order."""

    area_id: Annotated[str, "market area"]
    activation_id: Annotated[str, "activation"]
    fsp_id: Annotated[str, "provider"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationRefused:
    """The provider refused an order; it counts as not delivered."""

    area_id: Annotated[str, "market area"]
    activation_id: Annotated[str, "activation"]
    fsp_id: Annotated[str, "provider"]
    reason: Annotated[str, "why, for people"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationChanged:
    """The orderer lowered an order for slots that have not begun."""

    area_id: Annotated[str, "market area"]
    activation_id: Annotated[str, "activation"]
    orderer_id: Annotated[str, "party that had ordered"]
    revision: Annotated[int, "revision, 2 for the first change, rising"]
    from_ms: Annotated[int, "first slot that changes, UTC ms"]
    power_w: Annotated[tuple[int, ...], "new quantity per slot from there, W"]
    reason: Annotated[str, "why, for people"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationStopped:
    """An activation was stopped by an unforeseen limit or by its orderer; what follows is not owed."""

    area_id: Annotated[str, "market area"]
    activation_id: Annotated[str, "activation"]
    fsp_id: Annotated[str, "provider"]
    from_ms: Annotated[int, "first slot that is not delivered any more, UTC ms"]
    until_ms: Annotated[int, "end of the stop, UTC ms"]
    cause: Annotated[str, "limit id, or the orderer"]
    reason: Annotated[str, "why, for people"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationTimedOut:
    """A provider neither acknowledged nor refused in time."""

    area_id: Annotated[str, "market area"]
    activation_id: Annotated[str, "activation"]
    fsp_id: Annotated[str, "provider"]
    at_ms: Annotated[int, "market time, UTC ms"]
