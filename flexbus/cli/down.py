"""`flexbus down`: stop what a broken run left behind, and nothing else."""

import json
from contextlib import suppress
from pathlib import Path

import click
import psutil

from streams.process import noted_process

__all__ = ["command"]

_WITHIN_S = 15.0


@click.command()
@click.option(
    "--run-dir",
    "run_dirs",
    multiple=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory of a run; repeatable.  [default: every one below .flexbus]",
)
def command(run_dirs: tuple[Path, ...]) -> int:
    """Stop the supervisors, services and brokers that are noted in run directories and still run.

    A process is stopped only if it has the start time that was noted: a reused process id is somebody else's.
    """
    from streams.broker import Broker
    from streams.monitor import notes

    folders = run_dirs or tuple(_found(Path(".flexbus")))
    stopped = 0
    for folder in folders:
        stopped += _end([p for p in (_supervisor(folder),) if p is not None])
        left = [p for p in (note.process() for note in notes(folder)) if p is not None]
        stopped += _end(left)
        for path in (folder / "services").glob("*.json"):
            path.unlink(missing_ok=True)
        for data_dir in (folder / "broker", folder):
            if (data_dir / "data").is_dir() and Broker(data_dir).stop():
                stopped += 1
    click.echo(f"stopped {stopped} processes" if stopped else "nothing was running", err=True)
    return 0


def _found(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    marks = {path.parent for name in ("supervisor.json", "services", "broker") for path in root.rglob(name)}
    return sorted(marks)


def _supervisor(folder: Path) -> psutil.Process | None:
    try:
        known = json.loads((folder / "supervisor.json").read_text())
        return noted_process(known["pid"], known["started"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def _end(processes: list[psutil.Process]) -> int:
    for process in processes:
        with suppress(psutil.Error):
            process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=_WITHIN_S)
    for process in alive:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=2.0)
    return len(processes)
