"""`make chaos [SEED=] [KILLS=]`: seeded kills, pauses, twins, guests, stalls, broker restarts under load; and a count.

For two strikes of five the disk of Kafka's log and of the checkpoints is slow (`tests.disk`).
Everything runs as in production: one process per service, checkpoints, all that ends is started again. The count is
by `tests.chaos.checker`, which shares no code with sequencer and stages.
"""

import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from streams.broker import Broker
from streams.clock import Ticker
from streams.demo.preparation import PARTIES
from streams.kafka import Connection
from streams.topics import create_topics
from tests.chaos.bus import ChaoticBus
from tests.chaos.checker import Acknowledged, Report, check, read_all
from tests.chaos.load import AREAS, CLOSES_MS, Days, Offers, later, undisturbed
from tests.chaos.schedule import schedule
from tests.disk import SlowDisk
from tests.integration import core

PARTITIONS = 4
SETTLE_S = 180.0
SLOW_EVERY = 5
SLOW_ACCESS_S, SLOW_SYNC_S, SLOW_BYTES_PER_S = 0.01, 0.1, 5_000_000


def main() -> int:
    options = dict(argument.partition("=")[::2] for argument in sys.argv[1:])
    if not options.keys() <= {"SEED", "KILLS"}:
        print("give SEED=number and KILLS=number, nothing else", file=sys.stderr)
        return 2
    seed, kills = int(options.get("SEED") or 1), int(options.get("KILLS") or 23)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that nothing is left running
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="flexbus-chaos-") as folder, ExitStack() as stack:
        below = Path(folder) / "disk"
        below.mkdir()
        disk = SlowDisk(below, Path(folder))
        stack.enter_context(disk.mounted())
        broker = Broker(below / "broker")
        stack.callback(lambda: broker.stop())
        connection = Connection(broker.start())
        broker = Broker(below / "broker", port=int(connection.bootstrap.rpartition(":")[2]))
        create_topics(connection, {*core.PARTIES, *PARTIES}, PARTITIONS)
        bus = ChaoticBus(connection, below)
        stack.callback(bus.close)
        stack.callback(lambda: print(bus.logs(), file=sys.stderr) if sys.exc_info()[0] else None)
        spawning = multiprocessing.get_context("spawn")
        pool = stack.enter_context(ProcessPoolExecutor(1, mp_context=spawning))
        wanted = pool.submit(undisturbed)
        core.open_gates(connection, AREAS, later)
        offers, days = Offers(connection, seed), Days(connection)
        say(f"the bus is at work after {time.monotonic() - began:.0f} s")
        offers.start()
        stack.callback(offers.stop)
        days.start()
        stack.callback(days.stop)
        strikes = struck(bus, broker, disk, random.Random(seed), kills)
        say("no more strikes; the last day is played to its end")
        offers.stop()
        days.stop()
        bus.settle()
        acknowledged = offers.sends.acknowledged + days.sends.acknowledged
        settled(connection, acknowledged)  # the gate must not close before what was sent in time has been looked at
        ticker = Ticker(connection)
        ticker.tick(CLOSES_MS)  # every gate of the offers closes, and what follows comes
        ticker.close()
        report = settled(connection, acknowledged, CLOSES_MS)
        views, others = bus.differing_views(), days.differing(wanted.result())
        starts = {name: worker.starts for name, worker in bus.workers.items()}
        restored = bus.restored()
        others += restless(starts, strikes)
        others += [f"guest {name} had to be killed" for name, _, code in bus.guests if code is None]
        if not report.ok or views or others:
            print(bus.logs())
    print(f"seed {seed}; starts: {starts}; from checkpoints: {restored}")
    print(f"strikes: {json.dumps(strikes)}")
    for name, joined, code in bus.guests:
        print(f"guest {name}: {'had partitions' if joined else 'never had a partition'}, ended with {code}")
    waits = disk.waits
    print(f"slow disk: {waits.writes} writes and {waits.syncs} syncs took {waits.waited_s:.0f} s longer")
    failed = offers.sends.failed + days.sends.failed
    print(f"sends acknowledged: {report.acknowledged}, failed: {failed.total()}")
    for reason, times in failed.items():
        print(f"failed {times} times: {reason}")
    print(f"inputs: {report.inputs}, in the journal: {report.accepted}, derived: {report.derived}")
    print(f"had to be taken: {report.marked}, to be derived: {report.due}")
    print(f"had to be published: {report.published}, receipts: {report.receipts}")
    print(f"days played to their end: {len(days.played)}")
    for fault in [*report.broken, *report.faults, *views, *others]:
        print(fault)
    print(f"took {time.monotonic() - began:.0f} s")
    print(f"days: {'differ' if others else 'same'}")
    print(f"reordered: {report.reordered}")
    print(f"unpublished: {report.unpublished}")
    print(f"lost: {report.lost}")
    print(f"doubled: {report.doubled}")
    print(f"chain: {'broken' if report.broken else 'ok'}")
    print(f"views: {'differ' if views else 'equal'}")
    return 0 if report.ok and not (views or others) else 1


def struck(bus: ChaoticBus, broker: Broker, disk: SlowDisk, chance: random.Random, kills: int) -> Counter[str]:
    """Strike as the schedule says, and return what was struck how often, by what and kind.

    Before every fifth strike the disk becomes slow, and stays so until the next but one has fallen, or
    Kafka starts again.
    """
    found: Counter[str] = Counter()
    for number, (what, name) in enumerate(schedule(sorted(bus.workers), chance, kills), 1):
        if number % SLOW_EVERY == 0:
            disk.slow(SLOW_ACCESS_S, SLOW_SYNC_S, SLOW_BYTES_PER_S)
        elif number % SLOW_EVERY == 2:
            disk.quick()
        time.sleep(chance.uniform(1.0, 2.5))
        if (what, name) == ("kill", "broker"):
            broker.kill()
            time.sleep(chance.uniform(0.0, 3.0))
            disk.quick()  # recovering every log on the slow one took Kafka more than three minutes
            broker.start()
        elif what == "stall":
            stall(broker, chance.uniform(3.0, 8.0))
        else:
            {"kill": bus.kill, "pause": bus.pause, "twin": bus.twin, "guest": bus.guest}[what](name)
        found[f"{what} {name.partition(' ')[0]}"] += 1
        say(f"{number}: {what} {name}")
    disk.quick()
    return found


def restless(starts: Mapping[str, int], strikes: Mapping[str, int]) -> list[str]:
    """Name the processes that were started more often than strikes explain: each at its kind may end it twice.

    Args:
        starts: by process: service, space, slot.
        strikes: by what and kind; one at the broker may end every process once.
    """
    at = Counter[str]()
    for strike, times in strikes.items():
        at[strike.partition(" ")[2]] += times
    most = {name: 1 + 2 * at[name.partition(" ")[0]] + at["broker"] for name in starts}
    return [
        f"{name} was started {times} times, at most {most[name]}"
        for name, times in starts.items()
        if times > most[name]
    ]


def stall(broker: Broker, seconds: float) -> None:
    """Let Kafka answer nobody for a while, as when its disk does not: whatever waits for a write waits."""
    pid = broker.status().pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        os.kill(pid, signal.SIGCONT)


def settled(connection: Connection, acknowledged: Sequence[Acknowledged], now_ms: int | None = None) -> Report:
    """Wait until everything is there, at a market's time if one is given, or long enough to call it lost."""
    deadline = time.monotonic() + SETTLE_S
    before = None
    while True:
        report = check(read_all({"bootstrap.servers": connection.bootstrap}), now_ms, acknowledged)
        quiet = not (report.lost or report.unpublished) and report.accepted == before
        if quiet or time.monotonic() > deadline:
            return report
        before = report.accepted
        time.sleep(3.0)


def say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
