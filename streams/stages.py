"""The stages of the market in one table; pure, for replay, tests and whoever wants to know what is owed."""

from collections.abc import Mapping

from streams import activation, aggregation, clearing, congestion, settlement, traffic_light
from streams.area import Stage

__all__ = ["VIEWS"]

VIEWS: Mapping[str, Stage] = {
    stage.service: stage
    for stage in (
        congestion.STAGE,
        aggregation.STAGE,
        traffic_light.STAGE,
        clearing.STAGE,
        activation.STAGE,
        settlement.STAGE,
    )
}
