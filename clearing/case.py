"""The case: everything one clearing depends on, as frozen dataclasses with units in their names.

Sign: positive = feeding the grid (see `flexbus.quantities`). An offer's quantity is never negative; UP adds to
the injection of its bus, DOWN takes from it. A quantity is W for active and var for reactive offers and
requests; prices are thousandths of EUR per MWh (Mvarh), paid per unit of flexibility delivered.

Source of the rules: FLEXGRID D2.1 4.1, 5.1.1-5.1.4; BeFlexible D3.1 SUC04.3, SUC06.1; docs/formats/case.md.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated

from flexbus.events.clearing import LimitKind
from flexbus.events.grid import BusInjection, NetworkModelPublished
from flexbus.events.market import PricingRule
from flexbus.quantities import Direction

__all__ = [
    "BusShare",
    "Case",
    "FixedAward",
    "InfeedPrice",
    "LimitPrice",
    "Location",
    "Offer",
    "OfferSlot",
    "Payback",
    "Phase",
    "PolygonSlice",
    "PolygonVertex",
    "Quantity",
    "Request",
    "RequestKind",
    "RequestSlot",
    "Scenario",
    "Settings",
    "StartChoice",
    "Step",
    "Unit",
    "UnitKind",
]


class Quantity(Enum):
    """What is traded."""

    ACTIVE = "ACTIVE"
    REACTIVE = "REACTIVE"


class Phase(Enum):
    """What the clearing is for."""

    DAY_AHEAD = "DAY_AHEAD"
    REAL_TIME = "REAL_TIME"
    CAPACITY = "CAPACITY"
    STOCHASTIC = "STOCHASTIC"


class RequestKind(Enum):
    """Who asks; requests of one kind, place and direction add up, those of different kinds share a delivery.

    GRID and TSO needs are relieved by physics: one MW may serve a bus, the zone around it and the infeed point
    at once. ENERGY (BRP) requests buy energy, and one MWh is sold to one of them only.
    """

    GRID = "GRID"
    TSO = "TSO"
    ENERGY = "ENERGY"


class Location(Enum):
    """What the location of a request names."""

    BUS = "BUS"
    ZONE = "ZONE"
    BRANCH = "BRANCH"
    INFEED_POINT = "INFEED_POINT"
    AREA = "AREA"


class UnitKind(Enum):
    """What ties the offers of a unit together."""

    STORAGE = "STORAGE"
    INVERTER = "INVERTER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a price stack or of a demand curve."""

    quantity: Annotated[int, "quantity of this step alone, W or var, > 0"]
    price_milli_per_mwh: Annotated[int, "price, 1/1000 EUR per MWh (Mvarh)"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferSlot:
    """What is offered in one slot."""

    steps: Annotated[tuple[Step, ...], "price stack with rising prices, at most 20; empty = nothing"] = ()
    min_quantity: Annotated[int, "if taken in this slot, at least this, W or var"] = 0
    max_quantity: Annotated[int | None, "cap of this slot (traffic light, limit), W or var; null = none"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BusShare:
    """The fixed share of a portfolio's delivery that happens at one bus."""

    bus_id: Annotated[str, "bus"]
    share_ppm: Annotated[int, "share, millionths; the shares of a portfolio sum to 1 000 000"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Payback:
    """Energy taken comes back in the opposite direction, evenly over a window after each slot."""

    factor_ppm: Annotated[int, "energy coming back per energy taken, millionths"]
    delay_slots: Annotated[int, "slots between the taking and the window, 0 = the next slot"]
    window_slots: Annotated[int, "length of the window, slots; what falls past the horizon is not seen"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StartChoice:
    """A rigid profile that may start in any slot of a window, or not at all."""

    profile: Annotated[tuple[int, ...], "quantity per slot from the start on, W or var"]
    earliest_slot: Annotated[int, "first possible start, slot index from 0"]
    latest_slot: Annotated[int, "last possible start, slot index"]
    price_milli_per_mwh: Annotated[int, "price, 1/1000 EUR per MWh (Mvarh)"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolygonVertex:
    """A corner of a dependency-based slice."""

    energy_before_wh: Annotated[int, "energy delivered in the slots before, Wh"]
    energy_wh: Annotated[int, "energy delivered in this slot, Wh"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolygonSlice:
    """Dependency-based slice: (energy before, energy now) lies in the convex hull of the corners."""

    slot: Annotated[int, "slot index from 0"]
    vertices: Annotated[tuple[PolygonVertex, ...], "corners, at least one"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Flexibility for sale at a bus, or by a portfolio with fixed shares over buses."""

    offer_id: Annotated[str, "identifier, unique in the case"]
    provider_id: Annotated[str, "provider"] = ""
    bus_id: Annotated[str | None, "bus; null for a portfolio"] = None
    shares: Annotated[tuple[BusShare, ...], "shares of a portfolio over buses; empty for an offer at a bus"] = ()
    direction: Annotated[Direction, "UP adds to the injection, DOWN takes from it"]
    quantity: Annotated[Quantity, "active or reactive power"] = Quantity.ACTIVE
    slots: Annotated[tuple[OfferSlot, ...], "one entry per slot of the case; empty with a start choice"] = ()
    tan_phi_ppm: Annotated[int, "reactive per active change of injection, millionths (active offers)"] = 0
    min_energy_wh: Annotated[int | None, "if taken, at least this over all slots, Wh or varh"] = None
    max_energy_wh: Annotated[int | None, "at most this over all slots, Wh or varh"] = None
    all_or_nothing: Annotated[bool, "block: every slot in full, or nothing"] = False
    exclusive_group_id: Annotated[str | None, "at most one offer of a group is taken"] = None
    parent_offer_id: Annotated[str | None, "taken only if this offer is taken"] = None
    max_run_slots: Annotated[int | None, "most consecutive slots with any delivery"] = None
    min_rest_slots: Annotated[int, "least slots without delivery between two runs"] = 0
    max_rise: Annotated[int | None, "largest rise from one slot to the next, W or var"] = None
    max_fall: Annotated[int | None, "largest fall from one slot to the next, W or var"] = None
    payback: Annotated[Payback | None, "energy that comes back afterwards; null = none"] = None
    start_choice: Annotated[StartChoice | None, "rigid profile with a choice of start; null = none"] = None
    polygons: Annotated[tuple[PolygonSlice, ...], "dependency-based slices; empty = none"] = ()
    unit_id: Annotated[str | None, "unit (storage, inverter) that the offer belongs to"] = None
    reservation_price_milli_per_mwh: Annotated[
        tuple[int, ...],
        "STOCHASTIC: price of holding a unit ready, per slot, 1/1000 EUR per MW (Mvar) and hour; empty = for nothing",
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A storage or an inverter whose offers share one state or one capability.

    STORAGE: UP offers discharge, DOWN offers charge; the stored energy stays within its bounds in every slot.
    INVERTER: active and reactive offers together stay inside the apparent power circle and the tan phi cone.
    """

    unit_id: Annotated[str, "identifier, unique in the case"]
    kind: Annotated[UnitKind, "storage or inverter"]
    initial_energy_wh: Annotated[int, "stored before the first slot, Wh (STORAGE)"] = 0
    min_energy_wh: Annotated[int, "least stored, Wh (STORAGE)"] = 0
    max_energy_wh: Annotated[int, "most stored, Wh (STORAGE)"] = 0
    min_final_energy_wh: Annotated[int | None, "least stored after the last slot, Wh (STORAGE)"] = None
    charge_efficiency_ppm: Annotated[int, "stored per drawn, millionths (STORAGE)"] = 1_000_000
    discharge_efficiency_ppm: Annotated[int, "fed in per taken from the store, millionths (STORAGE)"] = 1_000_000
    self_discharge_ppm_per_h: Annotated[int, "lost per hour, millionths of what is stored (STORAGE)"] = 0
    baseline_power_w: Annotated[tuple[int, ...], "power without flexibility per slot, W; empty = zero"] = ()
    baseline_reactive_power_var: Annotated[tuple[int, ...], "reactive power without it per slot, var; empty = 0"] = ()
    max_apparent_power_va: Annotated[int | None, "circle, VA (INVERTER); null = none"] = None
    max_tan_phi_ppm: Annotated[int | None, "cone |Q| <= tan phi x |P|, millionths (INVERTER); null = none"] = None

    def kept(self, hours: float) -> float:
        """Return the share of what is stored that a slot leaves: over a day the same, whatever its slots.

        Args:
            hours: length of the slot, h.
        """
        return float((1 - self.self_discharge_ppm_per_h / 1e6) ** hours)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSlot:
    """What is asked for in one slot."""

    steps: Annotated[tuple[Step, ...], "demand curve with falling prices; empty = nothing"] = ()
    min_quantity: Annotated[int, "less than this is of no use, W or var; 0 = any part"] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Flexibility that somebody wants to buy.

    At a BUS, in a ZONE or in the AREA the request counts the flexibility taken there; over a BRANCH or at an
    INFEED_POINT it counts the change of the AC flow against the baseline, UP = less flow from the infeed side.
    """

    request_id: Annotated[str, "identifier, unique in the case"]
    requester_id: Annotated[str, "party that asks"] = ""
    kind: Annotated[RequestKind, "grid need, TSO need or energy"] = RequestKind.GRID
    quantity: Annotated[Quantity, "active or reactive power"] = Quantity.ACTIVE
    direction: Annotated[Direction, "UP = more feed-in or less draw"]
    location_kind: Annotated[Location, "what the location names"]
    location_id: Annotated[str, "bus, zone, branch, infeed point; empty for the area"] = ""
    slots: Annotated[tuple[RequestSlot, ...], "one entry per slot of the case"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InfeedPrice:
    """What a MWh from an infeed point costs; without an entry the infeed point's own price holds."""

    infeed_id: Annotated[str, "infeed point"]
    price_milli_per_mwh: Annotated[tuple[int, ...], "price per slot, 1/1000 EUR per MWh, may be negative"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitPrice:
    """What keeping one limit, or every limit of a kind, is worth; a named element goes before its kind."""

    kind: Annotated[LimitKind, "kind of limit"]
    element_id: Annotated[str | None, "bus, branch, infeed point; null = every limit of the kind"] = None
    price_milli: Annotated[int, "1/1000 EUR per MVA, MW or (voltage) pu of violation and hour"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedAward:
    """An award of an earlier phase that stands: its delivery is part of every state of the grid."""

    award_id: Annotated[str, "identifier, unique in the case"]
    bus_id: Annotated[str | None, "bus; null for a portfolio"] = None
    shares: Annotated[tuple[BusShare, ...], "shares of a portfolio over buses"] = ()
    direction: Annotated[Direction, "UP adds to the injection, DOWN takes from it"]
    quantity: Annotated[Quantity, "active or reactive power"] = Quantity.ACTIVE
    power: Annotated[tuple[int, ...], "delivery per slot, W or var"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One way the day may go, and how likely it is (STOCHASTIC)."""

    scenario_id: Annotated[str, "identifier, unique in the case"]
    probability_ppm: Annotated[int, "probability, millionths; those of a case sum to 1 000 000"]
    injections: Annotated[
        tuple[BusInjection, ...], "net injection per slot, in place of the baseline at these buses"
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Prices of violated limits, margins and quanta; every number that is not physics."""

    voltage_price_milli_per_puh: Annotated[
        int, "worth of keeping a bus in its voltage band, 1/1000 EUR per pu of violation and hour"
    ] = 100_000_000
    loading_price_milli_per_mwh: Annotated[
        int, "worth of keeping a branch or infeed point at its limit, 1/1000 EUR per MVA of violation and hour"
    ] = 3_000_000
    price_cap_milli_per_mwh: Annotated[
        int | None,
        "most that is paid, or (negative) taken, per MWh beyond an accepted bid, whatever its worth; null = none",
    ] = None
    voltage_margin_ppm: Annotated[int, "taken off both ends of every voltage band, millionths of nominal"] = 0
    loading_margin_ppm: Annotated[int, "taken off every thermal limit, millionths of the limit"] = 0
    quantity_step_w: Annotated[
        int,
        "awards are multiples of this, W or var, except full steps and offers with a unit, ramp, slice or least energy",
    ] = 1
    max_repair_steps: Annotated[int, "most linear programs per slot group in the repair"] = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One clearing problem: grid, baseline, demand, supply, rules."""

    case_id: Annotated[str, "label: session or file; part of the hash"] = ""
    network: Annotated[NetworkModelPublished, "the grid"]
    start_ms: Annotated[int, "start of the first slot, UTC ms"]
    resolution_s: Annotated[int, "length of a slot: 300, 900, 1800 or 3600 s"]
    slots: Annotated[int, "number of slots, 1 to 192"]
    baseline: Annotated[tuple[BusInjection, ...], "net injection per bus and slot; absent buses are at zero"]
    infeed_prices: Annotated[tuple[InfeedPrice, ...], "prices of energy at infeed points"] = ()
    offers: Annotated[tuple[Offer, ...], "supply"] = ()
    requests: Annotated[tuple[Request, ...], "explicit demand"] = ()
    limit_prices: Annotated[tuple[LimitPrice, ...], "worth of limits where the settings' do not hold"] = ()
    units: Annotated[tuple[Unit, ...], "storages and inverters that tie offers together"] = ()
    fixed_awards: Annotated[tuple[FixedAward, ...], "awards of earlier phases that stand"] = ()
    scenarios: Annotated[tuple[Scenario, ...], "STOCHASTIC: the ways the day may go, at most 20"] = ()
    phase: Annotated[Phase, "what the clearing is for"] = Phase.DAY_AHEAD
    pricing_rule: Annotated[PricingRule, "how awards are priced"] = PricingRule.NODAL
    settings: Annotated[Settings, "prices of violated limits, margins, quanta"] = field(default_factory=Settings)
