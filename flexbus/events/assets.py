"""Assets behind connection points and portfolios of them, with the DSO's approval."""

from dataclasses import dataclass
from enum import Enum
from typing import Annotated

__all__ = [
    "AssetApproved",
    "AssetKind",
    "AssetRefused",
    "AssetRegistered",
    "PortfolioApproved",
    "PortfolioRefused",
    "PortfolioRegistered",
]


class AssetKind(Enum):
    """Technology of an asset."""

    PV = "PV"
    WIND = "WIND"
    CHP = "CHP"
    BIOMASS = "BIOMASS"
    HYDRO = "HYDRO"
    BATTERY = "BATTERY"
    HEAT_PUMP = "HEAT_PUMP"
    EV_CHARGER = "EV_CHARGER"
    INDUSTRY = "INDUSTRY"
    LOAD = "LOAD"


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetRegistered:
    """An FSP registered a controllable asset (HEDGE-IoT, BeFlexible SUC08.1); a later one replaces it."""

    area_id: Annotated[str, "market area"]
    asset_id: Annotated[str, "identifier of the asset"]
    fsp_id: Annotated[str, "provider that markets it"]
    connection_point_id: Annotated[str, "connection point it is behind"]
    kind: Annotated[AssetKind, "technology"]
    max_feed_in_w: Annotated[int, "greatest feed-in, W >= 0"]
    max_draw_w: Annotated[int, "greatest draw, W >= 0"]
    storage_capacity_wh: Annotated[int | None, "usable storage, Wh; null = not a storage"] = None
    ramp_up_s: Annotated[int, "time from order to full delivery, s"] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetApproved:
    """The DSO approved an asset for the market, perhaps for less than was registered."""

    area_id: Annotated[str, "market area"]
    asset_id: Annotated[str, "identifier of the asset"]
    validated_up_w: Annotated[int, "validated upward flexibility, W >= 0"]
    validated_down_w: Annotated[int, "validated downward flexibility, W >= 0"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetRefused:
    """The DSO refused an asset."""

    area_id: Annotated[str, "market area"]
    asset_id: Annotated[str, "identifier of the asset"]
    reason: Annotated[str, "why, for people"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PortfolioRegistered:
    """An FSP pooled assets to offer them as one; a later one replaces it."""

    area_id: Annotated[str, "market area"]
    portfolio_id: Annotated[str, "identifier of the portfolio"]
    fsp_id: Annotated[str, "provider"]
    asset_ids: Annotated[tuple[str, ...], "assets of the pool, all of this provider, at most 1,000"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PortfolioApproved:
    """The DSO qualified a portfolio."""

    area_id: Annotated[str, "market area"]
    portfolio_id: Annotated[str, "identifier of the portfolio"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PortfolioRefused:
    """The DSO refused a portfolio."""

    area_id: Annotated[str, "market area"]
    portfolio_id: Annotated[str, "identifier of the portfolio"]
    reason: Annotated[str, "why, for people"]
