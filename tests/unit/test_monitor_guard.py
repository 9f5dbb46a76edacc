"""Who has proven nothing learns of the process and nothing of the market, and cannot silence the server."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from prometheus_client import Histogram
from prometheus_client.parser import text_string_to_metric_families

from flexbus.cli.run import command
from flexbus.events import EventRejected
from flexbus.views.figures import Figures
from streams import monitor as module
from streams.figures import MarketFigures
from streams.monitor import Monitor

TOKEN = "the-token-of-who-runs-the-bus"


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "metrics.token"
    path.write_text(TOKEN + "\n")
    return path


class Notes:
    """Where reads are noted, or cannot be."""

    def __init__(self, good: bool = True) -> None:
        self.good = good
        self.found: list[tuple[Any, ...]] = []

    def told(self, what: str, area_id: str = "", token: str | None = None, *, every: bool = False) -> bool:
        self.found.append((what, area_id, token, every))
        return self.good

    def refused(self, what: str) -> None:
        self.found.append((what,))


def told(token: Path | None, reads: Any = None) -> Monitor:
    """A process that has something to tell of everything."""
    monitor = Monitor("clearing", token=token, reads=reads)
    monitor.events.labels("clearing", "FlexOfferSubmitted", "north").inc(3)
    monitor.emissions.labels("clearing", "MarketCleared").inc()
    monitor.pending.labels("clearing", "north").set(2)
    monitor.lag.labels("clearing", 0).set(7)
    monitor.blocks.labels("clearing").inc()
    latency = Histogram("hedge_request_latency_seconds", "x", ("area",), registry=monitor.market)
    figures = MarketFigures(latency)
    figures._areas["north"] = Figures(forecast_issued_at_ms=1)
    figures._areas["north"].requests["SUBMITTED"] = 2
    latency.labels("north").observe(1.0)
    monitor.market.register(figures)
    monitor.page("view", lambda area: {"area_id": area, "total_cents": 5} if area != "nowhere" else None)
    monitor.fault("the clearing of DA in north failed")
    return monitor


def ask(monitor: Monitor, path: str, authorization: str | None = None) -> tuple[int, str]:
    status, _, body = monitor.answer(path, authorization)
    return status, body.decode()


def names(text: str) -> set[str]:
    return {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}


def test_without_the_token_metrics_tell_of_the_process_alone(token: Path) -> None:
    status, text = ask(told(token), "/metrics")
    assert status == 200
    found = names(text)
    assert {"flexbus_consumer_lag", "flexbus_blocks_total", "process_resident_memory_bytes"} <= found
    assert not [name for name in found if name.startswith("hedge_")]
    for word in ("north", "FlexOfferSubmitted", "MarketCleared", "cents"):
        assert word not in text, word


def test_with_the_token_they_tell_everything_and_a_new_token_counts_at_once(token: Path) -> None:
    monitor = told(token)
    whole = names(ask(monitor, "/metrics", f"Bearer {TOKEN}")[1])
    assert {"hedge_requests_total", "hedge_forecast_age_seconds", "flexbus_events_total", "flexbus_pending"} <= whole
    assert whole == names(ask(told(None), "/metrics")[1]), "plain mode tells the same"
    token.write_text("another\n")
    assert ask(monitor, "/metrics", f"Bearer {TOKEN}")[0] == 401
    assert ask(monitor, "/metrics", "Bearer another")[0] == 200


@pytest.mark.parametrize("wrong", [f"Bearer {TOKEN[:-1]}", "Bearer ", "Bearer", f"Basic {TOKEN}", TOKEN, "Bearer é"])
@pytest.mark.parametrize("path", ["/metrics", "/view", "/view/north"])
def test_a_wrong_token_is_refused_and_said(token: Path, wrong: str, path: str) -> None:
    status, text = ask(told(token), path, wrong)
    assert (status, "north" in text) == (401, False)


@pytest.mark.parametrize("content", ["", "\n", None])
def test_an_empty_or_lost_token_opens_nothing(token: Path, content: str | None) -> None:
    monitor = told(token)
    token.unlink() if content is None else token.write_text(content)
    assert ask(monitor, "/view/north", "Bearer ")[0] == 401
    assert ask(monitor, "/view/north")[0] == 401


def test_pages_of_a_stage_need_the_token(token: Path) -> None:
    monitor = told(token)
    for path in ("/view", "/view/north", "//view/north", "/view/?x=metrics"):
        assert ask(monitor, path)[0] == 401, path
    assert json.loads(ask(monitor, "/view/north", f"bearer {TOKEN}")[1]) == {"area_id": "north", "total_cents": 5}


def test_health_says_that_something_failed_and_what_only_with_the_token(token: Path) -> None:
    monitor = told(token)
    health = json.loads(ask(monitor, "/health")[1])
    assert (health["faults"], "note" in health) == (1, False)
    assert "north" in json.loads(ask(monitor, "/health", f"Bearer {TOKEN}")[1])["note"]
    assert ask(monitor, "/ready")[0] == 503


@pytest.mark.parametrize("given", [TOKEN, None])
def test_what_is_told_of_the_market_is_noted_first(token: Path, given: str | None) -> None:
    """With the token; and in plain mode, where nobody is known."""
    notes = Notes()
    monitor = told(token if given else None, notes)
    header = f"Bearer  {given}" if given else None
    for path in ("/metrics", "/metrics?x", "/view", "/view/north", "//view/north/", "/health"):
        assert ask(monitor, path, header)[0] == 200
    once, every = False, True
    assert notes.found == [
        ("/metrics", "", given, once),
        ("/metrics", "", given, once),
        ("/view", "", given, every),
        ("/view/north", "north", given, every),
        ("/view/north", "north", given, every),
        ("/health", "", given, once),
    ]
    assert ask(monitor, "/view/nowhere", header)[0] == 404
    assert ask(monitor, "/ready", header)[0] == 503
    monitor._facts["note"] = ""
    assert ask(monitor, "/health", header)[0] == 200
    assert len(notes.found) == 6, "who is told nothing of the market has read nothing"


def test_who_gives_no_token_is_noted_where_something_is_refused_by_one_of_a_few_names(token: Path) -> None:
    notes = Notes()
    monitor = told(token, notes)
    for path in ("/metrics", "/health", "/ready", "/nonsense"):
        ask(monitor, path)
    assert notes.found == []
    for path in ("/view/north", "/view/south"):
        assert ask(monitor, path)[0] == 401
    for path in ("/metrics", "/health", "/nonsense", "/other/nonsense"):
        assert ask(monitor, path, "Bearer wrong")[0] == 401
    assert notes.found == [(what,) for what in ("/view", "/view", "/metrics", "/health", "/", "/")]


def test_what_cannot_be_noted_is_not_told_and_the_rest_is(token: Path) -> None:
    monitor = told(token, Notes(good=False))
    status, text = ask(monitor, "/metrics", f"Bearer {TOKEN}")
    assert status == 200
    assert "flexbus_consumer_lag" in text
    assert "noted before it is told" in text
    assert names(text) == names(ask(told(token), "/metrics")[1])
    for path in ("/view", "/view/north"):
        status, text = ask(monitor, path, f"Bearer {TOKEN}")
        assert (status, "north" in text, "noted before it is told" in text) == (503, False, True)
    status, text = ask(monitor, "/health", f"Bearer {TOKEN}")
    assert (status, "note" in json.loads(text)) == (200, False)


@pytest.mark.parametrize("service", ["sequencer", "settlement", "monitor"])
def test_beyond_loopback_a_service_wants_a_token_or_to_be_told_that_it_is_guarded(service: str) -> None:
    arguments = [service, "--bootstrap", "127.0.0.1:1", "--listen", "0.0.0.0:0"]
    done = CliRunner().invoke(command, [*arguments, "--page-port", "0", "--page-readers", "."])
    assert done.exit_code == 2
    assert "--metrics-token" in done.output


# --- over a socket


@pytest.fixture
def port(token: Path) -> Iterator[int]:
    monitor = told(token)
    yield monitor.serve()
    monitor.close()


def raw(port: int, *lines: str) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall("\r\n".join((*lines, "", "")).encode())
        found = b""
        while part := connection.recv(65536):
            found += part
    return found.decode()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:9100", 200),
        ("10.1.2.3:9100", 200),
        ("[::1]:9100", 200),
        ("localhost", 200),
        ("traffic-light:9100", 200),
        ("attacker.example:9100", 421),
        ("127.0.0.1.attacker.example", 421),
        ("attacker.example.", 421),
    ],
)
def test_a_foreign_name_that_was_pointed_here_gets_nothing(port: int, host: str, status: int) -> None:
    answer = raw(port, "GET /metrics HTTP/1.1", f"Host: {host}")
    assert answer.split()[1] == str(status)
    assert ("flexbus_blocks_total" in answer) == (status == 200)


def test_nothing_but_get_is_done_and_the_server_does_not_name_its_version(port: int) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert raw(port, f"{method} /metrics HTTP/1.1", "Host: localhost").split()[1] == "501"
    answer = raw(port, "GET /ready HTTP/1.1", "Host: localhost")
    assert "Python" not in answer
    assert "BaseHTTP" not in answer


@pytest.mark.parametrize("header", ["X: " + "a" * 70_000, "\r\n".join(f"X{n}: a" for n in range(200))])
def test_huge_headers_are_refused(port: int, header: str) -> None:
    assert raw(port, "GET /metrics HTTP/1.1", "Host: localhost", header).split()[1] == "431"


def test_connections_that_never_finish_are_cut_and_cost_no_more_than_a_few_threads(
    token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_WITHIN_S", 1.5)
    monitor = told(token)
    port = monitor.serve()
    before = threading.active_count()
    with ExitStack() as stack:
        held: list[Any] = []
        for _ in range(200):
            one = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
            one.sendall(b"GET /metrics HTTP/1.1\r\nX-Slow: ")
            held.append(one)
        time.sleep(0.3)
        assert threading.active_count() - before <= 2 * module._MOST_AT_ONCE + 1
        deadline = time.monotonic() + 10
        answer = ""
        while not answer and time.monotonic() < deadline:
            for one in held:
                with suppress(OSError):
                    one.sendall(b"a")  # a byte now and then does not buy more time
            with suppress(OSError):
                answer = raw(port, "GET /ready HTTP/1.1", "Host: localhost")
            time.sleep(0.1)
    assert answer.startswith("HTTP/1.0 503"), "whoever comes after them is answered"
    monitor.close()


def test_rejections_are_of_the_market(token: Path) -> None:
    """By code and without an area they are as telling where there is one area."""
    from streams.sequencer import _Counts

    monitor = Monitor("sequencer", token=token)
    counts = _Counts(monitor)
    counts._rejections.labels("WRONG_ROLE").inc()
    assert "WRONG_ROLE" not in ask(monitor, "/metrics")[1]
    assert "WRONG_ROLE" in ask(monitor, "/metrics", f"Bearer {TOKEN}")[1]
    assert EventRejected.__name__ not in ask(monitor, "/metrics")[1]
