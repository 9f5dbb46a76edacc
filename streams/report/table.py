"""Tables of the report; pure."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

__all__ = ["short", "table"]

# Rows printed of long tables; what is left out is counted under the table.
MOST = 150


def short(text: str | None) -> str:
    """Return an identifier, a long one shortened."""
    name = text or "–"
    return f"{name[:8]}…" if len(name) > 20 else name


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[Any]],
    numeric: Sequence[int] = (),
    empty: str = "None.",
    total: Sequence[Any] | None = None,
) -> str:
    """Return a table as HTML; every cell is escaped.

    Args:
        head: headings.
        rows: rows of cells.
        numeric: columns that are right-aligned.
        empty: what is said if there is no row.
        total: last row, shown also where rows are cut off.
    """

    def cell(k: int, value: Any, tag: str) -> str:
        kind = ' class="n"' if k in numeric else ""
        return f"<{tag}{kind}>{escape(str(value))}</{tag}>"

    listed = list(rows)
    if not listed:
        return f'<p class="note">{escape(empty)}</p>'
    lines = [(row, "") for row in listed[:MOST]] + ([(total, ' class="sum"')] if total else [])
    body = "".join(f"<tr{k}>{''.join(cell(n, v, 'td') for n, v in enumerate(row))}</tr>" for row, k in lines)
    more = f'<p class="note">… and {len(listed) - MOST} more.</p>' if len(listed) > MOST else ""
    columns = "".join(cell(k, v, "th") for k, v in enumerate(head))
    return f"<div class=wide><table><thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table></div>{more}"
