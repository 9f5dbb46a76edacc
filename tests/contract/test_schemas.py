"""The schema files say what the event classes say, and every event survives the wire."""

import json
from pathlib import Path

import fastavro
import pytest

from flexbus.catalogue import CATALOGUE
from flexbus.cli.events import markdown
from flexbus.cli.schemas import expected_files
from schemas import avro_dir


@pytest.mark.parametrize(("name", "text"), expected_files().items(), ids=lambda v: v if v.endswith("avsc") else "")
def test_schema_file_equals_the_event_class(name: str, text: str) -> None:
    assert (avro_dir() / name).read_text(encoding="utf-8") == text, "run `flexbus schemas --write`"


def test_no_schema_file_without_an_event() -> None:
    newest = {n.split(".")[0] for n in expected_files()}
    assert {p.name.split(".")[0] for p in avro_dir().glob("*.avsc")} == newest


def _undocumented(schema: object, path: str) -> list[str]:
    found: list[str] = []
    if isinstance(schema, dict):
        if schema.get("type") == "record":
            for field in schema["fields"]:
                if not field.get("doc"):
                    found.append(f"{path}.{field['name']}")
                found += _undocumented(field["type"], f"{path}.{field['name']}")
        for key in ("items", "values"):
            found += _undocumented(schema.get(key), path)
    if isinstance(schema, list):
        for item in schema:
            found += _undocumented(item, path)
    return found


def test_every_field_is_documented_with_its_unit() -> None:
    for name, text in expected_files().items():
        schema = json.loads(text)
        assert _undocumented(schema, name) == []
        fastavro.parse_schema(schema)


def test_every_event_names_its_area_first() -> None:
    for kind in CATALOGUE.values():
        assert next(iter(kind.event.__dataclass_fields__)) == "area_id"


def test_paths_of_the_catalogue_exist() -> None:
    for kind in CATALOGUE.values():
        for path in (*kind.parties, *kind.identities):
            cls = kind.event
            for part in path.split("."):
                name = part.removesuffix("[]")
                assert name in cls.__dataclass_fields__, f"{kind.type_name}: {path}"
                hint = __import__("typing").get_type_hints(cls)[name]
                cls = hint.__args__[0] if part.endswith("[]") else hint


def test_the_events_page_follows_the_catalogue() -> None:
    page = Path(__file__).parents[2] / "docs" / "events" / "README.md"
    assert page.read_text(encoding="utf-8") == markdown(), "run `flexbus events --markdown > docs/events/README.md`"
