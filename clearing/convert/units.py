"""What is connected to a grid on a day, and the made-up day of grids that have no profiles of their own."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from clearing.convert.errors import ConversionError
from flexbus.events.assets import AssetKind

__all__ = ["ConnectedUnit", "daylight", "evening", "on_the_clock", "static_unit", "thin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectedUnit:
    """A load, generator or storage of the grid on the chosen day.

    Args:
        unit_id: identifier, unique in the grid ("load12").
        name: name for people.
        bus_id: bus it is connected to.
        kind: technology as far as the source tells it.
        profile: profile of the source ("H0-A", "PV5", "lv_rural1"; SimBench's lv_... stand for a whole low-voltage
            grid); empty = none.
        rated_power_va: rating, VA.
        power_w: expected power per slot, W, positive = feed-in.
        reactive_power_var: expected reactive power per slot, var, positive = feed-in.
    """

    unit_id: str
    name: str
    bus_id: str
    kind: AssetKind
    profile: str
    rated_power_va: int
    power_w: tuple[int, ...]
    reactive_power_var: tuple[int, ...]


Units = tuple[ConnectedUnit, ...]


def daylight(hour: float) -> float:
    """Sun over the hours of a day, 0..1: a bell around 13:00."""
    return max(0.0, math.cos((hour % 24 - 13) / 14 * math.pi)) if 6 < hour % 24 < 20 else 0.0


def evening(hour: float) -> float:
    """Evening peak over the hours of a day, 0..1, around 19:00."""
    return math.exp(-(((hour % 24 - 19) / 2.5) ** 2))


# Load and sun of the two made-up days, as shares of the stored values.
DAYS = {"winter": (1.0, 0.25), "sunny": (0.55, 1.0)}


def static_unit(
    *, unit_id: str, name: str, bus_id: str, power_va: complex, generation: bool, day: str
) -> ConnectedUnit:
    """Return a unit with a made-up day around its stored value.

    Args:
        unit_id: identifier.
        name: name for people.
        bus_id: bus.
        power_va: stored injection, VA, positive = feed-in.
        generation: follows the sun rather than the habits of people.
        day: winter (full load, little sun) or sunny (less load, full sun).

    Raises:
        ConversionError: the day is neither.
    """
    if day not in DAYS:
        raise ConversionError(unit_id, [f"day {day!r}: a grid without profiles has only winter and sunny"])
    load, sun = DAYS[day]
    hours = [k / 4 for k in range(96)]
    if generation:
        shape = [sun * daylight(h) for h in hours]
    else:
        shape = [load * (0.5 + 0.2 * daylight(h) + 0.5 * evening(h)) for h in hours]
        top = max(shape)
        shape = [load * s / top for s in shape]
    return ConnectedUnit(
        unit_id=unit_id,
        name=name,
        bus_id=bus_id,
        kind=AssetKind.PV if generation else AssetKind.LOAD,
        profile="",
        rated_power_va=round(abs(power_va)),
        power_w=tuple(round(power_va.real * s) for s in shape),
        reactive_power_var=tuple(round(power_va.imag * s) for s in shape),
    )


def thin(units: Iterable[ConnectedUnit], slots: int, resolution_s: int) -> tuple[int, Units]:
    """Bring quarter-hours to slots of another length, and cut the window of greatest stress if there are fewer.

    Args:
        units: with equally many quarter-hours each.
        slots: number of slots that are kept.
        resolution_s: 300 (each quarter-hour three times), 900, 1800 or 3600 s (averages).

    Returns:
        The first slot that is kept, and the units.

    Raises:
        ConversionError: more slots than there are, or none.
    """
    all_units = tuple(units)
    have = len(all_units[0].power_w) if all_units else slots
    step = resolution_s // 900
    if step != 1:
        all_units = tuple(_map(u, lambda s: _means(s, step) if step else _thrice(s)) for u in all_units)
        have = len(all_units[0].power_w) if all_units else slots
    if not 1 <= slots <= have:
        raise ConversionError("slots", [f"{slots} slots asked for, there are {have}"])
    if slots == have:
        return 0, all_units
    totals = [abs(sum(u.power_w[t] for u in all_units)) for t in range(have)]
    start = min(max(0, totals.index(max(totals)) - slots // 2), have - slots)
    return start, tuple(_map(u, lambda s: s[start : start + slots]) for u in all_units)


def on_the_clock(units: Iterable[ConnectedUnit], quarters: Sequence[int]) -> Units:
    """Return units whose quarter-hours are those of a clock, over and over.

    Args:
        units: with whole days of quarter-hours by the clock.
        quarters: number of the quarter-hour by the clock of each that is wanted; past their end they begin again.
    """
    return tuple(_map(u, lambda s: tuple(s[q % len(s)] for q in quarters)) for u in units)


def _means(series: tuple[int, ...], step: int) -> tuple[int, ...]:
    return tuple(round(sum(series[k : k + step]) / step) for k in range(0, len(series) - step + 1, step))


def _thrice(series: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(value for value in series for _ in range(3))


def _map(unit: ConnectedUnit, change: Callable[[tuple[int, ...]], tuple[int, ...]]) -> ConnectedUnit:
    return replace(unit, power_w=change(unit.power_w), reactive_power_var=change(unit.reactive_power_var))
