"""Time as the markets count it: UTC milliseconds, half-open periods, local days of 92, 96 or 100 quarter-hours."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

__all__ = [
    "QUARTER_HOUR_MS",
    "Period",
    "iso",
    "local_day",
    "parse_instant",
    "parse_ms",
    "slot_starts",
]

QUARTER_HOUR_MS = 900_000


@dataclass(frozen=True, slots=True)
class Period:
    """A half-open period [start, end) in UTC milliseconds."""

    start_ms: int
    end_ms: int

    def __post_init__(self) -> None:
        if self.end_ms < self.start_ms:
            raise ValueError(f"period ends ({iso(self.end_ms)}) before it starts ({iso(self.start_ms)})")

    @property
    def duration_s(self) -> int:
        """Length in whole seconds."""
        return (self.end_ms - self.start_ms) // 1000

    def contains(self, at_ms: int) -> bool:
        """Tell whether an instant lies in the period."""
        return self.start_ms <= at_ms < self.end_ms

    def overlaps(self, other: "Period") -> bool:
        """Tell whether two periods share an instant."""
        return self.start_ms < other.end_ms and other.start_ms < self.end_ms

    def slots(self, resolution_s: int) -> int:
        """Return how many whole slots the period has.

        Raises:
            ValueError: the period is not a multiple of the resolution.
        """
        count, rest = divmod(self.end_ms - self.start_ms, resolution_s * 1000)
        if rest:
            raise ValueError(f"{self.duration_s} s is not a multiple of the resolution {resolution_s} s")
        return count


def local_day(day: date, time_zone: str) -> Period:
    """Return the local calendar day as a UTC period: 92, 96 or 100 quarter-hours long.

    Args:
        day: the local date.
        time_zone: IANA name, for example Europe/Helsinki.
    """
    zone = ZoneInfo(time_zone)
    start = datetime(day.year, day.month, day.day, tzinfo=zone)
    after = day + timedelta(days=1)
    end = datetime(after.year, after.month, after.day, tzinfo=zone)
    return Period(_ms(start), _ms(end))


def slot_starts(start_ms: int, resolution_s: int, slots: int) -> range:
    """Return the start of each slot, UTC ms."""
    step = resolution_s * 1000
    return range(start_ms, start_ms + slots * step, step)


def iso(at_ms: int) -> str:
    """Return an instant as ISO 8601 in UTC, to the second where it is whole."""
    text = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds" if at_ms % 1000 else "seconds")
    return text.replace("+00:00", "Z")


def parse_ms(text: str) -> int:
    """Read ISO 8601 with an offset as UTC ms.

    Raises:
        ValueError: not a date-time, or without offset (ambiguous in the repeated hour).
    """
    return _ms(parse_instant(text))


def parse_instant(text: str) -> datetime:
    """Read ISO 8601 with an offset.

    Raises:
        ValueError: as by `parse_ms`.
    """
    at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    if at.tzinfo is None:
        raise ValueError(f"{text!r} has no offset from UTC; add Z or +HH:MM")
    return at


def _ms(at: datetime) -> int:
    delta = at - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1000 + delta.microseconds // 1000
