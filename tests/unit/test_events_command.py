"""`flexbus events` in a terminal tells what its help promises, in lines that a terminal can show."""

import pytest

from flexbus.catalogue import CATALOGUE
from flexbus.cli import main


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    with pytest.raises(SystemExit) as ended:
        main(["events"])
    assert not ended.value.code
    return capsys.readouterr().out.splitlines()


def test_every_event_with_senders_readers_topic_and_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys)
    assert max(map(len, lines)) <= 140
    assert "area_id" in " ".join(lines[:2])
    for kind in CATALOGUE.values():
        (at,) = [n for n, line in enumerate(lines) if line.split(" ")[0] == kind.type_name]
        told = lines[at]
        assert lines[at + 1].strip() == kind.meaning
        assert all(sender.value in told for sender in kind.send)
        assert told.endswith(f"  {kind.out_topic if kind.public else '-'}")


@pytest.mark.parametrize(
    ("event", "seen"),
    [
        ("MarketCleared", "DSO*, anyone*"),
        ("TrafficLightSet", "DSO, TSO"),
        ("AreaOpened", "anyone"),
        ("FlexOfferSubmitted", "-"),
    ],
)
def test_who_sees_an_event_and_without_what(event: str, seen: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys)
    column = next(line for line in lines if line.startswith("event")).index("seen by")
    (told,) = [line for line in lines if line.split(" ")[0] == event]
    assert told[column:].rpartition("  ")[0].strip() == seen
