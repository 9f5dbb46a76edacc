"""The event catalogue: one table of every event, who may send it, who may see it, and under which topic and key.

Kafka topics, access rights, the publisher's filters and the documentation follow from this table alone.
The key of every record is its market area. Auditors and the market operator (FMO) see every event, and the
parties an event names always see what is their own of it, so the column `see` lists only the others.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from enum import Enum
from functools import cache
from typing import Any

from flexbus import events as ev
from flexbus.events import Role
from flexbus.reader import changer

__all__ = [
    "CATALOGUE",
    "SERVICES_BY_ID",
    "Kind",
    "Service",
    "Sight",
    "has_hidden",
    "kind_of",
    "parties_of",
    "values_at",
    "without_identities",
]


class Service(Enum):
    """The bus's own senders; each has an inbox that only it may write."""

    SCHEDULER = "scheduler"
    CONGESTION = "congestion"
    AGGREGATION = "aggregation"
    TRAFFIC_LIGHT = "traffic_light"
    CLEARING = "clearing"
    ACTIVATION = "activation"
    SETTLEMENT = "settlement"


SERVICES_BY_ID = {service.value: service for service in Service}


class Sight(Enum):
    """How a role sees an event: in full, or with the identities of others removed."""

    FULL = "FULL"
    WITHOUT_IDENTITIES = "WITHOUT_IDENTITIES"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One row of the catalogue.

    Attributes:
        event: the event's class.
        family: word of its module, documentation page and market function.
        send: roles and services that may send it.
        see: further roles that see it, and how.
        public: how anyone may see it on its out topic, or None.
        actor: path of the field that must name the acting party, or None.
        parties: paths of the fields that name the parties concerned.
        identities: paths of the fields removed when identities are.
        by_mandate: false = no mandate covers it: it says who may speak for a party, or opens the area.
    """

    event: type[Any]
    family: str
    send: frozenset[Role | Service]
    see: Mapping[Role, Sight]
    public: Sight | None
    actor: str | None
    parties: tuple[str, ...]
    identities: tuple[str, ...]
    by_mandate: bool

    @property
    def type_name(self) -> str:
        """Name of the event type, as in `ce_type` and in the journal."""
        return self.event.__name__

    @property
    def word(self) -> str:
        """Snake-case name, as in schema files and topics."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", self.type_name).lower()

    @property
    def meaning(self) -> str:
        """First line of the event's documentation."""
        return (self.event.__doc__ or "").strip().splitlines()[0]

    @property
    def out_topic(self) -> str | None:
        """Public topic of the event, if anyone may see it."""
        return f"flexbus.out.{self.word}.v1" if self.public else None


FULL, ANON = Sight.FULL, Sight.WITHOUT_IDENTITIES
_DSO, _TSO, _FSP, _BRP, _FMO, _METER = Role.DSO, Role.TSO, Role.FSP, Role.BRP, Role.FMO, Role.METER_OPERATOR


def _row(
    event: type[Any],
    family: str,
    send: tuple[Role | Service, ...],
    *,
    see: Mapping[Role, Sight] | None = None,
    public: Sight | None = None,
    actor: str | None = None,
    parties: tuple[str, ...] = (),
    hide: tuple[str, ...] = (),
    by_mandate: bool = True,
) -> Kind:
    named = parties if actor is None or actor in parties else (actor, *parties)
    return Kind(
        event=event,
        family=family,
        send=frozenset(send),
        see=dict(see or {}),
        public=public,
        actor=actor,
        parties=named,
        identities=hide,
        by_mandate=by_mandate,
    )


_ANY_SENDER = (_DSO, _TSO, _FSP, _BRP, _METER, _FMO)
_SO = {_DSO: FULL, _TSO: FULL}

_ROWS: tuple[Kind, ...] = (
    # participants: who is there, who may act for whom, and where customers are connected
    _row(ev.AreaOpened, "participants", (_FMO,), public=FULL, actor="fmo_id", by_mandate=False),
    _row(ev.ParticipantRegistered, "participants", (_FMO,), see=_SO, parties=("participant_id",)),
    _row(ev.ParticipantRemoved, "participants", (_FMO,), see=_SO, parties=("participant_id",)),
    _row(
        ev.MandateGranted,
        "participants",
        _ANY_SENDER,
        actor="grantor_id",
        parties=("agent_id",),
        by_mandate=False,
    ),
    _row(ev.MandateRevoked, "participants", _ANY_SENDER, actor="grantor_id", by_mandate=False),
    _row(ev.SigningKeyRegistered, "participants", _ANY_SENDER, see=_SO, parties=("party_id",), by_mandate=False),
    _row(ev.SigningKeyRevoked, "participants", _ANY_SENDER, see=_SO, parties=("party_id",), by_mandate=False),
    _row(ev.SignaturePolicySet, "participants", (_FMO,), public=FULL, by_mandate=False),
    _row(
        ev.ConnectionPointRegistered,
        "participants",
        (_DSO,),
        see={_DSO: FULL},
        parties=("fsp_id", "meter_operator_id"),
    ),
    _row(ev.ConnectionPointRemoved, "participants", (_DSO,), see={_DSO: FULL}),
    # assets: what can be steered; the DSO sees technology and size, not the operator
    _row(ev.AssetRegistered, "assets", (_FSP,), see={_DSO: ANON}, actor="fsp_id", hide=("fsp_id",)),
    _row(ev.AssetApproved, "assets", (_DSO,), see={_DSO: FULL, _FSP: FULL}),
    _row(ev.AssetRefused, "assets", (_DSO,), see={_DSO: FULL, _FSP: FULL}),
    _row(ev.PortfolioRegistered, "assets", (_FSP,), see={_DSO: ANON}, actor="fsp_id", hide=("fsp_id",)),
    _row(ev.PortfolioApproved, "assets", (_DSO,), see={_DSO: FULL, _FSP: FULL}),
    _row(ev.PortfolioRefused, "assets", (_DSO,), see={_DSO: FULL, _FSP: FULL}),
    # grid: critical infrastructure, for the system operators only
    _row(ev.NetworkModelPublished, "grid", (_DSO,), see=_SO),
    _row(ev.NetForecastPublished, "grid", (_DSO,), see={_DSO: FULL}),
    # market: products, sessions and the clockwork
    _row(ev.MarketProductDefined, "market", (_FMO,), public=FULL),
    _row(ev.MarketSessionScheduled, "market", (_FMO,), public=FULL),
    _row(ev.GateOpened, "market", (Service.SCHEDULER,), public=FULL),
    _row(ev.GateClosed, "market", (Service.SCHEDULER,), public=FULL),
    _row(ev.DeliveryStarted, "market", (Service.SCHEDULER,), public=FULL),
    _row(ev.DeliveryEnded, "market", (Service.SCHEDULER,), public=FULL),
    _row(ev.SettlementDue, "market", (Service.SCHEDULER,), public=FULL),
    # congestion: from forecast to need to request (HEDGE-IoT); what leaves is HEDGE-13
    _row(ev.CongestionForecastReceived, "congestion", (_DSO, Service.CONGESTION), see={_DSO: FULL}),
    _row(ev.NeedComputed, "congestion", (Service.CONGESTION,), see={_DSO: FULL}),
    _row(ev.NeedNotTradable, "congestion", (Service.CONGESTION,), see={_DSO: FULL}),
    _row(
        ev.FlexRequestSubmitted,
        "congestion",
        (_DSO, _TSO, _BRP, Service.CONGESTION),
        public=ANON,
        actor="request.requester_id",
        hide=("request.causes", "request.reason"),
    ),
    _row(
        ev.FlexRequestAmended,
        "congestion",
        (_DSO, _TSO, _BRP, Service.CONGESTION),
        public=ANON,
        actor="request.requester_id",
        hide=("request.causes", "request.reason"),
    ),
    _row(
        ev.FlexRequestWithdrawn,
        "congestion",
        (_DSO, _TSO, _BRP, Service.CONGESTION),
        public=ANON,
        actor="requester_id",
        hide=("reason",),
    ),
    _row(ev.FlexRequestExpired, "congestion", (Service.CONGESTION,), parties=("requester_id",)),
    _row(ev.RequestMissedGate, "congestion", (Service.CONGESTION,), see={_DSO: FULL}),
    _row(
        ev.ProcurementStatusChanged,
        "congestion",
        (Service.CONGESTION,),
        see={_DSO: FULL},
        parties=("requester_id",),
    ),
    # flex-offers: the provider's own, until the market is cleared
    _row(ev.FlexOfferSubmitted, "flex_offer", (_FSP,), actor="offer.fsp_id"),
    _row(ev.FlexOfferReplaced, "flex_offer", (_FSP,), actor="offer.fsp_id"),
    _row(ev.FlexOfferWithdrawn, "flex_offer", (_FSP,), actor="fsp_id"),
    _row(ev.FlexOfferClipped, "flex_offer", (Service.TRAFFIC_LIGHT,), parties=("fsp_id",)),
    _row(ev.BaselineSubmitted, "flex_offer", (_FSP,), see={_DSO: ANON}, actor="fsp_id", hide=("fsp_id",)),
    _row(ev.ScheduleSubmitted, "flex_offer", (_FSP,), see={_DSO: ANON}, actor="fsp_id", hide=("fsp_id",)),
    # traffic light: limits and lights; the provider at the point sees its own through TrafficLightChanged
    _row(ev.CapacityLimitForeseen, "traffic_light", (_DSO,), see={_DSO: FULL, _FSP: FULL}),
    _row(ev.CapacityLimitUnforeseen, "traffic_light", (_DSO,), see={_DSO: FULL, _FSP: FULL}),
    _row(ev.CapacityLimitLifted, "traffic_light", (_DSO,), see={_DSO: FULL, _FSP: FULL}),
    _row(ev.TrafficLightSet, "traffic_light", (_DSO,), see=_SO),
    _row(ev.TrafficLightChanged, "traffic_light", (Service.TRAFFIC_LIGHT,), see={**_SO, _FSP: FULL}),
    # clearing: public per area with identities removed
    _row(ev.GridStatePublished, "clearing", (Service.CONGESTION, Service.CLEARING), see=_SO),
    _row(ev.NodalPricesPublished, "clearing", (Service.CLEARING,), public=FULL),
    _row(
        ev.MarketCleared,
        "clearing",
        (Service.CLEARING,),
        see={_DSO: ANON},
        public=ANON,
        parties=(
            "awards[].fsp_id",
            "non_awards[].fsp_id",
            "requests[].requester_id",
            "reactive_awards[].fsp_id",
            "reservations[].fsp_id",
            "reactive_requests[].requester_id",
        ),
        hide=(
            "awards[].offer_id",
            "awards[].fsp_id",
            "awards[].connection_point_id",
            "awards[].portfolio_id",
            "non_awards[].offer_id",
            "non_awards[].fsp_id",
            "non_awards[].text",
            "requests[].requester_id",
            *(
                f"{kind}[].{name}"
                for kind in ("reactive_awards", "reservations")
                for name in ("offer_id", "fsp_id", "connection_point_id", "portfolio_id")
            ),
            "reactive_requests[].requester_id",
            # Whoever knows all but one bid could try what it may be until the hash fits.
            "case_hash",
            "result_hash",
        ),
    ),
    # aggregation and the way up to the TSO and back
    _row(ev.OffersAggregated, "aggregation", (Service.AGGREGATION,), public=FULL),
    _row(ev.AggregateOffered, "aggregation", (Service.AGGREGATION,), see={_TSO: ANON}, hide=("members",)),
    _row(ev.AggregateActivated, "aggregation", (_TSO,), see={_DSO: FULL}, actor="tso_id"),
    _row(
        ev.AggregateDisaggregated,
        "aggregation",
        (Service.AGGREGATION,),
        see={_TSO: ANON},
        parties=("shares[].fsp_id",),
        hide=("shares",),
    ),
    # activation
    _row(ev.ActivationOrdered, "activation", (Service.ACTIVATION,), parties=("fsp_id", "orderer_id")),
    _row(ev.ActivationAcknowledged, "activation", (_FSP,), see=_SO, actor="fsp_id"),
    _row(ev.ActivationRefused, "activation", (_FSP,), see=_SO, actor="fsp_id"),
    _row(ev.ActivationChanged, "activation", (_DSO, _TSO), see={_FSP: FULL}, actor="orderer_id"),
    _row(ev.ActivationStopped, "activation", (Service.ACTIVATION, _DSO, _TSO), see=_SO, parties=("fsp_id",)),
    _row(ev.ActivationTimedOut, "activation", (Service.ACTIVATION,), see=_SO, parties=("fsp_id",)),
    # metering and delivery: personal data, named parties and the DSO only
    _row(ev.MeterReadingReceived, "metering", (_METER,), see={_DSO: FULL}, actor="meter_operator_id"),
    _row(ev.DeliveryComputed, "metering", (Service.SETTLEMENT,), see={_DSO: FULL}, parties=("fsp_id",)),
    # settlement: between buyer and provider
    _row(ev.SettlementComputed, "settlement", (Service.SETTLEMENT,), parties=("fsp_id", "buyer_id")),
    _row(ev.SettlementCorrected, "settlement", (Service.SETTLEMENT,), parties=("fsp_id", "buyer_id")),
    _row(ev.SettlementApproved, "settlement", (_DSO, _TSO), actor="buyer_id"),
    _row(ev.SettlementDisputed, "settlement", (_DSO, _TSO, _FSP), actor="party_id"),
)

CATALOGUE: Mapping[str, Kind] = {row.type_name: row for row in _ROWS}


def kind_of(event_type: type[Any]) -> Kind:
    """Return the catalogue row of an event class.

    Raises:
        KeyError: the class is no event of the catalogue.
    """
    return CATALOGUE[event_type.__name__]


def values_at(event: object, path: str) -> Iterator[Any]:
    """Yield the values at a path such as `offer.fsp_id` or `awards[].fsp_id`."""
    head, _, rest = path.partition(".")
    many = head.endswith("[]")
    value = getattr(event, head.removesuffix("[]"))
    for item in value if many else (value,):
        if rest:
            yield from values_at(item, rest)
        else:
            yield item


def parties_of(event: object) -> frozenset[str]:
    """Return the parties that an event names as concerned."""
    kind = kind_of(type(event))
    return frozenset(v for path in kind.parties for v in values_at(event, path) if v)


def without_identities(event: Any, keep: str | None = None) -> Any:
    """Return the event with the identities of its catalogue row removed.

    Args:
        event: an event of the catalogue.
        keep: party that still sees what is its own inside lists (its own awards), if any.
    """
    tree = _identities(type(event).__name__)
    return _blank(event, tree, keep) if tree else event


@cache
def _identities(event_type: str) -> dict[str, Any]:
    """Return the paths that hide identities as a tree of names."""
    tree: dict[str, Any] = {}
    for path in CATALOGUE[event_type].identities:
        at = tree
        for name in path.split("."):
            at = at.setdefault(name, {})
    return tree


def _blank(value: Any, tree: dict[str, Any], keep: str | None) -> Any:
    changes: dict[str, Any] = {}
    for part, below in tree.items():
        name = part.removesuffix("[]")
        current = getattr(value, name)
        if below and part.endswith("[]"):
            changes[name] = tuple(
                item if keep is not None and _owner(item) == keep else _blank(item, below, keep) for item in current
            )
        elif below:
            changes[name] = _blank(current, below, keep)
        elif isinstance(current, tuple):
            changes[name] = () if keep is None else tuple(item for item in current if _owner(item) == keep)
        else:
            changes[name] = _nothing(type(value), name)
    kind: Any = type(value)
    return changer(kind, tuple(changes))(value, *changes.values())


def has_hidden(event: Any) -> frozenset[str]:
    """Return the parties that own something in the lists which hide identities: `keep` is for these alone."""
    return frozenset(_owners(event, _identities(type(event).__name__)))


def _owners(value: Any, tree: dict[str, Any]) -> Iterator[str]:
    for part, below in tree.items():
        current = getattr(value, part.removesuffix("[]"))
        if isinstance(current, tuple):
            yield from {owner for item in current if (owner := _owner(item))}
            for item in current if any(deeper for deeper in below.values()) else ():
                yield from _owners(item, below)
        elif below:
            yield from _owners(current, below)


def _nothing(event: type[Any], name: str) -> Any:
    """Return what an event says in place of an identity."""
    if (event, name) not in _NOTHING:
        kinds = {f.name: f.type for f in fields(event)}
        _NOTHING[event, name] = None if "None" in str(kinds[name]) else ""
    return _NOTHING[event, name]


_NOTHING: dict[tuple[type[Any], str], str | None] = {}


def _owner(item: Any) -> str | None:
    return getattr(item, "fsp_id", None) or getattr(item, "requester_id", None)
