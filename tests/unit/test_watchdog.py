"""The watchdog of the transactional services: who hangs is ended, who waits for a call with a time-out is not."""

import subprocess
import sys

from streams.transaction import HANG_EXIT

PROGRAM = """
import time
from streams.transaction import Watchdog
watchdog = Watchdog(0.5)
with watchdog.patient({more}):
    time.sleep({within})
time.sleep({after})
"""


def _ends_with(more_s: float, within_s: float, after_s: float) -> int:
    program = PROGRAM.format(more=more_s, within=within_s, after=after_s)
    return subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode


def test_a_call_may_take_its_own_time_out_and_no_longer() -> None:
    assert _ends_with(30.0, 2.5, 0.0) == 0
    assert _ends_with(0.0, 2.5, 0.0) == HANG_EXIT


def test_after_it_the_usual_patience_holds() -> None:
    assert _ends_with(30.0, 0.0, 2.5) == HANG_EXIT
