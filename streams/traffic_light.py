"""The traffic-light stage: lights and limits per connection point and hour, and the offers they clip."""

from flexbus.catalogue import Service
from flexbus.views import traffic_light
from streams.area import Stage

__all__ = ["STAGE"]

STAGE = Stage(
    service=Service.TRAFFIC_LIGHT.value,
    new_state=traffic_light.TrafficLights,
    fold=traffic_light.fold,
    decide=traffic_light.decide,
    outputs=frozenset({"TrafficLightChanged", "FlexOfferClipped"}),
    reads=traffic_light.READS,
)
