"""A stage small enough to see through: numbers what it is told, some of it in a process of its own.

Run as a program, it is one worker: python -m tests.integration.toy_stage BOOTSTRAP SLOT [RUN_DIR]
"""

import logging
import os
import sys
import threading
import time
from pathlib import Path

from flexbus import events as ev
from flexbus.ids import derived_id
from flexbus.views.fact import Emission, Fact, Job, emit
from streams.area import Stage
from streams.context import Context
from streams.kafka import Connection
from streams.monitor import Monitor
from streams.process import stop_on_signals
from streams.stage import run_stage

SERVICE = "congestion"
JOB_EVERY = 5
CHECKPOINT_EVERY = 10


def number(state: list[str], fact: Fact) -> list[str]:
    if isinstance(fact.event, ev.FlexRequestWithdrawn):
        state.append(fact.event.request_id)
    return state


def answer(area_id: str, request_id: str, count: int, part: str) -> Emission:
    event = ev.RequestMissedGate(area_id=area_id, session_id="s", request_id=request_id, reason=f"{part}{count}")
    return emit(event, request_id, part)


def compute(area_id: str, request_id: str, count: int) -> tuple[Emission, ...]:
    if request_id.startswith("slow"):
        time.sleep(1.5)
    if request_id.startswith("broken"):
        raise ValueError("cannot compute this")
    if request_id.startswith("crash-once"):
        mark = Path(request_id.partition(":")[2])
        if not mark.exists():
            mark.touch()
            os._exit(1)
    return answer(area_id, request_id, count, "job first "), answer(area_id, request_id, count, "job last ")


def decide(state: list[str], fact: Fact) -> tuple[Emission | Job, ...]:
    if not isinstance(fact.event, ev.FlexRequestWithdrawn):
        return ()
    area, request, count = fact.event.area_id, fact.event.request_id, len(state)
    if count % JOB_EVERY and not request.startswith(("slow", "broken", "crash-once")):
        return (answer(area, request, count, "plain "),)
    job_id = derived_id("RequestMissedGate", area, request, "job last ")
    return (Job(job_id=job_id, run=compute, arguments=(area, request, count)),)


STAGE = Stage(
    service=SERVICE,
    new_state=list,
    fold=number,
    decide=decide,
    outputs=frozenset({"RequestMissedGate"}),
    imports=("tests.integration.toy_stage",),
    row=lambda state: {"asked": len(state)},
)


def main() -> None:
    bootstrap, slot, *rest = sys.argv[1:]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    stop = threading.Event()
    stop_on_signals(stop)
    run_dir = Path(rest[0]) if rest else None
    monitor = Monitor(SERVICE, run_dir, int(slot))
    monitor.serve()
    context = Context(
        service=SERVICE,
        connection=Connection.of(bootstrap),
        monitor=monitor,
        stop=stop,
        slot=int(slot),
        run_dir=run_dir,
        checkpoint_every=CHECKPOINT_EVERY,
    )
    run_stage(STAGE, context)
    monitor.close()


if __name__ == "__main__":
    main()
