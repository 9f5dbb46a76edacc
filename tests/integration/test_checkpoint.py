"""Checkpoints: used when the journal confirms them, refused aloud when not, and the same comes out either way."""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from flexbus.client import Client
from flexbus.events import Verdict
from streams.digest import state_digest
from tests.integration import core
from tests.integration.bus import Bus, running_bus, wait_for
from tests.integration.core import FSP_A
from tests.integration.test_stage import Worker, owed, told, working
from tests.integration.toy_stage import CHECKPOINT_EVERY

pytestmark = pytest.mark.kafka
BEGINNING = "reading the journal from its beginning"
CONFIRMED = "confirmed by the journal"


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bus]:
    with running_bus(tmp_path_factory.mktemp("checkpoint")) as (bus, _):
        yield bus


def checkpoints(folder: Path) -> list[Path]:
    return sorted((folder / "checkpoints").glob("*.checkpoint"))


def wait_for_another(folder: Path, damaged: list[bytes]) -> None:
    wait_for(lambda: [p.read_bytes() for p in checkpoints(folder)] not in (damaged, []))


def changed(path: Path, change: Callable[[list[Any]], None]) -> None:
    """Change a checkpoint's content and make its SHA-256 fit again."""
    lines = [json.loads(line) for line in path.read_bytes().splitlines()[:-1]]
    change(lines)
    text = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    path.write_bytes(text + hashlib.sha256(text).hexdigest().encode())


def other_hash(lines: list[Any]) -> None:
    lines[-1]["hash"] = bytes(32).hex()


def other_code(lines: list[Any]) -> None:
    lines[0]["code"] = "older"


def beyond_the_end(lines: list[Any]) -> None:
    lines[0]["next_offset"] = 10**9


def a_function_of_the_system(lines: list[Any]) -> None:
    lines[-1]["classes"][0] = "os:system"


def ask_and_hear(bus: Bus, area: str, first: int, worker: Worker) -> None:
    for number in range(first, first + 2 * CHECKPOINT_EVERY):
        bus.ask(area, f"r{number}")
    bus.flush()
    digest = state_digest([f"r{n}" for n in range(first + 2 * CHECKPOINT_EVERY)])
    wait_for(lambda: worker.get(f"digest/{area}").get("digest") == digest)
    # What is owed is known once all is in the journal; jobs tell it some time after the fold.
    wait_for(lambda: set(told(bus, area)) >= owed(bus, area))


def test_a_stage_goes_on_from_its_checkpoint_and_says_why_not(bus: Bus, tmp_path: Path) -> None:
    faults: list[tuple[Callable[[Path], object], str]] = [
        (lambda path: None, CONFIRMED),
        (lambda path: path.unlink(), "has no checkpoint"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "its SHA-256 is another"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b"r1", b"r2", 1)), "its SHA-256 is another"),
        (lambda path: path.write_bytes(b""), "its SHA-256 is another"),
        (lambda path: changed(path, other_hash), "the journal has another block"),
        (lambda path: changed(path, other_code), "another version of the code"),
        (lambda path: changed(path, beyond_the_end), "the journal only to"),
        (lambda path: changed(path, a_function_of_the_system), "os:system is of none of the packages"),
    ]
    damaged: list[bytes] = []
    with working(bus, tmp_path) as (worker,):
        for number, (damage, said) in enumerate(faults):
            ask_and_hear(bus, "kept", number * 2 * CHECKPOINT_EVERY, worker)
            wait_for_another(tmp_path, damaged)
            worker.kill()
            (path,) = checkpoints(tmp_path)
            assert path.stat().st_mode & 0o077 == 0
            damage(path)
            damaged = [p.read_bytes() for p in checkpoints(tmp_path)]
            before = len(worker.log.read_text())
            worker.restart()
            wait_for(lambda: worker.get("health").get("assigned"))  # ready it may be before it has a partition
            log = worker.log.read_text()[before:]
            assert said in log
            assert (log.count(CONFIRMED), log.count(BEGINNING)) == ((1, 2) if said == CONFIRMED else (0, 3))
        ask_and_hear(bus, "kept", len(faults) * 2 * CHECKPOINT_EVERY, worker)
    assert sorted(told(bus, "kept")) == sorted(owed(bus, "kept"))


def test_a_sequencer_knows_from_its_checkpoint_what_it_has_seen(tmp_path: Path) -> None:
    area, log = "north", tmp_path / "log"
    with core.own_kafka(tmp_path / "broker") as connection:
        command = [sys.executable, "-m", "flexbus.cli", "run", "sequencer", "--bootstrap", connection.bootstrap]
        command += ["--run-dir", str(tmp_path), "--checkpoint-every", "20"]
        with core.Worker("sequencer", connection, command=command, log=log) as worker:
            core.open_gates(connection, [area])
            with Client(connection.bootstrap, FSP_A) as client:
                ids = [str(uuid4()) for _ in range(60)]
                offers = [core.offer_of(n, area) for n in range(60)]
                for offer, event_id in zip(offers, ids, strict=True):
                    client.post(offer, event_id=event_id)
                wait_for(lambda: len(checkpoints(tmp_path)) == 1)
                assert client.send(core.offer_of(60, area)).verdict is Verdict.ACCEPTED
                worker.kill()
                again = [client.send(o, event_id=i).verdict for o, i in zip(offers, ids, strict=True)]
                assert set(again) == {Verdict.DUPLICATE}
                assert client.send(core.offer_of(61, area), event_id=ids[0]).verdict is Verdict.REJECTED
                assert client.send(core.offer_of(60, area)).verdict is Verdict.REJECTED  # the offer's id is taken
                assert client.send(core.offer_of(62, area)).verdict is Verdict.ACCEPTED
        assert log.read_text().count(CONFIRMED) == 1
        found = [e.event_id for e in core.entries(connection)]
        assert len(found) == len(set(found)) == len(core.founding(area)) + 62
