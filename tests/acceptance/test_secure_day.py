"""The market day on a bus with access control: everybody as itself, and no secret where it may be read."""

import base64
import stat
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from flexbus import codec
from flexbus import events as ev
from flexbus.access import SERVICE_PRINCIPALS
from flexbus.client import Client
from flexbus.journal import Entry
from flexbus.signing import private_key, public_key
from flexbus.topics import JOURNAL
from streams.demo.preparation import PARTIES
from streams.demo.run import Day, Options
from streams.demo.scenario import METER
from streams.journal_reader import read_blocks
from streams.kafka import Connection
from streams.monitor import notes
from streams.page.readers import token_file
from streams.read_log import read_logs
from streams.services import STAGES
from streams.topics import journal_partitions

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
        found = {f"{p.parent.name}/{p.name}": v for p, (name, _, v) in lines if name in ("sasl.password", "token")}
        found["metrics.token"] = (self.security / "metrics.token").read_text().strip()
        keys = (self.security / "signing").iterdir()
        return found | {f"signing/{p.name}": p.read_text().splitlines()[1] for p in keys}

    def journal(self) -> list[Entry]:
        """Every entry of the day's area, in order."""
        assert self.day.connection is not None
        places = range(journal_partitions(self.day.connection))
        blocks = [block for p in places for _, block in read_blocks(self.day.connection, p)]
        assert len({block.area_id for block in blocks}) == 1
        return [entry for block in blocks for entry in block.entries]

    def client(self, party: str, key: Any = None) -> Client:
        known = Connection.of(self.day.connection.bootstrap, self.security / "users" / f"{party}.properties")  # type: ignore[union-attr]
        return Client(known.bootstrap, party, security=known.security, signing_key=key)

    def key(self, party: str, number: int) -> Ed25519PrivateKey:
        """The key of a party that the day has made."""
        found: Ed25519PrivateKey = private_key((self.security / "signing" / f"{party}.{number}.pem").read_bytes())
        return found


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
    assert played.day.connection is not None
    noted = [n.read for n in read_logs(played.day.connection) if n.writer == "auditor"]
    assert {(r and r.reader_id, r and r.interface) for r in noted} == {("auditor", "cli")}
    followed, *verified = [r.resource for r in noted if r]
    assert followed.startswith(f"{JOURNAL}?area=")
    assert verified == [f"{JOURNAL}?verify=yes"]


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
    reads = [n.read for n in read_logs(played.day.connection) if n.read and n.read.interface == "page"]
    assert [(r and r.reader_id, r and r.status) for r in reads] == [("", 401), ("auditor", 200), ("fsp-storage", 403)]


def test_what_the_services_tell_of_the_market_needs_the_token(played: Played) -> None:
    """To everybody else, on this machine too, they tell of themselves."""
    ports = {note.service: note.port for note in notes(played.run_dir)}
    assert {*SERVICE_PRINCIPALS, "supervisor"} <= ports.keys()
    token = {"Authorization": f"Bearer {played.secrets()['metrics.token']}"}
    whole = ""
    for service, port in ports.items():
        url = f"http://127.0.0.1:{port}"
        with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
            told = answer.read().decode()
        assert "process_cpu_seconds_total" in told
        assert "hedge_" not in told.replace("hedge_up", ""), service
        assert "area=" not in told, service
        if service in STAGES:
            assert get(f"{url}/view") == get(f"{url}/view", "Bearer guessed") == 401
            assert get(f"{url}/view", token["Authorization"]) == 200
        with urllib.request.urlopen(urllib.request.Request(f"{url}/metrics", headers=token), timeout=30) as answer:
            told = answer.read().decode()
        assert service != "supervisor" or "area=" not in told, "it knows nothing of the market and has no log of reads"
        whole += told
    assert "hedge_cleared_wh_total{" in whole
    assert 'flexbus_events_total{area="' in whole
    assert played.day.connection is not None
    noted = [n for n in read_logs(played.day.connection) if n.read and n.read.interface == "service"]
    assert {(n.mark, n.read and n.read.reader_id, n.read and n.read.status) for n in noted} == {
        (None, "admin", 200),
        (None, "", 401),
    }
    shown = sorted((n.writer, n.read and n.read.resource) for n in noted if n.read and n.read.status == 200)
    views = [(stage, "/view") for stage in STAGES]
    assert shown == sorted([*views, *((service, "/metrics") for service in SERVICE_PRINCIPALS)])
    refused = {(n.writer, n.read and n.read.resource) for n in noted if n.read and n.read.status == 401}
    assert refused <= set(views), "each once, a moment later"


def test_what_the_parties_read_is_on_record_in_their_own_names(played: Played) -> None:
    """In a day each party waits for the verdicts on what it sends, through one client."""
    assert played.day.connection is not None
    noted = [n for n in read_logs(played.day.connection) if n.writer in PARTIES]
    assert sorted(n.writer for n in noted) == sorted(PARTIES)
    assert {(n.mark, n.read and n.read.interface) for n in noted} == {(None, "sdk")}
    assert {n.read and n.read.reader_id for n in noted} == set(PARTIES)


def test_no_secret_is_in_logs_reports_process_lists_or_words(played: Played) -> None:
    secrets = played.secrets()
    # As a reader's token goes to the page, too.
    secrets |= {f"basic {party}": basic(played, party).removeprefix("Basic ") for party in PARTIES}
    assert {f"users/{name}.properties" for name in (*PARTIES, *SERVICE_PRINCIPALS, "admin", "player")} <= set(secrets)
    assert {f"readers/{name}.token" for name in PARTIES} <= set(secrets)
    assert {f"signing/{name}.1.pem" for name in PARTIES} | {f"signing/{METER}.2.pem"} <= set(secrets)
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
    folders = [played.security, played.run_dir / "logs", *(p for p in played.security.rglob("*") if p.is_dir())]
    assert {stat.S_IMODE(p.stat().st_mode) for p in folders} == {0o700}


# --- signatures; last, as these add to the day's journal


def signed_by(entry: Entry, keys: list[bytes]) -> bytes | None:
    """Which of some public keys signed an entry's payload, asked of the library alone."""
    for key in keys:
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(entry.signature or b"", entry.payload)
        except InvalidSignature:
            continue
        return key
    return None


def test_the_journal_alone_proves_who_signed_every_entry_of_the_parties(played: Played) -> None:
    """Without the code that admitted them: an entry is signed by a key that its party had when it came."""
    live: dict[str, dict[str, bytes]] = {}
    before: dict[str, list[Entry]] = {}
    signed: dict[str, list[bytes]] = {}
    for entry in played.journal():
        if entry.sender_id not in PARTIES:
            assert entry.sender_id in SERVICE_PRINCIPALS
            continue
        event = codec.decode(entry.payload)
        own = live.setdefault(entry.sender_id, {})
        if isinstance(event, ev.SigningKeyRegistered) and not own:  # a first key proves itself, and what came before
            for earlier in (*before.pop(entry.sender_id, ()), entry):
                assert signed_by(earlier, [event.public_key]), earlier.event_type
        elif not own:
            before.setdefault(entry.sender_id, []).append(entry)
        else:
            found = signed_by(entry, list(own.values()))
            assert found is not None, (entry.sender_id, entry.event_type)
            signed.setdefault(entry.sender_id, []).append(found)
        if isinstance(event, ev.SigningKeyRegistered):
            assert event.party_id == entry.sender_id
            if event.replaces_key_id is not None:
                del own[event.replaces_key_id]
            own[event.key_id] = event.public_key
    assert before == {}
    assert set(live) == set(PARTIES)
    assert {party: len(set(keys)) for party, keys in signed.items() if party != METER and len(set(keys)) != 1} == {}
    old, new = (public_key(played.key(METER, number)) for number in (1, 2))
    assert signed[METER] == [old] * signed[METER].count(old) + [new] * signed[METER].count(new)
    assert min(signed[METER].count(old), signed[METER].count(new)) > 10, "it read meters before and after noon"


@pytest.fixture
def assets(played: Played) -> dict[str, ev.AssetRegistered]:
    """By provider an asset of the day under a new name, which it may register at any time."""
    events = (codec.decode(e.payload) for e in played.journal() if e.event_type == "AssetRegistered")
    return {event.fsp_id: replace(event, asset_id=f"{event.asset_id}-again") for event in events}


def codes(client: Client, event: Any) -> list[str]:
    return [f"{f.path} {f.code.value}" for f in client.send(event).faults]


BAD, NONE = ["$headers.ce_signature BAD_SIGNATURE"], ["$headers.ce_signature NO_SIGNATURE"]


def test_what_is_unsigned_or_wrongly_signed_is_refused(played: Played, assets: dict[str, ev.AssetRegistered]) -> None:
    """Who has the password of a party alone, and not its key, sends nothing."""
    party, event = min(assets.items())
    with played.client(party) as unsigned:
        assert codes(unsigned, event) == NONE
    with played.client(party, Ed25519PrivateKey.generate()) as thief:
        assert codes(thief, event) == BAD
        mine = ev.SigningKeyRegistered(
            area_id=event.area_id, party_id=party, key_id="mine", public_key=public_key(thief.signing_key)
        )
        assert codes(thief, mine) == BAD
    with played.client(party, played.key(METER, 2)) as another:
        assert codes(another, event) == BAD, "another party's key"
    with played.client(party, played.key(party, 1)) as client:
        moved = client.record(event)
        altered = replace(moved, value=codec.encode(replace(event, max_draw_w=event.max_draw_w + 1)))
        (receipt,) = client.verdicts(client.post_records([altered]))
        assert [f"{f.path} {f.code.value}" for f in receipt.faults] == BAD, "signed, and altered on its way"
        assert codes(client, event) == []


def test_a_key_that_was_replaced_signs_nothing_more(played: Played) -> None:
    readings = [codec.decode(e.payload) for e in played.journal() if e.event_type == "MeterReadingReceived"]
    again = replace(readings[-1], reading_id=readings[-1].reading_id + ".again")
    with played.client(METER, played.key(METER, 1)) as old, played.client(METER, played.key(METER, 2)) as new:
        assert codes(old, again) == BAD
        assert codes(new, again) == []


def test_a_revoked_key_signs_nothing_more_and_a_new_one_does(
    played: Played, assets: dict[str, ev.AssetRegistered]
) -> None:
    party, event = max(assets.items())
    area = event.area_id
    with played.client(party, played.key(party, 1)) as client:
        assert codes(client, event) == []
        client.signing_key = None  # lost, so the revocation is not signed
        assert codes(client, ev.SigningKeyRevoked(area_id=area, party_id=party, key_id="1", reason="lost")) == []
        client.signing_key = played.key(party, 1)
        assert codes(client, replace(event, asset_id=f"{event.asset_id}-2")) == BAD
        client.signing_key = Ed25519PrivateKey.generate()
        key = ev.SigningKeyRegistered(
            area_id=area, party_id=party, key_id="2", public_key=public_key(client.signing_key)
        )
        assert codes(client, replace(event, asset_id=f"{event.asset_id}-2")) == BAD, "not yet known"
        assert codes(client, key) == []
        assert codes(client, replace(event, asset_id=f"{event.asset_id}-2")) == []


def test_the_journal_with_its_signatures_is_verified_to_its_end(played: Played) -> None:
    result = played.day.verify()
    assert result.ok, result.text()
