"""The grid as the clearing sees it: topology, limits, infeed points and the forecast of net injections."""

from dataclasses import dataclass
from enum import Enum
from typing import Annotated

__all__ = [
    "Branch",
    "BranchKind",
    "Bus",
    "BusInjection",
    "ForecastScenario",
    "InfeedPoint",
    "NetForecastPublished",
    "NetworkModelPublished",
]


class BranchKind(Enum):
    """What a branch is; the power flow treats all alike, the picture and the reasons do not."""

    LINE = "LINE"
    TRANSFORMER = "TRANSFORMER"
    SWITCH = "SWITCH"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bus:
    """A node of the grid, with its voltage band and fixed shunts."""

    bus_id: Annotated[str, "identifier of the bus, unique in the area"]
    name: Annotated[str, "name for people"] = ""
    nominal_voltage_v: Annotated[int, "line-to-line nominal voltage, V"]
    min_voltage_ppm: Annotated[int, "lower voltage limit, millionths of nominal"]
    max_voltage_ppm: Annotated[int, "upper voltage limit, millionths of nominal"]
    shunt_g_s: Annotated[float, "conductance of fixed shunts at the bus, siemens"] = 0.0
    shunt_b_s: Annotated[float, "susceptance of fixed shunts at the bus, siemens, positive = capacitive"] = 0.0
    zone_id: Annotated[str | None, "zone for requests and uniform prices, if any"] = None
    x: Annotated[float | None, "position on the drawing, any unit, eastward"] = None
    y: Annotated[float | None, "position on the drawing, any unit, northward"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """A line, transformer or switch as pi model with an ideal transformer at its from side."""

    branch_id: Annotated[str, "identifier of the branch, unique in the area"]
    name: Annotated[str, "name for people"] = ""
    kind: Annotated[BranchKind, "line, transformer or switch"]
    from_bus_id: Annotated[str, "bus at the from side (side of the ideal transformer)"]
    to_bus_id: Annotated[str, "bus at the to side (side of the impedance)"]
    r_ohm: Annotated[float, "series resistance referred to the to side, ohm; 0 for zero-impedance branches"]
    x_ohm: Annotated[float, "series reactance referred to the to side, ohm; 0 for zero-impedance branches"]
    g_s: Annotated[float, "total shunt conductance referred to the to side, half at each end, siemens"] = 0.0
    b_s: Annotated[float, "total shunt susceptance referred to the to side, half at each end, siemens"] = 0.0
    ratio: Annotated[float, "off-nominal turns ratio at the from side, per unit of the nominal ratio"] = 1.0
    shift_deg: Annotated[float, "phase shift at the from side, degrees"] = 0.0
    closed: Annotated[bool, "false = open, carries nothing"] = True
    max_current_ma: Annotated[int | None, "thermal limit at the to side, mA; null = none"] = None
    max_from_current_ma: Annotated[int | None, "thermal limit at the from side, mA; null = none"] = None
    max_apparent_power_va: Annotated[int | None, "limit of apparent power at both ends, VA; null = none"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InfeedPoint:
    """A point where an upstream grid holds the voltage and takes the balance (root, slack)."""

    infeed_id: Annotated[str, "identifier of the infeed point, unique in the area"]
    bus_id: Annotated[str, "bus of the infeed point"]
    voltage_ppm: Annotated[int, "voltage held at the bus, millionths of nominal"]
    angle_deg: Annotated[float, "voltage angle held at the bus, degrees"] = 0.0
    max_import_w: Annotated[int | None, "most power drawn from the upstream grid, W >= 0; null = no limit"] = None
    max_export_w: Annotated[int | None, "most power fed to the upstream grid, W >= 0; null = no limit"] = None
    import_price_milli_per_mwh: Annotated[int, "price of energy at the infeed point, 1/1000 EUR per MWh"] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkModelPublished:
    """The DSO published the network of a market area (FLEXGRID D2.1 5.1.1 step 1)."""

    area_id: Annotated[str, "market area"]
    network_id: Annotated[str, "identifier of the network model"]
    revision: Annotated[int, "revision, rising; the newest before a gate counts"]
    name: Annotated[str, "name for people"] = ""
    valid_from_ms: Annotated[int, "start of validity, UTC ms"]
    buses: Annotated[tuple[Bus, ...], "all buses"]
    branches: Annotated[tuple[Branch, ...], "all branches"]
    infeed_points: Annotated[tuple[InfeedPoint, ...], "all infeed points, at least one"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BusInjection:
    """The expected net injection of one bus without flexibility, per slot."""

    bus_id: Annotated[str, "bus"]
    power_w: Annotated[tuple[int, ...], "active power per slot, W, positive = feed-in"]
    reactive_power_var: Annotated[tuple[int, ...], "reactive power per slot, var, positive = feed-in"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastScenario:
    """One way the day may go, and how likely it is."""

    scenario_id: Annotated[str, "identifier, unique in the forecast"]
    probability_ppm: Annotated[int, "probability, millionths; those of a forecast sum to 1 000 000"]
    injections: Annotated[
        tuple[BusInjection, ...], "in place of the forecast's own at these buses; empty = as these"
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NetForecastPublished:
    """The DSO published the forecast of net injections per bus (FLEXGRID D2.1 5.1.1 step 2)."""

    area_id: Annotated[str, "market area"]
    forecast_id: Annotated[str, "identifier of the forecast"]
    revision: Annotated[int, "revision, rising"]
    network_id: Annotated[str, "network model the buses belong to"]
    issued_at_ms: Annotated[int, "when the forecast was made, UTC ms"]
    start_ms: Annotated[int, "start of the first slot, UTC ms"]
    resolution_s: Annotated[int, "length of a slot, s"]
    injections: Annotated[tuple[BusInjection, ...], "one entry per bus that is not always zero"]
    scenarios: Annotated[
        tuple[ForecastScenario, ...], "ways the day may go, at most 20, for auctions of phase STOCHASTIC; empty = one"
    ] = ()
