"""What ends `flexbus demo`, and what whoever started it wants to be ignored."""

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, sys
number = int(sys.argv[1])
# Set both ways: tests that were started in the background hand "ignored" on.
signal.signal(number, signal.SIG_IGN if sys.argv[2] == "ignored" else signal.SIG_DFL)
import streams.demo.run
from flexbus.cli.demo import command

class Day:
    def __init__(self, *_): pass
    def close(self): pass
    def start(self):
        os.kill(os.getpid(), number)
        os._exit(50)

streams.demo.run.Day = Day
os._exit(command.main([], standalone_mode=False))
"""
GOES_ON = 50


def _ends_with(number: signal.Signals, how: str) -> int:
    program = [sys.executable, "-c", PROGRAM, str(int(number)), how]
    return subprocess.run(program, check=False, timeout=60, stderr=subprocess.DEVNULL).returncode


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_demo_ends_in_good_order(number: signal.Signals) -> None:
    assert _ends_with(number, "heard") == 130


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_demo_in_the_background_goes_on(number: signal.Signals) -> None:
    assert _ends_with(number, "ignored") == GOES_ON
