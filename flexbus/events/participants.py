"""Market areas, participants, mandates, and the connection points of the grid's customers."""

from dataclasses import dataclass
from enum import Enum
from typing import Annotated

__all__ = [
    "AreaOpened",
    "ConnectionPointKind",
    "ConnectionPointRegistered",
    "ConnectionPointRemoved",
    "MandateGranted",
    "MandateRevoked",
    "ParticipantRegistered",
    "ParticipantRemoved",
    "Role",
]


class Role(Enum):
    """Role of a participant in a market area (ENTSO-E role model, USEF)."""

    DSO = "DSO"
    TSO = "TSO"
    FSP = "FSP"
    BRP = "BRP"
    FMO = "FMO"
    METER_OPERATOR = "METER_OPERATOR"
    AUDITOR = "AUDITOR"
    OBSERVER = "OBSERVER"


class ConnectionPointKind(Enum):
    """What a connection point mostly does (BeFlexible SUC10.1: the registration path differs by kind)."""

    CONSUMPTION = "CONSUMPTION"
    GENERATION = "GENERATION"
    MIXED = "MIXED"
    STORAGE = "STORAGE"


@dataclass(frozen=True, slots=True, kw_only=True)
class AreaOpened:
    """The market operator opened a market area; the first event of its chain."""

    area_id: Annotated[str, "market area"]
    name: Annotated[str, "name for people"]
    fmo_id: Annotated[str, "party that operates the market of the area"]
    time_zone: Annotated[str, "IANA time zone of the local market day"]
    bidding_zone_eic: Annotated[str | None, "bidding zone it belongs to, energy identification code"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParticipantRegistered:
    """The market operator admitted a party to the area, or changed its entry (the newest counts)."""

    area_id: Annotated[str, "market area"]
    participant_id: Annotated[str, "party; the same name as in its inbox topic"]
    name: Annotated[str, "name for people"]
    roles: Annotated[tuple[Role, ...], "roles of the party in this area"]
    eic: Annotated[str | None, "energy identification code, if the party has one"] = None
    brp_id: Annotated[str | None, "balance responsible party of an FSP"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParticipantRemoved:
    """The market operator ended a participation; what was accepted before stays valid."""

    area_id: Annotated[str, "market area"]
    participant_id: Annotated[str, "party"]
    reason: Annotated[str, "why, for people"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MandateGranted:
    """A party allowed another to send events on its behalf (FLEXGRID D2.1 5.2.5: FlexContract)."""

    area_id: Annotated[str, "market area"]
    mandate_id: Annotated[str, "identifier of the mandate"]
    grantor_id: Annotated[str, "party on whose behalf is acted"]
    agent_id: Annotated[str, "party that may act"]
    event_types: Annotated[tuple[str, ...], "event types covered; empty = all the grantor sends, but keys and mandates"]
    valid_from_ms: Annotated[int, "start of validity by the time of receipt, UTC ms"]
    valid_until_ms: Annotated[int | None, "end of validity by the time of receipt, UTC ms; null = open"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MandateRevoked:
    """The grantor ended a mandate."""

    area_id: Annotated[str, "market area"]
    mandate_id: Annotated[str, "identifier of the mandate"]
    grantor_id: Annotated[str, "party that had granted it"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionPointRegistered:
    """The DSO registered a connection point (GCP, POD) and where it hangs in the grid (BeFlexible SUC10.1)."""

    area_id: Annotated[str, "market area"]
    connection_point_id: Annotated[str, "identifier of the connection point"]
    kind: Annotated[ConnectionPointKind, "what it mostly does"]
    bus_id: Annotated[str, "bus of the network model it hangs on"]
    fsp_id: Annotated[str, "provider that markets its flexibility"]
    meter_operator_id: Annotated[str, "party that sends its meter readings"]
    max_feed_in_w: Annotated[int, "contracted feed-in, W >= 0"]
    max_draw_w: Annotated[int, "contracted draw, W >= 0"]
    static_up_w: Annotated[int | None, "static traffic light: most upward flexibility, W; null = no restriction"] = None
    static_down_w: Annotated[int | None, "static traffic light: most downward flexibility, W; null = none"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionPointRemoved:
    """The DSO removed a connection point from the market."""

    area_id: Annotated[str, "market area"]
    connection_point_id: Annotated[str, "identifier of the connection point"]
    reason: Annotated[str, "why, for people"]
