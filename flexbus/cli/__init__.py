"""The one command, `flexbus`; every subcommand is also a Python function.

Exit codes: 0 fine; 1 findings (invalid input, rejected event, mismatch); 2 usage; 3 environment.
Machine output goes to stdout, words and progress to stderr.
"""

import errno
import importlib
import sys
from typing import Any

import click

from flexbus.errors import EnvironmentProblem, FaultyInputError, FlexbusError

__all__ = ["main"]

# Subcommand -> module with a `command`; loaded only when used, so that `flexbus --help` is quick.
_COMMANDS: dict[str, tuple[str, str]] = {
    "access": ("flexbus.cli.access", "who may do what: the table, Kafka's rights, the log of reads"),
    "broker": ("flexbus.cli.broker", "the local Kafka: start, stop, status, logs"),
    "certify": ("flexbus.cli.certify", "check a clearing result without a solver"),
    "clear": ("flexbus.cli.clear", "clear a market from a case file, no Kafka"),
    "convert": ("flexbus.cli.convert", "make a case file from pandapower, SimBench or MATPOWER"),
    "demo": ("flexbus.cli.demo", "a whole market day on a real grid and a real Kafka"),
    "down": ("flexbus.cli.down", "stop what a broken run left behind"),
    "events": ("flexbus.cli.events", "every event: meaning, who sends and sees it, topic"),
    "rejections": ("flexbus.cli.rejections", "what was refused and why; repair and resend"),
    "replay": ("flexbus.cli.replay", "check the journal; --verify recomputes all that follows from it"),
    "run": ("flexbus.cli.run", "run one service"),
    "schemas": ("flexbus.cli.schemas", "the Avro schemas and their fingerprints"),
    "send": ("flexbus.cli.send", "send events as a party, one verdict line per event"),
    "tail": ("flexbus.cli.tail", "read an out topic as JSON, CSV or Avro"),
    "topics": ("flexbus.cli.topics", "the Kafka topics: what there is, create what is missing"),
    "up": ("flexbus.cli.up", "run all services under one supervisor"),
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(_COMMANDS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name][1]) for name in sorted(_COMMANDS)])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="flexbus")
def _flexbus() -> None:
    """flexbus: the open message bus for electricity flexibility markets.

    Begin with `flexbus demo`. Exit codes: 0 fine, 1 findings, 2 wrong usage, 3 environment (Kafka, Java or Maven
    missing), 130 stopped by Ctrl-C.
    """


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line and end the process with its exit code."""
    try:
        code = _flexbus.main(args=arguments, prog_name="flexbus", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = 2
    except click.exceptions.Abort:
        click.echo("stopped", err=True)
        code = 130
    except FaultyInputError as error:
        for fault in error.faults:
            click.echo(str(fault), err=True)
        code = 1
    except EnvironmentProblem as error:
        click.echo(f"flexbus: {error}", err=True)
        code = 3
    except FlexbusError as error:
        click.echo(f"flexbus: {error}", err=True)
        code = 1
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        click.echo(f"flexbus: {error.strerror}: the output is not whole; make room and run it again", err=True)
        code = 3
    sys.exit(code if isinstance(code, int) else 0)
