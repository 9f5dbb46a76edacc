"""`flexbus demo`: a whole market day on a real grid and a real Kafka."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import click

__all__ = ["command"]


@click.command()
@click.option("--grid", default="1-MV-rural--2-sw", show_default=True, help="SimBench code, medium or low voltage.")
@click.option(
    "--day", default="sunny", show_default=True, help="winter, sunny, or a date of the profiles' year (06-15)."
)
@click.option(
    "--speed",
    type=click.FloatRange(0),
    default=1.0,
    show_default=True,
    help="1 = about two minutes, 2 = twice as fast; 0 = as fast as the bus goes.",
)
@click.option(
    "--bootstrap",
    default=None,
    help="An existing Kafka; each day there is later.  [default: FLEXBUS_BOOTSTRAP, else one is started]",
)
@click.option("--port", default=None, type=click.IntRange(0, 65535), help="Port of the page.  [default: a free one]")
@click.option(
    "--report",
    default="report.html",
    show_default=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Copy of the report, which itself lies with the run.",
)
@click.option("--wait/--no-wait", default=None, help="Keep the page up at the end.  [default: when at a terminal]")
@click.option("--secure", is_flag=True, help="TLS, a principal for each service and party, signed events.")
@click.option("--verify/--no-verify", default=True, help="Recompute everything from the journal at the end.")
def command(
    grid: str,
    day: str,
    speed: float,
    bootstrap: str | None,
    port: int | None,
    report: Path,
    wait: bool | None,
    secure: bool,
    verify: bool,
) -> int:
    """Play a whole market day: forecast, auction, clearing, delivery, settlement; then summary and report."""
    # The shells are loaded here, not at import, so that `flexbus --help` stays quick.
    from streams.demo.run import Day, Options, default_run_dir
    from streams.demo.terminal import table

    began = time.monotonic()

    def say(text: str) -> None:
        click.echo(f"{time.monotonic() - began:6.1f} s  {text}", err=True)

    interrupted = threading.Event()

    def interrupt(*_: object) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    # A closed terminal must leave no process behind, just as Ctrl-C must not; nor must a shell's `kill` of a demo in
    # the background, which is started with SIGINT ignored, as SIGHUP is by `nohup`.
    signal.signal(signal.SIGTERM, interrupt)
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)
    options = Options(
        run_dir=default_run_dir(),
        grid=grid,
        day=day,
        speed=speed,
        bootstrap=bootstrap or os.environ.get("FLEXBUS_BOOTSTRAP"),
        page_port=port,
        report=report,
        secure=secure,
    )
    the_day = Day(options, say)
    code = 130  # of a day that was interrupted
    try:
        the_day.start()
        say(f"the page: {the_day.page_url()}")
        summary = the_day.play()
        written = the_day.report()
        good = True
        if verify:
            say("replaying the journal and solving the clearing again")
            result = the_day.verify()
            good = result.ok
            click.echo(result.text(), err=True)
        click.echo(table(summary))
        click.echo(f"\n  report   {written}\n  copy     {report}", err=True)
        if options.bootstrap is None:
            again = f"flexbus broker start --data-dir {options.run_dir / 'broker'}{' --secure' if secure else ''}"
            click.echo(f"  journal  kept; its Kafka starts again by: {again}", err=True)
        code = 0 if good else 1
        if wait if wait is not None else sys.stdin.isatty():
            say(f"the page stays at {the_day.page_url()} until Ctrl-C")
            threading.Event().wait()
        return code
    except (KeyboardInterrupt, SystemError):
        if not interrupted.is_set():
            raise
        # One that falls into a callback of Kafka's client comes out of it as a SystemError.
        say("stopping")
        return code
    finally:
        # A second Ctrl-C while all is being stopped would leave the broker running.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        the_day.close()
        say("everything is stopped")
