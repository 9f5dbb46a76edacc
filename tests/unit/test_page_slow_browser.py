"""Nothing is queued for a browser that does not read: it gets fewer, larger steps, and in the end what is."""

import asyncio
import gc
import socket
from asyncio.selector_events import _SelectorSocketTransport  # type: ignore[attr-defined]
from typing import Any

import pytest
from aiohttp import web

from streams.kafka import Connection
from streams.page.server import UPDATE_EVERY_S, PageConfig, PageServer

AREA = "north"
STEP_BYTES = 1_000_000
STEPS = 20  # of which the kernel keeps some megabytes


def buffered() -> int:
    """Bytes that the server's connections hold for those who do not read."""
    transports = [o for o in gc.get_objects() if isinstance(o, _SelectorSocketTransport)]
    return max((t.get_write_buffer_size() for t in transports), default=0)


def test_a_browser_that_does_not_read_costs_one_update(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    changes = PageServer._changes

    def counted(*given: Any) -> Any:
        made.append(changes(*given))
        return made[-1]

    monkeypatch.setattr(PageServer, "_changes", counted)

    async def noted(*_: Any) -> None:
        """The log of reads needs a Kafka."""

    async def run() -> tuple[int, int]:
        server = PageServer(PageConfig(connection=Connection("127.0.0.1:1")))
        monkeypatch.setattr(server.gate, "note", noted)
        runner = web.AppRunner(server._app())
        await runner.setup()
        server.port = await server._listen(runner)
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, ("127.0.0.1", server.port))
        asked = f"GET /events?area={AREA} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n"
        await loop.sock_sendall(client, asked.encode())
        most = 0
        for step in range(STEPS):
            server.state.rows.put(AREA, "things", "thing", {"step": step, "text": "x" * STEP_BYTES})
            await asyncio.sleep(UPDATE_EVERY_S * 1.5)
            most = max(most, buffered())
        told = len(made)
        read = b""
        while f'"step":{STEPS - 1}'.encode() not in read:
            read = (read + await asyncio.wait_for(loop.sock_recv(client, 1 << 20), 10))[-3 * STEP_BYTES :]
        client.close()
        server._closing.set()
        await runner.cleanup()
        return told, most

    told, most = asyncio.run(run())
    assert told < STEPS / 2, "an update is made for each change, whether it is read or not"
    assert len(made) <= told + 3
    assert most < 2 * STEP_BYTES
