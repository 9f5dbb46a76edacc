"""One canonical series out of what planning systems send: W, positive = export, UTC, quarter-hours (HEDGE-03); pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated

from flexbus import events as ev
from flexbus.errors import Fault, FaultCode, FaultyInputError
from flexbus.events import CongestionKind
from flexbus.time import QUARTER_HOUR_MS, parse_ms

__all__ = ["UNITS", "Cell", "ForeignForecast", "Source", "canonical", "forecast_of", "harmonise"]

_WATTS = {"W": 1, "kW": 1_000, "MW": 1_000_000}
_LARGEST_W = 2**63 - 1  # an integer on the wire
UNITS = tuple(_WATTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """How one planning system writes its forecasts."""

    unit: Annotated[str, "W, kW or MW"]
    export_positive: Annotated[bool, "true = export is positive, as here; false = import is"]
    elements: Annotated[Mapping[str, str], "its name of an element -> ours"]
    name: Annotated[str, "what the forecasts name as their source"] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignForecast:
    """The flow over one element as a planning system writes it; numbers as text, so that no digit is lost."""

    area_id: Annotated[str, "market area"]
    forecast_id: Annotated[str, "identifier of the forecast"]
    revision: Annotated[int, "revision, rising"]
    session_id: Annotated[str | None, "session the need is meant for; null = the next that precedes delivery"] = None
    element: Annotated[str, "the source's name of the element"]
    issued_at: Annotated[str, "when the forecast was made, ISO 8601 with an offset from UTC"]
    resolution_s: Annotated[int, "length of a slot, s"]
    times: Annotated[tuple[str, ...], "start of each slot, ISO 8601 with an offset from UTC"]
    values: Annotated[tuple[str | None, ...], "flow per slot, in the source's unit and sign; null = missing"]
    limit_import: Annotated[str | None, "most import over the element, in the source's unit, > 0"] = None
    limit_export: Annotated[str | None, "most export over the element, in the source's unit, > 0"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What the newest forecast says about one element in one quarter-hour.

    `flow_min_w` and `flow_max_w` differ only where the source is finer than a quarter-hour: a mean would hide the
    peak, and both limits may be broken in one quarter-hour. None = missing. `computed` tells the bus's own power flow
    from what a planner has sent.
    """

    forecast_id: str
    revision: int
    issued_at_ms: int
    kind: CongestionKind
    flow_min_w: int | None = None
    flow_max_w: int | None = None
    limit_import_w: int | None = None
    limit_export_w: int | None = None
    need_up_w: int = 0
    need_down_w: int = 0
    probability_ppm: int | None = None
    computed: bool = False

    @property
    def age(self) -> tuple[int, int]:
        """Order of forecasts: issued later is newer, then the higher revision (HEDGE-04)."""
        return self.issued_at_ms, self.revision


def forecast_of(source: Source, given: ForeignForecast) -> ev.CongestionForecastReceived:
    """Return the event that says the same as a planning system's forecast.

    Args:
        source: unit, sign and names of the source.
        given: the forecast as it was written.

    Raises:
        FaultyInputError: every fault with its path in the forecast.
    """
    faults: list[Fault] = []
    issued_at_ms = _at_ms(given.issued_at, "$.issued_at", faults)
    limit_import_w = _watts(given.limit_import, source, "$.limit_import", faults)
    limit_export_w = _watts(given.limit_export, source, "$.limit_export", faults)
    try:
        element_id, start_ms, flow_w = harmonise(source, given.element, given.times, given.values, given.resolution_s)
    except FaultyInputError as error:
        raise FaultyInputError((*faults, *error.faults)) from error
    if issued_at_ms is None or faults:
        raise FaultyInputError(tuple(faults))
    return ev.CongestionForecastReceived(
        area_id=given.area_id,
        forecast_id=given.forecast_id,
        revision=given.revision,
        session_id=given.session_id,
        element_id=element_id,
        kind=CongestionKind.THERMAL,
        issued_at_ms=issued_at_ms,
        start_ms=start_ms,
        resolution_s=given.resolution_s,
        flow_w=flow_w,
        limit_import_w=limit_import_w,
        limit_export_w=limit_export_w,
        source=source.name,
    )


def harmonise(
    source: Source, element: str, times: Sequence[str], values: Sequence[str | int | None], resolution_s: int
) -> tuple[str, int, tuple[int | None, ...]]:
    """Return element, start (UTC ms) and flow per slot (W, positive = export) of a foreign series.

    Args:
        source: unit, sign and names of the source.
        element: the source's name of the element.
        times: start of each slot, ISO 8601 with an offset from UTC.
        values: value of each slot in the source's unit, as written (text or integer); None = missing.
        resolution_s: length of a slot, s.

    Raises:
        FaultyInputError: every fault; a unit, name, time or value that cannot be read or is not a whole W.
    """
    faults: list[Fault] = []
    if source.unit not in _WATTS:
        faults.append(_fault(FaultCode.BAD_VALUE, "$.unit", f"{source.unit!r} is none of W, kW, MW"))
    if element not in source.elements:
        text = f"{element!r} is not in the source's table of elements; add it there"
        faults.append(_fault(FaultCode.UNKNOWN_ELEMENT, "$.element", text))
    if len(times) != len(values) or not times:
        text = f"{len(values)} values, but {len(times)} times; both must be given, one for one"
        faults.append(_fault(FaultCode.BAD_SERIES, "$.values", text))
    starts = _starts(times, resolution_s, faults)
    watts = [_watts(value, source, f"$.values[{index}]", faults) for index, value in enumerate(values)]
    if faults:
        raise FaultyInputError(tuple(faults))
    sign = 1 if source.export_positive else -1
    return source.elements[element], starts[0], tuple(None if w is None else sign * w for w in watts)


def _starts(times: Sequence[str], resolution_s: int, faults: list[Fault]) -> list[int]:
    starts: list[int] = []
    for index, text in enumerate(times):
        at_ms = _at_ms(text, f"$.times[{index}]", faults)
        if at_ms is None:
            continue
        if starts and at_ms - starts[-1] != resolution_s * 1000:
            after = f"does not follow the slot before it by {resolution_s} s; send missing slots as null"
            faults.append(_fault(FaultCode.BAD_PERIOD, f"$.times[{index}]", f"{text} {after}"))
        starts.append(at_ms)
    return starts


def _at_ms(text: str, path: str, faults: list[Fault]) -> int | None:
    try:
        return parse_ms(text)
    except ValueError as error:
        faults.append(_fault(FaultCode.BAD_PERIOD, path, str(error)))
        return None


def _watts(value: str | int | None, source: Source, path: str, faults: list[Fault]) -> int | None:
    if value is None:
        return None
    try:
        number = Decimal(value) * _WATTS.get(source.unit, 1)
    except (ArithmeticError, ValueError):
        number = Decimal("NaN")
    if not number.is_finite() or abs(number) > _LARGEST_W or number != number.to_integral_value():
        text = f"{str(value)[:60]!r} {source.unit} is not a whole number of W, or too large"
        faults.append(_fault(FaultCode.BAD_QUANTITY, path, text))
        return None
    return int(number)


def canonical(e: ev.CongestionForecastReceived, *, computed: bool = False) -> dict[int, Cell]:
    """Return the cells of a forecast by the start of their quarter-hour, UTC ms.

    Longer slots are repeated; of shorter ones the greatest import and the greatest export count.

    Args:
        e: the forecast.
        computed: true = by the bus's own power flow.
    """
    thermal = e.kind is CongestionKind.THERMAL
    step_ms = e.resolution_s * 1000
    slots = len(e.flow_w) if thermal else max(len(e.need_up_w), len(e.need_down_w))
    parts: dict[int, list[int]] = {}
    for index in range(slots):
        start_ms = e.start_ms + index * step_ms
        for quarter_ms in range(start_ms // QUARTER_HOUR_MS * QUARTER_HOUR_MS, start_ms + step_ms, QUARTER_HOUR_MS):
            parts.setdefault(quarter_ms, []).append(index)
    return {quarter_ms: _cell(e, indices, computed) for quarter_ms, indices in parts.items()}


def _cell(e: ev.CongestionForecastReceived, indices: list[int], computed: bool) -> Cell:
    flows = [f for f in (e.flow_w[i] for i in indices if i < len(e.flow_w)) if f is not None]
    likely = [e.probability_ppm[i] for i in indices if i < len(e.probability_ppm)]
    # A quarter-hour with a gap is missing as a whole: the peak may be in the gap.
    whole = len(flows) == len(indices)
    return Cell(
        forecast_id=e.forecast_id,
        revision=e.revision,
        issued_at_ms=e.issued_at_ms,
        kind=e.kind,
        flow_min_w=min(flows) if flows and whole else None,
        flow_max_w=max(flows) if flows and whole else None,
        limit_import_w=e.limit_import_w,
        limit_export_w=e.limit_export_w,
        need_up_w=max((e.need_up_w[i] for i in indices if i < len(e.need_up_w)), default=0),
        need_down_w=max((e.need_down_w[i] for i in indices if i < len(e.need_down_w)), default=0),
        probability_ppm=max(likely) if likely else None,
        computed=computed,
    )


def _fault(code: FaultCode, path: str, message: str) -> Fault:
    return Fault(code=code, path=path, message=message)
