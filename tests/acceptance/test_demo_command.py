"""`flexbus demo` as people run it: two side by side in one folder, Ctrl-C in one of them, and then a further one."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(400)]

COMMAND = (sys.executable, "-m", "flexbus.cli", "demo", "--grid", "1-LV-rural1--2-sw", "--speed", "0")
WITHIN_S = 180


class Demo:
    """The command as a process of its own, in a group of its own as a terminal makes it."""

    def __init__(self, folder: Path, name: str) -> None:
        self._words = folder / f"{name}.txt"
        environment = {k: v for k, v in os.environ.items() if k != "FLEXBUS_BOOTSTRAP"}
        with self._words.open("wb") as words, heeding_ctrl_c():
            self.process = subprocess.Popen(
                [*COMMAND, "--no-wait"],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.tree: set[psutil.Process] = set()
        self._folder = folder

    @property
    def words(self) -> str:
        return self._words.read_text(encoding="utf-8")

    @property
    def run_dir(self) -> Path:
        (found,) = (self._folder / ".flexbus" / "demo").glob(f"*-{self.process.pid}")
        return found

    def wait_for(self, pattern: str) -> str:
        """Return what the pattern's group stands for, once the command has said it."""
        deadline = time.monotonic() + WITHIN_S
        while not (found := re.search(pattern, self.words)):
            assert self.process.poll() is None, self.words
            assert time.monotonic() < deadline, self.words
            time.sleep(0.1)
        self.tree |= {psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)}
        return found[1]

    def press_ctrl_c(self) -> None:
        """Interrupt the whole group, as a terminal does."""
        os.killpg(self.process.pid, signal.SIGINT)

    def wait(self) -> int:
        return self.process.wait(WITHIN_S)

    def left(self) -> list[str]:
        """Return what still runs of all that it had started, or works in its run directory."""
        started = [p for p in self.tree if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
        return [str(p) for p in {*started, *processes_of(self.run_dir)}]


@contextmanager
def heeding_ctrl_c() -> Iterator[None]:
    """Start programs as a terminal does; one started in the background of a script would inherit to ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def processes_of(run_dir: Path) -> list[psutil.Process]:
    """Return the processes whose folder is in a run's directory, or whose command line names it."""
    found = []
    for process in psutil.process_iter():
        try:
            words = " ".join([process.cwd(), *process.cmdline()])
        except psutil.Error:
            continue
        if run_dir.name in words:
            found.append(process)
    return found


@pytest.fixture
def demos(tmp_path: Path) -> Iterator[list[Demo]]:
    started: list[Demo] = []
    try:
        started += [Demo(tmp_path, name) for name in ("interrupted", "finishing")]
        yield started
    finally:
        for demo in started:  # what a failed test leaves; in good order, so that the broker ends too
            if demo.process.poll() is None:
                demo.process.terminate()
                demo.process.wait(60)


@pytest.mark.long  # three demos at a time; test_supervisor has two runs side by side, and what Ctrl-C leaves
def test_two_runs_side_by_side_ctrl_c_in_one_and_a_further_run(demos: list[Demo], tmp_path: Path) -> None:
    interrupted, finishing = demos
    pages = [demo.wait_for(r"the page: (\S+)") for demo in demos]
    assert len({interrupted.run_dir, finishing.run_dir, *pages}) == 4
    assert len(processes_of(interrupted.run_dir)) > 1, "the test would not see what is left"

    interrupted.press_ctrl_c()
    time.sleep(0.5)
    if interrupted.process.poll() is None:
        interrupted.press_ctrl_c()  # people press it again
    assert interrupted.wait() == 130, interrupted.words
    assert interrupted.words.rstrip().endswith("everything is stopped")
    assert "Traceback" not in interrupted.words
    assert interrupted.left() == []
    assert not (interrupted.run_dir / "report.html").exists()

    again = Demo(tmp_path, "again")
    demos.append(again)
    for demo in (finishing, again):
        assert demo.wait() == 0, demo.words
        assert "verified: chain, views, computations and publications agree" in demo.words
        assert demo.left() == []
    reports = [(demo.run_dir / "report.html").read_bytes() for demo in (finishing, again)]
    assert all(b"<svg" in report for report in reports)
    assert (tmp_path / "report.html").read_bytes() in reports, "the copy is not the whole of one report"
    assert sorted(p.name for p in tmp_path.iterdir() if "report" in p.name) == ["report.html"]
