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

# Which test runs the Python of which page; a fence that nobody claims fails below.
CLAIMED = {
    "README.md": "tests/acceptance/test_market_day.py",
    "docs/connect.md": "tests/integration/test_client.py",
    "docs/page.md": "tests/contract/test_doc_examples.py",
}


def fences(page: str, kind: str) -> list[str]:
    """Return what stands between the fences of one kind on a page."""
    return [text for k, text in FENCE.findall((ROOT / page).read_text(encoding="utf-8")) if k.strip() == kind]


def flexbus(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", "from flexbus.cli import main; main()", *arguments]
    return subprocess.run(program, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def test_every_python_example_is_run_by_a_test() -> None:
    pages = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
    found = {}
    for page in pages:
        # Any way to open a fence that readers and renderers take for Python.
        count = len(
            re.findall(r"^\s*(?:```|~~~)\s*(?:python|py|pycon)", page.read_text(encoding="utf-8"), re.MULTILINE)
        )
        if count:
            found[str(page.relative_to(ROOT))] = count
    assert found == dict.fromkeys(CLAIMED, 1)
    for page_name, test in CLAIMED.items():
        text = (ROOT / test).read_text(encoding="utf-8")
        assert Path(page_name).name in text, f"{test} does not read {page_name}"
        assert "python" in text


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
