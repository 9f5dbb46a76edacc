"""Kafka's settings say to Java what they say here."""

from pathlib import Path

import pytest

from flexbus.errors import EnvironmentProblem
from streams.broker import Broker
from streams.broker_settings import as_java_properties


def test_a_path_beyond_ascii_is_written_as_escapes_that_java_reads() -> None:
    assert as_java_properties({"log.dirs": "/k \u00fc/\U0001f50c", "port": 1}) == (
        "log.dirs=/k \\u00fc/\\ud83d\\udd0c\nport=1\n"
    )


def test_a_backslash_stays_one() -> None:
    assert as_java_properties({"log.dirs": "/a\\b"}) == "log.dirs=/a\\\\b\n"


def test_a_directory_that_kafka_would_part_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="comma"):
        Broker(tmp_path / "a,b").start()
    assert not list(tmp_path.iterdir())
