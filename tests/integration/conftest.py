"""What the tests of the page share: a day in the journal, the server that shows it, headless Chromium."""

import shutil
import uuid
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from flexbus import codec
from flexbus.topics import CLOCK, REJECTIONS
from streams.clock import tick_bytes
from streams.kafka import Connection
from streams.topics import create_topics
from tests.conftest import RunningKafka
from tests.integration.page_served import Day, Served, write
from tests.page_day import NOON, blocks, history, rejections


@pytest.fixture(scope="module")
def connection(kafka: RunningKafka) -> Connection:
    connection = Connection(kafka.bootstrap)
    create_topics(connection, ["page-test"], None)
    return connection


@pytest.fixture(scope="module")
def day(connection: Connection) -> Day:
    area = f"valley-{uuid.uuid4().hex[:8]}"
    events = history()
    chain = blocks(events, area_id=area)
    # A sequencer died half-way: what it wrote was never committed, and the page must not show it.
    write(connection, blocks(events[:9], size=9, area_id=area), commit=False)
    write(connection, chain)
    producer = connection.producer()
    for rejection in rejections():
        producer.produce(REJECTIONS, codec.encode(rejection), partition=0)
    producer.produce(CLOCK, tick_bytes(NOON), key=b"market", partition=0)
    producer.flush(10)
    return Day(area, len(events))


@pytest.fixture(scope="module")
def served(connection: Connection, day: Day) -> Iterator[Served]:
    server = Served(connection)
    server.wait_for(day.area, day.entries)
    yield server
    server.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert path, "Chromium is missing; `make tools` installs it"
    with sync_playwright() as playwright:
        # The container of the tests has no user namespaces, and the page under test is our own.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context(viewport={"width": 1366, "height": 768}, timezone_id="UTC")
    page = context.new_page()
    complaints: list[str] = []
    elsewhere: list[str] = []
    page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda r: None if "//127.0.0.1:" in r.url or r.url == "data:," else elsewhere.append(r.url))
    yield page
    context.close()
    assert [c for c in complaints if "ERR_CONNECTION_REFUSED" not in c and "INCOMPLETE_CHUNKED" not in c] == []
    assert elsewhere == []
