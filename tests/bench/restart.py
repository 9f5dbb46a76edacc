"""Restart to ready behind a long journal: with a full replay, and from a checkpoint after kill -9.

`python -m tests.bench.restart [--events 1000000] [SERVICE ...]`

Times are from the start of the process, interpreter and imports included, until its /health says ready; of the monitor,
until figures and page have read the journal to its end. It has no checkpoint, so it is told and not judged. Ends with 1
if another service takes longer than `READY_S` from its checkpoint, or did not use one, and says so.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from streams.checkpoint import EVERY_ENTRIES
from streams.kafka import Connection
from streams.monitor import notes
from tests.bench.history import write_history
from tests.integration.core import own_kafka

SERVICES = (
    "congestion",
    "aggregation",
    "traffic_light",
    "clearing",
    "activation",
    "settlement",
    "sequencer",
    "publisher",
    "scheduler",
)
MONITOR = "monitor"
PATIENCE_S = 900.0
READY_S = 10.0  # from a checkpoint, behind a million events


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("services", nargs="*", default=[*SERVICES, MONITOR])
    parser.add_argument("--events", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flexbus-restart-") as folder, own_kafka(Path(folder) / "b") as connection:
        began = time.monotonic()
        counts = write_history(connection, options.events)
        count, wanted = sum(counts.values()), sum(n >= EVERY_ENTRIES for n in counts.values())
        print(f"a journal of {count} events, written in {time.monotonic() - began:.0f} s", file=sys.stderr)
        if not wanted:
            raise SystemExit(
                f"no partition has the {EVERY_ENTRIES} events after which a checkpoint is written: use more"
            )
        problems = []
        for service in options.services:
            found = restarted(connection, service, Path(folder), wanted)
            print(json.dumps({"service": service, "events": count, **found}))
            sys.stdout.flush()
            if service != MONITOR:
                problems += [f"{service} {problem}" for problem in problems_of(found, wanted)]
    print("\n".join(problems) or f"every checkpoint used, ready within {READY_S:.0f} s", file=sys.stderr)
    return 1 if problems else 0


def problems_of(found: dict[str, float], wanted: int) -> Iterator[str]:
    """Yield what is wrong with the restart of a service from its checkpoints.

    Args:
        found: what `restarted` returned.
        wanted: how many partitions have enough events for a checkpoint.
    """
    if found["restored_s"] > READY_S:
        yield f"was ready after {found['restored_s']} s, not within {READY_S:.0f} s"
    if found["from_checkpoints"] < wanted:
        yield f"used {found['from_checkpoints']:.0f} of its {wanted} checkpoints"


def restarted(connection: Connection, service: str, folder: Path, wanted: int) -> dict[str, float]:
    """Return how long a service took to be ready without and with a checkpoint, and what it weighs."""
    run_dir = folder / service
    if service == MONITOR:
        with _ready(connection, service, run_dir) as (process, replayed_s):
            memory = psutil.Process(process.pid).memory_info().rss
        return {"replayed_s": round(replayed_s, 1), "memory_mb": round(memory / 1e6)}
    with _ready(connection, service, run_dir) as (process, replayed_s):
        checkpoints = run_dir / "checkpoints"
        deadline = time.monotonic() + PATIENCE_S
        while len(list(checkpoints.glob("*.checkpoint"))) < wanted and time.monotonic() < deadline:
            time.sleep(0.2)
        size = sum(f.stat().st_size for f in checkpoints.glob("*.checkpoint"))
        memory = psutil.Process(process.pid).memory_info().rss
    with _ready(connection, service, run_dir) as (_, restored_s):
        pass
    log = (run_dir / "log").read_text()
    print("\n".join(line for line in log.splitlines() if "assigned" in line or "checkpoint" in line), file=sys.stderr)
    return {
        "replayed_s": round(replayed_s, 1),
        "restored_s": round(restored_s, 1),
        "from_checkpoints": log.count("confirmed by the journal"),
        "checkpoints_mb": round(size / 1e6, 1),
        "memory_mb": round(memory / 1e6),
    }


@contextmanager
def _ready(connection: Connection, service: str, run_dir: Path) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    command = [sys.executable, "-m", "flexbus.cli", "run", service, "--bootstrap", connection.bootstrap]
    run_dir.mkdir(exist_ok=True)
    began = time.monotonic()
    with (run_dir / "log").open("ab") as log:
        process = subprocess.Popen([*command, "--run-dir", str(run_dir)], stderr=log)
    try:
        while not _says_ready(run_dir, process.pid):
            if process.poll() is not None or time.monotonic() - began > PATIENCE_S:
                raise SystemExit(f"{service} is not ready: {(run_dir / 'log').read_text()[-2000:]}")
            time.sleep(0.05)
        yield process, time.monotonic() - began
    finally:
        process.kill()
        process.wait()


def _says_ready(run_dir: Path, pid: int) -> bool:
    port = next((n.port for n in notes(run_dir) if n.pid == pid), None)
    if port is None:
        return False
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=30) as answer:
            found: dict[str, object] = json.load(answer)
            # Ready without a partition is not yet at work: the group is still being formed.
            at_work = bool(found["ready"] and (found["assigned"] or found["service"] == MONITOR))
        return at_work and (found["service"] != MONITOR or _page_caught_up(run_dir))
    except OSError:
        return False


def _page_caught_up(run_dir: Path) -> bool:
    """Tell whether the page, which reads the journal beside the figures, has come to its end."""
    with urllib.request.urlopen(f"{(run_dir / 'page.url').read_text().rstrip('/')}/health", timeout=30) as answer:
        return bool(json.load(answer)["caught_up"])


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
