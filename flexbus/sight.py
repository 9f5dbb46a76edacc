"""What each party sees of an event: the catalogue's columns `see`, `parties` and `identities`, applied; pure.

In full: the market operator, auditors, who sent it, whom it names outside lists, and roles with full sight.
Without identities: roles with that sight; what is their own stays readable to them.
Their own part: parties named only inside lists (a provider in the awards) get the event with their entries alone.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from flexbus.access import told
from flexbus.catalogue import Kind, Sight, has_hidden, values_at, without_identities
from flexbus.events import Role

__all__ = ["public_view", "views_of"]


def public_view(event: Any, kind: Kind) -> Any:
    """Return the event as anyone may see it; None if nobody else may.

    Args:
        event: an event of the catalogue.
        kind: its row.
    """
    if kind.public is None:
        return None
    return event if kind.public is Sight.FULL else without_identities(event)


def views_of(
    event: Any, kind: Kind, senders: tuple[str, ...], roles: Mapping[str, frozenset[Role]], public: Any = None
) -> Iterator[tuple[str, Any]]:
    """Yield each party of the area that sees something of an event, with what it sees.

    Args:
        event: an event of the catalogue; yielded itself, not a copy, to those who see it in full.
        kind: its row.
        senders: who sent it and on whose behalf.
        roles: roles by party, in the event's area at its position in the journal.
        public: what `public_view` gave, if it was asked; who sees no more is given the same.
    """
    in_full = {party for path in kind.parties if "[]" not in path for party in values_at(event, path) if party}
    in_full.update(senders)
    own = _own_entries(event, kind)
    keepers, nobodys = has_hidden(event), None if public is event else public
    for party, has in roles.items():
        sights = {sight for role in has if (sight := told(role, kind)) is not None}
        if party in in_full or Sight.FULL in sights:
            yield party, event
        elif sights and party in keepers:
            yield party, without_identities(event, keep=party)
        elif sights:
            if nobodys is None:
                nobodys = without_identities(event)
            yield party, nobodys
        elif party in own:
            yield party, without_identities(replace(event, **own[party]), keep=party)


def _own_entries(event: Any, kind: Kind) -> Mapping[str, dict[str, tuple[Any, ...]]]:
    """Return, per party named in lists, those lists with only its entries."""
    lists = [path.split("[].") for path in kind.parties if "[]." in path]
    empty: dict[str, tuple[Any, ...]] = {name: () for name, _ in lists}
    entries: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for name, owner in lists:
        for item in getattr(event, name):
            if party := getattr(item, owner):
                entries[party][name].append(item)
    return {party: empty | {name: tuple(items) for name, items in found.items()} for party, found in entries.items()}
