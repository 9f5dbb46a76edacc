"""A large day on the real bus: every offer cleared, and the time from gate closure to the published market.

`python -m tests.bench.scale [--areas 5] [--participants 500] [--offers 20000]`

Every provider has its own inbox. Times are the broker's: receipt of `GateClosed` to receipt of `MarketCleared`, which
is the last of the clearing's results; both are read from the public topics.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flexbus import events as ev
from flexbus.client import Client
from streams.broker import Broker
from streams.clock import Ticker
from streams.demo.grid_day import DEFAULT_GRID, scenario_of
from streams.demo.scenario import DSO, FMO, METER, TSO
from streams.kafka import Connection
from streams.supervisor import Supervisor
from streams.topics import create_topics
from tests.bench.market import LargeMarket, large_market


class _Parties:
    """The SDK as each party."""

    def __init__(self, connection: Connection, own: Iterable[str]) -> None:
        self._clients = {p: Client(connection.bootstrap, p, timeout_s=300) for p in own}

    def post(self, sends: Iterable[tuple[str, Any]]) -> None:
        """Send events, each party's in order, and wait until all are accepted."""
        by_party: dict[str, list[Any]] = defaultdict(list)
        for party, event in sends:
            by_party[party].append(event)
        waiting = [(self._clients[p], self._clients[p].post_all(events)) for p, events in by_party.items()]
        for client, sent in waiting:
            for receipt in client.verdicts(sent):
                if receipt.verdict.value != "ACCEPTED":
                    raise SystemExit(f"not accepted: {[str(f) for f in receipt.faults]}")

    def close(self) -> None:
        for client in self._clients.values():
            client.close()


def main(arguments: list[str] | None = None) -> int:
    """Run the day and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--areas", type=int, default=5)
    parser.add_argument("--participants", type=int, default=500)
    parser.add_argument("--offers", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2, help="processes of the clearing stage")
    options = parser.parse_args(arguments)
    say = lambda text: print(text, file=sys.stderr, flush=True)  # noqa: E731

    scenario = scenario_of(DEFAULT_GRID, "sunny")
    markets = large_market(scenario, options.areas, options.participants, options.offers)
    own = {FMO, DSO, TSO, METER, *(p for m in markets for p in m.providers)}
    with tempfile.TemporaryDirectory(prefix="flexbus-scale-") as folder:
        broker = Broker(Path(folder) / "broker")
        connection = Connection(broker.start())
        supervisor: Supervisor | None = None
        try:
            say(f"creating topics for {len(own)} parties")
            create_topics(connection, own, options.areas)
            supervisor = Supervisor(
                connection, Path(folder) / "run", clock="played", workers={"clearing": options.workers}
            )
            supervisor.start()
            supervisor.wait_ready(300)
            parties, ticker = _Parties(connection, own), Ticker(connection)
            reader = Client(connection.bootstrap)
            say("registering")
            for part in (LargeMarket.founding, LargeMarket.grid, LargeMarket.assets, LargeMarket.approvals):
                parties.post([s for m in markets for s in part(m)])
            ticker.tick(markets[0].opens_ms)
            _await(reader, ev.GateOpened, len(markets))
            parties.post([m.forecast() for m in markets])
            began = time.monotonic()
            offers = [
                (o.fsp_id, ev.FlexOfferSubmitted(area_id=m.area_id, offer=o)) for m in markets for o in m.offers()
            ]
            parties.post(offers)
            took = time.monotonic() - began
            say(f"{len(offers)} offers accepted in {took:.1f} s ({len(offers) / took:.0f} per s); the gate closes")
            ticker.tick(markets[0].closes_ms)
            closed = _await(reader, ev.GateClosed, len(markets))
            cleared = _await(reader, ev.MarketCleared, len(markets))
            times = sorted((cleared[a][0] - closed[a][0]) / 1000 for a in cleared)
            awards = {a: len(e.awards) for a, (_, e) in cleared.items()}
            slots = [s.status.value for _, e in cleared.values() for s in e.slots]
            result = {
                "areas": len(markets),
                "participants": options.participants,
                "offers": len(offers),
                "offers_per_s": round(len(offers) / took, 1),
                "gate_to_published_s": [round(t, 2) for t in times],
                "p95_s": round(times[max(0, -(-len(times) * 95 // 100) - 1)], 2),
                "awards": awards,
                "slots": {s: slots.count(s) for s in sorted(set(slots))},
            }
            print(json.dumps(result))
            parties.close()
            ticker.close()
            reader.close()
            return 0 if len(cleared) == len(markets) else 1
        finally:
            if supervisor is not None:
                supervisor.stop()
            broker.stop()


def _await(reader: Client, kind: type[Any], count: int, patience_s: float = 300) -> dict[str, tuple[int, Any]]:
    """Return time of receipt and event of one kind per area, when all areas have it on the public topic."""
    deadline = time.monotonic() + patience_s
    while True:
        found = {r.area_id: (r.received_at_ms, r.event) for r in reader.consume(kind)}
        if len(found) >= count:
            return found
        if time.monotonic() > deadline:
            raise SystemExit(f"only {len(found)} of {count} areas have {kind.__name__}")
        time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
