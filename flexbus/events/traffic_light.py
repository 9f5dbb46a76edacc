"""Capacity limits, foreseen and unforeseen, and traffic lights."""

from dataclasses import dataclass
from enum import Enum
from typing import Annotated

__all__ = [
    "CapacityLimitForeseen",
    "CapacityLimitLifted",
    "CapacityLimitUnforeseen",
    "Colour",
    "TrafficLightChanged",
    "TrafficLightSet",
]


class Colour(Enum):
    """Colour of a traffic light (BeFlexible SUC10.2)."""

    GREEN = "GREEN"
    YELLOW = "YELLOW"
    RED = "RED"


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityLimitForeseen:
    """The DSO announced a limit on the net power of a connection point before the gate; all that overlap apply."""

    area_id: Annotated[str, "market area"]
    limit_id: Annotated[str, "identifier of the limit"]
    revision: Annotated[int, "revision, rising"]
    connection_point_id: Annotated[str, "connection point"]
    start_ms: Annotated[int, "start, UTC ms"]
    end_ms: Annotated[int, "end, UTC ms"]
    max_feed_in_w: Annotated[int | None, "most feed-in, W >= 0; null = not limited"] = None
    max_draw_w: Annotated[int | None, "most draw, W >= 0; null = not limited"] = None
    reason: Annotated[str, "why, for people"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityLimitUnforeseen:
    """The DSO limited a connection point at once, during delivery; activations that break it are stopped."""

    area_id: Annotated[str, "market area"]
    limit_id: Annotated[str, "identifier of the limit"]
    connection_point_id: Annotated[str, "connection point"]
    start_ms: Annotated[int, "start, UTC ms"]
    end_ms: Annotated[int, "end, UTC ms"]
    max_feed_in_w: Annotated[int | None, "most feed-in, W >= 0; null = not limited"] = None
    max_draw_w: Annotated[int | None, "most draw, W >= 0; null = not limited"] = None
    stop_activations: Annotated[bool, "true = every activation at the point stops for the period"] = True
    reason: Annotated[str, "why, for people"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityLimitLifted:
    """The DSO lifted a limit from an instant on."""

    area_id: Annotated[str, "market area"]
    limit_id: Annotated[str, "identifier of the limit"]
    from_ms: Annotated[int, "instant from which it no longer applies, UTC ms"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficLightSet:
    """The DSO set a dynamic traffic light; it overrides the static default of the connection point."""

    area_id: Annotated[str, "market area"]
    light_id: Annotated[str, "identifier of the setting"]
    revision: Annotated[int, "revision, rising"]
    connection_point_id: Annotated[str, "connection point"]
    start_ms: Annotated[int, "start of a whole hour, UTC ms"]
    end_ms: Annotated[int, "end of a whole hour, UTC ms"]
    colour: Annotated[Colour, "GREEN no restriction, YELLOW up to the limits, RED none"]
    max_up_w: Annotated[int | None, "most upward flexibility, W (YELLOW)"] = None
    max_down_w: Annotated[int | None, "most downward flexibility, W (YELLOW)"] = None
    reason: Annotated[str, "why, for people"] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficLightChanged:
    """The effective traffic light of a connection point over the hours of a session."""

    area_id: Annotated[str, "market area"]
    session_id: Annotated[str, "session"]
    connection_point_id: Annotated[str, "connection point"]
    start_ms: Annotated[int, "start of the first hour, UTC ms"]
    colours: Annotated[tuple[Colour, ...], "colour per hour"]
    max_up_w: Annotated[tuple[int | None, ...], "most upward flexibility per hour, W; null = no restriction"]
    max_down_w: Annotated[tuple[int | None, ...], "most downward flexibility per hour, W; null = no restriction"]
    causes: Annotated[tuple[str, ...], "settings and limits it follows from"]
