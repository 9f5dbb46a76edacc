"""One area as the report reads it; pure."""

from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from streams.page.area import Area, Session
from streams.page.model import PageState

__all__ = ["View"]


class View:
    """One area: its rows, the numbers of its day, and its local time."""

    def __init__(self, state: PageState, area: Area, numbers: dict[str, Any]) -> None:
        self.state, self.area, self.numbers = state, area, numbers
        self.zone: tzinfo
        try:
            self.zone = ZoneInfo(area.info["time_zone"])
        except (ZoneInfoNotFoundError, ValueError):
            self.zone = UTC

    def section(self, name: str) -> dict[str, dict[str, Any]]:
        """Return the values of a section of rows by name."""
        return self.state.rows.section(self.area.area_id, name)

    def of(self, name: str, session: Session) -> list[dict[str, Any]]:
        """Return a session's values of a section."""
        return [r for r in self.section(name).values() if r["session_id"] == session.session_id]

    def clock(self, at_ms: int, form: str = "%H:%M") -> str:
        """Return an instant in the local time of the area."""
        return datetime.fromtimestamp(at_ms / 1000, self.zone).strftime(form)

    def span(self, row: dict[str, Any], count: int) -> str:
        """Return the period of a series, from and to."""
        return f"{self.clock(row['start_ms'])}–{self.clock(row['start_ms'] + count * row['resolution_s'] * 1000)}"

    def hours(self, session: Session) -> list[str]:
        """Return a label per slot: the hour at every fourth, else empty."""
        step = max(1, 4 * 3600 // session.slots.resolution_s)
        starts = range(session.slots.count)
        return [
            self.clock(session.slots.start_ms + k * session.slots.resolution_s * 1000) if k % step == 0 else ""
            for k in starts
        ]
