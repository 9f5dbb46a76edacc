"""The schema files say what the event classes say, and every event survives the wire."""

import re
from pathlib import Path

import pytest

from flexbus import avro
from flexbus.catalogue import CATALOGUE
from flexbus.cli.events import markdown
from flexbus.cli.schemas import classes
from schemas import avro_dir


def test_no_schema_file_without_an_event() -> None:
    assert {p.name.split(".")[0] for p in avro_dir().glob("*.avsc")} == set(classes())


# What the doc of a field must say, by the end of its name; the first that fits counts.
UNITS = {
    r"_per_mwh": r"1/1000 EUR per MWh\b",
    r"_per_mvarh": r"1/1000 EUR per Mvarh\b",
    r"_per_puh": r"1/1000 EUR per pu of violation and hour\b",
    r"_wh": r"\bWh\b",
    r"_varh": r"\bvarh\b",
    r"_w": r"\bW\b",
    r"_var": r"\bvar\b",
    r"_va": r"\bVA\b",
    r"_v": r"\bV\b",
    r"_ma": r"\bmA\b",
    r"_ohm": r"\bohm\b",
    r"_deg": r"\bdegrees\b",
    r"_ppm": r"\bmillionths\b",
    r"_nano": r"\b1e-9 EUR\b",
    r"_cents": r"\bcents\b",
    r"_ms": r"\bUTC ms\b",
    r"\b(shunt_)?[gb]_s": r"\bsiemens\b",
    r"_s": r"\bs\b",
}


def undocumented(schema: object, path: str) -> list[str]:
    """Return every field of a schema whose doc is empty, or lacks the unit that its name promises."""
    found: list[str] = []
    if isinstance(schema, dict):
        if schema.get("type") == "record":
            for field in schema["fields"]:
                place, doc = f"{path}.{field['name']}", field["doc"]
                unit = next((u for end, u in UNITS.items() if re.search(f"{end}$", field["name"])), r"\w")
                if not re.search(unit, doc):
                    found.append(f"{place}: {doc!r} does not say {unit}")
                found += undocumented(field["type"], place)
        for key in ("items", "values"):
            found += undocumented(schema.get(key), path)
    if isinstance(schema, list):
        for item in schema:
            found += undocumented(item, path)
    return found


def test_every_field_is_documented_with_its_unit() -> None:
    faults = [fault for word, cls in classes().items() for fault in undocumented(avro.schema_of(cls), word)]
    assert faults == []


@pytest.mark.parametrize(
    ("name", "doc"),
    [
        ("power_w", "volume, Wh"),
        ("energy_wh", "energy, W"),
        ("at_ms", "when, s"),
        ("price_milli_per_mwh", "the price"),
        ("resolution_s", "slots"),
        ("shunt_b_s", "susceptance, s"),
        ("text", ""),
    ],
)
def test_a_doc_without_its_unit_is_found(name: str, doc: str) -> None:
    schema = {"type": "record", "name": "R", "fields": [{"name": name, "type": "long", "doc": doc}]}
    assert len(undocumented({"type": "array", "items": schema}, "$")) == 1


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
