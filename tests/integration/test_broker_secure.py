"""The secure mode: nobody connects without a proof, nobody does what no rule allows, no secret lies open."""

import asyncio
import shutil
import socket
import ssl
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from aiokafka import AIOKafkaProducer
from click.testing import CliRunner, Result
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)
from cryptography import x509

from flexbus.cli.broker import command
from flexbus.errors import EnvironmentProblem
from streams import broker_security as security
from streams.broker import Broker
from streams.kafka import Connection
from streams.stored import Stored

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = Broker(tmp_path_factory.mktemp("secure-kafka"), secure=True)
    try:
        broker.start()
        admin = AdminClient(broker.client_config())
        for topic in admin.create_topics([NewTopic("inbox-of-fsp", 1, 1), NewTopic("inbox-of-dso", 1, 1)]).values():
            topic.result(30)
        broker.add_users("fsp", "dso")
        may_write = AclBinding(
            ResourceType.TOPIC,
            "inbox-of-fsp",
            ResourcePatternType.LITERAL,
            "User:fsp",
            "*",
            AclOperation.WRITE,
            AclPermissionType.ALLOW,
        )
        for acl in admin.create_acls([may_write]).values():
            acl.result(30)
        yield broker
    finally:
        broker.kill()


VERDICTS = frozenset({"delivered", "_AUTHENTICATION", "_SSL", "TOPIC_AUTHORIZATION_FAILED"})
NO_WAY_IN = frozenset({"delivered", "_SSL", "_TRANSPORT", "_ALL_BROKERS_DOWN"})


def outcome(config: dict[str, str], topic: str, until: frozenset[str] = VERDICTS) -> set[str]:
    """Send one record; return what the client was told until something of `until` was among it."""
    said: set[str] = set()
    producer = Producer({**config, "error_cb": lambda error: said.add(error.name()), "log_level": 0})
    producer.produce(topic, b"x", on_delivery=lambda error, _: said.add(error.name() if error else "delivered"))
    deadline = time.monotonic() + 60
    while not said & until and time.monotonic() < deadline:
        producer.poll(0.1)
    producer.purge()
    producer.flush(5)
    return said


def end_of(broker: Broker, topic: str) -> int:
    consumer = Consumer({**broker.client_config(), "group.id": "looker"})
    try:
        return int(consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=20)[1])
    finally:
        consumer.close()


def test_a_principal_writes_where_a_rule_allows_it(broker: Broker) -> None:
    assert outcome(broker.client_config("fsp"), "inbox-of-fsp") == {"delivered"}


def test_and_nowhere_else(broker: Broker) -> None:
    assert "TOPIC_AUTHORIZATION_FAILED" in outcome(broker.client_config("fsp"), "inbox-of-dso")
    assert "TOPIC_AUTHORIZATION_FAILED" in outcome(broker.client_config("dso"), "inbox-of-fsp")


def test_a_wrong_password_is_refused(broker: Broker) -> None:
    said = outcome({**broker.client_config("fsp"), "sasl.password": "guessed"}, "inbox-of-fsp")
    assert "delivered" not in said
    assert "_AUTHENTICATION" in said


def test_a_client_without_tls_or_with_tls_alone_is_refused(broker: Broker) -> None:
    plain = {"bootstrap.servers": broker.bootstrap}
    said = outcome(plain, "inbox-of-fsp", NO_WAY_IN)
    assert "delivered" not in said
    assert said & NO_WAY_IN
    without_name = {
        **plain,
        "security.protocol": "SSL",
        "ssl.ca.location": str(broker.data_dir / "security" / "ca.pem"),
    }
    said = outcome(without_name, "inbox-of-fsp", NO_WAY_IN)
    assert "delivered" not in said
    assert said & NO_WAY_IN


def test_a_broker_that_our_authority_does_not_know_is_not_talked_to(broker: Broker, tmp_path: Path) -> None:
    security.prepare(tmp_path)
    said = outcome(
        {**broker.client_config("fsp"), "ssl.ca.location": str(tmp_path / "security" / "ca.pem")}, "inbox-of-fsp"
    )
    assert "delivered" not in said
    assert "_SSL" in said


def test_the_controller_listens_to_nobody_without_our_certificate(broker: Broker) -> None:
    """TLS 1.3 reports a missing client certificate on the first read."""
    settings = (broker.data_dir / "server.properties").read_text()
    port = int(settings.split("CONTROLLER://127.0.0.1:")[1].split()[0])
    stranger = ssl.create_default_context(cafile=str(broker.data_dir / "security" / "ca.pem"))
    with socket.create_connection(("127.0.0.1", port), timeout=10) as tcp, pytest.raises(ssl.SSLError):
        stranger.wrap_socket(tcp, server_hostname="127.0.0.1").recv(1)
    ours = ssl.create_default_context(cafile=str(broker.data_dir / "security" / "ca.pem"))
    ours.load_cert_chain(broker.data_dir / "security" / "broker.pem")
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as tcp,
        ours.wrap_socket(tcp, server_hostname="127.0.0.1") as tls,
    ):
        tls.settimeout(1)
        with pytest.raises(TimeoutError):
            tls.recv(1)  # it waits for our request


def test_the_properties_file_is_what_the_services_take(broker: Broker) -> None:
    connection = Connection.of(broker.bootstrap, security.properties_file(broker.data_dir, "fsp"))
    assert outcome({"bootstrap.servers": broker.bootstrap, **connection.security}, "inbox-of-fsp") == {"delivered"}


def test_aiokafka_gets_in_by_the_same_password_file(broker: Broker) -> None:
    async def send() -> None:
        known = Connection(broker.bootstrap, security.client_config(broker.data_dir, "fsp")).for_aiokafka()
        async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap, **known) as producer:
            await producer.send_and_wait("inbox-of-fsp", b"by aiokafka")

    asyncio.run(send())
    stored = Stored(Connection(broker.bootstrap, security.client_config(broker.data_dir, security.ADMIN)))
    try:
        *_, last = stored.inputs(("inbox-of-fsp", 0), 0)
    finally:
        stored.close()
    assert last.value == b"by aiokafka"
    assert stored.ends == {("inbox-of-fsp", 0): last.offset + 1}


def test_a_rotated_password_ends_the_old_one_and_a_removed_principal_is_a_stranger(broker: Broker) -> None:
    broker.add_users("leaver")
    old = broker.client_config("leaver")
    broker.add_users("leaver", rotate=True)
    new = broker.client_config("leaver")
    assert "_AUTHENTICATION" in outcome(old, "inbox-of-fsp")
    assert "TOPIC_AUTHORIZATION_FAILED" in outcome(new, "inbox-of-fsp"), "known, but without rights"

    security.remove_users(broker.data_dir, broker.bootstrap, ["leaver"])
    assert "_AUTHENTICATION" in outcome(new, "inbox-of-fsp")
    with pytest.raises(EnvironmentProblem, match="no password for leaver"):
        broker.client_config("leaver")


def test_users_are_made_changed_and_removed_by_command(broker: Broker) -> None:
    def user(*words: str) -> Result:
        return CliRunner().invoke(command, ["user", "guest", *words, "--data-dir", str(broker.data_dir)])

    path = Path(user().stdout.strip())
    first = path.read_text()
    assert "sasl.username=guest" in first
    assert Path(user().stdout.strip()).read_text() == first
    assert Path(user("--rotate").stdout.strip()).read_text() != first
    assert user("--remove").exit_code == 0
    assert not path.exists()
    again = user("--remove")
    assert (again.exit_code, "no principal 'guest'" in again.output) == (2, True), "a slip in a name is told"
    assert user("--rotate", "--remove").exit_code == 2
    kept = CliRunner().invoke(command, ["user", "admin", "--remove", "--data-dir", str(broker.data_dir)])
    assert (kept.exit_code, "cannot be removed" in kept.output) == (2, True)


@pytest.mark.parametrize("name", ["admin", "broker", "../ca", "A", ""])
def test_names_that_would_overwrite_something_are_refused(broker: Broker, name: str) -> None:
    with pytest.raises(ValueError, match="cannot be a principal"):
        broker.add_users(name)


def test_secrets_are_for_their_owner_only_and_in_no_log_or_process_list(broker: Broker) -> None:
    files = [path for path in (broker.data_dir / "security").rglob("*") if path.is_file()]
    private = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [*files, broker.data_dir / "server.properties"]}
    assert {
        "ca.key",
        "broker.pem",
        "admin.properties",
        "broker.properties",
        "fsp.properties",
        "server.properties",
    } <= private.keys()
    assert set(private.values()) == {0o600}
    assert {path.name for path in files}.isdisjoint({"format.args"})

    passwords = [broker.client_config(name)["sasl.password"] for name in ("admin", "broker", "fsp", "dso")]
    pid = broker.status().pid
    assert pid is not None
    public = " ".join(psutil.Process(pid).cmdline())
    public += "".join(path.read_text(errors="replace") for path in (broker.data_dir / "log").iterdir())
    assert [p for p in passwords if p in public] == []


def test_a_secure_directory_is_never_started_plain(broker: Broker) -> None:
    with pytest.raises(EnvironmentProblem, match="was made secure and cannot be started plain"):
        Broker(broker.data_dir).start()


def test_rights_and_users_survive_kill_9(broker: Broker) -> None:
    broker.kill()
    broker.start()
    assert outcome(broker.client_config("fsp"), "inbox-of-fsp") == {"delivered"}
    assert "TOPIC_AUTHORIZATION_FAILED" in outcome(broker.client_config("fsp"), "inbox-of-dso")


def test_a_broker_starts_again_after_a_user_was_removed(tmp_path: Path) -> None:
    """Kafka reads `u` before `admin` and `broker` (hash order), and loses these if `u` is a deleted user then."""
    broker = Broker(tmp_path, secure=True)
    try:
        broker.start()
        broker.add_users("u")
        left = broker.client_config("u")
        assert security.remove_users(tmp_path, broker.bootstrap, ["u"]) == ["u"]
        broker.stop()
        broker.start()
        assert "_AUTHENTICATION" in outcome(left, "any")
        broker.add_users("u")
        assert "_AUTHENTICATION" in outcome(left, "any"), "who gets the name again has another password"
        assert "_AUTHENTICATION" not in outcome(broker.client_config("u"), "any")
    finally:
        broker.kill()


def test_a_copy_of_a_stopped_broker_is_a_back_up_of_all_of_it(broker: Broker, tmp_path: Path) -> None:
    """Topics, records, users, rights and keys come back at another place, while the original runs on."""
    assert outcome(broker.client_config("fsp"), "inbox-of-fsp") == {"delivered"}
    before = end_of(broker, "inbox-of-fsp")
    broker.stop()
    shutil.copytree(broker.data_dir, tmp_path / "copy")
    broker.start()

    copy = Broker(tmp_path / "copy", secure=True)
    try:
        copy.start()
        assert copy.bootstrap != broker.bootstrap
        assert end_of(copy, "inbox-of-fsp") == before > 0
        client = copy.client_config("fsp")
        assert client["ssl.ca.location"] == str(tmp_path / "copy" / "security" / "ca.pem")
        assert outcome(client, "inbox-of-fsp") == {"delivered"}
        assert "TOPIC_AUTHORIZATION_FAILED" in outcome(client, "inbox-of-dso")
        assert end_of(broker, "inbox-of-fsp") == before
    finally:
        copy.kill()


def test_a_certificate_about_to_expire_is_renewed_by_the_same_authority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(security, "CERTIFICATE_DAYS", security.RENEW_DAYS - 1)
    security.prepare(tmp_path)
    authority, short = ((tmp_path / "security" / name).read_bytes() for name in ("ca.pem", "broker.pem"))
    monkeypatch.undo()
    security.prepare(tmp_path)
    assert (tmp_path / "security" / "ca.pem").read_bytes() == authority
    renewed = x509.load_pem_x509_certificates((tmp_path / "security" / "broker.pem").read_bytes())
    assert renewed[0].not_valid_after_utc > x509.load_pem_x509_certificates(short)[0].not_valid_after_utc
    renewed[0].verify_directly_issued_by(renewed[1])
    again = (tmp_path / "security" / "broker.pem").read_bytes()
    security.prepare(tmp_path)
    assert (tmp_path / "security" / "broker.pem").read_bytes() == again, "a good one is kept"
