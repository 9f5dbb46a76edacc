"""A party that writes batches as no honest client makes them keeps nobody from reading, itself included."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from flexbus.cli.rejections import command as rejections_command
from flexbus.topics import inbox, read_log
from tests.crafted import GZIP, STRANGE, A, crafted, post, record
from tests.integration.access.bus import OTHER, Bus, logged, secured_bus
from tests.integration.core import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(600)]

BOMB = crafted(A, codec=GZIP, packed=gzip.compress(record(0, bytes(50_000_000)), 1))
ABORTS = STRANGE["nothing before its records"]  # librdkafka ends the process that reads it
STANDS = STRANGE["a key of less than nothing"]  # librdkafka goes no further, and does not say so


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bus]:
    """A bus of its own: other tests read all topics by librdkafka, which would end them."""
    with secured_bus(tmp_path_factory.mktemp("strange")) as bus:
        yield bus


def test_it_finds_all_that_was_refused_of_it(bus: Bus, tmp_path: Path) -> None:
    def rejections(*arguments: str) -> Any:
        connected = ["--bootstrap", bus.broker.bootstrap, "--kafka-properties", str(bus.made.properties[OTHER])]
        return CliRunner().invoke(rejections_command, [*arguments, *connected], standalone_mode=False)

    def listed() -> list[dict[str, Any]]:
        done = rejections("list", "--json")
        assert done.exception is None, done.exception
        found = [json.loads(line) for line in done.stdout.splitlines()]
        return [r for r in found if r["inbox"]["partition"] == 1]

    first = STRANGE["an offset far away"]  # here the sequencer is a thread of the tests, which the others would end
    for sent in ((first,), (BOMB, ABORTS, STANDS, crafted(A))):
        wanted = len(listed()) + len(sent)
        assert not any(post(bus.made.connection(OTHER), *((inbox(OTHER), 1, batch) for batch in sent)))
        eventually(lambda n=wanted: len(listed()) == n, 90, "not all is listed")
    for found, batch in zip(listed(), (first, *sent), strict=True):
        out = tmp_path / "original"
        shown = json.loads(rejections("show", found["rejection_id"], "--out", str(out)).stdout)
        whole = "TOO_LARGE" in {f["code"] for f in found["faults"]}
        assert whole == (batch != crafted(A))
        assert shown["original_bytes"] == out.stat().st_size
        if whole:
            assert out.read_bytes()[61:] == batch[61:], "all of it but for what the broker writes at its head"
            refused = rejections("resend", found["rejection_id"])
            assert isinstance(refused.exception, click.UsageError)


def test_the_logs_of_all_reads_are_told(bus: Bus) -> None:
    reader, topic = bus.made.connection(OTHER), read_log(OTHER)
    assert not any(post(reader, *((topic, 0, batch) for batch in (ABORTS, STANDS, crafted(A)))))
    found = logged(bus, "--reader", OTHER)
    assert [r["mark"] for r in found][-3:] == ["unreadable"] * 3
    assert {r["writer"] for r in logged(bus)} > {OTHER}
