"""The activation stage: orders what was awarded, watches acknowledgements, stops what limits forbid."""

from flexbus.catalogue import Service
from flexbus.views import activation
from streams.area import Stage

__all__ = ["STAGE"]

STAGE = Stage(
    service=Service.ACTIVATION.value,
    new_state=activation.Activations,
    fold=activation.fold,
    decide=activation.decide,
    outputs=frozenset({"ActivationOrdered", "ActivationStopped", "ActivationTimedOut"}),
    reads=activation.READS,
)
