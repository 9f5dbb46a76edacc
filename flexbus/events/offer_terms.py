"""What ties the slots of an offer together, or makes it more than active power per slot: the terms of an offer.

A plain offer has none of them and pays one byte for it. Source: FLEXGRID D2.1 4.1, 5.1.1; BeFlexible D3.1 SUC06.1;
the FlexOffer specification (profile with start choice, dependency-based slices).
"""

from dataclasses import dataclass
from typing import Annotated

__all__ = [
    "Inverter",
    "OfferTerms",
    "Payback",
    "PolygonSlice",
    "PolygonVertex",
    "ReactiveOffer",
    "ReactiveSlot",
    "ReactiveStep",
    "StartChoice",
    "Storage",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReactiveStep:
    """One step of a price stack, or of a demand curve, of reactive power."""

    reactive_power_var: Annotated[int, "quantity of this step, var > 0"]
    price_milli_per_mvarh: Annotated[int, "price, 1/1000 EUR per Mvarh"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReactiveSlot:
    """Reactive power that is offered, or asked for, in one slot."""

    steps: Annotated[tuple[ReactiveStep, ...], "offers: cheapest first; requests: dearest first; empty = nothing"]
    min_reactive_power_var: Annotated[int, "if any, at least this much, var; 0 = any part"] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReactiveOffer:
    """Reactive power for sale: UP is more feed-in of var, DOWN more draw; the offer's own `slots` stay empty."""

    slots: Annotated[tuple[ReactiveSlot, ...], "one entry per slot"]
    min_energy_varh: Annotated[int | None, "if taken, at least this over all slots, varh"] = None
    max_energy_varh: Annotated[int | None, "at most this over all slots, varh"] = None
    max_rise_var: Annotated[int | None, "largest rise from one slot to the next, var"] = None
    max_fall_var: Annotated[int | None, "largest fall from one slot to the next, var"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Payback:
    """Rebound: what was taken comes back in the opposite direction, evenly over a window after each slot."""

    factor_ppm: Annotated[int, "energy coming back per energy taken, millionths"]
    delay_slots: Annotated[int, "slots between the taking and the window; 0 = it begins in the next slot"] = 0
    window_slots: Annotated[int, "length of the window, slots; what falls past the session is not seen"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StartChoice:
    """A rigid profile that starts in one slot of a window, in full, or not at all; `slots` stay empty.

    The window begins at the offer's `start_ms`. The award begins at the start that was chosen.
    """

    profile_w: Annotated[tuple[int, ...], "quantity per slot from the start on, W; first and last > 0"]
    latest_start_ms: Annotated[int, "last possible start, UTC ms"]
    price_milli_per_mwh: Annotated[int, "least the provider wants per MWh, 1/1000 EUR per MWh"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolygonVertex:
    """A corner of a dependency-based slice."""

    energy_before_wh: Annotated[int, "energy delivered in the slots before, Wh"]
    energy_wh: Annotated[int, "energy delivered in this slot, Wh"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolygonSlice:
    """Dependency-based slice: (energy before, energy now) lies in the convex hull of the corners."""

    slot: Annotated[int, "slot of the offer, from 0"]
    vertices: Annotated[tuple[PolygonVertex, ...], "corners, 1 to 64"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """A storage whose UP offers discharge and whose DOWN offers charge it; what it stores stays within its bounds."""

    initial_energy_wh: Annotated[int, "stored when the session's delivery begins, Wh"]
    min_energy_wh: Annotated[int, "least stored, Wh"] = 0
    max_energy_wh: Annotated[int, "most stored, Wh"]
    min_final_energy_wh: Annotated[int | None, "least stored when the delivery ends, Wh; null = min_energy_wh"] = None
    charge_efficiency_ppm: Annotated[int, "stored per drawn, millionths"] = 1_000_000
    discharge_efficiency_ppm: Annotated[int, "fed in per taken from the store, millionths"] = 1_000_000
    self_discharge_ppm_per_h: Annotated[int, "lost per hour, millionths of what is stored"] = 0
    baseline_power_w: Annotated[
        tuple[int, ...], "power without flexibility per slot of the session, W, positive = feed-in; empty = zero"
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Inverter:
    """An inverter: its active and reactive offers together stay in its circle and in its tan phi cone."""

    max_apparent_power_va: Annotated[int | None, "circle, VA; null = none"] = None
    max_tan_phi_ppm: Annotated[int | None, "cone |Q| <= tan phi x |P|, millionths; null = none"] = None
    baseline_power_w: Annotated[
        tuple[int, ...], "power without flexibility per slot of the session, W, positive = feed-in; empty = zero"
    ] = ()
    baseline_reactive_power_var: Annotated[
        tuple[int, ...], "reactive power without, per slot of the session, var, positive = feed-in; empty = zero"
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferTerms:
    """What is particular to an offer beside its stacks; every field may be left out."""

    reactive: Annotated[ReactiveOffer | None, "reactive power in place of active power; null = active"] = None
    start_choice: Annotated[StartChoice | None, "rigid profile with a choice of start in place of stacks"] = None
    tan_phi_ppm: Annotated[int, "reactive per active change of injection, millionths, may be negative"] = 0
    max_run_slots: Annotated[int | None, "most consecutive slots with any delivery; null = any"] = None
    min_rest_slots: Annotated[int, "least slots without delivery between two runs"] = 0
    max_rise_w: Annotated[int | None, "largest rise from one slot to the next, W; null = any"] = None
    max_fall_w: Annotated[int | None, "largest fall from one slot to the next, W; null = any"] = None
    payback: Annotated[Payback | None, "energy that comes back afterwards; null = none"] = None
    polygons: Annotated[tuple[PolygonSlice, ...], "dependency-based slices, at most one per slot"] = ()
    unit_id: Annotated[str | None, "the provider's storage or inverter that the offer belongs to; null = none"] = None
    storage: Annotated[Storage | None, "what the unit is; the newest accepted before the gate counts"] = None
    inverter: Annotated[Inverter | None, "what the unit is; the newest accepted before the gate counts"] = None
    reservation_price_milli_per_mwh: Annotated[
        tuple[int, ...],
        "STOCHASTIC: per slot, what holding one MW (Mvar) ready for an hour costs, 1/1000 EUR per MWh (Mvarh)",
    ] = ()
