"""What `flexbus send --source` reads: a planning system's own forecasts, made into events by its source file."""

import json
from dataclasses import replace
from typing import Any, BinaryIO

from flexbus import codec
from flexbus.errors import Fault, FaultCode, FaultyInputError
from flexbus.events import CongestionForecastReceived
from flexbus.views.harmonise import UNITS, ForeignForecast, Source, forecast_of

__all__ = ["AS_WRITTEN", "event_of", "read_source"]

# How JSON is read so that a number keeps the digits that it was written with.
AS_WRITTEN: dict[str, Any] = {"parse_float": str}
_NUMBERS = ("limit_import", "limit_export")


def read_source(file: BinaryIO) -> Source:
    """Read a source file: unit, sign and names of a planning system.

    Raises:
        FaultyInputError: every fault, with the file and the path in it.
    """
    try:
        try:
            given = json.load(file)
        except (ValueError, RecursionError) as error:
            raise FaultyInputError((_fault(FaultCode.NOT_DECODABLE, "$", f"not JSON: {error}"),)) from error
        source = codec.from_json_as(given, Source)
        if source.unit not in UNITS:
            raise FaultyInputError((_fault(FaultCode.BAD_VALUE, "$.unit", f"{source.unit!r} is none of {UNITS}"),))
    except FaultyInputError as error:
        where = getattr(file, "name", "source")
        raise FaultyInputError(tuple(replace(f, path=f"{where} {f.path}") for f in error.faults)) from error
    return source


def event_of(source: Source, fields: Any) -> CongestionForecastReceived:
    """Return the event that a line of a planning system's forecasts means.

    Args:
        source: unit, sign and names of the source.
        fields: the line's JSON, read as `AS_WRITTEN`.

    Raises:
        FaultyInputError: every fault with its path in the line.
    """
    if isinstance(fields, dict):
        fields = fields | {name: _text(fields[name]) for name in _NUMBERS if name in fields}
        if isinstance(values := fields.get("values"), list):
            fields["values"] = [_text(value) for value in values]
    return forecast_of(source, codec.from_json_as(fields, ForeignForecast))


def _text(value: Any) -> Any:
    return str(value) if type(value) is int else value


def _fault(code: FaultCode, path: str, message: str) -> Fault:
    return Fault(code=code, path=path, message=message)
