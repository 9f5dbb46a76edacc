"""What can be said of the dependencies without asking anybody: pinned, hashed, and not below a known fix."""

import re
from pathlib import Path

import pytest

from tests.audit import verdict

LOCK = (Path(__file__).parents[2] / "requirements.lock").read_text(encoding="utf-8")
PINS = dict(re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([0-9][^\s;\\]*)", LOCK, re.MULTILINE))

# Advisory -> package and first version without it. A floor under the lock where advisories cannot be reached; it
# does not replace `make audit`, which knows them all.
FIXED_IN = {
    "CVE-2024-52304": ("aiohttp", "3.10.11"),
    "CVE-2025-53643": ("aiohttp", "3.12.14"),
    "CVE-2024-12797": ("cryptography", "44.0.1"),
    "CVE-2025-27516": ("jinja2", "3.1.6"),
    "CVE-2024-47081": ("requests", "2.32.4"),
    "CVE-2025-50181": ("urllib3", "2.5.0"),
    "CVE-2025-47273": ("setuptools", "78.1.1"),
    "CVE-2024-3651": ("idna", "3.7"),
    "CVE-2024-39689": ("certifi", "2024.7.4"),
    "CVE-2024-5569": ("zipp", "3.19.1"),
}


def number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def test_everything_is_pinned_with_its_hashes() -> None:
    entries = re.split(r"(?m)^(?=[A-Za-z0-9])", LOCK)
    named = [entry for entry in entries if re.match(r"[A-Za-z0-9]", entry)]
    assert len(named) == len(PINS) > 50
    assert [entry.split()[0] for entry in named if "--hash=sha256:" not in entry] == []


@pytest.mark.parametrize("advisory", FIXED_IN)
def test_nothing_is_locked_below_a_known_fix(advisory: str) -> None:
    package, fixed = FIXED_IN[advisory]
    locked = PINS.get(package)
    assert locked is None or number(locked) >= number(fixed), f"{package} {locked} has {advisory}"


def test_an_audit_that_looked_at_nothing_is_none() -> None:
    known = {"name": "a", "version": "1", "vulns": []}
    bad = {"name": "b", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}
    skipped = {"name": "c", "skip_reason": "not found"}
    assert verdict([known]) == (0, ["audited 1 packages: no known vulnerability"])
    assert verdict([known, bad, skipped]) == (1, ["VULNERABLE b 1: CVE-1 (2)"])
    assert verdict([known, skipped])[0] == 3
    assert verdict([skipped])[1][0].startswith("NOT AUDITED: 1 of 1 packages")
    assert verdict([])[0] == 3
