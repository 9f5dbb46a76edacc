"""What a network must satisfy before anything is cleared on it."""

import math
from collections import Counter
from collections.abc import Iterator

from clearing.check_parts import duplicates, fault, number
from clearing.check_values import unfit_values
from flexbus.errors import Fault, FaultCode
from flexbus.events.grid import NetworkModelPublished
from flexbus.quantities import MAX_POWER_W, MAX_PRICE_MILLI_PER_MWH, PPM

__all__ = ["check_network"]

# Anything past these is a slip of unit or hostile: no distribution grid has such elements.
MAX_IMPEDANCE_OHM = 1e6
MAX_ADMITTANCE_S = 1e6
MAX_CURRENT_MA = 1_000_000_000


def check_network(net: NetworkModelPublished) -> Iterator[Fault]:
    """Yield every fault of a network; paths are those in a case."""
    at = "$.network"
    unfit = tuple(unfit_values(at, net))
    if unfit:
        yield from unfit
        return
    yield from duplicates((b.bus_id for b in net.buses), f"{at}.buses", "bus_id")
    yield from duplicates((b.branch_id for b in net.branches), f"{at}.branches", "branch_id")
    yield from duplicates((p.infeed_id for p in net.infeed_points), f"{at}.infeed_points", "infeed_id")
    nominal = {b.bus_id: b.nominal_voltage_v for b in net.buses}
    for k, bus in enumerate(net.buses):
        here = f"{at}.buses[{k}]"
        if not 0 < bus.nominal_voltage_v <= 1_000_000:
            yield fault(FaultCode.BAD_VALUE, f"{here}.nominal_voltage_v", f"{bus.nominal_voltage_v} V is no grid")
        if not 0 <= bus.min_voltage_ppm < bus.max_voltage_ppm <= 2 * PPM:
            yield fault(
                FaultCode.BAD_VALUE,
                f"{here}.max_voltage_ppm",
                f"the band {bus.min_voltage_ppm}..{bus.max_voltage_ppm} ppm is empty or not within 0..2 pu",
            )
        for name in ("shunt_g_s", "shunt_b_s"):
            yield from number(getattr(bus, name), f"{here}.{name}", MAX_ADMITTANCE_S)
    for k, branch in enumerate(net.branches):
        here = f"{at}.branches[{k}]"
        ends = {}
        for name in ("from_bus_id", "to_bus_id"):
            ends[name] = nominal.get(getattr(branch, name))
            if ends[name] is None:
                yield fault(FaultCode.UNKNOWN_ELEMENT, f"{here}.{name}", f"no bus has the id {getattr(branch, name)!r}")
        if branch.from_bus_id == branch.to_bus_id:
            yield fault(FaultCode.BAD_VALUE, f"{here}.to_bus_id", "the branch ends where it starts")
        finite = True
        for name, most in (
            ("r_ohm", MAX_IMPEDANCE_OHM),
            ("x_ohm", MAX_IMPEDANCE_OHM),
            ("g_s", MAX_ADMITTANCE_S),
            ("b_s", MAX_ADMITTANCE_S),
        ):
            found = list(number(getattr(branch, name), f"{here}.{name}", most))
            finite &= not found
            yield from found
        if finite and branch.r_ohm < 0:
            yield fault(FaultCode.BAD_VALUE, f"{here}.r_ohm", f"{branch.r_ohm} ohm: resistance cannot be negative")
        if finite and 0 < math.hypot(branch.r_ohm, branch.x_ohm) < 1e-9:
            yield fault(FaultCode.BAD_VALUE, f"{here}.x_ohm", "is below 1e-9 ohm; write 0 to join the buses")
        if not (math.isfinite(branch.ratio) and 0.2 <= branch.ratio <= 5):
            yield fault(FaultCode.BAD_VALUE, f"{here}.ratio", f"{branch.ratio} is not within 0.2..5")
        if not (math.isfinite(branch.shift_deg) and abs(branch.shift_deg) <= 360):
            yield fault(FaultCode.BAD_VALUE, f"{here}.shift_deg", f"{branch.shift_deg} is not within -360..360")
        if finite and branch.r_ohm == 0 and branch.x_ohm == 0 and branch.closed:
            unequal = ends["from_bus_id"] != ends["to_bus_id"]
            if branch.ratio != 1 or branch.shift_deg != 0 or unequal:
                yield fault(
                    FaultCode.BAD_VALUE,
                    f"{here}.x_ohm",
                    "a zero-impedance branch needs ratio 1, shift 0 and one nominal voltage at both ends",
                )
        for name in ("max_current_ma", "max_from_current_ma", "max_apparent_power_va"):
            value = getattr(branch, name)
            most = MAX_POWER_W if name == "max_apparent_power_va" else MAX_CURRENT_MA
            if value is not None and not 0 < value <= most:
                message = f"{value} is not within 1..{most}; null is no limit"
                yield fault(FaultCode.BAD_VALUE, f"{here}.{name}", message)
    if not net.infeed_points:
        yield fault(FaultCode.MISSING_FIELD, f"{at}.infeed_points", "at least one infeed point is needed")
    for k, point in enumerate(net.infeed_points):
        here = f"{at}.infeed_points[{k}]"
        if point.bus_id not in nominal:
            yield fault(FaultCode.UNKNOWN_ELEMENT, f"{here}.bus_id", f"no bus has the id {point.bus_id!r}")
        if not 500_000 <= point.voltage_ppm <= 1_500_000:
            yield fault(FaultCode.BAD_VALUE, f"{here}.voltage_ppm", f"{point.voltage_ppm} is not within 0.5..1.5 pu")
        if not (math.isfinite(point.angle_deg) and abs(point.angle_deg) <= 360):
            yield fault(FaultCode.BAD_VALUE, f"{here}.angle_deg", "is not within -360..360")
        for name in ("max_import_w", "max_export_w"):
            value = getattr(point, name)
            if value is not None and not 0 <= value <= MAX_POWER_W:
                message = f"{value} W is not within 0..100 GW; null is no limit"
                yield fault(FaultCode.BAD_VALUE, f"{here}.{name}", message)
        if abs(point.import_price_milli_per_mwh) > MAX_PRICE_MILLI_PER_MWH:
            yield fault(FaultCode.BAD_PRICE, f"{here}.import_price_milli_per_mwh", "is beyond 1 million EUR per MWh")
    at_bus = Counter(p.bus_id for p in net.infeed_points)
    for k, point in enumerate(net.infeed_points):
        if at_bus[point.bus_id] > 1:
            yield fault(
                FaultCode.DUPLICATE_ID,
                f"{at}.infeed_points[{k}].bus_id",
                f"bus {point.bus_id} has several infeed points; join them into one",
            )
