"""Products, sessions and their gates, and delivery periods: the clockwork of a market, as facts."""

from dataclasses import dataclass
from enum import Enum
from typing import Annotated

__all__ = [
    "DeliveryEnded",
    "DeliveryStarted",
    "GateClosed",
    "GateOpened",
    "MarketPhase",
    "MarketProductDefined",
    "MarketSessionScheduled",
    "PricingRule",
    "SettlementDue",
]


class PricingRule(Enum):
    """How awards are priced (design record 10: two-sided auctions clear nodally, zonally or pay as bid)."""

    NODAL = "NODAL"
    ZONAL = "ZONAL"
    PAY_AS_BID = "PAY_AS_BID"


class MarketPhase(Enum):
    """What a product is auctioned for (FLEXGRID D2.1 3.1)."""

    DAY_AHEAD = "DAY_AHEAD"
    REAL_TIME = "REAL_TIME"
    CAPACITY = "CAPACITY"
    STOCHASTIC = "STOCHASTIC"


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketProductDefined:
    """The market operator defined a product or changed it for sessions scheduled later.

    Every deadline and rate of the market is a field here, none is a constant in code.
    """

    area_id: Annotated[str, "market area"]
    product_id: Annotated[str, "identifier of the product"]
    name: Annotated[str, "name for people"]
    resolution_s: Annotated[int, "length of a slot, s: 300, 900, 1800 or 3600"] = 900
    pricing_rule: Annotated[PricingRule, "how awards are priced"] = PricingRule.NODAL
    step_w: Annotated[int, "quantities are multiples of this, W"] = 1000
    min_offer_w: Annotated[int, "least quantity of an offered step, W"] = 1000
    max_steps: Annotated[int, "most price steps per slot"] = 20
    min_price_milli_per_mwh: Annotated[int, "lowest price allowed, 1/1000 EUR per MWh"] = -3_000_000
    max_price_milli_per_mwh: Annotated[int, "highest price allowed, 1/1000 EUR per MWh"] = 3_000_000
    violation_price_milli_per_mwh: Annotated[
        int, "what relieving a violated grid limit is worth at most to the DSO, 1/1000 EUR per MWh"
    ] = 1_000_000
    voltage_price_milli_per_puh: Annotated[
        int, "what keeping a bus in its voltage band is worth to the DSO, 1/1000 EUR per pu of violation and hour"
    ] = 100_000_000
    request_max_price_milli_per_mwh: Annotated[
        int | None,
        "price cap of requests made from forecasts, 1/1000 EUR per MWh; null = none are made (HEDGE 0.3 max_price)",
    ] = None
    margin_ppm: Annotated[int, "safety taken off a limit in forecasts, millionths (HEDGE 0.3)"] = 20_000
    p_min_ppm: Annotated[int, "least probability of a forecast that counts, millionths (HEDGE 0.3)"] = 500_000
    request_step_w: Annotated[int, "requests are rounded up to this, W (HEDGE 0.3 step_w)"] = 10_000
    min_need_w: Annotated[int, "smaller needs are ignored, W (HEDGE 0.3)"] = 20_000
    sensitivity_ppm: Annotated[int, "change of element flow per W offered, millionths (HEDGE 0.3)"] = 1_000_000
    max_forecast_age_s: Annotated[int, "oldest usable forecast, s (HEDGE 0.3)"] = 21_600
    max_missing_slots: Annotated[int, "more missing slots make a forecast unusable (HEDGE 0.3)"] = 4
    submit_lead_s: Annotated[int, "needs that arise later than this before the gate miss it, s (HEDGE 0.3)"] = 300
    amend_step_w: Annotated[int, "smaller changes do not amend a request, W (HEDGE 0.3)"] = 10_000
    activation_lead_s: Annotated[int, "activations are ordered this long before they start, s"] = 900
    acknowledge_within_s: Annotated[int, "an order not acknowledged in this time has timed out, s"] = 60
    tolerance_ppm: Annotated[int, "shortfall without penalty, millionths of the ordered energy"] = 100_000
    penalty_ppm: Annotated[int, "penalty per missing energy, millionths of the award price"] = 500_000
    phase: Annotated[
        MarketPhase,
        "DAY_AHEAD, REAL_TIME = energy; CAPACITY, STOCHASTIC = power held ready, over the forecast's scenarios",
    ] = MarketPhase.DAY_AHEAD


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketSessionScheduled:
    """The market operator scheduled a session (auction) of a product for a delivery period."""

    area_id: Annotated[str, "market area"]
    session_id: Annotated[str, "identifier of the session (auction)"]
    product_id: Annotated[str, "product that is traded"]
    delivery_start_ms: Annotated[int, "start of delivery, UTC ms"]
    delivery_end_ms: Annotated[int, "end of delivery, UTC ms; local days have 92, 96 or 100 quarter-hours"]
    gate_opens_ms: Annotated[int, "offers are taken from here, UTC ms"]
    gate_closes_ms: Annotated[int, "offers are taken until here, UTC ms"]
    settlement_due_ms: Annotated[int, "settlement is computed from the readings received until here, UTC ms"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateOpened:
    """The gate of a session opened: offers and requests after this position are taken."""

    area_id: Annotated[str, "market area"]
    session_id: Annotated[str, "session"]
    at_ms: Annotated[int, "market time, UTC ms"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateClosed:
    """The gate of a session closed: what stands before this position counts, what comes after does not."""

    area_id: Annotated[str, "market area"]
    session_id: Annotated[str, "session"]
    at_ms: Annotated[int, "market time, UTC ms"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryStarted:
    """A slot of a session's delivery began (one event per slot)."""

    area_id: Annotated[str, "market area"]
    session_id: Annotated[str, "session"]
    start_ms: Annotated[int, "start of the slot, UTC ms"]
    end_ms: Annotated[int, "end of the slot, UTC ms"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryEnded:
    """The last slot of a session's delivery ended."""

    area_id: Annotated[str, "market area"]
    session_id: Annotated[str, "session"]
    at_ms: Annotated[int, "market time, UTC ms"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementDue:
    """Readings received until here enter the first settlement; later ones correct it."""

    area_id: Annotated[str, "market area"]
    session_id: Annotated[str, "session"]
    at_ms: Annotated[int, "market time, UTC ms"]
