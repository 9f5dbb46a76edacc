"""What a process says about itself, without a socket in between."""

import json
import os
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from streams.monitor import Monitor, ServiceNote, notes


def get(monitor: Monitor, path: str, authorization: str | None = None) -> tuple[int, Any]:
    status, kind, body = monitor.answer(path, authorization)
    return status, json.loads(body) if kind == "application/json" else body.decode()


def samples(monitor: Monitor) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(get(monitor, "/metrics")[1])
    return {(s.name, frozenset(s.labels.items())): s.value for f in families for s in f.samples}


def test_health_tells_ready_assigned_and_what_failed() -> None:
    monitor = Monitor("clearing")
    status, health = get(monitor, "/health")
    assert (status, health["ready"], health["assigned"]) == (200, False, [])
    monitor.ready([0, 2])
    monitor.fault("a computation failed")
    health = get(monitor, "/health?verbose")[1]
    assert (health["ready"], health["assigned"], health["faults"]) == (True, [0, 2], 1)
    assert health["note"] == "a computation failed"
    assert health["pid"] == os.getpid()


def test_metrics_are_those_of_the_process_alone() -> None:
    one, two = Monitor("aggregation"), Monitor("aggregation")
    one.events.labels("aggregation", "GateClosed", "north").inc(3)
    labels = frozenset({("service", "aggregation"), ("kind", "GateClosed"), ("area", "north")})
    assert samples(one)[("flexbus_events_total", labels)] == 3
    assert ("flexbus_events_total", labels) not in samples(two)


def test_pages_are_json_and_what_is_not_there_says_what_is() -> None:
    monitor = Monitor("settlement")
    monitor.page("view", lambda area: {"area": area} if area == "north" else None)
    assert get(monitor, "/view/north") == (200, {"area": "north"})
    status, body = get(monitor, "/view/south")
    assert status == 404
    assert {"metrics", "health", "view"} <= set(body["pages"])
    assert get(monitor, "/nonsense")[0] == 404


def test_progress_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    monitor = Monitor("activation")
    now_s += 7.0
    assert monitor.idle_s() == 7.0
    monitor.progress()
    assert monitor.idle_s() == 0.0


def test_a_note_names_the_process_and_not_another_with_its_number(tmp_path: Path) -> None:
    own = psutil.Process()
    alive = ServiceNote(service="x", slot=0, pid=own.pid, port=1, started=own.create_time())
    reused = ServiceNote(service="x", slot=0, pid=own.pid, port=1, started=own.create_time() - 100)
    corrected = ServiceNote(service="x", slot=0, pid=own.pid, port=1, started=own.create_time() - 1.0)
    assert alive.process() is not None
    assert corrected.process() is not None  # the clock was set a little, and with it the boot time's whole second
    assert reused.process() is None
    assert notes(tmp_path) == ()
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "x-1.json").write_text("{")
    assert notes(tmp_path) == ()


def test_a_served_monitor_is_noted_and_takes_its_note_away(tmp_path: Path) -> None:
    monitor = Monitor("scheduler", tmp_path, slot=3)
    port = monitor.serve()
    assert [(n.service, n.slot, n.pid, n.port) for n in notes(tmp_path)] == [("scheduler", 3, os.getpid(), port)]
    monitor.close()
    assert notes(tmp_path) == ()
