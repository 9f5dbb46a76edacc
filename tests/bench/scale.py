"""A large day on the real bus: every offer cleared, and the time from gate closure to the published market.

`python -m tests.bench.scale [--areas 5] [--participants 500] [--offers 20000] [--day winter]`

Every provider has its own inbox; all are written by one producer. Times are the broker's: receipt of `GateClosed` to
receipt of `MarketCleared`, which is the last of the clearing's results; both are read from the public topics.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from clearing import session
from clearing.case import Case
from clearing.translation import case_of
from flexbus import events as ev
from flexbus.client import Client
from flexbus.topics import inbox
from flexbus.views.fact import Fact, Job
from streams.broker import Broker
from streams.clock import Ticker
from streams.demo.grid_day import DEFAULT_GRID, scenario_of
from streams.demo.scenario import DSO, FMO, METER, TSO
from streams.journal_reader import read_blocks
from streams.kafka import Connection, Trouble
from streams.process import no_collection
from streams.supervisor import Supervisor
from streams.topics import create_topics
from tests.bench.clearing import cleared
from tests.bench.core import Figure
from tests.bench.market import LargeMarket, large_market

PATIENCE_S = 300.0
P95_S = 15.0


class _Parties:
    """Every participant's inbox, written by one producer: real ones have machines of their own.

    Args:
        connection: the broker.
        areas: partitions of the journal.
    """

    def __init__(self, connection: Connection, areas: int) -> None:
        self._connection = connection
        self._producer = connection.producer(Trouble())
        self._maker = Client(connection.bootstrap, FMO)
        self._read = dict.fromkeys(range(areas), 0)

    def post(self, sends: Iterable[tuple[str, Any]]) -> None:
        """Send events, each party's in order, and wait until all of them are in the journal."""
        waiting: set[str] = set()
        for party, event in sends:
            record = self._maker.record(event)
            headers = dict(record.headers) | {"ce_source": f"/flexbus/{party}"}
            waiting.add(str(headers["ce_id"]))
            while True:
                try:
                    self._producer.produce(inbox(party), record.value, record.key, headers=headers)
                except BufferError:
                    self._producer.poll(0.1)
                else:
                    break
        self._producer.flush()
        deadline = time.monotonic() + PATIENCE_S
        while waiting:
            for partition, start in self._read.items():
                for offset, block in read_blocks(self._connection, partition, start):
                    waiting.difference_update(e.event_id for e in block.entries)
                    self._read[partition] = offset + 1
            if time.monotonic() > deadline:
                raise SystemExit(f"{len(waiting)} events are not in the journal after {PATIENCE_S:.0f} s")

    def close(self) -> None:
        self._maker.close()


def day(areas: int, participants: int, offers: int, workers: int = 2, kind: str = "sunny") -> dict[str, Any]:
    """Run a large day and return its figures.

    Args:
        areas: market areas.
        participants: providers, spread evenly over the areas.
        offers: offers, spread evenly over the providers.
        workers: processes of the clearing stage.
        kind: winter, sunny (the hardest: export meets the upper voltage limit all day), or a date.
    """
    markets = large_market(scenario_of(DEFAULT_GRID, kind), areas, participants, offers)
    own = {FMO, DSO, TSO, METER, *(p for m in markets for p in m.providers)}
    with tempfile.TemporaryDirectory(prefix="flexbus-scale-") as folder:
        broker = Broker(Path(folder) / "broker")
        connection = Connection(broker.start())
        supervisor: Supervisor | None = None
        try:
            _say(f"creating topics for {len(own)} parties")
            create_topics(connection, own, areas)
            supervisor = Supervisor(connection, Path(folder) / "run", clock="played", workers={"clearing": workers})
            supervisor.start()
            supervisor.wait_ready(300)
            return _played(connection, markets) | {"participants": participants}
        finally:
            if supervisor is not None:
                supervisor.stop()
            broker.stop()


def _played(connection: Connection, markets: tuple[LargeMarket, ...]) -> dict[str, Any]:
    parties, ticker = _Parties(connection, len(markets)), Ticker(connection)
    reader = Client(connection.bootstrap)
    _say("registering")
    for part in (LargeMarket.founding, LargeMarket.grid, LargeMarket.assets, LargeMarket.approvals):
        parties.post([s for m in markets for s in part(m)])
    ticker.tick(markets[0].opens_ms)
    _await(reader, ev.GateOpened, len(markets))
    parties.post([m.forecast() for m in markets])
    began = time.monotonic()
    offers = [(o.fsp_id, ev.FlexOfferSubmitted(area_id=m.area_id, offer=o)) for m in markets for o in m.offers()]
    parties.post(offers)
    took = time.monotonic() - began
    _say(f"{len(offers)} offers accepted in {took:.1f} s ({len(offers) / took:.0f} per s); the gate closes")
    ticker.tick(markets[0].closes_ms)
    closed = _await(reader, ev.GateClosed, len(markets))
    cleared = _await(reader, ev.MarketCleared, len(markets))
    times = sorted((cleared[a][0] - closed[a][0]) / 1000 for a in cleared)
    slots = [s.status.value for _, e in cleared.values() for s in e.slots]
    parties.close()
    ticker.close()
    reader.close()
    return {
        "areas": len(markets),
        "offers": len(offers),
        "offers_per_s": round(len(offers) / took, 1),
        "gate_to_published_s": [round(t, 2) for t in times],
        "p95_s": round(times[max(0, -(-len(times) * 95 // 100) - 1)], 2),
        "awards": {a: len(e.awards) for a, (_, e) in sorted(cleared.items())},
        "slots": {s: slots.count(s) for s in sorted(set(slots))},
    }


def large_day(_: int) -> Iterator[Figure]:
    """500 participants and 20,000 offers in 5 areas on one machine, every service running, on the hardest day."""
    found = day(5, 500, 20_000)
    _say(json.dumps(found))
    kept = found["slots"].get("BASELINE_KEPT", 0)
    yield Figure("large day: slots that are not cleared", kept, "slots", 0, at_most=True)
    yield Figure("large day: gate closed to published, p95", found["p95_s"], "s", P95_S, at_most=True)


def area_case(kind: str = "sunny") -> Case:
    """Return what one of five areas of the large day clears, folded from its events without a broker.

    Args:
        kind: winter, sunny, or a date.
    """
    market = large_market(scenario_of(DEFAULT_GRID, kind), 5, 500, 20_000)[0]
    gate = {"area_id": market.area_id, "session_id": market.session_id}
    sends = [*market.founding(), *market.grid(), *market.assets(), *market.approvals()]
    sends += [(FMO, ev.GateOpened(**gate, at_ms=market.opens_ms)), market.forecast()]
    sends += [(o.fsp_id, ev.FlexOfferSubmitted(area_id=market.area_id, offer=o)) for o in market.offers()]
    sends.append((FMO, ev.GateClosed(**gate, at_ms=market.closes_ms)))
    state = session.Sessions()
    for n, (sender, event) in enumerate(sends):
        at_ms = market.opens_ms
        fact = Fact(
            event=event, event_id=str(n), sender_id=sender, on_behalf_of=None, received_at_ms=at_ms, block=n, index=0
        )
        state = session.fold(state, fact)
    (job,) = session.decide(state, fact)
    assert isinstance(job, Job)
    return case_of(job.arguments[0])


def area_figures(_: int) -> Iterator[Figure]:
    """One area of the large day alone: processor time of `clear`, the least of five, as a worker of the bus runs it."""
    case = area_case()
    with no_collection():
        seconds = min(cleared(case)[0] for _ in range(5))
    yield Figure("large day: clear one area, processor time", seconds, "s", P95_S / 5, at_most=True, binding=False)


def main(arguments: list[str] | None = None) -> int:
    """Run the day and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--areas", type=int, default=5)
    parser.add_argument("--participants", type=int, default=500)
    parser.add_argument("--offers", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2, help="processes of the clearing stage")
    parser.add_argument("--day", default="sunny", help="winter, sunny, or a date of the profile year")
    options = parser.parse_args(arguments)
    print(json.dumps(day(options.areas, options.participants, options.offers, options.workers, options.day)))
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _await(reader: Client, kind: type[Any], count: int, patience_s: float = 300) -> dict[str, tuple[int, Any]]:
    """Return time of receipt and event of one kind per area, when all areas have it on the public topic."""
    deadline = time.monotonic() + patience_s
    found: dict[str, tuple[int, Any]] = {}
    while True:
        since = max((at_ms for at_ms, _ in found.values()), default="start")
        found |= {r.area_id: (r.received_at_ms, r.event) for r in reader.consume(kind, from_=since)}
        if len(found) >= count:
            return found
        if time.monotonic() > deadline:
            raise SystemExit(f"only {len(found)} of {count} areas have {kind.__name__}")
        time.sleep(3.0)  # times are the broker's, and whoever looks takes processor time from those who work


if __name__ == "__main__":
    sys.exit(main())
