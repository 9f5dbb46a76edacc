"""What is no instant or no port is wrong usage, said before anything is started or asked."""

import errno
from pathlib import Path

import click
import pytest

from flexbus.cli import main
from flexbus.cli.tail import _write_csv
from flexbus.client import Received
from flexbus.events import AreaOpened


def ended(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return int(end.value.code or 0)


@pytest.mark.parametrize("option", ["--from", "--until"])
@pytest.mark.parametrize("text", ["yesterday", "1", "2027-03-28T02:30:00", "0001-01-01T00:00:00+14:00"])
def test_tail_says_what_an_instant_is(capsys: pytest.CaptureFixture[str], option: str, text: str) -> None:
    assert ended("tail", "AreaOpened", "--bootstrap", "127.0.0.1:1", option, text) == 2
    assert "an instant is for example" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("command", [("up", "--page-port"), ("run", "monitor", "--page-port"), ("demo", "--port")])
def test_a_port_is_a_port(capsys: pytest.CaptureFixture[str], command: tuple[str, ...]) -> None:
    assert ended(*command, "99999999") == 2
    assert "99999999" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [("--timeout", "nan"), ("--timeout", "0"), ("--header", "ce_id"), ("--header", "=x")])
def test_send_says_what_an_option_takes(capsys: pytest.CaptureFixture[str], wrong: tuple[str, str]) -> None:
    assert ended("send", "--as", "fsp-a", "--bootstrap", "127.0.0.1:1", *wrong, "-") == 2
    assert wrong[0] in capsys.readouterr().err


@pytest.mark.parametrize("party", ["", "../x", "monitor", "a=NO_ROLE"])
def test_a_party_has_a_name_of_its_own(capsys: pytest.CaptureFixture[str], party: str) -> None:
    assert ended("up", "--party", party, "--bootstrap", "127.0.0.1:1") == 2
    assert "Invalid value" in capsys.readouterr().err


def test_rows_that_an_event_has_not_are_wrong_usage() -> None:
    event = AreaOpened(area_id="a", name="A", fmo_id="fmo", time_zone="Europe/Helsinki")
    received = Received(event=event, event_id="e", area_id="a", received_at_ms=0, block=0, index=0, payload=b"")
    with pytest.raises(click.UsageError, match="has no list 'nope'"):
        _write_csv("AreaOpened", iter([received]), "nope")


def test_a_full_disk_is_said_in_a_sentence(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("flexbus.cli._flexbus.main", full)
    assert ended("events") == 3
    assert "No space left on device: the output is not whole" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "hint"),
    [("marketcleared", " (is it MarketCleared?)"), ("FlexOfferSubmited", " (is it FlexOfferSubmitted?)"), ("x", "")],
)
def test_tail_says_which_event_was_meant(capsys: pytest.CaptureFixture[str], kind: str, hint: str) -> None:
    assert ended("tail", kind, "--bootstrap", "127.0.0.1:1") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"'{kind}' is no event of the catalogue{hint}; list them with `flexbus events`" in said


def test_demo_plays_no_faster_than_the_bus(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("demo", "--speed", "-1") == 2
    assert "--speed" in capsys.readouterr().err


@pytest.mark.parametrize(("day", "why"), [("13-45", "is no date"), ("2027-07-25", "the profiles are of 2016")])
def test_a_day_that_the_profiles_have_not_starts_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, day: str, why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ended("demo", "--day", day) == 1
    said = capsys.readouterr().err
    assert why in said
    assert "starting" not in said
    assert not list(tmp_path.iterdir())
