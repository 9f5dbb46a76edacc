"""Flex-offers of providers, and the baselines and schedules that go with them."""

from dataclasses import dataclass
from typing import Annotated

from flexbus.events.offer_terms import OfferTerms
from flexbus.quantities import Direction

__all__ = [
    "BaselineSubmitted",
    "FlexOffer",
    "FlexOfferClipped",
    "FlexOfferReplaced",
    "FlexOfferSubmitted",
    "FlexOfferWithdrawn",
    "OfferSlot",
    "PriceStep",
    "ScheduleSubmitted",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceStep:
    """One step of a price stack."""

    power_w: Annotated[int, "quantity of this step, W > 0"]
    price_milli_per_mwh: Annotated[int, "least the provider wants per MWh delivered, 1/1000 EUR per MWh"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferSlot:
    """What is offered in one slot: a price stack with rising prices."""

    steps: Annotated[tuple[PriceStep, ...], "price stack, cheapest first; empty = nothing in this slot"]
    min_power_w: Annotated[int, "if taken at all, at least this much, W; 0 = any part"] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FlexOffer:
    """Flexibility that a provider sells at a connection point or with a portfolio (FLEXGRID FlexOffer)."""

    offer_id: Annotated[str, "identifier of the offer"]
    revision: Annotated[int, "revision, 1 for the first, rising"]
    session_id: Annotated[str, "session it is meant for"]
    fsp_id: Annotated[str, "provider"]
    connection_point_id: Annotated[str | None, "connection point, if the offer is at one"] = None
    portfolio_id: Annotated[str | None, "portfolio, if the offer is spread over its assets"] = None
    direction: Annotated[Direction, "UP = more feed-in or less draw"]
    start_ms: Annotated[int, "start of the first slot (of the window, with a start choice), UTC ms"]
    resolution_s: Annotated[int, "length of a slot, s"]
    slots: Annotated[tuple[OfferSlot, ...], "one entry per slot; empty with reactive power or a start choice"]
    min_energy_wh: Annotated[int | None, "if taken, at least this energy over all slots, Wh"] = None
    max_energy_wh: Annotated[int | None, "at most this energy over all slots, Wh"] = None
    all_or_nothing: Annotated[bool, "block: all slots in full or none"] = False
    exclusive_group_id: Annotated[str | None, "at most one offer of a group is taken"] = None
    parent_offer_id: Annotated[str | None, "taken only if the parent is taken"] = None
    terms: Annotated[OfferTerms | None, "what else is particular to it; null = a plain offer"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FlexOfferSubmitted:
    """A provider offered flexibility."""

    area_id: Annotated[str, "market area"]
    offer: Annotated[FlexOffer, "the offer, revision 1"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FlexOfferReplaced:
    """A provider replaced its offer while the gate was open; the last valid one counts."""

    area_id: Annotated[str, "market area"]
    offer: Annotated[FlexOffer, "the whole offer with a higher revision"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FlexOfferWithdrawn:
    """A provider withdrew its offer while the gate was open."""

    area_id: Annotated[str, "market area"]
    offer_id: Annotated[str, "identifier of the offer"]
    fsp_id: Annotated[str, "provider"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FlexOfferClipped:
    """A traffic light or capacity limit cut an offer before the clearing (BeFlexible SUC10.3)."""

    area_id: Annotated[str, "market area"]
    offer_id: Annotated[str, "identifier of the offer"]
    revision: Annotated[int, "revision that was cut"]
    fsp_id: Annotated[str, "provider"]
    start_ms: Annotated[int, "start of the first slot, UTC ms"]
    resolution_s: Annotated[int, "length of a slot, s"]
    offered_w: Annotated[tuple[int, ...], "offered per slot, W; with a start choice the most that any start takes"]
    allowed_w: Annotated[tuple[int, ...], "allowed per slot, W; with a start choice that of the starts left"]
    causes: Annotated[tuple[str, ...], "limits and traffic lights that cut it"]
    reason: Annotated[str, "the same for people"]
    offered_var: Annotated[tuple[int, ...], "reactive power offered per slot, var; empty for active power"] = ()
    allowed_var: Annotated[tuple[int, ...], "reactive power allowed per slot, var; empty for active power"] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineSubmitted:
    """The expected net power of a connection point without activation, stored when bidding (SUC06.3)."""

    area_id: Annotated[str, "market area"]
    baseline_id: Annotated[str, "identifier of the baseline"]
    revision: Annotated[int, "revision, rising; the newest before the gate counts"]
    connection_point_id: Annotated[str, "connection point"]
    fsp_id: Annotated[str, "provider that submits it"]
    session_id: Annotated[str, "session it is meant for"]
    start_ms: Annotated[int, "start of the first slot, UTC ms"]
    resolution_s: Annotated[int, "length of a slot, s"]
    power_w: Annotated[tuple[int, ...], "net power per slot, W, positive = feed-in"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleSubmitted:
    """The provider's schedule after the award, for the system operator (FLEXGRID HLUC_03 step 7)."""

    area_id: Annotated[str, "market area"]
    schedule_id: Annotated[str, "identifier of the schedule"]
    revision: Annotated[int, "revision, rising"]
    connection_point_id: Annotated[str, "connection point"]
    fsp_id: Annotated[str, "provider"]
    session_id: Annotated[str, "session"]
    start_ms: Annotated[int, "start of the first slot, UTC ms"]
    resolution_s: Annotated[int, "length of a slot, s"]
    power_w: Annotated[tuple[int, ...], "net power per slot, W, positive = feed-in"]
