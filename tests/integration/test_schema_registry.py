"""With a schema registry named, records are in Confluent framing from party to reader; the journal does without it."""

import io
import json
import socket
import struct
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import fastavro
import pytest

from flexbus import avro, codec
from flexbus.catalogue import CATALOGUE
from flexbus.client import Client
from flexbus.errors import CodecError, EnvironmentProblem, FaultCode
from flexbus.events import FlexOfferSubmitted, FlexRequestSubmitted, Verdict
from flexbus.topics import party_topic
from streams import registry
from streams.intake import Intake
from streams.publisher import Publisher
from streams.registry import RegistryServer
from streams.replay import verify
from streams.sequencer import RULES, Sequencer
from streams.transaction import HANG_S
from tests import market
from tests.integration import core
from tests.integration.bus import wait_for, working
from tests.schema_registry import FakeRegistry, schema_registry
from tests.unit.test_intake import HOME, PARTITIONS, Inbox

OFFER = core.offer_of(1, "north")


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with schema_registry() as found:
        yield found


def framed(fake: FakeRegistry, schema: object, body: bytes) -> bytes:
    """What a producer of another make would send."""
    return b"\x00" + struct.pack(">I", fake.put(json.dumps(schema))) + body


def stock(fake: FakeRegistry, data: bytes) -> object:
    """Read a record as any Kafka tool does that knows nothing of flexbus."""
    with urllib.request.urlopen(f"{fake.url}/schemas/ids/{struct.unpack('>I', data[1:5])[0]}", timeout=5) as answer:
        schema = fastavro.parse_schema(json.loads(json.load(answer)["schema"]))
    return fastavro.schemaless_reader(io.BytesIO(data[5:]), schema, None)


def test_ids_are_found_or_registered_and_asked_for_once(fake: FakeRegistry) -> None:
    server, other = RegistryServer(fake.url, "fsp-a:secret"), RegistryServer(fake.url + "/")
    data = codec.encode(OFFER, server)
    assert (data[:1], codec.decode(data, other)) == (b"\x00", OFFER)
    assert fake.authorization is None
    assert codec.encode(OFFER, other) == data
    subject = "/subjects/org.flexbus.FlexOfferSubmitted"
    asked = [f"POST {subject}", f"POST {subject}/versions", f"GET /schemas/ids/{data[4]}", f"POST {subject}"]
    assert fake.asked == asked
    assert codec.decode(codec.encode(OFFER, server), other) == OFFER
    assert fake.asked == asked
    RegistryServer(fake.url, "fsp-a:secret").id_of("GateClosed")
    assert fake.authorization == "Basic ZnNwLWE6c2VjcmV0"


def test_what_was_learned_needs_no_registry_any_more(fake: FakeRegistry) -> None:
    server = RegistryServer(fake.url)
    server.learn()
    asked = len(fake.asked)
    assert set(fake.subjects) == {f"org.flexbus.{name}" for name in (*CATALOGUE, "ReceiptsIssued")}
    assert codec.decode(codec.encode(OFFER, server), server) == OFFER
    assert len(fake.asked) == asked


def test_a_schema_of_another_make_is_known_by_its_fingerprint(fake: FakeRegistry) -> None:
    def bare(schema: object) -> object:
        if isinstance(schema, dict):
            return {k: bare(v) for k, v in schema.items() if k != "doc"}
        return [bare(s) for s in schema] if isinstance(schema, list) else schema

    data = framed(fake, bare(avro.schema_of(FlexOfferSubmitted)), codec.encode(OFFER)[10:])
    server = RegistryServer(fake.url)
    assert codec.type_of(data, server) == ("FlexOfferSubmitted", codec.fingerprint_of(FlexOfferSubmitted))
    assert codec.decode(data, server) == OFFER


@pytest.mark.parametrize(
    ("schema", "code"),
    [
        (None, FaultCode.UNKNOWN_SCHEMA),
        ({"type": "record", "name": "Rain", "fields": []}, FaultCode.UNKNOWN_EVENT),
        ({"type": "weather", "name": "GateClosed"}, FaultCode.UNKNOWN_SCHEMA),
        ("string", FaultCode.UNKNOWN_SCHEMA),
    ],
)
def test_an_unknown_id_is_refused_and_asked_for_once(fake: FakeRegistry, schema: object, code: FaultCode) -> None:
    server = RegistryServer(fake.url)
    data = framed(fake, schema, b"") if schema else b"\x00\x00\x00\x00\x05"
    for _ in range(3):
        with pytest.raises(CodecError) as caught:
            codec.decode(data, server)
        assert caught.value.code in (code, FaultCode.UNKNOWN_SCHEMA)
    assert len(fake.asked) == 1


def test_what_the_journal_could_not_be_read_by_is_refused(fake: FakeRegistry) -> None:
    longer = avro.schema_of(FlexOfferSubmitted)
    longer["fields"].append({"name": "note", "type": "long"})
    data = framed(fake, longer, codec.encode(OFFER)[10:] + b"\x02")
    server = RegistryServer(fake.url)
    assert codec.decode(data, server) == OFFER  # who only reads may know newer schemas by the registry
    box = Inbox()
    for registry_of, fault in ((server, "no version that the bus has"), (None, "SCHEMA_REGISTRY_URL")):
        outcome = Intake(HOME, PARTITIONS, RULES, registry_of).take([box.record(core.FSP_A, data)])
        ((said,),) = (r.faults for r in outcome.rejections)
        assert (outcome.blocks, fault in said.message) == ([], True)
        assert outcome.rejections[0].original == data


def test_who_sends_ever_new_ids_does_not_keep_the_registry_busy(
    fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_MOST_UNKNOWN", 20)
    server = RegistryServer(fake.url)
    for number in range(50):
        with pytest.raises(CodecError):
            server.writer(number)
    assert len(fake.asked) == 20
    monkeypatch.setattr(registry, "_UNKNOWN_FOR_S", 0.0)
    with pytest.raises(CodecError):
        server.writer(60)
    assert len(fake.asked) == 21


def test_a_registry_that_is_away_costs_its_sender_the_event_and_nobody_else_the_queue(fake: FakeRegistry) -> None:
    server, box = RegistryServer(fake.url), Inbox()
    server.learn()
    asked = len(fake.asked)
    fake.broken = [503] * 3
    unknown = [box.record(core.FSP_A, b"\x00\x00\x00\x00" + bytes([n])) for n in (200, 201)]
    known = box.record(core.FMO, codec.encode(core.founding("north")[0][1], server))
    outcome = Intake(HOME, PARTITIONS, RULES, server).take([*unknown, known])
    faults = [f for r in outcome.rejections for f in r.faults]
    assert [f.code for f in faults] == [FaultCode.UNKNOWN_SCHEMA] * 2
    assert all("send it again later" in f.message and "HTTP 503" in f.message for f in faults)
    assert [len(b.entries) for b in outcome.blocks] == [1]
    assert len(fake.asked) == asked + 3  # the second one was not asked for


def test_a_registry_in_trouble_is_asked_again_and_then_named(fake: FakeRegistry) -> None:
    fake.broken = [503, 500]
    assert RegistryServer(fake.url).id_of("GateClosed") == 101
    fake.broken = [401]
    with pytest.raises(EnvironmentProblem, match=r"HTTP 401.*SCHEMA_REGISTRY_USER_INFO"):
        RegistryServer(fake.url).id_of("GateClosed")
    with pytest.raises(EnvironmentProblem, match=r"HTTP 404.*is it running"):  # a web server, no registry
        RegistryServer(fake.url + "/elsewhere").id_of("GateClosed")
    with pytest.raises(EnvironmentProblem, match="Connection refused"):
        RegistryServer("http://127.0.0.1:9").id_of("GateClosed")
    assert RegistryServer(f"http://127.0.0.1:9, {fake.url}").id_of("GateClosed") == 101


@contextmanager
def at_a_port(says: bytes | None) -> Iterator[str]:
    """Be something else that listens: it says this to everybody and hangs up, or never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while says is not None:
                    with listener.accept()[0] as caller:
                        caller.recv(10_000)
                        caller.sendall(says)

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_what_speaks_no_http_is_named() -> None:
    with (
        at_a_port(b"SSH-2.0-OpenSSH\r\n") as url,
        pytest.raises(EnvironmentProblem, match=r"(?s)BadStatusLine.*is it running"),
    ):
        RegistryServer(url).id_of("GateClosed")


def test_a_registry_that_never_answers_is_named_before_the_watchdog_ends_the_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert registry._WITHIN_S + registry._ROUNDS * registry._PAUSE_S < HANG_S
    monkeypatch.setattr(registry, "_WITHIN_S", 0.6)
    began = time.monotonic()
    with at_a_port(None) as url, pytest.raises(EnvironmentProblem, match="timed out"):
        RegistryServer(url).id_of("GateClosed")
    assert time.monotonic() - began < 3.0


@pytest.mark.parametrize("url", ["file:///etc/passwd", "localhost:8081", "http://u:secret@host:1"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(EnvironmentProblem, match="no address of a registry") as caught:
        RegistryServer(url)
    assert "secret" not in str(caught.value)


def test_an_offer_in_confluent_framing_goes_through_the_bus(
    fake: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with core.own_kafka(tmp_path / "kafka", 2) as connection:
        monkeypatch.setenv("SCHEMA_REGISTRY_URL", fake.url)
        with working(Sequencer(connection, rules=RULES)), working(Publisher(connection)):
            core.open_gates(connection, ["north"])
            with Client(connection.bootstrap, core.FSP_A) as client:
                assert client.record(OFFER).value[:1] == b"\x00"
                offered = client.send(OFFER)
                assert offered.verdict is Verdict.ACCEPTED, offered
                unknown = client.record(core.offer_of(2, "north"))
                broken = type(unknown)(b"\x00\x00\x00\x00\x05", unknown.key, unknown.headers)
                (refused,) = client.verdicts(client.post_records([broken]))
                assert [f.code for f in refused.faults] == [FaultCode.UNKNOWN_SCHEMA]
            with Client(connection.bootstrap, core.DSO) as client:
                request = FlexRequestSubmitted(area_id="north", request=market.request())
                assert client.send(request).verdict is Verdict.ACCEPTED
                wait_for(lambda: len(list(client.events(FlexRequestSubmitted))) == 1)
                (seen,) = client.consume(FlexRequestSubmitted)
            assert seen.payload[:1] == b"\x00"
            assert stock(fake, seen.payload)["area_id"] == "north"  # type: ignore[index]
            (entry,) = (e for e in core.entries(connection) if e.event_type == "FlexOfferSubmitted")
            assert entry.payload == codec.encode(OFFER, registry.configured())  # the sender's own bytes
            for _, _, value in core.values(connection, party_topic(core.FSP_A)):  # receipts and what it sees
                assert stock(fake, value)
        assert verify(connection).ok
        monkeypatch.delenv("SCHEMA_REGISTRY_URL")
        asked = len(fake.asked)
        # The journal is whole without the registry; only the published copies are in its framing.
        assert codec.decode_entry(entry.payload, entry.schema_fingerprint) == OFFER
        found = verify(connection).findings
        assert found
        assert all(f.check == "publication" and "SCHEMA_REGISTRY_URL" in f.message for f in found)
        assert len(fake.asked) == asked
