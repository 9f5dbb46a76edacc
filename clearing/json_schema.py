"""JSON Schemas of case and result files, made from the dataclasses so that they cannot drift.

``python -m clearing.json_schema`` writes them to ``schemas/json/``; a contract test compares.
"""

import json
import types
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from clearing.case import Case
from clearing.files import CASE_FORMAT, RESULT_FORMAT
from clearing.result import Result
from schemas import json_dir

__all__ = ["schema_of", "schema_texts"]

INT64 = {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}


def schema_texts() -> dict[str, str]:
    """Return the schema files by name, as they are committed."""
    made = {
        "case.v1.json": schema_of(Case, CASE_FORMAT, "A flexbus clearing case"),
        "result.v1.json": schema_of(Result, RESULT_FORMAT, "The result of a flexbus clearing"),
    }
    return {name: json.dumps(schema, indent=1, ensure_ascii=False) + "\n" for name, schema in made.items()}


def schema_of(cls: type, format_name: str, title: str) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a file whose object is a dataclass with a ``format`` beside its fields."""
    definitions: dict[str, Any] = {}
    body = _object(cls, definitions)
    body["properties"] = {"format": {"const": format_name, "description": "name and version of this format"}} | body[
        "properties"
    ]
    body["required"] = ["format", *body["required"]]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **body,
        "$defs": dict(sorted(definitions.items())),
    }


def _object(cls: type, definitions: dict[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(cls, include_extras=True)
    properties, required = {}, []
    for field in fields(cls):
        properties[field.name] = _type(hints[field.name], definitions)
        if field.default is MISSING and field.default_factory is MISSING:
            required.append(field.name)
    return {
        "type": "object",
        "description": " ".join((cls.__doc__ or "").split()),
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _type(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if get_origin(hint) is Annotated:
        inner, text = get_args(hint)[:2]
        made = _type(inner, definitions)
        return {**made, "description": text}
    if get_origin(hint) in (Union, types.UnionType):
        parts = [_type(part, definitions) for part in get_args(hint)]
        return {"anyOf": parts}
    if get_origin(hint) is tuple:
        return {"type": "array", "items": _type(get_args(hint)[0], definitions)}
    if is_dataclass(hint) and isinstance(hint, type):
        if hint.__name__ not in definitions:
            definitions[hint.__name__] = {}  # holds the place while its own fields are walked
            definitions[hint.__name__] = _object(hint, definitions)
        return {"$ref": f"#/$defs/{hint.__name__}"}
    if isinstance(hint, type) and issubclass(hint, Enum):
        return {"enum": [member.value for member in hint]}
    simple: dict[Any, dict[str, Any]] = {
        int: INT64,
        str: {"type": "string"},
        float: {"type": "number"},
        bool: {"type": "boolean"},
        type(None): {"type": "null"},
    }
    return dict(simple[hint])


def _write() -> None:
    json_dir().mkdir(exist_ok=True)
    for name, text in schema_texts().items():
        (json_dir() / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    _write()
