"""The clearing stage: when a gate closes, clears the session in a process of its own and tells awards and prices."""

from clearing import session
from flexbus.catalogue import Service
from streams.area import Stage

__all__ = ["STAGE"]

STAGE = Stage(
    service=Service.CLEARING.value,
    new_state=session.Sessions,
    fold=session.fold,
    decide=session.decide,
    outputs=frozenset({"GridStatePublished", "NodalPricesPublished", "MarketCleared"}),
    reads=session.READS,
    imports=("clearing.facts", "clearing.pipeline"),
)
