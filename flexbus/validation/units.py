"""Checks that follow from names: a field's name says its unit, and the unit says its range.

Every field of every event is checked here, so that a new event needs no code for identifiers, magnitudes,
instants, slot lengths, revisions and texts. What is particular to an event is in the tables of `content`.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from flexbus import events as ev
from flexbus.catalogue import CATALOGUE
from flexbus.errors import Fault, FaultCode
from flexbus.events import Role
from flexbus.ids import is_party_id
from flexbus.quantities import MAX_POWER_W, MAX_PRICE_MILLI_PER_MWH
from flexbus.validation.fine import fine_of
from flexbus.validation.stacks import stacks_of

__all__ = ["MAX_SESSION_SLOTS", "MAX_SLOTS", "RESOLUTIONS_S", "fault", "unit_faults"]

RESOLUTIONS_S = (300, 900, 1800, 3600)
MAX_SLOTS = 400  # of a series; a session, which is cleared as one, has fewer
MAX_SESSION_SLOTS = 192
MAX_ENERGY_WH = 24 * MAX_POWER_W
_LARGEST_SUM = 2**62  # of what only the bus says: thousands of inputs, each within its range, may add up
MAX_TEXT = 1000
MAX_TAN_PHI_PPM = 10_000_000
_2000_MS, _2100_MS = 946_684_800_000, 4_102_444_800_000

_QUANTITIES = ("_w", "_var", "_va", "_wh", "_varh", "_ppm")

# Addresses of the page carry the area, in which `..` would be the way up.
_AREA = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_PARTY_FIELDS = frozenset(
    {
        "participant_id",
        "fmo_id",
        "grantor_id",
        "agent_id",
        "fsp_id",
        "meter_operator_id",
        "brp_id",
        "requester_id",
        "orderer_id",
        "tso_id",
        "buyer_id",
        "party_id",
    }
)
# Everything else is never negative.
_SIGNED = {
    (ev.BusInjection, "power_w"),
    (ev.BusInjection, "reactive_power_var"),
    (ev.CongestionForecastReceived, "flow_w"),
    (ev.BaselineSubmitted, "power_w"),
    (ev.ScheduleSubmitted, "power_w"),
    (ev.MeterReadingReceived, "energy_wh"),
    (ev.DeliveryComputed, "baseline_wh"),
    (ev.DeliveryComputed, "metered_wh"),
    (ev.BranchFlow, "power_w"),
    (ev.ClearedSlot, "loss_gap_w"),
    (ev.Storage, "baseline_power_w"),
    (ev.Inverter, "baseline_power_w"),
    (ev.Inverter, "baseline_reactive_power_var"),
    (ev.OfferTerms, "tan_phi_ppm"),
    (ev.AwardTerms, "tan_phi_ppm"),
}


def fault(code: FaultCode, path: str, message: str) -> Fault:
    """Return a fault; a short form for the many checks."""
    return Fault(code=code, path=path, message=message)


@dataclass(frozen=True, slots=True)
class _Range:
    """The values that a name allows."""

    low: int
    high: int
    code: FaultCode
    message: str


@dataclass(frozen=True, slots=True)
class _Plan:
    """What to look at in one class, sorted by how."""

    numbers: tuple[tuple[str, _Range], ...]
    series: tuple[tuple[str, _Range], ...]
    texts: tuple[tuple[str, str], ...]
    text_lists: tuple[tuple[str, str], ...]
    floats: tuple[str, ...]
    records: tuple[tuple[str, Any], ...]
    record_lists: tuple[tuple[str, Any], ...]
    sliced: bool
    aligned: bool


def unit_faults(value: Any) -> Iterable[Fault]:
    """Yield what is wrong with identifiers, magnitudes, instants and texts of an event.

    Args:
        value: an event of the catalogue; its types have been checked by the codec.
    """
    kind: Any = type(value)
    return () if _fine(kind)(value) else _faults(value, _plan(kind), "$")


@cache
def _fine(cls: Any) -> Callable[[Any], bool]:
    return fine_of(_plan(cls), _TEXTS, RESOLUTIONS_S, {_plan(ev.OfferSlot): _slots_fine})


def _slots_fine(slots: tuple[ev.OfferSlot, ...]) -> bool:
    """Tell whether all numbers of an offer's slots are within their ranges."""
    ((_, least),) = _plan(ev.OfferSlot).numbers
    (_, power), (_, price) = _plan(ev.PriceStep).numbers
    stacks = stacks_of(slots)
    return (
        least.low <= stacks.least_min_w
        and stacks.most_min_w <= least.high
        and power.low <= stacks.least_w
        and stacks.most_w <= power.high
        and price.low <= stacks.low_milli_per_mwh
        and stacks.high_milli_per_mwh <= price.high
    )


def _faults(value: Any, plan: _Plan, path: str) -> Iterator[Fault]:
    for name, allowed in plan.numbers:
        number = getattr(value, name)
        if number is not None and not allowed.low <= number <= allowed.high:
            yield fault(allowed.code, f"{path}.{name}", f"{number} {allowed.message}")
    for name, allowed in plan.series:
        for index, number in enumerate(getattr(value, name)):
            if number is not None and not allowed.low <= number <= allowed.high:
                yield fault(allowed.code, f"{path}.{name}[{index}]", f"{number} {allowed.message}")
    for name, kind in plan.texts:
        text = getattr(value, name)
        if text is not None and not _text_fine(text, kind):
            yield _text_fault(f"{path}.{name}", text, kind)
    for name, kind in plan.text_lists:
        for index, text in enumerate(getattr(value, name)):
            if not _text_fine(text, kind):
                yield _text_fault(f"{path}.{name}[{index}]", text, kind)
    for name in plan.floats:
        number = getattr(value, name)
        if number is not None and not math.isfinite(number):
            yield fault(FaultCode.BAD_QUANTITY, f"{path}.{name}", f"{number} is not a finite number")
    if plan.sliced and value.resolution_s not in RESOLUTIONS_S:
        text = f"{value.resolution_s} s is no slot length; choose one of {', '.join(map(str, RESOLUTIONS_S))} s"
        yield fault(FaultCode.BAD_PERIOD, f"{path}.resolution_s", text)
    elif plan.aligned and value.start_ms % (value.resolution_s * 1000):
        yield fault(
            FaultCode.BAD_PERIOD,
            f"{path}.start_ms",
            f"{value.start_ms} is not at the start of a slot of {value.resolution_s} s; round it down to one",
        )
    for name, inner in plan.records:
        if getattr(value, name) is not None:
            yield from _faults(getattr(value, name), inner, f"{path}.{name}")
    for name, inner in plan.record_lists:
        for index, item in enumerate(getattr(value, name)):
            yield from _faults(item, inner, f"{path}.{name}[{index}]")


def _text_fine(text: str, kind: str) -> bool:
    return bool(_TEXTS[kind](text))


def _id_fine(text: str) -> bool:
    return 0 < len(text) <= 128 and text.isprintable() and text.strip() == text


def _words_fine(text: str) -> bool:
    return len(text) <= MAX_TEXT and (text.isprintable() or text.translate({9: None, 10: None}).isprintable())


_TEXTS: dict[str, Callable[[str], object]] = {
    "text": _words_fine,
    "party": is_party_id,
    "area": _AREA.fullmatch,
    "id": _id_fine,
}


def _text_fault(path: str, text: str, kind: str) -> Fault:
    allowed = {
        "text": f"a text has at most {MAX_TEXT} characters and no control characters",
        "party": "a party id is a letter or digit and up to 63 more, dots, hyphens, underscores: topics carry it",
        "area": "an area id is a letter or digit and up to 63 more, dots, colons, hyphens or underscores",
        "id": "an identifier is 1 to 128 printable characters without blanks at its ends",
    }[kind]
    return fault(FaultCode.BAD_VALUE, path, f"{text[:80]!r} is not allowed here: {allowed}")


@cache
def _plan(cls: Any) -> _Plan:
    found: dict[str, list[Any]] = {
        k: [] for k in ("numbers", "series", "texts", "text_lists", "floats", "records", "record_lists")
    }
    hints = get_type_hints(cls, include_extras=True)
    for field in fields(cls):
        hint = hints[field.name]
        kind = get_args(hint)[0] if get_origin(hint) is Annotated else hint
        many = get_origin(kind) is tuple
        inner = _without_none(get_args(kind)[0] if many else kind)
        if inner is int:
            allowed = _range(cls, field.name)
            if allowed is not None:
                found["series" if many else "numbers"].append((field.name, allowed))
        elif inner is str:
            found["text_lists" if many else "texts"].append((field.name, _text_kind(field.name)))
        elif inner is float:
            found["floats"].append(field.name)
        elif is_dataclass(inner):
            record: Any = inner
            found["record_lists" if many else "records"].append((field.name, _plan(record)))
    names = {f.name for f in fields(cls)}
    sliced = "resolution_s" in names
    return _Plan(
        **{k: tuple(v) for k, v in found.items()},
        sliced=sliced,
        aligned=sliced and "start_ms" in names,
    )


def _without_none(kind: Any) -> Any:
    inner = [a for a in get_args(kind) if a is not type(None)]
    return inner[0] if len(inner) == 1 and type(None) in get_args(kind) else kind


def _text_kind(name: str) -> str:
    if name == "area_id":
        return "area"
    if name in _PARTY_FIELDS:
        return "party"
    return "id" if name.endswith(("_id", "_ids")) else "text"


@cache
def _sent_by_parties() -> frozenset[Any]:
    """Return the classes of which parties send instances, by themselves or within an event."""
    found: set[Any] = set()
    todo = [kind.event for kind in CATALOGUE.values() if any(isinstance(sender, Role) for sender in kind.send)]
    while todo:
        cls = todo.pop()
        if cls not in found:
            found.add(cls)
            todo += _records_in(cls)
    return frozenset(found)


def _records_in(cls: Any) -> Iterator[Any]:
    for hint in get_type_hints(cls).values():
        kind = _without_none(hint)
        inner = _without_none(get_args(kind)[0]) if get_origin(kind) is tuple else kind
        if is_dataclass(inner):
            yield inner


def _range(cls: Any, name: str) -> _Range | None:
    found = _range_of_inputs(cls, name)
    if found is None or cls in _sent_by_parties() or not name.endswith(_QUANTITIES):
        return found
    # A sum that were refused would never be told, and whoever makes it large would have it so.
    return _Range(min(0, found.low) and -_LARGEST_SUM, _LARGEST_SUM, found.code, "is no sum of what parties may send")


def _range_of_inputs(cls: Any, name: str) -> _Range | None:
    code, least = FaultCode.BAD_QUANTITY, 0 if (cls, name) not in _SIGNED else None
    if name.endswith(("_w", "_var", "_va")):
        return _Range(-MAX_POWER_W if least is None else 0, MAX_POWER_W, code, _out_of(least, "100 GW"))
    if name.endswith(("_wh", "_varh")):
        return _Range(-MAX_ENERGY_WH if least is None else 0, MAX_ENERGY_WH, code, _out_of(least, "2400 GWh"))
    if name.endswith(("_milli_per_mwh", "_milli_per_mvarh")):
        bound = MAX_PRICE_MILLI_PER_MWH
        return _Range(-bound, bound, FaultCode.BAD_PRICE, "is beyond 1 million EUR per MWh; the unit is 1/1000 EUR")
    if name.endswith("_ma"):
        return _Range(1, 10**9, code, "is not a current limit between 1 mA and 1 MA")
    if name.endswith("_voltage_v"):
        return _Range(1, 2_000_000, code, "is not a voltage between 1 V and 2 MV")
    if name.endswith("_s") and name != "resolution_s":
        return _Range(0, 31_622_400, FaultCode.BAD_PERIOD, "is not a duration between 0 s and one year")
    if name == "valid_from_ms":
        return _Range(0, _2100_MS, FaultCode.BAD_PERIOD, "is no instant before 2100 in UTC milliseconds")
    if name.endswith("_ms"):
        text = "is no instant between 2000 and 2100; the unit is milliseconds since 1970-01-01 UTC"
        return _Range(_2000_MS, _2100_MS, FaultCode.BAD_PERIOD, text)
    if name.endswith("revision"):
        return _Range(1, 2**31, FaultCode.BAD_VALUE, "is no revision; revisions count from 1")
    if name.endswith("_ppm") and least is None:
        return _Range(-MAX_TAN_PHI_PPM, MAX_TAN_PHI_PPM, code, "is not a ratio between -10 and 10 in millionths")
    if name.endswith("_ppm"):
        return _Range(0, 10**9, code, "is not a share between 0 and 1000 in millionths")
    return None


def _out_of(least: int | None, most: str) -> str:
    if least is None:
        return f"is beyond {most}; the unit is in the field's name"
    return f"is not between 0 and {most}; the unit is in the field's name, and the direction is not in the sign"
