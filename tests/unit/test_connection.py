"""What a person reads whose Kafka settings are wrong."""

import ast
import ssl
import traceback
from pathlib import Path
from typing import Any

import pytest

from flexbus.cli import main
from flexbus.client import Client
from flexbus.errors import EnvironmentProblem
from streams import broker_security
from streams.kafka import PLAIN_NETWORK, Connection


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("security.protocol=nonsense", "security.protocol"),
        ("no.such.setting=1", "no.such.setting"),
        ("socket.timeout.ms=abc", "socket.timeout.ms"),
        ("error_cb=3", "error_cb"),
    ],
)
@pytest.mark.parametrize("client", ["admin", "producer", "reader"])
def test_settings_that_librdkafka_refuses_are_a_problem_that_names_them(
    tmp_path: Path, line: str, named: str, client: str
) -> None:
    file = tmp_path / "kafka.properties"
    file.write_text(line)
    connection = Connection.of("127.0.0.1:1", file)
    with pytest.raises(EnvironmentProblem, match=named) as found:
        getattr(connection, client)()
    assert "--kafka-properties" in str(found.value)
    assert f" {named}. " in str(found.value)


def test_properties_that_are_no_text_are_a_problem_that_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "kafka.properties"
    file.write_bytes(b"\xff\xfe=\x00")
    with pytest.raises(EnvironmentProblem, match=r"kafka\.properties"):
        Connection.of("127.0.0.1:1", file)


@pytest.mark.parametrize("separator", ["=", ":", " ", "\t", ": ", " = ", " : "])
def test_name_and_value_are_apart_as_java_and_librdkafka_have_them(tmp_path: Path, separator: str) -> None:
    file = tmp_path / "kafka.properties"
    file.write_text(
        f"# mine\r\n! and Java's\n\n  sasl.password{separator}hun:ter = 2#\\ \r\nsasl.username{separator}me"
    )
    expected = {"sasl.password": "hun:ter = 2#\\", "sasl.username": "me"}
    assert Connection.of("127.0.0.1:1", file).security == expected


SECRETS = ["hunter2", "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj", "kUsnqXE=", "abc=="]


@pytest.mark.parametrize(
    "secret", [*SECRETS, "-----BEGIN PRIVATE KEY-----", "hunter2: x", "=hunter2", "Hunter2 hunter3"]
)
def test_a_line_that_is_no_property_is_named_by_its_number_alone(tmp_path: Path, secret: str) -> None:
    file = tmp_path / "kafka.properties"
    file.write_text(f"ssl.key.pem=-----BEGIN PRIVATE KEY-----\n{secret}\n")
    with pytest.raises(EnvironmentProblem, match=r"kafka\.properties, line 2: ") as found:
        Connection.of("127.0.0.1:1", file)
    assert no_trace_of(secret.strip("=:").split()[0], found.value)


@pytest.mark.parametrize(
    "line", ["{name}: {secret}", "{name} {secret}", "{name}={secret}", "no.such.setting={secret}", "error_cb={secret}"]
)
@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("name", ["sasl.password", "sasl.mechanism", "security.protocol", "ssl.key.pem", "debug"])
def test_no_error_holds_a_value(tmp_path: Path, line: str, secret: str, name: str) -> None:
    file = tmp_path / "kafka.properties"
    file.write_text(line.format(name=name, secret=secret) + "\nsecurity.protocol=nonsense\nssl.key.password=hunter3")
    with pytest.raises(EnvironmentProblem) as found:
        Connection.of("127.0.0.1:1", file).producer()
    assert no_trace_of(secret, found.value)
    assert no_trace_of("hunter3", found.value)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:9092", "localhost:9092", "127.1.2.3:1,[::1]:2", "PLAINTEXT://127.0.0.1:1", "localhost", "::1"],
)
def test_plain_on_loopback_is_nothing_to_warn_of(
    untold: None, capsys: pytest.CaptureFixture[str], address: str
) -> None:
    assert Connection.of(address).is_plain
    assert capsys.readouterr().err == ""


BEYOND = ["kafka:9092", "127.0.0.1:9092,10.0.0.7:9092", "[2001:db8::1]:9092", "0.0.0.0:9092", "localhost.example:1"]


@pytest.mark.parametrize("address", BEYOND)
@pytest.mark.parametrize("protocol", [None, "PLAINTEXT", "sasl_plaintext"])
@pytest.mark.parametrize("said", [None, "", "0", "yes"])
def test_plain_beyond_loopback_is_refused(
    untold: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    address: str,
    protocol: str | None,
    said: str | None,
) -> None:
    if said is not None:
        monkeypatch.setenv(PLAIN_NETWORK, said)
    security = {} if protocol is None else {"security.protocol": protocol, "sasl.password": "hunter2"}
    with pytest.raises(EnvironmentProblem) as found:
        Connection.of(address, security=security)
    for part in (address, "FLEXBUS_KAFKA_PROPERTIES", "--kafka-properties", "FLEXBUS_PLAIN_NETWORK=1"):
        assert part in str(found.value)
    assert no_trace_of("hunter2", found.value)
    assert capsys.readouterr().err == "", "nothing was done that would have to be announced"


@pytest.mark.parametrize("address", BEYOND)
def test_tls_beyond_loopback_needs_no_leave(untold: None, capsys: pytest.CaptureFixture[str], address: str) -> None:
    for protocol in ("SSL", "sasl_ssl"):
        assert not Connection.of(address, security={"security.protocol": protocol}).is_plain
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("address", BEYOND)
@pytest.mark.parametrize("protocol", [None, "PLAINTEXT", "sasl_plaintext"])
def test_plain_beyond_loopback_that_is_allowed_is_announced_once(
    untold: None, allowed: None, capsys: pytest.CaptureFixture[str], address: str, protocol: str | None
) -> None:
    security = {} if protocol is None else {"security.protocol": protocol, "sasl.password": "hunter2"}
    Connection.of(address, security=security)
    Connection.of(address, security=security)
    Connection.of("elsewhere:1")
    (line,) = capsys.readouterr().err.splitlines()
    assert "WARNING: PLAIN MODE" in line
    assert address in line
    assert "--kafka-properties" in line
    assert "hunter2" not in line


COMMANDS = ["send --as a -", "tail MarketCleared", "topics", "topics --create", "run sequencer", "run clearing", "up"]
COMMANDS += ["replay", "rejections list", "rejections show x", "rejections resend x", "access apply", "access reads"]
COMMANDS += ["access quota a"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_a_plain_kafka_beyond_loopback(
    untold: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    command: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLEXBUS_BOOTSTRAP", "kafka.invalid:9092")
    with pytest.raises(SystemExit) as ended:
        main(command.split())
    said = capsys.readouterr().err
    assert "kafka.invalid:9092 would be used without TLS beyond loopback" in said
    assert ended.value.code == 3


def test_the_sdk_refuses_it_and_minds_settings_of_its_own_only(
    untold: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Client("kafka.invalid:9092", "a", security={"security.protocol": "SSL"}).close()
    with pytest.raises(EnvironmentProblem, match="without TLS beyond loopback"):
        Client("kafka.invalid:9092", "a")
    assert capsys.readouterr().err == ""
    monkeypatch.setenv(PLAIN_NETWORK, "1")
    Client("kafka.invalid:9092", "a").close()
    assert "PLAIN MODE" in capsys.readouterr().err


def test_nothing_connects_past_it() -> None:
    """Connections are made by `Connection.of`, and clients by them; but for those of a local broker to itself."""
    root = Path(__file__).parents[2]
    found: dict[str, set[str]] = {}
    for path in (p for package in ("flexbus", "streams", "adapters") for p in (root / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                if name in CLIENTS:
                    found.setdefault(name, set()).add(str(path.relative_to(root)))
    assert found == {
        "AIOKafkaClient": {"streams/quotas.py", "streams/stored.py"},  # of a connection's address and `for_aiokafka`
        "AdminClient": {"streams/broker.py", "streams/broker_security.py"},
    }


CLIENTS = {
    "Connection",
    "AdminClient",
    "Producer",
    "Consumer",
    "AIOKafkaClient",
    "AIOKafkaConsumer",
    "AIOKafkaProducer",
}


@pytest.fixture
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.kafka._told_of", [])
    monkeypatch.delenv(PLAIN_NETWORK, raising=False)
    monkeypatch.delenv("FLEXBUS_KAFKA_PROPERTIES", raising=False)


@pytest.fixture
def allowed(untold: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PLAIN_NETWORK, "1")


def no_trace_of(secret: str, error: BaseException) -> bool:
    """Tell whether neither the message nor what a log would print of the error holds it."""
    return secret not in "".join(traceback.format_exception(error))


def test_who_proves_itself_by_a_certificate_does_to_every_client(tmp_path: Path) -> None:
    broker_security.prepare(tmp_path)
    ours, authority = str(tmp_path / "security" / "broker.pem"), str(tmp_path / "security" / "ca.pem")
    settings = {"security.protocol": "ssl", "ssl.ca.location": authority, "ssl.certificate.location": ours}
    asking = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority)
    asking.load_cert_chain(ours)
    asking.verify_mode = ssl.CERT_REQUIRED
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = asking.wrap_bio(there, back, server_side=True)
    client = (
        Connection("localhost:1", settings)
        .for_aiokafka()["ssl_context"]
        .wrap_bio(back, there, server_hostname="localhost")
    )
    for end in (client, server) * 3:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    proven: Any = server.getpeercert()
    assert dict(part for parts in proven["subject"] for part in parts) == {"commonName": "broker"}


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"security.protocol": "ssl", "ssl.certificate.location": "/nowhere/secret"}, r"ssl\.certificate\.location"),
        ({"security.protocol": "ssl", "ssl.ca.location": "/nowhere/secret"}, r"ssl\.ca\.location"),
        ({"security.protocol": "sasl_ssl", "sasl.mechanism": "OAUTHBEARER"}, "OAUTHBEARER"),
    ],
)
def test_what_a_client_cannot_do_is_a_problem_that_names_it(settings: dict[str, str], named: str) -> None:
    with pytest.raises(EnvironmentProblem, match=named) as found:
        Connection("localhost:1", settings).for_aiokafka()
    assert "secret" not in str(found.value)
