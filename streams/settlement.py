"""The settlement stage: deliveries from readings and baselines, settlements and their corrections."""

from collections import Counter

from flexbus.catalogue import Service
from flexbus.views import settlement
from streams.area import Stage

__all__ = ["STAGE"]


def _row(state: settlement.Settlements) -> dict[str, int]:
    """Return the settlements by state, and the sum of their newest revisions."""
    states = Counter(s.state for s in state.settlements.values())
    row = {f"settlements_{found.value.lower()}": states[found] for found in settlement.SettlementState}
    return {**row, "total_cents": sum(s.newest.total_cents for s in state.settlements.values())}


STAGE = Stage(
    service=Service.SETTLEMENT.value,
    new_state=settlement.Settlements,
    fold=settlement.fold,
    decide=settlement.decide,
    outputs=frozenset({"DeliveryComputed", "SettlementComputed", "SettlementCorrected"}),
    reads=settlement.READS,
    row=_row,
)
