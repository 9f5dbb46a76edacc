"""Cases and results as JSON text; every fault with its JSON path (docs/formats/)."""

import json
from typing import Any, TypeVar

from clearing.case import Case
from clearing.result import Result
from flexbus.codec import from_json_as, to_json_values
from flexbus.errors import Fault, FaultCode, FaultyInputError

__all__ = ["CASE_FORMAT", "RESULT_FORMAT", "case_to_text", "read_case", "read_result", "result_to_text"]

CASE_FORMAT = "flexbus-case/1"
RESULT_FORMAT = "flexbus-result/1"
T = TypeVar("T", Case, Result)


def case_to_text(case: Case) -> str:
    """Return a case as JSON text; empty lists and defaults are left out."""
    return _write({"format": CASE_FORMAT, **_without_defaults(case)})


def result_to_text(result: Result) -> str:
    """Return a result as JSON text, complete, with sorted keys."""
    return _write({"format": RESULT_FORMAT, **to_json_values(result)})


def read_case(text: str | bytes) -> Case:
    """Read a case.

    Raises:
        FaultyInputError: with every fault of form and its JSON path; the content is checked by the clearing.
    """
    return _read(text, CASE_FORMAT, Case)


def read_result(text: str | bytes) -> Result:
    """Read a result.

    Raises:
        FaultyInputError: with every fault of form and its JSON path.
    """
    return _read(text, RESULT_FORMAT, Result)


def _write(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n"


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number in JSON")


def _read(text: str | bytes, expected: str, cls: type[T]) -> T:
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise _fault(FaultCode.NOT_DECODABLE, "$", f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise _fault(FaultCode.WRONG_TYPE, "$", "expected an object")
    if value.get("format") != expected:
        found = value.get("format")
        raise _fault(FaultCode.BAD_VALUE, "$.format", f"expected {expected!r}, found {found!r}")
    return from_json_as({k: v for k, v in value.items() if k != "format"}, cls)


def _fault(code: FaultCode, path: str, message: str) -> FaultyInputError:
    return FaultyInputError((Fault(code=code, path=path, message=message),))


def _without_defaults(value: Any) -> Any:
    """Return JSON values of a dataclass without the fields that have their default."""
    from dataclasses import MISSING, fields, is_dataclass

    if isinstance(value, tuple):
        return [_without_defaults(v) for v in value]
    if not is_dataclass(value) or isinstance(value, type):
        return to_json_values(value)
    kept = {}
    for f in fields(value):
        item = getattr(value, f.name)
        default = f.default_factory() if f.default_factory is not MISSING else f.default
        if default is MISSING or item != default:
            kept[f.name] = _without_defaults(item)
    return kept
