"""The clearing of sessions: the fold it needs, and the computation that a closed gate makes due."""

from dataclasses import dataclass, field

from clearing.facts import clear_session, facts_uncleared, market_cleared_id
from clearing.snapshot import obstacle, snapshot_of
from flexbus import events as ev
from flexbus.views import clearing, traffic_light
from flexbus.views.clearing import Results
from flexbus.views.fact import Emission, Fact, Job
from flexbus.views.traffic_light import TrafficLights

__all__ = ["READS", "Sessions", "decide", "fold"]

READS = traffic_light.READS | clearing.READS


@dataclass(slots=True)
class Sessions:
    """What the clearing of one area's sessions depends on.

    Attributes:
        lights: lights and limits, with the registry and the order book.
        results: what is cleared already.
        closed: sessions whose gate has closed.
        due: what the last fact makes due.
    """

    lights: TrafficLights = field(default_factory=TrafficLights)
    results: Results = field(default_factory=Results)
    closed: set[str] = field(default_factory=set)
    due: tuple[Emission | Job, ...] = ()


def fold(state: Sessions, fact: Fact) -> Sessions:
    """Return the state after a fact."""
    state.lights = traffic_light.fold(state.lights, fact)
    state.results = clearing.fold(state.results, fact)
    state.due = _due(state, fact.event) if isinstance(fact.event, ev.GateClosed) else ()
    return state


def decide(state: Sessions, fact: Fact) -> tuple[Emission | Job, ...]:
    """Return the clearing that the fact just folded makes due: once per session, when its gate closes."""
    return state.due


def _due(state: Sessions, e: ev.GateClosed) -> tuple[Emission | Job, ...]:
    if e.session_id in state.closed or e.session_id not in state.lights.registry.sessions:
        return ()
    state.closed.add(e.session_id)
    snapshot = snapshot_of(state.lights, state.results, e.session_id)
    problem = obstacle(snapshot)
    if problem is not None:
        return facts_uncleared(snapshot, problem)
    job_id = market_cleared_id(e.area_id, e.session_id)
    return (Job(job_id=job_id, run=clear_session, arguments=(snapshot,)),)
