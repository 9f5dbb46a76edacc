"""What the targets share: the part of the client that makes records, and what a refusal must have."""

from flexbus.client import Client, Record
from flexbus.errors import Fault
from tests.integration.core import FSP_A

__all__ = ["Sender", "named", "said", "sendable", "unsaid"]


class Sender:
    """The part of the client that makes records."""

    record = Client.record
    signing_key = None
    _registry = None

    def _own(self) -> str:
        return FSP_A


def named(faults: tuple[Fault, ...]) -> None:
    """A refusal has faults, each with words and a path."""
    assert faults
    assert all(f.message and f.path.startswith("$") for f in faults), faults


def said(error: Exception, *words: str) -> None:
    """A refusal in words, these among them."""
    assert str(error)
    assert all(word in str(error) for word in words), error


def sendable(record: Record) -> None:
    """Hold a record against what the producer takes: bytes, and headers of text or bytes."""
    assert isinstance(record.value, bytes)
    assert isinstance(record.key, bytes)
    for name, value in record.headers.items():
        assert name.encode()
        assert isinstance(value, bytes) or isinstance(value.encode(), bytes)


def unsaid(error: Exception, *words: str) -> None:
    """A refusal that keeps to itself what may be secret."""
    assert not any(word in str(error) for word in words), "it repeats a secret"
