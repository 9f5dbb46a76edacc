"""`flexbus clear`: a case file in, a result file out, no Kafka."""

from pathlib import Path

import click

from flexbus.errors import EnvironmentProblem

__all__ = ["command", "read_text", "write_text"]


@click.command()
@click.argument("case", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="Result file to write.")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="HTML report to write.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes to use.")
def command(case: Path, out: Path, report: Path | None, workers: int) -> None:
    """Clear a case and write the result.

    Of a bad case every fault is printed with its JSON path (exit code 1).
    """
    from clearing import clear
    from clearing.files import read_case, result_to_text

    problem = read_case(read_text(case))
    result = clear(problem, workers)
    write_text(out, result_to_text(result))
    if report is not None:
        from clearing.report import report_html

        write_text(report, report_html(problem, result))
    counts: dict[str, int] = {}
    for slot in result.slots:
        counts[slot.status.value] = counts.get(slot.status.value, 0) + 1
    taken = sum(any(offer.quantity) for offer in result.offers)
    rungs = ", ".join(f"{n} {status}" for status, n in counts.items())
    click.echo(
        f"{out}: slots: {rungs}; {taken} of {len(result.offers)} offers taken, "
        f"paid {result.cost_nano / 1e9:,.2f} EUR, welfare {result.welfare_nano / 1e9:,.2f} EUR",
        err=True,
    )


def read_text(path: Path) -> bytes:
    """Read a file.

    Raises:
        EnvironmentProblem: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise EnvironmentProblem(f"cannot read {path}: {error.strerror}") from error


def write_text(path: Path, text: str) -> None:
    """Write a file, whole or not at all.

    Raises:
        EnvironmentProblem: it cannot be written.
    """
    data = text.encode()
    try:
        if path.exists() and not path.is_file():  # a pipe or a terminal cannot be replaced
            path.write_bytes(data)
            return
        path = path.resolve()  # what a link points to is written, and the link stays
        part = path.with_name(f".{path.name}.part")
        try:
            part.write_bytes(data)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise EnvironmentProblem(f"cannot write {path}: {error.strerror}") from error
