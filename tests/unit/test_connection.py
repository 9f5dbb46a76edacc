"""What a person reads whose Kafka settings are wrong."""

from pathlib import Path

import pytest

from flexbus.errors import EnvironmentProblem
from streams.kafka import Connection


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("security.protocol=nonsense", "security.protocol"),
        ("no.such.setting=1", "no.such.setting"),
        ("justtext", "justtext"),
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


def test_properties_that_are_no_text_are_a_problem_that_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "kafka.properties"
    file.write_bytes(b"\xff\xfe=\x00")
    with pytest.raises(EnvironmentProblem, match=r"kafka\.properties"):
        Connection.of("127.0.0.1:1", file)
