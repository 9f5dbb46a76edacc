"""Dataclasses of the language as plain values: for Avro as they are, for JSON strictly and with every fault told.

JSON (for people and `flexbus send`) has the same field names as Avro; every fault of a JSON event is reported at once.
"""

import json
import types
from collections.abc import Callable
from dataclasses import is_dataclass
from enum import Enum
from functools import cache
from typing import Any, TypeVar, get_args, get_origin

from cattrs import Converter, transform_error
from cattrs.cols import list_structure_factory
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn

from flexbus.catalogue import CATALOGUE
from flexbus.errors import Fault, FaultCode, FaultyInputError

__all__ = ["from_json", "from_json_as", "to_json", "to_json_values", "to_plain"]

T = TypeVar("T")


def to_plain(event: Any) -> Any:
    """Return the values that an Avro writer takes."""
    return _converter().unstructure(event)


def to_json(event: Any) -> dict[str, Any]:
    """Return an event as JSON-ready values with a `type` beside its fields."""
    value: dict[str, Any] = _json_converter().unstructure(event)
    return {"type": type(event).__name__, **value}


def from_json(value: Any) -> Any:
    """Read an event from JSON values, or from JSON text.

    Raises:
        FaultyInputError: with every fault and its path.
    """
    if isinstance(value, str | bytes):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise _faulty(FaultCode.NOT_DECODABLE, "$", f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise _faulty(FaultCode.WRONG_TYPE, "$", "an event is a JSON object")
    name = value.get("type")
    if name is None:
        raise _faulty(FaultCode.MISSING_FIELD, "$.type", "the event type is missing; list them with `flexbus events`")
    if not isinstance(name, str) or name not in CATALOGUE:
        raise _faulty(
            FaultCode.UNKNOWN_EVENT,
            "$.type",
            f"{name!r} is no event of the catalogue; list them with `flexbus events`",
        )
    fields = {k: v for k, v in value.items() if k != "type"}
    return from_json_as(fields, CATALOGUE[name].event)


def to_json_values(value: Any) -> Any:
    """Return any dataclass of the language (a case, a result) as JSON-ready values."""
    return _json_converter().unstructure(value)


def from_json_as(value: Any, cls: type[T]) -> T:
    """Read a known dataclass from JSON values, strictly: no missing, unknown or wrongly typed fields.

    Raises:
        FaultyInputError: with every fault and its path.
    """
    try:
        return _json_converter().structure(value, cls)
    except Exception as error:
        raise FaultyInputError(_faults(error)) from error


def _faulty(code: FaultCode, path: str, message: str) -> FaultyInputError:
    return FaultyInputError((Fault(code=code, path=path, message=message),))


def _faults(error: Exception) -> tuple[Fault, ...]:
    def describe(exc: BaseException, _type: Any) -> str:
        if isinstance(exc, KeyError):
            return f"MISSING_FIELD|required field missing: {exc.args[0]}"
        if type(exc).__name__ == "ForbiddenExtraKeysError":
            extra = ", ".join(sorted(getattr(exc, "extra_fields", ())))
            return f"UNKNOWN_FIELD|unknown field: {extra}"
        if isinstance(exc, UnicodeEncodeError):
            return "BAD_VALUE|has half of a surrogate pair: no Unicode text"
        return f"WRONG_TYPE|{exc}"

    faults = []
    for found in transform_error(error, format_exception=describe):
        # Names of fields are the sender's: what is no Unicode could not be told to anybody.
        text = found.encode(errors="backslashreplace").decode()
        body, _, path = text.rpartition(" @ ")
        code, _, message = body.partition("|")
        faults.append(Fault(code=FaultCode(code), path=path, message=message))
    return tuple(faults)


def _strict(kind: type[Any]) -> Callable[[Any, Any], Any]:
    def check(value: Any, _: Any) -> Any:
        if type(value) is not kind:
            raise TypeError(f"expected {kind.__name__}, found {type(value).__name__}: {str(value)[:60]!r}")
        if kind is int and not -(2**63) <= value < 2**63:
            raise TypeError(f"{value} does not fit into 64 bits")
        if kind is str:
            value.encode()  # JSON can say half of a surrogate pair
        return value

    return check


def _double(value: Any, _: Any) -> float:
    if type(value) not in (int, float):
        raise TypeError(f"expected a number, found {type(value).__name__}: {str(value)[:60]!r}")
    return float(value)


def _enum(value: Any, kind: type[Enum]) -> Enum:
    try:
        return kind(value)
    except ValueError:
        raise ValueError(f"{value!r} is none of {', '.join(str(m.value) for m in kind)}") from None


def _with_enums(converter: Converter) -> Converter:
    converter.register_structure_hook_func(lambda t: isinstance(t, type) and issubclass(t, Enum), _enum)
    converter.register_unstructure_hook_func(
        lambda t: isinstance(t, type) and issubclass(t, Enum), lambda value: value.value
    )
    return converter


@cache
def _converter() -> Converter:
    return _with_enums(Converter(detailed_validation=False))


@cache
def _json_converter() -> Converter:
    converter = _with_enums(Converter(detailed_validation=True, forbid_extra_keys=True))
    for kind in (int, str, bool):
        converter.register_structure_hook(kind, _strict(kind))
    converter.register_structure_hook(float, _double)
    converter.register_structure_hook(bytes, lambda value, _: bytes.fromhex(value))
    converter.register_unstructure_hook(bytes, lambda value: value.hex())

    converter.register_structure_hook_factory(
        lambda t: getattr(t, "__origin__", None) is tuple,
        lambda kind: _list_only(list_structure_factory(_list_of(kind), converter)),
    )
    converter.register_structure_hook_factory(
        lambda t: is_dataclass(t) and get_origin(t) is None,
        lambda cls: _object_only(make_dict_structure_fn(cls, converter, _cattrs_forbid_extra_keys=True)),
    )
    converter.register_unstructure_hook_factory(is_dataclass, lambda cls: make_dict_unstructure_fn(cls, converter))
    return converter


def _list_of(kind: Any) -> Any:
    return types.GenericAlias(list, get_args(kind)[:1])


def _list_only(structure: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def check(value: Any, kind: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise TypeError(f"expected a list, found {type(value).__name__}: {str(value)[:60]!r}")
        return tuple(structure(value, kind))

    return check


def _object_only(structure: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def check(value: Any, kind: Any) -> Any:
        if not isinstance(value, dict):
            raise TypeError(f"expected an object, found {type(value).__name__}: {str(value)[:60]!r}")
        return structure(value, kind)

    return check
