"""Whether an Avro schema may follow others: every version reads what every other one has written.

Avro 1.12 specification, "Schema Resolution", in both directions. The fingerprint of a schema knows neither docs nor
defaults, so a version that is out may change its docs only.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Clash", "clashes", "same_but_docs"]

# What a reader of the key's type also takes.
_PROMOTED: dict[str, frozenset[str]] = {
    "long": frozenset({"int"}),
    "float": frozenset({"int", "long"}),
    "double": frozenset({"int", "long", "float"}),
    "string": frozenset({"bytes"}),
    "bytes": frozenset({"string"}),
}


@dataclass(frozen=True, slots=True, order=True)
class Clash:
    """One reason why a schema cannot follow another.

    Attributes:
        path: the place, as in `$.offer.slots[].power_w`.
        why: what would go wrong.
        remedy: what to do.
    """

    path: str
    why: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path}: {self.why}; {self.remedy}"


def clashes(new: Any, listed: Mapping[int, Any]) -> list[Clash]:
    """Return every reason why a schema cannot be the next version, without repetition.

    Args:
        new: the schema, as JSON values.
        listed: all versions that are out, by number.
    """
    found: dict[Clash, None] = {}
    for version, old in listed.items():
        found |= dict.fromkeys(_Side(new, old, f"v{version}", backward=True).compare())
        found |= dict.fromkeys(_Side(old, new, f"v{version}", backward=False).compare())
    return list(found)


def same_but_docs(one: Any, other: Any) -> bool:
    """Tell whether two schemas differ in docs at most, so that one may stand in the other's place."""
    return bool(_bare(one) == _bare(other))


def _bare(schema: Any) -> Any:
    if isinstance(schema, dict):
        # A default is a plain value, which may have a key "doc" of its own.
        return {k: v if k == "default" else _bare(v) for k, v in schema.items() if k != "doc"}
    return [_bare(s) for s in schema] if isinstance(schema, list) else schema


class _Side:
    """One direction: can a reader's schema read what a writer's schema has written?"""

    def __init__(self, reader: Any, writer: Any, version: str, *, backward: bool) -> None:
        self._schemas = reader, writer
        self._names = _named(reader), _named(writer)
        self._version, self._backward = version, backward
        self._seen: set[tuple[str, str]] = set()

    def compare(self) -> Iterator[Clash]:
        return self._compare(*self._schemas, "$")

    def _compare(self, reader: Any, writer: Any, path: str) -> Iterator[Clash]:
        readers, writers = _branches(reader, self._names[0]), _branches(writer, self._names[1])
        pairs = [(_match(readers, branch), branch) for branch in writers]
        if any(found is None for found, _ in pairs):
            new, old = (reader, writer) if self._backward else (writer, reader)
            yield Clash(
                path,
                f"the type was {_shown(old)} in {self._version} and is {_shown(new)}, which cannot be read both ways",
                "keep the type and add a new field with a default beside it",
            )
            return
        for found, branch in pairs:
            if isinstance(found, dict) and isinstance(branch, dict):
                yield from self._compare_complex(found, branch, path)

    def _compare_complex(self, reader: Any, writer: Any, path: str) -> Iterator[Clash]:
        match reader["type"]:
            case "array":
                yield from self._compare(reader["items"], writer["items"], f"{path}[]")
            case "map":
                yield from self._compare(reader["values"], writer["values"], f"{path}{{}}")
            case "enum":
                yield from self._compare_symbols(reader, writer, path)
            case "record":
                pair = (reader["name"], path)
                if pair not in self._seen:
                    self._seen.add(pair)
                    yield from self._compare_fields(reader, writer, path)

    def _compare_fields(self, reader: Any, writer: Any, path: str) -> Iterator[Clash]:
        written = {f["name"]: f for f in writer["fields"]}
        for field in reader["fields"]:
            place = f"{path}.{field['name']}"
            if field["name"] in written:
                yield from self._compare(field["type"], written[field["name"]]["type"], place)
            elif "default" not in field and self._backward:
                yield Clash(
                    place,
                    f"the field is new against {self._version} and has no default, so older events cannot be read",
                    "give it a default (a rename is a new field beside the old one, which stays)",
                )
            elif "default" not in field:
                yield Clash(
                    place,
                    f"the field is gone, but {self._version} has no default for it, so its readers cannot read "
                    "new events",
                    "put it back (a rename is a new field with a default beside the old one, which stays)",
                )

    def _compare_symbols(self, reader: Any, writer: Any, path: str) -> Iterator[Clash]:
        unknown = [s for s in writer["symbols"] if s not in reader["symbols"]]
        if unknown and "default" not in reader:
            names = ", ".join(unknown)
            if self._backward:
                why = f"{names} of enum {reader['name']} is gone, but {self._version} writes it"
                yield Clash(path, why, "put it back")
            else:
                why = f"{names} of enum {reader['name']} is new, but in {self._version} the enum has no default to read"
                yield Clash(path, why, "say it by a new field that has a default, or by a new event")


def _named(schema: Any) -> dict[str, Any]:
    """Return the records and enums of a schema by their short names."""
    return {s["name"]: s for s in _all(schema) if s["type"] in ("record", "enum")}


def _all(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, list):
        inner: Iterable[Any] = schema
    elif isinstance(schema, dict):
        yield schema
        inner = [schema.get("items"), schema.get("values"), *(f["type"] for f in schema.get("fields", ()))]
    else:
        return
    for item in inner:
        yield from _all(item)


def _kind(schema: Any) -> str:
    """Return what decides by itself whether two schemas can match: the type, with the name if it has one."""
    if isinstance(schema, str):
        return schema
    return f"{schema['type']} {_short(schema['name'])}" if "name" in schema else str(schema["type"])


def _branches(schema: Any, names: Mapping[str, Any]) -> list[Any]:
    """Return the types of a union, or the one type, with names replaced by what they name."""
    found = schema if isinstance(schema, list) else [schema]
    return [names.get(_short(s), s) if isinstance(s, str) else s for s in found]


def _match(readers: list[Any], writer: Any) -> Any | None:
    """Return the branch that reads what a writer's type has written: the same type first, or one that it becomes."""
    kind = _kind(writer)
    same = [r for r in readers if _kind(r) == kind]
    return next(iter(same or [r for r in readers if kind in _PROMOTED.get(_kind(r), ())]), None)


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _shown(schema: Any) -> str:
    return " or ".join(_kind(s) for s in schema) if isinstance(schema, list) else _kind(schema)
