"""Connections of the page's server that ask nothing: ended, so that who only holds them open keeps nobody out."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

__all__ = ["IDLE_S", "Connections"]

IDLE_S = 30.0  # without a whole request; browsers connect again by themselves


class Connections:
    """Knows which connections are being answered, and ends those that are not for too long.

    Args:
        now_s: the monotonic clock.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._answered: dict[object, int] = {}
        self._idle_since: dict[RequestHandler, float] = {}

    @contextmanager
    def answering(self, request: web.BaseRequest) -> Iterator[None]:
        """Say that a request has come in whole and is being answered, be it for hours."""
        protocol = request.protocol
        self._answered[protocol] = self._answered.get(protocol, 0) + 1
        try:
            yield
        finally:
            self._answered[protocol] -= 1
            if not self._answered[protocol]:
                del self._answered[protocol]

    def end_idle(self, server: web.Server) -> int:
        """End the connections that are idle for too long, also in the middle of a request; return how many."""
        now_s = self._now_s()
        idle = [one for one in server.connections if one not in self._answered]
        self._idle_since = {one: self._idle_since.get(one, now_s) for one in idle}
        over = [one for one, since in self._idle_since.items() if now_s - since > IDLE_S]
        for one in over:
            one.force_close()
        return len(over)
