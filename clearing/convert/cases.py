"""One function from a source's name to a case: what `flexbus convert` does."""

from datetime import date, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from clearing.case import Case
from clearing.convert.errors import ConversionError
from clearing.convert.market import made_up_market
from clearing.convert.scenarios import with_scenarios
from clearing.convert.units import ConnectedUnit, on_the_clock, thin
from flexbus.events.grid import NetworkModelPublished
from flexbus.time import local_day, slot_starts

__all__ = ["MOST_SLOTS", "RESOLUTIONS_S", "SOURCES", "convert_case"]

SOURCES = ("pandapower", "simbench", "matpower")
# Made-up days of grids without profiles fall on these dates.
DATES = {"winter": date(2026, 1, 21), "sunny": date(2026, 6, 17)}
RESOLUTIONS_S = (300, 900, 1800, 3600)
MOST_SLOTS = 192


def convert_case(
    source: str,
    name: str,
    *,
    day: str = "winter",
    slots: int | None = 96,
    resolution_s: int | None = None,
    time_zone: str = "UTC",
    on: date | None = None,
    offers: int = 50,
    seed: int = 0,
    scenarios: int = 0,
) -> Case:
    """Convert a grid and one day of it, with a made-up market, into a case.

    Args:
        source: pandapower (a JSON file that pandapower saved), simbench (a code) or matpower (a .m file, or the
            name of a case of the installed matpower package).
        name: the file, code or case name.
        day: winter, sunny, or with SimBench a date of its profile year 2016.
        slots: 1 to 192; fewer than the day has are a window around its peak, more go on into the days after it.
            None = the whole day, as far as 192 slots reach.
        resolution_s: length of a slot: 300, 900, 1800 or 3600 s. Without, 96, 48 and 24 slots (of a day of 24 hours)
            are the whole day in 15, 30 or 60 minutes, and another number so many quarter-hours.
        time_zone: the day is a local one of this zone: 92, 96 or 100 quarter-hours long, with its habits by the clock.
        on: date of a made-up day of a grid without profiles; otherwise a winter's or summer's day of 2026.
        offers: number of made-up offers.
        seed: of the made-up market.
        scenarios: number of made-up scenarios of a two-stage auction; 0 = a plain auction.

    Raises:
        ConversionError: what cannot be carried over, each element named.
    """
    zone = _zone(time_zone)
    if resolution_s not in (None, *RESOLUTIONS_S):
        raise ConversionError("resolution", [f"{resolution_s} s; a slot has {', '.join(map(str, RESOLUTIONS_S))} s"])
    if slots is not None and not 1 <= slots <= MOST_SLOTS:
        raise ConversionError("slots", [f"{slots} slots; a case has 1 to {MOST_SLOTS}"])
    days = -(-(slots or 1) * (resolution_s or 900) // 86_400) + 1  # one more than may be needed
    network, units, first_day = _source(source, name, day, on, days)
    if not units:
        raise ConversionError(name, ["nothing is connected to this grid: no load, no generation"])
    local = local_day(first_day, time_zone)
    quarters = local.slots(900)
    if slots is None:
        slots = min(quarters * 900 // (resolution_s or 900), MOST_SLOTS)
    length_s = resolution_s or _whole_day(quarters, slots)
    quarters = max(quarters, -(-slots * length_s // 900))
    starts = slot_starts(local.start_ms, 900, quarters)
    clock = [datetime.fromtimestamp(ms / 1000, zone) for ms in starts]
    by_clock = [(c.date() - first_day).days * 96 + c.hour * 4 + c.minute // 15 for c in clock]
    first, cut = thin(on_the_clock(units, by_clock), slots, length_s)
    case = made_up_market(
        network,
        cut,
        case_id=f"{source} {name} {first_day.isoformat()} seed {seed}",
        start_ms=local.start_ms + first * length_s * 1000,
        resolution_s=length_s,
        offers=offers,
        seed=seed,
    )
    return with_scenarios(case, cut, scenarios=scenarios, seed=seed) if scenarios else case


def _whole_day(quarters: int, slots: int) -> int:
    """Return the length of a slot, s, if none is asked for: the whole day in 30 or 60 minutes, or quarter-hours."""
    return 900 * quarters // slots if slots in (quarters // 2, quarters // 4) else 900


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ConversionError(name, ["no such time zone; an example is Europe/Berlin"]) from error


def _source(
    source: str, name: str, day: str, on: date | None, days: int
) -> tuple[NetworkModelPublished, tuple[ConnectedUnit, ...], date]:
    """Return the network, what is connected with whole days of quarter-hours by the clock, and the first day."""
    area_id = "area-1"
    if source == "simbench":
        from clearing.convert.simbench import simbench_day

        of_the_day = simbench_day(name, day, area_id=area_id, days=days)
        return of_the_day.network, of_the_day.units, of_the_day.day
    if source == "pandapower":
        network, units = _pandapower(name, day, area_id)
    elif source == "matpower":
        from clearing.convert.matpower import (
            find_matpower,
            network_from_matpower,
            read_matpower,
            units_from_matpower,
        )

        path = find_matpower(name)
        mpc = read_matpower(path)
        network = network_from_matpower(mpc, area_id=area_id, network_id=path.stem, name=path.stem)
        units = units_from_matpower(mpc, day)
    else:
        raise ConversionError(source, [f"no such source; there are {', '.join(SOURCES)}"])
    return network, units, on or DATES.get(day, DATES["winter"])


def _pandapower(name: str, day: str, area_id: str) -> tuple[NetworkModelPublished, tuple[ConnectedUnit, ...]]:
    from clearing.convert.pandapower import network_from_pandapower, read_pandapower, units_from_pandapower

    net = read_pandapower(name)
    network = network_from_pandapower(net, area_id=area_id, network_id=name, name=name)
    return network, units_from_pandapower(net, network, day)
