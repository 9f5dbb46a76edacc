"""Seeded scenarios of a converted day: forecasts miss sun, wind and load, and they miss whole days, not quarters."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from clearing.case import Case, Offer, Phase, Scenario
from clearing.convert.market import EUR, baseline_of
from clearing.convert.units import ConnectedUnit
from flexbus.events.assets import AssetKind
from flexbus.quantities import PPM

__all__ = ["with_scenarios"]

# How far a day may be off its forecast (standard deviation), by what drives it.
SPREAD = {AssetKind.PV: 0.25, AssetKind.WIND: 0.3}
SPREAD_OF_LOAD = 0.08


def with_scenarios(case: Case, units: Sequence[ConnectedUnit], *, scenarios: int, seed: int = 0) -> Case:
    """Return a two-stage case: equally likely days around the forecast, and offers that ask to be held ready.

    Args:
        case: a converted case.
        units: what is connected, with its forecast.
        scenarios: number of scenarios.
        seed: of the random choices.
    """
    rng = Random(f"{seed} scenarios")
    made = []
    for k in range(scenarios):
        drawn = {kind: max(0.0, rng.gauss(1, spread)) for kind, spread in SPREAD.items()}
        load = max(0.0, rng.gauss(1, SPREAD_OF_LOAD))
        day = [_scaled(unit, drawn.get(unit.kind, load)) for unit in units]
        ppm = PPM // scenarios + (PPM % scenarios if k == 0 else 0)
        made.append(Scenario(scenario_id=f"day-{k + 1:02d}", probability_ppm=ppm, injections=baseline_of(day)))
    return replace(
        case,
        case_id=f"{case.case_id}, {scenarios} scenarios",
        offers=tuple(_held(offer, case.slots, rng) for offer in case.offers),
        scenarios=tuple(made),
        phase=Phase.STOCHASTIC,
    )


def _scaled(unit: ConnectedUnit, factor: float) -> ConnectedUnit:
    most = max(unit.rated_power_va, max(map(abs, unit.power_w), default=0))
    return replace(
        unit,
        power_w=tuple(max(-most, min(most, round(p * factor))) for p in unit.power_w),
        reactive_power_var=tuple(round(q * factor) for q in unit.reactive_power_var),
    )


def _held(offer: Offer, slots: int, rng: Random) -> Offer:
    price = round(rng.uniform(0.5, 6) * EUR)
    held = () if offer.all_or_nothing else (price,) * slots
    return replace(offer, reservation_price_milli_per_mwh=held)
