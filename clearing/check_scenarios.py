"""What scenarios and reservation prices must satisfy before a two-stage auction is cleared."""

from collections.abc import Iterator

from clearing.case import Case, Phase, Scenario
from flexbus.errors import Fault, FaultCode
from flexbus.quantities import MAX_POWER_W, MAX_PRICE_MILLI_PER_MWH, PPM

__all__ = ["MAX_SCENARIOS", "scenario_faults"]

MAX_SCENARIOS = 20


def scenario_faults(case: Case) -> Iterator[Fault]:
    """Yield every fault of scenarios and of the reservation prices of offers."""
    if case.phase is not Phase.STOCHASTIC:
        if case.scenarios:
            yield _fault(FaultCode.BAD_VALUE, "$.scenarios", "belong to phase STOCHASTIC")
        for k, offer in enumerate(case.offers):
            if offer.reservation_price_milli_per_mwh:
                path = f"$.offers[{k}].reservation_price_milli_per_mwh"
                yield _fault(FaultCode.BAD_VALUE, path, "belongs to phase STOCHASTIC")
        return
    if not 1 <= len(case.scenarios) <= MAX_SCENARIOS:
        yield _fault(FaultCode.BAD_SERIES, "$.scenarios", f"{len(case.scenarios)} of them; 1 to {MAX_SCENARIOS}")
    total = sum(s.probability_ppm for s in case.scenarios)
    if total != PPM:
        yield _fault(FaultCode.BAD_VALUE, "$.scenarios", f"probabilities sum to {total} ppm, not to 1000000")
    first: dict[str, int] = {}
    for k, scenario in enumerate(case.scenarios):
        here, name = f"$.scenarios[{k}]", scenario.scenario_id
        if not name:
            yield _fault(FaultCode.BAD_VALUE, f"{here}.scenario_id", "is empty")
        elif name in first:
            message = f"{name} is also that of $.scenarios[{first[name]}]"
            yield _fault(FaultCode.DUPLICATE_ID, f"{here}.scenario_id", message)
        first.setdefault(name, k)
        if not 0 < scenario.probability_ppm <= PPM:
            message = f"{scenario.probability_ppm} is not within 1..1000000"
            yield _fault(FaultCode.BAD_VALUE, f"{here}.probability_ppm", message)
        yield from _injections(case, scenario, here)
    yield from _offers(case)


def _injections(case: Case, scenario: Scenario, here: str) -> Iterator[Fault]:
    buses = {b.bus_id for b in case.network.buses}
    seen: set[str] = set()
    for n, entry in enumerate(scenario.injections):
        at = f"{here}.injections[{n}]"
        if entry.bus_id not in buses:
            yield _fault(FaultCode.UNKNOWN_ELEMENT, f"{at}.bus_id", f"no bus has the id {entry.bus_id!r}")
        if entry.bus_id in seen:
            yield _fault(FaultCode.DUPLICATE_ID, f"{at}.bus_id", f"{entry.bus_id} has injections already")
        seen.add(entry.bus_id)
        for name in ("power_w", "reactive_power_var"):
            values = getattr(entry, name)
            if len(values) != case.slots:
                message = f"has {len(values)} entries, the case has {case.slots} slots"
                yield _fault(FaultCode.BAD_SERIES, f"{at}.{name}", message)
            if any(abs(v) > MAX_POWER_W for v in values):
                yield _fault(FaultCode.BAD_QUANTITY, f"{at}.{name}", "is beyond 100 GW")


def _offers(case: Case) -> Iterator[Fault]:
    for k, offer in enumerate(case.offers):
        here = f"$.offers[{k}]"
        prices, at = offer.reservation_price_milli_per_mwh, f"{here}.reservation_price_milli_per_mwh"
        if not prices:
            continue
        if offer.all_or_nothing or offer.start_choice is not None:
            message = "a block or profile is called whole or not at all: ask for what holding it costs in its price"
            yield _fault(FaultCode.BAD_VALUE, at, message)
        if len(prices) != case.slots:
            message = f"has {len(prices)} entries, the case has {case.slots} slots"
            yield _fault(FaultCode.BAD_SERIES, at, message)
        for t, price in enumerate(prices):
            if not 0 <= price <= MAX_PRICE_MILLI_PER_MWH:
                yield _fault(FaultCode.BAD_PRICE, f"{at}[{t}]", f"{price} is not within 0..1 million EUR per MWh")


def _fault(code: FaultCode, path: str, message: str) -> Fault:
    return Fault(code=code, path=path, message=message)
