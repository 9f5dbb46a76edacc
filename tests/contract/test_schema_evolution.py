"""Schemas only grow: what is listed stays, and every version reads what every other has written."""

import copy
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastavro
import pytest

from flexbus import avro, codec
from flexbus.catalogue import CATALOGUE
from flexbus.cli import main
from flexbus.cli.schemas import classes, expected_files, next_files
from flexbus.evolution import clashes
from flexbus.journal import Block
from schemas import avro_dir, avro_schemas, fingerprints
from tests.specimens import _value, specimen

WORD, VERSION = "flex_offer_submitted", 1
OFFER = CATALOGUE["FlexOfferSubmitted"]
Schema = dict[str, Any]


def print_of(schema: Any) -> str:
    return codec.fingerprint(fastavro.parse_schema(schema)).hex()


def written(schema: Any, value: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
    return out.getvalue()


def read(data: bytes, writer: Any, reader: Any) -> Any:
    return fastavro.schemaless_reader(io.BytesIO(data), fastavro.parse_schema(writer), fastavro.parse_schema(reader))


def sample(word: str) -> Any:
    """An instance of the newest class, every list of it with two entries, every optional field given."""
    cls = classes()[word]
    return specimen(CATALOGUE[cls.__name__], "north", "a", "b") if cls.__name__ in CATALOGUE else _value(cls, "", 2)


def plain(event: Any) -> Any:
    schema = avro.schema_of(type(event))
    return read(codec.encode(event)[10:], schema, schema)


def test_the_list_equals_the_files() -> None:
    found = {key: print_of(schema) for key, schema in avro_schemas().items()}
    assert found == {(word, v): known for word, versions in fingerprints().items() for v, known in versions.items()}
    assert len(set(found.values())) == len(found)


def test_what_is_listed_may_stay_and_the_files_are_written() -> None:
    files, faults = expected_files()
    assert faults == [], "a class changed in a way that its listed versions do not allow"
    for name, text in files.items():
        assert (avro_dir() / name).read_text(encoding="utf-8") == text, "run `flexbus schemas --write`"


@pytest.mark.parametrize(("word", "version"), avro_schemas(), ids=lambda v: str(v))
def test_every_version_and_the_newest_read_each_other(word: str, version: int) -> None:
    old, newest, event = avro_schemas()[word, version], avro.schema_of(classes()[word]), sample(word)
    as_old = read(written(newest, plain(event)), newest, old)
    head = b"\xc3\x01" + bytes.fromhex(fingerprints()[word][version])
    again = codec.decode(head + written(old, as_old))
    assert type(again) is classes()[word]
    assert read(written(newest, plain(again)), newest, old) == as_old
    assert clashes(newest, {version: old}) == []


def fields(schema: Schema, *path: str) -> Any:
    """The fields of a record inside a schema."""
    found: Any = schema
    for name in path:
        found = next(f["type"] for f in found["fields"] if f["name"] == name)
        found = found.get("items", found)
    return found["fields"]


def named(schema: Schema, *path: str) -> Any:
    return next(f for f in fields(schema, *path[:-1]) if f["name"] == path[-1])


def add(schema: Schema, **field: Any) -> None:
    fields(schema, "offer").append({"name": "note", "type": ["null", "string"], "doc": "for people", **field})


def remove(schema: Schema, name: str) -> None:
    found = fields(schema, "offer")
    found.remove(named(schema, "offer", name))


def rename(schema: Schema) -> None:
    named(schema, "offer", "fsp_id")["name"] = "provider_id"


def retype(schema: Schema, kind: Any) -> None:
    named(schema, "offer", "revision")["type"] = kind


def symbols(schema: Schema, *names: str) -> None:
    named(schema, "offer", "direction")["type"]["symbols"] = list(names)


REFUSED: dict[str, tuple[Callable[[Schema], None], list[tuple[str, str]]]] = {
    "new without default": (add, [("$.offer.note", "is new against v1 and has no default")]),
    "removed": (lambda s: remove(s, "fsp_id"), [("$.offer.fsp_id", "is gone, but v1 has no default")]),
    "renamed": (rename, [("$.offer.provider_id", "is new"), ("$.offer.fsp_id", "is gone")]),
    "another type": (lambda s: retype(s, "string"), [("$.offer.revision", "was long in v1 and is string")]),
    "promoted one way": (lambda s: retype(s, "double"), [("$.offer.revision", "was long in v1 and is double")]),
    "optional now": (lambda s: retype(s, ["null", "long"]), [("$.offer.revision", "and is null or long")]),
    "deep in a list": (
        lambda s: named(s, "offer", "slots", "steps", "power_w").update(type="double"),
        [("$.offer.slots[].steps[].power_w", "was long in v1 and is double")],
    ),
    "symbol added": (
        lambda s: symbols(s, "UP", "DOWN", "BOTH"),
        [("$.offer.direction", "BOTH of enum Direction is new")],
    ),
    "symbol removed": (lambda s: symbols(s, "UP"), [("$.offer.direction", "DOWN of enum Direction is gone")]),
    "default changed": (
        lambda s: named(s, "offer", "max_energy_wh").pop("default"),
        [("flex_offer_submitted", "the same as v1 but for a default")],
    ),
}


def state(change: Callable[[Schema], None]) -> tuple[dict[str, Schema], dict[tuple[str, int], Schema], Any]:
    """What `next_files` is given when only one schema is there and its class has changed."""
    old = avro_schemas()[WORD, VERSION]
    new = copy.deepcopy(old)
    change(new)
    return {WORD: new}, {(WORD, VERSION): old}, {WORD: {VERSION: print_of(old)}}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_both_ways_is_refused_with_every_place(name: str) -> None:
    change, expected = REFUSED[name]
    _, faults = next_files(*state(change))
    assert len(faults) == len(expected)
    for path, why in expected:
        (fault,) = (f for f in faults if f" {path}: " in f" {f}")
        assert why in fault
        assert "; " in fault or ", or " in fault  # what to do


def test_a_field_with_a_default_makes_the_next_version_and_old_records_have_the_default() -> None:
    new, stored, listed = state(lambda s: add(s, default=None))
    files, faults = next_files(new, stored, listed)
    assert faults == []
    assert set(files) == {"flex_offer_submitted.v2.avsc", "fingerprints.json"}  # version 1 is not touched
    assert print_of(stored[WORD, 1]) in files["fingerprints.json"]
    assert print_of(new[WORD]) in files["fingerprints.json"]
    value = plain(specimen(OFFER, "north", "a"))
    later = read(written(stored[WORD, 1], value), stored[WORD, 1], new[WORD])
    assert later["offer"].pop("note", "missing") is None
    assert later == value


def test_a_later_version_must_fit_every_listed_one() -> None:
    first, second, third = (copy.deepcopy(avro_schemas()[WORD, 1]) for _ in range(3))
    add(second, default=None)
    add(third, type="long", default=0)  # fits version 1 alone
    stored = {(WORD, 1): first, (WORD, 2): second}
    listed = {WORD: {1: print_of(first), 2: print_of(second)}}
    assert clashes(third, {1: first}) == []
    _, (fault,) = next_files({WORD: third}, stored, listed)
    assert "$.offer.note: the type was null or string in v2 and is long" in fault
    _, (fault,) = next_files({WORD: first}, stored, listed)
    assert "the same as v1, which has successors" in fault


def test_a_field_that_had_a_default_may_go() -> None:
    new, stored, listed = state(lambda s: remove(s, "max_energy_wh"))
    files, faults = next_files(new, stored, listed)
    assert (faults, f"{WORD}.v2.avsc" in files) == ([], True)


def test_other_words_in_a_doc_are_no_new_version() -> None:
    new, stored, listed = state(lambda s: named(s, "offer", "fsp_id").update(doc="who offers"))
    files, faults = next_files(new, stored, listed)
    assert faults == []
    assert "who offers" in files["flex_offer_submitted.v1.avsc"]


def test_a_listed_file_that_was_changed_or_removed_is_named() -> None:
    new, stored, listed = state(lambda s: None)
    changed = copy.deepcopy(stored)
    add(changed[WORD, 1], default=None)
    assert "flex_offer_submitted.v1.avsc: its fingerprint is" in next_files(new, changed, listed)[1][0]
    assert "the file is missing" in next_files(new, {}, listed)[1][0]
    assert "not listed" in next_files(new, stored | {(WORD, 2): changed[WORD, 1]}, listed)[1][0]
    assert "has no class" in next_files({}, stored, listed)[1][0]


def test_the_command_writes_nothing_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = copy.deepcopy(avro.schema_of(Block))
    broken["fields"].pop()
    schema_of = avro.schema_of
    monkeypatch.setattr("flexbus.cli.schemas.avro_dir", lambda: tmp_path)
    monkeypatch.setattr(avro, "schema_of", lambda cls: broken if cls is Block else schema_of(cls))
    with pytest.raises(SystemExit) as done:
        main(["schemas", "--write"])
    assert done.value.code == 1
    assert "block.v2 $.entries: the field is gone" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
