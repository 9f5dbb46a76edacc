"""`flexbus certify`: check a clearing result against its case, without a solver."""

from pathlib import Path

import click

from flexbus.cli.clear import read_text

__all__ = ["command"]


@click.command()
@click.argument("case", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("result", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.pass_context
def command(ctx: click.Context, case: Path, result: Path) -> int:
    """Recompute what a result claims from its case, with no solver; exit code 1 and every finding if it does not hold.

    Checked are hashes, the rules of every offer, payments to the last digit, the AC power flow of every slot
    with every limit in it, nodal prices from the limits that bind, and the lower bound.
    """
    from clearing.certificate import certify
    from clearing.files import read_case, read_result

    outcome = certify(read_case(read_text(case)), read_result(read_text(result)))
    for finding in outcome.findings:
        click.echo(str(finding))
    if outcome.findings:
        click.echo(f"{result}: {len(outcome.findings)} findings; the result does not hold", err=True)
        return 1
    click.echo(_sentence(result, outcome.value_nano, outcome.lower_bound_nano), err=True)
    return 0


def _sentence(result: Path, value: int | None, bound: int | None) -> str:
    text = f"{result}: holds; value {(value or 0) / 1e9:,.4f} EUR"
    if value is None or bound is None:
        return f"{text}, without a lower bound"
    return f"{text}, lower bound {bound / 1e9:,.4f} EUR, gap {(value - bound) / 1e9:,.4f} EUR"
