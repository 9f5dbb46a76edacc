"""Congestion forecasts, the needs that follow, and the flex requests they become (HEDGE-IoT SUC-FI-02.06)."""

from dataclasses import dataclass
from enum import Enum
from typing import Annotated

from flexbus.events.flex_offer import PriceStep
from flexbus.events.offer_terms import ReactiveSlot
from flexbus.quantities import Direction

__all__ = [
    "CongestionForecastReceived",
    "CongestionKind",
    "DemandSlot",
    "FlexRequest",
    "FlexRequestAmended",
    "FlexRequestExpired",
    "FlexRequestSubmitted",
    "FlexRequestWithdrawn",
    "LocationKind",
    "NeedComputed",
    "NeedNotTradable",
    "NeedState",
    "ProcurementState",
    "ProcurementStatusChanged",
    "RequestMissedGate",
]


class CongestionKind(Enum):
    """What limit is about to be violated."""

    THERMAL = "THERMAL"
    VOLTAGE = "VOLTAGE"


class LocationKind(Enum):
    """What the location of a request names."""

    BUS = "BUS"
    ZONE = "ZONE"
    BRANCH = "BRANCH"
    INFEED_POINT = "INFEED_POINT"
    AREA = "AREA"


class NeedState(Enum):
    """State of a need."""

    OPEN = "OPEN"
    COVERED = "COVERED"
    UNCOVERED = "UNCOVERED"
    GONE = "GONE"


class ProcurementState(Enum):
    """State of a request on its way to procurement (HEDGE-19)."""

    PLANNED = "PLANNED"
    SUBMITTED = "SUBMITTED"
    ACKNOWLEDGED = "ACKNOWLEDGED"
    PART_PROCURED = "PART_PROCURED"
    PROCURED = "PROCURED"
    UNPROCURED = "UNPROCURED"
    WITHDRAWN = "WITHDRAWN"
    MISSED = "MISSED"


@dataclass(frozen=True, slots=True, kw_only=True)
class CongestionForecastReceived:
    """A planner forecast the flow over a grid element against its limits (HEDGE E1).

    Flow of an element is positive out of the area towards the upstream grid (export).
    """

    area_id: Annotated[str, "market area"]
    forecast_id: Annotated[str, "identifier of the forecast"]
    revision: Annotated[int, "revision, rising"]
    session_id: Annotated[str | None, "session the need is meant for; null = the next that precedes delivery"] = None
    element_id: Annotated[str, "branch or infeed point (THERMAL) or bus (VOLTAGE)"]
    kind: Annotated[CongestionKind, "thermal or voltage"]
    issued_at_ms: Annotated[int, "when the forecast was made, UTC ms"]
    start_ms: Annotated[int, "start of the first slot, UTC ms"]
    resolution_s: Annotated[int, "length of a slot, s: 300, 900, 1800 or 3600"]
    flow_w: Annotated[tuple[int | None, ...], "flow per slot, W, positive = export; null = missing"] = ()
    limit_import_w: Annotated[int | None, "most import over the element, W > 0 (THERMAL)"] = None
    limit_export_w: Annotated[int | None, "most export over the element, W > 0 (THERMAL)"] = None
    need_up_w: Annotated[tuple[int, ...], "upward need per slot, W >= 0 (VOLTAGE)"] = ()
    need_down_w: Annotated[tuple[int, ...], "downward need per slot, W >= 0 (VOLTAGE)"] = ()
    probability_ppm: Annotated[tuple[int, ...], "probability per slot, millionths; empty = certain"] = ()
    source: Annotated[str, "planning system that made it"] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedComputed:
    """The need of one element and direction, over the slots of a session (HEDGE E2, HEDGE-06..08)."""

    area_id: Annotated[str, "market area"]
    session_id: Annotated[str, "session"]
    element_id: Annotated[str, "branch, infeed point or bus"]
    kind: Annotated[CongestionKind, "thermal or voltage"]
    direction: Annotated[Direction, "UP = more feed-in or less draw"]
    start_ms: Annotated[int, "start of the first slot, UTC ms"]
    resolution_s: Annotated[int, "length of a slot, s"]
    need_w: Annotated[tuple[int, ...], "need per slot, W >= 0"]
    state: Annotated[NeedState, "state"]
    causes: Annotated[tuple[str, ...], "forecast id and revision it follows from"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedNotTradable:
    """A need has no location where flexibility is registered; the DSO must find another measure (HEDGE-09)."""

    area_id: Annotated[str, "market area"]
    session_id: Annotated[str, "session"]
    element_id: Annotated[str, "branch, infeed point or bus"]
    direction: Annotated[Direction, "direction of the need"]
    reason: Annotated[str, "why, for people"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandSlot:
    """What is asked for in one slot at which price: a demand curve with falling prices."""

    steps: Annotated[tuple[PriceStep, ...], "demand curve, dearest first, at most 20; empty = nothing"]
    min_power_w: Annotated[int, "less than this is of no use, W; 0 = any part"] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FlexRequest:
    """What a DSO, TSO or BRP wants to buy, where and at most at which price (HEDGE E3, FLEXGRID FlexRequest)."""

    request_id: Annotated[str, "identifier of the request"]
    revision: Annotated[int, "revision, 1 for the first, rising"]
    session_id: Annotated[str, "session it is meant for"]
    requester_id: Annotated[str, "party that buys"]
    direction: Annotated[Direction, "UP = more feed-in or less draw"]
    location_kind: Annotated[LocationKind, "what the location names"]
    location_id: Annotated[str, "bus, zone, branch, infeed point or area"]
    start_ms: Annotated[int, "start of the first slot, UTC ms"]
    resolution_s: Annotated[int, "length of a slot, s"]
    power_w: Annotated[tuple[int, ...], "quantity per slot, W >= 0; empty for reactive power"]
    min_power_w: Annotated[int, "least quantity that is of use in a slot, W"] = 0
    max_price_milli_per_mwh: Annotated[int, "most the requester pays, 1/1000 EUR per MWh; 0 for reactive power"]
    causes: Annotated[tuple[str, ...], "what it follows from: forecasts, or MANUAL; at most 2,000, never sent out"] = ()
    reason: Annotated[str, "why, for people; mandatory for manual requests; never sent out"] = ""
    curve: Annotated[
        tuple[DemandSlot, ...], "demand curve per slot, adding up to power_w; empty = all at the one price"
    ] = ()
    reactive_slots: Annotated[
        tuple[ReactiveSlot, ...], "reactive power in place of power_w, a demand curve per slot; empty = active power"
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FlexRequestSubmitted:
    """A party asked for flexibility."""

    area_id: Annotated[str, "market area"]
    request: Annotated[FlexRequest, "the request, revision 1"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FlexRequestAmended:
    """The requester replaced its request while the gate was open (FLEXGRID D2.1 4.1 exception 1)."""

    area_id: Annotated[str, "market area"]
    request: Annotated[FlexRequest, "the whole request with a higher revision"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FlexRequestWithdrawn:
    """The requester withdrew its request while the gate was open."""

    area_id: Annotated[str, "market area"]
    request_id: Annotated[str, "identifier of the request"]
    requester_id: Annotated[str, "party that had asked"]
    reason: Annotated[str, "why, for people"] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlexRequestExpired:
    """A request ended with its session without being (fully) met."""

    area_id: Annotated[str, "market area"]
    request_id: Annotated[str, "identifier of the request"]
    requester_id: Annotated[str, "party that had asked"]
    remaining_w: Annotated[tuple[int, ...], "unmet quantity per slot, W"]
    reason: Annotated[str, "why it was not met, for people"]
    remaining_var: Annotated[tuple[int, ...], "unmet reactive power per slot, var; empty for active power"] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestMissedGate:
    """A need arose too late for a session (HEDGE-11)."""

    area_id: Annotated[str, "market area"]
    session_id: Annotated[str, "session that was missed"]
    request_id: Annotated[str, "identifier the request would have had"]
    reason: Annotated[str, "LATE or CONNECTOR_DOWN"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcurementStatusChanged:
    """How far the procurement of a request has come (HEDGE E5)."""

    area_id: Annotated[str, "market area"]
    request_id: Annotated[str, "identifier of the request"]
    requester_id: Annotated[str, "party that had asked"]
    session_id: Annotated[str, "session"]
    state: Annotated[ProcurementState, "state"]
    needed_w: Annotated[tuple[int, ...], "needed per slot, W"]
    procured_w: Annotated[tuple[int, ...], "procured per slot, W"]
    remaining_w: Annotated[tuple[int, ...], "still missing per slot, W"]
    needed_var: Annotated[tuple[int, ...], "reactive power needed per slot, var; empty for active power"] = ()
    procured_var: Annotated[tuple[int, ...], "reactive power procured per slot, var; empty for active power"] = ()
    remaining_var: Annotated[tuple[int, ...], "reactive power still missing per slot, var"] = ()
