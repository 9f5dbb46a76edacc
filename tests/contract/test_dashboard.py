"""Every query of the dashboard returns figures from a real Prometheus that scrapes the running services."""

import json
import math
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from flexbus import events as ev
from flexbus.client import Client
from flexbus.events import Verdict
from flexbus.quantities import Direction
from streams.broker import free_port
from streams.clock import Ticker
from streams.kafka import Connection
from streams.monitor import notes
from streams.services import SERVICES
from streams.supervisor import Supervisor
from tests import market
from tests.contract.test_deployment import DOCKER, dns_name, tool
from tests.integration import core

DASHBOARD = DOCKER / "grafana" / "dashboards" / "flexbus.json"
AREAS = ("north", "south")
TOKEN = "metrics.token"


def panels() -> Iterator[dict[str, Any]]:
    for row in json.loads(DASHBOARD.read_text())["panels"]:
        yield from row.get("panels") or ([row] if row["type"] != "row" else [])


QUERIES = {f"{p['title']} {t['refId']}": t["expr"] for p in panels() for t in p["targets"]}


def test_the_dashboard_is_what_its_script_makes() -> None:
    script = DOCKER / "grafana" / "dashboard.py"
    made = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout
    assert made == DASHBOARD.read_text(), "run docker/grafana/dashboard.py again"


def test_it_shows_requests_procurement_and_forecasts() -> None:
    """HEDGE-28."""
    assert len(QUERIES) == sum(len(p["targets"]) for p in panels()), "each query has a name of its own"
    shown = " ".join(QUERIES.values())
    for metric in ("hedge_requests_total", "hedge_procured_ratio", "hedge_forecast_age_seconds", "hedge_need_watts"):
        assert metric in shown


def test_every_panel_explains_itself_and_reads_the_provisioned_source() -> None:
    source = yaml.safe_load((DOCKER / "grafana/provisioning/datasources/prometheus.yaml").read_text())
    uid = source["datasources"][0]["uid"]
    for panel in panels():
        assert panel["description"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert {t["datasource"]["uid"] for t in panel["targets"]} == {uid}


def test_anonymous_users_are_asked_to_log_in() -> None:
    """HEDGE T-GF-4, as far as the configuration says it."""
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    assert compose["services"]["grafana"]["environment"]["GF_AUTH_ANONYMOUS_ENABLED"] == "false"


@pytest.mark.parametrize("expression", QUERIES.values(), ids=QUERIES)
def test_a_query_parses(expression: str) -> None:
    promql_parser.parse(expression.replace("$area", ".*"))


@dataclass(frozen=True)
class Prometheus:
    url: str

    def ask(self, expression: str) -> list[tuple[dict[str, str], float]]:
        query = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"{self.url}/api/v1/query?{query}", timeout=10) as answer:
            found = json.load(answer)["data"]["result"]
        return [(one["metric"], float(one["value"][1])) for one in found]

    def until(self, expression: str, least: int = 1, within_s: float = 60.0) -> list[tuple[dict[str, str], float]]:
        """Return the series of a query, once there are so many and all are numbers: areas come one after the other."""
        deadline = time.monotonic() + within_s
        while True:
            found = self.ask(expression)
            if len(found) >= least and not any(math.isnan(value) for _, value in found):
                return found
            assert time.monotonic() < deadline, f"{expression} still gives {found}"
            time.sleep(0.5)


def targets(run_dir: Path) -> list[dict[str, Any]]:
    return [
        {"targets": [f"127.0.0.1:{n.port}"], "labels": {"service": dns_name(n.service)}}
        for n in notes(run_dir)
        if n.service in SERVICES
    ]


def start_prometheus(folder: Path, run_dir: Path) -> tuple[subprocess.Popen[bytes], Prometheus]:
    """The shipped configuration; only where processes and token are, and how often is asked, is of the test."""
    config = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    (scrape,) = config["scrape_configs"]
    del scrape["dns_sd_configs"], scrape["relabel_configs"]
    scrape["static_configs"] = targets(run_dir)
    scrape["authorization"]["credentials_file"] = str(folder / TOKEN)
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    shutil.copy(DOCKER / "prometheus" / "rules.yml", folder)
    port = free_port()
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [
                tool("prometheus"),
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 30
    while True:
        assert process.poll() is None, (folder / "log.txt").read_text()[-2000:]
        assert time.monotonic() < deadline
        try:
            urllib.request.urlopen(f"{url}/-/ready", timeout=1).close()
            return process, Prometheus(url)
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)


def seen(connection: Connection, kind: str, area: str) -> int:
    blocks = core.chains(connection).get(area, [])
    return sum(e.event_type == kind for b in blocks for e in b.entries)


def send(connection: Connection, party: str, *events: Any) -> None:
    with Client(connection.bootstrap, party) as client:
        verdicts = client.send_all(list(events))
    assert {v.verdict for v in verdicts} == {Verdict.ACCEPTED}, verdicts


def found(connection: Connection, area: str) -> None:
    """Open an area up to its scheduled session, of a product that makes requests from forecasts."""
    for party, event in core.founding(area):
        if isinstance(event, ev.MarketProductDefined):
            event = replace(event, request_max_price_milli_per_mwh=200_000)
        if party != "scheduler":
            send(connection, party, event)


def forecast(area: str) -> ev.CongestionForecastReceived:
    """Export over transformer T1: 400 kW where 300 kW are allowed, in the first four quarter-hours."""
    return ev.CongestionForecastReceived(
        area_id=area,
        forecast_id=f"f-{area}",
        revision=1,
        session_id=market.SESSION,
        element_id="T1",
        kind=ev.CongestionKind.THERMAL,
        issued_at_ms=market.START - 14 * market.HOUR,
        start_ms=market.START,
        resolution_s=900,
        flow_w=(400_000,) * 4 + (0,) * 92,
        limit_import_w=300_000,
        limit_export_w=300_000,
    )


def injections(area: str) -> ev.NetForecastPublished:
    """What the buses feed in: 200 kW at each of the two points that can be curtailed."""
    return ev.NetForecastPublished(
        area_id=area,
        forecast_id=f"n-{area}",
        revision=1,
        network_id="grid",
        issued_at_ms=market.START - 15 * market.HOUR,
        start_ms=market.START,
        resolution_s=900,
        injections=tuple(
            ev.BusInjection(bus_id=bus, power_w=(200_000,) * 96, reactive_power_var=(0,) * 96) for bus in ("B1", "B3")
        ),
    )


def tell(connection: Connection, area: str) -> None:
    """An area's story while the gate is open: forecasts, offers, and a request that cannot be."""
    send(connection, core.DSO, injections(area), forecast(area))
    for fsp, point in ((core.FSP_A, "GCP-1"), (core.FSP_B, "GCP-3")):
        offer = market.submitted(f"o-{area}-{fsp}", fsp, point, direction=Direction.DOWN, slots=8)
        send(connection, fsp, core.in_area(offer, area))
    wrong = ev.FlexRequestSubmitted(area_id=area, request=market.request(f"w-{area}", power_w=(-5,)))
    with Client(connection.bootstrap, core.DSO) as client:
        assert client.send(wrong).verdict is Verdict.REJECTED
    core.eventually(lambda: seen(connection, "FlexRequestSubmitted", area) > 0, what="no request from the forecast")


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus beside a bus with all its services, after two areas' gates have closed and the markets cleared."""
    folder = tmp_path_factory.mktemp("dashboard")
    with core.own_kafka(folder / "kafka") as connection:
        ticker = Ticker(connection)
        ticker.tick(market.START - 20 * market.HOUR)
        (folder / TOKEN).write_text("a-token-for-the-market\n")
        supervisor = Supervisor(connection, folder / "run", clock="played", metrics_token=folder / TOKEN)
        supervisor.start()
        scraper = None
        try:
            supervisor.wait_ready()
            scraper, prometheus = start_prometheus(folder, folder / "run")
            for area in AREAS:
                found(connection, area)
            ticker.tick(market.START - 14 * market.HOUR)
            core.eventually(lambda: all(seen(connection, "GateOpened", a) for a in AREAS), what="no gate opened")
            for area in AREAS:
                tell(connection, area)
            ticker.tick(market.START - 12 * market.HOUR)
            core.eventually(lambda: all(seen(connection, "MarketCleared", a) for a in AREAS), what="not cleared")
            yield prometheus
        finally:
            if scraper is not None:
                scraper.kill()
                scraper.wait()
            supervisor.stop()
            ticker.close()


pytestmark = pytest.mark.timeout(400)


@pytest.mark.kafka
@pytest.mark.parametrize("expression", QUERIES.values(), ids=QUERIES)
def test_a_query_returns_figures(prometheus: Prometheus, expression: str) -> None:
    prometheus.until(expression.replace("$area", ".*"))


@pytest.mark.kafka
def test_every_service_is_scraped_and_the_chain_counts_as_up(prometheus: Prometheus) -> None:
    every = {dns_name(s) for s in SERVICES}
    # The first scrape of the last service may come a turn after that of the others.
    prometheus.until(f'count(up{{job="flexbus"}} == 1) == {len(every)}')
    assert {m["service"] for m, _ in prometheus.until('up{job="flexbus"} == 1')} == every
    # It is told as down until the first scrapes of all services are in.
    assert prometheus.until('hedge_up{service=""} == 1') == [({"__name__": "hedge_up"}, 1.0)]


@pytest.mark.kafka
def test_the_figures_are_those_of_the_story(prometheus: Prometheus) -> None:
    """Need of T1: 400 kW - 300 kW * 98 % = 106 kW against export, in both areas."""
    need = {(m["area"], m["direction"]): v for m, v in prometheus.until("hedge_need_watts", len(AREAS))}
    assert need == {(area, "DOWN"): 106_000 for area in AREAS}
    asked = {m["area"]: v for m, v in prometheus.until('hedge_requests_total{state="SUBMITTED"}', len(AREAS))}
    assert asked == dict.fromkeys(AREAS, 1)
    ages = {m["area"]: v for m, v in prometheus.until("hedge_forecast_age_seconds", len(AREAS))}
    assert ages == dict.fromkeys(AREAS, 2 * 3600), "by the played day's clock"
    refused = {m["code"]: v for m, v in prometheus.until("sum by (code) (hedge_rejections_total)")}
    assert sum(refused.values()) >= len(AREAS)
    procured = {m["area"]: v for m, v in prometheus.until("hedge_procured_ratio == 1", len(AREAS))}
    assert procured == dict.fromkeys(AREAS, 1.0)
    prices = {
        (m["area"], m["direction"]): v for m, v in prometheus.until("hedge_market_price_milli_per_mwh", len(AREAS))
    }
    assert prices == {(area, "DOWN"): pytest.approx(40_000, rel=0.01) for area in AREAS}, "what was bid, and losses"


@pytest.mark.kafka
def test_nobody_else_is_told_the_figures(prometheus: Prometheus) -> None:
    """Prometheus has them by its token, from the same processes that tell others of themselves alone."""
    instances = {m["instance"] for m, _ in prometheus.until('up{job="flexbus"} == 1')}
    for instance in instances:
        with urllib.request.urlopen(f"http://{instance}/metrics", timeout=10) as answer:
            told = answer.read().decode()
        assert "process_resident_memory_bytes" in told
        assert not re.search(r"^hedge_(?!up)|area=|kind=", told, re.M), instance
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(
                urllib.request.Request(f"http://{instance}/metrics", headers={"Authorization": "Bearer guess"}),
                timeout=10,
            )


def test_metrics_that_queries_name_are_defined_in_the_code() -> None:
    """An unknown metric is no error for Prometheus, so a typing mistake would show as an empty panel."""
    root = DOCKER.parent
    code = " ".join(p.read_text() for p in (root / "streams").rglob("*.py"))
    rules = (DOCKER / "prometheus" / "rules.yml").read_text()
    for expression in QUERIES.values():
        for metric in set(re.findall(r"\b(?:hedge|flexbus)_\w+", expression)):
            stem = re.sub(r"_(total|bucket)$", "", metric)
            assert f'"{stem}"' in code or f"record: {metric}" in rules, metric
