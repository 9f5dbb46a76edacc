"""The aggregation stage: sums offers at the gate, offers the rest upward to the TSO, splits what it activates."""

from flexbus.catalogue import Service
from flexbus.views import aggregation
from streams.area import Stage

__all__ = ["STAGE"]

STAGE = Stage(
    service=Service.AGGREGATION.value,
    new_state=aggregation.Aggregates,
    fold=aggregation.fold,
    decide=aggregation.decide,
    outputs=frozenset({"OffersAggregated", "AggregateOffered", "AggregateDisaggregated"}),
    reads=aggregation.READS,
)
