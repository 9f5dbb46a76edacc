"""Events as flat pandas tables: nested records become prefixed columns, series become one row per slot."""

from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["frame"]

_INSTANT = "_ms"


class _Published(Protocol):
    @property
    def event(self) -> Any: ...
    @property
    def event_id(self) -> str: ...
    @property
    def block(self) -> int: ...
    @property
    def index(self) -> int: ...


def frame(published: Iterable[_Published], rows: str | None = None) -> "pd.DataFrame":
    """Return events as a table.

    Args:
        published: events with their place in the journal, as `Client.consume` yields them.
        rows: field whose entries become the rows; the series in an entry, as long as each other, become one row
            per slot with its `start`. None gives one row per event, with lists as they are.

    Raises:
        ValueError: an event has no such field, or it is no list.
    """
    import pandas as pd

    table = pd.DataFrame.from_records([row for found in published for row in _rows(found, rows)])
    for name in table.columns:
        if name.endswith(_INSTANT):
            table[name] = pd.to_datetime(table[name], unit="ms", utc=True)
    return table.rename(columns={n: n.removesuffix(_INSTANT) for n in table.columns})


def _rows(found: _Published, rows: str | None) -> Iterator[dict[str, Any]]:
    event = found.event
    place: dict[str, Any] = {"event_id": found.event_id, "block": found.block, "index": found.index}
    if rows is None:
        yield place | _flat(event)
        return
    entries = getattr(event, rows, None)
    if not isinstance(entries, tuple):
        lists = [f.name for f in fields(event) if isinstance(getattr(event, f.name), tuple)]
        raise ValueError(f"{type(event).__name__} has no list {rows!r}; it has {', '.join(lists) or 'none'}")
    about = place | {k: v for k, v in _flat(event).items() if not isinstance(v, tuple)}
    start_ms, resolution_s = about.pop("start_ms", None), about.pop("resolution_s", None)
    for number, entry in enumerate(entries):
        if not is_dataclass(entry):  # the field is itself the series
            yield about | _slot(start_ms, resolution_s, number) | {rows: _plain(entry)}
            continue
        yield from _slots(about, _flat(entry), start_ms, resolution_s)


def _slots(
    about: dict[str, Any], entry: dict[str, Any], start_ms: int | None, resolution_s: int | None
) -> Iterator[dict[str, Any]]:
    series = {k: v for k, v in entry.items() if isinstance(v, tuple) and _is_series(v)}
    single = {k: v for k, v in entry.items() if k not in series}
    lengths = {len(v) for v in series.values()}
    start_ms, resolution_s = single.pop("start_ms", start_ms), single.pop("resolution_s", resolution_s)
    if len(lengths) != 1 or resolution_s is None:  # no series, or lists that are none
        yield about | ({} if start_ms is None else {"start_ms": start_ms}) | single | series
        return
    for number in range(lengths.pop()):
        values = {k: v[number] for k, v in series.items()}
        yield about | single | _slot(start_ms, resolution_s, number) | values


def _is_series(values: tuple[Any, ...]) -> bool:
    """Tell numbers per slot from a list of names or of records."""
    return bool(values) and all(v is None or isinstance(v, int | float) for v in values)


def _slot(start_ms: int | None, resolution_s: int | None, number: int) -> dict[str, Any]:
    if start_ms is None or resolution_s is None:
        return {"slot": number}
    return {"start_ms": start_ms + number * resolution_s * 1000}


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in fields(value):
        item = getattr(value, field.name)
        if is_dataclass(item) and not isinstance(item, type):
            found |= _flat(item, f"{prefix}{field.name}.")
        else:
            found[prefix + field.name] = _plain(item)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple) and value and isinstance(value[0], Enum):
        return tuple(_plain(v) for v in value)
    return value
