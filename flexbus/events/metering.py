"""Meter readings with their quality, and the delivery computed from them."""

from dataclasses import dataclass
from enum import Enum
from typing import Annotated

__all__ = ["DeliveryComputed", "MeterReadingReceived", "Quality"]


class Quality(Enum):
    """Quality of a metered value (IEC 62325: A04 as provided, A02 not available, A03 estimated)."""

    MEASURED = "MEASURED"
    ESTIMATED = "ESTIMATED"
    MISSING = "MISSING"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterReadingReceived:
    """The meter operator sent the energy of a connection point; a higher revision replaces slot by slot."""

    area_id: Annotated[str, "market area"]
    reading_id: Annotated[str, "identifier of the reading"]
    revision: Annotated[int, "revision, rising per connection point and slot"]
    connection_point_id: Annotated[str, "connection point"]
    meter_operator_id: Annotated[str, "party that read the meter"]
    start_ms: Annotated[int, "start of the first slot, UTC ms"]
    resolution_s: Annotated[int, "length of a slot, s"]
    energy_wh: Annotated[tuple[int, ...], "net energy per slot, Wh, positive = feed-in"]
    quality: Annotated[tuple[Quality, ...], "quality per slot; empty = all measured"] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryComputed:
    """Delivered flexibility of one activation: metered against baseline, in the ordered direction (SUC06.3)."""

    area_id: Annotated[str, "market area"]
    session_id: Annotated[str, "session"]
    delivery_id: Annotated[str, "identifier, derived"]
    revision: Annotated[int, "revision, rising with later readings"]
    activation_id: Annotated[str, "activation"]
    award_id: Annotated[str | None, "award; null for a TSO activation"]
    fsp_id: Annotated[str, "provider"]
    connection_point_id: Annotated[str | None, "connection point; null for a portfolio"]
    start_ms: Annotated[int, "start of the first slot, UTC ms"]
    resolution_s: Annotated[int, "length of a slot, s"]
    baseline_wh: Annotated[
        tuple[int | None, ...],
        "baseline energy per slot with the payback of awards, Wh, positive = feed-in; null = none",
    ]
    metered_wh: Annotated[tuple[int | None, ...], "metered energy per slot, Wh; null = no reading"]
    ordered_wh: Annotated[tuple[int, ...], "owed energy per slot after changes and stops, Wh >= 0"]
    delivered_wh: Annotated[tuple[int, ...], "delivered energy per slot in the ordered direction, Wh >= 0"]
    shortfall_wh: Annotated[tuple[int, ...], "owed and not delivered per slot, Wh >= 0"]
