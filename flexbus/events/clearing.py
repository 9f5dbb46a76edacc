"""The cleared market: awards, what was not taken and why, nodal prices and the state of the grid."""

from dataclasses import dataclass
from enum import Enum
from typing import Annotated

from flexbus.events.offer_terms import Payback
from flexbus.quantities import Direction

__all__ = [
    "Award",
    "AwardTerms",
    "BranchFlow",
    "BusVoltage",
    "ClearedSlot",
    "GridStatePublished",
    "LimitKind",
    "MarketCleared",
    "NodalPrice",
    "NodalPricesPublished",
    "NonAward",
    "NonAwardReason",
    "ReactiveAward",
    "ReactiveOutcome",
    "RequestOutcome",
    "Reservation",
    "SlotStatus",
    "UnmetNeed",
]


class SlotStatus(Enum):
    """Which rung of the fallback ladder a slot's result stands on (design record 5)."""

    IDLE = "IDLE"
    EXACT = "EXACT"
    REPAIRED = "REPAIRED"
    LINEARISED = "LINEARISED"
    MERIT_ORDER = "MERIT_ORDER"
    BASELINE_KEPT = "BASELINE_KEPT"


class LimitKind(Enum):
    """What binds, or what is violated."""

    VOLTAGE_MAX = "VOLTAGE_MAX"
    VOLTAGE_MIN = "VOLTAGE_MIN"
    CURRENT_FROM = "CURRENT_FROM"
    CURRENT_TO = "CURRENT_TO"
    APPARENT_POWER_FROM = "APPARENT_POWER_FROM"
    APPARENT_POWER_TO = "APPARENT_POWER_TO"
    IMPORT = "IMPORT"
    EXPORT = "EXPORT"
    REQUEST = "REQUEST"
    POWER_FLOW = "POWER_FLOW"


class NonAwardReason(Enum):
    """Why an offer was not, or not fully, taken."""

    NO_DEMAND = "NO_DEMAND"
    PRICE = "PRICE"
    BRANCH_LIMIT = "BRANCH_LIMIT"
    VOLTAGE_LIMIT = "VOLTAGE_LIMIT"
    MINIMUM_QUANTITY = "MINIMUM_QUANTITY"
    EXCLUSIVE_SIBLING = "EXCLUSIVE_SIBLING"
    PARENT_NOT_TAKEN = "PARENT_NOT_TAKEN"
    ENERGY_BUDGET = "ENERGY_BUDGET"
    PARADOXICAL_BLOCK = "PARADOXICAL_BLOCK"
    CLIPPED = "CLIPPED"
    OTHER_CONSTRAINT = "OTHER_CONSTRAINT"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnmetNeed:
    """A limit that stays broken, or a request that stays unmet, in one slot."""

    kind: Annotated[LimitKind, "kind of limit, or REQUEST; POWER_FLOW = the baseline has no AC solution"]
    element_id: Annotated[str, "bus, branch, infeed point, request or network"]
    amount: Annotated[int, "by how much: W, VA, var or (voltage) millionths of nominal; 0 for POWER_FLOW"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearedSlot:
    """How one slot was cleared and how sure the result is."""

    start_ms: Annotated[int, "start of the slot, UTC ms"]
    status: Annotated[SlotStatus, "rung of the ladder"]
    up_w: Annotated[int, "upward flexibility taken, W"]
    down_w: Annotated[int, "downward flexibility taken, W"]
    requested_w: Annotated[int, "active flexibility asked for by explicit requests, W"]
    shortfall_w: Annotated[
        int, "power by which limits or requests stay unmet, W; voltages and reactive requests are told apart"
    ]
    loss_gap_w: Annotated[int, "fictitious loss of the relaxation before repair, W"]
    ac_violation_ppm: Annotated[int, "greatest violation in the independent AC power flow, millionths"]
    cost_nano: Annotated[int, "payment to providers, 1e-9 EUR"]
    binding: Annotated[tuple[str, ...], "limits that bind, as branch or bus ids"]
    voltage_shortfall_ppm: Annotated[int, "greatest excess over a voltage limit that stays, millionths of nominal"] = 0
    unmet_count: Annotated[int, "limits that stay broken and requests that stay unmet"] = 0
    unmet: Annotated[tuple[UnmetNeed, ...], "the first 20 of them: voltages, then power, largest first"] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Award:
    """What was taken of one offer."""

    award_id: Annotated[str, "identifier of the award, derived"]
    offer_id: Annotated[str, "offer"]
    offer_revision: Annotated[int, "revision of the offer"]
    fsp_id: Annotated[str, "provider"]
    connection_point_id: Annotated[str | None, "connection point, if the offer was at one"]
    portfolio_id: Annotated[str | None, "portfolio, if the offer was of one"]
    bus_id: Annotated[str | None, "bus; null for a portfolio over several buses"]
    direction: Annotated[Direction, "direction"]
    start_ms: Annotated[int, "start of the first slot, UTC ms"]
    resolution_s: Annotated[int, "length of a slot, s"]
    power_w: Annotated[tuple[int, ...], "awarded quantity per slot, W >= 0"]
    price_milli_per_mwh: Annotated[tuple[int, ...], "price per slot, 1/1000 EUR per MWh"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReactiveAward:
    """What was taken of one offer of reactive power; it is delivered as awarded, without another order."""

    award_id: Annotated[str, "identifier of the award, derived"]
    offer_id: Annotated[str, "offer"]
    offer_revision: Annotated[int, "revision of the offer"]
    fsp_id: Annotated[str, "provider"]
    connection_point_id: Annotated[str | None, "connection point, if the offer was at one"]
    portfolio_id: Annotated[str | None, "portfolio, if the offer was of one"]
    bus_id: Annotated[str | None, "bus; null for a portfolio over several buses"]
    direction: Annotated[Direction, "UP = more feed-in of reactive power"]
    start_ms: Annotated[int, "start of the first slot, UTC ms"]
    resolution_s: Annotated[int, "length of a slot, s"]
    reactive_power_var: Annotated[tuple[int, ...], "awarded quantity per slot, var >= 0"]
    price_milli_per_mvarh: Annotated[tuple[int, ...], "price per slot, 1/1000 EUR per Mvarh"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """What an auction of phase CAPACITY or STOCHASTIC holds ready of one offer; a call is another matter."""

    award_id: Annotated[str, "identifier of the award, derived"]
    offer_id: Annotated[str, "offer"]
    offer_revision: Annotated[int, "revision of the offer"]
    fsp_id: Annotated[str, "provider"]
    connection_point_id: Annotated[str | None, "connection point, if the offer was at one"]
    portfolio_id: Annotated[str | None, "portfolio, if the offer was of one"]
    bus_id: Annotated[str | None, "bus; null for a portfolio over several buses"]
    direction: Annotated[Direction, "direction"]
    start_ms: Annotated[int, "start of the first slot, UTC ms"]
    resolution_s: Annotated[int, "length of a slot, s"]
    power_w: Annotated[tuple[int, ...], "held ready per slot, W >= 0; empty for reactive power"] = ()
    reactive_power_var: Annotated[tuple[int, ...], "held ready per slot, var >= 0; empty for active power"] = ()
    price_milli_per_mwh: Annotated[
        tuple[int, ...], "price per slot of one MW (Mvar) held for an hour, 1/1000 EUR per MWh (Mvarh)"
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class AwardTerms:
    """What comes with an award beside its power; later sessions and the settlement reckon with it."""

    award_id: Annotated[str, "award"]
    payback: Annotated[Payback | None, "the settlement takes it off what the meter shows; null = none"] = None
    tan_phi_ppm: Annotated[int, "reactive per active change of injection, millionths, may be negative"] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NonAward:
    """Why an offer was not (fully) taken."""

    offer_id: Annotated[str, "offer"]
    fsp_id: Annotated[str, "provider"]
    reason: Annotated[NonAwardReason, "reason code"]
    element_id: Annotated[str | None, "branch, bus or offer that stood in the way"]
    amount: Annotated[int | None, "the number of the reason: price distance in 1/1000 EUR per MWh, or W"]
    rejected_energy_wh: Annotated[int, "offered and not taken, Wh (varh of an offer of reactive power)"]
    text: Annotated[str, "the same for people"]
    price_distance_milli_per_mwh: Annotated[
        int | None, "the bid is dearer than its worth by this, 1/1000 EUR per MWh; null = price is not in the way"
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOutcome:
    """What a request got."""

    request_id: Annotated[str, "request"]
    requester_id: Annotated[str, "party that had asked"]
    requested_w: Annotated[tuple[int, ...], "asked per slot of the request, W"]
    matched_w: Annotated[tuple[int, ...], "met per slot of the request, W"]
    reason: Annotated[str, "why not in full, for people; empty = met"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReactiveOutcome:
    """What a request for reactive power got."""

    request_id: Annotated[str, "request"]
    requester_id: Annotated[str, "party that had asked"]
    requested_var: Annotated[tuple[int, ...], "asked per slot of the request, var"]
    matched_var: Annotated[tuple[int, ...], "met per slot of the request, var"]
    reason: Annotated[str, "why not in full, for people; empty = met"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketCleared:
    """A session was cleared; published after its prices and grid state."""

    area_id: Annotated[str, "market area"]
    session_id: Annotated[str, "session"]
    clearing_id: Annotated[str, "identifier of the clearing, derived"]
    gate_block: Annotated[int, "number of the block that holds GateClosed; the snapshot ends there"]
    network_id: Annotated[str | None, "network model; null = none was known at the gate"]
    network_revision: Annotated[int | None, "its revision"]
    start_ms: Annotated[int, "start of the first slot, UTC ms"]
    resolution_s: Annotated[int, "length of a slot, s"]
    slots: Annotated[tuple[ClearedSlot, ...], "one entry per slot"]
    awards: Annotated[tuple[Award, ...], "what was taken"]
    non_awards: Annotated[tuple[NonAward, ...], "what was not, with reasons"]
    requests: Annotated[tuple[RequestOutcome, ...], "what requests got"]
    cost_nano: Annotated[int, "payment to all providers, 1e-9 EUR"]
    welfare_nano: Annotated[int, "value of met needs less the bids taken, 1e-9 EUR"]
    solver: Annotated[str, "solver, version and settings"]
    case_hash: Annotated[str, "SHA-256 of the canonical input, hexadecimal"]
    result_hash: Annotated[str, "SHA-256 of the canonical result, hexadecimal"]
    reactive_awards: Annotated[tuple[ReactiveAward, ...], "what was taken of reactive power"] = ()
    reservations: Annotated[tuple[Reservation, ...], "what is held ready (CAPACITY, STOCHASTIC); no awards then"] = ()
    award_terms: Annotated[tuple[AwardTerms, ...], "what comes with awards beside their power"] = ()
    reactive_requests: Annotated[tuple[ReactiveOutcome, ...], "what requests for reactive power got"] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodalPrice:
    """Price of active power at one bus."""

    bus_id: Annotated[str, "bus"]
    price_milli_per_mwh: Annotated[
        tuple[int, ...], "price of UP per slot, 1/1000 EUR per MWh, cut at the product's violation price"
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodalPricesPublished:
    """The nodal prices of a cleared session (D-LMP, FLEXGRID D2.1 5.1.2)."""

    area_id: Annotated[str, "market area"]
    session_id: Annotated[str, "session"]
    clearing_id: Annotated[str, "clearing"]
    start_ms: Annotated[int, "start of the first slot, UTC ms"]
    resolution_s: Annotated[int, "length of a slot, s"]
    buses: Annotated[tuple[NodalPrice, ...], "one entry per bus"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BusVoltage:
    """Voltage of one bus."""

    bus_id: Annotated[str, "bus"]
    voltage_ppm: Annotated[tuple[int, ...], "magnitude per slot, millionths of nominal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchFlow:
    """Flow over one branch."""

    branch_id: Annotated[str, "branch"]
    power_w: Annotated[tuple[int, ...], "active power into the from side per slot, W"]
    loading_ppm: Annotated[tuple[int, ...], "loading per slot, millionths of the limit; 0 without limit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GridStatePublished:
    """The state of the grid from the independent AC power flow, with or without the cleared flexibility."""

    area_id: Annotated[str, "market area"]
    session_id: Annotated[str, "session"]
    cleared: Annotated[bool, "false = forecast without flexibility, true = with the awards"]
    start_ms: Annotated[int, "start of the first slot, UTC ms"]
    resolution_s: Annotated[int, "length of a slot, s"]
    buses: Annotated[tuple[BusVoltage, ...], "one entry per bus"]
    branches: Annotated[tuple[BranchFlow, ...], "one entry per branch"]
