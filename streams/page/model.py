"""The state of the page: a pure fold of journal blocks, rejections and the market's clock.

Everything that is shown is in `PageState.rows` and `PageState.tail` as plain JSON-able values; memory is
bounded by the market (areas, buses, offers), not by the length of the journal.
"""

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from flexbus.catalogue import SERVICES_BY_ID, parties_of
from flexbus.errors import ChainError
from flexbus.events import EventRejected
from flexbus.journal import Block, verify_block
from flexbus.views.fact import Fact, facts_of
from streams.page.area import Area
from streams.page.handlers import apply
from streams.page.rows import EVERYTHING, Lens, Row, Rows
from streams.page.summary import summary_of
from streams.page.tell import tell

__all__ = [
    "PageState",
    "changes",
    "fold",
    "fold_clock",
    "fold_rejection",
    "search_tail",
    "snapshot",
    "summary",
    "tail_since",
]

TAIL_KEPT = 5000
REJECTIONS_KEPT = 500
TIMELINE_KEPT = 400
# What one tells of a day afterwards.
TURNING_POINTS = frozenset(
    {
        "AreaOpened",
        "NetworkModelPublished",
        "NetForecastPublished",
        "MarketSessionScheduled",
        "GateOpened",
        "GateClosed",
        "MarketCleared",
        "AggregateActivated",
        "AggregateDisaggregated",
        "CapacityLimitForeseen",
        "CapacityLimitUnforeseen",
        "CapacityLimitLifted",
        "ActivationRefused",
        "ActivationTimedOut",
        "ActivationStopped",
        "DeliveryEnded",
        "SettlementDue",
        "SettlementComputed",
        "SettlementDisputed",
        "SettlementCorrected",
        "SettlementApproved",
    }
)


@dataclass(slots=True)
class PageState:
    """What the page shows and the working state behind it."""

    rows: Rows = field(default_factory=Rows)
    areas: dict[str, Area] = field(default_factory=dict)
    chains: dict[str, dict[str, Any]] = field(default_factory=dict)
    heads: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    timeline: dict[str, deque[dict[str, Any]]] = field(default_factory=dict)
    tail: deque[tuple[str, Row]] = field(default_factory=lambda: deque(maxlen=TAIL_KEPT))
    rejected: int = 0
    rejected_until: dict[tuple[str, int], int] = field(default_factory=dict)
    rejections: Counter[str] = field(default_factory=Counter)
    clock_ms: int | None = None


def fold(state: PageState, block: Block) -> PageState:
    """Fold one journal block: check that it continues its chain, then apply its entries.

    Args:
        state: changed and returned.
        block: the next block of its area. The same block again changes nothing.
    """
    area_id = block.area_id
    head = state.heads.get(area_id)
    chain = state.chains.setdefault(
        area_id, {"blocks": 0, "entries": 0, "last_hash": "", "verified": True, "fault": None}
    )
    if head is not None and (block.number, block.hash) == head:
        return state
    try:
        verify_block(head, block)
    except ChainError as error:
        if chain["verified"]:  # the first fault is the one that explains the others
            chain |= {"verified": False, "fault": str(error)}
    state.heads[area_id] = (block.number, block.hash)
    if area_id not in state.areas:
        state.areas[area_id] = Area(area_id, state.rows)
        state.rows.put("", "areas", area_id, state.areas[area_id].info)
    for fact in facts_of(block):
        apply(state.areas[area_id], fact)
        _remember(state, area_id, block, fact)
    chain |= {
        "blocks": block.number + 1,
        "entries": chain["entries"] + len(block.entries),
        "last_hash": block.hash.hex(),
    }
    state.rows.put(area_id, "chain", "chain", {name: chain[name] for name in chain if name != "last_hash"})
    # Who knows all of a block but a few names could find them by trying which give its hash.
    state.rows.put(area_id, "chain", "head", {"last_hash": chain["last_hash"]}, source=Block.__name__)
    return state


def _remember(state: PageState, area_id: str, block: Block, fact: Fact) -> None:
    entry = block.entries[fact.index]
    value = {
        "block": fact.block,
        "index": fact.index,
        "type": entry.event_type,
        "sender_id": fact.sender_id,
        "on_behalf_of": fact.on_behalf_of,
        "received_at_ms": fact.received_at_ms,
        "bytes": len(entry.payload),
        "text": tell(fact.event),
    }
    row = Row(
        revision=state.rows.next_revision(),
        value=value,
        source=entry.event_type,
        parties=parties_of(fact.event) | {fact.sender_id, fact.actor_id},
        hidden=("sender_id", "on_behalf_of", "text", "bytes"),
    )
    state.tail.append((area_id, row))
    if entry.event_type in TURNING_POINTS:
        state.timeline.setdefault(area_id, deque(maxlen=TIMELINE_KEPT)).append(value)


def fold_rejection(state: PageState, rejection: EventRejected) -> PageState:
    """Fold one rejection; the same one again changes nothing."""
    inbox = (rejection.inbox_topic, rejection.inbox_partition)
    if rejection.inbox_offset <= state.rejected_until.get(inbox, -1):
        return state
    state.rejected_until[inbox] = rejection.inbox_offset
    state.rejected += 1
    # What the bus's own services send twice after a restart is shown, but is no result of the day.
    if rejection.sender_id not in SERVICES_BY_ID:
        state.rejections.update({f.code.value for f in rejection.faults})
    value = {
        "rejection_id": rejection.rejection_id,
        "area_id": rejection.area_id,
        "event_type": rejection.event_type,
        "event_id": rejection.event_id,
        "sender_id": rejection.sender_id,
        "on_behalf_of": rejection.on_behalf_of,
        "received_at_ms": rejection.received_at_ms,
        "bytes": len(rejection.original),
        "faults": [{"code": f.code.value, "path": f.path, "message": f.message} for f in rejection.faults],
        "number": state.rejected,
    }
    # Only the newest are shown: a row's name is its place in a ring.
    name = f"{state.rejected % REJECTIONS_KEPT:04d}"
    state.rows.put("", "rejections", name, value, source="EventRejected", parties=frozenset({rejection.sender_id}))
    return state


def fold_clock(state: PageState, market_time_ms: int) -> PageState:
    """Take a tick of the market's clock."""
    if state.clock_ms is None or market_time_ms > state.clock_ms:
        state.clock_ms = market_time_ms
        state.rows.put("", "clock", "clock", {"market_time_ms": market_time_ms})
    return state


def changes(state: PageState, revision: int, area_id: str, lens: Lens = EVERYTHING) -> Iterator[tuple[Any, ...]]:
    """Yield (section, name, value) of what changed after a revision, as the lens shows it."""
    for (area, section, name), row in state.rows.since(revision):
        if area in ("", area_id) and (value := row.seen(lens)) is not None:
            yield section, name, value


def tail_since(state: PageState, revision: int, area_id: str, lens: Lens, limit: int) -> list[dict[str, Any]]:
    """Return the newest entries after a revision, oldest first, as the lens shows them."""
    found: list[dict[str, Any]] = []
    for area, row in reversed(state.tail):
        if row.revision <= revision or len(found) >= limit:
            break
        if area == area_id and (value := row.seen(lens)) is not None:
            found.append(value)
    return found[::-1]


def search_tail(
    state: PageState,
    area_id: str,
    lens: Lens,
    *,
    event_type: str = "",
    party_id: str = "",
    text: str = "",
    before: tuple[int, int] | None = None,
    limit: int = 250,
) -> list[dict[str, Any]]:
    """Return the newest entries that match, oldest first, of those kept in memory.

    Args:
        state: the state.
        area_id: market area.
        lens: through whose eyes.
        event_type: type wanted; empty = any.
        party_id: sender, or party acted for; empty = any.
        text: what type, sender or text contain, in any case; empty = anything.
        before: block and index that the entries precede; None for the newest.
        limit: most entries.
    """
    found: list[dict[str, Any]] = []
    sought = text.casefold()
    for area, row in reversed(state.tail):
        value = row.seen(lens) if area == area_id else None
        if value is None or (before is not None and (value["block"], value["index"]) >= before):
            continue
        if event_type and value["type"] != event_type:
            continue
        if party_id and party_id not in (value["sender_id"], value["on_behalf_of"]):
            continue
        if sought and sought not in f"{value['type']} {value['sender_id']} {value['text']}".casefold():
            continue
        found.append(value)
        if len(found) == limit:
            break
    return found[::-1]


def snapshot(state: PageState, area_id: str | None = None, lens: Lens = EVERYTHING, tail: int = 200) -> dict[str, Any]:
    """Return everything shown of an area as one JSON-able value.

    Args:
        state: the state.
        area_id: the area; None takes the first.
        lens: through whose eyes.
        tail: most journal entries.
    """
    chosen = area_id if area_id is not None else next(iter(sorted(state.areas)), "")
    sections: dict[str, dict[str, Any]] = {}
    for section, name, value in changes(state, -1, chosen, lens):
        sections.setdefault(section, {})[name] = value
    return {
        "area_id": chosen,
        "revision": state.rows.revision,
        "sections": {s: dict(sorted(named.items())) for s, named in sorted(sections.items())},
        "tail": tail_since(state, -1, chosen, lens, tail),
    }


def summary(state: PageState) -> dict[str, Any]:
    """Return the final numbers of the day, which no restart of a process may change; see `summary_of`."""
    return {
        "areas": {area_id: summary_of(area) for area_id, area in sorted(state.areas.items())},
        "rejections": dict(sorted(state.rejections.items())),
    }
