"""Checks at the edge: an event alone (`content_faults`), and against the market it belongs to (`admission_faults`).

The sequencer keeps one `Admission` per area, asks `admission_faults` before it takes an event, and folds what it
has taken with `fold_admission`. Every fault of an event is listed at once, for the person who must act.
"""

from flexbus.validation.admission import FOUNDERS, admission_faults, authority_faults
from flexbus.validation.content import content_faults
from flexbus.validation.rules_signing import signature_faults
from flexbus.validation.state import Admission
from flexbus.validation.state import fold as fold_admission

__all__ = [
    "FOUNDERS",
    "Admission",
    "admission_faults",
    "authority_faults",
    "content_faults",
    "fold_admission",
    "signature_faults",
]
