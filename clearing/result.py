"""The result of a clearing, as frozen dataclasses; integers except where a multiplier needs all its digits."""

from dataclasses import dataclass
from enum import Enum
from typing import Annotated

from flexbus.events.clearing import LimitKind, NonAwardReason, SlotStatus
from flexbus.quantities import Direction

__all__ = [
    "Binding",
    "BranchResult",
    "BusResult",
    "CallDuals",
    "Certificate",
    "End",
    "InfeedResult",
    "LimitDual",
    "LimitKind",
    "NonAward",
    "OfferResult",
    "RequestDual",
    "RequestResult",
    "ReservationResult",
    "Result",
    "ScenarioResult",
    "Shortfall",
    "SlotDuals",
    "SlotResult",
    "SolverInfo",
    "UnitDuals",
    "UnmetReason",
    "ZonePrice",
]


class UnmetReason(Enum):
    """Why a request was not met in full."""

    PRICE = "PRICE"
    NO_OFFER = "NO_OFFER"
    MINIMUM_QUANTITY = "MINIMUM_QUANTITY"
    OFFER_CONSTRAINT = "OFFER_CONSTRAINT"
    GRID_LIMIT = "GRID_LIMIT"
    OPPOSITE_NEED = "OPPOSITE_NEED"
    NO_AC_SOLUTION = "NO_AC_SOLUTION"


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """What an entry of a capacity auction's series stands for: a slot with all of one direction called."""

    slot: Annotated[int, "slot index of the case"]
    direction: Annotated[Direction, "the direction whose awards are all called"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """A limit that binds in a slot, and what relief is worth."""

    kind: Annotated[LimitKind, "kind of limit"]
    element_id: Annotated[str, "bus, branch, infeed point"]
    price_milli: Annotated[int, "worth of one more MW, MVA or pu of limit for an hour, 1/1000 EUR"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """A need that stays unmet in a slot, by cause."""

    kind: Annotated[LimitKind, "kind of limit, or REQUEST"]
    element_id: Annotated[str, "bus, branch, infeed point or request"]
    amount: Annotated[int, "by how much: W, VA or (voltage) millionths of nominal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotResult:
    """How one slot was cleared, and how sure the result is."""

    status: Annotated[SlotStatus, "rung of the fallback ladder"]
    up_w: Annotated[int, "upward active flexibility taken, W"]
    down_w: Annotated[int, "downward active flexibility taken, W"]
    requested_w: Annotated[int, "asked for by explicit requests, W and var"]
    matched_w: Annotated[int, "met of it, W and var"]
    losses_w: Annotated[int, "losses in the AC state, W"]
    loss_gap_w: Annotated[int, "fictitious losses of the relaxation before any repair, W"]
    ac_violation_ppm: Annotated[int, "greatest excess over a limit in AC beyond the named shortfalls, millionths"]
    repair_steps: Annotated[int, "linear programs of the repair"]
    cost_nano: Annotated[int, "payment to providers, 1e-9 EUR"]
    gap_nano: Annotated[
        int | None,
        "at most so much could be gained in the slot at the prices of what ties it to others, 1e-9 EUR; null = unknown",
    ]
    binding: Annotated[tuple[Binding, ...], "limits that bind"]
    shortfalls: Annotated[tuple[Shortfall, ...], "what stays unmet, with its cause"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferResult:
    """What was taken of one offer (every offer has an entry)."""

    offer_id: Annotated[str, "offer"]
    quantity: Annotated[tuple[int, ...], "taken per slot, W or var; zeros = nothing"]
    price_milli_per_mwh: Annotated[tuple[int, ...], "price per slot, 1/1000 EUR per MWh (Mvarh)"]
    revenue_nano: Annotated[int, "sum of energy x price, 1e-9 EUR"]
    cost_nano: Annotated[int, "what was bid for it, 1e-9 EUR"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationResult:
    """What the first stage reserves of one offer, once for all scenarios (every offer of STOCHASTIC has an entry)."""

    offer_id: Annotated[str, "offer"]
    quantity: Annotated[tuple[int, ...], "reserved per slot of the day, W or var: the most any scenario calls"]
    price_milli_per_mwh: Annotated[tuple[int, ...], "price per slot of the day, 1/1000 EUR per MW (Mvar) and hour"]
    revenue_nano: Annotated[int, "sum of reserved quantity x length of the slot x price, 1e-9 EUR"]
    cost_nano: Annotated[int, "what was bid for it, 1e-9 EUR"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioResult:
    """What comes to pass if one scenario does; reservations are paid besides, whatever comes."""

    scenario_id: Annotated[str, "scenario"]
    probability_ppm: Annotated[int, "probability, millionths"]
    cost_nano: Annotated[int, "payment to providers for what is called, 1e-9 EUR"]
    bid_cost_nano: Annotated[int, "what the calls were bid at, 1e-9 EUR"]
    request_value_nano: Annotated[int, "what the met requests were worth to those who asked, 1e-9 EUR"]
    infeed_cost_nano: Annotated[int, "change of the cost of infeed energy against the baseline, 1e-9 EUR"]
    violation_cost_nano: Annotated[int, "priced violations that stay, 1e-9 EUR"]
    baseline_violation_cost_nano: Annotated[int, "priced violations of the scenario without flexibility, 1e-9 EUR"]
    welfare_nano: Annotated[int, "value met less bids, infeed and violations, before what was reserved, 1e-9 EUR"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NonAward:
    """Why an offer was not, or not fully, taken in some slots."""

    offer_id: Annotated[str, "offer"]
    reason: Annotated[NonAwardReason, "reason code"]
    slots: Annotated[tuple[int, ...], "slot indices it holds for"]
    element_id: Annotated[str | None, "branch, bus or offer that stood in the way"]
    amount: Annotated[int, "number of the reason: price distance in 1/1000 EUR per MWh, W, Wh or 1e-9 EUR"]
    price_distance_milli_per_mwh: Annotated[
        int | None, "the bid is dearer than its worth by this, 1/1000 EUR per MWh; null = price is not in the way"
    ]
    rejected_energy_wh: Annotated[int, "offered and not taken in these slots, Wh or varh"]
    text: Annotated[str, "the same for people"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestResult:
    """What a request got."""

    request_id: Annotated[str, "request"]
    requested: Annotated[tuple[int, ...], "asked per slot, W or var"]
    matched: Annotated[tuple[int, ...], "met per slot, W or var"]
    price_milli_per_mwh: Annotated[tuple[int, ...], "marginal worth of its delivery per slot, 1/1000 EUR per MWh"]
    payment_nano: Annotated[int, "what it pays: matched energy x price, at most what it bid, 1e-9 EUR"]
    unmet_reason: Annotated[UnmetReason | None, "why not in full, in the slot with most missing; null = met"]
    price_distance_milli_per_mwh: Annotated[
        int | None, "a bid higher by more than this gets more there, 1/1000 EUR per MWh; null = met, or no bid would"
    ]
    reason: Annotated[str, "why not in full, for people; empty = met"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BusResult:
    """Voltage and prices of one bus; the P price is the sum of its four parts, likewise the Q price.

    A price is the worth of one more unit of injection, 1/1000 EUR per MWh (Mvarh).
    """

    bus_id: Annotated[str, "bus"]
    voltage_ppm: Annotated[tuple[int, ...], "magnitude per slot, millionths of nominal; 0 = dead"]
    p_price_milli_per_mwh: Annotated[tuple[int, ...], "worth of one more MWh per slot, 1/1000 EUR per MWh"]
    p_energy_milli_per_mwh: Annotated[tuple[int, ...], "part, same unit: energy and explicit requests"]
    p_losses_milli_per_mwh: Annotated[tuple[int, ...], "part, same unit: losses"]
    p_voltage_milli_per_mwh: Annotated[tuple[int, ...], "part, same unit: voltage limits"]
    p_congestion_milli_per_mwh: Annotated[tuple[int, ...], "part, same unit: branch, infeed and branch-request limits"]
    q_price_milli_per_mwh: Annotated[tuple[int, ...], "worth of one more Mvarh per slot, 1/1000 EUR per Mvarh"]
    q_energy_milli_per_mwh: Annotated[tuple[int, ...], "part, same unit: explicit reactive requests"]
    q_losses_milli_per_mwh: Annotated[tuple[int, ...], "part, same unit: losses"]
    q_voltage_milli_per_mwh: Annotated[tuple[int, ...], "part, same unit: voltage limits"]
    q_congestion_milli_per_mwh: Annotated[tuple[int, ...], "part, same unit: branch, infeed and branch-request limits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchResult:
    """Flow over one branch in the AC state."""

    branch_id: Annotated[str, "branch"]
    power_w: Annotated[tuple[int, ...], "active power into the from side per slot, W"]
    reactive_power_var: Annotated[tuple[int, ...], "reactive power into the from side per slot, var"]
    loading_ppm: Annotated[tuple[int, ...], "loading per slot, millionths of the limit; 0 without limit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InfeedResult:
    """Power drawn from one infeed point in the AC state."""

    infeed_id: Annotated[str, "infeed point"]
    power_w: Annotated[tuple[int, ...], "power entering from upstream per slot, W"]
    reactive_power_var: Annotated[tuple[int, ...], "reactive power entering from upstream per slot, var"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ZonePrice:
    """Uniform prices of one zone (zonal pricing rule)."""

    zone_id: Annotated[str, "zone; empty = buses without a zone"]
    up_milli_per_mwh: Annotated[tuple[int, ...], "paid for upward flexibility per slot, 1/1000 EUR per MWh"]
    down_milli_per_mwh: Annotated[tuple[int, ...], "paid for downward flexibility per slot, 1/1000 EUR per MWh"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitDual:
    """Multiplier of a limit of a branch or infeed point in the relaxation."""

    kind: Annotated[LimitKind, "kind of limit"]
    element_id: Annotated[str, "branch or infeed point"]
    value: Annotated[float, "EUR per hour and pu squared (current), or EUR per MWh (others)"]
    value_q: Annotated[float, "reactive part of an apparent power, EUR per Mvarh"] = 0.0
    flow_p: Annotated[float, "of the flow that a current needs at the highest voltage, EUR per MWh"] = 0.0
    flow_q: Annotated[float, "the same of the reactive flow, EUR per Mvarh"] = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestDual:
    """Multiplier of the delivery to the requests that share a place, under the first of their ids."""

    request_id: Annotated[str, "request"]
    value: Annotated[float, "EUR per MWh (Mvarh)"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitDuals:
    """Multipliers of a storage."""

    unit_id: Annotated[str, "unit"]
    worth_eur_per_mwh: Annotated[tuple[float, ...], "worth of stored energy per slot, EUR per MWh"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallDuals:
    """Multipliers of what a reservation price holds back: no scenario calls more than is reserved."""

    offer_id: Annotated[str, "offer"]
    worth_eur_per_mwh: Annotated[tuple[float, ...], "worth of being able to call one more per slot, EUR per MWh"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotDuals:
    """Multipliers of the relaxation in one slot; from them alone the bound follows.

    Order: buses and branches of the canonical reduced network (docs/formats/certificate.md).
    """

    slot: Annotated[int, "slot index"]
    balance_p: Annotated[tuple[float, ...], "of the active balances, EUR per MWh"]
    balance_q: Annotated[tuple[float, ...], "of the reactive balances, EUR per Mvarh"]
    drop: Annotated[tuple[float, ...], "of the voltage drops, EUR per hour and pu squared"]
    limits: Annotated[tuple[LimitDual, ...], "of branches and infeed points, where not zero"] = ()
    requests: Annotated[tuple[RequestDual, ...], "of requests, where not zero"] = ()
    cuts: Annotated[
        tuple[float, ...], "per branch, of the most current that its flow allows, EUR per hour and pu; empty = not used"
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """Value of the published dispatch in AC, lower bound of the relaxation, and the gap between them."""

    value_nano: Annotated[int, "cost of the published dispatch with priced violations, 1e-9 EUR"]
    lower_bound_nano: Annotated[int | None, "no dispatch of the same market costs less; null = not computed"]
    gap_nano: Annotated[int | None, "value less bound, 1e-9 EUR; null = not computed"]
    duals: Annotated[tuple[SlotDuals, ...], "multipliers of the slots that were optimised"] = ()
    stored: Annotated[tuple[UnitDuals, ...], "multipliers of storages"] = ()
    called: Annotated[tuple[CallDuals, ...], "STOCHASTIC: multipliers of offers with a reservation price"] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SolverInfo:
    """What computed the result."""

    name: Annotated[str, "solver names"]
    versions: Annotated[str, "versions"]
    settings: Annotated[str, "settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a clearing yields; same case, same bytes."""

    case_id: Annotated[str, "label of the case"]
    case_hash: Annotated[str, "SHA-256 of the canonical case, hexadecimal"]
    result_hash: Annotated[str, "SHA-256 of the canonical result with this field empty, hexadecimal"]
    start_ms: Annotated[int, "start of the first slot, UTC ms"]
    resolution_s: Annotated[int, "length of a slot, s"]
    status: Annotated[SlotStatus, "lowest rung over all slots"]
    ends: Annotated[
        tuple[End, ...], "CAPACITY: what the entries of every series stand for, two per slot; empty = one per slot"
    ]
    scenarios: Annotated[
        tuple[ScenarioResult, ...],
        "STOCHASTIC: every series has the slots of the first, then of the second, ...; sums below are expected values",
    ] = ()
    reservations: Annotated[tuple[ReservationResult, ...], "STOCHASTIC: one entry per offer, sorted by id"] = ()
    slots: Annotated[tuple[SlotResult, ...], "one entry per slot"]
    offers: Annotated[tuple[OfferResult, ...], "one entry per offer, sorted by id"]
    non_awards: Annotated[tuple[NonAward, ...], "what was not taken and why, sorted by offer id"]
    requests: Annotated[tuple[RequestResult, ...], "one entry per request, sorted by id"]
    buses: Annotated[tuple[BusResult, ...], "one entry per bus, sorted by id"]
    branches: Annotated[tuple[BranchResult, ...], "one entry per branch, sorted by id"]
    infeed_points: Annotated[tuple[InfeedResult, ...], "one entry per infeed point, sorted by id"]
    zone_prices: Annotated[tuple[ZonePrice, ...], "uniform prices (zonal rule), sorted by zone"]
    cost_nano: Annotated[int, "payment to all providers, 1e-9 EUR"]
    bid_cost_nano: Annotated[int, "what the taken offers were bid at, 1e-9 EUR"]
    request_value_nano: Annotated[int, "what the met requests were worth to those who asked, 1e-9 EUR"]
    infeed_cost_nano: Annotated[int, "change of the cost of infeed energy against the baseline, 1e-9 EUR"]
    violation_cost_nano: Annotated[int, "priced violations that stay, 1e-9 EUR"]
    baseline_violation_cost_nano: Annotated[int, "priced violations of the baseline, 1e-9 EUR"]
    welfare_nano: Annotated[int, "gain over keeping the baseline: value met less bids, infeed and violations, 1e-9 EUR"]
    network_residual_nano: Annotated[
        int,
        "cost_nano less what requests pay: the network operator's bill for limits, losses and reactive power, 1e-9 EUR",
    ]
    certificate: Annotated[Certificate, "value, bound and gap"]
    solver: Annotated[SolverInfo, "what computed it"]
