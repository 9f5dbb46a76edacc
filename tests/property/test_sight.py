"""Who owns nothing that an event hides is shown what anyone is shown who sees it without identities."""

from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexbus import sight
from flexbus.catalogue import CATALOGUE
from flexbus.events import Role
from tests import strange

PARTIES = ("a", "b", "c")
ROLES = st.fixed_dictionaries({p: st.frozensets(st.sampled_from(list(Role)), max_size=2) for p in PARTIES})


def views(event: Any, roles: dict[str, frozenset[Role]], public: Any = None) -> Iterator[tuple[str, Any]]:
    return sight.views_of(event, CATALOGUE[type(event).__name__], ("c",), roles, public)


@pytest.mark.parametrize("name", sorted(CATALOGUE))
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_view_that_is_shared_is_what_the_party_would_see_by_itself(name: str, data: st.DataObject) -> None:
    event, roles = data.draw(strange.events(CATALOGUE[name].event)), data.draw(ROLES)
    with mock.patch.object(sight, "has_hidden", return_value=frozenset(PARTIES)):
        expected = list(views(event, roles))
    assert list(views(event, roles)) == expected
    assert list(views(event, roles, sight.public_view(event, CATALOGUE[name]))) == expected
