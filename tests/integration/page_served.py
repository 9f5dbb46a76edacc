"""The page as the tests of the page meet it: the real server in a thread, days in a journal, an opened browser."""

import json
import queue
import threading
import time
import urllib.error
import urllib.request
import uuid
from dataclasses import dataclass
from urllib.parse import urlencode

from playwright.sync_api import Page, expect

from flexbus import codec
from flexbus.journal import Block
from flexbus.topics import JOURNAL
from streams.kafka import Connection
from streams.page.server import PageConfig, run


class Served:
    """A page server in a thread."""

    def __init__(self, connection: Connection, port: int = 0) -> None:
        self._stop = threading.Event()
        ready: queue.Queue[str] = queue.Queue()
        config = PageConfig(connection=connection, port=port, on_ready=ready.put)
        self._thread = threading.Thread(target=run, args=(config, self._stop))
        self._thread.start()
        self.url = ready.get(timeout=20)
        self.port = int(self.url.rsplit(":", 1)[1].strip("/"))

    def get(self, path: str, **headers: str) -> tuple[int, str, dict[str, str]]:
        request = urllib.request.Request(self.url.rstrip("/") + path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode(), dict(answer.headers)
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(), dict(error.headers)

    def wait_for(self, area: str, entries: int) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            state = json.loads(self.get(f"/state?{urlencode({'area': area})}")[1])
            if state["sections"].get("chain", {}).get("chain", {}).get("entries", 0) >= entries:
                return
            time.sleep(0.05)
        raise AssertionError(f"the page has not read {entries} entries of {area}")

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=20)
        assert not self._thread.is_alive()


def write(connection: Connection, chain: list[Block], commit: bool = True) -> None:
    """Write blocks as the sequencer does: in one transaction."""
    producer = connection.transactional_producer(f"page-test-{uuid.uuid4()}")
    producer.init_transactions(30)
    producer.begin_transaction()
    for block in chain:
        producer.produce(JOURNAL, codec.encode(block), key=block.area_id.encode(), partition=0)
    if commit:
        producer.commit_transaction(30)
    else:
        producer.flush(30)
        producer.abort_transaction(30)


@dataclass(frozen=True, slots=True)
class Day:
    """A day in the journal under a name of its own."""

    area: str
    entries: int


def opened(page: Page, served: Served, day: Day, **query: str) -> Page:
    page.goto(f"{served.url}?{urlencode({'area': day.area, **query})}")
    expect(page.locator("#chain")).to_contain_text("chain verified", timeout=15_000)
    return page
