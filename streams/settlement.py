"""The settlement stage: deliveries from readings and baselines, settlements and their corrections."""

from flexbus.catalogue import Service
from flexbus.views import settlement
from streams.area import Stage

__all__ = ["STAGE"]

STAGE = Stage(
    service=Service.SETTLEMENT.value,
    new_state=settlement.Settlements,
    fold=settlement.fold,
    decide=settlement.decide,
    outputs=frozenset({"DeliveryComputed", "SettlementComputed", "SettlementCorrected"}),
    reads=settlement.READS,
)
