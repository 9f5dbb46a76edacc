"""`make audit`: known vulnerabilities of the locked dependencies, by pip-audit; a package nobody could look up is said.

pip-audit passes over what its advisory service does not know, and ends with 0. Behind a mirror that holds packages
and no advisories that is every package: an audit that looked at nothing. So its answer is counted here.
With --required, or FLEXBUS_AUDIT=required as the hosted CI has it, an audit that could not look is a failure.
Exit codes: 0 nothing found, or nothing could be looked up and that is not a failure; 1 findings; 3 not audited.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

TOOL = "pip-audit==2.10.1"
LOCK = Path(__file__).parents[1] / "requirements.lock"
TIMEOUT_S = 240


def verdict(dependencies: list[dict[str, Any]]) -> tuple[int, list[str]]:
    """Return exit code (with --required) and lines for people of pip-audit's JSON."""
    audited = [d for d in dependencies if "vulns" in d]
    skipped = [d for d in dependencies if "skip_reason" in d]
    findings = [
        f"VULNERABLE {d['name']} {d['version']}: {v['id']} ({', '.join(v['fix_versions']) or 'no fix yet'})"
        for d in audited
        for v in d["vulns"]
    ]
    if findings:
        return 1, findings
    if not audited or skipped:
        names = ", ".join(d["name"] for d in skipped[:5])
        line = f"NOT AUDITED: {len(skipped)} of {len(dependencies)} packages are unknown to the advisory service"
        return 3, [f"{line} ({names} ...); run `make audit` where advisories can be reached"]
    return 0, [f"audited {len(audited)} packages: no known vulnerability"]


def main(required: bool) -> int:
    """Audit the lock file; see the module."""
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or "uv"
    command = [uv, "tool", "run", "--quiet", "--from", TOOL, "pip-audit", "--disable-pip", "--require-hashes"]
    command += ["-r", str(LOCK), "--format", "json", "--progress-spinner", "off"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        code, lines = verdict(json.loads(done.stdout)["dependencies"])
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError) as error:
        why = type(error).__name__
        code, lines = (
            3,
            [f"NOT AUDITED: the advisory service or {TOOL} cannot be reached ({why}); run `make audit` later"],
        )
    print("\n".join(lines))
    return 0 if code == 3 and not required else code


if __name__ == "__main__":
    sys.exit(main("--required" in sys.argv or os.environ.get("FLEXBUS_AUDIT") == "required"))
