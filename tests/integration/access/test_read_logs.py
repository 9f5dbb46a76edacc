"""The logs of reads."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from confluent_kafka import Producer

from flexbus import codec
from flexbus import events as ev
from flexbus.access import service_grants
from flexbus.catalogue import CATALOGUE
from flexbus.cli.access import command
from flexbus.client import Client
from flexbus.errors import EnvironmentProblem
from flexbus.events import ReadLogged
from flexbus.time import parse_ms
from flexbus.topics import party_topic, read_log
from streams import broker_security as security
from streams import service_reads
from streams.access import apply_grants
from streams.kafka import Connection
from streams.monitor import Monitor
from streams.service_reads import ServiceReads
from tests.integration.access.bus import Bus, logged, readable, registrations
from tests.integration.core import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(600)]


def sdk_reads(bus: Bus, reader: str) -> list[tuple[str, str, str]]:
    found = [r for r in logged(bus, "--reader", reader) if r["interface"] == "sdk"]
    assert {(r["writer"], r["mark"], r["status"]) for r in found} <= {(reader, None, 202)}
    return [(r["reader_id"], r["area_id"], r["resource"]) for r in found]


def test_what_a_party_reads_through_the_sdk_is_on_record_before_it_has_it(bus: Bus, told: dict[str, Any]) -> None:
    public = "flexbus.out.market_cleared.v1?type=MarketCleared"
    before = sdk_reads(bus, "tso")
    with bus.client("tso") as tso:
        following = tso.consume("MarketCleared", area="see-market_cleared", until=None)
        assert sdk_reads(bus, "tso") == before, "nothing has been asked for yet"
        next(following)
        begun = [("tso", "see-market_cleared", f"{public}&area=see-market_cleared&from=start")]
        assert sdk_reads(bus, "tso") == before + begun
        following.close()  # type: ignore[attr-defined]
        assert len(tso.frame("MarketCleared", from_=7, until=8)) == 0
        list(tso.receipts())
    rest = [("tso", "", f"{public}&from=7&until=8")]
    rest += [("tso", "", f"{party_topic('tso')}?type=ReceiptsIssued&from=start&until=end")]
    assert sdk_reads(bus, "tso") == before + begun + rest, "one record a call"


def test_who_reads_is_whom_the_broker_knows(bus: Bus, told: dict[str, Any]) -> None:
    """Without a party, or as another, a read is noted under the name that was proven."""
    known = bus.made.connection("observer")
    before = len(sdk_reads(bus, "observer"))
    for claimed in (None, "dso"):
        with Client(known.bootstrap, claimed, security=known.security) as client:
            assert list(client.consume("MarketCleared", area="see-market_cleared"))
    assert len(sdk_reads(bus, "observer")) == before + 2


def test_waiting_for_verdicts_is_one_read(bus: Bus) -> None:
    before = sdk_reads(bus, "brp")
    with bus.client("brp") as brp:
        for _ in range(3):
            brp.send(ev.MandateRevoked(area_id="nowhere", mandate_id="m", grantor_id="brp"))
    assert sdk_reads(bus, "brp")[len(before) :] == [
        ("brp", "", f"{party_topic('brp')}?type=ReceiptsIssued&from=end"),
    ]


def test_a_read_that_cannot_be_logged_yields_nothing(bus: Bus, told: dict[str, Any]) -> None:
    """A guest with a password and no log: Kafka would give it the public topic, the SDK and the command do not."""
    bus.broker.add_users("guest")
    file = security.properties_file(bus.broker.data_dir, "guest")
    guest = Bus(bus.broker, replace(bus.made, properties={"guest": file}))
    known = guest.made.connection("guest")
    topic = CATALOGUE["MarketCleared"].out_topic
    assert topic is not None
    assert readable(guest, "guest", [topic]) == {topic}
    given: list[Any] = []
    for party in (None, "guest", "dso"):
        with Client(known.bootstrap, party, security=known.security) as client:
            with pytest.raises(EnvironmentProblem, match=r"could not be: .*--create --party guest"):
                given.extend(client.consume("MarketCleared"))
            with pytest.raises(EnvironmentProblem, match=r"could not be: .*--create --party guest"):
                client.frame("MarketCleared")
    with Client(known.bootstrap, "dso", security=known.security) as client, pytest.raises(EnvironmentProblem):
        given.extend(client.receipts())
    assert given == []


def test_a_record_that_names_another_reader_is_not_believed(bus: Bus) -> None:
    began = "2020-01-01T00:00:00Z"
    lie = ReadLogged(area_id="", reader_id="dso", role="", interface="page", resource="lie", status=200, at_ms=1)
    truth = replace(lie, reader_id="meter-operator", resource="truth")
    producer = Producer(bus.config("meter-operator"))
    for value in (codec.encode(lie), codec.encode(truth), b"noise", codec.encode(registrations("x")[0])):
        producer.produce(read_log("meter-operator"), value, partition=0)
    assert producer.flush(30) == 0
    found = [(r["mark"], r.get("resource")) for r in logged(bus, "--reader", "meter-operator", "--from", began)]
    assert found[-4:] == [("forged", "lie"), (None, "truth"), ("unreadable", None), ("unreadable", None)]
    assert "lie" in [r.get("resource") for r in logged(bus, "--reader", "dso")], "whom it accuses hears of it"
    assert logged(bus, "--from", "2999-01-01T00:00:00Z") == []


def test_the_logs_are_told_in_the_order_of_the_broker_and_to_auditors_only(bus: Bus) -> None:
    found = logged(bus)
    assert {r["writer"] for r in found} >= {"tso", "brp", "auditor"}
    times = [parse_ms(r["logged_at"]) for r in found]
    assert times == sorted(times)
    assert (found[-1]["reader_id"], found[-1]["interface"]) == ("auditor", "cli"), "reading the log is a read"
    connected = ["--bootstrap", bus.broker.bootstrap, "--kafka-properties", str(bus.made.properties["dso"])]
    refused = CliRunner().invoke(command, ["reads", *connected])
    assert isinstance(refused.exception, EnvironmentProblem)
    assert refused.stdout == ""


# --- what the services tell of the market


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a service wait for its log for as long as a busy machine takes: Prometheus does not wait here."""
    monkeypatch.setattr(service_reads, "_WITHIN_S", 30.0)


def telling(connection: Connection, service: str, token: Path | None) -> Monitor:
    """A process of a service that knows something of an area."""
    monitor = Monitor(service, token=token, reads=ServiceReads(connection, service))
    monitor.events.labels(service, "GateClosed", "north").inc()
    monitor.page("view", lambda area: {"area_id": area, "total_cents": 5})
    monitor.page("digest", lambda area: {"area": area})
    return monitor


def service_reads_of(bus: Bus, service: str) -> list[tuple[str, str, str, int]]:
    found = [r for r in logged(bus) if r["writer"] == service and r.get("interface") == "service"]
    assert {r["mark"] for r in found} <= {None}
    return [(r["reader_id"], r["area_id"], r["resource"], r["status"]) for r in found]


def test_what_a_service_tells_for_the_token_is_on_its_log_before_it_is_told(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = bus.made.metrics_token
    holder = f"Bearer {token.read_text().strip()}"
    monitor = telling(bus.made.connection("settlement"), "settlement", token)
    for path in ("/metrics", "/view", "/view/north", "/view/north", "/digest/north", *["/metrics"] * 50):
        status, _, body = monitor.answer(path, holder)
        assert (status, b"north" in body) == (200, path != "/view")
    pages = [("", "/view"), ("north", "/view/north"), ("north", "/view/north"), ("north", "/digest/north")]
    wanted = [("admin", "", "/metrics", 200), *(("admin", area, what, 200) for area, what in pages)]
    assert service_reads_of(bus, "settlement") == wanted, "each of a page, one an hour of what is scraped"
    monkeypatch.setattr(service_reads, "_AGAIN_S", 0.0)
    monitor.answer("/metrics", holder)
    assert service_reads_of(bus, "settlement") == [*wanted, wanted[0]], "the next hour has its own"


def test_who_tries_without_the_token_is_on_the_log_once(bus: Bus) -> None:
    monitor = telling(bus.made.connection("activation"), "activation", bus.made.metrics_token)
    for area in range(50):
        assert monitor.answer(f"/view/{area}")[0] == 401
        assert monitor.answer("/metrics", "Bearer guessed")[0] == 401
    eventually(lambda: len(service_reads_of(bus, "activation")) == 2, 30, "the refused are not noted")
    assert sorted(service_reads_of(bus, "activation")) == [("", "", "/metrics", 401), ("", "", "/view", 401)]


def test_without_a_token_nobody_is_known_and_one_record_stands_for_an_hour(bus: Bus) -> None:
    monitor = telling(bus.made.connection("congestion"), "congestion", None)
    for _ in range(20):
        assert b"north" in monitor.answer("/view/north")[2]
        assert b"north" in monitor.answer("/metrics")[2]
    eventually(lambda: len(service_reads_of(bus, "congestion")) == 2, 30, "they are not noted")
    assert sorted(service_reads_of(bus, "congestion")) == [("", "", "/metrics", 200), ("", "north", "/view/north", 200)]


def test_what_a_service_cannot_log_it_does_not_tell_until_it_can(bus: Bus) -> None:
    """Its right to write the log is taken away and given back; it tells of itself all the while."""
    token = bus.made.metrics_token
    holder = f"Bearer {token.read_text().strip()}"
    everything = service_grants("publisher")
    apply_grants(bus.made.admin, [g for g in everything if g.name != read_log("publisher")], ["publisher"])
    try:
        monitor = telling(bus.made.connection("publisher"), "publisher", token)
        for path in ("/view", "/view/north", "/digest/north"):
            status, _, body = monitor.answer(path, holder)
            assert (status, "noted before it is told" in json.loads(body)["error"]) == (503, True)
        status, _, body = monitor.answer("/metrics", holder)
        assert (status, b"north" in body, b"process_cpu_seconds_total" in body) == (200, False, True)
        assert service_reads_of(bus, "publisher") == []
    finally:
        apply_grants(bus.made.admin, everything)
    assert b"north" in monitor.answer("/view/north", holder)[2]
    assert service_reads_of(bus, "publisher") == [("admin", "north", "/view/north", 200)]
