"""What the bus says about inputs: rejections with every fault, and receipts to senders."""

from dataclasses import dataclass
from enum import Enum
from typing import Annotated

from flexbus.errors import Fault

__all__ = ["EventRejected", "Receipt", "ReceiptsIssued", "Verdict"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRejected:
    """An input was refused; nothing of it entered the journal. Its original bytes are kept."""

    area_id: Annotated[str, "market area, as far as it could be told; empty otherwise"]
    rejection_id: Annotated[str, "identifier, derived from the input's position"]
    event_id: Annotated[str | None, "id of the input, if it had one"]
    event_type: Annotated[str | None, "type of the input, if it could be told"]
    sender_id: Annotated[str, "authenticated sender"]
    on_behalf_of: Annotated[str | None, "party the sender claimed to act for"]
    inbox_topic: Annotated[str, "topic of the input"]
    inbox_partition: Annotated[int, "partition of the input"]
    inbox_offset: Annotated[int, "offset of the input"]
    received_at_ms: Annotated[int, "when the broker took the input, UTC ms"]
    faults: Annotated[tuple[Fault, ...], "everything that is wrong, at least one"]
    original: Annotated[bytes, "the input's bytes, unchanged"]
    headers: Annotated[dict[str, str], "the input's headers"]


class Verdict(Enum):
    """What became of an input."""

    ACCEPTED = "ACCEPTED"
    DUPLICATE = "DUPLICATE"
    REJECTED = "REJECTED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The verdict on one input."""

    event_id: Annotated[str | None, "id of the input, if it had one"]
    inbox_partition: Annotated[int, "partition of the input"]
    inbox_offset: Annotated[int, "offset of the input"]
    verdict: Annotated[Verdict, "what became of it"]
    block: Annotated[int | None, "number of the block, if accepted"]
    index: Annotated[int | None, "position in the block, if accepted"]
    faults: Annotated[tuple[Fault, ...], "what was wrong, if rejected"] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptsIssued:
    """Verdicts on a party's inputs, one record per batch."""

    area_id: Annotated[str, "market area, as far as it could be told; empty otherwise"]
    party_id: Annotated[str, "party that had sent the inputs"]
    receipts: Annotated[tuple[Receipt, ...], "one per input"]
