"""The market day on a bus with access control: everybody as itself, and no secret where it may be read."""

import base64
import stat
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from flexbus import codec
from flexbus.access import SERVICE_PRINCIPALS
from flexbus.events import ReadLogged
from flexbus.topics import READS
from streams.demo.run import Day, Options
from streams.demo.world import PARTIES
from streams.journal_reader import read_records
from streams.page.readers import token_file

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass
class Played:
    """A day that was played, its bus still up."""

    day: Day
    run_dir: Path
    said: list[str]
    settled: tuple[int, int]

    @property
    def security(self) -> Path:
        return self.run_dir / "broker" / "security"

    def secrets(self) -> dict[str, str]:
        """Every password and token, by its file."""
        files = [*(self.security / "users").iterdir(), *(self.security / "readers").iterdir()]
        lines = ((p, line.partition("=")) for p in files for line in p.read_text().splitlines())
        return {f"{p.parent.name}/{p.name}": v for p, (name, _, v) in lines if name in ("sasl.password", "token")}


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    folder = tmp_path_factory.mktemp("secure-day")
    said: list[str] = []
    options = Options(
        run_dir=folder / "run", grid="1-LV-rural1--2-sw", speed=0, report=folder / "report.html", secure=True
    )
    day = Day(options, said.append)
    try:
        day.start()
        (area,) = day.play()["areas"].values()
        (session,) = area["sessions"].values()
        day.report()
        settlement = session["settlement"]
        yield Played(day, folder / "run", said, (settlement["settlements"], settlement["approved"]))
    finally:
        day.close()


def get(url: str, authorization: str | None = None) -> int:
    headers = {} if authorization is None else {"Authorization": authorization}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def basic(played: Played, party: str) -> str:
    token = token_file(played.security / "readers", party).read_text().splitlines()[0].partition("=")[2]
    return "Basic " + base64.b64encode(f"{party}:{token}".encode()).decode()


def test_the_day_is_played_to_its_settlement_and_verified_by_the_auditor(played: Played) -> None:
    settlements, approved = played.settled
    assert settlements == approved > 0
    result = played.day.verify()
    assert result.ok, result.text()


def test_the_least_was_enough_for_every_service(played: Played) -> None:
    """The broker refused no service anything in a whole day, so nothing that is forbidden is needed."""
    log = (played.run_dir / "broker" / "log" / "server.log").read_text(errors="replace")
    for name in SERVICE_PRINCIPALS:
        refused = [line for line in log.splitlines() if f"User:{name} is Denied" in line]
        assert refused == [], name


def test_the_page_knows_its_readers_and_their_reads_are_on_record(played: Played) -> None:
    url = played.day.page_url()
    assert get(url + "state") == 401
    assert get(url + "state", basic(played, "auditor")) == 200
    assert get(url + "state?role=DSO", basic(played, "fsp-storage")) == 403
    assert played.day.connection is not None
    logged = [codec.decode_as(value, ReadLogged) for _, value in read_records(played.day.connection, READS, 0)]
    assert [(r.reader_id, r.status) for r in logged] == [("", 401), ("auditor", 200), ("fsp-storage", 403)]


def test_no_secret_is_in_logs_reports_process_lists_or_words(played: Played) -> None:
    secrets = played.secrets()
    assert {f"users/{name}.properties" for name in (*PARTIES, *SERVICE_PRINCIPALS, "admin", "player")} <= set(secrets)
    assert {f"readers/{name}.token" for name in PARTIES} <= set(secrets)
    assert min(len(value) for value in secrets.values()) >= 32
    guarded = (played.security, played.run_dir / "broker" / "data")
    public = [p for p in played.run_dir.rglob("*") if p.is_file() and not any(g in p.parents for g in guarded)]
    public.remove(played.run_dir / "broker" / "server.properties")  # the broker's own password; for its owner only
    public.append(played.day.options.report)
    assert len([p for p in public if p.parent.name == "logs"]) == len(SERVICE_PRINCIPALS)
    assert played.day.supervisor is not None
    arguments = [" ".join(psutil.Process(pid).cmdline()) for pid in played.day.supervisor.pids().values()]
    texts = {str(p): p.read_bytes() for p in public}
    texts |= {"said": "\n".join(played.said).encode(), "process list": "\n".join(arguments).encode()}
    found = [(where, name) for where, text in texts.items() for name, v in secrets.items() if v.encode() in text]
    assert found == []


def test_what_is_secret_lies_in_files_of_their_owner(played: Played) -> None:
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in played.security.rglob("*") if p.is_file()}
    assert set(modes.values()) == {0o600}, modes
    folders = [played.security, *(p for p in played.security.rglob("*") if p.is_dir())]
    assert {stat.S_IMODE(p.stat().st_mode) for p in folders} == {0o700}
