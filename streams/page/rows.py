"""What the page shows, as rows stamped with a rising revision, and who may see which row; pure.

A browser says which revision it has and gets the rows that changed since, so a lost connection costs nothing
and a slow one gets fewer, larger steps: nothing is queued for it.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from flexbus.access import ALL_SEEING, sight_of
from flexbus.catalogue import CATALOGUE, Sight
from flexbus.events import Role

__all__ = ["EVERYTHING", "Lens", "Row", "Rows", "sight"]

Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Lens:
    """Through whose eyes the page is looked at.

    Attributes:
        role: the role, None to see everything.
        party_id: the party, where its own events matter.
        proven: whether it is the lens of a reader who proved who it is, for whom the page's tools are no excuse.
        area_id: area that a proven reader looks at; what belongs to another is not shown. None = all.
    """

    role: Role | None = None
    party_id: str | None = None
    proven: bool = False
    area_id: str | None = None


EVERYTHING = Lens()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One thing shown, with what decides who may see it.

    Attributes:
        revision: number of the change that wrote it.
        value: plain JSON-able values.
        source: event type it follows from; the catalogue says who may see it. Empty = anyone.
        parties: parties concerned, who see it in full.
        hidden: keys of the value that name others, blanked where identities are removed.
        tool: whether the page needs it to offer a choice, so that it is shown to whoever chooses freely.
    """

    revision: int
    value: dict[str, Any]
    source: str
    parties: frozenset[str]
    hidden: tuple[str, ...]
    tool: bool = False

    def seen(self, lens: Lens) -> dict[str, Any] | None:
        """Return the row as the lens shows it, None if it shows nothing of it."""
        if self.tool and not lens.proven:
            return self.value
        elsewhere = lens.area_id is not None and self.value.get("area_id", lens.area_id) != lens.area_id
        if elsewhere and self.source and lens.party_id not in self.parties:
            return None
        match sight(lens, self.source, self.parties):
            case Sight.FULL:
                return self.value
            case Sight.WITHOUT_IDENTITIES:
                return {k: None if k in self.hidden else v for k, v in self.value.items()}
            case None:
                return None


def sight(lens: Lens, event_type: str, parties: frozenset[str]) -> Sight | None:
    """Return how an event is seen, by the event catalogue.

    Args:
        lens: who looks.
        event_type: type of the event; empty for what anyone may see.
        parties: parties that the event names as concerned.
    """
    if lens.role is None or lens.role in ALL_SEEING or not event_type:
        return Sight.FULL
    if lens.party_id is not None and lens.party_id in parties:
        return Sight.FULL
    kind = CATALOGUE.get(event_type)
    if kind is None:  # a record of the bus itself: the all-seeing and its parties only
        return None
    return sight_of(lens.role, kind)


class Rows:
    """Rows by (area, section, name), the last changed last."""

    def __init__(self) -> None:
        self.revision = 0
        self._rows: OrderedDict[Key, Row] = OrderedDict()

    def next_revision(self) -> int:
        """Count one change and return its number."""
        self.revision += 1
        return self.revision

    def put(
        self,
        area_id: str,
        section: str,
        name: str,
        value: dict[str, Any],
        *,
        source: str = "",
        parties: frozenset[str] = frozenset(),
        hidden: tuple[str, ...] = (),
        tool: bool = False,
    ) -> None:
        """Write a row. The value may be one that is written again later with other content: it is not copied."""
        key = (area_id, section, name)
        self._rows[key] = Row(
            revision=self.next_revision(), value=value, source=source, parties=parties, hidden=hidden, tool=tool
        )
        self._rows.move_to_end(key)

    def get(self, area_id: str, section: str, name: str) -> dict[str, Any] | None:
        """Return the value of a row, None if there is none."""
        row = self._rows.get((area_id, section, name))
        return None if row is None else row.value

    def section(self, area_id: str, section: str) -> dict[str, dict[str, Any]]:
        """Return the values of a section by name, sorted by name."""
        found = {n: row.value for (a, s, n), row in self._rows.items() if a == area_id and s == section}
        return dict(sorted(found.items()))

    def since(self, revision: int) -> Iterator[tuple[Key, Row]]:
        """Yield the rows changed after a revision, newest first."""
        for key in reversed(self._rows):
            row = self._rows[key]
            if row.revision <= revision:
                return
            yield key, row
