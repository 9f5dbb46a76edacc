"""The facts that must follow from others, once each: the market's rules as the journal shows them, without the stages.

Only what can be told from the journal itself: what the clock makes due, one result per closed gate, one order per run
of awarded slots, a time-out where nobody answered, a delivery and a settlement for what was ordered. And what tells a
change must tell one.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["CHANGES", "CLOCK_FACTS", "KEYS", "Story", "told"]

Key = tuple[str, ...]

# What a derived fact is about: two of the same are one too many, whatever their ids.
KEYS: dict[str, tuple[str, ...]] = {
    "GateOpened": ("session_id",),
    "GateClosed": ("session_id",),
    "DeliveryStarted": ("session_id", "start_ms"),
    "DeliveryEnded": ("session_id",),
    "SettlementDue": ("session_id",),
    "MarketCleared": ("session_id",),
    "NodalPricesPublished": ("session_id",),
    "OffersAggregated": ("session_id", "infeed_id", "direction"),
    "AggregateOffered": ("session_id", "infeed_id", "direction"),
    "AggregateDisaggregated": ("tso_activation_id",),
    "ActivationOrdered": ("award_id", "tso_activation_id", "offer_id", "start_ms"),
    "ActivationTimedOut": ("activation_id",),
    "DeliveryComputed": ("activation_id", "revision"),
    "SettlementComputed": ("session_id", "buyer_id", "fsp_id"),
    "SettlementCorrected": ("session_id", "buyer_id", "fsp_id", "revision"),
    "FlexOfferClipped": ("offer_id", "revision"),
    "FlexRequestExpired": ("request_id",),
    "RequestMissedGate": ("session_id", "request_id"),
}
# What may be told of the same again, but only if it is another thing than the time before.
CHANGES: dict[str, tuple[str, ...]] = {
    "NeedComputed": ("session_id", "element_id", "kind", "direction"),
    "ProcurementStatusChanged": ("request_id",),
    "TrafficLightChanged": ("session_id", "connection_point_id"),
    "ActivationStopped": ("activation_id", "from_ms"),
}
CLOCK_FACTS = {
    "GateOpened": "at_ms",
    "GateClosed": "at_ms",
    "DeliveryStarted": "start_ms",
    "DeliveryEnded": "at_ms",
    "SettlementDue": "at_ms",
}
_WATCHES_ANSWERS = {"DeliveryStarted", "DeliveryEnded", "SettlementDue"}
_OTHERS = {
    "MarketProductDefined",
    "MarketSessionScheduled",
    "AggregateActivated",
    "ActivationAcknowledged",
    "ActivationRefused",
}
READS = frozenset({*KEYS, *CHANGES, *CLOCK_FACTS, *_OTHERS})


@dataclass
class Story:
    """What an area's journal makes due, and what it shows.

    Attributes:
        expected: keys of the facts that must be there, in the order in which they became due.
        found: how often each fact is there.
        repeated: keys of changes that were told again without one.
    """

    expected: dict[Key, None] = field(default_factory=dict)
    found: Counter[Key] = field(default_factory=Counter)
    repeated: list[Key] = field(default_factory=list)

    @property
    def missing(self) -> list[Key]:
        return [key for key in self.expected if not self.found[key]]

    @property
    def doubled(self) -> list[Key]:
        """What is there too often."""
        return [key for key, n in self.found.items() for _ in range(n - 1)] + self.repeated


@dataclass
class _State:
    now_ms: int = 0
    resolution_s: dict[str, int] = field(default_factory=dict)
    sessions: dict[str, tuple[Any, int]] = field(default_factory=dict)
    aggregates: set[str] = field(default_factory=set)
    open_orders: dict[str, int] = field(default_factory=dict)
    orders: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    settled: set[str] = field(default_factory=set)
    runs: list[tuple[int, Key]] = field(default_factory=list)
    told: dict[Key, Any] = field(default_factory=dict)


def told(facts: Iterable[tuple[str, Any]], now_ms: int | None) -> Story:
    """Follow one area's journal.

    Args:
        facts: name and fields of each event of the kinds in `READS`, in the order of the chain.
        now_ms: the market's time, UTC ms, up to which the scheduler must have spoken; None asks nothing of it.
    """
    story, state = Story(), _State()
    for name, event in facts:
        if name in CLOCK_FACTS:
            state.now_ms = max(state.now_ms, event[CLOCK_FACTS[name]])
        if name in KEYS:
            story.found[_key(name, event, KEYS)] += 1
        if name in CHANGES:
            key = _key(name, event, CHANGES)
            story.repeated += [key] * (state.told.get(key) == event)
            state.told[key] = event
        story.expected.update(dict.fromkeys(_due(state, name, event)))
    # An order comes before its first slot at the latest, as products say how long before.
    story.expected.update((key, None) for start_ms, key in state.runs if start_ms <= state.now_ms)
    if now_ms is not None:
        due = (key for s, resolution_s in state.sessions.values() for key in _agenda(s, resolution_s, now_ms))
        story.expected.update(dict.fromkeys(due))
    return story


def _key(name: str, event: Any, parts: Mapping[str, tuple[str, ...]]) -> Key:
    return (name, *(str(event[part]) for part in parts[name]))


def _agenda(session: Any, resolution_s: int, now_ms: int) -> Iterator[Key]:
    """What the clock makes due of a session."""
    times = {
        "GateOpened": "gate_opens_ms",
        "GateClosed": "gate_closes_ms",
        "DeliveryEnded": "delivery_end_ms",
        "SettlementDue": "settlement_due_ms",
    }
    for name, at in times.items():
        if session[at] <= now_ms:
            yield (name, session["session_id"])
    for start_ms in range(session["delivery_start_ms"], session["delivery_end_ms"], resolution_s * 1000):
        if start_ms <= now_ms:
            yield ("DeliveryStarted", session["session_id"], str(start_ms))


def _due(state: _State, name: str, e: Any) -> Iterator[Key]:
    """Take a fact in, and yield the keys of what must follow it at once."""
    if name in _WATCHES_ANSWERS:
        for activation_id in [a for a, by_ms in state.open_orders.items() if by_ms <= state.now_ms]:
            del state.open_orders[activation_id]
            yield ("ActivationTimedOut", activation_id)
    match name:
        case "MarketProductDefined":
            state.resolution_s[e["product_id"]] = e["resolution_s"]
        case "MarketSessionScheduled" if e["product_id"] in state.resolution_s:
            state.sessions.setdefault(e["session_id"], (e, state.resolution_s[e["product_id"]]))
        case "GateClosed" if e["session_id"] in state.sessions:
            yield ("MarketCleared", e["session_id"])
        case "MarketCleared":
            for award in e["awards"]:
                rows = (award["start_ms"], award["resolution_s"], award["power_w"])
                _ordered_later(state, (award["award_id"], "None", award["offer_id"]), *rows)
        case "AggregateOffered":
            state.aggregates.add(e["aggregate_id"])
        case "AggregateActivated" if e["aggregate_id"] in state.aggregates:
            yield ("AggregateDisaggregated", e["tso_activation_id"])
        case "AggregateDisaggregated":
            for share in e["shares"]:
                rows = (e["start_ms"], e["resolution_s"], share["power_w"])
                _ordered_later(state, ("None", e["tso_activation_id"], share["offer_id"]), *rows)
        case "ActivationOrdered":
            state.open_orders[e["activation_id"]] = e["acknowledge_by_ms"]
            state.orders[e["session_id"]].append(e)
            if e["session_id"] in state.settled:
                yield from _settlement(e)
        case "ActivationAcknowledged" | "ActivationRefused":
            state.open_orders.pop(e["activation_id"], None)
        case "SettlementDue":
            state.settled.add(e["session_id"])
            for order in state.orders[e["session_id"]]:
                yield from _settlement(order)


def _ordered_later(state: _State, what: Key, start_ms: int, resolution_s: int, power_w: list[int]) -> None:
    """One order for each run of slots with quantity that have not begun."""
    within = False
    for number, watts in enumerate(power_w):
        at_ms = start_ms + number * resolution_s * 1000
        wanted = watts > 0 and at_ms >= state.now_ms
        if wanted and not within:
            state.runs.append((at_ms, ("ActivationOrdered", *what, str(at_ms))))
        within = wanted


def _settlement(order: Any) -> Iterator[Key]:
    yield ("DeliveryComputed", order["activation_id"], "1")
    yield ("SettlementComputed", order["session_id"], order["orderer_id"], order["fsp_id"])
