"""Who holds connections to the page open and asks nothing loses them; who reads a stream for hours does not."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from aiohttp import web

from streams.page.connections import IDLE_S, Connections


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def served(story: Callable[[int, Connections, web.Server, Clock], Awaitable[None]]) -> None:
    """Tell a story to a server that answers /stream with a stream that does not end, and all else at once."""
    clock = Clock()
    connections = Connections(clock)

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        with connections.answering(request):
            if request.path != "/stream":
                return web.Response(text="fine")
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(b"begun")
            await asyncio.sleep(3600)
            return response

    async def main() -> None:
        runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        assert runner.server is not None
        port = runner.addresses[0][1]
        try:
            await asyncio.wait_for(story(port, connections, runner.server, clock), 20)
        finally:
            await runner.cleanup()

    asyncio.run(main())


async def opened(port: int, text: bytes, answer: bytes = b"") -> asyncio.StreamReader:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    reader.writer = writer  # type: ignore[attr-defined]  # else it is closed with its last reference
    writer.write(text)
    await writer.drain()
    if answer:
        await reader.readuntil(answer)
    await asyncio.sleep(0.05)
    return reader


def test_a_request_that_never_comes_whole_is_ended() -> None:
    async def story(port: int, connections: Connections, server: web.Server, clock: Clock) -> None:
        half = await opened(port, b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        silent = await opened(port, b"")
        again = await opened(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"fine")
        again.writer.write(b"GET / HTTP/1.1\r\nX-Slow: ")  # type: ignore[attr-defined]
        assert connections.end_idle(server) == 0
        clock.now_s = IDLE_S
        half.writer.write(b"a")  # type: ignore[attr-defined]  # a byte now and then does not buy more time
        assert connections.end_idle(server) == 0
        clock.now_s = IDLE_S + 1
        assert connections.end_idle(server) == 3
        for reader in (half, silent, again):
            with suppress(ConnectionResetError):
                assert await reader.read() == b"", "ended"

    served(story)


def test_a_stream_and_an_answer_under_way_go_on() -> None:
    async def story(port: int, connections: Connections, server: web.Server, clock: Clock) -> None:
        await opened(port, b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n", b"begun")
        for clock.now_s in (0.0, IDLE_S + 1, 3 * IDLE_S):
            assert connections.end_idle(server) == 0
        assert len(server.connections) == 1

    served(story)
