"""Events as flat tables."""

from dataclasses import dataclass
from typing import Any

import pandas as pd
import pytest

from flexbus import events as ev
from flexbus.frames import frame
from tests import market
from tests.integration.core import offer_of
from tests.integration.test_publisher import cleared


@dataclass(frozen=True)
class Published:
    event: Any
    event_id: str = "e"
    block: int = 3
    index: int = 4


def table(event: Any, rows: str | None = None) -> pd.DataFrame:
    return frame([Published(event)], rows)


def test_nested_records_become_prefixed_columns() -> None:
    (row,) = table(offer_of(1, "north")).to_dict("records")
    assert row["offer.fsp_id"] == "fsp-a"
    assert row["offer.direction"] == "UP"
    assert row["offer.start"] == pd.Timestamp(market.START, unit="ms", tz="UTC")
    assert (row["event_id"], row["block"], row["index"]) == ("e", 3, 4)


def test_series_of_an_entry_become_one_row_per_slot() -> None:
    awards = table(cleared("north"), "awards")
    assert list(awards["power_w"]) == [100_000, 50_000, 100_000, 50_000]
    assert list(awards["fsp_id"]) == ["fsp-a"] * 2 + ["fsp-b"] * 2
    apart: Any = awards["start"].diff().dropna()
    assert (apart.dt.total_seconds().iloc[[0, 2]] == 900).all()


def test_entries_without_series_are_one_row_each() -> None:
    slots = table(cleared("north"), "slots")
    assert len(slots) == 2
    assert list(slots["binding"]) == [(), ()]
    assert list(table(cleared("north"), "non_awards")["reason"]) == ["PRICE"]


def test_a_series_of_the_event_itself_is_one_row_per_slot() -> None:
    baseline = table(market.baseline(), "power_w")
    assert len(baseline) == 96
    assert baseline["start"].iloc[95] == pd.Timestamp(market.START + 95 * 900_000, unit="ms", tz="UTC")


def test_readings_keep_their_gaps() -> None:
    forecast = ev.CongestionForecastReceived(
        area_id="north",
        forecast_id="f",
        revision=1,
        element_id="L1",
        kind=ev.CongestionKind.THERMAL,
        issued_at_ms=0,
        start_ms=0,
        resolution_s=900,
        flow_w=(1, None, 3),
    )
    assert table(forecast, "flow_w")["flow_w"].isna().tolist() == [False, True, False]


def test_no_events_no_rows() -> None:
    assert frame([]).empty


def test_an_unknown_list_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"FlexOfferSubmitted has no list 'awards'; it has none"):
        table(offer_of(1, "north"), "awards")
