"""What is no instant or no port is wrong usage, said before anything is started or asked."""

import pytest

from flexbus.cli import main


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
