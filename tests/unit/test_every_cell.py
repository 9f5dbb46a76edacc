"""The market in which everybody sends what it may is valid, and leaves no cell of the table out."""

from flexbus.access import TABLE, Verb
from flexbus.catalogue import CATALOGUE, Service
from flexbus.validation import Admission, admission_faults, content_faults, fold_admission
from flexbus.views.fact import Fact
from tests.every_cell import AREA, PARTY_OF, story


def test_every_event_of_it_is_admitted_by_all_rules() -> None:
    state = Admission()
    for number, sent in enumerate(story()):
        name = type(sent.event).__name__
        found = (*content_faults(sent.event), *admission_faults(state, sent.event, sent.sender, None, 1))
        assert found == (), (sent.sender, name, [str(f) for f in found])
        assert sent.event.area_id == AREA
        fact = Fact(
            event=sent.event,
            event_id=str(number),
            sender_id=sent.sender,
            on_behalf_of=None,
            received_at_ms=1,
            block=number,
            index=0,
        )
        fold_admission(state, fact)


def test_it_holds_every_cell_in_which_somebody_may_send() -> None:
    told = {(sent.sender, type(sent.event).__name__) for sent in story()}
    may = {(PARTY_OF[role], name) for (role, name), verbs in TABLE.items() if Verb.SEND in verbs}
    may |= {(s.value, name) for name, kind in CATALOGUE.items() for s in kind.send if isinstance(s, Service)}
    assert told == may
