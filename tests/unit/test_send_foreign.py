"""A planning system's own forecasts become events with the same meaning, or a list of every fault."""

import json
from typing import Any

import pytest

from flexbus import codec
from flexbus.cli.send_foreign import AS_WRITTEN, event_of
from flexbus.errors import FaultyInputError
from flexbus.views.harmonise import Source
from tests.market import START, codes

KW_IMPORT = Source(unit="kW", export_positive=False, elements={"Trafo 1": "T1"}, name="planner")
LINE: dict[str, Any] = {
    "area_id": "north",
    "forecast_id": "plan-1",
    "revision": 1,
    "element": "Trafo 1",
    "issued_at": "2027-01-14T10:00:00+02:00",
    "resolution_s": 3600,
    "times": ["2027-01-15T00:00:00+02:00", "2027-01-15T01:00:00+02:00"],
    "values": [1.5, -2],
    "limit_import": 5000,
}


def made(source: Source = KW_IMPORT, **changes: Any) -> Any:
    return event_of(source, json.loads(json.dumps({**LINE, **changes}), **AS_WRITTEN))


def faults(source: Source = KW_IMPORT, **changes: Any) -> dict[str, str]:
    with pytest.raises(FaultyInputError) as refused:
        made(source, **changes)
    return codes(refused.value.faults)


def test_unit_sign_name_and_times_are_ours_and_limits_have_no_sign() -> None:
    event = made()
    assert (event.element_id, event.flow_w, event.source) == ("T1", (-1_500, 2_000), "planner")
    assert (event.limit_import_w, event.limit_export_w) == (5_000_000, None)
    assert (event.start_ms, event.issued_at_ms) == (START, START - 14 * 3_600_000)
    assert made(Source(unit="MW", export_positive=True, elements={"Trafo 1": "L2"})).flow_w == (1_500_000, -2_000_000)


def test_a_number_keeps_the_digits_that_it_was_written_with() -> None:
    line = json.dumps(LINE).replace("[1.5, -2]", "[9007199254740.993, 0.1]")  # no double is the first one
    assert event_of(KW_IMPORT, json.loads(line, **AS_WRITTEN)).flow_w == (-9_007_199_254_740_993, -100)


@pytest.mark.parametrize(
    "value", [0.0001, "x", "", "NaN", "inf", "1e999999999", "1e99999", "-9e18", True, [1], float("nan")]
)
def test_what_is_no_whole_number_of_w_is_told_where_it_is(value: Any) -> None:
    wrong = "WRONG_TYPE" if not isinstance(value, str) and value != 0.0001 else "BAD_QUANTITY"
    assert faults(values=[1, value]) == {"$.values[1]": wrong}
    assert faults(limit_export=value) == {"$.limit_export": wrong}


def test_every_fault_is_listed() -> None:
    assert faults(issued_at="yesterday", element="T7", values=[1], times=["2027-01-15T00:00:00"], limit_export="-") == {
        "$.issued_at": "BAD_PERIOD",
        "$.limit_export": "BAD_QUANTITY",
        "$.element": "UNKNOWN_ELEMENT",
        "$.times[0]": "BAD_PERIOD",
    }
    assert faults(values=[], times=[]) == {"$.values": "BAD_SERIES"}
    assert faults(issued_at="yesterday") == {"$.issued_at": "BAD_PERIOD"}


@pytest.mark.parametrize("line", [None, [], 5, "text", {}, {"type": "FlexOfferSubmitted"}])
def test_what_is_no_forecast_is_refused(line: Any) -> None:
    with pytest.raises(FaultyInputError):
        event_of(KW_IMPORT, line)


def test_what_is_made_survives_the_wire() -> None:
    assert codec.decode(codec.encode(made(values=[None, "-0"]))).flow_w == (None, 0)
