"""Aggregates of flex-offers, what is offered upward to the TSO, and how its activation is split again."""

from dataclasses import dataclass
from typing import Annotated

from flexbus.quantities import Direction

__all__ = [
    "AggregateActivated",
    "AggregateDisaggregated",
    "AggregateMember",
    "AggregateOffered",
    "AggregateShare",
    "OffersAggregated",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregateMember:
    """The part of one offer in an aggregate; provenance for the way back."""

    offer_id: Annotated[str, "offer"]
    fsp_id: Annotated[str, "provider"]
    connection_point_id: Annotated[str | None, "connection point, if the offer is at one"]
    portfolio_id: Annotated[str | None, "portfolio, if the offer is of one"]
    first_slot: Annotated[int, "slot of the aggregate at which its part begins, >= 0"]
    power_w: Annotated[tuple[int, ...], "quantity per slot from there to the last that has any, W >= 0"]
    price_milli_per_mwh: Annotated[tuple[int, ...], "highest price asked in the same slots, 1/1000 EUR per MWh"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OffersAggregated:
    """The offers of a session, summed per infeed point and direction by start alignment."""

    area_id: Annotated[str, "market area"]
    session_id: Annotated[str, "session"]
    aggregate_id: Annotated[str, "identifier of the aggregate, derived"]
    infeed_id: Annotated[str, "infeed point"]
    direction: Annotated[Direction, "direction"]
    start_ms: Annotated[int, "start of the first slot, UTC ms"]
    resolution_s: Annotated[int, "length of a slot, s"]
    power_w: Annotated[tuple[int, ...], "sum per slot, W"]
    mean_price_milli_per_mwh: Annotated[tuple[int, ...], "volume-weighted asked price per slot, 1/1000 EUR per MWh"]
    offers: Annotated[int, "number of offers summed"]
    individual_offers: Annotated[int, "offers with terms of their own, which no sum can stand for"] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregateOffered:
    """Unmatched local flexibility, offered to the TSO per infeed point (FLEXGRID HLUC_01_UCS_04)."""

    area_id: Annotated[str, "market area"]
    session_id: Annotated[str, "session"]
    aggregate_id: Annotated[str, "identifier of the aggregate, derived"]
    infeed_id: Annotated[str, "infeed point"]
    direction: Annotated[Direction, "direction"]
    start_ms: Annotated[int, "start of the first slot, UTC ms"]
    resolution_s: Annotated[int, "length of a slot, s"]
    power_w: Annotated[tuple[int, ...], "volume per slot, W"]
    price_milli_per_mwh: Annotated[tuple[int, ...], "price per slot, 1/1000 EUR per MWh: the highest of its members"]
    members: Annotated[tuple[AggregateMember, ...], "provenance; never sent out"]
    brp_ids: Annotated[tuple[str, ...], "balance responsible parties of its members, as far as registered"] = ()
    bidding_zone_eic: Annotated[str | None, "bidding zone of the area, energy identification code"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregateActivated:
    """The TSO activated (a part of) an aggregate (FLEXGRID HLUC_01_UCS_04 step 5)."""

    area_id: Annotated[str, "market area"]
    tso_activation_id: Annotated[str, "identifier of the TSO's activation"]
    aggregate_id: Annotated[str, "aggregate"]
    tso_id: Annotated[str, "transmission system operator"]
    start_ms: Annotated[int, "start of the first slot, UTC ms"]
    resolution_s: Annotated[int, "length of a slot, s"]
    power_w: Annotated[tuple[int, ...], "activated volume per slot, W"]
    price_milli_per_mwh: Annotated[int, "price paid, 1/1000 EUR per MWh"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregateShare:
    """What one member delivers of an activated aggregate."""

    offer_id: Annotated[str, "offer"]
    fsp_id: Annotated[str, "provider"]
    connection_point_id: Annotated[str | None, "connection point, if the offer is at one"]
    portfolio_id: Annotated[str | None, "portfolio, if the offer is of one"]
    power_w: Annotated[tuple[int, ...], "share per slot, W"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregateDisaggregated:
    """An activated aggregate was split; shares and unserved part sum to the activation exactly."""

    area_id: Annotated[str, "market area"]
    session_id: Annotated[str, "session"]
    tso_activation_id: Annotated[str, "activation of the TSO"]
    aggregate_id: Annotated[str, "aggregate"]
    tso_id: Annotated[str, "transmission system operator that activated it"]
    direction: Annotated[Direction, "direction"]
    start_ms: Annotated[int, "start of the first slot, UTC ms"]
    resolution_s: Annotated[int, "length of a slot, s"]
    price_milli_per_mwh: Annotated[int, "price paid, 1/1000 EUR per MWh"]
    shares: Annotated[tuple[AggregateShare, ...], "who delivers what"]
    unserved_w: Annotated[tuple[int, ...], "part beyond what members give at that price, W"]
