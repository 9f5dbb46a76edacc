"""The committed JSON Schemas are those of the dataclasses, and real files pass them."""

import json
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from clearing import clear
from clearing.certificate import certify
from clearing.convert.cases import convert_case
from clearing.files import case_to_text, read_case, read_result, result_to_text
from clearing.json_schema import schema_texts
from flexbus.cli.certify import command as certify_command
from flexbus.cli.clear import command as clear_command
from flexbus.cli.convert import command as convert_command
from flexbus.errors import FaultyInputError
from schemas import json_dir


def committed(name: str) -> str:
    return (json_dir() / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["case.v1.json", "result.v1.json"])
def test_committed_schemas_are_current(name: str) -> None:
    assert committed(name) == schema_texts()[name], "run: python -m clearing.json_schema"


@pytest.mark.parametrize("name", ["case.v1.json", "result.v1.json"])
def test_every_field_says_what_it_is(name: str) -> None:
    schema = json.loads(committed(name))
    for kind, body in {"": schema, **schema["$defs"]}.items():
        assert body["description"], kind
        for field, value in body["properties"].items():
            assert value.get("description"), (kind, field)


def test_written_files_pass_their_schemas_and_read_back() -> None:
    case = convert_case("matpower", "case33bw", slots=2, offers=12)
    result = clear(case)
    for name, text in (("case.v1.json", case_to_text(case)), ("result.v1.json", result_to_text(result))):
        jsonschema.Draft202012Validator(json.loads(committed(name))).validate(json.loads(text))
    assert read_case(case_to_text(case)) == case
    assert read_result(result_to_text(result)) == result


def test_a_bad_case_names_every_fault_with_its_path() -> None:
    value = json.loads(case_to_text(convert_case("matpower", "case33bw", slots=2, offers=3)))
    value["slots"] = "two"
    value["network"]["buses"][0]["nominal_voltage_v"] = None
    del value["offers"][0]["direction"]
    value["offers"][1]["colour"] = "blue"
    with pytest.raises(FaultyInputError) as caught:
        read_case(json.dumps(value))
    paths = {fault.path for fault in caught.value.faults}
    assert len(paths) == 4
    assert {"$.slots", "$.network.buses[0].nominal_voltage_v"} <= paths


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "flexbus-case/9"}', '{"format": NaN}', "\xff"])
def test_what_is_no_case_is_a_fault_and_no_traceback(text: str) -> None:
    with pytest.raises(FaultyInputError):
        read_case(text)


def test_convert_clear_certify_on_the_command_line(tmp_path: Path) -> None:
    run = CliRunner().invoke
    case, result, report = tmp_path / "case.json", tmp_path / "result.json", tmp_path / "report.html"
    arguments = ["matpower", "case33bw", "--slots", "2", "--offers", "12", "--out", str(case)]
    assert run(convert_command, arguments, catch_exceptions=False).exit_code == 0
    arguments = [str(case), "--out", str(result), "--report", str(report)]
    assert run(clear_command, arguments, catch_exceptions=False).exit_code == 0
    page = report.read_text(encoding="utf-8")
    assert page.count("<svg") >= 6
    assert "http" not in page.replace("http://www.w3.org", ""), "the report must work offline"
    done = run(certify_command, [str(case), str(result)], catch_exceptions=False, standalone_mode=False)
    assert done.return_value == 0, done.output
    text = result.read_text(encoding="utf-8").replace('"losses_w":', '"losses_w":1', 1)
    result.write_text(text, encoding="utf-8")
    done = run(certify_command, [str(case), str(result)], catch_exceptions=False, standalone_mode=False)
    assert done.return_value == 1
    assert "losses_w" in done.output


def test_the_made_up_market_is_the_same_for_the_same_seed() -> None:
    one, two, other = (convert_case("matpower", "case33bw", slots=4, seed=seed) for seed in (1, 1, 2))
    assert case_to_text(one) == case_to_text(two) != case_to_text(other)
    assert len(one.offers) == 50
    assert {o.quantity.value for o in one.offers} == {"ACTIVE", "REACTIVE"}
    assert any(o.all_or_nothing for o in one.offers)
    assert any(o.max_energy_wh for o in one.offers)


def test_the_case_of_the_documentation_clears() -> None:
    text = (Path(__file__).parents[2] / "docs" / "formats" / "case.md").read_text(encoding="utf-8")
    case = read_case(text.split("```json\n")[1].split("```")[0])
    result = clear(case)
    assert 100_000 < result.offers[0].quantity[0] < 110_000
    assert certify(case, result).findings == ()
