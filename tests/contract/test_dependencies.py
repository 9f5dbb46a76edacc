"""What can be said of the dependencies without asking anybody: pinned, hashed, and not below a known fix."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests import audit
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


@pytest.mark.parametrize(("environment", "code"), [({}, 0), ({"FLEXBUS_AUDIT": "required"}, 3)])
def test_where_nobody_can_be_asked_only_the_hosted_ci_fails(
    tmp_path: Path, environment: dict[str, str], code: int
) -> None:
    """An empty cache and no network: pip-audit itself cannot be had."""
    nothing = {"UV_OFFLINE": "1", "UV_CACHE_DIR": str(tmp_path / "cache"), "UV_TOOL_DIR": str(tmp_path / "tools")}
    known = {name: value for name, value in os.environ.items() if name != "FLEXBUS_AUDIT"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.audit"],
        env=known | nothing | environment,
        cwd=Path(audit.__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.split(":")[0]) == (code, "NOT AUDITED"), done.stderr


def test_the_hosted_ci_runs_all_that_must_pass_and_demands_the_audit() -> None:
    root = Path(audit.__file__).parents[1]
    flow = yaml.safe_load((root / ".github" / "workflows" / "ci.yml").read_text())
    assert flow["env"] == {"FLEXBUS_AUDIT": "required"}
    assert flow["permissions"] == {"contents": "read"}
    (job,) = flow["jobs"].values()
    assert job["steps"][-1] == {"run": ".ci/run"}
    assert "make audit" in (root / ".ci" / "run").read_text().splitlines()
    events = flow[True]  # YAML 1.1 reads the key `on` so
    assert {"push", "pull_request", "schedule"} == set(events)
