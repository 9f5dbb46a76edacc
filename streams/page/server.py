"""The local page's server: reads the journal, folds it, and serves the page, its changes and single entries.

It listens on loopback, answers only to its own host name (a foreign page cannot rebind a name to it), sets no
cookies, changes nothing, and sends each browser at most some five bounded updates a second. Given a directory of
readers' tokens it answers only to them, each through its own eyes; every read is logged before it is answered.
"""

import asyncio
import contextlib
import json
import secrets
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from aiohttp import web

from flexbus.errors import EnvironmentProblem
from flexbus.events import EventRejected
from flexbus.journal import Block
from flexbus.topics import CLOCK
from streams.clock import read_tick
from streams.kafka import Connection
from streams.page.connections import Connections
from streams.page.entry import opened
from streams.page.feed import BlockIndex, Feed
from streams.page.gate import OPEN, Gate
from streams.page.metered import refresh_metered
from streams.page.model import (
    PageState,
    changes,
    fold,
    fold_clock,
    fold_rejection,
    search_tail,
    snapshot,
    summary,
    tail_since,
)
from streams.page.read_log import ReadLog
from streams.page.readers import Readers
from streams.page.rows import Lens

__all__ = ["PageConfig", "PageServer", "run"]

UPDATE_EVERY_S = 0.2
HEARTBEAT_S = 10.0
TAIL_AT_ONCE = 300
# A browser can show no more of one kind; a market with more orders than this has its numbers in the sums.
ROWS_AT_ONCE = 3000
BLOCKS_AT_ONCE = 20  # a backlog of large ones must not all be in memory
FOLD_SLICE_S = 0.03
DERIVE_EVERY_S = 1.0
DERIVED_AT_ONCE = 20_000  # meter values in one go: browsers wait for so long

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
STATIC = {
    "index.html": "text/html",
    "style.css": "text/css",
    "app.js": "text/javascript",
    "format.js": "text/javascript",
    "diagram.js": "text/javascript",
    "charts.js": "text/javascript",
    "detail.js": "text/javascript",
    "tables.js": "text/javascript",
    "journal.js": "text/javascript",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PageConfig:
    """How the page is served.

    Attributes:
        connection: the broker.
        host: address to listen on.
        port: port to listen on; 0 = a free one.
        on_ready: called with the page's address once it listens.
        readers: directory of the readers' tokens; None = plain mode, everything is shown to whoever reaches it.
    """

    connection: Connection
    host: str = "127.0.0.1"
    port: int = 0
    on_ready: Callable[[str], None] | None = None
    readers: Path | None = None


def run(config: PageConfig, stop: threading.Event | None = None) -> None:
    """Serve the page until told to stop: by the event, or without one by SIGTERM and Ctrl-C.

    Raises:
        EnvironmentProblem: Kafka cannot be used, or the port is taken.
    """
    asyncio.run(_serve(config, stop))


async def _serve(config: PageConfig, stop: threading.Event | None) -> None:
    server = PageServer(config)
    ended = asyncio.Event()
    if stop is None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await server.start()
    if config.on_ready is not None:
        config.on_ready(server.url)
    try:
        while not ended.is_set() and (stop is None or not stop.is_set()):
            if server.failed is not None:
                raise server.failed
            server.end_idle()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), 0.2)
    finally:
        await server.close()


class PageServer:
    """State, feed and HTTP of one page process."""

    def __init__(self, config: PageConfig) -> None:
        self.config = config
        self.state = PageState()
        self.index = BlockIndex()
        self.feed = Feed(config.connection)
        self._log = ReadLog(config.connection)
        self.gate = Gate(None if config.readers is None else Readers(config.readers), self._log, self.state)
        self.failed: BaseException | None = None
        # Revisions count from zero in every process; a browser of an earlier one must begin anew.
        self.run_id = secrets.token_hex(4)
        self.port = 0
        self.browsers = 0
        self.unreadable: deque[str] = deque(maxlen=20)
        self._derive_at = 0.0
        self._connections = Connections()
        self._closing = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._pump: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://{self.config.host}:{self.port}/"

    async def start(self) -> None:
        """Listen and begin to read.

        Raises:
            EnvironmentProblem: Kafka cannot be used, or the port is taken.
        """
        await asyncio.to_thread(self.feed.open)
        self._runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        self.port = await self._listen(self._runner)
        self._pump = asyncio.create_task(self._read())
        self._pump.add_done_callback(self._note_failure)

    async def _listen(self, runner: web.AppRunner) -> int:
        sock = socket.socket(socket.AF_INET6 if ":" in self.config.host else socket.AF_INET)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((self.config.host, self.config.port))
        except OSError as error:
            sock.close()
            raise EnvironmentProblem(
                f"The page cannot listen on {self.config.host}:{self.config.port} ({error.strerror}): "
                "choose another port, or 0 for a free one."
            ) from error
        await web.SockSite(runner, sock).start()
        return int(sock.getsockname()[1])

    def end_idle(self) -> None:
        """End connections that are held open and ask nothing; call it now and then."""
        if self._runner is not None and self._runner.server is not None:
            self._connections.end_idle(self._runner.server)

    async def close(self) -> None:
        """Stop reading and listening."""
        self._closing.set()
        if self._pump is not None:
            self._pump.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._pump
        if self._runner is not None:
            await self._runner.cleanup()
        await asyncio.to_thread(self.feed.close)
        await asyncio.to_thread(self._log.close)

    def _note_failure(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled():
            self.failed = task.exception()

    async def _read(self) -> None:
        while not self._closing.is_set():
            reading = asyncio.create_task(asyncio.to_thread(self.feed.read, BLOCKS_AT_ONCE, 0.1))
            try:
                found = await asyncio.shield(reading)
            except asyncio.CancelledError:
                await reading  # the consumer must not be closed under a thread that reads from it
                raise
            self._derive()
            begun = time.monotonic()
            for topic, partition, offset, value in found:
                self._take(topic, partition, offset, value)
                if time.monotonic() - begun > FOLD_SLICE_S:  # let browsers be served in between
                    await asyncio.sleep(0)
                    begun = time.monotonic()

    def _derive(self) -> None:
        """Compute what is derived from many entries at once; not often, and for a tenth of the time at most."""
        begun = time.monotonic()
        if begun < self._derive_at:
            return
        # Every area must have its turn, so none is skipped.
        worked = [refresh_metered(area, DERIVED_AT_ONCE) for area in self.state.areas.values()]
        if any(worked):
            ended = time.monotonic()
            self._derive_at = ended + max(DERIVE_EVERY_S, 9 * (ended - begun))

    def _take(self, topic: str, partition: int, offset: int, value: Any) -> None:
        if topic == CLOCK:
            if (market_time_ms := read_tick(value)) is not None:
                fold_clock(self.state, market_time_ms)
        elif isinstance(value, Block):
            self.index.add(value, partition, offset)
            fold(self.state, value)
        elif isinstance(value, EventRejected):
            fold_rejection(self.state, value)
        else:  # only the sequencer may write here, so this is worth an alarm, but no reason to go dark
            self.unreadable.append(f"{topic} partition {partition} offset {offset}: {value}")

    # ---- HTTP

    def _app(self) -> web.Application:
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/", self._page)
        app.router.add_get("/static/{name}", self._static)
        app.router.add_get("/state", self._state)
        app.router.add_get("/events", self._events)
        app.router.add_get("/journal", self._journal)
        app.router.add_get("/entry/{area}/{block:\\d{1,12}}/{index:\\d{1,6}}", self._entry)
        app.router.add_get("/summary", self._summary)
        app.router.add_get("/health", self._health)
        app.router.add_get("/metrics", self._metrics)
        return app

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        allowed = {f"{name}:{self.port}" for name in ("127.0.0.1", "localhost", "[::1]", self.config.host)}
        if request.host not in allowed:
            # Without this a foreign site could point its own name at this address and read the page.
            return web.Response(status=421, text="This page answers to its own address only.\n", headers=HEADERS)
        try:
            if request.path not in OPEN:
                self.gate.recognise(request)
            with self._connections.answering(request):
                response = await handler(request)
        except web.HTTPException as error:
            error.headers.update(HEADERS)
            if request.path not in OPEN and not request.path.startswith("/static/"):
                await self.gate.note(request, error.status)
            raise
        if not response.prepared:
            response.headers.update(HEADERS)
        return response

    async def _page(self, _: web.Request) -> web.Response:
        return _file("index.html")

    async def _static(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in STATIC:
            raise web.HTTPNotFound
        return _file(name)

    async def _state(self, request: web.Request) -> web.Response:
        area, lens = self.gate.asked(request)
        await self.gate.note(request, 200, area, lens)
        value = snapshot(self.state, area or None, lens)
        return web.json_response({**value, "id": self._id(value["revision"])})

    async def _summary(self, request: web.Request) -> web.Response:
        found = self.gate.whole_areas(request, summary(self.state))
        await self.gate.note(request, 200)
        return web.json_response(found)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        area, lens = self.gate.asked(request)
        await self.gate.note(request, 200, area, lens)
        since = self._since(request.headers.get("Last-Event-ID") or request.query.get("since", ""))
        response = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream"})
        await response.prepare(request)
        self.browsers += 1
        quiet_since = time.monotonic()
        try:
            while not self._closing.is_set():
                revision = self.state.rows.revision
                if revision != since:
                    now = self.gate.lens(request, area)  # a role may have been given or taken meanwhile
                    if now is None or not self.gate.still_known(request):
                        break
                    area, since, lens = now[0], since if now == (area, lens) else -1, now[1]
                if revision != since and (area or since == -1):
                    data = self._changes(since, area, lens)
                    await response.write(f"id: {self._id(revision)}\ndata: {data}\n\n".encode())
                    since, quiet_since = revision, time.monotonic()
                elif time.monotonic() - quiet_since > HEARTBEAT_S:
                    await response.write(b": still here\n\n")
                    quiet_since = time.monotonic()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._closing.wait(), UPDATE_EVERY_S)
        except (ConnectionError, asyncio.CancelledError):
            pass  # the browser went away
        finally:
            self.browsers -= 1
        return response

    def _changes(self, since: int, area: str, lens: Lens) -> str:
        sections: dict[str, dict[str, Any]] = {}
        for section, name, value in changes(self.state, since, area, lens):  # newest first
            rows = sections.setdefault(section, {})
            if len(rows) < ROWS_AT_ONCE:
                rows[name] = value
        tail = tail_since(self.state, since, area, lens, TAIL_AT_ONCE)
        message = {
            "area_id": area,
            "full": since == -1,
            "caught_up": self.feed.caught_up,
            "sections": sections,
            "tail": tail,
        }
        return json.dumps(message, separators=(",", ":"), ensure_ascii=False)

    def _id(self, revision: int) -> str:
        return f"{self.run_id}-{revision}"

    def _since(self, last_id: str) -> int:
        run_id, _, revision = last_id.partition("-")
        number = _number(revision) if run_id == self.run_id else None
        return -1 if number is None or number > self.state.rows.revision else number

    async def _journal(self, request: web.Request) -> web.Response:
        area, lens = self.gate.asked(request)
        await self.gate.note(request, 200, area, lens)
        query = request.query
        block, index = map(_number, query.get("before", "").partition(".")[::2])
        before = None if block is None or index is None else (block, index)
        found = search_tail(
            self.state,
            area,
            lens,
            event_type=query.get("type", ""),
            party_id=query.get("sender", ""),
            text=query.get("text", ""),
            before=before,
        )
        return web.json_response(found)

    async def _entry(self, request: web.Request) -> web.Response:
        area, number = request.match_info["area"], int(request.match_info["block"])
        lens = self.gate.asked(request, area)[1]
        at, index = self.index.find(area, number), int(request.match_info["index"])
        if at is None:
            raise web.HTTPNotFound(text=f"area {area} has no block {number} here\n")
        try:
            block = await asyncio.to_thread(self.feed.block_at, *at)
        except EnvironmentProblem as problem:
            raise web.HTTPServiceUnavailable(text=f"{problem}\n") from problem
        if index >= len(block.entries):
            raise web.HTTPNotFound(text=f"block {number} has {len(block.entries)} entries\n")
        before, folded = self.index.hash_of(area, number - 1), self.index.hash_of(area, number)
        value = opened(block, index, before, folded, lens)
        if value is None:
            raise web.HTTPForbidden(text=f"this role may not see a {block.entries[index].event_type}\n")
        await self.gate.note(request, 200, area, lens)
        return web.json_response(value)

    async def _health(self, _: web.Request) -> web.Response:
        good = self._pump is not None and not self._pump.done()
        chains = {area: chain["verified"] for area, chain in sorted(self.state.chains.items())}
        value: dict[str, Any] = {"status": "ok" if good else "failed", "caught_up": self.feed.caught_up}
        if not self.gate.asks:  # whoever asks has proven nothing
            value |= {"chains": chains, "unreadable": [*self.unreadable], "unlogged_reads": self.gate.unlogged}
        return web.json_response(value, status=200 if good else 503)

    async def _metrics(self, _: web.Request) -> web.Response:
        broken = sum(1 for chain in self.state.chains.values() if not chain["verified"])
        found = [
            ("flexbus_page_broken_chains", "gauge", "Areas whose hash chain does not hold.", broken),
            ("flexbus_page_browsers", "gauge", "Browsers connected.", self.browsers),
        ]
        if not self.gate.asks:  # whoever asks has proven nothing
            entries = sum(chain["entries"] for chain in self.state.chains.values())
            found += [
                ("flexbus_page_entries_total", "counter", "Journal entries folded.", entries),
                ("flexbus_page_rejections_total", "counter", "Rejections folded.", self.state.rejected),
            ]
        lines = [f"# HELP {name} {text}\n# TYPE {name} {kind}\n{name} {value}\n" for name, kind, text, value in found]
        return web.Response(text="".join(lines), content_type="text/plain")


def _number(text: str) -> int | None:
    # Python refuses to read thousands of digits, which a query may have.
    return int(text) if text.isdecimal() and len(text) <= 18 else None


def _file(name: str) -> web.Response:
    text = (resources.files("streams.page") / "static" / name).read_text(encoding="utf-8")
    return web.Response(text=text, content_type=STATIC[name], charset="utf-8")
