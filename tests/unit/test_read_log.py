"""What is noted of a read, and what is believed of a note."""

from datetime import UTC, datetime

import pytest

from flexbus.events import ReadLogged
from streams.read_log import Noted, resource


def noted(writer: str, reader: str) -> Noted:
    read = ReadLogged(
        area_id="", reader_id=reader, role="", interface="sdk", resource="flexbus.journal.v1", status=202, at_ms=0
    )
    return Noted(writer, 0, read)


@pytest.mark.parametrize(
    ("writer", "reader", "mark"),
    [
        ("fsp-a", "fsp-a", None),
        ("fsp-a", "fsp-b", "forged"),
        ("fsp-a", "", "forged"),
        ("admin", "fsp-a", "forged"),
        ("monitor", "fsp-a", None),
        ("monitor", "", None),
        ("clearing", "admin", None),
        ("clearing", "clearing", None),
        ("clearing", "", None),
        ("clearing", "fsp-a", "forged"),
        ("clearing", "sequencer", "forged"),
        ("fsp-a", "admin", "forged"),
        ("anyone", "", None),
        ("anyone", "anyone", "forged"),
        ("anyone", "fsp-a", "forged"),
    ],
)
def test_a_record_speaks_for_its_writer_alone_but_for_the_page_and_the_token_of_a_service(
    writer: str, reader: str, mark: str | None
) -> None:
    assert noted(writer, reader).mark == mark


def test_what_is_no_record_of_a_read_is_marked() -> None:
    assert Noted("fsp-a", 0, None).mark == "unreadable"


def test_a_resource_names_topic_and_query_without_what_is_not_restricted() -> None:
    assert resource("t") == "t"
    assert resource("t", area=None, from_="start", until=None) == "t?from=start"
    at = datetime(2027, 1, 15, tzinfo=UTC)
    assert resource("t", from_=at, until=7) == "t?from=2027-01-15T00:00:00%2B00:00&until=7"
    assert resource("t", area="a&b") == "t?area=a%26b"
