"""The activation stage: orders what was awarded, watches acknowledgements, stops what limits forbid."""

from collections import Counter

from flexbus.catalogue import Service
from flexbus.views import activation
from streams.area import Stage

__all__ = ["STAGE"]


def _row(state: activation.Activations) -> dict[str, int]:
    """Return the activations by the provider's answer, and the orders still to be given."""
    answers = Counter(a.state for a in state.activations.values())
    row = {f"activations_{answer.value.lower()}": answers[answer] for answer in activation.ActivationState}
    return {**row, "orders_to_come": sum(map(len, state.waiting.values()))}


STAGE = Stage(
    service=Service.ACTIVATION.value,
    new_state=activation.Activations,
    fold=activation.fold,
    decide=activation.decide,
    outputs=frozenset({"ActivationOrdered", "ActivationStopped", "ActivationTimedOut"}),
    reads=activation.READS,
    row=_row,
)
