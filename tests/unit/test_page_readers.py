"""Tokens of the page's readers: what is damaged opens nothing, and closes nobody else out."""

import base64
from pathlib import Path

import pytest
from click.testing import CliRunner

from flexbus.cli.access import reader
from flexbus.events import Role
from streams.page.readers import Reader, Readers, make_reader, remove_reader, token_file


@pytest.fixture
def readers(tmp_path: Path) -> Readers:
    make_reader(tmp_path, "dso", [Role.DSO])
    return Readers(tmp_path)


def bearer(folder: Path, party: str) -> str:
    return "Bearer " + token_file(folder, party).read_text().splitlines()[0].partition("=")[2]


def test_a_token_proves_its_party_in_either_scheme(readers: Readers, tmp_path: Path) -> None:
    token = bearer(tmp_path, "dso").removeprefix("Bearer ")
    own, others = (base64.b64encode(f"{party}:{token}".encode()).decode() for party in ("dso", "fsp"))
    assert readers.who(f"Bearer {token}") == readers.who(f"Basic {own}") == Reader("dso", frozenset({Role.DSO}))
    assert readers.who(f"Basic {others}") is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"token=\n",
        b"token\n",
        b"roles=DSO\n",
        b"token=short\n",
        b"\xff\xfe",
        b"token=" + b"x" * 43 + b"\nroles=KING\n",
    ],
)
def test_a_damaged_file_opens_nothing_and_closes_nobody_out(readers: Readers, tmp_path: Path, content: bytes) -> None:
    token_file(tmp_path, "odd").write_bytes(content)
    assert readers.who(bearer(tmp_path, "dso")) is not None
    for token in ("", "short", "x" * 43):
        assert readers.who(f"Bearer {token}") is None
        assert readers.who("Basic " + base64.b64encode(f"odd:{token}".encode()).decode()) is None


def test_a_file_that_is_a_directory_or_a_dead_link_opens_nothing(readers: Readers, tmp_path: Path) -> None:
    token_file(tmp_path, "folder").mkdir()
    token_file(tmp_path, "link").symlink_to(tmp_path / "nowhere")
    assert readers.who(bearer(tmp_path, "dso")) is not None


def test_a_rotated_or_removed_token_is_refused_from_the_next_request_on(readers: Readers, tmp_path: Path) -> None:
    old = bearer(tmp_path, "dso")
    assert readers.who(old) is not None
    make_reader(tmp_path, "dso", rotate=True)
    assert readers.who(old) is None
    new = bearer(tmp_path, "dso")
    assert readers.who(new) == Reader("dso", frozenset({Role.DSO})), "who audits still does with a new token"
    make_reader(tmp_path, "dso", [Role.AUDITOR], rotate=True)
    assert readers.who(bearer(tmp_path, "dso")) == Reader("dso", frozenset({Role.AUDITOR}))
    new = bearer(tmp_path, "dso")
    assert remove_reader(tmp_path, "dso")
    assert readers.who(new) is None


def test_a_token_that_is_not_there_is_not_said_to_be_removed(tmp_path: Path) -> None:
    make_reader(tmp_path, "dso")
    said = CliRunner().invoke(reader, ["dso-north", "--readers", str(tmp_path), "--remove"])
    assert (said.exit_code, "no token of 'dso-north'" in said.output) == (2, True)
    assert CliRunner().invoke(reader, ["dso", "--readers", str(tmp_path), "--remove"]).exit_code == 0
    assert not token_file(tmp_path, "dso").exists()


@pytest.mark.parametrize("scheme", ["Basic", "Bearer"])
@pytest.mark.parametrize("given", ["\udcff", "\u00e9", "=", "4pyT/w=="])
def test_what_is_no_text_proves_nobody(readers: Readers, scheme: str, given: str) -> None:
    assert readers.who(f"{scheme} {given}") is None
