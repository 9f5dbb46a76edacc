"""The SDK and the command line as a party uses them, on a real Kafka with the real services."""

import json
import os
import random
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import fastavro
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from flexbus import codec
from flexbus import events as ev
from flexbus.client import Client, Record
from flexbus.errors import EnvironmentProblem, FaultyInputError
from flexbus.events import Verdict
from flexbus.partition import partition_of
from flexbus.signing import public_key
from flexbus.topics import inbox
from streams.broker import Broker
from streams.broker_security import ADMIN, client_config
from streams.kafka import Connection
from streams.read_log import read_logs
from streams.rejections import REPLACES
from streams.topics import create_topics, journal_partitions
from tests import market
from tests.integration import core
from tests.integration.core import FMO, FSP_A, FSP_B, Worker
from tests.integration.test_publisher import clear

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

AREA = "north"


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    folder = tmp_path_factory.mktemp("kafka")
    with core.own_kafka(folder) as found, Worker("streams.sequencer", found), Worker("streams.publisher", found):
        core.open_gates(found, [AREA])
        clear(found, (AREA,))
        yield found


def flexbus(connection: Connection, *arguments: str, given: bytes = b"", code: int = 0) -> bytes:
    """Run the command; the exit code must be as said."""
    command = [sys.executable, "-c", "from flexbus.cli import main; main()", *arguments]
    command += ["--bootstrap", connection.bootstrap]
    done = subprocess.run(command, input=given, capture_output=True, timeout=120, check=False)
    assert done.returncode == code, done.stderr.decode()[-3000:]
    assert b"Traceback" not in done.stderr
    return done.stdout


def lines(output: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def test_a_script_of_fifteen_lines_offers_and_reads_the_cleared_market(connection: Connection, tmp_path: Path) -> None:
    script = f"""
import sys
from flexbus import Client
from flexbus.events import FlexOffer, FlexOfferSubmitted, MarketCleared, OfferSlot, PriceStep
from flexbus.quantities import Direction

step = PriceStep(power_w=50_000, price_milli_per_mwh=42_000)
offer = FlexOffer(offer_id="fifteen-lines", revision=1, session_id="DA", fsp_id="fsp-a", connection_point_id="GCP-1",
                  direction=Direction.UP, start_ms={market.START}, resolution_s=900,
                  slots=(OfferSlot(steps=(step,)),) * 4)

with Client(sys.argv[1], party="fsp-a") as bus:
    print(bus.send(FlexOfferSubmitted(area_id="{AREA}", offer=offer)).verdict.value)
    for area, awards in bus.frame(MarketCleared, "awards", own=True).groupby("area_id"):
        print(area, awards[["start", "power_w", "price_milli_per_mwh"]].to_csv(index=False))
"""
    assert len(script.strip().splitlines()) <= 15
    path = tmp_path / "offer.py"
    path.write_text(script)
    core.eventually(lambda: list(Client(connection.bootstrap, FSP_A).consume(ev.MarketCleared, own=True)))
    done = subprocess.run(
        [sys.executable, str(path), connection.bootstrap],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, *table = done.stdout.split()
    assert (first, table[0]) == ("ACCEPTED", AREA)
    assert done.stdout.count("2027-01-1") == 2  # fsp-a's award of two quarter-hours; the other's is not there
    assert "100000,40000" in done.stdout


def test_the_examples_of_the_document_run(connection: Connection, tmp_path: Path) -> None:
    """docs/connect.md, word for word: its Python script, and each of its commands."""
    document = (Path(__file__).parents[2] / "docs" / "connect.md").read_text(encoding="utf-8")
    environment = {**os.environ, "FLEXBUS_BOOTSTRAP": connection.bootstrap}
    (script,) = re.findall(r"```python\n(.*?)```", document, re.DOTALL)
    script += "\nprint(len(cleared), len(mine))\n"
    core.eventually(lambda: list(Client(connection.bootstrap, FSP_A).consume(ev.MarketCleared, own=True)))
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.splitlines() == ["ACCEPTED []", "2 2"], done.stderr
    (tmp_path / "offers.jsonl").write_text(json.dumps(codec.to_json(core.offer_of(900, AREA))))
    (console,) = re.findall(r"```console\n(.*?)```", document, re.DOTALL)
    for command in re.findall(r"^\$ flexbus (.*)$", console, re.MULTILINE):
        program = [sys.executable, "-c", "from flexbus.cli import main; main()", *shlex.split(command)]
        done = subprocess.run(
            program, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout or "rejections" in command


def test_what_is_sent_is_read_again_with_its_place(connection: Connection) -> None:
    with Client(connection.bootstrap, FSP_A) as client:
        began_ms = time.time_ns() // 1_000_000 - 1
        offers = [core.offer_of(n, AREA) for n in range(100, 120)]
        verdicts = client.send_all(offers)
        assert {r.verdict for r in verdicts} == {Verdict.ACCEPTED}
        assert [(r.block, r.index) for r in verdicts] == sorted((r.block or 0, r.index or 0) for r in verdicts)

        def read(**options: Any) -> list[Any]:
            return list(client.consume(ev.FlexOfferSubmitted, from_=began_ms, **options))

        core.eventually(lambda: len(read()) >= len(offers))
        found = read(area=AREA)
        assert [f.event for f in found] == offers
        assert [(f.block, f.index, f.event_id) for f in found] == [(r.block, r.index, r.event_id) for r in verdicts]
        assert read(area="elsewhere") == []
        assert read(until=began_ms) == []
        assert len(read(until=found[-1].received_at_ms + 1)) == len(offers)
        assert {r.event_id for r in client.receipts()} >= {r.event_id for r in verdicts}


def test_following_yields_what_comes(connection: Connection) -> None:
    with Client(connection.bootstrap, FSP_A) as client:
        following = client.consume(ev.FlexOfferSubmitted, from_="end", until=None)
        ended = client.consume(ev.FlexOfferSubmitted, from_="end")
        assert list(ended) == []
        # A generator starts to look when it is first asked, and nobody can tell when it does: so offers come meanwhile.
        offers = [core.offer_of(number, AREA) for number in range(500, 600)]
        seen = threading.Event()

        def sends() -> None:
            with Client(connection.bootstrap, FSP_A) as sender:
                for offer in offers:
                    if seen.wait(0.5):
                        break
                    sender.post(offer)

        thread = threading.Thread(target=sends)
        thread.start()
        try:
            first, second = next(following).event, next(following).event
        finally:
            seen.set()
            thread.join()
        assert offers.index(second) == offers.index(first) + 1


def test_frames_are_flat(connection: Connection) -> None:
    with Client(connection.bootstrap) as anyone:
        core.eventually(lambda: not anyone.frame(ev.MarketCleared).empty)
        awards = anyone.frame(ev.MarketCleared, "awards")
        assert list(awards.power_w) == [100_000, 50_000] * 2
        assert str(awards.start.dtype) == "datetime64[ns, UTC]"
        assert (awards.fsp_id == "").all()
        slots = anyone.frame("MarketCleared", "slots")
        assert list(slots.status) == ["EXACT", "EXACT"]
        sessions = anyone.frame(ev.MarketSessionScheduled)
        assert sessions.delivery_start[0].value // 1_000_000 == market.START
        with pytest.raises(ValueError, match="has no list 'buses'; it has slots, awards"):
            anyone.frame(ev.MarketCleared, "buses")


def test_errors_say_what_to_do(connection: Connection) -> None:
    with Client(connection.bootstrap) as anyone:
        with pytest.raises(EnvironmentProblem, match="has no party"):
            anyone.send(core.offer_of(1, AREA))
        with pytest.raises(EnvironmentProblem, match="has no party"):
            next(anyone.consume(ev.FlexOfferSubmitted))
        with pytest.raises(EnvironmentProblem, match="no event of the catalogue"):
            next(anyone.consume("Nonsense"))
    with Client(connection.bootstrap, "stranger") as stranger, pytest.raises(EnvironmentProblem, match="no such topic"):
        stranger.send(core.offer_of(1, AREA))
    with Client("127.0.0.1:1", FSP_A, timeout_s=2) as nowhere, pytest.raises(EnvironmentProblem, match="broker start"):
        nowhere.send(core.offer_of(1, AREA))
    with Client(connection.bootstrap, FSP_A) as client, pytest.raises(FaultyInputError) as refused:
        client.send({"type": "FlexOfferWithdrawn", "area_id": 5, "offer": "x"})
    assert {f.code.value for f in refused.value.faults} == {"WRONG_TYPE", "MISSING_FIELD", "UNKNOWN_FIELD"}


def test_hostile_input_gets_a_verdict_a_line_and_stops_nothing(connection: Connection) -> None:
    good = codec.to_json(core.offer_of(600, AREA))
    repeated = {**codec.to_json(core.offer_of(601, AREA)), "ce_id": str(uuid4())}
    hostile: list[tuple[Any, str, set[str]]] = [
        (good, "ACCEPTED", set()),
        (repeated, "ACCEPTED", set()),
        (repeated, "DUPLICATE", set()),
        ({"type": "PowerPlantExploded", "area_id": AREA}, "REJECTED", {"UNKNOWN_EVENT", "NOT_DECODABLE"}),
        ({"type": ["x"]}, "REJECTED", {"UNKNOWN_EVENT", "NOT_DECODABLE"}),
        ({"type": "FlexOfferWithdrawn"}, "REJECTED", {"MISSING_FIELD", "NOT_DECODABLE"}),
        (
            {**good, "offer": {**good["offer"], "start_ms": "noon", "slots": 5}},
            "REJECTED",
            {"WRONG_TYPE", "NOT_DECODABLE"},
        ),
        # 50 kW given in mW, which is no multiple of the product's step either
        (
            codec.to_json(market.submitted("mw", steps=((50_000_001, 40_000),))) | {"area_id": AREA},
            "REJECTED",
            {"BAD_QUANTITY"},
        ),
        (codec.to_json(core.offer_of(602, AREA, FSP_B)), "REJECTED", {"NOT_YOURS_OR_UNKNOWN"}),
        (codec.to_json(core.in_area(market.gate_closed(), AREA)), "REJECTED", {"WRONG_ROLE"}),
        ({**good, "area_id": "\ud800"}, "REJECTED", {"BAD_VALUE", "NOT_DECODABLE"}),
        ({**good, "\ud800": 0}, "REJECTED", {"UNKNOWN_FIELD", "NOT_DECODABLE"}),
        ({**good, "ce_id": "not-a-uuid"}, "REJECTED", {"BAD_HEADER"}),
        ({**good, "ce_id": 5}, "REJECTED", {"BAD_HEADER", "NOT_DECODABLE"}),
        ({**good, "pad": "x" * 5_000_000}, "REJECTED", {"UNKNOWN_FIELD", "TOO_LARGE"}),
    ]
    text = b"".join(json.dumps(event).encode() + b"\n" for event, _, _ in hostile)
    text += b"not json\n\xff\xfe\x00garbage\n[1, 2]\nnull\n" + b"[" * 100_000 + b"\n"
    output = lines(flexbus(connection, "send", "--as", FSP_A, "--raw", "-", given=text, code=1))
    assert len(output) == len(hostile) + 5
    for found, (_, verdict, codes) in zip(output, hostile, strict=False):
        assert found["verdict"] == verdict, found
        assert {f["code"] for f in found["faults"]} >= codes
        assert bool(found["faults"]) == (verdict == "REJECTED")
    assert all(f["verdict"] == "REJECTED" and f["faults"] for f in output[len(hostile) :])

    unsent = lines(flexbus(connection, "send", "--as", FSP_A, "-", given=b"not json\n", code=1))
    assert [(f["verdict"], f["faults"][0]["code"]) for f in unsent] == [("NOT_SENT", "NOT_DECODABLE")]
    noise = random.Random(1).randbytes(5_000_000)
    sent = flexbus(connection, "send", "--as", FSP_A, "--binary", "--key", AREA, "-", given=noise, code=1)
    assert {f["code"] for f in lines(sent)[0]["faults"]} == {"BAD_HEADER", "TOO_LARGE"}
    noise = random.Random(1).randbytes(12_000_000)  # more than the broker takes
    sent = flexbus(connection, "send", "--as", FSP_A, "--binary", "--key", AREA, "-", given=noise, code=1)
    assert [(f["verdict"], f["faults"][0]["code"]) for f in lines(sent)] == [("NOT_SENT", "TOO_LARGE")]


def test_one_record_as_it_stands_goes_under_its_key(connection: Connection) -> None:
    record = codec.encode(core.offer_of(610, AREA))
    command = ("send", "--as", FSP_A, "--binary", "--key", AREA, "--header", f"ce_id={uuid4()}", "-")
    assert [f["verdict"] for f in lines(flexbus(connection, *command, given=record))] == ["ACCEPTED"]


def test_forecasts_of_a_planning_system_are_sent_by_its_source_file(connection: Connection, tmp_path: Path) -> None:
    """docs/events/congestion.md, word for word: its two files, its command, and what it says comes of them."""
    document = (Path(__file__).parents[2] / "docs" / "events" / "congestion.md").read_text(encoding="utf-8")
    blocks = dict(re.findall(r"^```(?:json|text) (\S+)\n(.*?)^```", document, re.DOTALL | re.MULTILINE))
    for name in ("source.json", "forecasts.jsonl"):
        (tmp_path / name).write_text(blocks[name], encoding="utf-8")
    (command,) = re.findall(r"^\$ flexbus (.*)$", document, re.MULTILINE)
    words = [str(tmp_path / word) if word in blocks else word for word in shlex.split(command)]
    sent, unsent = lines(flexbus(connection, *words, code=1))
    assert (sent["verdict"], sent["faults"], unsent["verdict"]) == ("ACCEPTED", [], "NOT_SENT")
    assert [f"{f['code']} {f['path']}" for f in unsent["faults"]] == blocks["faults"].splitlines()
    assert all(fault["message"] for fault in unsent["faults"])
    (entry,) = [e for e in core.entries(connection) if e.event_id == sent["event_id"]]
    assert codec.to_json(codec.decode(entry.payload)) == json.loads(blocks["made"])


def test_a_faulty_source_file_is_told_with_its_path(connection: Connection, tmp_path: Path) -> None:
    source = tmp_path / "source.json"
    for text, code, path in (
        ('{"unit": "GW", "export_positive": true, "elements": {}}', "BAD_VALUE", "$.unit"),
        ('{"unit": "MW", "export_positive": "yes", "elements": {}}', "WRONG_TYPE", "$.export_positive"),
        ('{"unit": "MW", "elements": {}}', "MISSING_FIELD", "$.export_positive"),
        ("unit: MW", "NOT_DECODABLE", "$"),
    ):
        source.write_text(text)
        program = [sys.executable, "-m", "flexbus.cli", "send", "--as", "dso", "--source", str(source), "-"]
        done = subprocess.run(
            [*program, "--bootstrap", connection.bootstrap], input=b"", capture_output=True, timeout=60, check=False
        )
        assert done.returncode == 1
        (said,) = done.stderr.decode().splitlines()
        assert said.startswith(f"{source} {path}: ")
        assert said.endswith(f"[{code}]")


def test_past_the_gate_is_too_late(connection: Connection) -> None:
    area = "gated"
    core.open_gates(connection, [area])
    with Client(connection.bootstrap, "scheduler") as scheduler:
        scheduler.post(core.in_area(market.gate_closed(), area))
    core.eventually(lambda: any(e.event_type == "GateClosed" for e in core.entries(connection)))
    late = json.dumps(codec.to_json(core.offer_of(1, area))).encode()
    (found,) = lines(flexbus(connection, "send", "--as", FSP_A, "-", given=late, code=1))
    assert {f["code"] for f in found["faults"]} == {"GATE_CLOSED"}


def test_tail_writes_json_csv_and_avro(connection: Connection) -> None:
    core.eventually(lambda: lines(flexbus(connection, "tail", "GateOpened", "--area", AREA)))
    (opened,) = lines(flexbus(connection, "tail", "GateOpened", "--area", AREA))
    assert opened.pop("journal").keys() == {"block", "index"}
    assert codec.from_json({k: v for k, v in opened.items() if not k.startswith("ce_")}).session_id == market.SESSION
    csv = flexbus(connection, "tail", "MarketCleared", "--format", "csv", "--rows", "awards").decode().splitlines()
    assert len(csv) == 5
    assert csv[0].startswith("event_id,block,index,area_id,session_id")
    file = flexbus(connection, "tail", "MarketCleared", "--format", "avro", "--as", FMO, "--own")
    (record,) = fastavro.reader(BytesIO(file))
    assert record["awards"][0]["fsp_id"] == FSP_A


def test_rejections_are_listed_shown_repaired_and_sent_again(connection: Connection, tmp_path: Path) -> None:
    wrong = codec.to_json(core.offer_of(700, AREA))
    wrong["offer"]["session_id"] = "no-such-session"
    text = json.dumps(wrong).encode()
    (verdict,) = lines(flexbus(connection, "send", "--as", FSP_A, "-", given=text, code=1))
    listed = lines(flexbus(connection, "rejections", "list", "--party", FSP_A, "--json"))
    (found,) = [r for r in listed if r["event_id"] == verdict["event_id"]]
    shown = json.loads(flexbus(connection, "rejections", "show", found["rejection_id"]))
    assert shown["event"] == wrong
    assert shown["faults"] == verdict["faults"]
    repaired = tmp_path / "repaired.json"
    repaired.write_text(json.dumps({**wrong, "offer": {**wrong["offer"], "session_id": market.SESSION}}))
    again = json.loads(flexbus(connection, "rejections", "resend", found["rejection_id"], "--with", str(repaired)))
    assert (again["verdict"], again["replaces"]) == ("ACCEPTED", found["rejection_id"])
    assert again["event_id"] != verdict["event_id"]
    out = tmp_path / "original"
    shown = json.loads(flexbus(connection, "rejections", "show", found["rejection_id"], "--out", str(out)))
    assert out.read_bytes() == codec.encode(codec.from_json(wrong))
    assert [(s["event_id"], s["rejection_id"]) for s in shown["replaced_by"]] == [(again["event_id"], None)]


def test_what_replaced_a_rejection_is_told_also_if_it_was_refused_in_turn(connection: Connection) -> None:
    wrong = codec.to_json(core.offer_of(701, AREA))
    wrong["offer"]["session_id"] = "no-such-session"
    verdict = lines(flexbus(connection, "send", "--as", FSP_A, "-", given=json.dumps(wrong).encode(), code=1))[0]

    def listed() -> dict[str | None, dict[str, Any]]:
        found = lines(flexbus(connection, "rejections", "list", "--party", FSP_A, "--json"))
        return {r["event_id"]: r for r in found}

    first = listed()[verdict["event_id"]]
    assert first["replaced_by"] == []
    as_it_was = json.loads(flexbus(connection, "rejections", "resend", first["rejection_id"], code=1))
    assert as_it_was["faults"] == verdict["faults"]
    found = listed()
    second = found[as_it_was["event_id"]]
    (successor,) = found[verdict["event_id"]]["replaced_by"]
    told = {"event_id": second["event_id"], "inbox": second["inbox"], "rejection_id": second["rejection_id"]}
    assert successor == told
    table = flexbus(connection, "rejections", "list", "--party", FSP_A).decode().splitlines()
    (row,) = [row for row in table if row.startswith(first["rejection_id"])]
    assert row.endswith(f" -> {as_it_was['event_id']}")
    # Whoever likes may write such a header into his own inbox; it is no successor.
    with Client(connection.bootstrap, FSP_B) as stranger:
        made = stranger.record(core.offer_of(702, AREA, FSP_B))
        stranger.post_records([Record(made.value, made.key, {**made.headers, REPLACES: first["rejection_id"]})])
    assert listed()[verdict["event_id"]]["replaced_by"] == [successor]


def test_a_signed_rejection_is_sent_again_as_it_was_and_repaired(connection: Connection, tmp_path: Path) -> None:
    old, new = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    pem = tmp_path / "new.pem"
    pem.write_bytes(new.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    def register(key_id: str, key: Ed25519PrivateKey) -> ev.SigningKeyRegistered:
        return ev.SigningKeyRegistered(area_id=AREA, party_id=FSP_B, key_id=key_id, public_key=public_key(key))

    def rejection_of(event_id: str | None) -> str:
        found = lines(flexbus(connection, "rejections", "list", "--party", FSP_B, "--json"))
        return next(str(r["rejection_id"]) for r in found if r["event_id"] == event_id)

    with Client(connection.bootstrap, FSP_B, signing_key=old) as client:
        assert client.send(register("old", old)).faults == ()
        client.signing_key = new  # too soon
        offer = core.offer_of(710, AREA, FSP_B)
        early = client.send(offer)
        assert {f.code.value for f in early.faults} == {"BAD_SIGNATURE"}
        client.signing_key = old
        wrong = replace(core.offer_of(711, AREA, FSP_B).offer, session_id="no-such-session")
        broken = client.send(ev.FlexOfferSubmitted(area_id=AREA, offer=wrong))
        assert broken.verdict is Verdict.REJECTED
        assert client.send(register("new", new)).faults == ()
    resend = ("rejections", "resend")
    as_it_was = json.loads(flexbus(connection, *resend, rejection_of(early.event_id)))
    assert (as_it_was["verdict"], as_it_was["faults"]) == ("ACCEPTED", [])
    repaired = json.dumps(codec.to_json(core.offer_of(711, AREA, FSP_B))).encode()
    unsigned = json.loads(flexbus(connection, *resend, rejection_of(broken.event_id), "--with", "-", given=repaired))
    assert unsigned["verdict"] == "ACCEPTED"
    repaired = json.dumps(codec.to_json(core.offer_of(712, AREA, FSP_B))).encode()
    command = (*resend, rejection_of(broken.event_id), "--with", "-", "--signing-key", str(pem))
    signed = json.loads(flexbus(connection, *command, given=repaired))
    assert signed["verdict"] == "ACCEPTED"
    entries = {e.event_id: e for e in core.entries(connection)}
    assert entries[as_it_was["event_id"]].signature == new.sign(codec.encode(offer))
    assert entries[unsigned["event_id"]].signature is None, "the old signature was over something else"
    assert entries[signed["event_id"]].signature == new.sign(codec.encode(core.offer_of(712, AREA, FSP_B)))
    both = json.loads(flexbus(connection, "rejections", "show", rejection_of(broken.event_id)))["replaced_by"]
    assert {one["event_id"] for one in both} == {unsigned["event_id"], signed["event_id"]}


def test_topics_are_listed_and_made(connection: Connection) -> None:
    flexbus(connection, "topics", "--party", "newcomer", code=1)
    flexbus(connection, "topics", "--party", "newcomer", "--create")
    found = {t["topic"]: t for t in lines(flexbus(connection, "topics", "--party", "newcomer", "--json"))}
    assert found["flexbus.in.newcomer.v1"]["partitions"] == found["flexbus.journal.v1"]["partitions"] == 4


def test_on_behalf_of_needs_a_mandate(connection: Connection) -> None:
    with Client(connection.bootstrap, FSP_B) as agent, Client(connection.bootstrap, FSP_A) as grantor:
        refused = agent.send(core.offer_of(800, AREA), on_behalf_of=FSP_A)
        assert {f.code.value for f in refused.faults} == {"NO_MANDATE"}
        mandate = ev.MandateGranted(
            area_id=AREA, mandate_id="m1", grantor_id=FSP_A, agent_id=FSP_B, event_types=(), valid_from_ms=0
        )
        assert grantor.send(mandate).verdict is Verdict.ACCEPTED
        accepted = agent.send(core.offer_of(800, AREA), on_behalf_of=FSP_A)
        assert accepted.verdict is Verdict.ACCEPTED
    (entry,) = [e for e in core.entries(connection) if e.event_id == accepted.event_id]
    assert (entry.sender_id, entry.on_behalf_of) == (FSP_B, FSP_A)


def test_when_something_came_is_told_by_the_broker_and_not_by_its_sender(connection: Connection) -> None:
    """Mandates and keys are measured by it."""
    producer, event_id = connection.producer(), str(uuid4())
    with Client(connection.bootstrap, FSP_B) as client:
        record = client.record(core.offer_of(801, AREA, FSP_B), event_id=event_id)
    producer.produce(
        inbox(FSP_B),
        record.value,
        record.key,
        partition_of(AREA.encode(), journal_partitions(connection)),
        headers=dict(record.headers),
        timestamp=1,
    )
    assert producer.flush(30) == 0
    core.eventually(lambda: event_id in {e.event_id for e in core.entries(connection)}, 60, "it is not in the journal")
    (entry,) = [e for e in core.entries(connection) if e.event_id == event_id]
    assert abs(entry.received_at_ms - time.time() * 1000) < 120_000


def test_every_read_of_sdk_and_command_line_is_on_record_once(connection: Connection) -> None:
    """On a plain broker a party is believed, and who names none is nobody."""
    market_cleared = "flexbus.out.market_cleared.v1?type=MarketCleared"
    flexbus(connection, "send", "--as", FSP_A, "--raw", "-", given=b"{}", code=1)  # so that there is a rejection
    began = len(read_logs(connection))
    with Client(connection.bootstrap) as anyone:
        anyone.frame(ev.MarketCleared, area=AREA)
    flexbus(connection, "tail", "MarketCleared", "--as", FSP_B, "-n", "1")
    flexbus(connection, "rejections", "list", "--party", FSP_A)
    flexbus(connection, "replay")
    printed = lines(flexbus(connection, "access", "reads"))
    expected = [
        ("", "sdk", f"{market_cleared}&area={AREA}&from=start&until=end"),
        (FSP_B, "cli", f"{market_cleared}&from=start&until=end"),
        ("", "cli", f"flexbus.rejections.v1?party={FSP_A}"),
        ("", "cli", f"flexbus.in.{FSP_A}.v1?header=ce_replaces"),
        ("", "cli", "flexbus.journal.v1"),
        ("", "cli", "flexbus.reads.*"),
    ]
    assert [(r["reader_id"], r["interface"], r["resource"]) for r in printed[began:]] == expected
    assert {r["mark"] for r in printed} == {None}
    assert printed[began]["area_id"] == AREA


def test_a_party_without_a_log_reads_nothing(connection: Connection) -> None:
    says = r"could not be: .*no such topic.*--create --party unknown-party"
    with (
        Client(connection.bootstrap, "unknown-party") as unknown,
        pytest.raises(EnvironmentProblem, match=says),
    ):
        next(unknown.consume(ev.MarketCleared))
    flexbus(connection, "topics", "--party", "unknown-party", "--create")
    with Client(connection.bootstrap, "unknown-party") as known:
        assert next(known.consume(ev.MarketCleared)).area_id


def test_a_secure_broker_wants_the_password(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "secure", secure=True)
    bootstrap = broker.start()
    try:
        right = client_config(broker.data_dir, ADMIN)
        create_topics(Connection(bootstrap, right), [FSP_A])
        with Client(bootstrap, FSP_A, security=right) as client:
            assert client.post(core.offer_of(1, AREA)).offset == 0
        wrong = {**right, "sasl.password": "guessed"}
        with (
            Client(bootstrap, FSP_A, security=wrong, timeout_s=10) as client,
            pytest.raises(EnvironmentProblem, match="refused the user name or password"),
        ):
            client.post(core.offer_of(1, AREA))
        properties = tmp_path / "kafka.properties"
        properties.write_text("# as fsp-a\n" + "".join(f"{k} = {v}\n" for k, v in right.items()))
        command = [sys.executable, "-c", "from flexbus.cli import main; main()", "topics", "--bootstrap", bootstrap]
        done = subprocess.run([*command, "--kafka-properties", str(properties)], capture_output=True, check=False)
        assert b"flexbus.journal.v1" in done.stdout, done.stderr
    finally:
        broker.stop()
