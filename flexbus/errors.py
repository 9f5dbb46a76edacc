"""The one family of errors, and the faults that a rejection lists.

Two things are kept apart: "could not read it" (`CodecError`) and "understood it and refuse" (faults, which
end up in a rejection event, not in a traceback).
"""

from dataclasses import dataclass
from enum import Enum
from typing import Annotated

__all__ = [
    "ChainError",
    "CodecError",
    "EnvironmentProblem",
    "Fault",
    "FaultCode",
    "FaultyInputError",
    "FlexbusError",
]


class FaultCode(Enum):
    """Why an input was refused; the codes of the rule catalogues, one meaning each."""

    NOT_DECODABLE = "NOT_DECODABLE"
    UNKNOWN_SCHEMA = "UNKNOWN_SCHEMA"
    UNKNOWN_EVENT = "UNKNOWN_EVENT"
    TOO_LARGE = "TOO_LARGE"
    BAD_HEADER = "BAD_HEADER"
    MISSING_FIELD = "MISSING_FIELD"
    UNKNOWN_FIELD = "UNKNOWN_FIELD"
    WRONG_TYPE = "WRONG_TYPE"
    BAD_QUANTITY = "BAD_QUANTITY"
    BAD_PRICE = "BAD_PRICE"
    BAD_PERIOD = "BAD_PERIOD"
    BAD_SERIES = "BAD_SERIES"
    BAD_VALUE = "BAD_VALUE"
    IMPLAUSIBLE = "IMPLAUSIBLE"
    DUPLICATE_ID = "DUPLICATE_ID"
    ID_REUSED = "ID_REUSED"
    STALE_REVISION = "STALE_REVISION"
    UNKNOWN_ELEMENT = "UNKNOWN_ELEMENT"
    UNKNOWN_PARTY = "UNKNOWN_PARTY"
    NOT_YOURS_OR_UNKNOWN = "NOT_YOURS_OR_UNKNOWN"
    WRONG_ROLE = "WRONG_ROLE"
    NO_MANDATE = "NO_MANDATE"
    NO_SIGNATURE = "NO_SIGNATURE"
    BAD_SIGNATURE = "BAD_SIGNATURE"
    NO_PRICE = "NO_PRICE"
    NOT_APPROVED = "NOT_APPROVED"
    GATE_NOT_OPEN = "GATE_NOT_OPEN"
    GATE_CLOSED = "GATE_CLOSED"
    TOO_LATE = "TOO_LATE"
    WRONG_STATE = "WRONG_STATE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong with an input, said to the person who must act."""

    code: Annotated[FaultCode, "reason code"]
    path: Annotated[str, "where in the event, as a JSON path; $ is the whole event"]
    message: Annotated[str, "what is wrong, why, and what to do"]

    def __str__(self) -> str:
        return f"{self.path}: {self.message} [{self.code.value}]"


class FlexbusError(Exception):
    """Base of every error that flexbus raises on purpose."""


class CodecError(FlexbusError):
    """Bytes could not be read as an event."""

    def __init__(self, code: FaultCode, message: str) -> None:
        super().__init__(message)
        self.code = code

    def fault(self) -> Fault:
        """Return the error as the fault of the whole input."""
        return Fault(code=self.code, path="$", message=str(self))


class FaultyInputError(FlexbusError):
    """An input was read and refused; carries every fault."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("; ".join(str(f) for f in faults))
        self.faults = faults


class ChainError(FlexbusError):
    """A block does not continue its chain, or its content does not match its hash."""

    def __init__(self, area_id: str, number: int, message: str) -> None:
        super().__init__(f"area {area_id}, block {number}: {message}")
        self.area_id = area_id
        self.number = number


class EnvironmentProblem(FlexbusError):
    """Something outside flexbus is missing or unreachable; the message says what to install or start."""
