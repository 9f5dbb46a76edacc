"""`flexbus clear` as its user meets it: exit codes, words on stderr, every fault with its path."""

import json
from pathlib import Path

import pytest

from clearing.files import case_to_text
from flexbus.cli import main
from flexbus.quantities import Direction
from tests.clearing_cases import case, chain, injection, offer


def run(arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    monkeypatch.setattr("sys.argv", ["flexbus", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code, "".join(capsys.readouterr())


@pytest.fixture
def good(tmp_path: Path) -> Path:
    given = case(
        chain(3, max_a=100),
        [injection("b2", [-5_000_000])],
        offers=(offer("cure", "b2", Direction.UP, [[(3_000_000, 9_000)]]),),
    )
    path = tmp_path / "case.json"
    path.write_text(case_to_text(given), encoding="utf-8")
    return path


def test_a_case_is_cleared_reported_and_certified(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, page = tmp_path / "result.json", tmp_path / "report.html"
    code, said = run(["clear", str(good), "--out", str(out), "--report", str(page)], capsys, monkeypatch)
    assert code == 0
    assert "1 of 1 offers taken" in said
    assert json.loads(out.read_text(encoding="utf-8"))["format"] == "flexbus-result/1"
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    code, said = run(["certify", str(good), str(out)], capsys, monkeypatch)
    assert (code, "holds" in said) == (0, True)


def test_every_fault_of_a_bad_case_is_listed_with_its_path(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    value = json.loads(good.read_text(encoding="utf-8"))
    value["network"]["branches"][1]["to_bus_id"] = "b77"
    value["network"]["branches"][0]["r_ohm"] = -1.0
    value["offers"][0]["slots"][0]["steps"][0]["quantity"] = 0
    good.write_text(json.dumps(value), encoding="utf-8")
    out = tmp_path / "result.json"
    code, said = run(["clear", str(good), "--out", str(out)], capsys, monkeypatch)
    assert code == 1
    for path in (
        "$.network.branches[1].to_bus_id",
        "$.network.branches[0].r_ohm",
        "$.offers[0].slots[0].steps[0].quantity",
    ):
        assert path in said
    assert "Traceback" not in said
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("missing.json", "--out", "r.json"), 2), (("case.json",), 2), (("case.json", "--out", "nowhere/r.json"), 3)],
)
def test_what_is_not_the_cases_fault_has_another_exit_code(
    arguments: tuple[str, ...],
    code: int,
    good: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["clear", *arguments], capsys, monkeypatch)[0] == code
