"""The page's gate: who comes, through whose eyes it may look, and a note of every read before it is answered."""

import asyncio
from typing import Any

from aiohttp import web

from flexbus.access import ALL_SEEING
from flexbus.errors import EnvironmentProblem
from flexbus.events import Role
from streams.page.model import PageState
from streams.page.read_log import ReadLog
from streams.page.readers import CHALLENGE, Reader, Readers, lens_of
from streams.page.rows import Lens

__all__ = ["OPEN", "Gate"]

OPEN = frozenset({"/health", "/metrics"})  # for probes: whether it works, and nothing of the market
_READER = web.RequestKey("reader", Reader)


class Gate:
    """Asks who reads.

    Args:
        readers: the tokens; None = plain mode: nobody is asked and every lens is for the choosing.
        log: where reads are noted.
        state: what the page has folded; the roles of readers follow from it.
    """

    def __init__(self, readers: Readers | None, log: ReadLog, state: PageState) -> None:
        self._readers = readers
        self._log = log
        self._state = state
        self._noting: set[asyncio.Task[None]] = set()
        self.unlogged = 0

    @property
    def asks(self) -> bool:
        """Whether readers must prove who they are."""
        return self._readers is not None

    def recognise(self, request: web.Request) -> None:
        """Find out who reads.

        Raises:
            HTTPUnauthorized: the request proves nobody.
        """
        if self._readers is None:
            return
        reader = self._readers.who(request.headers.get("Authorization"))
        if reader is None:
            text = "This page shows each reader what is its own: give the name of the party and its token.\n"
            raise web.HTTPUnauthorized(text=text, headers={"WWW-Authenticate": CHALLENGE})
        request[_READER] = reader

    def still_known(self, request: web.Request) -> bool:
        """Tell whether the token of an open connection has neither been ended nor replaced."""
        return self._readers is None or self._readers.who(request.headers.get("Authorization")) is not None

    async def note(self, request: web.Request, status: int, area_id: str = "", lens: Lens | None = None) -> None:
        """Log a read.

        Raises:
            HTTPServiceUnavailable: it cannot be logged, and readers are asked who they are.
        """
        reader: Reader | None = request.get(_READER)
        noting = self._log.note(
            area_id=area_id,
            reader_id="" if reader is None else reader.party_id,
            role=lens.role.value if lens is not None and lens.role is not None else "",
            resource=request.path_qs,
            status=status,
        )
        if self._readers is None:  # a page that knows nobody goes on while Kafka is away, and says so in /health
            task = asyncio.create_task(noting)
            self._noting.add(task)
            task.add_done_callback(self._noted)
            return
        try:
            await noting
        except EnvironmentProblem as problem:
            text = f"Reads are logged before they are answered, and this one could not be: {problem}\n"
            raise web.HTTPServiceUnavailable(text=text) from problem

    def _noted(self, task: "asyncio.Task[None]") -> None:
        self._noting.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.unlogged += 1

    def asked(self, request: web.Request, area: str = "") -> tuple[str, Lens]:
        """Return which area is asked for, empty before there is one, and through whose eyes.

        Raises:
            HTTPBadRequest: there is no such role.
            HTTPForbidden: the reader has not these eyes.
        """
        role = request.query.get("role")
        if role and role not in Role.__members__:
            raise web.HTTPBadRequest(text=f"role: {role!r} is none of {', '.join(Role.__members__)}\n")
        found = self.lens(request, area or request.query.get("area", ""))
        if found is None:
            raise web.HTTPForbidden(text="you look through your own eyes only: your party, in a role it has here\n")
        return found

    def lens(self, request: web.Request, area: str) -> tuple[str, Lens] | None:
        """Return area (the first, if none is named) and lens as things stand now; None if the eyes are another's."""
        area = area or next(iter(sorted(self._state.areas)), "")
        role = request.query.get("role")
        asked = Lens(Role[role] if role else None, request.query.get("party") or None)
        reader: Reader | None = request.get(_READER)
        roles = frozenset[Role]() if reader is None else self._roles(reader, area)
        lens = lens_of(reader, roles, area, asked)
        return None if lens is None else (area, lens)

    def whole_areas(self, request: web.Request, found: dict[str, Any]) -> dict[str, Any]:
        """Return a summary with those areas alone of which the reader sees everything.

        Raises:
            HTTPForbidden: there is none.
        """
        reader: Reader | None = request.get(_READER)
        if reader is None or reader.roles & ALL_SEEING:
            return found
        whole = {a: v for a, v in found["areas"].items() if self._roles(reader, a) & ALL_SEEING}
        if not whole:
            raise web.HTTPForbidden(text="the sums of a day are for its market operator and auditors\n")
        return {"areas": whole}

    def _roles(self, reader: Reader, area_id: str) -> frozenset[Role]:
        """Return the roles of a reader in an area, by the area's journal as far as it is folded."""
        row = self._state.rows.get(area_id, "participants", reader.party_id)
        held = {Role(r) for r in row["roles"]} if row is not None and row["gone"] is None else set()
        area = self._state.areas.get(area_id)
        operates = area is not None and area.info["fmo_id"] == reader.party_id
        return frozenset(held | ({Role.FMO} if operates else set()))
