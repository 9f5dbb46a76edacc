"""A stage does not decode what it says it never looks at; then such an event must change nothing in its state."""

import copy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flexbus.catalogue import CATALOGUE
from streams.area import Stage
from streams.scheduler import VIEW as SCHEDULER
from streams.stages import VIEWS
from tests.property.test_views_total import history, instances

STAGES = [*VIEWS.values(), SCHEDULER]
ANY = st.one_of([instances(kind.event) for kind in CATALOGUE.values()])


def comparable(state: Any) -> Any:
    """The state without what it says of its last fact only."""
    state = copy.deepcopy(state)
    for name in ("due", "jobs"):
        for part in (state, *(getattr(state, f, None) for f in getattr(state, "__slots__", ()))):
            if hasattr(part, name):
                setattr(part, name, ())
    return state


@pytest.mark.parametrize("stage", STAGES, ids=lambda s: s.service)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(before=st.lists(ANY, max_size=12), data=st.data())
def test_what_a_stage_does_not_read_changes_nothing(stage: Stage, before: list[Any], data: st.DataObject) -> None:
    assert stage.reads is not None
    state = stage.new_state()
    for fact in history(before):
        state = stage.fold(state, fact)
    unread = data.draw(st.sampled_from(sorted(set(CATALOGUE) - stage.reads)))
    (fact,) = history([data.draw(instances(CATALOGUE[unread].event))])
    was = comparable(state)
    state = stage.fold(state, fact)
    assert stage.decide(state, fact) == ()
    assert comparable(state) == was
