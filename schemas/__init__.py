"""Where the schema files are: the one module that finds them, installed or in a checkout."""

import json
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["avro_dir", "avro_schemas", "fingerprints", "json_dir"]

_HERE = Path(__file__).parent


def avro_dir() -> Path:
    """Return the folder of the Avro schemas, one `<event>.v<N>.avsc` per event and version."""
    return _HERE / "avro"


def json_dir() -> Path:
    """Return the folder of the JSON Schemas of file formats."""
    return _HERE / "json"


@cache
def avro_schemas() -> dict[tuple[str, int], dict[str, Any]]:
    """Return every shipped Avro schema by event word and version."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for path in sorted(avro_dir().glob("*.avsc")):
        word, version, _ = path.name.split(".")
        found[word, int(version.removeprefix("v"))] = json.loads(path.read_text(encoding="utf-8"))
    return found


def fingerprints() -> dict[str, dict[int, str]]:
    """Return the list of what is out: CRC-64-AVRO fingerprint in hexadecimal by event word and version."""
    listed = json.loads((avro_dir() / "fingerprints.json").read_text(encoding="utf-8"))
    return {word: {int(v): known for v, known in versions.items()} for word, versions in listed.items()}
