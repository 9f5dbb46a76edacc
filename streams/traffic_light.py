"""The traffic-light stage: lights and limits per connection point and hour, and the offers they clip."""

from collections import Counter

from flexbus.catalogue import Service
from flexbus.events import Colour
from flexbus.views import traffic_light
from streams.area import Stage

__all__ = ["STAGE"]

_HOUR_MS = 3_600_000
_WORST_FIRST = (Colour.RED, Colour.YELLOW, Colour.GREEN)


def _row(state: traffic_light.TrafficLights) -> dict[str, int]:
    """Return how many points have which light, as last told for the hour of the market time; untold is green."""
    now_ms = state.registry.market_time_ms
    hours = {}  # of the sessions that are being delivered now
    for session_id, session in state.registry.sessions.items():
        if session.scheduled.delivery_start_ms <= now_ms < session.scheduled.delivery_end_ms:
            hours[session_id] = now_ms // _HOUR_MS - session.scheduled.delivery_start_ms // _HOUR_MS
    told: dict[str, Colour] = {}
    for (session_id, point_id), lights in state.shown.items():
        if session_id in hours and point_id in state.registry.connection_points:
            now = lights[hours[session_id]][0]
            told[point_id] = min(now, told.get(point_id, Colour.GREEN), key=_WORST_FIRST.index)
    points = Counter(told.values())
    points[Colour.GREEN] += len(state.registry.connection_points) - len(told)
    return {f"points_{colour.value.lower()}": points[colour] for colour in reversed(_WORST_FIRST)}


STAGE = Stage(
    service=Service.TRAFFIC_LIGHT.value,
    new_state=traffic_light.TrafficLights,
    fold=traffic_light.fold,
    decide=traffic_light.decide,
    outputs=frozenset({"TrafficLightChanged", "FlexOfferClipped"}),
    reads=traffic_light.READS,
    row=_row,
)
