"""The page of the secured bus."""

import base64
import json
import queue
import threading
import urllib.error
import urllib.request
from typing import Any

from streams.page.readers import token_file
from streams.page.server import PageConfig
from streams.page.server import run as run_page
from tests.integration.access.bus import Bus


class Page:
    """The page server in a thread, as the monitor's principal."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._stop = threading.Event()
        ready: queue.Queue[str] = queue.Queue()
        connection = bus.made.connection("monitor")
        config = PageConfig(connection=connection, on_ready=ready.put, readers=bus.made.readers)
        self._thread = threading.Thread(target=run_page, args=(config, self._stop))
        self._thread.start()
        self.url = ready.get(timeout=30).rstrip("/")

    def proof(self, party: str, token: str | None = None) -> str:
        """The header by which a party proves itself, with its token or another."""
        known = token or token_file(self._bus.made.readers, party).read_text().split("=", 1)[1].splitlines()[0]
        return "Basic " + base64.b64encode(f"{party}:{known}".encode()).decode()

    def get(self, path: str, party: str | None = None, token: str | None = None) -> tuple[int, Any]:
        headers = {}
        if party is not None:
            headers["Authorization"] = self.proof(party, token)
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url + path, headers=headers), timeout=30) as found:
                text = found.read().decode()
                return found.status, json.loads(text) if text.startswith(("{", "[")) else text
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(20)
        assert not self._thread.is_alive()
