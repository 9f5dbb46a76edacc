"""What the bus notes about those who read through its own doors; parties cannot send it."""

from dataclasses import dataclass
from typing import Annotated

__all__ = ["ReadLogged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadLogged:
    """Somebody read, or tried to, through an interface of the bus itself."""

    area_id: Annotated[str, "market area; empty if none was named"]
    reader_id: Annotated[str, "party that proved who it is; empty if nobody did"]
    role: Annotated[str, "role through whose eyes it was shown; empty = everything"]
    interface: Annotated[str, "door, for example page"]
    resource: Annotated[str, "what was asked for: path and query"]
    status: Annotated[int, "answer as an HTTP status: 200 shown, 401 nobody proven, 403 not for this reader"]
    at_ms: Annotated[int, "when, UTC ms"]
