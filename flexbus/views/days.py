"""Days, by which views keep what is asked for by time: nobody who asks must go through all that ever was."""

__all__ = ["DAY_MS", "days_of"]

DAY_MS = 86_400_000


def days_of(from_ms: int, until_ms: int) -> range:
    """Return the days since 1970, UTC, that share an instant with a period.

    Args:
        from_ms: start of the period, UTC ms.
        until_ms: its end, UTC ms.
    """
    return range(from_ms // DAY_MS, -(-until_ms // DAY_MS))
