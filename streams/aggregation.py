"""The aggregation stage: sums offers at the gate, offers the rest upward to the TSO, splits what it activates."""

from collections import Counter

from flexbus.catalogue import Service
from flexbus.quantities import Direction
from flexbus.time import slot_starts
from flexbus.views import aggregation
from streams.area import Stage

__all__ = ["STAGE"]


def _row(state: aggregation.Aggregates) -> dict[str, int]:
    """Return the aggregates that are offered upward and not over, and the power of their greatest slot."""
    now_ms = state.registry.market_time_ms
    offered = [o.event for o in state.offered.values()]
    live = [e for e in offered if e.start_ms + len(e.power_w) * e.resolution_s * 1000 > now_ms]
    row = {"aggregates_offered": len(live)}
    for direction in Direction:
        power_w: Counter[int] = Counter()
        for e in live:
            if e.direction is direction:
                power_w.update(
                    dict(zip(slot_starts(e.start_ms, e.resolution_s, len(e.power_w)), e.power_w, strict=True))
                )
        row[f"offered_{direction.value.lower()}_peak_w"] = max(power_w.values(), default=0)
    return row


STAGE = Stage(
    service=Service.AGGREGATION.value,
    new_state=aggregation.Aggregates,
    fold=aggregation.fold,
    decide=aggregation.decide,
    outputs=frozenset({"OffersAggregated", "AggregateOffered", "AggregateDisaggregated"}),
    reads=aggregation.READS,
    row=_row,
)
