"""Settlement: computed, approved, disputed, corrected (BeFlexible SUC06.3)."""

from dataclasses import dataclass
from typing import Annotated

__all__ = [
    "HoldingLine",
    "InvoiceLine",
    "SettlementApproved",
    "SettlementComputed",
    "SettlementCorrected",
    "SettlementDisputed",
    "SettlementLine",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementLine:
    """The settlement of one activation in one slot."""

    activation_id: Annotated[str, "activation"]
    award_id: Annotated[str | None, "award; null for a TSO activation"]
    connection_point_id: Annotated[str | None, "connection point; null for a portfolio"]
    start_ms: Annotated[int, "start of the slot, UTC ms"]
    ordered_wh: Annotated[int, "owed, Wh"]
    delivered_wh: Annotated[int, "delivered, Wh"]
    paid_wh: Annotated[int, "delivered, at most owed, Wh"]
    penalised_wh: Annotated[int, "shortfall beyond the tolerance, Wh"]
    price_milli_per_mwh: Annotated[int, "price, 1/1000 EUR per MWh"]
    remuneration_nano: Annotated[int, "paid energy x price, 1e-9 EUR"]
    penalty_nano: Annotated[int, "penalty, 1e-9 EUR >= 0"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldingLine:
    """The settlement of one slot of an award that no meter shows: reactive power, or power held ready."""

    award_id: Annotated[str, "award of reactive power, or reservation"]
    connection_point_id: Annotated[str | None, "connection point; null for a portfolio"]
    start_ms: Annotated[int, "start of the slot, UTC ms"]
    power_w: Annotated[int, "held ready, W; 0 for reactive power"]
    reactive_power_var: Annotated[int, "awarded or held ready, var; 0 for active power"]
    price_milli_per_mwh: Annotated[int, "price, 1/1000 EUR per MWh (Mvarh)"]
    remuneration_nano: Annotated[int, "quantity x length of the slot x price, 1e-9 EUR"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceLine:
    """One line of the invoice: the lines of an activation or award, rounded to cents once."""

    activation_id: Annotated[str, "activation; the award, for reactive power and power held ready"]
    text: Annotated[str, "what it is for, for people"]
    remuneration_cents: Annotated[int, "remuneration, cents"]
    penalty_cents: Annotated[int, "penalty, cents >= 0"]
    amount_cents: Annotated[int, "remuneration less penalty, cents"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementComputed:
    """What a buyer owes a provider for a session; invoice lines add up to the total to the cent."""

    area_id: Annotated[str, "market area"]
    session_id: Annotated[str, "session"]
    settlement_id: Annotated[str, "identifier, derived"]
    revision: Annotated[int, "revision, 1 here"]
    fsp_id: Annotated[str, "provider"]
    buyer_id: Annotated[str, "party that pays: DSO or TSO"]
    lines: Annotated[tuple[SettlementLine, ...], "per activation and slot"]
    invoice: Annotated[tuple[InvoiceLine, ...], "per activation, in cents"]
    total_cents: Annotated[int, "sum of the invoice lines, cents"]
    holdings: Annotated[tuple[HoldingLine, ...], "per slot of reactive awards and reservations: paid as awarded"] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementCorrected:
    """A settlement was computed anew, from a later reading, refusal, change or stop; replaces the last revision."""

    area_id: Annotated[str, "market area"]
    session_id: Annotated[str, "session"]
    settlement_id: Annotated[str, "identifier"]
    revision: Annotated[int, "revision, rising"]
    fsp_id: Annotated[str, "provider"]
    buyer_id: Annotated[str, "party that pays"]
    lines: Annotated[tuple[SettlementLine, ...], "per activation and slot"]
    invoice: Annotated[tuple[InvoiceLine, ...], "per activation, in cents"]
    total_cents: Annotated[int, "sum of the invoice lines, cents"]
    difference_cents: Annotated[int, "total less the total of the last revision, cents"]
    causes: Annotated[tuple[str, ...], "readings or disputes it follows from"]
    holdings: Annotated[tuple[HoldingLine, ...], "per slot of reactive awards and reservations: paid as awarded"] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementApproved:
    """The buyer approved a revision of a settlement."""

    area_id: Annotated[str, "market area"]
    settlement_id: Annotated[str, "settlement"]
    revision: Annotated[int, "revision approved"]
    buyer_id: Annotated[str, "party that pays"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementDisputed:
    """A party to a settlement disputed a revision."""

    area_id: Annotated[str, "market area"]
    settlement_id: Annotated[str, "settlement"]
    revision: Annotated[int, "revision disputed"]
    party_id: Annotated[str, "buyer or provider"]
    reason: Annotated[str, "why, for people"]
