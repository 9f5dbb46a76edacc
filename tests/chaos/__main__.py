"""`make chaos [SEED=] [KILLS=]`: a seeded schedule of kills, pauses and broker restarts under load, then a count.

Everything runs as in production: one process per service under a supervisor that starts again what ends.
"""

import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

from flexbus.client import Client, Record
from flexbus.errors import FlexbusError
from streams.broker import Broker
from streams.kafka import Connection
from streams.topics import create_topics
from tests.chaos.checker import Report, check, read_all
from tests.integration import core
from tests.integration.core import FSP_A, FSP_B, Worker

AREAS = ("north", "east", "south", "west", "isle")
PER_SECOND = 150
PAUSE_S = 9.0  # longer than a member's session: the paused process wakes up as a zombie
SETTLE_S = 180.0


class Load:
    """Offers in every area, some sent twice, some wrong, until told to stop."""

    def __init__(self, connection: Connection, seed: int) -> None:
        self._random = random.Random(seed)
        self._clients = {p: Client(connection.bootstrap, p, timeout_s=60) for p in (FSP_A, FSP_B)}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.sent = 0
        self._number = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            for party, client in self._clients.items():
                records = [r for _ in range(PER_SECOND // 10) for r in self._offer(party, client)]
                try:
                    self.sent += len(client.post_records(records))
                except FlexbusError as error:  # the broker was away for long; what arrived of them is counted there
                    print(f"  load: {error}", file=sys.stderr)
            self._stop.wait(max(0.0, 0.2 - (time.monotonic() - began)))

    def _offer(self, party: str, client: Client) -> list[Record]:
        self._number += 1
        record = client.record(core.offer_of(self._number, self._random.choice(AREAS), party), event_id=str(uuid4()))
        chance = self._random.random()
        if chance < 0.05:
            return [Record(record.value[:-3], record.key, record.headers)]
        return [record] * (2 if chance < 0.2 else 1)


def main() -> int:
    options = dict(argument.partition("=")[::2] for argument in sys.argv[1:])
    seed, kills = int(options.get("SEED") or 1), int(options.get("KILLS") or 17)
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="flexbus-chaos-") as folder, ExitStack() as stack:
        broker = Broker(Path(folder) / "broker")
        stack.callback(broker.stop)
        connection = Connection(broker.start())
        broker = Broker(Path(folder) / "broker", port=int(connection.bootstrap.rpartition(":")[2]))
        create_topics(connection, core.PARTIES, 4)
        services = [("sequencer", 0), ("sequencer", 1), ("publisher", 0), ("aggregation", 0), ("traffic_light", 0)]
        workers = {
            f"{name} {slot}": stack.enter_context(_worker(name, connection, slot, Path(folder)))
            for name, slot in services
        }
        core.open_gates(connection, AREAS)
        load = Load(connection, seed)
        load.start()
        stack.callback(load.stop)
        for number in range(1, kills + 1):
            time.sleep(chance.uniform(1.0, 4.0))
            _strike(number, kills, chance, workers, broker)
        time.sleep(3.0)
        load.stop()
        starts = {name: worker.starts for name, worker in workers.items()}
        report = _settled(connection)
        replay = [sys.executable, "-m", "flexbus.cli", "replay", "--verify", "--bootstrap", connection.bootstrap]
        logs = "" if report.ok else "".join(f.read_text()[-3000:] for f in sorted(Path(folder).glob("*.log")))
        views = subprocess.run(replay, capture_output=True, text=True, check=False)
    print(f"seed {seed}, {kills} kills; starts: {starts}")
    print(f"inputs: {report.inputs}, in the journal: {report.accepted}")
    for fault in report.broken:
        print(fault)
    if views.returncode:
        print(views.stdout, views.stderr)
    if logs:
        print(logs)
    print(f"reordered: {report.reordered}")
    print(f"unpublished: {report.unpublished}")
    print(f"lost: {report.lost}")
    print(f"doubled: {report.doubled}")
    print(f"chain: {'broken' if report.broken else 'ok'}")
    print(f"views: {'equal' if views.returncode == 0 else 'differ'}")
    return 0 if report.ok and views.returncode == 0 else 1


def _worker(name: str, connection: Connection, slot: int, folder: Path) -> Worker:
    command = ["-m", "flexbus.cli", "run", name, "--bootstrap", connection.bootstrap, "--slot", str(slot)]
    return Worker(name, connection, slot, command=[sys.executable, *command], log=folder / f"{name}-{slot}.log")


def _strike(number: int, kills: int, chance: random.Random, workers: dict[str, Worker], broker: Broker) -> None:
    # Two broker kills, a third and two thirds of the way; else any process, now and then a pause.
    if number in (kills // 3, 2 * kills // 3):
        print(f"  {number}: kill -9 of the broker", file=sys.stderr)
        broker.kill()
        time.sleep(chance.uniform(0.0, 3.0))
        broker.start()
        time.sleep(15.0)
        return
    name = chance.choice(sorted(workers))
    if chance.random() < 0.15:
        print(f"  {number}: pause of {name}", file=sys.stderr)
        workers[name].signal(signal.SIGSTOP)
        time.sleep(PAUSE_S)
        workers[name].signal(signal.SIGCONT)
    else:
        print(f"  {number}: kill -9 of {name}", file=sys.stderr)
        workers[name].kill()


def _settled(connection: Connection) -> Report:
    """Wait until everything is accounted for, or long enough to call it lost."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        report = check(read_all({"bootstrap.servers": connection.bootstrap}))
        if not (report.lost or report.unpublished) or time.monotonic() > deadline:
            return report
        time.sleep(2.0)


if __name__ == "__main__":
    sys.exit(main())
