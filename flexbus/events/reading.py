"""What the bus notes about those who read through its own doors; parties cannot send it."""

from dataclasses import dataclass
from typing import Annotated

__all__ = ["ReadLogged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadLogged:
    """Somebody read, or tried to, through an interface of the bus itself; written before anything is shown.

    Of a service's metrics, and of its pages where nobody is known or was refused, one record stands for an hour.
    """

    area_id: Annotated[str, "market area; empty if none was named"]
    reader_id: Annotated[str, "who read, proven where the bus has access control; empty if nobody is known"]
    role: Annotated[str, "role through whose eyes the page showed it; empty = everything, or another door"]
    interface: Annotated[str, "door: page, sdk, cli, or service: the pages and metrics of a process of the bus"]
    resource: Annotated[str, "what was asked for: path or topic, and query"]
    status: Annotated[
        int, "answer as an HTTP status: 200 shown, 202 asked of Kafka, 401 nobody proven, 403 not for this reader"
    ]
    at_ms: Annotated[int, "when, UTC ms, by the clock of the door; the broker's is the record's timestamp"]
