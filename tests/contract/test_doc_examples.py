"""The examples of the documents run, word for word; only the grid is a small one and the journal a made-up day."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from clearing.case import Case
from clearing.certificate import certify
from clearing.files import case_to_text, read_case, read_result
from clearing.pipeline import clear
from flexbus.catalogue import CATALOGUE
from flexbus.quantities import Direction
from streams.table import Summary
from tests.clearing_cases import case, chain, injection, offer
from tests.page_day import SESSION

ROOT = Path(__file__).parents[2]
FORMATS = ROOT / "docs" / "formats"
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

DAY, CLIENT, HERE = (
    "tests/acceptance/test_market_day.py",
    "tests/integration/test_client.py",
    "tests/contract/test_doc_examples.py",
)
EVENTS, LANGUAGES = "tests/contract/test_event_pages.py", "tests/contract/test_other_languages.py"
MANUAL = "tests/integration/test_doc_commands.py"

# Page (or folder), kind and first words of each fence, and the test that runs or checks it.
RUN = {
    ("README.md", "python", ""): DAY,
    ("README.md", "", "until "): DAY,
    ("docs/access.md", "", ""): "tests/contract/test_access_page.py",
    ("docs/connect.md", "python", ""): CLIENT,
    ("docs/connect.md", "console", ""): CLIENT,
    ("docs/connect.md", "js", ""): LANGUAGES,
    ("docs/journal.md", "js", ""): LANGUAGES,
    ("docs/events/", "json", ""): EVENTS,
    ("docs/events/", "json faulty", ""): EVENTS,
    ("docs/events/", "faults", ""): EVENTS,
    ("docs/events/congestion.md", "json source.json", ""): CLIENT,
    ("docs/events/congestion.md", "json forecasts.jsonl", ""): CLIENT,
    ("docs/events/congestion.md", "json made", ""): CLIENT,
    ("docs/events/congestion.md", "text faults", ""): CLIENT,
    ("docs/events/congestion.md", "console", ""): CLIENT,
    ("docs/formats/README.md", "", "flexbus convert"): HERE,
    ("docs/formats/case.md", "", "flexbus convert"): HERE,
    ("docs/formats/case.md", "", "$."): HERE,
    ("docs/formats/case.md", "json", "{"): HERE,
    ("docs/formats/case.md", "json", '"phase"'): HERE,
    ("docs/operations.md", "", "flexbus broker start"): MANUAL,
    ("docs/operations.md", "", "export FLEXBUS_BOOTSTRAP"): MANUAL,
    ("docs/operations.md", "", "{"): HERE,
    ("docs/page.md", "python", ""): HERE,
}
# What no test runs, and why.
NOT_RUN = {
    ("README.md", "", "make demo"): "the demo and the tests themselves; .ci/run has both",
    ("README.md", "", " DSO, TSO"): "a drawing",
    ("docs/connect.md", "properties", ""): "a form: name, password and path are the reader's own",
    ("docs/operations.md", "", "docker compose"): "needs docker and images; test_deployment.py checks the file",
    ("docs/operations.md", "", "flexbus access acls"): "alternatives with optional parts; test_deployment.py checks "
    "that they exist, tests/integration/access what they do",
    ("docs/performance.md", "", ""): "benches of many minutes",
}


def all_fences(page: Path) -> list[tuple[str, str]]:
    """Return kind and text of every fence, however it is opened that readers and renderers take for one."""
    found: list[tuple[str, str]] = []
    mark, kind, text = "", "", ""
    for line in page.read_text(encoding="utf-8").splitlines(keepends=True):
        opened = re.match(r"[\s>*+-]*(```+|~~~+)(.*)", line)
        if not mark and opened:
            mark, kind, text = opened[1], opened[2].strip(), ""
        elif mark and opened and opened[1].startswith(mark) and not opened[2].strip():
            found.append((kind, text))
            mark = ""
        else:
            text += line
    assert not mark, f"{page}: a fence is not closed"
    return found


def fences(page: str, kind: str) -> list[str]:
    """Return what stands between the fences of one kind on a page."""
    return [text for k, text in FENCE.findall((ROOT / page).read_text(encoding="utf-8")) if k.strip() == kind]


def flexbus(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", "from flexbus.cli import main; main()", *arguments]
    return subprocess.run(program, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def test_every_fence_is_run_by_a_test_or_named_with_the_reason_why_not() -> None:
    claims = {**RUN, **NOT_RUN}
    assert len(claims) == len(RUN) + len(NOT_RUN)
    used = set()
    for page in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]):
        name = page.relative_to(ROOT).as_posix()
        for kind, text in all_fences(page):
            claim = [
                (where, k, first)
                for where, k, first in claims
                if (name == where or (where.endswith("/") and name.startswith(where)))
                and k == kind
                and text.startswith(first)
            ]
            assert len(claim) == 1, f"{name}: {len(claim)} claims on the fence {kind!r} that begins {text[:40]!r}"
            used.update(claim)
    assert used == set(claims), "a claim without a fence"


@pytest.mark.parametrize(("where", "kind", "first"), RUN)
def test_a_test_that_runs_an_example_reads_its_page(where: str, kind: str, first: str) -> None:
    text = (ROOT / RUN[where, kind, first]).read_text(encoding="utf-8")
    assert Path(where).name in text, f"{RUN[where, kind, first]} does not read {where}"
    assert kind.split(" ")[-1] in text
    assert first.strip() in text


# ---- docs/page.md


@pytest.mark.parametrize("told", [False, True], ids=["as printed", "with a day"])
def test_the_fold_of_the_page_in_python(told: bool, tmp_path: Path) -> None:
    (script,) = fences("docs/page.md", "python")
    if told:
        assert script.count("for block in ():") == 1
        script = script.replace("for block in ():", "for block in blocks(history()):")
        script = f"from tests.page_day import blocks, history\n{script}"
    environment = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert report.startswith("<!doctype html>")
    assert (SESSION in done.stdout) is told
    assert ("Market day Valley" in report) is told


# ---- docs/operations.md


def test_the_row_of_a_stage_is_one() -> None:
    (row,) = [text for text in fences("docs/operations.md", "") if text.startswith("{")]
    told = Summary(**json.loads(row))
    assert set(told.events) <= set(CATALOGUE)
    assert Summary.of_bytes(told.to_bytes()) == told


# ---- docs/formats


def commands(page: str) -> list[list[str]]:
    lines = [line for text in fences(page, "") for line in text.splitlines() if line.startswith("flexbus ")]
    return [shlex.split(line, comments=True)[1:] for line in lines]


def test_the_commands_of_the_clearing_run_one_after_the_other(tmp_path: Path) -> None:
    told = commands("docs/formats/README.md")
    assert [c[0] for c in told] == ["convert", "clear", "certify"]
    assert commands("docs/formats/case.md") == told
    for command in told:
        small = [word.replace("1-MV-rural--2-sw", "1-LV-rural1--2-sw") for word in command]
        done = flexbus(tmp_path, *small)
        assert done.returncode == 0, done.stderr
    assert "holds" in done.stderr
    problem = read_case((tmp_path / "case.json").read_bytes())
    result = read_result((tmp_path / "result.json").read_bytes())
    assert len(problem.network.buses) == 15
    assert any(any(o.quantity) for o in result.offers)
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    # and, as the page says, exit code 1 when a digit is wrong
    wrong = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    wrong["cost_nano"] += 1
    (tmp_path / "result.json").write_text(json.dumps(wrong), encoding="utf-8")
    assert flexbus(tmp_path, *told[2]).returncode == 1


def test_the_small_case_clears_and_its_stochastic_lines_fit_in(tmp_path: Path) -> None:
    small, stochastic = fences("docs/formats/case.md", "json")
    result = clear(read_case(small))
    assert certify(read_case(small), result).findings == ()
    two_stage = read_case(json.dumps(json.loads(small) | json.loads(f"{{{stochastic}}}")))
    result = clear(two_stage)
    assert certify(two_stage, result).findings == ()
    assert len(two_stage.scenarios) == 2


def bad_case() -> Case:
    stack = [(3_000_000, 9_000), (1_000_000, 10_000)]
    return case(
        chain(6, max_a=100),
        [injection("b2", [-5_000_000] * 4)],
        slots=4,
        offers=(offer("cure", "b2", Direction.UP, [stack] * 4),),
    )


def test_the_faults_of_a_bad_case_are_said_as_listed(tmp_path: Path) -> None:
    value = json.loads(case_to_text(bad_case()))
    value["network"]["branches"][3]["to_bus_id"] = "b77"
    value["offers"][0]["slots"][2]["steps"][1]["price_milli_per_mwh"] = 8_000
    (tmp_path / "case.json").write_text(json.dumps(value), encoding="utf-8")
    done = flexbus(tmp_path, "clear", "case.json", "--out", "result.json")
    assert done.returncode == 1
    *_, listed = fences("docs/formats/case.md", "")
    assert (done.stdout + done.stderr).splitlines() == listed.splitlines()
